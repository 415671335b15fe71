"""The requests of one class that wait, the earliest deadline first; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

from edge_opcua.inference.schedule import plan
from edge_opcua.inference.schedule.caution import Caution
from edge_opcua.inference.schedule.plan import Outlook
from edge_opcua.inference.schedule.request import Request
from edge_opcua.inference.schedule.tariff import Tariff, Tariffs

SHORT: Final = 32
"""Requests for several workers that are played run by run even if they run alone."""


Coming: TypeAlias = Callable[[str, int], int]
"""How many requests for a model are expected until a time."""


class Backlog:
    """What waits in one class.

    Args:
        tariffs: What runs take.
        caution: How far slow runs are reckoned with.
        guard_ns: Time before each deadline in which nothing may still run.

    Attributes:
        requests: What waits, the earliest deadline first; of equal ones, the one that came first.
    """

    def __init__(self, tariffs: Tariffs, caution: Caution, guard_ns: int) -> None:
        self.requests: list[Request] = []
        self._tariffs = tariffs
        self._caution = caution
        self._guard_ns = guard_ns
        self._ends: list[int] = []  # deadlines of the requests
        self._costs: list[int] = []  # what each usually takes if it runs alone
        self._by_model: dict[str, list[int]] = {}  # deadlines by model
        self._alone_ns = 0  # what all take one by one
        self._known: dict[tuple[tuple[int, ...], int], Outlook] = {}  # as long as nothing has changed

    def __len__(self) -> int:
        return len(self.requests)

    def count(self, key: str) -> int:
        """Return how many requests wait for a model."""
        return len(self._by_model.get(key, ()))

    def like(self, head: Request, most: int) -> list[Request]:
        """Return the first requests that can run with one: for the same model, cancelled as often as it."""
        alike = (r for r in self.requests if r.ran == head.ran and r.preempted == head.preempted)
        return list(islice(alike, most))

    def heads(self, but: str) -> Iterator[tuple[str, int]]:
        """Yield the earliest deadline of each model but one."""
        return ((key, ends[0]) for key, ends in self._by_model.items() if ends and key != but)

    @property
    def work_ns(self) -> int:
        """What all of it will take one worker."""
        if not self._in_batches():
            return self._alone_ns
        return sum(self._tariffs[key].work(len(ends)) for key, ends in self._by_model.items())

    def insert(self, request: Request) -> None:
        """Let a request wait for the model ``request.ran``."""
        self._known.clear()
        place = bisect_right(self._ends, request.deadline_ns)
        cost_ns = self._tariffs[request.ran].typical[0]
        self.requests.insert(place, request)
        self._ends.insert(place, request.deadline_ns)
        self._costs.insert(place, cost_ns)
        self._alone_ns += cost_ns
        insort(self._by_model.setdefault(request.ran, []), request.deadline_ns)

    def remove(self, gone: Sequence[Request]) -> None:
        """Let requests wait no longer."""
        self._known.clear()
        for request in gone:
            place = self.requests.index(request)  # the first ones are taken
            ends = self._by_model[request.ran]
            del ends[bisect_left(ends, request.deadline_ns)]
            self._alone_ns -= self._costs[place]
            del self.requests[place], self._ends[place], self._costs[place]

    def move(self, request: Request, key: str) -> None:
        """Let a request that waits be answered by another model."""
        self.remove([request])
        request.ran = key
        self.insert(request)

    def renew(self) -> None:
        """Take what runs cost now."""
        self._known.clear()
        self._costs = [self._tariffs[request.ran].typical[0] for request in self.requests]
        self._alone_ns = sum(self._costs)

    def admit(self, request: Request, free_ns: Sequence[int], ahead_ns: int, coming: Coming) -> int:
        """Let a request wait for the model ``request.ran``, if neither it nor another is late for it.

        Args:
            request: The request.
            free_ns: When each worker is free, the earliest first.
            ahead_ns: Work that goes before all of this.
            coming: How many more may come for its model until then.

        Returns:
            0 if it waits now, else how much time is missing.
        """
        tariff = self._tariffs[request.ran]
        if tariff.most == 1 and self._is_last(request) and not self._is_played(len(free_ns)):
            # Nobody else is later for it, and the work before it is known: the usual case in an overload.
            begun_ns = plan.begun_ns(free_ns, ahead_ns + self._alone_ns)
            margin_ns = max(self._margin_ns(), self._margin_of(tariff, 1))
            over_ns = begun_ns + tariff.typical[0] + margin_ns + self._guard_ns - request.deadline_ns
            if over_ns <= 0:
                self.insert(request)
            return max(0, over_ns)
        known = (tuple(free_ns), ahead_ns)
        before = self._known.get(known) or self.outlook(free_ns, ahead_ns)
        self.insert(request)
        after = self.outlook(free_ns, ahead_ns, request.ran)
        over_ns = after.over_ns if after.late > before.late else 0
        if not over_ns and after.opens_ns is not None and tariff.most > 1:
            over_ns = self._crowded(request, tariff, after.opens_ns, coming)
        if over_ns > 0:
            self.remove([request])
            self._known[known] = before
        return max(0, over_ns)

    def _crowded(self, request: Request, tariff: Tariff, opens_ns: int, coming: Coming) -> int:
        """Return how much time a request lacks that opens a run, once all have joined who will.

        A first deadline that is near makes a small batch. In an overload the next one is then nearer still,
        until hardly two run together: who cannot wait for a full run does not open one.
        """
        joined = min(tariff.most, 1 + coming(request.model, opens_ns))
        over_ns = opens_ns + tariff.typical[joined - 1] + self._guard_ns - request.deadline_ns
        return over_ns + self._margin_of(tariff, joined)

    def outlook(self, free_ns: Sequence[int], ahead_ns: int, asked: str = "") -> Outlook:
        """Return what would be late.

        Args:
            free_ns: When each worker is free, the earliest first.
            ahead_ns: Work that goes before all of this.
            asked: Model whose last run is asked about.
        """
        spare_ns = self._guard_ns + self._margin_ns()
        begins_ns = [max(free, plan.begun_ns(free_ns, ahead_ns)) for free in free_ns] if ahead_ns else free_ns
        if self._is_played(len(free_ns)):
            return plan.together(self._by_model, self._tariffs, begins_ns, spare_ns, asked)
        return plan.alone(self._ends, self._costs, begins_ns, spare_ns)

    def _in_batches(self) -> bool:
        """Return whether any of it may run with others."""
        return any(len(ends) > 1 and self._tariffs[key].most > 1 for key, ends in self._by_model.items())

    def _is_played(self, workers: int) -> bool:
        """Return whether the plan is played run by run, which is exact but takes its time."""
        return self._in_batches() or (workers > 1 and len(self) <= SHORT)

    def _is_last(self, request: Request) -> bool:
        return not self._ends or request.deadline_ns >= self._ends[-1]

    def _margin_ns(self) -> int:
        """Return what is left free in case one of the runs is a slow one."""
        waiting = ((self._tariffs[key], len(ends)) for key, ends in self._by_model.items() if ends)
        return max((self._margin_of(tariff, count) for tariff, count in waiting), default=0)

    def _margin_of(self, tariff: Tariff, waiting: int) -> int:
        return int(tariff.margin(waiting) * self._caution.share)
