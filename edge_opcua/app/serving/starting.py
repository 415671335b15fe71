"""Starts a process for the pipelines of a group and waits until it says which of their models are fit."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from edge_opcua.app.processes import ChildProcess, exit_text
from edge_opcua.app.serving.choices import ModelChoice, choices_text
from edge_opcua.core.control import Reply
from edge_opcua.core.process import EXIT_FAILED
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent

END_S: Final = 1.5
START_S: Final = 10.0  # beside the time that the models themselves may take
DEFAULT_CODE: Final = "M500"
NO_MEMORY: Final = frozenset({"M580", "M581"})

_log = structlog.get_logger(__name__)

Progress = Callable[[JobEvent], Awaitable[None]]


class LaneHost(Protocol):
    """What the keepers of lanes need of the supervisor."""

    async def loading(self, models: Mapping[str, ModelChoice]) -> None:
        """Write down that models are going to be loaded, before they are."""
        ...

    def lane_ended(self, models: Mapping[str, ModelChoice], how: str) -> None:
        """Take note that an active lane process has ended by itself."""
        ...

    def standby_changed(self) -> None:
        """Take note that another process stands by now, or none."""
        ...

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

    def measured(self, models: Mapping[str, ModelChoice], facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what a process has measured of its models, by pipeline."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model is not fit.

    Args:
        code: Stable code.
        reason: For people.
    """

    code: str
    reason: str

    def error(self) -> ModelError:
        """Return it as an exception."""
        return ModelError(self.reason, code=self.code)


@dataclass(slots=True, eq=False)
class LaneProcess:
    """A process that has said which of its models are fit.

    Args:
        child: The process.
        models: What it judges with, by pipeline; those that are not fit are left out.
        facts: What it has measured of each of them.
        refused: Why the others are not fit.
        since_s: When it was ready, monotonic.
        stale: Whether it runs something else than what is wanted now, and is to be replaced.
        watched: Whether somebody notices when it ends.
    """

    child: ChildProcess
    models: dict[str, ModelChoice]
    facts: dict[str, dict[str, Any]]
    refused: dict[str, Refusal]
    since_s: float = 0.0
    stale: bool = False
    watched: bool = False

    @property
    def role(self) -> str:
        """Its name on the control channel."""
        return self.child.role


class NotReadyError(ModelError):
    """A lane process ended, or had to be ended, before it said anything about its models.

    Attributes:
        perhaps_model: Whether a model may have done it: a signal or a time-out. What ends in an orderly way
            is a fault of ours or of the installation, e.g. while it is being renewed.
    """

    perhaps_model = True


@dataclass(slots=True)
class _Expected:
    """A process that has been started and has not answered yet."""

    answer: asyncio.Future[tuple[str, dict[str, Any]]]
    loaded: asyncio.Event = field(default_factory=asyncio.Event)


