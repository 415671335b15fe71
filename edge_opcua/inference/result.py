"""What a lane found out about one stroke, and how it becomes rows with honest status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.values import (
    BAD_NOT_SUPPORTED,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Verdict,
    is_bad,
)
from edge_opcua.inference.judge import Judge, Judged
from edge_opcua.inference.manifest import Manifest

JUDGED: Final = ("score", "confidence", "contributions", "expected", "label")
"""Rows that come out of the model; null where there is no judgement."""

STROKE_ROWS: Final = ("stroke", "captured_ns", "acquire_ms", "queue_ms")
"""Rows that belong to one stroke; null where a result is about the loss of its source."""

Floats = npt.NDArray[np.float32]

_NO_ANSWERS: Final[Mapping[str, Floats]] = {}


@dataclass(frozen=True, slots=True)
class Variant:
    """A model as a result names it.

    Args:
        manifest: What it is.
        provider: What runs it.
        judge: Makes verdicts of its answers for this pipeline; None: the four answers and the limit do.
    """

    manifest: Manifest
    provider: str
    judge: Judge | None = None


@dataclass(slots=True)
class Result:
    """What a lane found out about one stroke, or about the loss of its source.

    Args:
        captured_ns: Time of the capture, ns UTC; of the loss, where ``stroke`` is None.
        stroke: Number of the stroke, None if this is about the loss of the source.
        part_id: Number of the part.
        part_status: Status of ``part_id``.
        features: What the model was given, shape ``(k,)``; None if there were no usable samples.
        answers: What it answered, by output.
        variant: Which model answered; None: that of the last result stays named.
        judged: What the answers mean, where the manifest declares that.
        batch: Samples of the run in which it answered; 0 if none did.
        verdict: The judgement, or the fail-safe verdict.
        status: Status of what comes out of the model.
        fail_safe: Whether ``verdict`` is the fail-safe one.
        last_usable: Whether ``verdict`` is all there is although it is late, or of an earlier stroke.
        verdict_ns: Time of the capture that ``verdict`` is about, if it is another one; ns UTC, else 0.
        reason: Why, for people.
        acquire_ms: From the capture to its batch on the bus.
        queue_ms: From the bus to the run: until the lane came to it, and until the model was free.
        infer_ms: Features, run and judgement.
        input_age_ms: Age of the oldest input when the verdict was there.
    """

    captured_ns: int
    stroke: int | None
    part_id: int = 0
    part_status: int = BAD_WAITING_FOR_INITIAL_DATA
    features: Floats | None = None
    answers: Mapping[str, Floats] = field(default_factory=lambda: _NO_ANSWERS)
    variant: Variant | None = None
    judged: Judged | None = None
    batch: int = 0
    verdict: Verdict = Verdict.UNDEFINED
    status: int = GOOD
    fail_safe: bool = False
    last_usable: bool = False
    verdict_ns: int = 0
    reason: str = ""
    acquire_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    input_age_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """From the capture to the verdict."""
        return self.acquire_ms + self.queue_ms + self.infer_ms

    @property
    def score(self) -> float | None:
        """What the model answered, or what it means; None without a judgement."""
        if is_bad(self.status) or not self.answers:
            return None
        return float(self.answers["score"][0]) if self.judged is None else self.judged.score

    @property
    def confidence(self) -> float | None:
        """How sure the model is; None without a judgement, or if it does not say."""
        if is_bad(self.status) or not self.answers:
            return None
        return float(self.answers["confidence"][0]) if self.judged is None else self.judged.confidence

    @property
    def label(self) -> str:
        """Which class it is; empty without a judgement, or if the model knows none."""
        return "" if self.judged is None or is_bad(self.status) else self.judged.label

    @property
    def verdict_status(self) -> int:
        """Status of the verdict; that a model was never shown such a stroke is a certain verdict."""
        if self.fail_safe:
            return UNCERTAIN_SUBSTITUTE
        if self.last_usable:
            return UNCERTAIN_LAST_USABLE
        return GOOD if is_bad(self.status) else self.status

    def fall_safe(self, verdict: Verdict, status: int, reason: str) -> None:
        """Give out the fail-safe verdict instead of a judgement."""
        self.verdict, self.fail_safe, self.last_usable = verdict, True, False
        self.status, self.reason = status, reason


class ResultWriter:
    """Writes results into their block.

    Args:
        writer: Writer of the result block.
        variant: The model that judges, until a result names another one.
        first_id: Identity of the first result if the block holds none yet.
    """

    def __init__(self, writer: BlockWriter, variant: Variant, first_id: int) -> None:
        self._writer = writer
        batch = writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        self._judged = [self._rows[name] for name in JUDGED]
        self._of_stroke = [self._rows[name] for name in STROKE_ROWS]
        self._room = batch.layout.spec.tags[self._rows["features"]].length
        self._next_id = int(self._last("result_id")) + 1 if writer.sequence else first_id
        self._described = variant
        self._describe(variant)

    @property
    def sequence(self) -> int:
        """Bus sequence of the last result, 0 if there is none."""
        return self._writer.sequence

    @property
    def about_loss(self) -> bool:
        """Whether the last result is about the loss of the source."""
        return bool(self._writer.sequence) and is_bad(int(self._writer.batch.status[self._rows["stroke"]]))

    def beat(self) -> None:
        """Say that the lane lives."""
        self._writer.beat()

    def publish(self, result: Result, server_ns: int) -> None:
        """Publish one result.

        Args:
            result: What was found out.
            server_ns: Time of publication, ns UTC.
        """
        batch, rows = self._writer.batch, self._rows
        batch.status[:] = GOOD
        batch.source_ns[:] = result.captured_ns
        batch.server_ns[:] = server_ns
        values: dict[str, bool | int | float | str] = {
            "verdict": int(result.verdict),
            "acquire_ms": result.acquire_ms,
            "queue_ms": result.queue_ms,
            "infer_ms": result.infer_ms,
            "total_ms": result.total_ms,
            "input_age_ms": result.input_age_ms,
            "fail_safe_active": result.fail_safe,
            "batch": result.batch,
            "reason": result.reason,
            "result_id": self._next_id,
            "part_id": result.part_id,
        }
        if result.stroke is not None:
            values["stroke"] = result.stroke
            values["captured_ns"] = result.captured_ns
        for name, value in values.items():
            batch.set(rows[name], value)
        if result.variant is not None and result.variant is not self._described:
            self._describe(result.variant)
        self._answers(batch, result)
        batch.status[rows["verdict"]] = result.verdict_status
        if result.verdict_ns:
            batch.source_ns[rows["verdict"]] = result.verdict_ns
        batch.status[rows["part_id"]] = result.part_status
        if result.stroke is None:
            batch.status[self._of_stroke] = result.status
        self._writer.publish()
        self._next_id += 1

    def _answers(self, batch: TagBatch, result: Result) -> None:
        rows = self._rows
        batch.status[self._judged] = result.status
        if not is_bad(result.status):
            if result.judged is not None:
                self._meaning(batch, result.judged)
            else:
                answers = result.answers
                batch.set(rows["score"], float(answers["score"][0]))
                batch.set(rows["confidence"], float(answers["confidence"][0]))
                self._set_array(batch, "contributions", answers["contributions"])
                self._set_array(batch, "expected", answers["expected"])
                batch.status[rows["label"]] = BAD_NOT_SUPPORTED
        if result.features is None:
            batch.status[rows["features"]] = result.status
        else:
            self._set_array(batch, "features", result.features)

    def _meaning(self, batch: TagBatch, judged: Judged) -> None:
        """Write what a model's answers mean; what it does not say is null, not a number made up."""
        rows = self._rows
        batch.set(rows["score"], judged.score)
        if judged.confidence is None:
            batch.status[rows["confidence"]] = BAD_NOT_SUPPORTED
        else:
            batch.set(rows["confidence"], judged.confidence)
        if judged.label:
            batch.set_text(rows["label"], judged.label)
        else:
            batch.status[rows["label"]] = BAD_NOT_SUPPORTED
        self._set_array(batch, "contributions", judged.contributions)
        self._set_array(batch, "expected", judged.expected)

    def _set_array(self, batch: TagBatch, name: str, values: Floats | None) -> None:
        """Write one value for each feature; null where there is none, or more than a result has room for."""
        row = self._rows[name]
        if values is None or values.size > self._room:
            batch.status[row] = BAD_NOT_SUPPORTED
        else:
            batch.set_array(row, values)

    def _describe(self, variant: Variant) -> None:
        batch, manifest = self._writer.batch, variant.manifest
        batch.set_text(self._rows["model_name"], manifest.name)
        batch.set(self._rows["model_version"], manifest.version)
        batch.set_text(self._rows["model_sha256"], manifest.sha256)
        batch.set_text(self._rows["source"], variant.provider)
        self._described = variant

    def _last(self, name: str) -> int | float:
        scalar, place = self._writer.batch.place(self._rows[name])
        value: int | float = self._writer.batch.column(scalar)[place].item()
        return value
