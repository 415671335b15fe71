"""Figures of a report for people: sizes, times, losses, each with as many digits as are known of it."""

from __future__ import annotations

import math
from typing import Final

from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.task import Comparison

_THOUSAND: Final = 1_000.0
_MINUS: Final = "\N{MINUS SIGN}"
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_AS_NUMBERS: Final = frozenset({"AUC"})
_AS_FAST: Final = 1.02
_DISTURBED: Final = 5.0
"""How many times its median the 99th percentile of a model takes that is not left alone; else it is two."""
_WIDE: Final = 1.5
"""An interval whose upper end is so many times its lower one says nothing if one lies in it."""


def number(value: float, digits: int = 2) -> str:
    """Return a number with a true minus sign."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else ("\N{INFINITY}" if value > 0 else f"{_MINUS}\N{INFINITY}")
    text = f"{value:.{digits}f}"
    return f"{_MINUS}{text[1:]}" if text.startswith("-") and float(text) else text.removeprefix("-")


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, also if it is above 0."""
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") else text


def size(count: float) -> str:
    """Return a number of bytes: ``34.3 kB``."""
    for unit in ("B", "kB", "MB"):
        if count < _THOUSAND:
            return f"{count:.0f} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= _THOUSAND
    return f"{_three(count)} GB"


def time(us: float) -> str:
    """Return a time that is given in µs: ``8.35 µs``, ``1.20 ms``."""
    if not math.isfinite(us):
        return "unknown"
    for unit in ("µs", "ms"):
        if us < _THOUSAND:
            return f"{_three(us)} {unit}"
        us /= _THOUSAND
    return f"{_three(us)} s"


def _three(value: float) -> str:
    """Return three digits that count."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def share(value: float) -> str:
    """Return a share as a change in per cent: 0.63 saved is 63 % less."""
    return f"{signed(-100.0 * value, 0)} %"


def speed(ratio: float) -> str:
    """Return how many times as fast something is that takes this share of the time."""
    if not (ratio > 0 and math.isfinite(ratio)):
        return "unknown"
    times = 1.0 / ratio
    return f"{times:.{2 if times < 2 else 1 if times < 10 else 0}f}{_TIMES}"


def tail(timing: Timing) -> str:
    """Return how many times as fast the longest runs are; ``unclear`` if that cannot be told from one."""
    low, high = timing.p99_low, timing.p99_high
    is_wide = not (low > 0 and high / low < _WIDE)
    return "unclear" if is_wide and low <= 1.0 <= high else speed(timing.p99_ratio)


def quality(comparison: Comparison, value: float) -> str:
    """Return a quality as its measure is usually written."""
    if comparison.unit == "pp":
        return f"{value:.4f}" if comparison.measure in _AS_NUMBERS else f"{100.0 * value:.2f} %"
    return f"{value:.4g}"


def loss(comparison: Comparison) -> str:
    """Return a loss with its unit: ``+0.10 pp``."""
    return f"{signed(comparison.loss)} {comparison.unit}"


def interval(comparison: Comparison) -> str:
    """Return the interval of a loss: ``[+0.05, +0.25]``."""
    return f"[{signed(comparison.low)}, {signed(comparison.high)}]"


def gain(timing: Timing) -> str:
    """Return in words how fast a variant is."""
    if timing.verdict == "as fast":
        return "as fast"
    if timing.verdict == "faster":
        return f"{speed(timing.ratio)} as fast"
    if timing.ratio > _AS_FAST:
        return f"slower, {_three(timing.ratio)}{_TIMES} the time"
    return "slower in its longest runs"


def smaller(row: Row) -> str:
    """Return in words how large a variant's file is."""
    if abs(row.saved) < 0.005:
        return "the same size"
    return f"{100.0 * abs(row.saved):.0f} % {'smaller' if row.saved > 0 else 'larger'}"


def headline(report: Report) -> str:
    """Return what came of it, in a few words."""
    row = report.chosen_row
    if row is None or row.comparison is None or row.timing is None:
        return "No variant was chosen."
    limit = f"{row.comparison.allowed:g} {row.comparison.unit}"
    gained = f"{gain(row.timing)}, {smaller(row)}"
    return capital(f"{gained}, and proved to be less than {limit} worse in {row.comparison.measure}.")


def disturbed(report: Report) -> str:
    """Return that other work was on the machine while it was measured; "" if nothing hints at that."""
    times = report.original.p99_us / report.original.p50_us
    if not times > _DISTURBED:
        return ""
    return (
        f"Other work was on this machine: the longest runs of the original took "
        f"{times:.0f} times its median. "
        "Medians were compared in turns and hold; for the longest runs, measure again without it."
    )


def capital(text: str) -> str:
    """Return a sentence with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def verdict(row: Row) -> str:
    """Return what the gate said of a variant; of one that had no place in its order, why it had none."""
    if row.comparison is None:
        return ""
    found = row.comparison.verdict
    if found != "not proved" or row.place > 0:
        return found
    is_slower = row.timing is not None and row.timing.verdict == "slower"
    return "slower" if is_slower else "not entered"


def count(value: int) -> str:
    """Return a number of things: ``2 000``."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def in_order(report: Report) -> list[Row]:
    """Return the rows as they are shown: the chosen one, then by place in the gate, what has none last."""

    def key(row: Row) -> tuple[bool, bool, bool, float]:
        ratio = row.timing.ratio if row.timing is not None else math.inf
        return not row.is_chosen, bool(row.failure), row.place == 0, row.place or ratio

    return sorted(report.rows, key=key)
