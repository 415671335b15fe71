"""Compiles a text: checks it whole, then makes a Python class of every type, block and program in it."""

from __future__ import annotations

from typing import Any, Final

from edge_opcua.sim.softplc.blocks import STANDARD
from edge_opcua.sim.softplc.code import as_type, error
from edge_opcua.sim.softplc.emit import Emitter
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.evaluate import literal
from edge_opcua.sim.softplc.functions import standard
from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.parser import parse
from edge_opcua.sim.softplc.runtime import HELPERS, Scan, fits_union, union
from edge_opcua.sim.softplc.scope import Scope, Signature, Variable
from edge_opcua.sim.softplc.tree import (
    ArrayOf,
    Literal,
    Named,
    Place,
    Specification,
    TypeDeclaration,
    Unit,
    Variables,
)
from edge_opcua.sim.softplc.types import ELEMENTARY, Array, Block, Elementary, Kind, Record, Type

_SECTIONS: Final = {
    "VAR_INPUT": "inputs",
    "VAR_OUTPUT": "outputs",
    "VAR_IN_OUT": "in_outs",
    "VAR": "inner",
    "VAR_TEMP": "temporary",
}

_BUILTINS: Final = {
    "__build_class__": __build_class__,
    "abs": abs,
    "float": float,
    "int": int,
    "zip": zip,
}
"""All of Python that a compiled program can reach."""


def compile_st(*texts: str) -> Library:
    """Compile texts that may use each other's types and blocks.

    Raises:
        StError: Something is wrong or outside the subset; with line and column.
    """
    return Library(*texts)


