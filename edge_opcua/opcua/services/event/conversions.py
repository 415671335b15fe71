"""How a value of one built-in type becomes one of another in a filter (Part 4 §7.7.3); pure."""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from asyncua import ua

__all__ = ["EXPLICIT", "IMPLICIT", "INTEGERS", "RANK", "convert", "may_convert"]

Kind = ua.VariantType

_INTS: Final = ("Byte", "SByte", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64")


def _kinds(text: str) -> frozenset[ua.VariantType]:
    return frozenset(Kind[name] for word in text.split() for name in (_INTS if word == "ints" else (word,)))


# Table 125, "I": done by itself where two operands have different types.
IMPLICIT: Final[Mapping[ua.VariantType, frozenset[ua.VariantType]]] = {
    Kind.Boolean: _kinds("ints Float Double"),
    Kind.Byte: _kinds("SByte UInt16 Int16 UInt32 Int32 UInt64 Int64 Float Double"),
    Kind.SByte: _kinds("UInt16 Int16 UInt32 Int32 UInt64 Int64 Float Double"),
    Kind.Int16: _kinds("UInt32 Int32 UInt64 Int64 Float Double"),
    Kind.UInt16: _kinds("Int16 UInt32 Int32 UInt64 Int64 StatusCode Float Double"),
    Kind.Int32: _kinds("UInt64 Int64 Float Double"),
    Kind.UInt32: _kinds("Int32 UInt64 Int64 Float Double"),
    Kind.Int64: _kinds("Float Double"),
    Kind.UInt64: _kinds("Int64 Float Double"),
    Kind.Float: _kinds("Double"),
    Kind.StatusCode: _kinds("UInt32 Int32 UInt64 Int64"),
    Kind.String: _kinds("Boolean ints Float Double Guid"),
    Kind.LocalizedText: _kinds("String"),
    Kind.QualifiedName: _kinds("String LocalizedText"),
    Kind.NodeId: _kinds("ExpandedNodeId String"),
    Kind.ExpandedNodeId: _kinds("String"),
}
# Table 125, "E": only by the operator Cast.
EXPLICIT: Final[Mapping[ua.VariantType, frozenset[ua.VariantType]]] = {
    Kind.Boolean: _kinds("String"),
    Kind.Byte: _kinds("Boolean String"),
    Kind.SByte: _kinds("Boolean Byte String"),
    Kind.Int16: _kinds("Boolean Byte SByte UInt16 String"),
    Kind.UInt16: _kinds("Boolean Byte SByte String"),
    Kind.Int32: _kinds("Boolean Byte SByte UInt16 Int16 UInt32 StatusCode String"),
    Kind.UInt32: _kinds("Boolean Byte SByte UInt16 Int16 StatusCode String"),
    Kind.Int64: _kinds("Boolean Byte SByte UInt16 Int16 UInt32 Int32 UInt64 StatusCode String"),
    Kind.UInt64: _kinds("Boolean Byte SByte UInt16 Int16 UInt32 Int32 StatusCode String"),
    Kind.Float: _kinds("Boolean ints String"),
    Kind.Double: _kinds("Boolean ints Float String"),
    Kind.StatusCode: _kinds("UInt16 Int16"),
    Kind.String: _kinds("DateTime NodeId ExpandedNodeId LocalizedText QualifiedName"),
    Kind.DateTime: _kinds("String"),
    Kind.Guid: _kinds("ByteString String"),
    Kind.ByteString: _kinds("Guid String"),
    Kind.ExpandedNodeId: _kinds("NodeId"),
}
# Table 126: of two operands the lower one is converted to the type of the higher one; first is highest.
_PRECEDENCE: Final = (
    "Double Float Int64 UInt64 Int32 UInt32 StatusCode Int16 UInt16 SByte Byte Boolean Guid String "
    "ExpandedNodeId NodeId LocalizedText QualifiedName"
)
RANK: Final[Mapping[ua.VariantType, int]] = {
    Kind[name]: -place for place, name in enumerate(_PRECEDENCE.split())
}
# Smallest and largest value, size in bits.
INTEGERS: Final[Mapping[ua.VariantType, tuple[int, int, int]]] = {
    Kind.Byte: (0, 0xFF, 8),
    Kind.SByte: (-0x80, 0x7F, 8),
    Kind.UInt16: (0, 0xFFFF, 16),
    Kind.Int16: (-0x8000, 0x7FFF, 16),
    Kind.UInt32: (0, 0xFFFF_FFFF, 32),
    Kind.Int32: (-0x8000_0000, 0x7FFF_FFFF, 32),
    Kind.UInt64: (0, 0xFFFF_FFFF_FFFF_FFFF, 64),
    Kind.Int64: (-0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 64),
}
_FLOATS: Final = frozenset({Kind.Float, Kind.Double})

_LONGEST: Final = 400  # characters of a text that is to be a number, a time or an id
_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_DECIMAL: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_NOT_FINITE: Final = {"INF": math.inf, "+INF": math.inf, "-INF": -math.inf, "NaN": math.nan}
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


def may_convert(source: ua.VariantType, target: ua.VariantType) -> bool:
    """Whether Cast knows the way from one type to the other."""
    return source == target or target in IMPLICIT.get(source, ()) or target in EXPLICIT.get(source, ())


def convert(value: Any, source: ua.VariantType, target: ua.VariantType) -> Any:
    """Return a scalar in another type, None if this value has no equal there.

    Args:
        value: A value of the type ``source``, not null.
        source: Its type; the tables know the way from here to ``target``.
        target: The type wanted.
    """
    if source == target:
        return value
    with suppress(ValueError, OverflowError, ArithmeticError, ua.UaError):
        if target in INTEGERS:
            return _integer(value, source, target)
        return _TO[target](value, source)
    return None


def _integer(value: Any, source: ua.VariantType, target: ua.VariantType) -> int | None:
    low, high, bits = INTEGERS[target]
    if source == Kind.StatusCode:
        code = int(value.value) >> 16 if bits == 16 else int(value.value)
        # The bits are copied: a Bad code is a negative Int32.
        return code - (1 << bits) if low < 0 and bits <= 32 and code > high else code
    if source == Kind.String:
        if len(value) > _LONGEST or not _INTEGER.fullmatch(value):
            return None
        number = int(value)
    elif source in _FLOATS:
        number = math.floor(value + 0.5)
    else:
        number = int(value)
    return number if low <= number <= high else None


def _boolean(value: Any, source: ua.VariantType) -> bool | None:
    if source == Kind.String:
        return _TRUTHS.get(value.strip().lower()) if len(value) <= _LONGEST else None
    return None if value != value else bool(value)


def _double(value: Any, source: ua.VariantType) -> float | None:
    if source != Kind.String:
        return float(value)
    if value.strip() in _NOT_FINITE:
        return _NOT_FINITE[value.strip()]
    return float(value) if len(value) <= _LONGEST and _DECIMAL.fullmatch(value) else None


def single(value: float) -> float:
    """Return the Float nearest to a number.

    Raises:
        OverflowError: It is too large.
    """
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _float(value: Any, source: ua.VariantType) -> float | None:
    number = _double(value, source)
    return None if number is None else single(number)


def _status(value: Any, source: ua.VariantType) -> ua.StatusCode | None:
    number = int(value) << 16 if source == Kind.UInt16 else int(value)
    if not -0x8000_0000 <= number <= 0xFFFF_FFFF:
        return None
    return ua.StatusCode(ua.UInt32(number & 0xFFFF_FFFF))


def _guid(value: Any, source: ua.VariantType) -> uuid.UUID | None:
    if source == Kind.ByteString:
        return uuid.UUID(bytes_le=value)
    return uuid.UUID(value) if _GUID.fullmatch(value) else None


def _bytes(value: Any, _source: ua.VariantType) -> bytes:
    return bytes(value.bytes_le)


def _time(value: Any, _source: ua.VariantType) -> dt.datetime:
    found = dt.datetime.fromisoformat(value[:_LONGEST])
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def _node_id(value: Any, source: ua.VariantType) -> ua.NodeId | None:
    found = ua.NodeId.from_string(value[:_LONGEST]) if source == Kind.String else value
    if isinstance(found, ua.ExpandedNodeId):
        if found.NamespaceUri or found.ServerIndex:
            return None
        found = ua.NodeId(found.Identifier, found.NamespaceIndex)
    return found


def _expanded(value: Any, source: ua.VariantType) -> ua.ExpandedNodeId:
    found = ua.NodeId.from_string(value[:_LONGEST]) if source == Kind.String else value
    if isinstance(found, ua.ExpandedNodeId):
        return found
    return ua.ExpandedNodeId(found.Identifier, found.NamespaceIndex)


def _localized(value: Any, source: ua.VariantType) -> ua.LocalizedText:
    return ua.LocalizedText(value if source == Kind.String else value.Name, "")


def _qualified(value: Any, _source: ua.VariantType) -> ua.QualifiedName:
    return ua.QualifiedName(value, 0)


def _string(value: Any, source: ua.VariantType) -> str | None:
    return _TEXT[source](value) if source in _TEXT else str(int(value))


def _shortest(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "INF" if value > 0 else "-INF"
    return next(text for digits in range(6, 10) if single(float(text := f"{value:.{digits}g}")) == value)


def _digits(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else _shortest(value)


def _moment(value: dt.datetime) -> str:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _expanded_text(value: ua.NodeId) -> str:
    """Return an ExpandedNodeId in the syntax of Part 6 §5.3.1.11."""
    server = f"svr={value.ServerIndex};" if getattr(value, "ServerIndex", 0) else ""
    uri = getattr(value, "NamespaceUri", None)
    plain = ua.NodeId.to_string(ua.NodeId(value.Identifier, 0 if uri else value.NamespaceIndex))
    return f"{server}{f'nsu={uri};' if uri else ''}{plain}"


_TEXT: Final[Mapping[ua.VariantType, Callable[[Any], str | None]]] = {
    Kind.Boolean: lambda value: "true" if value else "false",
    Kind.Float: _shortest,
    Kind.Double: _digits,
    Kind.DateTime: _moment,
    Kind.Guid: str,
    Kind.ByteString: lambda value: value.hex().upper(),
    Kind.LocalizedText: lambda value: value.Text,
    Kind.QualifiedName: lambda value: value.Name,
    Kind.NodeId: _expanded_text,
    Kind.ExpandedNodeId: _expanded_text,
}
_TO: Final[Mapping[ua.VariantType, Callable[[Any, ua.VariantType], Any]]] = {
    Kind.Boolean: _boolean,
    Kind.Float: _float,
    Kind.Double: _double,
    Kind.String: _string,
    Kind.DateTime: _time,
    Kind.Guid: _guid,
    Kind.ByteString: _bytes,
    Kind.NodeId: _node_id,
    Kind.ExpandedNodeId: _expanded,
    Kind.StatusCode: _status,
    Kind.LocalizedText: _localized,
    Kind.QualifiedName: _qualified,
}
