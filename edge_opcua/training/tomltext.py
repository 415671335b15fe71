"""Tables written as TOML, in the order in which a person reads a manifest."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_WIDTH = 100


def table_text(name: str, values: Mapping[str, Any], *, many: bool = False) -> str:
    """Return one table with its heading.

    Args:
        name: Its name.
        values: Its keys.
        many: Whether it is one of several, ``[[name]]``.

    Raises:
        TypeError: A value is none that TOML has.
    """
    heading = f"[[{name}]]" if many else f"[{name}]"
    return "\n".join([heading, *(f"{_key(key)} = {value_text(value)}" for key, value in values.items())])


def value_text(value: Any) -> str:
    """Return one value.

    Raises:
        TypeError: It is none that TOML has.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(key)} = {value_text(part)}" for key, part in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return _list([value_text(part) for part in value])
    raise TypeError(f"{type(value).__name__} has no place in a manifest")


def _list(parts: list[str]) -> str:
    line = ", ".join(parts)
    if len(line) <= _WIDTH:
        return f"[{line}]"
    lines, current = [], ""
    for part in parts:
        if current and len(current) + len(part) > _WIDTH:
            lines.append(current)
            current = ""
        current = f"{current} {part}," if current else f"  {part},"
    return "\n".join(["[", *lines, current, "]"])


def _number(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        return str(value)  # inf, -inf and nan, as TOML has them
    return repr(value)


def _text(value: str) -> str:
    # JSON escapes what TOML does, and DEL besides.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: object) -> str:
    text = str(key)
    plain = text.isascii() and text.replace("_", "").replace("-", "").isalnum()
    return text if plain else _text(text)
