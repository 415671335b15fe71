"""Reads the declarations in sources of data blocks, types and function blocks, and passes over the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.config.exchange.listing import ListError
from edge_opcua.config.problem import quoted

MAX_LEVELS: Final = 16
_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n]*|\(\*.*?\*\)|/\*.*?\*/)|(?P<attributes>\{[^}]*\})|(?P<text>'(?:[^'$]|\$.)*')"""
    r"""|(?P<quoted>"[^"\n]*")|(?P<word>[A-Za-z0-9_#.]*[A-Za-z0-9_#]|\.\.)|(?P<sign>:=|\S)""",
    re.DOTALL,
)
_RANGE: Final = re.compile(r"(-?\d{1,6})\.\.(-?\d{1,6})")
_ALIASES: Final = {
    "TIME_OF_DAY": "TOD",
    "LTIME_OF_DAY": "LTOD",
    "DATE_AND_TIME": "DT",
    "DATE_AND_LTIME": "LDT",
}
_SECTIONS: Final = ("VAR_INPUT", "VAR_OUTPUT", "VAR_IN_OUT", "VAR", "VAR_TEMP")
_MAX_STRING: Final = 254
_MAX_MEMBERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass(slots=True)
class Type:
    """A declared type.

    Args:
        name: Elementary type or name of a UDT; ``STRUCT`` for one declared in place.
        length: Characters of a STRING.
        bounds: First and last index of each dimension of an array.
        members: Members of a structure.
    """

    name: str
    length: int = 0
    bounds: tuple[tuple[int, int], ...] = ()
    members: list[Member] = field(default_factory=list)


@dataclass(slots=True)
class Member:
    """One declared member.

    Args:
        name: Its name; empty for a section of a function block.
        type: Its type.
        line: Where it stands; -1 where its own members say it.
        comment: The comment behind it.
    """

    name: str
    type: Type
    line: int
    comment: str = ""


@dataclass(slots=True)
class Block:
    """One data block.

    Args:
        name: Its name, or ``DB10``.
        line: Where it begins.
        type: What it holds.
        attributes: What stands in braces.
    """

    name: str
    line: int
    type: Type
    attributes: str = ""


