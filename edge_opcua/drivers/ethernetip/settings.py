"""What an EtherNet/IP device's URL and options say, and the limits of a request that follow from them."""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, cast
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from edge_opcua.drivers.ethernetip.address import ATTRIBUTE, ATTRIBUTE_TEXT, BITS, BOOLS, TEXT, Space
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE, Fragment
from edge_opcua.errors import ConfigError

PORT: Final = 44818
LARGE_BYTES: Final = 4000
SMALL_BYTES: Final = 500
UNCONNECTED_BYTES: Final = 480
# Sequence count, then service, path and status of a multiple service packet, and the number of its services.
_MULTI_REQUEST_BYTES: Final = 2 + 6 + 2
_MULTI_REPLY_BYTES: Final = 2 + 4 + 2
# Of each service: its place in the table of offsets, service, path size, and the count of elements.
_SERVICE_BYTES: Final = 2 + 2 + 2
# Of each answer: its place in the table, service, status, the type of the value, and one to be even.
_ANSWER_BYTES: Final = 2 + 4 + 2 + 1
_ALONE_BYTES: Final = 2 + 4 + 4
_HIGHEST_SLOT: Final = 63
# A service more costs a controller about as long as these elements more.
_WORTH_READING: Final = 32

Hop = tuple[int, int | str]
"""A port, and the slot or the IP address behind it."""


class EipOptions(DriverOptions):
    """Settings of an EtherNet/IP device."""

    connection_bytes: Annotated[int, Field(ge=0, le=LARGE_BYTES)] = Field(
        default=LARGE_BYTES,
        description="Size of the connection asked for; the device may grant only 500. 0 asks for none: every "
        "request is sent unconnected, 480 bytes each.",
    )
    busy_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=3, description="How often a busy device is asked again within the deadline of a request."
    )
    busy_wait_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(default=20, description="Pause before that.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a device says.

    Args:
        host: Name or address of what listens: a controller, or a communication module.
        port: Its port.
        route: Hops from there to the device that is asked; empty if it is that itself.
        micro800: Whether it is a Micro800, which takes one service per request.
    """

    host: str
    port: int
    route: tuple[Hop, ...]
    micro800: bool


@dataclass(frozen=True, slots=True)
class EipShape:
    """Limits of a request: as many services as fit request and answer.

    Args:
        limit: Bytes of a request and of an answer.
        gap: Unwanted elements worth reading; None: as many as another service takes time.
        batches: Whether the device takes several services in one request.
    """

    limit: int = LARGE_BYTES
    gap: int | None = None
    batches: bool = True

    @property
    def byte_rate(self) -> float:
        """Return that of Ethernet."""
        return ETHERNET_BYTE_RATE

    def unit_bytes(self, space: Hashable) -> int:
        """Return the bytes of the image that one element takes."""
        return cast(Space, space).unit_bytes

    def wire_bytes(self, space: Hashable) -> float:
        """Return how many bytes of an answer one element takes."""
        of = cast(Space, space)
        return 1 / 8 if of.kind == BOOLS else float(of.unit_bytes)

    def station(self, space: Hashable) -> Hashable:  # noqa: ARG002 - of the Protocol
        """Return None: a connection leads to one device."""
        return None

    def max_units(self, space: Hashable) -> int:
        """Return how many elements one service may ask for."""
        of = cast(Space, space)
        room = self.limit - _ALONE_BYTES
        if of.kind == BOOLS:
            return room // 4 * 32 - 31  # from the middle of a DWORD to the middle of another one
        if of.kind == BITS:
            return 8
        if of.kind == TEXT:
            return max(1, room // _text_bytes(of))
        if of.kind == ATTRIBUTE:
            return room
        return 1 if of.kind == ATTRIBUTE_TEXT else room // of.unit_bytes

    def max_gap(self, space: Hashable) -> int:
        """Return the unwanted elements worth reading; an attribute comes whole anyway."""
        kind = cast(Space, space).kind
        if kind in (ATTRIBUTE, BITS):
            return self.limit
        gap = _WORTH_READING if self.gap is None else self.gap
        return {TEXT: 0, BOOLS: 32 * gap}.get(kind, gap)

    def fits(self, fragments: Sequence[Fragment], more: Fragment) -> bool:
        """Return whether request and answer with one more service still fit."""
        if not self.batches:
            return False
        request = _MULTI_REQUEST_BYTES + sum(map(request_bytes, fragments)) + request_bytes(more)
        answer = _MULTI_REPLY_BYTES + sum(map(answer_bytes, fragments)) + answer_bytes(more)
        return request <= self.limit and answer <= self.limit


def _text_bytes(space: Space) -> int:
    """Return the bytes of a Logix string: its length, and its characters to a multiple of four."""
    return 4 + (space.unit_bytes - 2 + 3) // 4 * 4


def request_bytes(fragment: Fragment) -> int:
    """Return what one service takes of a request."""
    index = 0 if not fragment.start else 2 if fragment.start < 0x100 else 6
    return _SERVICE_BYTES + cast(Space, fragment.space).path_bytes + index


def answer_bytes(fragment: Fragment) -> int:
    """Return an upper bound of what the answer to one service takes."""
    space = cast(Space, fragment.space)
    if space.kind == BOOLS:
        return _ANSWER_BYTES + (fragment.size + 31) // 32 * 4 + 4
    if space.kind == BITS:
        return _ANSWER_BYTES + 8
    if space.kind == TEXT:
        return _ANSWER_BYTES + 2 + fragment.size * _text_bytes(space)
    if space.kind == ATTRIBUTE:
        return _ANSWER_BYTES + fragment.start + fragment.size
    return _ANSWER_BYTES + fragment.size * space.unit_bytes


@lru_cache(maxsize=64)  # asked for each tag of a device
def parse_url(url: str) -> Endpoint:
    """Read ``eip://host[:44818][/slot][?route=1,0&micro800=1]``.

    Raises:
        ConfigError: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
        query = (
            dict(parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True)) if parts.query else {}
        )
        slot_text = parts.path.strip("/")
        micro800 = query.pop("micro800", "0") == "1"
        route_text = query.pop("route", None)
        if route_text is not None and slot_text:
            raise ConfigError(f"{url}: a slot and a route exclude each other", code="C190")
        slot = int(slot_text or 0)
        route = ((1, slot),) if route_text is None else _route(route_text)
    except ValueError:
        parts, port, query, slot, route, micro800 = urlsplit(""), 0, {}, -1, (), False
    if parts.scheme != "eip" or not parts.hostname or query or not 0 <= slot <= _HIGHEST_SLOT:
        raise ConfigError(
            f'"{url}" is not an EtherNet/IP URL; write e.g. eip://192.168.1.10/0 (the slot of the CPU)'
        )
    return Endpoint(parts.hostname, port, () if micro800 else route, micro800)


def _route(text: str) -> tuple[Hop, ...]:
    """Read ``1,4,2,10.10.10.9``: pairs of port and slot, or of port and IP address; ValueError."""
    if not text:
        return ()
    items = [item.strip() for item in text.split(",")]
    if len(items) % 2:
        raise ValueError("a route has pairs of port and link")
    hops: list[Hop] = []
    for port_text, link in zip(items[::2], items[1::2], strict=True):
        port = int(port_text)
        if not 1 <= port <= 14:
            raise ValueError("ports are 1..14")
        if link.isdecimal():
            if int(link) > 255:
                raise ValueError("a link is 0..255")
            hops.append((port, int(link)))
        else:
            hops.append((port, str(ipaddress.ip_address(link))))
    return tuple(hops)
