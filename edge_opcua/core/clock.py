"""The only place that reads a clock: monotonic for deadlines and staleness, UTC for stamps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will be called, unless it is cancelled before."""

    def cancel(self) -> None:
        """Let it not be called; after it was, nothing happens."""
        ...


class Clock(Protocol):
    """Time as our code sees it; ``edge_opcua.testing.ManualClock`` is the other implementation."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never jump, comparable between the processes of one machine."""
        ...

    def monotonic_s(self) -> float:
        """Return :meth:`monotonic_ns` in seconds."""
        ...

    def boottime_ns(self) -> int:
        """Return :meth:`monotonic_ns` with the time that the machine was suspended."""
        ...

    def utc_ns(self) -> int:
        """Return nanoseconds since 1970-01-01 UTC; may jump when the clock is set."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait for ``delay_s`` seconds of monotonic time."""
        ...

    async def wait(self, event: asyncio.Event, delay_s: float) -> bool:
        """Wait until an event is set, at most ``delay_s`` seconds; returns whether it is."""
        ...

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Call something in the running event loop after ``delay_s`` seconds of monotonic time.

        For what happens many times a second: a task that sleeps costs a round of the loop more each time.
        """
        ...


class SystemClock:
    """The clocks of the machine (CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME)."""

    def monotonic_ns(self) -> int:
        """See :class:`Clock`."""
        return time.monotonic_ns()

    def monotonic_s(self) -> float:
        """See :class:`Clock`."""
        return time.monotonic()

    def boottime_ns(self) -> int:
        """See :class:`Clock`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def utc_ns(self) -> int:
        """See :class:`Clock`."""
        return time.time_ns()

    async def sleep(self, delay_s: float) -> None:
        """See :class:`Clock`."""
        await asyncio.sleep(delay_s)

    async def wait(self, event: asyncio.Event, delay_s: float) -> bool:
        """See :class:`Clock`."""
        try:
            async with asyncio.timeout(delay_s):
                await event.wait()
        except TimeoutError:
            pass
        return event.is_set()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """See :class:`Clock`."""
        return asyncio.get_running_loop().call_later(delay_s, call)