class Parser:
    """Reads declarations; initial values and code are passed over."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def run(self) -> tuple[list[Block], dict[str, Type]]:
        """Return the blocks, and the types by name in upper case."""
        blocks: list[Block] = []
        types: dict[str, Type] = {}
        while self._at < len(self._tokens):
            word = self._next().text.upper()
            if word == "TYPE":
                name = self._name()
                self._to({"STRUCT"})
                types[name.upper()] = Type("STRUCT", members=self._members("END_STRUCT", 1))
                self._to({"END_TYPE"})
            elif word == "FUNCTION_BLOCK":
                name = self._name()
                types[name.upper()] = self._instance()
            elif word == "DATA_BLOCK":
                blocks.append(self._block())
        return blocks, types

    def _instance(self) -> Type:
        """Return what an instance of a function block holds: its sections, each at an even byte."""
        sections: list[Member] = []
        while (word := self._next().text.upper()) not in ("BEGIN", "END_FUNCTION_BLOCK"):
            if word not in _SECTIONS:
                continue
            is_constant = self._peek().text.upper() == "CONSTANT"
            members = self._members("END_VAR", 1)
            if members and word != "VAR_TEMP" and not is_constant:
                inside = Type("STRUCT" if word != "VAR_IN_OUT" else word, members=members)
                sections.append(Member("", inside, members[0].line))
        return Type("STRUCT", members=sections)

    def _block(self) -> Block:
        line = self._line
        name = self._name()
        if name.upper() == "DB" and self._peek().kind == "word":
            name += self._next().text
        attributes = ""
        members: list[Member] = []
        declared = Type("STRUCT")
        while (token := self._next()).text.upper() != "BEGIN":
            word = token.text.upper()
            if token.kind == "attributes":
                attributes += token.text
            elif word == "STRUCT":
                members += self._members("END_STRUCT", 1)
            elif word == "VAR":
                members += self._members("END_VAR", 1)
            elif token.kind == "quoted" and not members:
                declared = Type(token.text.strip('"'))
            elif word == "END_DATA_BLOCK":
                break
            elif word in ("TITLE", "AUTHOR", "FAMILY", "NAME", "VERSION"):
                self._rest_of_line(token.line)
        else:
            self._to({"END_DATA_BLOCK"})
        if members:
            declared = Type("STRUCT", members=members)
        return Block(name, line, declared, attributes)

    def _rest_of_line(self, line: int) -> None:
        while self._at < len(self._tokens) and self._tokens[self._at].line == line:
            self._at += 1

    def _members(self, end: str, level: int) -> list[Member]:
        if level > MAX_LEVELS:
            raise ListError("structures are nested too deeply", code="T253", line=self._line)
        members: list[Member] = []
        last: list[Member] = []
        while True:
            token = self._next(comments=True)
            word = token.text.upper()
            if token.kind == "comment":
                if last and last[0].line == token.line and not last[0].comment:
                    last[0].comment = _plain_comment(token.text)
                continue
            if word == end:
                return members
            if token.kind == "attributes" or word in (";", "RETAIN", "NON_RETAIN", "CONSTANT"):
                continue
            self._at -= 1
            last = self._declaration(level)
            members += last
            if len(members) > _MAX_MEMBERS:
                raise ListError(f"has more than {_MAX_MEMBERS} members", code="T253", line=token.line)

    def _declaration(self, level: int) -> list[Member]:
        line = self._peek().line
        names = [self._name()]
        while (token := self._next()).text != ":":
            if token.text == ",":
                names.append(self._name())
            elif token.kind != "attributes":
                raise ListError(
                    f"{quoted(token.text)} where a type should follow", code="T253", line=token.line
                )
        declared = self._type(level)
        while self._next().text != ";":  # an initial value
            pass
        return [Member(name, declared, line if declared.name != "STRUCT" else -1) for name in names]

    def _type(self, level: int) -> Type:
        token = self._next()
        word = token.text.upper()
        if word == "ARRAY":
            bounds = self._bounds()
            self._to({"OF"})
            inner = self._type(level)
            if inner.bounds:
                raise ListError("arrays of arrays do not exist", code="T253", line=token.line)
            return Type(inner.name, inner.length, bounds, inner.members)
        if word == "STRUCT":
            return Type("STRUCT", members=self._members("END_STRUCT", level + 1))
        if token.kind == "quoted":
            return Type(token.text.strip('"'))
        if word in ("STRING", "WSTRING"):
            return Type(word, self._length())
        return Type(_ALIASES.get(word, word))

    def _bounds(self) -> tuple[tuple[int, int], ...]:
        line = self._line
        text = ""
        self._to({"["})
        while (token := self._next()).text != "]":
            text += token.text
        bounds = []
        for part in text.split(","):
            match = _RANGE.fullmatch(part)
            if match is None or int(match[2]) < int(match[1]) or int(match[2]) - int(match[1]) >= 65_536:
                raise ListError(f"the array bounds {quoted(part)} are no numbers", code="T253", line=line)
            bounds.append((int(match[1]), int(match[2])))
        return tuple(bounds)

    def _length(self) -> int:
        if self._peek().text != "[":
            return _MAX_STRING
        self._next()
        text = self._next().text
        self._to({"]"})
        return int(text) if text.isdigit() and len(text) < 6 else _MAX_STRING

    def _name(self) -> str:
        return self._next().text.strip('"')

    @property
    def _line(self) -> int:
        return self._tokens[min(self._at, len(self._tokens)) - 1].line if self._tokens and self._at else 1

    def _peek(self) -> _Token:
        at = self._at
        token = self._next()
        self._at = at
        return token

    def _next(self, *, comments: bool = False) -> _Token:
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if comments or token.kind != "comment":
                return token
        raise ListError("ends in the middle of a declaration", code="T253", line=self._line)

    def _to(self, words: set[str]) -> None:
        while self._next().text.upper() not in words:
            pass


def _tokens(text: str) -> Iterator[_Token]:
    line, at = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        yield _Token(str(match.lastgroup), match.group(), line)


def _plain_comment(text: str) -> str:
    return " ".join(text.removeprefix("//").removeprefix("(*").removeprefix("/*").rstrip("*/)").split())
