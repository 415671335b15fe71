"""What is read along: never more than another request would cost, and by the cheapest plan there is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.drivers.cost import RequestCost
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import Fragment, Place, ReadPlan, Request, Stretch, Terms, plan_reads
from tests.drivers.peers import Bench, ModbusPeer, config

SECOND = 1_000_000_000
SPACE = (1, "hr")


def places_at(starts: Sequence[int]) -> list[Place]:
    return [modbus.parse(f"1/hr:{start}:INT;base=0") for start in starts]


def cost_of(plan: ReadPlan, overhead_units: int) -> int:
    fragments = [request.fragments[0] for request in plan.requests]
    return sum(overhead_units + fragment.size for fragment in fragments)


def least_cost(starts: Sequence[int], overhead_units: int, limit: int) -> int:
    """Try every way to divide sorted single registers into stretches: no cleverness at all."""
    least = [0] * (len(starts) + 1)
    for first in range(len(starts) - 1, -1, -1):
        ends = [k for k in range(first, len(starts)) if starts[k] - starts[first] < limit]
        least[first] = min(overhead_units + starts[k] - starts[first] + 1 + least[k + 1] for k in ends)
    return least[0]


@given(
    st.lists(st.integers(0, 600), min_size=1, max_size=60, unique=True),
    st.integers(0, 300),
    st.integers(1, 125),
)
def test_no_plan_is_cheaper(starts: list[int], overhead_units: int, limit: int) -> None:
    shape = ModbusShape(max_registers=limit, byte_rate=2.0)  # one register a second
    plan = plan_reads(places_at(starts), shape, None, Terms(overhead_s=float(overhead_units)))

    assert cost_of(plan, overhead_units) == least_cost(sorted(starts), overhead_units, limit)


@pytest.mark.parametrize("overhead_s", [None, 0.0002, 0.002, 0.02])
def test_a_thousand_scattered_tags_cost_what_they_must(overhead_s: float | None) -> None:
    # Reference plc.md §7.4 B2: 1 000 int16 tags with a gap of 4, at most 1.1 x the optimum of the model.
    starts = [5 * i for i in range(1000)]
    plan = plan_reads(places_at(starts), ModbusShape(), None, Terms(overhead_s))

    assert len(plan.requests) == 40
    units = round((0.002002 if overhead_s is None else overhead_s) * 10e6 / 2)
    assert cost_of(plan, units) <= 1.1 * least_cost(starts, units, 125)


def test_a_slow_line_does_not_read_along_what_a_fast_one_does() -> None:
    places = places_at([0, 20, 60])

    def requests(byte_rate: float) -> int:
        return len(plan_reads(places, ModbusShape(byte_rate=byte_rate), None, Terms(0.03)).requests)

    # 9600 baud, 11 bits a byte: 30 ms are 13 registers; 19200 carries 26 meanwhile.
    assert [requests(rate) for rate in (9600 / 11, 2 * 9600 / 11, 10e6)] == [3, 2, 1]


def test_bits_are_cheap() -> None:
    # Sixteen coils take as long as a register: 30 ms at 9600 baud are 209 of them.
    places: list[Place] = [modbus.parse("1/co:0"), modbus.parse("1/co:200"), modbus.parse("1/co:500")]
    plan = plan_reads(places, ModbusShape(byte_rate=9600 / 11), None, Terms(0.03))

    assert [request.fragments[0].size for request in plan.requests] == [201, 1]


def test_what_is_not_to_be_read_is_not_read_along() -> None:
    places = places_at([0, 10, 30])
    closed = (Stretch(SPACE, 15, 20), Stretch((2, "hr"), 5, 6))
    plan = plan_reads(places, ModbusShape(), None, Terms(no_read=closed))

    assert [(each.fragments[0].start, each.fragments[0].size) for each in plan.requests] == [(0, 11), (30, 1)]


def test_a_limit_that_was_set_counts_whatever_the_model_says() -> None:
    places = places_at([0, 5, 20])
    plan = plan_reads(places, ModbusShape(gap=4), None, Terms(1.0))

    assert [request.fragments[0].size for request in plan.requests] == [6, 1]


# --- what a request costs --------------------------------------------------------------------------------


def reads(count: int = 1, size: int = 100) -> list[Request]:
    return [Request((Fragment(SPACE, 0, size),))] * count


def test_the_transfer_is_no_overhead() -> None:
    cost, shape = RequestCost(), ModbusShape(byte_rate=1000)
    for _ in range(20):
        cost.took(0.25, reads(), shape)  # 200 bytes take 0.2 s of it
    assert cost.has_changed(shape, 60 * SECOND)
    assert cost.planned_s == pytest.approx(0.05)


def test_requests_on_the_way_together_share_the_wait() -> None:
    cost, shape = RequestCost(), ModbusShape()
    for _ in range(30):
        cost.took(0.2, reads(10), shape)
    cost.connected()
    assert cost.planned_s == pytest.approx(0.02, rel=0.05)


def test_plans_are_steady() -> None:
    # Only another cost by more than a factor of two changes them, and at most once a minute.
    cost, shape = RequestCost(), ModbusShape()
    for _ in range(50):
        cost.took(0.0035, reads(), shape)
    assert not cost.has_changed(shape, 100 * SECOND)  # guessed were 2 ms
    for _ in range(200):
        cost.took(0.010, reads(), shape)
    assert cost.has_changed(shape, 100 * SECOND)
    for _ in range(400):
        cost.took(0.100, reads(), shape)
    assert not cost.has_changed(shape, 159 * SECOND)
    assert cost.has_changed(shape, 160 * SECOND)
    assert not cost.has_changed(shape, 300 * SECOND)


def test_a_few_samples_say_nothing() -> None:
    cost, shape = RequestCost(), ModbusShape()
    for _ in range(5):
        cost.took(1.0, reads(), shape)
    cost.connected()
    assert (cost.planned_s, cost.has_changed(shape, 100 * SECOND)) == (None, False)


async def test_the_wait_for_others_on_a_shared_line_is_no_cost_of_a_request() -> None:
    # Else twenty devices on one port would each read along what takes longer than their own requests.
    async with ModbusPeer().serving() as peer:

        async def slowly(*_: int) -> None:
            await asyncio.sleep(0.004)

        peer.before = slowly
        lines = Lines()
        url = f"modbus://127.0.0.1:{peer.port}"
        benches = [Bench(config("modbus", f"{url}/{unit}", {"a": "hr:0:INT"}), lines) for unit in range(1, 7)]
        async with AsyncExitStack() as stack:
            for bench in benches:
                await stack.enter_async_context(bench.running())
            await benches[0].until(lambda: all(bench.reader("fast").newest > 21 for bench in benches))
            for bench in benches:
                cost, link = bench.device._cost, bench.device._link
                cost.connected()
                assert cost.planned_s is not None
                assert 1000 * cost.planned_s < link.rtt_ms / 2  # of six who take turns
