"""Where an area of words begins in an S7 PLC: a data block, a byte of one, or of the memory bits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from edge_opcua.core.ports import Address
from edge_opcua.drivers.s7.address import S7Address, parse
from edge_opcua.drivers.s7.settings import WRITE_BYTES, S7Options
from edge_opcua.errors import AddressError

_DB: Final = re.compile(r"DB(?P<db>\d{1,5})(?:\.DB[BW](?P<byte>\d{1,5}))?", re.ASCII)
_MEMORY: Final = re.compile(r"%?M[BW](?P<byte>\d{1,5})", re.ASCII)
_SMALLEST_PDU: Final = 240  # what every PLC grants, even an S7-300
_HINT: Final = "write a data block or where in it the words begin, e.g. DB21 or DB21.DBB40; or MB100"


@dataclass(frozen=True, slots=True)
class S7Area:
    """A run of words in an S7 PLC; each is big-endian.

    Args:
        area: ``DB`` or ``M``.
        db: Number of the data block, 0 for the memory bits.
        start: First byte, even.
        pdu: Size of a request, bytes.
    """

    area: str
    db: int
    start: int
    pdu: int

    @property
    def canonical(self) -> str:
        """The area in its one spelling."""
        if self.area == "M":
            return f"MB{self.start}"
        return f"DB{self.db}.DBB{self.start}" if self.start else f"DB{self.db}"

    @property
    def writable(self) -> bool:
        """Whether its words can be written."""
        return True

    @property
    def most_words(self) -> int:
        """How many words one request can write."""
        return (self.pdu - WRITE_BYTES) // 2

    def words(self, first: int, count: int) -> str:
        """Return the address of some of its words."""
        at = self.start + 2 * first
        length = f"[{count}]" if count else ""
        return f"{f'DB{self.db}.DBW' if self.area == 'DB' else 'MW'}{at}:UINT{length}"

    def bit(self, word: int, bit: int) -> str:
        """Return the address of one bit: S7 counts bits per byte, and the low byte comes second."""
        at = self._byte(word, bit)
        return f"{f'DB{self.db}.DBX' if self.area == 'DB' else 'M'}{at}.{bit % 8}:BOOL"

    def touches(self, words: int, address: Address) -> bool:
        """Return whether any part of an address lies in so many words."""
        other = cast(S7Address, address)
        is_apart = other.start + other.size <= self.start or self.start + 2 * words <= other.start
        return other.space == (self.area, self.db) and not is_apart

    def holds(self, address: Address, word: int, bit: int | None = None) -> bool:
        """Return whether an address is exactly this word, or this bit of it."""
        other = cast(S7Address, address)
        if other.space != (self.area, self.db):
            return False
        if bit is None:
            return other.bit is None and other.size == 2 and other.start == self.start + 2 * word
        return not other.length and (other.start, other.bit) == (self._byte(word, bit), bit % 8)

    def _byte(self, word: int, bit: int) -> int:
        return self.start + 2 * word + (0 if bit >= 8 else 1)


@lru_cache(maxsize=64)
def parse_area(text: str, pdu: int = _SMALLEST_PDU) -> S7Area:
    """Read where an area begins.

    Args:
        text: E.g. ``DB21``, ``DB21.DBB40`` or ``MB100``.
        pdu: Size of a request, bytes; what every PLC grants if not given.

    Raises:
        AddressError: It is no such text (T260), or its first word lies nowhere (T216) or at an odd
            byte (T261).
    """
    upper = text.upper().replace(" ", "")
    block, memory = _DB.fullmatch(upper), _MEMORY.fullmatch(upper)
    if block is not None:
        found = S7Area("DB", int(block["db"]), int(block["byte"] or 0), pdu)
    elif memory is not None:
        found = S7Area("M", 0, int(memory["byte"]), pdu)
    else:
        raise AddressError(f'"{text}" is not an area of an S7 PLC', hint=_HINT, code="T260")
    if found.start % 2:
        hint = f"write {found.canonical.replace(str(found.start), str(found.start + 1))}"
        raise AddressError(
            f"{text} begins at an odd byte; an array of words never does", hint=hint, code="T261"
        )
    parse(found.words(0, 1))
    return found


def area_of(text: str, options: Mapping[str, Any]) -> S7Area:
    """Return an area of a device with these options; errors as :func:`parse_area`."""
    return parse_area(text, min(S7Options.model_validate(options).pdu, _SMALLEST_PDU))
