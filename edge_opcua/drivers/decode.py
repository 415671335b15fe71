"""Answers to columns: one pass per run of rows of one type, whatever their byte orders; no loop over tags."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_SENSOR_FAILURE,
    GOOD,
    GOOD_CLAMPED,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    Scalar,
)
from edge_opcua.drivers.codec import BitCodec, NumberCodec, TextCodec, WideTextCodec, raw_values
from edge_opcua.drivers.iec import IecType
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.times import TimeForm

_BELOW = np.uint32(UNCERTAIN_EU_EXCEEDED | LIMIT_LOW)
_ABOVE = np.uint32(UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH)
_AT_LOW = np.uint32(GOOD_CLAMPED | LIMIT_LOW)
_AT_HIGH = np.uint32(GOOD_CLAMPED | LIMIT_HIGH)
_SENSOR = np.uint32(BAD_SENSOR_FAILURE)
_FAULTY = np.uint32(BAD_CONFIGURATION_ERROR)
_NEVER_SHOWN = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Row:
    """What the decoder has to know of one row.

    Args:
        place: Its address.
        scale: Engineering value = raw * scale + offset.
        offset: See ``scale``.
        low: Lower end of the range; None for none.
        high: Upper end of the range; None for none.
        deadband: Change below which the value stays as it was last shown.
        clamp: Whether a value outside the range is shown as the limit.
    """

    place: Place
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None
    deadband: float = 0.0
    clamp: bool = False

    @property
    def scaled(self) -> bool:
        """Whether the value differs from the raw one."""
        return self.scale != 1.0 or self.offset != 0.0

    @property
    def bounded(self) -> bool:
        """Whether a range is known."""
        return self.low is not None or self.high is not None


@dataclass(frozen=True, slots=True)
class _Run:
    """Scalar rows of one raw type that go into one column.

    Args:
        column: Column they go into.
        type: Type of the rows, or of one of them if all are on the wire alike.
        gather: Image byte of each byte of each row, shape ``(k, itemsize)``.
        target: Places in the column.
        rows: Rows of the block.
        scale: Factor per row, or None if all are raw.
        offset: Summand per row, or None.
        low: Lower end per row, -inf for none; None if no row of the run has a range.
        high: Upper end per row.
        clamp: Whether the rows are shown as the limit outside their range.
        deadband: Least change per row; None if no row of the run has one.
    """

    column: Scalar
    type: IecType
    gather: npt.NDArray[np.intp]
    target: slice | npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    scale: npt.NDArray[np.float64] | None
    offset: npt.NDArray[np.float64] | None
    low: npt.NDArray[np.float64] | None
    high: npt.NDArray[np.float64] | None
    clamp: bool
    deadband: npt.NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class _Bits:
    """Scalar BOOL rows: the image byte and mask of each."""

    at: npt.NDArray[np.intp]
    mask: npt.NDArray[np.uint8]
    target: slice | npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _NumberArray:
    """One array of numbers: where its elements' bytes lie, and its scaling."""

    row: int
    gather: npt.NDArray[np.intp]
    type: IecType
    scale: float
    offset: float
    scaled: bool
    deadband: float


@dataclass(frozen=True, slots=True)
class _BitArray:
    """One array of bits."""

    row: int
    at: npt.NDArray[np.intp]
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Text:
    """One string."""

    row: int
    at: int
    codec: TextCodec | WideTextCodec


