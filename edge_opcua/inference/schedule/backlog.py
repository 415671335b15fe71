"""The requests of one class that wait, the earliest deadline first, and which of them would be late; pure.

All of them are here already, so the finish of each follows from the work before it. With one worker that is
exact::

    finish(i) = free + work up to i

With several workers it is a bound: a request begins at the latest when everything before it has begun, shared
by the workers as they become free (Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math.,
1969). Requests of one model that run together count as what each adds to the run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise

from edge_opcua.inference.schedule.request import Request
from edge_opcua.inference.schedule.tariff import Tariffs


def begun_ns(free_ns: Sequence[int], work_ns: int) -> int:
    """Return when so much work has been begun by workers that never idle.

    Args:
        free_ns: When each worker is free, the earliest first.
        work_ns: Work that goes before.
    """
    for workers, (free, following) in enumerate(pairwise(free_ns), 1):
        room = (following - free) * workers
        if work_ns < room:
            return free + work_ns // workers
        work_ns -= room
    return free_ns[-1] + work_ns // len(free_ns)


class Backlog:
    """What waits in one class.

    Args:
        tariffs: What requests add to a run.
        guard_ns: Time before each deadline in which nothing may still run.

    Attributes:
        requests: What waits, the earliest deadline first; of equal ones, the one that came first.
        work_ns: What all of it will take.
    """

    def __init__(self, tariffs: Tariffs, guard_ns: int) -> None:
        self.requests: list[Request] = []
        self.work_ns = 0
        self._tariffs = tariffs
        self._guard_ns = guard_ns
        self._deadlines: list[int] = []
        self._adds: list[int] = []  # what each adds to the run it will be part of
        self._runs: list[int] = []  # that run up to and with it
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.requests)

    def count(self, key: str) -> int:
        """Return how many requests wait for a model."""
        return self._counts[key]

    def of(self, key: str, most: int) -> list[Request]:
        """Return the first requests that wait for a model."""
        return list(islice((request for request in self.requests if request.ran == key), most))

    def insert(self, request: Request) -> None:
        """Let a request wait for the model ``request.ran``."""
        tariff = self._tariffs[request.ran]
        place = bisect_right(self._deadlines, request.deadline_ns)
        in_the_middle = place < len(self.requests)
        self.requests.insert(place, request)
        if in_the_middle and tariff.most > 1:
            self.plan()  # those behind it move on within their runs
            return
        in_run = self._counts[request.ran] % tariff.most
        self._deadlines.insert(place, request.deadline_ns)
        self._adds.insert(place, tariff.adds[in_run])
        self._runs.insert(place, tariff.costs[in_run])
        self._counts[request.ran] += 1
        self.work_ns += tariff.adds[in_run]

    def remove(self, gone: Sequence[Request]) -> None:
        """Let requests wait no longer."""
        if len(gone) == 1 and self._tariffs[gone[0].ran].most == 1:
            place = self.requests.index(gone[0])
            self.work_ns -= self._adds[place]
            self._counts[gone[0].ran] -= 1
            for column in (self.requests, self._deadlines, self._adds, self._runs):
                del column[place]
            return
        marked = set(map(id, gone))
        self.requests = [request for request in self.requests if id(request) not in marked]
        self.plan()

    def plan(self) -> None:
        """Work out again what each adds: the costs have changed, or the runs have."""
        self._counts = Counter()
        self._deadlines = [request.deadline_ns for request in self.requests]
        self._adds, self._runs = [], []
        for request in self.requests:
            tariff = self._tariffs[request.ran]
            in_run = self._counts[request.ran] % tariff.most
            self._counts[request.ran] += 1
            self._adds.append(tariff.adds[in_run])
            self._runs.append(tariff.costs[in_run])
        self.work_ns = sum(self._adds)

    def without(self, gone: Sequence[Request]) -> Backlog:
        """Return what would wait without some requests."""
        rest = Backlog(self._tariffs, self._guard_ns)
        marked = set(map(id, gone))
        rest.requests = [request for request in self.requests if id(request) not in marked]
        rest.plan()
        return rest

    def admit(self, request: Request, free_ns: Sequence[int], ahead_ns: int) -> int:
        """Let a request wait for the model ``request.ran``, if neither it nor another is late for it.

        Args:
            request: The request.
            free_ns: When each worker is free, the earliest first.
            ahead_ns: Work that goes before all of this.

        Returns:
            0 if it waits now, else how much time is missing.
        """
        if not self._deadlines or request.deadline_ns >= self._deadlines[-1]:
            over_ns = self._over_at_end(request, free_ns, ahead_ns)
            if over_ns <= 0:
                self.insert(request)
            return max(0, over_ns)
        before = self.late(free_ns, ahead_ns)
        self.insert(request)
        if self.late(free_ns, ahead_ns) <= before:
            return 0
        over_ns = max(self._over(free_ns, ahead_ns))
        self.remove([request])
        return over_ns

    def _over_at_end(self, request: Request, free_ns: Sequence[int], ahead_ns: int) -> int:
        """Return how late a request would be behind all others, none of whom is later for it.

        Takes no longer if many wait: this is the usual case where all have the same time.
        """
        tariff = self._tariffs[request.ran]
        in_run = self._counts[request.ran] % tariff.most
        run = tariff.costs[in_run]
        before = ahead_ns + self.work_ns + tariff.adds[in_run] - run
        return begun_ns(free_ns, before) + run + self._guard_ns - request.deadline_ns

    def late(self, free_ns: Sequence[int], ahead_ns: int) -> int:
        """Return how many of the requests would be late.

        Args:
            free_ns: When each worker is free, the earliest first.
            ahead_ns: Work that goes before all of this.
        """
        return sum(over > 0 for over in self._over(free_ns, ahead_ns))

    def last_late(self, free_ns: Sequence[int], ahead_ns: int) -> int:
        """Return the place of the last request that would be late; -1 if none is."""
        return max(
            (place for place, over in enumerate(self._over(free_ns, ahead_ns)) if over > 0), default=-1
        )

    def _over(self, free_ns: Sequence[int], ahead_ns: int) -> Iterator[int]:
        """Yield by how much each ends after its deadline less the guard."""
        works = accumulate(self._adds, initial=ahead_ns)
        next(works)
        if len(free_ns) == 1:
            base = free_ns[0] + self._guard_ns
            return (base + work - end for work, end in zip(works, self._deadlines, strict=False))
        return (
            begun_ns(free_ns, work - run) + run + self._guard_ns - end
            for work, run, end in zip(works, self._runs, self._deadlines, strict=False)
        )
