"""Server/ServerDiagnostics: made when it is read, from what sessions and subscriptions count."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.services.counts import ServiceCount
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.opcua.values import utc

if TYPE_CHECKING:
    from edge_opcua.opcua.seam.core import Core
    from edge_opcua.opcua.seam.session import Session
    from edge_opcua.opcua.services.subscription.subscription import Subscription

__all__ = ["Diagnostics"]

_IDS: Final = ua.ObjectIds
_SUMMARY: Final = "Server_ServerDiagnostics_ServerDiagnosticsSummary"
_SUMMARY_PARTS: Final = tuple(part.name for part in dataclasses.fields(ua.ServerDiagnosticsSummaryDataType))
_ENCODED: Final = ua.NodeId(_IDS.SessionSecurityDiagnosticsDataType_Encoding_DefaultBinary)
# SessionDiagnosticsDataType has a counter for each of these services (Part 5 §12.11).
_COUNTED: Final = tuple(
    part.name.removesuffix("Count")
    for part in dataclasses.fields(ua.SessionDiagnosticsDataType)
    if "ServiceCounter" in str(part.type) and part.name != "TotalRequestCount"
)


@dataclass(slots=True)
class _SecurityRow:
    """SessionSecurityDiagnosticsDataType; asyncua takes its field ``Encoding`` for a mask of its codec."""

    session_id: ua.NodeId
    user: ua.String
    users: list[ua.String]
    mechanism: ua.String
    encoding_: ua.String
    transport: ua.String
    mode: ua.MessageSecurityMode
    policy: ua.String
    certificate: ua.ByteString = field(repr=False)


class Diagnostics:
    """What ServerDiagnostics says.

    Args:
        core: The server core; its sessions, subscriptions and counters.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def show(self, variables: Variables) -> None:
        """Give the diagnostics nodes their values and permissions.

        The summary is for everybody who may look at the plant; what tells of other clients is for those
        whom :data:`Kind.DIAGNOSTICS` lets (Part 5 §6.3.3: security-related, restricted).
        """
        structure, number = ua.VariantType.ExtensionObject, ua.VariantType.UInt32
        variables.live(getattr(_IDS, _SUMMARY), structure, self.summary)
        for part in _SUMMARY_PARTS:
            variables.live(getattr(_IDS, f"{_SUMMARY}_{part}"), number, partial(self.count, part))
        variables.show(_IDS.Server_ServerDiagnostics_EnabledFlag, value=True, kind=ua.VariantType.Boolean)
        sessions = "Server_ServerDiagnostics_SessionsDiagnosticsSummary"
        restricted = {
            "Server_ServerDiagnostics_SubscriptionDiagnosticsArray": self.subscriptions,
            f"{sessions}_SessionDiagnosticsArray": self.sessions,
            f"{sessions}_SessionSecurityDiagnosticsArray": self.securities,
        }
        nodes = [variables.live(getattr(_IDS, name), structure, make) for name, make in restricted.items()]
        self._core.access.mark(Kind.DIAGNOSTICS, nodes)

    # --- the server ----------------------------------------------------------------------------------

    def summary(self) -> Any:
        """Return the ServerDiagnosticsSummaryDataType (Part 5 §12.9)."""
        return ua.ServerDiagnosticsSummaryDataType(**{part: self.count(part) for part in _SUMMARY_PARTS})

    def count(self, name: str) -> int:
        """Return one of its members by its name there."""
        match name:
            case "ServerViewCount":  # there are no views
                return 0
            case "CurrentSessionCount":
                return len(self._core.sessions())
            case "CurrentSubscriptionCount":
                return len(self._subscriptions())
            case "CumulatedSubscriptionCount":
                return int(self._core.subscription_service.created)
            case "PublishingIntervalCount":
                return len({found.interval_ms for found in self._subscriptions()})
            case _:
                return int(getattr(self._core.counts, _ours(name)))

    def _subscriptions(self) -> list[Subscription]:
        return list(self._core.subscription_service.subscriptions.values())

    # --- sessions ------------------------------------------------------------------------------------

    def sessions(self) -> list[Any]:
        """Return a SessionDiagnosticsDataType for each session (Part 5 §12.11)."""
        return [self.session(session) for session in self._core.sessions()]

    def session(self, session: Session) -> Any:
        """Return the SessionDiagnosticsDataType of one session."""
        own = [found for found in self._subscriptions() if found.session_id == session.session_id]
        idle_ns = int((self._core.clock.monotonic_s() - session.used_s) * 1e9)
        return ua.SessionDiagnosticsDataType(
            SessionId=session.session_id,
            SessionName=session.name,
            ClientDescription=_description(session),
            ServerUri="",
            EndpointUrl=session.endpoint_url,
            LocaleIds=list(session.locales),
            ActualSessionTimeout=float(session.session_timeout or 0) * 1000,
            MaxResponseMessageSize=session.max_response_bytes,
            ClientConnectionTime=session.since,
            ClientLastContactTime=utc(self._core.clock.utc_ns() - idle_ns),
            CurrentSubscriptionsCount=len(own),
            CurrentMonitoredItemsCount=sum(len(found.items) for found in own),
            CurrentPublishRequestsInQueue=self._core.subscription_service.publish_requests(session),
            TotalRequestCount=_counter(session.counts.all),
            UnauthorizedRequestCount=session.counts.unauthorized_request_count,
            **{f"{name}Count": _counter(session.counts.services.get(name)) for name in _COUNTED},
        )

    def securities(self) -> list[Any]:
        """Return a SessionSecurityDiagnosticsDataType for each session (Part 5 §12.12)."""
        return [security_of(session) for session in self._core.sessions()]

    # --- subscriptions -------------------------------------------------------------------------------

    def subscriptions(self) -> list[Any]:
        """Return a SubscriptionDiagnosticsDataType for each subscription (Part 5 §12.15)."""
        return [subscription_of(found) for found in self._subscriptions()]


