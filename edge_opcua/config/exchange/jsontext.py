"""Reads JSON whose objects know the line they begin in, since the json module tells none."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

from edge_opcua.config.exchange.listing import ListError

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]', re.DOTALL)


class JsonObject(dict[str, Any]):
    """One object.

    Attributes:
        line: Where it begins.
    """

    line: int = 0

    def text(self, key: str) -> str:
        """Return a text, or an empty one if there is none."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def objects(self, key: str) -> list[JsonObject]:
        """Return the objects of a list; anything else in it is left out."""
        value = self.get(key)
        return [item for item in value if isinstance(item, JsonObject)] if isinstance(value, list) else []


def read_json(text: str) -> Any:
    """Return what a text holds, its objects as :class:`JsonObject`.

    Raises:
        ListError: It is not JSON, is cut off, or is nested too deeply (T253).
    """
    lines = _lines_of_objects(text)

    def made(pairs: list[tuple[str, Any]]) -> JsonObject:
        found = JsonObject(pairs)
        found.line = next(lines, 0)
        return found

    try:
        return json.loads(text, object_pairs_hook=made)
    except json.JSONDecodeError as exc:
        raise ListError(f"is not JSON: {exc.msg}", code="T253", line=exc.lineno) from exc
    except (RecursionError, ValueError) as exc:  # a number of thousands of digits is a ValueError
        raise ListError(f"is not JSON that can be read: {exc}", code="T253") from exc


def _lines_of_objects(text: str) -> Iterator[int]:
    """Yield the line of each object, in the order in which the objects end, as the hook is called."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    opened: list[int] = []
    for match in _TOKEN.finditer(text):
        mark = match.group()
        if mark == "{":
            opened.append(match.start())
        elif mark == "}" and opened:
            yield bisect_right(starts, opened.pop())
