"""The lanes of one process on one loop and one engine: woken by captures, by ends of runs, and by ticks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from edge_opcua.config.lanes import TICK_MS, tick_ms
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.lane import Handover, Lane
from edge_opcua.inference.schedule.request import LaneClass, Request

_log = structlog.get_logger(__name__)

_SECOND_NS: Final = 1e9
_ENGINE: Final = ""  # no pipeline is called so


class Engine(Protocol):
    """What answers the requests of the lanes; :class:`edge_opcua.inference.engine.Engine` is one."""

    fd: int | None

    def turn(self) -> list[Request]:
        """Return what has ended; without workers, run at most one batch first."""
        ...

    def next_turn_ns(self) -> int | None:
        """Return when :meth:`turn` should be called, monotonic; None while there is nothing to do."""
        ...


@dataclass(slots=True)
class _Order:
    """Who shall be retired as soon as it is quiet.

    Args:
        pipelines: Their names.
        published: What they had published when it was asked for.
        handovers: How far they have come, once they are retired.
        done: Set then.
    """

    pipelines: tuple[str, ...]
    published: int
    handovers: dict[str, Handover] | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class LaneGroup:
    """Lanes that share a process.

    Args:
        lanes: The lanes.
        engine: What they ask.
        bus: The tag bus, for the descriptors that wake them.
        clock: For the ticks.
        idle: Called when nothing waits, and at every tick while something always does.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        engine: Engine,
        bus: Bus,
        clock: Clock,
        *,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        self.lanes = {lane.spec.pipeline: lane for lane in lanes}
        self._engine = engine
        self._bus = bus
        self._clock = clock
        self._idle = idle
        self._tick_s = min((_tick_s(lane) for lane in lanes), default=TICK_MS / 1e3)
        self._tended_ns = 0
        self._woken = asyncio.Event()
        self._attached: dict[str, int] = {}
        self._unattached = True
        self._order: _Order | None = None

    @property
    def is_active(self) -> bool:
        """Whether the lanes judge."""
        return any(lane.is_active for lane in self.lanes.values())

    def activate(self, cursors: Mapping[str, int | None]) -> None:
        """Let all lanes take over.

        Args:
            cursors: Bus sequence of the last capture that was dealt with, by pipeline; None begins with the
                next one to come.

        Raises:
            ModelError: A lane is active already, or is not named (M534); nothing has changed then.
        """
        missing = [name for name in self.lanes if name not in cursors]
        if self.is_active or missing:
            named = f"no cursor for {', '.join(missing)}" if missing else "the lanes are active already"
            raise ModelError(named, code="M534")
        for name, lane in self.lanes.items():
            lane.activate(cursors[name])
        self._unattached = True
        self.turn()
        self.tend()
        self._woken.set()

    def retire(self, pipelines: Collection[str] | None = None) -> dict[str, Handover]:
        """Let lanes judge no more, and tell how far each has come; the others go on.

        Args:
            pipelines: Which; None: all of them.

        Raises:
            ModelError: One of them is not there, or not active (M534); nothing has changed then.
        """
        names = tuple(self.lanes) if pipelines is None else tuple(pipelines)
        idle = [name for name in names if name not in self.lanes or not self.lanes[name].is_active]
        if idle:
            raise ModelError(f"not active: {', '.join(idle)}", code="M534")
        handovers = {name: self.lanes[name].retire() for name in names}
        for name in names:
            self._detach(name)
        self._woken.set()
        return handovers

    async def retire_quietly(
        self, pipelines: Collection[str] | None = None, *, within_s: float
    ) -> dict[str, Handover]:
        """Do as :meth:`retire` in the moment after a verdict, when no capture is on its way.

        The next capture is then the farthest away, and the successor has the longest time to take over.

        Args:
            pipelines: Which; None: all of them.
            within_s: How long to wait for that moment, seconds; then it is done all the same.

        Raises:
            ModelError: As :meth:`retire`.
        """
        names = tuple(self.lanes) if pipelines is None else tuple(pipelines)
        order = self._order = _Order(names, self._published(names))
        try:
            await self._clock.wait(order.done, within_s)
        finally:
            if self._order is order:
                self._order = None
        return self.retire(names) if order.handovers is None else order.handovers

    def get_ready(self) -> None:
        """Do what takes long before the lanes take over."""
        for lane in self.lanes.values():
            lane.get_ready()

    def turn(self) -> bool:
        """Take captures in, publish what has ended, and run at most one batch if there are no workers.

        Returns:
            Whether there is more to do at once.
        """
        for lane in self.lanes.values():
            lane.take_in()
        for request in self._engine.turn():
            request.tag.lane.finish(request)
        for lane in self.lanes.values():
            lane.expire()
        if any(lane.has_more for lane in self.lanes.values()):
            return True
        next_ns = self._engine.next_turn_ns()
        return next_ns is not None and next_ns <= self._clock.monotonic_ns()

    def step(self) -> None:
        """Do everything that can be done now."""
        while self.turn():
            pass
        self.tend()

    async def run(self) -> None:
        """Judge captures as they come, until :meth:`retire`."""
        self._unattached = True
        try:
            while self.is_active:
                if self._unattached:
                    self._attach()
                if self.turn():
                    if self._clock.monotonic_ns() - self._tended_ns >= self._tick_s * _SECOND_NS:
                        self.tend()
                        self._idle()  # it may never come to it
                    await asyncio.sleep(0)  # orders come in between
                    continue
                self._retire_if_quiet()
                self.tend()
                self._idle()
                await self._pause()
        finally:
            for name in tuple(self._attached):
                self._detach(name)

    def tend(self) -> None:
        """Look after the sources, and show that the lanes live."""
        self._tended_ns = self._clock.monotonic_ns()
        for lane in self.lanes.values():
            lane.tend()

    def _retire_if_quiet(self) -> None:
        """Do what :meth:`retire_quietly` waits for, if something was published and nothing is on its way."""
        order = self._order
        if order is None or any(self.lanes[name].is_waiting for name in order.pipelines):
            return
        if self._published(order.pipelines) != order.published:
            self._order = None
            order.handovers = self.retire(order.pipelines)
            order.done.set()

    def _published(self, pipelines: Collection[str]) -> int:
        """Return how much the most urgent of these lanes have published."""
        lanes = [self.lanes[name] for name in pipelines if name in self.lanes]
        urgent = min((lane.spec.lane for lane in lanes), default=LaneClass.SAFETY)
        return sum(lane.published for lane in lanes if lane.spec.lane is urgent)

    async def _pause(self) -> None:
        """Wait for a capture, the end of a run, a batch that has grown, a deadline, or the next tick."""
        now_ns = self._clock.monotonic_ns()
        times = [self._engine.next_turn_ns(), *(lane.due_ns for lane in self.lanes.values())]
        pauses = [max(0.0, (each - now_ns) / _SECOND_NS) for each in times if each is not None]
        timer = self._clock.call_later(min([self._tick_s, *pauses]), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        self._woken.clear()

    def _attach(self) -> None:
        """Be woken by the io process; without an eventfd of its own a lane looks at every tick."""
        self._unattached = False
        loop = asyncio.get_running_loop()
        for name, lane in self.lanes.items():
            wakes = self._bus.wake_fds(lane.spec.capture_block)
            if lane.spec.wake >= len(wakes):
                _log.warning("lane.no_wake", pipeline=name, tick_s=self._tick_s)
            elif lane.is_active:
                self._attached[name] = wakes[lane.spec.wake]
                loop.add_reader(self._attached[name], self._wake, self._attached[name])
        if self._engine.fd is not None:
            self._attached[_ENGINE] = self._engine.fd
            loop.add_reader(self._engine.fd, self._woken.set)

    def _wake(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):  # a predecessor was quicker
            os.eventfd_read(fd)
        self._woken.set()

    def _detach(self, name: str) -> None:
        """Be woken no more for a lane; the successor in another process reads the same descriptor."""
        fd = self._attached.pop(name, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)


def _tick_s(lane: Lane) -> float:
    """Return how often a lane shows that it lives: readers of a safety lane count on it."""
    safety = lane.spec.lane is LaneClass.SAFETY
    return tick_ms("safety" if safety else "realtime", lane.spec.deadline_ms) / 1e3