class Library:
    """The compiled types, programs and blocks of some texts.

    Args:
        texts: Structured Text.

    Raises:
        StError: Something is wrong or outside the subset; with line and column.
    """

    def __init__(self, *texts: str) -> None:
        self._types: dict[str, TypeDeclaration] = {}
        self._units: dict[str, Unit] = {}
        self._resolved: dict[str, Type] = {}
        self._blocks: dict[str, Block] = {}
        self._signatures: dict[str, Signature] = {}
        self._open: list[str] = []
        self._names: dict[str, Any] = {**HELPERS, "__builtins__": _BUILTINS, "__name__": __name__}
        for name, (_, made) in STANDARD.items():
            self._names[f"b_{name}"] = made
        for text in texts:
            self._declare(text)
        for declared in self._types.values():
            self._named(Named(declared.name, declared.at))
        for unit in self._units.values():
            self._compile(unit)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the function blocks of the texts."""
        return tuple(unit.name for unit in self._units.values() if unit.kind == "FUNCTION_BLOCK")

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the programs of the texts."""
        return tuple(unit.name for unit in self._units.values() if unit.kind == "PROGRAM")

    def unit(self, name: str) -> Unit:
        """Return what the text says of a program or block.

        Raises:
            StError: There is none of that name.
        """
        found = self._units.get(name.lower())
        if found is None or found.kind == "FUNCTION":
            there = ", ".join((*self.programs, *self.blocks)) or "none"
            raise StError(f"there is no program or function block {name}; there are: {there}")
        return found

    def block(self, name: str) -> Block:
        """Return the variables of a program or block with their types."""
        return self._blocks[self.unit(name).name.lower()]

    def instance(self, name: str) -> Instance:
        """Return a new instance of a program or a function block.

        Raises:
            StError: There is none of that name, or it takes variables by reference.
        """
        block = self.block(name)
        if block.in_outs:
            raise StError(f"{name} takes variables by reference: call it from a program")
        scan = Scan()
        return Instance(self._names[f"b_{name.lower()}"](scan), block, scan)

    def function(self, name: str) -> Signature | None:
        """Return a function of the texts by its lower-case name."""
        unit = self._units.get(name)
        if unit is None or unit.kind != "FUNCTION":
            return None
        self._compile(unit)
        return self._signatures[name]

    # Declarations

    def _declare(self, text: str) -> None:
        tree = parse(text)
        declared: tuple[TypeDeclaration | Unit, ...] = (*tree.types, *tree.units)
        for each in declared:
            name = each.name.lower()
            if name in self._types or name in self._units:
                raise error(f"{each.name} is declared twice (case does not count)", each.at)
            if name in STANDARD or name.upper() in ELEMENTARY or standard(name) is not None:
                raise error(f"{each.name} is a name of the standard", each.at)
            if isinstance(each, TypeDeclaration):
                self._types[name] = each
            else:
                self._units[name] = each

    def _specified(self, specification: Specification) -> Type:
        if isinstance(specification, Named):
            return self._named(specification)
        assert isinstance(specification, ArrayOf)
        return Array(specification.bounds, self._named(specification.element))

    def _named(self, named: Named) -> Type:
        """Return a type by its name; what is declared is worked out when it is first needed."""
        name = named.name.lower()
        if name.upper() in ELEMENTARY:
            return ELEMENTARY[name.upper()]
        if name in STANDARD:
            return STANDARD[name][0]
        if name in self._resolved:
            return self._resolved[name]
        if name in self._units and self._units[name].kind == "FUNCTION_BLOCK":
            self._compile(self._units[name], named.at)
            return self._blocks[name]
        if name not in self._types:
            raise error(f"there is no type {named.name}, or it is outside the subset", named.at)
        self._enter(name, named.at)
        self._resolved[name] = self._type(self._types[name])
        self._open.pop()
        return self._resolved[name]

    def _enter(self, name: str, at: Place) -> None:
        if name in self._open:
            raise error(f"{name} contains itself", at)
        if len(self._open) >= 30:
            raise error("types or blocks more than 30 levels deep", at)
        self._open.append(name)

    def _type(self, declared: TypeDeclaration) -> Type:
        if declared.alias is not None:
            return self._specified(declared.alias)
        fields: dict[str, Type] = {}
        starts: dict[str, str] = {}
        for variables in declared.fields:
            kind = self._specified(variables.specification)
            if isinstance(kind, Block):
                raise error("a function block in a STRUCT is outside the subset", variables.at)
            if declared.is_union and (variables.initial or not fits_union(kind)):
                raise error("a UNION holds single values and arrays, without first values", variables.at)
            for name in variables.names:
                if name.lower() in fields:
                    raise error(f"{name} is declared twice (case does not count)", variables.at)
                fields[name.lower()] = kind
                starts[name.lower()] = self._start(kind, variables)
        record = Record(declared.name, fields, declared.is_union)
        if declared.is_union:
            self._names[f"r_{declared.name.lower()}"] = union(record)
        else:
            self._make_record(record, starts)
        return record

    def _make_record(self, record: Record, starts: dict[str, str]) -> None:
        emitter = Emitter(Scope({}, self))
        name = f"r_{record.name.lower()}"
        with emitter.block("def __init__(s):"):
            for field, start in starts.items():
                emitter.line(f"s.v_{field} = {start}")
            emitter.line("pass")
        with emitter.block("def assign(s, o):"):
            for field, kind in record.fields.items():
                emitter.copy(f"s.v_{field}", f"o.v_{field}", kind)
            emitter.line("pass")
        slots = ", ".join(f"'v_{field}'" for field in record.fields)
        self._execute([f"class {name}:", f"    __slots__ = ({slots},)" if slots else "", *emitter.lines])

    # First values

    def _start(self, kind: Type, variables: Variables) -> str:
        """Return Python that makes the first value of a variable."""
        values = variables.initial
        if isinstance(kind, Elementary):
            return self._single_start(kind, values[0] if values else None)
        if not values:
            return self._fresh(kind)
        if not isinstance(kind, Array) or isinstance(variables.specification, Named):
            raise error(f"first values of {kind.name} are outside the subset", variables.at)
        if len(kind.bounds) > 1 or not isinstance(kind.element, Elementary):
            raise error("only arrays of one dimension of single values have first values here", variables.at)
        low, high = kind.bounds[0]
        if len(values) > high - low + 1:
            raise error(f"{len(values)} first values for {kind.name}", variables.at)
        texts = [self._single_start(kind.element, value) for value in values]
        rest = high - low + 1 - len(texts)
        return f"[{', '.join(texts)}] + [{self._single_start(kind.element, None)}] * {rest}"

    def _fresh(self, kind: Type) -> str:
        if isinstance(kind, Elementary):
            return self._single_start(kind, None)
        if isinstance(kind, Record):
            return f"r_{kind.name.lower()}()"
        if isinstance(kind, Block):
            return f"b_{kind.name.lower()}(scan)"
        low, high = kind.bounds[0]
        count = high - low + 1
        if isinstance(kind.row, Elementary):
            return f"[{self._single_start(kind.row, None)}] * {count}"
        return f"[{', '.join([self._fresh(kind.row)] * count)}]"

    def _single_start(self, kind: Elementary, given: Literal | None) -> str:
        if given is None:
            return {Kind.BOOL: "False", Kind.REAL: "0.0"}.get(kind.kind, "0")
        return as_type(literal(given), kind, given.at).text

    # Programs, blocks and functions

    def _compile(self, unit: Unit, at: Place | None = None) -> None:
        name = unit.name.lower()
        if name in self._blocks or name in self._signatures:
            return
        self._enter(name, at or unit.at)
        if unit.kind == "FUNCTION":
            self._function(unit)
        else:
            self._class(unit)
        self._open.pop()

    def _groups(self, unit: Unit) -> dict[str, dict[str, tuple[Variables, str, Type]]]:
        """Return the variables of a unit by section and lower-case name."""
        groups: dict[str, dict[str, tuple[Variables, str, Type]]] = {name: {} for name in _SECTIONS.values()}
        seen = {unit.name.lower()}
        for variables in unit.variables:
            kind = self._specified(variables.specification)
            _check_section(unit, variables, kind)
            for name in variables.names:
                if name.lower() in seen:
                    raise error(f"{name} is declared twice (case does not count)", variables.at)
                seen.add(name.lower())
                groups[_SECTIONS[variables.section]][name.lower()] = (variables, name, kind)
        return groups

    def _class(self, unit: Unit) -> None:
        groups = self._groups(unit)
        kinds = {
            group: {name: kind for name, (_, _, kind) in found.items()}
            for group, found in groups.items()
            if group != "temporary"
        }
        block = Block(unit.name, **kinds)
        name = unit.name.lower()
        scope = Scope(
            {
                key: self._variable(variables, shown, kind, group)
                for group, found in groups.items()
                for key, (variables, shown, kind) in found.items()
            },
            self,
        )
        emitter = Emitter(scope)
        slots = ["'scan'"]
        with emitter.block("def __init__(s, scan):"):
            emitter.line("s.scan = scan")
            for group in ("inputs", "outputs", "in_outs", "inner"):
                for key, (variables, _, kind) in groups[group].items():
                    start = "None" if group == "in_outs" else self._start(kind, variables)
                    emitter.line(f"s.v_{key} = {start}")
                    slots.append(f"'v_{key}'")
        with emitter.block("def run(s):"):
            emitter.line("scan = s.scan")
            for key, (variables, _, kind) in groups["temporary"].items():
                emitter.line(f"v_{key} = {self._start(kind, variables)}")
            emitter.body(unit.body)
        self._execute([f"class b_{name}:", f"    __slots__ = ({', '.join(slots)},)", *emitter.lines])
        self._blocks[name] = block

    def _variable(self, variables: Variables, name: str, kind: Type, group: str) -> Variable:
        local = group == "temporary"
        value = None
        if variables.constant and isinstance(kind, Elementary):
            if not variables.initial:
                raise error(f"the constant {name} has no value", variables.at)
            value = as_type(literal(variables.initial[0]), kind, variables.at).value
        text = f"v_{name.lower()}" if local else f"s.v_{name.lower()}"
        return Variable(name, kind, text, not variables.constant and group != "inputs", value)

    def _function(self, unit: Unit) -> None:
        assert unit.returns is not None
        returns = self._named(unit.returns)
        if not isinstance(returns, Elementary):
            raise error("a function that returns more than a single value is outside the subset", unit.at)
        groups = self._groups(unit)
        name = unit.name.lower()
        scope = Scope({name: Variable(unit.name, returns, f"v_{name}")}, self)
        arguments: dict[str, Elementary] = {}
        head = ["scan"]
        for key, (variables, shown, kind) in groups["inputs"].items():
            if not isinstance(kind, Elementary):
                raise error("a function takes single values here, no arrays or structures", variables.at)
            arguments[key] = kind
            head.append(f"v_{key}={self._start(kind, variables)}")
            scope.variables[key] = Variable(shown, kind, f"v_{key}", writable=False)
        emitter = Emitter(scope, leave=f"return v_{name}")
        emitter.line(f"v_{name} = {self._single_start(returns, None)}")
        for group in ("inner", "temporary"):
            for key, (variables, shown, kind) in groups[group].items():
                scope.variables[key] = self._variable(variables, shown, kind, "temporary")
                emitter.line(f"v_{key} = {self._start(kind, variables)}")
        emitter.body(unit.body)
        emitter.line(f"return v_{name}")
        self._execute([f"def f_{name}({', '.join(head)}):", *emitter.lines])
        self._signatures[name] = Signature(unit.name, arguments, returns)

    def _execute(self, lines: list[str]) -> None:
        """Let Python define what was compiled; every name in it comes from our lexer and carries a prefix."""
        text = "\n".join(lines) + "\n"
        exec(compile(text, "<structured text>", "exec"), self._names)  # noqa: S102 - see the docstring


def _check_section(unit: Unit, variables: Variables, kind: Type) -> None:
    section = variables.section
    if unit.kind == "FUNCTION" and section in ("VAR_OUTPUT", "VAR_IN_OUT"):
        raise error(f"{section} of a function is outside the subset", variables.at)
    if unit.kind == "FUNCTION" and isinstance(kind, Block):
        raise error("a function keeps no state, so it holds no function block", variables.at)
    if unit.kind == "PROGRAM" and section == "VAR_IN_OUT":
        raise error("VAR_IN_OUT of a program is outside the subset", variables.at)
    if section == "VAR_IN_OUT" and (isinstance(kind, Elementary) or variables.initial):
        raise error("VAR_IN_OUT takes arrays, structures and blocks here", variables.at)
    if section in ("VAR_INPUT", "VAR_OUTPUT", "VAR_TEMP") and isinstance(kind, Block):
        raise error(f"a function block in {section} is outside the subset", variables.at)
    if isinstance(kind, Array) and isinstance(kind.element, Array):
        raise error("write an array of arrays with several indexes", variables.at)
