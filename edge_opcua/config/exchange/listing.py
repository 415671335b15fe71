"""What every reader of another product's list returns: tags in our words, and what was left out and why."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final

from edge_opcua.config.codes import codes
from edge_opcua.config.problem import Place, Problem, Severity, quoted
from edge_opcua.config.tags import TAG_PATTERN, Access

MAX_TAGS: Final = 200_000
MAX_PARTS: Final = 300_000
MAX_TEXT: Final = 4_096
_MAX_NAME: Final = 128
_MAX_GROUP: Final = 64
_TRANSLITERATED: Final = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ß": "ss",
        "æ": "ae",
        "Æ": "Ae",
        "ø": "oe",
        "Ø": "Oe",
        "å": "aa",
        "Å": "Aa",
        "ł": "l",
        "Ł": "L",
        "µ": "u",
        "μ": "u",
        "°": "deg",
        "%": "pct",
    }
)
_UNIT_AT_END: Final = re.compile(r"^(?P<text>.*?)\s*\[(?P<unit>[^\[\]\s]{1,12})\]$", re.DOTALL)


class UntranslatableError(Exception):
    """A row cannot become a tag of ours.

    Args:
        message: Why, one sentence.
        code: Stable code.
        hint: What to do.
    """

    def __init__(self, message: str, *, code: str = "T254", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint

    def about(self, name: str) -> UntranslatableError:
        """Return the same, with the name of the tag in front."""
        said = str(self)
        is_named = not name or said.startswith((f"{name} ", f"{name}:", f'"{name}"')) or f'"{name}"' in said
        return UntranslatableError(
            said if is_named else f"{name[:80]}: {said}", code=self.code, hint=self.hint
        )


class ListError(Exception):
    """A file cannot be read as a list at all.

    Args:
        message: Why, the end of a sentence that begins with the name of the file.
        code: Stable code.
        hint: What to do.
        line: Where, 0 for the whole file.
    """

    def __init__(self, message: str, *, code: str = "T252", hint: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.line = line


@dataclass(frozen=True, slots=True)
class Target:
    """The device of ours that a list is for, or comes from.

    Args:
        driver: Name of its driver; says what an address means.
        name: Name of the device.
        unit: Modbus unit of its URL; None if it names none, or is of another kind.
        order: Byte order of its numbers as its options have it.
    """

    driver: str
    name: str = ""
    unit: int | None = None
    order: str = ""


@dataclass(frozen=True, slots=True)
class ListedTag:
    """One tag as another product has it, in our words.

    Args:
        name: Its name there; groups and folders before it, separated by points.
        address: Our address, not yet read by the driver.
        line: Where it stands in the file.
        unit: Engineering unit.
        description: For people.
        low: Lower end of the range.
        high: Upper end.
        scale: Engineering value = raw value x scale + offset.
        offset: See ``scale``.
        clamp: Whether a value outside the range is held at its end.
        deadband: Change below which a new value is not reported.
        access: ``r`` or ``rw``.
        period_ms: How often it is read there; None if the list does not say.
        group: Name of its poll group there.
        cells: Further columns of our own tables.
    """

    name: str
    address: str
    line: int = 0
    unit: str = ""
    description: str = ""
    low: float | None = None
    high: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    clamp: bool = False
    deadband: float = 0.0
    access: Access = "r"
    period_ms: int | None = None
    group: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Listing:
    """A list of another product.

    Args:
        file: Name of the file in messages.
        product: What kind of list it is, for people.
        tags: What can become a tag, in the order of the file.
        problems: What cannot, and what is lost; warnings for rows left out, notices for the rest.
        others: Entries that are no tags of a device at all: folders, comments.
        visited: Parts of structures looked at so far.
    """

    file: str
    product: str = ""
    tags: list[ListedTag] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    others: int = 0
    visited: int = 0

    def visit(self, line: int) -> None:
        """Count one part of a structure, since structures in structures may become any number.

        Raises:
            ListError: There are too many (T253).
        """
        self.visited += 1
        if self.visited > MAX_PARTS:
            raise ListError(f"has more than {MAX_PARTS} members in its structures", code="T253", line=line)

    def take(self, tag: ListedTag) -> None:
        """Add a tag.

        Raises:
            ListError: There are more than any device has (T253).
        """
        if len(self.tags) >= MAX_TAGS:
            raise ListError(f"holds more than {MAX_TAGS} tags", code="T253", line=tag.line)
        if max(len(tag.name), len(tag.address), len(tag.unit), len(tag.description)) > MAX_TEXT:
            message = f"{quoted(tag.name, limit=30)}: a text of more than {MAX_TEXT} characters"
            self.skip(tag.line, UntranslatableError(message, code="T245"))
            return
        self.tags.append(tag)

    def skip(self, line: int, why: UntranslatableError) -> None:
        """Note a row that is left out: a warning; a notice where it is no tag of a device at all (T238)."""
        severity = Severity.NOTICE if why.code == "T238" else Severity.WARNING
        remedy = why.hint or (codes()[why.code].remedy if severity is Severity.WARNING else "")
        self._add(line, why.code, str(why), remedy, severity)

    def note(self, line: int, code: str, message: str, hint: str = "") -> None:
        """Note something that is worth knowing of a row that is taken."""
        self._add(line, code, message, hint, Severity.NOTICE)

    def _add(self, line: int, code: str, message: str, hint: str, severity: Severity) -> None:
        self.problems.append(Problem(code, message, severity, self.file, Place(line), help=hint))


def plain_name(text: str) -> str:
    """Return a name of ours for any text: its letters transliterated, everything else an underscore.

    Returns:
        A tag name; an empty text if nothing of it can be kept.
    """
    if len(text) <= _MAX_NAME and re.fullmatch(TAG_PATTERN, text):
        return text
    decomposed = unicodedata.normalize("NFKD", text.translate(_TRANSLITERATED))
    bare = "".join(each for each in decomposed if not unicodedata.combining(each))
    parts = [re.sub(r"[^A-Za-z0-9_-]+", "_", part).strip("_") or "_" for part in bare.split(".")]
    name = ".".join(part for part in parts if part != "_")[:_MAX_NAME].rstrip(".")
    if name and not re.match(r"[A-Za-z_]", name):
        name = f"_{name}"[:_MAX_NAME].rstrip(".")
    return name if re.fullmatch(TAG_PATTERN, name) else ""


def group_name(text: str) -> str:
    """Return a name of a poll group for any text, or an empty one if nothing of it can be kept."""
    name = plain_name(text).replace(".", "_").strip("_")[:_MAX_GROUP]
    return name if not name or name[0].isalpha() else f"g{name}"[:_MAX_GROUP]


def with_unit(description: str, unit: str) -> str:
    """Return a description that ends with the unit, for products that have no column for it."""
    return f"{description} [{unit}]".strip() if unit else description


def split_unit(description: str) -> tuple[str, str]:
    """Return description and unit of a text that ends in ``[unit]``; the unit is empty if it does not."""
    match = _UNIT_AT_END.match(description)
    return (match["text"], match["unit"]) if match else (description, "")


def elements(dims: str) -> int:
    """Return how many elements an array has whose sizes stand in a text, ``[4][10]``; 0 if it is none."""
    return prod(map(int, re.findall(r"\d+", dims))) if dims else 0


def linear(raw_low: float, raw_high: float, low: float, high: float) -> tuple[float, float]:
    """Return scale and offset of a straight line through two points.

    Raises:
        UntranslatableError: Both points have the same raw value (T245).
    """
    if raw_high == raw_low:
        raise UntranslatableError(
            f"the raw range {raw_low:g}..{raw_high:g} is empty; nothing can be scaled by it", code="T245"
        )
    scale = (high - low) / (raw_high - raw_low)
    return scale, low - scale * raw_low
