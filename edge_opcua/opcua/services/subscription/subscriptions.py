"""The Subscription service set (Part 4 §5.14): creates and ends them, and publishes for all of them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.event.encoded import alike
from edge_opcua.opcua.services.event.propagation import Notifiers
from edge_opcua.opcua.services.service import Caller, Reply, Service
from edge_opcua.opcua.services.shares import Shares, crowded
from edge_opcua.opcua.services.slices import SLICE, Encoded, answer, begin
from edge_opcua.opcua.services.subscription.conditions import Conditions
from edge_opcua.opcua.services.subscription.dataitems import Reader
from edge_opcua.opcua.services.subscription.line import Line, Waiting, turn
from edge_opcua.opcua.services.subscription.messages import acknowledgements
from edge_opcua.opcua.services.subscription.monitoring import Monitoring
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.schedule import Schedule, safely
from edge_opcua.opcua.services.subscription.servermethods import ServerMethods
from edge_opcua.opcua.services.subscription.subscription import Act, Cycle, State, Subscription

DEFAULT_PUBLISHING_MS: Final = 1000.0
_NOBODY: Final = ua.NodeId()

_log = structlog.get_logger(__name__)


class Subscriptions:
    """All subscriptions of the server.

    Args:
        aspace: The address space.
        reader: Reads attributes for a session.
        access: Who may do what.
        limits: How much a client may take.
        clock: For intervals and stamps.

    Attributes:
        subscriptions: By SubscriptionId.
        created: How many there ever were (CumulatedSubscriptionCount).
        monitoring: The monitored items.
        sampling: Their sampling groups.
        notifiers: Where events are seen.
        conditions: What ConditionRefresh repeats.
    """

    def __init__(
        self, aspace: Nodes, reader: Reader, access: Access, limits: ServerLimits, clock: Clock
    ) -> None:
        self.subscriptions: dict[int, Subscription] = {}
        self.created = 0
        self._aspace = aspace
        self._limits = limits
        self._clock = clock
        self._schedule = Schedule(clock, self._settle)
        self._kept = Shares(limits.retransmission_bytes)
        self.sampling = Sampling(self._schedule, limits)
        self.monitoring = Monitoring(aspace, reader, access, self.sampling, self.own, limits, clock)
        self.notifiers = Notifiers(aspace)
        self.conditions = Conditions(
            aspace,
            self.subscriptions.get,
            self.monitoring.may_receive,
            self.monitoring.overflow_event,
            clock,
        )
        self._lines: dict[ua.NodeId, Line] = {}
        self._due: list[Subscription] = []
        self._turns = 0

    @property
    def polled(self) -> set[ua.NodeId]:
        """Nodes whose value nobody tells: it is read at each sample."""
        return self.monitoring.data.polled

    def services(self) -> Mapping[str, Service]:
        """The services of both sets."""
        most = self._limits.operations.subscriptions
        ids = ("SubscriptionIds",)
        return {
            "CreateSubscription": Service(ua.CreateSubscriptionParameters, self.create),
            "ModifySubscription": Service(ua.ModifySubscriptionParameters, self.modify),
            "SetPublishingMode": Service(ua.SetPublishingModeParameters, self.set_publishing, ids, most),
            "Publish": Service(
                ua.PublishParameters,
                self.publish,
                ("SubscriptionAcknowledgements",),
                self._limits.operations.acknowledgements,
                later=True,
                optional=True,
                raw=self.publish_bytes,
            ),
            "Republish": Service(ua.RepublishParameters, self.republish),
            "TransferSubscriptions": Service(
                ua.TransferSubscriptionsParameters, self.transfer, ids, most, changes=True
            ),
            "DeleteSubscriptions": Service(ua.DeleteSubscriptionsParameters, self.delete, ids, most),
            **self.monitoring.services(),
        }

    async def run(self) -> None:
        """Publish and sample until cancelled."""
        await self._schedule.run()

    def work(self) -> None:
        """Do what is due now."""
        self._schedule.work()

    def before_publishing(self, refresh: Callable[[], None]) -> None:
        """Call something before each time that subscriptions are due: what is new then goes out at once."""
        self._schedule.before = refresh

    def own(self, session: Caller, number: int) -> Subscription:
        """Return a session's own subscription; naming it shows that the client lives.

        Raises:
            ServiceError: BadSubscriptionIdInvalid: there is none, or it is somebody else's.
        """
        found = self.subscriptions.get(number)
        if found is None or found.session_id != session.session_id:
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)
        found.cycle.touch()
        return found

    # --- create, modify, delete ----------------------------------------------------------------------

    def create(
        self, session: Caller, params: ua.CreateSubscriptionParameters
    ) -> ua.CreateSubscriptionResponse:
        """CreateSubscription (§5.14.2)."""
        line = self._line(session)
        self._check_room(line)
        interval_ms, lifetime, keep_alive = self._revise(params)
        cycle = Cycle(keep_alive, lifetime, enabled=bool(params.PublishingEnabled))
        made = Subscription(
            self._number(),
            session,
            interval_ms,
            cycle,
            retransmission=self._limits.retransmission,
            kept=self._kept,
        )
        self._set_share(made, params)
        self._enter(made, line)
        self.subscriptions[made.number] = made
        self.created += 1
        made.ticket = self._schedule.every(interval_ms / 1000, partial(self._due.append, made))
        response = ua.CreateSubscriptionResponse()
        result = response.Parameters
        result.SubscriptionId = made.number
        result.RevisedPublishingInterval = interval_ms
        result.RevisedLifetimeCount = lifetime
        result.RevisedMaxKeepAliveCount = keep_alive
        return response

    def modify(
        self, session: Caller, params: ua.ModifySubscriptionParameters
    ) -> ua.ModifySubscriptionResponse:
        """ModifySubscription (§5.14.3)."""
        found = self.own(session, params.SubscriptionId)
        interval_ms, lifetime, keep_alive = self._revise(params)
        found.cycle.keep_alive_count = keep_alive
        found.cycle.lifetime_count = lifetime
        self._set_share(found, params)
        if interval_ms != found.interval_ms and found.ticket is not None:
            found.interval_ms = interval_ms
            found.ticket = self._schedule.restart(found.ticket, interval_ms / 1000)
        found.counts.modify += 1
        response = ua.ModifySubscriptionResponse()
        result = response.Parameters
        result.RevisedPublishingInterval = interval_ms
        result.RevisedLifetimeCount = lifetime
        result.RevisedMaxKeepAliveCount = keep_alive
        return response

    def set_publishing(
        self, session: Caller, params: ua.SetPublishingModeParameters
    ) -> ua.SetPublishingModeResponse:
        """SetPublishingMode (§5.14.4)."""
        results = []
        for number in params.SubscriptionIds:
            found = self._owned(session, number)
            if found is not None:
                enabled = bool(params.PublishingEnabled)
                found.cycle.set_enabled(enabled=enabled)
                found.counts.enable += enabled
                found.counts.disable += not enabled
                self._note(found)
            results.append(_good_or_no_subscription(found))
        response = ua.SetPublishingModeResponse()
        response.Parameters.Results = results
        return response

    def delete(
        self, session: Caller, params: ua.DeleteSubscriptionsParameters
    ) -> ua.DeleteSubscriptionsResponse:
        """DeleteSubscriptions (§5.14.8)."""
        results = []
        for number in params.SubscriptionIds:
            found = self._owned(session, number)
            if found is not None:
                self._end(found)
            results.append(_good_or_no_subscription(found))
        self._send_home_if_idle(self._line(session))
        response = ua.DeleteSubscriptionsResponse()
        response.Results = results
        return response

    def _check_room(self, line: Line) -> None:
        own = len(line.subscriptions)
        if own >= self._limits.subscriptions_per_session or crowded(
            self._limits.subscriptions, len(self.subscriptions), own
        ):
            raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)

    def _number(self) -> int:
        """Return an id nobody can foresee.

        A client that uses its old id after our restart (open62541 #5687) must not meet somebody else's.
        """
        while True:
            number = secrets.randbits(32)
            if number and number not in self.subscriptions:
                return number

    def _revise(self, asked: Any) -> tuple[float, int, int]:
        """Return publishing interval, lifetime count and keep-alive count as they will be.

        Part 4 §5.14.2.2: the lifetime is at least three times the keep-alive. Both together with the interval
        say how long a subscription that nobody wants any more may stay; that has a limit, too.
        """
        limits = self._limits
        interval_ms = float(asked.RequestedPublishingInterval)
        if not math.isfinite(interval_ms):
            interval_ms = DEFAULT_PUBLISHING_MS
        interval_ms = min(max(interval_ms, limits.min_publishing_ms), limits.max_publishing_ms)
        most = max(3, int(limits.subscription_lifetime_s * 1000 / interval_ms))
        keep_alive = min(max(asked.RequestedMaxKeepAliveCount, 1), most // 3)
        lifetime = min(max(asked.RequestedLifetimeCount, 3 * keep_alive), most)
        return interval_ms, lifetime, keep_alive

    def _set_share(self, subscription: Subscription, asked: Any) -> None:
        """Set how much of the line a subscription gets."""
        most = self._limits.notifications_per_publish
        subscription.requested_max_notifications = asked.MaxNotificationsPerPublish
        subscription.max_notifications = min(asked.MaxNotificationsPerPublish or most, most)
        subscription.priority = asked.Priority

    def _enter(self, subscription: Subscription, line: Line) -> None:
        line.subscriptions[subscription.number] = subscription
        self._note(subscription)

    def _end(self, subscription: Subscription) -> None:
        """Forget a subscription and its items."""
        self.monitoring.drop_all(subscription)
        subscription.forget_sent()
        if subscription.ticket is not None:
            self._schedule.cancel(subscription.ticket)
            subscription.ticket = None
        self._leave_line(subscription)
        self.subscriptions.pop(subscription.number, None)

    def _leave_line(self, subscription: Subscription) -> None:
        line = self._lines.get(subscription.session_id)
        if line is not None:
            line.subscriptions.pop(subscription.number, None)
            line.waiting.pop(subscription, None)

    # --- publish (§5.14.5) ---------------------------------------------------------------------------

    def publish(self, session: Caller, params: ua.PublishParameters, reply: Reply) -> None:
        """Publish: acknowledge, and wait for something to say."""
        given = params.SubscriptionAcknowledgements or ()
        self._publish(session, ((ack.SubscriptionId, ack.SequenceNumber) for ack in given), reply)

    def publish_bytes(self, session: Caller, whole: bytes, at: int, reply: Reply) -> bool:
        """Publish from the bytes of a request; returns False if something is wrong with them."""
        limits = self._limits
        most = min(limits.operations.acknowledgements or limits.array_length, limits.array_length)
        given = acknowledgements(whole, at, most)
        if given is None:
            return False
        self._publish(session, given, reply)
        return True

    def _publish(self, session: Caller, given: Iterable[tuple[int, int]], reply: Reply) -> None:
        line = self._lines.get(session.session_id)
        if line is None or not line.useful:
            raise ServiceError(ua.StatusCodes.BadNoSubscription)
        results = [self._acknowledge(session, number, sequence) for number, sequence in given]
        line.purge(self._clock.monotonic_s())
        line.enter(Waiting(reply, results))
        line.tell()
        self._attend(line)
        self._send_home_if_idle(line)

    def _acknowledge(self, session: Caller, number: int, sequence: int) -> int:
        found = self._owned(session, number)
        if found is None:
            return int(ua.StatusCodes.BadSubscriptionIdInvalid)
        return found.acknowledge(sequence)

    def _attend(self, line: Line) -> None:
        """Give waiting requests to the subscriptions that wait for them."""
        while len(line) and line.waiting:
            subscription = line.next_waiting()
            act = subscription.cycle.request(available=bool(subscription.pending))
            self._act(line, subscription, act)

    def _settle(self) -> None:
        """Take the expired publishing timers, per session and there in the order of priority."""
        due = tuple(self._due)
        self._due.clear()
        by_session: dict[ua.NodeId, list[Subscription]] = {}
        for subscription in due:
            if subscription.ticket is not None:
                by_session.setdefault(subscription.session_id, []).append(subscription)
        for session_id, members in by_session.items():
            safely(partial(self._settle_session, self._lines.get(session_id), members))

    def _settle_session(self, line: Line | None, members: list[Subscription]) -> None:
        if line is None:
            for orphan in members:
                self._step(None, orphan)
            return
        line.purge(self._clock.monotonic_s())
        if len(members) > 1:
            members.sort(key=turn)
        priority = members[0].priority
        for subscription in members:
            if subscription.priority != priority:
                priority = subscription.priority
                self._attend(line)
            self._step(line, subscription)
        self._attend(line)

    def _step(self, line: Line | None, subscription: Subscription) -> None:
        cycle = subscription.cycle
        before = cycle.state
        act = cycle.expire(requested=line is not None and len(line) > 0, available=bool(subscription.pending))
        if cycle.state is State.LATE and before is not State.LATE:
            subscription.counts.late_publish_requests += 1
        if act is Act.CLOSE:
            self._expire(line, subscription)
        elif line is not None:
            self._act(line, subscription, act)

    def _act(self, line: Line, subscription: Subscription, act: Act) -> None:
        if act in (Act.NOTIFY, Act.KEEP_ALIVE):
            self._turns += 1
            subscription.served = self._turns
            subscription.counts.publish_requests += 1
            now_ns = self._clock.utc_ns()
            request = line.take()
            if act is Act.NOTIFY:
                message = subscription.notify(now_ns, request.room())
            else:
                message = subscription.keep_alive(now_ns)
            more = subscription.cycle.enabled and subscription.cycle.more
            request.answer(subscription.number, message, subscription.sequence_numbers, more=more)
        self._note(subscription)

    def _note(self, subscription: Subscription) -> None:
        """Enter or leave the subscriptions for which the next request is."""
        line = self._lines.get(subscription.session_id)
        if line is None:
            return
        if subscription.cycle.waits:
            line.waiting[subscription] = None
        else:
            line.waiting.pop(subscription, None)

    def _expire(self, line: Line | None, subscription: Subscription) -> None:
        """End a subscription whose client was silent too long (row 27); its session is told."""
        _log.info("subscription.expired", subscription=subscription.number, client=subscription.owner.who)
        self._end(subscription)
        if line is not None:
            message = subscription.status_change(ua.StatusCodes.BadTimeout, self._clock.utc_ns())
            line.say_farewell(subscription.number, message)

    def _send_home_if_idle(self, line: Line) -> None:
        """Part 4 §5.14.5.1: without a subscription there is nothing to wait for."""
        if not line.useful:
            line.send_home(ua.StatusCodes.BadNoSubscription)

    def republish(self, session: Caller, params: ua.RepublishParameters) -> Encoded:
        """Republish (§5.14.6)."""
        found = self.own(session, params.SubscriptionId)
        found.counts.republish_requests += 1
        found.counts.republish_message_requests += 1
        message = found.republish(params.RetransmitSequenceNumber)
        if message is None:
            raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)
        found.counts.republish_messages += 1
        return Encoded(ua.RepublishResponse(), message)

    # --- sessions ------------------------------------------------------------------------------------

    def transfer(self, session: Caller, params: ua.TransferSubscriptionsParameters) -> Any:
        """TransferSubscriptions (§5.14.7)."""
        return begin(self._transfer_all(session, params))

    def _transfer_all(
        self, session: Caller, params: ua.TransferSubscriptionsParameters
    ) -> Generator[None, None, Any]:
        results = [self._transfer(session, number) for number in params.SubscriptionIds]
        moved = zip(params.SubscriptionIds, results, strict=True)
        for number, result in moved if params.SendInitialValues else ():
            if result.StatusCode.is_good():
                yield from self._resend(session, number)
        return (yield from answer(ua.TransferSubscriptionsResponse(), results, self._limits.response_bytes))

    def _transfer(self, session: Caller, number: int) -> ua.TransferResult:
        found = self.subscriptions.get(number)
        if found is None:
            return _no_transfer(ua.StatusCodes.BadSubscriptionIdInvalid)
        found.counts.transfer_requests += 1
        if found.session_id == session.session_id:
            return _no_transfer(ua.StatusCodes.BadNothingToDo)
        if not session.same_user(found.owner):
            return _no_transfer(ua.StatusCodes.BadUserAccessDenied)
        line = self._line(session)
        if len(line.subscriptions) >= self._limits.subscriptions_per_session:
            return _no_transfer(ua.StatusCodes.BadTooManySubscriptions)
        self._move(found, session, line)
        return ua.TransferResult(AvailableSequenceNumbers=found.sequence_numbers)

    def _move(self, subscription: Subscription, session: Caller, line: Line) -> None:
        before = self._lines.get(subscription.session_id)
        self._leave_line(subscription)
        subscription.counts.transferred_to_same_client += 1
        roles, subscription.owner = subscription.owner.roles, session
        subscription.session_id = session.session_id
        subscription.cycle.touch()
        self._enter(subscription, line)
        if not roles <= session.roles:  # his rights shrank while nobody was there
            self._take_back(subscription)
        if before is not None:
            # It takes no number: the new session sees no gap.
            number = subscription.next_sequence
            message = subscription.status_change(
                ua.StatusCodes.GoodSubscriptionTransferred, self._clock.utc_ns()
            )
            subscription.next_sequence = number
            before.say_farewell(subscription.number, message)
            self._send_home_if_idle(before)
        self._attend(line)

    def leave(self, session: Caller, *, delete: bool) -> None:
        """Take the end of a session: its subscriptions end with it, or wait for their next one."""
        line = self._lines.pop(session.session_id, None)
        if line is None:
            return
        line.send_home(ua.StatusCodes.BadSessionClosed)
        for subscription in tuple(line.subscriptions.values()):
            if delete:
                self._end(subscription)
            else:
                subscription.session_id = _NOBODY

    def rights_shrank(self, session: Caller) -> None:
        """Take back what waits for a session whose user may see less than before (Part 4 §5.7.3).

        What is queued, or kept for Republish, is not for him; values are read again with his rights.
        """
        for subscription in self.of_session(session):
            self._take_back(subscription)

    def _take_back(self, subscription: Subscription) -> None:
        subscription.forget_sent()
        subscription.look_again()
        if not subscription.pending:
            subscription.cycle.more = False
        self._note(subscription)

    def follow_nodes(self) -> None:
        """Let every item follow its node: nodes have come and gone, and tags lie elsewhere."""
        self.monitoring.following.follow(tuple(self.subscriptions.values()))

    def say_farewell(self) -> None:
        """Tell every client that its subscriptions end with the server, and answer what waits."""
        now_ns = self._clock.utc_ns()
        for line in self._lines.values():
            for subscription in line.subscriptions.values():
                message = subscription.status_change(ua.StatusCodes.BadShutdown, now_ns)
                line.say_farewell(subscription.number, message)
            line.send_home(ua.StatusCodes.BadShutdown)

    def drop_requests(self, session: Caller) -> None:
        """Forget the Publish requests of a session whose connection is gone."""
        line = self._lines.get(session.session_id)
        if line is not None:
            line.forget()

    def cancel(self, session: Caller, handle: int) -> int:
        """Cancel waiting Publish requests (Part 4 §5.7.5); returns how many."""
        line = self._lines.get(session.session_id)
        return line.cancel(handle) if line is not None else 0

    def publish_requests(self, session: Caller) -> int:
        """Return how many Publish requests of a session wait."""
        line = self._lines.get(session.session_id)
        return len(line) if line is not None else 0

    def of_session(self, session: Caller) -> Collection[Subscription]:
        """Return the subscriptions of a session."""
        line = self._lines.get(session.session_id)
        return tuple(line.subscriptions.values()) if line is not None else ()

    def _line(self, session: Caller) -> Line:
        line = self._lines.get(session.session_id)
        if line is None:
            line = self._lines[session.session_id] = Line(self._limits.publish_requests)
        return line

    def _owned(self, session: Caller, number: int) -> Subscription | None:
        try:
            return self.own(session, number)
        except ServiceError:
            return None

    def _resend(self, session: Caller, number: int) -> Generator[None, None, None]:
        """Queue the present values, as long as the subscription is still this session's."""
        items = tuple(self.subscriptions[number].items.values())
        for start in range(0, len(items), SLICE):
            if start:
                yield
            found = self.subscriptions.get(number)
            if found is None or found.session_id != session.session_id:
                return
            part = items[start : start + SLICE]
            self.monitoring.resend(item for item in part if found.items.get(item.number) is item)

    # --- methods, events, and what asyncua's own code calls ------------------------------------------

    def bind_methods(self) -> None:
        """Give the methods on subscriptions something to do, once the nodes are there."""
        self.conditions.bind_methods()
        ServerMethods(self._aspace, self.subscriptions, self._resend).bind()

    def deliver(self, events: Sequence[Any], notifiers: Sequence[ua.NodeId] | None = None) -> None:
        """Hand events, in their order, to every item that sees them, to each once.

        Args:
            events: asyncua's event objects with their stamps.
            notifiers: The nodes they are seen on; None: the emitting node of each and every notifier above it
                (Part 3 §7.17).
        """
        for run in alike(events):
            seen_on = self.notifiers.above(run[0].emitting_node) if notifiers is None else notifiers
            self.conditions.note(run, seen_on)
            self.monitoring.deliver(run, seen_on)

    async def trigger_event(self, event: Any, subscription_id: int | None = None) -> None:  # noqa: ARG002 - asyncua's generator
        """Deliver an event to its emitting node and every notifier above it."""
        self.deliver((event,))

    async def delete_subscriptions(self, ids: Sequence[int]) -> list[ua.StatusCode]:
        """End subscriptions: asyncua's internal session, which has none, calls it at its end."""
        found = [self.subscriptions.get(number) for number in ids]
        for subscription in found:
            if subscription is not None:
                self._end(subscription)
        return [_good_or_no_subscription(each) for each in found]


def _no_transfer(code: int) -> ua.TransferResult:
    return ua.TransferResult(StatusCode=ua.StatusCode(code))


def _good_or_no_subscription(found: Subscription | None) -> ua.StatusCode:
    return ua.StatusCode(0 if found is not None else ua.StatusCodes.BadSubscriptionIdInvalid)
