"""One thing that is wrong, with its place: what every check of this room produces and every report shows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

MOST_ALTERNATIVES: Final = 8
SIMILAR: Final = 0.6


class Severity(IntEnum):
    """How bad it is: only an error keeps the server from starting."""

    NOTICE = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        """The word on the screen."""
        return ("note", "warn", "error")[self]


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one line of a file.

    Args:
        line: Counted from 1; 0 for the file as a whole.
        column: Counted from 1, in characters; 0 for the whole line.
        width: Characters that the caret underlines, at least 1.
        file: Name of the file where it is another one than the one at hand.
        origin: For which row of a table of machines it was looked at; empty if for none.
    """

    line: int = 0
    column: int = 0
    width: int = 1
    file: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Args:
        code: Stable code, e.g. ``C103``.
        message: One sentence in the user's words, with the offending value and what is allowed.
        severity: Error, warning or notice.
        file: Name of the file as the user can open it; empty if it concerns no file.
        place: Where in the file.
        where: Dotted path of the setting, e.g. ``devices[vib].driver``; empty in a tag table.
        help: What to do about it.
        suggestion: The one likely correction, to be asked as "did you mean".
        excerpt: The line of the file.
        origin: Row of the table of machines it was looked at for, e.g. ``presses.csv:8 (press07)``.
    """

    code: str
    message: str
    severity: Severity = Severity.ERROR
    file: str = ""
    place: Place = Place()
    where: str = ""
    help: str = ""
    suggestion: str = ""
    excerpt: str = ""
    origin: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the server refuses to start because of it."""
        return self.severity is Severity.ERROR

    def as_json(self) -> dict[str, Any]:
        """Return the finding for ``--json``, OPC UA diagnostics and the page."""
        return {
            "code": self.code,
            "severity": self.severity.name.lower(),
            "file": self.file,
            "line": self.place.line,
            "column": self.place.column,
            "where": self.where,
            "message": self.message,
            "help": self.help,
            "suggestion": self.suggestion,
            "origin": self.origin,
        }


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choice that was probably meant, or an empty text if none is similar enough."""
    folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(word[:200].casefold(), folded, n=1, cutoff=SIMILAR)
    return folded[close[0]] if close else ""


def alternatives(choices: Iterable[str]) -> str:
    """Return the choices as ``a, b, c``, at most eight and then how many more there are."""
    names = list(choices)
    shown = ", ".join(names[:MOST_ALTERNATIVES])
    more = len(names) - MOST_ALTERNATIVES
    return f"{shown} and {more} more" if more > 0 else shown


def counted(number: int, word: str) -> str:
    """Return ``1 tag`` or ``2 tags``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def quoted(value: object, *, limit: int = 60) -> str:
    """Return a value as it stands in a file, shortened, with control characters made visible."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        shown = value if len(value) <= limit else value[: limit - 1] + "…"
        return f'"{"".join(c if c.isprintable() else chr(0xFFFD) for c in shown)}"'
    shown = str(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
