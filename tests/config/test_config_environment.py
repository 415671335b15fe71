"""Environment variables in the texts of a configuration."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.environment import substitute
from edge_opcua.config.problem import Problem

ENV = {"HOST": "10.0.0.1", "EMPTY": "", "ODD": '"] \\ ${HOST} = $$'}


def replaced(value: Any) -> tuple[Any, list[tuple[Any, Problem]], frozenset[Any]]:
    problems: list[tuple[Any, Problem]] = []
    result, whole = substitute(value, ENV, lambda path, problem: problems.append((path, problem)))
    return result, problems, whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fake://${HOST}:${PORT:-502}/", "fake://10.0.0.1:502/"),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${HOST:-x}", "10.0.0.1"),
        ("${NONE:-}", ""),
        ("${HOST:?needed}", "10.0.0.1"),
        ("5 $$ or $5 or $HOST", "5 $ or $5 or $HOST"),
        ("$${HOST}", "${HOST}"),
        ("${ODD}", '"] \\ ${HOST} = $$'),  # what a variable holds is never read again
    ],
)
def test_a_variable_is_replaced_once(text: str, expected: str) -> None:
    assert replaced({"a": [1, {"b": text}]})[0] == {"a": [1, {"b": expected}]}


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("${NONE}", "C120", "${NONE} is not set"),
        ("${NONE:?ask the plant}", "C120", "${NONE} is not set: ask the plant"),
        ("${EMPTY:?ask the plant}", "C120", "${EMPTY} is not set: ask the plant"),
        ("${1X}", "C121", '"${1X}" is not a variable'),
        ("${HOST", "C121", '"${HOST" is not a variable'),
        ("${}", "C121", '"${}" is not a variable'),
    ],
)
def test_a_variable_that_cannot_be_replaced_is_a_problem(text: str, code: str, message: str) -> None:
    result, problems, _ = replaced({"a": text})
    assert result == {"a": text}
    assert [(path, problem.code, problem.message) for path, problem in problems] == [(("a",), code, message)]


def test_only_a_text_that_is_one_variable_may_become_a_number() -> None:
    assert replaced({"a": "${HOST}", "b": "x${HOST}", "c": ["${HOST}"], "d": "${HOST}${HOST}"})[2] == {
        ("a",),
        ("c", 0),
    }


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_what_holds_no_dollar_stays_as_it_is(value: Any) -> None:
    if "$" not in repr(value):
        assert replaced(value)[0] == value
