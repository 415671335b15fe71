"""Splits a text into words, numbers and signs, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge_opcua.sim.softplc.errors import StError

_LONGEST_WORD: Final = 100
_TIME_PARTS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}

_GRAMMAR: Final = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+)
  | (?P<line>//[^\n]*)
  | (?P<time>(?:time|t)\#-?(?:[0-9][0-9_]*(?:\.[0-9]+)?(?:ms|us|ns|d|h|m|s)_?)+(?![0-9a-z_]))
  | (?P<prefix>[a-z][a-z0-9_]*\#)
  | (?P<name>[a-z_][a-z0-9_]*)
  | (?P<based>(?:2|8|16)\#[0-9a-f][0-9a-f_]*)
  | (?P<real>[0-9][0-9_]*\.[0-9][0-9_]*(?:e[+-]?[0-9]+)?)
  | (?P<int>[0-9][0-9_]*)
  | (?P<sign>:=|=>|\.\.|\*\*|<=|>=|<>|[-+*/&<>=().,;:\[\]%])
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_OUTSIDE: Final = {
    "{": "a pragma",
    "'": "a character string",
    '"': "a character string",
    "#": "a based or typed literal of this form",
    "^": "a pointer",
    "@": "an address",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or sign.

    Args:
        kind: ``name``, ``prefix`` (UINT#), ``int``, ``real``, ``time``, ``sign`` or ``end``.
        text: As written.
        line: Line, from 1.
        column: Column, from 1.
        value: Of a number or a time (ms).
    """

    kind: str
    text: str
    line: int
    column: int
    value: int | float = 0

    @property
    def lower(self) -> str:
        """The text without regard to case, as IEC 61131-3 compares names."""
        return self.text.lower()


def tokens(text: str) -> list[Token]:
    """Split a text; the last token is of kind ``end``.

    Raises:
        StError: A character, a comment or a number is no part of the language.
    """
    found: list[Token] = []
    place, line, start = 0, 1, 0
    while place < len(text):
        column = place - start + 1
        if text.startswith(("(*", "/*"), place):
            end = _comment_end(text, place, line, column)
            kind = "space"
        else:
            match = _GRAMMAR.match(text, place)
            if match is None:
                raise _outside(text[place], line, column)
            end, kind = match.end(), str(match.lastgroup)
        piece = text[place:end]
        if kind not in ("space", "line"):
            found.append(_token(kind, piece, line, column))
        if "\n" in piece:
            line += piece.count("\n")
            start = place + piece.rindex("\n") + 1
        place = end
    found.append(Token("end", "the end of the text", line, place - start + 1))
    return found


def _comment_end(text: str, place: int, line: int, column: int) -> int:
    """Return where a comment ends; comments nest (ed. 3, table 3)."""
    opening = text[place : place + 2]
    closing = opening[::-1].replace("(", ")")
    depth, place = 1, place + 2
    while depth:
        if text.startswith(opening, place):
            depth, place = depth + 1, place + 2
        elif text.startswith(closing, place):
            depth, place = depth - 1, place + 2
        elif place >= len(text):
            raise StError("this comment has no end", line, column)
        else:
            place += 1
    return place


def _outside(character: str, line: int, column: int) -> StError:
    what = _OUTSIDE.get(character)
    if what is not None:
        return StError(f"{what} is outside the subset that is executed here", line, column)
    return StError(f"{character!r} is no part of Structured Text", line, column)


def _token(kind: str, text: str, line: int, column: int) -> Token:
    if len(text) > _LONGEST_WORD:
        raise StError(f"a word of more than {_LONGEST_WORD} characters", line, column)
    value: int | float = 0
    if kind == "name" and ("__" in text or text.endswith("_")):
        raise StError(f"{text}: no two underscores in a row and none at the end", line, column)
    try:
        if kind == "based":
            base, digits = text.split("#")
            kind, value = "int", int(digits, int(base))
        elif kind == "int":
            value = int(text)
        elif kind == "real":
            value = float(text)
        elif kind == "time":
            value = _milliseconds(text)
    except ValueError as exc:
        raise StError(f"{text}: {exc}", line, column) from exc
    return Token(kind, text, line, column, value)


def _milliseconds(text: str) -> int:
    body = text.partition("#")[2].lower()
    if body.startswith("-"):
        raise ValueError("negative durations are outside the subset: most PLCs have none")
    total = 0.0
    for number, unit in re.findall(r"([0-9][0-9_]*(?:\.[0-9]+)?)(ms|us|ns|d|h|m|s)", body):
        if unit not in _TIME_PARTS:
            raise ValueError("a TIME has milliseconds, nothing finer")
        total += float(number.replace("_", "")) * _TIME_PARTS[unit]
    whole = round(total)
    if abs(whole - total) > 1e-6 or whole >= 1 << 32:
        raise ValueError("a TIME is whole milliseconds up to T#49d17h2m47s295ms")
    return whole
