"""The blocks a lane writes, its results and its health, and how a result becomes rows with honest status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.values import (
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Policy,
    Scalar,
    TagSpec,
    Verdict,
    is_bad,
)
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import ServedModel

FEATURE_CAPACITY: Final = 64
"""Features a result has room for; a swap may bring a model with more or fewer than the last one."""

RESULT_DEPTH: Final = 256
LANE_DEPTH: Final = 16
RESULT_HOLD_S: Final = 2.0
"""After a lane died its last verdict is Uncertain this long, then the fail-safe verdict takes its place."""

JUDGED: Final = ("score", "confidence", "contributions", "expected")
"""Rows that come out of the model; null where there is no judgement."""

STROKE_ROWS: Final = ("stroke", "captured_ns", "acquire_ms", "queue_ms")
"""Rows that belong to one stroke; null where a result is about the loss of its source."""

VERDICTS: Final = {"NotDecidable": Verdict.NOT_DECIDABLE, "NotOk": Verdict.NOT_OK}


def result_blocks(pipeline: PipelineConfig, *, wakes: int = 1) -> tuple[BlockSpec, BlockSpec]:
    """Return the blocks of a pipeline: results, of which every one counts, and the health of the lane.

    Args:
        pipeline: The pipeline.
        wakes: Deadline readers of the results: the outputs that write them to PLCs.
    """
    verdict = VERDICTS[pipeline.fail_safe_verdict]
    result = (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("part_id", Scalar.UINT32),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("verdict", Scalar.INT32, substitute=int(verdict)),
        TagSpec("confidence", Scalar.DOUBLE),
        TagSpec("contributions", Scalar.FLOAT, FEATURE_CAPACITY),
        TagSpec("features", Scalar.FLOAT, FEATURE_CAPACITY),
        TagSpec("expected", Scalar.FLOAT, FEATURE_CAPACITY),
        TagSpec("acquire_ms", Scalar.DOUBLE),
        TagSpec("queue_ms", Scalar.DOUBLE),
        TagSpec("infer_ms", Scalar.DOUBLE),
        TagSpec("total_ms", Scalar.DOUBLE),
        TagSpec("input_age_ms", Scalar.DOUBLE),
        TagSpec("captured_ns", Scalar.INT64),
        TagSpec("fail_safe_active", Scalar.BOOLEAN, substitute=True),
        TagSpec("model_name", Scalar.STRING, 64),
        TagSpec("model_version", Scalar.UINT32),
        TagSpec("model_sha256", Scalar.STRING, 64),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("result_id", Scalar.UINT64),
    )
    lane = (
        TagSpec("state", Scalar.STRING, 24),
        TagSpec("processed", Scalar.UINT64),
        TagSpec("missed", Scalar.UINT64),
        TagSpec("late", Scalar.UINT64),
        TagSpec("p50_ms", Scalar.DOUBLE),
        TagSpec("p99_ms", Scalar.DOUBLE),
        TagSpec("cursor", Scalar.UINT64),
    )
    return (
        BlockSpec(pipeline.result_block, result, RESULT_DEPTH, Policy(hold_s=RESULT_HOLD_S), wakes=wakes),
        BlockSpec(pipeline.lane_block, lane, LANE_DEPTH, Policy(hold_s=RESULT_HOLD_S)),
    )


@dataclass(slots=True)
class Result:
    """What a lane found out about one stroke, or about the loss of its source.

    Args:
        captured_ns: Time of the capture, ns UTC; of the loss, where ``stroke`` is None.
        stroke: Number of the stroke, None if this is about the loss of the source.
        part_id: Number of the part.
        part_status: Status of ``part_id``.
        features: What the model was given, shape ``(k,)``; None if there were no usable samples.
        verdict: The judgement, or the fail-safe verdict.
        status: Status of what comes out of the model.
        fail_safe: Whether ``verdict`` is the fail-safe one.
        reason: Why, for people.
        acquire_ms: From the capture to its batch on the bus.
        queue_ms: From the bus to the lane.
        infer_ms: In the lane.
        input_age_ms: Age of the oldest input when the verdict was there.
    """

    captured_ns: int
    stroke: int | None
    part_id: int = 0
    part_status: int = BAD_WAITING_FOR_INITIAL_DATA
    features: npt.NDArray[np.float32] | None = None
    verdict: Verdict = Verdict.UNDEFINED
    status: int = GOOD
    fail_safe: bool = False
    reason: str = ""
    acquire_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    input_age_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """From the capture to the verdict."""
        return self.acquire_ms + self.queue_ms + self.infer_ms


class ResultWriter:
    """Writes results into their block.

    Args:
        writer: Writer of the result block.
        model: Whose answers are published.
        first_id: Identity of the first result if the block holds none yet.
    """

    def __init__(self, writer: BlockWriter, model: ServedModel, first_id: int) -> None:
        self._writer = writer
        self._model = model
        batch = writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        self._judged = [self._rows[name] for name in JUDGED]
        self._of_stroke = [self._rows[name] for name in STROKE_ROWS]
        self._next_id = int(self._last("result_id")) + 1 if writer.sequence else first_id
        self._describe(model.manifest)

    @property
    def sequence(self) -> int:
        """Bus sequence of the last result, 0 if there is none."""
        return self._writer.sequence

    @property
    def last_stroke(self) -> tuple[int, int]:
        """Number and time (ns UTC) of the stroke judged last; zeros if there was none."""
        return int(self._last("stroke")), int(self._last("captured_ns"))

    @property
    def about_loss(self) -> bool:
        """Whether the last result is about the loss of the source."""
        return bool(self._writer.sequence) and is_bad(int(self._writer.batch.status[self._rows["stroke"]]))

    def beat(self) -> None:
        """Say that the lane lives."""
        self._writer.beat()

    def publish(self, result: Result, server_ns: int) -> None:
        """Publish one result; the answers are taken from the model as they are now.

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
            "reason": result.reason,
            "result_id": self._next_id,
            "part_id": result.part_id,
        }
        if result.stroke is not None:
            values["stroke"] = result.stroke
            values["captured_ns"] = result.captured_ns
        for name, value in values.items():
            batch.set(rows[name], value)
        self._answers(batch, result)
        if result.fail_safe:
            batch.status[rows["verdict"]] = UNCERTAIN_SUBSTITUTE
        elif not is_bad(result.status):
            batch.status[rows["verdict"]] = result.status
        batch.status[rows["part_id"]] = result.part_status
        if result.stroke is None:
            batch.status[self._of_stroke] = result.status
        self._writer.publish()
        self._next_id += 1

    def _answers(self, batch: TagBatch, result: Result) -> None:
        rows = self._rows
        batch.status[self._judged] = result.status
        if not is_bad(result.status):
            batch.set(rows["score"], float(self._model.score[0]))
            batch.set(rows["confidence"], float(self._model.confidence[0]))
            batch.set_array(rows["contributions"], self._model.contributions)
            batch.set_array(rows["expected"], self._model.expected)
        if result.features is None:
            batch.status[rows["features"]] = result.status
        else:
            batch.set_array(rows["features"], result.features)

    def _describe(self, manifest: Manifest) -> None:
        batch = self._writer.batch
        batch.set_text(self._rows["model_name"], manifest.name)
        batch.set(self._rows["model_version"], manifest.version)
        batch.set_text(self._rows["model_sha256"], manifest.sha256)

    def _last(self, name: str) -> int | float:
        scalar, place = self._writer.batch.place(self._rows[name])
        value: int | float = self._writer.batch.column(scalar)[place].item()
        return value
