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
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    Scalar,
)
from edge_opcua.drivers.codec import BitCodec, NumberCodec, TextCodec
from edge_opcua.drivers.planner import Place

_BELOW = np.uint32(UNCERTAIN_EU_EXCEEDED | LIMIT_LOW)
_ABOVE = np.uint32(UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH)
_SENSOR = np.uint32(BAD_SENSOR_FAILURE)
_FAULTY = np.uint32(BAD_CONFIGURATION_ERROR)


@dataclass(frozen=True, slots=True)
class Row:
    """What the decoder has to know of one row.

    Args:
        place: Its address.
        scale: Engineering value = raw * scale + offset.
        offset: See ``scale``.
        low: Lower end of the range; None for none.
        high: Upper end of the range; None for none.
    """

    place: Place
    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None

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
        raw: Little-endian type of the gathered bytes.
        gather: Image byte of each byte of each row, shape ``(k, itemsize)``.
        target: Places in the column.
        rows: Rows of the block.
        scale: Factor per row, or None if all are raw.
        offset: Summand per row, or None.
        low: Lower end per row, -inf for none; None if no row of the run has a range.
        high: Upper end per row.
    """

    column: Scalar
    raw: np.dtype[np.generic]
    gather: npt.NDArray[np.intp]
    target: slice | npt.NDArray[np.intp]
    rows: npt.NDArray[np.intp]
    scale: npt.NDArray[np.float64] | None
    offset: npt.NDArray[np.float64] | None
    low: npt.NDArray[np.float64] | None
    high: npt.NDArray[np.float64] | None


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
    raw: np.dtype[np.generic]
    scale: float
    offset: float
    scaled: bool


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
    codec: TextCodec


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
        self._row_count = len(rows)
        runs: dict[tuple[Scalar, str, bool, bool], list[int]] = {}
        bits: list[int] = []
        for index, row in enumerate(rows):
            at = image_at[index]
            if at < 0:
                continue
            codec = row.place.codec
            if isinstance(codec, TextCodec):
                self._texts.append(_Text(index, at, codec))
            elif isinstance(codec, BitCodec):
                if codec.count:
                    self._bit_arrays.append(_BitArray(index, *_bit_places(codec, at)))
                else:
                    bits.append(index)
            elif codec.count:
                raw = codec.type.raw
                gather = codec.offsets() + at
                self._arrays.append(_NumberArray(index, gather, raw, row.scale, row.offset, row.scaled))
            else:
                key = (layout.place(index)[0], codec.type.raw.str, row.scaled, row.bounded)
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
        status = np.full(self._row_count, GOOD, np.uint32)
        for run in self._runs:
            _decode_run(run, image, batch, status)
        if self._bits is not None:
            column = batch.column(Scalar.BOOLEAN)
            column[self._bits.target] = (image[self._bits.at] & self._bits.mask) != 0
        for array in self._arrays:
            _decode_array(array, image, batch, status)
        for bit_array in self._bit_arrays:
            batch.set_array(bit_array.row, (image[bit_array.at] & bit_array.mask) != 0)
        for text in self._texts:
            decoded = text.codec.decode(image[text.at : text.at + text.codec.size_bytes].tobytes())
            if decoded is None:
                status[text.row] = _FAULTY
            else:
                batch.set_text(text.row, decoded)
        return status


def _decode_run(
    run: _Run, image: npt.NDArray[np.uint8], batch: TagBatch, status: npt.NDArray[np.uint32]
) -> None:
    values: npt.NDArray[Any] = image[run.gather].view(run.raw)[:, 0]
    if run.scale is not None and run.offset is not None:
        with np.errstate(all="ignore"):  # a device may send any bits, signalling NaN among them
            values = values * run.scale + run.offset
    batch.column(run.column)[run.target] = values
    if values.dtype.kind == "f":
        # NaN compares as neither below nor above, so the order of these lines does not matter.
        status[run.rows[np.isnan(values)]] = _SENSOR
    if run.low is not None and run.high is not None:
        with np.errstate(invalid="ignore"):  # a signalling NaN is widened before it is compared
            status[run.rows[np.less(values, run.low)]] = _BELOW
            status[run.rows[np.greater(values, run.high)]] = _ABOVE


def _decode_array(
    array: _NumberArray, image: npt.NDArray[np.uint8], batch: TagBatch, status: npt.NDArray[np.uint32]
) -> None:
    values: npt.NDArray[Any] = image[array.gather].view(array.raw)[:, 0]
    if array.scaled:
        with np.errstate(all="ignore"):
            values = values * np.float64(array.scale) + np.float64(array.offset)
    batch.set_array(array.row, values)
    if values.dtype.kind == "f" and bool(np.isnan(values).any()):
        status[array.row] = _SENSOR


def _run(members: Sequence[int], rows: Sequence[Row], image_at: Sequence[int], layout: BlockLayout) -> _Run:
    first = rows[members[0]].place.codec
    assert isinstance(first, NumberCodec)
    gather = np.concatenate([_number_offsets(rows[i]) + image_at[i] for i in members])
    scaled, bounded = rows[members[0]].scaled, rows[members[0]].bounded
    return _Run(
        column=layout.place(members[0])[0],
        raw=first.type.raw,
        gather=gather,
        target=_as_slice([layout.place(i)[1] for i in members]),
        rows=np.array(members, np.intp),
        scale=np.array([rows[i].scale for i in members], np.float64) if scaled else None,
        offset=np.array([rows[i].offset for i in members], np.float64) if scaled else None,
        low=np.array([_bound(rows[i].low, -math.inf) for i in members]) if bounded else None,
        high=np.array([_bound(rows[i].high, math.inf) for i in members]) if bounded else None,
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
