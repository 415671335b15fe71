"""Monitored items: Part 4 §5.13, without a server."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.event_objects import BaseEvent
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.services.subscription.items import QueuedItem
from edge_opcua.opcua.services.subscription.parameters import (
    CreateParameters,
    ModeParameters,
    ModifyParameters,
)
from edge_opcua.security.roles import Role
from tests.opcua.publishing import (
    DISABLED,
    REPORTING,
    SAMPLING,
    VALUE,
    FakeSession,
    Plant,
    data_value,
    deadband,
    item,
    notifications,
)

CODES = ua.StatusCodes
NUMBER = ua.VariantType.Double
TIMED = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValueTimestamp)


@pytest.fixture
def plant() -> Plant:
    return Plant()


def told(plant: Plant, number: int, *values: Any, node: ua.NodeId) -> list[Any]:
    """Write values one after the other and return what one message says of them."""
    for value in values:
        plant.write(node, value)
    return plant.next(number).values


# --- create (§5.13.2) -----------------------------------------------------------------------------------


def test_an_item_reports_its_present_value_first_then_changes(plant: Plant) -> None:
    # §5.13.1.3: the first sample is taken at once, and is always a notification.
    node = plant.variable("speed", 1.5)
    number = plant.subscribe()
    made = plant.monitor(number, node, queue=10)
    assert made.StatusCode.is_good()
    assert made.MonitoredItemId > 0
    assert plant.next(number).changes == [(1, 1.5, 0)]
    assert told(plant, number, 2.0, 2.0, 3.0, node=node) == [2.0, 3.0]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"node": ua.NodeId("gone", 2)}, CODES.BadNodeIdUnknown),
        ({"attribute": 99}, CODES.BadAttributeIdInvalid),
        ({"attribute": ua.AttributeIds.Executable}, CODES.BadAttributeIdInvalid),
        ({"index_range": "3:1"}, CODES.BadIndexRangeInvalid),
        ({"encoding": "Default XML"}, CODES.BadDataEncodingUnsupported),
        ({"encoding": "Default Binary", "attribute": 4}, CODES.BadDataEncodingInvalid),
        ({"mode": 7}, CODES.BadMonitoringModeInvalid),
        # §7.22.2, §7.22.4: filters
        ({"filter": deadband(1.0), "attribute": ua.AttributeIds.DisplayName}, CODES.BadFilterNotAllowed),
        ({"filter": ua.EventFilter()}, CODES.BadFilterNotAllowed),
        ({"filter": ua.AggregateFilter()}, CODES.BadMonitoredItemFilterUnsupported),
        ({"filter": ua.ReadValueId()}, CODES.BadMonitoredItemFilterInvalid),
        ({"filter": deadband(-1.0)}, CODES.BadDeadbandFilterInvalid),
        ({"filter": deadband(math.nan)}, CODES.BadDeadbandFilterInvalid),
        ({"filter": deadband(1.0, 7)}, CODES.BadDeadbandFilterInvalid),
        ({"filter": deadband(10.0, ua.DeadbandType.Percent)}, CODES.BadMonitoredItemFilterUnsupported),
        ({"node": ua.NodeId("text", 2), "filter": deadband(1.0)}, CODES.BadFilterNotAllowed),
        # §5.13.2: events
        ({"attribute": ua.AttributeIds.EventNotifier}, CODES.BadAttributeIdInvalid),
        (
            {"node": ua.NodeId("gone", 2), "attribute": ua.AttributeIds.EventNotifier},
            CODES.BadNodeIdUnknown,
        ),
    ],
)
def test_an_item_that_cannot_be_is_refused_alone(plant: Plant, wanted: dict[str, Any], code: int) -> None:
    speed = plant.variable("speed")
    plant.variable("text", "a", ua.VariantType.String)
    number = plant.subscribe()
    node = wanted.pop("node", speed)
    params = CreateParameters(number, 2, [item(node, **wanted), item(speed, handle=2)])
    refused, made = plant.service.monitoring.create(plant.session, params).Results
    assert refused.StatusCode.value == code
    assert made.StatusCode.is_good()
    assert list(plant.found(number).items) == [made.MonitoredItemId]


@pytest.mark.parametrize("timestamps", [-1, 4, 77])
def test_unknown_timestamps_fail_the_whole_call(plant: Plant, timestamps: int) -> None:
    # §5.13.2.3
    number = plant.subscribe()
    with pytest.raises(ServiceError) as failure:
        plant.monitor(number, plant.variable("a"), timestamps=timestamps)
    assert failure.value.code == CODES.BadTimestampsToReturnInvalid


@pytest.mark.parametrize(
    ("timestamps", "source", "server"),
    [(0, True, False), (1, False, True), (2, True, True), (3, False, False)],
)
def test_an_item_sends_the_stamps_that_were_asked_for(
    plant: Plant, timestamps: int, *, source: bool, server: bool
) -> None:
    # §5.13.2.2, §7.40; a new source time is still noticed.
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node, timestamps=timestamps, filter=TIMED)
    plant.next(number)
    plant.write(node, 0.0, at_s=7.0)
    ((change,),) = [body.MonitoredItems for body in notifications(plant.next(number).message)]
    assert (change.Value.SourceTimestamp is not None) is source
    assert (change.Value.ServerTimestamp is not None) is server


def test_any_attribute_can_be_watched(plant: Plant) -> None:
    # §5.13.1.1: clients define items for any attribute; only a Value has timestamps.
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node, attribute=ua.AttributeIds.DisplayName)
    ((change,),) = [body.MonitoredItems for body in notifications(plant.next(number).message)]
    assert change.Value.Value.Value.Text == "speed"
    assert change.Value.SourceTimestamp is None
    slot = plant.slot(node, ua.AttributeIds.DisplayName)
    slot.value = ua.DataValue(ua.Variant(ua.LocalizedText("Speed")))
    for watcher in slot.datachange_callbacks.values():
        watcher.changed(slot.value)
    assert plant.next(number).values == [ua.LocalizedText("Speed")]


def test_a_part_of_an_array_is_watched_for_itself(plant: Plant) -> None:
    # §5.13.2.1, §7.27: what changes elsewhere is no change here; without data it is made, and says so.
    node = plant.variable("profile", [1.0, 2.0, 3.0, 4.0])
    number = plant.subscribe()
    plant.monitor(number, node, index_range="1:2")
    assert plant.next(number).values == [[2.0, 3.0]]
    assert told(plant, number, [9.0, 2.0, 3.0, 9.0], [9.0, 2.0, 5.0, 9.0], node=node) == [[2.0, 5.0]]
    assert told(plant, number, [1.0], node=node) == [None]
    made = plant.monitor(number, node, index_range="7")
    assert made.StatusCode.is_good()
    assert plant.next(number).changes == [(1, None, CODES.BadIndexRangeNoData)]


@pytest.mark.parametrize(
    ("asked", "revised"), [(0, 1), (1, 1), (7, 7), (1000, 1000), (1001, 1000), (2**32 - 1, 1000)]
)
def test_a_queue_has_a_bound(plant: Plant, asked: int, revised: int) -> None:
    # §7.21: 0 and 1 are a queue of one.
    node = plant.variable("speed")
    number = plant.subscribe()
    made = plant.monitor(number, node, queue=asked)
    assert made.RevisedQueueSize == revised
    assert plant.modify(number, made.MonitoredItemId, queue=asked).RevisedQueueSize == revised


@pytest.mark.parametrize(
    ("asked", "revised"),
    [(0, 10), (-1, 250), (5, 10), (10, 10), (11, 20), (1000, 1000), (1e12, 3_600_000), (math.nan, 250)],
)
def test_the_revised_sampling_interval_is_the_true_one(plant: Plant, asked: float, revised: float) -> None:
    # §7.21: negative: the publishing interval; 0: as fast as possible.
    number = plant.subscribe(interval_ms=250)
    made = plant.monitor(number, plant.variable("speed"), sampling_ms=asked)
    assert made.RevisedSamplingInterval == revised


def test_a_slow_item_samples_at_its_pace(plant: Plant) -> None:
    # Part 4 §5.13.1.2: between two samples nobody looks.
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=10)
    plant.monitor(number, node, sampling_ms=100, queue=10)
    plant.next(number)
    replies = [plant.publish() for _ in range(50)]
    for i in range(1, 101):
        plant.write(node, float(i))
        plant.pass_ms(10)
    seen = [value for reply in replies if not reply.open for value in reply.values]
    assert len(seen) == 10
    assert seen == sorted(seen)


def test_one_timer_samples_all_items_of_a_rate(plant: Plant) -> None:
    nodes = [plant.variable(f"v{i}") for i in range(20)]
    number = plant.subscribe(interval_ms=1000)
    made = plant.monitor(number, *nodes, sampling_ms=100)
    assert len(plant.service.sampling) == 1
    assert len(plant.service._schedule) == 2
    plant.modify(number, made[0].MonitoredItemId, sampling_ms=500)
    assert len(plant.service.sampling) == 2
    plant.set_mode(number, DISABLED, made[0].MonitoredItemId)
    assert len(plant.service.sampling) == 1
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    assert len(plant.service.sampling) == 0
    assert len(plant.service._schedule) == 0
    assert all(not plant.slot(node).datachange_callbacks for node in nodes)


def test_what_nobody_tells_is_read_at_each_sample(plant: Plant) -> None:
    node = plant.variable("uptime")
    plant.service.polled.add(node)
    number = plant.subscribe(interval_ms=100)
    plant.monitor(number, node, sampling_ms=0)
    plant.next(number)
    plant.slot(node).value = data_value(5.0)
    assert plant.next(number).values == [5.0]


def test_items_have_a_bound() -> None:
    # §5.13.2.4
    plant = Plant(items=3, items_per_subscription=2)
    node = plant.variable("speed")
    one, two = plant.subscribe(), plant.subscribe()
    codes = [made.StatusCode.value for made in plant.monitor(one, node, node, node)]
    assert codes == [0, 0, CODES.BadTooManyMonitoredItems]
    codes = [made.StatusCode.value for made in plant.monitor(two, node, node)]
    assert codes == [0, CODES.BadTooManyMonitoredItems]
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([one]))
    assert plant.monitor(two, node).StatusCode.is_good()


async def test_many_items_are_made_in_slices(plant: Plant) -> None:
    nodes = [plant.variable(f"v{i}") for i in range(600)]
    number = plant.subscribe()
    params = CreateParameters(number, 2, [item(node, handle=i) for i, node in enumerate(nodes)])
    rest = plant.service.monitoring.create(plant.session, params)
    assert 0 < len(plant.found(number).items) < 600
    await rest
    assert len(plant.found(number).items) == 600
    rest = plant.service.monitoring.create(plant.session, params)
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    with pytest.raises(ServiceError):
        await rest
    assert plant.service.monitoring.count == 0
    assert not plant.slot(nodes[0]).datachange_callbacks


async def test_asyncua_tells_of_changes_and_of_the_end_of_a_node(plant: Plant) -> None:
    # §5.13.1.1: an item of a node that was deleted says so.
    node = plant.variable("speed", 1.0)
    number = plant.subscribe()
    plant.monitor(number, node)
    plant.next(number)
    await plant.aspace.write_attribute_value(node, VALUE, data_value(2.0))
    assert plant.next(number).values == [2.0]
    (watcher,) = plant.slot(node).datachange_callbacks.values()
    del plant.aspace[node]
    watcher(1, None, ua.StatusCode(CODES.BadNodeIdUnknown))
    assert plant.next(number).changes == [(1, None, CODES.BadNodeIdUnknown)]


# --- rights ---------------------------------------------------------------------------------------------


def test_an_item_that_may_not_be_read_is_made_and_says_so(plant: Plant) -> None:
    # §5.13.2.1: adding it succeeds, "and the bad status shall be returned in the Publish response".
    node = plant.variable("secret", 1.0)
    plant.access.mark(Kind.SECURITY, [node])
    plant.session.roles = frozenset({Role.OBSERVER})
    number = plant.subscribe()
    assert plant.monitor(number, node).StatusCode.is_good()
    assert plant.next(number).changes == [(1, None, CODES.BadUserAccessDenied)]
    plant.write(node, 2.0)
    plant.pass_ms(200)
    assert not plant.found(number).pending


def test_rights_that_are_lost_or_won_show_at_the_next_change(plant: Plant) -> None:
    # §5.13.2.1: "the same behaviour for the case where the access rights are changed after the call".
    node = plant.variable("secret", 1.0)
    plant.access.mark(Kind.SECURITY, [node])
    plant.session.roles = frozenset({Role.SECURITY_ADMIN})
    number = plant.subscribe()
    plant.monitor(number, node)
    assert plant.next(number).values == [1.0]
    plant.session.roles = frozenset({Role.OBSERVER})
    plant.write(node, 2.0)
    assert plant.next(number).changes == [(1, None, CODES.BadUserAccessDenied)]
    plant.session.roles = frozenset({Role.SECURITY_ADMIN})
    plant.write(node, 3.0)
    assert plant.next(number).changes == [(1, 3.0, 0)]


# --- filters (§7.22.2) ----------------------------------------------------------------------------------


def test_a_slow_ramp_is_reported_since_it_is_measured_from_the_last_report(plant: Plant) -> None:
    # §7.22.2: |last cached value - current value|, where what is cached was sent.
    node = plant.variable("ramp", 0.0)
    number = plant.subscribe()
    plant.monitor(number, node, filter=deadband(1.0))
    plant.next(number)
    ramp = [round(0.4 * i, 1) for i in range(1, 11)]
    assert told(plant, number, *ramp, node=node) == [1.2, 2.4, 3.6]


def test_a_percentage_is_one_of_the_range_of_the_node(plant: Plant) -> None:
    # Part 8 §7.2
    node = plant.variable("speed", 0.0, eu_range=(-100.0, 100.0))
    number = plant.subscribe()
    plant.monitor(number, node, filter=deadband(10.0, ua.DeadbandType.Percent))
    plant.next(number)
    assert told(plant, number, 20.0, 20.1, 0.2, 0.0, node=node) == [20.1, 0.0]


def test_an_array_with_a_deadband_is_reported_if_one_element_moves(plant: Plant) -> None:
    node = plant.variable("profile", [1.0, 2.0])
    number = plant.subscribe()
    plant.monitor(number, node, filter=deadband(1.0))
    plant.next(number)
    values = [[1.5, 2.5], [1.5, 3.5], [1.5]]
    assert told(plant, number, *values, node=node) == [[1.5, 3.5], [1.5]]


def test_a_bad_status_passes_every_deadband(plant: Plant) -> None:
    node = plant.variable("speed", 1.0)
    number = plant.subscribe()
    plant.monitor(number, node, filter=deadband(100.0))
    plant.next(number)
    plant.write(node, data_value(None, ua.VariantType.Null, status=CODES.BadNoCommunication))
    assert plant.next(number).changes == [(1, None, CODES.BadNoCommunication)]
    plant.write(node, data_value(1.0))
    assert plant.next(number).values == [1.0]


def test_an_item_may_follow_the_status_only_or_every_new_time(plant: Plant) -> None:
    node = plant.variable("speed", 1.0)
    number = plant.subscribe()
    status = ua.DataChangeFilter(ua.DataChangeTrigger.Status)
    plant.monitor(number, node, handle=1, filter=status)
    plant.monitor(number, node, handle=2, filter=TIMED)
    plant.next(number)
    plant.write(node, 2.0, at_s=1.0)
    plant.write(node, 2.0, at_s=2.0)
    assert plant.next(number).changes == [(2, 2.0, 0), (2, 2.0, 0)]
    assert sum(watcher.wants_time for watcher in plant.slot(node).datachange_callbacks.values()) == 1


def test_a_modified_item_follows_its_new_filter_handle_and_queue(plant: Plant) -> None:
    # §5.13.3
    node = plant.variable("speed", 0.0)
    number = plant.subscribe()
    made = plant.monitor(number, node, filter=deadband(100.0))
    plant.next(number)
    result = plant.modify(number, made.MonitoredItemId, handle=9, queue=2, filter=deadband(1.0))
    assert result.StatusCode.is_good()
    for value in (0.5, 2.0, 4.0, 6.0):
        plant.write(node, value)
    assert plant.next(number).changes == [(9, 4.0, 0x480), (9, 6.0, 0)]
    refused = plant.modify(number, made.MonitoredItemId, filter=deadband(-1.0))
    assert refused.StatusCode.value == CODES.BadDeadbandFilterInvalid
    assert plant.modify(number, 999_999).StatusCode.value == CODES.BadMonitoredItemIdInvalid


# --- queues (§5.13.1.5) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discard_oldest", "kept"),
    [
        (True, [(1, 3.0, 0x480), (1, 4.0, 0), (1, 5.0, 0)]),
        (False, [(1, 1.0, 0), (1, 2.0, 0), (1, 5.0, 0x480)]),
    ],
)
def test_what_did_not_fit_shows_in_the_overflow_bit(
    plant: Plant, *, discard_oldest: bool, kept: list[Any]
) -> None:
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node, queue=3, discard_oldest=discard_oldest)
    plant.next(number)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0):
        shown = plant.write(node, value)
    assert plant.next(number).changes == kept
    assert shown.StatusCode.value == 0  # the bit is the item's, not the value's
    assert plant.found(number).counts.monitoring_queue_overflows == 2


# --- modes (§5.13.4) and triggers (§5.13.5) -------------------------------------------------------------


def test_a_disabled_item_forgets_and_begins_anew(plant: Plant) -> None:
    node = plant.variable("speed", 1.0)
    number = plant.subscribe()
    made = plant.monitor(number, node).MonitoredItemId
    assert plant.set_mode(number, DISABLED, made, 999_999) == [0, CODES.BadMonitoredItemIdInvalid]
    assert not plant.found(number).pending
    assert plant.found(number).disabled_items == 1
    plant.write(node, 2.0)
    assert plant.set_mode(number, REPORTING, made) == [0]
    assert plant.next(number).values == [2.0]


def test_a_sampling_item_queues_and_reports_once_it_is_reporting(plant: Plant) -> None:
    node = plant.variable("speed", 1.0)
    number = plant.subscribe(keep_alive=1)
    made = plant.monitor(number, node, mode=SAMPLING).MonitoredItemId
    plant.write(node, 2.0)
    assert not plant.next(number).message.NotificationData
    plant.set_mode(number, REPORTING, made)
    assert plant.next(number).values == [1.0, 2.0]


def test_an_unknown_mode_fails_the_call(plant: Plant) -> None:
    number = plant.subscribe()
    with pytest.raises(ua.UaStatusCodeError) as failure:
        plant.service.monitoring.set_mode(plant.session, ModeParameters(number, 3, [1]))
    assert failure.value.code == CODES.BadMonitoringModeInvalid


def link(plant: Plant, number: int, item_id: int, add: list[int], remove: list[int]) -> Any:
    params = ua.SetTriggeringParameters(number, item_id, add, remove)
    return plant.service.monitoring.set_triggering(plant.session, params).Parameters


def test_a_triggered_item_reports_what_it_has_when_the_other_notices_something(plant: Plant) -> None:
    # §5.13.1.6: the triggered item samples, and reports once per trigger.
    trigger, watched = plant.variable("trigger"), plant.variable("watched", 1.0)
    number = plant.subscribe()
    first = plant.monitor(number, trigger, handle=1).MonitoredItemId
    second = plant.monitor(number, watched, handle=2, mode=SAMPLING).MonitoredItemId
    plant.next(number)
    results = link(plant, number, first, [second, 999_999], [second])
    assert [r.value for r in results.AddResults] == [0, CODES.BadMonitoredItemIdInvalid]
    assert [r.value for r in results.RemoveResults] == [CODES.BadMonitoredItemIdInvalid]
    plant.write(watched, 2.0)
    plant.pass_ms(200)
    assert not plant.found(number).pending
    plant.write(trigger, 1.0)
    plant.write(watched, 3.0)  # after the trigger: the next one
    assert sorted(plant.next(number).changes) == [(1, 1.0, 0), (2, 1.0, 0), (2, 2.0, 0)]
    plant.write(trigger, 2.0)
    assert sorted(plant.next(number).changes) == [(1, 2.0, 0), (2, 3.0, 0)]
    assert link(plant, number, first, [], [second]).RemoveResults[0].is_good()
    plant.write(watched, 4.0)
    plant.write(trigger, 3.0)
    assert plant.next(number).changes == [(1, 3.0, 0)]


def test_a_trigger_that_only_samples_triggers_all_the_same(plant: Plant) -> None:
    # §5.13.1.6, table of monitoring modes.
    trigger, watched = plant.variable("trigger"), plant.variable("watched", 1.0)
    number = plant.subscribe()
    first = plant.monitor(number, trigger, handle=1, mode=SAMPLING).MonitoredItemId
    second = plant.monitor(number, watched, handle=2, mode=SAMPLING).MonitoredItemId
    link(plant, number, first, [second], [])
    plant.write(trigger, 1.0)
    assert plant.next(number).changes == [(2, 1.0, 0)]


def test_links_end_with_their_items(plant: Plant) -> None:
    a, b = plant.variable("a"), plant.variable("b")
    number = plant.subscribe()
    first, second = (made.MonitoredItemId for made in plant.monitor(number, a, b, mode=SAMPLING))
    link(plant, number, first, [second], [])
    link(plant, number, second, [first], [])
    delete = ua.DeleteMonitoredItemsParameters(number, [second, second])
    results = plant.service.monitoring.delete(plant.session, delete).Results
    assert [r.value for r in results] == [0, CODES.BadMonitoredItemIdInvalid]
    kept = plant.found(number).items[first]
    assert isinstance(kept, QueuedItem)
    assert not kept.links
    assert not kept.linked_by
    with pytest.raises(ServiceError) as failure:
        link(plant, number, second, [first], [])
    assert failure.value.code == CODES.BadMonitoredItemIdInvalid


# --- owners ---------------------------------------------------------------------------------------------


def test_no_service_touches_the_items_of_another_session(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe()
    made = plant.monitor(number, node).MonitoredItemId
    thief, monitoring = FakeSession("thief"), plant.service.monitoring
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: monitoring.create(thief, CreateParameters(number, 2, [item(node)])),
        lambda: monitoring.modify(thief, ModifyParameters(number, 2, [ua.MonitoredItemModifyRequest(made)])),
        lambda: monitoring.delete(thief, ua.DeleteMonitoredItemsParameters(number, [made])),
        lambda: monitoring.set_mode(thief, ModeParameters(number, 0, [made])),
        lambda: monitoring.set_triggering(thief, ua.SetTriggeringParameters(number, made, [made], [])),
    )
    for attempt in attempts:
        with pytest.raises(ServiceError) as failure:
            attempt()
        assert failure.value.code == CODES.BadSubscriptionIdInvalid


# --- events ---------------------------------------------------------------------------------------------


def event_filter(*names: str) -> ua.EventFilter:
    select = [
        ua.SimpleAttributeOperand(
            ua.NodeId(ua.ObjectIds.BaseEventType), [ua.QualifiedName(name)], ua.AttributeIds.Value
        )
        for name in names
    ]
    return ua.EventFilter(SelectClauses=select)


def an_event(node: ua.NodeId, message: str) -> Any:
    event = BaseEvent()
    event.SourceNode = event.emitting_node = node
    event.Message = ua.LocalizedText(message)
    return event


def heard(plant: Plant, number: int) -> list[Any]:
    return [
        [field.Value for field in each.EventFields]
        for body in notifications(plant.next(number).message)
        for each in body.Events
    ]


@pytest.mark.parametrize(
    ("discard_oldest", "expected"), [(True, ["lost", "b", "c"]), (False, ["a", "c", "lost"])]
)
def test_lost_events_are_told_by_an_event(plant: Plant, *, discard_oldest: bool, expected: list[str]) -> None:
    # §7.22.3: EventQueueOverflowEventType, whatever the where clause says.
    plant.event_types("EventType", "Message", "SourceName")
    node = plant.notifier("machine")
    number = plant.subscribe()
    made = plant.monitor(
        number,
        node,
        attribute=ua.AttributeIds.EventNotifier,
        queue=2,
        discard_oldest=discard_oldest,
        filter=event_filter("EventType", "Message", "SourceName"),
    )
    assert made.StatusCode.is_good()
    assert made.RevisedQueueSize == 2
    for message in ("a", "b", "c"):
        plant.service.monitoring.deliver([an_event(node, message)], [node, node])
    overflow = ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
    found = ["lost" if kind == overflow else message.Text for kind, message, _ in heard(plant, number)]
    assert found == expected
    counts = plant.found(number).counts
    assert (counts.event_queue_overflows, counts.event_notifications) == (1, 3)


def test_event_items_have_modes_too(plant: Plant) -> None:
    plant.event_types("EventType", "Message", "SourceName")
    node = plant.notifier("machine")
    number = plant.subscribe()
    wanted = {"attribute": ua.AttributeIds.EventNotifier, "filter": event_filter("Message")}
    made = plant.monitor(number, node, queue=0, **wanted)
    assert made.RevisedQueueSize == plant.limits.queue
    plant.set_mode(number, DISABLED, made.MonitoredItemId)
    plant.service.monitoring.deliver([an_event(node, "nobody listens")], [node])
    plant.set_mode(number, SAMPLING, made.MonitoredItemId)
    plant.service.monitoring.deliver([an_event(node, "kept")], [node])
    plant.set_mode(number, REPORTING, made.MonitoredItemId)
    assert [fields[0].Text for fields in heard(plant, number)] == ["kept"]
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    assert not len(plant.service.monitoring.audience)


def test_an_event_goes_only_to_those_who_may_receive_it(plant: Plant) -> None:
    # Part 3 §8.55: ReceiveEvents.
    plant.event_types("Message")
    node = plant.notifier("machine")
    secret = plant.variable("secret")
    plant.access.mark(Kind.SECURITY, [secret])
    number = plant.subscribe()
    plant.monitor(
        number, node, attribute=ua.AttributeIds.EventNotifier, filter=event_filter("Message"), queue=5
    )
    plant.service.monitoring.deliver([an_event(secret, "secret")], [node])
    plant.service.monitoring.deliver([an_event(node, "open")], [node])
    assert [fields[0].Text for fields in heard(plant, number)] == ["open"]


def test_a_value_that_cannot_be_encoded_does_not_stop_the_others(plant: Plant) -> None:
    odd, fine = plant.variable("odd", 1, ua.VariantType.Int32), plant.variable("fine", 2.0)
    number = plant.subscribe()
    plant.monitor(number, odd, fine)
    plant.next(number)
    plant.write(odd, "no number")
    plant.write(fine, 3.0)
    assert plant.next(number).changes == [(1, None, CODES.BadEncodingError), (2, 3.0, 0)]


# --- rights ---------------------------------------------------------------------------------------------


def test_what_was_queued_for_one_user_is_not_sent_to_the_next_who_may_see_less(plant: Plant) -> None:
    # Part 4 §5.7.3: another user may take a session over, with its subscriptions.
    plant.event_types("Message")
    secret, machine, speed = plant.variable("secret", 1.0), plant.notifier("machine"), plant.variable("speed")
    plant.access.mark(Kind.SECURITY, [secret])
    admin = plant.session.roles = frozenset({Role.SECURITY_ADMIN})
    number = plant.subscribe(most=1)
    plant.monitor(number, secret, speed)
    plant.monitor(
        number, machine, attribute=ua.AttributeIds.EventNotifier, filter=event_filter("Message"), queue=5
    )
    assert plant.next(number).changes == [(1, 1.0, 0)]
    plant.write(secret, 2.0)
    plant.service.monitoring.deliver([an_event(secret, "secret")], [machine])
    assert plant.found(number).cycle.more
    plant.session.roles = frozenset({Role.OBSERVER})
    plant.service.rights_shrank(plant.session)
    with pytest.raises(ServiceError) as failure:
        plant.service.republish(plant.session, ua.RepublishParameters(number, 1))
    assert failure.value.code == CODES.BadMessageNotAvailable
    seen = [*plant.next(number).changes, *plant.next(number).changes]
    assert sorted(seen) == [(1, None, CODES.BadUserAccessDenied), (2, 0.0, 0)]
    assert not plant.found(number).pending
    plant.service.rights_shrank(FakeSession("without subscriptions"))
    assert admin != plant.session.roles


def test_nothing_waits_any_more_when_all_of_it_was_taken_back(plant: Plant) -> None:
    plant.event_types("Message")
    machine = plant.notifier("machine")
    number = plant.subscribe(most=1)
    plant.monitor(
        number, machine, attribute=ua.AttributeIds.EventNotifier, filter=event_filter("Message"), queue=5
    )
    for text in ("a", "b", "c"):
        plant.service.monitoring.deliver([an_event(machine, text)], [machine])
    plant.next(number)
    plant.service.rights_shrank(plant.session)
    assert not plant.found(number).cycle.more
    assert not plant.found(number).pending
    assert not notifications(plant.next(number).message)  # a keep-alive
