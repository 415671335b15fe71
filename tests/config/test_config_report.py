"""How problems are shown: folded, cut to width, counted, and as data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.problem import Place, Problem, Severity, alternatives, nearest, quoted
from edge_opcua.config.report import (
    EXCERPT_WIDTH,
    cut,
    fold,
    number_ranges,
    problems_text,
    render,
    summary,
    wants_color,
)
from tests.config.fakedriver import CONFIG, load_texts


def problem(code: str = "T204", line: int = 1, **fields: object) -> Problem:
    return Problem(code, "wrong", file="t.csv", place=Place(line, 1), **fields)  # type: ignore[arg-type]


def test_more_than_five_rows_of_a_kind_are_folded_at_the_place_of_the_first() -> None:
    kind = [problem(line=line) for line in range(40, 71)]
    other = [problem("T203", line=50)]
    parts = fold([*kind[:3], *other, *kind[3:]])
    assert parts == [kind, other]
    assert render(parts[0]).split("\n") == [
        "t.csv:40:1: error[T204] wrong",
        "t.csv: error[T204] in 31 rows: 40-70",
    ]


def test_five_of_a_kind_are_shown_each() -> None:
    kind = [problem(line=line) for line in range(1, 6)]
    assert fold(kind) == [[one] for one in kind]


def test_settings_fold_by_key_since_two_keys_are_two_mistakes() -> None:
    same = [
        Problem("C103", str(n), file="f.toml", place=Place(n, 1), where=f"devices[d{n}].timeout_ms")
        for n in range(1, 8)
    ]
    other = Problem("C103", "x", file="f.toml", place=Place(9, 1), where="opcua.publish_ms")
    parts = fold([*same, other])
    assert [len(part) for part in parts] == [7, 1]
    assert render(parts[0]).endswith("f.toml: error[C103] in 7 places: lines 1-7")


def test_a_problem_has_its_line_a_caret_the_suggestion_and_help() -> None:
    one = Problem(
        "C102",
        'unknown key "securty"',
        Severity.WARNING,
        file="f.toml",
        place=Place(5, 1, 7),
        where="opcua.securty",
        suggestion="security",
        help="see the manual",
        excerpt='securty = "sign"',
    )
    assert render([one]).split("\n") == [
        'f.toml:5:1: warn[C102] opcua.securty: unknown key "securty"',
        '    5 | securty = "sign"',
        '      | ^^^^^^^ did you mean "security"?',
        "      help: see the manual",
    ]
    assert "\x1b[1;33mwarn[C102]\x1b[0m" in render([one], color=True)


@pytest.mark.parametrize(
    ("env", "is_terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, True),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    env: dict[str, str], *, is_terminal: bool, expected: bool
) -> None:
    assert wants_color(env, is_terminal=is_terminal) is expected


def test_without_a_line_the_suggestion_is_help() -> None:
    one = Problem("C104", "no", file="f.toml", suggestion="yes")
    assert render([one]) == 'f.toml: error[C104] no\n      help: did you mean "yes"?'
    assert render([Problem("S442", "open")]) == "error[S442] open"


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([3, 4, 5, 9, 40, 41], "3-5, 9, 40-41"), ([2, 2, 1], "1-2")]
)
def test_numbers_become_ranges(numbers: list[int], text: str) -> None:
    assert number_ranges(numbers) == text


@pytest.mark.parametrize(
    ("errors", "warnings", "text"),
    [(0, 0, "0 errors, 0 warnings."), (1, 1, "1 error, 1 warning."), (2, 0, "2 errors, 0 warnings.")],
)
def test_the_summary_counts(errors: int, warnings: int, text: str) -> None:
    notice = problem(severity=Severity.NOTICE)
    found = [problem()] * errors + [problem(severity=Severity.WARNING)] * warnings
    assert summary([*found, notice]) == text


def test_the_last_line_is_the_summary_and_the_next_command(tmp_path: Path) -> None:
    wrong = problems_text(load_texts(tmp_path, CONFIG.replace("machine", "maschine")))
    assert wrong.split("\n")[-1] == "2 errors, 0 warnings.  What a code means: edge-opcua explain C106"
    assert problems_text(load_texts(tmp_path)) == "0 errors, 0 warnings."


def test_a_problem_as_data_has_all_that_its_text_has() -> None:
    assert problem(suggestion="a", help="b", where="c").as_json() == {
        "code": "T204",
        "severity": "error",
        "file": "t.csv",
        "line": 1,
        "column": 1,
        "where": "c",
        "message": "wrong",
        "help": "b",
        "suggestion": "a",
        "origin": "",
    }


@given(st.text(max_size=400), st.integers(1, 450), st.integers(1, 400))
def test_a_line_of_any_length_is_cut_around_the_place(line: str, column: int, width: int) -> None:
    shown, at = cut(line, Place(1, column, width))
    assert len(shown) <= EXCERPT_WIDTH + 2
    assert shown.isprintable()
    assert 0 <= at <= len(shown) + 1
    printable = "".join(character if character.isprintable() else " " for character in line)
    if column <= len(line) and at < len(shown):
        assert shown[at] == printable[column - 1]


def test_a_suggestion_needs_likeness_and_ignores_case() -> None:
    assert nearest("securty", ["security", "site"]) == "security"
    assert nearest("PRESS", ["press"]) == "press"
    assert nearest("hydraulics", ["press", "vib"]) == ""


def test_at_most_eight_alternatives_are_named() -> None:
    assert alternatives("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert alternatives("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        ("a\nb", '"a\ufffdb"'),
        ("x" * 70, '"' + "x" * 59 + '…"'),
        (10**70, "1" + "0" * 58 + "…"),
        (1.5, "1.5"),
    ],
)
def test_a_value_is_shown_as_in_the_file_and_never_breaks_the_line(value: object, text: str) -> None:
    assert quoted(value) == text
