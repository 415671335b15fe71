"""Finds what belongs to a result on the bus: the samples that were judged, and the tags beside them.

Results come in the order of their captures, so both rings are read forward once, side by side; nothing is
copied that no result asks for. The tags are those of the newest batch at the time at which the lane came to
the capture; the lane's own features are kept too, so whoever replays a window can tell whether they agree.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_WAITING_FOR_INITIAL_DATA,
    UNCERTAIN_SUBSTITUTE,
    is_bad,
)
from edge_opcua.errors import BusError
from edge_opcua.records.window import Floats, Numbers, Statuses, Window, WindowSource

_log = structlog.get_logger(__name__)

_MS: Final = 1_000_000
_KEPT: Final = 32
_KEPT_BYTES: Final = 4 << 20
_MASK: Final = 0xFFFFFFFF
_LARGEST: Final = (1 << 63) - 1  # that SQLite can hold


@dataclass(frozen=True, slots=True)
class ContextPlace:
    """Where a tag lies that is read beside the samples.

    Args:
        block: Its block.
        tag: Its name there.
    """

    block: str
    tag: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A pipeline whose windows are kept.

    Args:
        source: What its windows are called and come from.
        result_block: Block of its results.
        capture_block: Block of its samples.
        context: Where the tags of ``source.context`` lie, in their order.
    """

    source: WindowSource
    result_block: str
    capture_block: str
    context: tuple[ContextPlace, ...] = ()


class Joining:
    """Makes windows of results; one per pipeline.

    Args:
        bus: The tag bus.
        judged: The pipeline.

    Raises:
        BusError: A block is not there.

    Attributes:
        missed: Results whose samples were overwritten before they were taken.
    """

    def __init__(self, bus: Bus, judged: Judged) -> None:
        self.source = judged.source
        self.missed = 0
        self._captures = bus.reader(judged.capture_block, from_newest=False)
        self._capture: TagBatch | None = None
        self._key = (-1, -1)
        blocks = {place.block for place in judged.context}
        self._beside = {block: _Beside(bus, block) for block in blocks}
        self._rows = [_Row(bus, place) for place in judged.context]

    def window(self, result: TagBatch) -> Window | None:
        """Return the window of a result; None if it is about no capture, or that is gone."""
        values = _Values(result)
        if is_bad(values.status("stroke")):
            return None
        key = (values.whole("stroke"), values.whole("captured_ns"))
        capture = self._find(key, result.stamp_ns)
        if capture is None:
            self.missed += 1
            return None
        features = values.floats("features")
        waited_ns = values.whole("queue_ms") * _MS + _MS  # in whole milliseconds, rounded up
        context, statuses = self._context(capture.stamp_ns, capture.stamp_ns + waited_ns, features)
        samples = _Values(capture)
        return Window(
            source=self.source,
            result_id=values.whole("result_id") & _LARGEST,
            stroke=key[0],
            captured_ns=key[1],
            verdict=values.whole("verdict"),
            status=values.status("score"),
            fail_safe=bool(values.whole("fail_safe_active")),
            score=values.real("score"),
            confidence=values.real("confidence"),
            label=values.text("label"),
            reason=values.text("reason"),
            model=values.text("model_name"),
            version=values.whole("model_version"),
            total_ms=values.real("total_ms"),
            judged_ns=int(result.server_ns.max()),
            features=features,
            context=context,
            context_status=statuses,
            samples=samples.floats("waveform", whatever=True),
            sample_status=samples.status("waveform"),
        )

    def _find(self, key: tuple[int, int], stamp_ns: int) -> TagBatch | None:
        """Go on to the capture of a result, but not past what was there when the result was."""
        while self._key != key:
            if self._capture is not None and self._capture.stamp_ns > stamp_ns:
                return None  # newer than the result: its own was overwritten
            self._capture = next(self._captures.poll(), None)
            if self._capture is None:
                self._key = (-1, -1)
                return None
            self._key = capture_key(self._capture)
        return self._capture

    def _context(self, at_ns: int, until_ns: int, features: Floats) -> tuple[Numbers, Statuses]:
        """Return the tags beside the samples as the lane saw them: values, NaN where Bad, and statuses.

        It came to the capture between two times, monotonic. Where something new arrived in between, its
        features tell what it saw, if the tags are among them; else it is taken to have come at once.
        """
        known = set(features.tolist())
        values: Numbers = np.full(len(self._rows), np.nan)
        statuses: Statuses = np.full(len(self._rows), BAD_NO_COMMUNICATION, np.uint32)
        for block, beside in self._beside.items():
            rows = [(place, row) for place, row in enumerate(self._rows) if row.block == block]
            seen = [
                [row.reading(batch, effective) for _, row in rows]
                for batch, effective in beside.between(at_ns, until_ns)
            ]
            chosen = next((each for each in seen if _are_among(each, known)), seen[0] if seen else [])
            for (place, _), (value, status) in zip(rows, chosen, strict=False):
                values[place], statuses[place] = value, status
        return values, statuses


def _are_among(readings: Sequence[tuple[float, int]], known: set[float]) -> bool:
    return all(math.isnan(value) or float(np.float32(value)) in known for value, _ in readings)


