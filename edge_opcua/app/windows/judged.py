"""What became of recorded windows: then, when they were judged, and now, by a model that judges them again.

Of each window some numbers are kept, never its samples, so a long history needs little memory.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.windows.replay import MODULE
from edge_opcua.core.values import Verdict, is_bad
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, ask_apart
from edge_opcua.inference.shadow import Agreement
from edge_opcua.records.window import Answer
from edge_opcua.records.windowlook import Found, Wanted, WindowLook

Progress = Callable[[int], None]
Whole = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NOBODY: Final = -1
ANSWERS: Final = tuple(Answer)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Verdicts on windows, one row for each.

    Args:
        verdict: Numbers of :class:`edge_opcua.core.values.Verdict`, shape ``(n,)``.
        decided: Where a model has decided, shape ``(n,)``.
        score: Scores, NaN without one, shape ``(n,)``.
        confidence: The same for how sure the model was.
        took_us: What features, run and judgement took; NaN where nobody measured it.
        outside: Number of the first feature or tag that the model must not judge, or -1.
        value: Its value; NaN without one.
    """

    verdict: npt.NDArray[np.int8]
    decided: Flags
    score: Real
    confidence: Real
    took_us: Real
    outside: npt.NDArray[np.int32]
    value: Real

    @classmethod
    def blank(cls, count: int) -> Verdicts:
        """Return as many verdicts that nobody has given."""
        return cls(
            np.zeros(count, np.int8),
            np.zeros(count, np.bool_),
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.full(count, -1, np.int32),
            np.full(count, np.nan),
        )

    @property
    def alarm(self) -> Flags:
        """Where a model has decided NotOk."""
        found: Flags = self.decided & (self.verdict == Verdict.NOT_OK)
        return found


@dataclass(frozen=True, slots=True)
class Recorded:
    """Windows that were recorded, without their samples.

    Args:
        pipeline: Of which pipeline.
        found: Which.
        ids: Their numbers in the store, shape ``(n,)``, growing.
        judged_ns: When, shape ``(n,)``, ns UTC.
        result_ids: Their results, shape ``(n,)``.
        answers: Place of the answer among :data:`ANSWERS`, -1 for none, shape ``(n,)``.
        then: What was decided then.
        models: How many of them were judged by which model, ``name/version``.
    """

    pipeline: str
    found: Found
    ids: Whole
    judged_ns: Whole
    result_ids: Whole
    answers: npt.NDArray[np.int8]
    then: Verdicts
    models: Counter[str]

    def __len__(self) -> int:
        return len(self.ids)

    def answered(self, *answers: Answer) -> Flags:
        """Return where somebody gave one of these answers, shape ``(n,)``."""
        places = [ANSWERS.index(answer) for answer in answers]
        return np.isin(self.answers, places)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A model that has judged recorded windows again.

    Args:
        model: ``name/version``.
        provider: What ran it.
        now: What it decided.
        features: Name, unit, low and high of its features, then of its tags; None for no limit.
        seen: Which of the windows it saw: some may have been deleted meanwhile.
        same: How many had the features that the lane had; of how many that can be said is ``comparable``.
        comparable: How many were judged by the same model then.
    """

    model: str
    provider: str
    now: Verdicts
    features: tuple[tuple[str, str, float | None, float | None], ...]
    seen: Flags
    same: int
    comparable: int


def recorded(look: WindowLook, wanted: Wanted) -> Recorded | None:
    """Read what was recorded, without samples; None if there is nothing.

    Raises:
        OSError: There are no windows, or they cannot be read.
    """
    found = look.find(wanted)
    if found is None:
        return None
    n = found.count
    ids, judged_ns, result_ids = (np.zeros(n, np.int64) for _ in range(3))
    answers, then, models = np.full(n, NOBODY, np.int8), Verdicts.blank(n), Counter[str]()
    place = 0
    for window in look.between(wanted, found.first_id, found.last_id):
        if place == n:
            break
        ids[place], judged_ns[place] = window.id, window.judged_ns
        result_ids[place] = window.result_id
        then.verdict[place] = window.verdict
        # A verdict that is held while an answer is late has no score of its own.
        decided = window.verdict in (Verdict.OK, Verdict.NOT_OK) and not is_bad(window.status)
        then.decided[place] = decided and not window.fail_safe
        then.score[place], then.confidence[place] = window.score, window.confidence
        if window.answer is not None:
            answers[place] = ANSWERS.index(window.answer)
        models[f"{window.model}/{window.version}" if window.model else "none"] += 1
        place += 1
    cut = slice(0, place)
    kept = Verdicts(*(getattr(then, each.name)[cut] for each in fields(Verdicts)))
    return Recorded(
        wanted.pipeline, found, ids[cut], judged_ns[cut], result_ids[cut], answers[cut], kept, models
    )


def replayed(
    past: Recorded, folder: Path, windows: Path, *, silent_s: float, progress: Progress = lambda _: None
) -> Replayed:
    """Let a model judge what was recorded, in a process of its own.

    Args:
        past: What was recorded.
        folder: Folder of the model.
        windows: The file of the windows.
        silent_s: Longest time without a word of the process: then it hangs, and is ended.
        progress: Gets how many windows it has judged.

    Raises:
        ModelError: It cannot be served, is none for these windows, crashed (M610) or hung (M611).
    """
    taking = _Taking(past, progress)
    request = {
        "folder": str(folder),
        "windows": str(windows.absolute()),
        "pipeline": past.pipeline,
        "first_id": int(past.ids[0]),
        "last_id": int(past.ids[-1]),
    }
    facts = ask_apart(MODULE, request, within_s=silent_s, progress=taking.step, while_it_tells=True)
    features = tuple((str(name), str(unit), low, high) for name, unit, low, high in facts["features"])
    return Replayed(
        str(facts["model"]),
        str(facts["provider"]).removesuffix("ExecutionProvider").lower(),
        taking.now,
        features,
        taking.seen,
        taking.same,
        taking.comparable,
    )


@dataclass(slots=True)
class _Taking:
    """Takes the lines of the process."""

    past: Recorded
    progress: Progress
    now: Verdicts = field(init=False)
    seen: Flags = field(init=False)
    same: int = 0
    comparable: int = 0
    _judged: int = 0

    def __post_init__(self) -> None:
        self.now = Verdicts.blank(len(self.past))
        self.seen = np.zeros(len(self.past), np.bool_)

    def step(self, step: Step) -> None:
        """Take one line; what is not understood is not counted."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            rows = step["rows"] if step["step"] == "judged" else []
            for row in rows:
                self._take(*row)
            self._judged += len(rows)
            self.progress(self._judged)

    def _take(self, number: int, verdict: int, decided: int, *more: Any) -> None:
        score, confidence, took_us, outside, value, same = more
        place = int(np.searchsorted(self.past.ids, number))
        if place == len(self.past) or self.past.ids[place] != number:
            return
        now = self.now
        now.verdict[place], now.decided[place] = verdict, bool(decided)
        now.score[place] = np.nan if score is None else score
        now.confidence[place] = np.nan if confidence is None else confidence
        now.took_us[place], now.outside[place] = took_us, outside
        now.value[place] = np.nan if value is None else value
        self.seen[place] = True
        self.same += same == 1
        self.comparable += same >= 0


