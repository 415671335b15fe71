"""The running model answers its reference samples again: what it gave when it was loaded, it must give now.

A sample runs as best effort through the same engine as everybody's, in a quiet moment: just after a capture,
when the next one is not due for several times what a run takes. In a group of safety lanes, whose models run
at once, a sample that has no quiet moment waits for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.golden import compare, read_golden
from edge_opcua.inference.manifest import Golden
from edge_opcua.inference.model import ServedModel
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from edge_opcua.inference.surroundings import NOT_THE_MODEL
from edge_opcua.inference.watch.findings import Finding

MOST: Final = 32
"""Reference samples that are run again; of more than that, some that lie evenly among them."""
LOWEST: Final = 9

_PATIENCE_NS: Final = 30_000_000_000
_FIRST_S: Final = 5.0
_SOON_S: Final = 10.0
"""Pause at most before all samples are run again after one was off."""
_ROOM: Final = 4
"""Times what a run takes must fit before the next capture."""
_SHORT: Final = 0.05
"""Share of the deadline that a run may take at any moment: nobody notices."""
_WRONG: Final = 2
"""Times in a row that a sample must be off."""

Floats = npt.NDArray[np.float32]


class Engine(Protocol):
    """What runs the samples; :class:`edge_opcua.inference.engine.Engine` is one."""

    def submit(self, request: Request) -> bool:
        """Take a request in, or refuse it at once."""
        ...

    def judge(self, request: Request) -> None:
        """Run one request now."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Samples with the answers they had where the model was trained.

    Args:
        model: Key of the loaded model.
        rows: The samples, shape ``(n, k)``.
        answers: By output of the model, shape ``(n, size)`` each.
        labels: What the values of each output are called.
        golden: How far an answer may be off.
        numbers: Number of each sample in the file.
    """

    model: str
    rows: Floats
    answers: Mapping[str, Floats]
    labels: Mapping[str, tuple[str, ...]]
    golden: Golden
    numbers: tuple[int, ...]


def references_of(model: ServedModel, golden: Path) -> References:
    """Read the reference samples of a model that was proven on them.

    Raises:
        ModelError: They are missing (M507) or unreadable (M513).
    """
    manifest = model.manifest
    samples = read_golden(golden, manifest, model.outputs)
    count = len(samples["features"])
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int))
    answers, labels = {}, {}
    for output in model.outputs:
        answers[output.name] = samples[output.role][chosen].reshape(len(chosen), -1).astype(np.float32)
        same = output.size == len(manifest.names) > 1
        names = manifest.names if same else tuple(str(place) for place in range(output.size))
        labels[output.name] = (
            (output.role,) if output.size == 1 else tuple(f"{output.role} {name}" for name in names)
        )
    rows = samples["features"][chosen].astype(np.float32)
    return References(model.key, rows, answers, labels, manifest.golden.of_answers, tuple(chosen.tolist()))


class ReferenceCheck:
    """Runs the reference samples of one model again and again.

    Args:
        references: The samples.
        engine: Runs them.
        clock: For when.
        lane: Class of the lane; a safety lane's run at once.
        every_s: Time between two rounds, s; 0: never.
        deadline_ms: Longest time to a verdict of the lane.
        cost_us: What a run takes, µs.

    Attributes:
        checked_ns: When the last round was complete, ns UTC; 0 before the first.
        is_ok: Whether all of its samples had the right answers.
    """

    def __init__(
        self,
        references: References,
        engine: Engine,
        clock: Clock,
        *,
        lane: LaneClass,
        every_s: float,
        deadline_ms: float,
        cost_us: float,
    ) -> None:
        self.checked_ns = 0
        self.is_ok = True
        self._references = references
        self._engine = engine
        self._clock = clock
        self._lane = lane
        self._every_s = every_s
        self._deadline_s = deadline_ms / 1e3
        self._cost_s = cost_us / 1e6
        self._due_ns = clock.monotonic_ns() + round(min(_FIRST_S, every_s) * 1e9)
        self._next = 0
        self._asked = False
        self._off = 0
        self._why = ""

    def tick(self, since_s: float, gap_s: float) -> None:
        """Run the next sample if it is due and this is a quiet moment.

        Args:
            since_s: Time since the last capture, s; inf if there was none.
            gap_s: Shortest usual time between two captures, s; NaN if that is not known.
        """
        now_ns = self._clock.monotonic_ns()
        if not self._every_s or self._asked or now_ns < self._due_ns or not self._is_quiet(since_s, gap_s):
            return
        request = Request(
            self._references.model,
            LaneClass.BEST_EFFORT,
            now_ns,
            now_ns + _PATIENCE_NS,
            self._references.rows[self._next],
            priority=LOWEST,
            tag=_Tag(self),
        )
        if self._lane is LaneClass.SAFETY:
            self._engine.judge(request)
            self.finish(request)
        else:
            self._asked = True
            if not self._engine.submit(request):
                self.finish(request)

    def finding(self) -> Finding | None:
        """Return that answers are not what they were, if they are not."""
        if self.is_ok:
            return None
        return Finding("reference", self._why, float(self._off), float(_WRONG))

    def finish(self, request: Request) -> None:
        """Take what has become of a sample."""
        self._asked = False
        prevented = request.fate is Fate.FAILED and request.code in NOT_THE_MODEL
        if prevented or request.fate in (Fate.REJECTED, Fate.SHED, Fate.EXPIRED):
            self._due_ns = self._clock.monotonic_ns() + round(_SOON_S * 1e9)  # it cannot be run now
            return
        wrong = self._wrong(request)
        if wrong:
            self._off, self._why = self._off + 1, wrong
            if self._off < _WRONG:
                return  # the same sample again
            self.is_ok = False
            self._end_round(min(_SOON_S, self._every_s))
            return
        self._off = 0
        self._next += 1
        if self._next == len(self._references.rows):
            self.is_ok = True
            self._end_round(self._every_s)

    def _wrong(self, request: Request) -> str:
        """Return what is wrong with the answers; empty if nothing is."""
        references, at = self._references, self._next
        number = references.numbers[at]
        if request.fate is Fate.FAILED:
            return f"reference sample {number + 1} failed: {request.code}: {request.reason}"
        try:
            for name, wanted in references.answers.items():
                found = request.answers[name].reshape(-1)
                compare(number, references.labels[name], found, wanted[at], references.golden)
        except ModelError as exc:
            return str(exc)
        return ""

    def _end_round(self, pause_s: float) -> None:
        self.checked_ns = self._clock.utc_ns()
        self._due_ns = self._clock.monotonic_ns() + round(pause_s * 1e9)
        self._next = self._off = 0

    def _is_quiet(self, since_s: float, gap_s: float) -> bool:
        """Return whether a run of a sample delays nobody."""
        if self._cost_s <= _SHORT * self._deadline_s:
            return True
        if math.isnan(gap_s):
            return math.isinf(since_s)
        return since_s + _ROOM * self._cost_s < gap_s


class _Tag:
    """Hands a request back as lanes get theirs: ``request.tag.lane.finish(request)``."""

    __slots__ = ("lane",)

    def __init__(self, check: ReferenceCheck) -> None:
        self.lane = check


def off_samples(check: ReferenceCheck | None) -> Sequence[Finding]:
    """Return what a check has found, as a list."""
    found = None if check is None else check.finding()
    return () if found is None else (found,)
