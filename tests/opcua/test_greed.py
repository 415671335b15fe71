"""A greedy client: what it takes has a bound, and the others find enough and have their turn in between."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.services.methods import Methods
from edge_opcua.opcua.services.shares import Shares, crowded
from edge_opcua.opcua.services.slices import Rest, begin
from edge_opcua.opcua.services.subscription.items import QueuedItem
from edge_opcua.opcua.services.subscription.parameters import CreateParameters, ModeParameters
from tests.opcua.publishing import DISABLED, SAMPLING, VALUE, FakeSession, Plant, data_value, item

CODES = ua.StatusCodes
GREEDY, MODEST = FakeSession("greedy", user="greedy"), FakeSession("modest", user="modest")
ROLES = ua.AttributeIds.UserRolePermissions


def links(plant: Plant, number: int, trigger: int, add: list[int], remove: list[int] | None = None) -> Any:
    params = ua.SetTriggeringParameters(number, trigger, add, remove or [])
    return plant.service.monitoring.set_triggering(plant.session, params).Parameters


def events(*fields: str) -> ua.EventFilter:
    base = ua.NodeId(ua.ObjectIds.BaseEventType)
    clauses = [
        ua.SimpleAttributeOperand(base, [ua.QualifiedName(name)], ua.AttributeIds.Value) for name in fields
    ]
    return ua.EventFilter(clauses)


async def turns_of_others(work: Any) -> int:
    """Return how often somebody else had his turn while something was done."""
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    waiting = asyncio.ensure_future(other())
    await work
    waiting.cancel()
    return count


# --- shares ---------------------------------------------------------------------------------------------


def test_nobody_takes_more_than_half_of_what_the_others_left() -> None:
    shares = Shares(100)
    assert shares.room("a") == 50
    shares.take("a", 50)
    assert (shares.room("a"), shares.room("b")) == (0, 25)
    shares.take("b", 30)  # who takes more than there is room for has none, not less than none
    assert (shares.room("b"), shares.room("c"), shares.taken) == (0, 10, 80)
    shares.give("a", 50)
    shares.give("b", 20)
    shares.give("c", 0)
    assert (shares.room("a"), shares.room("b"), shares.taken) == (45, 40, 10)


@pytest.mark.parametrize(
    ("taken", "own", "none"),
    [(0, 0, False), (89, 89, False), (90, 89, True), (90, 1, False), (99, 1, False), (100, 0, True)],
)
def test_the_last_tenth_is_for_those_who_have_little(taken: int, own: int, *, none: bool) -> None:
    assert crowded(100, taken, own) is none
    assert crowded(3, 2, 2) is False  # of little there is nothing to keep


def test_one_client_takes_neither_all_items_nor_all_subscriptions() -> None:
    # Part 4 §5.13.2.4, §5.14.2.3: BadTooManyMonitoredItems, BadTooManySubscriptions.
    plant = Plant(items=100, subscriptions=20)
    node = plant.variable("speed")
    greedy = plant.subscribe(GREEDY)
    made = plant.monitor(greedy, *[node] * 91, session=GREEDY)
    assert [each.StatusCode.value for each in made][89:] == [0, CODES.BadTooManyMonitoredItems]
    modest = plant.subscribe(MODEST)
    assert plant.monitor(modest, node, session=MODEST).StatusCode.is_good()
    for _ in range(16):
        plant.subscribe(GREEDY)
    with pytest.raises(ServiceError) as refused:
        plant.subscribe(GREEDY)
    assert refused.value.code == CODES.BadTooManySubscriptions
    assert plant.subscribe(FakeSession("third"))
    plant.service.delete(GREEDY, ua.DeleteSubscriptionsParameters([greedy]))
    assert plant.service.monitoring._owned.taken == 1


# --- queues ---------------------------------------------------------------------------------------------


def test_a_queue_gets_shorter_when_its_client_has_enough_of_them() -> None:
    # Part 4 §5.13.2.2, §7.21: the queue is as long as the server can make it, and the client is told.
    plant = Plant(queued=100)
    node = plant.variable("speed")
    greedy, modest = plant.subscribe(GREEDY), plant.subscribe(MODEST)
    made = plant.monitor(greedy, node, node, node, session=GREEDY, queue=31)
    assert [each.RevisedQueueSize for each in made] == [31, 21, 1]
    assert plant.monitor(modest, node, session=MODEST, queue=20).RevisedQueueSize == 20
    plant.service.delete(GREEDY, ua.DeleteSubscriptionsParameters([greedy]))
    greedy = plant.subscribe(GREEDY)
    assert plant.monitor(greedy, node, session=GREEDY, queue=31).RevisedQueueSize == 31


def test_a_queue_that_is_changed_gives_back_what_it_had() -> None:
    plant = Plant(queued=100)
    number = plant.subscribe()
    made = plant.monitor(number, plant.variable("speed"), queue=51)
    for size in (51, 40, 51, 60):
        found = plant.modify(number, made.MonitoredItemId, queue=size).RevisedQueueSize
        assert found == min(size, 51)


def test_parts_of_arrays_count_as_much_as_they_take() -> None:
    # Each item keeps copies of its own; a whole value is the same for all.
    plant = Plant(queued=200)
    node = plant.variable("wave", [0.0] * 640)
    number = plant.subscribe()
    assert plant.monitor(number, node, queue=50).RevisedQueueSize == 50
    made = plant.monitor(number, node, node, index_range="0:639", queue=50)
    assert [each.RevisedQueueSize for each in made] == [4, 0]
    assert [each.StatusCode.value for each in made] == [0, CODES.BadTooManyMonitoredItems]


def test_events_with_many_fields_count_as_much_as_they_take() -> None:
    plant = Plant(queued=200)
    plant.event_types("Message")
    wanted = {"attribute": ua.AttributeIds.EventNotifier, "filter": events(*["Message"] * 640)}
    made = plant.monitor(plant.subscribe(), plant.notifier("machine"), queue=0, **wanted)
    assert made.RevisedQueueSize == 9


# --- readings -------------------------------------------------------------------------------------------


def test_what_has_to_be_read_is_read_no_faster_than_the_server_can() -> None:
    # Part 4 §5.13.1.2: the sampling interval is the fastest the server can keep up with.
    plant = Plant(readings_per_s=94)
    node = plant.variable("speed")
    number = plant.subscribe()
    made = plant.monitor(number, *[node] * 13, attribute=ROLES, sampling_ms=0.0)
    assert [each.RevisedSamplingInterval for each in made] == [*[100] * 4, *[1000] * 7, 0, 0]
    assert {each.StatusCode.value for each in made[11:]} == {CODES.BadTooManyMonitoredItems}


def test_who_is_read_often_leaves_readings_for_others() -> None:
    plant = Plant(readings_per_s=100)
    node = plant.variable("speed")
    greedy, modest = plant.subscribe(GREEDY), plant.subscribe(MODEST)
    plant.monitor(greedy, *[node] * 10, session=GREEDY, attribute=ROLES, sampling_ms=0.0)
    made = plant.monitor(modest, *[node] * 10, session=MODEST, attribute=ROLES, sampling_ms=1000.0)
    assert {each.RevisedSamplingInterval for each in made} == {1000.0}
    # Told values are no readings.
    made = plant.monitor(greedy, *[node] * 10, session=GREEDY, sampling_ms=0.0)
    assert {each.RevisedSamplingInterval for each in made} == {plant.limits.min_sampling_ms}


def test_an_item_that_is_read_gives_its_readings_back() -> None:
    plant = Plant(readings_per_s=40)
    node = plant.variable("speed")
    number = plant.subscribe()
    first = plant.monitor(number, node, attribute=ROLES, sampling_ms=0.0)
    for _ in range(3):
        changed = plant.modify(number, first.MonitoredItemId, sampling_ms=0.0)
        assert changed.RevisedSamplingInterval == 100
    plant.service.monitoring.delete(
        plant.session, ua.DeleteMonitoredItemsParameters(number, [first.MonitoredItemId])
    )
    again = plant.monitor(number, node, node, attribute=ROLES, sampling_ms=0.0)
    assert [each.RevisedSamplingInterval for each in again] == [100, 100]


# --- triggering -----------------------------------------------------------------------------------------


def test_links_between_items_have_a_bound() -> None:
    # Part 4 §5.13.5: ten thousand items, each of which triggers all the others, are a hundred million links.
    plant = Plant(links=3)
    node = plant.variable("speed")
    number = plant.subscribe()
    made = plant.monitor(number, *[node] * 4, mode=SAMPLING)
    one, two, three, four = (each.MonitoredItemId for each in made)
    assert [r.value for r in links(plant, number, one, [two, three]).AddResults] == [0, 0]
    added = links(plant, number, two, [one, three, four, 77]).AddResults
    assert [r.value for r in added] == [
        0,
        *[CODES.BadTooManyMonitoredItems] * 2,
        CODES.BadMonitoredItemIdInvalid,
    ]
    assert links(plant, number, one, [three]).AddResults[0].is_good()  # it is there already
    plant.service.monitoring.delete(plant.session, ua.DeleteMonitoredItemsParameters(number, [one]))
    assert plant.found(number).links == 0
    assert links(plant, number, two, [three], []).AddResults[0].is_good()
    assert links(plant, number, two, [], [three]).RemoveResults[0].is_good()
    assert plant.found(number).links == 0


# --- messages that are kept -----------------------------------------------------------------------------


def test_messages_are_kept_up_to_a_number_of_bytes_as_well() -> None:
    # Part 4 §5.14.1.1: a client that acknowledges nothing, with four hundred subscriptions.
    plant = Plant(retransmission_bytes=20_000)
    node = plant.variable("text", "", ua.VariantType.String)
    number = plant.subscribe()
    plant.monitor(number, node)
    for letter in "abcdefg":
        plant.write(node, letter * 3000)
        available = plant.next(number).result.AvailableSequenceNumbers
    assert available == [5, 6, 7]
    assert plant.found(number).counts.discarded_messages == 4
    plant.publish(acks=[(number, 5), (number, 6)])
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    assert plant.service._kept.taken == 0


def test_a_message_larger_than_the_room_is_kept_all_the_same() -> None:
    # Part 4 §5.14.6: the last one can always be asked for again.
    plant = Plant(retransmission_bytes=10)
    number = plant.subscribe()
    plant.monitor(number, plant.variable("speed"))
    assert plant.next(number).result.AvailableSequenceNumbers == [1]


# --- turns ----------------------------------------------------------------------------------------------


async def test_filters_with_many_clauses_are_compiled_piece_by_piece() -> None:
    plant = Plant()
    plant.event_types("Message")
    wanted = {"attribute": ua.AttributeIds.EventNotifier, "filter": events(*["Message"] * 1000)}
    node, number = plant.notifier("machine"), plant.subscribe()
    params = CreateParameters(number, 2, [item(node, **wanted) for _ in range(5)])
    work = plant.service.monitoring.create(plant.session, params)
    assert isinstance(work, Rest)
    assert len(plant.found(number).items) == 1
    assert await turns_of_others(work) >= 4
    assert len(plant.found(number).items) == 5


async def test_modes_are_set_piece_by_piece() -> None:
    plant = Plant()
    node, number = plant.variable("speed"), plant.subscribe()
    for _ in range(3):
        plant.monitor(number, *[node] * 250)
    params = ModeParameters(number, DISABLED, list(plant.found(number).items))
    work = plant.service.monitoring.set_mode(plant.session, params)
    assert isinstance(work, Rest)
    assert await turns_of_others(work) >= 2
    assert plant.found(number).disabled_items == 750


async def test_present_values_are_sent_again_piece_by_piece() -> None:
    # Part 4 §5.14.7 SendInitialValues.
    plant = Plant()
    node, number = plant.variable("speed"), plant.subscribe()
    for _ in range(3):
        plant.monitor(number, *[node] * 250)
    while plant.found(number).pending:
        plant.next(number)
    other = FakeSession("other")
    params = ua.TransferSubscriptionsParameters([number, 77], True)
    work = plant.service.transfer(other, params)
    assert isinstance(work, Rest)
    assert await turns_of_others(work) >= 2
    assert len(plant.found(number).pending) == 750


async def test_a_subscription_that_moves_on_meanwhile_gets_no_more_initial_values() -> None:
    plant = Plant()
    node, number = plant.variable("speed"), plant.subscribe()
    for _ in range(2):
        plant.monitor(number, *[node] * 250)
    while plant.found(number).pending:
        plant.next(number)
    other = FakeSession("other")
    work = plant.service.transfer(other, ua.TransferSubscriptionsParameters([number], True))
    plant.service.delete(other, ua.DeleteSubscriptionsParameters([number]))
    response = await work
    assert response.Parameters.Results[0].StatusCode.is_good()


async def test_a_condition_refresh_lets_others_have_their_turn() -> None:
    # Part 9 §5.5.7; a hundred items with a thousand fields each.
    plant = Plant()
    plant.event_types("Message")
    wanted = {"attribute": ua.AttributeIds.EventNotifier, "filter": events(*["Message"] * 1000)}
    node, number = plant.notifier("machine"), plant.subscribe()
    for _ in range(4):
        plant.monitor(number, node, queue=10, **wanted)
    assert await turns_of_others(plant.service.conditions.refresh(plant.found(number))) >= 4
    items = plant.found(number).items.values()
    assert [each.waiting() for each in items if isinstance(each, QueuedItem)] == [2, 2, 2, 2]


async def test_of_many_long_requests_one_slice_is_done_at_a_time() -> None:
    # Thirty-two requests of one connection run at once, and a short one of somebody else waits for one slice.
    slices = 0

    def work() -> Generator[None, None, int]:
        nonlocal slices
        for _ in range(20):
            slices += 1
            yield
        return slices

    works = [begin(work()) for _ in range(10)]
    assert slices == 10
    found = asyncio.gather(*(one for one in works if isinstance(one, Rest)))
    for _ in range(20):
        before = slices
        await asyncio.sleep(0)
        assert slices <= before + 1
    assert max(await found) == slices == 200


async def test_calls_of_one_request_let_others_have_their_turn() -> None:
    plant = Plant()
    methods = Methods(plant.aspace, plant.access, 100)
    request = ua.CallMethodRequest(ua.NodeId(1), ua.NodeId(2), [])
    run = methods.services()["Call"].run
    assert await turns_of_others(run(plant.session, ua.CallParameters([request] * 10))) >= 9


@pytest.mark.parametrize("value", [[1.0, 2.0], "text", b"bytes", [[1.0], [2.0]], 5.0])
def test_whatever_has_parts_has_a_weight(value: Any) -> None:
    plant = Plant()
    node = plant.variable("odd")
    plant.slot(node, VALUE).value = data_value(value, None)
    made = plant.monitor(plant.subscribe(), node, index_range="0")
    assert made.RevisedQueueSize in (0, 100)