class LaneStarter:
    """Starts the processes of one group.

    Args:
        group: Name of the group.
        host: The supervisor.
    """

    def __init__(self, group: str, host: LaneHost) -> None:
        self._group = group
        self._host = host
        self._numbers = itertools.count(1)
        self._expected: dict[str, _Expected] = {}

    def on_notice(self, role: str, kind: str, body: dict[str, Any]) -> None:
        """Take a process's ``loaded``, ``ready`` or ``refused``; others of the supervisor pass by."""
        expected = self._expected.get(role)
        if expected is None or expected.answer.done():
            return
        if kind == "loaded":
            expected.loaded.set()
        else:
            expected.answer.set_result((kind, body))

    async def prepare(
        self, models: Mapping[str, ModelChoice], *, within_s: float, progress: Progress | None = None
    ) -> LaneProcess:
        """Start a process that has loaded, warmed and validated its models, and is not active yet.

        Args:
            models: What it shall judge with, by pipeline.
            within_s: Longest time the models may take, seconds.
            progress: Told when they are loaded.

        Returns:
            The process; one of whose models none is fit has been ended already.

        Raises:
            NotReadyError: It ended, or took too long.
            OSError: No process can be started.
        """
        role = f"lane/{self._group}/{next(self._numbers)}"
        expected = self._expected[role] = _Expected(asyncio.get_running_loop().create_future())
        try:
            await self._host.loading(models)
            child = await self._host.start(role, f"--group={self._group}", f"--models={choices_text(models)}")
            kind, body = await self._answer(child, expected, START_S + within_s, progress)
        finally:
            del self._expected[role]
        found = _process(child, models, kind, body)
        if not found.models:
            await self.discard(child)
        for name, facts in found.facts.items():
            choice = found.models[name]
            shown = {
                key: value for key, value in facts.items() if isinstance(value, bool | int | float | str)
            }
            _log.info("lane.ready", pipeline=name, model=choice.name, version=choice.version, **shown)
        self._host.measured(found.models, found.facts)
        return found

    async def discard(self, child: ChildProcess) -> None:
        """End a process that is not needed, or not any more."""
        self._host.disconnect(child.role)
        await child.end(grace_s=END_S)

    async def _answer(
        self, child: ChildProcess, expected: _Expected, within_s: float, progress: Progress | None
    ) -> tuple[str, dict[str, Any]]:
        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
                watch = group.create_task(_fail_if_ended(child, expected), name=f"{child.role}.watch")
                loaded = group.create_task(_tell_loaded(expected, progress), name=f"{child.role}.loaded")
                answer = await expected.answer
                loaded.cancel()
                watch.cancel()
        except asyncio.CancelledError:
            child.kill()
            self._host.disconnect(child.role)
            raise
        except TimeoutError:
            await self.discard(child)
            raise NotReadyError(f"it was not ready in {within_s:g} s", code="M530") from None
        except BaseExceptionGroup as exc:
            await self.discard(child)
            foreseen, others = exc.split(NotReadyError)
            if others is not None or foreseen is None:
                raise
            raise foreseen.exceptions[0] from None
        return answer


async def _fail_if_ended(child: ChildProcess, expected: _Expected) -> None:
    code = await child.wait()
    if not expected.answer.done():
        text = f"the lane process ended before it was ready: {exit_text(code)}"
        failure = NotReadyError(text, code="M530")
        failure.perhaps_model = code != EXIT_FAILED
        expected.answer.set_exception(failure)


async def _tell_loaded(expected: _Expected, progress: Progress | None) -> None:
    await expected.loaded.wait()
    if progress is not None:
        await progress(JobEvent.LOADED)


def _process(
    child: ChildProcess, models: Mapping[str, ModelChoice], kind: str, body: Mapping[str, Any]
) -> LaneProcess:
    """Read what a process says of its models; one that it does not mention is not fit."""
    fit = body.get("pipelines") if kind == "ready" else {}
    facts = {name: dict(fit[name]) for name in models if isinstance(fit, dict) and name in fit}
    told = body.get("refused")
    reasons = told if isinstance(told, dict) else {}
    refused = {name: _refusal(reasons.get(name, body)) for name in models if name not in facts}
    return LaneProcess(child, {name: models[name] for name in facts}, facts, refused)


def _refusal(row: Mapping[str, Any]) -> Refusal:
    return Refusal(str(row.get("code", DEFAULT_CODE)), str(row.get("reason", "the lane does not say why")))


def require_fit(lane: LaneProcess, changes: Collection[str]) -> None:
    """Refuse a process in which one of the changed models is not fit; ModelError says why."""
    for name in changes:
        if name in lane.refused:
            raise lane.refused[name].error()


def left_out(lane: LaneProcess, formers: Iterable[LaneProcess]) -> list[str]:
    """Return the pipelines that would not be served any more if a process took over."""
    return [name for former in formers for name in former.models if name not in lane.models]


def lacks_memory(lane: LaneProcess, gone: Sequence[str]) -> bool:
    """Whether it is only for want of memory that pipelines would not be served any more."""
    codes = {lane.refused[name].code if name in lane.refused else "" for name in gone}
    return bool(codes) and codes <= NO_MEMORY


def in_the_way(lane: LaneProcess, gone: Iterable[str]) -> ModelError:
    """Return why a new process may not take over although its model is fit."""
    for name in gone:
        if name in lane.refused:
            refusal = lane.refused[name]
            text = f"{name} could not be served any more beside it: {refusal.code}: {refusal.reason}"
            return ModelError(text, code="M597")
    return ModelError("the processes of its group were changed meanwhile; try again", code="M531")
