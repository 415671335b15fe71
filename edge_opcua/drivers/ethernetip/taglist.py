"""The tags that a Logix controller tells by itself: symbols uploaded, structures expanded (1756-PM020)."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.drivers.ethernetip import cip
from edge_opcua.drivers.ethernetip.reasons import fault_of
from edge_opcua.drivers.ethernetip.session import Session
from edge_opcua.drivers.ethernetip.types import CIP_TYPES, DWORD, LOGIX_STRING
from edge_opcua.drivers.iec import MAX_ELEMENTS, MAX_STRING
from edge_opcua.errors import DeviceError, DeviceRefusedError

MAX_TAGS: Final = 5000
"""Tags after which no more are told: a table of more is nobody's wish."""

_SYMBOL: Final = 0x6B
_TEMPLATE: Final = 0x6C
_GET_LIST: Final = 0x03
_NAME_KIND_DIMENSIONS: Final = struct.pack("<4H", 3, 1, 2, 8)
_TEMPLATE_SIZES: Final = struct.pack("<3H", 2, 4, 2)
_PIECE_BYTES: Final = 400

_STRUCTURE_BIT: Final = 0x8000
_SYSTEM_BIT: Final = 0x1000
_INSTANCE: Final = 0x0FFF
_NOT_TAGS: Final = ("__", "Map:", "Cxn:", "Task:", "Routine:", "UDI:")
_HIDDEN: Final = re.compile(r"ZZZZZZZZZZ|__|.*:")
_EXPANDED: Final = 32  # elements of an array of structures that are told
_DEEPEST: Final = 6


@dataclass(frozen=True, slots=True)
class Symbol:
    """One entry of the symbol table, or one member of a structure.

    Args:
        path: How an address names it.
        kind: Type word: bit 15 a structure, bits 13 and 14 the number of dimensions.
        dimensions: Elements of each dimension; 0 for those there are not.
    """

    path: str
    kind: int
    dimensions: tuple[int, ...]

    @property
    def elements(self) -> int:
        """0 for a scalar, otherwise elements of all dimensions together."""
        sizes = [size for size in self.dimensions if size]
        return math.prod(sizes) if sizes else 0


@dataclass(frozen=True, slots=True)
class Template:
    """A structure: its name and its members, path relative to it."""

    name: str
    members: tuple[Symbol, ...]

    @property
    def characters(self) -> int:
        """Room of a string type; 0 if it is none."""
        if [member.path for member in self.members] != ["LEN", "DATA"]:
            return 0
        return self.members[1].elements


class TagList:
    """Asks a controller for its tags.

    Args:
        session: An open session.
    """

    def __init__(self, session: Session) -> None:
        self.programs: list[str] = []
        self.unread = 0
        self._session = session
        self._templates: dict[int, Template] = {}

    async def tags(self) -> list[dict[str, str]]:
        """Return name, address, unit and description of every tag that can be read.

        Raises:
            DeviceRefusedError: The device has no such list.
            DeviceError: The connection broke, or spoke nonsense.
        """
        found: list[dict[str, str]] = []
        symbols = [symbol async for symbol in self._symbols("")]
        self.programs = [symbol.path for symbol in symbols if symbol.path.startswith("Program:")]
        for program in self.programs:
            symbols += [symbol async for symbol in self._symbols(program)]
        for symbol in symbols:
            if symbol.path in self.programs or symbol.kind & _SYSTEM_BIT:
                continue
            async for address, description in self._expand(symbol, 0):
                found.append(_told(address, description))
                if len(found) >= MAX_TAGS:
                    return found
        return found

    async def _symbols(self, program: str) -> AsyncIterator[Symbol]:
        scope = cip.tag_path(program, 0) if program else b""
        instance = 0
        while True:
            path = scope + cip.object_path(_SYMBOL, 0)[:2] + struct.pack("<BBH", 0x25, 0, instance)
            reply = await self._ask(cip.service(cip.LIST_INSTANCES, path, _NAME_KIND_DIMENSIONS))
            last = -1
            for number, symbol in read_symbols(reply.payload, f"{program}." if program else ""):
                last = number
                name = symbol.path.rpartition(".")[2] if program else symbol.path
                if not name.startswith(_NOT_TAGS):
                    yield symbol
            if reply.status == cip.SUCCESS:
                return
            if last < instance or last >= 0xFFFF:
                raise DeviceError("the tag list makes no progress")
            instance = last + 1

    async def _expand(self, symbol: Symbol, depth: int) -> AsyncIterator[tuple[str, str]]:
        """Yield the addresses that read a symbol, each with a description."""
        if not symbol.kind & _STRUCTURE_BIT:
            address = _elementary(symbol)
            self.unread += address is None
            if address is not None:
                yield address, ""
            return
        template = await self._template(symbol.kind & _INSTANCE)
        for path in _element_paths(symbol):
            if template.characters:
                length = min(template.characters, MAX_STRING)
                yield f"{path}:STRING" + (f"[{length}]" if length != LOGIX_STRING else ""), ""
            elif depth >= _DEEPEST:
                self.unread += 1
            else:
                for member in template.members:
                    inner = Symbol(f"{path}.{member.path}", member.kind, member.dimensions)
                    async for address, description in self._expand(inner, depth + 1):
                        yield address, description or f"of {template.name}"

    async def _template(self, instance: int) -> Template:
        known = self._templates.get(instance)
        if known is None:
            known = self._templates[instance] = await self._upload_template(instance)
        return known

    async def _upload_template(self, instance: int) -> Template:
        path = cip.object_path(_TEMPLATE, instance)
        reply = await self._ask(cip.service(_GET_LIST, path, _TEMPLATE_SIZES))
        if len(reply.payload) < 16:
            raise DeviceError(f"structure {instance} has no size")
        (words,) = struct.unpack_from("<I", reply.payload, 6)
        (members,) = struct.unpack_from("<H", reply.payload, 14)
        wanted = min(4 * words - 20, 0xFFFF)
        definition = b""
        while len(definition) < wanted:
            left = min(_PIECE_BYTES, wanted - len(definition))
            ask = cip.service(cip.READ_TAG, path, struct.pack("<IH", len(definition), left))
            piece = (await self._ask(ask)).payload
            if not piece:
                break
            definition += piece
        return read_template(definition, members)

    async def _ask(self, request: bytes) -> cip.Reply:
        reply = await self._session.ask(request)
        if reply.status not in (cip.SUCCESS, cip.PARTIAL):
            fault = fault_of(reply, "tag list")
            raise DeviceRefusedError(fault.reason, status=0, code=fault.reason[:4])
        return reply


