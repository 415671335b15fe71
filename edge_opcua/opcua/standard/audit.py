"""What clients did and what they were refused: audit events for those who may know, and the journal.

Part 5 §6.5. The services tell of an act and go on; nothing in here can delay or break their request. What
strangers do again and again is folded: the first of a minute is told, then how many there were.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.core.clock import Clock
from edge_opcua.errors import EdgeError
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.types import SERVER, is_long
from edge_opcua.opcua.values import utc

__all__ = ["TYPES", "AuditTrail", "Folding", "audit_event", "audit_types", "journal_record"]

FOLD_S: Final = 60.0
# Kinds of refusals told apart within one fold; beyond that they are only counted together.
MAX_KINDS: Final = 60
# Connections of one client that are told one by one in that time.
MAX_EQUAL: Final = 60
# Events that wait for delivery; the oldest is dropped and counted, the journal has it.
MAX_WAITING: Final = 1000
MAX_TEXT: Final = 500
# Elements, letters or bytes of a value in an event: queues of events are not for megabytes.
MAX_VALUE: Final = 65_536
_FEW: Final = 50

DONE_SEVERITY: Final = 100
REFUSED_SEVERITY: Final = 500
ALARMING_SEVERITY: Final = 700

_IDS: Final = ua.ObjectIds
_KINDS: Final = ua.VariantType
# What is told as which type of Part 5 §6.5 and Part 12 §7.8, with the SourceName that Part 5 wants.
TYPES: Final[dict[str, tuple[int, str]]] = {
    "channel.opened": (_IDS.AuditOpenSecureChannelEventType, "SecureChannel/OpenSecureChannel"),
    "channel.refused": (_IDS.AuditOpenSecureChannelEventType, "SecureChannel/OpenSecureChannel"),
    "channel.closed": (_IDS.AuditChannelEventType, "SecureChannel/CloseSecureChannel"),
    "session.created": (_IDS.AuditCreateSessionEventType, "Session/CreateSession"),
    "session.activated": (_IDS.AuditActivateSessionEventType, "Session/ActivateSession"),
    "session.closed": (_IDS.AuditSessionEventType, "Session/CloseSession"),
    "request.cancelled": (_IDS.AuditCancelEventType, "Session/Cancel"),
    "value.written": (_IDS.AuditWriteUpdateEventType, "Attribute/Write"),
    "method.called": (_IDS.AuditUpdateMethodEventType, "Attribute/Call"),
    "certificate.updated": (_IDS.CertificateUpdatedAuditEventType, "Method/UpdateCertificate"),
    "trust.changed": (_IDS.TrustListUpdatedAuditEventType, "Method/TrustList"),
    "url.mismatched": (_IDS.AuditUrlMismatchEventType, "Session/CreateSession"),
}
_OTHER: Final = (_IDS.AuditSecurityEventType, "Server")
# A refused certificate has a type of its own for most reasons (security/trust.py REASONS).
_CERTIFICATE_TYPES: Final[dict[str, int]] = {
    "S401": _IDS.AuditCertificateUntrustedEventType,
    "S402": _IDS.AuditCertificateExpiredEventType,
    "S403": _IDS.AuditCertificateExpiredEventType,
    "S404": _IDS.AuditCertificateInvalidEventType,
    "S405": _IDS.AuditCertificateInvalidEventType,
    "S406": _IDS.AuditCertificateInvalidEventType,
    "S407": _IDS.AuditCertificateUntrustedEventType,
    "S408": _IDS.AuditCertificateRevokedEventType,
    "S409": _IDS.AuditCertificateMismatchEventType,
    "S410": _IDS.AuditCertificateDataMismatchEventType,
    "S416": _IDS.AuditCertificateRevokedEventType,  # or it is not known
    "S420": _IDS.AuditCertificateDataMismatchEventType,
    "S421": _IDS.AuditCertificateDataMismatchEventType,
}
# No act of a client: for the journal, and for whoever is to be told by other means.
_NO_EVENT: Final = frozenset({"certificate.expires"})
# Leaves everything as it was, and a client may do it a thousand times a second.
_NO_RECORD: Final = frozenset({"request.cancelled"})
_CONNECTING: Final = frozenset(
    {"channel.opened", "session.created", "session.activated", "session.closed", "url.mismatched"}
)
_MORE: Final = ("more",)
_ALARMING: Final = frozenset({"user.locked", "certificate.updated", "trust.changed"})
_OF_A_NODE: Final = frozenset({"value.written", "method.called"})
_NOT_ALLOWED: Final = frozenset(
    {ua.StatusCodes.BadUserAccessDenied, ua.StatusCodes.BadNotWritable, ua.StatusCodes.BadNotExecutable}
)
_FIELDS: Final[dict[str, ua.VariantType]] = {
    "ClientAuditEntryId": _KINDS.String,
    "SecureChannelId": _KINDS.String,
    "ClientCertificate": _KINDS.ByteString,
    "ClientCertificateThumbprint": _KINDS.String,
    "RequestType": _KINDS.Int32,
    "SecurityPolicyUri": _KINDS.String,
    "SecurityMode": _KINDS.Int32,
    "RequestedLifetime": _KINDS.Double,
    "RevisedSessionTimeout": _KINDS.Double,
    "CurrentRoleIds": _KINDS.NodeId,
    "UserIdentityToken": _KINDS.ExtensionObject,
    "RequestHandle": _KINDS.UInt32,
    "Certificate": _KINDS.ByteString,
    "AttributeId": _KINDS.UInt32,
    "IndexRange": _KINDS.String,
    "MethodId": _KINDS.NodeId,
    "InputArguments": _KINDS.Variant,
    "OutputArguments": _KINDS.Variant,
    "TrustListId": _KINDS.NodeId,
    "CertificateGroup": _KINDS.NodeId,
    "CertificateType": _KINDS.NodeId,
}

Journal = Callable[[Mapping[str, Any]], None]
Emit = Callable[[PlantEvent, Iterable[ua.NodeId]], Awaitable[None]]

_log = structlog.get_logger(__name__)


def audit_types(aspace: AddressSpace) -> list[ua.NodeId]:
    """Return AuditEventType and every type below it."""
    found = [ua.NodeId(_IDS.AuditEventType)]
    for node in found:
        found += [
            ref.NodeId
            for ref in aspace[node].references
            if ref.IsForward and ref.ReferenceTypeId == ua.NodeId(_IDS.HasSubtype)
        ]
    return found


@dataclass(slots=True)
class _Fold:
    act: Act
    told: int = 1
    more: int = 0


class Folding:
    """Tells the first of many equal acts, and once a minute how many more there were.

    Args:
        clock: Says when a minute is over.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._folds: dict[tuple[str, ...], _Fold] = {}
        self._since_s = clock.monotonic_s()

    def take(self, act: Act) -> bool:
        """Whether to tell of an act now: of a refusal the first, of what was done everything.

        Only of a client that connects more than :data:`MAX_EQUAL` times a minute the rest is counted, too.
        """
        if not act.status and act.kind not in _CONNECTING:
            return True
        key = _likeness(act)
        fold = self._folds.get(key)
        if fold is None:
            return self._begin(key, act)
        if fold.told < (1 if act.status else MAX_EQUAL):
            fold.told += 1
            return True
        fold.more += 1
        return False

    def _begin(self, key: tuple[str, ...], act: Act) -> bool:
        if len(self._folds) < MAX_KINDS or not act.status:
            self._folds[key] = _Fold(act)
            return True
        rest = Act("refusals.more", act.status, facts={"reason": "of many kinds"})
        self._folds.setdefault(_MORE, _Fold(rest)).more += 1
        return False

    def due(self) -> list[Act]:
        """Return what was folded, if the minute is over."""
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s < FOLD_S:
            return []
        self._since_s = now_s
        return self.rest()

    def rest(self) -> list[Act]:
        """Return what was folded until now, and begin anew."""
        folds, self._folds = list(self._folds.values()), {}
        return [
            replace(fold.act, facts={**fold.act.facts, "more_in_a_minute": fold.more}, event={})
            for fold in folds
            if fold.more
        ]


