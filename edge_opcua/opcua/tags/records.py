"""Values as the bytes they have on the wire, one record a value: columns in, notifications and answers out.

A DataValue (Part 6 §5.2.2.17) of a scalar is a mask, a Variant (type and value), a StatusCode and two
DateTimes. Here each of them has its place in a record of fixed width; what a value has not, or has shorter,
is cut out of the bytes at the end, for all records at once.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Array, Scalar

if sys.byteorder != "little":  # pragma: no cover - no such machine is supported
    raise ImportError("values are laid out as OPC UA sends them, and that is little-endian")

# Bits of a DataValue's mask.
VALUE, STATUS, SOURCE, SERVER = 1, 2, 4, 8
WHOLE: Final = VALUE | STATUS | SOURCE | SERVER
_MASKS: Final = 16
_KINDS: Final = int(Scalar.STRING) + 1

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
NOTIFICATION: Final = np.dtype([("handle", "<u4"), ("body", BODY)])
Records = npt.NDArray[Any]

# DateTime: 100 ns since 1601; stamps are made of whole microseconds, as everywhere in this server.
_EPOCH_TICKS: Final = 116_444_736_000_000_000
_NS_PER_US: Final = 1000
_TICKS_PER_US: Final = 10


def ticks(time_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return times, ns UTC, as DateTimes; 0 (no time is known) stays 0."""
    found = time_ns // _NS_PER_US
    found *= _TICKS_PER_US
    found += _EPOCH_TICKS
    found[time_ns == 0] = 0
    return found


def widened(values: Array) -> npt.NDArray[np.uint64]:
    """Return the bits of scalars as they are sent, in the low bytes of 64."""
    return values.view(f"u{values.dtype.itemsize}").astype(np.uint64)


def narrowed(bits: npt.NDArray[np.uint64], scalar: Scalar) -> Array:
    """Undo :func:`widened` for values of one type."""
    dtype = scalar.dtype
    return bits.astype(f"u{dtype.itemsize}").view(dtype)


def canonical(values: Array) -> Array:
    """Return values of which two are equal exactly if their bits are: one zero, one NaN."""
    if values.dtype.kind != "f":
        return values
    found = np.asarray(np.add(values, values.dtype.type(0)))  # -0.0 + 0.0 is 0.0
    return np.where(np.isnan(found), found.dtype.type(np.nan), found)


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


def cut(records: Records, codes: npt.NDArray[np.intp]) -> bytes:
    """Do what :func:`to_bytes` does, with the kinds and masks worked out."""
    kept = _KEPT[records.dtype]
    width = records.dtype.itemsize
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), width)
    first = codes[0]
    if (codes == first).all():
        row = kept[first]
        if row.all():
            return raw.tobytes()
        return raw[:, np.flatnonzero(row)].tobytes()
    return raw[kept[codes]].tobytes()
