"""The syntax tree of a program; positions do not count when two trees are compared."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text something stands."""

    line: int
    column: int


NOWHERE = Place(0, 0)


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, BOOL or TIME (ms); ``type_name`` is empty for a number without a type."""

    value: int | float | bool
    type_name: str
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class FieldOf:
    """``.name``."""

    name: str
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """``[i, j]``."""

    indexes: tuple[Expression, ...]
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class BitOf:
    """``.%X3``, or ``.3``."""

    number: int
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Path:
    """A variable, or a part of one."""

    name: str
    steps: tuple[FieldOf | Index | BitOf, ...] = ()
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """``NOT x`` or ``-x``."""

    operator: str
    operand: Expression
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """``x + y``; the operator in capitals."""

    operator: str
    left: Expression
    right: Expression
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call; ``name`` is empty if it stands by its place, ``takes`` for ``name => path``."""

    name: str
    value: Expression
    takes: bool = False
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function in an expression."""

    name: str
    arguments: tuple[Argument, ...]
    at: Place = field(default=NOWHERE, compare=False)


Expression = Literal | Path | Unary | Binary | Call


@dataclass(frozen=True, slots=True)
class Assign:
    """``target := value;``."""

    target: Path
    value: Expression
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Invoke:
    """``instance(a := 1, q => x);``."""

    target: Path
    arguments: tuple[Argument, ...]
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class If:
    """Conditions with their statements, and those of ELSE."""

    branches: tuple[tuple[Expression, tuple[Statement, ...]], ...]
    otherwise: tuple[Statement, ...] = ()
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Case:
    """Ranges (first, last) with their statements, and those of ELSE."""

    selector: Expression
    branches: tuple[tuple[tuple[tuple[int, int], ...], tuple[Statement, ...]], ...]
    otherwise: tuple[Statement, ...] = ()
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class For:
    """``FOR variable := first TO last BY step DO``."""

    variable: Path
    first: Expression
    last: Expression
    step: int
    body: tuple[Statement, ...]
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class While:
    """``WHILE condition DO``, or ``REPEAT … UNTIL condition``."""

    condition: Expression
    body: tuple[Statement, ...]
    repeats: bool = False
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Leave:
    """``EXIT`` or ``RETURN``."""

    word: str
    at: Place = field(default=NOWHERE, compare=False)


Statement = Assign | Invoke | If | Case | For | While | Leave


@dataclass(frozen=True, slots=True)
class Named:
    """A type by its name."""

    name: str
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """``ARRAY[a..b] OF element``."""

    bounds: tuple[tuple[int, int], ...]
    element: Named
    at: Place = field(default=NOWHERE, compare=False)


Specification = Named | ArrayOf


@dataclass(frozen=True, slots=True)
class Variables:
    """Variables of one declaration.

    Args:
        section: ``VAR``, ``VAR_INPUT``, ``VAR_OUTPUT``, ``VAR_IN_OUT`` or ``VAR_TEMP``.
        names: As written.
        specification: Their type.
        initial: Their first value; of an array the values of its elements in order; () for the type's own.
        constant: Whether they may not be written.
    """

    section: str
    names: tuple[str, ...]
    specification: Specification
    initial: tuple[Literal, ...] = ()
    constant: bool = False
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class TypeDeclaration:
    """A STRUCT or UNION with its fields, or another name for a type (``alias``)."""

    name: str
    fields: tuple[Variables, ...] = ()
    is_union: bool = False
    alias: Specification | None = None
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Unit:
    """A program organization unit: PROGRAM, FUNCTION_BLOCK or FUNCTION."""

    kind: str
    name: str
    variables: tuple[Variables, ...]
    body: tuple[Statement, ...]
    returns: Named | None = None
    at: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    """Everything that one text declares."""

    types: tuple[TypeDeclaration, ...]
    units: tuple[Unit, ...]
