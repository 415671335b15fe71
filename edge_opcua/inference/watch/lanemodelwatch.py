"""Watches the models of a lane process beside their verdicts: what it looks at comes from the bus.

A lane does nothing for being watched. Each tick reads what the lane has published since the last one, for a
short time at most; what is left waits for the next tick, and what is overwritten meanwhile is not looked at.
A safety lane is looked at just after its verdicts, not when its next capture may come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Never, Protocol

import structlog

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.spec import LaneSpec
from edge_opcua.inference.watch.age import Age, age_of
from edge_opcua.inference.watch.board import Tell, WatchBoard
from edge_opcua.inference.watch.modelwatch import ModelWatch
from edge_opcua.inference.watch.profile import ReferenceProfile
from edge_opcua.inference.watch.reference import ReferenceCheck, off_samples
from edge_opcua.inference.watch.seen import ResultRows, Seen
from edge_opcua.inference.watch.terms import WatchTerms

TICK_S: Final = 0.1
PUBLISH_NS: Final = 1_000_000_000
SLICE_NS: Final = 2_000_000
SAFETY_SLICE_NS: Final = 200_000
"""Longest time of one tick; one more result may be begun at its end."""
MARGIN_S: Final = 0.005
"""Time before the next capture of a safety lane in which nothing is looked at."""
LATEST_NS: Final = 10 * PUBLISH_NS
"""After this time a safety lane is looked at whenever its next capture may come."""

_log = structlog.get_logger(__name__)


class Lane(Protocol):
    """The lane of a pipeline; :class:`edge_opcua.inference.lane.Lane` is one."""

    spec: LaneSpec

    @property
    def is_active(self) -> bool:
        """Whether it judges and writes its blocks."""
        ...

    def restrain(self, age: Age) -> None:
        """Let results become what the age of the model allows."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """A lane and what its model is watched with.

    Args:
        lane: The lane.
        block: Block of the watch.
        terms: What is known of its model.
        profile: What the model was trained on; None if that is not known.
        check: Runs its reference samples again; None: nobody does.
    """

    lane: Lane
    block: str
    terms: WatchTerms
    profile: ReferenceProfile | None
    check: ReferenceCheck | None


class LaneModelWatch:
    """Watches the models of one process.

    Args:
        watched: Its lanes.
        bus: The tag bus.
        clock: For ticks and ages.
        tell: Sends notices to the supervisor.
    """

    def __init__(self, watched: Sequence[Watched], bus: Bus, clock: Clock, tell: Tell) -> None:
        self._watches = [LaneView(each, bus, clock, tell) for each in watched]
        self._clock = clock
        self._turn = 0

    async def run(self) -> Never:
        """Watch, for ever; one lane at a tick, so that a tick is short."""
        while True:
            await self._clock.sleep(TICK_S / max(1, len(self._watches)))
            self.tick()

    def tick(self) -> None:
        """Look at the next lane."""
        if self._watches:
            self._watches[self._turn % len(self._watches)].tick()
            self._turn += 1


class LaneView:
    """Watches one lane while it is active.

    Args:
        watched: The lane and its model.
        bus: The tag bus.
        clock: For ticks and ages.
        tell: Sends notices to the supervisor.
    """

    def __init__(self, watched: Watched, bus: Bus, clock: Clock, tell: Tell) -> None:
        self._watched = watched
        self._bus = bus
        self._clock = clock
        self._tell = tell
        self._is_safety = watched.lane.spec.lane is LaneClass.SAFETY
        self._slice_ns = SAFETY_SLICE_NS if self._is_safety else SLICE_NS
        block = watched.lane.spec.result_block
        self._rows = ResultRows(bus.layout(block), len(watched.terms.inputs.names))
        self._fresh = ModelWatch(watched.terms, watched.profile)  # made before it is needed: it takes a while
        self._is_used = False
        self._watch = self._fresh
        self._reader = bus.reader(block)
        self._board: WatchBoard | None = None
        self._new_from = 0
        self._lost = 0
        self._begun_ns = self._published_ns = self._newest_ns = 0
        self._newest = 0
        self._last_ns: int | None = None
        self._aged()

    def tick(self) -> None:
        """Read what was published since, and show what is known if that has become old."""
        started_ns = self._clock.monotonic_ns()
        if not self._watched.lane.is_active:
            self._board = None
            if started_ns - self._published_ns >= LATEST_NS:  # it may stand by for weeks, and grow old
                self._published_ns = started_ns
                self._aged()
            return
        board = self._board or self._begin(started_ns)
        if self._is_safety and not self._is_quiet(started_ns):
            board.beat()
            return
        has_read = self._read(board, started_ns)
        check = self._watched.check
        if check is not None:
            since_s = math.inf if self._last_ns is None else (started_ns - self._last_ns) / 1e9
            check.tick(since_s, self._watch.gap_s)
        # Of a safety lane one thing at a time: a capture that comes early waits for half as long.
        wait_ns = 2 * PUBLISH_NS if has_read and self._is_safety else PUBLISH_NS
        if started_ns - self._published_ns >= wait_ns:
            self._published_ns = started_ns
            self._publish(board, started_ns)
        else:
            board.beat()

    def _is_quiet(self, now_ns: int) -> bool:
        """Return whether no capture is due: something was published just now, the next is far away."""
        gap_s = self._watch.gap_s
        if math.isnan(gap_s) or now_ns - self._published_ns >= LATEST_NS:
            return True
        newest = self._reader.newest
        if newest != self._newest:
            self._newest, self._newest_ns = newest, now_ns
        return (now_ns - self._newest_ns) / 1e9 + TICK_S / 2 < max(gap_s - MARGIN_S, TICK_S)

    def _begin(self, now_ns: int) -> WatchBoard:
        """Take the block over, and learn from what was published before."""
        watched = self._watched
        if self._is_used:  # it was relieved before, and came back
            self._watch = ModelWatch(watched.terms, watched.profile)
        self._is_used = True
        self._board = board = WatchBoard(self._bus, watched.block, watched.terms, self._clock, self._tell)
        self._new_from = self._reader.newest
        self._reader = self._bus.reader(watched.lane.spec.result_block, from_newest=False)
        self._lost = 0
        self._begun_ns, self._published_ns, self._last_ns = now_ns, 0, None
        return board

    def _read(self, board: WatchBoard, started_ns: int) -> bool:
        """Take what was published since; returns whether there was something."""
        has_read = False
        for batch in self._reader.poll():
            has_read = True
            seen = self._rows.read(batch)
            if seen is not None:
                self._take(board, seen, is_new=batch.sequence > self._new_from)
                self._last_ns = batch.stamp_ns
            if self._clock.monotonic_ns() - started_ns >= self._slice_ns:
                break
        return has_read

    def _take(self, board: WatchBoard, seen: Seen, *, is_new: bool) -> None:
        if is_new:
            board.results += 1
            if not seen.unusable:
                board.latency.add(seen.latency_us)
        if is_new or seen.model == self._watched.terms.model:
            self._watch.take(seen)
        else:
            self._watch.former.before(seen)

    def _publish(self, board: WatchBoard, now_ns: int) -> None:
        check, terms = self._watched.check, self._watched.terms
        changed = board.former not in ("", terms.model)
        probation = changed and now_ns - self._begun_ns < terms.probation_s * 1e9
        self._aged()
        report = self._watch.report(self._clock.utc_ns(), off_samples(check), probation=probation)
        reference = None if check is None else (check.is_ok, check.checked_ns)
        board.publish(report, probation=probation, reference=reference)

    def _aged(self) -> None:
        self._watched.lane.restrain(age_of(self._watched.terms.age, self._clock.utc_ns()))
