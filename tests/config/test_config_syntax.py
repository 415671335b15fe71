"""What is said about a file that is not TOML, and that it does not hide the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.problem import Place
from edge_opcua.config.syntax import MAX_TOML_BYTES, parse_document, read_document


@pytest.mark.parametrize(
    ("text", "place", "message", "remedy"),
    [
        (
            "a = 192.168.0.1",
            Place(1, 5, 11),
            "a: 192.168.0.1 is text; text needs quotes",
            'write a = "192.168.0.1"',
        ),
        (
            "a = press one # x",
            Place(1, 5, 9),
            "a: press one is text; text needs quotes",
            'write a = "press one"',
        ),
        ("\n  a.b = True", Place(2, 9, 4), "a.b: True is not a truth value", "write a.b = true"),
        ("a = yes", Place(1, 5, 3), "a: yes is not a truth value", "write a = true"),
        ("a = 0,5", Place(1, 5, 3), "a: 0,5 has a decimal comma", "write a = 0.5"),
        ("a = 007", Place(1, 5, 3), "a: 007 begins with zero", "write a = 7, or quotes if it is a text"),
        (
            "a = 500 ms",
            Place(1, 5, 6),
            'a: "500 ms" has a unit; the unit belongs to the name of the key',
            'write a = 500, or "500 ms" if it is a text',
        ),
        ("a =", Place(1, 4, 1), "a has no value", "write one after the =, or put a # before the line"),
        ("a = “one”", Place(1, 5, 5), "a: typographic quotes", 'write a = "one" with straight quotes'),
        ('a = "one\nb = 1', Place(1, 5, 4), "a: the text is not closed", 'add a " at its end'),
        ('a = "one', Place(1, 5, 4), 'the text that begins here is never closed; " is missing', ""),
        (
            r'a = "C:\temp\x"',
            Place(1, 5, 11),
            'a: a backslash in "…" begins an escape',
            r"write a = 'C:\temp\x' with single quotes, or double each backslash",
        ),
        ("name: press", Place(1, 5, 1), 'name: TOML has "=" between key and value, not ":"', ""),
        ("just words", Place(1, 1, 10), '"just words" is neither "key = value" nor "[table]"', ""),
        ("a = 1\na = 2", Place(2, 1, 1), '"a" is set twice (first in line 1)', "keep one of them"),
        ("[t]\n[u]\n[t]", Place(3, 2, 1), '"t" is set twice (first in line 1)', "keep one of them"),
        (
            "a = 1\nlist = [1,\n2\nb = 3",
            Place(2, 8, 3),
            "the list that begins here is never closed; ] is missing",
            "",
        ),
        (
            'a = """one\ntwo',
            Place(1, 5, 6),
            'the text that begins here is never closed; """ is missing',
            "",
        ),
        ("[devices", Place(1, 9, 1), "expected ']' at the end of a table declaration", ""),
    ],
)
def test_a_syntax_error_is_told_in_plain_words(text: str, place: Place, message: str, remedy: str) -> None:
    problem = parse_document(text, "f.toml").problems[0]
    assert (problem.place, problem.message, problem.help) == (place, message, remedy)
    assert problem.code == ("C122" if "twice" in message else "C101")
    assert problem.excerpt == text.split("\n")[place.line - 1]


def test_one_missing_quote_does_not_hide_the_next_nor_the_rest() -> None:
    document = parse_document("a = one\nb = 2\nc = 3,5\n[t]\nd = 4", "f.toml")
    assert [problem.place.line for problem in document.problems] == [1, 3]
    assert document.raw == {"b": 2, "t": {"d": 4}}
    assert document.damaged
    assert document.places.key(("t", "d")) == Place(5, 1, 1)


def test_a_setting_that_stands_twice_leaves_the_first_and_no_gap() -> None:
    document = parse_document("a = 1\na = 2\n", "f.toml")
    assert document.raw == {"a": 1}
    assert not document.damaged


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (None, "C107", "there is no such file"),
        ("folder", "C108", "is a folder, not a file"),
        (b"a = 1\x00", "C108", "is not a text file"),
        ("a = 1".encode("utf-16"), "C108", "is UTF-16; TOML is UTF-8"),
        (b'ok = 1\nname = "M\xfcller"', "C108", "line 2 is not UTF-8 (byte 0xFC)"),
        (b"#" * (MAX_TOML_BYTES + 1), "C108", "is 4 MiB large; at most 4 MiB are read"),
    ],
)
def test_a_file_that_is_not_a_text_is_refused_clearly(
    tmp_path: Path, data: bytes | str | None, code: str, message: str
) -> None:
    file = tmp_path / "f.toml"
    if isinstance(data, bytes):
        file.write_bytes(data)
    elif data == "folder":
        file.mkdir()
    document = read_document(file, "f.toml")
    assert document.raw is None
    (problem,) = document.problems
    assert (problem.code, problem.message, problem.file) == (code, message, "f.toml")


@pytest.mark.parametrize("name", ["a\x00b", "x" * 300, "f.toml/inside"])
def test_a_name_that_cannot_be_a_file_is_a_problem_and_no_exception(tmp_path: Path, name: str) -> None:
    (tmp_path / "f.toml").write_text("")
    (problem,) = read_document(tmp_path / name, name).problems
    assert problem.code == "C107"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert read_document(file, "f.toml").raw == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "a = " + "[" * 100 + "]" * 100, "a" + ".a" * 200 + " = 1", "a = 1" + "0" * 5000],
)
def test_what_would_overflow_the_stack_is_a_problem(text: str) -> None:
    document = parse_document(text, "f.toml")
    assert document.raw in (None, {})
    assert document.problems[0].code == "C101"


@given(
    st.text("ab=[]{}\"'\\.,#: \n\t01-“é", max_size=80)
    | st.binary(max_size=80).map(lambda data: data.decode("latin-1"))
)
def test_any_text_gives_a_document_or_problems_at_places_in_it(text: str) -> None:
    document = parse_document(text, "f.toml")
    assert (document.raw is None) <= bool(document.problems)
    lines = text.split("\n")
    for problem in document.problems:
        assert 1 <= problem.place.line <= len(lines)
        assert 0 <= problem.place.column <= len(lines[problem.place.line - 1]) + 2
