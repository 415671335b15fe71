"""The fields of one event as bytes: each encoded once, however many items want it (Part 6 §5.2.2.16).

Most events say most things over and over: their type, their source, its name, a severity. Those are encoded
once and kept; what is new in every event (its id, its time, its message) is put together without the codec.
Everything else goes through the codec, and whatever the way, the bytes are the codec's.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final
from weakref import WeakValueDictionary

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.opcua.services.attribute.ranges import NumericRange
from edge_opcua.opcua.services.event.fields import cut, typed_variant
from edge_opcua.opcua.services.variants import NULL, SCALARS, variant
from edge_opcua.opcua.types import is_long

__all__ = ["EncodedEvent", "FieldTypes", "Key", "Plan", "plan"]

Kind = ua.VariantType
# The name of a field, empty for one that the event does not have; or a part of one.
Key = str | tuple[str, NumericRange]

_EPOCH: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_TICKS_PER_S: Final = 10_000_000
_TICKS_PER_DAY: Final = 24 * 3600 * _TICKS_PER_S
_TICKS_PER_US: Final = 10
# What is later, or before 1601, is sent as "never" (§5.2.2.5); the codec knows how.
_NEVER: Final = (dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - _EPOCH).days * _TICKS_PER_DAY
_KEPT: Final = 1024  # encoded values that are kept, of each kind
_SHORT: Final = 64  # letters of a text that may come again
_COUNT: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<i")
_TIME: Final = struct.Struct("<Bq")
_COUNTED: Final = struct.Struct("<Bi")
_DATE_TIME, _STRING, _BYTES = int(Kind.DateTime), int(Kind.String), int(Kind.ByteString)
_NODE_ID_KIND: Final = bytes([Kind.NodeId])
_LOCALE, _TEXT = 1, 2

_node_ids: dict[tuple[ua.NodeIdType, int, Any], bytes] = {}
_strings: dict[str, bytes] = {}
_heads: dict[str | None, bytes] = {}


class FieldTypes(dict[str, ua.VariantType]):
    """The types of the fields of many events, which share it: nobody changes it."""

    __slots__ = ()


class Plan:
    """What is put together of an event for a filter; filters that select the same have the same one.

    Args:
        keys: The fields in their order.
    """

    __slots__ = ("__weakref__", "head", "keys", "plain", "steps", "types")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self.head = _COUNT.pack(len(keys))
        self.plain = all(isinstance(key, str) for key in keys)
        self.types: Any = None
        self.steps: tuple[tuple[str, type, Callable[[Any], bytes]], ...] = ()

    def learn(self, types: FieldTypes) -> None:
        """Work out how each field is encoded in events with these types: the next ones have the same."""
        self.types = types
        self.steps = tuple(
            (key, *_BY_KIND.get(types.get(key), _NO_WAY)) for key in self.keys if isinstance(key, str)
        )


def plan(keys: tuple[Key, ...]) -> Plan:
    """Return the plan of some fields; it lives as long as a filter needs it."""
    found = _plans.get(keys)
    if found is None:
        found = _plans[keys] = Plan(keys)
    return found


_plans: WeakValueDictionary[tuple[Key, ...], Plan] = WeakValueDictionary()


class EncodedEvent(dict[Key | Plan, bytes]):
    """An event and its fields, encoded when the first item wants them; lives only while it is handed out.

    Args:
        event: asyncua's event object.
        shared: Whether more than one item may want it, so that each field is kept for the next.

    Attributes:
        event: The event.
    """

    __slots__ = ("_shared", "event")

    def __init__(self, event: Any, *, shared: bool = False) -> None:
        self.event = event
        self._shared = shared

    def __missing__(self, wanted: Plan) -> bytes:
        """Put an EventFieldList together, without its handle.

        Raises:
            Exception: Whatever the codec raises at a value that is not of its type.
        """
        event, kinds, shared = self.event, self.event.data_types, self._shared
        parts = [wanted.head]
        if not shared and wanted.plain and kinds.__class__ is FieldTypes:
            if kinds is not wanted.types:
                wanted.learn(kinds)
            for name, of_class, encode in wanted.steps:
                value = getattr(event, name, None)
                parts.append(encode(value) if value.__class__ is of_class else self._field(name))
            return b"".join(parts)
        for key in wanted.keys:
            found = self.get(key) if shared else None
            if found is None:
                value = getattr(event, key, None) if wanted.plain else None  # type: ignore[arg-type]  # they are names
                known = _ENCODERS.get((kinds.get(key), value.__class__))
                found = self._field(key) if known is None else known(value)
                if shared:
                    self[key] = found
            parts.append(found)
        found = self[wanted] = b"".join(parts)
        return found

    def _field(self, key: Key) -> bytes:
        """Return what cannot be encoded at once: a structure, an array, a part of something, nothing."""
        name, part = key if isinstance(key, tuple) else (key, None)
        kind, value = self.event.data_types.get(name), getattr(self.event, name, None)
        if kind is None or value is None:
            return NULL
        whole = typed_variant(kind, value)
        return variant(whole if part is None else cut(part, whole))


def _date_time(value: dt.datetime) -> bytes:
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    since = value - _EPOCH
    ticks = since.days * _TICKS_PER_DAY + since.seconds * _TICKS_PER_S + since.microseconds * _TICKS_PER_US
    if 0 < ticks < _NEVER:
        return _TIME.pack(_DATE_TIME, ticks)
    return variant(ua.Variant(value, Kind.DateTime))


def _node_id(value: ua.NodeId) -> bytes:
    # Not by the NodeId itself: two that are equal may be encoded in different ways.
    key = (value.NodeIdType, value.NamespaceIndex, value.Identifier)
    kept = _node_ids.get(key)
    if kept is None:
        kept = _NODE_ID_KIND + nodeid_to_binary(value)
        if not is_long(value):
            if len(_node_ids) >= _KEPT:
                _node_ids.clear()
            _node_ids[key] = kept
    return kept


def _string(value: str) -> bytes:
    kept = _strings.get(value)
    if kept is None:
        raw = value.encode("utf-8", "surrogateescape")
        kept = _COUNTED.pack(_STRING, len(raw)) + raw
        if len(value) <= _SHORT:
            if len(_strings) >= _KEPT:
                _strings.clear()
            _strings[value] = kept
    return kept


def _bytes(value: bytes) -> bytes:
    return _COUNTED.pack(_BYTES, len(value)) + value


def _localized(value: ua.LocalizedText) -> bytes:
    text, locale = value.Text, value.Locale
    if text.__class__ is not str:
        return variant(ua.Variant(value, Kind.LocalizedText))
    head = _heads.get(locale)
    if head is None:
        head = _head(locale)
    raw = text.encode("utf-8", "surrogateescape")
    return head + _LENGTH.pack(len(raw)) + raw


def _head(locale: str | None) -> bytes:
    """Return what is before the text: the type, which of both there are, the locale."""
    if len(_heads) >= _KEPT:
        _heads.clear()
    if locale is None:
        found = bytes([Kind.LocalizedText, _TEXT])
    else:
        raw = locale.encode("utf-8", "surrogateescape")
        found = bytes([Kind.LocalizedText, _LOCALE | _TEXT]) + _LENGTH.pack(len(raw)) + raw
    _heads[locale] = found
    return found


def _time_zone(value: ua.TimeZoneDataType) -> bytes:
    return _zone(value.Offset, value.DaylightSavingInOffset)


@lru_cache(maxsize=_KEPT)
def _zone(offset_min: int, daylight_saving: bool) -> bytes:  # noqa: FBT001 - the fields of a structure
    zone = ua.TimeZoneDataType(offset_min, daylight_saving)
    return variant(ua.Variant(zone, Kind.ExtensionObject))


def _scalars() -> dict[tuple[Any, type], Callable[[Any], bytes]]:
    """Return the encoders of numbers; a value of another class than its type's goes through the codec."""
    classes = {Kind.Boolean: bool, Kind.Float: float, Kind.Double: float}
    return {
        (kind, classes.get(kind, int)): partial(packer.pack, int(kind)) for kind, packer in SCALARS.items()
    }


_ENCODERS: Final[dict[tuple[Any, type], Callable[[Any], bytes]]] = {
    **_scalars(),
    (Kind.ByteString, bytes): _bytes,
    (Kind.DateTime, dt.datetime): _date_time,
    (Kind.ExtensionObject, ua.TimeZoneDataType): _time_zone,
    (Kind.LocalizedText, ua.LocalizedText): _localized,
    (Kind.NodeId, ua.NodeId): _node_id,
    (Kind.String, str): _string,
}
_BY_KIND: Final = {kind: (of_class, encode) for (kind, of_class), encode in _ENCODERS.items()}
# No value is of this class: every one is encoded by the codec.
_NO_WAY: Final[tuple[type, Callable[[Any], bytes]]] = (FieldTypes, _bytes)
