"""Which variants are worth a look: no other is better in one respect and as good in all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from edge_opcua.compress.report.report import Row

# What is nearer together than this was not told apart by the measurements.
_LOSS_STEP: Final = 0.1  # of the loss that is accepted
_TIME_STEP: Final = math.log(1.02)
_SIZE_STEP: Final = math.log(1.01)
_MEMORY_STEP_MB: Final = 0.25

Point = tuple[int, int, int, int]


def with_front(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows, marked if they are on the Pareto front of loss, time, size and memory.

    A variant that is shown to lose more than is accepted is not on it, nor one than which the original itself
    is better in some respect and as good in all others.
    """
    points = {row.name: point for row in rows if (point := _point(row)) is not None}
    rivals = [*points.values(), *_originals(rows)]
    return tuple(
        replace(row, on_front=row.name in points and not _is_beaten(points[row.name], rivals)) for row in rows
    )


def _point(row: Row) -> Point | None:
    """Return loss, time, size and memory in steps, each better below; None if it is not to be considered."""
    comparison, timing = row.comparison, row.timing
    if comparison is None or timing is None or comparison.verdict == "failed":
        return None
    if not math.isfinite(comparison.loss):
        return None
    return (
        round(comparison.loss / (comparison.allowed * _LOSS_STEP)) if comparison.allowed > 0 else 0,
        round(math.log(timing.ratio) / _TIME_STEP),
        round(math.log(timing.size_bytes / timing.original_size_bytes) / _SIZE_STEP),
        round(timing.memory_mb / _MEMORY_STEP_MB),
    )


def _originals(rows: Sequence[Row]) -> list[Point]:
    """Return the original as a point, as light as it was ever weighed; none if nothing was measured."""
    weights = [row.timing.original_memory_mb for row in rows if row.timing is not None]
    return [(0, 0, 0, round(min(weights) / _MEMORY_STEP_MB))] if weights else []


def _is_beaten(point: Point, rivals: Sequence[Point]) -> bool:
    return any(
        rival != point and all(other <= own for other, own in zip(rival, point, strict=True))
        for rival in rivals
    )
