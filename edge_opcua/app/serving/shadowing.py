"""Lets a lane process that is not active judge beside the active one, and tells how far both agree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Never

import structlog

from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.control import SUPERVISOR
from edge_opcua.core.process import Child
from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA, GOOD
from edge_opcua.errors import ModelError
from edge_opcua.inference.blocks import SHADOW_COUNTS, SHADOW_FIGURES
from edge_opcua.inference.comparison import Comparison
from edge_opcua.inference.group import Engine
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.shadow import Agreement
from edge_opcua.inference.spec import LaneSpec
from edge_opcua.inference.unseen import MakeLane, Unseen

LOOK_S: Final = 0.01
"""How often a shadow looks for captures: the descriptor that wakes a lane belongs to the active one."""
TELL_S: Final = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A pipeline that can be judged in shadow.

    Args:
        spec: The pipeline.
        manifest: Its model.
        make: Makes a lane of it.
    """

    spec: LaneSpec
    manifest: Manifest
    make: MakeLane


class _Shadow:
    """One pipeline in shadow."""

    def __init__(self, of: Shadowed, bus: Bus, engine: Engine, wanted: int) -> None:
        self._clock = bus.clock
        self.unseen = Unseen(of.make, of.spec, bus, engine, shadow=True)
        self.comparison = Comparison(bus.reader(of.spec.result_block), self.unseen.results, wanted)
        self._writer: BlockWriter = bus.writer(of.spec.shadow_block)
        batch = self._writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        batch.set_text(self._rows["model_name"], of.manifest.name)
        batch.set(self._rows["model_version"], of.manifest.version)
        self.unseen.begin()
        self.publish()

    def step(self) -> bool:
        """Judge what is there; returns whether something was compared, or a capture was missed."""
        while self.unseen.group.turn():
            pass
        news = self.comparison.missed != self.unseen.missed
        self.comparison.missed = self.unseen.missed
        return self.comparison.look() or news

    def publish(self, state: str = "") -> Agreement:
        """Show how far it is, and return it."""
        found = self.comparison.agreement()
        batch, rows = self._writer.batch, self._rows
        batch.source_ns[:] = batch.server_ns[:] = self._clock.utc_ns()
        batch.status[:] = GOOD
        batch.set_text(rows["state"], state or found.state)
        for name in SHADOW_COUNTS:
            batch.set(rows[name], getattr(found, name))
        for name in SHADOW_FIGURES:
            value = float(getattr(found, name))
            if value != value:  # NaN: there is none yet
                batch.status[rows[name]] = BAD_WAITING_FOR_INITIAL_DATA
            else:
                batch.set(rows[name], value)
        batch.set_text(rows["disagreement"], found.disagreement)
        self._writer.publish()
        return found

    def beat(self) -> None:
        """Show that it lives."""
        self._writer.beat()


class Shadowing:
    """The pipelines of a process that are judged in shadow.

    Args:
        child: This process.
        engine: Runs the models.
        pipelines: What can be judged in shadow.
    """

    def __init__(self, child: Child, engine: Engine, pipelines: Sequence[Shadowed]) -> None:
        self._child = child
        self._engine = engine
        self._pipelines = {each.spec.pipeline: each for each in pipelines}
        self._shadows: dict[str, _Shadow] = {}
        self._begun = asyncio.Event()
        self._told_s = 0.0
        self._news = False

    def begin(self, wanted: Mapping[str, int]) -> None:
        """Judge these pipelines unseen, each until so many captures were compared.

        Raises:
            ModelError: One of them is not here (M534).
        """
        unknown = [name for name in wanted if name not in self._pipelines]
        if unknown:
            raise ModelError(f"not in this process: {', '.join(unknown)}", code="M534")
        self.end("Ended")
        for name, count in wanted.items():
            self._shadows[name] = _Shadow(self._pipelines[name], self._child.bus, self._engine, int(count))
        self._begun.set()
        _log.info("lane.shadow", pipelines=list(wanted))

    def end(self, state: str) -> None:
        """Judge nothing unseen any more."""
        self._begun.clear()
        shadows, self._shadows = self._shadows, {}
        for shadow in shadows.values():
            shadow.publish(state)
            shadow.unseen.close()

    async def run(self) -> Never:
        """Judge, compare and tell, for ever."""
        try:
            while True:
                await self._begun.wait()  # a process without a shadow does not wake up for one
                await self._child.clock.sleep(LOOK_S)
                self._step()
        finally:
            self.end("Ended")

    def _step(self) -> None:
        for shadow in self._shadows.values():
            if not shadow.comparison.is_complete:
                self._news |= shadow.step()
        now_s = self._child.clock.monotonic_s()
        at_once = self._news and self._is_complete
        if not self._shadows or (now_s - self._told_s < TELL_S and not at_once):
            return
        if self._news:
            rows = {name: shadow.publish().notice() for name, shadow in self._shadows.items()}
            self._child.control.notify(SUPERVISOR, "shadow", {"pipelines": rows})
        else:
            for shadow in self._shadows.values():
                shadow.beat()
        self._told_s, self._news = now_s, False

    @property
    def _is_complete(self) -> bool:
        return all(shadow.comparison.is_complete for shadow in self._shadows.values())
