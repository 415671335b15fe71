"""Certificates managed by a client over OPC UA: ServerConfiguration and its trust list (Part 12 §7.10).

Only on an encrypted channel and for SecurityAdmin. What changes is written down in a transaction of one
session and happens at ApplyChanges, all of it or nothing; a session that ends, or a crash before, leaves
everything as it was. The files are those of ``edge-opcua certs`` and ``edge-opcua trust``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.core.clock import Clock
from edge_opcua.errors import CertificateError, ConfigError, SecurityError
from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.seam import SecureServer, Session
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.standard.certificates import TRUST_LIST, CertificateWatch
from edge_opcua.opcua.standard.trustfile import (
    ALL,
    READ,
    WRITE_ALL,
    Handle,
    Handles,
    decode,
    encode,
    merged,
)
from edge_opcua.opcua.standard.variables import Variables, remove
from edge_opcua.opcua.values import utc
from edge_opcua.security.chain import der_of, is_authority, load
from edge_opcua.security.making import parse_subject
from edge_opcua.security.pki import Pki, local_names, thumbprint
from edge_opcua.security.renewal import Renewal, Replacement
from edge_opcua.security.trustfiles import (
    TrustContent,
    TrustFiles,
    dependents,
    usable_certificate,
    without,
)

__all__ = ["PushManagement"]

MIN_NONCE_BYTES: Final = 32
MAX_REJECTED_BYTES: Final = 1024 * 1024

_Ids = ua.ObjectIds
_Codes = ua.StatusCodes
_Kinds = ua.VariantType
_OBJECT: Final = ua.NodeId(_Ids.ServerConfiguration)
_GROUP: Final = ua.NodeId(_Ids.ServerConfiguration_CertificateGroups_DefaultApplicationGroup)
_RSA: Final = ua.NodeId(_Ids.RsaSha256ApplicationCertificateType)
_TYPES: Final = (ua.NodeId(), _RSA, ua.NodeId(_Ids.ApplicationCertificateType))
# What standard nodes offer and this server does not do.
_NOT_DONE: Final = (
    _Ids.ServerConfiguration_CertificateGroups_DefaultHttpsGroup,
    _Ids.ServerConfiguration_CertificateGroups_DefaultUserTokenGroup,
    _Ids.ServerConfiguration_ResetToServerDefaults,
    _Ids.ServerConfiguration_ConfigurationFile,
    _Ids.KeyCredentialConfiguration,
)
# What Part 12 answers to what is wrong with a certificate; the exact reason is in the log.
_STATUS: Final = {
    "S402": _Codes.BadCertificateTimeInvalid,
    "S403": _Codes.BadCertificateTimeInvalid,
    "S404": _Codes.BadCertificatePolicyCheckFailed,
    "S405": _Codes.BadCertificatePolicyCheckFailed,
    "S407": _Codes.BadSecurityChecksFailed,
    "S409": _Codes.BadCertificateUseNotAllowed,
    "S432": _Codes.BadSecurityChecksFailed,
    "S433": _Codes.BadCertificateUriInvalid,
    "S434": _Codes.BadNotSupported,
    "S436": _Codes.BadEncodingLimitsExceeded,
}

_Method = Callable[..., Awaitable[list[ua.Variant]]]

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Transaction:
    """What one session wants to change, until ApplyChanges (Part 12 §7.10.2).

    Args:
        session: Whose it is.
        started_ns: Since when, ns UTC.
        updates: Masks and lists of each update of the trust list, in their order.
        replacement: The certificate that shall become ours; None: ours stays.
    """

    session: ua.NodeId
    started_ns: int
    updates: list[tuple[int, TrustContent]] = field(default_factory=list)
    replacement: Replacement | None = None


@dataclass(slots=True)
class Outcome:
    """The last transaction, for TransactionDiagnostics (Part 12 §7.10.17).

    Args:
        started_ns: When it began, ns UTC; 0: never.
        ended_ns: When it ended.
        status: How.
        lists: The trust lists that it changed.
        groups: The certificate groups that it changed.
    """

    started_ns: int = 0
    ended_ns: int = 0
    status: int = 0
    lists: list[ua.NodeId] = field(default_factory=list)
    groups: list[ua.NodeId] = field(default_factory=list)


class PushManagement:
    """ServerConfiguration (i=12637).

    Args:
        server: The server, its address space loaded.
        watch: Has the thread for the files, and brings a new certificate into use.
        variables: Sets values.
        clock: Clock of the server.
        renewal: Examines and installs certificates of ours; None: with keys of the usual size.
    """

    def __init__(
        self,
        server: SecureServer,
        watch: CertificateWatch,
        variables: Variables,
        clock: Clock,
        renewal: Renewal | None = None,
    ) -> None:
        root = server.security.pki.root
        self._server = server
        self._core = server.iserver
        self._watch = watch
        self._variables = variables
        self._clock = clock
        self._renewal = renewal or Renewal(root, clock=clock)
        self._files = TrustFiles(root)
        self._handles = Handles()
        self._pending: Transaction | None = None
        self._last = Outcome()
        self._updated_ns = clock.utc_ns()
        self._one_at_a_time = asyncio.Lock()
        self._most_bytes = self._core.limits.trust_list_bytes

    # --- the nodes -----------------------------------------------------------------------------------

    async def install(self) -> None:
        """Fill the nodes and link the methods; before clients can connect."""
        remove(self._core.aspace, map(int, _NOT_DONE))
        await self._add_what_1_05_has()
        self._show()
        for name, method in self._methods().items():
            node = ua.NodeId(getattr(_Ids, name))
            self._core.aspace.add_method_callback(node, self._guarded(name.rpartition("_")[2], method))
        self._core.access.mark(Kind.SECURITY, self._subtree())

    def _methods(self) -> dict[str, _Method]:
        of_object: dict[str, _Method] = {
            "UpdateCertificate": self._update_certificate,
            "ApplyChanges": self._apply_changes,
            "CancelChanges": self._cancel_changes,
            "CreateSigningRequest": self._create_signing_request,
            "GetRejectedList": self._get_rejected_list,
            "GetCertificates": self._get_certificates,
        }
        of_list: dict[str, _Method] = {
            "Open": self._open,
            "OpenWithMasks": self._open_with_masks,
            "Close": self._close,
            "Read": self._read,
            "Write": self._write,
            "GetPosition": self._get_position,
            "SetPosition": self._set_position,
            "CloseAndUpdate": self._close_and_update,
            "AddCertificate": self._add_certificate,
            "RemoveCertificate": self._remove_certificate,
        }
        place = "ServerConfiguration_CertificateGroups_DefaultApplicationGroup_TrustList_"
        found = {f"ServerConfiguration_{name}": method for name, method in of_object.items()}
        return found | {place + name: method for name, method in of_list.items()}

    async def _add_what_1_05_has(self) -> None:
        """Add the method and the property of version 1.05 that asyncua's instance lacks."""
        arguments = [
            ua.Argument(Name=name, DataType=ua.NodeId(kind), ValueRank=rank)
            for name, kind, rank in (
                ("CertificateGroupId", _Ids.NodeId, -1),
                ("CertificateTypeIds", _Ids.NodeId, 1),
                ("Certificates", _Ids.ByteString, 1),
            )
        ]
        configuration = self._server.get_node(_OBJECT)
        node = ua.NodeId(_Ids.ServerConfiguration_GetCertificates)
        await configuration.add_method(
            node, "0:GetCertificates", self._get_certificates, arguments[:1], arguments[1:]
        )
        node = ua.NodeId(_Ids.ServerConfiguration_SupportsTransactions)
        await configuration.add_property(node, "0:SupportsTransactions", val=True)

    def _show(self) -> None:
        group = "ServerConfiguration_CertificateGroups_DefaultApplicationGroup_"
        own = self._server.security.pki
        for name, value, kind in (
            ("ServerConfiguration_ApplicationUri", own.application_uri, _Kinds.String),
            ("ServerConfiguration_ProductUri", self._server.product_uri, _Kinds.String),
            ("ServerConfiguration_ApplicationType", int(ua.ApplicationType.Server), _Kinds.Int32),
            ("ServerConfiguration_ServerCapabilities", ["DA"], _Kinds.String),
            ("ServerConfiguration_SupportedPrivateKeyFormats", ["PEM", "PFX"], _Kinds.String),
            ("ServerConfiguration_MaxTrustListSize", self._most_bytes, _Kinds.UInt32),
            ("ServerConfiguration_MulticastDnsEnabled", False, _Kinds.Boolean),
            ("ServerConfiguration_HasSecureElement", False, _Kinds.Boolean),
            (f"{group}CertificateTypes", [_RSA], _Kinds.NodeId),
            (f"{group}TrustList_Writable", True, _Kinds.Boolean),
            (f"{group}TrustList_UserWritable", True, _Kinds.Boolean),
        ):
            self._variables.show(int(getattr(_Ids, name)), value, kind)
        live = self._variables.live
        live(int(getattr(_Ids, f"{group}TrustList_OpenCount")), _Kinds.UInt16, self._open_count)
        live(
            int(getattr(_Ids, f"{group}TrustList_LastUpdateTime")),
            _Kinds.DateTime,
            lambda: utc(self._updated_ns),
        )
        # Part 12 §7.8.2.1: the size of a trust list has no meaning.
        size = self._core.aspace[ua.NodeId(getattr(_Ids, f"{group}TrustList_Size"))]
        no_size = ua.DataValue(ua.Variant(), ua.StatusCode(_Codes.BadNotSupported))
        size.attributes[ua.AttributeIds.Value].value = no_size
        last = "ServerConfiguration_TransactionDiagnostics_"
        rows: tuple[tuple[str, ua.VariantType, Callable[[], Any]], ...] = (
            ("StartTime", _Kinds.DateTime, lambda: utc(self._last.started_ns)),
            ("EndTime", _Kinds.DateTime, lambda: utc(self._last.ended_ns)),
            ("Result", _Kinds.StatusCode, lambda: ua.StatusCode(ua.UInt32(self._last.status))),
            ("AffectedTrustLists", _Kinds.NodeId, lambda: list(self._last.lists)),
            ("AffectedCertificateGroups", _Kinds.NodeId, lambda: list(self._last.groups)),
            ("Errors", _Kinds.ExtensionObject, list),
        )
        for name, kind, make in rows:
            live(int(getattr(_Ids, last + name)), kind, make)

    def _open_count(self) -> int:
        self._tidy()
        return len(self._handles)

    def _subtree(self) -> list[ua.NodeId]:
        found, todo = [], [_OBJECT]
        kinds = {ua.NodeId(_Ids.HasComponent), ua.NodeId(_Ids.HasProperty), ua.NodeId(_Ids.Organizes)}
        while todo:
            node = todo.pop()
            found.append(node)
            references = self._core.aspace[node].references
            todo += [
                r.NodeId
                for r in references
                if r.IsForward and r.ReferenceTypeId in kinds and r.NodeId in self._core.aspace
            ]
        return found

    def _guarded(self, name: str, method: _Method) -> _Method:
        """Return a method that looks who calls, runs alone, and answers with the codes of Part 12."""

        async def call(parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant]:  # noqa: ARG001 - asyncua's
            session: Session = caller()
            if not session.secured:
                raise ServiceError(_Codes.BadSecurityModeInsufficient)
            async with self._one_at_a_time:
                self._tidy()
                try:
                    return await method(session, *(argument.Value for argument in arguments))
                except CertificateError as exc:
                    self._refused(name, session, f"{exc} ({exc.code})")
                    raise ServiceError(_STATUS.get(exc.code, _Codes.BadCertificateInvalid)) from exc
                except SecurityError as exc:
                    self._refused(name, session, str(exc))
                    raise ServiceError(_Codes.BadInvalidArgument) from exc
                except (OSError, ConfigError) as exc:
                    self._refused(name, session, str(exc))
                    raise ServiceError(_Codes.BadResourceUnavailable) from exc

        return call

    @staticmethod
    def _refused(name: str, session: Session, reason: str) -> None:
        _log.warning("push.refused", method=name, who=session.who, reason=reason)

    def _tidy(self) -> None:
        """Forget what belongs to sessions that are gone (Part 12 §7.10.2)."""
        sessions = frozenset(session.session_id for session in self._core.sessions())
        self._handles.forget(sessions)
        if self._pending is not None and self._pending.session not in sessions:
            self._end(_Codes.BadRequestCancelledByClient)

    # --- the server's certificate ----------------------------------------------------------------------

    async def _update_certificate(
        self,
        session: Session,
        group: ua.NodeId | None,
        kind: ua.NodeId | None,
        certificate: bytes | None,
        issuers: list[bytes] | None,
        key_format: str | None,
        key: bytes | None,
    ) -> list[ua.Variant]:
        _check_group(group, kind)
        if key_format not in (None, "", "PEM", "PFX"):
            raise ServiceError(_Codes.BadNotSupported)
        self._check_nobody_else(session)
        found = await self._watch.call(
            lambda: self._renewal.examine(certificate or b"", key=key or None, issuers=issuers or ())
        )
        self._transaction(session).replacement = found
        return [_true()]

    async def _create_signing_request(
        self,
        session: Session,
        group: ua.NodeId | None,
        kind: ua.NodeId | None,
        subject: str | None,
        new_key: bool,  # noqa: FBT001 - Part 12's order
        nonce: bytes | None,
    ) -> list[ua.Variant]:
        _check_group(group, kind)
        if new_key and len(nonce or b"") < MIN_NONCE_BYTES:
            raise ServiceError(_Codes.BadInvalidArgument)
        wanted = parse_subject(subject) if subject else None
        request = await self._watch.call(
            lambda: self._renewal.request(
                names=local_names(self._server.security.names), subject=wanted, new_key=new_key
            )
        )
        _log.info("push.request_made", who=session.who, new_key=new_key)
        return [ua.Variant(request, _Kinds.ByteString)]

    async def _get_certificates(self, session: Session, group: ua.NodeId | None) -> list[ua.Variant]:  # noqa: ARG002
        _check_group(group, None)
        own = self._server.security.pki.certificate_der
        return [
            ua.Variant([_RSA], _Kinds.NodeId, is_array=True),
            ua.Variant([own], _Kinds.ByteString, is_array=True),
        ]

    async def _get_rejected_list(self, session: Session) -> list[ua.Variant]:  # noqa: ARG002 - one signature
        found = await self._watch.call(self._rejected)
        return [ua.Variant(found, _Kinds.ByteString, is_array=True)]

    def _rejected(self) -> list[bytes]:
        """Return who was refused, the newest first, as many as fit an answer."""
        knocks = sorted(self._server.security.trust.rejected(), key=lambda knock: knock.when, reverse=True)
        found: list[bytes] = []
        room = MAX_REJECTED_BYTES
        for knock in knocks:
            assert knock.file is not None, "a listed knock has its file"
            found.append(der_of(usable_certificate(knock.file.read_bytes())))
            room -= len(found[-1])
            if room < 0:
                return found[:-1]
        return found

    # --- transactions ----------------------------------------------------------------------------------

    def _check_nobody_else(self, session: Session) -> None:
        if self._pending is not None and self._pending.session != session.session_id:
            raise ServiceError(_Codes.BadTransactionPending)

    def _transaction(self, session: Session) -> Transaction:
        if self._pending is None:
            self._pending = Transaction(session.session_id, self._clock.utc_ns())
        return self._pending

    def _own_transaction(self, session: Session) -> Transaction:
        if self._pending is None:
            raise ServiceError(_Codes.BadNothingToDo)
        self._check_nobody_else(session)
        return self._pending

    async def _apply_changes(self, session: Session) -> list[ua.Variant]:
        """Part 12 §7.10.9: all changes are looked at once more, then all of them happen."""
        pending = self._own_transaction(session)
        if self._handles.writing:
            raise ServiceError(_Codes.BadInvalidState)
        try:
            async with self._watch.changing_trust(session.who, session.session_id):
                pki = await self._watch.call(self._apply, pending)
        except BaseException:
            self._end(_Codes.BadTransactionFailed)
            raise
        self._end(0, lists=bool(pending.updates), groups=pki is not None)
        if pending.updates:
            self._updated_ns = self._clock.utc_ns()
        if pki is not None:
            self._watch.adopt(pki, who=session.who, session=session.session_id)
        return []

    def _apply(self, pending: Transaction) -> Pki | None:
        after = self._files.content()
        for masks, written in pending.updates:  # over what is there now: somebody may have trusted a client
            after = merged(after, masks, written)
        if pending.updates:
            self._files.examine(after)
            self._files.replace(after)
        return self._renewal.install(pending.replacement) if pending.replacement else None

    async def _cancel_changes(self, session: Session) -> list[ua.Variant]:
        self._own_transaction(session)
        self._end(_Codes.BadRequestCancelledByClient)
        return []

    def _end(self, status: int, *, lists: bool = False, groups: bool = False) -> None:
        assert self._pending is not None, "asked before"
        self._last = Outcome(
            self._pending.started_ns,
            self._clock.utc_ns(),
            int(status),
            [TRUST_LIST] if lists else [],
            [_GROUP] if groups else [],
        )
        self._pending = None

    # --- the trust list as a file ------------------------------------------------------------------------

    async def _open(self, session: Session, mode: int) -> list[ua.Variant]:
        if mode == WRITE_ALL:
            self._check_nobody_else(session)
            return [self._handle(Handle(session.session_id, writing=True))]
        if mode != READ:
            raise ServiceError(_Codes.BadNotSupported)
        return await self._open_with_masks(session, ALL)

    async def _open_with_masks(self, session: Session, masks: int) -> list[ua.Variant]:
        if masks & ~ALL:
            raise ServiceError(_Codes.BadInvalidArgument)
        content = await self._watch.call(self._files.content)
        data = bytearray(encode(content, masks))
        return [self._handle(Handle(session.session_id, writing=False, data=data))]

    def _handle(self, handle: Handle) -> ua.Variant:
        return ua.Variant(self._handles.open(handle), _Kinds.UInt32)

    async def _close(self, session: Session, number: int) -> list[ua.Variant]:
        self._handles.close(number, session.session_id)
        return []

    async def _read(self, session: Session, number: int, length: int) -> list[ua.Variant]:
        return [ua.Variant(self._handles.get(number, session.session_id).read(length), _Kinds.ByteString)]

    async def _write(self, session: Session, number: int, data: bytes | None) -> list[ua.Variant]:
        self._handles.get(number, session.session_id).write(data or b"", self._most_bytes)
        return []

    async def _get_position(self, session: Session, number: int) -> list[ua.Variant]:
        return [ua.Variant(self._handles.get(number, session.session_id).position, _Kinds.UInt64)]

    async def _set_position(self, session: Session, number: int, position: int) -> list[ua.Variant]:
        self._handles.get(number, session.session_id).seek(position)
        return []

    async def _close_and_update(self, session: Session, number: int) -> list[ua.Variant]:
        """Part 12 §7.8.2.5: looked at now, in force with ApplyChanges."""
        if not self._handles.get(number, session.session_id).writing:
            raise ServiceError(_Codes.BadInvalidState)
        handle = self._handles.close(number, session.session_id)
        self._check_nobody_else(session)
        masks, written = decode(bytes(handle.data))
        earlier = list(self._pending.updates) if self._pending is not None else []

        def look() -> None:
            content = self._files.content()
            for update in (*earlier, (masks, written)):
                content = merged(content, *update)
            self._check_size(content)
            self._files.examine(content)

        await self._watch.call(look)
        self._transaction(session).updates.append((masks, written))
        return [_true()]

    async def _add_certificate(
        self,
        session: Session,
        certificate: bytes | None,
        trusted: bool,  # noqa: FBT001 - Part 12's order
    ) -> list[ua.Variant]:
        """Part 12 §7.8.2.6: at once; an authority comes by Write, since it needs its revocation list."""
        self._check_idle()
        one = usable_certificate(certificate or b"")
        if not trusted or is_authority(one):
            raise ServiceError(_Codes.BadCertificateInvalid)
        before = await self._watch.call(self._files.content)
        update = TrustContent(trusted=(*before.trusted, der_of(one)))
        await self._change(session, merged(before, 1, update))
        return []

    async def _remove_certificate(
        self,
        session: Session,
        print_: str | None,
        trusted: bool,  # noqa: FBT001 - Part 12's order
    ) -> list[ua.Variant]:
        """Part 12 §7.8.2.7: at once, an authority together with its revocation lists."""
        self._check_idle()
        wanted = (print_ or "").replace(" ", "").upper()
        await self._change(session, await self._watch.call(self._without, wanted, trusted))
        return []

    def _without(self, wanted: str, trusted: bool) -> TrustContent:  # noqa: FBT001 - passed on
        before = self._files.content()
        listed = before.trusted if trusted else before.issuers
        found = next((der for der in listed if thumbprint(der) == wanted), None)
        if found is None:
            raise ServiceError(_Codes.BadInvalidArgument)
        certificate = load(found)
        after = without(certificate, before, trusted=trusted)
        if dependents(certificate, after):
            raise ServiceError(_Codes.BadCertificateChainIncomplete)
        return after

    def _check_idle(self) -> None:
        if self._pending is not None:
            raise ServiceError(_Codes.BadTransactionPending)
        if len(self._handles):
            raise ServiceError(_Codes.BadInvalidState)

    def _check_size(self, content: TrustContent) -> None:
        if len(encode(content, ALL)) > self._most_bytes:
            raise ServiceError(_Codes.BadEncodingLimitsExceeded)

    async def _change(self, session: Session, after: TrustContent) -> None:
        self._check_size(after)

        def change() -> None:
            self._files.examine(after)
            self._files.replace(after)

        async with self._watch.changing_trust(session.who, session.session_id):
            await self._watch.call(change)
        self._updated_ns = self._clock.utc_ns()


def _check_group(group: ua.NodeId | None, kind: ua.NodeId | None) -> None:
    """Part 12 §7.10.4: there is one group; null means that one."""
    if (group or ua.NodeId()) not in (ua.NodeId(), _GROUP) or (kind or ua.NodeId()) not in _TYPES:
        raise ServiceError(_Codes.BadInvalidArgument)


def _true() -> ua.Variant:
    return ua.Variant(True, _Kinds.Boolean)  # noqa: FBT003 - ApplyChangesRequired
