"""Values that the server sends by itself: one subscription, looked up like a cache; no task of its own.

Publish requests are on the way all the time; what they brought is taken up when somebody reads. A server
that says nothing for longer than its keep-alive is lost, as one is that does not answer a Read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import structlog
from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_bad
from edge_opcua.drivers.opcuaclient import content, messages
from edge_opcua.drivers.opcuaclient.address import Node, Space
from edge_opcua.drivers.opcuaclient.messages import Notices, ServiceRefusedError
from edge_opcua.drivers.opcuaclient.reasons import CONFUSED, refusal, status_text
from edge_opcua.drivers.opcuaclient.session import Session
from edge_opcua.drivers.reasons import CLOSED, SILENT
from edge_opcua.drivers.wire import Reading
from edge_opcua.errors import DeviceError, DeviceTimeoutError

_PUBLISHES: Final = 4  # on the way at once
_KEEP_ALIVE_S: Final = 0.5
_MOST_KEEP_ALIVE_S: Final = 1.0
_LIFETIME_S: Final = 60.0
_STEP: Final = 500  # items per request
_TOO_MANY_PUBLISHES: Final = ua.StatusCodes.BadTooManyPublishRequests
_MS: Final = 1000

_log = structlog.get_logger(__name__)


class Watch:
    """The subscription of one session.

    Args:
        session: An open session.
        periods_s: The values that may be watched, and how often each is wanted, seconds.
        timeout_s: How much later than its keep-alive a server may be, seconds.
        clock: Clock.
    """

    def __init__(
        self, session: Session, periods_s: Mapping[Space, float], timeout_s: float, clock: Clock
    ) -> None:
        self._session = session
        self._periods_s = periods_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._id = 0
        self._interval_s = min(periods_s.values(), default=1.0)
        self._silent_s = 0.0
        self._fit = False
        self._heard_ns = 0
        self._sequence = 0
        self._flying: deque[asyncio.Future[Any]] = deque()
        self._most_flying = _PUBLISHES
        self._acknowledge: list[int] = []
        self._handles: list[Space] = []
        self._readings: dict[Space, Reading] = {}
        self._asked: set[Space] = set()
        self._made: set[Space] = set()
        self._touched_ns: dict[Node, int] = {}

    async def begin(self) -> None:
        """Make the subscription.

        Raises:
            DeviceError: The server has none for us.
        """
        request = ua.CreateSubscriptionRequest()
        params = request.Parameters
        params.RequestedPublishingInterval = self._interval_s * _MS
        params.RequestedMaxKeepAliveCount = max(1, round(_KEEP_ALIVE_S / self._interval_s))
        slowest_s = max(self._periods_s.values(), default=1.0)
        params.RequestedLifetimeCount = max(
            3 * params.RequestedMaxKeepAliveCount,
            round(max(_LIFETIME_S, 3 * slowest_s) / self._interval_s),
        )
        params.MaxNotificationsPerPublish = 0
        params.PublishingEnabled = True
        try:
            made = (await self._session.call(request, ua.CreateSubscriptionResponse)).Parameters
        except ServiceRefusedError as exc:
            raise DeviceError(refusal(exc.status).of(self._session.where)) from exc
        self._id = made.SubscriptionId
        if not self._agreed(made):
            await self._insist(made)
        self._heard_ns = self._clock.monotonic_ns()
        self._publish()

    def _agreed(self, made: Any) -> bool:
        """Note what a server makes of the subscription; return whether its silence shows soon enough."""
        self._interval_s = made.RevisedPublishingInterval / _MS
        keep_alive_s = self._interval_s * made.RevisedMaxKeepAliveCount
        self._silent_s = 2 * keep_alive_s + self._timeout_s
        self._fit = (
            keep_alive_s <= max(_MOST_KEEP_ALIVE_S, self._interval_s) and self._interval_s < _LIFETIME_S
        )
        return self._fit

    async def _insist(self, made: Any) -> None:
        """Count keep-alives anew in the longer interval that a server has chosen, or watch nothing."""
        request = ua.ModifySubscriptionRequest()
        params = request.Parameters
        params.SubscriptionId = self._id
        params.RequestedPublishingInterval = made.RevisedPublishingInterval
        params.RequestedMaxKeepAliveCount = max(1, round(_KEEP_ALIVE_S / max(self._interval_s, 0.001)))
        params.RequestedLifetimeCount = made.RevisedLifetimeCount
        params.MaxNotificationsPerPublish = 0
        try:
            fit = self._agreed((await self._session.call(request, ua.ModifySubscriptionResponse)).Parameters)
        except ServiceRefusedError:
            fit = False
        if not fit:
            keep_alive_s = (self._silent_s - self._timeout_s) / 2
            _log.warning("driver.not_watched", device=self._session.name, keep_alive_s=keep_alive_s)

    def take(self) -> None:
        """Take up what was sent since the last time.

        Raises:
            DeviceError: The subscription ended, or a message of it is missing.
            DeviceTimeoutError: The server is silent for longer than it promised.
        """
        while self._flying and self._flying[0].done():
            future = self._flying.popleft()
            if future.cancelled() or future.exception() is not None:
                raise DeviceError(CLOSED.of(self._session.where))
            self._heard_ns = self._clock.monotonic_ns()
            try:
                self._note(messages.parse_publish(bytes(future.result())))
            except ServiceRefusedError as exc:
                if exc.status & 0xFFFF0000 != _TOO_MANY_PUBLISHES:
                    raise DeviceError(refusal(exc.status).of(self._session.where)) from exc
                self._most_flying = max(1, len(self._flying))
        silent_s = (self._clock.monotonic_ns() - self._heard_ns) / 1e9
        if silent_s > self._silent_s:
            late = replace(SILENT, sentence=f"sent no keep-alive for {silent_s:.1f} s")
            raise DeviceTimeoutError(late.of(self._session.where))
        self._publish()

    def _note(self, notices: Notices) -> None:
        if is_bad(notices.status):
            ended = replace(CONFUSED, sentence=f"ended the subscription ({status_text(notices.status)})")
            raise DeviceError(ended.of(self._session.where))
        if notices.empty:
            return
        wanted = self._sequence % 0xFFFFFFFF + 1  # Part 4 §5.14.1.1: behind the greatest comes 1
        if self._sequence and notices.sequence != wanted:
            sentence = f"skipped message {wanted} of the subscription ({notices.sequence} came)"
            raise DeviceError(replace(CONFUSED, sentence=sentence).of(self._session.where))
        self._sequence = notices.sequence
        self._acknowledge.append(notices.sequence)
        for handle, cell in notices.cells:
            if handle < len(self._handles):
                space = self._handles[handle]
                self._readings[space] = content.reading(cell, space)

    def _publish(self) -> None:
        channel = self._session.channel
        assert channel is not None
        while len(self._flying) < self._most_flying:
            body = messages.publish_body(self._id, self._acknowledge)
            self._acknowledge.clear()
            self._flying.append(channel.send(messages.PUBLISH, body, waits=True))

    def reading(self, space: Space) -> Reading | None:
        """Return the newest value, or None if it has to be read."""
        if self._touched_ns:
            until_ns = self._touched_ns.get(space.node)
            if until_ns is not None and self._clock.monotonic_ns() < until_ns:
                return None
            self._touched_ns.pop(space.node, None)
        return self._readings.get(space)

    def touch(self, node: Node) -> None:
        """Have a node read that was just written, until the server had time to send what it holds."""
        self._touched_ns[node] = self._clock.monotonic_ns() + int(1e9 * (3 * self._interval_s + 0.1))

    def end(self) -> None:
        """Forget what is on the way; the connection goes."""
        for future in self._flying:
            if future.done() and not future.cancelled():
                future.exception()  # of a broken channel: told once is enough
            future.cancel()
        self._flying.clear()

    async def follow(self, read: Mapping[Space, tuple[ua.NodeId, str]]) -> None:
        """Watch values from the second time on that they are read.

        Args:
            read: What was just read, and how each is asked for: NodeId and NumericRange.
        """
        if not self._fit:
            return
        fresh = [
            space
            for space in read
            if space in self._asked and space in self._periods_s and space not in self._made
        ]
        self._asked.update(read)
        self._made.update(fresh)
        for first in range(0, len(fresh), _STEP):
            await self._create({space: read[space] for space in fresh[first : first + _STEP]})

    async def _create(self, wanted: Mapping[Space, tuple[ua.NodeId, str]]) -> None:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = self._id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
        for space, (node, part) in wanted.items():
            item = ua.MonitoredItemCreateRequest()
            item.ItemToMonitor = ua.ReadValueId(node, ua.AttributeIds.Value, part or None)
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle = len(self._handles)
            item.RequestedParameters.SamplingInterval = self._periods_s[space] * _MS
            item.RequestedParameters.QueueSize = 1
            item.RequestedParameters.DiscardOldest = True
            request.Parameters.ItemsToCreate.append(item)
            self._handles.append(space)
        try:
            results = (await self._session.call(request, ua.CreateMonitoredItemsResponse)).Results
        except ServiceRefusedError as exc:
            self._say_unwatched(len(wanted), exc.status)
            return
        refused = [status for each in results if is_bad(status := int(each.StatusCode.value))]
        if refused:
            self._say_unwatched(len(refused), refused[0])

    def _say_unwatched(self, count: int, status: int) -> None:
        """Say that some values go on being read."""
        _log.warning("driver.not_watched", device=self._session.name, count=count, status=status_text(status))
