"""Subscriptions: Part 4 §5.14, without a server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from structlog.testing import capture_logs

from edge_opcua.opcua.services.service import set_caller
from edge_opcua.opcua.services.subscription import subscription as subscription_module
from edge_opcua.opcua.services.subscription.subscription import State
from tests.opcua.publishing import (
    REPORTING,
    SAMPLING,
    FakeReply,
    FakeSession,
    Plant,
    changes,
    status_changes,
)

CODES = ua.StatusCodes


@pytest.fixture
def plant() -> Plant:
    return Plant()


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises((ServiceError, ua.UaStatusCodeError)) as failure:
        yield
    assert failure.value.code == code


# --- create, modify, delete (§5.14.2, §5.14.3, §5.14.8) -------------------------------------------------


@pytest.mark.parametrize(
    ("interval_ms", "keep_alive", "lifetime", "revised"),
    [
        (100, 10, 100, (100, 10, 100)),
        (0, 10, 100, (10, 10, 100)),
        (-5, 10, 100, (10, 10, 100)),
        (math.nan, 10, 100, (1000, 10, 100)),
        (math.inf, 10, 100, (1000, 10, 100)),
        (1e12, 1, 1, (3_600_000, 1, 3)),
        (100, 0, 0, (100, 1, 3)),  # the smallest keep-alive count there is
        (100, 50, 10, (100, 50, 150)),  # §5.14.2.2: at least three times the keep-alive
        (100, 2**32 - 1, 2**32 - 1, (100, 12_000, 36_000)),  # an hour
    ],
)
def test_what_a_client_asks_for_is_brought_into_bounds(
    plant: Plant, interval_ms: float, keep_alive: int, lifetime: int, revised: tuple[float, int, int]
) -> None:
    # §5.14.2.2, and the same for ModifySubscription, §5.14.3.2
    made = plant.service.create(
        plant.session, ua.CreateSubscriptionParameters(interval_ms, lifetime, keep_alive, 0, True, 0)
    ).Parameters
    assert (
        made.RevisedPublishingInterval,
        made.RevisedMaxKeepAliveCount,
        made.RevisedLifetimeCount,
    ) == revised
    number = plant.subscribe()
    changed = plant.service.modify(
        plant.session, ua.ModifySubscriptionParameters(number, interval_ms, lifetime, keep_alive, 7, 9)
    ).Parameters
    assert (
        changed.RevisedPublishingInterval,
        changed.RevisedMaxKeepAliveCount,
        changed.RevisedLifetimeCount,
    ) == revised
    found = plant.found(number)
    assert (found.max_notifications, found.priority, found.counts.modify) == (7, 9, 1)


def test_nobody_can_foresee_an_id(plant: Plant) -> None:
    # A client that uses its old id after our restart must not meet another's subscription.
    ids = [plant.subscribe() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(0 < number < 2**32 for number in ids)
    assert len({b - a for a, b in pairwise(ids)}) == 49
    assert set(Plant(subscriptions=1).service.subscriptions) == set()


def test_subscriptions_have_a_bound() -> None:
    # §5.14.2.3
    plant = Plant(subscriptions=3, subscriptions_per_session=2)
    plant.subscribe()
    plant.subscribe()
    with fails(CODES.BadTooManySubscriptions):
        plant.subscribe()
    other = FakeSession("other")
    number = plant.subscribe(other)
    with fails(CODES.BadTooManySubscriptions):
        plant.subscribe(other)
    plant.service.delete(other, ua.DeleteSubscriptionsParameters([number]))
    plant.subscribe(other)
    assert plant.service.created == 4


def test_a_new_interval_counts_from_now(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=1000)
    plant.monitor(number, node)
    reply = plant.publish()
    plant.service.modify(plant.session, ua.ModifySubscriptionParameters(number, 50, 10, 3, 0, 0))
    plant.pass_ms(40)
    assert reply.open
    plant.pass_ms(10)
    assert reply.values == [0.0]


def test_deleting_the_last_subscription_sends_waiting_requests_home(plant: Plant) -> None:
    # §5.14.8, §5.14.5: Bad_NoSubscription.
    one, two = plant.subscribe(), plant.subscribe()
    reply = plant.publish()
    delete = ua.DeleteSubscriptionsParameters([one, one, 77])
    results = plant.service.delete(plant.session, delete).Results
    assert [r.value for r in results] == [0, CODES.BadSubscriptionIdInvalid, CODES.BadSubscriptionIdInvalid]
    assert reply.open
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([two]))
    assert reply.faults == [CODES.BadNoSubscription]
    with fails(CODES.BadNoSubscription):
        plant.publish()


def test_no_service_touches_the_subscription_of_another_session(plant: Plant) -> None:
    number = plant.subscribe()
    thief = FakeSession("thief", user="thief")
    own = plant.subscribe(thief)
    service = plant.service
    with fails(CODES.BadSubscriptionIdInvalid):
        service.modify(thief, ua.ModifySubscriptionParameters(number, 10, 10, 10, 0, 0))
    with fails(CODES.BadSubscriptionIdInvalid):
        service.republish(thief, ua.RepublishParameters(number, 1))
    mode = service.set_publishing(thief, ua.SetPublishingModeParameters(False, [number, own]))
    assert [r.value for r in mode.Parameters.Results] == [CODES.BadSubscriptionIdInvalid, 0]
    assert plant.found(number).cycle.enabled
    deleted = service.delete(thief, ua.DeleteSubscriptionsParameters([number])).Results
    assert [r.value for r in deleted] == [CODES.BadSubscriptionIdInvalid]
    moved = service.transfer(thief, ua.TransferSubscriptionsParameters([number], True))
    assert [r.StatusCode.value for r in moved.Parameters.Results] == [CODES.BadUserAccessDenied]
    reply = plant.publish(thief, acks=[(number, 1)])
    plant.pass_ms(100)
    assert [r.value for r in reply.result.Results] == [CODES.BadSubscriptionIdInvalid]


# --- publish (§5.14.5, §5.14.1) -------------------------------------------------------------------------


def test_the_first_message_comes_after_the_first_interval_even_if_it_is_empty(plant: Plant) -> None:
    # §5.14.1.1: the first keep-alive tells the client that the subscription works.
    number = plant.subscribe(interval_ms=100)
    reply = plant.publish()
    plant.pass_ms(90)
    assert reply.open
    plant.pass_ms(10)
    assert reply.result.SubscriptionId == number
    assert reply.message.NotificationData == []
    assert reply.message.SequenceNumber == 1
    assert reply.result.AvailableSequenceNumbers == []


def test_a_keep_alive_has_the_number_of_the_next_message(plant: Plant) -> None:
    # §5.14.1.1; it is not kept for Republish.
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=100, keep_alive=3)
    plant.monitor(number, node)
    assert plant.next(number).message.SequenceNumber == 1
    reply = plant.publish()
    plant.pass_ms(290)
    assert reply.open
    plant.pass_ms(10)
    assert reply.message.SequenceNumber == 2
    assert reply.message.NotificationData == []
    plant.write(node, 1.0)
    assert plant.next(number).message.SequenceNumber == 2


def test_the_number_after_the_last_is_one(plant: Plant) -> None:
    # §7.26: 0 is never used.
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node)
    plant.found(number).next_sequence = 2**32 - 1
    assert plant.next(number).message.SequenceNumber == 2**32 - 1
    plant.write(node, 1.0)
    assert plant.next(number).message.SequenceNumber == 1


def test_a_late_subscription_answers_the_next_request_at_once(plant: Plant) -> None:
    # Row 10 and 11 of the table in §5.14.1.2.
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=100, lifetime=100)
    plant.monitor(number, node)
    plant.pass_ms(300)
    assert plant.found(number).cycle.state is State.LATE
    assert plant.found(number).counts.late_publish_requests == 1
    assert plant.publish().values == [0.0]
    plant.pass_ms(300)
    assert plant.publish().message.NotificationData == []


def test_no_message_is_fuller_than_the_client_allows(plant: Plant) -> None:
    # §5.14.2.2 MaxNotificationsPerPublish, §5.14.5.2 MoreNotifications
    nodes = [plant.variable(f"v{i}", float(i)) for i in range(7)]
    number = plant.subscribe(most=3)
    plant.monitor(number, *nodes)
    replies = [plant.publish() for _ in range(2)]
    plant.pass_ms(100)
    assert [(reply.values, reply.result.MoreNotifications) for reply in replies] == [
        ([0.0, 1.0, 2.0], True),
        ([3.0, 4.0, 5.0], True),
    ]
    last = plant.publish()  # row 5: what is left goes at once
    assert (last.values, last.result.MoreNotifications) == ([6.0], False)


def test_no_message_is_fuller_than_the_server_allows() -> None:
    plant = Plant(notifications_per_publish=2)
    nodes = [plant.variable(f"v{i}", float(i)) for i in range(3)]
    number = plant.subscribe(most=0)
    plant.monitor(number, *nodes)
    assert plant.next(number).result.MoreNotifications


def test_a_client_that_takes_little_gets_it_in_pieces(plant: Plant) -> None:
    # §5.7.2.2 MaxResponseMessageSize: no message is lost to Bad_ResponseTooLarge.
    nodes = [plant.variable(f"v{i}", float(i)) for i in range(400)]
    number = plant.subscribe()
    plant.monitor(number, *nodes[:200])
    plant.monitor(number, *nodes[200:])
    replies = [FakeReply() for _ in range(3)]
    for reply in replies:
        reply.most_bytes = 8192
        plant.publish(reply=reply)
    plant.pass_ms(100)
    assert [reply.result.MoreNotifications for reply in replies] == [True, True, False]
    assert sum(len(reply.values) for reply in replies) == 400


def test_a_message_is_not_larger_than_it_has_to_be(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "MESSAGE_BYTES", 1000)
    node = plant.variable("image", b"", ua.VariantType.ByteString)
    number = plant.subscribe()
    plant.monitor(number, node, queue=10)
    plant.next(number)
    for letter in (b"a", b"b", b"c"):
        plant.write(node, letter * 600)
    sizes = [len(plant.next(number).values) for _ in range(2)]
    assert sizes == [2, 1]


def test_publishing_can_be_switched_off_without_losing_anything(plant: Plant) -> None:
    # §5.14.4: sampling goes on.
    node = plant.variable("speed")
    number = plant.subscribe(keep_alive=1, enabled=False)
    plant.monitor(number, node)
    assert plant.next(number).message.NotificationData == []
    params = ua.SetPublishingModeParameters(True, [number, 77])
    results = plant.service.set_publishing(plant.session, params).Parameters.Results
    assert [r.value for r in results] == [0, CODES.BadSubscriptionIdInvalid]
    assert plant.next(number).values == [0.0]
    plant.service.set_publishing(plant.session, ua.SetPublishingModeParameters(False, [number]))
    counts = plant.found(number).counts
    assert (counts.enable, counts.disable) == (1, 1)


def answered(plant: Plant, number_of_replies: int, within_ms: int = 100) -> list[int]:
    replies = [plant.publish() for _ in range(number_of_replies)]
    plant.pass_ms(within_ms)
    return [reply.result.SubscriptionId for reply in replies if not reply.open]


def test_the_higher_priority_is_served_first(plant: Plant) -> None:
    # §5.14.1.1, §5.14.2.2 Priority
    low, high, middle = (plant.subscribe(priority=p, lifetime=100) for p in (1, 9, 5))
    plant.pass_ms(200)
    assert answered(plant, 3) == [high, middle, low]


def test_equals_take_turns(plant: Plant) -> None:
    # §5.14.1.1: round robin.
    nodes = [plant.variable(f"v{i}") for i in range(3)]
    ids = [plant.subscribe(most=1, lifetime=100) for _ in range(3)]
    for number in ids:
        plant.monitor(number, *nodes)
    assert answered(plant, 9) == ids * 3
    assert answered(plant, 2) == []


def test_too_many_requests_send_the_oldest_home() -> None:
    # §5.14.5.1: the oldest is de-queued and answered with Bad_TooManyPublishRequests.
    plant = Plant(publish_requests=3)
    plant.subscribe()
    replies = [plant.publish() for _ in range(5)]
    assert [reply.faults for reply in replies] == [[CODES.BadTooManyPublishRequests]] * 2 + [[]] * 3
    assert plant.service.publish_requests(plant.session) == 3


def test_there_are_always_more_places_than_subscriptions() -> None:
    # §5.14.5.1: "a Server shall accept more queued Publish requests than created Subscriptions".
    plant = Plant(publish_requests=1)
    for _ in range(4):
        plant.subscribe()
    replies = [plant.publish() for _ in range(5)]
    assert all(reply.open for reply in replies)


def test_a_request_ends_with_its_timeout_hint(plant: Plant) -> None:
    # §7.33 TimeoutHint: nobody waits for it any more, so no notification is wasted on it.
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=100)
    plant.monitor(number, node)
    short = plant.publish(reply=FakeReply(until_s=plant.clock.monotonic_s() + 0.05))
    long = plant.publish()
    plant.pass_ms(100)
    assert short.faults == [CODES.BadTimeout]
    assert long.values == [0.0]


def test_requests_are_cancelled_by_their_handle(plant: Plant) -> None:
    # §5.7.5
    plant.subscribe()
    replies = [plant.publish(reply=FakeReply(handle)) for handle in (5, 6, 5)]
    assert plant.service.cancel(plant.session, 5) == 2
    assert plant.service.cancel(plant.session, 5) == 0
    assert plant.service.cancel(FakeSession("other"), 6) == 0
    assert [reply.faults for reply in replies] == [
        [CODES.BadRequestCancelledByClient],
        [],
        [CODES.BadRequestCancelledByClient],
    ]


def test_requests_of_a_lost_connection_take_no_message(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe(lifetime=100)
    plant.monitor(number, node)
    void = plant.publish()
    plant.service.drop_requests(plant.session)
    plant.service.drop_requests(FakeSession("other"))
    plant.pass_ms(200)
    assert void.open
    assert plant.publish().values == [0.0]


# --- acknowledgements, Republish (§5.14.5, §5.14.6) -----------------------------------------------------


def test_messages_stay_until_they_are_acknowledged(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node)
    plant.next(number)
    plant.write(node, 1.0)
    second = plant.next(number)
    assert second.result.AvailableSequenceNumbers == [1, 2]
    for _ in range(2):  # not popped by the first Republish
        assert changes(plant.republish(number, 2)) == second.changes
    reply = plant.publish(acks=[(number, 2), (number, 2), (77, 1)])
    plant.write(node, 2.0)
    plant.pass_ms(100)
    assert [r.value for r in reply.result.Results] == [
        0,
        CODES.BadSequenceNumberUnknown,
        CODES.BadSubscriptionIdInvalid,
    ]
    assert reply.result.AvailableSequenceNumbers == [1, 3]
    with fails(CODES.BadMessageNotAvailable):
        plant.service.republish(plant.session, ua.RepublishParameters(number, 2))
    with fails(CODES.BadSubscriptionIdInvalid):
        plant.service.republish(plant.session, ua.RepublishParameters(77, 1))
    counts = plant.found(number).counts
    assert (counts.republish_requests, counts.republish_messages) == (3, 2)


def test_the_oldest_message_gives_way_when_too_many_are_kept() -> None:
    # §5.14.1.1: the retransmission queue has a bound.
    plant = Plant(retransmission=2)
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node)
    for value in (1.0, 2.0, 3.0):
        plant.write(node, value)
        reply = plant.next(number)
    assert reply.result.AvailableSequenceNumbers == [2, 3]
    assert plant.found(number).counts.discarded_messages == 1


# --- lifetime (§5.14.1.1) -------------------------------------------------------------------------------


def test_a_subscription_whose_client_is_silent_ends_and_its_session_is_told(plant: Plant) -> None:
    # §5.14.1.1, row 27: StatusChangeNotification with Bad_Timeout, with the next request of the session.
    node = plant.variable("speed")
    number = plant.subscribe(interval_ms=100, keep_alive=1, lifetime=3)
    plant.monitor(number, node)
    plant.pass_ms(300)
    assert number not in plant.service.subscriptions
    assert not plant.slot(node).datachange_callbacks
    assert plant.service.monitoring.count == 0
    reply = plant.publish()
    assert reply.result.SubscriptionId == number
    assert status_changes(reply.message) == [CODES.BadTimeout]
    with fails(CODES.BadNoSubscription):
        plant.publish()


def test_a_subscription_lives_as_long_as_its_client_asks(plant: Plant) -> None:
    number = plant.subscribe(interval_ms=100, keep_alive=1, lifetime=3)
    for _ in range(20):
        plant.pass_ms(150)
        plant.publish()
    assert number in plant.service.subscriptions


# --- transfer (§5.14.7) and the end of sessions (§5.7.4) ------------------------------------------------


def transfer(plant: Plant, session: FakeSession, *numbers: int, initial: bool = False) -> list[Any]:
    params = ua.TransferSubscriptionsParameters(list(numbers), initial)
    return list(plant.service.transfer(session, params).Parameters.Results)


def test_a_subscription_is_taken_over_and_goes_on(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node)
    plant.next(number)
    waiting = plant.publish()
    new = FakeSession("new")
    (moved,) = transfer(plant, new, number)
    assert moved.StatusCode.is_good()
    assert moved.AvailableSequenceNumbers == [1]
    # The old session is told, with a request that waits already.
    assert status_changes(waiting.message) == [CODES.GoodSubscriptionTransferred]
    with fails(CODES.BadSubscriptionIdInvalid):
        plant.service.republish(plant.session, ua.RepublishParameters(number, 1))
    with fails(CODES.BadNoSubscription):
        plant.publish()
    plant.write(node, 4.0)
    reply = plant.publish(new, acks=[(number, 1)])
    plant.pass_ms(100)
    assert reply.values == [4.0]
    assert [r.value for r in reply.result.Results] == [0]
    assert reply.message.SequenceNumber == 2  # no gap
    assert changes(plant.republish(number, 2, new)) == reply.changes


def test_an_old_session_without_a_waiting_request_is_told_with_its_next(plant: Plant) -> None:
    number = plant.subscribe()
    transfer(plant, FakeSession("new"), number)
    assert status_changes(plant.publish().message) == [CODES.GoodSubscriptionTransferred]


@pytest.mark.parametrize(("initial", "values"), [(True, [7.0]), (False, [])])
def test_initial_values_are_sent_if_they_were_asked_for(
    plant: Plant, *, initial: bool, values: list[float]
) -> None:
    # §5.14.7.2 SendInitialValues: reporting items only.
    node, quiet = plant.variable("speed", 7.0), plant.variable("quiet")
    number = plant.subscribe(keep_alive=1)
    plant.monitor(number, node)
    plant.monitor(number, quiet, mode=SAMPLING)
    plant.next(number)
    new = FakeSession("new")
    transfer(plant, new, number, initial=initial)
    reply = plant.publish(new)
    plant.pass_ms(100)
    assert reply.values == values


def test_who_may_not_take_over_is_told_why(plant: Plant) -> None:
    # §5.14.7.3, §5.14.7.4
    number = plant.subscribe()
    codes = [r.StatusCode.value for r in transfer(plant, FakeSession("thief", user="thief"), number, 77)]
    assert codes == [CODES.BadUserAccessDenied, CODES.BadSubscriptionIdInvalid]
    assert [r.StatusCode.value for r in transfer(plant, plant.session, number)] == [CODES.BadNothingToDo]
    assert plant.found(number).session_id == plant.session.session_id


def test_a_transfer_does_not_exceed_what_a_session_may_have() -> None:
    plant = Plant(subscriptions_per_session=1)
    number = plant.subscribe()
    new = FakeSession("new")
    plant.subscribe(new)
    (refused,) = transfer(plant, new, number)
    assert refused.StatusCode.value == CODES.BadTooManySubscriptions


def test_subscriptions_wait_for_the_next_session_of_their_client(plant: Plant) -> None:
    # §5.7.4 DeleteSubscriptions = FALSE: they live on, sample on, and can be taken over.
    node = plant.variable("speed")
    number = plant.subscribe(lifetime=100)
    plant.monitor(number, node)
    plant.next(number)
    waiting = plant.publish()
    plant.service.leave(plant.session, delete=False)
    assert waiting.faults == [CODES.BadSessionClosed]
    assert plant.found(number).session_id == ua.NodeId()
    plant.write(node, 5.0)
    plant.pass_ms(500)
    new = FakeSession("new")
    (moved,) = transfer(plant, new, number)
    assert moved.StatusCode.is_good()
    assert plant.publish(new).values == [5.0]


def test_nobody_comes_for_an_orphan_and_it_ends(plant: Plant) -> None:
    number = plant.subscribe(interval_ms=100, keep_alive=1, lifetime=3)
    plant.service.leave(plant.session, delete=False)
    plant.pass_ms(290)
    assert number in plant.service.subscriptions
    plant.pass_ms(10)
    assert number not in plant.service.subscriptions


def test_subscriptions_end_with_their_session(plant: Plant) -> None:
    # §5.7.4 DeleteSubscriptions = TRUE.
    number = plant.subscribe()
    plant.monitor(number, plant.variable("speed"))
    other = plant.subscribe(FakeSession("other"))
    plant.service.leave(plant.session, delete=True)
    plant.service.leave(plant.session, delete=True)
    assert list(plant.service.subscriptions) == [other]
    assert plant.service.monitoring.count == 0


# --- methods of the Server object (Part 5 §9.1, §9.2) ---------------------------------------------------


async def called(plant: Plant, session: FakeSession, method: str, number: int) -> Any:
    set_caller(session)
    node = ua.NodeId(getattr(ua.ObjectIds, f"Server_{method}"))
    argument = ua.Variant(number, ua.VariantType.UInt32)
    return await plant.aspace[node].call(ua.NodeId(ua.ObjectIds.Server), argument)


@pytest.fixture
def bound(plant: Plant) -> Plant:
    for name in (
        "Server_GetMonitoredItems",
        "Server_ResendData",
        "ConditionType_ConditionRefresh",
        "ConditionType_ConditionRefresh2",
    ):
        plant.method(name)
    plant.service.bind_methods()
    return plant


async def test_a_client_that_lost_track_gets_its_items(bound: Plant) -> None:
    number = bound.subscribe()
    made = bound.monitor(number, bound.variable("a"), bound.variable("b"))
    server, client = await called(bound, bound.session, "GetMonitoredItems", number)
    assert server.Value == [each.MonitoredItemId for each in made]
    assert client.Value == [1, 2]
    empty = bound.subscribe()
    assert [found.Value for found in await called(bound, bound.session, "GetMonitoredItems", empty)] == [
        [],
        [],
    ]


async def test_a_client_gets_all_its_values_again(bound: Plant) -> None:
    # Part 5 §9.2: of the reporting items; what waits already is not doubled.
    a, b, c = (bound.variable(name) for name in "abc")
    number = bound.subscribe()
    bound.monitor(number, a, b)
    bound.monitor(number, c, handle=3, mode=SAMPLING)
    bound.next(number)
    bound.write(b, 1.0)
    assert await called(bound, bound.session, "ResendData", number) == []
    assert sorted(bound.next(number).changes) == [(1, 0.0, 0), (2, 1.0, 0)]


@pytest.mark.parametrize("method", ["GetMonitoredItems", "ResendData"])
async def test_a_foreign_subscription_keeps_its_secrets(bound: Plant, method: str) -> None:
    number = bound.subscribe()
    with fails(CODES.BadUserAccessDenied):
        await called(bound, FakeSession("thief"), method, number)
    with fails(CODES.BadSubscriptionIdInvalid):
        await called(bound, bound.session, method, 77)


# --- the timer ------------------------------------------------------------------------------------------


async def test_one_task_serves_all_subscriptions_and_sleeps_between_them(plant: Plant) -> None:
    node = plant.variable("speed")
    slow = plant.subscribe(interval_ms=3_600_000)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(plant.service.run())
        await plant.clock.advance(0)
        numbers = [plant.subscribe(interval_ms=100, lifetime=1000) for _ in range(20)]
        for number in numbers:
            plant.monitor(number, node, mode=REPORTING)
        replies = [plant.publish() for _ in numbers]
        await plant.clock.advance(0.1)
        assert sorted(reply.result.SubscriptionId for reply in replies) == sorted(numbers)
        assert plant.clock.sleepers == 2
        plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters(numbers))
        assert len(plant.service._schedule._heap) <= 2
        await plant.clock.advance(3600)
        assert plant.found(slow).cycle.state is State.LATE
        running.cancel()
    assert plant.clock.sleepers == 0


def test_a_fault_in_one_session_stops_neither_the_clock_nor_the_others(plant: Plant) -> None:
    class Broken(FakeReply):
        def send_bytes(self, type_id: bytes, body: bytes) -> None:
            raise ValueError("a bug in a codec")

    broken, other = plant.subscribe(), FakeSession("other")
    plant.subscribe(other)
    plant.publish(reply=Broken())
    fine = plant.publish(other)
    with capture_logs() as logs:
        plant.pass_ms(100)
    assert [line["event"] for line in logs] == ["schedule.failed"]
    assert not fine.open
    assert broken in plant.service.subscriptions
    assert not plant.publish(reply=FakeReply()).faults


def test_what_was_missed_is_not_made_up_for(plant: Plant) -> None:
    number = plant.subscribe(interval_ms=100, lifetime=100)
    plant.clock.step(5.0)  # the process stood still
    plant.service.work()
    plant.service.work()
    assert plant.found(number).cycle.unattended == 1
