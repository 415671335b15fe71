"""What several devices share: a serial port or a gateway can carry the requests of only one at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from edge_opcua.core.statedir import StateDir, default_state_dir

_Line = TypeVar("_Line")


class Lines:
    """The physical lines of one io process, each made when the first device asks for it.

    Args:
        state_dir: State directory of this server, whose certificate devices are shown; None: the usual one.
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self._lines: dict[Hashable, Any] = {}
        self._state_dir = state_dir

    @property
    def pki(self) -> Path:
        """Directory of our own certificate and of those that are trusted."""
        return StateDir(self._state_dir or default_state_dir()).pki

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
