"""Logix tag names as addresses: Kepware's, Ignition's and Studio 5000's, to ours and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.exchange.listing import UntranslatableError
from edge_opcua.config.problem import quoted

LOGIX_TYPES: Final = (
    "BOOL",
    "SINT",
    "INT",
    "DINT",
    "LINT",
    "USINT",
    "UINT",
    "UDINT",
    "ULINT",
    "REAL",
    "LREAL",
)
STRING_LENGTH: Final = 82
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_STEP: Final = rf"{_NAME}(?:\[\d{{1,6}}(?:,\d{{1,6}}){{0,2}}\])?"
_PATH: Final = rf"(?:Program:{_NAME}\.)?{_STEP}(?:[:.]{_STEP}|:\d+:[A-Z]\w*)*(?:\.\d{{1,2}})?"
_FOREIGN: Final = re.compile(
    rf"(?:Controller:Global\.|Global\.)?(?P<path>{_PATH})(?:\{{(?P<count>\d{{1,6}})\}}|/(?P<text>\d{{1,4}}))?",
    re.IGNORECASE,
)
_OURS: Final = re.compile(rf"(?P<path>{_PATH}):(?P<type>[A-Z]+)(?:\[(?P<count>\d+)\])?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LogixPlace:
    """A tag of a Logix controller.

    Args:
        path: Its name, with ``Program:Name.`` before one of a program.
        type: IEC type.
        count: 0 for a single value, elements of an array, characters of a STRING.
    """

    path: str
    type: str
    count: int = 0

    def ours(self) -> str:
        """Return our address."""
        return f"{self.path}:{self.type}" + (f"[{self.count}]" if self.count else "")


def from_ours(text: str) -> LogixPlace:
    """Return the parts of one of our addresses.

    Raises:
        UntranslatableError: It is not one.
    """
    match = _OURS.fullmatch(text)
    if match is None:
        raise UntranslatableError(f"{quoted(text)} is not the address of a Logix tag", code="T250")
    kind = match["type"].upper()
    return LogixPlace(match["path"], kind, int(match["count"] or (STRING_LENGTH if kind == "STRING" else 0)))


def from_foreign(text: str, kind: str) -> str:
    """Return our address for an item of Kepware's or Ignition's Logix driver.

    Args:
        text: E.g. ``Program:Main.Pump[3].Speed``, ``Counts[0]{10}``, ``Global.Speed``.
        kind: IEC type of its data type.

    Raises:
        UntranslatableError: It cannot be had here (T254), or has no type (T237).
    """
    match = _FOREIGN.fullmatch(text.strip())
    if match is None:
        raise UntranslatableError(
            f"{quoted(text)} is not the name of a Logix tag",
            hint="understood are Tag, Tag[3].Member, Tag.5, Program:Main.Tag and Tag[0]{10}",
        )
    if not kind:
        raise UntranslatableError(f"{quoted(text)} has no data type", code="T237")
    if kind == "STRING":
        path = match["path"].removesuffix(".DATA")
        return LogixPlace(path, kind, int(match["text"] or STRING_LENGTH)).ours()
    return LogixPlace(match["path"], kind, int(match["count"] or 0)).ours()


def to_item(place: LogixPlace) -> str:
    """Return the item as Kepware and Ignition have it."""
    if place.type == "STRING":
        return place.path if place.count == STRING_LENGTH else f"{place.path}.DATA/{place.count}"
    return place.path + (f"{{{place.count}}}" if place.count else "")
