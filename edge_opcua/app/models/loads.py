"""How often a version was loaded without having lasted: on disk before every load.

A model may end its process, and one that takes all memory the computer. Nobody can write that down then; so
it is written before, and crossed out once the version has judged for a while. What is still there at the next
start has not lasted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledgerfile import flush_directory

MOST_CHARACTERS: Final = 1 << 20

_log = structlog.get_logger(__name__)


class LoadCounts:
    """The counts of one server; writing waits for the disk, so call it through a worker.

    Args:
        file: The file; its directory exists. What cannot be read counts nothing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.was_clean, self._begun = _read(file)
        self._clean = self.was_clean

    def open(self) -> bool:
        """Take note that a server runs, and return whether the last one has ended in order.

        Raises:
            OSError: The note cannot be written.
        """
        self._clean = False
        self._write()
        return self.was_clean

    def of(self, choice: ModelChoice) -> int:
        """Return how often a version was loaded since it last had lasted."""
        return self._begun.get(choice.key, 0)

    def begin(self, choices: Iterable[ModelChoice]) -> None:
        """Take note that versions are going to be loaded; when this returns it is on disk.

        Raises:
            OSError: It cannot be written.
        """
        for key in {choice.key for choice in choices}:
            self._begun[key] = self._begun.get(key, 0) + 1
        self._write()

    def lasted(self, choices: Iterable[ModelChoice]) -> None:
        """Cross out versions that have judged for a while, or were put away in order.

        Raises:
            OSError: It cannot be written.
        """
        known = [self._begun.pop(choice.key, 0) for choice in choices]
        if any(known):
            self._write()

    def close(self) -> None:
        """Take note that the server ends in order: none of its versions has brought it down.

        Raises:
            OSError: It cannot be written.
        """
        self._clean = True
        self._begun.clear()
        self._write()

    def _write(self) -> None:
        scratch = self._file.with_suffix(".new")
        with scratch.open("w") as stream:
            json.dump({"clean": self._clean, "begun": self._begun}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(self._file)
        flush_directory(self._file.parent)


def _read(file: Path) -> tuple[bool, dict[str, int]]:
    try:
        with file.open() as stream:
            kept = json.loads(stream.read(MOST_CHARACTERS))
    except FileNotFoundError:
        return True, {}
    except (OSError, ValueError, RecursionError) as exc:
        _log.warning("loads.unreadable", file=str(file), error=str(exc))
        return False, {}
    if not isinstance(kept, dict) or not isinstance(kept.get("begun"), dict):
        return False, {}
    begun = {str(key): count for key, count in kept["begun"].items() if isinstance(count, int)}
    return kept.get("clean") is True, begun
