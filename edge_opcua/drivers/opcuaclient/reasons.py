"""Why an OPC UA server does not let us in or gives no value: stable code, sentence, next step."""

from __future__ import annotations

from typing import Final

from asyncua import ua

from edge_opcua.drivers.reasons import GARBLED, REFUSED, Reason
from edge_opcua.drivers.wire import Fault, FaultKind

NOT_SERVING: Final = Reason(
    REFUSED.code,
    "refuses the connection",
    "check the port; activate the OPC UA server in the device (S7-1500, CPU properties, and its licence)",
)
WEAK: Final = Reason(
    "D370",
    "offers no such security",
    "activate Basic256Sha256 with SignAndEncrypt in the server, or choose what it offers",
)
UNTRUSTED: Final = Reason(
    "D371", "shows a certificate not trusted here", "compare its thumbprint with the device's own"
)
UNWELCOME: Final = Reason("D372", "does not take our certificate", "trust it in the server")
STRANGER: Final = Reason("D373", "does not let the user in", "check user and password in the server")
CROWDED: Final = Reason(
    "D377", "has no room for another session", "close other clients, or allow more sessions in the server"
)
CONFUSED: Final = Reason("D378", "does not go along", "check host, port and path of the URL")
UNREADABLE: Final = Reason("D379", "cannot be used", "check path, owner and chmod 600")

_S: Final = ua.StatusCodes
_REFUSALS: Final[dict[int, Reason]] = {
    # What is longer than any answer, or of no kind of message, was not sent by an OPC UA server.
    **dict.fromkeys((_S.BadTcpMessageTooLarge, _S.BadTcpMessageTypeInvalid), GARBLED),
    **dict.fromkeys(
        (_S.BadSecurityPolicyRejected, _S.BadSecurityModeRejected, _S.BadSecurityModeInsufficient), WEAK
    ),
    **dict.fromkeys(
        (
            _S.BadCertificateUntrusted,
            _S.BadSecurityChecksFailed,
            _S.BadCertificateInvalid,
            _S.BadCertificateTimeInvalid,
            _S.BadCertificateIssuerTimeInvalid,
            _S.BadCertificateHostNameInvalid,
            _S.BadCertificateUriInvalid,
            _S.BadCertificateUseNotAllowed,
            _S.BadCertificateIssuerUseNotAllowed,
            _S.BadCertificateRevocationUnknown,
            _S.BadCertificateIssuerRevocationUnknown,
            _S.BadCertificateRevoked,
            _S.BadCertificateIssuerRevoked,
            _S.BadCertificateChainIncomplete,
            _S.BadCertificatePolicyCheckFailed,
            _S.BadNoValidCertificates,
            _S.BadApplicationSignatureInvalid,
        ),
        UNWELCOME,
    ),
    **dict.fromkeys(
        (
            _S.BadIdentityTokenInvalid,
            _S.BadIdentityTokenRejected,
            _S.BadUserAccessDenied,
            _S.BadUserSignatureInvalid,
            _S.BadIdentityChangeNotSupported,
        ),
        STRANGER,
    ),
    **dict.fromkeys(
        (
            _S.BadTooManySessions,
            _S.BadTcpNotEnoughResources,
            _S.BadMaxConnectionsReached,
            _S.BadTcpServerTooBusy,
            _S.BadOutOfMemory,
            _S.BadResourceUnavailable,
        ),
        CROWDED,
    ),
}

# What a server says about one node, instead of a value (Part 4 §5.11.2.4); anything else is about the value.
_NODES: Final[dict[int, tuple[FaultKind, str, str]]] = {
    _S.BadNodeIdUnknown: (FaultKind.ADDRESS, "D375", "the server has no such node"),
    _S.BadNodeIdInvalid: (FaultKind.ADDRESS, "D375", "the server takes this for no node"),
    _S.BadAttributeIdInvalid: (FaultKind.ADDRESS, "D375", "the node is no variable"),
    _S.BadIndexRangeInvalid: (FaultKind.ADDRESS, "D374", "the server cannot read a part of it"),
    _S.BadIndexRangeNoData: (FaultKind.ADDRESS, "D374", "its array has no such elements"),
    _S.BadIndexRangeDataMismatch: (FaultKind.ADDRESS, "D374", "its array has another length"),
    _S.BadNotReadable: (FaultKind.DENIED, "D376", "the node cannot be read"),
    _S.BadUserAccessDenied: (FaultKind.DENIED, "D376", "this user may not"),
    _S.BadSecurityModeInsufficient: (FaultKind.DENIED, "D376", "only over an encrypted connection"),
    _S.BadNotWritable: (FaultKind.DENIED, "D376", "the node cannot be written"),
    _S.BadWriteNotSupported: (FaultKind.DENIED, "D376", "the server does not write it this way"),
    _S.BadTypeMismatch: (FaultKind.ADDRESS, "D374", "the node has another type"),
    _S.BadOutOfRange: (FaultKind.ADDRESS, "D376", "the value is outside what the server takes"),
}


def status_text(code: int) -> str:
    """Return the name of a StatusCode, e.g. ``BadNodeIdUnknown``; its number if it has none."""
    name: str = ua.status_codes.get_name_and_doc(code & 0xFFFF0000)[0]
    return f"0x{code:08X}" if name in ("Good", "Uncertain", "Bad") else name


def refusal(code: int) -> Reason:
    """Return why a server ended a handshake or refused a service."""
    found = _REFUSALS.get(code, CONFUSED)
    return Reason(found.code, f"{found.sentence} ({status_text(code)})", found.step)


def is_of_node(code: int) -> bool:
    """Return whether a status says that there is no value to be had here, rather than how good one is."""
    return code & 0xFFFF0000 in _NODES


def node_fault(code: int, what: str) -> Fault:
    """Return the refusal of one node.

    Args:
        code: Its StatusCode.
        what: What was asked, e.g. ``read of i=2258``.
    """
    kind, stable, text = _NODES[code & 0xFFFF0000]
    return Fault(kind, f"{stable} {what}: {text} ({status_text(code)})")


def write_refusal(code: int, what: str) -> tuple[str, str]:
    """Return stable code and sentence of a write that a server refused."""
    _, stable, text = _NODES.get(code & 0xFFFF0000, (FaultKind.DEVICE, "D376", "the server refuses"))
    return stable, f"{stable} {what}: {text} ({status_text(code)})"


def mismatch(what: str, found: str, wanted: str) -> Fault:
    """Return the refusal of a node whose type is not the one its address names."""
    return Fault(FaultKind.DENIED, f"D374 {what}: the node is {found}, the address says {wanted}")
