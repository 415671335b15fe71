"""What the server and its sessions count since start, under the names of Part 5 §12.9, §12.12."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from asyncua import ua

__all__ = ["SECURITY_CODES", "ServerCounts", "ServiceCount", "SessionCounts"]

# Refusals that are about who somebody is or what he may do (Part 5 §12.9: "due to security constraints").
SECURITY_CODES: Final = frozenset(
    int(getattr(ua.StatusCodes, name))
    for name in (
        "BadSecurityChecksFailed",
        "BadSecurityModeInsufficient",
        "BadSecurityModeRejected",
        "BadSecurityPolicyRejected",
        "BadCertificateInvalid",
        "BadCertificateUriInvalid",
        "BadApplicationSignatureInvalid",
        "BadUserSignatureInvalid",
        "BadNonceInvalid",
        "BadIdentityTokenInvalid",
        "BadIdentityTokenRejected",
        "BadUserAccessDenied",
        "BadSecureChannelIdInvalid",
        "BadSessionIdInvalid",
        "BadSessionNotActivated",
        "BadTcpSecureChannelUnknown",
    )
)


@dataclass(slots=True)
class ServerCounts:
    """ServerDiagnosticsSummary without what can be counted by looking.

    Attributes:
        cumulated_session_count: Sessions ever created.
        security_rejected_session_count: CreateSession and ActivateSession refused for security.
        rejected_session_count: The same for any reason.
        session_timeout_count: Sessions that timed out.
        session_abort_count: Sessions that ended without CloseSession: connection lost, or no place left.
        security_rejected_requests_count: Other requests refused for security.
        rejected_requests_count: The same for any reason.
        rejected_connection_count: Connections dropped because there were too many, before anything was said.
    """

    cumulated_session_count: int = 0
    security_rejected_session_count: int = 0
    rejected_session_count: int = 0
    session_timeout_count: int = 0
    session_abort_count: int = 0
    security_rejected_requests_count: int = 0
    rejected_requests_count: int = 0
    rejected_connection_count: int = 0

    def refused(self, code: int, *, session_wanted: bool) -> None:
        """Count a request that was answered with a ServiceFault.

        Args:
            code: Its StatusCode.
            session_wanted: Whether it was a CreateSession or ActivateSession.
        """
        security = code in SECURITY_CODES
        if session_wanted:
            self.rejected_session_count += 1
            self.security_rejected_session_count += security
        else:
            self.rejected_requests_count += 1
            self.security_rejected_requests_count += security


@dataclass(slots=True)
class ServiceCount:
    """ServiceCounterDataType: requests of one service, and those answered with a ServiceFault."""

    total_count: int = 0
    error_count: int = 0


@dataclass(slots=True)
class SessionCounts:
    """What one session asked for.

    Attributes:
        all: Every request.
        unauthorized_request_count: Requests refused for security.
        services: By name of the service; only those that were used.
    """

    all: ServiceCount = field(default_factory=ServiceCount)
    unauthorized_request_count: int = 0
    services: dict[str, ServiceCount] = field(default_factory=dict)

    def asked(self, service: str) -> None:
        """Count a request."""
        self.all.total_count += 1
        count = self.services.get(service)
        if count is None:
            count = self.services[service] = ServiceCount()
        count.total_count += 1

    def refused(self, service: str, code: int) -> None:
        """Count that a request was answered with a ServiceFault."""
        self.all.error_count += 1
        self.services.setdefault(service, ServiceCount()).error_count += 1
        self.unauthorized_request_count += code in SECURITY_CODES
