"""Reads what a stranger may send before he is known, without ever decoding objects of his choice.

An ExtensionObject names the type it wants to be, and a Variant inside may unfold to gigabytes. Before a
session is active two fields can hold one: the AdditionalHeader, which nothing here needs, and the identity
token, of which four types exist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hmac
import struct
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua import ua_binary, uatypes
from asyncua.ua.ua_binary import Primitives, nodeid_from_binary, struct_from_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.guard import check_request

_TIMESTAMP_BYTES: Final = 8
# Structures that are decoded in about a millisecond.
_AT_ONCE: Final = 40
_BODY_FOLLOWS: Final = 0x03  # Part 6 §5.2.2.15: as ByteString or as XmlElement
# A NodeId in the form of two numbers, as every request's TypeId is sent.
TYPE_BYTES: Final = 4
# An AuthenticationToken as we give it: a ByteString of 32 in namespace 0, and the secret. Then Timestamp
# (passed over), RequestHandle, ReturnDiagnostics (passed over), AuditEntryId, TimeoutHint, AdditionalHeader.
_ORDINARY: Final = struct.Struct("<7s32s8xI4xiI3s")
_ORDINARY_END: Final = TYPE_BYTES + _ORDINARY.size
_TOKEN_FORM: Final = b"\x05\x00\x00\x20\x00\x00\x00"
_NO_TEXT: Final = (-1, 0)
_NO_OBJECT: Final = b"\x00\x00\x00"
_IDENTITY_TOKENS: Final = frozenset(
    ua.NodeId(getattr(ua.ObjectIds, f"{kind}IdentityToken_Encoding_DefaultBinary"))
    for kind in ("Anonymous", "UserName", "X509", "Issued")
) | {ua.NodeId()}


class Ordinary(NamedTuple):
    """What a RequestHeader says that has nothing unusual in it.

    Attributes:
        handle: RequestHandle.
        hint_ms: TimeoutHint.
        at: Where the parameters begin.
    """

    handle: int
    hint_ms: int
    at: int


def ordinary_header(whole: bytes, token: bytes) -> Ordinary | None:
    """Read the header of a request behind a TypeId of four bytes (Part 4 §7.33).

    Args:
        whole: The request.
        token: The secret of the session's AuthenticationToken, compared in constant time.

    Returns:
        The header; None: of another session, with an AuditEntryId, or in another form, about all of which
        :func:`read_header` and whoever asks it decide.
    """
    if len(whole) < _ORDINARY_END:
        return None
    form, sent, handle, audit, hint_ms, additional = _ORDINARY.unpack_from(whole, TYPE_BYTES)
    if form != _TOKEN_FORM or audit not in _NO_TEXT or additional != _NO_OBJECT:
        return None
    if not hmac.compare_digest(sent, token):
        return None
    return Ordinary(handle, hint_ms, _ORDINARY_END)


def read_header(body: StrictBuffer) -> ua.RequestHeader:
    """Read a RequestHeader (Part 4 §7.33) and pass over its AdditionalHeader."""
    return _read_header(body)[0]


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Say BadDecodingError to what asyncua's decoder stumbles over."""
    try:
        yield
    except (ServiceError, ua.UaStatusCodeError):
        raise
    except (
        ua.UaError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        struct.error,
    ) as exc:
        raise ServiceError(ua.StatusCodes.BadDecodingError) from exc


def decode(
    cls: type[Any], body: StrictBuffer, limits: ServerLimits, most: Mapping[str, int] | None = None
) -> Any:
    """Decode the parameters of a request once it is known that they do not unfold too far.

    Args:
        cls: Their class.
        body: The request, its header read.
        limits: What is allowed.
        most: Largest number of operations by the name of the list that holds them.

    Raises:
        ServiceError: See :func:`~edge_opcua.opcua.seam.guard.check_request`; or it does not decode.
    """
    check_request(cls, body.whole, body.cur_pos, limits, most)
    with _decoding():
        return struct_from_binary(cls, body)


