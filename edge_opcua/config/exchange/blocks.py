"""TIA Portal's sources of data blocks (``.db``, ``.scl``, ``.awl``): where each member of a block lies.

Only blocks with standard access have offsets; an optimized one is refused. Layout as in STEP 7: BOOLs
share bytes, single bytes follow one another, everything else begins at an even byte, and arrays and
structures also end at one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.config.exchange.dialects import S7, other_driver
from edge_opcua.config.exchange.listing import (
    ListedTag,
    ListError,
    Listing,
    Target,
    UntranslatableError,
    split_unit,
)
from edge_opcua.config.exchange.siemens import SIZES, S7Place
from edge_opcua.config.problem import quoted

_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n]*|\(\*.*?\*\)|/\*.*?\*/)|(?P<attributes>\{[^}]*\})|(?P<text>'(?:[^'$]|\$.)*')"""
    r"""|(?P<quoted>"[^"\n]*")|(?P<word>[A-Za-z0-9_#.]*[A-Za-z0-9_#]|\.\.)|(?P<sign>:=|\S)""",
    re.DOTALL,
)
_RANGE: Final = re.compile(r"(-?\d{1,6})\.\.(-?\d{1,6})")
_NUMBERED: Final = re.compile(r"DB\s*(\d{1,5})", re.IGNORECASE)
_OPTIMIZED: Final = re.compile(r"S7_Optimized_Access\s*:=\s*'(TRUE|FALSE)'", re.IGNORECASE)
_ALIASES: Final = {
    "TIME_OF_DAY": "TOD",
    "LTIME_OF_DAY": "LTOD",
    "DATE_AND_TIME": "DT",
    "DATE_AND_LTIME": "LDT",
}
# What is in a block and has a size, but no type of ours.
_OTHERS: Final = {"CHAR": 1, "WCHAR": 2, "S5TIME": 2, "TIMER": 2, "COUNTER": 2}
_MAX_STRING: Final = 254
_MAX_MEMBERS: Final = 100_000
_MAX_LEVELS: Final = 16


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


@dataclass(slots=True)
class _Type:
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
    members: list[_Member] = field(default_factory=list)


@dataclass(slots=True)
class _Member:
    name: str
    type: _Type
    line: int
    comment: str = ""


@dataclass(slots=True)
class _Block:
    name: str
    line: int
    type: _Type
    attributes: str = ""


def looks_like_source(text: str) -> bool:
    """Return whether a text is the source of a block or type."""
    return (
        re.search(r"^\s*(?:DATA_BLOCK|TYPE)\s+\S", text[:200_000], re.IGNORECASE | re.MULTILINE) is not None
    )


def read(text: str, listing: Listing, target: Target, numbers: Mapping[str, int]) -> None:
    """Add the members of the blocks of a source to a listing.

    Args:
        text: The source.
        listing: What to add to.
        target: Our device.
        numbers: Numbers of the blocks by name; the one with an empty name is for a block that has none.

    Raises:
        ListError: It is no such source (T252) or cut off (T253).
        UntranslatableError: The device is no S7 PLC.
    """
    if target.driver != S7:
        raise other_driver(target.driver, "a data block")
    blocks, types = _Parser(text).run()
    if not blocks:
        raise ListError("holds no DATA_BLOCK", hint="generate the source of the block, not only of its type")
    for block in blocks:
        try:
            _check_access(block, listing)
            number = _number(block, numbers, alone=len(blocks) == 1)
        except UntranslatableError as exc:
            listing.skip(block.line, exc)
            continue
        prefix = (block.name,) if len(blocks) > 1 else ()
        _Layout(listing, number, types).run(block.type, prefix)


def _number(block: _Block, numbers: Mapping[str, int], *, alone: bool) -> int:
    match = _NUMBERED.fullmatch(block.name)
    number = numbers.get(block.name) or (int(match[1]) if match else numbers.get("") if alone else None)
    if not number:
        raise UntranslatableError(
            f"the source does not say which number the block {quoted(block.name)} has",
            code="T242",
            hint=f"its properties in TIA Portal do: add --db {block.name}=10" if not alone else "add --db 10",
        )
    return number


