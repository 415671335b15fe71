"""Reads tokens one after the other, and says where something else was expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.tokens import Token, tokens
from edge_opcua.sim.softplc.tree import Place

DEEPEST: Final = 15
"""Statements in statements; what Python compiles ends at 20 loops."""
DEEPEST_EXPRESSION: Final = 40
MOST_OPERATORS: Final = 200

_OURS_WORDS: Final = """
and array by case constant do else elsif end_case end_for end_function end_function_block end_if
end_program end_repeat end_struct end_type end_union end_var end_while exit false for function
function_block if mod not of or program repeat return struct then to true type union until var
var_in_out var_input var_output var_temp while xor
"""
_OUTSIDE_WORDS: Final = """
abstract action and_then at class configuration continue end_action end_class end_configuration
end_interface end_method end_namespace end_property end_step end_transition extends f_edge final
from goto implements initial_step interface internal label method namespace non_retain or_else
overlap override persistent pointer private property protected public r_edge read_only read_write
ref ref_to reference resource retain step string super task this transition using var_access
var_config var_external var_global var_inst var_stat with wstring
"""

_OURS: Final = frozenset(_OURS_WORDS.split())
_OUTSIDE: Final = frozenset(_OUTSIDE_WORDS.split())


class Cursor:
    """Where a parser stands in a text.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0
        self.operators = 0

    @property
    def here(self) -> Token:
        """The next token."""
        return self._tokens[self._next]

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.here.line, self.here.column)

    def take(self) -> Token:
        """Return the next token and go on; the end stays."""
        token = self.here
        if token.kind != "end":
            self._next += 1
        return token

    def is_sign(self, *signs: str) -> bool:
        """Return whether one of these signs comes next."""
        return self.here.kind == "sign" and self.here.text in signs

    def is_word(self, *words: str) -> bool:
        """Return whether one of these words comes next (in small letters)."""
        return self.here.kind == "name" and self.here.lower in words

    def is_second_sign(self, sign: str) -> bool:
        """Return whether a sign comes after the next token."""
        second = self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        return second.kind == "sign" and second.text == sign

    def sign(self, *signs: str) -> bool:
        """Take one of these signs if it comes next."""
        if found := self.is_sign(*signs):
            self.take()
        return found

    def word(self, *words: str) -> bool:
        """Take one of these words if it comes next."""
        if found := self.is_word(*words):
            self.take()
        return found

    def expect_sign(self, sign: str) -> None:
        """Take a sign.

        Raises:
            StError: Something else stands there.
        """
        if not self.sign(sign):
            raise self.unexpected(f"{sign!r}")

    def expect_word(self, *words: str) -> str:
        """Take one of these words and return it.

        Raises:
            StError: Something else stands there.
        """
        if not self.is_word(*words):
            raise self.unexpected(" or ".join(word.upper() for word in words))
        return self.take().lower

    def name(self, what: str) -> str:
        """Take a name that somebody chose.

        Raises:
            StError: A word of the language or something else stands there.
        """
        token = self.here
        if token.kind != "name" or token.lower in _OURS or token.lower in _OUTSIDE:
            raise self.unexpected(what)
        return self.take().text

    def whole(self, what: str) -> int:
        """Take a whole number, negative too.

        Raises:
            StError: Something else stands there.
        """
        minus = self.sign("-")
        if self.here.kind != "int":
            raise self.unexpected(what)
        value = int(self.take().value)
        return -value if minus else value

    @contextmanager
    def deeper(self, deepest: int) -> Iterator[None]:
        """Go a level deeper.

        Raises:
            StError: It is too deep.
        """
        if self._depth >= deepest:
            raise self.fail(f"more than {deepest} levels deep")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @contextmanager
    def level(self) -> Iterator[None]:
        """Count levels anew, for an expression in a statement."""
        kept, self._depth, self.operators = self._depth, 0, 0
        try:
            yield
        finally:
            self._depth = kept

    def count_operator(self) -> None:
        """Note one more operator in this expression.

        Raises:
            StError: They are too many.
        """
        self.operators += 1
        if self.operators > MOST_OPERATORS:
            raise self.fail(f"more than {MOST_OPERATORS} operators in one expression")

    def fail(self, message: str) -> StError:
        """Return an error about the next token."""
        return StError(message, self.here.line, self.here.column)

    def unexpected(self, expected: str) -> StError:
        """Return an error that says what was expected here, or that this is not executed."""
        token = self.here
        if token.kind == "name" and token.lower in _OUTSIDE:
            return self.fail(f"{token.text} is outside the subset that is executed here")
        if token.kind == "sign" and token.text == "%":
            return self.fail("direct addresses (%) are outside the subset that is executed here")
        if token.kind == "name" and token.lower in _OURS and expected[0] != "'":
            return self.fail(f"expected {expected}, and {token.text} is a word of the language")
        return self.fail(f"expected {expected}, found {token.text}")
