"""The load client's decoder: DataValues of a whole message as columns, without an object per value.

A record is a DataValue (Part 6 §5.2.2.17), in notifications with the client handle before it. How long one is
follows from two bytes, its mask and the type of its value, so the places of all records follow from those of
the first message of a kind. A :class:`Plan` remembers them; a later message of the same length and count is
laid over the plan, and if mask and type are as expected at *every* expected place, then every place is right
(each begins where the one before ended). Anything else is walked through record by record, once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Scalar

VALUE, STATUS, SOURCE, SERVER, SOURCE_PICO, SERVER_PICO = 1, 2, 4, 8, 16, 32
HANDLE_BYTES: Final = 4
PAD: Final = b"\0" * 8  # the last value is read as 8 bytes, too
INFO_DATA_VALUE: Final = 0x0400
OVERFLOW: Final = 0x0480  # InfoType DataValue with the bit Overflow (Part 4 §7.38.1, table 183)

_PARTS: Final = ((STATUS, 4), (SOURCE, 8), (SOURCE_PICO, 2), (SERVER, 8), (SERVER_PICO, 2))
_PLANS: Final = 128
_ARRAY: Final = 0xC0
_DIMENSIONS: Final = 0x40
# Built-in types of fixed width beyond the scalars of a tag: DateTime, StatusCode.
_WIDTHS: Final = {int(kind): kind.dtype.itemsize for kind in Scalar if kind is not Scalar.STRING} | {
    13: 8,
    19: 4,
}
_ID_WIDTHS: Final = {0: 2, 1: 4, 2: 7}
_STRINGS: Final = frozenset({12, 15, 16})

Places = npt.NDArray[np.intp]


class DecodeError(ValueError):
    """The bytes are no answer that this client understands."""


def _lengths() -> list[int]:
    """Return the length of a record without its head by mask and type; 0 where the bytes must be walked."""
    table = [0] * 65536
    for mask in range(64):
        rest = 1 + sum(size for bit, size in _PARTS if mask & bit)
        for kind in range(256):
            if not mask & VALUE:
                table[mask | kind << 8] = rest
            elif kind in _WIDTHS or kind == 0:  # 0 is null
                table[mask | kind << 8] = rest + 1 + _WIDTHS.get(kind, 0)
    return table


_LENGTHS: Final = _lengths()


@dataclass(slots=True)
class Columns:
    """The records of one message.

    Attributes:
        handles: Client handles; numbers from 0 where records have none (Read).
        kinds: Type ids of the values, 0 for null, 255 for what is no scalar of fixed width.
        bits: The values, low bytes first.
        status: StatusCodes.
        source: Source timestamps in ticks, 0 where there is none.
        plan: Where they lie.
        end: Where the bytes behind the last record begin.
    """

    handles: npt.NDArray[np.uint32]
    kinds: npt.NDArray[np.uint8]
    bits: npt.NDArray[np.uint64]
    status: npt.NDArray[np.uint32]
    source: npt.NDArray[np.int64]
    plan: Plan
    end: int

    def value(self, at: int) -> Any:
        """Return one value as a Python object: for tests, not for the hot path."""
        kind = int(self.kinds[at])
        if kind == 0:
            return None
        scalar = Scalar(kind)
        low = self.bits[at : at + 1].astype(f"u{scalar.dtype.itemsize}")
        return low.view(scalar.dtype)[0].item()


class Plan:
    """Where the parts of each record lie, relative to the first.

    Args:
        offsets: Where each record begins.
        codes: Mask and type of each.
        head: Bytes before the mask.
        end: Where the last one ends.
        fixed: Whether masks and types alone decide this.
    """

    def __init__(
        self, offsets: Places, codes: npt.NDArray[np.uint16], head: int, end: int, *, fixed: bool
    ) -> None:
        self.offsets, self.end, self.fixed = offsets, end, fixed
        self.masked_at = offsets + head
        masks = (codes & 0xFF).astype(np.uint8)
        kinds = (codes >> 8).astype(np.uint8)
        has = (masks & VALUE).astype(np.bool_)
        self.known = np.where(has, np.uint16(0xFFFF), np.uint16(0x00FF))
        self.codes = codes & self.known
        widths = np.zeros(256, np.intp)
        for kind, width in _WIDTHS.items():
            widths[kind] = width
        scalar = has & (widths[kinds] > 0)
        self.kinds = np.where(scalar, kinds, np.where(has & (kinds != 0), 255, 0)).astype(np.uint8)
        after = self.masked_at + 1 + np.where(has, 1 + widths[kinds], 0)
        self.value_rows, self.value_at = _chosen(scalar, self.masked_at + 2)
        keep = np.zeros(256, np.uint64)
        for kind, width in _WIDTHS.items():
            keep[kind] = (1 << (8 * width)) - 1
        self.keep = keep[self.kinds]
        with_status = (masks & STATUS).astype(np.bool_)
        self.status_rows, self.status_at = _chosen(with_status, after)
        with_source = (masks & SOURCE).astype(np.bool_)
        self.source_rows, self.source_at = _chosen(with_source, after + np.where(with_status, 4, 0))
        self.floats = np.flatnonzero(self.kinds == Scalar.FLOAT)
        self.doubles = np.flatnonzero(self.kinds == Scalar.DOUBLE)
        # Who follows the items keeps here what follows from the handles.
        self.handles: npt.NDArray[np.uint32] | None = None
        self.kept: Any = None

    def fits(self, shorts: npt.NDArray[np.uint16]) -> bool:
        """Return whether a message is laid out like this."""
        return bool(np.array_equal(shorts[self.masked_at] & self.known, self.codes))


def _chosen(rows: npt.NDArray[np.bool_], at: Places) -> tuple[Places | None, Places]:
    """Return which rows have a part, None for all, and where it lies."""
    if rows.all():
        return None, at
    found = np.flatnonzero(rows)
    return found, at[found]


@dataclass(slots=True)
class Decoder:
    """Decodes messages, and remembers how they are laid out.

    Attributes:
        walked: Records that were walked one by one.
        planned: Records that fitted a plan.
    """

    walked: int = 0
    planned: int = 0
    _plans: dict[tuple[int, int, bytes], Plan] = field(default_factory=dict)

    def records(self, message: bytes, at: int, count: int, head: int, size: int) -> Columns:
        """Return records as columns.

        Args:
            message: The bytes, with :data:`PAD` behind them.
            at: Where the first record begins.
            count: How many there are.
            head: Bytes of a record before its DataValue: 4 in a notification, 0 in a Read answer.
            size: Any number that is the same for messages of the same layout, such as the length.
        """
        room = len(message) - at
        shorts: npt.NDArray[np.uint16] = np.ndarray((room - 1,), "<u2", message, at, (1,))
        # The first handle, or without handles the first layout: of many blocks each begins with another type.
        first = message[at : at + 4] if head and count else message[at : at + 2]
        key = (count, size, first)
        plan = self._plans.get(key)
        if plan is not None and at + plan.end <= len(message) - len(PAD) and plan.fits(shorts):
            self.planned += count
        else:
            plan = walk(message, at, count, head)
            self.walked += count
            if plan.fixed:
                if len(self._plans) >= _PLANS:
                    self._plans.clear()
                self._plans[key] = plan
        return _gathered(message, at, count, head, plan)


def _gathered(message: bytes, at: int, count: int, head: int, plan: Plan) -> Columns:
    room = len(message) - at
    words: npt.NDArray[np.uint32] = np.ndarray((room - 3,), "<u4", message, at, (1,))
    longs: npt.NDArray[np.uint64] = np.ndarray((room - 7,), "<u8", message, at, (1,))
    bits = _filled(count, longs, plan.value_rows, plan.value_at)
    bits &= plan.keep
    return Columns(
        handles=words[plan.offsets] if head else np.arange(count, dtype=np.uint32),
        kinds=plan.kinds,
        bits=bits,
        status=_filled(count, words, plan.status_rows, plan.status_at),
        source=_filled(count, longs, plan.source_rows, plan.source_at).view(np.int64),
        plan=plan,
        end=at + plan.end,
    )


def _filled(count: int, source: npt.NDArray[Any], rows: Places | None, at: Places) -> npt.NDArray[Any]:
    if rows is None:
        found: npt.NDArray[Any] = source[at]
        return found
    out = np.zeros(count, source.dtype)
    out[rows] = source[at]
    return out


def walk(message: bytes, at: int, count: int, head: int) -> Plan:
    """Find each record by walking over those before it.

    Raises:
        DecodeError: The bytes end before the records do, or hold what this client does not know.
    """
    lengths, places, codes = _LENGTHS, [0] * count, [0] * count
    here, fixed = at, True
    try:
        for index in range(count):
            places[index] = here
            code = message[here + head] | message[here + head + 1] << 8
            codes[index] = code
            length = lengths[code]
            if length:
                here += head + length
            else:
                fixed = False
                here = _past(message, here + head)
    except (IndexError, struct.error) as exc:
        raise DecodeError(f"{count} records do not fit {len(message) - at} bytes") from exc
    if here > len(message) - len(PAD):
        raise DecodeError(f"{count} records do not fit {len(message) - at} bytes")
    return Plan(np.array(places, np.intp) - at, np.array(codes, np.uint16), head, here - at, fixed=fixed)


def _past(message: bytes, at: int) -> int:
    """Return where a DataValue ends whose value has no fixed width."""
    mask = message[at]
    if mask > 63:
        raise DecodeError(f"a DataValue has the mask {mask:#x}")
    here = past_variant(message, at + 1)
    return here + sum(size for bit, size in _PARTS if mask & bit)


def past_variant(message: bytes, at: int) -> int:
    """Return where a Variant ends (Part 6 §5.2.2.16).

    Raises:
        DecodeError: It holds a type that this client does not know.
    """
    code = message[at]
    kind, here = code & 0x3F, at + 1
    if not code & _ARRAY:
        return past_value(message, here, kind)
    (count,) = struct.unpack_from("<i", message, here)
    here += 4
    if kind in _WIDTHS:
        here += max(count, 0) * _WIDTHS[kind]
    else:
        for _ in range(count):
            here = past_value(message, here, kind)
    if code & _DIMENSIONS:
        (dimensions,) = struct.unpack_from("<i", message, here)
        here += 4 + 4 * max(dimensions, 0)
    return here


def past_value(message: bytes, at: int, kind: int) -> int:
    """Return where a value of a built-in type ends."""
    if kind == 0:
        return at
    if kind in _WIDTHS:
        return at + _WIDTHS[kind]
    if kind in _STRINGS:
        return past_string(message, at)
    if kind == 14:  # Guid
        return at + 16
    if kind == 17:
        return past_node_id(message, at)
    if kind == 20:  # QualifiedName
        return past_string(message, at + 2)
    if kind == 21:
        return _past_text(message, at)
    if kind == 22:
        return _past_extension(message, at)
    raise DecodeError(f"built-in type {kind} is not known here")


def _past_text(message: bytes, at: int) -> int:
    """Return where a LocalizedText ends: a mask, then locale and text where there are any."""
    here = at + 1
    for bit in (1, 2):
        if message[at] & bit:
            here = past_string(message, here)
    return here


def _past_extension(message: bytes, at: int) -> int:
    """Return where an ExtensionObject ends: type, form, and a body unless there is none."""
    here = past_node_id(message, at)
    return past_string(message, here + 1) if message[here] else here + 1


def past_string(message: bytes, at: int) -> int:
    """Return where a String or ByteString ends."""
    length: int = struct.unpack_from("<i", message, at)[0]
    return at + 4 + max(length, 0)


def past_node_id(message: bytes, at: int) -> int:
    """Return where a NodeId ends."""
    form = message[at] & 0x3F
    if form in _ID_WIDTHS:
        return at + _ID_WIDTHS[form]
    if form == 4:
        return at + 3 + 16
    return past_string(message, at + 3)
