"""The table of a page: a line of figures for each variant, and below it why it was chosen or was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from edge_opcua.compress.report import words
from edge_opcua.compress.report.html import DASH, cell, definitions, element
from edge_opcua.compress.report.report import Original, Report, Row
from edge_opcua.compress.report.svg import Losses, interval_cell, sign
from edge_opcua.compress.task import Comparison, Verdict

KIND: Final[dict[Verdict, str]] = {"proved": "good", "not proved": "open", "failed": "bad"}
_PARETO: Final = "no other variant is better in one respect and as good in all others"
_MOST_NOTE: Final = 160


def table(report: Report, numbered: Sequence[tuple[int, Row]], span: Losses | None) -> str:
    """Return the table of these rows with their numbers; the range of losses is that of the drawings."""
    compared = next((row.comparison for _, row in numbered if row.comparison is not None), None)
    measure = "" if compared is None else f"of {escape(compared.measure)}, {compared.unit}"
    heads = (
        _head("#", "", "n"),
        _head("Variant", "", "wide"),
        _head("Loss", measure, "n"),
        _head("95 % interval", "dashed: accepted"),
        _head("Verdict"),
        _head("Typical run", "times as fast (p50)", "n"),
        _head("Longest runs", "times as fast (p99)", "n"),
        _head("File", "", "n"),
        _head("Memory", "", "n"),
    )
    lines = [_original(report.original, compared), *(_line(number, row, span) for number, row in numbered)]
    head = element("thead", element("tr", *heads))
    return element("div", element("table", head, *lines), class_="scroll")


def _head(text: str, small: str = "", kind: str = "") -> str:
    return element("th", text, element("small", small) if small else "", class_=kind, scope="col")


def _original(original: Original, compared: Comparison | None) -> str:
    cells = (
        cell(),
        element("td", element("span", "the original", class_="name")),
        cell(DASH if compared is None else words.quality(compared, compared.original)),
        cell(),
        cell(),
        cell(words.time(original.p50_us)),
        cell(words.time(original.p99_us)),
        cell(words.size(original.size_bytes)),
        cell(f"{words.number(original.memory_mb, 1)} MB"),
    )
    return element("tbody", element("tr", *cells))


def _line(number: int, row: Row, span: Losses | None) -> str:
    cells = (
        cell(str(number)),
        element("td", _named(row)),
        *_compared(row, span),
        *_timed(row),
        cell(words.size(row.size_bytes), words.share(row.saved)),
        cell(DASH if row.timing is None else f"{words.number(row.timing.memory_mb, 1)} MB"),
    )
    return element(
        "tbody",
        element("tr", *cells, class_="figures"),
        element("tr", element("td"), element("td", _why(row), _made(row), colspan="8"), class_="why"),
        class_="chosen" if row.is_chosen else "",
    )


def _named(row: Row) -> str:
    tags = element("span", "chosen", class_="tag chosen") if row.is_chosen else ""
    if row.on_front and not row.is_chosen:
        tags = element("span", "Pareto", class_="tag front", title=_PARETO)
    return element("span", escape(row.name), class_="name") + tags


def _why(row: Row) -> str:
    said = row.failure or " ".join(row.reasons)
    told = [words.capital(text) for text in (row.variant.text, said) if text]
    return element("p", escape(". ".join(text.rstrip(".") for text in told)), ".") if told else ""


def _made(row: Row) -> str:
    facts: dict[str, Any] = {} if row.variant.parent == "original" else {"made of": row.variant.parent}
    facts |= _flat(row.variant.recipe) | _flat(row.notes)
    if row.sha256:
        facts["sha256"] = row.sha256
    if not facts:
        return ""
    texts = {name: str(value)[:_MOST_NOTE] for name, value in facts.items()}
    return element("details", element("summary", "how it was made"), definitions(texts, "notes"))


def _flat(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return notes as names and plain values; a mapping in them is opened once."""
    found: dict[str, Any] = {}
    for name, value in notes.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = f"{value:.4g}" if isinstance(value, float) else value
    return found


def _compared(row: Row, span: Losses | None) -> tuple[str, str, str]:
    comparison = row.comparison
    if comparison is None or span is None:
        return cell(DASH), cell(), cell("not compared", kind="verdict")
    return (
        cell(words.loss(comparison), words.interval(comparison)),
        cell(interval_cell(comparison, span), kind="interval"),
        cell(
            f"{sign(comparison.verdict)}{words.verdict(row)}",
            _open(row, comparison),
            f"verdict {KIND[comparison.verdict]}",
        ),
    )


def _open(row: Row, comparison: Comparison) -> str:
    """Return what is missing where something is not proved."""
    if words.verdict(row) != "not proved" or comparison.needed is None:
        return ""
    return f"about {words.count(comparison.needed)} needed"


def _timed(row: Row) -> tuple[str, str]:
    timing = row.timing
    if timing is None:
        return cell(DASH), cell(DASH)
    return (
        cell(words.speed(timing.ratio), _beside(timing.p50_us, timing.original_p50_us)),
        cell(words.tail(timing), _beside(timing.p99_us, timing.original_p99_us)),
    )


def _beside(us: float, original_us: float) -> str:
    """Return a time and that of the original beside it: how busy the machine is differs each time."""
    return f"{words.time(us)}, was {words.time(original_us)}"
