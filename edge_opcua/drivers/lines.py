"""What several devices share: a serial port or a gateway can carry the requests of only one at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_Line = TypeVar("_Line")


class Lines:
    """The physical lines of one io process, each made when the first device asks for it."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], _Line]) -> _Line:
        """Return the line of that key.

        Args:
            key: What makes it the same line, e.g. protocol, host and port.
            make: Makes the line if this is the first to ask.
        """
        if key not in self._lines:
            self._lines[key] = make()
        line: _Line = self._lines[key]
        return line
