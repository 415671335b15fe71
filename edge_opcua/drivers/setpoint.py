"""A writable tag: what may be written, as which bytes, and what the value read back means; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
from edge_opcua.drivers.codec import BitCodec, NumberCodec, unscaled
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.group import PollGroup
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.wire import Fault
from edge_opcua.drivers.writeterms import ANYBODY, WriteKind, WriteTerms, is_same
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
    def kind(self) -> WriteKind:
        """Class of its writes, if whoever writes does not say."""
        if isinstance(self.place.codec, BitCodec):
            return WriteKind.BIT
        return WriteKind.COMMAND if self.tag.write == "command" else WriteKind.SETPOINT

    def kind_of(self, terms: WriteTerms) -> WriteKind:
        """Return the class of one write."""
        if terms.kind is WriteKind.SETPOINT and self.kind is WriteKind.BIT:
            return WriteKind.BIT  # whoever asks for it: a bit is never coalesced
        return terms.kind or self.kind

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


def held(setpoint: Setpoint) -> Any:
    """Return the value of a tag as its readers see it now; None if there is none."""
    batch = setpoint.group.writer.batch
    if is_bad(int(batch.status[setpoint.index])):
        return None
    value = batch.value(setpoint.index)
    return value.tolist() if isinstance(value, np.ndarray) else value


def as_shown(setpoint: Setpoint, wire: bytes, *, bits: bool = False) -> Any:
    """Return bytes of a tag as its readers would see them: scaled, not clamped.

    Args:
        setpoint: The tag.
        wire: Bytes of the device; or what :func:`prepare` made.
        bits: Whether they are what :func:`prepare` made: of bits one byte each.
    """
    codec, row = setpoint.place.codec, setpoint.row
    if bits and isinstance(codec, BitCodec):
        given = [bool(bit) for bit in wire]
        return given if codec.count else given[0]
    raw = codec.decode(wire)
    if raw is None or not row.scaled:
        return raw
    return [each * row.scale + row.offset for each in raw] if isinstance(raw, list) else _linear(raw, row)


def judge_read_back(
    setpoint: Setpoint, encoded: bytes, answer: bytes | Fault, before: Any, terms: WriteTerms = ANYBODY
) -> WriteOutcome:
    """Return what a write has really done.

    Args:
        setpoint: The tag.
        encoded: Bytes that were written.
        answer: Bytes that the device holds now, or its refusal to say.
        before: Value it was seen to hold before; None: not known.
        terms: Class and tolerance of the write.
    """
    if isinstance(answer, Fault):
        return WriteOutcome(BAD_TIMEOUT, f"the device took the value and cannot be read: {answer.reason}")
    wanted, now = as_shown(setpoint, encoded, bits=True), as_shown(setpoint, answer)
    if is_same(wanted, now, terms.tolerance):
        return WriteOutcome(GOOD)
    kind = setpoint.kind_of(terms)
    if kind.momentary:  # the device saw it and has put it back, which is how it answers
        name = "bit" if kind is WriteKind.BIT else "command"
        return WriteOutcome(GOOD, f"the device has taken the {name} and already put it back")
    shown = _for_people(now, setpoint)
    if before is not None and is_same(before, now):
        return WriteOutcome(BAD_INVALID_STATE, f"the device kept {shown}")
    return WriteOutcome(GOOD_CLAMPED, f"the device holds {shown}")


def _linear(raw: Any, row: Row) -> Any:
    return raw * row.scale + row.offset


def _for_people(value: Any, setpoint: Setpoint) -> Any:
    is_time = setpoint.place.codec.type.scalar is Scalar.DATETIME and isinstance(value, int)
    return to_text(value) if is_time else value


def _range(row: Row) -> str:
    low = "-inf" if row.low is None else f"{row.low:g}"
    high = "inf" if row.high is None else f"{row.high:g}"
    return f"{low}..{high}"
