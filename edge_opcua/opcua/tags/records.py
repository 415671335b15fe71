"""Values as the bytes they have on the wire, one record a value: columns in, notifications and answers out.

A DataValue (Part 6 §5.2.2.17) of a scalar is a mask, a Variant (type and value), a StatusCode and two
DateTimes. Here each of them has its place in a record of fixed width; what a value has not, or has shorter,
is cut out of the bytes at the end, for all records at once.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.ticks import EPOCH_TICKS, TICKS_PER_US
from edge_opcua.core.values import Array, Scalar

if sys.byteorder != "little":  # pragma: no cover - no such machine is supported
    raise ImportError("values are laid out as OPC UA sends them, and that is little-endian")

# Bits of a DataValue's mask.
VALUE, STATUS, SOURCE, SERVER = 1, 2, 4, 8
WHOLE: Final = VALUE | STATUS | SOURCE | SERVER
_MASKS: Final = 16
_KINDS: Final = int(max(Scalar)) + 1

BODY: Final = np.dtype(
    [
        ("mask", "u1"),
        ("kind", "u1"),
        ("value", "<u8"),
        ("status", "<u4"),
        ("source", "<i8"),
        ("server", "<i8"),
    ]
)
# The same, one by one.
RECORD: Final = struct.Struct("<BB8sIqq")
NOTIFICATION: Final = np.dtype([("handle", "<u4"), ("body", BODY)])
Records = npt.NDArray[Any]

# DateTime: 100 ns since 1601; stamps are made of whole microseconds, as everywhere in this server.
_NS_PER_US: Final = 1000
_SIGNED: Final = [int(each) for each in Scalar if each.dtype.kind == "i"]
_WIDTHS: Final = np.array([0, *(each.dtype.itemsize for each in Scalar)])
_BITS: Final = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_SIGN: Final = np.uint64(1 << 63)
# Of a Double's bits.
_NAN: Final = np.uint64(0xFFF << 51)
_BAD: Final = 0x80000000


def ticks(time_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return times, ns UTC, as DateTimes; 0 (no time is known) stays 0."""
    found = time_ns // _NS_PER_US
    found *= TICKS_PER_US
    found += EPOCH_TICKS
    found[time_ns == 0] = 0
    return found


def tick(time_ns: int) -> int:
    """Return one time as a DateTime, as :func:`ticks` does."""
    return time_ns // _NS_PER_US * TICKS_PER_US + EPOCH_TICKS if time_ns else 0


