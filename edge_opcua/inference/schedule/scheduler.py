"""Which request runs when, on which worker, with which others, and which is refused at the door; pure.

Classes first, within a class the earliest deadline first (Liu and Layland, "Scheduling algorithms for
multiprogramming in a hard-real-time environment", J. ACM, 1973: on one worker no order meets more). What
cannot be met is refused when it comes, as Clockwork does (Gujarati et al., OSDI 2020), and never run.

Not for several threads at once: whoever has more than one holds a lock around every call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final

from edge_opcua.inference.schedule.arrivals import Arrivals
from edge_opcua.inference.schedule.backlog import Backlog
from edge_opcua.inference.schedule.batching import Batching
from edge_opcua.inference.schedule.caution import Caution
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, Fate, LaneClass, Request
from edge_opcua.inference.schedule.tariff import Tariffs
from edge_opcua.inference.schedule.workers import Workers

GUARD_NS: Final = 200_000
"""Time between the end of a run and the deadline that stays free, for the answer to get out."""

MOST_WAITING: Final = 512
"""Requests of one class that can wait: what keeps a refusal below a millisecond."""

MOST_DISPLACED: Final = 8
"""Requests that are given up at most for one that is taken."""

CROWDED: Final = 256
"""If more wait, nobody looks for requests that could make room."""

FEW: Final = 64
"""If no more than these wait, there is time to look several times."""

LATE, HOPELESS, FULL, SHED, EXPIRED, DISPLACED, TWICE = "M550", "M551", "M552", "M553", "M554", "M555", "M556"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of the workers, and what became of it since the start.

    Args:
        utilisation: Measured arrivals times their cost, as a share of the workers' time; above 1: too much.
        waiting: Requests that wait now.
        rejected: Requests refused at the door.
        expired: Requests given up at dispatch because they would have been late.
        shed: Requests given up for others.
        preempted: Runs cancelled for a more urgent one.
        cheaper: Requests moved to a cheaper variant of their model.
        batches: Runs that ended.
        mean_batch: Requests per run; 0 before the first.
    """

    utilisation: float
    waiting: int
    rejected: int
    expired: int
    shed: int
    preempted: int
    cheaper: int
    batches: int
    mean_batch: float


@dataclass(slots=True)
class _Counts:
    rejected: int = 0
    expired: int = 0
    shed: int = 0
    preempted: int = 0
    cheaper: int = 0
    batches: int = 0
    requests: int = 0


