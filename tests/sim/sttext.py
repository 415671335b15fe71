"""Prints a syntax tree as Structured Text, and makes trees by chance."""

from __future__ import annotations

from hypothesis import strategies as st

from edge_opcua.sim.softplc import tree
from edge_opcua.sim.softplc.tree import (
    ArrayOf,
    Assign,
    Binary,
    BitOf,
    Call,
    Case,
    Expression,
    FieldOf,
    For,
    If,
    Index,
    Invoke,
    Leave,
    Literal,
    Named,
    Path,
    Specification,
    Statement,
    Text,
    TypeDeclaration,
    Unary,
    Unit,
    Variables,
    While,
)


def printed(text: Text) -> str:
    """Return a whole text."""
    return "\n".join([*map(_type, text.types), *map(_unit, text.units)])


def _type(declared: TypeDeclaration) -> str:
    if declared.alias is not None:
        return f"TYPE {declared.name} : {_specification(declared.alias)}; END_TYPE"
    word = "UNION" if declared.is_union else "STRUCT"
    fields = " ".join(map(_variables, declared.fields))
    return f"TYPE {declared.name} : {word} {fields} END_{word}; END_TYPE"


def _unit(unit: Unit) -> str:
    returns = f" : {unit.returns.name}" if unit.returns else ""
    parts = [f"{unit.kind} {unit.name}{returns}"]
    for variables in unit.variables:
        constant = " CONSTANT" if variables.constant else ""
        parts.append(f"{variables.section}{constant} {_variables(variables)} END_VAR")
    return "\n".join([*parts, _body(unit.body), f"END_{unit.kind}"])


def _variables(variables: Variables) -> str:
    initial = ", ".join(map(_expression, variables.initial))
    if variables.initial and isinstance(variables.specification, ArrayOf):
        initial = f"[{initial}]"
    start = f" := {initial}" if initial else ""
    return f"{', '.join(variables.names)} : {_specification(variables.specification)}{start};"


def _specification(specification: Specification) -> str:
    if isinstance(specification, Named):
        return specification.name
    bounds = ", ".join(f"{low}..{high}" for low, high in specification.bounds)
    return f"ARRAY[{bounds}] OF {specification.element.name}"


def _body(statements: tuple[Statement, ...]) -> str:
    return "\n".join(_statement(statement) + ";" for statement in statements)


def _statement(statement: Statement) -> str:
    match statement:
        case Assign(target, value):
            return f"{_expression(target)} := {_expression(value)}"
        case Invoke(target, arguments):
            return f"{_expression(target)}({', '.join(map(_argument, arguments))})"
        case If(branches, otherwise):
            heads = [f"IF {_expression(when)} THEN {_body(body)}" for when, body in branches]
            text = "\nELS".join(heads)
            return text + (f"\nELSE {_body(otherwise)}" if otherwise else "") + " END_IF"
        case Case(selector, branches, otherwise):
            text = f"CASE {_expression(selector)} OF"
            for labels, body in branches:
                shown = ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in labels)
                text += f"\n{shown}: {_body(body) or ';'}"
            return text + (f"\nELSE {_body(otherwise)}" if otherwise else "") + " END_CASE"
        case For(variable, first, last, step, body):
            head = f"FOR {_expression(variable)} := {_expression(first)} TO {_expression(last)} BY {step}"
            return f"{head} DO {_body(body)} END_FOR"
        case While(condition, body, repeats):
            if repeats:
                return f"REPEAT {_body(body)} UNTIL {_expression(condition)} END_REPEAT"
            return f"WHILE {_expression(condition)} DO {_body(body)} END_WHILE"
        case Leave(word):
            return word


def _argument(argument: tree.Argument) -> str:
    value = _expression(argument.value)
    return f"{argument.name} {'=>' if argument.takes else ':='} {value}" if argument.name else value


def _expression(expression: Expression) -> str:
    match expression:
        case Literal(value, type_name):
            if type_name == "TIME":
                return f"T#{value}ms"
            if isinstance(value, bool):
                return "TRUE" if value else "FALSE"
            return f"{type_name}#{value}" if type_name else f"{value}"
        case Path(name, steps):
            return name + "".join(map(_step, steps))
        case Unary(operator, operand):
            return f"{operator} ({_expression(operand)})"
        case Binary(operator, left, right):
            return f"({_expression(left)} {operator} {_expression(right)})"
        case Call(name, arguments):
            return f"{name}({', '.join(map(_argument, arguments))})"


def _step(step: FieldOf | Index | BitOf) -> str:
    match step:
        case FieldOf(name):
            return f".{name}"
        case Index(indexes):
            return f"[{', '.join(map(_expression, indexes))}]"
        case BitOf(number):
            return f".%X{number}"