def _likeness(act: Act) -> tuple[str, ...]:
    """Return what makes two refusals equal: a client that comes again has another port."""
    who = act.who
    head, colon, port = who.rstrip(")").rpartition(":")
    if colon and port.isdigit():
        who = head
    if act.kind in _CONNECTING and not act.status:
        who = who.rpartition("(")[2]  # the name before that is the client's to choose, another each time
    user = str(act.facts.get("user", ""))  # each name that is tried is told
    return (act.kind, str(act.status), who, user, str(act.facts.get("code", "")), str(act.node))


def audit_event(act: Act, server_uri: str, time: dt.datetime | None) -> PlantEvent:
    """Return the event of an act; pure.

    Args:
        act: What happened.
        server_uri: ServerId.
        time: When.
    """
    event_type, source_name = TYPES.get(act.kind, _OTHER)
    certificate_type = _CERTIFICATE_TYPES.get(str(act.facts.get("code", "")))
    if act.kind == "channel.refused" and certificate_type is not None:
        event_type, source_name = certificate_type, "Security/Certificate"
    of_node = act.kind in _OF_A_NODE and not act.node.is_null() and not is_long(act.node)
    source = act.node if of_node else SERVER
    event = PlantEvent(
        ua.NodeId(event_type),
        (source, source_name),
        message=_message(act),
        severity=_severity(act),
        time=time,
    )
    rows = (
        ("ActionTimeStamp", time, _KINDS.DateTime),
        ("Status", not act.status, _KINDS.Boolean),
        ("ServerId", server_uri, _KINDS.String),
        ("ClientUserId", str(act.facts.get("user", "")), _KINDS.String),
        ("ClientApplicationUri", act.facts.get("application_uri"), _KINDS.String),
        ("StatusCodeId", ua.StatusCode(ua.UInt32(act.status)), _KINDS.StatusCode),
        ("SessionId", act.session, _KINDS.NodeId),
    )
    for name, value, kind in rows:
        event.add_property(name, value, kind)
    for fact, field in (("thumbprint", "ClientCertificateThumbprint"), ("endpoint_url", "EndpointUrl")):
        if act.facts.get(fact):
            event.add_property(field, str(act.facts[fact]), _KINDS.String)
    for name, given in act.event.items():
        value = given if _size(given) <= MAX_VALUE else None
        if isinstance(value, ua.Variant):
            event.add_property(name, value.Value, value.VariantType)
        elif name in _FIELDS:
            event.add_property(name, value, _FIELDS[name])
    return event


