"""Finds the place of every key and value of a TOML text, since tomllib tells none.

One pass over a text that tomllib has accepted; it is a scanner, not a second parser: it knows where things
begin and end, and leaves what they mean to tomllib.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.problem import Place

Path = tuple[str | int, ...]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_VALUE: Final = re.compile(r"[^,\]}#\n]*")
_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACES: Final = re.compile(r"[ \t]*")
_BASIC_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_LITERAL_STRING: Final = re.compile(r"'[^']*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""(?:"{0,2})', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'''(?:'{0,2})", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPES: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


@dataclass(frozen=True, slots=True)
class Located:
    """Where a setting stands.

    Args:
        key: Its key, or the name in the header of its table.
        value: Its value; the same as the key for a table with a header.
    """

    key: Place
    value: Place


class Places:
    """The places of one TOML text, by path such as ``("devices", 0, "url")``.

    Args:
        found: The places.
        again: Keys and tables that stand a second time: name, first place, second place.
    """

    def __init__(self, found: dict[Path, Located], again: list[tuple[str, Place, Place]]) -> None:
        self._found = found
        self.again = again

    def __contains__(self, path: Path) -> bool:
        return path in self._found

    def __iter__(self) -> Iterator[Path]:
        return iter(self._found)

    def key(self, path: Path) -> Place:
        """Return the place of a key; of the nearest table above it if the key itself is missing."""
        return self._nearest(path).key

    def value(self, path: Path) -> Place:
        """Return the place of a value; of the nearest table above it if there is none."""
        located = self._nearest(path)
        return located.value if path in self._found else located.key

    def _nearest(self, path: Path) -> Located:
        while path and path not in self._found:
            path = path[:-1]
        return self._found.get(path, Located(Place(1, 1), Place(1, 1)))


def locate(text: str) -> Places:
    """Return where the keys and values of a TOML text stand.

    Args:
        text: A text that tomllib accepts. In any other, the places up to the first fault are found.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with contextlib.suppress(_FaultError, RecursionError):  # tomllib reports the fault itself
        scanner.run()
    return Places(scanner.found, scanner.again)


class _FaultError(Exception):
    """The text is not TOML from here on."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self.found: dict[Path, Located] = {}
        self.again: list[tuple[str, Place, Place]] = []
        self._text = text
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._arrays: dict[Path, int] = {}
        self._headers: set[Path] = set()

    def run(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        parts = self._dotted_key()
        self._take("]]" if is_array else "]")
        path: Path = ()
        for index, (name, place) in enumerate(parts):
            path += (name,)
            if is_array and index == len(parts) - 1:
                number = self._arrays.get(path, -1) + 1
                self._arrays[path] = number
                self.found.setdefault(path, Located(place, place))
                path += (number,)
            elif path in self._arrays:
                path += (self._arrays[path],)
            self.found.setdefault(path, Located(place, place))
        if path in self._headers:
            name, place = parts[-1]
            self.again.append((name, self.found[path].key, place))
        self._headers.add(path)
        return path

    def _pair(self, table: Path) -> None:
        parts = self._dotted_key()
        self._take("=")
        self._skip(_SPACES)
        path = table
        for name, place in parts[:-1]:
            path += (name,)
            self.found.setdefault(path, Located(place, place))
        name, place = parts[-1]
        path += (name,)
        if path in self.found:
            self.again.append((name, self.found[path].key, place))
        # The key comes first in the file, and so it does here; its value's end is known only afterwards.
        self.found[path] = Located(place, place)
        self.found[path] = Located(place, self._value(path))

    def _dotted_key(self) -> list[tuple[str, Place]]:
        parts = []
        while True:
            self._skip(_SPACES)
            parts.append(self._key())
            self._skip(_SPACES)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _key(self) -> tuple[str, Place]:
        start = self._at
        for pattern in (_BARE_KEY, _BASIC_STRING, _LITERAL_STRING):
            match = pattern.match(self._text, start)
            if match:
                self._at = match.end()
                name = match.group()
                if pattern is not _BARE_KEY:
                    name = _unescape(name[1:-1]) if name[0] == '"' else name[1:-1]
                return name, self._place(start)
        raise _FaultError

    def _value(self, path: Path) -> Place:
        start = self._at
        opening = self._text[start : start + 1]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in {'"', "'"}:
            self._string()
        else:
            match = _PLAIN_VALUE.match(self._text, start)
            self._at = start + len(match.group().rstrip(" \t")) if match else start
        return self._place(start)

    def _string(self) -> None:
        for pattern in (_LONG_BASIC, _LONG_LITERAL, _BASIC_STRING, _LITERAL_STRING):
            match = pattern.match(self._text, self._at)
            if match:
                self._at = match.end()
                return
        raise _FaultError

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self._text.startswith("]", self._at):
                self._at += 1
                return
            place = self._value((*path, number))
            self.found[(*path, number)] = Located(place, place)
            number += 1
            self._skip(_BLANK)
            if not self._text.startswith(",", self._at):
                self._take("]")
                return
            self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text.startswith("}", self._at):
                self._at += 1
                return
            self._pair(path)
            self._skip(_BLANK)
            if not self._text.startswith(",", self._at):
                self._take("}")
                return
            self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _take(self, expected: str) -> None:
        self._skip(_SPACES)
        if not self._text.startswith(expected, self._at):
            raise _FaultError
        self._at += len(expected)

    def _place(self, start: int) -> Place:
        line = bisect_right(self._line_starts, start)
        line_start = self._line_starts[line - 1]
        line_end = self._text.find("\n", start)
        end = self._at if line_end < 0 else min(self._at, line_end)
        return Place(line, start - line_start + 1, max(1, end - start))


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match.group(1) or match.group(2)
        return chr(int(code, 16)) if code else _ESCAPES.get(match.group(3), match.group(3))

    return _ESCAPE.sub(character, text)
