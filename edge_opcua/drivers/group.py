"""One poll group: reads its rows by the plan that fits now, and publishes its block."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, Link
from edge_opcua.drivers.cost import RequestCost
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.planner import Fragment, ReadPlan, Request, Shape, Stretch, Terms, plan_reads
from edge_opcua.drivers.refusals import Read as Read
from edge_opcua.drivers.refusals import Refusals
from edge_opcua.drivers.staging import Staging
from edge_opcua.drivers.wire import Fault, Stamped

_SHOWN: Final = 8
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How a group is read.

    Args:
        no_read: What must not be read along between two rows.
        refused_again_s: Time a new connection must hold before what was refused is tried again, seconds.
        max_age_s: Age of each row at which it becomes Uncertain, seconds; empty: none has one of its own.
        cost: What a request to this device costs.
        mark: Status of every value that is not Bad, instead of its own; GOOD for none.
    """

    no_read: tuple[Stretch, ...] = ()
    refused_again_s: float = 60.0
    max_age_s: tuple[float | None, ...] = ()
    cost: RequestCost = field(default_factory=RequestCost)
    mark: int = GOOD


class PollGroup:
    """The rows of one block, read together.

    Args:
        rows: Rows in the order of the block.
        writer: Writer of the block.
        clock: Clock for source and server times.
        settings: How they are read.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        writer: BlockWriter,
        clock: Clock,
        settings: GroupSettings | None = None,
    ) -> None:
        self._settings = settings or GroupSettings()
        self.writer = writer
        self._places = tuple(row.place for row in rows)
        self._clock = clock
        self._shape: Shape | None = None
        self._plan = ReadPlan((), 0, ())
        self._planned_for: object = None
        self._refusals = Refusals(self._places, self._settings.refused_again_s, clock)
        self._staging = Staging(rows, writer, clock, self._settings.max_age_s, mark=self._settings.mark)

    @property
    def requests(self) -> int:
        """Requests of one poll as planned now."""
        return len(self._plan.requests)

    @property
    def refused(self) -> int:
        """Rows that the device does not give."""
        return len(self._refusals.holes.bad)

    def adopt(self, shape: Shape) -> None:
        """Plan for a new connection; what the former one had refused is tried again once it has held."""
        self._shape = shape
        self._refusals.connected()
        self._replan()

    def plan_anew(self) -> None:
        """Plan again, because requests cost another time than they did."""
        if self._shape is not None:
            self._replan()

    def lose(self, station: Hashable) -> None:
        """Publish that a unit is lost whose rows may not be asked for for a long time."""
        shape = self._shape
        if shape is None or self.writer.batch.link is not Link.UP:
            return
        rows = [row for row, place in enumerate(self._places) if shape.station(place.space) == station]
        if rows and self._staging.lose(rows):
            self.writer.publish(link=Link.UP, refreshed=False)

    def age(self) -> None:
        """Publish the statuses of rows that have grown old since they were read."""
        if self._staging.age():
            self.writer.publish(link=Link.UP, refreshed=False)

    async def poll(self, read: Read) -> bool:
        """Read all rows and publish them; DeviceError of the wire passes, then nothing is published.

        Returns:
            Whether the device refused rows for the first time, so that its neighbours were not read
            either and another poll should follow at once.
        """
        started_ns = self._clock.utc_ns()
        requests = self._plan.requests
        faults, stamps = self._take(requests, await read(requests))
        ended_ns = self._clock.utc_ns()
        known, known_bad = self._refusals.size, self.refused
        for fragment, fault in faults:
            await self._refusals.learn(fragment, fault, read)
        self._staging.store(faults, stamps, (started_ns + ended_ns) // 2, ended_ns)
        if self.refused > known_bad:
            self._staging.refuse(tuple(self._refusals.holes.bad))
            self._say_refused()
        self.writer.publish(link=Link.UP)
        if self._refusals.size > known:
            self._replan()
            return True
        await self._try_again(read)
        return False

    def _take(
        self, requests: Sequence[Request], answers: Sequence[Sequence[bytes | Stamped | Fault]]
    ) -> tuple[list[tuple[Fragment, Fault]], list[tuple[Fragment, Stamped]]]:
        faults: list[tuple[Fragment, Fault]] = []
        stamps: list[tuple[Fragment, Stamped]] = []
        put = self._staging.put
        for request, each in zip(requests, answers, strict=True):
            for fragment, answer in zip(request.fragments, each, strict=True):
                if isinstance(answer, bytes):
                    put(fragment.image_at, answer)
                elif isinstance(answer, Stamped):
                    stamps.append((fragment, answer))
                    put(fragment.image_at, answer.wire)
                else:
                    faults.append((fragment, answer))
        return faults, stamps

    async def _try_again(self, read: Read) -> None:
        """Try one row or gap again that the device had refused; the rest has been published by now."""
        if not self._refusals.size or self._shape is None:
            return
        before = set(self._refusals.holes.bad)
        if await self._refusals.try_one(read, self._shape):
            returned = before - set(self._refusals.holes.bad)
            if returned:
                _log.info("driver.tags_accepted", block=self._name, tags=self._names(returned))
            self._replan()

    def _replan(self) -> None:
        assert self._shape is not None
        terms = Terms(self._settings.cost.planned_s, self._settings.no_read)
        holes = self._refusals.holes
        reasons = (self._shape, terms, frozenset(holes.bad), frozenset(holes.cuts))
        if reasons == self._planned_for:
            return
        self._planned_for = reasons
        plan = plan_reads(self._places, self._shape, holes, terms)
        if plan != self._plan or not self._plan.image_at:
            self._plan = plan
            self._staging.adopt(plan)

    @property
    def _name(self) -> str:
        return self.writer.batch.layout.spec.name

    def _names(self, rows: set[int]) -> list[str]:
        names = self.writer.batch.layout.spec.columns.names
        return [names[row] for row in sorted(rows)[:_SHOWN]]

    def _say_refused(self) -> None:
        bad = self._refusals.holes.bad
        _log.warning(
            "driver.tags_refused",
            block=self._name,
            tags=self._names(set(bad)),
            count=len(bad),
            reason=next(iter(bad.values())),
        )
