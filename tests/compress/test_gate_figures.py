"""The figure of the gate: drawn from what was simulated, which is what the page says."""

from __future__ import annotations

import json

from docs.gate_figures import DRAWING, EXPLANATION, FIGURES, drawing

FOUND = json.loads(FIGURES.read_text())
PAGE = " ".join((EXPLANATION / "compression.md").read_text("utf-8").split())


def test_the_drawing_is_that_of_the_figures() -> None:
    assert drawing(FOUND) == DRAWING.read_text()


def test_what_loses_too_much_is_proved_as_seldom_as_promised_with_any_number_of_samples() -> None:
    # 100 000 runs each: two standard deviations are 0.1 %.
    assert max(FOUND["proved"]["0.005"].values()) < 0.026
    assert max(FOUND["proved"]["0.01"].values()) < 0.001


def test_however_many_variants_are_tried_the_gate_accepts_a_bad_one_in_five_percent_at_most() -> None:
    assert max(each["gate"] for each in FOUND["searched"].values()) < 0.05
    assert FOUND["searched"]["40"]["each"] > 0.5


def test_the_page_says_how_many_samples_are_needed_after_refusals() -> None:
    for place, wanted in FOUND["needed"].items():
        cells = [f"{wanted[which]:,}".replace(",", " ") for which in ("nothing changes", "as usual")]
        cells = [cell.replace(" ", "") if len(cell) < 5 else cell for cell in cells]
        assert f"| {int(place) - 1} | {cells[0]} | {cells[1]} |" in PAGE
    for faults, each in FOUND["rare"].items():
        assert f"| {int(faults):,} | {100 * each['DeLong alone']:.0f} % |".replace(",", " ") in PAGE
