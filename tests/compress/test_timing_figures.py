"""The figure of models that are timed beside themselves: drawn from what was measured, as the page says."""

from __future__ import annotations

import json

from docs.timing_figures import DRAWING, EXPLANATION, FIGURES, drawing, holding, intervals_of

FOUND = json.loads(FIGURES.read_text())
PAGE = " ".join((EXPLANATION / "compression.md").read_text("utf-8").split())


def test_the_drawing_is_that_of_the_figures() -> None:
    assert drawing(FOUND) == DRAWING.read_text()


def test_the_page_says_how_many_intervals_hold_one() -> None:
    one, six = intervals_of(FOUND, "one load"), intervals_of(FOUND, "six loads")
    assert f"{holding(one)} of {len(one)} held 1" in PAGE
    assert f"{holding(six)} of {len(six)} held 1" in PAGE


def test_no_model_is_called_slower_than_itself() -> None:
    off = max(abs(ratio - 1) for ratio, _, _ in intervals_of(FOUND, "six loads"))
    assert off < 0.02
    assert f"none was off by more than {100 * (off + 0.0005):.1f} %" in PAGE