def read_symbols(body: bytes, scope: str) -> list[tuple[int, Symbol]]:
    """Return the symbols of one answer with their instances; DeviceError if it ends within one."""
    found, at = [], 0
    while at < len(body):
        try:
            instance, length = struct.unpack_from("<IH", body, at)
            name = body[at + 6 : at + 6 + length].decode("ascii", "replace")
            kind, *dimensions = struct.unpack_from("<HIII", body, at + 6 + length)
        except struct.error as exc:
            raise DeviceError("the tag list ends within a tag") from exc
        found.append((instance, Symbol(scope + name, kind, tuple(dimensions))))
        at += 6 + length + 14
    return found


def read_template(definition: bytes, members: int) -> Template:
    """Read the definition of a structure: for each member a type, then all names.

    Raises:
        DeviceError: It ends before its last member.
    """
    if len(definition) < 8 * members:
        raise DeviceError("the definition of a structure ends within its members")
    names = definition[8 * members :].split(b"\0")
    title = names[0].split(b";")[0].decode("ascii", "replace")
    found = []
    for i, raw in enumerate(names[1 : members + 1]):
        size, kind, _ = struct.unpack_from("<HHI", definition, 8 * i)
        name = raw.decode("ascii", "replace")
        if name and not _HIDDEN.match(name):
            # For a BOOL the first word is the number of its bit, for an array its elements.
            found.append(Symbol(name, kind, (size,) if kind & 0x6000 else ()))
    return Template(title, tuple(found))


def _elementary(symbol: Symbol) -> str | None:
    """Return the address of a symbol of an elementary type, or None if it cannot be read."""
    code = symbol.kind & 0xFF
    kind = CIP_TYPES.get(code)
    if kind is None or symbol.elements > MAX_ELEMENTS // 32:
        return None
    if code == DWORD and symbol.elements:
        return f"{symbol.path}:BOOL[{32 * symbol.elements}]"
    if not symbol.elements:
        return f"{symbol.path}:{kind.read_as[0]}"
    several = len([size for size in symbol.dimensions if size]) > 1
    first = "[" + ",".join("0" for size in symbol.dimensions if size) + "]" if several else ""
    return f"{symbol.path}{first}:{kind.read_as[0]}[{symbol.elements}]"


def _element_paths(symbol: Symbol) -> list[str]:
    """Return the paths of the elements of an array of structures, or of the one there is."""
    if not symbol.elements:
        return [symbol.path]
    if len([size for size in symbol.dimensions if size]) > 1:
        return []
    return [f"{symbol.path}[{i}]" for i in range(min(symbol.elements, _EXPANDED))]


def _told(address: str, description: str) -> dict[str, str]:
    path = address.rpartition(":")[0].removeprefix("Program:")
    name = path.replace("[", "_").replace("]", "").replace(",", "_").replace(":", ".")
    return {"name": name, "address": address, "unit": "", "description": description}
