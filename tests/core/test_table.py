"""Rows kept as columns come back as they were, bit by bit and type by type."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.table import Few, Numbers, Table, Texts
from edge_opcua.core.values import Scalar, TagSpec, TagSpecs

ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.tuples(st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
)
COLUMNS = st.one_of(
    st.lists(ANY),
    st.lists(st.floats(), min_size=20),
    st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), min_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=20),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=20),
)


def same(one: Any, other: Any) -> bool:
    """Whether two values cannot be told apart."""
    return type(one) is type(other) and repr(one) == repr(other)


@given(COLUMNS)
def test_every_value_comes_back_as_it_was(values: list[Any]) -> None:
    table = Table.of({"x": values}, len(values))
    for read in (table, Table.from_buffer(memoryview(table.to_bytes()))):
        column = read.columns["x"]
        assert read.length == len(values)
        assert all(map(same, column.values(None), values))
        assert all(same(column.value(row), value) for row, value in enumerate(values))
        assert [table.where("x", each).tolist() for each in values[:3]] == [
            [each == other for other in values] for each in values[:3]
        ]
        backwards = np.arange(len(values))[::-1]
        assert all(map(same, column.values(backwards), values[::-1]))


def test_what_repeats_costs_a_small_number_and_what_is_always_the_same_nothing() -> None:
    n = 10_000
    columns: dict[str, list[Any]] = {
        "name": [f"tag{row}" for row in range(n)],
        "unit": ["kN", "mm"] * (n // 2),
        "line": list(range(2, n + 2)),
        "high": [None, *(float(row) for row in range(1, n))],
        "file": ["tags.csv"] * n,
    }
    table = Table.of(columns, n)
    kinds = {name: type(column) for name, column in table.columns.items()}
    assert kinds == {"name": Texts, "unit": Few, "line": Numbers, "high": Numbers, "file": Few}
    size = len(table.to_bytes())
    assert size < n * (7 + 4 + 1 + 2 + 8) + 1000
    assert table.columns["high"].value(0) is None
    assert math.isclose(table.columns["high"].value(7), 7.0)


SPECS = (TagSpec("a", Scalar.DOUBLE), TagSpec("b", Scalar.STRING, 8, "x"), TagSpec("c", Scalar.INT16))


def test_declared_rows_are_equal_in_every_form() -> None:
    rows = TagSpecs.of(SPECS)
    read = TagSpecs.from_buffer(memoryview(rows.to_bytes()))
    assert rows == SPECS == read == TagSpecs.of(read)
    assert hash(rows) == hash(read)
    assert repr(rows) == repr(SPECS)
    assert (rows[0], rows[-1]) == (SPECS[0], SPECS[-1])
    assert rows[1:] == SPECS[1:]
    assert rows != list(SPECS)
    with pytest.raises(IndexError):
        rows[3]


def test_a_selection_of_rows_is_written_without_the_others() -> None:
    table = TagSpecs.of(SPECS)[::-2]
    assert table == SPECS[::-2]
    assert TagSpecs.from_buffer(memoryview(table.to_bytes())) == (SPECS[2], SPECS[0])
    assert table[1:][0] == SPECS[0]
    assert table.has_substitute.tolist() == [False, False]
