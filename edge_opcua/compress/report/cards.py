"""The chosen variant beside the original in five figures, with a bar each for before and after."""

from __future__ import annotations

from html import escape
from typing import Final

from edge_opcua.compress.report import words
from edge_opcua.compress.report.html import DOT, element
from edge_opcua.compress.report.report import Report

_WIDTH: Final = 200.0
_WORSE: Final = 1.02


def cards(report: Report) -> str:
    """Return what the chosen variant takes and what the original takes; nothing if none was chosen."""
    row = report.chosen_row
    if row is None or row.timing is None or row.comparison is None:
        return ""
    timing, comparison = row.timing, row.comparison
    typical = f"{words.speed(timing.ratio)} as fast{DOT}was {words.time(timing.original_p50_us)}"
    tail = words.tail(timing)
    clear = "no clear difference" if tail == "unclear" else f"{tail} as fast"
    longest = f"{clear}{DOT}was {words.time(timing.original_p99_us)}"
    file = f"{words.share(row.saved)}{DOT}was {words.size(report.original.size_bytes)}"
    memory = f"{words.number(timing.memory_mb, 1)} MB"
    lighter = timing.memory_mb / timing.original_memory_mb if timing.original_memory_mb > 0 else 1.0
    measure = words.capital(comparison.measure)
    was = f"was {words.quality(comparison, comparison.original)}"
    loss = f"loss {words.loss(comparison)} {words.interval(comparison)}"
    made = (
        _card("File", words.size(row.size_bytes), file, 1.0 - row.saved),
        _card("Typical run (median)", words.time(timing.p50_us), typical, timing.ratio),
        _card(
            "Longest runs (p99)",
            words.time(timing.p99_us),
            longest,
            None if tail == "unclear" else timing.p99_ratio,
        ),
        _card("Memory", memory, f"was {words.number(timing.original_memory_mb, 1)} MB", lighter),
        _card(measure, words.quality(comparison, comparison.variant), f"{was}{DOT}{loss}", None),
    )
    return element("section", *made, class_="cards")


def _card(label: str, value: str, was: str, ratio: float | None) -> str:
    return element(
        "div",
        element("div", escape(label), class_="label"),
        element("div", escape(value), class_="value"),
        element("div", escape(was), class_="was"),
        "" if ratio is None else _bar(ratio),
        class_="card",
    )


def _bar(ratio: float) -> str:
    """Return two bars above each other, before and after, the longer one as wide as the card."""
    longest = max(1.0, ratio)
    before, after = _WIDTH / longest, _WIDTH * ratio / longest
    kind = "after worse" if ratio > _WORSE else "after"
    return (
        f'<svg viewBox="0 0 {_WIDTH:g} 14" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="before" x="0" y="0" width="{before:.1f}" height="5" rx="2"/>'
        f'<rect class="{kind}" x="0" y="8" width="{after:.1f}" height="6" rx="2"/></svg>'
    )
