"""One table of a manifest: each key is taken once, what nobody takes is refused as unknown."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, overload

from edge_opcua.errors import ModelError

_Word = TypeVar("_Word", bound=str)


class Table:
    """One table of the manifest; every key is taken once, what is left over is unknown.

    Args:
        values: The table as TOML has it.
        origin: File name for messages.
        path: Where the table stands, with a dot behind it; empty at the root.
    """

    def __init__(self, values: dict[str, Any], origin: str, path: str) -> None:
        self._values = dict(values)
        self._origin = origin
        self._path = path

    def wrong(self, key: str, sentence: str) -> ModelError:
        """Return the error that says what is wrong with a key (M506)."""
        return ModelError(f"{self._origin}: {self._path}{key} {sentence}", code="M506")

    def has(self, key: str) -> bool:
        """Return whether a key is written and was not taken yet."""
        return key in self._values

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Take a value of one kind.

        Raises:
            ModelError: It is missing without a default, or of another kind (M506); the same below.
        """
        value = self._values.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"is {value!r}, not {_KINDS[kind]}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Take a text of one printable line."""
        text = str(self.take(key, str, default))
        if not text.isprintable():
            raise self.wrong(key, "holds characters that cannot be printed")
        return text

    def matching(self, key: str, pattern: re.Pattern[str], meaning: str) -> str:
        """Take a text of a certain form."""
        text = self.text(key)
        if pattern.fullmatch(text) is None:
            raise self.wrong(key, f'"{text}" is not {meaning}')
        return text

    def choice(self, key: str, words: tuple[_Word, ...], *, default: _Word) -> _Word:
        """Take one of some words."""
        text = self.text(key, default)
        for word in words:
            if word == text:
                return word
        raise self.wrong(key, f'"{text}" is none of {", ".join(words)}')

    def whole(self, key: str, *, default: int | None = None, high: int = 2**31 - 1) -> int:
        """Take a whole number from 1."""
        value: int = self.take(key, int, default)
        if not 1 <= value <= high:
            raise self.wrong(key, f"{value} is out of range 1..{high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Take a number that is not nan."""
        value = self._values.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, f"is {value!r}, not a number")
        try:
            number = float(value)
        except OverflowError:
            raise self.wrong(key, "is a number of hundreds of digits") from None
        if math.isnan(number):
            raise self.wrong(key, "is nan, not a number")
        return number

    def optional_number(self, key: str) -> float | None:
        """Take a number, or None where none is written."""
        return self.number(key) if self.has(key) else None

    def moment(self, key: str) -> dt.datetime:
        """Take a moment as RFC 3339 has it, in quotes or not; it names its offset from UTC."""
        value = self._values.pop(key, None)
        if value is None:
            raise self.wrong(key, "is missing")
        try:
            moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.wrong(key, f'is "{value}", not a moment such as 2026-05-17T08:00:00Z')
        return moment

    @overload
    def table(self, key: str) -> Table: ...
    @overload
    def table(self, key: str, *, required: Literal[False]) -> Table | None: ...
    def table(self, key: str, *, required: bool = True) -> Table | None:
        """Take a table; None where none is written and none is required."""
        if not required and not self.has(key):
            return None
        return Table(self.take(key, dict), self._origin, f"{self._path}{key}.")

    def within(self, key: str, values: Mapping[str, Any]) -> Table:
        """Return a table that was taken as it stands, to read what of it is needed."""
        return Table(dict(values), self._origin, f"{self._path}{key}.")

    def tables(self, key: str, *, required: bool = True) -> list[Table]:
        """Take a list of tables; none where none is written and none is required."""
        if not required and not self.has(key):
            return []
        return [
            Table(entry, self._origin, f"{key}[{number}].")
            for number, entry in enumerate(self._entries(key), 1)
        ]

    def raw(self, key: str) -> Mapping[str, Any]:
        """Take a table as it stands; empty where none is written."""
        return MappingProxyType(self.take(key, dict, {}))

    def raws(self, key: str, *, most: int) -> tuple[Mapping[str, Any], ...]:
        """Take a list of tables as they stand; none where none is written."""
        entries = self._entries(key) if self.has(key) else []
        if len(entries) > most:
            raise self.wrong(key, f"are {len(entries)}, more than {most}")
        return tuple(MappingProxyType(entry) for entry in entries)

    def end(self) -> None:
        """Refuse what nobody took."""
        if self._values:
            raise self.wrong(min(self._values), "is an unknown key")

    def _entries(self, key: str) -> list[dict[str, Any]]:
        entries = self.take(key, list)
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise self.wrong(key, "is not a list of tables")
        return list(entries)


_KINDS: Final[dict[type[Any], str]] = {
    str: "a text in quotes",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}
