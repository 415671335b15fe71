"""One poll group: reads its rows, finds out which ones the device does not have, publishes its block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import structlog

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    UNCERTAIN_LAST_USABLE,
    Link,
    bad_rows,
)
from edge_opcua.drivers.decode import Decoder, Row
from edge_opcua.drivers.planner import (
    Fragment,
    Holes,
    Place,
    ReadPlan,
    Request,
    Shape,
    halves,
    plan_reads,
    span,
)
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, content

Read: TypeAlias = Callable[[Sequence[Request]], Awaitable[Sequence[Sequence[Reading]]]]

_SHOWN: Final = 8
_log = structlog.get_logger(__name__)


class PollGroup:
    """The rows of one block, read together.

    Args:
        rows: Rows in the order of the block.
        writer: Writer of the block.
        clock: Clock for source and server times.
    """

    def __init__(self, rows: Sequence[Row], writer: BlockWriter, clock: Clock) -> None:
        self.writer = writer
        self.last_refusal = ""
        self._rows = tuple(rows)
        self._places: list[Place] = [row.place for row in rows]
        self._clock = clock
        self._holes = Holes()
        self._shape: Shape | None = None
        self._plan = ReadPlan((), 0, ())
        self._image: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._decoder: Decoder | None = None

    @property
    def requests(self) -> int:
        """Requests of one poll as planned now."""
        return len(self._plan.requests)

    @property
    def refused(self) -> int:
        """Rows that the device does not give."""
        return len(self._holes.bad)

    def adopt(self, shape: Shape) -> None:
        """Plan for a new connection; what the former one had refused is tried again."""
        self._shape = shape
        self._holes = Holes()
        self._replan()

    async def poll(self, read: Read) -> bool:
        """Read all rows and publish them; DeviceError of the wire passes, then nothing is published.

        Returns:
            Whether the device refused rows for the first time, so that its neighbours were not read
            either and another poll should follow at once.
        """
        started_ns = self._clock.utc_ns()
        faults: list[tuple[Fragment, Fault]] = []
        requests = self._plan.requests
        for request, answers in zip(requests, await read(requests), strict=True):
            for fragment, answer in zip(request.fragments, answers, strict=True):
                if isinstance(answer, Fault):
                    faults.append((fragment, answer))
                    continue
                at, wire = fragment.image_at, content(answer)
                self._image[at : at + len(wire)] = np.frombuffer(wire, np.uint8)
        ended_ns = self._clock.utc_ns()
        known_bad = len(self._holes.bad)
        for fragment, fault in faults:
            await self._learn(fragment, fault, read)
        self._store(faults, (started_ns + ended_ns) // 2, ended_ns)
        self.writer.publish(link=Link.UP)
        if any(fault.kind in (FaultKind.ADDRESS, FaultKind.DENIED) for _, fault in faults):
            self._replan()
            if len(self._holes.bad) > known_bad:
                self._say_refused()
            return True
        return False

    def _replan(self) -> None:
        assert self._shape is not None
        self._plan = plan_reads(self._places, self._shape, self._holes)
        self._image = np.zeros(self._plan.image_bytes, np.uint8)
        self._decoder = Decoder(self._rows, self._plan.image_at, self.writer.batch.layout)

    async def _learn(self, fragment: Fragment, fault: Fault, read: Read) -> None:
        """Find out which rows of a refused fragment are to blame."""
        if fault.kind is FaultKind.DENIED:
            for row in fragment.rows:
                self._holes.bad[row] = fault.reason
        elif fault.kind is FaultKind.ADDRESS:
            await self._divide(fragment.rows, fault, read)

    async def _divide(self, rows: Sequence[int], fault: Fault, read: Read) -> None:
        parts = halves(rows, self._places) if len(rows) > 1 else None
        if parts is None:
            for row in rows:
                self._holes.bad[row] = fault.reason
            return
        left, right = parts
        first = self._places[right[0]]
        self._holes.cuts.add((first.space, first.start))
        for part in (left, right):
            ((answer,),) = await read((Request((span(part, self._places),)),))
            if isinstance(answer, Fault) and answer.kind in (FaultKind.ADDRESS, FaultKind.DENIED):
                await self._divide(part, answer, read)

    def _store(self, faults: Sequence[tuple[Fragment, Fault]], source_ns: int, server_ns: int) -> None:
        assert self._decoder is not None
        batch = self.writer.batch
        fresh = np.array([at >= 0 for at in self._plan.image_at], np.bool_)
        for fragment, _ in faults:
            fresh[list(fragment.rows)] = False
        if fresh.all():
            batch.status[:] = self._decoder.decode(self._image, batch)
        else:
            self._store_some(fresh, faults, batch)
        batch.source_ns[fresh] = source_ns
        batch.server_ns[fresh] = server_ns

    def _store_some(
        self, fresh: npt.NDArray[np.bool_], faults: Sequence[tuple[Fragment, Fault]], batch: TagBatch
    ) -> None:
        """Store the rows that were read; the others keep their value and get the status they deserve."""
        assert self._decoder is not None
        before = TagBatch(batch.layout)
        before.copy_from(batch)
        own = self._decoder.decode(self._image, batch)
        for row in np.flatnonzero(~fresh).tolist():
            batch.set(row, before.value(row))
        batch.status[fresh] = own[fresh]
        for fragment, fault in faults:
            rows = np.array(fragment.rows, np.intp)
            if fault.kind is FaultKind.DEVICE:
                batch.status[rows] = BAD_DEVICE_FAILURE
            elif fault.kind is FaultKind.BUSY:
                # A busy device says nothing about the value: the last one, if there ever was one.
                usable = rows[~bad_rows(before.status[rows])]
                batch.status[usable] = UNCERTAIN_LAST_USABLE
        batch.status[list(self._holes.bad)] = BAD_CONFIGURATION_ERROR
        self.last_refusal = faults[-1][1].reason if faults else self.last_refusal

    def _say_refused(self) -> None:
        tags = self.writer.batch.layout.spec.tags
        names = [tags[row].name for row in sorted(self._holes.bad)]
        _log.warning(
            "driver.tags_refused",
            block=self.writer.batch.layout.spec.name,
            tags=names[:_SHOWN],
            count=len(names),
            reason=next(iter(self._holes.bad.values())),
        )
