"""Rows of blocks as the DataValues that Read answers with: many at once as columns, few of them singly."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.records import BODY, SERVER, SOURCE, STATUS, VALUE, Records, tick

BOTH: Final = int(ua.TimestampsToReturn.Both)
# What of a value is not sent, by TimestampsToReturn.
_DROPPED: Final = {
    int(ua.TimestampsToReturn.Source): SERVER,
    int(ua.TimestampsToReturn.Server): SOURCE,
    BOTH: 0,
    int(ua.TimestampsToReturn.Neither): SOURCE | SERVER,
}
_BAD: Final = 0x80000000
# An image costs as much as this many rows taken singly, and one more for each so many rows of the block.
_FEW, _SHARE = 8, 400
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
Raw = npt.NDArray[np.uint8]

# Where a BODY has what, for one that is cut by hand.
_KIND_AT, _VALUE_AT, _STATUS_AT, _SOURCE_AT, _SERVER_AT, _END = 1, 2, 10, 14, 22, 30
_VALUE_END: Final = {int(scalar): _VALUE_AT + scalar.dtype.itemsize for scalar in Scalar}
_STATUS_OF: Final = struct.Struct("<I")
_TIME: Final = struct.Struct("<q")


def gathered(block: LiveBlock, rows: Rows) -> Raw:
    """Return copies of rows of a block as bytes, shape ``(n, 30)``."""
    if not block.drawn and len(rows) <= _FEW + len(block.kind) // _SHARE:  # an image costs more than they do
        few = bytearray().join([block.record(row) for row in rows.tolist()])
        return np.frombuffer(few, np.uint8).reshape(len(rows), BODY.itemsize)
    image = block.image()
    raw: Raw = image.view(np.uint8).reshape(len(image), BODY.itemsize)
    return raw.take(rows, axis=0)


def refuse(values: Records, denied: Flags, code: int) -> None:
    """Let some values be nothing but a StatusCode."""
    values["mask"][denied] = STATUS
    values["status"][denied] = code


def stamp(values: Records, timestamps: int, now: int) -> bool:
    """Give values the stamps that were asked for, as ``Attributes`` does one by one.

    Args:
        values: They are changed.
        timestamps: TimestampsToReturn.
        now: DateTime for what is not Bad and has no ServerTimestamp (Part 4 §7.11.4).

    Returns:
        Whether the present time was used.
    """
    mask = values["mask"]
    dropped = _DROPPED[timestamps]
    stamped = (mask & SERVER) != 0
    if stamped.all():
        if dropped:
            mask &= ~dropped & 0xFF
        return False
    late = ~stamped & (values["status"] < _BAD)
    mask[stamped | late] &= ~dropped & 0xFF  # a Bad value that nobody ever stamped stays as it is
    if dropped & SERVER or not late.any():
        return False
    mask[late] |= SERVER
    values["server"][late] = now
    return True


def one(record: bytes, timestamps: int, clock: Clock) -> tuple[bytes, bool]:
    """Return one BODY as it is sent with these stamps, and whether the present time is among them."""
    mask = record[0]
    if timestamps == BOTH and mask & SERVER:
        return _cut(record, mask), False
    dropped = _DROPPED[timestamps]
    if mask & SERVER:
        return _cut(record, mask & ~dropped), False
    (status,) = _STATUS_OF.unpack_from(record, _STATUS_AT)
    if status >= _BAD:
        return _cut(record, mask), False
    mask &= ~dropped
    if dropped & SERVER:
        return _cut(record, mask), False
    now = _TIME.pack(tick(clock.utc_ns()))
    return _cut(record[:_SERVER_AT] + now, mask | SERVER), True


def _cut(record: bytes, mask: int) -> bytes:
    """Return what a mask leaves of a BODY."""
    value = record[_KIND_AT : _VALUE_END[record[_KIND_AT]]] if mask & VALUE else b""
    head = mask.to_bytes(1, "little") + value
    if mask & (STATUS | SOURCE | SERVER) == STATUS | SOURCE | SERVER:
        return head + record[_STATUS_AT:]
    status = record[_STATUS_AT:_SOURCE_AT] if mask & STATUS else b""
    source = record[_SOURCE_AT:_SERVER_AT] if mask & SOURCE else b""
    server = record[_SERVER_AT:_END] if mask & SERVER else b""
    return head + status + source + server


def refused(code: int) -> bytes:
    """Return a DataValue that is nothing but a StatusCode."""
    return bytes([STATUS]) + _STATUS_OF.pack(code)
