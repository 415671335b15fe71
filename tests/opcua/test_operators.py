"""The operators of where clauses against an evaluator written straight from the tables of Part 4 §7.7.3."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.services.event import operators as op
from edge_opcua.opcua.services.event.conversions import EXPLICIT, IMPLICIT, RANK, convert, may_convert
from edge_opcua.opcua.services.event.operators import FALSE, TRUE, Value, typed

K = ua.VariantType

# Table 125, row by row: - the type itself, I implicit, E explicit (Cast), X not at all.
COLUMNS = (
    "Boolean Byte ByteString DateTime Double ExpandedNodeId Float Guid Int16 Int32 Int64 NodeId SByte "
    "StatusCode String LocalizedText QualifiedName UInt16 UInt32 UInt64 XmlElement"
)
TABLE = """
Boolean        - I X X I X I X I I I X I X E X X I I I X
Byte           E - X X I X I X I I I X I X E X X I I I X
ByteString     X X - X X X X E X X X X X X E X X X X X X
DateTime       X X X - X X X X X X X X X X E X X X X X X
Double         E E X X - X E X E E E X E X E X X E E E X
ExpandedNodeId X X X X X - X X X X X E X X I X X X X X X
Float          E E X X I X - X E E E X E X E X X E E E X
Guid           X X E X X X X - X X X X X X E X X X X X X
Int16          E E X X I X I X - I I X E X E X X E I I X
Int32          E E X X I X I X E - I X E E E X X E E I X
Int64          E E X X I X I X E E - X E E E X X E E E X
NodeId         X X X X X I X X X X X - X X I X X X X X X
SByte          E E X X I X I X I I I X - X E X X I I I X
StatusCode     X X X X X X X X E I I X X - X X X E I I X
String         I I X E I E I I I I I E I X - E E I I I X
LocalizedText  X X X X X X X X X X X X X X I - X X X X X
QualifiedName  X X X X X X X X X X X X X X I I - X X X X
UInt16         E E X X I X I X I I I X E I E X X - I I X
UInt32         E E X X I X I X E I I X E E E X X E - I X
UInt64         E E X X I X I X E E I X E E E X X E E - X
XmlElement     X X X X X X X X X X X X X X X X X X X X -
"""
# Table 126, highest first.
PRECEDENCE = (
    "Double Float Int64 UInt64 Int32 UInt32 StatusCode Int16 UInt16 SByte Byte Boolean Guid String "
    "ExpandedNodeId NodeId LocalizedText QualifiedName"
)
CELLS = {
    (K[row.split()[0]], K[column]): cell
    for row in TABLE.strip().splitlines()
    for column, cell in zip(COLUMNS.split(), row.split()[1:], strict=True)
}
RANGES = {
    K[f"{sign}Int{bits}"]: ((0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    for bits in (16, 32, 64)
    for sign in ("", "U")
} | {K.Byte: (0, 255), K.SByte: (-128, 127)}


def v(value: Any, kind: ua.VariantType) -> tuple[ua.VariantType, Any]:
    return kind, value


@pytest.mark.parametrize("name", COLUMNS.split())
def test_the_conversions_are_those_of_table_125(name: str) -> None:
    for target in (K[column] for column in COLUMNS.split()):
        cell = CELLS[K[name], target]
        assert (target in IMPLICIT.get(K[name], ())) is (cell == "I"), target
        assert (target in EXPLICIT.get(K[name], ())) is (cell == "E"), target
        assert may_convert(K[name], target) is (cell != "X"), target


def test_the_precedence_is_that_of_table_126() -> None:
    assert sorted(RANK, key=lambda kind: -RANK[kind]) == [K[name] for name in PRECEDENCE.split()]


# --- numbers, compared by a reference that uses exact arithmetic -------------------------------------------

numbers = st.one_of(
    *(
        st.tuples(st.just(kind), st.integers(low, high) | st.sampled_from([low, high, 0, 1]))
        for kind, (low, high) in RANGES.items()
    ),
    st.tuples(st.just(K.Float), st.floats(width=32)),
    st.tuples(st.just(K.Double), st.floats()),
    st.tuples(st.just(K.Boolean), st.booleans()),
)


def as_reference(value: Any, target: ua.VariantType) -> Any:
    """Convert a number the slow way: numpy knows the nearest Float, Fraction everything else."""
    if target in (K.Float, K.Double):
        wide = np.float64(float(value))
        return float(np.float32(wide)) if target == K.Float else float(wide)
    return int(value)


def reference_compare(name: str, left: Any, right: Any) -> bool:
    (left_kind, one), (right_kind, other) = left, right
    common = left_kind
    if left_kind != right_kind:
        common = next(K[n] for n in PRECEDENCE.split() if K[n] in (left_kind, right_kind))
        lower = right_kind if common == left_kind else left_kind
        if CELLS[lower, common] != "I":
            return False
        if common in RANGES and not all(RANGES[common][0] <= x <= RANGES[common][1] for x in (one, other)):
            return False
    if common == K.Boolean and name != "equals":
        return False
    one, other = as_reference(one, common), as_reference(other, common)
    if math.isnan(one) or math.isnan(other):
        return False
    if math.isfinite(one) and math.isfinite(other):
        one, other = Fraction(one), Fraction(other)
    answers: dict[str, bool] = {
        "equals": one == other,
        "greater": one > other,
        "less": one < other,
        "greater_or_equal": one >= other,
        "less_or_equal": one <= other,
    }
    return answers[name]


@settings(max_examples=400, deadline=None)
@given(numbers, numbers)
@example(v(1.1, K.Float), v(1, K.Int32))  # the example of the clause
@example(v(2**53 + 1, K.Int64), v(float(2**53), K.Double))
@example(v(2**24 + 1, K.Int32), v(float(2**24), K.Float))
@example(v(-1, K.Int16), v(2**32 - 1, K.UInt32))
@example(v(-1, K.Int32), v(2**64 - 1, K.UInt64))
def test_numbers_of_all_types_are_compared_in_the_type_of_higher_precedence(left: Any, right: Any) -> None:
    with np.errstate(over="ignore"):
        for name in ("equals", "greater", "less", "greater_or_equal", "less_or_equal"):
            wanted = TRUE if reference_compare(name, left, right) else FALSE
            assert getattr(op, name)([left, right]) == wanted, name


@settings(max_examples=300, deadline=None)
@given(numbers, st.sampled_from([*RANGES, K.Float, K.Double, K.Boolean]))
def test_cast_rounds_refuses_what_does_not_fit_and_knows_truth(
    value: tuple[ua.VariantType, Any], target: ua.VariantType
) -> None:
    kind, number = value
    found = op.cast(value, target)
    if kind == target:
        assert found == value or number != number
    elif target == K.Boolean:
        assert found == (None if math.isnan(number) else (K.Boolean, number != 0))
    elif target in RANGES:
        # "rounded by adding 0,5 and truncating"; out of range is an error, and an error is NULL.
        rounded = (
            math.floor(number + 0.5) if math.isfinite(number) and kind in (K.Float, K.Double) else number
        )
        fits = math.isfinite(number) and RANGES[target][0] <= rounded <= RANGES[target][1]
        assert found == ((target, int(rounded)) if fits else None)
    elif found is not None:
        with np.errstate(over="ignore"):
            reference = as_reference(number, target)
        assert found[1] == reference or (reference != reference and found[1] != found[1])


# --- the text of the clause, rule by rule ------------------------------------------------------------------

GUID = uuid.UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")
WHEN = dt.datetime(2026, 11, 21, 10, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "source", "target", "converted"),
    [
        ("1", K.String, K.Boolean, True),
        ("TRUE", K.String, K.Boolean, True),
        ("False", K.String, K.Boolean, False),
        ("yes", K.String, K.Boolean, None),
        (True, K.Boolean, K.String, "true"),
        (True, K.Boolean, K.Double, 1.0),
        ("42", K.String, K.Byte, 42),
        ("256", K.String, K.Byte, None),
        ("-1", K.String, K.UInt32, None),
        ("1_0", K.String, K.Int32, None),
        ("1.5", K.String, K.Int32, None),
        ("1.5e3", K.String, K.Double, 1500.0),
        ("-INF", K.String, K.Double, -math.inf),
        ("0x10", K.String, K.Double, None),
        ("9" * 500, K.String, K.Int64, None),
        ("1e400", K.String, K.Float, math.inf),
        (1e300, K.Double, K.Float, None),
        (-1.5, K.Double, K.Int16, -1),
        (2.5, K.Double, K.Int16, 3),
        (1e300, K.Double, K.Int64, None),
        (math.inf, K.Double, K.Int64, None),
        (math.nan, K.Double, K.Int64, None),
        (0.1, K.Double, K.String, "0.1"),
        (-math.inf, K.Double, K.String, "-INF"),
        (math.nan, K.Float, K.String, "NaN"),
        (float(np.float32(0.1)), K.Float, K.String, "0.1"),
        (-5, K.Int64, K.String, "-5"),
        (GUID, K.Guid, K.ByteString, GUID.bytes_le),
        (GUID.bytes_le, K.ByteString, K.Guid, GUID),
        (b"123", K.ByteString, K.Guid, None),
        (b"\x01\xab", K.ByteString, K.String, "01AB"),
        (str(GUID), K.String, K.Guid, GUID),
        ("{" + str(GUID) + "}", K.String, K.Guid, None),
        (WHEN, K.DateTime, K.String, "2026-11-21T10:30:00Z"),
        ("2026-11-21T10:30:00Z", K.String, K.DateTime, WHEN),
        ("2026-11-21T10:30:00", K.String, K.DateTime, WHEN),
        ("today", K.String, K.DateTime, None),
        (ua.NodeId("a;b", 3), K.NodeId, K.String, "ns=3;s=a;b"),
        ("ns=3;s=a;b", K.String, K.NodeId, ua.NodeId("a;b", 3)),
        ("nonsense", K.String, K.NodeId, None),
        ("", K.String, K.NodeId, None),
        (ua.ExpandedNodeId(5, 0, NamespaceUri="urn:x"), K.ExpandedNodeId, K.String, "nsu=urn:x;i=5"),
        (ua.ExpandedNodeId(5, 0, NamespaceUri="urn:x"), K.ExpandedNodeId, K.NodeId, None),
        (ua.ExpandedNodeId(5, 2), K.ExpandedNodeId, K.NodeId, ua.NodeId(5, 2)),
        (ua.LocalizedText("Tür", "de"), K.LocalizedText, K.String, "Tür"),
        ("Tür", K.String, K.LocalizedText, ua.LocalizedText("Tür", "")),
        (ua.QualifiedName("Name", 4), K.QualifiedName, K.String, "Name"),
        (ua.QualifiedName("Name", 4), K.QualifiedName, K.LocalizedText, ua.LocalizedText("Name", "")),
        ("Name", K.String, K.QualifiedName, ua.QualifiedName("Name", 0)),
        (ua.StatusCode(0x80740000), K.StatusCode, K.UInt32, 0x80740000),
        (ua.StatusCode(0x80740000), K.StatusCode, K.Int32, 0x80740000 - 2**32),
        (ua.StatusCode(0x80740000), K.StatusCode, K.Int64, 0x80740000),
        (ua.StatusCode(0x80740000), K.StatusCode, K.UInt16, 0x8074),
        (ua.StatusCode(0x80740000), K.StatusCode, K.Int16, 0x8074 - 2**16),
        (0x8074, K.UInt16, K.StatusCode, ua.StatusCode(0x80740000)),
        (-1, K.Int32, K.StatusCode, ua.StatusCode(0xFFFFFFFF)),
        (2**40, K.Int64, K.StatusCode, None),
    ],
)
def test_conversions_follow_the_rules_below_table_125(
    value: Any, source: ua.VariantType, target: ua.VariantType, converted: Any
) -> None:
    found = convert(value, source, target)
    assert found == converted
    assert type(found) is type(converted) or isinstance(converted, uuid.UUID)


scalars = st.one_of(
    numbers,
    st.tuples(st.just(K.String), st.text(max_size=30)),
    st.tuples(st.just(K.ByteString), st.binary(max_size=20)),
    st.tuples(st.just(K.DateTime), st.datetimes()),
    st.tuples(st.just(K.Guid), st.uuids()),
    st.tuples(st.just(K.NodeId), st.builds(ua.NodeId, st.integers(0, 2**32 - 1) | st.text(max_size=9))),
    st.tuples(st.just(K.LocalizedText), st.builds(ua.LocalizedText, st.text(max_size=9) | st.none())),
    st.tuples(st.just(K.QualifiedName), st.builds(ua.QualifiedName, st.text(max_size=9), st.integers(0, 9))),
    st.tuples(st.just(K.StatusCode), st.builds(ua.StatusCode, st.integers(0, 2**32 - 1))),
).map(lambda each: typed(*each))
values = st.one_of(st.none(), scalars)
OPERATORS: dict[str, int] = {
    "equals": 2,
    "greater": 2,
    "less_or_equal": 2,
    "between": 3,
    "in_list": 4,
    "like": 2,
    "is_null": 1,
    "not_": 1,
    "and_": 2,
    "or_": 2,
    "bitwise_and": 2,
    "bitwise_or": 2,
}


@settings(max_examples=400, deadline=None)
@given(st.lists(values, min_size=4, max_size=4), st.sampled_from(list(K)))
def test_no_operator_stumbles_over_any_value(operands: list[Value], target: ua.VariantType) -> None:
    arrays: list[Value] = [each if each is None else (each[0], [each[1], each[1]]) for each in operands]
    for name, count in OPERATORS.items():
        for given_operands in (operands, arrays, [operands[0], *arrays[1:]]):
            answer = getattr(op, name)(given_operands[:count])
            assert answer is None or answer[0] == K.Boolean or name.startswith("bitwise")
    op.cast(operands[0], target)


@settings(max_examples=200, deadline=None)
@given(scalars, values)
def test_nothing_compared_with_null_is_decided(one: Value, other: Value) -> None:
    # "Operands may contain null values. When this happens, the element always evaluates to NULL."
    for name in ("equals", "greater", "less", "like"):
        assert getattr(op, name)([one, None]) is None
        assert getattr(op, name)([None, other]) is None
    assert op.between([one, None, other]) is None
    assert op.is_null([None]) == TRUE
    assert one is None or op.is_null([one]) == FALSE


# Tables 127 and 128.
AND = {"TT": TRUE, "TF": FALSE, "TN": None, "FF": FALSE, "FN": FALSE, "NN": None}
OR = {"TT": TRUE, "TF": TRUE, "TN": TRUE, "FF": FALSE, "FN": None, "NN": None}
TRUTHS: dict[str, Value] = {"T": TRUE, "F": FALSE, "N": None}


@pytest.mark.parametrize("pair", AND)
def test_and_and_or_have_three_values(pair: str) -> None:
    left, right = TRUTHS[pair[0]], TRUTHS[pair[1]]
    for operands in ([left, right], [right, left]):
        assert op.and_(operands) == AND[pair]
        assert op.or_(operands) == OR[pair]


def test_not_of_null_is_null_and_only_a_text_is_taken_for_a_boolean() -> None:
    assert op.not_([None]) is None
    assert op.not_([TRUE]) == FALSE
    assert op.not_([v("false", K.String)]) == TRUE
    assert op.not_([v("perhaps", K.String)]) is None
    # "If any operand cannot be resolved to a Boolean it is considered a NULL": a number needs a Cast.
    assert op.and_([v(1, K.Int32), TRUE]) is None
    assert op.or_([v(1, K.Int32), TRUE]) == TRUE


def test_in_list_is_many_equals() -> None:
    one = v(1, K.Int32)
    assert op.in_list([one, v(3, K.Int32), v(1.0, K.Double)]) == TRUE
    assert op.in_list([one, None, v("1", K.String)]) == TRUE
    assert op.in_list([one, None, v(2, K.Int32)]) is None
    assert op.in_list([one, v(2, K.Int32), v(WHEN, K.DateTime)]) == FALSE


def test_between_brings_all_three_to_one_type() -> None:
    assert op.between([v(5, K.Byte), v(1, K.Int64), v(5.0, K.Double)]) == TRUE
    assert op.between([v(6, K.Byte), v(1, K.Int64), v(5.5, K.Double)]) == FALSE
    assert op.between([v(5, K.Byte), v(WHEN, K.DateTime), v(7, K.Byte)]) == FALSE
    assert op.between([v(5, K.Byte), v("1", K.String), v("9", K.String)]) == TRUE


def test_bits_are_combined_in_the_size_of_the_larger_operand() -> None:
    assert op.bitwise_and([v(0xFF, K.Byte), v(0x0F0F, K.UInt16)]) == (K.UInt16, 0x0F)
    assert op.bitwise_or([v(-1, K.SByte), v(0, K.UInt32)]) == (K.UInt32, 0xFFFFFFFF)
    assert op.bitwise_or([v(-1, K.Int64), v(1, K.UInt64)]) == (K.Int64, -1)
    assert op.bitwise_and([v(1.0, K.Double), v(1, K.Byte)]) is None
    assert op.bitwise_and([v(True, K.Boolean), v(1, K.Byte)]) is None
    assert op.bitwise_and([v([1], K.Byte), v(1, K.Byte)]) is None


def test_arrays_are_equal_by_element_and_one_element_is_a_scalar() -> None:
    assert op.equals([v([1, 2], K.Int32), v([1.0, 2.0], K.Double)]) == TRUE
    assert op.equals([v([1, 2], K.Int32), v([1, 3], K.Int32)]) == FALSE
    assert op.equals([v([1], K.Int32), v(1, K.Int32)]) == TRUE
    assert op.equals([v([1, 1], K.Int32), v(1, K.Int32)]) == FALSE
    assert op.greater([v([2], K.Int32), v(1, K.Int32)]) == TRUE
    assert op.greater([v([2, 2], K.Int32), v([1, 1], K.Int32)]) == FALSE
    assert op.cast(v(["1", "2"], K.String), K.Int32) == (K.Int32, [1, 2])
    # "A conversion error for any element causes the entire conversion to fail."
    assert op.cast(v(["1", "x"], K.String), K.Int32) is None


def test_texts_are_compared_without_locale_times_with_their_zone_and_ids_whole() -> None:
    text = v(ua.LocalizedText("press", "de"), K.LocalizedText)
    assert op.equals([text, v("press", K.String)]) == TRUE
    assert op.like([text, v("pr%", K.String)]) == TRUE
    assert op.like([v(5, K.Int32), v("%", K.String)]) == FALSE
    assert op.like([text, v("[", K.String)]) == FALSE
    naive = WHEN.replace(tzinfo=None)
    assert op.equals([typed(K.DateTime, naive), v(WHEN, K.DateTime)]) == TRUE
    here, there = ua.ExpandedNodeId(5, 0), ua.ExpandedNodeId(5, 0, NamespaceUri="urn:x")
    assert op.equals([v(here, K.ExpandedNodeId), v(ua.NodeId(5, 0), K.NodeId)]) == TRUE
    assert op.equals([v(here, K.ExpandedNodeId), v(there, K.ExpandedNodeId)]) == FALSE
    bad = v(ua.StatusCode(0x80740000), K.StatusCode)
    assert op.greater_or_equal([bad, v(0x80000000, K.UInt32)]) == TRUE
    assert op.equals([bad, v(0x8074, K.UInt16)]) == TRUE
    assert op.less([v(ua.NodeId(1), K.NodeId), v(ua.NodeId(2), K.NodeId)]) == FALSE  # not ordered


# Part 6 §5.1.2: the null values of the built-in types.
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (K.String, None),
        (K.Null, None),
        (K.NodeId, ua.NodeId()),
        (K.LocalizedText, ua.LocalizedText()),
        (K.QualifiedName, ua.QualifiedName()),
    ],
)
def test_a_null_value_is_null(kind: ua.VariantType, value: Any) -> None:
    assert op.is_null([typed(kind, value)]) == TRUE
    assert op.is_null([typed(K.String, "")]) == FALSE
