"""One run from a model and samples to a report: make, taste, time, judge, choose; each step is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_opcua import __version__
from edge_opcua.app.command.model.card import utc_text
from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.gate import FOR_THE_REPORT
from edge_opcua.compress.options import Options
from edge_opcua.compress.report.pareto import with_front
from edge_opcua.compress.report.report import Report, Samples
from edge_opcua.compress.search.entering import Reach, reach_of
from edge_opcua.compress.search.journal import opened
from edge_opcua.compress.search.judging import (
    Judged,
    Tried,
    doubtful,
    judge,
    no_int8_is_proved,
    told,
    worth_a_closer_look,
)
from edge_opcua.compress.search.keeping import Keeper, version_of
from edge_opcua.compress.search.outcome import original_of, rows
from edge_opcua.compress.search.plan import Plan, Stages, Tasted, imagined
from edge_opcua.compress.search.preparing import Prepared, prepare
from edge_opcua.compress.search.progress import Pace, Watcher
from edge_opcua.compress.search.steps import Steps
from edge_opcua.compress.search.subject import Subject, open_subject
from edge_opcua.compress.variant import ORIGINAL, Made, Variant
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.statedir import default_state_dir
from edge_opcua.errors import ModelError
from edge_opcua.security.pki import write_atomic

REPORT_FILE: Final = "report.json"
_USUALLY_NEAR: Final = 2
"""How many variants are timed longer, by experience; for the time that a run will take."""
_READABLE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Searched:
    """A run that came to its end.

    Args:
        report: What came of it.
        subject: The model.
        gate: The samples that decided.
        work: Folder of the steps, with the files of the variants.
    """

    report: Report
    subject: Subject
    gate: Dataset
    work: Path


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be tried.

    Args:
        stages: Variants, stage by stage.
        nameable: Recipes that are tried only if somebody names them.
        refused: Families that can propose nothing for this model, and why.
    """

    stages: tuple[tuple[Variant, ...], ...]
    nameable: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def compress(
    model: Path | str,
    data: Path | str,
    options: Options | None = None,
    *,
    state_dir: Path | None = None,
    progress: Watcher | None = None,
    clock: Clock | None = None,
) -> Report:
    """Make a model smaller and faster, and prove on data that it is as good, or refuse.

    A run that was ended goes on where it was, if it is asked for the same again.

    Args:
        model: An .onnx file, a folder with model and manifest, or ``NAME/VERSION`` of the repository.
        data: Samples to judge with: ``.npz``, ``.csv``, or what ``edge-opcua model export-windows`` writes.
        options: How; see there.
        state_dir: Whose repository; None: the usual one.
        progress: Gets how far it is, and how long it will still take.
        clock: For times.

    Returns:
        Every variant that was tried, and the one that is chosen, if any is.

    Raises:
        ModelError: Wrong use (M682), the model or the data cannot be used, nothing is worth trying (M684), or
            the folder of the steps cannot be written (M681).
    """
    return search(
        model, data, options or Options(), state_dir=state_dir, progress=progress, clock=clock
    ).report


def search(
    model: Path | str,
    data: Path | str,
    options: Options,
    *,
    state_dir: Path | None = None,
    progress: Watcher | None = None,
    clock: Clock | None = None,
) -> Searched:
    """Do what :func:`compress` does, and return also what else somebody may want to do with it."""
    clock = clock or SystemClock()
    options.require_sound()
    subject = open_subject(model, state_dir or default_state_dir())
    pace = Pace(clock, progress)
    work = work_of(model, options)
    with opened(work) as journal:
        keeper = Keeper(journal, pace, input_name=subject.input_name, provider=options.provider)
        prepared = prepare(subject, Path(data), options)
        report = _Search(subject, prepared, options, keeper, pace, work).run(clock)
        write_atomic(work / REPORT_FILE, report.text().encode(), mode=_READABLE)
    return Searched(report, subject, prepared.gate, work)


def work_of(model: Path | str, options: Options) -> Path:
    """Return the folder where each step is kept."""
    if options.work is not None:
        return options.work
    target = Path(model)
    parts = target.resolve().parts if target.is_dir() else target.parts
    stem = Path(parts[-1]).stem if target.is_file() else "-".join(parts[-2:])
    return Path(f"{stem}.compress")


def plan_of(
    model: Path | str, data: Path | str, options: Options, *, state_dir: Path | None = None
) -> Planned:
    """Return what would be tried, stage by stage, if nothing does damage; nothing is made.

    Raises:
        ModelError: As :func:`compress`.
    """
    options.require_sound()
    subject = open_subject(model, state_dir or default_state_dir())
    prepared = prepare(subject, Path(data), options)
    plan = Plan(subject.path, prepared.kitchen, options)
    stages = tuple(map(tuple, imagined(plan, subject.path)))
    return Planned(stages, plan.nameable(), _refused(plan))


