"""How many requests run together, and whether to wait for one more; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from edge_opcua.inference.schedule.arrivals import Arrivals
from edge_opcua.inference.schedule.backlog import Backlog
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

    def choose(
        self, backlog: Backlog, lane: LaneClass, now_ns: int, others_ns: Sequence[int]
    ) -> list[Request]:
        """Return what an idle worker runs next: the first request, and those of its model that fit with it.

        As many as are over before the first deadline and make nobody else late. A batch of best effort takes
        at most half of what the classes above can wait for.

        Args:
            backlog: What waits; not empty.
            lane: Its class.
            now_ns: The time.
            others_ns: When each of the other workers is free.
        """
        head = backlog.requests[0]
        tariff = self._tariffs[head.ran]
        members = backlog.of(head.ran, tariff.most)
        room_ns = head.deadline_ns - self._guard_ns - now_ns
        if lane is LaneClass.BEST_EFFORT and self._slack_ns:
            room_ns = min(room_ns, min(self._slack_ns.values()) // 2)
        count = max(1, bisect_right(tariff.costs, room_ns, 0, len(members)))
        if count > 1 and backlog.count(head.ran) < len(backlog):
            count = self._harmless(backlog, members[:count], now_ns, others_ns)
        return members[:count]

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

    def _harmless(
        self, backlog: Backlog, members: list[Request], now_ns: int, others_ns: Sequence[int]
    ) -> int:
        """Return how many may run together so that no other is late that would not be late anyway."""
        costs = self._tariffs[members[0].ran].costs
        count = len(members)
        least = self._late(backlog, members[:1], now_ns + costs[0], others_ns)
        while (
            count > 1 and self._late(backlog, members[:count], now_ns + costs[count - 1], others_ns) > least
        ):
            count //= 2
        return count

    @staticmethod
    def _late(backlog: Backlog, gone: list[Request], free_ns: int, others_ns: Sequence[int]) -> int:
        return backlog.without(gone).late(sorted((free_ns, *others_ns)), 0)