def _check_access(block: _Block, listing: Listing) -> None:
    match = _OPTIMIZED.search(block.attributes)
    if match is None:
        message = (
            f"{block.name} does not say S7_Optimized_Access; it is taken as a block with standard access"
        )
        listing.note(block.line, "T244", message, "compare one offset with the block in TIA Portal")
    elif match[1].upper() == "TRUE":
        raise UntranslatableError(
            f"{block.name} is an optimized block (S7_Optimized_Access := 'TRUE'): its members have no "
            "offsets, and the CPU refuses to read it by address",
            code="D331",
            hint='TIA Portal, properties of the block, Attributes: switch "Optimized block access" off, '
            "compile, download, export again; or read the PLC with the opcua driver",
        )


class _Parser:
    """Reads declarations; initial values and code are passed over."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def run(self) -> tuple[list[_Block], dict[str, _Type]]:
        """Return the blocks, and the types by name in upper case."""
        blocks: list[_Block] = []
        types: dict[str, _Type] = {}
        while self._at < len(self._tokens):
            word = self._next().text.upper()
            if word == "TYPE":
                name = self._name()
                self._to({"STRUCT"})
                types[name.upper()] = _Type("STRUCT", members=self._members("END_STRUCT", 1))
                self._to({"END_TYPE"})
            elif word == "DATA_BLOCK":
                blocks.append(self._block())
        return blocks, types

    def _block(self) -> _Block:
        line = self._line
        name = self._name()
        if name.upper() == "DB" and self._peek().kind == "word":
            name += self._next().text
        attributes = ""
        members: list[_Member] = []
        declared = _Type("STRUCT")
        while (token := self._next()).text.upper() != "BEGIN":
            word = token.text.upper()
            if token.kind == "attributes":
                attributes += token.text
            elif word == "STRUCT":
                members += self._members("END_STRUCT", 1)
            elif word == "VAR":
                members += self._members("END_VAR", 1)
            elif token.kind == "quoted" and not members:
                declared = _Type(token.text.strip('"'))
            elif word == "END_DATA_BLOCK":
                break
            elif word in ("TITLE", "AUTHOR", "FAMILY", "NAME", "VERSION"):
                self._rest_of_line(token.line)
        else:
            self._to({"END_DATA_BLOCK"})
        if members:
            declared = _Type("STRUCT", members=members)
        return _Block(name, line, declared, attributes)

    def _rest_of_line(self, line: int) -> None:
        while self._at < len(self._tokens) and self._tokens[self._at].line == line:
            self._at += 1

    def _members(self, end: str, level: int) -> list[_Member]:
        if level > _MAX_LEVELS:
            raise ListError("structures are nested too deeply", code="T253", line=self._line)
        members: list[_Member] = []
        last: list[_Member] = []
        while True:
            token = self._next(comments=True)
            word = token.text.upper()
            if token.kind == "comment":
                if last and last[0].line == token.line and not last[0].comment:
                    last[0].comment = _plain_comment(token.text)
                continue
            if word == end:
                return members
            if token.kind == "attributes" or word in (";", "RETAIN", "NON_RETAIN"):
                continue
            self._at -= 1
            last = self._declaration(level)
            members += last
            if len(members) > _MAX_MEMBERS:
                raise ListError(f"has more than {_MAX_MEMBERS} members", code="T253", line=token.line)

    def _declaration(self, level: int) -> list[_Member]:
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
        return [_Member(name, declared, line if declared.name != "STRUCT" else -1) for name in names]

    def _type(self, level: int) -> _Type:
        token = self._next()
        word = token.text.upper()
        if word == "ARRAY":
            bounds = self._bounds()
            self._to({"OF"})
            inner = self._type(level)
            if inner.bounds:
                raise ListError("arrays of arrays do not exist", code="T253", line=token.line)
            return _Type(inner.name, inner.length, bounds, inner.members)
        if word == "STRUCT":
            return _Type("STRUCT", members=self._members("END_STRUCT", level + 1))
        if token.kind == "quoted":
            return _Type(token.text.strip('"'))
        if word in ("STRING", "WSTRING"):
            return _Type(word, self._length())
        return _Type(_ALIASES.get(word, word))

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


class _Layout:
    """Walks over the members of one block and says where each begins."""

    def __init__(self, listing: Listing, db: int, types: Mapping[str, _Type]) -> None:
        self._listing = listing
        self._db = db
        self._types = types
        self._byte = 0
        self._bit = 0

    def run(self, declared: _Type, prefix: tuple[str, ...]) -> None:
        """Add every member; nothing behind one of unknown size."""
        try:
            self._members(self._resolved(declared).members, prefix, 0)
        except UntranslatableError as exc:
            hint = exc.hint or "what lies behind it in the block has no known offset and is left out too"
            self._listing.skip(max(self._line, 0), UntranslatableError(str(exc), code=exc.code, hint=hint))

    _line = 0

    def _resolved(self, declared: _Type) -> _Type:
        if declared.name == "STRUCT":
            return declared
        found = self._types.get(declared.name.upper())
        if found is None:
            raise UntranslatableError(
                f"the size of {quoted(declared.name)} is not known: its type is not in this file",
                code="T243",
                hint="in TIA Portal generate the source together with its dependent objects",
            )
        return found

    def _members(self, members: list[_Member], path: tuple[str, ...], level: int) -> None:
        if level > _MAX_LEVELS:
            raise UntranslatableError("types are nested too deeply or in a circle", code="T243")
        for member in members:
            if member.line > 0:
                self._line = member.line
            inside = (*path, member.name)
            if member.type.bounds:
                self._array(member, inside, level)
            else:
                self._single(member.type, member, inside, level)

    def _single(self, declared: _Type, member: _Member, path: tuple[str, ...], level: int) -> None:
        self._listing.visit(self._line)
        name = declared.name.upper()
        if name == "BOOL":
            self._emit(path, member, "BOOL", bit=self._next_bit())
        elif name in SIZES or name in _OTHERS:
            size = SIZES.get(name) or _OTHERS[name]
            self._align(even=size > 1)
            self._emit(path, member, name)
            self._byte += size
        elif name in ("STRING", "WSTRING"):
            self._align(even=True)
            self._emit(path, member, name, count=declared.length)
            self._byte += declared.length + 2 if name == "STRING" else 2 * declared.length + 4
            self._align(even=True)
        else:
            self._align(even=True)
            self._members(self._resolved(declared).members, path, level + 1)
            self._align(even=True)

    def _next_bit(self) -> int:
        if self._bit > 7:
            self._byte, self._bit = self._byte + 1, 0
        self._bit += 1
        return self._bit - 1

    def _align(self, *, even: bool) -> None:
        if self._bit:
            self._byte, self._bit = self._byte + 1, 0
        if even:
            self._byte += self._byte % 2

    def _array(self, member: _Member, path: tuple[str, ...], level: int) -> None:
        self._align(even=True)
        bounds, name = member.type.bounds, member.type.name.upper()
        lengths = [last - first + 1 for first, last in bounds]
        total = 1
        for length in lengths:
            total *= length
        if total > 65_536:
            raise UntranslatableError(f"{'.'.join(path)} has {total} elements", code="T243")
        bits = 1 if name == "BOOL" else 8 * (SIZES.get(name) or _OTHERS.get(name, 0))
        if bits and len(bounds) > 1 and bits < 16 and lengths[-1] * bits % 16:
            raise UntranslatableError(
                f"{'.'.join(path)}: where the rows of such an array of {name} begin differs between CPUs",
                code="T243",
            )
        if bits:
            self._emit(path, member, name, count=total, bit=0 if name == "BOOL" else None)
            self._byte += (total * bits + 7) // 8
        else:
            element = _Type(member.type.name, member.type.length, members=member.type.members)
            for index in _indexes(bounds):
                self._single(element, member, (*path, *index), level)
        self._align(even=True)

    def _emit(
        self, path: tuple[str, ...], member: _Member, kind: str, *, count: int = 0, bit: int | None = None
    ) -> None:
        name = ".".join(path)
        if kind in _OTHERS or kind == "WSTRING":
            why = UntranslatableError(f"{name}: {kind} has no counterpart here", code="T237")
            self._listing.skip(self._line, why)
            return
        description, unit = split_unit(member.comment)
        place = S7Place("DB", self._db, self._byte, kind, count, bit)
        self._listing.take(
            ListedTag(name=name, address=place.ours(), line=self._line, unit=unit, description=description)
        )


def _indexes(bounds: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, ...]]:
    """Yield the indexes of an array in the order of its elements, the last one running fastest."""
    if not bounds:
        yield ()
        return
    first, last = bounds[0]
    for index in range(first, last + 1):
        for rest in _indexes(bounds[1:]):
            yield (str(index), *rest)
