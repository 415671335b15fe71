"""What a result of a pipeline means for a PLC: whether it may rule, its code, and its values as numbers."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.eai import ResultCode
from edge_opcua.config.outputs import Source
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.values import (
    BAD_INTERNAL_ERROR,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBNORMAL,
    Link,
    Verdict,
    is_bad,
    is_good,
    status_name,
)
from edge_opcua.writeback.faults import Result

_LARGEST_REAL: Final = 3e38
_MOST_MS: Final = 65_535
_KNOWN: Final = (Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE)
_CODES: Final = {
    BAD_TIMEOUT: ResultCode.TIMEOUT,
    UNCERTAIN_LAST_USABLE: ResultCode.TIMEOUT,  # judged, but late
    BAD_INTERNAL_ERROR: ResultCode.MODEL_ERROR,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One result.

    Args:
        number: Grows with each result.
        at_ns: Monotonic time at which it was published.
        cycle: Machine cycle it is about, 0 if it is about none.
        verdict: Judgement to pass on; the fail-safe one where there is none.
        code: Its reason.
        usable: Whether it may rule at all: not Bad, not late, not a substitute, a number.
        reason: Why it may not.
        degraded: Whether some inputs were Uncertain.
        numbers: Its other values; None where one is Bad or no number.
        model: Name of the model.
        model_version: Its version.
        inference_ms: Time it took.
    """

    number: int
    at_ns: int
    cycle: int
    verdict: Verdict
    code: ResultCode
    usable: bool
    reason: str
    degraded: bool
    numbers: dict[Source, float | None]
    model: str
    model_version: int
    inference_ms: float

    @property
    def result(self) -> Result:
        """What the decision about authority needs."""
        return Result(self.number, self.usable, self.reason, self.at_ns)

    @property
    def model_id(self) -> int:
        """16 bits of a hash of the model's name."""
        return zlib.crc32(self.model.encode()) & 0xFFFF

    @property
    def whole_ms(self) -> int:
        """Time it took, rounded up to what fits a word."""
        return min(_MOST_MS, max(0, math.ceil(self.inference_ms)))

    def value(self, source: Source) -> float | None:
        """Return one of its values as a number; None if there is none."""
        return float(self.verdict) if source == "verdict" else self.numbers[source]


def read_judged(batch: TagBatch | None, safe_verdict: Verdict) -> Judged | None:
    """Return the result that a batch of the result block holds; None before the first.

    A result from Uncertain inputs is passed on as the fail-safe verdict; one that is Bad, late or a
    substitute takes authority away.
    """
    if batch is None or batch.value(batch.row("result_id")) == 0:
        return None
    status = int(batch.status[batch.row("verdict")])
    judgement = _whole(batch, "verdict")
    late = bool(batch.value(batch.row("fail_safe_active")))
    linked = batch.link is Link.UP
    degraded = status == UNCERTAIN_SUBNORMAL and not late and linked
    there = degraded or (is_good(status) and not late and linked and judgement in _KNOWN)
    numbers: dict[Source, float | None] = {
        "score": _number(batch, "score"),
        "confidence": _number(batch, "confidence"),
        "cycle": _number(batch, "stroke"),
        "part_id": _number(batch, "part_id"),
    }
    score_status = int(batch.status[batch.row("score")])
    # What is no number although it is called Good must not reach a PLC.
    usable = there and (is_bad(score_status) or numbers["score"] is not None)
    reason = ""
    if not there:
        reason = batch.text(batch.row("reason")) or f"the newest result is {status_name(status)}"
    elif not usable:
        reason = "the newest score is no number"
    return Judged(
        number=_whole(batch, "result_id"),
        at_ns=batch.stamp_ns,
        cycle=round(numbers["cycle"] or 0),
        verdict=Verdict(judgement) if usable and not degraded else safe_verdict,
        code=_code(judgement, score_status, usable=usable, degraded=degraded),
        usable=usable,
        reason=reason,
        degraded=degraded,
        numbers=numbers,
        model=batch.text(batch.row("model_name")),
        model_version=_whole(batch, "model_version"),
        inference_ms=_number(batch, "infer_ms") or 0.0,
    )


def cycle_of(capture: TagBatch) -> int:
    """Return the machine cycle of a capture: its stroke, or the number that grows with each."""
    rows = capture.layout.rows
    row = rows.get("stroke", rows["sequence"])
    value = capture.value(row)
    return 0 if is_bad(int(capture.status[row])) or not isinstance(value, int) else value & 0xFFFF_FFFF


def _code(judgement: int, score_status: int, *, usable: bool, degraded: bool) -> ResultCode:
    """Return why a result is what it is; a model that never learned such a stroke gives no score."""
    if not usable:
        return _CODES.get(score_status & 0xFFFF0000, ResultCode.INPUT_BAD)
    if degraded:
        return ResultCode.INPUT_BAD
    if judgement != Verdict.NOT_DECIDABLE:
        return ResultCode.OK
    if score_status == BAD_OUT_OF_RANGE:
        return ResultCode.OUT_OF_TRAINING_RANGE
    return ResultCode.LOW_CONFIDENCE


def _number(batch: TagBatch, name: str) -> float | None:
    """Return a row as a number that a REAL can hold, or None."""
    row = batch.row(name)
    value = batch.value(row)
    if is_bad(int(batch.status[row])) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST_REAL else None


def _whole(batch: TagBatch, name: str) -> int:
    value = batch.value(batch.row(name))
    assert isinstance(value, int)
    return value
