"""A device that is not there: values made up by type and range, through the same planner and decoder."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_opcua.config.schema import CaptureConfig, DeviceConfig
from edge_opcua.config.tags import TagConfig
from edge_opcua.core import ticks
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import AreaPlugin
from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, Scalar
from edge_opcua.drivers.codec import BitCodec, NumberCodec, fit_number, unscaled
from edge_opcua.drivers.plan import capture_places
from edge_opcua.drivers.planner import Place, Request, Shape
from edge_opcua.drivers.wire import Driver, Reading, Traffic, whole_words
from edge_opcua.errors import AddressError, DeviceRefusedError, WriteRejectedError

_STEP_S: Final = 0.25  # values change this often, however often they are read
_CAPTURE_EVERY_S: Final = 2.0
_STATE_S: Final = 5.0
_DEFAULT_RANGE: Final = (0.0, 100.0)
_WHOLE_LIMITS: Final = 2**63 - 1

Make = Callable[[float], Any]
"""From the time, seconds, to a raw value of the codec."""


@dataclass(eq=False, slots=True)
class _Source:
    """One address that has a value; ``make`` is None once somebody has written it."""

    place: Place
    make: Make | None


class SimulatedWire:
    """Stands for the connection to a device with ``simulate = true``; nothing leaves this process.

    What is written stays and is read back; tags that clients may write do not change by themselves.

    Args:
        cfg: The device.
        driver: Class of its protocol, for addresses and limits.
        clock: Clock that the values follow.
    """

    depth = 64

    def __init__(self, cfg: DeviceConfig, driver: type[Driver], clock: Clock) -> None:
        self.traffic = Traffic()
        self._cfg = cfg
        self._driver = driver
        self._clock = clock
        self._shape = driver.shape(cfg)
        self._sources: dict[Hashable, list[_Source]] = {}
        self._memory: dict[Hashable, bytearray] = {}
        self._made: dict[Hashable, float] = {}
        for source in (*self._tags(), *self._captures()):
            place = source.place
            self._sources.setdefault(place.space, []).append(source)
            self._reserve(place.space, place.start + place.size)

    @property
    def shape(self) -> Shape:
        """Limits of the protocol's requests."""
        return self._shape

    async def open(self) -> None:
        """Need nothing."""

    async def close(self) -> None:
        """Have nothing to close."""

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """Answer from the simulated memory; what no tag lies in is 0."""
        await asyncio.sleep(0)  # a device that always answers at once would starve the others
        answers = []
        for request in requests:
            parts = []
            for fragment in request.fragments:
                unit_bytes = self._shape.unit_bytes(fragment.space)
                first, size = fragment.start * unit_bytes, fragment.size * unit_bytes
                self._refresh(fragment.space)
                memory = self._memory.get(fragment.space, b"")
                parts.append(bytes(memory[first : first + size]).ljust(size, b"\0"))
                self.traffic.size_bytes += size
            self.traffic.requests += 1
            answers.append(parts)
        return answers

    async def write(self, place: Place, encoded: bytes) -> None:
        """Let an address hold a value from now on."""
        self._reserve(place.space, place.start + place.size)
        self._put(place, encoded)
        self._hold(place.space, place.start, place.start + place.size)

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Let words be what they were written as."""
        driver, words = self._driver, whole_words(area, payload)
        if not isinstance(driver, AreaPlugin):
            raise DeviceRefusedError(f"{area} cannot be simulated", status=BAD_CONFIGURATION_ERROR)
        try:
            found = driver.parse_area(area, self._cfg.url, self._cfg.options)
            place = driver.place(found.words(offset, len(words)), self._cfg)
        except AddressError as exc:
            raise DeviceRefusedError(str(exc), status=BAD_CONFIGURATION_ERROR, code=exc.code) from exc
        await self.write(place, place.codec.encode(list(words)))

    def _reserve(self, space: Hashable, end: int) -> None:
        memory = self._memory.setdefault(space, bytearray())
        memory.extend(bytes(max(0, end * self._shape.unit_bytes(space) - len(memory))))

    def _hold(self, space: Hashable, start: int, end: int) -> None:
        for source in self._sources.get(space, ()):
            if source.place.start < end and start < source.place.start + source.place.size:
                source.make = None

    def _refresh(self, space: Hashable) -> None:
        now_s = self._clock.utc_ns() / 1e9
        if 0 <= now_s - self._made.get(space, -math.inf) < _STEP_S:  # a clock may be set back
            return
        self._made[space] = now_s
        for source in self._sources.get(space, ()):
            if source.make is None:
                continue
            try:
                encoded = source.place.codec.encode(source.make(now_s))
            except WriteRejectedError:  # nothing that this type could hold: it stays 0
                source.make = None
            else:
                self._put(source.place, encoded)

    def _put(self, place: Place, encoded: bytes) -> None:
        memory = self._memory[place.space]
        at = place.start * self._shape.unit_bytes(place.space)
        codec = place.codec
        if not isinstance(codec, BitCodec):
            memory[at : at + len(encoded)] = encoded
            return
        for (offset, mask), bit in zip(codec.bits, encoded, strict=True):
            kept = memory[at + offset] & ~mask
            memory[at + offset] = kept | (mask if bit else 0)

    def _tags(self) -> Iterator[_Source]:
        for tag in self._cfg.tags:
            place = self._driver.place(tag.address, self._cfg)
            make = _maker(tag, place)
            if tag.writable:
                make = _constant(make(0.0) if tag.initial is None else _raw(tag, place, tag.initial))
            yield _Source(place, make)

    def _captures(self) -> Iterator[_Source]:
        for capture in self._cfg.captures:
            heads, samples = capture_places(self._cfg, capture, self._driver)
            for meaning, place in heads.items():
                yield _Source(place, _head(meaning, place))
            yield _Source(samples, _waveform(capture, samples))


def _constant(value: Any) -> Make:
    return lambda _: value


def _maker(tag: TagConfig, place: Place) -> Make:
    """Return what a tag shows over time: plausible for its type, within its range, another for each name."""
    phase = zlib.crc32(tag.name.encode()) % 1000
    codec = place.codec
    if isinstance(codec, BitCodec):
        period_s = 2 + phase % 9
        start = int(tag.initial is True)
        bits = max(1, codec.count)

        def bit(now_s: float) -> Any:
            step = int((now_s + phase) / period_s) + start
            return [(step + i) % 2 == 1 for i in range(bits)] if codec.count else step % 2 == 1

        return bit
    if not isinstance(codec, NumberCodec):
        return _constant(str(tag.initial) if tag.initial is not None else tag.name[: codec.count])
    if codec.type.scalar is Scalar.DATETIME:
        return lambda now_s: ticks.EPOCH_TICKS + int(now_s) * 10_000_000
    if tag.states:
        numbers = [number for number, _ in tag.states]
        return lambda now_s: numbers[int((now_s + phase) / _STATE_S) % len(numbers)]
    low, high, middle = _range(tag)
    span = (high - low) * (0.4 if tag.initial is None else 0.1)
    turn_s = 10.0 + phase % 50

    def number(now_s: float) -> Any:
        turn = 2 * math.pi * ((now_s + phase) % turn_s) / turn_s
        values = [
            min(high, max(low, middle + span * math.sin(turn + i / 5))) for i in range(max(1, codec.count))
        ]
        raw = [_raw(tag, place, value) for value in values]
        return raw if codec.count else raw[0]

    return number


def _range(tag: TagConfig) -> tuple[float, float, float]:
    """Return the lowest, highest and middle value of a number."""
    start = float(tag.initial) if isinstance(tag.initial, int | float) else None
    low, high = tag.low, tag.high
    if low is None or high is None:
        width = _DEFAULT_RANGE[1] if start is None else max(1.0, abs(start))
        if low is None:
            low = _DEFAULT_RANGE[0] if high is None else high - width
            if start is not None and high is None:
                low = start - width
        high = low + width if high is None else high
    return low, high, (low + high) / 2 if start is None else start


def _raw(tag: TagConfig, place: Place, value: Any) -> Any:
    """Return the raw value of an engineering value, the nearest that the type can hold."""
    codec = place.codec
    if not isinstance(codec, NumberCodec) or codec.type.scalar is Scalar.DATETIME:
        return value
    raw = unscaled(value, scalar=codec.type.scalar, scale=tag.scale, offset=tag.offset)
    dtype = codec.type.scalar.dtype
    if dtype.kind in "iu":
        lowest, highest = _limits(codec.type.scalar)
        return min(highest, max(lowest, round(raw)))
    return fit_number(raw, codec.type.scalar)


def _limits(scalar: Scalar) -> tuple[int, int]:
    """Return the least and the greatest whole number of a type."""
    bits = 8 * scalar.dtype.itemsize
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if scalar.dtype.kind == "i" else (0, (1 << bits) - 1)


def _head(meaning: str, place: Place) -> Make:
    """Return a part of a capture's head: a new capture every two seconds, ready at once."""
    if meaning == "ready":
        return lambda _: True
    if meaning == "ready_ns":
        return lambda now_s: min(_WHOLE_LIMITS, int(now_s // _CAPTURE_EVERY_S * _CAPTURE_EVERY_S * 1e9))
    last = _limits(place.scalar)[1]
    return lambda now_s: int(now_s / _CAPTURE_EVERY_S) % last + 1


def _waveform(capture: CaptureConfig, samples: Place) -> Make:
    """Return a decaying oscillation within the range of a capture."""
    low = _DEFAULT_RANGE[0] if capture.low is None else capture.low
    high = _DEFAULT_RANGE[1] if capture.high is None else capture.high
    at = np.arange(samples.length) / max(1, samples.length)
    values = (low + high) / 2 + 0.4 * (high - low) * np.exp(-3 * at) * np.sin(40 * math.pi * at)
    raw = (values - capture.offset) / capture.scale
    if samples.scalar.dtype.kind in "iu":
        raw = np.clip(np.round(raw), *_limits(samples.scalar)).astype(samples.scalar.dtype)
    shown = raw.tolist()
    return lambda _: shown
