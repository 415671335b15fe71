"""From a capture on the bus to the sample a model judges, or to the reason why it must not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    is_bad,
    is_uncertain,
    status_name,
)
from edge_opcua.inference.intake import Inputs, Reading, Shot, number_of, sample_capacity, text_of
from edge_opcua.inference.model import Extractor
from edge_opcua.inference.result import Result
from edge_opcua.inference.spec import LaneSpec

Floats = npt.NDArray[np.float32]

_MS: Final = 1e6
_MOST_PARTS: Final = 0xFFFFFFFF


@dataclass(slots=True, eq=False)
class Case:
    """One stroke on its way through a lane.

    Args:
        lane: The lane; whoever has its request hands it back there.
        sequence: Bus sequence of the capture.
        stamp_ns: When the capture was on the bus, monotonic.
        begun_ns: When the lane came to it, monotonic.
        oldest_ns: Time of the oldest input, ns UTC.
        result: What is known of it.
        uncertain: Whether some of the inputs are Uncertain.
        asked_ns: When the engine was asked, monotonic; 0 if it was not.
        complete: Whether it can be published.
        unanswered: Status and reason if the model was not asked, or has not answered; None: it has, or
            need not.
        measured: Whether its time says something about the lane: a rejection is quick.
        outside: What of its inputs the model was never shown; empty if nothing.
    """

    lane: Any
    sequence: int
    stamp_ns: int
    begun_ns: int
    oldest_ns: int
    result: Result
    uncertain: bool = False
    asked_ns: int = 0
    complete: bool = False
    unanswered: tuple[int, str] | None = None
    measured: bool = True
    outside: str = ""


class Sampler:
    """Reads what belongs to a stroke and computes its features.

    Args:
        spec: The pipeline, its context in the model's order.
        bus: The tag bus.
        clock: For ages.
        reader: Reads the captures: it knows how good one is now.
        extractor: Computes the features.
        size: How many there are.

    Raises:
        ModelError: A context tag is not a number (M504).
    """

    def __init__(
        self,
        spec: LaneSpec,
        bus: Bus,
        clock: Clock,
        reader: BlockReader,
        *,
        extractor: Extractor,
        size: int,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._reader = reader
        self._extractor = extractor
        self._size = size
        tags = spec.context if spec.part_id is None else (*spec.context, spec.part_id)
        self._inputs = Inputs(bus, tags)
        self._sample_count = sample_capacity(bus, spec.capture_block)
        self._take = None if spec.take is None else np.array(spec.take, np.intp)
        self._map = None if spec.fed is None else spec.fed.map_number
        self._values = np.empty(len(spec.context))

    def read(self, lane: Any, capture: TagBatch, shot: Shot) -> Case:
        """Return a stroke with its features, or with the fail-safe verdict and why.

        Args:
            lane: Whose case it is.
            capture: A batch with a capture, of the reader.
            shot: Where it lies in there.
        """
        begun_ns = self._clock.monotonic_ns()
        result = Result(
            shot.captured_ns,
            shot.stroke,
            acquire_ms=max(0.0, (shot.server_ns - shot.captured_ns) / _MS),
            queue_ms=max(0.0, (begun_ns - capture.stamp_ns) / _MS),
        )
        readings = self._inputs.read()
        if self._spec.part_id is not None:
            part = readings.pop()
            result.part_id, result.part_status = _part(part)
        times = [found.source_ns for found in readings if not is_bad(found.status)]
        oldest_ns = min([shot.captured_ns, shot.source_ns, *times])
        case = Case(lane, capture.sequence, capture.stamp_ns, begun_ns, oldest_ns, result)
        self._fill(case, capture, shot, readings)
        return case

    def _fill(self, case: Case, capture: TagBatch, shot: Shot, context: list[Reading]) -> None:
        spec, result = self._spec, case.result
        status = int(self._reader.effective(capture)[shot.waveform_row])
        bad = next((found for found in context if is_bad(found.status)), None)
        if is_bad(status):
            why = text_of(capture, "reason") or status_name(status)
            result.fall_safe(spec.fail_safe, status, f"{spec.capture}: {why}")
        elif (difference := self._difference(capture, shot)) is not None:
            result.fall_safe(spec.fail_safe, BAD_CONFIGURATION_ERROR, difference)
        elif bad is not None:
            result.fall_safe(spec.fail_safe, bad.status, f"{bad.tag.reference}: {status_name(bad.status)}")
        elif result.queue_ms <= spec.deadline_ms:  # of what has expired nothing is computed
            case.uncertain = is_uncertain(status) or any(is_uncertain(found.status) for found in context)
            self._extract(case, capture, shot, context)

    def _extract(self, case: Case, capture: TagBatch, shot: Shot, context: list[Reading]) -> None:
        self._values[:] = [found.value for found in context]
        waveform = capture.array(shot.waveform_row).astype(np.float32, copy=False)
        if self._take is not None:
            waveform = waveform[self._take]
        row: Floats = np.empty(self._size, np.float32)
        self._extractor.extract(waveform, self._extractor.sample_rate_hz, self._values, row)
        case.outside, are_numbers = self._extractor.outside(), bool(np.isfinite(row).all())
        if are_numbers or not case.outside:
            case.result.features = row
        if not are_numbers and not case.outside:
            what = "the waveform is" if self._map is None else "the samples are"
            reason = f"{self._spec.capture}: {what} flat or no number"
            case.result.fall_safe(self._spec.fail_safe, BAD_SENSOR_FAILURE, reason)

    def _difference(self, capture: TagBatch, shot: Shot) -> str | None:
        """Say how a capture differs from those the features are made for; None if it does not."""
        count, rate_hz = capture.array(shot.waveform_row).size, shot.sample_rate_hz
        wanted_hz = self._spec.sample_rate_hz
        if self._map is not None and number_of(capture, "map") != self._map:
            return f"{self._spec.capture} was sampled from other tags, before the configuration was changed"
        if count == self._sample_count and rate_hz in (0.0, wanted_hz):
            return None
        return (
            f"{self._spec.capture} has {count} samples at {rate_hz:g} Hz, not "
            f"{self._sample_count} at {wanted_hz:g} Hz"
        )


def _part(found: Reading) -> tuple[int, int]:
    """Return number and status of a part; a PLC that has none in hand may say -1, which is no number."""
    number = int(found.value)
    return (number, found.status) if 0 <= number <= _MOST_PARTS else (0, BAD_OUT_OF_RANGE)
