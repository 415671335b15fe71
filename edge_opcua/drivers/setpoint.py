"""A writable tag: what may be written, as which bytes, and what the value read back means; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_opcua.config.schema import TagConfig
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    GOOD,
    GOOD_CLAMPED,
    Scalar,
    is_bad,
)
from edge_opcua.drivers.codec import BitCodec, Codec, NumberCodec, unscaled
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.group import PollGroup
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import WriteRejectedError


@dataclass(frozen=True, slots=True)
class Setpoint:
    """One tag as the target of a write.

    Args:
        tag: Its configuration.
        row: Its address and scaling.
        index: Its row in the block.
        group: The group that polls it.
    """

    tag: TagConfig
    row: Row
    index: int
    group: PollGroup

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.row.place

    @property
    def writable(self) -> bool:
        """Whether configuration and device allow to write it."""
        return self.tag.writable and self.place.writable


def prepare(setpoint: Setpoint, value: Any) -> bytes:
    """Return the bytes that write an engineering value.

    Raises:
        WriteRejectedError: Another type (BadTypeMismatch), or outside the range (BadOutOfRange).
    """
    row, codec = setpoint.row, setpoint.place.codec
    if not isinstance(codec, NumberCodec):
        return codec.encode(value)
    elements = list(value) if isinstance(value, list | tuple) else [value]
    scalar = codec.type.scalar
    raw = []
    for element in elements:
        if row.scaled:
            raw.append(unscaled(element, scalar=scalar, scale=row.scale, offset=row.offset))
        else:
            raw.append(element)
    encoded = codec.encode(raw if isinstance(value, list | tuple) else raw[0])
    for element in elements:
        if (row.low is not None and element < row.low) or (row.high is not None and element > row.high):
            raise WriteRejectedError(f"{element} is not in {_range(row)}", status=BAD_OUT_OF_RANGE)
    return encoded


def judge_read_back(setpoint: Setpoint, encoded: bytes, answer: bytes | Fault) -> WriteOutcome:
    """Return what a write has really done.

    Args:
        setpoint: The tag.
        encoded: Bytes that were written.
        answer: Bytes that the device holds now, or its refusal to say.
    """
    if isinstance(answer, Fault):
        return WriteOutcome(BAD_TIMEOUT, f"the device took the value and cannot be read: {answer.reason}")
    codec = setpoint.place.codec
    if isinstance(codec, BitCodec):
        wanted: Any = [bool(bit) for bit in encoded]
        held: Any = codec.decode(answer)
        if held == (wanted if codec.count else wanted[0]):
            return WriteOutcome(GOOD)
        # A command bit: the device saw it and has put it back, which is how it answers.
        return WriteOutcome(GOOD, "the device has taken the bit and already put it back")
    wanted, held = codec.decode(encoded), codec.decode(answer)
    if held == wanted:
        return WriteOutcome(GOOD)
    batch = setpoint.group.writer.batch
    before = None if is_bad(int(batch.status[setpoint.index])) else batch.value(setpoint.index)
    if before is not None and _same(before, held, setpoint.row):
        return WriteOutcome(BAD_INVALID_STATE, f"the device kept {_shown(held, codec)}")
    return WriteOutcome(GOOD_CLAMPED, f"the device holds {_shown(held, codec)}")


def _shown(held: Any, codec: Codec) -> Any:
    """Return a value for people."""
    return to_text(held) if codec.type.scalar is Scalar.DATETIME and isinstance(held, int) else held


def _same(before: Any, held: Any, row: Row) -> bool:
    if isinstance(held, list) or not isinstance(held, int | float):
        return bool(before == held) if isinstance(before, str) else False
    if isinstance(before, int) and isinstance(held, int) and not row.scaled:
        return before == held
    return abs(float(before) - (held * row.scale + row.offset)) <= 1e-6 * max(1.0, abs(float(before)))


def _range(row: Row) -> str:
    low = "-inf" if row.low is None else f"{row.low:g}"
    high = "inf" if row.high is None else f"{row.high:g}"
    return f"{low}..{high}"
