"""What an S7 device's URL and options say, and the limits of a request that follow from the PDU size."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE, Fragment
from edge_opcua.errors import ConfigError

MAX_ITEMS: Final = 20
# Header 12 and parameters 2 lead an answer; each item has 4 bytes of its own and is padded to even.
_ANSWER_BYTES: Final = 14
_ITEM_BYTES: Final = 4
# A request repeats a 12-byte address for each item.
_ADDRESS_BYTES: Final = 12
WRITE_BYTES: Final = 28

_PG_TSAP: Final = 0x0100
# Calling and called selector of devices that have no rack and slot, as their tools preset them; the
# connection in LOGO!Soft Comfort or Micro/WIN has to name the same, the other way round.
TSAPS: Final[dict[str, tuple[int, int]]] = {
    "logo": (0x0100, 0x0200),
    "s7-200": (0x1000, 0x1001),
    "s7-200-smart": (0x0100, 0x0101),
}
_TSAP: Final = re.compile(r"(?:0x)?([0-9A-Fa-f]{2})\.?([0-9A-Fa-f]{2})")
_URL_HINT: Final = (
    "write e.g. s7://192.168.0.10?rack=0&slot=1, s7://192.168.0.3?device=logo or "
    "s7://192.168.0.3?tsap=0x0100,0x0200"
)


class S7Options(DriverOptions):
    """Settings of an S7 PLC."""

    pdu: Annotated[int, Field(ge=112, le=960)] = Field(
        default=480, description="PDU size asked for, bytes; the PLC may grant less (S7-1200: 240)."
    )
    parallel: Annotated[int, Field(ge=1, le=8)] = Field(
        default=8, description="Requests on the way at once; the PLC may grant fewer."
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a device says.

    Args:
        host: Name or address.
        port: TCP port.
        rack: Rack of the CPU.
        slot: Slot of the CPU.
        tsap: Calling and called transport selector; None: those of a PG connection to rack and slot.
    """

    host: str
    port: int
    rack: int
    slot: int
    tsap: tuple[int, int] | None = None

    @property
    def local_tsap(self) -> int:
        """Calling transport selector."""
        return self.tsap[0] if self.tsap else _PG_TSAP

    @property
    def remote_tsap(self) -> int:
        """Called transport selector."""
        return self.tsap[1] if self.tsap else _PG_TSAP | self.rack << 5 | self.slot


@dataclass(frozen=True, slots=True)
class S7Shape:
    """Limits of a request: up to 20 blocks whose answers fit one PDU.

    Args:
        pdu: Negotiated PDU size, bytes.
        gap: Unwanted bytes worth reading; None: as many as another block takes of an answer.
    """

    pdu: int = 240
    gap: int | None = None

    @property
    def byte_rate(self) -> float:
        """Return that of Ethernet."""
        return ETHERNET_BYTE_RATE

    def unit_bytes(self, space: Hashable) -> int:  # noqa: ARG002 - of the Protocol
        """Return 1: everything counts bytes."""
        return 1

    def wire_bytes(self, space: Hashable) -> float:  # noqa: ARG002 - of the Protocol
        """Return 1: everything counts bytes."""
        return 1.0

    def station(self, space: Hashable) -> Hashable:  # noqa: ARG002 - of the Protocol
        """Return None: a connection leads to one PLC."""
        return None

    def max_units(self, space: Hashable) -> int:  # noqa: ARG002 - of the Protocol
        """Return the bytes of the largest block that fits an answer alone."""
        return self.pdu - _ANSWER_BYTES - _ITEM_BYTES

    def max_gap(self, space: Hashable) -> int:  # noqa: ARG002 - of the Protocol
        """Return the unwanted bytes worth reading: up to 20 blocks share an answer, and so do their gaps."""
        return max(_ITEM_BYTES + _ADDRESS_BYTES, self.pdu // MAX_ITEMS) if self.gap is None else self.gap

    def fits(self, fragments: Sequence[Fragment], more: Fragment) -> bool:
        """Return whether request and answer with one more block still fit the PDU."""
        blocks = (*fragments, more)
        if len(blocks) > MAX_ITEMS or _ANSWER_BYTES + _ADDRESS_BYTES * len(blocks) > self.pdu:
            return False
        answer = sum(_ITEM_BYTES + block.size + block.size % 2 for block in blocks)
        return _ANSWER_BYTES + answer <= self.pdu


def parse_url(url: str) -> Endpoint:
    """Read ``s7://host[:port][?rack=0&slot=1]``, ``?device=logo`` or ``?tsap=0x0100,0x0200``.

    Raises:
        ConfigError: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 102
        query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        tsap = _tsap(query)
        rack, slot = int(query.pop("rack", "0")), int(query.pop("slot", "1"))
    except (ValueError, KeyError) as exc:
        raise ConfigError(f'"{url}" is not an S7 URL; {_URL_HINT}') from exc
    usable = parts.scheme == "s7" and not query and 0 <= rack <= 7 and 0 <= slot <= 31
    if not usable or not parts.hostname:
        raise ConfigError(f'"{url}" is not an S7 URL; {_URL_HINT}')
    return Endpoint(parts.hostname, port, rack, slot, tsap)


def _tsap(query: dict[str, str]) -> tuple[int, int] | None:
    """Take the selectors out of a query; ValueError or KeyError if there are none such."""
    given = [name for name in ("tsap", "device") if name in query]
    if not given:
        return None
    if len(given) > 1 or "rack" in query or "slot" in query:
        raise ValueError("say either rack and slot, device, or tsap")
    value = query.pop(given[0])
    if given == ["device"]:
        return TSAPS[value.lower()]
    local, _, remote = (each.strip() for each in value.partition(","))
    matches = [_TSAP.fullmatch(each) for each in (local, remote)]
    first, second = (int(match[1] + match[2], 16) for match in matches if match is not None)
    return first, second
