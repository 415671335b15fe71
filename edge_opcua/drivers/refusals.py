"""Which rows of a group a device does not give: found out by halving, kept, tried again one at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, TypeAlias

from edge_opcua.core.clock import Clock
from edge_opcua.drivers.planner import Fragment, Holes, Place, Request, Shape, halves, plan_reads, span
from edge_opcua.drivers.wire import Fault, FaultKind, Reading

Read: TypeAlias = Callable[[Sequence[Request]], Awaitable[Sequence[Sequence[Reading]]]]

_LEARNED: Final = (FaultKind.ADDRESS, FaultKind.DENIED)
_DAY_NS: Final = 86_400_000_000_000


class Refusals:
    """What a device refuses of the rows of one group.

    Args:
        places: Address of each row.
        again_s: Time a new connection must hold before what it refused is tried again, seconds.
        clock: Clock for that.

    Attributes:
        holes: What is left out of the plan.
    """

    def __init__(self, places: Sequence[Place], again_s: float, clock: Clock) -> None:
        self.holes = Holes()
        self._places = places
        self._again_ns = int(again_s * 1e9)
        self._clock = clock
        # When each bad row and each cut is tried again (monotonic, ns).
        self._due: dict[int | tuple[Hashable, int], int] = {}

    @property
    def size(self) -> int:
        """Number of bad rows and cuts."""
        return len(self._due)

    def connected(self) -> None:
        """Keep what is known over a new connection, and try it again when that has proved itself."""
        due_ns = self._clock.monotonic_ns() + self._again_ns
        self._due = dict.fromkeys(self._due, due_ns)

    async def learn(self, fragment: Fragment, fault: Fault, read: Read) -> None:
        """Find out which rows of a refused fragment are to blame."""
        if fault.kind is FaultKind.DENIED:
            for row in fragment.rows:
                self._blame(row, fault)
        elif fault.kind is FaultKind.ADDRESS:
            await self._divide(fragment.rows, fault, read)

    async def _divide(self, rows: Sequence[int], fault: Fault, read: Read) -> bool:
        """Return whether a row was found that is to blame; if none is, something between them is."""
        parts = halves(rows, self._places) if len(rows) > 1 else None
        if parts is None:
            for row in rows:
                self._blame(row, fault)
            return True
        found = sure = False
        for part in parts:
            ((answer,),) = await read((Request((span(part, self._places),)),))
            if not isinstance(answer, Fault):
                continue
            if answer.kind in _LEARNED:
                found = await self._divide(part, answer, read) or found
            else:
                sure = True  # busy or gone: nothing was learned of this part
        if not found and not sure:
            first = self._places[parts[1][0]]
            cut = (first.space, first.start)
            self.holes.cuts.add(cut)
            self._due[cut] = self._clock.monotonic_ns() + _DAY_NS
        return found

    def _blame(self, row: int, fault: Fault) -> None:
        self.holes.bad[row] = fault.reason
        self._due[row] = self._clock.monotonic_ns() + _DAY_NS

    async def try_one(self, read: Read, shape: Shape) -> bool:
        """Try one of what was refused again, if one is due; return whether the device gives it now."""
        now_ns = self._clock.monotonic_ns()
        hole = min(self._due, key=self._due.__getitem__, default=None)
        if hole is None or self._due[hole] > now_ns:
            return False
        requests = self._requests(hole, shape)
        answers = [answer for each in await read(requests) for answer in each]
        faults = [answer for answer in answers if isinstance(answer, Fault)]
        if requests and not faults:
            self._absolve(hole)
            return True
        unsure = any(fault.kind not in _LEARNED for fault in faults)
        self._due[hole] = self._clock.monotonic_ns() + (max(self._again_ns, 10**9) if unsure else _DAY_NS)
        return False

    def _requests(self, hole: int | tuple[Hashable, int], shape: Shape) -> tuple[Request, ...]:
        if isinstance(hole, int):
            return plan_reads([self._places[hole]], shape).requests
        space, start = hole
        rows = [
            row
            for row, place in enumerate(self._places)
            if place.space == space and row not in self.holes.bad
        ]
        before = [row for row in rows if self._places[row].start < start]
        behind = [row for row in rows if self._places[row].start == start]
        if not before or not behind:
            return ()
        both = span((max(before, key=lambda row: self._places[row].start), behind[0]), self._places)
        return (Request((both,)),) if both.size <= shape.max_units(space) else ()

    def _absolve(self, hole: int | tuple[Hashable, int]) -> None:
        del self._due[hole]
        if isinstance(hole, int):
            del self.holes.bad[hole]
        else:
            self.holes.cuts.discard(hole)