class LongList(NamedTuple):
    """Where the parameters of a request have the list of their operations: behind all else.

    Attributes:
        before: Name and type of what comes before it.
        name: Its name.
        element: Class of its elements.
    """

    before: tuple[tuple[str, Any], ...]
    name: str
    element: type[Any]


def long_list(cls: Any, counted: tuple[str, ...]) -> LongList | None:
    """Return where the operations of a request are, None if they are no structures behind all else."""
    return _long_list(cls, counted)


@functools.cache
def _long_list(cls: Any, counted: tuple[str, ...]) -> LongList | None:
    types = ua_binary.get_safe_type_hints(cls, {"ua": ua})
    *before, last = (each.name for each in dataclasses.fields(cls))
    if counted != (last,) or not uatypes.type_is_list(types[last]):
        return None
    element: Any = uatypes.type_from_list(types[last])
    if not (isinstance(element, type) and dataclasses.is_dataclass(element)) or issubclass(
        element, ua.NodeId
    ):
        return None
    return LongList(tuple((name, types[name]) for name in before), last, element)


def decode_slowly(
    cls: type[Any], where: LongList, body: StrictBuffer, limits: ServerLimits, most: int
) -> Generator[None, None, Any]:
    """Do what :func:`decode` does, slice by slice: ten thousand structures take a third of a second.

    Args:
        cls: The class of the parameters.
        where: The list that makes them long.
        body: The request, its header read.
        limits: What is allowed.
        most: Largest number of operations; 0: not limited.

    Raises:
        ServiceError: As :func:`decode`.
    """
    check_request(cls, body.whole, body.cur_pos, limits, {where.name: most})
    yield
    with _decoding():
        found = {name: ua_binary.from_binary(kind, body) for name, kind in where.before}
        count = Primitives.Int32.unpack(body)
    elements: list[Any] = []
    while len(elements) < count:
        if elements:
            yield
        with _decoding():
            part = range(min(_AT_ONCE, count - len(elements)))
            elements += [struct_from_binary(where.element, body) for _ in part]
    return cls(**found, **{where.name: elements})


def check_open_request(body: StrictBuffer) -> None:
    """Refuse an OpenSecureChannel request that carries an AdditionalHeader: asyncua would decode it.

    Raises:
        ServiceError: It carries one. No security policy that we offer uses it.
    """
    nodeid_from_binary(body)
    if _read_header(body)[1]:
        raise ServiceError(ua.StatusCodes.BadDecodingError)


def check_activation(body: StrictBuffer) -> None:
    """Refuse ActivateSession parameters (Part 4 §5.7.3) whose identity token is no identity token.

    Raises:
        ServiceError: It is of another type, or does not decode.
    """
    with _decoding():
        struct_from_binary(ua.SignatureData, body)
        for _ in range(Primitives.Int32.unpack(body)):
            struct_from_binary(ua.SignedSoftwareCertificate, body)
        for _ in range(Primitives.Int32.unpack(body)):
            Primitives.String.unpack(body)
        kind = nodeid_from_binary(body)
    if kind not in _IDENTITY_TOKENS:
        raise ServiceError(ua.StatusCodes.BadIdentityTokenInvalid)


def _read_header(body: StrictBuffer) -> tuple[ua.RequestHeader, bool]:
    header = ua.RequestHeader()
    header.AuthenticationToken = nodeid_from_binary(body)
    body.skip(_TIMESTAMP_BYTES)
    header.RequestHandle = Primitives.UInt32.unpack(body)
    header.ReturnDiagnostics = Primitives.UInt32.unpack(body)
    header.AuditEntryId = Primitives.String.unpack(body)
    header.TimeoutHint = Primitives.UInt32.unpack(body)
    nodeid_from_binary(body)
    carries = bool(body.read(1)[0] & _BODY_FOLLOWS)
    if carries:
        body.skip(max(0, Primitives.Int32.unpack(body)))
    return header, carries