class Decoder:
    """Turns the image of one poll into the staging batch of its block.

    Args:
        rows: Rows of the block, in its order.
        image_at: Image byte at which each row starts; -1 for rows that are not read.
        layout: Layout of the block.
    """

    def __init__(self, rows: Sequence[Row], image_at: Sequence[int], layout: BlockLayout) -> None:
        self._runs: list[_Run] = []
        self._bits: _Bits | None = None
        self._arrays: list[_NumberArray] = []
        self._bit_arrays: list[_BitArray] = []
        self._texts: list[_Text] = []
        # What each row was when it was last shown; a deadband counts from a value of the same status.
        self._shown = np.full(len(rows), _NEVER_SHOWN, np.uint32)
        runs: dict[tuple[Scalar, str, TimeForm | None, bool, bool, bool, bool], list[int]] = {}
        bits: list[int] = []
        for index, row in enumerate(rows):
            at = image_at[index]
            if at < 0:
                continue
            codec = row.place.codec
            if isinstance(codec, TextCodec | WideTextCodec):
                self._texts.append(_Text(index, at, codec))
            elif isinstance(codec, BitCodec):
                if codec.count:
                    self._bit_arrays.append(_BitArray(index, *_bit_places(codec, at)))
                else:
                    bits.append(index)
            elif codec.count:
                iec, gather = codec.type, codec.offsets() + at
                array = _NumberArray(index, gather, iec, row.scale, row.offset, row.scaled, row.deadband)
                self._arrays.append(array)
            else:
                kind = (row.scaled, row.bounded, row.clamp, row.deadband > 0)
                key = (layout.place(index)[0], codec.type.raw.str, codec.type.form, *kind)
                runs.setdefault(key, []).append(index)
        self._runs = [_run(members, rows, image_at, layout) for members in runs.values()]
        if bits:
            self._bits = _scalar_bits(bits, rows, image_at, layout)

    def decode(self, image: npt.NDArray[np.uint8], batch: TagBatch) -> npt.NDArray[np.uint32]:
        """Store the values of all rows that are read, and return their own statuses.

        Args:
            image: Bytes of the answers, uint8, at least as long as the plan says.
            batch: Staging batch of the block; rows that are not read keep their values.

        Returns:
            Statuses of all rows as the values alone say them (Good, range, NaN, no string), shape
            ``(n_rows,)``; Good for rows that are not read.
        """
        status = np.full(self._shown.size, GOOD, np.uint32)
        for run in self._runs:
            _decode_run(run, image, batch, status, self._shown)
        if self._bits is not None:
            column = batch.column(Scalar.BOOLEAN)
            column[self._bits.target] = (image[self._bits.at] & self._bits.mask) != 0
        for array in self._arrays:
            _decode_array(array, image, batch, status, self._shown)
        for bit_array in self._bit_arrays:
            batch.set_array(bit_array.row, (image[bit_array.at] & bit_array.mask) != 0)
        for text in self._texts:
            decoded = text.codec.decode(image[text.at : text.at + text.codec.size_bytes].tobytes())
            if decoded is None:
                status[text.row] = _FAULTY
            else:
                batch.set_text(text.row, decoded)
        self._shown = status.copy()
        return status

    def forget(self, rows: npt.NDArray[np.intp]) -> None:
        """Let the next value of these rows pass whatever their deadband: they show something else now."""
        self._shown[rows] = _NEVER_SHOWN


def _decode_run(
    run: _Run,
    image: npt.NDArray[np.uint8],
    batch: TagBatch,
    status: npt.NDArray[np.uint32],
    shown: npt.NDArray[np.uint32],
) -> None:
    values, wrong = raw_values(image[run.gather], run.type)
    if run.scale is not None and run.offset is not None:
        with np.errstate(all="ignore"):  # a device may send any bits, signalling NaN among them
            values = values * run.scale + run.offset
    _judge(run, values, status)
    if wrong is not None:
        status[run.rows[wrong]] = _SENSOR
    column = batch.column(run.column)
    if run.deadband is not None:
        before = column[run.target]
        with np.errstate(all="ignore"):  # NaN and infinity differ from everything by enough
            moved = np.abs(values.astype(np.float64) - before.astype(np.float64))
        steady = (moved < run.deadband) & (shown[run.rows] == status[run.rows])
        values[steady] = before[steady]
    column[run.target] = values


