"""The processes of one group: who judges, who stands by, and how one takes over from another.

Whatever happens on the way, no capture is lost, none is judged twice, and no process is left behind: one that
does not answer is killed before another one writes its blocks, and if the new process does not become active
the former one, which is still loaded, goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog

from edge_opcua.app.serving.candidate import Standby
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.starting import LaneHost, LaneProcess, LaneStarter
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply
from edge_opcua.core.values import is_good

_log = structlog.get_logger(__name__)

ANSWER_S: Final = 5.0
PROMOTE_S: Final = 10.0
"""To become urgent and to rehearse: with much memory to be locked that takes its time, and nobody waits."""
QUIET_S: Final = 1.0
"""How long a lane that is relieved waits for the moment after a verdict, when no capture is on its way."""


class Served:
    """Who judges for the pipelines of a group, and who stands by.

    Args:
        group: Name of the group.
        host: The supervisor.
        clock: For how long a process stands by.
        starter: Ends processes.

    Attributes:
        lanes: The active processes.
        standby: The process that was relieved last, while it is kept.
    """

    def __init__(self, group: str, host: LaneHost, clock: Clock, starter: LaneStarter) -> None:
        self.lanes: list[LaneProcess] = []
        self.standby: Standby | None = None
        self._group = group
        self._host = host
        self._clock = clock
        self._starter = starter

    def of(self, pipelines: Collection[str]) -> list[LaneProcess]:
        """Return the active processes that serve any of these pipelines."""
        return [lane for lane in self.lanes if not lane.models.keys().isdisjoint(pipelines)]

    def warm(self, models: Mapping[str, ModelChoice]) -> LaneProcess | None:
        """Return the process on standby if it would judge with exactly these models."""
        lane = None if self.standby is None else self.standby.lane
        if lane is None or lane.stale or lane.child.has_ended or lane.models.keys() != models.keys():
            return None
        return lane if all(is_same(lane.models[name], choice) for name, choice in models.items()) else None

    async def promote(self, lane: LaneProcess) -> Reply:
        """Let a process become as urgent as its lanes are, and rehearse; it is not active yet.

        What an active lane has not done yet takes a stroke's time when it does it first; so it is done here.
        """
        return await self._host.request(lane.role, "promote", {}, timeout_s=PROMOTE_S)

    async def take_over(
        self,
        lane: LaneProcess,
        formers: Sequence[LaneProcess],
        *,
        keep_warm_s: float = 0.0,
        quiet_s: float = QUIET_S,
    ) -> Reply:
        """Retire the former processes, activate a promoted one behind what they have dealt with.

        Args:
            lane: The process that shall judge.
            formers: Those it takes over from.
            keep_warm_s: How long the former one is kept loaded, seconds.
            quiet_s: How long to wait for a moment without a capture on its way, seconds. Of several processes
                none waits: who had stopped already would wait for the others.

        Returns:
            What the process said. If it is not good it has ended, and a former one judges again if it can.
        """
        cursors: dict[str, int | None] = {}
        stopped_s: list[float] = []
        wait_s = quiet_s if len(formers) == 1 else 0.0
        for former in formers:
            cursors |= await self.retire(former, tuple(former.models), quiet_s=wait_s)
            stopped_s.append(self._clock.monotonic_s())
        reply = await self._activate(lane, cursors)
        self.lanes = [each for each in self.lanes if each not in formers]
        if not is_good(reply.status):
            lane.child.kill()  # it judges from then on: what hangs in its first run must not write later
            await self.discard(lane)
            await self._resume(formers)
            return reply
        lane.since_s = self._clock.monotonic_s()
        self.lanes.append(lane)
        if stopped_s:
            gap_ms = round(1e3 * (lane.since_s - stopped_s[0]), 3)
            _log.info("lane.took_over", group=self._group, role=lane.role, gap_ms=gap_ms)
        self._drop_standby(lane)
        await self._relieve(lane, formers, keep_warm_s)
        return reply

    async def retire(
        self, lane: LaneProcess, pipelines: Collection[str], *, quiet_s: float = 0.0
    ) -> dict[str, int | None]:
        """Stop pipelines after the capture in hand and return the last ones they dealt with."""
        body = {"pipelines": list(pipelines), "quiet_s": quiet_s}
        reply = await self._host.request(lane.role, "retire", body, timeout_s=quiet_s + ANSWER_S)
        rows = reply.body.get("pipelines")
        if is_good(reply.status) and isinstance(rows, dict):
            return {name: int(rows[name]["cursor"]) for name in pipelines if name in rows}
        lane.child.kill()  # frozen: it must not write its blocks once another does
        await lane.child.wait()
        return {}

    async def discard(self, lane: LaneProcess) -> None:
        """End a process that is not needed, or not any more."""
        self._drop_standby(lane)
        await self._starter.discard(lane.child)

    async def end_standby(self, why: str) -> None:
        """End the process that stands by, if there is one."""
        standby = self.standby
        if standby is not None:
            self._drop_standby(standby.lane)
            _log.info("lane.standby_ended", group=self._group, role=standby.lane.role, why=why)
            await self._starter.discard(standby.lane.child)

    def forget(self, lane: LaneProcess) -> bool:
        """Take note that a process has ended by itself; returns whether it was active."""
        if self._drop_standby(lane):
            _log.warning("lane.standby_lost", group=self._group, role=lane.role, pid=lane.child.pid)
        if lane not in self.lanes:
            return False
        self.lanes.remove(lane)
        return True

    def everyone(self) -> list[LaneProcess]:
        """Return all processes and forget them; the caller ends them."""
        found, self.lanes = self.lanes, []
        standby, self.standby = self.standby, None
        return found if standby is None else [*found, standby.lane]

    def _drop_standby(self, lane: LaneProcess) -> bool:
        if self.standby is None or self.standby.lane is not lane:
            return False
        self.standby = None
        self._host.standby_changed()
        return True

    async def _activate(self, lane: LaneProcess, cursors: Mapping[str, int | None]) -> Reply:
        """Let a process judge from these cursors on, or from those on the bus."""
        body = {
            "cursors": {
                name: cursors[name] if name in cursors else self._host.recorded_cursor(name)
                for name in lane.models
            }
        }
        return await self._host.request(lane.role, "activate", body, timeout_s=ANSWER_S)

    async def _resume(self, formers: Iterable[LaneProcess]) -> None:
        """Let former processes go on, behind what the failed one has dealt with by then."""
        for former in formers:
            if not former.child.has_ended and is_good((await self._activate(former, {})).status):
                self.lanes.append(former)
                _log.warning("lane.resumed", group=self._group, role=former.role)
            else:
                await self.discard(former)

    async def _relieve(self, lane: LaneProcess, formers: Sequence[LaneProcess], keep_warm_s: float) -> None:
        """Keep the former process warm if it could take over again; end it otherwise."""
        for former in formers:
            same = former.models.keys() == lane.models.keys() and not former.stale
            if keep_warm_s > 0.0 and same and not former.child.has_ended:
                await self.end_standby("another one stands by")
                self.standby = Standby(former, self._clock.monotonic_s() + keep_warm_s)
                self._host.standby_changed()
            else:
                await self.discard(former)


def is_same(one: ModelChoice, other: ModelChoice) -> bool:
    """Whether two choices mean the same model; one without a hash means any that verifies."""
    hashes = {one.sha256, other.sha256} - {""}
    return (one.name, one.version) == (other.name, other.version) and len(hashes) < 2
