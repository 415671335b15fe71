"""Answers as bytes, never more of them than a client takes or the server has room for.

One array of a megabyte read ten thousand times in one request is ten gigabytes once it is encoded; and a
client that says how much it can take gets BadResponseTooLarge instead of a connection that ends.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary
from asyncua.ua.uatypes import datetime_to_win_epoch

from edge_opcua.opcua.services.slices import Encoded

_NO_ELEMENTS: Final = struct.pack("<i", 0)
# Part 6 §5.2.2.5: ticks of 100 ns since 1601.
_TICKS_AT_1970: Final = 116_444_736_000_000_000
# Timestamp, RequestHandle, ServiceResult; then no diagnostics, no strings, no AdditionalHeader.
_HEADER: Final = struct.Struct("<qII")
_NOTHING_ELSE: Final = b"\x00" + _NO_ELEMENTS + b"\x00\x00\x00"
_DIAGNOSED: Final = ua.DiagnosticInfo()
_ADDED: Final = ua.ExtensionObject()
_FAULT: Final = bytes(nodeid_to_binary(ua.FourByteNodeId(ua.ObjectIds.ServiceFault_Encoding_DefaultBinary)))
# Answers that repeat what clients ask for, as often as they ask for it.
_LONG: Final = (ua.ReadResponse, ua.CallResponse)


def encode(response: Any, most: int) -> bytes:
    """Encode an answer.

    Args:
        response: Its header is complete.
        most: Most bytes.

    Raises:
        ServiceError: BadResponseTooLarge (Part 4 §5.7.2.2); found out before all of it is encoded.
    """
    if isinstance(response, Encoded):
        body = response.to_binary()
    elif isinstance(response, _LONG):
        body = _encode_results(response, most)
    else:
        body = struct_to_binary(response)
    if len(body) > most:
        raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
    return bytes(body)


def _encode_results(response: Any, most: int) -> bytes:
    results = response.Results
    if not results:
        return bytes(struct_to_binary(response))
    parts = [nodeid_to_binary(response.TypeId), _encode_header(response.ResponseHeader)]
    parts.append(struct.pack("<i", len(results)))
    size = 0
    for result in results:
        part = struct_to_binary(result)
        size += len(part)
        if size > most:
            raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
        parts.append(part)
    diagnostics = response.DiagnosticInfos
    if diagnostics:
        parts.append(struct.pack("<i", len(diagnostics)))
        parts.extend(struct_to_binary(diagnostic) for diagnostic in diagnostics)
    else:
        parts.append(_NO_ELEMENTS)
    return b"".join(parts)


def _encode_header(header: ua.ResponseHeader) -> bytes:
    """Encode a header; the one that nearly every answer has in a tenth of the time."""
    if (
        header.StringTable != []
        or header.ServiceDiagnostics != _DIAGNOSED
        or header.AdditionalHeader != _ADDED
    ):
        return bytes(struct_to_binary(header))
    ticks = datetime_to_win_epoch(header.Timestamp)
    return _HEADER.pack(ticks, header.RequestHandle, header.ServiceResult.value) + _NOTHING_ELSE


def fault(handle: int, code: int, utc_ns: int) -> bytes:
    """Encode a ServiceFault without making one (Part 4 §7.35): the cheap no."""
    return good(_FAULT, handle, utc_ns, code)


def good(type_id: bytes, handle: int, utc_ns: int, code: int = 0) -> bytes:
    """Encode the beginning of an answer: its type and its ResponseHeader (Part 4 §7.34).

    Args:
        type_id: The encoded NodeId of the response's type.
        handle: RequestHandle.
        utc_ns: Now.
        code: ServiceResult; Good unless told.
    """
    return type_id + _HEADER.pack(utc_ns // 100 + _TICKS_AT_1970, handle, code) + _NOTHING_ELSE
