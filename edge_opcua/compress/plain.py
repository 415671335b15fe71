"""Dataclasses as JSON and back: what a report, and a search that was broken off, are kept as.

A float that is no number is a text in JSON (``"inf"``, ``"nan"``), for JSON has no word for it.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

_T = TypeVar("_T")
_PLAIN: Final = (str, int, bool, type(None))


def plain(value: Any) -> Any:
    """Return a dataclass, and whatever it holds, as JSON takes it.

    Raises:
        TypeError: It holds something that JSON has no word for.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def read(kind: type[_T], found: Any, where: str = "") -> _T:
    """Return a dataclass that was made JSON by :func:`plain`.

    Args:
        kind: The dataclass.
        found: What JSON gave; entries that the dataclass does not know are left out.
        where: Its place, for the error.

    Raises:
        ValueError: It is not one: which entry, and what is wrong with it.
    """
    if not isinstance(found, dict):
        raise ValueError(f"{where or kind.__name__} is not an object")  # noqa: TRY004 - wrong content
    hints = typing.get_type_hints(kind)
    entries = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        place = f"{where}.{field.name}".lstrip(".")
        if field.name in found:
            entries[field.name] = _read(hints[field.name], found[field.name], place)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**entries)


def _read(hint: Any, found: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return found
    if origin in (Union, types.UnionType):
        return (
            None
            if found is None
            else _read(next(one for one in inner if one is not type(None)), found, where)
        )
    if origin is Literal:
        return _expected(found, found in inner, " or ".join(map(str, inner)), where)
    if origin is tuple:
        _expected(found, isinstance(found, list), "a list", where)
        return tuple(_read(inner[0], each, f"{where}[{number}]") for number, each in enumerate(found))
    if origin is not None:  # a mapping
        return _expected(found, isinstance(found, dict), "an object", where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read(hint, found, where)
    if hint is float:
        return _number(found, where)
    return _expected(found, type(found) is hint, hint.__name__, where)


def _number(found: Any, where: str) -> float:
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    _expected(found, is_number or found in ("inf", "-inf", "nan"), "a number", where)
    return float(found)


def _expected(found: _T, is_right: bool, what: str, where: str) -> _T:  # noqa: FBT001 - read aloud
    if not is_right:
        raise ValueError(f"{where} is {found!r}, not {what}")
    return found
