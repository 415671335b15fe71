"""When the server looks at the bus on its own, and when publishing does that along the way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from edge_opcua.core.clock import Clock, Timer

# To wake up costs more than what there is to do then. Tags are taken when they are published or read; as
# long as nobody waits for anything else, a tick has this long.
IDLE_TICK_S: Final = 0.1
LOOK_S: Final = 0.2
# Of the time between two ticks. What is published later than that does the next one along the way.
_EARLY: Final = 0.6
_LEAST_S: Final = 0.001


class Ticked(Protocol):
    """What looks at the bus; see :class:`~edge_opcua.opcua.feed.Feed`."""

    async def tick(self) -> None:
        """Take over what is new."""
        ...

    def take_tags(self) -> bool:
        """Take over what is new of the tags."""
        ...

    def tick_along(self) -> bool:
        """Do what a tick does, if that is little; returns whether it did."""
        ...


class Ticks:
    """The ticks of a server.

    Args:
        feed: What looks.
        tick_s: How long a tick has while somebody waits for what only ticks bring.
        is_awaited: Whether anybody does.
        clock: Clock of the bus.
    """

    def __init__(self, feed: Ticked, tick_s: float, is_awaited: Callable[[], bool], clock: Clock) -> None:
        self._feed = feed
        self._tick_s = self._period_s = tick_s
        self._is_awaited = is_awaited
        self._clock = clock
        self._due = asyncio.Event()
        self._timer: Timer | None = None
        self._ticked_s = self._looked_s = -math.inf

    async def run(self) -> None:
        """Tick until cancelled."""
        try:
            while True:
                self._due.clear()
                started_s = self._clock.monotonic_s()
                await self._feed.tick()
                self._wait(started_s)
                await self._due.wait()
        finally:
            self._stop()

    def before_publishing(self) -> None:
        """Take over what is new of the tags; if the next tick is near, of all else, and it is not needed."""
        started_s = self._clock.monotonic_s()
        if self._timer is None or started_s - self._ticked_s < _EARLY * self._period_s:
            self._feed.take_tags()
        elif self._feed.tick_along():
            self._wait(started_s)

    def _wait(self, started_s: float) -> None:
        """Have the next tick due a period after this one began."""
        self._ticked_s = started_s
        if started_s - self._looked_s >= LOOK_S:
            self._looked_s = started_s
            self._period_s = self._tick_s if self._is_awaited() else max(self._tick_s, IDLE_TICK_S)
        left_s = self._period_s - (self._clock.monotonic_s() - started_s)
        self._stop()
        self._timer = self._clock.call_later(max(_LEAST_S, left_s), self._due.set)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
