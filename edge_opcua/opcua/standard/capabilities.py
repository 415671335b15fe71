"""Server/ServerCapabilities: what this server can do, and no more than it does (Part 5 §6.3.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.standard.variables import Variables, remove

__all__ = ["LOCALES", "PROFILES", "profiles", "remove_absent", "show_capabilities", "show_namespaces"]

_PROFILE: Final = "http://opcfoundation.org/UA-Profile"
LOCALES: Final = ("en",)
# Part 7; what speaks for each, and what is missing for others: docs/reference/opcua-profiles.md.
_EMBEDDED: Final = f"{_PROFILE}/Server/EmbeddedUA2017"
PROFILES: Final = (
    _EMBEDDED,
    f"{_PROFILE}/Server/StandardDataChangeSubscription2017",
    f"{_PROFILE}/Server/EnhancedDataChangeSubscription2017",
    f"{_PROFILE}/Server/StandardEventSubscription",
    f"{_PROFILE}/Server/AddressSpaceNotifier",
    f"{_PROFILE}/Server/DataAccess",
    f"{_PROFILE}/Server/Methods",
    f"{_PROFILE}/Server/Auditing",
    f"{_PROFILE}/Transport/uatcp-uasc-uabinary",
)
_POLICY: Final = "http://opcfoundation.org/UA/SecurityPolicy#"

# What the standard address space has room for and this server does not do. All of it is optional
# (Part 5 §6.3.1, §6.3.2, Part 11 §5.2, Part 14): a client that finds it would use it.
_NOT_DONE: Final = (
    "Server_UrisVersion",  # only for session-less calls
    "Server_EstimatedReturnTime",  # nobody knows when somebody starts it again
    "Server_SetSubscriptionDurable",
    "Server_RequestServerStateChange",
    "Server_ServerRedundancy_RedundantServerArray",
    "Server_ServerDiagnostics_SamplingIntervalDiagnosticsArray",
    "Server_ServerCapabilities_ConformanceUnits",  # the profiles say it
    "PublishSubscribe",
    "ServerLog",
    "Resources",
    "UserManagement",  # users are managed where nobody can reach them from the network
    "DefaultHAConfiguration",
    "DefaultHEConfiguration",
    # Each node says itself who may do what with it.
    "OPCUANamespaceMetadata_DefaultRolePermissions",
    "OPCUANamespaceMetadata_DefaultUserRolePermissions",
    "OPCUANamespaceMetadata_DefaultAccessRestrictions",
)
_LIMITS: Final = "Server_ServerCapabilities_OperationLimits_"
# Property -> (the service it limits, our name of the limit). Part 5 §6.3.11: one that is there is not 0.
_OPERATIONS: Final[dict[str, tuple[str, str]]] = {
    "MaxNodesPerRead": ("Read", "read"),
    "MaxNodesPerHistoryReadData": ("HistoryRead", "history"),
    "MaxNodesPerHistoryReadEvents": ("HistoryRead", "history"),
    "MaxNodesPerWrite": ("Write", "write"),
    "MaxNodesPerHistoryUpdateData": ("HistoryUpdate", "history"),
    "MaxNodesPerHistoryUpdateEvents": ("HistoryUpdate", "history"),
    "MaxNodesPerMethodCall": ("Call", "call"),
    "MaxNodesPerBrowse": ("Browse", "browse"),
    "MaxNodesPerRegisterNodes": ("RegisterNodes", "register"),
    "MaxNodesPerTranslateBrowsePathsToNodeIds": ("TranslateBrowsePathsToNodeIds", "translate"),
    "MaxNodesPerNodeManagement": ("AddNodes", ""),
    "MaxMonitoredItemsPerCall": ("CreateMonitoredItems", "items"),
}
# Part 11 §5.4.2: there is no history yet; a client shall read "no", not nothing.
_HISTORY: Final = (
    "AccessHistoryDataCapability",
    "AccessHistoryEventsCapability",
    "InsertDataCapability",
    "ReplaceDataCapability",
    "UpdateDataCapability",
    "DeleteRawCapability",
    "DeleteAtTimeCapability",
    "InsertEventCapability",
    "ReplaceEventCapability",
    "UpdateEventCapability",
    "DeleteEventCapability",
    "InsertAnnotationCapability",
    "ServerTimestampSupported",
)


def profiles(policies: Iterable[str], tokens: Iterable[str]) -> list[str]:
    """Return what ServerProfileArray says; pure.

    Args:
        policies: Names of the security policies offered, ``None`` included.
        tokens: Ways to sign in, as Part 7 names them: ``Anonymous``, ``Server/UserNamePassword`` …
    """
    offered, ways = tuple(policies), tuple(tokens)
    embedded = "Basic256Sha256" in offered and "Server/UserNamePassword" in ways
    chosen = [profile for profile in PROFILES if embedded or profile != _EMBEDDED]
    chosen += [f"{_POLICY}{policy}" for policy in offered]
    chosen += [f"{_PROFILE}/Security/UserToken/{token}" for token in ways]
    return chosen


def operation_limits(limits: OperationLimits, services: Iterable[str]) -> dict[str, int]:
    """Return the operation limits of the services that exist, by property; pure."""
    offered = frozenset(services)
    return {
        name: int(getattr(limits, ours))
        for name, (service, ours) in _OPERATIONS.items()
        if service in offered
    }


def remove_absent(aspace: AddressSpace) -> None:
    """Take away the standard nodes of what this server does not do, and say so (Part 5 §6.3.13)."""
    remove(aspace, (int(getattr(ua.ObjectIds, name)) for name in _NOT_DONE))


def show_capabilities(
    variables: Variables,
    aspace: AddressSpace,
    limits: ServerLimits,
    *,
    services: Iterable[str],
    profile_uris: list[str],
) -> None:
    """Fill ServerCapabilities, HistoryServerCapabilities and what else never changes while we run.

    Args:
        variables: Sets them.
        aspace: The address space.
        limits: What is enforced.
        services: Names of the services that clients can use.
        profile_uris: ServerProfileArray.
    """
    per_call = operation_limits(limits.operations, services)
    remove(
        aspace,
        (int(getattr(ua.ObjectIds, f"{_LIMITS}{name}")) for name in _OPERATIONS if name not in per_call),
    )
    kinds = ua.VariantType
    rows: list[tuple[str, Any, ua.VariantType]] = [
        *((f"{_LIMITS}{name}", most, kinds.UInt32) for name, most in per_call.items()),
        *((f"Server_ServerCapabilities_{name}", *row) for name, row in _numbers(limits).items()),
        ("Server_ServerCapabilities_ServerProfileArray", profile_uris, kinds.String),
        ("Server_ServerCapabilities_LocaleIdArray", list(LOCALES), kinds.String),
        ("Server_ServerCapabilities_SoftwareCertificates", [], kinds.ExtensionObject),
        *((f"HistoryServerCapabilities_{name}", False, kinds.Boolean) for name in _HISTORY),
        ("HistoryServerCapabilities_MaxReturnDataValues", 0, kinds.UInt32),
        ("HistoryServerCapabilities_MaxReturnEventValues", 0, kinds.UInt32),
        ("Server_ServerRedundancy_RedundancySupport", 0, kinds.Int32),  # None (Part 5 §12.5)
        ("Server_Auditing", True, kinds.Boolean),
        ("OPCUANamespaceMetadata_IsNamespaceSubset", True, kinds.Boolean),
        ("OPCUANamespaceMetadata_StaticStringNodeIdPattern", "", kinds.String),
    ]
    for name, value, kind in rows:
        variables.show(int(getattr(ua.ObjectIds, name)), value, kind)


def show_namespaces(variables: Variables, aspace: AddressSpace) -> None:
    """Say of each namespace with metadata which of its NodeIds are the same in every server (Part 5 §6.3.13).

    Those of the type namespaces are numbers, given once by whoever wrote the specification.
    """
    for ref in _children(aspace, ua.NodeId(ua.ObjectIds.Server_Namespaces)):
        index = ref.NodeId.NamespaceIndex
        if not index:
            continue
        given = [
            node.Identifier
            for node in aspace.keys()  # noqa: SIM118 - no dictionary
            if node.NamespaceIndex == index and isinstance(node.Identifier, int)
        ]
        rows: dict[str, tuple[Any, ua.VariantType]] = {
            "StaticNodeIdTypes": ([int(ua.IdType.Numeric)] if given else [], ua.VariantType.Int32),
            "StaticNumericNodeIdRange": (
                [f"{min(given)}:{max(given)}"] if given else [],
                ua.VariantType.String,
            ),
            "StaticStringNodeIdPattern": ("", ua.VariantType.String),
        }
        for part in _children(aspace, ref.NodeId):
            if part.BrowseName.Name in rows:
                variables.show(part.NodeId, *rows[part.BrowseName.Name])


def _children(aspace: AddressSpace, node: ua.NodeId) -> list[Any]:
    kinds = {ua.NodeId(ua.ObjectIds.HasComponent), ua.NodeId(ua.ObjectIds.HasProperty)}
    found = aspace[node].references
    return [ref for ref in found if ref.IsForward and ref.ReferenceTypeId in kinds and ref.NodeId in aspace]


def _numbers(limits: ServerLimits) -> dict[str, tuple[Any, ua.VariantType]]:
    """Return the properties of ServerCapabilities that are numbers (Part 5 §6.3.2, Table 11)."""
    long, short = ua.VariantType.UInt32, ua.VariantType.UInt16
    return {
        "MinSupportedSampleRate": (limits.min_sampling_ms, ua.VariantType.Double),
        "MaxBrowseContinuationPoints": (limits.browse_continuation_points, short),
        "MaxQueryContinuationPoints": (0, short),
        "MaxHistoryContinuationPoints": (0, short),
        "MaxArrayLength": (limits.array_length, long),
        "MaxStringLength": (limits.string_bytes, long),
        "MaxByteStringLength": (limits.string_bytes, long),
        "MaxSessions": (limits.sessions, long),
        "MaxSubscriptions": (limits.subscriptions, long),
        "MaxMonitoredItems": (limits.items, long),
        "MaxSubscriptionsPerSession": (limits.subscriptions_per_session, long),
        "MaxMonitoredItemsPerSubscription": (limits.items_per_subscription, long),
        "MaxMonitoredItemsQueueSize": (limits.queue, long),
        "MaxSelectClauseParameters": (limits.select_clauses, long),
        "MaxWhereClauseParameters": (limits.where_operands, long),
    }
