"""Like patterns mean what Part 4 says, and no pattern burns the processor."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.services.event.like import MAX_PATTERN, MAX_TEXT, compile_like


# Part 4 §7.7.3, Table 124.
@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("%", "", True),
        ("main%", "main", True),
        ("main%", "mainframe", True),
        ("main%", "the main", False),
        ("%en%", "entail", True),
        ("%en%", "green", True),
        ("%en%", "eel n", False),
        ("_ould", "could", True),
        ("_ould", "should", False),
        (r"\\", "\\", True),
        (r"100\%", "100%", True),
        (r"100\%", "1000", False),
        (r"a\_b", "a_b", True),
        (r"a\_b", "axb", False),
        ("abc[13-68]", "abc1", True),
        ("abc[13-68]", "abc4", True),
        ("abc[13-68]", "abc8", True),
        ("abc[13-68]", "abc2", False),
        ("abc[xyz]", "abcy", True),
        ("ABC[^13-5]", "ABC2", True),
        ("ABC[^13-5]", "ABC4", False),
        ("ABC[^13-5]", "ABC", False),
        (r"[\]\-a]", "]", True),
        (r"[\]\-a]", "-", True),
        (r"[\^a]", "^", True),
        ("[a-]", "-", True),
        ("[a^]", "^", True),
        ("[%_]", "%", True),
        ("[%_]", "x", False),
        ("a.c", "abc", False),
        ("(a|b)*", "(a|b)*", True),
        ("[[&&~|]", "&", True),
        ("two\nlines%", "two\nlines, three", True),
        ("a%%b", "ab", True),
        ("a%b%a", "aba", True),
        ("a%a", "a", False),
        ("", "", True),
        ("", "a", False),
        ("Press", "press", False),
        ("%ü_", "Prüf", True),
    ],
)
def test_patterns_mean_what_the_table_says(pattern: str, text: str, matches: bool) -> None:
    assert compile_like(pattern)(text) is matches


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[^]", "a\\", "[z-a]", "[a\\", "[a--b]", "x" * 257])
def test_a_pattern_that_makes_no_sense_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_like(pattern)


# None of these comes back within a lifetime if each % tries every length.
@pytest.mark.parametrize(
    "pattern",
    [
        "%a" * 127 + "%b",
        "%" * 255 + "b",
        "%_" * 127 + "b",
        "%" + "a" * 254 + "b",
        "%" + "_" * 253 + "b%",
        "%[a]" * 63 + "%b",
        "%" + "aaaa%" * 50 + "b",
    ],
)
def test_a_hostile_pattern_costs_no_more_than_text_times_pattern(pattern: str) -> None:
    assert len(pattern) <= MAX_PATTERN
    assert compile_like(pattern)("a" * MAX_TEXT) is False


def test_a_text_beyond_the_bound_does_not_match() -> None:
    assert compile_like("%")("a" * MAX_TEXT)
    assert not compile_like("%")("a" * (MAX_TEXT + 1))
    assert not compile_like("a" * 10)("a" * (MAX_TEXT + 1))


def naive(pattern: str, text: str) -> bool:
    """Try everything; only ``%``, ``_`` and letters."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(naive(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and naive(pattern[1:], text[1:])


@settings(max_examples=300, deadline=None)
@given(st.text("ab%_", max_size=8), st.text("ab", max_size=10))
@example("%a%a", "aa")
@example("a%ba", "aba")
def test_leftmost_places_find_what_trying_everything_finds(pattern: str, text: str) -> None:
    assert compile_like(pattern)(text) is naive(pattern, text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_pattern_or_refused(pattern: str, text: str) -> None:
    try:
        matches = compile_like(pattern)
    except ValueError:
        return
    assert matches(text) in (True, False)
