"""One timer for everything that is due again and again: a heap of due times, however many there are."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import structlog

from edge_opcua.core.clock import Clock, Timer

# What is due this soon is done in the same wake-up.
SLACK_S: Final = 0.001
_DAY_S: Final = 86_400.0


_log = structlog.get_logger(__name__)


def _nothing() -> None:
    """Do nothing before what is due."""


def safely(call: Callable[[], None]) -> None:
    """Call something whose fault shall stop neither the clock nor what is due beside it."""
    try:
        call()
    except Exception as exc:  # noqa: BLE001 - boundary: a task that raised would end the server
        _log.error("schedule.failed", error=repr(exc), exc_info=exc)


class Ticket:
    """Something that is due every ``period_s``.

    Args:
        period_s: How often.
        due_s: When next (monotonic).
        call: What to do then.
    """

    __slots__ = ("call", "due_s", "live", "period_s")

    def __init__(self, period_s: float, due_s: float, call: Callable[[], None]) -> None:
        self.period_s = period_s
        self.due_s = due_s
        self.call = call
        self.live = True

    def cancel(self) -> None:
        """Never again."""
        self.live = False


class Schedule:
    """Calls what is due.

    Args:
        clock: For due times.
        settle: Called after everything that was due at once.

    Attributes:
        before: Called before it.
    """

    def __init__(self, clock: Clock, settle: Callable[[], None]) -> None:
        self._clock = clock
        self._settle = settle
        self.before: Callable[[], None] = _nothing
        self._heap: list[tuple[float, int, Ticket]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._runs = False
        self._alarm: Timer | None = None
        self._alarm_s = 0.0

    def __len__(self) -> int:
        return sum(ticket.live for _, _, ticket in self._heap)

    def every(self, period_s: float, call: Callable[[], None]) -> Ticket:
        """Call something every ``period_s`` seconds, for the first time after one period."""
        ticket = Ticket(period_s, self._clock.monotonic_s() + period_s, call)
        self._push(ticket)
        self._arm()
        return ticket

    def restart(self, ticket: Ticket, period_s: float) -> Ticket:
        """Give something another period, which begins now."""
        self.cancel(ticket)
        return self.every(period_s, ticket.call)

    def cancel(self, ticket: Ticket) -> None:
        """Forget something; what is dead does not pile up in the heap."""
        if not ticket.live:
            return
        ticket.cancel()
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap):
            self._heap = [each for each in self._heap if each[2].live]
            heapq.heapify(self._heap)
            self._cancelled = 0

    async def run(self) -> None:
        """Call what is due until cancelled."""
        self._runs = True
        try:
            self._arm()
            while True:
                await self._clock.sleep(_DAY_S)  # the alarms do the work
        finally:
            self._runs = False
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def work(self) -> None:
        """Do what is due now."""
        now_s = self._clock.monotonic_s() + SLACK_S
        done = False
        if self._heap and self._heap[0][0] <= now_s:
            safely(self.before)
        while self._heap and self._heap[0][0] <= now_s:
            _, _, ticket = heapq.heappop(self._heap)
            if not ticket.live:
                self._cancelled -= 1
                continue
            ticket.due_s += ticket.period_s
            if ticket.due_s <= now_s:  # we were late by more than a period: what was missed is not made up
                ticket.due_s = now_s + ticket.period_s
            self._push(ticket)
            done = True
            safely(ticket.call)
        if done:
            safely(self._settle)

    def _push(self, ticket: Ticket) -> None:
        heapq.heappush(self._heap, (ticket.due_s, next(self._order), ticket))

    def _arm(self) -> None:
        """See that somebody wakes up for what is due first."""
        if not self._runs or not self._heap:
            return
        due_s = self._heap[0][0]
        if self._alarm is not None:
            if self._alarm_s <= due_s:
                return
            self._alarm.cancel()
        self._alarm_s = due_s
        self._alarm = self._clock.call_later(max(0.0, due_s - self._clock.monotonic_s()), self._wake)

    def _wake(self) -> None:
        """Do what is due, and wait for what is due next."""
        self._alarm_s = -math.inf  # nobody need wake us: we look at the heap right after
        try:
            self.work()
        finally:
            self._alarm = None
            self._arm()
