"""NumericRange (Part 4 §7.27): what is read and written of arrays, matrices and texts."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.opcua.services.attribute.ranges import NumericRange, parse

CODES = ua.StatusCodes
NO_DATA, MISMATCH = CODES.BadIndexRangeNoData, CODES.BadIndexRangeDataMismatch
KIND = ua.VariantType
TEXTS = ua.Variant(["TestString", "Test", None, "String"], KIND.String)


def code_of(action: Any, *arguments: Any) -> int:
    with pytest.raises(ServiceError) as caught:
        action(*arguments)
    return int(caught.value.code)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("6", ((6, 6),)),
        ("0", ((0, 0),)),
        ("5:7", ((5, 7),)),
        ("1:2,0:1", ((1, 2), (0, 1))),
        ("1,1", ((1, 1), (1, 1))),
        ("0,2:3,4", ((0, 0), (2, 3), (4, 4))),
    ],
)
def test_a_range_is_a_number_or_two_for_each_dimension(
    text: str, bounds: tuple[tuple[int, int], ...]
) -> None:
    assert parse(text) == NumericRange(bounds)


@pytest.mark.parametrize(
    "text",
    [
        "7:5",
        "5:5",
        "3.2",
        "-1",
        "1:",
        ":1",
        "1:2:3",
        " 1",
        "1 ",
        "1, 2",
        ",",
        "1,",
        "a",
        "0x1",
        "٣",
        "1" * 500,
    ],
)
def test_what_is_not_written_like_a_range_is_invalid(text: str) -> None:
    assert code_of(parse, text) == CODES.BadIndexRangeInvalid


@pytest.mark.parametrize(
    ("value", "text", "part"),
    [
        (ua.Variant([1, 2, 3, 4], KIND.Int32), "1:2", [2, 3]),
        (ua.Variant(ua.Variant([1, 2, 3, 4], KIND.Int32), is_array=False), "1:2", [2, 3]),
        (ua.Variant([1, 2, 3, 4], KIND.Int32), "3", [4]),  # an array stays one
        (ua.Variant([1, 2, 3, 4], KIND.Int32), "2:9", [3, 4]),  # beyond the end: partial
        (ua.Variant([[1, 2], [3, 4]], KIND.Int32), "0:1,1", [[2], [4]]),
        (ua.Variant([[1, 2], [3, 4]], KIND.Int32), "1:9,0:9", [[3, 4]]),
        (ua.Variant("press", KIND.String), "1:3", "res"),
        (ua.Variant("press", KIND.String), "4", "s"),
        (ua.Variant("press", KIND.String), "3:99", "ss"),
        (ua.Variant(b"\x00\x01\x02", KIND.ByteString), "1:2", b"\x01\x02"),
        # An array of texts is a matrix of letters; who has none there is null (since 1.05.06).
        (TEXTS, "0:3,7:9", ["ing", None, None, None]),
        (TEXTS, "1:9,0:1", ["Te", None, "St"]),
        (TEXTS, "1", ["Test"]),
        (ua.Variant([["ab", "cd"]], KIND.String), "0,0:1,1", [["b", "d"]]),
    ],
)
def test_a_range_reads_its_part(value: ua.Variant, text: str, part: Any) -> None:
    read = parse(text).read(value)
    assert read.Value == part
    assert (read.VariantType, read.is_array) == (value.VariantType, isinstance(part, list))
    if read.is_array:
        shape = np.array(part, object).shape
        assert (tuple(read.Dimensions) if read.Dimensions else shape) == shape


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ua.Variant([1, 2], KIND.Int32), "2"),
        (ua.Variant([1, 2], KIND.Int32), "2:3"),
        (ua.Variant([1, 2], KIND.Int32), "0,0"),  # one dimension too many
        (ua.Variant([[1, 2], [3, 4]], KIND.Int32), "0"),  # all dimensions shall be given
        (ua.Variant([[1, 2], [3, 4]], KIND.Int32), "0,2"),
        (ua.Variant([], KIND.Int32), "0"),
        (ua.Variant(None, KIND.Int32, is_array=True), "0"),
        (ua.Variant(5, KIND.Int32), "0"),
        (ua.Variant("abc", KIND.String), "3"),
        (ua.Variant("abc", KIND.String), "0,0"),
        (ua.Variant(None, KIND.String), "0"),
        (ua.Variant(ua.EUInformation()), "0"),
        (TEXTS, "0,0,0"),
    ],
)
def test_a_lower_bound_outside_finds_no_data(value: ua.Variant, text: str) -> None:
    assert code_of(parse(text).read, value) == NO_DATA


@pytest.mark.parametrize(
    ("whole", "text", "part", "after"),
    [
        ([1, 2, 3, 4], "1:2", [9, 8], [1, 9, 8, 4]),
        ([1, 2, 3, 4], "0", [9], [9, 2, 3, 4]),
        ([[1, 2], [3, 4]], "0:1,1", [[9], [8]], [[1, 9], [3, 8]]),
        ("press", "1:2", "XY", "pXYss"),
        (["abc", "de"], "0:1,1", ["X", "Y"], ["aXc", "dY"]),
    ],
)
def test_a_range_writes_its_part_and_nothing_else(whole: Any, text: str, part: Any, after: Any) -> None:
    kind = KIND.String if "a" in str(whole) or "p" in str(whole) else KIND.Int32
    before = ua.Variant(whole, kind)
    written = parse(text).write(before, ua.Variant(part, kind))
    assert written.Value == after
    assert before.Value == whole  # others may hold it


@pytest.mark.parametrize(
    ("whole", "text", "part", "code"),
    [
        ([1, 2, 3, 4], "1:2", [9], MISMATCH),
        ([1, 2, 3, 4], "1:2", [9, 9, 9], MISMATCH),
        ([1, 2, 3, 4], "1", 9, MISMATCH),
        ([1, 2, 3, 4], "3:4", [9, 9], NO_DATA),  # never half of it
        ([1, 2, 3, 4], "0,0", [9], NO_DATA),
        ([[1, 2], [3, 4]], "0,0:1", [9, 9], MISMATCH),
        ([1, 2], "0:1", [9, []], MISMATCH),
        (5, "0", 6, NO_DATA),
        ("abc", "1:2", "X", MISMATCH),
        ("abc", "2:3", "XY", NO_DATA),
        ("abc", "0", ["X"], MISMATCH),
        (["abc", None], "1,0", ["X"], NO_DATA),
        (["abc"], "0,0", [5], MISMATCH),
    ],
)
def test_a_part_that_does_not_fit_is_not_written(whole: Any, text: str, part: Any, code: int) -> None:
    kind = KIND.String if "a" in str(whole) else KIND.Int32
    assert code_of(parse(text).write, ua.Variant(whole, kind), ua.Variant(part, kind)) == code


def test_a_part_of_another_type_is_not_written() -> None:
    whole = ua.Variant([1, 2], KIND.Int32)
    assert code_of(parse("0").write, whole, ua.Variant([1.0])) == CODES.BadTypeMismatch


@st.composite
def arrays_and_ranges(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], str, tuple[slice, ...]]:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    array = np.arange(int(np.prod(shape))).reshape(shape)
    texts, slices = [], []
    for length in shape:
        first = draw(st.integers(0, length - 1))
        last = draw(st.integers(first, length + 3))
        texts.append(str(first) if first == last else f"{first}:{last}")
        slices.append(slice(first, last + 1))
    return array, ",".join(texts), tuple(slices)


@given(arrays_and_ranges())
def test_reading_is_what_numpy_slices(case: tuple[Any, str, tuple[slice, ...]]) -> None:
    array, text, slices = case
    value = ua.Variant(array.tolist(), KIND.Int64)
    assert parse(text).read(value).Value == array[slices].tolist()


@given(arrays_and_ranges())
def test_what_was_written_is_read_back_and_the_rest_is_untouched(
    case: tuple[Any, str, tuple[slice, ...]],
) -> None:
    array, text, slices = case
    value = ua.Variant(array.tolist(), KIND.Int64)
    inside = all(part.stop <= length for part, length in zip(slices, array.shape, strict=True))
    part = ua.Variant((-1 - array[slices]).tolist(), KIND.Int64)
    if not inside:
        assert code_of(parse(text).write, value, part) in (NO_DATA, MISMATCH)
        return
    written = parse(text).write(value, part)
    expected = array.copy()
    expected[slices] = -1 - array[slices]
    assert written.Value == expected.tolist()
    assert parse(text).read(written).Value == part.Value


@given(st.text("0123456789:, -x", max_size=12))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    with contextlib.suppress(ServiceError):
        found = parse(text)
        assert found.bounds
        assert all(0 <= first <= last for first, last in found.bounds)
