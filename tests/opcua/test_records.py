"""Records as bytes: what the codec would have made of the same values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import Primitives, struct_to_binary, variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.ticks import LATEST
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.values import VARIANT_OF, as_sent, utc

SCALARS = [scalar for scalar in Scalar if scalar is not Scalar.STRING]


def value_of(scalar: Scalar) -> st.SearchStrategy[Any]:
    """Any value of a type, its extremes often."""
    dtype = scalar.dtype
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8)  # type: ignore[arg-type]
    if scalar is Scalar.DATETIME:
        return st.integers(0, LATEST // 10 - 1).map(lambda us: 10 * us)  # whole microseconds
    width = 8 * dtype.itemsize
    least, most = (0, 2**width - 1) if dtype.kind == "u" else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    return st.integers(least, most) | st.sampled_from([least, most, 0])


@st.composite
def rows(draw: st.DrawFn) -> tuple[Scalar, Any, int, int, int, int]:
    scalar = draw(st.sampled_from(SCALARS))
    stamp_us = st.just(0) | st.integers(1, 4_000_000_000_000_000)
    return (
        scalar,
        draw(value_of(scalar)),
        draw(st.integers(0, 15)),
        draw(st.integers(0, 0xFFFF_FFFF)),
        draw(stamp_us) * 1000,
        draw(stamp_us) * 1000 + 1,
    )


def recorded(found: list[tuple[Scalar, Any, int, int, int, int]]) -> records.Records:
    made = np.zeros(len(found), records.BODY)
    for index, (scalar, value, mask, status, *_) in enumerate(found):
        made["kind"][index] = int(scalar)
        made["mask"][index] = mask
        made["value"][index] = records.widened(np.array([value], scalar.dtype))[0]
        made["status"][index] = status
    made["source"] = records.ticks(np.array([row[4] for row in found], np.int64))
    made["server"] = records.ticks(np.array([row[5] for row in found], np.int64))
    return made


def encoded(row: tuple[Scalar, Any, int, int, int, int]) -> bytes:
    """What asyncua's codec says of its parts, in the order of Part 6 §5.2.2.17."""
    scalar, value, mask, status, source_ns, server_ns = row
    parts = [bytes([mask])]
    if mask & records.VALUE:
        parts.append(variant_to_binary(ua.Variant(as_sent(value, scalar), VARIANT_OF[scalar])))
    if mask & records.STATUS:
        parts.append(struct_to_binary(ua.StatusCode(ua.UInt32(status))))
    for bit, time_ns in ((records.SOURCE, source_ns), (records.SERVER, server_ns)):
        if mask & bit:
            parts.append(Primitives.DateTime.pack(utc(time_ns) or ua.get_win_epoch()))
    return b"".join(parts)


@given(st.lists(rows(), min_size=1, max_size=12))
def test_records_have_the_bytes_of_the_codec(found: list[tuple[Scalar, Any, int, int, int, int]]) -> None:
    # NaN has many bits; the codec keeps whose it gets, and so do records.
    assert records.to_bytes(recorded(found)) == b"".join(map(encoded, found))


@given(st.lists(rows(), min_size=1, max_size=12), st.integers(0, 0xFFFF_FFFF))
def test_a_notification_is_a_handle_and_a_value(
    found: list[tuple[Scalar, Any, int, int, int, int]], handle: int
) -> None:
    bodies = recorded(found)
    made = np.zeros(len(found), records.NOTIFICATION)
    made["handle"] = handle
    made["body"] = bodies
    parts = [handle.to_bytes(4, "little") + records.to_bytes(bodies[i : i + 1]) for i in range(len(found))]
    assert records.to_bytes(made) == b"".join(parts)
    assert records.sizes(made).tolist() == [len(part) for part in parts]


def test_no_records_are_no_bytes() -> None:
    assert records.to_bytes(np.zeros(0, records.BODY)) == b""


def test_unknown_times_stay_unknown_and_others_are_whole_microseconds() -> None:
    # Part 6 §5.2.2.5: ticks of 100 ns since 1601.
    found = records.ticks(np.array([0, 1_999, 1_000_000_000], np.int64))
    assert found.tolist() == [0, 116_444_736_000_000_010, 116_444_736_010_000_000]


@pytest.mark.parametrize("scalar", SCALARS)
def test_values_survive_being_widened(scalar: Scalar) -> None:
    kind, width = scalar.dtype.kind, 8 * scalar.dtype.itemsize
    extremes = {"b": [0, 1], "f": [0.5, -math.inf], "u": [0, 2**width - 1], "i": [-1, -(2 ** (width - 1))]}
    values = extremes[kind]
    column = np.array(values, scalar.dtype)
    assert records.narrowed(records.widened(column), scalar).tolist() == column.tolist()


def canonical(column: Any, scalar: Scalar) -> Any:
    kinds = np.full(len(column), int(scalar), np.uint8)
    return records.Canonical(kinds).of(records.widened(column))


@pytest.mark.parametrize("scalar", [Scalar.FLOAT, Scalar.DOUBLE])
def test_equal_numbers_have_equal_bits_once_they_are_canonical(scalar: Scalar) -> None:
    other_nan = np.array([math.nan], scalar.dtype)
    other_nan.view(f"u{scalar.dtype.itemsize}")[0] |= 1  # another payload
    signalling = np.array([math.inf], scalar.dtype)
    signalling.view(f"u{scalar.dtype.itemsize}")[0] |= 1
    column = np.concatenate([np.array([0.0, -0.0, math.nan], scalar.dtype), other_nan, signalling])
    bits = canonical(column, scalar)
    assert bits[2] == bits[4]
    assert bits[0] == bits[1]
    assert bits[2] == bits[3]
    assert bits[0] != bits[2]


@pytest.mark.parametrize("scalar", SCALARS)
def test_canonical_integers_are_as_far_apart_as_the_integers(scalar: Scalar) -> None:
    kind, width = scalar.dtype.kind, 8 * scalar.dtype.itemsize
    extremes: dict[str, list[Any]] = {
        "b": [False, True],
        "f": [-1.5, math.inf],
        "u": [0, 2**width - 1],
        "i": [-(2 ** (width - 1)), 2 ** (width - 1) - 1],
    }
    low, high = extremes[kind]
    numbers = [int(each) for each in canonical(np.array([low, high], scalar.dtype), scalar)]
    assert [records.from_canonical(each, scalar) for each in numbers] == [low, high]
    if kind != "f":
        assert numbers[1] - numbers[0] == high - low


def test_a_time_is_what_it_was_to_the_microsecond() -> None:
    assert records.nanoseconds(records.tick(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_000
    assert records.nanoseconds(records.tick(0)) == 0
