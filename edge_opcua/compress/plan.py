"""What is tried, stage by stage: what comes next depends on what came of the stages before.

A plan never sees the labels of the gate: it goes by what a variant seems to lose on the calibration samples.
Only the last stage is made because the gate refused what came before it, and is judged after all of that.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_opcua.compress.making import Kitchen
from edge_opcua.compress.options import Options
from edge_opcua.compress.variant import Made, Variant


@dataclass(frozen=True, slots=True)
class Tasted:
    """What came of making a variant.

    Args:
        variant: The variant.
        made: Its file; None if it was not made.
        damage: What it seems to have lost on the calibration samples; see ``Task.damage``.
        refused: Why it was not made, or not tasted; empty if it was.
    """

    variant: Variant
    made: Made | None = None
    damage: float = float("inf")
    refused: str = ""


Stages = Generator[list[Variant], Sequence[Tasted], None]
"""Yields the variants of a stage, and gets what came of them."""


def stages(original: Path, kitchen: Kitchen, options: Options) -> Stages:
    """Yield what is tried, stage by stage."""
    yield from ()
    raise NotImplementedError(original, kitchen, options)
