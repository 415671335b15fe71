"""The operators of a content filter (Part 4 §7.7.3, Tables 122, 127, 128) on typed values; pure.

A value is a built-in type and what Python has for it, None is NULL. Truth has three values; NULL is what
cannot be decided, and what a filter has not decided does not pass.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from asyncua import ua

from edge_opcua.opcua.services.event.conversions import IMPLICIT, INTEGERS, RANK, convert, may_convert
from edge_opcua.opcua.services.event.like import compile_like

__all__ = ["FALSE", "TRUE", "Value", "truth", "typed"]

Kind = ua.VariantType
Value = tuple[ua.VariantType, Any] | None

TRUE: Final = (Kind.Boolean, True)
FALSE: Final = (Kind.Boolean, False)
_ORDERED: Final = frozenset({*INTEGERS, Kind.Float, Kind.Double, Kind.StatusCode, Kind.String, Kind.DateTime})
# What is compared of values whose own comparison is another.
_KEYS: Final[Mapping[ua.VariantType, Callable[[Any], Any]]] = {
    Kind.StatusCode: lambda value: int(value.value),
    Kind.ExpandedNodeId: lambda value: (
        (value.NamespaceIndex, value.Identifier),
        getattr(value, "NamespaceUri", None),
        getattr(value, "ServerIndex", 0),
    ),
}
_Compare = Callable[[Any, Any], bool]


def typed(kind: ua.VariantType, value: Any) -> Value:
    """Return a value as the operators take it; what Part 6 §5.1.2 calls a null value is NULL."""
    if value is None or kind == Kind.Null:
        return None
    if kind == Kind.DateTime and isinstance(value, dt.datetime) and value.tzinfo is None:
        return kind, value.replace(tzinfo=dt.UTC)
    if isinstance(value, ua.NodeId):
        return None if value.is_null() else (kind, value)
    if isinstance(value, ua.LocalizedText):
        return None if value.Text is None else (kind, value)
    if isinstance(value, ua.QualifiedName):
        return None if not value.Name else (kind, value)
    return kind, value


def truth(value: Value) -> bool | None:
    """Return what a value says where a Boolean is needed; only a String is converted by itself."""
    if value is None:
        return None
    kind, found = value
    if kind == Kind.Boolean and not isinstance(found, list):
        return bool(found)
    if kind == Kind.String and isinstance(found, str):
        found = convert(found, Kind.String, Kind.Boolean)
        return None if found is None else bool(found)
    return None


def answered(answer: bool | None) -> Value:  # noqa: FBT001 - a truth value is what it is about
    """Return a truth as a value."""
    if answer is None:
        return None
    return TRUE if answer else FALSE


# --- comparison ------------------------------------------------------------------------------------------


def matched(*operands: tuple[ua.VariantType, Any]) -> tuple[ua.VariantType, list[Any]] | None:
    """Bring operands to their common type: that of the highest precedence; None if there is no way."""
    kinds = {kind for kind, _ in operands}
    common = kinds.pop() if len(kinds) == 1 else max(kinds, key=lambda kind: RANK.get(kind, -len(RANK)))
    values = [value if kind == common else _implicit(value, kind, common) for kind, value in operands]
    if any(value is None for value in values):
        return None
    if len({isinstance(value, list) for value in values}) > 1:
        # §7.7.3: an array of length 1 is a scalar where one is needed.
        if any(isinstance(value, list) and len(value) != 1 for value in values):
            return None
        values = [value[0] if isinstance(value, list) else value for value in values]
    return common, values


def _implicit(value: Any, source: ua.VariantType, target: ua.VariantType) -> Any:
    if target not in IMPLICIT.get(source, ()):
        return None
    return _each(value, source, target)


def _each(value: Any, source: ua.VariantType, target: ua.VariantType) -> Any:
    """Convert a scalar, or each element of an array; one that cannot be converted spoils all."""
    if not isinstance(value, list):
        return convert(value, source, target)
    found = [None if each is None else _each(each, source, target) for each in value]
    return None if any(each is None for each in found) else found


def _comparison(compare: _Compare, *, ordered: bool) -> Callable[[Sequence[Value]], Value]:
    def run(operands: Sequence[Value]) -> Value:
        left, right = operands
        if left is None or right is None:
            return None
        one: Any
        other: Any
        if left[0] is right[0] and not isinstance(left[1], list) and not isinstance(right[1], list):
            kind, one, other = left[0], left[1], right[1]
        else:
            common = matched(left, right)
            if common is None:
                return FALSE
            kind, (one, other) = common
        if ordered and (kind not in _ORDERED or isinstance(one, list)):
            return FALSE
        if kind in _KEYS:
            one, other = _key(one, kind), _key(other, kind)
        return TRUE if compare(one, other) else FALSE

    return run


def _key(value: Any, kind: ua.VariantType) -> Any:
    return [_key(each, kind) for each in value] if isinstance(value, list) else _KEYS[kind](value)


equals: Final = _comparison(operator.eq, ordered=False)
greater: Final = _comparison(operator.gt, ordered=True)
less: Final = _comparison(operator.lt, ordered=True)
greater_or_equal: Final = _comparison(operator.ge, ordered=True)
less_or_equal: Final = _comparison(operator.le, ordered=True)


def between(operands: Sequence[Value]) -> Value:
    """Whether the first is neither below the second nor above the third, all three in one type."""
    present = [each for each in operands if each is not None]
    if len(present) < len(operands):
        return None
    common = matched(*present)
    if common is None:
        return FALSE
    kind, values = common
    here, low, high = ((kind, value) for value in values)
    return and_([greater_or_equal([here, low]), less_or_equal([here, high])])


def in_list(operands: Sequence[Value]) -> Value:
    """Whether the first equals one of the others."""
    wanted, *others = operands
    return _any(equals([wanted, each]) for each in others)


def _any(answers: Iterable[Value]) -> Value:
    unsure = False
    for answer in answers:
        if answer is not None and answer[1]:
            return TRUE
        unsure = unsure or answer is None
    return None if unsure else FALSE


def is_null(operands: Sequence[Value]) -> Value:
    """Whether there is nothing."""
    return TRUE if operands[0] is None else FALSE


# --- text ------------------------------------------------------------------------------------------------


def text(value: Value) -> str | None:
    """Return what a value says where a String is needed."""
    if value is None or isinstance(value[1], list):
        return None
    kind, found = value
    if kind != Kind.String and Kind.String not in IMPLICIT.get(kind, ()):
        return None
    converted = convert(found, kind, Kind.String)
    return converted if isinstance(converted, str) else None


def like(operands: Sequence[Value]) -> Value:
    """Whether a text matches a pattern; FALSE if one of the two is no text or the pattern makes no sense."""
    if operands[0] is None or operands[1] is None:
        return None
    here, pattern = text(operands[0]), text(operands[1])
    if here is None or pattern is None:
        return FALSE
    try:
        return answered(compile_like(pattern)(here))
    except ValueError:
        return FALSE


def like_literal(pattern: str) -> Callable[[Sequence[Value]], Value]:
    """Return Like for a pattern that is known.

    Raises:
        ValueError: The pattern makes no sense.
    """
    matches = compile_like(pattern)

    def run(operands: Sequence[Value]) -> Value:
        if operands[0] is None:
            return None
        here = text(operands[0])
        return FALSE if here is None else answered(matches(here))

    return run


# --- logic -----------------------------------------------------------------------------------------------


def not_(operands: Sequence[Value]) -> Value:
    """Return the contrary; of NULL it is NULL."""
    answer = truth(operands[0])
    return None if answer is None else answered(not answer)


def and_(operands: Sequence[Value]) -> Value:
    """Return Table 127: FALSE beats NULL."""
    answers = [truth(each) for each in operands]
    if False in answers:
        return FALSE
    return None if None in answers else TRUE


def or_(operands: Sequence[Value]) -> Value:
    """Return Table 128: TRUE beats NULL."""
    answers = [truth(each) for each in operands]
    if True in answers:
        return TRUE
    return None if None in answers else FALSE


# --- numbers and types -----------------------------------------------------------------------------------


def cast(value: Value, target: ua.VariantType | None) -> Value:
    """Convert a value; NULL if the tables know no way, or this value has no equal there."""
    if value is None or target is None or not may_convert(value[0], target):
        return None
    found = _each(value[1], value[0], target)
    return None if found is None else typed(target, found)


def _bitwise(combine: Callable[[int, int], int]) -> Callable[[Sequence[Value]], Value]:
    def run(operands: Sequence[Value]) -> Value:
        left, right = operands
        if left is None or right is None or left[0] not in INTEGERS or right[0] not in INTEGERS:
            return None
        if isinstance(left[1], list) or isinstance(right[1], list):
            return None
        # The larger operand decides on the size; of two of one size the one of higher precedence.
        kind = max(left[0], right[0], key=lambda each: (INTEGERS[each][2], RANK[each]))
        _, high, bits = INTEGERS[kind]
        found = combine(int(left[1]), int(right[1])) & ((1 << bits) - 1)
        return kind, found - (1 << bits) if found > high else found

    return run


bitwise_and: Final = _bitwise(operator.and_)
bitwise_or: Final = _bitwise(operator.or_)
