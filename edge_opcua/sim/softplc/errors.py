"""What can be wrong with a PLC program: its text, or what it does while it runs."""

from __future__ import annotations

from edge_opcua.errors import EdgeError


class StError(EdgeError, ValueError):
    """A program is wrong, or uses something that is not executed here.

    Args:
        message: One sentence in the user's words.
        line: Line of the text, from 1.
        column: Column in it, from 1.
        source: Name of the text, or an empty string.
    """

    def __init__(self, message: str, line: int = 0, column: int = 0, *, source: str = "") -> None:
        where = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{source}: {where}{message}" if source else where + message)
        self.message = message
        self.line = line
        self.column = column


class StFaultError(EdgeError, ValueError):
    """A program did what stops a PLC: a division by zero, an index out of range, a loop without an end."""
