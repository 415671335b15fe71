"""From the shared text of the logic to the language of one product: names, timers, literals, conversions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from edge_opcua.ladder.logic import Section

_WORDS: Final = re.compile(
    r"TON\((?P<timer>\w+), (?P<condition>[^;]*)\);"
    r"|(?P<of>[A-Z]\w*)\.(?P<member>Q|ET)\b"
    r"|(?P<convert>[A-Z]+_TO_[A-Z]+)\("
    r"|(?P<word>[A-Za-z]\w*)"
)
_KEYWORDS: Final = frozenset(("IF", "THEN", "ELSIF", "ELSE", "END_IF", "AND", "OR", "NOT", "MOD"))
_EXPONENT: Final = re.compile(r"(?<=\d)E[+-]\d+")


class Dialect(Protocol):
    """How one product writes what the logic needs."""

    def name(self, name: str) -> str:
        """Return a variable of the block."""

    def truth(self, *, value: bool) -> str:
        """Return TRUE or FALSE."""

    def run_timer(self, timer: str, condition: str) -> str:
        """Return the statements that let a timer run while a condition holds; they end with a semicolon."""

    def timer_done(self, timer: str) -> str:
        """Return the expression that is true when a timer's time is over."""

    def timer_ms(self, timer: str) -> str:
        """Return the expression of the time that a timer has run, ms as DINT."""

    def convert(self, function: str) -> str:
        """Return a conversion as this product calls it; empty where it converts by itself."""


def rewritten(text: str, dialect: Dialect) -> str:
    """Return statements or an expression of the logic in the language of a product."""

    def one(found: re.Match[str]) -> str:
        if found["timer"]:
            return dialect.run_timer(found["timer"], rewritten(found["condition"], dialect))
        if found["of"]:
            ask = dialect.timer_done if found["member"] == "Q" else dialect.timer_ms
            return ask(found["of"])
        if found["convert"]:
            return dialect.convert(found["convert"]) + "("
        word = found["word"]
        if word in ("TRUE", "FALSE"):
            return dialect.truth(value=word == "TRUE")
        return word if word in _KEYWORDS else dialect.name(word)

    # Exponents of literals are no names.
    pieces, start = [], 0
    for exponent in _EXPONENT.finditer(text):
        pieces += [_WORDS.sub(one, text[start : exponent.start()]), exponent[0]]
        start = exponent.end()
    return "".join([*pieces, _WORDS.sub(one, text[start:])])


def statements(sections: tuple[Section, ...], dialect: Dialect) -> Iterator[str]:
    """Yield the lines of the logic, each step under its title."""
    for section in sections:
        yield ""
        yield f"(* {section.title} *)"
        yield from rewritten(section.text, dialect).strip("\n").splitlines()


def indented(lines: Iterator[str] | list[str], by: str = "    ") -> Iterator[str]:
    """Yield lines further to the right; empty ones stay empty."""
    for line in lines:
        yield by + line if line else line
