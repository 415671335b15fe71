"""Requests that run beside others: writes, calls and whatever takes longer than a slice.

They are tasks of their connection and end with it; a client may give them up (Cancel, Part 4 §5.7.5).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import structlog
from asyncua import ua
from asyncua.common.utils import NotEnoughData, ServiceError

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.session import Session, Turn
from edge_opcua.opcua.services.service import set_caller

# What a user asked for gets this long to be over before another takes his place.
SETTLE_S: Final = 5.0

_log = structlog.get_logger(__name__)


class Answer(Protocol):
    """Where an answer goes."""

    handle: int

    def send(self, response: Any) -> None:
        """Answer."""
        ...

    def fault(self, code: int) -> None:
        """Answer with a ServiceFault."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """A request that runs beside others.

    Args:
        session: Whose it is.
        way: Where its answer goes.
        size: How many bytes it was.
        turn: Its place in the order of writes, if it has one.
        task: What runs it.
        given_up: Whether its client cancelled it.
    """

    session: Session
    way: Answer
    size: int
    turn: Turn | None
    task: asyncio.Task[None] | None = None
    given_up: bool = False


class Jobs:
    """What runs for one connection beside the requests that it answers at once.

    Args:
        limits: How much may run, and for how long.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._tasks: asyncio.TaskGroup | None = None
        self._count = 0
        self._bytes = 0
        self._running: dict[int, set[Job]] = {}

    def run_in(self, tasks: asyncio.TaskGroup) -> None:
        """Say where they run; they end with it."""
        self._tasks = tasks

    def check_room(self, size: int) -> None:
        """Look whether one more request may run.

        Args:
            size: Its length in bytes.

        Raises:
            ServiceError: BadServerTooBusy.
        """
        limits = self._limits
        large = self._count and self._bytes + size > limits.in_flight_bytes
        if large or self._count >= limits.in_flight:
            raise ServiceError(ua.StatusCodes.BadServerTooBusy)

    def start(self, job: Job, work: Callable[[], Awaitable[Any]]) -> None:
        """Run a request; its answer goes its own way."""
        assert self._tasks is not None, "requests are read inside the task group"
        self._count += 1
        self._bytes += job.size
        self._running.setdefault(job.way.handle, set()).add(job)
        job.task = self._tasks.create_task(self._answer(job, work), name="opcua.request")
        # A callback, since a task that is cancelled before its first step never reaches a `finally`.
        job.task.add_done_callback(partial(self._done, job))

    def cancel(self, handle: int) -> int:
        """Cancel what runs under a RequestHandle; return how many (Part 4 §5.7.5)."""
        found = [job for job in self._running.get(handle, ()) if not job.given_up]
        for job in found:
            job.given_up = True
            if job.task is not None:
                job.task.cancel()
        return len(found)

    async def settle(self) -> None:
        """Let what the present user asked for come to its end, in his name and with his rights.

        Raises:
            ServiceError: BadInvalidState: it takes too long.
        """
        try:
            async with asyncio.timeout(SETTLE_S):
                while self._count:  # noqa: ASYNC110 - rare, and shorter than a change of users
                    await asyncio.sleep(0.005)
        except TimeoutError as exc:
            raise ServiceError(ua.StatusCodes.BadInvalidState) from exc

    def _done(self, job: Job, task: asyncio.Task[None]) -> None:
        self._count -= 1
        self._bytes -= job.size
        running = self._running[job.way.handle]
        running.discard(job)
        if not running:
            del self._running[job.way.handle]
        if job.turn is not None:
            job.turn.leave()
        if job.given_up and task.cancelled():
            job.way.fault(ua.StatusCodes.BadRequestCancelledByClient)

    async def _answer(self, job: Job, work: Callable[[], Awaitable[Any]]) -> None:
        set_caller(job.session)
        try:
            async with asyncio.timeout(self._limits.request_s):
                if job.turn is not None:
                    await job.turn.come()
                response = await work()
            job.way.send(response)
        except Exception as exc:  # noqa: BLE001 - boundary: a task that raised would end the connection
            code = status_of(exc)
            job.way.fault(reported(exc) if code is None else code)


def status_of(exc: Exception) -> int | None:
    """Return the StatusCode that tells a client what went wrong; None if nobody foresaw it."""
    if isinstance(exc, (ServiceError, ua.UaStatusCodeError)):
        return int(exc.code)
    if isinstance(exc, TimeoutError):
        return int(ua.StatusCodes.BadTimeout)
    if isinstance(exc, RecursionError):
        return int(ua.StatusCodes.BadEncodingLimitsExceeded)
    if isinstance(exc, (NotEnoughData, struct.error, UnicodeDecodeError)):
        return int(ua.StatusCodes.BadDecodingError)
    return None


def reported(exc: Exception) -> int:
    """Log what nobody foresaw, and return what the client is told of it."""
    _log.error("request.failed", error=repr(exc), exc_info=exc)
    return int(ua.StatusCodes.BadInternalError)
