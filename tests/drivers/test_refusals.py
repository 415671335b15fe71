"""What a device refuses is found out, kept over a new connection, and tried again one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import Request, plan_reads
from edge_opcua.drivers.refusals import Refusals
from edge_opcua.drivers.wire import Fault, FaultKind, Reading
from edge_opcua.testing import ManualClock

DAY_S = 86_400.0
SHAPE = ModbusShape()


class Plc:
    """Registers of which some do not exist."""

    def __init__(self, starts: Sequence[int], holes: set[int], again_s: float = 60.0) -> None:
        self.places = [modbus.parse(f"1/hr:{start}:INT;base=0") for start in starts]
        self.holes = holes
        self.clock = ManualClock()
        self.refusals = Refusals(self.places, again_s, self.clock)
        self.asked: list[tuple[int, int]] = []
        self.kind = FaultKind.ADDRESS

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        answers: list[list[Reading]] = []
        for request in requests:
            (fragment,) = request.fragments
            self.asked.append((fragment.start, fragment.size))
            touched = set(range(fragment.start, fragment.start + fragment.size))
            bad = bool(touched & self.holes)
            answers.append([Fault(self.kind, "no") if bad else bytes(2 * fragment.size)])
        return answers

    async def poll(self) -> bool:
        """Read all there is by the plan; whether anything was refused."""
        refused = False
        for request in plan_reads(self.places, SHAPE, self.refusals.holes).requests:
            ((answer,),) = await self.read((request,))
            if isinstance(answer, Fault):
                refused = True
                await self.refusals.learn(request.fragments[0], answer, self.read)
        return refused


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=60, unique=True),
    st.sets(st.integers(0, 300), max_size=25),
)
async def test_a_poll_or_two_find_out_everything(starts: list[int], holes: set[int]) -> None:
    plc = Plc(sorted(starts), holes)
    polls = 0
    while await plc.poll():
        polls += 1
        assert polls <= 20
    assert {plc.places[row].start for row in plc.refusals.holes.bad} == holes & set(starts)


async def test_one_bad_register_costs_no_more_than_two_requests() -> None:
    # A cut at every step of the search would leave the rest in pieces.
    plc = Plc(range(0, 120, 2), {60})
    await plc.poll()
    assert list(plc.refusals.holes.bad) == [30]
    assert not plc.refusals.holes.cuts
    assert len(plan_reads(plc.places, SHAPE, plc.refusals.holes).requests) == 2


async def test_a_busy_device_teaches_nothing() -> None:
    plc = Plc([0, 10], {5})
    fault = Fault(FaultKind.ADDRESS, "no")
    plc.kind, plc.holes = FaultKind.BUSY, {0}
    (request,) = plan_reads(plc.places, SHAPE).requests
    await plc.refusals.learn(request.fragments[0], fault, plc.read)
    assert plc.refusals.size == 0


async def test_what_was_refused_is_kept_over_a_new_connection_and_tried_after_a_minute() -> None:
    plc = Plc([0, 10, 20], {10})
    await plc.poll()
    plc.refusals.connected()
    assert not await plc.poll()  # nothing is refused again: it is not even asked
    plc.holes = set()
    plc.clock.step(59.9)
    assert not await plc.refusals.try_one(plc.read, SHAPE)
    plc.clock.step(0.2)
    plc.asked.clear()
    assert await plc.refusals.try_one(plc.read, SHAPE)
    assert plc.asked == [(10, 1)]
    assert plc.refusals.size == 0


async def test_what_is_still_refused_is_tried_again_the_next_day() -> None:
    plc = Plc([0, 10, 20], {10})
    await plc.poll()
    plc.refusals.connected()
    plc.clock.step(61)
    assert not await plc.refusals.try_one(plc.read, SHAPE)
    plc.asked.clear()
    plc.clock.step(DAY_S - 1)
    assert not await plc.refusals.try_one(plc.read, SHAPE)
    assert plc.asked == []
    plc.clock.step(2)
    await plc.refusals.try_one(plc.read, SHAPE)
    assert plc.asked == [(10, 1)]


async def test_one_is_tried_at_a_time() -> None:
    plc = Plc([0, 10, 20, 30, 40], {10, 30})
    await plc.poll()
    plc.refusals.connected()
    plc.clock.step(61)
    plc.asked.clear()
    await plc.refusals.try_one(plc.read, SHAPE)
    assert len(plc.asked) == 1
    await plc.refusals.try_one(plc.read, SHAPE)
    assert sorted(plc.asked) == [(10, 1), (30, 1)]
    await plc.refusals.try_one(plc.read, SHAPE)
    assert len(plc.asked) == 2


async def test_a_gap_that_can_be_read_by_now_is_read_along_again() -> None:
    plc = Plc([0, 10], {5})
    await plc.poll()
    assert len(plan_reads(plc.places, SHAPE, plc.refusals.holes).requests) == 2
    plc.refusals.connected()
    plc.clock.step(61)
    plc.asked.clear()
    assert not await plc.refusals.try_one(plc.read, SHAPE)
    assert plc.asked == [(0, 11)]
    plc.holes = set()
    plc.clock.step(DAY_S + 1)
    assert await plc.refusals.try_one(plc.read, SHAPE)
    assert len(plan_reads(plc.places, SHAPE, plc.refusals.holes).requests) == 1


async def test_a_unit_that_is_away_is_no_refusal() -> None:
    plc = Plc([0, 10], {10})
    await plc.poll()
    plc.refusals.connected()
    plc.kind = FaultKind.MISSED
    plc.clock.step(61)
    assert not await plc.refusals.try_one(plc.read, SHAPE)
    plc.kind, plc.holes = FaultKind.ADDRESS, set()
    plc.clock.step(61)
    assert await plc.refusals.try_one(plc.read, SHAPE)
