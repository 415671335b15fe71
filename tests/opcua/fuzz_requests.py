"""What the fuzzer starts from: one good request of every kind, and values that nobody expects in it."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
from enum import Enum
from typing import Any, Final

from asyncua import ua

from tests.opcua.secure_peers import OTHER
from tests.opcua.victim import Victim

_FLOATS: Final = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-300, 1e308, 10.0)
_NUMBERS: Final = (0, 1, 2, 13, 255, 65_535, 2**31 - 1, 2**32 - 1)
_TEXTS: Final = ("", "1", "0:1", "1:0", "5:9999999999", "0:1,0:1", "x", "\x00", "é" * 300, None)
_NODES: Final = (
    ua.NodeId(),
    ua.NodeId(84),
    ua.NodeId(2253),
    ua.NodeId(2256),
    ua.NodeId(2782),
    ua.NodeId("plain", 2),
    ua.NodeId("array", 2),
    ua.NodeId("nothing", 2),
    ua.NodeId(b"x", 99, ua.NodeIdType.ByteString),
)
_VALUES: Final = (
    ua.Variant(),
    ua.Variant(math.nan),
    ua.Variant("x"),
    ua.Variant([], ua.VariantType.Double),
    ua.Variant([1.0, 2.0]),
    ua.Variant([[1, 2], [3, 4]], ua.VariantType.Int32, [2, 2]),
    ua.Variant(ua.NodeId(2253)),
    ua.Variant(ua.Range(1.0, 0.0)),
    ua.Variant([ua.Variant(1)], ua.VariantType.Variant),
    ua.Variant(ua.DataValue(ua.Variant(1))),
)


def strange(message: Any, dice: random.Random) -> Any:
    """Return a copy of a request in which some values are others of the same type."""
    made = copy.deepcopy(message)
    for _ in range(dice.choice([1, 1, 2, 4])):
        _change(made.Parameters if hasattr(made, "Parameters") else made, dice)
    return made


def _change(target: Any, dice: random.Random) -> None:
    """Go down to some field and change it."""
    names = [
        field.name
        for field in dataclasses.fields(target)
        if field.name not in {"TypeId", "RequestHeader", "Encoding"}
    ]
    if not names:
        return
    name = dice.choice(names)
    value = getattr(target, name)
    if isinstance(value, list) and value and dice.random() < 0.8:
        index = dice.randrange(len(value))
        if dataclasses.is_dataclass(value[index]) and not isinstance(value[index], ua.NodeId | ua.Variant):
            _change(value[index], dice)
        else:
            value[index] = _other(value[index], dice)
    elif dataclasses.is_dataclass(value) and not isinstance(value, ua.NodeId | ua.Variant):
        _change(value, dice)
    else:
        object.__setattr__(target, name, _other(value, dice))


def _other(value: Any, dice: random.Random) -> Any:
    match value:
        case bool():
            return not value
        case Enum() | int():
            return dice.choice(_NUMBERS[:5] if isinstance(value, Enum) else _NUMBERS)
        case float():
            return dice.choice(_FLOATS)
        case str():
            return dice.choice(_TEXTS)
        case bytes():
            return dice.choice([b"", b"x" * 16, None, dice.randbytes(32)])
        case ua.NodeId():
            return dice.choice(_NODES)
        case ua.Variant():
            return dice.choice(_VALUES)
        case list():
            return dice.choice([[], value * 3, value * 40])
        case _:
            return dice.choice([None, *_TEXTS[:3]])


def _with(message: Any, **parameters: Any) -> Any:
    target = message.Parameters if hasattr(message, "Parameters") else message
    for name, value in parameters.items():
        setattr(target, name, value)
    message.RequestHeader.RequestHandle = 7
    message.RequestHeader.TimeoutHint = 2000
    return message


def requests(victim: Victim, subscription: int = 1) -> list[Any]:
    """Return one good request of every kind, with an empty token."""
    read = ua.ReadValueId(NodeId=victim.plain, AttributeId=ua.AttributeIds.Value)
    value = ua.DataValue(ua.Variant([[1.0, 2.0], [3.0, 4.0]], ua.VariantType.Double, [2, 2]))
    write = ua.WriteValue(victim.array, ua.AttributeIds.Value, "0:1", value)
    call = ua.CallMethodRequest(victim.machine, victim.echo, [ua.Variant("x")])
    where = ua.ContentFilter(
        [
            ua.ContentFilterElement(
                ua.FilterOperator.And, [ua.ElementOperand(1), ua.LiteralOperand(ua.Variant(1))]
            )
        ]
    )
    events = ua.EventFilter(
        [ua.SimpleAttributeOperand(ua.NodeId(2041), [ua.QualifiedName("Message")], 13)], where
    )
    changes = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, 1, 0.5)
    items = [
        ua.MonitoredItemCreateRequest(
            read, ua.MonitoringMode.Reporting, ua.MonitoringParameters(1, 10.0, changes, 10)
        ),
        ua.MonitoredItemCreateRequest(
            ua.ReadValueId(ua.NodeId(2253), ua.AttributeIds.EventNotifier),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(2, 0.0, events, 10),
        ),
    ]
    path = ua.BrowsePath(
        ua.NodeId(84), ua.RelativePath([ua.RelativePathElement(TargetName=ua.QualifiedName("Objects"))])
    )
    activate = ua.ActivateSessionRequest()
    activate.Parameters.UserIdentityToken = ua.UserNameIdentityToken("username", "operator", b"x" * 256, "")
    return [
        _with(ua.GetEndpointsRequest(), EndpointUrl=victim.url, LocaleIds=["en"], ProfileUris=["x"]),
        _with(ua.FindServersRequest(), EndpointUrl=victim.url, ServerUris=["urn:x"]),
        _with(
            ua.CreateSessionRequest(),
            EndpointUrl=victim.url,
            ClientNonce=bytes(32),
            ClientCertificate=OTHER.der,
        ),
        _with(activate),
        _with(ua.ReadRequest(), NodesToRead=[read] * 3),
        _with(ua.WriteRequest(), NodesToWrite=[write]),
        _with(ua.CallRequest(), MethodsToCall=[call]),
        _with(ua.BrowseRequest(), NodesToBrowse=[ua.BrowseDescription(NodeId=ua.NodeId(85), ResultMask=63)]),
        _with(ua.BrowseNextRequest(), ContinuationPoints=[b"x" * 16]),
        _with(ua.TranslateBrowsePathsToNodeIdsRequest(), BrowsePaths=[path]),
        _with(ua.RegisterNodesRequest(), NodesToRegister=[victim.plain]),
        _with(ua.CreateSubscriptionRequest(), RequestedPublishingInterval=50.0, PublishingEnabled=True),
        _with(ua.ModifySubscriptionRequest(), SubscriptionId=subscription),
        _with(ua.DeleteSubscriptionsRequest(), SubscriptionIds=[subscription + 1, 2]),
        _with(ua.SetPublishingModeRequest(), SubscriptionIds=[subscription]),
        _with(ua.TransferSubscriptionsRequest(), SubscriptionIds=[subscription], SendInitialValues=True),
        _with(ua.CreateMonitoredItemsRequest(), SubscriptionId=subscription, ItemsToCreate=items),
        _with(
            ua.ModifyMonitoredItemsRequest(),
            SubscriptionId=subscription,
            ItemsToModify=[ua.MonitoredItemModifyRequest()],
        ),
        _with(ua.SetTriggeringRequest(), SubscriptionId=subscription, LinksToAdd=[1, 2]),
        _with(ua.DeleteMonitoredItemsRequest(), SubscriptionId=subscription, MonitoredItemIds=[1]),
        _with(
            ua.PublishRequest(),
            SubscriptionAcknowledgements=[ua.SubscriptionAcknowledgement(subscription, 1)],
        ),
        _with(ua.RepublishRequest(), SubscriptionId=subscription),
        _with(ua.CancelRequest(), RequestHandle=7),
        _with(ua.HistoryReadRequest(), HistoryReadDetails=ua.ReadRawModifiedDetails()),
        _with(ua.QueryFirstRequest()),
    ]


def tag_requests(victim: Victim, subscription: int, items: list[int]) -> list[Any]:
    """Return good requests about tags, which are answered from their bytes."""
    some = victim.tag[::3]
    values = [ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in some]
    mixed = [*values[:20], ua.ReadValueId(victim.plain, 13), ua.ReadValueId(some[0], 4), values[0]]
    filters = [
        None,
        ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, 0.5),
        ua.DataChangeFilter(ua.DataChangeTrigger.StatusValueTimestamp, ua.DeadbandType.Percent, 10.0),
        ua.DataChangeFilter(ua.DataChangeTrigger.Status, ua.DeadbandType.None_, 0.0),
    ]
    asked = [
        ua.MonitoringParameters(i, (0.0, 20.0, 70.0)[i % 3], filters[i % 4], i % 5, bool(i % 2))
        for i in range(len(values))
    ]
    wanted = [
        ua.MonitoredItemCreateRequest(value, ua.MonitoringMode(2 * (i % 2)), asked[i])
        for i, value in enumerate(values)
    ]
    changed = [ua.MonitoredItemModifyRequest(number, asked[i]) for i, number in enumerate(items)]
    folder = ua.BrowseDescription(NodeId=victim.tags, ResultMask=63)
    tag = ua.BrowseDescription(NodeId=some[0], BrowseDirection=ua.BrowseDirection.Both, ResultMask=63)
    both = ua.TimestampsToReturn.Both
    return [
        _with(ua.ReadRequest(), TimestampsToReturn=both, NodesToRead=values),
        _with(ua.ReadRequest(), TimestampsToReturn=ua.TimestampsToReturn.Source, NodesToRead=values[:3]),
        _with(ua.ReadRequest(), TimestampsToReturn=both, NodesToRead=mixed),
        _with(ua.BrowseRequest(), NodesToBrowse=[folder, tag]),
        _with(ua.BrowseRequest(), RequestedMaxReferencesPerNode=3, NodesToBrowse=[folder, tag]),
        _with(ua.RegisterNodesRequest(), NodesToRegister=list(some)),
        _with(ua.CreateMonitoredItemsRequest(), SubscriptionId=subscription, ItemsToCreate=wanted),
        _with(ua.ModifyMonitoredItemsRequest(), SubscriptionId=subscription, ItemsToModify=changed),
        _with(
            ua.SetMonitoringModeRequest(),
            SubscriptionId=subscription,
            MonitoringMode=ua.MonitoringMode.Disabled,
            MonitoredItemIds=items[::2],
        ),
        _with(
            ua.SetMonitoringModeRequest(),
            SubscriptionId=subscription,
            MonitoringMode=ua.MonitoringMode.Reporting,
            MonitoredItemIds=items,
        ),
        _with(
            ua.SetTriggeringRequest(),
            SubscriptionId=subscription,
            TriggeringItemId=items[0],
            LinksToAdd=items[1:3],
            LinksToRemove=items[2:4],
        ),
        _with(ua.DeleteMonitoredItemsRequest(), SubscriptionId=subscription, MonitoredItemIds=items[-1:]),
        _with(ua.TransferSubscriptionsRequest(), SubscriptionIds=[subscription], SendInitialValues=True),
        _with(ua.RepublishRequest(), SubscriptionId=subscription, RetransmitSequenceNumber=2),
        _with(
            ua.PublishRequest(),
            SubscriptionAcknowledgements=[ua.SubscriptionAcknowledgement(subscription, 1)],
        ),
    ]
