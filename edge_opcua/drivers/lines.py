"""What several devices share: a serial port or a gateway can carry the requests of only one at a time."""

from __future__ import annotations

import copy
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
        self._users: dict[Hashable, set[str]] = {}
        self._user = ""
        self._state_dir = state_dir

    def used_by(self, device: str) -> Lines:
        """Return the same lines for one device: :meth:`leave` takes away what nobody else uses."""
        view = copy.copy(self)
        view._user = device  # noqa: SLF001 - its own class
        return view

    def leave(self, device: str) -> None:
        """Forget the lines that only this device used; who comes after it may set them up differently."""
        for key, users in tuple(self._users.items()):
            users.discard(device)
            if not users:
                del self._users[key], self._lines[key]

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
        self._users.setdefault(key, set()).add(self._user)
        line: _Line = self._lines[key]
        return line