NAMES = st.sampled_from(["a", "Bee", "cycle_2", "Status", "x9"])
NUMBERS = st.one_of(
    st.integers(0, 2**40).map(lambda value: Literal(value, "")),
    st.floats(0, 1e15, allow_nan=False).filter(lambda v: "e" not in repr(v)).map(lambda v: Literal(v, "")),
    st.integers(-32768, 32767).map(lambda value: Literal(value, "INT")),
    st.booleans().map(lambda value: Literal(value, "BOOL")),
    st.integers(0, 2**32 - 1).map(lambda value: Literal(value, "TIME")),
)


def _larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    operators = st.sampled_from(
        ["OR", "XOR", "AND", "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "MOD"]
    )
    given = st.builds(tree.Argument, st.sampled_from(["", "IN"]), inner)
    return st.one_of(
        st.builds(Unary, st.sampled_from(["NOT", "-"]), inner),
        st.builds(Binary, operators, inner, inner),
        st.builds(Call, NAMES, st.lists(given, max_size=3).map(tuple)),
        st.builds(Path, NAMES, st.tuples(st.builds(Index, st.tuples(inner, inner)))),
    )


PATHS = st.builds(
    Path,
    NAMES,
    st.lists(
        st.one_of(
            st.builds(FieldOf, NAMES),
            st.builds(BitOf, st.integers(0, 31)),
            st.builds(Index, st.tuples(NUMBERS)),
        ),
        max_size=2,
    ).map(tuple),
)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(st.one_of(NUMBERS, PATHS), _larger, max_leaves=8)
_TAKES = st.builds(tree.Argument, st.just("Q"), PATHS, st.just(True))
_SIMPLE = st.one_of(
    st.builds(Assign, PATHS, EXPRESSIONS),
    st.builds(
        Invoke, PATHS, st.lists(st.one_of(_TAKES, st.builds(tree.Argument, NAMES, EXPRESSIONS))).map(tuple)
    ),
    st.builds(Leave, st.sampled_from(["EXIT", "RETURN"])),
)


def _blocks(inner: st.SearchStrategy[Statement]) -> st.SearchStrategy[Statement]:
    body = st.lists(inner, max_size=3).map(tuple)
    label = st.tuples(st.integers(-9, 9), st.integers(0, 3)).map(lambda two: (two[0], two[0] + two[1]))
    steps = st.integers(-3, 3).filter(bool)
    return st.one_of(
        st.builds(If, st.lists(st.tuples(EXPRESSIONS, body), min_size=1, max_size=3).map(tuple), body),
        st.builds(
            Case,
            EXPRESSIONS,
            st.lists(st.tuples(st.lists(label, min_size=1, max_size=2).map(tuple), body), max_size=3).map(
                tuple
            ),
            body,
        ),
        st.builds(For, PATHS, EXPRESSIONS, EXPRESSIONS, steps, body),
        st.builds(While, EXPRESSIONS, body, st.booleans()),
    )


STATEMENTS = st.recursive(_SIMPLE, _blocks, max_leaves=5)
_BOUNDS = st.tuples(st.integers(-5, 5), st.integers(0, 9)).map(lambda two: (two[0], two[0] + two[1]))
_KINDS = st.sampled_from(["INT", "BOOL", "REAL", "Mine"]).map(Named)
_SPECIFICATIONS = st.one_of(
    _KINDS, st.builds(ArrayOf, st.lists(_BOUNDS, min_size=1, max_size=2).map(tuple), _KINDS)
)


@st.composite
def _declarations(draw: st.DrawFn, sections: list[str]) -> Variables:
    specification = draw(_SPECIFICATIONS)
    most = 3 if isinstance(specification, ArrayOf) else 1
    initial = draw(st.lists(NUMBERS, max_size=most).map(tuple))
    names = draw(st.lists(NAMES, min_size=1, max_size=2).map(tuple))
    section = draw(st.sampled_from(sections))
    return Variables(section, names, specification, initial, section != "VAR_X" and draw(st.booleans()))


_FIELDS = _declarations(["VAR"]).map(lambda v: Variables("VAR", v.names, v.specification, v.initial))
_TYPES = st.one_of(
    st.builds(TypeDeclaration, NAMES, st.lists(_FIELDS, max_size=3).map(tuple), st.booleans()),
    st.builds(TypeDeclaration, NAMES, st.just(()), st.just(False), _SPECIFICATIONS),
)
_SECTIONS = ["VAR", "VAR_INPUT", "VAR_OUTPUT", "VAR_IN_OUT", "VAR_TEMP"]
_UNITS = st.builds(
    Unit,
    st.sampled_from(["PROGRAM", "FUNCTION_BLOCK"]),
    NAMES,
    st.lists(_declarations(_SECTIONS), max_size=3).map(tuple),
    st.lists(STATEMENTS, max_size=4).map(tuple),
)
TEXTS = st.builds(
    Text, st.lists(_TYPES, max_size=2).map(tuple), st.lists(_UNITS, min_size=1, max_size=2).map(tuple)
)
