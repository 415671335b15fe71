"""What would be late if nothing more came: the dispatch rule, played forward; pure.

Everything that waits is here already, so what will run when follows from the deadlines, the costs, and
when the workers are free. Requests that run alone need no more than a running sum. With several workers that
is a bound: a request begins at the latest when everything before it has begun, shared by the workers as they
become free (Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math., 1969). Batches, and
the few requests that usually wait for several workers, are played run by run.

Work counts as what runs usually take, and one of the runs before a request may be slow, not all of them: a
sum of 99th percentiles refused what a plain queue served.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import accumulate, pairwise

from edge_opcua.inference.schedule.tariff import Tariff, Tariffs


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be late.

    Args:
        late: How many requests.
        over_ns: Time that is missing for the latest of them; 0 if none is.
        opens_ns: When the last run of the model asked about begins, if it has one request; else None.
    """

    late: int
    over_ns: int
    opens_ns: int | None = None


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


def closes(costs: Sequence[int], waiting: int, room_ns: int, others_ns: Iterable[int]) -> int:
    """Return how many requests of one model run together; 0 if not even one is over in time.

    Args:
        costs: What a run with one, two, … requests takes.
        waiting: How many wait.
        room_ns: Time from the start to the deadline of the first.
        others_ns: Time from the start until the first request of each other model must start; a batch makes
            none of them late that would be in time after a single request.
    """
    count = bisect_right(costs, room_ns, 0, min(waiting, len(costs)))
    for slack_ns in others_ns:
        if count > 1 and costs[0] <= slack_ns < costs[count - 1]:
            count = bisect_right(costs, slack_ns, 0, count)
    return count


def alone(
    deadlines_ns: Sequence[int], costs_ns: Sequence[int], free_ns: Sequence[int], spare_ns: int
) -> Outlook:
    """Return what would be late of requests that run one by one.

    Args:
        deadlines_ns: When each must be over, the earliest first.
        costs_ns: What each usually takes.
        free_ns: When each worker is free, the earliest first.
        spare_ns: Time that must be left.
    """
    works = list(accumulate(costs_ns))
    workers, last = len(free_ns), free_ns[-1]
    gaps = workers * last - sum(free_ns)  # work that is begun before all workers are free
    few = bisect_left(works, gaps) + 1 if gaps else 0
    base = last + spare_ns
    overs = [
        begun_ns(free_ns, work - cost) + cost + spare_ns - end
        for work, cost, end in zip(works[:few], costs_ns, deadlines_ns, strict=False)
    ]
    overs += [
        base + (work - cost - gaps) // workers + cost - end
        for work, cost, end in zip(works[few:], costs_ns[few:], deadlines_ns[few:], strict=True)
    ]
    return Outlook(sum(over > 0 for over in overs), max(0, max(overs, default=0)))


def together(
    deadlines_ns: Mapping[str, Sequence[int]],
    tariffs: Tariffs,
    free_ns: Sequence[int],
    spare_ns: int,
    asked: str = "",
) -> Outlook:
    """Return what would be late of requests that run in batches; what would be late is not run.

    Args:
        deadlines_ns: When each must be over, the earliest first, by model.
        tariffs: What runs take.
        free_ns: When each worker is free, the earliest first.
        spare_ns: Time that must be left.
        asked: Model whose last run is asked about.
    """
    queues = [_Queue(key, ends, tariffs[key]) for key, ends in deadlines_ns.items() if ends]
    frees = list(free_ns)
    late = over_ns = 0
    opens_ns = None
    while queues:
        queue = min(queues, key=_first)
        start = frees[0]
        typical = queue.tariff.typical
        room_ns = queue.first - spare_ns - start
        waiting = len(queue.ends) - queue.at
        count = 1
        if typical[0] > room_ns:
            late += 1
            over_ns = max(over_ns, typical[0] - room_ns)
        else:
            if waiting > 1 and len(typical) > 1:
                slacks = _slacks(queues, queue, start, frees) if len(queues) > 1 else ()
                count = closes(typical, waiting, room_ns, (slack - spare_ns for slack in slacks))
            heapreplace(frees, start + typical[count - 1])
        if count == waiting:
            queues.remove(queue)
            if count == 1 and queue.key == asked:
                opens_ns = start
        else:
            queue.at += count
            queue.first = queue.ends[queue.at]
    return Outlook(late, over_ns, opens_ns)


class _Queue:
    """What waits for one model, and how much of it has been played."""

    __slots__ = ("at", "ends", "first", "key", "tariff")

    def __init__(self, key: str, ends: Sequence[int], tariff: Tariff) -> None:
        self.key, self.ends, self.tariff, self.at, self.first = key, ends, tariff, 0, ends[0]


def _first(queue: _Queue) -> int:
    return queue.first


def _slacks(queues: Sequence[_Queue], own: _Queue, start_ns: int, frees_ns: Sequence[int]) -> list[int]:
    """Return how long the first of each other model can wait, of those that no other worker takes before."""
    elsewhere_ns = min(frees_ns[1:3], default=None)  # the second smallest of a heap is one of these
    slacks = (other.first - other.tariff.typical[0] - start_ns for other in queues if other is not own)
    return [slack for slack in slacks if elsewhere_ns is None or start_ns + slack < elsewhere_ns]
