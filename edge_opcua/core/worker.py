"""One own thread for what blocks: a device library, SQLite, a slow file system.

The shared default pool would let eight hung PLCs stop everything. Here each device has its thread, and
one that does not come back is abandoned and replaced, since a thread cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

MAX_ABANDONED: Final = 8

_log = structlog.get_logger(__name__)


class _Job:
    """One call on its way through the thread.

    Args:
        fn: What to run.
        thread: Where it runs.
        until_s: Loop time at which the thread counts as stuck in this job.
    """

    def __init__(self, fn: Callable[[], Any], thread: _Thread, until_s: float) -> None:
        self.thread = thread
        self.until_s = until_s
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.finished = asyncio.Event()
        self._fn = fn
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Call the function in the worker's thread and hand the outcome to the loop."""
        result, error = None, None
        try:
            result = self._context.run(self._fn)
        except BaseException as exc:  # noqa: BLE001 - whatever it is belongs to the caller, not to the thread
            error = exc
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            _log.debug("worker.result_unwanted", reason="the event loop is closed")

    def _settle(self, result: object, error: BaseException | None) -> None:
        self.finished.set()
        if self.future.done():  # timed out or cancelled in the meantime
            return
        if error is None:
            self.future.set_result(result)
        elif isinstance(error, StopIteration):  # a future cannot carry it
            wrapped = RuntimeError("the function raised StopIteration")
            wrapped.__cause__ = error
            self.future.set_exception(wrapped)
        else:
            self.future.set_exception(error)


class _Thread:
    """A daemon thread and its inbox of at most one job; it ends at None."""

    def __init__(self, name: str) -> None:
        self.inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (job := self.inbox.get()) is not None:
            job.run()
            del job  # hold no result or traceback while idle


class Worker:
    """Runs blocking calls one after the other, first come first served, in a thread of its own.

    A call beyond the first waits as a suspended caller with its timeout running; nothing else queues.

    Args:
        name: Name of the thread, e.g. ``press.s7``.

    Attributes:
        abandoned: Threads given up so far because a call did not come back in time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.abandoned = 0
        self._turn = asyncio.Lock()
        self._thread: _Thread | None = None
        self._running: _Job | None = None
        self._lost: list[_Thread] = []

    async def call(self, fn: Callable[[*_Ts], _T], *args: *_Ts, timeout_s: float) -> _T:
        """Run ``fn(*args)`` in the thread and return its result.

        A caller that is cancelled leaves at once; its call runs on and later calls wait behind it, so
        that no object is ever used by two threads. After a timeout the thread is given up together with
        whatever the function used: open a new connection, never go on with the old object.

        Args:
            fn: A function that may block.
            args: Its arguments.
            timeout_s: Longest time for turn, run and result together, in seconds.

        Raises:
            TimeoutError: No result in time, or :data:`MAX_ABANDONED` threads hang already.
        """
        until_s = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(until_s) as deadline, self._turn:
                if self._running is not None:
                    await self._running.finished.wait()
                job = _Job(lambda: fn(*args), self._ready_thread(), until_s)
                job.thread.inbox.put(job)
                self._running = job
                result: _T = await job.future
        except TimeoutError:
            if deadline.expired():  # and not a timeout that the function itself raised
                self._give_up_stuck_thread()
            raise
        return result

    def close(self) -> None:
        """Let the thread end after its present call; a later :meth:`call` starts a new one."""
        if self._thread is not None:
            self._thread.inbox.put(None)
            self._thread = None

    def _ready_thread(self) -> _Thread:
        self._lost = [lost for lost in self._lost if lost.thread.is_alive()]
        if len(self._lost) >= MAX_ABANDONED:
            raise TimeoutError(f"{self.name}: {len(self._lost)} calls never came back")
        if self._thread is None:
            self._thread = _Thread(self.name)
        return self._thread

    def _give_up_stuck_thread(self) -> None:
        stuck = self._running
        if stuck is None or stuck.finished.is_set():
            return
        if stuck.until_s > stuck.loop.time():  # somebody else's call, still in its time
            return
        self._running = None
        self._lost.append(stuck.thread)
        if self._thread is stuck.thread:
            self.close()
        self.abandoned += 1
        _log.warning("worker.abandoned", worker=self.name, abandoned=self.abandoned)
