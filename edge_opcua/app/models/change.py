"""One change of a model over all groups it concerns: all of them or none, each step written down before.

A new version is loaded and proven in every group before it takes over in any; what had taken over is undone
if another group fails. Going back does not wait for a disk that is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.serving.candidate import Candidate, ShadowProgress, ShadowTerms
from edge_opcua.app.serving.starting import Progress
from edge_opcua.config.modelcare import ChangeConfig
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.lifecycle import Job, JobEvent
from edge_opcua.inference.shadow import Agreement

FAILURES: Final = (ModelError, OSError, TimeoutError)
"""What a change may end with; everything else is a fault of ours."""

_log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """Who keeps the lanes of a group."""

    @property
    def group(self) -> str:
        """Name of the group."""
        ...

    @property
    def choices(self) -> Mapping[str, ModelChoice]:
        """Which model each pipeline runs, or shall run."""
        ...

    async def prepare(self, changes: Mapping[str, ModelChoice], progress: Progress) -> Candidate:
        """Start a process with other models beside the one that judges, loaded and proven."""
        ...

    async def shadow(
        self, candidate: Candidate, terms: Mapping[str, ShadowTerms], progress: ShadowProgress
    ) -> Mapping[str, Agreement]:
        """Let it judge unseen; ModelError if it disagrees."""
        ...

    async def take_over(self, candidate: Candidate, *, keep_warm_s: float = ...) -> None:
        """Let it judge from now on; ModelError if it cannot, the former process goes on."""
        ...

    async def discard(self, candidate: Candidate) -> None:
        """End a process that shall not take over."""
        ...

    async def roll_back(
        self, changes: Mapping[str, ModelChoice], progress: Progress, *, keep_warm_s: float = ...
    ) -> bool:
        """Go back to former models, at once if their process stands by."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """The pipelines of a change that share a process.

    Args:
        keeper: Who keeps it.
        pipelines: Their names.
    """

    keeper: Keeper
    pipelines: tuple[str, ...]

    def before(self) -> dict[str, ModelChoice]:
        """Return what they run now."""
        return {name: self.keeper.choices[name] for name in self.pipelines}


@dataclass(slots=True)
class Loading:
    """A version on its way to the pipelines.

    Args:
        book: Where each step is written down.
        job: What was asked for.
        parts: The pipelines by group.
        choice: The verified version.
        care: How each pipeline changes its model.
        ordered: Where it was written down while no server ran.
        entry: The last step that was written down.
        before: What each pipeline ran when it began.
    """

    book: ModelBook
    job: Job
    parts: Sequence[Part]
    choice: ModelChoice
    care: Mapping[str, ChangeConfig]
    ordered: Entry | None = None
    entry: Entry | None = None
    before: dict[str, ModelChoice] = field(default_factory=dict)
    _ready: list[tuple[Part, Candidate]] = field(default_factory=list)
    _switched: list[Part] = field(default_factory=list)

    @property
    def terms(self) -> dict[str, ShadowTerms]:
        """What each pipeline has to show in shadow; those that need not are left out."""
        found = {}
        for name, care in self.care.items():
            captures = care.shadow if self.job.shadow is None else self.job.shadow
            if captures:
                found[name] = ShadowTerms(captures, care.shadow_s, care.agreement)
        return found

    async def begin(self) -> None:
        """Write down that it is going to be loaded.

        Raises:
            ModelError: That cannot be written (M632).
        """
        for part in self.parts:
            self.before |= part.before()
        entry = Entry(
            Kind.LOAD,
            Step.BEGUN,
            self.choice,
            dict(self.before),
            dict.fromkeys(self.before, self.choice),
            user=self.job.user,
            note=self.job.note,
            change=0 if self.ordered is None else self.ordered.change,
        )
        self.entry = await self.book.begin(entry)

    async def prepare(self, progress: Progress) -> None:
        """Load and prove it in every group; nobody notices.

        Raises:
            ModelError: It is not fit.
            OSError: No process can be started.
        """
        for part in self.parts:
            changes = dict.fromkeys(part.pipelines, self.choice)
            self._ready.append((part, await part.keeper.prepare(changes, progress)))
        await self._write(Step.PREPARED)

    @property
    def facts(self) -> dict[str, Mapping[str, Any]]:
        """What was measured of it while it was prepared, by pipeline."""
        names = self.job.pipelines
        return {
            name: facts
            for _, candidate in self._ready
            for name, facts in candidate.facts.items()
            if name in names
        }

    async def shadow(self, progress: ShadowProgress) -> None:
        """Let it judge beside the active one in every group that asks for it.

        Raises:
            ModelError: It may not take over.
        """
        terms = self.terms
        await self._write(Step.SHADOW)
        seen: dict[str, Agreement] = {}

        async def told(part: Mapping[str, Agreement]) -> None:
            seen.update(part)
            await progress(seen)

        async with asyncio.TaskGroup() as tasks:
            for part, candidate in self._ready:
                asked = {name: terms[name] for name in part.pipelines if name in terms}
                if asked:
                    tasks.create_task(_watched(part.keeper, candidate, asked, told), name="model.shadow")

    async def switch(self) -> None:
        """Let it take over in one group after the other.

        Raises:
            ModelError: It could not in one of them; :meth:`give_up` undoes the others.
        """
        await self._write(Step.ACTIVATING)
        for part, candidate in self._ready:
            warm_s = max(self.care[name].keep_warm_s for name in part.pipelines)
            await part.keeper.take_over(candidate, keep_warm_s=warm_s)
            self._switched.append(part)
        if self.entry is not None:
            self.entry = await self.book.note(self.entry, Step.ACTIVE)

    async def discard(self) -> None:
        """End what was prepared, e.g. because nobody wanted more than to know."""
        ready, self._ready = self._ready, []
        for part, candidate in ready:
            if part not in self._switched:
                await part.keeper.discard(candidate)

    async def give_up(self, why: str) -> str:
        """Undo whatever has happened.

        Returns:
            Why it failed, and where it could not be undone.
        """
        await self.discard()
        for part in self._switched:
            former = {name: self.before[name] for name in part.pipelines}
            try:
                await part.keeper.roll_back(former, _silent)
                why += f"; {part.keeper.group} was switched back"
            except FAILURES as exc:
                why += f"; {part.keeper.group} could not be switched back: {exc}"
                _log.error("models.not_switched_back", group=part.keeper.group, error=str(exc))
        if self.entry is not None:
            self.entry = await self.book.note(self.entry, Step.FAILED, why)
        return why

    async def _write(self, step: Step) -> None:
        if self.entry is not None:
            self.entry = await self.book.go_on(self.entry, step)


@dataclass(slots=True)
class Returning:
    """Pipelines on their way back to a former version.

    Args:
        book: Where each step is written down.
        job: What was asked for.
        parts: The pipelines by group.
        targets: Verified versions they go back to.
        before: What they run.
    """

    book: ModelBook
    job: Job
    parts: Sequence[Part]
    targets: Mapping[str, ModelChoice]
    before: Mapping[str, ModelChoice]
    _entry: Entry | None = None
    _back: list[Part] = field(default_factory=list)

    async def run(self, progress: Progress) -> None:
        """Go back in one group after the other.

        Raises:
            ModelError: One of them cannot; :meth:`give_up` undoes the others.
            OSError: No process can be started.
        """
        job, model = self.job, next(iter(self.before.values()))
        entry = Entry(
            Kind.ROLLBACK,
            Step.BEGUN,
            model,
            self.before,
            self.targets,
            user=job.user,
            note=job.note,
            why=job.because,
        )
        self._entry = await self.book.note(entry, Step.BEGUN, job.because)
        self._entry = await self.book.note(self._entry, Step.REVERTING, job.because)
        await progress(JobEvent.SWITCHING)
        for part in self.parts:
            await part.keeper.roll_back({name: self.targets[name] for name in part.pipelines}, progress)
            self._back.append(part)
        await self.book.note(self._entry, Step.REVERTED, job.because)

    async def give_up(self, why: str) -> str:
        """Undo whatever has happened; returns why it failed, and where it could not be undone."""
        for part in self._back:
            try:
                await part.keeper.roll_back({name: self.before[name] for name in part.pipelines}, _silent)
            except FAILURES as exc:
                why += f"; {part.keeper.group} went back all the same: {exc}"
        if self._entry is not None:
            await self.book.note(self._entry, Step.FAILED, why)
        return why


async def _watched(
    keeper: Keeper, candidate: Candidate, terms: Mapping[str, ShadowTerms], progress: ShadowProgress
) -> None:
    await keeper.shadow(candidate, terms, progress)


async def _silent(_: JobEvent) -> None:
    """Tell nobody."""


async def first_failure(doing: Awaitable[None]) -> None:
    """Wait for something that runs tasks, and raise the first foreseen failure of one of them as itself."""
    try:
        await doing
    except BaseExceptionGroup as exc:
        foreseen, others = exc.split(FAILURES)
        if others is not None or foreseen is None:
            raise
        raise _first(foreseen) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
