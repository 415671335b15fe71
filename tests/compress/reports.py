"""Reports and rows with made-up figures, for whoever shows, sorts or stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_opcua.compress.making import Device
from edge_opcua.compress.measure.timing import Speed, Timing
from edge_opcua.compress.report.report import Original, Report, Row, Samples
from edge_opcua.compress.task import Comparison, Verdict
from edge_opcua.compress.variant import Family, Variant

ORIGINAL_BYTES = 100_000


def timing(
    ratio: float = 0.5, *, memory_mb: float = 2.0, size: int = 30_000, verdict: Speed | None = None
) -> Timing:
    """Return times of a variant that takes this share of the original's 100 µs."""
    found: Speed = "faster" if ratio < 0.98 else "slower" if ratio > 1.02 else "as fast"
    return Timing(
        p50_us=100 * ratio,
        p99_us=150 * ratio,
        original_p50_us=100.0,
        original_p99_us=150.0,
        ratio=ratio,
        ratio_low=ratio * 0.98,
        ratio_high=ratio * 1.02,
        p99_ratio=ratio,
        p99_low=ratio * 0.9,
        p99_high=ratio * 1.1,
        runs=2_000,
        memory_mb=memory_mb,
        original_memory_mb=4.0,
        load_ms=2.0,
        original_load_ms=3.0,
        size_bytes=size,
        original_size_bytes=ORIGINAL_BYTES,
        verdict=verdict or found,
        provider="CPUExecutionProvider",
        threads=1,
    )


def comparison(loss: float = 0.1, *, verdict: Verdict | None = None, half: float = 0.3) -> Comparison:
    """Return a comparison of labels with this loss, in percentage points."""
    found: Verdict = "proved" if loss + half < 0.5 else "failed" if loss - half > 0.5 else "not proved"
    return Comparison(
        measure="accuracy",
        unit="pp",
        original=0.97,
        variant=0.97 - loss / 100,
        loss=loss,
        low=loss - half,
        high=loss + half,
        allowed=0.5,
        level=0.025,
        verdict=verdict or found,
        samples=2_000,
        needed=None if (verdict or found) != "not proved" else 5_000,
        test="Tango score",
        changed=12,
        text=f"{loss:g} pp worse",
    )


def row(
    name: str,
    *,
    family: Family = "int8-static",
    loss: float = 0.1,
    ratio: float = 0.5,
    size: int = 30_000,
    memory_mb: float = 2.0,
    failure: str = "",
    notes: Mapping[str, Any] | None = None,
    reasons: tuple[str, ...] = (),
    is_chosen: bool = False,
    place: int = 1,
) -> Row:
    """Return a row; with a failure there is nothing else in it."""
    variant = Variant(name, family, {"calibration": "minmax"}, text=f"{name} of these tests")
    if failure:
        return Row(variant, failure=failure)
    return Row(
        variant,
        notes=notes or {},
        file=f"{name}.onnx",
        sha256="1" * 64,
        size_bytes=size,
        saved=1 - size / ORIGINAL_BYTES,
        comparison=comparison(loss),
        timing=timing(ratio, memory_mb=memory_mb, size=size),
        place=place,
        reasons=reasons,
        is_chosen=is_chosen,
    )


def report(*rows: Row, chosen: str | None) -> Report:
    """Return a report with these rows."""
    return Report(
        original=Original("digits.onnx", "0" * 64, ORIGINAL_BYTES, 100.0, 150.0, 4.0, 3.0),
        task="labels",
        outputs=("logits",),
        device=Device("cpu", "a processor of these tests", "x86_64", has_vnni=True),
        runtime="onnxruntime 1.31.1",
        threads=1,
        program="0.9.0",
        seed=1,
        gate=Samples(2_000, "digits.npz", "labels", "2" * 64),
        calibration=Samples(300, "digits.npz", "labels", "3" * 64),
        training=None,
        rows=rows,
        chosen=chosen,
        created="2026-11-22T06:00:00Z",
        took_s=61.0,
    )
