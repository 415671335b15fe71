"""The where clause of an event filter: looked at once, then worked out in microseconds (Part 4 §7.7).

The elements are worked out from the last to the first, each once: an element may only refer to later ones,
so there are no circles and no depth to bound, and one that many others refer to costs no more than one that
few do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.services.event import operators as op
from edge_opcua.opcua.services.event.conversions import INTEGERS
from edge_opcua.opcua.services.event.eventtypes import EventTypes
from edge_opcua.opcua.services.event.fields import Fields, Names, read_field
from edge_opcua.opcua.services.event.like import MAX_PATTERN
from edge_opcua.opcua.services.event.operators import Value

__all__ = ["Where", "compile_where"]

_codes: Final = ua.StatusCodes
_Op = ua.FilterOperator
_Run = Callable[[Sequence[Value]], Value]
# (event, names of its fields, results of later elements) -> value
_Get = Callable[[Any, Names, Sequence[Value]], Value]
_PATTERNS: Final = 4 * MAX_PATTERN  # characters of all patterns of one filter together
_MANY: Final = 1 << 30
_KNOWN: Final = 1000  # answers of OfType that are kept

_SIMPLE: Final[Mapping[ua.FilterOperator, _Run]] = {
    _Op.Equals: op.equals,
    _Op.IsNull: op.is_null,
    _Op.GreaterThan: op.greater,
    _Op.LessThan: op.less,
    _Op.GreaterThanOrEqual: op.greater_or_equal,
    _Op.LessThanOrEqual: op.less_or_equal,
    _Op.Not: op.not_,
    _Op.Between: op.between,
    _Op.InList: op.in_list,
    _Op.And: op.and_,
    _Op.Or: op.or_,
    _Op.BitwiseAnd: op.bitwise_and,
    _Op.BitwiseOr: op.bitwise_or,
}
# Fewest and most operands (Tables 122 and 123).
_OPERANDS: Final[Mapping[ua.FilterOperator, tuple[int, int]]] = {
    **dict.fromkeys(_SIMPLE, (2, 2)),
    _Op.IsNull: (1, 1),
    _Op.Not: (1, 1),
    _Op.Between: (3, 3),
    _Op.InList: (2, _MANY),
    _Op.Like: (2, 2),
    _Op.Cast: (2, 2),
    _Op.OfType: (1, 1),
}
_UNSUPPORTED: Final = frozenset({_Op.InView, _Op.RelatedTo})


@dataclass(frozen=True, slots=True)
class _Operand:
    """An operand made ready.

    Args:
        get: Returns its value.
        constant: Whether that is the same for every event.
    """

    get: _Get
    constant: bool = False

    @property
    def value(self) -> Value:
        """The value of a constant."""
        return self.get(None, (), ())


def _constant(value: Value) -> _Operand:
    return _Operand(lambda _event, _names, _results: value, constant=True)


class Where:
    """A where clause made ready.

    Args:
        steps: Number of each element and how to work it out, later elements first; element 0 comes last.
    """

    def __init__(self, steps: Sequence[tuple[int, _Get]]) -> None:
        self._steps = tuple(steps)
        self._size = max((number for number, _ in steps), default=0) + 1

    def __bool__(self) -> bool:
        """Whether any event might not pass."""
        return bool(self._steps)

    def passes(self, event: Any, names: Names) -> bool:
        """Whether an event passes; what cannot be decided does not (§7.7.3)."""
        if not self._steps:
            return True
        if len(self._steps) == 1:
            return op.truth(self._steps[0][1](event, names, ())) is True
        results: list[Value] = [None] * self._size
        for number, get in self._steps:
            results[number] = get(event, names, results)
        return op.truth(results[0]) is True


def compile_where(
    clause: ua.ContentFilter | None, types: EventTypes, fields: Fields, most: int
) -> tuple[ua.ContentFilterResult, Where | None]:
    """Look at a where clause.

    Args:
        clause: What the client sent; empty: every event passes.
        types: The event types.
        fields: Takes up the fields it compares.
        most: Largest number of operands, all elements together.

    Returns:
        A result for each element, and what to work out; None if the clause is not valid.
    """
    elements = list(clause.Elements or []) if clause is not None else []
    result = ua.ContentFilterResult()
    if sum(max(1, len(element.FilterOperands or [])) for element in elements) > most:
        return result, None
    compiler = _Compiler(elements, types, fields)
    steps = compiler.run()
    result.ElementResults = compiler.results
    return result, None if steps is None else Where(steps)


class _Compiler:
    """Goes through the elements, the last one first.

    Args:
        elements: All of them.
        types: The event types.
        fields: Takes up the fields.
    """

    def __init__(
        self, elements: Sequence[ua.ContentFilterElement], types: EventTypes, fields: Fields
    ) -> None:
        self._elements = elements
        self._types = types
        self._fields = fields
        self._patterns = 0
        self._constants: dict[int, _Operand] = {}
        self.results = [ua.ContentFilterElementResult() for _ in elements]

    def run(self) -> list[tuple[int, _Get]] | None:
        """Return the steps; None if an element that counts is not valid."""
        wanted = self._traced()
        steps = []
        for number in sorted(wanted, reverse=True):
            operand = self._element(number)
            if operand is None:
                continue
            if operand.constant and number:
                self._constants[number] = operand
            else:
                steps.append((number, operand.get))
        if any(not result.StatusCode.is_good() for result in self.results):
            return None
        return steps

    def _traced(self) -> set[int]:
        """Return the elements the first one leads to; the others are ignored (§7.7.1)."""
        found: set[int] = set()
        todo = [0] if self._elements else []
        while todo:
            number = todo.pop()
            if number in found:
                continue
            found.add(number)
            todo += [
                operand.Index
                for operand in self._elements[number].FilterOperands or []
                if isinstance(operand, ua.ElementOperand) and number < operand.Index < len(self._elements)
            ]
        return found

    def _element(self, number: int) -> _Operand | None:
        element, result = self._elements[number], self.results[number]
        given = list(element.FilterOperands or [])
        code = _objection(element.FilterOperator, len(given))
        if code is not None:
            result.StatusCode = ua.StatusCode(code)
            return None
        operands = []
        for each in given:
            try:
                operands.append(self._operand(number, each))
                result.OperandStatusCodes.append(ua.StatusCode())
            except ServiceError as exc:
                result.OperandStatusCodes.append(ua.StatusCode(exc.code))
        if len(operands) == len(given):
            try:
                return self._joined(_Op(element.FilterOperator), operands)
            except _OperandError as exc:
                result.OperandStatusCodes[exc.position] = ua.StatusCode(exc.code)
        result.StatusCode = ua.StatusCode(_codes.BadFilterOperandInvalid)
        return None

    def _operand(self, number: int, operand: Any) -> _Operand:
        if isinstance(operand, ua.ElementOperand):
            return self._reference(number, operand.Index)
        if isinstance(operand, ua.LiteralOperand):
            given = operand.Value if isinstance(operand.Value, ua.Variant) else ua.Variant(operand.Value)
            return _constant(op.typed(given.VariantType, given.Value))
        if isinstance(operand, ua.SimpleAttributeOperand):
            place = self._fields.add(read_field(self._types, operand))
            value = self._fields.value
            return _Operand(lambda event, names, _results: value(event, names, place))
        # §7.22.3: a filter of events has no AttributeOperand.
        raise ServiceError(_codes.BadFilterOperandInvalid)

    def _reference(self, number: int, index: int) -> _Operand:
        if not number < index < len(self._elements):
            raise ServiceError(_codes.BadFilterElementInvalid)
        return self._constants.get(index) or _Operand(lambda _event, _names, results: results[index])

    def _joined(self, operator: ua.FilterOperator, operands: Sequence[_Operand]) -> _Operand:
        if operator == _Op.OfType:
            return self._of_type(operands[0])
        if operator == _Op.Cast:
            run = self._cast(operands[1])
        elif operator == _Op.Like:
            run = self._like(operands[1])
        elif operator == _Op.InList:
            run = _in_list(operands[1:])
        else:
            run = _SIMPLE[operator]
        if all(each.constant for each in operands):
            return _constant(run([each.value for each in operands]))
        gets = tuple(each.get for each in operands)
        if len(gets) == 1:
            (only,) = gets
            return _Operand(lambda event, names, results: run((only(event, names, results),)))
        return _Operand(lambda event, names, results: run([get(event, names, results) for get in gets]))

    def _of_type(self, operand: _Operand) -> _Operand:
        if operand.constant:
            self._check_type(operand.value)
            return _Operand(self._is_below(self._local(operand.value)))
        known: dict[tuple[ua.NodeId, ua.NodeId], Value] = {}
        local, is_type = self._local, self._types.is_type

        def get(event: Any, names: Names, results: Sequence[Value]) -> Value:
            wanted = local(operand.get(event, names, results))
            if wanted is None:
                return None
            key = (event.EventType, wanted)
            if key not in known:
                if len(known) >= _KNOWN:
                    known.clear()
                known[key] = op.answered(is_type(*key))
            return known[key]

        return _Operand(get)

    def _is_below(self, wanted: ua.NodeId | None) -> _Get:
        """Return OfType with a literal: most events are of the type of the one before."""
        known: dict[ua.NodeId, Value] = {}
        is_type = self._types.is_type
        last: Any = None
        answer: Value = None

        def get(event: Any, _names: Names, _results: Sequence[Value]) -> Value:
            nonlocal last, answer
            kind = event.EventType
            if kind is not last:
                found = known.get(kind)
                if found is None:
                    if len(known) >= _KNOWN:
                        known.clear()
                    found = known[kind] = op.answered(is_type(kind, wanted))
                last, answer = kind, found
            return answer

        return get

    def _check_type(self, value: Value) -> None:
        node = self._local(value)
        if node is None:
            raise _OperandError(0, _codes.BadFilterLiteralInvalid)
        if not self._types.exists(node):
            raise _OperandError(0, _codes.BadNodeIdUnknown)
        if self._types.node_class(node) not in (ua.NodeClass.ObjectType, ua.NodeClass.VariableType):
            raise _OperandError(0, _codes.BadFilterOperandInvalid)

    def _local(self, value: Value) -> ua.NodeId | None:
        """Return a NodeId of this server, None if a value is none."""
        if value is None or not isinstance(value[1], ua.NodeId):
            return None
        uri = getattr(value[1], "NamespaceUri", None)
        if not uri:
            return value[1]
        index = self._types.namespace(uri)
        return None if index is None else ua.NodeId(value[1].Identifier, index)

    def _cast(self, target: _Operand) -> _Run:
        if target.constant:
            kind = self._kind(target.value)
            return lambda operands: op.cast(operands[0], kind)
        return lambda operands: op.cast(operands[0], self._kind(operands[1]))

    def _kind(self, value: Value) -> ua.VariantType | None:
        node = self._local(value)
        return None if node is None else self._types.built_in(node)

    def _like(self, pattern: _Operand) -> _Run:
        if not pattern.constant:
            self._count_pattern(MAX_PATTERN)
            return op.like
        wanted = op.text(pattern.value)
        if wanted is None:
            return op.like
        self._count_pattern(len(wanted))
        try:
            return op.like_literal(wanted)
        except ValueError:
            raise _OperandError(1, _codes.BadFilterLiteralInvalid) from None

    def _count_pattern(self, letters: int) -> None:
        self._patterns += letters
        if self._patterns > _PATTERNS:
            raise _OperandError(1, _codes.BadFilterOperandInvalid)


class _OperandError(Exception):
    """An operand that its operator cannot use.

    Args:
        position: Which operand.
        code: Why.
    """

    def __init__(self, position: int, code: int) -> None:
        super().__init__(position, code)
        self.position = position
        self.code = code


def _objection(operator: Any, operands: int) -> int | None:
    """Return why an element cannot be, whatever its operands are."""
    if operator in _UNSUPPORTED:
        return int(_codes.BadFilterOperatorUnsupported)
    if operator not in _OPERANDS:
        return int(_codes.BadFilterOperatorInvalid)
    fewest, most = _OPERANDS[operator]
    return None if fewest <= operands <= most else int(_codes.BadFilterOperandCountMismatch)


def _in_list(others: Sequence[_Operand]) -> _Run:
    """Return InList; a list of literals of one type is a set (clients name a hundred event types so)."""
    values = [each.value for each in others] if all(each.constant for each in others) else []
    wanted = _one_kind(values)
    if wanted is None:
        return op.in_list
    kind, members = wanted

    def run(operands: Sequence[Value]) -> Value:
        here = operands[0]
        if here is None:
            return None
        if here[0] != kind or isinstance(here[1], list):
            return op.in_list(operands)
        return op.TRUE if here[1] in members else op.FALSE

    return run


_SET_KINDS: Final = frozenset({*INTEGERS, ua.VariantType.String, ua.VariantType.NodeId})


def _one_kind(values: Sequence[Value]) -> tuple[ua.VariantType, frozenset[Any]] | None:
    present = [each for each in values if each is not None and not isinstance(each[1], list)]
    kinds = {kind for kind, _ in present}
    if len(present) != len(values) or len(kinds) != 1 or not kinds <= _SET_KINDS:
        return None
    return kinds.pop(), frozenset(value for _, value in present)
