"""A report as one HTML file: no scripts, nothing from elsewhere; for screens, light or dark, and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from edge_opcua.compress.report import words
from edge_opcua.compress.report.cards import cards
from edge_opcua.compress.report.html import DOT, definitions, element, points
from edge_opcua.compress.report.report import Report, Row, Samples
from edge_opcua.compress.report.svg import (
    Losses,
    Mark,
    chosen_sign,
    losses,
    original_sign,
    scatter,
    sign,
    size_axis,
    speed_axis,
)
from edge_opcua.compress.report.table import table

_STYLE: Final = Path(__file__).with_name("style.css")
_HEAD: Final = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">"""
_TRUST: Final = {
    "Judged on samples that nothing else has seen.": """{gate} samples decided; {calibration} others
calibrated, pruned and chose while the variants were made.""",
    "Sample by sample.": """Original and variant answered the same samples; the interval is that of the
difference in pairs{test}.""",
    "Not the luckiest of many.": """The variants stood in an order that the labels had no part in, and after
each that was refused the next had to be shown twice as surely. The chance that any variant is called proved
which really loses more than is accepted is 5 % at most, however many were tried.""",
    "Timed in turns.": """Original and variant ran in one process, in blocks, one sample per run as on the
line; both were loaded anew six times. A variant that takes longer than the original is never chosen.""",
}


def report_page(report: Report) -> str:
    """Return the report as HTML."""
    rows = words.in_order(report)
    numbered = list(enumerate((row for row in rows if row.timing or row.comparison), 1))
    compared = [row.comparison for _, row in numbered if row.comparison is not None]
    span = losses(compared) if compared else None
    parts = [_head(report), _banner(report), cards(report)]
    if span is not None:
        parts.append(_drawings(numbered, span))
    if numbered:
        parts += [element("h2", "The variants, figure by figure"), table(report, numbered, span)]
        parts.append(element("p", escape(words.disturbed(report)), class_="muted"))
    parts += [_impossible(rows), _findings(report), _trust(report), _facts(report), _foot(report)]
    title = element("title", f"{escape(report.original.name)}: compression report")
    head = element("head", "\n".join([_HEAD, title, element("style", _STYLE.read_text("utf-8"))]))
    body = element("body", element("main", "\n".join(part for part in parts if part)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _head(report: Report) -> str:
    device = report.device
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    facts = (
        f"measured on {device.processor} ({device.provider}, {threads})",
        f"judged on {words.count(report.gate.count)} samples",
        report.created[:10],
    )
    return element(
        "header",
        element("div", "Compression report", class_="kind"),
        element("h1", escape(report.original.name)),
        element("p", escape(DOT.join(fact for fact in facts if fact)), class_="muted"),
    )


def _banner(report: Report) -> str:
    kind = "banner" if report.chosen_row is not None else "banner doubt"
    names = {row.name for row in report.rows}  # they stay as they are written
    reasons = (
        element("p", escape(reason if reason.split(":")[0] in names else words.capital(reason)))
        for reason in report.reasons
    )
    return element("section", element("strong", escape(words.headline(report))), *reasons, class_=kind)


def _drawings(numbered: Sequence[tuple[int, Row]], span: Losses) -> str:
    shown = [
        (number, row) for number, row in numbered if row.timing is not None and row.comparison is not None
    ]
    if not shown:
        return ""
    rows = [row for _, row in shown]
    speeds = scatter([_mark(number, row, _speed(row)) for number, row in shown], speed_axis(rows), span)
    sizes = scatter([_mark(number, row, row.saved) for number, row in shown], size_axis(rows), span)
    plots = element("div", element("figure", speeds), element("figure", sizes), class_="plots")
    return element("h2", "Every variant: what it loses, and what it gains") + plots + _legend()


def _speed(row: Row) -> float:
    return 1.0 / row.timing.ratio if row.timing is not None else 1.0


def _mark(number: int, row: Row, x: float) -> Mark:
    assert row.comparison is not None
    assert row.timing is not None
    loss = f"{words.loss(row.comparison)} {words.interval(row.comparison)}"
    gain = f"{words.speed(row.timing.ratio)} as fast, {words.smaller(row)}"
    text = f"{number}  {row.name}: {loss}, {gain}: {words.verdict(row)}"
    return Mark(number, x, row.comparison, row.is_chosen, text)


def _legend() -> str:
    entries = (
        f"{original_sign()}the original",
        f"{chosen_sign()}chosen",
        f"{sign('proved')}proved to lose less than is accepted",
        f"{sign('not proved')}not proved, or not entered",
        f"{sign('failed')}shown to lose more",
        "bars: 95 % interval",
        "shaded: as good, and not slower or larger",
        "numbers: as in the table",
    )
    return element("div", *(element("span", entry) for entry in entries), class_="legend")


def _impossible(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.failure and row.timing is None and row.comparison is None]
    if not failed:
        return ""
    entries = (f"{element('strong', escape(row.name))}: {escape(row.failure)}" for row in failed)
    return element("h2", "What was not possible here") + points(*entries)


def _findings(report: Report) -> str:
    if not report.findings:
        return ""
    return element("h2", "Worth knowing") + points(*map(escape, report.findings))


def _trust(report: Report) -> str:
    row = next((row for row in report.rows if row.comparison is not None), None)
    test = "" if row is None or row.comparison is None else f" ({escape(row.comparison.test)})"
    facts = {
        "gate": words.count(report.gate.count),
        "calibration": words.count(report.calibration.count),
        "test": test,
    }
    entries = (f"{element('strong', head)} {text.format(**facts)}" for head, text in _TRUST.items())
    return element("h2", "Why these figures can be trusted") + points(*entries)


def _facts(report: Report) -> str:
    chosen, device = report.chosen_row, report.device
    facts = {
        "Original": f"{report.original.name}, sha256 {report.original.sha256}",
        "Chosen": "" if chosen is None else f"{chosen.name}, sha256 {chosen.sha256}",
        "Task": f"{report.task}; outputs: {', '.join(report.outputs)}",
        "Device": f"{device.processor}, {device.machine}, {device.provider}",
        "Runtime": f"{report.runtime}; threads: {report.threads}",
        "Judged on": _samples(report.gate),
        "Calibrated on": _samples(report.calibration),
        "Trained on": "" if report.training is None else _samples(report.training),
        "Made by": f"edge-opcua {report.program}, seed {report.seed}",
    }
    return element("h2", "To make it again") + definitions(facts)


def _samples(samples: Samples) -> str:
    text = f"{words.count(samples.count)} samples ({samples.origin})"
    return f"{text}, sha256 {samples.sha256}" if samples.sha256 else text


def _foot(report: Report) -> str:
    took = f"the search took {words.time(report.took_s * 1e6)}"
    facts = (f"edge-opcua {report.program}", report.created, took)
    return element("footer", escape(DOT.join(fact for fact in facts if fact)))
