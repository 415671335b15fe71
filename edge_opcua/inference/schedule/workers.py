"""What runs on each worker, when it will be free, and what a cancellation would gain; pure."""

from __future__ import annotations

from typing import Final

from edge_opcua.inference.schedule.request import Batch, LaneClass
from edge_opcua.inference.schedule.window import Window

FIRST_CANCEL_NS: Final = 1_000_000
"""How long a cancelled run goes on, until some were measured: ONNX Runtime ends before the next node."""


class Workers:
    """The workers of a lane process.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._running: list[Batch | None] = [None] * count
        self._asked_ns: dict[int, int] = {}
        self._cancels = Window([FIRST_CANCEL_NS])

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, batch: Batch) -> None:
        """Take a run; ValueError if the worker has one already."""
        if self._running[batch.worker] is not None:
            raise ValueError(f"worker {batch.worker} is running")
        self._running[batch.worker] = batch

    def end(self, batch: Batch, now_ns: int) -> None:
        """Take the end of a run; ValueError if it did not run."""
        if self._running[batch.worker] is not batch:
            raise ValueError(f"worker {batch.worker} ran something else")
        self._running[batch.worker] = None
        asked = self._asked_ns.pop(batch.worker, None)
        if asked is not None:  # a run that could not be cancelled counts with what it still took
            self._cancels.add(now_ns - asked)

    def cancel(self, batch: Batch, now_ns: int) -> None:
        """Take that a run was told to end."""
        batch.cancelled = True
        self._asked_ns[batch.worker] = now_ns

    def free_ns(self, now_ns: int, above: LaneClass | None = None) -> tuple[int, ...]:
        """Return when each worker is free, the earliest first.

        Args:
            now_ns: The time.
            above: As if every run of a class below this one that can be cancelled were; None: none is.
        """
        return tuple(sorted(self._free(worker, now_ns, above) for worker in range(len(self._running))))

    def free_without(self, batch: Batch, now_ns: int) -> tuple[int, ...]:
        """Return when each worker is free if this run were cancelled now."""
        others = (self._free(worker, now_ns, None) for worker in range(len(self)) if worker != batch.worker)
        return tuple(sorted((*others, now_ns + self._cancels.p99)))

    def cancellable(self, above: LaneClass, now_ns: int) -> list[Batch]:
        """Return the runs of classes below that may be cancelled, the one that is missed least first.

        A run is cancelled only once (it could go on so for ever), and only if that is sooner than its end.
        """
        found = [batch for batch in self._running if batch is not None and self._gains(batch, above, now_ns)]
        return sorted(
            found, key=lambda batch: (-batch.requests[0].lane, -_priority(batch), -batch.expected_ns)
        )

    def spare(self, worker: int) -> bool:
        """Return whether another worker than this one can soon be had for a class above."""
        others = (batch for at, batch in enumerate(self._running) if at != worker)
        return any(
            batch is None
            or batch.requests[0].lane is not LaneClass.BEST_EFFORT
            or not (batch.cancelled or batch.requests[0].preempted)
            for batch in others
        )

    def _gains(self, batch: Batch, above: LaneClass, now_ns: int) -> bool:
        return (
            not batch.cancelled
            and all(request.lane > above and not request.preempted for request in batch.requests)
            and self._expected(batch, now_ns) > now_ns + self._cancels.p99
        )

    def _free(self, worker: int, now_ns: int, above: LaneClass | None) -> int:
        batch = self._running[worker]
        if batch is None:
            return now_ns
        expected = self._expected(batch, now_ns)
        if above is not None and self._gains(batch, above, now_ns):
            return now_ns + self._cancels.p99
        if worker in self._asked_ns:
            return max(now_ns, min(expected, self._asked_ns[worker] + self._cancels.p99))
        return expected

    @staticmethod
    def _expected(batch: Batch, now_ns: int) -> int:
        """Return when a run ends: one that is overdue will take as long again as it is overdue."""
        return max(batch.expected_ns, 2 * now_ns - batch.expected_ns)


def _priority(batch: Batch) -> int:
    return min(request.priority for request in batch.requests)
