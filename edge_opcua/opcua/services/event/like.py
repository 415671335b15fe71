r"""The pattern language of the operator Like (Part 4 §7.7.3: ``%``, ``_``, ``[]``, ``[^]`` and ``\``).

A pattern comes from a client and must not burn the processor: between two ``%`` everything has a fixed
length, so the leftmost place is always the right one, there is nothing to go back to, and the work is bounded
by the length of the text times that of the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final

MAX_PATTERN: Final = 256
MAX_TEXT: Final = 4096


class Part:
    """What stands between two ``%``: matches a fixed number of characters.

    Args:
        places: For each character a regular expression that matches exactly one.
    """

    def __init__(self, places: list[str]) -> None:
        self.length = len(places)
        self._pattern = re.compile("".join(places), re.DOTALL)

    def at(self, text: str, start: int) -> bool:
        """Whether it stands at this place."""
        return start >= 0 and self._pattern.match(text, start) is not None

    def find(self, text: str, start: int, end: int) -> int:
        """Return where it stands first between two places, -1 if it does not."""
        found = self._pattern.search(text, start, end)
        return -1 if found is None else found.start()


def compile_like(pattern: str) -> Callable[[str], bool]:
    """Make a pattern ready.

    Args:
        pattern: At most :data:`MAX_PATTERN` characters; upper and lower case differ.

    Returns:
        Whether a text matches as a whole; one longer than :data:`MAX_TEXT` never does.

    Raises:
        ValueError: It is too long, or a bracket or an escape is not finished.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern of {len(pattern)} characters")
    parts = [Part(places) for places in _split(pattern)]
    if len(parts) == 1:
        return lambda text: len(text) == parts[0].length <= MAX_TEXT and parts[0].at(text, 0)
    first, *middle, last = parts
    shortest = sum(part.length for part in parts)

    def matches(text: str) -> bool:
        if not shortest <= len(text) <= MAX_TEXT:
            return False
        end = len(text) - last.length
        if not first.at(text, 0) or not last.at(text, end):
            return False
        here = first.length
        for part in middle:
            found = part.find(text, here, end)
            if found < 0:
                return False
            here = found + part.length
        return True

    return matches


def _split(pattern: str) -> list[list[str]]:
    """Return the places of each part; there is one part more than there are ``%``."""
    parts: list[list[str]] = [[]]
    letters = iter(pattern)
    for letter in letters:
        if letter == "%":
            parts.append([])
        elif letter == "_":
            parts[-1].append(".")
        elif letter == "[":
            parts[-1].append(_set(letters))
        elif letter == "\\":
            parts[-1].append(re.escape(_escaped(letters)))
        else:
            parts[-1].append(re.escape(letter))
    # "%%" is "%".
    return [part for i, part in enumerate(parts) if part or i in (0, len(parts) - 1)]


def _escaped(letters: Iterator[str]) -> str:
    letter = next(letters, None)
    if letter is None:
        raise ValueError("nothing is escaped at the end")
    return letter


def _set(letters: Iterator[str]) -> str:
    """Return a regular expression for what follows ``[``: characters and ranges like ``a-z``."""
    inside: list[tuple[str, bool]] = []  # a character, and whether it may be an operator
    for letter in letters:
        if letter == "]":
            break
        inside.append((_escaped(letters), False) if letter == "\\" else (letter, True))
    else:
        raise ValueError("a bracket is not closed")
    negated = inside[:1] == [("^", True)]
    members = inside[1:] if negated else inside
    if not members:
        raise ValueError("a bracket is empty")
    ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in _ranges(members))
    return f"[{'^' if negated else ''}{ranges}]"


def _ranges(members: list[tuple[str, bool]]) -> Iterator[tuple[str, str]]:
    dashes = {i for i in range(1, len(members) - 1) if members[i] == ("-", True)}
    if any(b - a < 2 for a, b in pairwise(sorted(dashes))):
        raise ValueError("two dashes in a row")
    for i, (letter, _) in enumerate(members):
        if i in dashes:
            low, high = members[i - 1][0], members[i + 1][0]
            if low > high:
                raise ValueError(f"the range {low}-{high} is empty")
            yield low, high
        else:
            yield letter, letter
