"""What is said of a variant: one figure, its time beside that of the original, and all the rest as facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from edge_opcua.bench.figure import Figure
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.task import Comparison
from edge_opcua.compress.variant import ORIGINAL

US: Final = "µs"


def figures(subject: str, text: str, report: Report) -> Iterator[Figure]:
    """Yield a figure for the original and one for each variant that could be measured."""
    first = report.original
    said = f"{text}; judged by {report.gate.count} samples"
    yield Figure(
        f"{subject}: original, p50",
        first.p50_us,
        US,
        note=said,
        facts={
            "subject": subject,
            "variant": ORIGINAL,
            "text": text,
            "samples": report.gate.count,
            "size_bytes": first.size_bytes,
            "memory_mb": first.memory_mb,
            **_quality(report),
        },
    )
    for row in report.rows:
        if row.timing is not None:
            yield _figure(subject, row)


def _quality(report: Report) -> dict[str, Any]:
    """Return how good the original is; nothing if no variant was compared with it."""
    found = next((row.comparison for row in report.rows if row.comparison is not None), None)
    return {} if found is None else {"measure": found.measure, "quality": found.original}


def _figure(subject: str, row: Row) -> Figure:
    timing = row.timing
    assert timing is not None
    facts: dict[str, Any] = {
        "subject": subject,
        "variant": row.name,
        "text": row.variant.text,
        "p50": [timing.ratio, timing.ratio_low, timing.ratio_high],
        "p99": [timing.p99_ratio, timing.p99_low, timing.p99_high],
        "speed": timing.verdict,
        "size_bytes": row.size_bytes,
        "saved": row.saved,
        "memory_mb": timing.memory_mb,
        "place": row.place,
        "chosen": row.is_chosen,
        "reasons": list(row.reasons),
    }
    said = [timing.verdict, f"{100 * row.saved:.0f} % smaller"]
    if row.comparison is not None:
        facts |= _compared(row.comparison)
        said.insert(0, row.comparison.text)
    if row.is_chosen:
        said.append("chosen")
    return Figure(
        f"{subject}: {row.name}, p50",
        timing.p50_us,
        US,
        ORIGINAL,
        timing.original_p50_us,
        ratio=1.0 / timing.ratio,
        note="; ".join(said),
        facts=facts,
    )


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "measure": found.measure,
        "unit": found.unit,
        "quality": found.variant,
        "loss": [found.loss, found.low, found.high],
        "level": found.level,
        "verdict": found.verdict,
        "needed": found.needed,
        "changed": found.changed,
    }