def nanoseconds(date_time: int) -> int:
    """Undo :func:`tick`, as far as a microsecond."""
    return (date_time - EPOCH_TICKS) * (_NS_PER_US // TICKS_PER_US) if date_time else 0


def record(kind: int, value: bytes, status: int, source_ns: int, server_ns: int) -> bytes:
    """Return one value as the bytes of a :data:`BODY`.

    Args:
        kind: Built-in type.
        value: The value as it is sent; not looked at if the status is Bad.
        status: StatusCode.
        source_ns: When the device said it, ns UTC; 0 if it never did.
        server_ns: When we took it or learnt of its status, ns UTC; 0: unknown.
    """
    mask = STATUS if status & _BAD else STATUS | VALUE
    if source_ns:
        mask |= SOURCE
    if server_ns:
        mask |= SERVER
    return RECORD.pack(mask, kind, value, status, tick(source_ns), tick(server_ns))


def bits(values: Array) -> Array:
    """Return the bits of scalars, as unsigned integers of the same width."""
    return values.view(_BITS[values.dtype.itemsize])


def widened(values: Array) -> npt.NDArray[np.uint64]:
    """Return the bits of scalars as they are sent, in the low bytes of 64."""
    return bits(values).astype(np.uint64)


def narrowed(bits: npt.NDArray[np.uint64], scalar: Scalar) -> Array:
    """Undo :func:`widened` for values of one type."""
    dtype = scalar.dtype
    return bits.astype(f"u{dtype.itemsize}").view(dtype)


class Canonical:
    """Numbers of which two of a row are equal exactly if the values are: one zero, one NaN.

    Those of integers are in their order and as far apart as they are; those of floats are a Double's bits.

    Args:
        kinds: Built-in type of each row.
    """

    def __init__(self, kinds: npt.NDArray[np.uint8]) -> None:
        widths = _WIDTHS[kinds]
        signed = np.isin(kinds, _SIGNED)
        self._signed = np.flatnonzero(signed)
        # Bits to the left of each row's own.
        self._shifts = (64 - 8 * widths[signed]).astype(np.uint64)
        self._singles = np.flatnonzero(kinds == int(Scalar.FLOAT))
        self._floats = np.flatnonzero((kinds == int(Scalar.FLOAT)) | (kinds == int(Scalar.DOUBLE)))

    def of(self, bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return the numbers of :func:`widened` values, one of each row."""
        found = bits.copy()
        if len(self._signed):
            wide = (found[self._signed] << self._shifts).view(np.int64)
            wide >>= self._shifts.view(np.int64)
            found[self._signed] = wide.view(np.uint64) ^ _SIGN
        if len(self._floats):
            with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
                if len(self._singles):
                    singles = found[self._singles].astype(np.uint32).view(np.float32)
                    found[self._singles] = singles.astype(np.float64).view(np.uint64)
                numbers = found[self._floats].view(np.float64)
                numbers += 0.0  # -0.0 becomes 0.0
                none = np.isnan(numbers)
            if none.any():
                numbers.view(np.uint64)[none] = _NAN
            found[self._floats] = numbers.view(np.uint64)
        return found


def from_canonical(number: int, scalar: Scalar) -> bool | int | float:
    """Undo :class:`Canonical` for one value."""
    bits = np.uint64(number)
    kind = scalar.dtype.kind
    if kind == "f":
        return float(bits.view(np.float64))
    if kind == "i":
        return int((bits ^ _SIGN).view(np.int64))
    return bool(bits) if kind == "b" else int(bits)


def set_times(
    fields: Mapping[str, npt.NDArray[Any]], source_ns: npt.NDArray[np.int64], server_ns: npt.NDArray[np.int64]
) -> None:
    """Set the times of bodies, and their masks as if each had a value: a time of 0 is none.

    Args:
        fields: The fields of the bodies by their names.
        source_ns: When the device said it, ns UTC.
        server_ns: When we took it, ns UTC.
    """
    mask = fields["mask"]
    mask[...] = WHOLE
    for name, bit, times in (("source", SOURCE, source_ns), ("server", SERVER, server_ns)):
        first = int(times[0]) if len(times) else 0
        if first and (times == first).all():  # the rows of a batch mostly share their time
            fields[name][...] = tick(first)
        else:
            fields[name][...] = ticks(times)
            mask[times == 0] &= ~bit & 0xFF


def _kept(head: int) -> npt.NDArray[np.bool_]:
    """Return which bytes of a record go out, by kind and mask."""
    offsets = BODY.fields
    assert offsets is not None
    table = np.ones((_KINDS * _MASKS, head + BODY.itemsize), np.bool_)
    for scalar in Scalar:
        width = scalar.dtype.itemsize
        for mask in range(_MASKS):
            row = table[int(scalar) * _MASKS + mask]
            at = head + offsets["value"][1]
            row[at + width : at + 8] = False
            if not mask & VALUE:
                row[at - 1 : at + 8] = False  # neither type nor value
            for bit, name in ((STATUS, "status"), (SOURCE, "source"), (SERVER, "server")):
                if not mask & bit:
                    start = head + offsets[name][1]
                    row[start : start + BODY[name].itemsize] = False
    return table


_KEPT: Final = {BODY: _kept(0), NOTIFICATION: _kept(4)}


def to_bytes(records: Records) -> bytes:
    """Return records of type :data:`BODY` or :data:`NOTIFICATION` as they are sent, one after the other."""
    if not len(records):
        return b""
    return cut(records, _codes(records))


def _codes(records: Records) -> npt.NDArray[np.intp]:
    body = records if records.dtype == BODY else records["body"]
    codes = body["kind"].astype(np.intp)
    codes *= _MASKS
    codes += body["mask"]
    return codes


def sizes(records: Records) -> npt.NDArray[np.intp]:
    """Return how many bytes each record has on the wire, shape ``(n,)``."""
    found: npt.NDArray[np.intp] = _SIZES[records.dtype][_codes(records)]
    return found


_SIZES: Final = {dtype: table.sum(axis=1) for dtype, table in _KEPT.items()}


# The same as one item for each kind and mask: looked up in one go.
_ROWS: Final = {
    dtype: np.ascontiguousarray(table).view(f"V{dtype.itemsize}")[:, 0] for dtype, table in _KEPT.items()
}


def cut(records: Records, codes: npt.NDArray[np.intp]) -> bytes:
    """Do what :func:`to_bytes` does, with the kinds and masks worked out."""
    dtype = records.dtype
    records = np.ascontiguousarray(records)
    first = int(codes[0])
    if (codes == first).all():
        inside, outside = _runs(dtype.itemsize, first)
        found = np.empty(len(records), outside)
        given = records.view(inside)
        for name in outside.names or ():
            found[name] = given[name]
        return found.tobytes()
    kept = _ROWS[dtype].take(codes).view(np.bool_)
    return records.view(np.uint8)[kept].tobytes()


@cache
def _runs(width: int, code: int) -> tuple[np.dtype[np.void], np.dtype[np.void]]:
    """Return the runs of bytes that go out of records of one kind and mask, as fields of them and alone."""
    kept = _KEPT[BODY if width == BODY.itemsize else NOTIFICATION][code]
    edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=0, append=0)).tolist()
    starts, ends = edges[::2], edges[1::2]
    names = [f"run{i}" for i in range(len(starts))]
    formats = [f"V{end - start}" for start, end in zip(starts, ends, strict=True)]
    inside = np.dtype({"names": names, "formats": formats, "offsets": starts, "itemsize": width})
    return inside, np.dtype(list(zip(names, formats, strict=True)))