class _Search:
    """A run.

    Args:
        subject: The model.
        prepared: What there is to make variants with, and to judge them by.
        options: How.
        keeper: Keeps what was done.
        pace: Gets how far it is.
        work: Folder of the steps.
    """

    def __init__(
        self,
        subject: Subject,
        prepared: Prepared,
        options: Options,
        keeper: Keeper,
        pace: Pace,
        work: Path,
    ) -> None:
        self._subject = subject
        self._prepared = prepared
        self._options = options
        self._keeper = keeper
        self._pace = pace
        self._work = work
        self._steps = Steps(
            keeper,
            prepared.kitchen,
            prepared.gate,
            threads=options.threads,
            timing_s=options.timing_s,
            judged_by=prepared.judged_by,
        )
        self._reach = Reach()
        self._tried: list[Tried] = []
        self._looked_at: set[str] = set()
        self._made: dict[str, Made] = {ORIGINAL: self._steps.original}

    def run(self, clock: Clock) -> Report:
        """Try what the plan says, judge it, and choose."""
        self._foresee()
        same = self._steps.compare(self._steps.original, allowed=self._options.max_loss, level=FOR_THE_REPORT)
        self._reach = reach_of(same)
        plan = self._plan()
        self._follow(plan.stages())
        judged = self._judge()
        more = plan.rescue(no_int8_is_proved(self._tried, judged))
        if more:
            self._stage(more)
            judged = self._judge(judged)
        if not self._tried:
            raise ModelError("nothing is worth trying for this model with these families", code="M684")
        return self._report(judged, _refused(plan), clock)

    def _plan(self) -> Plan:
        return Plan(
            self._subject.path, self._prepared.kitchen, self._options, hopeless=self._reach.most_changed
        )

    def _foresee(self) -> None:
        self._pace.expect("answers", 2)  # of the original
        self._pace.expect("comparison")
        self._pace.expect("close timing", _USUALLY_NEAR)
        for stage in imagined(self._plan(), self._subject.path):
            for variant in stage:
                for kind in (variant.family, "answers", "timing", "answers", "comparison"):
                    self._pace.expect(kind)

    def _follow(self, stages: Stages) -> None:
        try:
            wanted = next(stages)
            while True:
                wanted = stages.send(self._stage(wanted))
        except StopIteration:
            return

    def _stage(self, variants: Sequence[Variant]) -> list[Tasted]:
        tried = [self._try(variant) for variant in variants]
        self._tried += tried
        return [each.tasted for each in tried]

    def _try(self, variant: Variant) -> Tried:
        """Make a variant, taste and time it; what cannot be made is told, and the search goes on."""
        if self._pace.spent_s > self._options.budget_s:
            over = f"not tried: the {self._options.budget_s:.0f} s that it may take were over"
            return Tried(Tasted(variant, refused=over), failure=over)
        try:
            made = self._steps.make(variant, self._made[variant.parent])
        except ModelError as exc:
            return Tried(Tasted(variant, refused=told(exc)), failure=told(exc))
        self._made[variant.name] = made
        try:
            damage = self._steps.taste(made)
            timing = self._steps.time(made)
        except ModelError as exc:
            return Tried(Tasted(variant, made, refused=told(exc)), failure=told(exc))
        return Tried(Tasted(variant, made, damage), timing)

    def _judge(self, before: Judged | None = None) -> Judged:
        """Ask the gate, and time those longer of which one is chosen: of the others a glance tells enough."""
        self._look_closer(doubtful(self._tried))
        judged = self._asked(before)
        while self._look_closer(worth_a_closer_look(self._tried, judged)):
            judged = self._asked(judged)
        return judged

    def _asked(self, before: Judged | None) -> Judged:
        return judge(self._steps, self._tried, allowed=self._options.max_loss, before=before)

    def _look_closer(self, names: set[str]) -> bool:
        """Time variants longer that were not yet; return whether there were any."""
        wanted = names - self._looked_at
        self._looked_at |= wanted
        self._tried = [self._timed(each) if each.name in wanted else each for each in self._tried]
        return bool(wanted)

    def _timed(self, tried: Tried) -> Tried:
        made = tried.tasted.made
        assert made is not None, "it was timed before"
        try:
            return replace(tried, timing=self._steps.time(made, closely=True))
        except ModelError as exc:
            return replace(tried, timing=None, failure=told(exc))

    def _report(self, judged: Judged, refused: tuple[str, ...], clock: Clock) -> Report:
        prepared, kitchen = self._prepared, self._prepared.kitchen
        return Report(
            original=original_of(self._steps, self._subject.name, self._tried),
            task=kitchen.task.name,
            outputs=tuple(kitchen.task.outputs),
            device=kitchen.device,
            runtime=f"onnxruntime {version_of('onnxruntime')}",
            threads=self._options.threads,
            program=__version__,
            seed=kitchen.seed,
            gate=self._samples(prepared.gate),
            calibration=self._samples(kitchen.calibration),
            training=None if kitchen.training is None else self._samples(kitchen.training),
            rows=with_front(rows(self._steps, self._tried, judged, self._work)),
            chosen=judged.choice.chosen,
            reasons=(judged.choice.text,),
            findings=(*prepared.findings, *refused, *([self._reach.note] if self._reach.note else [])),
            created=utc_text(clock.utc_ns()),
            took_s=self._pace.spent_s,
        )

    def _samples(self, data: Dataset) -> Samples:
        return Samples(len(data), data.origin, data.kind, self._keeper.digest(data))


def _refused(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{family}: {why}" for family, why in plan.refused.items())
