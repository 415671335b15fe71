"""What a lane process does when the supervisor says so: judge in shadow, get ready, take over, stand by."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from edge_opcua.app.serving.shadowing import Shadowed, Shadowing
from edge_opcua.core import realtime
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.realtime import Granted
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, BAD_NOT_SUPPORTED
from edge_opcua.errors import ModelError
from edge_opcua.inference import memory
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.unseen import rehearse

FIRST_VICTIM: Final = 900
"""Who does not judge is ended first if memory runs out: one that is being prepared, or stands by."""
_VICTIMS: Final = {LaneClass.SAFETY: 0, LaneClass.REALTIME: 200, LaneClass.BEST_EFFORT: 600}
"""Who is ended first among those that judge; 0 is everybody else's."""
_URGENCY: Final[Mapping[LaneClass, realtime.Urgency]] = {
    LaneClass.SAFETY: "safety",
    LaneClass.REALTIME: "realtime",
    LaneClass.BEST_EFFORT: "best_effort",
}

_log = structlog.get_logger(__name__)


class Rank:
    """How urgent the process is: like any other until it is promoted, so that it disturbs nobody.

    Args:
        urgency: Class of its most urgent lane.
        cores: Processors to run on; empty: all.
        clock: For how long it has not rested.

    Attributes:
        promoted: Set once the process is as urgent as its lanes.
    """

    def __init__(self, urgency: LaneClass, cores: Sequence[int], clock: Clock) -> None:
        self.promoted = asyncio.Event()
        self._urgency = urgency
        self._cores = tuple(cores)
        self._clock = clock
        self._granted: Granted | None = None
        self._idle: realtime.Idle | None = None
        self._stands_back = False

    @property
    def granted(self) -> Granted:
        """What the system gave, once it is promoted."""
        assert self._granted is not None, "it is not promoted"
        return self._granted

    def promote(self) -> None:
        """Become as urgent as the lanes are; only the first time does anything but say who is ended first."""
        memory.offer_as_victim(_VICTIMS[self._urgency])
        if self._granted is None:
            self._granted = realtime.become(_URGENCY[self._urgency], self._cores)
            self._idle = realtime.Idle(self._clock)
            self.promoted.set()
        elif self._stands_back:
            realtime.step_forward()
        self._stands_back = False

    def relieve(self) -> None:
        """Judge no more: be ended first if memory runs out, and be no hindrance to the one that judges."""
        memory.offer_as_victim(FIRST_VICTIM)
        if self._urgency is LaneClass.SAFETY and not self._stands_back:
            self._stands_back = True
            realtime.stand_back()

    def idle(self) -> None:
        """Do what there is to do when nothing waits."""
        if self._idle is not None:
            self._idle()


@dataclass(frozen=True, slots=True)
class DutyParts:
    """What the orders are about.

    Args:
        group: The lanes.
        engine: Runs their models.
        bus: The tag bus.
        pipelines: How to make further lanes, which judge unseen.
        shadowing: Judges in shadow.
        rank: How urgent the process is.
    """

    group: LaneGroup
    engine: Engine
    bus: Bus
    pipelines: Sequence[Shadowed]
    shadowing: Shadowing
    rank: Rank


class Duty:
    """Takes orders of the supervisor for the prepared lanes.

    Args:
        parts: What they are about.
    """

    def __init__(self, parts: DutyParts) -> None:
        self._parts = parts
        self._group = parts.group
        self._activated = asyncio.Event()
        self._rehearsed = False

    async def handle(self, request: Request) -> Reply:
        """Answer ``shadow``, ``promote``, ``activate`` and ``retire``."""
        try:
            match request.kind:
                case "shadow":
                    return self._shadow(request.body)
                case "promote":
                    return self._promote()
                case "activate":
                    return self._activate(request.body)
                case "retire":
                    return await self._retire(request.body)
        except ModelError as exc:
            return Reply(BAD_INVALID_STATE, str(exc))
        except (TypeError, ValueError, AttributeError) as exc:
            return Reply(BAD_INVALID_ARGUMENT, f"{request.kind} is not understood: {exc}")
        return Reply(BAD_NOT_SUPPORTED, f"a lane does not know {request.kind}")

    async def run(self) -> None:
        """Judge whenever it is active, from one activation to the next."""
        while True:
            await self._activated.wait()
            self._activated.clear()
            await self._group.run()

    def _shadow(self, body: Mapping[str, Any]) -> Reply:
        if self._group.is_active:
            raise ModelError("it judges already, not in shadow", code="M534")
        wanted = {str(name): int(count) for name, count in dict(body.get("wanted") or {}).items()}
        self._parts.shadowing.begin(wanted)
        return Reply()

    def _promote(self) -> Reply:
        """Do everything that takes time before the former process is retired."""
        parts = self._parts
        parts.shadowing.end("Promoted")
        if not self._rehearsed:  # before it is urgent: nobody waits for it
            self._rehearsed = True
            judged = {
                each.spec.pipeline: rehearse(each.make, each.spec, parts.bus, parts.engine)
                for each in parts.pipelines
            }
            _log.info("lane.rehearsed", captures=judged)
        self._group.get_ready()  # before it is urgent: the former one still judges
        self._become_urgent()
        self._group.get_ready()  # what has come since
        return Reply()

    def _activate(self, body: Mapping[str, Any]) -> Reply:
        self._become_urgent()
        self._group.activate(_cursors(body.get("cursors")))
        self._activated.set()
        return Reply()

    def _become_urgent(self) -> None:
        self._parts.rank.promote()
        self._parts.engine.rise()

    async def _retire(self, body: Mapping[str, Any]) -> Reply:
        pipelines, quiet_s = body.get("pipelines"), float(body.get("quiet_s") or 0.0)
        if quiet_s > 0.0:
            handovers = await self._group.retire_quietly(pipelines, within_s=quiet_s)
        else:
            handovers = self._group.retire(pipelines)
        if not self._group.is_active:
            self._parts.rank.relieve()
        rows = {name: {"cursor": each.cursor, "sequence": each.sequence} for name, each in handovers.items()}
        return Reply(body={"pipelines": rows})


def _cursors(given: Mapping[str, Any] | None) -> dict[str, int | None]:
    return {name: None if cursor is None else int(cursor) for name, cursor in (given or {}).items()}
