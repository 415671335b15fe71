"""Which array of a program lies where a client can read or write it."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from edge_opcua.sim.s7server import DataBlock
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.types import Array, Elementary, Kind

_WRITTEN: Final = re.compile(
    r"(?P<variable>[A-Za-z_][A-Za-z0-9_.]*)=(?:DB(?P<db>[0-9]{1,5})(?:\.DBB(?P<byte>[0-9]{1,5}))?|hr:(?P<hr>[0-9]{1,5}))"
    r"(?P<ro>,ro)?",
    re.ASCII,
)
_REGISTERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Area:
    """One array of 16-bit elements and its place.

    Args:
        variable: Name of the array in the program.
        block: Number of the S7 data block; None for Modbus holding registers.
        start: First byte in the data block, or first register.
        writable: Whether clients may write it.
    """

    variable: str
    block: int | None
    start: int
    writable: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``Status=DB20``, ``Control=DB21.DBB40,ro`` or ``Status=hr:200``.

        Raises:
            StError: It is none of them.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise StError(f"{text}: write NAME=DB20, NAME=DB20.DBB40 or NAME=hr:200, and ,ro for read-only")
        if match["db"] is not None:
            return cls(match["variable"], int(match["db"]), int(match["byte"] or 0), not match["ro"])
        return cls(match["variable"], None, int(match["hr"]), not match["ro"])


class Mapped:
    """An area of one instance: the memory that clients see and the array behind it.

    Args:
        area: Its place.
        main: The program.

    Raises:
        StError: The variable is no array of 16-bit elements.
    """

    def __init__(self, area: Area, main: Instance) -> None:
        self.area = area
        self._array = main.list_of(area.variable)
        kind = main.reader(area.variable)[1]
        assert isinstance(kind, Array)
        if not isinstance(kind.element, Elementary) or kind.element.bits != 16:
            raise StError(f"{area.variable} is {kind.name}; an area has elements of 16 bits")
        letter = "h" if kind.element.kind is Kind.SIGNED else "H"
        self._layout = struct.Struct(f">{len(self._array)}{letter}")
        self._start = area.start * (2 if area.block is None else 1)
        self._memory = DataBlock(0, 0, writable=True)
        self._seen = b""

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self._start + self._layout.size

    def covers(self, first: int, last: int) -> bool:
        """Return whether all bytes from the first to the last lie in it."""
        return self._start <= first and last < self.end

    def bind(self, memory: DataBlock) -> None:
        """Lay it into a memory."""
        self._memory = memory
        self.give()

    def take(self) -> None:
        """Before the scan: what clients wrote becomes the array's value."""
        written = self._memory.memory[self._start : self.end]
        if written != self._seen:
            self._array[:] = self._layout.unpack(written)

    def give(self) -> None:
        """After the scan: the array's value becomes what clients read."""
        self._layout.pack_into(self._memory.memory, self._start, *self._array)
        self._seen = bytes(self._memory.memory[self._start : self.end])


def memories(mapped: Sequence[Mapped]) -> tuple[list[DataBlock], DataBlock | None]:
    """Lay areas into data blocks and, those of Modbus, into one range of holding registers.

    Raises:
        StError: Two of them overlap, or one lies behind the last register.
    """
    for place, each in enumerate(mapped):
        for other in mapped[:place]:
            overlap = each.covers(other.end - 1, other.end - 1) or other.covers(each.end - 1, each.end - 1)
            if other.area.block == each.area.block and overlap:
                raise StError(f"the areas {other.area.variable} and {each.area.variable} overlap")
    found: dict[int | None, DataBlock] = {}
    for number in dict.fromkeys(each.area.block for each in mapped):
        ours = [each for each in mapped if each.area.block == number]
        size = max(each.end for each in ours)
        if size > 2 * _REGISTERS:
            raise StError(f"{ours[0].area.variable} ends behind the last register or byte")
        writable = any(each.area.writable for each in ours)
        found[number] = DataBlock(number or 0, size, writable=writable)
        for each in ours:
            each.bind(found[number])
    registers = found.pop(None, None)
    return list(found.values()), registers