def _judge(run: _Run, values: npt.NDArray[Any], status: npt.NDArray[np.uint32]) -> None:
    """Set the statuses of a run, and the values of the rows that are clamped."""
    if values.dtype.kind == "f":
        # NaN compares as neither below nor above, so the order of these lines does not matter.
        status[run.rows[np.isnan(values)]] = _SENSOR
    if run.low is not None and run.high is not None:
        with np.errstate(invalid="ignore"):  # a signalling NaN is widened before it is compared
            below, above = np.less(values, run.low), np.greater(values, run.high)
        status[run.rows[below]] = _BELOW
        status[run.rows[above]] = _ABOVE
        if run.clamp:
            for outside, limit, clamped in ((below, run.low, _AT_LOW), (above, run.high, _AT_HIGH)):
                status[run.rows[outside]] = clamped
                values[outside] = limit[outside]


def _decode_array(
    array: _NumberArray,
    image: npt.NDArray[np.uint8],
    batch: TagBatch,
    status: npt.NDArray[np.uint32],
    shown: npt.NDArray[np.uint32],
) -> None:
    values, wrong = raw_values(image[array.gather], array.type)
    if array.scaled:
        with np.errstate(all="ignore"):
            values = values * np.float64(array.scale) + np.float64(array.offset)
    is_faulty = wrong is not None and bool(wrong.any())
    if is_faulty or (values.dtype.kind == "f" and bool(np.isnan(values).any())):
        status[array.row] = _SENSOR
    if array.deadband and shown[array.row] == status[array.row]:
        before = batch.array(array.row)
        with np.errstate(all="ignore"):
            moved = np.abs(values.astype(np.float64) - before.astype(np.float64))
        if bool((moved < array.deadband).all()):
            return
    batch.set_array(array.row, values)


def _run(members: Sequence[int], rows: Sequence[Row], image_at: Sequence[int], layout: BlockLayout) -> _Run:
    first = rows[members[0]].place.codec
    assert isinstance(first, NumberCodec)
    gather = np.concatenate([_number_offsets(rows[i]) + image_at[i] for i in members])
    scaled, bounded = rows[members[0]].scaled, rows[members[0]].bounded
    low = np.array([_bound(rows[i].low, -math.inf) for i in members])
    high = np.array([_bound(rows[i].high, math.inf) for i in members])
    if first.type.raw.kind in "iu" and not scaled:  # the limits that such a number can have
        low, high = np.ceil(low), np.floor(high)
    return _Run(
        column=layout.place(members[0])[0],
        type=first.type,
        gather=gather,
        target=_as_slice([layout.place(i)[1] for i in members]),
        rows=np.array(members, np.intp),
        scale=np.array([rows[i].scale for i in members], np.float64) if scaled else None,
        offset=np.array([rows[i].offset for i in members], np.float64) if scaled else None,
        low=low if bounded else None,
        high=high if bounded else None,
        clamp=rows[members[0]].clamp,
        deadband=np.array([rows[i].deadband for i in members]) if rows[members[0]].deadband > 0 else None,
    )


def _number_offsets(row: Row) -> npt.NDArray[np.intp]:
    codec = row.place.codec
    assert isinstance(codec, NumberCodec)
    return codec.offsets()


def _bound(value: float | None, default: float) -> float:
    return default if value is None else value


def _scalar_bits(
    members: Sequence[int], rows: Sequence[Row], image_at: Sequence[int], layout: BlockLayout
) -> _Bits:
    places = []
    for index in members:
        codec = rows[index].place.codec
        assert isinstance(codec, BitCodec)
        at, mask = codec.bits[0]
        places.append((image_at[index] + at, mask))
    return _Bits(
        at=np.array([at for at, _ in places], np.intp),
        mask=np.array([mask for _, mask in places], np.uint8),
        target=_as_slice([layout.place(i)[1] for i in members]),
    )


def _bit_places(codec: BitCodec, image_at: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    at = np.array([image_at + offset for offset, _ in codec.bits], np.intp)
    return at, np.array([mask for _, mask in codec.bits], np.uint8)


def _as_slice(places: Sequence[int]) -> slice | npt.NDArray[np.intp]:
    """Return neighbouring places as a slice, which numpy stores into several times faster."""
    if list(places) == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, np.intp)
