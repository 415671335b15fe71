"""Compiles statements to Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_opcua.sim.softplc.code import Code, checked, elementary, error, wrapped
from edge_opcua.sim.softplc.evaluate import Reached, compiled, evaluated, reached
from edge_opcua.sim.softplc.scope import Scope
from edge_opcua.sim.softplc.tree import (
    Argument,
    Assign,
    Case,
    Expression,
    For,
    If,
    Invoke,
    Leave,
    Path,
    Place,
    Statement,
    While,
)
from edge_opcua.sim.softplc.types import ANY_INT, BOOL, Array, Block, Elementary, Kind, Record, Type


class Emitter:
    """Collects the lines of one Python function.

    Args:
        scope: What the text can see.
        leave: Python of a RETURN.
    """

    def __init__(self, scope: Scope, *, leave: str = "return") -> None:
        self.lines: list[str] = []
        self._scope = scope
        self._leave = leave
        self._indent = 1
        self._loops = 0
        self._names = 0

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * self._indent + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Add a line and indent what follows."""
        self.line(head)
        self._indent += 1
        try:
            yield
        finally:
            self._indent -= 1

    def body(self, statements: tuple[Statement, ...]) -> None:
        """Add statements."""
        if not statements:
            self.line("pass")
        for statement in statements:
            self._statement(statement)

    def copy(self, target: str, source: str, kind: Type) -> None:
        """Add the assignment of a whole value; arrays and structures are copied, not shared."""
        if isinstance(kind, Record):
            self.line(f"{target}.assign({source})")
        elif isinstance(kind, Array) and isinstance(kind.row, Elementary):
            self.line(f"{target}[:] = {source}")
        elif isinstance(kind, Array):
            ours, theirs = self._fresh(), self._fresh()
            with self.block(f"for {ours}, {theirs} in zip({target}, {source}, strict=True):"):
                self.copy(ours, theirs, kind.row)
        else:
            self.line(f"{target} = {source}")

    def _statement(self, statement: Statement) -> None:
        if isinstance(statement, Assign):
            self._assign(statement.target, statement.value, statement.at)
        elif isinstance(statement, Invoke):
            self._invoke(statement)
        elif isinstance(statement, If):
            self._if(statement)
        elif isinstance(statement, Case):
            self._case(statement)
        elif isinstance(statement, For):
            self._for(statement)
        elif isinstance(statement, While):
            self._while(statement)
        else:
            self._leave_now(statement)

    def _fresh(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def _leave_now(self, statement: Leave) -> None:
        if statement.word == "RETURN":
            self.line(self._leave)
        elif self._loops:
            self.line("break")
        else:
            raise error("EXIT stands in no loop", statement.at)

    def _reached(self, path: Path) -> Reached:
        found = reached(path, self._scope)
        checked(Code(found.text, found.type), path.at)
        return found

    def _target(self, path: Path) -> Reached:
        found = self._reached(path)
        if not found.writable:
            raise error(
                f"{path.name} cannot be written here: a constant, an input or an output of another", path.at
            )
        return found

    def _assign(self, path: Path, value: Expression, at: Place) -> None:
        target = self._target(path)
        if isinstance(target.type, Block):
            raise error("function blocks are not assigned", at)
        text = evaluated(value, target.type, self._scope)
        self._store(target, text)

    def _store(self, target: Reached, text: str) -> None:
        if target.bit is None:
            self.copy(target.text, text, target.type)
            return
        mask = 1 << target.bit
        with self.block(f"if {text}:"):
            self.line(f"{target.text} |= {mask}")
        with self.block("else:"):
            self.line(f"{target.text} &= ~{mask}")

    def _invoke(self, statement: Invoke) -> None:
        found = self._reached(statement.target)
        block = found.type
        if not isinstance(block, Block):
            raise error(f"{statement.target.name} is no function block", statement.at)
        instance = self._fresh()
        self.line(f"{instance} = {found.text}")
        given: set[str] = set()
        for argument in statement.arguments:
            name = argument.name.lower()
            if not name or name in given:
                raise error(f"{block.name} takes each argument once and by its name", argument.at)
            given.add(name)
            if not argument.takes:
                self._pass(instance, block, argument)
        missing = set(block.in_outs) - given
        if missing:
            raise error(f"{block.name} needs {', '.join(sorted(missing)).upper()}", statement.at)
        self.line(f"{instance}.run()")
        for argument in statement.arguments:
            if argument.takes:
                self._take(instance, block, argument)

    def _pass(self, instance: str, block: Block, argument: Argument) -> None:
        name = argument.name.lower()
        if name in block.in_outs:
            kind = block.in_outs[name]
            if not isinstance(argument.value, Path):
                raise error(f"{argument.name} takes a variable", argument.at)
            target = self._target(argument.value)
            if target.type != kind:
                raise error(f"{argument.name} takes {kind.name}, not {target.type.name}", argument.at)
            self.line(f"{instance}.v_{name} = {target.text}")
        elif name in block.inputs:
            text = evaluated(argument.value, block.inputs[name], self._scope)
            self.copy(f"{instance}.v_{name}", text, block.inputs[name])
        else:
            raise error(f"{block.name} has no input {argument.name}", argument.at)

    def _take(self, instance: str, block: Block, argument: Argument) -> None:
        name = argument.name.lower()
        kind = block.outputs.get(name)
        if kind is None:
            raise error(f"{block.name} has no output {argument.name}", argument.at)
        assert isinstance(argument.value, Path)
        target = self._target(argument.value)
        if target.type == kind:
            self._store(target, f"{instance}.v_{name}")
            return
        if not isinstance(target.type, Elementary) or not isinstance(kind, Elementary):
            raise error(f"{argument.name} gives {kind.name}, not {target.type.name}", argument.at)
        raise error(
            f"{argument.name} gives {kind.name}: assign it with {kind.name}_TO_{target.type.name}",
            argument.at,
        )

    def _condition(self, expression: Expression) -> str:
        return evaluated(expression, BOOL, self._scope)

    def _if(self, statement: If) -> None:
        for number, (condition, body) in enumerate(statement.branches):
            with self.block(f"{'elif' if number else 'if'} {self._condition(condition)}:"):
                self.body(body)
        if statement.otherwise:
            with self.block("else:"):
                self.body(statement.otherwise)

    def _case(self, statement: Case) -> None:
        at = statement.at
        code = compiled(statement.selector, self._scope)
        kind = elementary(code, at)
        if kind.kind not in (Kind.SIGNED, Kind.UNSIGNED, Kind.BITS) or kind == ANY_INT:
            raise error(f"CASE selects by a whole number with a type, not by {kind.name}", at)
        selector = self._fresh()
        self.line(f"{selector} = {checked(code, at)}")
        seen: list[tuple[int, int]] = []
        for number, (labels, body) in enumerate(statement.branches):
            tests = []
            for first, last in labels:
                if not kind.low <= first <= last <= kind.high:
                    raise error(f"{first} of a CASE is not in {kind.name}", at)
                if any(first <= end and start <= last for start, end in seen):
                    raise error(f"{first} stands twice in a CASE", at)
                seen.append((first, last))
                tests.append(f"{first} <= {selector} <= {last}" if last > first else f"{selector} == {first}")
            with self.block(f"{'elif' if number else 'if'} {' or '.join(tests)}:"):
                self.body(body)
        if statement.otherwise:
            with self.block("else:" if statement.branches else "if True:"):
                self.body(statement.otherwise)

    def _for(self, statement: For) -> None:
        at = statement.at
        target = self._target(statement.variable)
        kind = target.type
        if not isinstance(kind, Elementary) or kind.kind not in (Kind.SIGNED, Kind.UNSIGNED):
            raise error("FOR counts with a variable of a whole number type", at)
        if statement.variable.steps:
            raise error("FOR counts with a whole variable, not with a part of one", at)
        first = evaluated(statement.first, kind, self._scope)
        last = self._fresh()
        text = evaluated(statement.last, kind, self._scope)
        self.line(f"{last} = {text}")
        self.line(f"{target.text} = {first}")
        with self.block(f"while {target.text} {'<=' if statement.step > 0 else '>='} {last}:"):
            self._round(statement.body, at)
            self.line(f"{target.text} = {wrapped(f'({target.text} + ({statement.step}))', kind)}")

    def _while(self, statement: While) -> None:
        condition = self._condition(statement.condition)
        with self.block("while True:" if statement.repeats else f"while {condition}:"):
            self._round(statement.body, statement.at)
            if statement.repeats:
                with self.block(f"if {condition}:"):
                    self.line("break")

    def _round(self, body: tuple[Statement, ...], at: Place) -> None:
        self.line("scan.left -= 1")
        with self.block("if scan.left < 0:"):
            self.line(f"endless({at.line})")
        self._loops += 1
        self.body(body)
        self._loops -= 1
