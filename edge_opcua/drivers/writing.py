"""A write of a tag from the value to the answer: checked, let through, sent, read back and confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BAD_NOT_WRITABLE, is_bad
from edge_opcua.drivers.echoes import Echoes
from edge_opcua.drivers.gate import Gate
from edge_opcua.drivers.setpoint import Setpoint, prepare
from edge_opcua.drivers.writes import TagWrite, Writes
from edge_opcua.drivers.writeterms import WriteTerms
from edge_opcua.errors import WriteRejectedError


@dataclass(frozen=True, slots=True)
class Writing:
    """Writes to the tags of one device.

    Args:
        cfg: The device.
        setpoints: Its writable tags.
        writes: Sends them.
        echoes: Knows what the PLC has confirmed.
        gate: Knows whether the device takes writes now.
        clock: Clock for deadlines.
    """

    cfg: DeviceConfig
    setpoints: Mapping[str, Setpoint]
    writes: Writes
    echoes: Echoes
    gate: Gate
    clock: Clock

    async def write(self, tag: str, value: Any, timeout_s: float, terms: WriteTerms) -> WriteOutcome:
        """Write one tag; see :meth:`edge_opcua.drivers.poller.Device.write`."""
        setpoint = self.setpoints.get(tag)
        if setpoint is None or not setpoint.writable:
            return self._not_writable(tag)
        try:
            write = TagWrite(setpoint, prepare(setpoint, value), terms)
        except WriteRejectedError as exc:
            return WriteOutcome(exc.status, f"{self.cfg.name}/{tag}: {exc}")
        refusal = self.gate.refusal() or self.gate.unit_refusal(setpoint.place)
        refusal = refusal or self.echoes.refusal(tag, write.new)
        if refusal is not None:
            return refusal
        until_s = self.clock.monotonic_s() + timeout_s
        outcome = await self.writes.send_tag(write, timeout_s=timeout_s)
        if is_bad(outcome.status):
            return outcome
        confirmed = await self.echoes.confirm(tag, write.new, until_s - self.clock.monotonic_s())
        return replace(confirmed, old=outcome.old) if is_bad(confirmed.status) else outcome

    def _not_writable(self, tag: str) -> WriteOutcome:
        if self.cfg.tags.row_of(tag) is None:
            return WriteOutcome(BAD_NODE_ID_UNKNOWN, f"{self.cfg.name} has no tag {tag}")
        return WriteOutcome(BAD_NOT_WRITABLE, f"{self.cfg.name}/{tag} is read only")
