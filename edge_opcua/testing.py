"""For authors of plugins and for our own tests: a clock moved by hand and contracts that plugins keep."""

from __future__ import annotations

import asyncio
import heapq
import itertools

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until :meth:`advance`; passes wherever a ``Clock`` is asked for.

    Args:
        monotonic_s: First monotonic reading, seconds.
        utc_ns: First UTC reading, ns since 1970-01-01.
    """

    def __init__(self, *, monotonic_s: float = 1_000.0, utc_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = round(monotonic_s * 1e9)
        self._utc_ns = utc_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._monotonic_ns

    def monotonic_s(self) -> float:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._monotonic_ns / 1e9

    def utc_ns(self) -> int:
        """See :class:`edge_opcua.core.clock.Clock`."""
        return self._utc_ns

    @property
    def sleepers(self) -> int:
        """Tasks that wait in :meth:`sleep` now."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def set_utc_ns(self, utc_ns: int) -> None:
        """Set the wall clock, as an operator or NTP would; monotonic time does not move."""
        self._utc_ns = utc_ns

    async def sleep(self, delay_s: float) -> None:
        """Wait until :meth:`advance` has moved the clock by ``delay_s`` seconds; 0 only yields."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        until_ns = self._monotonic_ns + round(delay_s * 1e9)
        heapq.heappush(self._sleepers, (until_ns, next(self._order), future))
        await future

    def step(self, delay_s: float) -> None:
        """Move both clocks without waking anybody (for code that is not async)."""
        delay_ns = round(delay_s * 1e9)
        self._monotonic_ns += delay_ns
        self._utc_ns += delay_ns

    async def advance(self, delay_s: float) -> None:
        """Move both clocks, stopping at each sleeper on the way so that it sees its own time.

        A task woken on the way gets to run, and may sleep again within the same advance.
        """
        await self._settle()
        end_ns = self._monotonic_ns + round(delay_s * 1e9)
        while self._sleepers and self._sleepers[0][0] <= end_ns:
            until_ns, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self.step((until_ns - self._monotonic_ns) / 1e9)
            future.set_result(None)
            await self._settle()
        self.step((end_ns - self._monotonic_ns) / 1e9)
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        """Let every task that is ready run, and those which they wake."""
        for _ in range(20):
            await asyncio.sleep(0)
