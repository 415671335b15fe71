"""Which request runs when, on which worker, with which others, and which is refused at the door; pure.

Not for several threads at once: whoever has more than one holds a lock around every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, LaneClass, Request

GUARD_NS: Final = 200_000
"""Time between the end of a run and the deadline that stays free, for the answer to get out."""


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
        raise NotImplementedError

    def offer(self, request: Request, now_ns: int) -> bool:
        """Take a request, or refuse it because its deadline, or that of one taken before, could not be met.

        Returns:
            Whether it waits now. If not, its fate is REJECTED and reason, code and retry_after_ns say why.
        """
        raise NotImplementedError

    def take(self, worker: int, now_ns: int) -> Batch | None:
        """Return what an idle worker runs now; None if nothing, or if a batch should still grow (`wait_ns`).

        ``request.ran`` of each is already the key that runs: the model asked for or a cheaper variant.
        """
        raise NotImplementedError

    def wait_ns(self, now_ns: int) -> int | None:
        """Return until when (monotonic) an idle worker waits for a batch to grow; None: for a request."""
        raise NotImplementedError

    def ended(self, batch: Batch, now_ns: int, *, cancelled: bool = False) -> None:
        """Take the end of a run; after a cancellation its requests wait again, once."""
        raise NotImplementedError

    def preempt(self, now_ns: int) -> int | None:
        """Return the worker whose run must be cancelled so that a request of a lane above is not late."""
        raise NotImplementedError

    def dropped(self) -> list[Request]:
        """Return the requests that were given up (EXPIRED, SHED) since the last call."""
        raise NotImplementedError

    def shed(self, lane: LaneClass) -> None:
        """Admit nothing of this class and those below any more, and give up what waits of them (heat)."""
        raise NotImplementedError

    def unshed(self) -> None:
        """Admit all classes again."""
        raise NotImplementedError

    def load(self, now_ns: int) -> Load:
        """Return how much is asked of the workers."""
        raise NotImplementedError
