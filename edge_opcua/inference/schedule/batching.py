"""How many requests run together, and whether to wait for one more; pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge_opcua.inference.schedule.arrivals import Arrivals
from edge_opcua.inference.schedule.backlog import Backlog
from edge_opcua.inference.schedule.plan import closes
from edge_opcua.inference.schedule.request import LaneClass, Request
from edge_opcua.inference.schedule.tariff import Tariffs


class Batching:
    """The rule by which a batch closes.

    Args:
        tariffs: What requests add to a run; nothing where batches do not pay.
        guard_ns: Time before each deadline in which nothing may still run.
    """

    def __init__(self, tariffs: Tariffs, guard_ns: int) -> None:
        self._tariffs = tariffs
        self._guard_ns = guard_ns
        self._slack_ns: dict[str, int] = {}  # what requests of the classes above can wait, by model

    def note(self, request: Request, now_ns: int) -> None:
        """Take how soon a request must be answered: nobody below may block it for long."""
        if request.lane is not LaneClass.BEST_EFFORT:
            slack_ns = request.deadline_ns - now_ns - self._tariffs[request.model].costs[0]
            self._slack_ns[request.model] = max(0, slack_ns)

    def blocking_ns(self) -> int | None:
        """Return how long a run of best effort may hold up the classes above; None: there are none."""
        return min(self._slack_ns.values(), default=None)

    def choose(self, backlog: Backlog, head: Request, now_ns: int, others_ns: Sequence[int]) -> list[Request]:
        """Return what an idle worker runs next: a request, and those of its model that fit with it.

        As many as are over before the first deadline and make nobody else late. A batch of best effort takes
        at most half of what the classes above can wait for.

        Args:
            backlog: What waits.
            head: The request that must run now, the first of its model.
            now_ns: The time.
            others_ns: When each of the other workers is free, the earliest first.
        """
        tariff = self._tariffs[head.ran]
        members = backlog.like(head, tariff.most)
        room_ns = head.deadline_ns - self._guard_ns - now_ns
        elsewhere_ns = others_ns[0] if others_ns else None
        starts = (end - self._guard_ns - self._tariffs[key].costs[0] for key, end in backlog.heads(head.ran))
        slacks = (start - now_ns for start in starts if elsewhere_ns is None or start < elsewhere_ns)
        if head.lane is LaneClass.BEST_EFFORT and self._slack_ns:
            room_ns = min(room_ns, min(self._slack_ns.values()) // 2)
        return members[: max(1, closes(tariff.costs, len(members), room_ns, slacks))]

    def grow_until(self, chosen: Sequence[Request], arrivals: Arrivals, now_ns: int) -> int | None:
        """Return until when to wait for one more; None: run now.

        Waiting idles a worker for the time to the next arrival; it pays only if joining saves more than that.
        """
        tariff = self._tariffs[chosen[0].ran]
        gap_ns, last_ns = arrivals.gap_ns(), arrivals.last_ns
        if len(chosen) == tariff.most or gap_ns is None or last_ns is None:
            return None
        if tariff.gain(len(chosen)) <= gap_ns:
            return None
        latest_ns = chosen[0].deadline_ns - self._guard_ns - tariff.costs[len(chosen)]
        until_ns = min(last_ns + gap_ns + gap_ns // 2, latest_ns)
        return until_ns if until_ns > now_ns else None
