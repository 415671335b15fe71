"""The fields of events that a client names: SimpleAttributeOperands (Part 4 §7.7.4.5)."""

from __future__ import annotations

import copy
import datetime as dt
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.services.attribute.ranges import NumericRange, parse
from edge_opcua.opcua.services.event.eventtypes import BASE_EVENT, EventTypes, Path, path_of
from edge_opcua.opcua.services.event.operators import Value, typed

__all__ = ["NULL_FIELD", "Field", "Fields", "Names", "cut", "read_field", "typed_variant"]

Names = tuple[str | None, ...]
_codes: Final = ua.StatusCodes
NULL_FIELD: Final = ua.Variant()
# Part 9 §5.5.2: no path and the attribute NodeId selects the ConditionId; our events keep it under this name.
_CONDITION_ID: Final = "NodeId"
_NO_TYPE: Final[tuple[Any, Names]] = (object(), ())
_LASTING: Final = frozenset({str, int, float, bool, bytes, dt.datetime, uuid.UUID, ua.NodeId})


@dataclass(frozen=True, slots=True)
class Field:
    """A field that a client wants to see or to compare.

    Args:
        event_type: Only events of this type or below have it; BaseEventType: whoever has such a path.
        path: BrowsePath; empty for the ConditionId.
        part: Part of an array or a text.
    """

    event_type: ua.NodeId
    path: Path
    part: NumericRange | None = None


def read_field(types: EventTypes, operand: ua.SimpleAttributeOperand) -> Field:
    """Look at what a client named.

    Raises:
        ServiceError: BadTypeDefinitionInvalid, BadBrowseNameInvalid, BadNodeIdUnknown (no event will ever
            have it), BadAttributeIdInvalid, BadIndexRangeInvalid.
    """
    if not types.is_event_type(operand.TypeDefinitionId):
        raise ServiceError(_codes.BadTypeDefinitionInvalid)
    path = path_of(operand.BrowsePath or [])
    if any(not name for _, name in path):
        raise ServiceError(_codes.BadBrowseNameInvalid)
    _check_attribute(types, operand, path)
    part = parse(operand.IndexRange) if operand.IndexRange else None
    return Field(operand.TypeDefinitionId, path, part)


def _check_attribute(types: EventTypes, operand: ua.SimpleAttributeOperand, path: Path) -> None:
    """Part 4 §7.22.3: the Value of Variables and the NodeId of Objects."""
    attribute = ua.AttributeIds.NodeId
    if path:
        everywhere = operand.TypeDefinitionId == BASE_EVENT
        found = types.anywhere(path) if everywhere else types.field(operand.TypeDefinitionId, path)
        if found is None:
            raise ServiceError(_codes.BadNodeIdUnknown)
        if found == ua.NodeClass.Variable:
            attribute = ua.AttributeIds.Value
    if operand.AttributeId != attribute:
        raise ServiceError(_codes.BadAttributeIdInvalid)
    if operand.IndexRange and attribute != ua.AttributeIds.Value:
        raise ServiceError(_codes.BadIndexRangeInvalid)


class Fields:
    """The fields of one filter, and under which names an event of some type keeps them.

    Args:
        types: The event types.
    """

    def __init__(self, types: EventTypes) -> None:
        self._types = types
        self._fields: list[Field] = []
        self._names: dict[ua.NodeId, Names] = {}
        self._last = _NO_TYPE

    def add(self, field: Field) -> int:
        """Take up a field; returns its number."""
        self._fields.append(field)
        self._names.clear()
        self._last = _NO_TYPE
        return len(self._fields) - 1

    def names(self, event_type: ua.NodeId) -> Names:
        """Return the name of each field in events of a type, None where they do not have it."""
        last, found = self._last
        if event_type is last:  # most events are of the type of the one before
            return found
        kept = self._names.get(event_type)
        if kept is None:
            kept = self._names[event_type] = tuple(self._name(each, event_type) for each in self._fields)
        self._last = (event_type, kept)
        return kept

    def part(self, number: int) -> NumericRange | None:
        """Return which part of a field is meant, None for all of it."""
        return self._fields[number].part

    def value(self, event: Any, names: Names, number: int) -> Value:
        """Return a field as the operators take it."""
        name = names[number]
        if name is None:
            return None
        kind = event.data_types.get(name)
        found = getattr(event, name, None)
        if kind is None or found is None:
            return None
        part = self._fields[number].part
        if part is not None or not isinstance(kind, ua.VariantType):
            variant = typed_variant(kind, found) if part is None else cut(part, typed_variant(kind, found))
            kind, found = variant.VariantType, variant.Value
        # §7.7.3: a StatusCode in place of the value is null.
        return None if type(found) is ua.StatusCode and _replaces(event, name) else typed(kind, found)

    def variant(
        self, event: Any, names: Names, number: int, taken: MutableMapping[str, ua.Variant]
    ) -> ua.Variant:
        """Return a copy of a field as it is sent.

        Args:
            event: The event.
            names: From :meth:`names`.
            number: Of the field.
            taken: Copies of fields of this event that were made already.
        """
        name = names[number]
        if name is None:
            return NULL_FIELD
        found = taken.get(name)
        if found is None:
            found = taken[name] = _taken(event, name)
        part = self._fields[number].part
        return found if part is None or found is NULL_FIELD else cut(part, found)

    def _name(self, field: Field, event_type: ua.NodeId) -> str | None:
        if field.event_type != BASE_EVENT and not self._types.is_type(event_type, field.event_type):
            return None
        if not field.path:
            return _CONDITION_ID
        if self._types.field(event_type, field.path) != ua.NodeClass.Variable:
            return None
        return "/".join(name for _, name in field.path)


def _taken(event: Any, name: str) -> ua.Variant:
    kind = event.data_types.get(name)
    value = getattr(event, name, None)
    if kind is None or value is None:
        return NULL_FIELD
    return typed_variant(kind, _copied(value))


def typed_variant(kind: Any, value: Any) -> ua.Variant:
    """Return a typed Variant; a field whose event does not know a built-in type is guessed by its value."""
    if isinstance(value, ua.StatusCode):
        return ua.Variant(value, ua.VariantType.StatusCode)
    return ua.Variant(value, kind) if isinstance(kind, ua.VariantType) else ua.Variant(value)


def _replaces(event: Any, name: str) -> bool:
    return bool(event.data_types.get(name) != ua.VariantType.StatusCode)


def cut(part: NumericRange, value: ua.Variant) -> ua.Variant:
    """Return a part of a field; where there is nothing, a StatusCode stands (§7.22.3)."""
    try:
        return part.read(value)
    except ServiceError as exc:
        return ua.Variant(ua.StatusCode(ua.UInt32(exc.code)), ua.VariantType.StatusCode)


def _copied(value: Any) -> Any:
    """Return a copy: events are sent later, when whoever emitted one may have changed it."""
    kind = type(value)
    if kind in _LASTING or isinstance(value, ua.NodeId):
        return value
    if kind is list and all(type(each) in _LASTING for each in value):
        return list(value)
    if kind is ua.LocalizedText:
        return ua.LocalizedText(value.Text, value.Locale)
    return copy.deepcopy(value)
