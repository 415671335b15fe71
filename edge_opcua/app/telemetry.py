"""The telemetry process: counts what happens, and lets Prometheus read it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog

from edge_opcua.app.changes import Change, Changes
from edge_opcua.app.child import until_stopped
from edge_opcua.config.fields import split_address
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.values import BAD_NOT_SUPPORTED, is_good
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError
from edge_opcua.inference.ledger import SERVER
from edge_opcua.inference.lifecycle import ENDED, JobState
from edge_opcua.inference.nvml import Nvml
from edge_opcua.inference.watch.kinds import KINDS
from edge_opcua.telemetry.collector import Card, Heard, PlantCollector
from edge_opcua.telemetry.exporter import Exporter, registry_of

TICK_S: Final = 0.1
LOOK_S: Final = 2.0
ASK_S: Final = 2.0
COUNT_S: Final = 30.0
TELL_S: Final = 1.0
_ENDED: Final = frozenset(state.value for state in ENDED)

_log = structlog.get_logger(__name__)


async def run(child: Child, config: EdgeConfig) -> None:
    """Count and serve until the process shall stop.

    Raises:
        ConfigError: Nobody can listen on the address (H633); the supervisor shows it and tries again.
    """
    heard = Heard()
    collector = PlantCollector(config, child.bus, heard, child.state_dir, KINDS)
    address = config.telemetry.prometheus
    assert address is not None, "else nobody starts this process"
    try:
        exporter = Exporter(registry_of(collector), *split_address(address))
    except ConfigError as exc:
        body = {"source": "telemetry", "code": exc.code, "text": str(exc)}
        await child.control.request(SUPERVISOR, "fault", body, timeout_s=TELL_S)
        raise
    child.control.notify(SUPERVISOR, "fault_over", {"source": "telemetry", "code": "H633"})
    duty = _Duty(child, collector, heard)
    child.handle = duty.handle
    child.change = Changes(child, config, duty.follow).handle
    exporter.start()
    _log.info("metrics.served", url=exporter.address)
    try:
        await until_stopped(child, duty.count, duty.look)
    finally:
        exporter.close()


class _Duty:
    """What the event loop does while the exporter's threads answer readers.

    Args:
        child: This process.
        collector: Counts results.
        heard: Gets what others tell.
    """

    def __init__(self, child: Child, collector: PlantCollector, heard: Heard) -> None:
        self._child = child
        self._collector = collector
        self._heard = heard
        # A scrape holds the lock for a while: whoever waits for it must not be the event loop.
        self._worker = Worker("metrics")
        self._cards_worker = Worker("cards")
        self._cards: Nvml | None = None
        self._has_looked = False

    async def handle(self, request: Request) -> Reply:
        """Take the steps of a change of a model."""
        if request.kind != "job":
            return Reply(BAD_NOT_SUPPORTED, f"the telemetry process does not know {request.kind}")
        state = str(request.body.get("state", ""))
        if state in _ENDED:
            self._heard.swaps[state.lower()] += 1
        if state == JobState.ROLLED_BACK.value:
            self._heard.rollbacks[_cause(request.body)] += 1
        return Reply()

    async def follow(self, change: Change) -> None:
        """Go by another configuration."""
        bus = self._child.bus
        await self._worker.call(lambda: self._collector.follow(change.new, bus), timeout_s=COUNT_S)

    async def count(self) -> None:
        """Count results as they come, for ever."""
        while True:
            await self._worker.call(self._collector.count, timeout_s=COUNT_S)
            await self._child.clock.sleep(TICK_S)

    async def look(self) -> None:
        """Ask the supervisor and the accelerators how they are, for ever."""
        while True:
            reply = await self._child.control.request(SUPERVISOR, "status", {}, timeout_s=ASK_S)
            if is_good(reply.status):
                self._heard.status = reply.body
            try:
                self._heard.cards = await self._cards_worker.call(self._read_cards, timeout_s=ASK_S)
            except (TimeoutError, asyncio.InvalidStateError) as exc:  # a driver that hangs: the rest goes on
                _log.warning("metrics.cards_unknown", error=repr(exc))
            await self._child.clock.sleep(LOOK_S)

    def _read_cards(self) -> Sequence[Card]:
        if not self._has_looked:
            self._has_looked = True
            self._cards = Nvml.open()
        return [] if self._cards is None else self._cards.uses()


def _cause(job: Mapping[str, Any]) -> str:
    """Return what made the server go back, as a label; ``asked`` if somebody did."""
    return str(job.get("reason", "")).partition(":")[0] if job.get("user") == SERVER else "asked"