def security_of(session: Session) -> Any:
    """Return the SessionSecurityDiagnosticsDataType of one session, encoded."""
    mode = ua.MessageSecurityMode
    row = _SecurityRow(
        session_id=session.session_id,
        user=session.user_name or None,
        users=list(session.user_history),
        mechanism=session.mechanism,
        encoding_="UA Binary",
        transport="opc.tcp",
        mode=mode.SignAndEncrypt if session.secured else mode.None_,
        policy=session.client.policy_uri,
        certificate=session.client.certificate or None,
    )
    return ua.ExtensionObject(TypeId=_ENCODED, Body=struct_to_binary(row))


def subscription_of(found: Subscription) -> Any:
    """Return the SubscriptionDiagnosticsDataType of one subscription."""
    counts, cycle = found.counts, found.cycle
    return ua.SubscriptionDiagnosticsDataType(
        SessionId=found.session_id,
        SubscriptionId=found.number,
        Priority=found.priority,
        PublishingInterval=found.interval_ms,
        MaxKeepAliveCount=cycle.keep_alive_count,
        MaxLifetimeCount=cycle.lifetime_count,
        MaxNotificationsPerPublish=found.requested_max_notifications,
        PublishingEnabled=cycle.enabled,
        ModifyCount=counts.modify,
        EnableCount=counts.enable,
        DisableCount=counts.disable,
        RepublishRequestCount=counts.republish_requests,
        RepublishMessageRequestCount=counts.republish_message_requests,
        RepublishMessageCount=counts.republish_messages,
        TransferRequestCount=counts.transfer_requests,
        TransferredToAltClientCount=counts.transferred_to_alt_client,
        TransferredToSameClientCount=counts.transferred_to_same_client,
        PublishRequestCount=counts.publish_requests,
        DataChangeNotificationsCount=counts.data_change_notifications,
        EventNotificationsCount=counts.event_notifications,
        NotificationsCount=counts.notifications,
        LatePublishRequestCount=counts.late_publish_requests,
        CurrentKeepAliveCount=cycle.idle,
        CurrentLifetimeCount=cycle.unattended,
        UnacknowledgedMessageCount=len(found.sequence_numbers),
        DiscardedMessageCount=counts.discarded_messages,
        MonitoredItemCount=len(found.items),
        DisabledMonitoredItemCount=found.disabled_items,
        MonitoringQueueOverflowCount=counts.monitoring_queue_overflows,
        NextSequenceNumber=found.next_sequence,
        EventQueueOverflowCount=counts.event_queue_overflows,
    )


def _description(session: Session) -> Any:
    return ua.ApplicationDescription(
        ApplicationUri=session.client.application_uri,
        ApplicationName=ua.LocalizedText(session.client.application_name),
        ApplicationType=ua.ApplicationType.Client,
    )


def _counter(count: ServiceCount | None) -> Any:
    if count is None:
        return ua.ServiceCounterDataType()
    return ua.ServiceCounterDataType(TotalCount=count.total_count, ErrorCount=count.error_count)


def _ours(name: str) -> str:
    """Return a name of Part 5 as an attribute: ``RejectedSessionCount`` -> ``rejected_session_count``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
