"""The trust list as a file that a certificate manager opens, reads and writes (Part 12 §7.8.2, Part 20 §4.2).

Pure: bytes and handles, no disk and no network.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.security.trustfiles import TrustContent

__all__ = ["Handle", "Handles", "decode", "encode", "merged"]

READ: Final = 1
WRITE_ALL: Final = 2 | 4  # Write and EraseExisting: a trust list is written as a whole (Part 12 §7.8.2.1)
ALL: Final = 15
MAX_HANDLES: Final = 10

_Codes = ua.StatusCodes


@dataclass(slots=True)
class Handle:
    """An open trust list.

    Args:
        session: Who opened it.
        writing: Whether it was opened to be written.
        data: What is read, or was written.
        position: Where the next read or write begins.
    """

    session: ua.NodeId
    writing: bool
    data: bytearray = field(default_factory=bytearray)
    position: int = 0

    def read(self, length: int) -> bytes:
        """Return the next bytes; none at the end."""
        if self.writing:
            raise ServiceError(_Codes.BadInvalidState)
        if length < 0:
            raise ServiceError(_Codes.BadInvalidArgument)
        part = bytes(self.data[self.position : self.position + length])
        self.position += len(part)
        return part

    def write(self, part: bytes, most: int) -> None:
        """Put bytes at the position; more than ``most`` are refused."""
        if not self.writing:
            raise ServiceError(_Codes.BadInvalidState)
        if self.position + len(part) > most:
            raise ServiceError(_Codes.BadEncodingLimitsExceeded)
        self.data[self.position : self.position + len(part)] = part
        self.position += len(part)

    def seek(self, position: int) -> None:
        """Go elsewhere; beyond the end is the end (Part 20 §4.2.7)."""
        self.position = min(position, len(self.data))


class Handles:
    """All open handles: any number of readers, or one writer (Part 12 §7.8.2.2)."""

    def __init__(self) -> None:
        self._open: dict[int, Handle] = {}

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    @property
    def writing(self) -> bool:
        """Whether somebody writes."""
        return any(handle.writing for handle in self._open.values())

    def open(self, handle: Handle) -> int:
        """Return the number of a new handle."""
        if self.writing or (handle.writing and self._open):
            raise ServiceError(_Codes.BadInvalidState)
        if len(self._open) >= MAX_HANDLES:
            raise ServiceError(_Codes.BadTooManyOperations)
        number = secrets.randbelow((1 << 32) - 1) + 1
        self._open[number] = handle
        return number

    def get(self, number: int, session: ua.NodeId) -> Handle:
        """Return a handle of this session."""
        found = self._open.get(number)
        if found is None or found.session != session:
            raise ServiceError(_Codes.BadInvalidArgument)
        return found

    def close(self, number: int, session: ua.NodeId) -> Handle:
        """Return a handle of this session for the last time."""
        found = self.get(number, session)
        del self._open[number]
        return found

    def forget(self, sessions: frozenset[ua.NodeId]) -> None:
        """Close what belongs to none of the sessions that there are."""
        self._open = {number: one for number, one in self._open.items() if one.session in sessions}


def encode(content: TrustContent, masks: int) -> bytes:
    """Return the lists that the masks name, as a TrustListDataType in UA Binary (Part 12 §7.8.2.8)."""
    return bytes(
        struct_to_binary(
            ua.TrustListDataType(
                SpecifiedLists=ua.UInt32(masks),
                TrustedCertificates=list(content.trusted) if masks & 1 else [],
                TrustedCrls=list(content.trusted_lists) if masks & 2 else [],
                IssuerCertificates=list(content.issuers) if masks & 4 else [],
                IssuerCrls=list(content.issuer_lists) if masks & 8 else [],
            )
        )
    )


def decode(data: bytes) -> tuple[int, TrustContent]:
    """Return which lists were written, and the lists.

    Raises:
        ServiceError: It is no TrustListDataType.
    """
    buffer = StrictBuffer(data)
    try:
        written = struct_from_binary(ua.TrustListDataType, buffer)
    except Exception as exc:
        raise ServiceError(_Codes.BadDecodingError) from exc
    masks = int(written.SpecifiedLists)
    if len(buffer) or masks & ~ALL:
        raise ServiceError(_Codes.BadDecodingError)
    return masks, TrustContent(
        trusted=_bytes(written.TrustedCertificates),
        trusted_lists=_bytes(written.TrustedCrls),
        issuers=_bytes(written.IssuerCertificates),
        issuer_lists=_bytes(written.IssuerCrls),
    )


def _bytes(written: list[bytes | None] | None) -> tuple[bytes, ...]:
    return tuple(one or b"" for one in written or ())  # what is empty is refused as no certificate


def merged(before: TrustContent, masks: int, written: TrustContent) -> TrustContent:
    """Return the lists after an update of those that the masks name; the others stay."""
    now = before
    for bit, name in enumerate(("trusted", "trusted_lists", "issuers", "issuer_lists")):
        if masks & (1 << bit):
            now = replace(now, **{name: tuple(dict.fromkeys(getattr(written, name)))})
    return now
