"""Compiles expressions to Python: every operation cuts its result to its type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_opcua.sim.softplc.code import Code, as_type, checked, constant, elementary, error, wrapped
from edge_opcua.sim.softplc.functions import NAMES, common, standard
from edge_opcua.sim.softplc.runtime import quotient, remainder
from edge_opcua.sim.softplc.scope import Scope, Signature
from edge_opcua.sim.softplc.tree import (
    Argument,
    Binary,
    BitOf,
    Call,
    Expression,
    FieldOf,
    Index,
    Literal,
    Path,
    Place,
    Unary,
)
from edge_opcua.sim.softplc.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    ELEMENTARY,
    LITERALS,
    REAL,
    Array,
    Block,
    Elementary,
    Kind,
    Record,
    Type,
)

_COMPARISONS: Final = {"=": "==", "<>": "!=", "<": "<", ">": ">", "<=": "<=", ">=": ">="}
_LOGIC: Final = {"AND": "&", "OR": "|", "XOR": "^"}
_LARGEST_LITERAL: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Reached:
    """A variable, or the part of one that a path leads to.

    Args:
        text: Python that reads it; without ``bit`` it can be assigned to as well.
        type: Its type.
        writable: Whether the program may assign to it.
        bit: Which bit of it is meant; None for all.
        value: Of a constant.
    """

    text: str
    type: Type
    writable: bool
    bit: int | None = None
    value: int | float | bool | None = None


def evaluated(expression: Expression, target: Type, scope: Scope) -> str:
    """Return Python for an expression whose value is used as some type.

    Raises:
        StError: It does not become that type without being asked, or is wrong in itself.
    """
    return checked(as_type(compiled(expression, scope), target, expression.at), expression.at)


def compiled(expression: Expression, scope: Scope) -> Code:
    """Compile an expression.

    Raises:
        StError: A name is unknown, or types do not fit.
    """
    if isinstance(expression, Literal):
        return literal(expression)
    if isinstance(expression, Path):
        return _read(expression, scope)
    if isinstance(expression, Unary):
        return _unary(expression, scope)
    if isinstance(expression, Binary):
        return _binary(expression, scope)
    return _call(expression, scope)


def literal(found: Literal) -> Code:
    """Compile a literal."""
    value = found.value
    if not found.type_name:
        kind = ANY_REAL if isinstance(value, float) else ANY_INT
        if kind == ANY_INT and abs(value) >= _LARGEST_LITERAL:
            raise error("a number of more than 64 bits", found.at)
        return as_type(Code(repr(value), kind, value), kind, found.at)
    kind = ELEMENTARY[found.type_name]
    if kind.kind in (Kind.BOOL, Kind.TIME):
        return constant(value, kind)
    given = ANY_REAL if isinstance(value, float) else ANY_INT
    return as_type(Code(repr(value), given, value), kind, found.at)


def reached(path: Path, scope: Scope) -> Reached:
    """Follow a path.

    Raises:
        StError: It leads nowhere.
    """
    variable = scope.variables.get(path.name.lower())
    if variable is None:
        raise error(f"there is no variable {path.name}", path.at)
    found = Reached(variable.text, variable.type, variable.writable, value=variable.value)
    for step in path.steps:
        if found.bit is not None:
            raise error("a bit has no parts", step.at)
        if isinstance(step, FieldOf):
            found = _field(found, step)
        elif isinstance(step, Index):
            found = _element(found, step, scope)
        else:
            found = _bit(found, step)
    return found


def _field(found: Reached, step: FieldOf) -> Reached:
    name = step.name.lower()
    if isinstance(found.type, Record):
        kind = found.type.fields.get(name)
        writable = found.writable
    elif isinstance(found.type, Block):
        block = found.type
        if name in block.inner or name in block.in_outs:
            raise error(f"{step.name} of {block.name} cannot be seen from outside", step.at)
        kind = block.inputs.get(name) or block.outputs.get(name)
        writable = name in block.inputs
    else:
        raise error(f"{found.type.name} has no field {step.name}", step.at)
    if kind is None:
        raise error(f"{found.type.name} has no {step.name}", step.at)
    return Reached(f"{found.text}.v_{name}", kind, writable)


def _element(found: Reached, step: Index, scope: Scope) -> Reached:
    for each in step.indexes:
        if not isinstance(found.type, Array):
            raise error(f"{found.type.name} has no further index", each.at)
        low, high = found.type.bounds[0]
        index = compiled(each, scope)
        kind = elementary(index, each.at)
        if kind != ANY_INT and kind.kind not in (Kind.SIGNED, Kind.UNSIGNED):
            raise error(f"an index is a whole number, not {kind.name}", each.at)
        if isinstance(index.value, int):
            if not low <= index.value <= high:
                raise error(f"index {index.value} is not in {low}..{high}", each.at)
            place = str(index.value - low)
        else:
            place = f"place({index.text}, {low}, {high}, {each.at.line})"
        found = Reached(f"{found.text}[{place}]", found.type.row, found.writable)
    return found


def _bit(found: Reached, step: BitOf) -> Reached:
    kind = found.type
    if not isinstance(kind, Elementary) or kind.kind is not Kind.BITS:
        raise error(f"{kind.name} has no bits that can be named: convert it to a bit string", step.at)
    if step.number >= kind.bits:
        raise error(f"{kind.name} has no bit {step.number}", step.at)
    return Reached(found.text, BOOL, found.writable, step.number)


def _read(path: Path, scope: Scope) -> Code:
    found = reached(path, scope)
    if found.bit is not None:
        return Code(f"({found.text} >> {found.bit} & 1 == 1)", BOOL)
    if found.value is not None and isinstance(found.type, Elementary):
        return constant(found.value, found.type)
    return Code(found.text, found.type)


def _unary(expression: Unary, scope: Scope) -> Code:
    operand = compiled(expression.operand, scope)
    kind = elementary(operand, expression.at)
    if expression.operator == "NOT":
        if kind == BOOL:
            return Code(f"(not {operand.text})", BOOL)
        if kind.kind is not Kind.BITS:
            raise error(f"NOT takes a BOOL or a bit string, not {kind.name}", expression.at)
        return Code(wrapped(f"~{operand.text}", kind), kind)
    if kind in LITERALS and operand.value is not None:
        return as_type(Code("", kind, -operand.value), kind, expression.at)
    if kind.kind is Kind.SIGNED:
        return Code(wrapped(f"-{operand.text}", kind), kind)
    if kind.kind is Kind.REAL:
        return Code(f"(-{operand.text})", kind)
    raise error(f"{kind.name} has no negative numbers", expression.at)


def _binary(expression: Binary, scope: Scope) -> Code:
    at = expression.at
    given = (compiled(expression.left, scope), compiled(expression.right, scope))
    kind, (left, right) = common(given, at)
    operator = expression.operator
    if operator in _COMPARISONS:
        if kind == BOOL and operator not in ("=", "<>"):
            raise error("BOOLs are equal or not, none is larger", at)
        return Code(f"({left.text} {_COMPARISONS[operator]} {right.text})", BOOL)
    if operator in _LOGIC:
        if kind != BOOL and kind.kind is not Kind.BITS:
            raise error(f"{operator} takes BOOLs or bit strings, not {kind.name}", at)
        return Code(f"({left.text} {_LOGIC[operator]} {right.text})", kind)
    if kind in LITERALS:
        return _folded(operator, left, right, at)
    if kind.kind is Kind.TIME and operator in ("+", "-"):
        return Code(wrapped(f"({left.text} {operator} {right.text})", kind), kind)
    if not kind.is_number:
        raise error(f"{operator} takes numbers, not {kind.name}: convert it", at)
    return _calculated(operator, left, right, kind, at)


def _calculated(operator: str, left: Code, right: Code, kind: Elementary, at: Place) -> Code:
    if kind.is_whole:
        if operator in ("/", "MOD"):
            helper = "quotient" if operator == "/" else "remainder"
            text = f"{helper}({left.text}, {right.text}, {at.line})"
        else:
            text = f"({left.text} {operator} {right.text})"
        return Code(wrapped(text, kind), kind)
    if operator == "MOD":
        raise error(f"MOD takes whole numbers, not {kind.name}", at)
    text = f"({left.text} {operator} {right.text})"
    if operator == "/":
        text = f"ratio({left.text}, {right.text}, {at.line})"
    return Code(f"single({text})" if kind == REAL else text, kind)


def _folded(operator: str, left: Code, right: Code, at: Place) -> Code:
    """Work out an operation on two literals without a type."""
    one, two = left.value, right.value
    assert one is not None
    assert two is not None
    if operator in ("/", "MOD") and two == 0:
        raise error("division by zero", at)
    value: int | float
    if operator == "+":
        value = one + two
    elif operator == "-":
        value = one - two
    elif operator == "*":
        value = one * two
    elif isinstance(one, float) or isinstance(two, float):
        if operator == "MOD":
            raise error("MOD takes whole numbers", at)
        value = one / two
    else:
        value = (quotient if operator == "/" else remainder)(one, two, at.line)
    if abs(value) >= _LARGEST_LITERAL and isinstance(value, int):
        raise error("a number of more than 64 bits", at)
    kind = ANY_REAL if isinstance(value, float) else ANY_INT
    return as_type(Code(repr(value), kind, value), kind, at)


def _call(call: Call, scope: Scope) -> Code:
    name = call.name.lower()
    if name in scope.variables:
        raise error(f"{call.name} is a variable: the call of a function block is a statement", call.at)
    signature = scope.functions.function(name)
    if signature is not None:
        return _user_call(call, signature, scope)
    make = standard(name)
    if make is None:
        raise error(f"there is no function {call.name}, or it is outside the subset", call.at)
    given = _in_order(call, NAMES.get(name, ()))
    return make([compiled(argument.value, scope) for argument in given], call.at)


def _in_order(call: Call, names: Sequence[str]) -> list[Argument]:
    """Return arguments in the order of a standard function's inputs."""
    given = list(call.arguments)
    if not any(argument.name for argument in given):
        return given
    by_name = {argument.name.lower(): argument for argument in given if not argument.takes}
    if len(by_name) != len(given) or set(by_name) != set(names):
        wanted = ", ".join(name.upper() for name in names) or "arguments without names"
        raise error(f"{call.name} takes {wanted}", call.at)
    return [by_name[name] for name in names]


def _user_call(call: Call, signature: Signature, scope: Scope) -> Code:
    names = list(signature.arguments)
    texts = []
    if len(call.arguments) > len(names):
        raise error(f"{call.name} takes {len(names)} arguments", call.at)
    seen: set[str] = set()
    for place, argument in enumerate(call.arguments):
        name = argument.name.lower() or names[place]
        if name not in signature.arguments or argument.takes or name in seen:
            raise error(f"{call.name} takes no {name}, or has it already", argument.at)
        seen.add(name)
        value = as_type(compiled(argument.value, scope), signature.arguments[name], argument.at)
        texts.append(f"v_{name}={value.text}")
    return Code(f"f_{signature.name.lower()}({', '.join(['scan', *texts])})", signature.returns)
