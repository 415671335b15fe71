"""Where an area of words begins in a Modbus device: at a holding register, or at an input register."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, cast

from edge_opcua.core.ports import Address
from edge_opcua.drivers.modbus.address import BITS, ModbusAddress, parse
from edge_opcua.drivers.modbus.endpoint import parse_url
from edge_opcua.drivers.modbus.settings import ModbusOptions
from edge_opcua.errors import AddressError

MOST_WRITTEN: Final = 123  # registers of one request of function 16
_LIKE: Final = re.compile(
    r"(?P<place>(?:\d{1,3}/)?(?:[A-Za-z]+:\d{1,6}|\d{5,6}))(?P<base>;base=[01])?", re.ASCII
)
_HINT: Final = (
    "write the first holding register, e.g. hr:200, or 3/hr:200 for unit 3; what is only read may be "
    "an input register, e.g. ir:200"
)


@dataclass(frozen=True, slots=True)
class ModbusArea:
    """A run of registers.

    Args:
        area: ``hr`` holding registers, ``ir`` input registers: those a master can only read.
        unit: Unit identifier.
        start: First register, counted from 0.
        most_words: Registers that one request can write.
        usual: Unit of addresses that name none.
        suffix: What keeps the device's byte order away from its words.
    """

    area: str
    unit: int
    start: int
    most_words: int
    usual: int
    suffix: str = ""

    @property
    def canonical(self) -> str:
        """The area in its one spelling."""
        return f"{self.unit}/{self.area}:{self.start}"

    @property
    def writable(self) -> bool:
        """Whether its words can be written."""
        return self.area == "hr"

    def words(self, first: int, count: int) -> str:
        """Return the address of some of its words; their bytes come in Modbus' own order everywhere."""
        length = f"[{count}]" if count else ""
        return f"{self.unit}/{self.area}:{self.start + first}:UINT{length}{self.suffix}"

    def bit(self, word: int, bit: int) -> str:
        """Return the address of one bit."""
        return f"{self.unit}/{self.area}:{self.start + word}.{bit}:BOOL"

    def touches(self, words: int, address: Address) -> bool:
        """Return whether any part of an address lies in so many words."""
        other = cast(ModbusAddress, address)
        is_apart = other.start + other.size <= self.start or self.start + words <= other.start
        return self._is_here(other) and not is_apart

    def holds(self, address: Address, word: int, bit: int | None = None) -> bool:
        """Return whether an address is exactly this word, or this bit of it."""
        other = cast(ModbusAddress, address)
        if not self._is_here(other) or other.start != self.start + word:
            return False
        if bit is None:
            return other.bit is None and other.size == 1
        return other.bit == bit and not other.length

    def _is_here(self, other: ModbusAddress) -> bool:
        return other.area == self.area and (self.usual if other.unit is None else other.unit) == self.unit


@lru_cache(maxsize=64)
def parse_area(text: str, unit: int, most_words: int = MOST_WRITTEN) -> ModbusArea:
    """Read where an area begins.

    Args:
        text: E.g. ``hr:200`` or ``3/hr:200``.
        unit: Unit for a text that names none.
        most_words: Registers that one request can write.

    Raises:
        AddressError: It is no such text (T260), or names what is nowhere, as an address would.
    """
    clean = text.strip()
    match = _LIKE.fullmatch(clean)
    if match is None:
        raise AddressError(f'"{text}" is not an area of a Modbus device', hint=_HINT, code="T260")
    area = clean.rpartition("/")[2].partition(":")[0].lower()
    found = parse(f"{match['place']}:{'BOOL' if area in BITS else 'UINT'}{match['base'] or ''}")
    if found.area in BITS:
        raise AddressError(f"{text}: an area is made of registers, not of bits", hint=_HINT, code="T260")
    return ModbusArea(found.area, unit if found.unit is None else found.unit, found.start, most_words, unit)


def area_of(text: str, url: str, options: Mapping[str, Any]) -> ModbusArea:
    """Return an area of a device with this URL and these options; errors as :func:`parse_area`."""
    endpoint, wanted = parse_url(url), ModbusOptions.model_validate(options)
    found = parse_area(text, endpoint.unit, min(MOST_WRITTEN, wanted.max_registers))
    if wanted.order in ("BADC", "DCBA"):
        found = replace(found, suffix=";order=ABCD")
    wrong = endpoint.check_unit(found.unit)
    if wrong:
        raise AddressError(f"{text}: {wrong}", code="T216")
    return found
