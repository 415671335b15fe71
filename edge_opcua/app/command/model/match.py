"""Which tag is meant by a column of a model: by name and unit, and how sure that is; pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_UNIT_BEHIND: Final = re.compile(r"^(.*?)\s*[\[(]([^\])]*)[\])]\s*$")
_SIMILAR: Final = 0.85
_MUCH_BETTER: Final = 0.1
"""By how much the best of several must be nearer than the second, to be meant."""
_SHORT_FORMS: Final = MappingProxyType(
    {
        "temp": "temperature",
        "tmp": "temperature",
        "press": "pressure",
        "pres": "pressure",
        "cur": "current",
        "curr": "current",
        "volt": "voltage",
        "pwr": "power",
        "spd": "speed",
        "vel": "velocity",
        "pos": "position",
        "lvl": "level",
        "flw": "flow",
        "vib": "vibration",
        "hum": "humidity",
        "freq": "frequency",
        "trq": "torque",
        "act": "actual",
        "avg": "mean",
    }
)
_UNITS: Final = MappingProxyType(
    {
        "c": "°C",
        "degc": "°C",
        "deg_c": "°C",
        "celsius": "°C",
        "k": "K",
        "kelvin": "K",
        "f": "°F",
        "degf": "°F",
        "bar": "bar",
        "mbar": "mbar",
        "pa": "Pa",
        "kpa": "kPa",
        "mpa": "MPa",
        "psi": "psi",
        "rpm": "1/min",
        "hz": "Hz",
        "khz": "kHz",
        "a": "A",
        "ma": "mA",
        "v": "V",
        "mv": "mV",
        "w": "W",
        "kw": "kW",
        "kwh": "kWh",
        "kn": "kN",
        "n": "N",
        "nm": "Nm",
        "mm": "mm",
        "cm": "cm",
        "m": "m",
        "um": "µm",
        "kg": "kg",
        "s": "s",
        "ms": "ms",
        "pct": "%",
        "percent": "%",
        "lpm": "l/min",
    }
)


class Sureness(Enum):
    """How sure it is that a tag is meant."""

    SURE = "sure"
    LIKELY = "likely"
    UNSURE = "?"


@dataclass(frozen=True, slots=True)
class Known:
    """A tag that could be meant.

    Args:
        reference: Its public id, ``<device>/<tag>``.
        unit: Its unit; may be empty.
        low: Lower end of its range; None if nobody said.
        high: Upper end.
        description: For people.
    """

    reference: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""

    @property
    def name(self) -> str:
        """Name of the tag without its device."""
        return self.reference.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Match:
    """A column of the model with the tag that is meant.

    Args:
        column: Name of the column as the model's author wrote it; empty if nobody did.
        unit: Unit that the name tells; empty if it tells none.
        tag: The tag; None if none comes near.
        sureness: How sure that is.
        why: For people.
    """

    column: str
    unit: str
    tag: Known | None
    sureness: Sureness
    why: str


def match_columns(columns: Sequence[str], tags: Sequence[Known]) -> list[Match]:
    """Return which tag each column means; a tag is meant once.

    Args:
        columns: Names of the columns in the order of the model.
        tags: What could be meant.
    """
    parts = [split_unit(column) for column in columns]
    found: dict[int, Match] = {}
    left = list(tags)
    for is_exact in (True, False):
        for at, (name, unit) in enumerate(parts):
            if at in found:
                continue
            match = (
                _exact(columns[at], name, unit, left) if is_exact else _near(columns[at], name, unit, left)
            )
            if match is not None and match.tag is not None:
                found[at] = match
                left.remove(match.tag)
    none = "no tag of the device has a name like it"
    return [
        found.get(at) or Match(column, parts[at][1], None, Sureness.UNSURE, none)
        for at, column in enumerate(columns)
    ]


def in_order(tags: Sequence[Known], count: int) -> list[Match]:
    """Return the tags as they come, where the model does not name its columns."""
    why = "the model does not name its columns: the order of the tag table"
    found = [Match("", "", tag, Sureness.UNSURE, why) for tag in tags[:count]]
    missing = Match("", "", None, Sureness.UNSURE, "there are not so many tags")
    return found + [missing] * (count - len(found))


def split_unit(column: str) -> tuple[str, str]:
    """Return name and unit of ``oil temp [°C]`` or ``oil_temp_degC``; no unit if it tells none."""
    behind = _UNIT_BEHIND.match(column)
    if behind is not None:
        return behind[1], _UNITS.get(behind[2].casefold(), behind[2])
    head, _, last = column.rpartition("_")
    unit = _UNITS.get(last.casefold(), "")
    return (head, unit) if head and unit else (column, "")


def words(name: str) -> tuple[str, ...]:
    """Return the words of a name, in full: ``OilTemp1`` is ``oil temperature 1``."""
    found = (word.casefold() for word in _WORDS.findall(name))
    return tuple(_SHORT_FORMS.get(word, word) for word in found)


def _exact(column: str, name: str, unit: str, tags: Sequence[Known]) -> Match | None:
    wanted = {words(name), words(column)}
    same = [tag for tag in tags if words(tag.name) in wanted or words(tag.reference) in wanted]
    if len(same) != 1:
        return None
    return _judged(column, unit, same[0], Sureness.SURE, "same name")


def _near(column: str, name: str, unit: str, tags: Sequence[Known]) -> Match | None:
    wanted = " ".join(words(name))
    rated = sorted(((_likeness(wanted, tag), at) for at, tag in enumerate(tags)), reverse=True)
    if not rated or rated[0][0] < _SIMILAR:
        return None
    second = rated[1][0] if len(rated) > 1 else 0.0
    clear = rated[0][0] - second >= _MUCH_BETTER
    sureness = Sureness.LIKELY if clear else Sureness.UNSURE
    why = "a similar name" if clear else "several tags have a similar name"
    return _judged(column, unit, tags[rated[0][1]], sureness, why)


def _likeness(wanted: str, tag: Known) -> float:
    own = " ".join(words(tag.name))
    if set(wanted.split()) == set(own.split()):
        return 0.99
    return max(
        difflib.SequenceMatcher(None, wanted, text).ratio()
        for text in (own, " ".join(words(tag.description)))
    )


def _judged(column: str, unit: str, tag: Known, sureness: Sureness, why: str) -> Match:
    """Return a match, less sure if the units do not agree."""
    if unit and tag.unit and unit != tag.unit:
        return Match(column, unit, tag, Sureness.UNSURE, f"{why}, but it is in {tag.unit}, not in {unit}")
    if not tag.unit and not unit:
        return Match(column, unit, tag, Sureness.LIKELY, f"{why}; nobody says its unit")
    return Match(column, unit, tag, sureness, why)
