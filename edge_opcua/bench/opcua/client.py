"""The benchmarks' client: it counts and checks, and costs so little that it is never what is measured.

It is no product: it trusts whom it is told to, knows the services that are measured, reconnects never, and
reads only the types it asked for. Its own capacity is measured with each run (:mod:`.capacity`).
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary

from edge_opcua.bench.opcua.answers import Event, Published, head, published
from edge_opcua.bench.opcua.channel import Channel, LoadError, Secured
from edge_opcua.bench.opcua.wire import Columns, Decoder
from edge_opcua.core.values import Scalar

ITEMS_PER_CALL: Final = 1000
OUTSTANDING: Final = 8
SESSION_MS: Final = 600_000.0
READ: Final = ua.ObjectIds.ReadRequest_Encoding_DefaultBinary
PUBLISH: Final = ua.ObjectIds.PublishRequest_Encoding_DefaultBinary
EVENT_FIELDS: Final = ("EventId", "EventType", "SourceName", "Time", "Message", "Severity")
MESSAGE_FIELD: Final = EVENT_FIELDS.index("Message")
_NO_SESSION: Final = frozenset(
    {0x80250000, 0x80260000, 0x80790000, 0x80780000}
)  # also: no subscription, too many

_T = TypeVar("_T")
_EPOCH_TICKS: Final = 116_444_736_000_000_000
_TIMEOUT_MS: Final = 30_000


class LoadClient:
    """One session.

    Args:
        url: Endpoint of the server.
        secured: Certificates for SignAndEncrypt; None for security None.
        decoder: Shared by clients that receive the same.

    Attributes:
        on_values: Gets the records of each data change, when it is decoded.
        on_events: Gets the message and its events.
        messages: Messages with notifications.
    """

    def __init__(self, url: str, secured: Secured | None = None, decoder: Decoder | None = None) -> None:
        self.decoder = decoder or Decoder()
        self.messages = 0
        self.on_values: Callable[[Columns], None] = _ignored
        self.on_events: Callable[[bytes, Sequence[Event]], None] = _ignored_events
        self.channel = Channel(url, secured)
        self._token = ua.NodeId()
        self._heads: dict[int, bytes] = {}
        self._acks: list[tuple[int, int]] = []
        self._publishing = False
        self._handle = 0
        try:
            self._begin_session(secured)
        except BaseException:
            self.channel.close()
            raise

    def close(self) -> None:
        """End the session and its subscriptions, then the connection."""
        self._publishing = False
        request = ua.CloseSessionRequest()
        request.DeleteSubscriptions = True
        try:
            self.call(request, ua.CloseSessionResponse)
        finally:
            self.channel.close()

    # --- services ------------------------------------------------------------------------------------

    def call(self, request: Any, answer: type[_T]) -> _T:
        """Send a request in this session and wait for its answer."""
        request.RequestHeader.AuthenticationToken = self._token
        request.RequestHeader.TimeoutHint = ua.UInt32(_TIMEOUT_MS)
        return self.channel.call(request, answer)

    def request(self, type_id: int, body: bytes) -> bytes:
        """Return the bytes of a request with this session's header, which is made by hand."""
        start = self._heads.get(type_id)
        if start is None:
            start = nodeid_to_binary(ua.NodeId(type_id)) + nodeid_to_binary(self._token)
            self._heads[type_id] = start
        self._handle = self._handle % 0xFFFF_FFFF + 1
        now = time.time_ns() // 100 + _EPOCH_TICKS
        return start + struct.pack("<qIIiI3s", now, self._handle, 0, -1, _TIMEOUT_MS, b"\0\0\0") + body

    def subscribe(self, interval_ms: float, *, keep_alive: int = 100) -> Any:
        """Make a subscription and return what the server says of it."""
        request = ua.CreateSubscriptionRequest()
        given = request.Parameters
        given.RequestedPublishingInterval = interval_ms
        given.RequestedMaxKeepAliveCount = ua.UInt32(keep_alive)
        given.RequestedLifetimeCount = ua.UInt32(10_000 + 10 * keep_alive)
        given.MaxNotificationsPerPublish = ua.UInt32(0)
        given.PublishingEnabled = True
        return self.call(request, ua.CreateSubscriptionResponse).Parameters

    def monitor(
        self,
        subscription: int,
        nodes: Sequence[ua.NodeId],
        *,
        queue: int,
        sampling_ms: float = 0.0,
        deadband: float | None = None,
        kinds: Sequence[Scalar] = (),
    ) -> list[Any]:
        """Make an item of each node's value; its handle is its number. Returns the results.

        Args:
            subscription: Id of the subscription.
            nodes: What to monitor.
            queue: Size of each item's queue.
            sampling_ms: Sampling interval, ms.
            deadband: Absolute deadband of the items; None for no filter.
            kinds: Type of each, if known: a Boolean gets no deadband.
        """
        found: list[Any] = []
        for first in range(0, len(nodes), ITEMS_PER_CALL):
            part = enumerate(nodes[first : first + ITEMS_PER_CALL], first)
            items = [
                _item(node, handle, queue, sampling_ms, _filter(deadband, kinds[handle] if kinds else None))
                for handle, node in part
            ]
            found += self._create(subscription, items)
        return found

    def monitor_events(self, subscription: int, node: ua.NodeId, queue: int) -> None:
        """Make an item of a node's events with the fields :data:`EVENT_FIELDS`."""
        chosen = ua.EventFilter()
        chosen.SelectClauses = [
            ua.SimpleAttributeOperand(
                TypeDefinitionId=ua.NodeId(ua.ObjectIds.BaseEventType),
                BrowsePath=[ua.QualifiedName(field, 0)],
                AttributeId=ua.AttributeIds.Value,
            )
            for field in EVENT_FIELDS
        ]
        item = _item(node, 0, queue, 0.0, chosen)
        item.ItemToMonitor.AttributeId = ua.AttributeIds.EventNotifier
        self._create(subscription, [item])

    def _create(self, subscription: int, items: list[Any]) -> list[Any]:
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = ua.IntegerId(subscription)
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = items
        results = list(self.call(request, ua.CreateMonitoredItemsResponse).Results)
        refused = [each for each in results if not each.StatusCode.is_good()]
        if refused:
            raise LoadError(f"{len(refused)} items were refused: {refused[0].StatusCode.name}")
        return results

    def publish(self, outstanding: int = OUTSTANDING) -> None:
        """Keep so many Publish requests with the server from now on."""
        self._publishing = True
        for _ in range(outstanding):
            self._send_publish()

    def _send_publish(self) -> None:
        acks, self._acks = self._acks, []
        body = struct.pack("<i", len(acks)) + b"".join(struct.pack("<II", *each) for each in acks)
        self.channel.send(self.request(PUBLISH, body), self._on_published)

    def _on_published(self, message: bytes) -> None:
        if not self._publishing:
            return
        result = head(message).result
        if result in _NO_SESSION:
            return
        found = published(message, self.decoder)
        if found.sequence:
            self._acks.append((found.subscription, found.sequence))
            self.messages += 1
        self._send_publish()  # first: the server shall never wait for this client
        self._hand_out(message, found)

    def _hand_out(self, message: bytes, found: Published) -> None:
        if found.ended is not None:
            raise LoadError(f"the subscription ended: {ua.StatusCode(ua.UInt32(found.ended)).name}")
        for columns in found.values:
            self.on_values(columns)
        if found.events:
            self.on_events(message, found.events)

    # --- session -------------------------------------------------------------------------------------

    def _begin_session(self, secured: Secured | None) -> None:
        policy = self.channel.policy
        request = ua.CreateSessionRequest()
        given = request.Parameters
        given.ClientDescription.ApplicationUri = secured.uri if secured else "urn:edge_opcua:bench"
        given.ClientDescription.ApplicationType = ua.ApplicationType.Client
        given.ClientDescription.ApplicationName = ua.LocalizedText("edge_opcua bench")
        given.EndpointUrl = self.channel.url
        given.SessionName = "bench"
        given.ClientNonce = ua.utils.create_nonce(32)
        given.ClientCertificate = policy.host_certificate or None
        given.RequestedSessionTimeout = SESSION_MS
        made = self.channel.call(request, ua.CreateSessionResponse).Parameters
        self._token = made.AuthenticationToken
        endpoint = next(
            (
                one
                for one in made.ServerEndpoints
                if one.SecurityPolicyUri == policy.URI and one.SecurityMode == policy.Mode
            ),
            None,
        )
        if endpoint is None:
            raise LoadError(f"{self.channel.url} does not offer {policy.URI}")
        activation = ua.ActivateSessionRequest()
        signed = (policy.peer_certificate or b"") + (made.ServerNonce or b"")
        activation.Parameters.ClientSignature.Algorithm = policy.AsymmetricSignatureURI or None
        activation.Parameters.ClientSignature.Signature = policy.asymmetric_cryptography.signature(signed)
        activation.Parameters.LocaleIds = ["en"]
        token = ua.AnonymousIdentityToken()
        token.PolicyId = next(
            (
                one.PolicyId
                for one in endpoint.UserIdentityTokens
                if one.TokenType == ua.UserTokenType.Anonymous
            ),
            "anonymous",
        )
        activation.Parameters.UserIdentityToken = token
        self.call(activation, ua.ActivateSessionResponse)


