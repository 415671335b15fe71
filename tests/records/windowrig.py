"""A capture, tags beside it and results on a bus, as a lane would leave them there; and windows by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_opcua.core.bus import Bus
from edge_opcua.core.values import GOOD, BlockSpec, Policy, Scalar, TagSpec, Verdict
from edge_opcua.records.joining import ContextPlace, Judged
from edge_opcua.records.recorder import health_block
from edge_opcua.records.window import Window, WindowSource
from edge_opcua.records.windowhealth import windows_block

COUNT = 32
SOURCE = WindowSource(
    "press-anomaly",
    "vib/waveform",
    unit="m/s²",
    sample_rate_hz=1000.0,
    context=("press/tonnage", "press/die_temp"),
    context_units=("kN", "°C"),
)
JUDGED = Judged(
    SOURCE,
    "press-anomaly.result",
    "vib.waveform",
    (ContextPlace("press.fast", "tonnage"), ContextPlace("press.slow", "die_temp")),
)
CAPTURE = BlockSpec(
    "vib.waveform",
    (
        TagSpec("sequence", Scalar.UINT32),
        TagSpec("ready_ns", Scalar.INT64),
        TagSpec("sample_rate_hz", Scalar.DOUBLE),
        TagSpec("waveform", Scalar.FLOAT, COUNT),
        TagSpec("stroke", Scalar.UINT32),
    ),
    depth=8,
)
RESULT = BlockSpec(
    "press-anomaly.result",
    (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("captured_ns", Scalar.INT64),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("verdict", Scalar.INT32),
        TagSpec("confidence", Scalar.DOUBLE),
        TagSpec("features", Scalar.FLOAT, 8),
        TagSpec("queue_ms", Scalar.DOUBLE),
        TagSpec("total_ms", Scalar.DOUBLE),
        TagSpec("fail_safe_active", Scalar.BOOLEAN),
        TagSpec("model_name", Scalar.STRING, 64),
        TagSpec("model_version", Scalar.UINT32),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("label", Scalar.STRING, 64),
        TagSpec("result_id", Scalar.UINT64),
    ),
    depth=16,
)
FAST = BlockSpec(
    "press.fast", (TagSpec("tonnage", Scalar.DOUBLE), TagSpec("other", Scalar.INT16)), 64, Policy(1.0, 5.0)
)
SLOW = BlockSpec("press.slow", (TagSpec("die_temp", Scalar.FLOAT, substitute=20.0),), 16, Policy(1.0, 0.0))


def make_bus() -> Bus:
    return Bus.create([CAPTURE, RESULT, FAST, SLOW, health_block(), windows_block()])


class Line:
    """Writes what io and lane would write."""

    def __init__(self, bus: Bus) -> None:
        self.capture = bus.writer(CAPTURE.name)
        self.result = bus.writer(RESULT.name)
        self.fast = bus.writer(FAST.name)
        self.slow = bus.writer(SLOW.name)
        self.tags(tonnage=800.0, die_temp=40.0)

    def tags(
        self, *, tonnage: float | None = None, die_temp: float | None = None, status: int = GOOD
    ) -> None:
        for writer, value in ((self.fast, tonnage), (self.slow, die_temp)):
            if value is not None:
                writer.batch.set(0, value)
                writer.batch.status[:] = status
                writer.batch.source_ns[:] = 1
                writer.publish()

    def capture_of(self, stroke: int) -> None:
        batch = self.capture.batch
        for row, value in enumerate((stroke, stroke * 1000, 1000.0, samples_of(stroke), stroke)):
            batch.set(row, value)
        batch.status[:] = GOOD
        batch.source_ns[:] = stroke * 1000
        self.capture.publish()

    def result_of(
        self,
        stroke: int,
        verdict: Verdict = Verdict.OK,
        *,
        status: int = GOOD,
        features: Sequence[float] = (),
        queue_ms: float = 0.0,
    ) -> None:
        batch, rows = self.result.batch, self.result.batch.layout.rows
        values = {
            "stroke": stroke,
            "captured_ns": stroke * 1000,
            "score": stroke / 100,
            "verdict": int(verdict),
            "confidence": 0.9,
            "features": np.array(features or [stroke] * 3, np.float32),
            "queue_ms": queue_ms,
            "total_ms": 1.5,
            "fail_safe_active": False,
            "model_name": "press-anomaly",
            "model_version": 2,
            "reason": "",
            "label": "",
            "result_id": 5000 + stroke,
        }
        batch.status[:] = GOOD
        for name, value in values.items():
            batch.set(rows[name], value)
        batch.status[[rows["score"], rows["confidence"]]] = status
        batch.server_ns[:] = stroke * 1000
        self.result.publish()

    def stroke(self, stroke: int, verdict: Verdict = Verdict.OK) -> None:
        self.capture_of(stroke)
        self.result_of(stroke, verdict)


def samples_of(stroke: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.arange(COUNT, dtype=np.float32) + np.float32(stroke)


def window(
    number: int,
    *,
    verdict: Verdict = Verdict.OK,
    count: int = 1000,
    source: WindowSource = SOURCE,
    score: float = 0.5,
) -> Window:
    return Window(
        source=source,
        result_id=number,
        stroke=number,
        captured_ns=number * 1000,
        judged_ns=number * 1_000_000_000,
        verdict=int(verdict),
        score=score,
        confidence=0.8,
        model="press-anomaly",
        version=1,
        features=np.array([number, 2.0], np.float32),
        context=np.array([800.0, 40.0]),
        context_status=np.zeros(2, np.uint32),
        samples=np.full(count, number, np.float32),
    )
