"""All tags of a device read once over a connection of its own, and why some of them could not be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.group import PollGroup
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.plan import capture_places, rows_of
from edge_opcua.drivers.planner import Fragment, Place, Request, Shape, plan_reads
from edge_opcua.drivers.wire import Driver, Fault, Reading, Wire, content

_GOODBYE_S: Final = 1.0
_MOST_POLLS: Final = 100  # of a group whose refused rows are being found out


@dataclass(frozen=True, slots=True)
class GroupReading:
    """What one poll group answered.

    Args:
        rows: Its rows.
        tags: Number of each row in the tag table of the device.
        batch: Values and statuses.
        faults: By row, what the device said instead of a value.
        bytes_of: By row, the bytes the value was made of, where they came in one piece.
    """

    rows: tuple[Row, ...]
    tags: Sequence[int]
    batch: TagBatch
    faults: Mapping[int, Fault]
    bytes_of: Mapping[int, bytes]


@dataclass(slots=True)
class Readings:
    """What a device answered.

    Args:
        connected_ms: Time it took to connect, ms.
        groups: What was read.
        captures: By capture, what the device said instead of its sequence and state.
    """

    connected_ms: float = 0.0
    groups: list[GroupReading] = field(default_factory=list)
    captures: dict[str, Fault] = field(default_factory=dict)


async def read_once(
    cfg: DeviceConfig, driver: type[Driver], bus: Bus, clock: Clock, lines: Lines
) -> Readings:
    """Connect, read every poll group and the head of every capture once, and close.

    Args:
        cfg: The device.
        driver: Class of its protocol.
        bus: A bus of the caller's own with the blocks of the device.
        clock: Clock.
        lines: What devices share.

    Raises:
        DeviceError: It does not answer, or stopped in the middle.
    """
    readings = Readings()
    wire = driver.wire(cfg, clock, lines)
    try:
        started_ns = clock.monotonic_ns()
        await wire.open()
        readings.connected_ms = (clock.monotonic_ns() - started_ns) / 1e6
        for group in cfg.groups:
            if cfg.tags_of(group.name):
                rows = rows_of(cfg, group.name, driver)
                places = cfg.tags.rows_where("group", group.name).tolist()
                polled = PollGroup(rows, bus.writer(cfg.block_name(group.name)), clock)
                readings.groups.append(await _read_group(polled, rows, places, wire))
        for capture in cfg.captures:
            fault = await _fault_of(list(capture_places(cfg, capture, driver)[0].values()), wire)
            if fault is not None:
                readings.captures[capture.name] = fault
    finally:
        async with asyncio.timeout(_GOODBYE_S):
            await wire.close()
    return readings


async def _read_group(
    group: PollGroup, rows: tuple[Row, ...], tags: Sequence[int], wire: Wire
) -> GroupReading:
    heard = _Heard(wire)
    group.adopt(wire.shape)
    for _ in range(_MOST_POLLS):
        if not await group.poll(heard.read):
            break
    bytes_of = {}
    for row, (fragment, answer) in heard.answers.items():
        wired = _part(rows[row].place, fragment, answer, wire.shape)
        if wired:
            bytes_of[row] = wired
    return GroupReading(rows, tags, group.writer.batch, dict(heard.faults), bytes_of)


async def _fault_of(places: Sequence[Place], wire: Wire) -> Fault | None:
    """Read some places and return the first refusal."""
    for request in plan_reads(places, wire.shape).requests:
        (answers,) = await wire.read((request,))
        for answer in answers:
            if isinstance(answer, Fault):
                return answer
    return None


class _Heard:
    """Reads for a group, and remembers what was said about each row."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.faults: dict[int, Fault] = {}
        self.answers: dict[int, tuple[Fragment, bytes]] = {}

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :data:`edge_opcua.drivers.group.Read`."""
        answers: list[Sequence[Reading]] = []
        depth = max(1, self._wire.depth)
        for first in range(0, len(requests), depth):
            answers += await self._wire.read(requests[first : first + depth])
        for request, parts in zip(requests, answers, strict=True):
            for fragment, answer in zip(request.fragments, parts, strict=True):
                self._note(fragment, answer)
        return answers

    def _note(self, fragment: Fragment, answer: Reading) -> None:
        for row in fragment.rows:
            if isinstance(answer, Fault):
                self.faults[row] = answer
            else:
                self.faults.pop(row, None)
                self.answers[row] = (fragment, content(answer))


def _part(place: Place, fragment: Fragment, answer: bytes, shape: Shape) -> bytes:
    """Return the bytes of a value, or none if they came in several pieces."""
    unit_bytes = shape.unit_bytes(fragment.space)
    first = (place.start - fragment.start) * unit_bytes
    last = first + place.size * unit_bytes
    return answer[first:last] if first >= 0 and last <= len(answer) else b""
