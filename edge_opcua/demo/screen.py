"""What the demo shows: a calm table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Protocol, TextIO

_HOME_AND_CLEAR = "\x1b[H\x1b[J"
_LINES_KEPT = 14


class Screen(Protocol):
    """Where the story is told."""

    def line(self, text: str) -> None:
        """Say one thing that stays."""
        ...

    def table(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """Show the values as they are now; the first row is the heading."""
        ...

    def close(self) -> None:
        """Leave the terminal as a reader expects it."""
        ...


class PlainScreen:
    """Lines only: for pipes, logs and screen readers.

    Args:
        out: Where to write.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, text: str) -> None:
        """See :class:`Screen`."""
        self._out.write(text + "\n")
        self._out.flush()

    def table(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """Show nothing: the lines say what changed."""

    def close(self) -> None:
        """See :class:`Screen`."""


class TerminalScreen:
    """A table that is redrawn in place, with the last lines of the story below it.

    Args:
        out: A terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []
        self._title = ""
        self._rows: Sequence[Sequence[str]] = ()

    def line(self, text: str) -> None:
        """See :class:`Screen`."""
        self._lines.append(text)
        self._draw()

    def table(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        """See :class:`Screen`."""
        self._title, self._rows = title, rows
        self._draw()

    def close(self) -> None:
        """Print the whole story once more below the table, so that it can be scrolled."""
        self._out.write(_HOME_AND_CLEAR + "\n".join(self._lines) + "\n")
        self._out.flush()

    def _draw(self) -> None:
        width = shutil.get_terminal_size().columns
        shown = [self._title, *layout(self._rows), "", *self._lines[-_LINES_KEPT:]]
        self._out.write(_HOME_AND_CLEAR + "\n".join(line[:width] for line in shown) + "\n")
        self._out.flush()


def layout(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines, their columns under each other."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
