"""TIA Portal's sources of data blocks (``.db``, ``.scl``, ``.awl``): where each member of a block lies.

Only blocks with standard access have offsets; an optimized one is refused. Layout as in STEP 7: BOOLs
share bytes, single bytes follow one another, everything else begins at an even byte, and arrays and
structures also end at one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from edge_opcua.config.exchange.blocksource import MAX_LEVELS, Block, Member, Parser, Type
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

_NUMBERED: Final = re.compile(r"DB\s*(\d{1,5})", re.IGNORECASE)
_OPTIMIZED: Final = re.compile(r"S7_Optimized_Access\s*:=\s*'(TRUE|FALSE)'", re.IGNORECASE)
# What is in a block and has a size, but no type of ours.
_OTHERS: Final = {"CHAR": 1, "WCHAR": 2, "S5TIME": 2, "TIMER": 2, "COUNTER": 2}


def looks_like_source(text: str) -> bool:
    """Return whether a text is the source of a block or type."""
    return (
        re.search(
            r"^\s*(?:DATA_BLOCK|FUNCTION_BLOCK|TYPE)\s+\S", text[:200_000], re.IGNORECASE | re.MULTILINE
        )
        is not None
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
    blocks, types = Parser(text).run()
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


def _number(block: Block, numbers: Mapping[str, int], *, alone: bool) -> int:
    match = _NUMBERED.fullmatch(block.name)
    number = numbers.get(block.name) or (int(match[1]) if match else numbers.get("") if alone else None)
    if not number:
        raise UntranslatableError(
            f"the source does not say which number the block {quoted(block.name)} has",
            code="T242",
            hint=f"its properties in TIA Portal do: add --db {block.name}=10" if not alone else "add --db 10",
        )
    return number


def _check_access(block: Block, listing: Listing) -> None:
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


class _Layout:
    """Walks over the members of one block and says where each begins."""

    def __init__(self, listing: Listing, db: int, types: Mapping[str, Type]) -> None:
        self._listing = listing
        self._db = db
        self._types = types
        self._byte = 0
        self._bit = 0

    def run(self, declared: Type, prefix: tuple[str, ...]) -> None:
        """Add every member; nothing behind one of unknown size."""
        try:
            self._members(self._resolved(declared).members, prefix, 0)
        except UntranslatableError as exc:
            hint = exc.hint or "what lies behind it in the block has no known offset and is left out too"
            self._listing.skip(max(self._line, 0), UntranslatableError(str(exc), code=exc.code, hint=hint))

    _line = 0

    def _resolved(self, declared: Type) -> Type:
        if declared.name == "STRUCT":
            return declared
        found = self._types.get(declared.name.upper())
        if declared.name == "VAR_IN_OUT":
            raise UntranslatableError(
                "where in-out parameters lie in an instance differs between CPUs",
                code="T243",
                hint="nothing behind them has a known offset; copy what is needed into a block of its own",
            )
        if found is None:
            raise UntranslatableError(
                f"the size of {quoted(declared.name)} is not known: its type is not in this file",
                code="T243",
                hint="in TIA Portal generate the source together with its dependent objects",
            )
        return found

    def _members(self, members: list[Member], path: tuple[str, ...], level: int) -> None:
        if level > MAX_LEVELS:
            raise UntranslatableError("types are nested too deeply or in a circle", code="T243")
        for member in members:
            if member.line > 0:
                self._line = member.line
            inside = (*path, member.name) if member.name else path
            if member.type.bounds:
                self._array(member, inside, level)
            else:
                self._single(member.type, member, inside, level)

    def _single(self, declared: Type, member: Member, path: tuple[str, ...], level: int) -> None:
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

    def _array(self, member: Member, path: tuple[str, ...], level: int) -> None:
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
            element = Type(member.type.name, member.type.length, members=member.type.members)
            for index in _indexes(bounds):
                self._single(element, member, (*path, *index), level)
        self._align(even=True)

    def _emit(
        self, path: tuple[str, ...], member: Member, kind: str, *, count: int = 0, bit: int | None = None
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
