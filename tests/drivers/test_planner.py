"""Requests: few, legal, complete; and what is found out when a device refuses one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import Holes, Place, ReadPlan, _Closed, halves, plan_reads, span
from edge_opcua.drivers.s7 import address as s7
from edge_opcua.drivers.s7.settings import MAX_ITEMS, S7Shape

MODBUS_TAGS = st.builds(
    lambda unit, area, start, kind: modbus.parse(f"{unit}/{area}:{start}:{kind};base=0"),
    st.integers(1, 2),
    st.sampled_from(("hr", "ir")),
    st.integers(0, 2_000),
    st.sampled_from(("INT", "REAL", "LREAL", "STRING[20]", "INT[30]", "INT[300]")),
)
COILS = st.builds(lambda start: modbus.parse(f"1/co:{start}"), st.integers(0, 9_000))
S7_TAGS = st.builds(
    lambda db, start, kind: s7.parse(f"DB{db}:{start}:{kind}"),
    st.integers(1, 3),
    st.integers(0, 4_000),
    st.sampled_from(("INT", "REAL", "LREAL", "STRING[20]", "REAL[8]", "BYTE[2000]")),
)


def check_complete(places: list[Place], plan: ReadPlan, unit_bytes: int) -> None:
    """Every byte of every tag is fetched, from its own place, to where the plan says."""
    source: dict[int, tuple[object, int]] = {}
    for request in plan.requests:
        for fragment in request.fragments:
            for i in range(fragment.size * unit_bytes):
                at = fragment.image_at + i
                assert at not in source, "two fragments write one byte"
                source[at] = (fragment.space, fragment.start * unit_bytes + i)
    for place, at in zip(places, plan.image_at, strict=True):
        for i in range(place.size * unit_bytes):
            assert source[at + i] == (place.space, place.start * unit_bytes + i)
    assert max(source) < plan.image_bytes


@given(st.lists(MODBUS_TAGS, min_size=1, max_size=40), st.integers(4, 125), st.integers(0, 200))
def test_modbus_requests_are_legal_and_complete(places: list[Place], limit: int, gap: int) -> None:
    plan = plan_reads(places, ModbusShape(limit, 2000, gap))

    check_complete(places, plan, 2)
    for request in plan.requests:
        (fragment,) = request.fragments
        assert 1 <= fragment.size <= limit
        whole = [places[row] for row in fragment.rows if places[row].size <= limit]
        for place in whole:  # no tag is torn that need not be
            assert fragment.start <= place.start
            assert place.start + place.size <= fragment.start + fragment.size


@given(st.lists(COILS, min_size=1, max_size=60))
def test_coils_are_read_two_thousand_at_a_time(places: list[Place]) -> None:
    plan = plan_reads(places, ModbusShape())

    check_complete(places, plan, 1)
    assert all(request.fragments[0].size <= 2000 for request in plan.requests)


@given(st.lists(S7_TAGS, min_size=1, max_size=60), st.sampled_from((112, 240, 480, 960)))
def test_s7_requests_fit_the_pdu_both_ways(places: list[Place], pdu: int) -> None:
    plan = plan_reads(places, S7Shape(pdu))

    check_complete(places, plan, 1)
    for request in plan.requests:
        sizes = [fragment.size for fragment in request.fragments]
        assert 1 <= len(sizes) <= MAX_ITEMS
        assert 12 + 2 + 12 * len(sizes) <= pdu + 12  # the request's header has 10 bytes, an answer's 12
        assert 14 + sum(4 + size + size % 2 for size in sizes[:-1]) + 4 + sizes[-1] <= pdu


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=200, unique=True))
def test_single_registers_need_no_more_requests_than_windows_can_cover(starts: list[int]) -> None:
    # With no limit on gaps the fewest requests are the fewest windows of 125: greedy from the left.
    places = [modbus.parse(f"1/hr:{start}:INT") for start in starts]
    fewest, end = 0, -1
    for start in sorted(starts):
        if start > end:
            fewest, end = fewest + 1, start + 124

    assert len(plan_reads(places, ModbusShape(gap=10_000)).requests) == fewest


def test_a_thousand_scattered_tags_are_forty_requests_not_a_thousand() -> None:
    # Reference plc.md §7.4 B2: 1 000 int16 tags, 4 registers apart.
    places = [modbus.parse(f"1/hr:{4 * i}:INT") for i in range(1000)]

    assert len(plan_reads(places, ModbusShape()).requests) == 32


def test_two_thousand_samples_are_sixteen_requests() -> None:
    plan = plan_reads([modbus.parse("1/hr:100:INT[2000]")], ModbusShape())

    assert len(plan.requests) == 16
    assert plan.image_bytes == 4000


def test_an_array_is_split_between_elements() -> None:
    plan = plan_reads([modbus.parse("1/hr:0:LREAL[40]")], ModbusShape(125))

    assert [request.fragments[0].size for request in plan.requests] == [124, 36]


def test_learned_holes_are_never_read_again() -> None:
    places = [modbus.parse(f"1/hr:{start}:INT") for start in (0, 1, 5, 6)]

    plan = plan_reads(places, ModbusShape(), Holes({1: "illegal"}, {((1, "hr"), 5)}))

    read = {
        fragment.start + i
        for request in plan.requests
        for fragment in request.fragments
        for i in range(fragment.size)
    }
    assert read == {0, 5, 6}
    assert plan.image_at[1] == -1


def test_a_refused_request_is_divided_at_its_widest_gap_first() -> None:
    places = [modbus.parse(f"1/hr:{start}:INT") for start in (0, 1, 4, 30, 31)]

    assert halves((0, 1, 2, 3, 4), places) == ((0, 1, 2), (3, 4))
    assert halves((0, 1, 2), places) == ((0, 1), (2,))
    assert halves((3, 4), places) == ((3,), (4,))


def test_rows_that_overlap_stand_or_fall_together() -> None:
    places = [modbus.parse(text) for text in ("1/hr:0.0:BOOL", "1/hr:0.1:BOOL", "1/hr:0:REAL")]
    order = sorted(range(3), key=lambda row: (places[row].start, -places[row].size))

    assert halves(order, places) is None
    assert span(order, places).size == 2


@given(st.lists(st.integers(0, 200), min_size=2, max_size=30, unique=True), st.data())
def test_dividing_finds_exactly_the_bad_rows(starts: list[int], data: st.DataObject) -> None:
    places = [modbus.parse(f"1/hr:{start}:INT") for start in sorted(starts)]
    holes = data.draw(st.sets(st.integers(0, 200), max_size=20))
    reads = 0

    def bad(rows: tuple[int, ...]) -> set[int]:
        nonlocal reads
        reads += 1
        whole = span(rows, places)
        if not holes & set(range(whole.start, whole.start + whole.size)):
            return set()
        parts = halves(rows, places)
        return set(rows) if parts is None else bad(parts[0]) | bad(parts[1])

    found = bad(tuple(range(len(places))))

    assert found == {row for row, place in enumerate(places) if place.start in holes}
    assert reads <= 2 * len(places)


def test_neighbours_in_the_plan_follow_the_device() -> None:
    places = [s7.parse(f"DB1.DBW{2 * i}:INT") for i in (3, 1, 2, 0)]
    (request,) = plan_reads(places, S7Shape()).requests

    rows = request.fragments[0].rows
    assert all(places[a].start < places[b].start for a, b in pairwise(rows))


STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda each: (each[0], sum(each))))


@given(STRETCHES, st.integers(0, 70), st.integers(0, 70))
def test_what_is_closed_is_found_however_stretches_overlap(
    stretches: list[tuple[int, int]], start: int, end: int
) -> None:
    between = set(range(start, end))
    expected = any(between & set(range(*stretch)) for stretch in stretches)
    assert _Closed.of(stretches).meets(start, end) == expected
