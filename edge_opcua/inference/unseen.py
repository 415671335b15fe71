"""A lane that judges like the active one, into memory of its own: nobody sees what it says.

The same code from the capture to the published result, so that what is compared in shadow is what would be
published, and what a process has done once before it takes over is everything that it will have to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.inference.group import Engine, LaneGroup
from edge_opcua.inference.lane import Lane
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.spec import LaneSpec

PATIENT_MS: Final = 10_000.0
"""An unseen lane is not urgent: its verdicts may come so late."""
KEPT: Final = 64
REHEARSED: Final = 4
"""Captures that are judged again before a process takes over."""
MOST_TURNS: Final = 64
NO_WAKE: Final = 1 << 30

MakeLane = Callable[[LaneSpec, Bus], Lane]
"""Makes a lane as the process has it, which publishes on another bus."""


class Unseen:
    """A lane that judges unseen.

    Args:
        make: Makes the lane.
        spec: The pipeline.
        bus: The tag bus.
        engine: Runs its models.
        shadow: Whether every capture shall be judged when there is time, as in shadow; else the newest one at
            once, as its lane does it.
    """

    def __init__(self, make: MakeLane, spec: LaneSpec, bus: Bus, engine: Engine, *, shadow: bool) -> None:
        names = (spec.result_block, spec.lane_block)
        blocks = [replace(bus.layout(name).spec, depth=KEPT, wakes=0) for name in names]
        self._bus = Bus.create(blocks, clock=bus.clock)
        # The descriptor that wakes the lane belongs to the active process; nobody else may read it.
        wanted = replace(spec, deadline_ms=PATIENT_MS, late="publish_late", wake=NO_WAKE)
        if shadow and spec.lane is LaneClass.SAFETY:
            wanted = replace(wanted, lane=LaneClass.REALTIME)
        self.lane = make(wanted, self._bus)
        self.group = LaneGroup([self.lane], engine, bus, bus.clock)

    @property
    def results(self) -> BlockReader:
        """A new reader of what it says."""
        return self._bus.reader(self.lane.spec.result_block)

    def begin(self, *, back: int = 0) -> None:
        """Judge from now on, and so many of the captures that are still on the bus."""
        self.group.activate({self.lane.spec.pipeline: max(0, self.lane.newest - back)})

    @property
    def missed(self) -> int:
        """Captures that came faster than they were judged."""
        return self.lane.missed

    def close(self) -> None:
        """Judge no more."""
        if self.lane.is_active:
            self.group.retire()
        self._bus.close()


def rehearse(make: MakeLane, spec: LaneSpec, bus: Bus, engine: Engine) -> int:
    """Do once, unseen, everything that will have to be done; returns how many captures were judged.

    What a process does first takes a multiple of what it takes later: code that was never run, buffers that
    were never touched, a runtime that measures itself.
    """
    unseen = Unseen(make, spec, bus, engine, shadow=False)
    try:
        unseen.begin(back=REHEARSED)
        for _ in range(MOST_TURNS):
            if not unseen.group.turn() and not unseen.lane.is_waiting:
                break
        unseen.group.tend()
        return unseen.lane.arrivals
    finally:
        unseen.close()
