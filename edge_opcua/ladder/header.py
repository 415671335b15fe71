"""The head of every exported file: what it is, from what, and a checksum that betrays an edit."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from edge_opcua import __version__
from edge_opcua.ladder.facts import Facts

_UNSIGNED: Final = "0" * 16
_CHECKSUM: Final = re.compile(r"checksum ([0-9a-f]{16})")


def header(facts: Facts, what: str) -> tuple[str, ...]:
    """Return the lines at the head of a file, without the marks of a comment.

    Args:
        facts: What the file is made from.
        what: What it is, in a few words.
    """
    return (
        f'{facts.block}: {what} of output "{facts.output}", mode {facts.mode}.',
        f"Interface version {facts.map.version}; written by edge-opcua {__version__}, checksum {_UNSIGNED}.",
        "Generated from the configuration: change it there and export again.",
        "Process fail-safe, no functional safety: nothing here may replace a safety function.",
    )


def signed(text: str) -> str:
    """Return a file's text with its checksum in it."""
    return _CHECKSUM.sub(f"checksum {_checksum(text)}", text, count=1)


def untouched(text: str) -> bool:
    """Whether a file is one of ours that nobody has changed since."""
    found = _CHECKSUM.search(text)
    return found is not None and found[1] == _checksum(_CHECKSUM.sub(f"checksum {_UNSIGNED}", text, count=1))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
