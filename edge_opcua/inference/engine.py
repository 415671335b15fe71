"""Runs the models of a lane process: in the caller's thread or in workers, in the scheduler's order, watched.

Safety pipelines ask with :meth:`Engine.judge`: no queue, no hop, no lock. All others hand in requests and
fetch them when they have ended. Whatever becomes of a request, it comes back once, with a fate and a reason.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.loaded import LoadedModel, ModelBinding
from edge_opcua.inference.overrun import REMOTE_TICK_S, TICK_S, Hung, Run, Watch
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, Fate, LaneClass, Request
from edge_opcua.inference.schedule.scheduler import Load, Scheduler

_log = structlog.get_logger(__name__)

CLOSE_S: Final = 2.0
"""A worker whose run does not end within this time after it was cancelled is left to the end of the process."""
_JUDGED_KEPT: Final = 256


class Engine:
    """Models, a scheduler, and the workers that run what it says.

    Args:
        models: Loaded models by key.
        costs: What runs cost: measured before for each model, kept up by every run.
        clock: Clock.
        workers: Worker threads; 0 runs everything in the caller's thread, in :meth:`turn`.
        most: Largest batch allowed of each model; 1 for one that is not named.
        on_hung: Called, from another thread, when a run does not end even though it was cancelled.

    Attributes:
        fd: Becomes readable when requests have ended, for an event loop; None without workers.
    """

    def __init__(
        self,
        models: Mapping[str, LoadedModel],
        costs: CostTable,
        clock: Clock,
        *,
        workers: int = 0,
        most: Mapping[str, int] | None = None,
        on_hung: Callable[[Hung], None] | None = None,
    ) -> None:
        self._models = dict(models)
        self._costs = costs
        self._clock = clock
        limits = most or {}
        self._most = {key: min(model.most, limits.get(key, 1)) for key, model in models.items()}
        self._scheduler = Scheduler(costs, workers=max(1, workers), most=self._most)
        self._watch = Watch(
            clock,
            max(1, workers),
            cost_ns=self._cost_ns,
            on_hung=on_hung or _nobody,
            tick_s=REMOTE_TICK_S if any(model.is_remote for model in models.values()) else TICK_S,
        )
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._lock = threading.Condition()
        self._closed = False
        self._ended: list[Request] = []
        self._told = False
        self._waiting = 0
        self._direct: dict[str, tuple[ModelBinding, Run]] = {}
        self._judged: deque[tuple[str, int]] = deque(maxlen=_JUDGED_KEPT)
        self.fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if workers else None

    def start(self) -> None:
        """Prepare the buffers and start the threads; they take over the scheduling class of the caller's."""
        for key, model in self._models.items():
            for worker in range(max(1, self._workers)):
                for size in self._costs.sizes(key):
                    model.bind(min(size, self._most[key]), worker=worker)
            binding = model.bind()
            self._direct[key] = binding, Run(key, 1, 0, binding)
        self._watch.start()
        for worker in range(self._workers):
            thread = threading.Thread(
                target=self._work, args=(worker,), name=f"lane.worker-{worker}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def submit(self, request: Request) -> bool:
        """Take a request in, or refuse it at once.

        Returns:
            Whether it was accepted. If not, its fate, reason, code and ``retry_after_ns`` are filled in and
            it does not come back from :meth:`turn`; others that were given up for it do.

        Raises:
            ValueError: Its row is not what the model takes.
        """
        raise NotImplementedError

    def judge(self, request: Request) -> None:
        """Run one request now, in this thread: the way of the safety lane.

        Its fate is DONE or FAILED afterwards. ``answers`` are the model's own buffers, valid until the next
        run of the model: nothing is allocated.
        """
        raise NotImplementedError

    def turn(self) -> list[Request]:
        """Return what has ended since the last call; without workers, run at most one batch first."""
        raise NotImplementedError

    def next_turn_ns(self) -> int | None:
        """Return when :meth:`turn` should be called, monotonic; None while there is nothing to do.

        With workers only what has ended counts, and :attr:`fd` tells the same.
        """
        raise NotImplementedError

    def load(self) -> Load:
        """Return what the scheduler counts."""
        raise NotImplementedError

    def set_scale(self, factor: float) -> None:
        """Let everything cost so many times what was measured, at least 1: the machine is hot."""
        raise NotImplementedError

    def shed(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Admit no best effort, or admit it again."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads; what waits and what runs is given up and does not come back."""
        raise NotImplementedError
