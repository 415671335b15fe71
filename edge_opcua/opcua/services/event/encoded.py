"""The fields of events as bytes: each encoded once, however many items want it (Part 6 §5.2.2.16).

Events that come together say most things over and over: their type, their source, its name, a severity. They
are encoded field by field: what all of them have in common once, what is new in each (its id, its message)
without the codec. Everything else goes through the codec, and whatever the way, the bytes are the codec's.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby, repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.opcua.services.attribute.ranges import NumericRange
from edge_opcua.opcua.services.event.fields import cut, typed_variant
from edge_opcua.opcua.services.variants import NULL, SCALARS, variant
from edge_opcua.opcua.types import is_long

__all__ = ["EncodedEvents", "FieldTypes", "Key", "Plan", "alike", "plan"]

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
_WHAT_IS_ALIKE: Final = attrgetter("emitting_node", "EventType", "SourceNode", "data_types")

_node_ids: dict[tuple[ua.NodeIdType, int, Any], bytes] = {}
_strings: dict[str, bytes] = {}
_heads: dict[str | None, bytes] = {}


class FieldTypes(dict[str, ua.VariantType]):
    """The types of the fields of many events, which share it: nobody changes it."""

    __slots__ = ()


class FieldEncoder(NamedTuple):
    """How a field of events with certain types is encoded.

    Args:
        key: The field.
        name: Its name.
        part: Which part of it, None for all of it.
        kind: Its type, None if the events do not have it.
        of_class: Values of this class are encoded by ``encode``, others by the codec.
        encode: Returns a Variant.
    """

    key: Key
    name: str
    part: NumericRange | None
    kind: Any
    of_class: type
    encode: Callable[[Any], bytes]


class Plan:
    """What is put together of an event for a filter; filters that select the same have the same one.

    Args:
        keys: The fields in their order.
    """

    __slots__ = ("__weakref__", "_encoders", "_types", "head", "keys")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.keys = keys
        self.head = _COUNT.pack(len(keys))
        self._types: Any = None
        self._encoders: tuple[FieldEncoder, ...] = ()

    def encoders(self, types: Mapping[str, Any]) -> tuple[FieldEncoder, ...]:
        """Return how each field is encoded in events with these types."""
        if types is not self._types:
            self._encoders = tuple(_encoder(key, types) for key in self.keys)
            self._types = types if isinstance(types, FieldTypes) else None  # others may be changed
        return self._encoders


def _encoder(key: Key, types: Mapping[str, Any]) -> FieldEncoder:
    name, part = key if isinstance(key, tuple) else (key, None)
    kind = types.get(name)
    of_class, encode = _NO_WAY if part is not None else _BY_KIND.get(kind, _NO_WAY)
    return FieldEncoder(key, name, part, kind, of_class, encode)


def plan(keys: tuple[Key, ...]) -> Plan:
    """Return the plan of some fields; it lives as long as a filter needs it."""
    found = _plans.get(keys)
    if found is None:
        found = _plans[keys] = Plan(keys)
    return found


_plans: WeakValueDictionary[tuple[Key, ...], Plan] = WeakValueDictionary()


def alike(events: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Cut events into runs of the same emitting node, EventType, SourceNode and types of fields, in order."""
    if len(events) == 1:
        return (events,)
    return [tuple(run) for _, run in groupby(events, _WHAT_IS_ALIKE)]


class EncodedEvents:
    """Events that are alike, field by field encoded when the first item wants it; handed out and gone.

    Args:
        events: asyncua's event objects, at least one: see :func:`alike`.

    Attributes:
        events: The events.
    """

    __slots__ = ("_columns", "_rows", "events")

    def __init__(self, events: Sequence[Any]) -> None:
        self.events = events
        self._columns: dict[Key, Iterable[bytes]] = {}
        self._rows: dict[Plan, list[bytes]] = {}

    def rows(self, wanted: Plan) -> list[bytes]:
        """Return an EventFieldList for each event, without its handle.

        Raises:
            Exception: Whatever the codec raises at a value that is not of its type.
        """
        found = self._rows.get(wanted)
        if found is None:
            encoders = wanted.encoders(self.events[0].data_types)
            put_together = self._one if len(self.events) == 1 else self._many
            found = self._rows[wanted] = put_together(wanted.head, encoders)
        return found

    def _many(self, head: bytes, encoders: Sequence[FieldEncoder]) -> list[bytes]:
        events, columns = self.events, self._columns
        parts: list[Iterable[bytes]] = [repeat(head, len(events))]
        for one in encoders:
            column = columns.get(one.key)
            if column is None:
                column = columns[one.key] = _column(events, one)
            parts.append(column)
        return list(map(b"".join, zip(*parts, strict=False)))

    def _one(self, head: bytes, encoders: Sequence[FieldEncoder]) -> list[bytes]:
        """Do what :meth:`_many` does for a single event, in half of the time; keep what the codec made."""
        (event,), columns = self.events, self._columns
        parts = [head]
        for key, name, part, kind, of_class, encode in encoders:
            value = getattr(event, name, None)
            if value.__class__ is of_class:
                parts.append(encode(value))
                continue
            column = columns.get(key)
            if column is None:
                column = columns[key] = (_general(kind, value, part),)
            parts += column
        return [b"".join(parts)]


def _column(events: Sequence[Any], encoder: FieldEncoder) -> Iterable[bytes]:
    """Return a field of each event; one that all have in common is repeated without end."""
    _, name, part, kind, of_class, encode = encoder
    values = [getattr(event, name, None) for event in events]
    first = values[0]
    if first is values[-1] and len(set(map(id, values))) == 1:
        return repeat(encode(first) if first.__class__ is of_class else _general(kind, first, part))
    return [encode(value) if value.__class__ is of_class else _general(kind, value, part) for value in values]


def _general(kind: Any, value: Any, part: NumericRange | None) -> bytes:
    """Return what the codec makes of a structure, an array, a part of something, nothing."""
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


def _scalars() -> dict[Any, tuple[type, Callable[[Any], bytes]]]:
    classes = {Kind.Boolean: bool, Kind.Float: float, Kind.Double: float}
    return {
        kind: (classes.get(kind, int), partial(packer.pack, int(kind))) for kind, packer in SCALARS.items()
    }


# How values of a type are encoded; one of another class than the type's goes through the codec.
_BY_KIND: Final[dict[Any, tuple[type, Callable[[Any], bytes]]]] = {
    **_scalars(),
    Kind.ByteString: (bytes, _bytes),
    Kind.DateTime: (dt.datetime, _date_time),
    Kind.ExtensionObject: (ua.TimeZoneDataType, _time_zone),
    Kind.LocalizedText: (ua.LocalizedText, _localized),
    Kind.NodeId: (ua.NodeId, _node_id),
    Kind.String: (str, _string),
}
# No value is of this class: every one is encoded by the codec.
_NO_WAY: Final[tuple[type, Callable[[Any], bytes]]] = (FieldTypes, _bytes)
