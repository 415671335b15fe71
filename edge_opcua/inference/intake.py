"""What a lane takes from the bus: captures, the tags beside them, and whether more can come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    UNCERTAIN_SUBSTITUTE,
    Link,
    Scalar,
    is_bad,
)
from edge_opcua.errors import ModelError

_SECOND_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class ContextTag:
    """A tag the model looks at besides the waveform.

    Args:
        reference: Its public id, ``<device>/<tag>``.
        block: Block it lives in.
        tag: Its name there.
        unit: Its unit.
    """

    reference: str
    block: str
    tag: str
    unit: str

    @property
    def name(self) -> str:
        """Name of the feature: the tag without its device."""
        return self.reference.partition("/")[2]


def sample_capacity(bus: Bus, block: str) -> int:
    """Return how many samples a capture block has room for."""
    layout = bus.layout(block)
    return layout.spec.tags[layout.rows["waveform"]].length


class Shot:
    """The rows of one capture batch that say what it is; a capture need not have all of them."""

    def __init__(self, capture: TagBatch) -> None:
        rows = capture.layout.rows
        self.waveform_row = rows["waveform"]
        self.server_ns = int(capture.server_ns[self.waveform_row])
        self.sequence = _whole(capture, "sequence")
        ready_ns = _whole(capture, "ready_ns")
        self.source_ns = int(capture.source_ns[self.waveform_row])
        self.captured_ns = ready_ns or self.source_ns
        self.has_device_time = ready_ns > 0
        self.stroke = _whole(capture, "stroke" if "stroke" in rows else "sequence") & 0xFFFFFFFF
        self.sample_rate_hz = float(number_of(capture, "sample_rate_hz"))


def refusal(capture: TagBatch) -> int | None:
    """Return the status of a capture that the device refused to give, None if there is one."""
    status = int(capture.status[capture.row("sequence")])
    return status if is_bad(status) else None


def number_of(capture: TagBatch, name: str) -> int | float:
    """Return a number of a capture; 0 where the row does not exist or was not read."""
    row = capture.layout.rows.get(name)
    if row is None or is_bad(int(capture.status[row])):
        return 0
    scalar, place = capture.place(row)
    value: int | float = capture.column(scalar)[place].item()
    return value


def text_of(capture: TagBatch, name: str) -> str:
    """Return a text of a capture; empty where the row does not exist or was not read."""
    row = capture.layout.rows.get(name)
    return "" if row is None or is_bad(int(capture.status[row])) else capture.text(row)


def _whole(capture: TagBatch, name: str) -> int:
    return int(number_of(capture, name))


class Source:
    """Tells when captures cannot come any more."""

    def __init__(self, reader: BlockReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    def lost_status(self) -> int | None:
        """Return the status of the waveform while its link or its writer is lost, else None."""
        batch = self._reader.latest()
        if batch is None:
            return None
        silence_s = (self._clock.monotonic_ns() - max(self._reader.beat_ns, batch.stamp_ns)) / _SECOND_NS
        if batch.link in (Link.CONNECTING, Link.UP) and silence_s <= self._reader.spec.policy.writer_lost_s:
            return None
        status = int(self._reader.effective(batch)[batch.row("waveform")])
        return status if is_bad(status) else BAD_NO_COMMUNICATION


class Inputs:
    """Scalar tags that are read together when a stroke is judged; tags of one block come from one batch.

    Args:
        bus: The tag bus.
        tags: The tags.

    Raises:
        ModelError: A tag is not a number (M504).
    """

    def __init__(self, bus: Bus, tags: Sequence[ContextTag]) -> None:
        self._readers = {tag.block: bus.reader(tag.block) for tag in tags}
        self._inputs = [_Input(bus, tag) for tag in tags]

    def read(self) -> list[Reading]:
        """Return value, effective status and source time of each tag now, in their order."""
        batches = {}
        for block, reader in self._readers.items():
            batch = reader.latest()
            batches[block] = None if batch is None else (batch, reader.effective(batch))
        readings = []
        for source in self._inputs:
            found = batches[source.tag.block]
            if found is None:
                readings.append(Reading(source.tag, 0.0, BAD_NO_COMMUNICATION, 0))
            else:
                readings.append(source.reading(found[0], int(found[1][source.row])))
        return readings


@dataclass(frozen=True, slots=True)
class Reading:
    """One tag as it is now.

    Args:
        tag: Which.
        value: Its value, its substitute where the status says so, 0 where the status is Bad.
        status: Effective status.
        source_ns: Source time, ns UTC.
    """

    tag: ContextTag
    value: float
    status: int
    source_ns: int


class _Input:
    """Where one tag lies in its block."""

    def __init__(self, bus: Bus, tag: ContextTag) -> None:
        layout = bus.layout(tag.block)
        self.tag = tag
        self.row = layout.rows[tag.tag]
        self._scalar, self._place = layout.place(self.row)
        if self._place < 0 or self._scalar in (Scalar.STRING, Scalar.DATETIME):
            raise ModelError(f"{tag.reference} is not a number, a model cannot look at it", code="M504")
        self._substitute = layout.spec.tags[self.row].substitute

    def reading(self, batch: TagBatch, status: int) -> Reading:
        source_ns = int(batch.source_ns[self.row])
        if is_bad(status):
            return Reading(self.tag, 0.0, status, source_ns)
        own = int(batch.status[self.row])
        if status == UNCERTAIN_SUBSTITUTE and own != status and isinstance(self._substitute, (int, float)):
            return Reading(self.tag, float(self._substitute), status, source_ns)
        return Reading(self.tag, float(batch.column(self._scalar)[self._place]), status, source_ns)
