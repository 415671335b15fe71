"""Jobs that change models: answered at once, done one after the other, every step told to those who watch.

A version that judges in shadow holds up nobody: meanwhile others are done. A later job for one of its
pipelines ends it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.models.change import FAILURES, Keeper, Loading, Part, Returning, first_failure
from edge_opcua.app.models.request import RequestError, parse
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, BAD_TOO_MANY_OPERATIONS, GOOD
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Step
from edge_opcua.inference.lifecycle import Job, JobEvent, JobKind
from edge_opcua.inference.shadow import Agreement

_log = structlog.get_logger(__name__)

MAX_WAITING: Final = 4
MOST_KNOWN: Final = 32
TOLD_EVERY_S: Final = 0.5
_FATAL: Final = frozenset({"M530", "M642"})
"""Codes of versions whose process did not end in order: that it was loaded is held against them."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """A job that is being done.

    Args:
        job: How far it is.
        ordered: Where it was written down while no server ran.
        loading: The version on its way, once it is.
        compared: Whether it has passed its shadow.
        superseded: Set when a later job takes its place.
        by: Number of that job.
        over: Set when nothing more happens to it.
    """

    job: Job
    ordered: Entry | None = None
    loading: Loading | None = None
    compared: bool = False
    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    by: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    told_s: float = 0.0


class ModelJobs:
    """Changes models on request.

    Args:
        config: Which pipeline runs which model.
        keeper_of: Returns who keeps the lane of a pipeline.
        book: Where each step is written down.
        tell: Gets the notice of every step.
        clock: For how often a shadow is told.

    Attributes:
        last: The notice of the last step, None before the first.
        changing: Held while a model is changed; who changes the configuration holds it as well.
    """

    def __init__(
        self,
        config: EdgeConfig,
        keeper_of: Callable[[str], Keeper],
        book: ModelBook,
        tell: Callable[[dict[str, Any]], None],
        clock: Clock,
    ) -> None:
        self._config = config
        self._keeper_of = keeper_of
        self._book = book
        self._tell = tell
        self._clock = clock
        self._numbers = itertools.count(1)
        self._waiting: deque[_Attempt] = deque()
        self._shadows: list[_Attempt] = []
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._arrived = asyncio.Event()
        self.last: dict[str, Any] | None = None
        self.changing = asyncio.Lock()

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config

    def submit(self, body: Mapping[str, Any], kind: JobKind = JobKind.LOAD) -> Reply:
        """Take a request and answer with its job; nothing has been done yet.

        Args:
            body: ``name``, ``version``, ``sha256`` (may be empty), ``pipelines``, ``shadow``, ``note`` and
                ``user``; of a roll-back ``name`` or ``pipeline``.
            kind: What is asked for.
        """
        try:
            job = parse(body, kind, self._config, self._book.active, self._running)
        except RequestError as exc:
            return Reply(exc.status, str(exc))
        waiting = sum(not attempt.compared for attempt in self._waiting)
        if waiting >= MAX_WAITING:
            return Reply(BAD_TOO_MANY_OPERATIONS, f"{MAX_WAITING} jobs wait already")
        return Reply(GOOD, "", {"job": self._put(job, urgent=False).number})

    def go_back(self, pipelines: tuple[str, ...], because: str) -> Job:
        """Let pipelines go back to their former version, before anything else that waits.

        Args:
            pipelines: Pipelines of one group that run the same version.
            because: Why.
        """
        running = self._running(pipelines[0])
        job = Job("", running.name, running.version, running.sha256, SERVER, JobKind.ROLLBACK, pipelines)
        return self._put(replace(job, because=because), urgent=True)

    def order(self) -> None:
        """Begin what was ordered while no server ran."""
        for entry in tuple(self._book.standing.open.values()):
            if entry.step is Step.ORDERED:
                there = [each.name for each in self._config.pipelines if each.model == entry.model.name]
                pipelines = tuple(name for name in there if name in entry.pipelines or not entry.pipelines)
                model = entry.model
                job = Job("", model.name, model.version, model.sha256, entry.user, pipelines=pipelines)
                self._put(replace(job, note=entry.note), urgent=False, ordered=entry)

    async def release(self, body: Mapping[str, Any]) -> Reply:
        """Take a version out of quarantine; durable when this returns."""
        name, version, user = body.get("name"), body.get("version"), str(body.get("user", ""))
        if not isinstance(name, str) or not isinstance(version, int):
            return Reply(BAD_INVALID_ARGUMENT, "a release takes a name and a version number")
        held = self._book.standing.quarantine_of(ModelChoice(name, version, ""))
        if held is None:
            return Reply(BAD_INVALID_STATE, f"{name[:80]} {version} is not in quarantine")
        await self._book.note(
            held.verdict(Step.RELEASED, user, str(body.get("note", ""))[:500]), Step.RELEASED
        )
        await self._book.lasted([held.model])
        _log.info("model.released", user=user, **held.model.as_json())
        return Reply(GOOD, "", {"name": name, "version": version})

    def notice(self, number: str) -> dict[str, Any] | None:
        """Return the last notice of a job; None if it is not known, or not any more."""
        return self._known.get(number)

    async def run(self) -> None:
        """Do the jobs, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    async with self.changing:
                        await self._do(self._waiting.popleft(), tasks)

    # --- one job -------------------------------------------------------------------------------------

    async def _do(self, attempt: _Attempt, tasks: asyncio.TaskGroup) -> None:
        """Do a job as far as it goes without waiting for captures."""
        try:
            if attempt.job.kind is JobKind.ROLLBACK:
                await self._go_back(attempt)
            elif attempt.compared:
                await self._switch(attempt)
            elif await self._prepare(attempt):
                self._shadows.append(attempt)
                tasks.create_task(self._compare(attempt), name=f"shadow.{attempt.job.number}")
        except FAILURES as exc:
            await self._fail(attempt, exc)

    async def _prepare(self, attempt: _Attempt) -> bool:
        """Load and prove a version, and let it take over; returns whether it has to judge in shadow first."""
        job = attempt.job
        if not job.pipelines:  # ordered for others than there are now
            raise ModelError(f"no pipeline runs {job.name} any more", code="M531")
        await self._end_others(job)
        parts = self._parts(job.pipelines)
        for name in job.pipelines:
            if self._config.pipeline(name).model != job.name:  # the configuration has changed meanwhile
                raise ModelError(f"{name} does not run {job.name} any more", code="M531")
        choice = await self._book.verify(ModelChoice(job.name, job.version, job.sha256))
        await self._book.require_fresh(choice, job.pipelines, self._clock.utc_ns())
        attempt.job = job = replace(job, sha256=choice.sha256)
        care = {name: self._config.pipeline(name).change for name in job.pipelines}
        attempt.loading = loading = Loading(self._book, job, parts, choice, care, attempt.ordered)

        async def progress(event: JobEvent) -> None:
            self._publish(attempt, event)

        if job.kind is JobKind.VALIDATE:
            await loading.prepare(progress)
            try:
                self._require_in_time(loading)
            finally:
                await loading.discard()
            await self._book.lasted([choice])
            self._end(attempt, JobEvent.VALIDATED)
            return False
        self._require_trust(choice)
        await loading.begin()
        attempt.job = replace(attempt.job, before=_versions(loading.before))
        await loading.prepare(progress)
        self._require_in_time(loading)
        if loading.terms:
            return True
        await self._switch(attempt)
        return False

    async def _compare(self, attempt: _Attempt) -> None:
        """Let a version judge in shadow; when it has passed, its job goes on in its turn."""
        assert attempt.loading is not None
        try:
            await first_failure(self._shadow(attempt, attempt.loading))
            if attempt.superseded.is_set():  # by whoever came in the moment in which it passed, and waits
                raise _taken_by(attempt)
        except FAILURES as exc:
            await self._fail(attempt, exc)
        else:
            attempt.compared = True
            self._waiting.append(attempt)
            self._arrived.set()
        finally:
            self._shadows.remove(attempt)

    async def _shadow(self, attempt: _Attempt, loading: Loading) -> None:
        async def progress(seen: Mapping[str, Agreement]) -> None:
            now_s = self._clock.monotonic_s()
            complete = all(each.is_complete for each in seen.values())
            if complete or now_s - attempt.told_s >= TOLD_EVERY_S:
                attempt.told_s = now_s
                self._publish(attempt, JobEvent.COMPARING, seen=_least(seen))

        wanted = max(terms.captures for terms in loading.terms.values())
        self._publish(attempt, JobEvent.COMPARING, seen=_least({"": Agreement(wanted=wanted)}))
        async with asyncio.TaskGroup() as tasks:
            superseded = tasks.create_task(_superseded(attempt), name="model.superseded")
            await loading.shadow(progress)
            superseded.cancel()

    async def _switch(self, attempt: _Attempt) -> None:
        assert attempt.loading is not None
        self._publish(attempt, JobEvent.SWITCHING)
        await attempt.loading.switch()
        attempt.job = replace(
            attempt.job, now=dict.fromkeys(attempt.loading.before, attempt.loading.choice.version)
        )
        self._end(attempt, JobEvent.ACTIVE)

    async def _go_back(self, attempt: _Attempt) -> None:
        job = attempt.job
        await self._end_others(job)
        parts = self._parts(job.pipelines)
        targets: dict[str, ModelChoice] = {}
        for name in job.pipelines:
            target = await self._book.way_back(name)
            if target is None:
                raise ModelError(f"{name} has no former version to go back to", code="M633")
            targets[name] = target
        before = {name: choice for part in parts for name, choice in part.before().items()}
        attempt.job = replace(job, before=_versions(before))
        returning = Returning(self._book, attempt.job, parts, targets, before)

        async def progress(event: JobEvent) -> None:
            self._publish(attempt, event)

        try:
            await returning.run(progress)
        except FAILURES as exc:
            raise ModelError(await returning.give_up(_text(exc)), code=_code(exc)) from exc
        attempt.job = replace(attempt.job, now=_versions(targets))
        self._end(attempt, JobEvent.ROLLED_BACK)

    async def _fail(self, attempt: _Attempt, exc: BaseException) -> None:
        why = _text(exc)
        if attempt.loading is None:
            if attempt.ordered is not None:
                await self._book.note(attempt.ordered, Step.FAILED, why)
        else:
            why = await attempt.loading.give_up(why)
            if _code(exc) not in _FATAL:
                await self._book.lasted([attempt.loading.choice])
        code = f"{_code(exc)}: " if _code(exc) else ""
        self._end(attempt, JobEvent.FAILED, f"{code}{why}")

    async def _end_others(self, job: Job) -> None:
        """End what judges in shadow for one of these pipelines, or has: whoever asks later wants another."""
        if job.kind is JobKind.VALIDATE:
            return
        passed = [attempt for attempt in self._waiting if attempt.compared]
        for other in (*self._shadows, *passed):
            if set(other.job.pipelines).isdisjoint(job.pipelines):
                continue
            other.by = job.number
            if other in self._waiting:  # it was compared with a version that is going to be left
                self._waiting.remove(other)
                await self._fail(other, _taken_by(other))
            else:
                other.superseded.set()
                await other.over.wait()

    def _require_trust(self, choice: ModelChoice) -> None:
        held = self._book.standing.quarantine_of(choice)
        if held is not None:
            raise ModelError(f"{choice.text} is in quarantine: {held.why}", code="M631")

    def _require_in_time(self, loading: Loading) -> None:
        """Refuse a version of which half the verdicts would be late.

        The median counts, other than for ``model add``: lanes that serve meanwhile disturb what is measured,
        and a version that is only late now and then goes back by itself.
        """
        for name, facts in loading.facts.items():
            pipeline = self._config.pipeline(name)
            taken_ms = float(facts["features_ns"]) / 1e6 + float(facts["p50_us"]) / 1e3
            if taken_ms > pipeline.deadline_ms:
                raise ModelError(
                    f"{name}: features and a run of {loading.choice.text} take {taken_ms:.3g} ms here "
                    f"(median), its deadline is {pipeline.deadline_ms:g} ms",
                    code="M613",
                )

    def _running(self, pipeline: str) -> ModelChoice:
        return self._keeper_of(pipeline).choices[pipeline]

    def _parts(self, pipelines: tuple[str, ...]) -> list[Part]:
        """Return the pipelines by who keeps their lanes: one process is changed once."""
        found: dict[str, tuple[Keeper, list[str]]] = {}
        for pipeline in pipelines:
            try:
                keeper = self._keeper_of(pipeline)
            except KeyError:  # the configuration has changed while the job waited
                raise ModelError(f"there is no pipeline {pipeline} any more", code="M531") from None
            found.setdefault(keeper.group, (keeper, []))[1].append(pipeline)
        return [Part(keeper, tuple(names)) for keeper, names in found.values()]

    # --- telling -------------------------------------------------------------------------------------

    def _put(self, job: Job, *, urgent: bool, ordered: Entry | None = None) -> Job:
        attempt = _Attempt(replace(job, number=f"job-{next(self._numbers)}"), ordered)
        if urgent:
            self._waiting.appendleft(attempt)
        else:
            self._waiting.append(attempt)
        self._arrived.set()
        self._show(attempt.job)
        return attempt.job

    def _publish(self, attempt: _Attempt, event: JobEvent, *, seen: Mapping[str, Any] | None = None) -> None:
        before, attempt.job = attempt.job.state, attempt.job.after(event, seen=seen)
        if attempt.job.state is not before or seen is not None:
            self._show(attempt.job)

    def _end(self, attempt: _Attempt, event: JobEvent, reason: str = "") -> None:
        attempt.job = attempt.job.after(event, reason)
        attempt.over.set()
        self._show(attempt.job)

    def _show(self, job: Job) -> None:
        self.last = self._known[job.number] = job.notice()
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        _log.info("job.changed", **self.last)
        self._tell(self.last)


async def _superseded(attempt: _Attempt) -> None:
    await attempt.superseded.wait()
    raise _taken_by(attempt)


def _taken_by(attempt: _Attempt) -> ModelError:
    return ModelError(f"{attempt.by} takes its place", code="M635")


def _versions(choices: Mapping[str, ModelChoice]) -> dict[str, int]:
    return {name: choice.version for name, choice in choices.items()}


def _least(seen: Mapping[str, Agreement]) -> dict[str, Any]:
    """Return the figures of the pipeline that is farthest from its end."""
    least = min(seen.values(), key=lambda each: (each.compared / max(1, each.wanted), each.agreement_low))
    agreement = least.agreement if least.compared else None
    low = least.agreement_low
    return {
        "compared": least.compared,
        "agreement": agreement,
        "agreement_low": low,
        "wanted": least.wanted,
    }


def _text(exc: BaseException) -> str:
    return str(exc) or "it took too long"


def _code(exc: BaseException) -> str:
    return exc.code if isinstance(exc, ModelError) else ""
