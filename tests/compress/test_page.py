"""A report is one page that needs nothing else, shows every variant, and believes no text it is given."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from edge_opcua.compress.report import words
from edge_opcua.compress.report.page import report_page
from edge_opcua.compress.report.pareto import with_front
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.report.terminal import report_text
from tests.compress.reports import report, row


def rows() -> tuple[Row, ...]:
    return with_front(
        (
            row(
                "int8-minmax",
                loss=0.05,
                ratio=0.25,
                is_chosen=True,
                reasons=("chosen: first that is proved",),
            ),
            row("int8-percentile", loss=0.3, ratio=0.24, reasons=("not proved",)),
            row("dynamic", loss=3.4, ratio=3.1, reasons=("slower than the original",)),
            row("ruined", loss=57.4, ratio=4.6),
            row("fp16", loss=0.0, ratio=1.0, size=50_000),
            row("qat", failure="M690: PyTorch is not installed"),
        )
    )


def some(*, chosen: str | None = "int8-minmax") -> Report:
    found = report(*rows(), chosen=chosen)
    return replace(found, reasons=("int8-minmax: proved",), findings=("opset 11 is old",))


class Tree(HTMLParser):
    """Checks that what is opened is closed, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def plots(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r'<svg class="plot".*?</svg>', page, re.DOTALL)]


@pytest.mark.parametrize("chosen", ["int8-minmax", None])
def test_the_page_is_well_formed_and_needs_nothing_else(chosen: str | None) -> None:
    page = report_page(some(chosen=chosen))
    tree = Tree()
    tree.feed(page)
    assert tree.open == []
    assert "script" not in tree.seen
    assert not re.search(r"https?:|@import|url\(|src=|href=", page)


def test_every_measured_variant_is_in_both_drawings_and_in_the_table() -> None:
    page = report_page(some())
    drawings = plots(page)
    assert len(drawings) == 2
    for drawing in drawings:
        titles = [title.text or "" for title in drawing.iter("title")]
        for name in ("int8-minmax", "int8-percentile", "dynamic", "ruined", "fp16"):
            assert sum(f"  {name}: " in title for title in titles) == 1
    for each in rows():
        assert each.name in page
    assert "M690: PyTorch is not installed" in page
    assert "opset 11 is old" in page


def test_what_loses_far_more_stands_at_the_edge_with_its_figure() -> None:
    for drawing in plots(report_page(some())):
        texts = {text.text for text in drawing.iter("text")}
        assert "+57.40 pp" in texts or "+3.40 pp" in texts
        heights = [float(mark.get("cy", 0)) for mark in drawing.iter("circle")]
        assert max(heights) < 380


def test_a_verdict_shows_without_colour() -> None:
    page = report_page(some())
    shapes = {kind: set(re.findall(rf'<(\w+) class="mark {kind}"', page)) for kind in ("good", "open", "bad")}
    assert shapes["good"] == {"circle"}
    assert shapes["open"] == shapes["bad"] == {"path"}
    closed = re.findall(r'class="mark open" d="[^"]*z"', page)
    crossed = re.findall(r'class="mark bad" d="M[^"zM]*M[^"z]*"', page)
    assert len(closed) == len(re.findall('class="mark open"', page)) > 0
    assert len(crossed) == len(re.findall('class="mark bad"', page)) > 0


def test_texts_of_others_are_only_texts() -> None:
    evil = '<script>alert("x")</script>&'
    given = some()
    hurt = replace(
        given.rows[0],
        variant=replace(given.rows[0].variant, text=evil),
        reasons=(evil,),
        notes={evil: evil},
    )
    page = report_page(
        replace(
            given,
            original=replace(given.original, name=evil),
            rows=(hurt, *given.rows[1:], row(evil, failure=evil)),
            reasons=(evil,),
            findings=(evil,),
            outputs=(evil,),
            device=replace(given.device, processor=evil),
            gate=replace(given.gate, origin=evil),
        )
    )
    assert "<script" not in page.lower()
    assert "&lt;script&gt;" in page
    for drawing in plots(page):
        assert drawing.tag == "svg"


def test_an_honest_no_says_so_and_shows_no_gain() -> None:
    page = report_page(some(chosen=None))
    assert "No variant was chosen." in page
    assert 'class="cards"' not in page


def test_a_search_in_which_nothing_could_be_made_has_a_report() -> None:
    given = replace(report(row("qat", failure="no PyTorch"), chosen=None), reasons=("nothing was possible",))
    page, text = report_page(given), report_text(given)
    assert "no PyTorch" in page
    assert "qat: no PyTorch" in text
    assert plots(page) == []


def test_the_terminal_shows_a_line_for_each_variant_and_why_not() -> None:
    text = report_text(some())
    lines = text.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("* ")][:1] == ["int8-minmax"]
    assert any(line.strip().startswith("ruined") and "+57.40 pp" in line for line in lines)
    assert "  dynamic: slower than the original" in lines
    assert "  qat: M690: PyTorch is not installed" in lines
    assert lines[-1] == "int8-minmax: proved"
    place = next(line.index("verdict") for line in lines if "verdict" in line)
    assert {line[place:].split("  ")[0] for line in lines if " pp  " in line} == {
        "proved",
        "not proved",
        "failed",
    }


def test_a_reason_that_many_have_is_told_once() -> None:
    slow = "slower than the original: 1.11 times its time"
    rows = [
        row("best", is_chosen=True),
        *(row(name, ratio=1.11, place=0, reasons=(slow,)) for name in ("a", "b")),
        *(row(name, place=0, reasons=("not entered: best is as fast",)) for name in ("c", "d")),
    ]
    given = replace(
        report(*rows, chosen="best"), findings=("cuda: CUDA does not run it", "gate: too few", "openvino: no")
    )
    lines = report_text(given).splitlines()
    assert "  a, b: slower than the original" in lines
    assert "  c, d: not entered: best is as fast" in lines
    assert lines[lines.index("worth knowing:") + 1 :][:2] == [
        "  gate: too few",
        "  not wholly on cuda, openvino: --report or --json says why",
    ]


def test_what_is_not_entered_because_it_is_slower_is_called_slower() -> None:
    given = row("a", ratio=1.11, place=0)
    assert given.comparison is not None
    without = replace(given, comparison=replace(given.comparison, verdict="not proved"))
    assert words.verdict(without) == "slower"


def test_a_name_does_not_move_the_cursor_of_a_terminal() -> None:
    text = report_text(report(row("int8", failure="a\x1b[2Jb\rc"), chosen=None))
    assert all(line.isprintable() for line in text.split("\n"))


def test_a_machine_that_had_other_work_is_told_of() -> None:
    calm = some()
    busy = replace(calm, original=replace(calm.original, p99_us=60 * calm.original.p50_us))
    said = "took 60 times its median"
    assert said in report_page(busy)
    assert said in report_text(busy)
    assert "Other work" not in report_page(calm) + report_text(calm)