@dataclass(slots=True)
class _Asked:
    """What is asked of one model."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    batch: float = 1.0  # requests per run, a moving average


class Scheduler:
    """The requests of one lane process.

    Args:
        costs: What the models cost; gets every run that ended.
        workers: How many models run at the same time.
        most: Largest batch of each model, by key; 1 for a key that is not there.
        guard_ns: Time before each deadline in which nothing may still run.
    """

    def __init__(
        self, costs: CostTable, *, workers: int, most: Mapping[str, int], guard_ns: int = GUARD_NS
    ) -> None:
        self._costs = costs
        self._guard_ns = guard_ns
        self._tariffs = Tariffs(costs, most)
        self._workers = Workers(workers)
        self._caution = Caution()
        self._backlogs = {lane: Backlog(self._tariffs, self._caution, guard_ns) for lane in LaneClass}
        self._batching = Batching(self._tariffs, guard_ns)
        self._asked: dict[str, _Asked] = {}
        self._shed_from: LaneClass | None = None
        self._wait_until_ns: int | None = None
        self._counts = _Counts()
        self._dropped: list[Request] = []

    def offer(self, request: Request, now_ns: int) -> bool:
        """Take a request, or refuse it because its deadline, or that of one taken before, could not be met.

        Call :meth:`preempt` after a request was taken, and let idle workers :meth:`take`.

        Returns:
            Whether it waits now. If not, its fate is REJECTED and reason, code and retry_after_ns say why;
            retry_after_ns is 0 where waiting would not help.
        """
        self._renew()
        self._asked.setdefault(request.model, _Asked()).arrivals.add(now_ns)
        self._batching.note(request, now_ns)
        if self._is_shed(request.lane):
            return self._refuse(request, SHED, "best effort is shed: the machine is too hot or too busy", 0)
        if len(self._backlogs[request.lane]) >= MOST_WAITING:
            retry_ns = self._backlogs[request.lane].work_ns // MOST_WAITING
            return self._refuse(request, FULL, f"{MOST_WAITING} requests wait already", retry_ns)
        over_ns = self._admit(request, now_ns)
        if over_ns > 0 and not self._make_room(request, now_ns, over_ns):
            return self._refuse_late(request, now_ns, over_ns)
        self._relieve(request.lane, now_ns)
        return True

    def take(self, worker: int, now_ns: int) -> Batch | None:
        """Return what an idle worker runs now; None: nothing, or something that should wait (`wait_ns`).

        ``ran`` of its requests is the key that runs: the model asked for, or a cheaper variant. Whoever runs
        it sets the answers, and the fate if the model fails.
        """
        self._renew()
        self.expire(now_ns)
        self._wait_until_ns = None
        for backlog in self._backlogs.values():
            head = self._next(backlog, worker, now_ns)
            if head is None:
                continue
            _, *others_ns = self._workers.free_ns(now_ns)  # the idle one is the first
            chosen = self._batching.choose(backlog, head, now_ns, others_ns)
            if len(chosen) == sum(map(len, self._backlogs.values())):
                arrivals = self._asked[head.model].arrivals
                self._wait_until_ns = self._batching.grow_until(chosen, arrivals, now_ns)
                if self._wait_until_ns is not None:
                    return None
            backlog.remove(chosen)
            return self._begin(worker, chosen, now_ns)
        return None

    def wait_ns(self, now_ns: int) -> int | None:
        """Return until when (monotonic) an idle worker waits if no request comes; None: for ever."""
        return None if self._wait_until_ns is None else max(now_ns, self._wait_until_ns)

    def ended(self, batch: Batch, now_ns: int, *, cancelled: bool = False) -> None:
        """Take the end of a run: its requests are DONE, unless whoever ran them has set another fate.

        What a run took counts as a cost of the model, unless all of its requests have FAILED.

        Args:
            batch: What ran.
            now_ns: When it ended.
            cancelled: Whether it was ended for another; its requests wait again, but only once: after a
                second time they have failed.
        """
        self._workers.end(batch, now_ns)
        if cancelled:
            self._counts.preempted += 1
            for request in batch.requests:
                self._again(request)
            return
        if any(request.fate is not Fate.FAILED for request in batch.requests):  # else it is no measurement
            self._costs.add(batch.model, len(batch.requests), now_ns - batch.started_ns)
        self._counts.batches += 1
        self._counts.requests += len(batch.requests)
        asked = self._asked[batch.requests[0].model]
        asked.batch += (len(batch.requests) - asked.batch) / 16
        for request in batch.requests:
            request.ended_ns = now_ns
            self._caution.note(late=now_ns + self._guard_ns > request.deadline_ns)
            if request.fate is Fate.WAITING:
                request.fate = Fate.DONE

    def preempt(self, now_ns: int) -> int | None:
        """Return the worker whose run must be cancelled so that a request of a class above is not late.

        Whoever calls cancels it and calls again, until nothing is returned.
        """
        free_ns = self._workers.free_ns(now_ns)
        ahead_ns = 0
        for lane, backlog in self._backlogs.items():
            candidates = self._workers.cancellable(lane, now_ns) if backlog else []
            late = backlog.outlook(free_ns, ahead_ns).late if candidates else 0
            for batch in candidates if late else ():
                if backlog.outlook(self._workers.free_without(batch, now_ns), ahead_ns).late < late:
                    self._workers.cancel(batch, now_ns)
                    return batch.worker
            ahead_ns += backlog.work_ns
        return None

    def expire(self, now_ns: int) -> None:
        """Give up what would be late even if it ran now; a cheaper variant is tried before."""
        for backlog in self._backlogs.values():
            while backlog:
                head = backlog.requests[0]
                if self._fits(head, head.ran, now_ns):
                    break
                backlog.remove([head])
                cheaper = next((key for key in head.cheaper if self._fits(head, key, now_ns)), None)
                if cheaper is None:
                    over_ns = now_ns + self._tariffs[head.ran].costs[0] + self._guard_ns - head.deadline_ns
                    self._drop(head, Fate.EXPIRED, EXPIRED, f"it would have been {over_ns / 1e6:.1f} ms late")
                    continue
                head.ran = cheaper
                backlog.insert(head)
                self._counts.cheaper += 1

    def dropped(self) -> list[Request]:
        """Return the requests that were given up (EXPIRED, SHED, FAILED) since the last call."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def shed(self, lane: LaneClass) -> None:
        """Admit nothing of this class and those below any more, and give up what waits of them (heat).

        ValueError for the safety lane, which is never shed.
        """
        if lane is LaneClass.SAFETY:
            raise ValueError("the safety lane is never shed")
        self._shed_from = lane
        for below, backlog in self._backlogs.items():
            if below >= lane and backlog:
                waiting = list(backlog.requests)
                backlog.remove(waiting)
                for request in waiting:
                    self._drop(request, Fate.SHED, SHED, "the machine is too hot or too busy for best effort")

    def unshed(self) -> None:
        """Admit all classes again."""
        self._shed_from = None

    def load(self, now_ns: int) -> Load:
        """Return how much is asked of the workers."""
        counts = self._counts
        busy = sum(self._busy(key, asked, now_ns) for key, asked in self._asked.items())
        return Load(
            utilisation=busy / len(self._workers),
            waiting=sum(map(len, self._backlogs.values())),
            rejected=counts.rejected,
            expired=counts.expired,
            shed=counts.shed,
            preempted=counts.preempted,
            cheaper=counts.cheaper,
            batches=counts.batches,
            mean_batch=counts.requests / counts.batches if counts.batches else 0.0,
        )

    def _busy(self, key: str, asked: _Asked, now_ns: int) -> float:
        """Return the share of a worker's time that the requests for one model take."""
        period_ns = asked.arrivals.period_ns(now_ns)
        if period_ns is None:
            return 0.0
        batch = max(1, round(asked.batch))
        return self._costs.typical_ns(key, batch) / batch / period_ns

    def _renew(self) -> None:
        if self._tariffs.renew():
            for backlog in self._backlogs.values():
                backlog.renew()

    def _is_shed(self, lane: LaneClass) -> bool:
        return self._shed_from is not None and lane >= self._shed_from

    def _fits(self, request: Request, key: str, now_ns: int) -> bool:
        tariff = self._tariffs[key]
        takes_ns = self._caution.reckons(tariff.typical[0], tariff.costs[0])
        return now_ns + takes_ns + self._guard_ns <= request.deadline_ns

    def _admit(self, request: Request, now_ns: int) -> int:
        """Let a request wait for its model or a cheaper one that fits; else return how late it would be."""
        free_ns = self._workers.free_ns(now_ns)
        cancelled_ns = self._workers.free_ns(now_ns, above=request.lane)
        ahead_ns = sum(above.work_ns for lane, above in self._backlogs.items() if lane < request.lane)
        backlog = self._backlogs[request.lane]
        coming = partial(self._coming, now_ns)
        least_ns = 0
        for key in (request.model, *request.cheaper):
            request.ran = key
            for frees_ns in (free_ns,) if cancelled_ns == free_ns else (free_ns, cancelled_ns):
                over_ns = backlog.admit(request, frees_ns, ahead_ns, coming)
                if over_ns <= 0:
                    self._counts.cheaper += key != request.model
                    return 0
                least_ns = min(least_ns, over_ns) if least_ns else over_ns
        request.ran = ""
        return least_ns

    def _coming(self, now_ns: int, key: str, until_ns: int) -> int:
        """Return how many requests for a model are expected until a time."""
        gap_ns = self._asked[key].arrivals.gap_ns()
        return 0 if gap_ns is None else (until_ns - now_ns) // gap_ns

    def _make_room(self, request: Request, now_ns: int, over_ns: int) -> bool:
        """Let a request wait after all, if others give way for it; returns whether it does."""
        if len(self._backlogs[request.lane]) > CROWDED:
            return False
        return self._degrade(request, now_ns, over_ns) or self._displace(request, now_ns, over_ns)

    def _degrade(self, request: Request, now_ns: int, over_ns: int) -> bool:
        """Make room by moving requests of the same class to a cheaper variant, if that helps."""
        backlog = self._backlogs[request.lane]
        able = [other for other in backlog.requests if other.cheaper and other.ran == other.model]
        moved = self._enough(able, over_ns, self._saved_by_cheaper)
        for other in moved:
            backlog.move(other, other.cheaper[0])
        if moved and self._admit(request, now_ns) <= 0:
            self._counts.cheaper += len(moved)
            return True
        for other in moved:
            backlog.move(other, other.model)
        return False

    def _displace(self, request: Request, now_ns: int, over_ns: int) -> bool:
        """Make room by giving up requests of the same class with a lower priority, if that helps."""
        backlog = self._backlogs[request.lane]
        lower = [other for other in backlog.requests if other.priority > request.priority]
        gone = self._enough(lower, over_ns, self._takes_alone)
        backlog.remove(gone)
        if not gone or self._admit(request, now_ns) > 0:
            for other in gone:
                backlog.insert(other)
            return False
        for other in reversed(gone):  # not all of them were in the way
            if self._admit(other, now_ns) > 0:
                self._drop(other, Fate.SHED, DISPLACED, f"displaced by one of priority {request.priority}")
        return True

    def _enough(
        self, requests: list[Request], over_ns: int, saves: Callable[[Request], int]
    ) -> list[Request]:
        """Return the requests of the lowest priority that save so much time; none if all do not."""
        requests.sort(key=lambda other: (-other.priority, -other.deadline_ns))
        for count, saved_ns in enumerate(accumulate(map(saves, requests[:MOST_DISPLACED])), 1):
            if saved_ns >= over_ns:
                return requests[:count]
        return []

    def _takes_alone(self, request: Request) -> int:
        return self._tariffs[request.ran].typical[0]

    def _saved_by_cheaper(self, request: Request) -> int:
        return self._takes_alone(request) - self._tariffs[request.cheaper[0]].typical[0]

    def _relieve(self, lane: LaneClass, now_ns: int) -> None:
        """Give up what waits below and cannot be met any more, the lowest priority first."""
        ahead_ns = 0
        for below, backlog in self._backlogs.items():
            tries = MOST_DISPLACED if len(backlog) <= FEW else 1
            for _ in range(tries if below > lane and backlog else 0):
                if not backlog.outlook(self._workers.free_ns(now_ns), ahead_ns).late:
                    break
                least = max(backlog.requests, key=lambda request: request.priority)
                backlog.remove([least])
                self._drop(least, Fate.SHED, DISPLACED, f"displaced by the {lane.name.lower()} lane")
            ahead_ns += backlog.work_ns

    def _next(self, backlog: Backlog, worker: int, now_ns: int) -> Request | None:
        """Return the request of a class whose turn it is.

        One whose run was cancelled runs to its end the second time. It waits until that holds up no class
        above (it is short, or another worker can be had), but not so long that it would be late itself.
        """
        for request in backlog.requests:
            blocking_ns = self._batching.blocking_ns()
            if not request.preempted or blocking_ns is None:
                return request
            cost_ns = self._tariffs[request.ran].costs[0]
            latest_ns = request.deadline_ns - cost_ns - cost_ns // 8 - self._guard_ns
            if cost_ns <= blocking_ns or latest_ns <= now_ns or self._workers.spare(worker):
                return request
            self._wait_until_ns = min(latest_ns, self._wait_until_ns or latest_ns)
        return None

    def _begin(self, worker: int, requests: list[Request], now_ns: int) -> Batch:
        key = requests[0].ran
        expected_ns = now_ns + self._tariffs[key].costs[len(requests) - 1]
        for request in requests:
            request.started_ns = now_ns
            request.batch = len(requests)
        batch = Batch(worker, key, requests, now_ns, expected_ns)
        self._workers.begin(batch)
        return batch

    def _again(self, request: Request) -> None:
        """Let a request of a cancelled run wait again."""
        if request.preempted:
            self._drop(request, Fate.FAILED, TWICE, "its run was cancelled a second time")
        elif self._is_shed(request.lane):
            self._drop(request, Fate.SHED, SHED, "the machine is too hot or too busy for best effort")
        else:
            self._backlogs[request.lane].insert(request)
        request.preempted += 1

    def _refuse_late(self, request: Request, now_ns: int, over_ns: int) -> bool:
        left_ns = request.deadline_ns - now_ns
        needs_ns = self._tariffs[request.model].costs[0] + self._guard_ns
        if needs_ns > request.deadline_ns - request.arrived_ns:
            reason = f"it takes {needs_ns / 1e6:.1f} ms and has {max(0, left_ns) / 1e6:.1f} ms"
            return self._refuse(request, HOPELESS, reason, 0)
        if needs_ns > left_ns:
            took_ms = (now_ns - request.arrived_ns) / 1e6
            reason = (
                f"{took_ms:.1f} ms were over when it came to the model, which takes {needs_ns / 1e6:.1f} ms"
            )
            return self._refuse(request, LATE, reason, over_ns)
        waiting = len(self._backlogs[request.lane])
        reason = f"{waiting} wait before it or would be late for it; {over_ns / 1e6:.1f} ms are missing"
        return self._refuse(request, LATE, reason, over_ns)

    def _refuse(self, request: Request, code: str, reason: str, retry_after_ns: int) -> bool:
        self._counts.rejected += 1
        request.fate, request.code, request.reason = Fate.REJECTED, code, reason
        request.retry_after_ns = retry_after_ns
        return False

    def _drop(self, request: Request, fate: Fate, code: str, reason: str) -> None:
        self._counts.expired += fate is Fate.EXPIRED
        self._counts.shed += fate is Fate.SHED
        request.fate, request.code, request.reason = fate, code, reason
        self._dropped.append(request)