def _severity(act: Act) -> int:
    if act.kind in _ALARMING:
        return ALARMING_SEVERITY
    return REFUSED_SEVERITY if act.status else DONE_SEVERITY


def _message(act: Act) -> str:
    """Return one sentence with the exact reason: whoever receives it is there to know it."""
    parts = [act.kind.replace(".", " "), f"by {act.who}" if act.who else "", _outcome(act)]
    if any(_size(value) > MAX_VALUE for value in act.event.values()):
        parts.append("values too large to tell")
    more = act.facts.get("more_in_a_minute")
    parts.append(f"and {more} more like it" if more else "")
    return _clip(", ".join(part for part in parts if part))


def _size(value: Any) -> int:
    """Return how many elements, letters or bytes a value has; of an array of numbers without counting."""
    if isinstance(value, ua.Variant):
        return _size(value.Value)
    if isinstance(value, (list, tuple)):
        simple = not value or isinstance(value[0], (bool, int, float))
        return len(value) if simple else len(value) + sum(map(_size, value))
    return len(value) if isinstance(value, (str, bytes)) else 1


def _outcome(act: Act) -> str:
    """Return the status and the reason, e.g. ``BadUserAccessDenied: wrong password``."""
    reason = act.facts.get("reason")
    name = ua.StatusCode(ua.UInt32(act.status)).name
    return _clip(f"{name}: {reason}" if reason else name)


def journal_record(act: Act) -> dict[str, Any]:
    """Return the record of an act as the journal keeps it; pure."""
    body: dict[str, Any] = {"what": act.kind, "who": _clip(act.who), "outcome": _outcome(act)}
    if not act.session.is_null():
        body["session"] = act.session.to_string()
    if not act.node.is_null():
        body["node"] = _clip(act.node.to_string())
    new = act.event.get("NewValue")
    if new is not None:
        value = new.Value if isinstance(new, ua.Variant) else new
        body["new"] = _clip(
            str(value[:_FEW] if isinstance(value, (list, str, bytes)) and _size(value) > MAX_TEXT else value)
        )
    for name, value in act.facts.items():
        body.setdefault(name, _plain(value))
    return body


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_clip(str(name)): _plain(each) for name, each in list(value.items())[:50]}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [_plain(each) for each in list(value)[:50]]
    return _clip(str(value))