def pump(clients: Iterable[LoadClient], until_s: float, done: Callable[[], bool] | None = None) -> None:
    """Receive for these clients until a time (monotonic, s), or until something is done."""
    by_fd = {client.channel.fileno(): client for client in clients}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    while (left_s := until_s - time.monotonic()) > 0:
        for fd, _ in poll.poll(max(1.0, min(left_s, 0.1) * 1000)):
            by_fd[fd].channel.receive()
        if done is not None and done():
            return


def read_body(nodes: Sequence[ua.NodeId]) -> bytes:
    """Return the fields of a Read request for the values of nodes, behind its header."""
    request = ua.ReadParameters()
    request.MaxAge = 0.0
    request.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in nodes]
    encoded: bytes = struct_to_binary(request)
    return encoded


def _item(node: ua.NodeId, handle: int, queue: int, sampling_ms: float, chosen: Any) -> Any:
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node
    item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.ClientHandle = ua.IntegerId(handle)
    item.RequestedParameters.SamplingInterval = sampling_ms
    item.RequestedParameters.QueueSize = ua.UInt32(queue)
    item.RequestedParameters.DiscardOldest = True
    if chosen is not None:
        item.RequestedParameters.Filter = chosen
    return item


def _filter(deadband: float | None, kind: Scalar | None) -> Any:
    if deadband is None or kind is Scalar.BOOLEAN:
        return None
    return ua.DataChangeFilter(
        Trigger=ua.DataChangeTrigger.StatusValue,
        DeadbandType=ua.UInt32(int(ua.DeadbandType.Absolute)),
        DeadbandValue=deadband,
    )


def _ignored(columns: Columns) -> None:
    del columns


def _ignored_events(message: bytes, events: Sequence[Event]) -> None:
    del message, events
