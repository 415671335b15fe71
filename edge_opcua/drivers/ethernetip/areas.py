"""Where an area of words begins in a device that speaks EtherNet/IP: an element of an array of INT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from edge_opcua.core.ports import Address
from edge_opcua.drivers.ethernetip.address import BITS, EipAddress, parse
from edge_opcua.drivers.ethernetip.settings import UNCONNECTED_BYTES, EipOptions
from edge_opcua.errors import AddressError

WRITE_BYTES: Final = 26
"""Bytes of a request that writes, apart from path and value."""

_TYPED: Final = re.compile(r".*:(?:U?INT|WORD)(?:\[\d*\])?", re.IGNORECASE | re.ASCII)
_HINT: Final = "write the name of an array of INT, e.g. EdgeAI_Control, Program:Main.EdgeAI or EdgeAI[16]"


@dataclass(frozen=True, slots=True)
class EipArea:
    """A run of elements of an array of INT; each is little-endian on the wire.

    Args:
        path: The array, without its last index (``[1,`` stays of ``T[1,2]``).
        start: First element.
        most_words: Elements that one request can write.
    """

    path: str
    start: int
    most_words: int

    @property
    def canonical(self) -> str:
        """The area in its one spelling."""
        return self._element(self.start)

    @property
    def writable(self) -> bool:
        """Whether its words can be written."""
        return True

    def words(self, first: int, count: int) -> str:
        """Return the address of some of its words; a WORD reads an INT without its sign."""
        return f"{self._element(self.start + first)}:WORD" + (f"[{count}]" if count else "")

    def bit(self, word: int, bit: int) -> str:
        """Return the address of one bit."""
        return f"{self._element(self.start + word)}.{bit}:BOOL"

    def touches(self, words: int, address: Address) -> bool:
        """Return whether any part of an address lies in so many words."""
        other = cast(EipAddress, address)
        path, first, count = _elements(other)
        is_apart = first + count <= self.start or self.start + words <= first
        return path == self.path.casefold() and not is_apart

    def holds(self, address: Address, word: int, bit: int | None = None) -> bool:
        """Return whether an address is exactly this word, or this bit of it."""
        other = cast(EipAddress, address)
        is_here = _elements(other) == (self.path.casefold(), self.start + word, 1)
        return is_here and other.bit == bit and not other.length

    def _element(self, index: int) -> str:
        return f"{self.path}{index}]" if self.path.endswith(",") else f"{self.path}[{index}]"


def _elements(address: EipAddress) -> tuple[str, int, int]:
    """Return the array, the first element and the number of elements that an address lies in."""
    if address.space.kind != BITS:
        return address.space.path.casefold(), address.start, address.size
    word = parse(f"{address.space.path}:WORD")
    last = ((address.bit or 0) + max(1, address.type.count) - 1) // 16
    return word.space.path.casefold(), word.start, last + 1


@lru_cache(maxsize=64)
def parse_area(text: str, limit: int = UNCONNECTED_BYTES) -> EipArea:
    """Read where an area begins.

    Args:
        text: E.g. ``EdgeAI_Control`` or ``Program:Main.EdgeAI[16]``.
        limit: Size of a request, bytes.

    Raises:
        AddressError: It is no tag of an array (T260), or an element that no array has (T216).
    """
    clean = text.strip()
    if clean.startswith("@") or _TYPED.fullmatch(clean):
        raise AddressError(f'"{text}" is not an array of a controller', hint=_HINT, code="T260")
    try:
        found = parse(f"{clean}:WORD")
    except AddressError as exc:
        raise AddressError(f'"{text}" is not an array of a controller', hint=_HINT, code="T260") from exc
    most = (limit - WRITE_BYTES - found.space.path_bytes) // 2
    return EipArea(found.space.path, found.start, most)


def area_of(text: str, options: Mapping[str, Any]) -> EipArea:
    """Return an area of a device with these options; errors as :func:`parse_area`."""
    wanted = EipOptions.model_validate(options).connection_bytes or UNCONNECTED_BYTES
    return parse_area(text, min(wanted, UNCONNECTED_BYTES))  # a device may grant less than is asked for