def _clip(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[: MAX_TEXT + 1])
    return printable if len(printable) <= MAX_TEXT else printable[: MAX_TEXT - 1] + "…"


class AuditTrail:
    """The listener behind ``core.audit``.

    Args:
        emit: Delivers an event to those who may receive it.
        journal: Keeps a record; must not block.
        server_uri: Our ApplicationUri.
        clock: For times and folding.
        journaled_elsewhere: Whether another process keeps the record of an act.
        harmless: Whether an act is of no interest to anybody, e.g. a client that looks up a name.
    """

    def __init__(
        self,
        emit: Emit,
        journal: Journal,
        *,
        server_uri: str,
        clock: Clock,
        journaled_elsewhere: Callable[[Act], bool],
        harmless: Callable[[Act], bool],
    ) -> None:
        self._harmless = harmless
        self._emit = emit
        self._journal = journal
        self._server_uri = server_uri
        self._clock = clock
        self._elsewhere = journaled_elsewhere
        self._folding = Folding(clock)
        self._waiting: deque[PlantEvent] = deque(maxlen=MAX_WAITING)
        self._came = asyncio.Event()
        self.dropped = 0

    def mark(self, access: Access, aspace: AddressSpace) -> None:
        """Let only those receive audit events who look after security."""
        access.mark(Kind.AUDIT, audit_types(aspace))

    def tell(self, act: Act) -> None:
        """Take an act over; returns at once and never raises."""
        try:
            elsewhere = self._elsewhere(act)
            if self._harmless(act):
                return
            if self._folding.take(act):
                self._say(act, elsewhere=elsewhere)
                self._keep(act, elsewhere=elsewhere)
        except Exception as exc:  # noqa: BLE001 - boundary: a service's answer does not depend on its record
            _log.error("audit.failed", kind=act.kind, error=repr(exc), exc_info=exc)

    async def run(self) -> None:
        """Deliver events until cancelled; then what was folded is kept, too."""
        try:
            while True:
                for act in self._folding.due():
                    self._keep(act)
                await self._deliver()
                await self._until_something_comes()
        finally:
            for act in self._folding.rest():
                self._keep(act)

    def _say(self, act: Act, *, elsewhere: bool) -> None:
        """Log a write or call that somebody was not allowed: the first thing that is asked for afterwards."""
        if act.kind not in _OF_A_NODE or act.status not in _NOT_ALLOWED or elsewhere:
            return
        facts = {name: act.facts[name] for name in ("method", "reason") if name in act.facts}
        status = ua.StatusCode(ua.UInt32(act.status)).name
        node = act.node.to_string()
        _log.info("access.refused", act=act.kind, node=node, user=act.who, status=status, **facts)

    def _keep(self, act: Act, *, elsewhere: bool = False) -> None:
        if not elsewhere and act.kind not in _NO_RECORD:
            try:
                self._journal(journal_record(act))
            except EdgeError as exc:  # too large, or not sayable in JSON
                _log.error("audit.not_kept", kind=act.kind, error=str(exc))
        if act.kind in _NO_EVENT:
            return
        self.dropped += len(self._waiting) == MAX_WAITING
        self._waiting.append(audit_event(act, self._server_uri, utc(self._clock.utc_ns())))
        self._came.set()

    async def _deliver(self) -> None:
        while self._waiting:
            event = self._waiting.popleft()
            try:
                await self._emit(event, ())
            except Exception as exc:  # noqa: BLE001 - boundary: one event that cannot be delivered stops no other
                _log.error("audit.not_delivered", error=repr(exc), exc_info=exc)

    async def _until_something_comes(self) -> None:
        self._came.clear()
        try:
            async with asyncio.timeout(FOLD_S / 4):
                await self._came.wait()
        except TimeoutError:
            return  # time to look whether the minute is over


def nowhere(record: Mapping[str, Any]) -> None:
    """Keep no journal: a server of a test or an example."""
