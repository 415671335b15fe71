"""What a run puts into its report: the original, and a row for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from edge_opcua.compress.measure.weigh import size_of
from edge_opcua.compress.report.report import Original, Row
from edge_opcua.compress.search.judging import Judged, Tried
from edge_opcua.compress.search.steps import Steps


def rows(steps: Steps, tried: Sequence[Tried], judged: Judged, work: Path) -> tuple[Row, ...]:
    """Return the rows of the report, in the order in which the variants were tried."""
    whole_bytes = size_of(steps.original.path)
    numbers = {place.name: place.number for place in judged.places}
    return tuple(_row(each, steps, judged, numbers.get(each.name, 0), whole_bytes, work) for each in tried)


def original_of(steps: Steps, name: str, tried: Sequence[Tried]) -> Original:
    """Return what is known of the original: the middle of what it took beside each variant."""
    timings = [each.timing for each in tried if each.timing is not None]
    nothing = float("nan")
    return Original(
        name=name,
        sha256=steps.sha256(steps.original),
        size_bytes=size_of(steps.original.path),
        p50_us=median(each.original_p50_us for each in timings) if timings else nothing,
        p99_us=median(each.original_p99_us for each in timings) if timings else nothing,
        memory_mb=median(each.original_memory_mb for each in timings) if timings else nothing,
        load_ms=median(each.original_load_ms for each in timings) if timings else nothing,
    )


def _row(tried: Tried, steps: Steps, judged: Judged, number: int, whole_bytes: int, work: Path) -> Row:
    made, name = tried.tasted.made, tried.name
    failure = tried.failure or judged.failures.get(name, "")
    reason = judged.choice.reasons.get(name, "")
    row = Row(
        tried.tasted.variant,
        failure=failure,
        comparison=judged.comparisons.get(name),
        timing=tried.timing,
        place=number,
        is_chosen=name == judged.choice.chosen,
        reasons=(reason,) if reason else (),
    )
    if made is None:
        return row
    size_bytes = made.path.stat().st_size if tried.timing is None else tried.timing.size_bytes
    return replace(
        row,
        notes={**made.notes, "damage": tried.tasted.damage},
        file=str(made.path.relative_to(work)),
        sha256=steps.sha256(made),
        size_bytes=size_bytes,
        saved=1.0 - size_bytes / whole_bytes,
    )
