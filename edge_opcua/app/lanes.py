"""Keeps one lane of a pipeline alive, and changes its model by a warm process without missing a capture."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog

from edge_opcua.app.choice import ModelChoice
from edge_opcua.app.processes import ChildProcess, exit_text
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply
from edge_opcua.core.values import is_good
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent

_log = structlog.get_logger(__name__)

PREPARE_S = 30.0
ANSWER_S = 5.0
END_S = 1.5
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 5.0


class LaneHost(Protocol):
    """What a keeper needs of the supervisor."""

    async def start(self, role: str, *arguments: str) -> ChildProcess:
        """Start a child and connect it to the control channel."""
        ...

    async def until_ended(self, child: ChildProcess) -> int:
        """Return the exit code of a child once it has ended; one that is frozen is killed."""
        ...

    def disconnect(self, role: str) -> None:
        """Forget a child that has ended."""
        ...

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        """Ask a child."""
        ...

    def recorded_cursor(self, pipeline: str) -> int | None:
        """Return the last capture a lane of this pipeline has dealt with, or None before the first."""
        ...

    def report_fault(self, source: str, code: str, text: str) -> None:
        """Tell people that something needs them."""
        ...

    def clear_fault(self, source: str) -> None:
        """Tell them that it is over."""
        ...


Progress = Callable[[JobEvent], Awaitable[None]]


class LaneKeeper:
    """The lane of one pipeline.

    Args:
        pipeline: Name of the pipeline.
        choice: Model to start with.
        host: The supervisor.
        clock: For the waits between restarts.
    """

    def __init__(self, pipeline: str, choice: ModelChoice, host: LaneHost, clock: Clock) -> None:
        self.pipeline = pipeline
        self.choice = choice
        self.restarts = 0
        self._host = host
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lane: ChildProcess | None = None
        self._handing_over = asyncio.Lock()
        self._ending = False
        self._ready: dict[str, asyncio.Future[dict[str, Any]]] = {}

    @property
    def pid(self) -> int | None:
        """Process id of the active lane."""
        return self._lane.pid if self._lane else None

    def on_notice(self, role: str, kind: str, body: dict[str, Any]) -> None:
        """Take a lane's ``ready`` or ``refused``."""
        waiting = self._ready.get(role)
        if waiting is None or waiting.done():
            return
        if kind == "ready":
            waiting.set_result(body)
        else:
            waiting.set_exception(ModelError(str(body.get("reason")), code=str(body.get("code", "M500"))))

    async def run(self) -> None:
        """Keep a lane active until :meth:`end`; one that ends by itself is started again where it stopped."""
        delay_s = FIRST_DELAY_S
        while not self._ending:
            started_s = self._clock.monotonic_s()
            try:
                if self._lane is None:
                    await self._start_lane()
                await self._until_ended()
            except ModelError as exc:
                self._host.report_fault(self.pipeline, exc.code, str(exc))
            except OSError as exc:  # no memory or no descriptor for a process: that may end
                self._host.report_fault(self.pipeline, "H651", f"no process can be started: {exc}")
            if self._clock.monotonic_s() - started_s > MAX_DELAY_S:
                delay_s = FIRST_DELAY_S
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)

    async def _start_lane(self) -> None:
        lane = await self._prepare(self.choice)
        async with self._handing_over:
            if self._lane is not None:  # a swap was quicker
                await self._discard(lane)
                return
            await self._activate(lane, self._host.recorded_cursor(self.pipeline))

    async def _until_ended(self) -> None:
        """Return when the active lane has ended by itself; a swap only changes which lane that is."""
        while (lane := self._lane) is not None:
            code = await self._host.until_ended(lane)
            async with self._handing_over:
                if self._lane is not lane:
                    continue
                self._lane = None
            self._host.disconnect(lane.role)
            self.restarts += 1
            _log.warning("lane.ended", pipeline=self.pipeline, pid=lane.pid, how=exit_text(code))

    async def swap(self, choice: ModelChoice, progress: Progress) -> None:
        """Change the model: start and validate a new process, hand over the cursor, end the old one.

        Args:
            choice: Model to change to.
            progress: Told when the new process is started, and when it is proven.

        Raises:
            ModelError: The new model is not fit; the old one goes on, or is started again.
        """
        await progress(JobEvent.STARTED)
        successor = await self._prepare(choice)
        await progress(JobEvent.READY)
        async with self._handing_over:
            former = self._lane
            cursor = await self._retire(former)
            try:
                await self._activate(successor, cursor)
            except ModelError:
                if former is not None:  # retired; ``run`` starts the old model again
                    await former.end(grace_s=END_S)
                raise
            self.choice = choice
        if former is not None:
            self._host.disconnect(former.role)
            await former.end(grace_s=END_S)

    async def _retire(self, lane: ChildProcess | None) -> int | None:
        """Stop a lane after the capture in hand and return the last one it dealt with."""
        if lane is not None:
            reply = await self._host.request(lane.role, "retire", {}, timeout_s=ANSWER_S)
            if is_good(reply.status):
                return int(reply.body["cursor"])
            lane.kill()  # frozen: it must not write its block once another does
            await lane.wait()
        return self._host.recorded_cursor(self.pipeline)

    async def end(self) -> None:
        """End the active lane, and start no other."""
        self._ending = True
        lane, self._lane = self._lane, None
        if lane is not None:
            await lane.end(grace_s=END_S)

    async def _prepare(self, choice: ModelChoice) -> ChildProcess:
        """Start a lane that has loaded, warmed and validated its model, and is not active yet."""
        role = f"lane/{self.pipeline}/{next(self._numbers)}"
        ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._ready[role] = ready
        lane = await self._host.start(role, f"--pipeline={self.pipeline}", *_arguments(choice))
        try:
            async with asyncio.timeout(PREPARE_S), asyncio.TaskGroup() as group:
                watch = group.create_task(self._fail_if_ended(lane, ready), name=f"{role}.watch")
                facts = await ready
                watch.cancel()
        except TimeoutError:
            await self._discard(lane)
            raise ModelError(
                f"{choice.name} {choice.version} was not ready in {PREPARE_S:g} s", code="M530"
            ) from None
        except BaseExceptionGroup as exc:
            await self._discard(lane)
            refusals, others = exc.split(ModelError)
            if others is not None or refusals is None:
                raise
            raise refusals.exceptions[0] from None
        finally:
            del self._ready[role]
        _log.info("lane.ready", pipeline=self.pipeline, model=choice.name, version=choice.version, **facts)
        return lane

    async def _fail_if_ended(self, lane: ChildProcess, ready: asyncio.Future[dict[str, Any]]) -> None:
        code = await lane.wait()
        if not ready.done():
            ready.set_exception(ModelError(f"the lane process ended before it was ready: {exit_text(code)}"))

    async def _activate(self, lane: ChildProcess, cursor: int | None) -> None:
        reply = await self._host.request(lane.role, "activate", {"cursor": cursor}, timeout_s=ANSWER_S)
        if not is_good(reply.status):
            await self._discard(lane)
            raise ModelError(f"the lane did not become active: {reply.reason}", code="M531")
        self._lane = lane
        self._host.clear_fault(self.pipeline)

    async def _discard(self, lane: ChildProcess) -> None:
        self._host.disconnect(lane.role)
        await lane.end(grace_s=END_S)


def _arguments(choice: ModelChoice) -> tuple[str, ...]:
    return (f"--model={choice.name}", f"--version={choice.version}", f"--sha256={choice.sha256}")
