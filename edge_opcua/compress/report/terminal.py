"""A report as text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Final

from edge_opcua.app.command.look import printable
from edge_opcua.compress.checks.operators import backends
from edge_opcua.compress.report import words
from edge_opcua.compress.report.report import Report, Row

_HEAD: Final = ("", "variant", "loss", "95 % interval", "verdict", "p50", "p99", "size", "", "memory")
_WIDTH: Final = 120
_SLOWER: Final = "slower than the original"
_SIGNS: Final = (
    "* chosen   + no other is better in one respect and as good in all others   p50, p99: times as fast"
)


def report_text(report: Report) -> str:
    """Return a table of the variants, what was chosen, and why the others were not."""
    rows = words.in_order(report)
    measured = [row for row in rows if row.timing is not None or row.comparison is not None]
    parts = [_about(report)]
    if measured:
        parts.append(_aligned([_HEAD, _original(report, measured), *(_line(row) for row in measured)]))
        parts.append("\n".join(filter(None, (_SIGNS, words.disturbed(report)))))
    reasons = _reasons([row for row in rows if not row.is_chosen])
    if reasons:
        parts.append("\n".join(["not chosen:", *reasons]))
    if report.findings:
        parts.append("\n".join(["worth knowing:", *_findings(report)]))
    parts.append("\n".join([words.headline(report), *report.reasons]))
    return "\n".join(map(printable, "\n\n".join(parts).split("\n")))


def _about(report: Report) -> str:
    device = report.device
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    samples = f"{words.count(report.gate.count)} samples ({report.gate.origin})"
    ran = f"{device.provider}, {threads}, {report.runtime}"
    return (
        f"{report.original.name}: {report.task}, judged on {samples}\nmeasured on {device.processor} ({ran})"
    )


def _original(report: Report, measured: Sequence[Row]) -> tuple[str, ...]:
    original = report.original
    compared = next((row.comparison for row in measured if row.comparison is not None), None)
    quality = "" if compared is None else f"{words.quality(compared, compared.original)}"
    return (
        "",
        "original",
        quality,
        "" if compared is None else compared.measure,
        "",
        words.time(original.p50_us),
        words.time(original.p99_us),
        words.size(original.size_bytes),
        "",
        f"{words.number(original.memory_mb, 1)} MB",
    )


def _line(row: Row) -> tuple[str, ...]:
    comparison, timing = row.comparison, row.timing
    return (
        "*" if row.is_chosen else "+" if row.on_front else "",
        row.name,
        "" if comparison is None else words.loss(comparison),
        "" if comparison is None else words.interval(comparison),
        words.verdict(row),
        "" if timing is None else words.speed(timing.ratio),
        "" if timing is None else words.tail(timing),
        words.size(row.size_bytes),
        words.share(row.saved),
        "" if timing is None else f"{words.number(timing.memory_mb, 1)} MB",
    )


def _reasons(rows: Sequence[Row]) -> list[str]:
    """Return each reason once, with the variants that it is the reason of."""
    names: dict[str, list[str]] = {}
    for row in rows:
        why = row.failure or " ".join(row.reasons)
        if why:
            # How much slower stands in the table.
            names.setdefault(_SLOWER if why.startswith(_SLOWER) else why, []).append(row.name)
    return [line for why, found in names.items() for line in _wrapped(f"{', '.join(found)}: {why}")]


def _wrapped(text: str) -> list[str]:
    return wrap(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _findings(report: Report) -> list[str]:
    """Return what was found; of providers that nobody asked for only their names: the page tells it all."""
    elsewhere = {name for name in backends() if name != report.device.provider}
    told = [(finding.partition(":")[0], finding) for finding in report.findings]
    lines = [f"  {finding}" for name, finding in told if name not in elsewhere]
    others = ", ".join(name for name, _ in told if name in elsewhere)
    return [*lines, f"  not wholly on {others}: --report or --json says why"] if others else lines


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