def capture_key(capture: TagBatch) -> tuple[int, int]:
    """Return what tells a capture from others, as a result names it: number and time (ns UTC).

    It is what a lane takes for the same capture, and (-1, -1) for a batch without one.
    """
    values = _Values(capture)
    if is_bad(values.status("sequence")) or capture.refreshed_ns != capture.stamp_ns:
        return -1, -1
    name = "stroke" if "stroke" in capture.layout.rows else "sequence"
    source_ns = int(capture.source_ns[capture.row("waveform")])
    return values.whole(name) & _MASK, values.whole("ready_ns") or source_ns


class _Values:
    """Rows of a batch by name; what is not there, or is Bad, is nothing."""

    def __init__(self, batch: TagBatch) -> None:
        self._batch = batch
        self._rows = batch.layout.rows

    def status(self, name: str) -> int:
        row = self._rows.get(name)
        return BAD_WAITING_FOR_INITIAL_DATA if row is None else int(self._batch.status[row])

    def whole(self, name: str) -> int:
        number = self.real(name)
        return 0 if math.isnan(number) else int(number)

    def real(self, name: str) -> float:
        row = self._rows.get(name)
        if row is None or is_bad(int(self._batch.status[row])):
            return math.nan
        scalar, place = self._batch.place(row)
        value: float = self._batch.column(scalar)[place].item()  # an int where it is one, exact
        return value

    def text(self, name: str) -> str:
        row = self._rows.get(name)
        return "" if row is None or is_bad(int(self._batch.status[row])) else self._batch.text(row)

    def floats(self, name: str, *, whatever: bool = False) -> Floats:
        row = self._rows.get(name)
        if row is None or (is_bad(int(self._batch.status[row])) and not whatever):
            return np.empty(0, np.float32)
        return self._batch.array(row).astype(np.float32)  # a copy: the batch is the reader's


class _Beside:
    """The last batches of one block up to a time, read forward once.

    Args:
        bus: The tag bus.
        block: The block.
    """

    def __init__(self, bus: Bus, block: str) -> None:
        self._layout = bus.layout(block)
        self._reader = bus.reader(block, from_newest=False)
        self._most = max(2, min(_KEPT, _KEPT_BYTES // self._layout.image_bytes))
        self._past: deque[TagBatch] = deque()
        self._next: TagBatch | None = None

    def between(self, at_ns: int, until_ns: int) -> list[tuple[TagBatch, Statuses]]:
        """Return the newest batch of a time (monotonic, ns) and those that followed until another one.

        Each with its effective statuses then; valid until the next call.
        """
        while (batch := self._upcoming()) is not None and batch.stamp_ns <= until_ns:
            kept = self._past.popleft() if len(self._past) == self._most else TagBatch(self._layout)
            kept.copy_from(batch)
            self._past.append(kept)
            self._next = None
        before = [batch for batch in self._past if batch.stamp_ns <= at_ns]
        after = [batch for batch in self._past if at_ns < batch.stamp_ns <= until_ns]
        return [
            (batch, self._reader.effective(batch, at_ns=max(at_ns, batch.stamp_ns)))
            for batch in (*before[-1:], *after)
        ]

    def _upcoming(self) -> TagBatch | None:
        if self._next is None:
            self._next = next(self._reader.poll(), None)
        return self._next


class _Row:
    """One tag in its block, as a lane reads it."""

    def __init__(self, bus: Bus, place: ContextPlace) -> None:
        layout = bus.layout(place.block)
        self.block = place.block
        self._row = layout.rows[place.tag]
        self._scalar, self._place = layout.place(self._row)
        self._substitute = layout.spec.tags[self._row].substitute

    def reading(self, batch: TagBatch, statuses: Statuses) -> tuple[float, int]:
        if self._place < 0:
            return math.nan, BAD_NO_COMMUNICATION
        status = int(statuses[self._row])
        if is_bad(status):
            return math.nan, status
        shown = self._substitute
        if status == UNCERTAIN_SUBSTITUTE != int(batch.status[self._row]) and isinstance(shown, (int, float)):
            return float(shown), status
        return float(batch.column(self._scalar)[self._place]), status


class Joinings:
    """The pipelines whose windows are kept, as the bus holds them now.

    Args:
        bus: The tag bus.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._joinings: dict[str, tuple[Judged, Mapping[str, int], Joining]] = {}

    def follow(self, judged: Iterable[Judged]) -> None:
        """Follow these pipelines; one whose blocks are the same goes on where it is."""
        before, self._joinings = self._joinings, {}
        for each in judged:
            places = self._places(each)
            known = before.get(each.result_block)
            if known is not None and known[:2] == (each, places):
                self._joinings[each.result_block] = known
                continue
            try:
                self._joinings[each.result_block] = (each, places, Joining(self._bus, each))
            except (BusError, KeyError) as exc:  # a plan without this block: its windows are not kept
                _log.warning("windows.not_followed", pipeline=each.source.pipeline, reason=str(exc))

    def of(self, result_block: str) -> Joining | None:
        """Return what makes windows of the results of a block, None if nobody wants them."""
        found = self._joinings.get(result_block)
        return None if found is None else found[2]

    def _places(self, judged: Judged) -> Mapping[str, int]:
        blocks: Sequence[str] = (judged.capture_block, *(place.block for place in judged.context))
        return {block: self._bus.homes.get(block, -1) for block in blocks}
