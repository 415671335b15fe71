"""The page of features says nothing that no test shows."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "opcua-features.md"
_REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)`")
_VERDICT = re.compile(r"[YPN](/[YPN])*|later")
DEFECTS, INTRUDER, FEATURES = "done", "an intruder", "edge_opcua"

Row = dict[str, str]


def tables(text: str) -> list[list[Row]]:
    """Return the rows of every table, by the heads of their columns."""
    found: list[list[Row]] = []
    heads: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
            found.append([])
        elif set(line) - set("|- :"):
            assert len(cells) == len(heads), line
            found[-1].append(dict(zip(heads, cells, strict=True)))
    return found


ROWS = [row for table in tables(PAGE.read_text("utf-8")) for row in table]


def proof(row: Row) -> str:
    """Return the cell with the tests of a row."""
    return next(cell for head, cell in row.items() if head.startswith("shown by"))


def verdict(row: Row) -> str:
    """Return Y, P, N, several of them, or later; what an intruder tries is always refused."""
    return "Y" if INTRUDER in row else row.get(DEFECTS, row.get(FEATURES, ""))


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of the tests in a file of ours, without running it."""
    path = TESTS / file
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text("utf-8")).body
    return frozenset(each.name for each in body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)))


def problems(row: Row) -> list[str]:
    """Return what is wrong with a row."""
    shown, letters = proof(row), verdict(row)
    named = _REFERENCE.findall(shown)
    found = [f"no test {file}::{name}" for file, name in named if name not in names_in(file)]
    found += [f"{name} is no test" for _, name in named if not name.startswith("test_")]
    if not _VERDICT.fullmatch(letters):
        found.append(f"no verdict: {letters!r}")
    # Those in interop are skipped where there is no Node.js.
    if set(letters) & {"Y", "P"} and all(file.startswith("interop/") for file, _ in named):
        found.append("no test without another vendor's client")
    if set(letters) <= {"N", "/"} and not re.match(r"not done: \w", shown):
        found.append("no reason")
    if any(not cell for head, cell in row.items() if head != "asyncua 2.1.0"):
        found.append("an empty cell")
    return found


def test_every_row_has_a_verdict_and_the_tests_or_the_reason_for_it() -> None:
    assert {next(iter(row.values())): problems(row) for row in ROWS if problems(row)} == {}


def test_no_row_of_the_page_is_passed_over() -> None:
    kinds = Counter(next(kind for kind in (DEFECTS, INTRUDER, FEATURES) if kind in row) for row in ROWS)
    assert kinds[DEFECTS] >= 55
    assert kinds[INTRUDER] >= 12
    assert kinds[FEATURES] >= 37
    names = [(len(row), next(iter(row.values()))) for row in ROWS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        ({"done": "Y", "shown by": "`opcua/test_view.py::test_there_are_no_views`"}, False),
        ({"done": "Y", "shown by": "`opcua/test_view.py::test_that_was_renamed`"}, True),
        ({"done": "Y", "shown by": "`opcua/gone.py::test_there_are_no_views`"}, True),
        ({"done": "Y", "shown by": "`opcua/test_view.py::pages`"}, True),
        ({"done": "Y", "shown by": "by hand"}, True),
        ({"done": "P", "shown by": "by hand"}, True),
        ({"done": "Y", "shown by": "`interop/test_services.py::test_every_policy_connects`"}, True),
        ({"done": "N", "shown by": "not done: later"}, False),
        ({"done": "N", "shown by": "not done"}, True),
        ({"done": "maybe", "shown by": "`opcua/test_view.py::test_there_are_no_views`"}, True),
        ({"edge_opcua": "Y/N", "shown by, or why not": "not done: half of it"}, True),
        ({"an intruder": "knocks", "gets": "nothing", "shown by": "nothing"}, True),
    ],
)
def test_a_row_that_claims_too_much_is_found(cells: Row, *, wrong: bool) -> None:
    assert bool(problems(cells)) is wrong
