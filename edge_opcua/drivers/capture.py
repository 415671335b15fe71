"""A triggered capture: sees that a device has a new waveform, reads it, makes sure it is one waveform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from edge_opcua.config.schema import CaptureConfig
from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_SENSOR_FAILURE,
    GOOD,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_SIMULATED,
    Link,
)
from edge_opcua.drivers.codec import NumberCodec, raw_values
from edge_opcua.drivers.group import Read
from edge_opcua.drivers.planner import Place, ReadPlan, Shape, plan_reads
from edge_opcua.drivers.wire import Fault, FaultKind, content
from edge_opcua.errors import DeviceError

_ATTEMPTS: Final = 3
_SEQUENCE_BITS: Final = {2: 16, 4: 32, 8: 64}
_log = structlog.get_logger(__name__)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The device refused a part of the capture."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class Capture:
    """One capture of one device.

    Args:
        cfg: Its configuration.
        heads: Places of sequence, ready, ready_ns and stroke, as far as they are configured.
        samples: Place of the samples, an array of numbers.
        writer: Writer of the block.
        clock: Clock for times.
        simulated: Whether the device is simulated, so that its captures are marked.

    Attributes:
        missed: Captures that the device made and nobody read.
        torn: Times the device replaced a capture while it was being read.
    """

    def __init__(
        self,
        cfg: CaptureConfig,
        heads: Mapping[str, Place],
        samples: Place,
        writer: BlockWriter,
        clock: Clock,
        *,
        simulated: bool = False,
    ) -> None:
        self.writer = writer
        self.missed = 0
        self.torn = 0
        self.last_refusal = ""
        self._cfg = cfg
        self._names = tuple(heads)
        self._places = tuple(heads.values())
        self._samples = samples
        self._clock = clock
        self._station: Hashable = None
        self._good = UNCERTAIN_SIMULATED if simulated else GOOD
        self._head = ReadPlan((), 0, ())
        self._body = ReadPlan((), 0, ())
        batch = writer.batch
        self._row = {tag.name: row for row, tag in enumerate(batch.layout.spec.tags)}
        known = batch.status[self._row["sequence"]] == self._good
        self._last: int | None = int(batch.value(self._row["sequence"])) if known else None  # type: ignore[arg-type]
        self.missed = int(batch.value(self._row["missed"])) if known else 0  # type: ignore[arg-type]

    @property
    def requests(self) -> int:
        """Requests of one look at the head."""
        return len(self._head.requests)

    @property
    def refused(self) -> int:
        """Always 0: what a device refuses here it refuses as a whole."""
        return 0

    def plan_anew(self) -> None:
        """Leave the plan as it is: head and samples have no gaps to speak of."""

    def lose(self, station: Hashable) -> None:
        """Publish that the link is lost if this capture is of that unit."""
        if self._station == station and self.writer.batch.link is Link.UP:
            self.writer.publish(link=Link.LOST, refreshed=False)

    def age(self) -> None:
        """Leave the statuses: a capture never grows old by itself."""

    def adopt(self, shape: Shape) -> None:
        """Plan for a new connection."""
        self._station = shape.station(self._samples.space)
        self._head = plan_reads(self._places, shape)
        self._body = plan_reads([self._samples], shape)

    async def poll(self, read: Read) -> bool:
        """Look for a new capture and publish it if there is one; DeviceError of the wire passes.

        Returns:
            Always False: what a device refuses here it refuses as a whole.
        """
        try:
            head = await self._read_head(read)
            if self.writer.batch.link is Link.LOST:
                self.writer.publish(link=Link.UP, refreshed=False)
            if self._is_new(head):
                await self._take(head, read)
        except _Refused as exc:
            self._refuse(exc.fault)
        return False

    async def _take(self, head: Mapping[str, Any], read: Read) -> None:
        started_ns = self._clock.monotonic_ns()
        for _ in range(_ATTEMPTS):
            image = await self._read(self._body, read)
            after = await self._read_head(read)
            if after["sequence"] == head["sequence"]:
                took_ms = (self._clock.monotonic_ns() - started_ns) / 1e6
                self._publish(head, image, took_ms)
                return
            self.torn += 1
            if not self._is_new(after):
                return  # it is being overwritten; the next poll finds the next one
            head = after
        raise DeviceError(
            f"{self._cfg.name}: captures follow faster than they can be read ({_ATTEMPTS} torn in a row)"
        )

    def _is_new(self, head: Mapping[str, Any]) -> bool:
        return head.get("ready", True) is True and head["sequence"] != self._last

    async def _read_head(self, read: Read) -> dict[str, Any]:
        image = (await self._read(self._head, read)).tobytes()
        values: dict[str, Any] = {}
        for name, place, at in zip(self._names, self._places, self._head.image_at, strict=True):
            codec = place.codec
            values[name] = codec.decode(image[at : at + codec.size_bytes])
        return values

    async def _read(self, plan: ReadPlan, read: Read) -> npt.NDArray[np.uint8]:
        image = np.zeros(plan.image_bytes, np.uint8)
        for request, answers in zip(plan.requests, await read(plan.requests), strict=True):
            for fragment, answer in zip(request.fragments, answers, strict=True):
                if isinstance(answer, Fault):
                    raise _Refused(answer)
                at, wire = fragment.image_at, content(answer)
                image[at : at + len(wire)] = np.frombuffer(wire, np.uint8)
        return image

    def _publish(self, head: Mapping[str, Any], image: npt.NDArray[np.uint8], took_ms: float) -> None:
        codec = self._samples.codec
        assert isinstance(codec, NumberCodec)
        raw, _ = raw_values(image[codec.offsets()], codec.type)
        with np.errstate(all="ignore"):  # a device may send any bits, signalling NaN among them
            waveform = raw.astype(np.float64) * self._cfg.scale + self._cfg.offset
            samples = waveform.astype(np.float32)
        sequence = int(head["sequence"])
        self._count_missed(sequence)
        server_ns = self._clock.utc_ns()
        ready_ns = int(head.get("ready_ns") or 0) or server_ns
        batch, row = self.writer.batch, self._row
        batch.set(row["sequence"], sequence & 0xFFFFFFFF)
        batch.set(row["ready_ns"], ready_ns)
        batch.set(row["sample_rate_hz"], self._cfg.sample_rate_hz)
        batch.set_array(row["waveform"], samples)
        batch.set(row["stroke"], int(head.get("stroke", sequence)) & 0xFFFFFFFF)
        batch.set(row["missed"], self.missed)
        batch.set(row["read_ms"], took_ms)
        batch.status[:] = self._good
        if self._good == GOOD:
            batch.status[row["waveform"]] = self._judge(waveform)
        batch.source_ns[:] = ready_ns
        batch.server_ns[:] = server_ns
        self.writer.publish(link=Link.UP)
        self._last = sequence
        self.last_refusal = ""

    def _judge(self, waveform: npt.NDArray[np.float64]) -> int:
        if bool(np.isnan(waveform).any()):
            return BAD_SENSOR_FAILURE
        low, high = self._cfg.low, self._cfg.high
        if low is not None and float(waveform.min()) < low:
            return UNCERTAIN_EU_EXCEEDED | LIMIT_LOW
        if high is not None and float(waveform.max()) > high:
            return UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH
        return GOOD

    def _count_missed(self, sequence: int) -> None:
        """Count the numbers that were skipped; sequences run 1..2^n-1, 0 says that the device restarted."""
        last, self._last = self._last, sequence
        if last is None or sequence == 0 or last == 0:
            return
        codec = self._places[self._names.index("sequence")].codec
        span = (1 << _SEQUENCE_BITS.get(codec.size_bytes, 16)) - 1
        skipped = (sequence - last) % span - 1
        if 0 < skipped < span // 2:  # more is a device that started over
            self.missed += skipped
            _log.warning("capture.missed", capture=self.writer.batch.layout.spec.name, missed=skipped)

    def _refuse(self, fault: Fault) -> None:
        """Say why there is no capture; a busy device is simply asked again."""
        if fault.kind in (FaultKind.BUSY, FaultKind.MISSED):
            return
        if fault.kind is FaultKind.ABSENT:  # a capture is of one unit, so this is its link
            self.lose(self._station)
            return
        device = fault.kind is FaultKind.DEVICE
        status = BAD_DEVICE_FAILURE if device else BAD_CONFIGURATION_ERROR
        batch = self.writer.batch
        if fault.reason != self.last_refusal:
            self.last_refusal = fault.reason
            _log.warning("capture.refused", capture=batch.layout.spec.name, reason=fault.reason)
        if (batch.status != np.uint32(status)).any():
            batch.status[:] = status
            batch.server_ns[:] = self._clock.utc_ns()
            self.writer.publish(link=Link.UP)
            self._last = None
