"""Subscriptions without a server: an address space of a few variables, sessions and answers that are kept."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary

from edge_opcua.opcua.access import Access, AccessRule
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.attribute.attributes import Attributes
from edge_opcua.opcua.services.subscription.parameters import (
    CreateParameters,
    CreateRequest,
    ModeParameters,
    ModifyParameters,
)
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.subscriptions import Subscriptions
from edge_opcua.security.roles import Role
from edge_opcua.testing import ManualClock

VALUE = ua.AttributeIds.Value
REPORTING, SAMPLING, DISABLED = (
    ua.MonitoringMode.Reporting,
    ua.MonitoringMode.Sampling,
    ua.MonitoringMode.Disabled,
)
EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass(eq=False)
class FakeSession:
    """A session as the services see it."""

    name: str = "operator"
    roles: frozenset[Role] = frozenset({Role.OBSERVER})
    user: str = "operator"
    user_name: str = ""
    locales: tuple[str, ...] = ()
    secured: bool = True
    session_id: ua.NodeId = field(init=False)

    def __post_init__(self) -> None:
        self.session_id = ua.NodeId(f"{self.name}-{id(self)}", 1)

    @property
    def who(self) -> str:
        return self.name

    def same_user(self, other: Any) -> bool:
        return bool(self.user == other.user)


class FakeReply:
    """The way back for one Publish request; keeps what came."""

    def __init__(self, handle: int = 0, until_s: float = math.inf) -> None:
        self.handle = handle
        self.until_s = until_s
        self.most_bytes = 16 * 1024 * 1024
        self.results: list[Any] = []
        self.faults: list[int] = []

    def send(self, response: Any) -> None:
        self.results.append(response.Parameters)

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        """Take a PublishResponse, as a client decodes it."""
        kind = ua.NodeId(ua.ObjectIds.PublishResponse_Encoding_DefaultBinary)
        assert nodeid_from_binary(Buffer(type_id)) == kind
        data = Buffer(body)
        self.results.append(struct_from_binary(ua.PublishResult, data))
        assert not len(data), "more than a PublishResponse"

    def fault(self, code: int) -> None:
        self.faults.append(int(code))

    @property
    def open(self) -> bool:
        return not self.results and not self.faults

    @property
    def result(self) -> Any:
        (result,) = self.results
        return result

    @property
    def message(self) -> Any:
        return self.result.NotificationMessage

    @property
    def changes(self) -> list[tuple[int, Any, int]]:
        """ClientHandle, value and StatusCode of each data change."""
        return changes(self.message)

    @property
    def values(self) -> list[Any]:
        return [value for _, value, _ in self.changes]


def notifications(message: ua.NotificationMessage) -> list[Any]:
    """Return what a message carries."""
    return list(message.NotificationData)


def decoded(message: bytes) -> ua.NotificationMessage:
    """Decode a message as a client does."""
    data = Buffer(message)
    found = struct_from_binary(ua.NotificationMessage, data)
    assert not len(data), "more than a message"
    return found


def changes(message: ua.NotificationMessage) -> list[tuple[int, Any, int]]:
    return [
        (each.ClientHandle, each.Value.Value.Value, each.Value.StatusCode.value)
        for body in notifications(message)
        if hasattr(body, "MonitoredItems")
        for each in body.MonitoredItems
    ]


def status_changes(message: ua.NotificationMessage) -> list[int]:
    return [body.Status.value for body in notifications(message) if hasattr(body, "Status")]


def data_value(
    value: Any,
    kind: ua.VariantType | None = ua.VariantType.Double,
    *,
    status: int = 0,
    at_s: float = 0.0,
) -> ua.DataValue:
    stamp = EPOCH + dt.timedelta(seconds=at_s)
    return ua.DataValue(ua.Variant(value, kind), ua.StatusCode(ua.UInt32(status)), stamp, stamp)


class Plant:
    """Subscriptions of a server that is not there.

    Args:
        rules: Who may do what, where it is not as usual.
        limits: Replaces the defaults.
    """

    def __init__(self, *, rules: Sequence[AccessRule] = (), **limits: Any) -> None:
        self.clock = ManualClock()
        self.aspace = Nodes()
        self.access = Access(rules)
        self.limits = ServerLimits(**limits)
        self.attributes = Attributes(self.aspace, self.access, self.limits)
        self.service = Subscriptions(self.aspace, self.attributes, self.access, self.limits, self.clock)
        self.session = FakeSession()

    # --- the address space ---------------------------------------------------------------------------

    def variable(
        self,
        name: str,
        value: Any = 0.0,
        kind: ua.VariantType = ua.VariantType.Double,
        *,
        eu_range: tuple[float, float] | None = None,
    ) -> ua.NodeId:
        node = _node(ua.NodeId(name, 2), ua.NodeClass.Variable)
        rank = ua.ValueRank.OneDimension if isinstance(value, list) else ua.ValueRank.Scalar
        for attribute, shown in (
            (ua.AttributeIds.DisplayName, ua.Variant(ua.LocalizedText(name))),
            (ua.AttributeIds.DataType, ua.Variant(ua.NodeId(int(kind)))),
            (ua.AttributeIds.ValueRank, ua.Variant(int(rank), ua.VariantType.Int32)),
            (ua.AttributeIds.AccessLevel, ua.Variant(3, ua.VariantType.Byte)),
        ):
            node.attributes[attribute] = AttributeValue(ua.DataValue(shown))
        node.attributes[VALUE] = AttributeValue(data_value(value, kind))
        self.aspace[node.nodeid] = node
        if eu_range is not None:
            self._property(node, "EURange", ua.Range(*eu_range))
        return node.nodeid

    def notifier(self, name: str) -> ua.NodeId:
        node = _node(ua.NodeId(name, 2), ua.NodeClass.Object)
        node.attributes[ua.AttributeIds.EventNotifier] = AttributeValue(
            ua.DataValue(ua.Variant(1, ua.VariantType.Byte))
        )
        self.aspace[node.nodeid] = node
        return node.nodeid

    def method(self, name: str) -> None:
        """Make a method of the standard."""
        node_id = ua.NodeId(getattr(ua.ObjectIds, name))
        self.aspace[node_id] = _node(node_id, ua.NodeClass.Method)

    def event_types(self, *fields: str) -> None:
        """Make the base of all events and the one that tells of lost ones, with some fields."""
        ids = ua.ObjectIds
        tree = (ids.HierarchicalReferences, ids.HasChild, ids.Aggregates, ids.HasProperty)
        for above, below in (
            *pairwise(tree),
            (ids.BaseEventType, ids.EventQueueOverflowEventType),
        ):
            for number in (above, below):
                if ua.NodeId(number) not in self.aspace:
                    self.aspace[ua.NodeId(number)] = _node(ua.NodeId(number), ua.NodeClass.ObjectType)
            self._refer(self.aspace[ua.NodeId(above)], ids.HasSubtype, ua.NodeId(below))
            self._refer(self.aspace[ua.NodeId(below)], ids.HasSubtype, ua.NodeId(above), forward=False)
        base = self.aspace[ua.NodeId(ids.BaseEventType)]
        for name in fields:
            self._property(base, name, None)

    @staticmethod
    def _refer(node: NodeData, kind: int, to: ua.NodeId, name: str = "", *, forward: bool = True) -> None:
        node.references.append(
            ua.ReferenceDescription(
                ReferenceTypeId=ua.NodeId(kind),
                IsForward=forward,
                NodeId=to,
                BrowseName=ua.QualifiedName(name),
            )
        )

    def _property(self, owner: NodeData, name: str, value: Any) -> None:
        node = _node(ua.NodeId(f"{owner.nodeid.Identifier}.{name}", 2), ua.NodeClass.Variable)
        node.attributes[VALUE] = AttributeValue(ua.DataValue(ua.Variant(value)))
        self.aspace[node.nodeid] = node
        node.attributes[ua.AttributeIds.BrowseName] = AttributeValue(
            ua.DataValue(ua.Variant(ua.QualifiedName(name)))
        )
        self._refer(owner, ua.ObjectIds.HasProperty, node.nodeid, name)

    def slot(self, node: ua.NodeId, attribute: ua.AttributeIds = VALUE) -> AttributeValue:
        return self.aspace[node].attributes[attribute]

    def write(self, node: ua.NodeId, value: Any, **facts: Any) -> ua.DataValue:
        """Let a variable change, as the feed does."""
        slot = self.slot(node)
        kind = slot.value.Value.VariantType
        shown = value if isinstance(value, ua.DataValue) else data_value(value, kind, **facts)
        slot.value = shown
        for watcher in list(slot.datachange_callbacks.values()):
            watcher.changed(shown)
        return shown

    # --- time ----------------------------------------------------------------------------------------

    def pass_ms(self, duration_ms: float) -> None:
        """Let time pass, 10 ms at a time."""
        for _ in range(round(duration_ms / 10)):
            self.clock.step(0.01)
            self.service.work()

    # --- services ------------------------------------------------------------------------------------

    def subscribe(
        self,
        session: FakeSession | None = None,
        *,
        interval_ms: float = 100,
        keep_alive: int = 3,
        lifetime: int = 10,
        most: int = 0,
        enabled: bool = True,
        priority: int = 0,
    ) -> int:
        params = ua.CreateSubscriptionParameters(interval_ms, lifetime, keep_alive, most, enabled, priority)
        response = self.service.create(session or self.session, params)
        return int(response.Parameters.SubscriptionId)

    def found(self, number: int) -> Subscription:
        return self.service.subscriptions[number]

    def monitor(
        self,
        number: int,
        *nodes: ua.NodeId,
        session: FakeSession | None = None,
        timestamps: int = ua.TimestampsToReturn.Both,
        **wanted: Any,
    ) -> Any:
        """Create items; the first has ClientHandle 1 unless told otherwise."""
        requests = [item(node, **{"handle": i, **wanted}) for i, node in enumerate(nodes, 1)]
        params = CreateParameters(number, timestamps, requests)
        results = self.service.monitoring.create(session or self.session, params).Results
        return results if len(nodes) > 1 else results[0]

    def modify(self, number: int, item_id: int, **wanted: Any) -> Any:
        request = ua.MonitoredItemModifyRequest(item_id, parameters(**{"handle": 1, **wanted}))
        params = ModifyParameters(number, ua.TimestampsToReturn.Both, [request])
        (result,) = self.service.monitoring.modify(self.session, params).Results
        return result

    def set_mode(self, number: int, mode: int, *items: int) -> list[int]:
        params = ModeParameters(number, mode, list(items))
        response = self.service.monitoring.set_mode(self.session, params)
        return [status.value for status in response.Parameters.Results]

    def publish(
        self,
        session: FakeSession | None = None,
        *,
        acks: Iterable[tuple[int, int]] = (),
        reply: FakeReply | None = None,
    ) -> FakeReply:
        reply = reply or FakeReply()
        params = ua.PublishParameters([ua.SubscriptionAcknowledgement(*ack) for ack in acks])
        self.service.publish(session or self.session, params, reply)
        return reply

    def republish(
        self, number: int, sequence: int, session: FakeSession | None = None
    ) -> ua.NotificationMessage:
        """Ask for a message again."""
        response = self.service.republish(session or self.session, ua.RepublishParameters(number, sequence))
        answer = struct_from_binary(ua.RepublishResponse, Buffer(response.to_binary()))
        return answer.NotificationMessage

    def next(self, number: int, *, within_ms: float = 1000) -> FakeReply:
        """Publish, and let time pass until the answer."""
        assert number in self.service.subscriptions
        reply = self.publish()
        for _ in range(round(within_ms / 10)):
            if not reply.open:
                break
            self.pass_ms(10)
        return reply


def _node(node_id: ua.NodeId, node_class: ua.NodeClass) -> NodeData:
    node = NodeData(node_id)
    shown = ua.DataValue(ua.Variant(node_class, ua.VariantType.Int32))
    node.attributes[ua.AttributeIds.NodeClass] = AttributeValue(shown)
    return node


def parameters(
    *,
    handle: int = 1,
    sampling_ms: float = 0.0,
    queue: int = 100,
    discard_oldest: bool = True,
    filter: Any = None,  # noqa: A002 - OPC UA's name
) -> ua.MonitoringParameters:
    return ua.MonitoringParameters(handle, sampling_ms, filter, queue, discard_oldest)


def item(
    node: ua.NodeId,
    *,
    attribute: int = VALUE,
    mode: int = REPORTING,
    index_range: str | None = None,
    encoding: str | None = None,
    **wanted: Any,
) -> CreateRequest:
    what = ua.ReadValueId(node, attribute, index_range, ua.QualifiedName(encoding))
    return CreateRequest(what, mode, parameters(**wanted))


def deadband(value: float, kind: int = ua.DeadbandType.Absolute, trigger: int = 1) -> ua.DataChangeFilter:
    return ua.DataChangeFilter(ua.DataChangeTrigger(trigger), kind, value)
