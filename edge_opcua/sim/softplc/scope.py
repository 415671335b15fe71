"""The variables that the text of one program, block or function can see, and where Python keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from edge_opcua.sim.softplc.types import Elementary, Type


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable.

    Args:
        name: As declared.
        type: Its type.
        text: Python that reads it.
        writable: Whether the text may assign to it.
        value: Of a constant.
    """

    name: str
    type: Type
    text: str
    writable: bool = True
    value: int | float | bool | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A function of the user: its arguments with their types, and what it returns."""

    name: str
    arguments: dict[str, Elementary] = field(hash=False)
    returns: Elementary


class Functions(Protocol):
    """Finds the functions of the user."""

    def function(self, name: str) -> Signature | None:
        """Return a function by its lower-case name."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What a text can see.

    Args:
        variables: By their lower-case names.
        functions: The functions of the user.
    """

    variables: dict[str, Variable]
    functions: Functions
