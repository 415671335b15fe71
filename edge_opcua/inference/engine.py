"""Runs the models of a lane process: in the caller's thread or in workers, in the scheduler's order, watched.

Safety pipelines ask with :meth:`Engine.judge`: no queue, no hop, no lock. All others hand in requests and
fetch them when they have ended. Whatever becomes of a request, it comes back once, with a fate and a reason.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference import overrun
from edge_opcua.inference.loaded import CANCELLED, LoadedModel, ModelBinding
from edge_opcua.inference.overrun import REMOTE_TICK_S, TICK_S, Hung, Run, Watch
from edge_opcua.inference.remeasure import Remeasure
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, Fate, LaneClass, Request
from edge_opcua.inference.schedule.scheduler import Load, Scheduler

_log = structlog.get_logger(__name__)

CLOSE_S: Final = 2.0
"""A worker whose run does not end within this time after it was cancelled is left behind."""
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
        self._again = Remeasure(costs)
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
        self._broken: Exception | None = None
        self._waiting = 0
        self._ended: list[Request] = []
        self._told = False
        self._direct: dict[str, tuple[ModelBinding, Run]] = {}
        self._judged: deque[tuple[str, int]] = deque(maxlen=_JUDGED_KEPT)
        self._now_ns = clock.monotonic_ns
        self.fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if workers else None

    def start(self) -> None:
        """Prepare the buffers and start the threads; they take over the scheduling class of the caller's."""
        for key, model in self._models.items():
            sizes = {1, *(min(size, self._most[key]) for size in self._costs.sizes(key))}
            model.prepare(sizes, workers=max(1, self._workers))
            binding = model.bind()
            self._direct[key] = binding, Run(key, 1, 0, binding)
        self._watch.runs_here(0)
        self._watch.start()
        for worker in range(self._workers):
            name = f"lane.worker-{worker}"
            thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def rise(self) -> None:
        """Let what watches the runs go before them again, once the process has become more urgent."""
        self._watch.rise()

    def judge(self, request: Request) -> None:
        """Run one request now, in this thread: the way of the safety lane.

        Its fate is DONE or FAILED afterwards. ``answers`` are the model's own buffers, valid until the next
        run of the model: nothing is allocated.
        """
        binding, run = self._direct[request.model]
        running = self._watch.current
        request.ran, request.batch = request.model, 1
        request.started_ns = run.started_ns = self._now_ns()
        running[0] = run
        try:
            binding.judge(request.row)
        except Exception as exc:  # noqa: BLE001 - a backend may be anybody's
            failure = self._judge_again(binding, request, exc)
            running[0] = None
            request.ended_ns = self._now_ns()
            if failure is not None:
                _fail([request], _told_of(failure, run, request.ended_ns))
                run.overran = False
                return
            run.overran = False
        running[0] = None
        request.ended_ns = ended_ns = self._now_ns()
        request.answers, request.fate = binding.answer, Fate.DONE
        self._judged.append((request.model, ended_ns - request.started_ns))

    def _judge_again(self, binding: ModelBinding, request: Request, failure: Exception) -> Exception | None:
        """Run a request again that was cancelled in place of the one before, which ended at that moment."""
        if not _is_cancelled(failure) or self._now_ns() - request.started_ns >= overrun.SHORTEST_NS:
            return failure
        return _failure_of(lambda: binding.judge(request.row))

    def submit(self, request: Request) -> bool:
        """Take a request in, or refuse it at once.

        Returns:
            Whether it was accepted. If not, its fate, reason, code and ``retry_after_ns`` are filled in and
            it does not come back from :meth:`turn`; others that were given up for it do.

        Raises:
            ValueError: Its row is not what the model takes.
        """
        model = self._models[request.model]
        if request.row.shape != (model.size,):
            raise ValueError(f"{model.key} takes {model.size} values, not an array of {request.row.shape}")
        with self._lock:
            now_ns = self._now_ns()
            accepted = self._offer(request, now_ns)
            if not accepted or request.ran != request.model:
                self._measure_again(self._again.doubted(request, now_ns), now_ns)
        return accepted

    def turn(self) -> list[Request]:
        """Return what has ended since the last call; without workers, run at most one batch first.

        Raises:
            RuntimeError: A worker has ended by an error of this program.
        """
        if self._broken is not None:
            raise RuntimeError("a worker of the engine has failed") from self._broken
        if not self._workers:
            self._run_one()
        with self._lock:
            if self._workers:  # they look at what has expired only when they are free
                self._scheduler.expire(self._now_ns())
                self._gather()
            if self._told and self.fd is not None:
                os.eventfd_read(self.fd)
                self._told = False
            ended, self._ended = self._ended, []
        return ended

    def next_turn_ns(self) -> int | None:
        """Return when :meth:`turn` should be called, monotonic; None while there is nothing to do.

        With workers only what has ended counts, and :attr:`fd` tells the same.
        """
        with self._lock:
            if self._ended:
                return 0
            if self._workers or not self._waiting:
                return None
            return self._scheduler.wait_ns(self._now_ns()) or 0

    def load(self) -> Load:
        """Return what the scheduler counts."""
        with self._lock:
            self._learn()
            return self._scheduler.load(self._now_ns())

    def set_scale(self, factor: float) -> None:
        """Let everything cost so many times what was measured, at least 1: the machine is hot."""
        with self._lock:
            self._costs.scale = factor

    def shed(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Admit no best effort, or admit it again."""
        with self._lock:
            if on:
                self._scheduler.shed(LaneClass.BEST_EFFORT)
            else:
                self._scheduler.unshed()
            self._gather()

    def close(self) -> None:
        """End the threads; what waits and what runs is given up and does not come back."""
        with self._lock:
            self._closed = True
            for run in self._watch.current:
                if run is not None:
                    run.unwanted = True
                    run.binding.cancel()
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_S)
            if thread.is_alive():
                _log.warning("engine.worker_left", worker=thread.name)
        self._watch.close()
        if self.fd is not None and not any(thread.is_alive() for thread in self._threads):
            os.close(self.fd)
            self.fd = None

    def _work(self, worker: int) -> None:
        self._watch.runs_here(worker)
        try:
            self._serve(worker)
        except Exception as exc:  # noqa: BLE001 - whoever asks for a turn gets it
            self._broken = exc
            with self._lock:
                self._tell()

    def _serve(self, worker: int) -> None:
        """Run what the scheduler says, until the engine is closed."""
        while True:
            with self._lock:
                batch = self._next(worker)
                if batch is None:
                    return
                binding, run = self._begin(batch)
            failure = _run(binding, batch, run)
            with self._lock:
                self._end(batch, run, failure)

    def _next(self, worker: int) -> Batch | None:
        """Wait for a batch; None once the engine is closed."""
        while not self._closed:
            now_ns = self._now_ns()
            batch = self._scheduler.take(worker, now_ns)
            self._gather()
            if batch is not None:
                return batch
            until_ns = self._scheduler.wait_ns(now_ns)
            self._lock.wait(None if until_ns is None else max(0, until_ns - now_ns) / 1e9)
        return None

    def _run_one(self) -> None:
        with self._lock:
            self._learn()
            batch = self._scheduler.take(0, self._now_ns())
            self._gather()
            if batch is None:
                return
            binding, run = self._begin(batch)
        failure = _run(binding, batch, run)
        with self._lock:
            self._end(batch, run, failure)

    def _begin(self, batch: Batch) -> tuple[ModelBinding, Run]:
        requests = batch.requests
        self._waiting -= len(requests)
        model = self._models[batch.model]
        binding = model.bind_for(len(requests), worker=batch.worker)
        until_ns = requests[-1].deadline_ns if model.is_remote else None  # the latest
        run = Run(batch.model, len(requests), self._now_ns(), binding, until_ns)
        self._watch.current[batch.worker] = run
        return binding, run

    def _end(self, batch: Batch, run: Run, failure: Exception | None) -> None:
        self._watch.current[batch.worker] = None
        now_ns = self._now_ns()
        if run.was_preempted and _is_cancelled(failure):
            self._waiting += len(batch.requests)
            self._scheduler.ended(batch, now_ns, cancelled=True)
            self._gather()
            self._lock.notify_all()
            return
        if failure is not None:
            _fail(batch.requests, _told_of(failure, run, now_ns))
        self._scheduler.ended(batch, now_ns)
        self._came_back(batch.requests)

    def _offer(self, request: Request, now_ns: int) -> bool:
        accepted = self._scheduler.offer(request, now_ns)
        self._waiting += accepted
        self._gather()
        if self._workers and accepted:
            self._lock.notify()
            self._preempt(now_ns)
        return accepted

    def _measure_again(self, request: Request | None, now_ns: int) -> None:
        """Run what only measures, if there is time for it."""
        if request is not None and not self._offer(request, now_ns):
            self._again.gave_up(request, now_ns)

    def _came_back(self, requests: list[Request]) -> None:
        own = [request for request in requests if request.tag is self._again]
        if not own:
            self._ended += requests
            self._tell()
            return
        if len(own) < len(requests):
            self._ended.extend(request for request in requests if request not in own)
            self._tell()
        now_ns = self._now_ns()
        for request in own:
            self._measure_again(self._again.took(request, now_ns), now_ns)

    def _preempt(self, now_ns: int) -> None:
        while (worker := self._scheduler.preempt(now_ns)) is not None:
            run = self._watch.current[worker]
            if run is not None:
                run.unwanted = True
                run.binding.cancel()

    def _gather(self) -> None:
        """Take what the scheduler has given up."""
        dropped = self._scheduler.dropped()
        if dropped:
            self._waiting -= len(dropped)
            self._came_back(dropped)

    def _tell(self) -> None:
        if self.fd is not None and not self._told:
            self._told = True
            os.eventfd_write(self.fd, 1)

    def _learn(self) -> None:
        """Let what was run directly count too, when there is time for it."""
        while self._judged:
            self._costs.add(*self._one_judged())

    def _one_judged(self) -> tuple[str, int, int]:
        key, took_ns = self._judged.popleft()
        return key, 1, took_ns

    def _cost_ns(self, key: str, batch: int) -> int:
        with self._lock:
            return self._costs.cost_ns(key, batch)


def _run(binding: ModelBinding, batch: Batch, run: Run) -> Exception | None:
    """Run a batch; returns what went wrong."""
    if run.unwanted:
        return ModelError("the run was cancelled before it began", code=CANCELLED)
    failure = _failure_of(lambda: binding.run(batch.requests))
    if run.until_ns is None and _is_cancelled(failure) and not run.was_cancelled:
        # Nobody has cancelled this one: the word was meant for the run before, which ended at that moment.
        failure = _failure_of(lambda: binding.run(batch.requests))
    return failure


def _failure_of(run: Callable[[], None]) -> Exception | None:
    try:
        run()
    except Exception as exc:  # noqa: BLE001 - a backend may be anybody's
        return exc
    return None


def _is_cancelled(failure: Exception | None) -> bool:
    return getattr(failure, "code", "") == CANCELLED


def _fail(requests: list[Request], failure: ModelError) -> None:
    for request in requests:
        request.fate, request.code, request.reason = Fate.FAILED, failure.code, str(failure)
        request.answers = {}


def _told_of(failure: Exception, run: Run, now_ns: int) -> ModelError:
    """Return a failure as it is told to the asker."""
    took_ms = (now_ns - run.started_ns) / 1e6
    if run.overran:
        return ModelError(
            f"the run was cancelled after {took_ms:.0f} ms: it may not take so long", code="M541"
        )
    if isinstance(failure, ModelError):
        return failure
    return ModelError(f"the backend failed: {failure!r}", code="M532")


def _nobody(_: Hung) -> None:
    """The log says it already."""