def agreement(before: Verdicts, after: Verdicts, seen: Flags) -> Agreement:
    """Return how far two agree, as a shadow reports it.

    Args:
        before: What one decided.
        after: What the other decided.
        seen: Which windows are looked at, shape ``(n,)``.
    """
    both = before.decided & after.decided & seen
    same = both & (before.verdict == after.verdict)
    differences = np.abs(after.score - before.score)[both]
    differences = differences[np.isfinite(differences)]
    p50, p99 = np.percentile(differences, (50, 99)) if differences.size else (np.nan, np.nan)
    took = after.took_us[seen & np.isfinite(after.took_us)]
    return Agreement(
        wanted=int(seen.sum()),
        compared=int(both.sum()),
        agreed=int(same.sum()),
        undecided=int((seen & ~both).sum()),
        new_alarms=int((both & after.alarm & ~before.alarm).sum()),
        lost_alarms=int((both & before.alarm & ~after.alarm).sum()),
        score_difference_p50=float(p50),
        score_difference_p99=float(p99),
        p99_ms=float(np.percentile(took, 99)) / 1e3 if took.size else float("nan"),
        state="Compared",
    )


def disagreements(before: Verdicts, after: Verdicts, seen: Flags) -> Iterator[int]:
    """Yield the places of the windows on which two decided differently, the last one first."""
    both = before.decided & after.decided & seen & (before.verdict != after.verdict)
    yield from (int(place) for place in np.flatnonzero(both)[::-1])


def require_any(past: Recorded | None, wanted: Wanted, look: WindowLook) -> Recorded:
    """Return what was recorded.

    Raises:
        ModelError: There is nothing of that pipeline and time (M660).
    """
    if past is not None and len(past):
        return past
    raise nothing_there(wanted, look)


def nothing_there(wanted: Wanted, look: WindowLook) -> ModelError:
    """Return why there is nothing of what somebody wants (M660)."""
    known = look.pipelines()
    if wanted.pipeline not in known:
        there = f"there are windows of {', '.join(known)}" if known else "there are no windows at all"
        return ModelError(f"there are no windows of {wanted.pipeline}; {there}", code="M660")
    if wanted.answered and look.find(Wanted(wanted.pipeline, answered=True)) is None:
        todo = f"edge-opcua model answer {wanted.pipeline} lists what may be answered"
        return ModelError(f"no window of {wanted.pipeline} is answered; {todo}", code="M660")
    every = look.find(Wanted(wanted.pipeline))
    span = "" if every is None else f"; there are {every.count} of other times"
    which = "answered window" if wanted.answered else "window"
    return ModelError(f"no {which} of {wanted.pipeline} was judged in that time{span}", code="M660")
