"""Items on tags, case by case: through the services, without a server (Part 4 §5.13)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.core.values import BAD_USER_ACCESS_DENIED, Scalar
from edge_opcua.opcua.services.slices import Rest
from edge_opcua.opcua.services.subscription.dataitems import DataItem
from edge_opcua.opcua.services.subscription.parameters import CreateParameters
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.security.roles import Role
from tests.opcua.publishing import DISABLED, REPORTING, SAMPLING, FakeSession, deadband, item
from tests.opcua.tagplant import TagPlant, config, values_of

CODES = ua.StatusCodes


@pytest.fixture
def plant() -> TagPlant:
    return TagPlant(*(config(f"t{i}", low=-100.0, high=100.0) for i in range(4)))


def subscribed(plant: TagPlant, count: int = 4, **wanted: Any) -> tuple[int, list[int]]:
    """Watch the first tags; what they said first is taken away."""
    plant.poll([0.0] * count)
    number = plant.subscribe(interval_ms=100)
    made = plant.monitor(number, *plant.nodes[:count], **wanted)
    plant.parcel(number)
    return number, [each.MonitoredItemId for each in (made if count > 1 else [made])]


def group_of(plant: TagPlant, number: int) -> Any:
    (group,) = plant.found(number).groups.values()
    return group


# --- memory and fairness --------------------------------------------------------------------------------


def test_a_client_that_takes_nothing_holds_no_more_than_its_queues(plant: TagPlant) -> None:
    # One item with a long queue must not keep what the short queues of others have discarded.
    number, _ = subscribed(plant, 3, queue=2)
    plant.monitor(number, plant.nodes[3], handle=4, queue=1000)
    log = group_of(plant, number).queues.log
    for i in range(3000):
        plant.poll([float(i)] * 4)
        assert len(log) <= log.capacity <= max(64, 2 * (3 * 2 + min(i + 2, 1000) + 4))
    found = values_of(plant.parcel(number, most=10_000))
    assert len(found) == 3 * 2 + 1000
    assert [value for handle, value, _ in found if handle == 4][-1] == 2999.0
    # 0.0 was known already: 2999 changes, and a first value of the last item.
    assert plant.found(number).counts.monitoring_queue_overflows == 3 * (2999 - 2) + 3000 - 1000


def test_memory_of_a_backlog_is_given_back(plant: TagPlant) -> None:
    number, _ = subscribed(plant, queue=1000)
    for i in range(1, 1001):
        plant.poll([float(i)] * 4)
    log = group_of(plant, number).queues.log
    assert log.capacity >= 4000
    plant.parcel(number, most=100_000)
    for i in range(3):
        plant.poll([-float(i + 1)])
        plant.parcel(number)
    assert log.capacity <= 1024


def test_who_got_no_place_in_a_message_is_first_in_the_next(plant: TagPlant) -> None:
    # §5.14.1.2: a message takes part of what waits; nobody starves behind a group that always has something.
    number, _ = subscribed(plant, 3, queue=5)
    late = plant.variable("other", 1.0)
    plant.monitor(number, late, handle=9)
    for i in range(1, 4):
        plant.poll([float(i)] * 3)
    handles = []
    for i in range(4, 9):
        handles.append([handle for handle, _, _ in values_of(plant.parcel(number, most=2))])
        plant.poll([float(i)] * 3)
    assert [9] in [each[:1] for each in handles[:2]]
    assert all(len(each) == 2 or 9 in each for each in handles)


def test_places_in_messages_go_round_among_the_items_of_a_group(plant: TagPlant) -> None:
    number, _ = subscribed(plant, queue=1)
    plant.poll([1.0] * 4)
    first = {handle for handle, _, _ in values_of(plant.parcel(number, most=2))}
    plant.poll([2.0] * 4)
    second = {handle for handle, _, _ in values_of(plant.parcel(number, most=2))}
    assert first == {1, 2}
    assert len(second) == 2


def test_a_message_is_no_larger_than_allowed(plant: TagPlant) -> None:
    number, _ = subscribed(plant)
    plant.poll([1.0] * 4)
    parcel = plant.parcel(number, room=35)
    assert parcel.values == 2  # the last one may exceed it
    assert plant.parcel(number).values == 2


# --- what is a column, and what becomes of it ------------------------------------------------------------


def test_an_item_that_only_samples_stands_for_itself_and_keeps_its_queue(plant: TagPlant) -> None:
    # §5.13.4, §5.13.5
    number, (first, *_) = subscribed(plant, queue=3, filter=deadband(0.5))
    for value in (1.0, 2.0, 3.0, 4.0):
        plant.poll([value])
    assert plant.set_mode(number, SAMPLING, first) == [0]
    found = plant.found(number)
    assert isinstance(found.items[first], DataItem)
    assert list(found.items).index(first) == 0
    assert not plant.parcel(number).values
    plant.poll([4.2])  # within the deadband of what it said last
    plant.poll([5.0])
    plant.set_mode(number, REPORTING, first)
    assert values_of(plant.parcel(number)) == [(1, 3.0, 0x480), (1, 4.0, 0), (1, 5.0, 0)]
    plant.poll([6.0])
    assert values_of(plant.parcel(number)) == [(1, 6.0, 0)]


def test_items_with_links_stand_for_themselves(plant: TagPlant) -> None:
    # §5.13.5: a triggered item that reports anyway is released by nobody, but its link is kept.
    number, (first, second, *_) = subscribed(plant, queue=5)
    plant.poll([1.0, 1.0])
    params = ua.SetTriggeringParameters(number, first, [second, 999_999], [])
    answer = plant.service.monitoring.set_triggering(plant.session, params).Parameters
    assert [status.value for status in answer.AddResults] == [0, CODES.BadMonitoredItemIdInvalid]
    items = plant.found(number).items
    assert isinstance(items[first], DataItem)
    assert isinstance(items[second], DataItem)
    assert sorted(values_of(plant.parcel(number))) == [(1, 1.0, 0), (2, 1.0, 0)]
    plant.set_mode(number, SAMPLING, second)
    plant.poll([1.0, 2.0])
    assert not plant.parcel(number).values
    plant.poll([2.0, 2.0])
    assert sorted(values_of(plant.parcel(number))) == [(1, 2.0, 0), (2, 2.0, 0)]


def test_what_was_missed_is_counted_when_an_item_stands_for_itself(plant: TagPlant) -> None:
    number, (first, second, *_) = subscribed(plant, queue=3)
    plant.poll([0.0], missed=True)
    plant.modify(number, second, queue=3, filter=deadband(1.0), handle=2)  # moves, and takes it along
    plant.set_mode(number, SAMPLING, first)
    assert plant.found(number).counts.monitoring_queue_overflows == 1
    plant.poll([0.0, 5.0])
    assert values_of(plant.parcel(number)) == [(2, 5.0, 0x480)]
    assert plant.found(number).counts.monitoring_queue_overflows == 2


@pytest.mark.parametrize("mode", [REPORTING, DISABLED])
def test_an_item_that_becomes_another_kind_of_item_is_what_it_was(plant: TagPlant, mode: int) -> None:
    number, (first, *_) = subscribed(plant, 2, mode=mode, queue=7, discard_oldest=False, sampling_ms=200.0)
    before = plant.found(number).items[first]
    seen = (before.number, before.handle, before.mode, before.sampling_ms, before.places, before.queue_size)
    plant.set_mode(number, SAMPLING, first)
    after = plant.found(number).items[first]
    now = (after.number, after.handle, mode, after.sampling_ms, after.places, after.queue_size)
    assert now == seen
    assert plant.service.monitoring.count == 2


@pytest.mark.parametrize(
    "wanted",
    [
        {"attribute": ua.AttributeIds.DisplayName},
        {"encoding": "Default Binary"},
        {"mode": SAMPLING},
        {"index_range": "1"},
    ],
)
def test_what_columns_cannot_do_is_done_one_by_one(plant: TagPlant, wanted: dict[str, Any]) -> None:
    plant.poll([1.0])
    number = plant.subscribe()
    assert plant.monitor(number, plant.nodes[0], **wanted).StatusCode.is_good()
    (made,) = plant.found(number).items.values()
    assert isinstance(made, DataItem)


def test_strings_and_arrays_are_watched_one_by_one() -> None:
    plant = TagPlant(config("recipe", Scalar.STRING, length=8), config("profile", Scalar.INT16, length=3))
    number = plant.subscribe()
    plant.monitor(number, *plant.nodes, queue=5)
    plant.poll(["R7", [1, 2, 3]])
    assert all(isinstance(each, DataItem) for each in plant.found(number).items.values())
    assert [reply.values for reply in [plant.next(number)]] == [[None, "R7", None, [1, 2, 3]]]


# --- filters, sampling, stamps ---------------------------------------------------------------------------


def test_a_percentage_is_one_of_the_range_of_the_tag(plant: TagPlant) -> None:
    # Part 8 §7.2
    number, _ = subscribed(plant, 1, filter=deadband(10.0, ua.DeadbandType.Percent), queue=9)
    for value in (20.0, 20.1, 0.2, 0.0):
        plant.poll([value])
    assert values_of(plant.parcel(number)) == [(1, 20.1, 0), (1, 0.0, 0)]


@pytest.mark.parametrize(
    ("kind", "wanted", "code"),
    [
        (Scalar.DOUBLE, deadband(10.0, ua.DeadbandType.Percent), CODES.BadMonitoredItemFilterUnsupported),
        (Scalar.BOOLEAN, deadband(1.0), CODES.BadFilterNotAllowed),
        (Scalar.DATETIME, deadband(1.0), CODES.BadFilterNotAllowed),
        (Scalar.DOUBLE, deadband(-1.0), CODES.BadDeadbandFilterInvalid),
        (Scalar.DOUBLE, deadband(math.nan), CODES.BadDeadbandFilterInvalid),
        (Scalar.DOUBLE, ua.EventFilter(), CODES.BadFilterNotAllowed),
        (Scalar.DOUBLE, ua.AggregateFilter(), CODES.BadMonitoredItemFilterUnsupported),
    ],
)
def test_a_filter_that_cannot_be_is_refused_alone(kind: Scalar, wanted: Any, code: int) -> None:
    plant = TagPlant(config("a", kind))
    number = plant.subscribe()
    params = CreateParameters(
        number, 2, [item(plant.nodes[0], filter=wanted), item(plant.nodes[0], handle=2)]
    )
    refused, made = plant.service.monitoring.create(plant.session, params).Results
    assert refused.StatusCode.value == code
    assert made.StatusCode.is_good()
    modified = plant.modify(number, made.MonitoredItemId, filter=wanted, handle=7)
    assert modified.StatusCode.value == code
    assert plant.found(number).items[made.MonitoredItemId].handle == 2


def test_a_slow_item_samples_at_its_pace_and_only_if_something_is_new(plant: TagPlant) -> None:
    number, _ = subscribed(plant, 2, sampling_ms=100.0, queue=10)
    for value in (1.0, 2.0, 3.0):
        plant.poll([value])
    assert not plant.parcel(number).values
    plant.pass_ms(100)
    assert values_of(plant.parcel(number)) == [(1, 3.0, 0)]
    plant.poll([4.0])
    plant.poll([3.0])  # back again before anybody looked
    plant.pass_ms(100)
    assert not plant.parcel(number).values


def test_only_items_with_queues_want_every_batch(plant: TagPlant) -> None:
    number, (first, *_) = subscribed(plant, queue=1)
    assert not plant.block.wants_every
    plant.modify(number, first, queue=2)
    assert plant.block.wants_every
    params = ua.DeleteMonitoredItemsParameters(number, [first])
    plant.service.monitoring.delete(plant.session, params)
    assert not plant.block.wants_every


def create(plant: TagPlant, number: int, *filters: Any) -> list[Any]:
    """Watch the first tags in one request, each with a filter or none."""
    requests = [
        item(plant.nodes[i], handle=i + 1, queue=5, filter=wanted) for i, wanted in enumerate(filters)
    ]
    params = CreateParameters(number, ua.TimestampsToReturn.Both, requests)
    return list(plant.service.monitoring.create(plant.session, params).Results)


def test_a_few_items_without_a_filter_go_along_with_those_that_have_one(plant: TagPlant) -> None:
    plant.poll([0.0] * 4)
    number = plant.subscribe(interval_ms=100)
    *_, plain = create(plant, number, deadband(1.0), deadband(1.0), deadband(1.0), None)
    group = group_of(plant, number)
    plant.parcel(number)
    for _ in range(2):
        plant.poll([0.5, 1.5, 0.0, 0.5])
    assert values_of(plant.parcel(number)) == [(2, 1.5, 0), (4, 0.5, 0)]
    plant.modify(number, plain.MonitoredItemId, handle=4, queue=7)  # is no reason to go elsewhere
    assert group_of(plant, number) is group
    plant.poll([0.5, 1.5, 0.0, 0.6])
    assert values_of(plant.parcel(number)) == [(4, 0.6, 0)]


def test_many_items_without_a_filter_are_not_compared_for_a_few_that_have_one(plant: TagPlant) -> None:
    number = plant.subscribe(interval_ms=100)
    create(plant, number, deadband(1.0), None, None, deadband(-1.0))
    sizes = {key.compared: len(group) for key, group in plant.found(number).groups.items()}
    assert sizes == {True: 1, False: 2}


def test_batches_lost_on_the_bus_are_told_by_the_overflow_bit(plant: TagPlant) -> None:
    # Part 4 §5.13.1.5: values are missing before this one; a queue of one says nothing.
    number, (_, short, *_) = subscribed(plant, 2, queue=5)
    plant.modify(number, short, queue=1, handle=2)
    plant.poll([1.0, 1.0], missed=True)
    plant.poll([2.0, 2.0])
    assert sorted(values_of(plant.parcel(number))) == [(1, 1.0, 0x480), (1, 2.0, 0), (2, 2.0, 0)]
    assert plant.found(number).counts.monitoring_queue_overflows == 1 + 1  # the short queue overflowed


# --- rights, transfer, the end ---------------------------------------------------------------------------


def test_a_tag_that_may_not_be_read_says_so_and_nothing_else() -> None:
    # §5.13.2.1; the stamps of what nobody may see are not sent either.
    plant = TagPlant(config("open"), config("secret"))
    plant.session.roles = frozenset({Role.OBSERVER})
    number = plant.subscribe()
    plant.poll([1.0, 1.0])
    plant.monitor(number, *plant.nodes[:2], queue=5)
    plant.poll([2.0, 2.0])
    parcel = plant.parcel(number)
    assert sorted(values_of(parcel), key=lambda each: each[0]) == [
        (1, 1.0, 0),
        (1, 2.0, 0),
        (2, None, BAD_USER_ACCESS_DENIED),
    ]
    plant.session.roles = frozenset({Role.SECURITY_ADMIN})
    plant.poll([2.0, 2.0])
    assert values_of(plant.parcel(number)) == [(2, 2.0, 0)]


def test_an_item_that_reports_again_looks_at_who_may_read_it_now() -> None:
    # Nothing was looked at since the user changed: the group takes samples, and its time has not come.
    plant = TagPlant(config("secret"))
    plant.session.roles = frozenset({Role.SECURITY_ADMIN})
    number, (secret,) = subscribed(plant, 1, sampling_ms=50.0)
    plant.set_mode(number, DISABLED, secret)
    plant.session.roles = frozenset({Role.OBSERVER})
    plant.set_mode(number, REPORTING, secret)
    assert [status for _, _, status in values_of(plant.parcel(number))] == [BAD_USER_ACCESS_DENIED]


def test_a_transfer_brings_the_present_values(plant: TagPlant) -> None:
    # §5.14.7 SendInitialValues
    number, _ = subscribed(plant, 2)
    plant.poll([1.0])
    other = FakeSession("other")
    params = ua.TransferSubscriptionsParameters([number], True)
    (result,) = plant.service.transfer(other, params).Parameters.Results
    assert result.StatusCode.is_good()
    assert sorted(values_of(plant.parcel(number))) == [(1, 1.0, 0), (2, 0.0, 0)]


async def test_ten_thousand_items_come_and_go_in_slices() -> None:
    plant = TagPlant(*(config(f"t{i}") for i in range(2000)))
    number = plant.subscribe()
    requests = [item(node, handle=i, queue=2) for i, node in enumerate(plant.nodes)]
    work = plant.service.monitoring.create(plant.session, CreateParameters(number, 2, requests))
    assert 0 < len(plant.found(number).items) < 2000
    await work
    assert plant.service.monitoring._places.taken == 2000
    assert plant.parcel(number).values == 2000
    items = list(plant.found(number).items)
    params = ua.DeleteMonitoredItemsParameters(number, items[:1000])
    await plant.service.monitoring.delete(plant.session, params)
    assert plant.service.monitoring.count == 1000
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    assert plant.service.monitoring.count == plant.service.monitoring._places.taken == 0
    assert not plant.block.listeners


# --- from bytes ------------------------------------------------------------------------------------------


class Bytes:
    """Takes an answer that is encoded."""

    def send(self, response: Any) -> None:
        self.results = results_of(response)


def results_of(response: Any) -> Any:
    whole = Buffer(response.to_binary())
    found = struct_from_binary(ua.CreateMonitoredItemsResponse, whole)
    assert not len(whole)
    return found.Results


async def raw(plant: TagPlant, number: int, *requests: Any, timestamps: int = 2, more: bytes = b"") -> Any:
    """Ask with bytes; None: they are for the general way."""
    whole = b"head" + struct_to_binary(CreateParameters(number, timestamps, list(requests))) + more
    reply = Bytes()
    done = plant.service.monitoring.create_bytes(plant.session, whole, 4, reply)  # type: ignore[arg-type]
    if isinstance(done, Rest):
        return results_of(await done)
    return reply.results if done else None


async def test_a_list_of_tags_is_monitored_from_its_bytes_like_any_other(plant: TagPlant) -> None:
    plant.poll([1.0] * 4)
    number = plant.subscribe()
    requests = [
        item(plant.nodes[0], handle=1, queue=3, sampling_ms=100.0, discard_oldest=False),
        item(plant.nodes[1], handle=2, mode=DISABLED),
        item(plant.nodes[2], handle=3, filter=deadband(1.0)),
        item(plant.nodes[3], handle=4, filter=deadband(200.0, ua.DeadbandType.Percent)),
    ]
    from_bytes = await raw(plant, number, *requests)
    general = plant.service.monitoring.create(plant.session, CreateParameters(number, 2, requests)).Results
    for one, other in zip(from_bytes, general, strict=True):
        assert (one.MonitoredItemId != 0) == (other.MonitoredItemId != 0)
        one.MonitoredItemId = other.MonitoredItemId
    assert from_bytes == general
    assert [each.StatusCode.value for each in general] == [0, 0, 0, CODES.BadDeadbandFilterInvalid]
    items = plant.found(number).items.values()
    assert [(each.handle, each.mode) for each in items][:3] == [(1, 2), (2, 0), (3, 2)]
    assert all(isinstance(each, TagItem) for each in items)


async def test_bytes_of_a_long_list_are_worked_on_in_slices() -> None:
    plant = TagPlant(*(config(f"t{i}") for i in range(600)), items=590)
    number = plant.subscribe()
    results = await raw(plant, number, *(item(node, handle=i) for i, node in enumerate(plant.nodes)))
    codes = [each.StatusCode.value for each in results]
    assert codes[:500] == [0] * 500
    assert codes[-1] == CODES.BadTooManyMonitoredItems
    assert plant.service.monitoring.count == codes.count(0) == len(plant.found(number).items)


async def test_bytes_with_anything_else_in_them_take_the_general_way(plant: TagPlant) -> None:
    number, node = plant.subscribe(), plant.nodes[0]
    plain = item(node)
    for other in (
        item(node, attribute=ua.AttributeIds.DisplayName),
        item(node, index_range="1"),
        item(node, encoding="Default Binary"),
        item(node, mode=SAMPLING),
        item(node, mode=7),
        item(node, filter=ua.EventFilter()),
        item(plant.variable("other")),
        item(ua.NodeId("gone", 7)),
    ):
        assert await raw(plant, number, plain, other) is None
    assert await raw(plant, number) is None
    assert await raw(plant, number, plain, more=b"\0") is None
    whole = struct_to_binary(CreateParameters(number, 2, [plain, plain]))
    for end in range(len(whole)):
        assert plant.service.monitoring.create_bytes(plant.session, whole[:end], 0, Bytes()) is False  # type: ignore[arg-type]
    assert not plant.found(number).items
