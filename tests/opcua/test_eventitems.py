"""Event items: what is queued stays what it was, and what is kept for speed follows every change."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua
from asyncua.common.event_objects import BaseEvent
from structlog.testing import capture_logs

from edge_opcua.opcua.access import Kind
from tests.opcua.publishing import DISABLED, REPORTING, FakeSession, Plant, notifications

KIND = ua.NodeId(ua.ObjectIds.BaseEventType)


@pytest.fixture
def plant() -> Plant:
    made = Plant()
    made.event_types("Message", "Severity", "SourceName")
    return made


def clauses(*names: str) -> ua.EventFilter:
    select = [
        ua.SimpleAttributeOperand(KIND, [ua.QualifiedName(name)], ua.AttributeIds.Value) for name in names
    ]
    return ua.EventFilter(SelectClauses=select)


def listen(
    plant: Plant, node: ua.NodeId, *names: str, session: FakeSession | None = None, **wanted: Any
) -> tuple[int, int]:
    number = plant.subscribe(session)
    made = plant.monitor(
        number,
        node,
        attribute=ua.AttributeIds.EventNotifier,
        filter=clauses(*names),
        session=session,
        **wanted,
    )
    assert made.StatusCode.is_good()
    return number, made.MonitoredItemId


def emit(plant: Plant, node: ua.NodeId, message: Any, source: ua.NodeId | None = None) -> None:
    """As the server does: to the node that emits, and those above."""
    plant.service.deliver([an_event(node, message, source)])


def an_event(node: ua.NodeId, message: Any, source: ua.NodeId | None = None) -> BaseEvent:
    event = BaseEvent()
    event.EventType, event.SourceNode, event.emitting_node = KIND, source or node, node
    event.Message = ua.LocalizedText(message) if isinstance(message, str) else message
    event.SourceName = "press"
    event.Severity = 5
    return event


def heard(plant: Plant, number: int) -> list[tuple[int, list[Any]]]:
    message = plant.next(number).message
    return [
        (each.ClientHandle, [getattr(field.Value, "Text", field.Value) for field in each.EventFields])
        for body in notifications(message)
        for each in body.Events
    ]


def test_what_is_queued_stays_with_the_filter_of_its_time_and_has_the_new_handle(plant: Plant) -> None:
    # Part 4 §5.13.3: the change is for what comes.
    node = plant.notifier("machine")
    number, made = listen(plant, node, "Message")
    emit(plant, node, "before")
    plant.modify(number, made, handle=9, filter=clauses("Severity", "SourceName"))
    emit(plant, node, "after")
    assert heard(plant, number) == [(9, ["before"]), (9, [5, "press"])]


def test_an_event_that_cannot_be_encoded_comes_with_null_fields_and_stops_no_other(plant: Plant) -> None:
    node = plant.notifier("machine")
    number, _ = listen(plant, node, "SourceName", "Message")
    with capture_logs() as logs:
        emit(plant, node, 17)
    emit(plant, node, "fine")
    assert [line["event"] for line in logs] == ["event.not_encoded"]
    assert heard(plant, number) == [(1, [None, None]), (1, ["press", "fine"])]


def test_several_items_get_an_event_each_with_its_own_fields(plant: Plant) -> None:
    node = plant.notifier("machine")
    wanted = [("Message",), ("Severity", "Message"), ("Message",)]
    sessions = [FakeSession(str(i)) for i in range(3)]
    for session, names in zip(sessions, wanted, strict=True):
        listen(plant, node, *names, session=session)
    emit(plant, node, "hot")
    found = []
    for session in sessions:
        reply = plant.publish(session)
        plant.pass_ms(100)
        found += [
            [getattr(field.Value, "Text", field.Value) for field in each.EventFields]
            for body in notifications(reply.message)
            for each in body.Events
        ]
    assert found == [["hot"], [5, "hot"], ["hot"]]


def test_items_that_come_and_go_between_two_events_are_noticed(plant: Plant) -> None:
    node = plant.notifier("machine")
    emit(plant, node, "nobody listens")
    number, made = listen(plant, node, "Message")
    emit(plant, node, "one")
    plant.set_mode(number, DISABLED, made)
    emit(plant, node, "disabled")
    plant.set_mode(number, REPORTING, made)
    emit(plant, node, "two")
    assert heard(plant, number) == [(1, ["two"])]  # Disabled forgets what is queued


def test_a_permission_that_changes_between_two_events_is_noticed(plant: Plant) -> None:
    # Part 3 §8.55: ReceiveEvents on type and source.
    node, source = plant.notifier("machine"), ua.NodeId("press", 2)
    number, _ = listen(plant, node, "Message")
    emit(plant, node, "no node, no permission", source)
    plant.access.mark(Kind.SECURITY, [source])
    emit(plant, node, "still no node", source)
    plant.notifier("press")
    emit(plant, node, "secret", source)
    plant.access.mark(Kind.PLAIN, [source])
    emit(plant, node, "for everybody", source)
    plant.access.mark(Kind.SECURITY, [KIND])
    emit(plant, node, "of a secret type", source)
    del plant.aspace[source]
    plant.access.mark(Kind.PLAIN, [KIND])
    emit(plant, node, "gone", source)
    assert [fields for _, fields in heard(plant, number)] == [
        ["no node, no permission"],
        ["still no node"],
        ["for everybody"],
        ["gone"],
    ]


def test_a_message_takes_as_many_events_as_fit(plant: Plant) -> None:
    node = plant.notifier("machine")
    number, _ = listen(plant, node, "Message", queue=10)
    plant.found(number).max_notifications = 3
    for count in range(5):
        emit(plant, node, str(count))
    assert [fields for _, fields in heard(plant, number)] == [["0"], ["1"], ["2"]]
    assert [fields for _, fields in heard(plant, number)] == [["3"], ["4"]]
    assert plant.found(number).counts.event_notifications == 5


# --- events that come at once ---------------------------------------------------------------------------


def test_of_events_at_once_the_one_that_cannot_be_encoded_comes_with_null_fields(plant: Plant) -> None:
    node = plant.notifier("machine")
    number, _ = listen(plant, node, "SourceName", "Message")
    with capture_logs() as logs:
        plant.service.deliver([an_event(node, message) for message in ("a", 17, "b")])
    assert [line["event"] for line in logs] == ["event.not_encoded"]
    assert heard(plant, number) == [(1, ["press", "a"]), (1, [None, None]), (1, ["press", "b"])]


def test_of_events_at_once_each_item_gets_those_that_pass_its_filter_in_their_order(plant: Plant) -> None:
    node = plant.notifier("machine")
    of_press = clauses("Message")
    of_press.WhereClause.Elements = [
        ua.ContentFilterElement(
            ua.FilterOperator.Equals,
            [clauses("SourceName").SelectClauses[0], ua.LiteralOperand(ua.Variant("press"))],
        )
    ]
    wanted = {"filter": of_press, "attribute": ua.AttributeIds.EventNotifier, "queue": 9}
    number, everything = plant.subscribe(), FakeSession("everything")
    assert plant.monitor(number, node, **wanted).StatusCode.is_good()
    listen(plant, node, "Message", session=everything, queue=9)
    events = [an_event(node, text) for text in "abcd"]
    events[1].SourceName = "saw"
    none = [an_event(node, text) for text in "ef"]
    for event in none:
        event.SourceName = "saw"
    reply = plant.publish(everything)
    plant.service.deliver(events)
    plant.service.deliver(none)
    assert [fields for _, fields in heard(plant, number)] == [["a"], ["c"], ["d"]]
    (body,) = notifications(reply.message)
    assert [each.EventFields[0].Value.Text for each in body.Events] == list("abcdef")


def test_of_events_at_once_everybody_gets_those_that_he_may_receive(plant: Plant) -> None:
    # Part 3 §8.55: asked for each source among them.
    node, secret = plant.notifier("machine"), plant.notifier("secret")
    plant.access.mark(Kind.SECURITY, [secret])
    number, _ = listen(plant, node, "Message", queue=9)
    sources = (node, secret, node, secret)
    plant.service.deliver([an_event(node, str(i), source) for i, source in enumerate(sources)])
    assert [fields for _, fields in heard(plant, number)] == [["0"], ["2"]]


@pytest.mark.parametrize("discard_oldest", [True, False])
@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_a_queue_keeps_of_events_at_once_what_it_keeps_of_them_one_by_one(
    plant: Plant, size: int, *, discard_oldest: bool
) -> None:
    # Part 4 §7.22.3: one notice, however many are lost at once.
    node = plant.notifier("machine")
    found = []
    for at_once in (1, 2, 5):
        number, _ = listen(plant, node, "Message", queue=size, discard_oldest=discard_oldest)
        events = [an_event(node, str(i)) for i in range(10)]
        for start in range(0, 10, at_once):
            plant.service.deliver(events[start : start + at_once])
        got = heard(plant, number)
        counts = plant.found(number).counts
        found.append((got, counts.event_queue_overflows, counts.event_notifications))
        plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    assert found[0] == found[1] == found[2]
    assert (found[0][1], found[0][2]) == (10 - size, size + 1)
