"""How commands speak: lines for a person, complaints on stderr, and what their exit codes mean."""

from __future__ import annotations

import sys
from typing import Final, TextIO

ANSWER_IS_NO: Final = 1
WRONG_USE: Final = 2
REFUSED: Final = 3


def say(line: str) -> None:
    """Print a line for a person, at once even into a pipe; nobody gets it where the output was closed."""
    _write(sys.stdout, line)


def complain(text: str) -> None:
    """Print a line on stderr."""
    _write(sys.stderr, text)


def _write(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        stream.write(line + "\n")
        stream.flush()


def duration(seconds: float) -> str:
    """Return a time span in the two largest of days, hours, minutes and seconds."""
    whole = int(seconds)
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
