"""Read from the bytes of its request against the slow, obvious way, and through real connections."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_opcua.core.ticks import LATEST
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Scalar,
)
from edge_opcua.opcua.access import AccessRule, Kind, Permission
from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.services.slices import Rest
from edge_opcua.security.roles import Role
from tests.opcua.read_requests import PER_BLOCK, SCALARS, Tags, Way, item, name_of, read, run_out
from tests.opcua.small_space import Asker

CODES = ua.StatusCodes
AT = ua.AttributeIds
STAMPS = ua.TimestampsToReturn
ANYBODY = Asker(roles=frozenset({Role.ANONYMOUS}))
OPERATOR = Asker(roles=frozenset({Role.ANONYMOUS, Role.AUTHENTICATED_USER, Role.OPERATOR}))
# Of the second block everybody but operators sees nothing; of some tags of the first nobody reads the value.
RULES = (
    AccessRule("Press.Line1.*", Role.ANONYMOUS, Permission(0)),
    AccessRule("Press.Line1.*", Role.AUTHENTICATED_USER, Permission(0)),
    AccessRule("Press.Line0.*7", Role.ANONYMOUS, Permission.Browse),
    AccessRule("Press.Line0.*7", Role.AUTHENTICATED_USER, Permission.Browse),
    AccessRule("Press.Line0.*7", Role.OPERATOR, Permission.Browse),
)
STATUSES = (
    GOOD,
    GOOD_CLAMPED | 0x0500,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    BAD_COMMUNICATION_ERROR,
    BAD_WAITING_FOR_INITIAL_DATA,
)
# No time at all, odd nanoseconds; before 1970 at the source only.
TIMES = (0, 1_770_000_000_123_456_789, 10**18, -5_000_000_001)
BLOCKS = 3


def tags_of(rules: tuple[AccessRule, ...] = (), **limits: Any) -> Tags:
    made = Tags(BLOCKS, rules, ServerLimits(**limits))
    for index in range(BLOCKS - 1):  # the last one has no batch yet
        made.fill(index, 2.0 + index)
    return made


TAGS = tags_of(RULES)  # for the names of its nodes

NODES = st.one_of(
    st.integers(0, BLOCKS * PER_BLOCK - 1).map(TAGS.tag),
    st.integers(0, BLOCKS * PER_BLOCK - 1).map(TAGS.tag),
    st.sampled_from(
        [
            TAGS.object,
            ua.NodeId("Press.Line0.no such", 7),
            ua.NodeId(name_of(0, 0), 6),
            ua.NodeId(name_of(0, 0).encode(), 7, ua.NodeIdType.ByteString),
            ua.NodeId(ua.ObjectIds.HasComponent),
            ua.NodeId(3),
            ua.NodeId(300, 7),
            ua.NodeId(70_000, 300),
        ]
    ),
)
ITEMS = st.one_of(
    NODES.map(item),
    NODES.map(item),
    st.builds(
        lambda node, attribute, index_range, encoding: item(
            node, attribute, IndexRange=index_range, DataEncoding=encoding
        ),
        NODES,
        st.sampled_from([*AT, 0, 99]),
        st.sampled_from([None, "", "0", "0:1", "9", "x"]),
        st.sampled_from([ua.QualifiedName(), ua.QualifiedName(""), ua.QualifiedName("Default Binary", 1)]),
    ),
)
ASKERS = st.sampled_from([ANYBODY, OPERATOR])


def change(tags: Tags, seed: int) -> None:
    """Show something else in one of the blocks: any bits as values, any of the statuses and times."""
    chosen = random.Random(seed)
    index = chosen.randrange(BLOCKS - 1)
    batch = tags.batches[index]
    batch.status[:] = chosen.choices(STATUSES, k=PER_BLOCK)
    batch.source_ns[:] = chosen.choices(TIMES, k=PER_BLOCK)
    batch.server_ns[:] = chosen.choices(TIMES[:-1], k=PER_BLOCK)
    for kind in SCALARS:
        column = batch.column(kind).view(np.uint8)
        column[:] = np.frombuffer(chosen.randbytes(len(column)), np.uint8)
        if kind is Scalar.BOOLEAN:
            column &= 1
        elif kind is Scalar.DATETIME:  # whole microseconds from 1601 to 9999
            times = column.view(np.int64)
            times %= LATEST
            times -= times % 10
    tags.show(index, chosen.choices(STATUSES, k=PER_BLOCK) if chosen.random() < 0.5 else None)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_answered_from_bytes_is_what_the_obvious_way_answers(data: st.DataObject) -> None:
    # Part 4 §5.11.2; values, rights and time change between repetitions of one list.
    items = data.draw(st.lists(ITEMS, min_size=1, max_size=40))
    request = read(
        items, data.draw(st.sampled_from([*STAMPS, 4, -1])), data.draw(st.sampled_from([0.0, 5.0]))
    )
    tags = tags_of(RULES)
    for what in data.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4)):
        asker = data.draw(ASKERS)
        assert tags.answer(request, asker) == tags.obvious(request, asker)
        if what == 1:
            change(tags, data.draw(st.integers(0, 1 << 30)))
        elif what == 2:
            tags.clock.step(0.5)


@pytest.mark.parametrize("length", [1, 12, 13, 66])
@pytest.mark.parametrize("stamps", [STAMPS.Source, STAMPS.Server, STAMPS.Both, STAMPS.Neither])
@pytest.mark.parametrize("server_ns", [0, 10**18])
@pytest.mark.parametrize("status", [GOOD, BAD_COMMUNICATION_ERROR])
def test_stamps_are_those_that_were_asked_for(length: int, stamps: int, server_ns: int, status: int) -> None:
    # Part 4 §7.11.4, §7.39: a value has the present time if nobody knows another; a Bad one stays without.
    tags = tags_of()
    tags.fill(0, 3.0, status, server_ns=server_ns)
    request = read([item(tags.tag(number)) for number in range(length)], stamps)
    for _ in range(3):
        assert tags.answer(request) == tags.obvious(request)
        tags.clock.step(1.0)


@pytest.mark.parametrize("length", [3, 60])
def test_a_repeated_list_is_answered_from_its_plan_with_the_values_of_now(length: int) -> None:
    tags = tags_of()
    request = read([item(tags.tag(number)) for number in range(length)])
    first = tags.answer(request)
    assert not len(tags.attributes.reading.plans)  # nobody knows yet that it comes again
    assert tags.answer(request) == first
    assert len(tags.attributes.reading.plans) == 1
    for value in (5.0, 6.0):
        tags.fill(0, value)
        changed = tags.answer(request)
        assert changed != first
        assert changed == tags.obvious(request)
    other = read([item(tags.tag(number)) for number in range(length)], max_age_ms=100.0)
    assert tags.answer(other) == changed  # Part 4 §5.11.2.2: everything is as new as it gets
    assert len(tags.attributes.reading.plans) == 1


@pytest.mark.parametrize("length", [3, 20])
def test_an_answer_is_made_once_for_all_who_may_read_the_same(length: int) -> None:
    tags = tags_of()
    request = read([item(tags.tag(number)) for number in range(length)])
    for _ in range(2):
        tags.answer(request)
    again = tags.answer(request, Asker())
    assert again is tags.answer(request)


@pytest.mark.parametrize("length", [3, 66])
def test_nobody_is_shown_what_another_may_read(length: int) -> None:
    # Part 3 §5.2.9: one plan, two users.
    tags = tags_of(RULES)
    start = PER_BLOCK - 1
    request = read([item(tags.tag(number)) for number in range(start, start + length) if number < 66])
    for _ in range(3):
        for asker in (OPERATOR, ANYBODY):
            assert tags.answer(request, asker) == tags.obvious(request, asker)
    answer = tags.answer(request, ANYBODY)
    assert isinstance(answer, bytes)
    assert struct.pack("<BI", 2, CODES.BadUserAccessDenied) in answer


@pytest.mark.parametrize("length", [3, 60])
def test_rights_that_change_count_at_once(length: int) -> None:
    tags = tags_of(RULES)
    request = read([item(tags.tag(PER_BLOCK + number)) for number in range(min(length, 20))])
    asker = Asker(roles=OPERATOR.roles)
    for roles in (OPERATOR.roles, OPERATOR.roles, ANYBODY.roles, OPERATOR.roles):
        asker.roles = roles
        assert tags.answer(request, asker) == tags.obvious(request, asker)


def test_what_is_marked_later_is_asked_again() -> None:
    tags = tags_of()
    request = read([item(tags.tag(number)) for number in range(20)])
    for _ in range(2):
        tags.answer(request)
    before = tags.answer(request)
    tags.access.mark(Kind.SECURITY, [tags.object])
    assert tags.answer(request) is not before
    assert tags.answer(request) == tags.obvious(request)


def test_a_request_as_a_whole_is_refused_as_ever() -> None:
    # Part 4 §5.11.2.3, §7.38.2.
    tags = tags_of(operations=OperationLimits(read=20), array_length=10)
    items = [item(tags.tag(0))]
    for request, code in (
        (read(items, max_age_ms=-1.0), CODES.BadMaxAgeInvalid),
        (read(items, max_age_ms=float("nan")), CODES.BadMaxAgeInvalid),
        (read(items, 4), CODES.BadTimestampsToReturnInvalid),
        (read(items, -1), CODES.BadTimestampsToReturnInvalid),
        (read([]), CODES.BadNothingToDo),
        (read(items * 21), CODES.BadTooManyOperations),
        (read(items * 11), CODES.BadEncodingLimitsExceeded),
        (read(items)[:12] + struct.pack("<i", -1), CODES.BadNothingToDo),
        (read(items)[:12] + struct.pack("<i", -2), CODES.BadDecodingError),
        (read(items)[:12] + struct.pack("<i", 7), CODES.BadDecodingError),
        (read(items)[:-1], CODES.BadDecodingError),
        (read(items)[:12], CODES.BadDecodingError),
        (b"", CODES.BadDecodingError),
    ):
        assert tags.answer(request) == code
        if request:
            assert tags.obvious(request) == code
    # The age does not belong to what a plan is found by, and is looked at all the same.
    good = read(items)
    for _ in range(3):
        assert isinstance(tags.answer(good), bytes)
    assert tags.answer(read(items, max_age_ms=-1.0)) == CODES.BadMaxAgeInvalid


@pytest.mark.parametrize("length", [5, 40])
def test_an_answer_that_is_too_large_is_not_made(length: int) -> None:
    tags = tags_of(response_bytes=200)
    tags.space.variable("Long", ua.Variant("x" * 150), ua.ObjectIds.String)
    request = read([item(ua.NodeId("Long", 7))] * length)
    for _ in range(3):
        assert tags.answer(request) == CODES.BadResponseTooLarge


def test_a_long_list_is_worked_on_in_slices() -> None:
    # A new one, one that is known but has to be read one by one, and one whose rights nobody asked for.
    tags = tags_of(RULES)
    way = Way()
    raw = tags.service.raw
    assert raw is not None
    long = read([item(tags.tag(number % PER_BLOCK)) for number in range(1500)])
    assert isinstance(raw(tags.asker, long, 0, way), Rest)
    mixed = read([item(tags.object)] * 300)
    for _ in range(3):
        assert isinstance(raw(tags.asker, mixed, 0, way), Rest)
        assert tags.answer(mixed) == tags.obvious(mixed)
    assert not way.answers
    assert tags.answer(long) == tags.obvious(long)
    for _ in range(2):
        tags.answer(long)
    short = read([item(tags.tag(number)) for number in range(20)])
    assert raw(tags.asker, short, 0, way) is True


def test_a_known_list_of_ten_thousand_is_answered_at_once() -> None:
    tags = tags_of()
    items = [item(tags.tag(number)) for number in range(20)]
    request = read(items * 500)
    for _ in range(2):
        tags.answer(request)
    tags.fill(0, 9.0)
    way = Way()
    assert tags.service.raw is not None
    assert tags.service.raw(tags.asker, request, 0, way) is True
    few = tags.obvious(read(items))
    assert isinstance(few, bytes)
    assert way.answers == [struct.pack("<i", 10_000) + few[4:-4] * 500 + few[-4:]]


def test_a_value_that_changes_while_others_are_drawn_is_in_the_next_answer() -> None:
    # Sixty blocks that all changed are more than a slice of work.
    tags = Tags(60)
    request = read([item(tags.tag(number)) for number in range(len(tags.table)) if number % PER_BLOCK < 20])
    for _ in range(3):
        assert tags.answer(request) == tags.obvious(request)
    for index in range(60):
        tags.fill(index, 2.0)
    assert tags.service.raw is not None
    rest = tags.service.raw(tags.asker, request, 0, Way())
    assert isinstance(rest, Rest)
    tags.fill(0, 3.0)
    run_out(rest)
    assert tags.answer(request) == tags.obvious(request)


def test_many_users_with_roles_of_their_own_read_one_list() -> None:
    tags = tags_of(RULES)
    request = read([item(tags.tag(number)) for number in range(20, 40)])
    asker = Asker()
    for bits in range(100):
        asker.roles = frozenset(role for place, role in enumerate(Role) if bits >> place & 1)
        assert tags.answer(request, asker) == tags.obvious(request, asker)


def test_picoseconds_are_kept_where_somebody_has_them() -> None:
    tags = tags_of()
    exact = ua.DataValue(ua.Variant(1.5), SourcePicoseconds=7, ServerTimestamp=ua.get_win_epoch())
    node = tags.space.variable("Exact", exact, ua.ObjectIds.Double)
    answer = tags.answer(read([item(node)]))
    assert isinstance(answer, bytes)
    assert struct_from_binary(ua.DataValue, Buffer(answer[4:-4])).SourcePicoseconds == 7
