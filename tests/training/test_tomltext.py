"""What is written as TOML comes back as it was."""

from __future__ import annotations

import datetime as dt
import math
import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.training.tomltext import table_text, value_text

texts = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=40,
)


@given(st.dictionaries(texts, values, max_size=5))
def test_a_table_comes_back_as_it_was(table: dict[str, Any]) -> None:
    assert tomllib.loads(table_text("part", table))["part"] == table


def test_one_of_several_tables() -> None:
    text = "\n\n".join(table_text("steps", {"step": name}, many=True) for name in ("log", "clip"))
    assert tomllib.loads(text) == {"steps": [{"step": "log"}, {"step": "clip"}]}


def test_arrays_moments_and_what_is_not_finite() -> None:
    moment = dt.datetime(2026, 5, 17, 8, tzinfo=dt.UTC)
    assert tomllib.loads(f"x = {value_text(moment)}")["x"] == moment
    assert tomllib.loads(f"x = {value_text(np.array([1.5, 2.5], np.float32))}")["x"] == [1.5, 2.5]
    assert tomllib.loads(f"x = {value_text(np.int64(3))}")["x"] == 3
    assert tomllib.loads(f"x = {value_text([math.inf, -math.inf])}")["x"] == [math.inf, -math.inf]


def test_what_toml_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no place in a manifest"):
        value_text(object())
