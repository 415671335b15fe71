"""A Logix controller with frames of its own: tags, structures, a chassis with slots; misbehaves on demand."""

from __future__ import annotations

import asyncio
import itertools
import struct
from dataclasses import dataclass, field
from typing import Any, Final

from tests.drivers.listening import Listening

SIZES: Final = {
    0xC1: 1, 0xC2: 1, 0xC3: 2, 0xC4: 4, 0xC5: 8, 0xC6: 1, 0xC7: 2, 0xC8: 4, 0xC9: 8, 0xCA: 4,
    0xCB: 8, 0xD3: 4,
}  # fmt: skip
CODES: Final = {
    "BOOL": 0xC1, "SINT": 0xC2, "INT": 0xC3, "DINT": 0xC4, "LINT": 0xC5, "USINT": 0xC6, "UINT": 0xC7,
    "UDINT": 0xC8, "ULINT": 0xC9, "REAL": 0xCA, "LREAL": 0xCB, "BOOLS": 0xD3,
}  # fmt: skip


class RefusedError(Exception):
    """A CIP status, with an extended one or 0, and what comes with it."""

    def __init__(self, status: int, extended: int = 0, payload: bytes = b"") -> None:
        super().__init__(hex(status))
        self.status, self.extended, self.payload = status, extended, payload


@dataclass
class Tag:
    """One tag, or one member of a structure: type, memory, and for structures handle and size."""

    code: int
    memory: bytearray
    size: int
    handle: int = 0
    readonly: bool = False

    @property
    def head(self) -> bytes:
        return struct.pack("<BBH", 0xA0, 2, self.handle) if self.code == 0xA0 else bytes((self.code, 0))

    @property
    def count(self) -> int:
        return len(self.memory) // self.size


@dataclass
class Template:
    """A user-defined type: its name and members (name, type word, array size or bit, offset)."""

    name: str
    handle: int
    size: int
    members: list[tuple[str, int, int, int]] = field(default_factory=list)


class LogixPeer(Listening):
    """One controller in a slot.

    Attributes:
        tags: By path without the last index, in lower case.
        symbols: What the tag list shows: scope ("" or ``Program:Main``), name, type word, dimensions.
        attributes: CIP attributes by class, instance, attribute.
        templates: By instance.
        refusals: Status and extended status that the next reads or writes get, one each; None lets one pass.
        asked: CIP service of every request, those inside a multiple service packet too.
        requests: Encapsulated requests.
        large: Whether it grants connections of more than 500 bytes.
        connected: Whether it knows connections at all.
        multiple: Whether it takes several services in one packet.
        full: Extended status with which connections are refused; 0 for none.
        slot: Where it sits.
        silent: Whether requests are swallowed.
        writes: Requests that write, served or not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, Tag] = {}
        self.symbols: list[tuple[str, str, int, tuple[int, int, int]]] = []
        self.attributes: dict[tuple[int, int, int], bytearray] = {
            (1, 1, 1): bytearray(b"\1\0"), (1, 1, 7): bytearray(b"\x0d1756-L85E/B T"),
        }  # fmt: skip
        self.templates: dict[int, Template] = {}
        self.refusals: list[tuple[int, int] | None] = []
        self.asked: list[int] = []
        self.requests = 0
        self.large = self.connected = self.multiple = True
        self.full = 0
        self.slot = 0
        self.silent = False
        self.writes = 0
        self.opened: set[int] = set()
        self._limit = 500

    def put(self, path: str, kind: str, *values: Any) -> Tag:
        """Store a tag; ``BOOLS`` packs 32 of them into each DWORD."""
        code = CODES[kind]
        if kind == "BOOLS":
            packed = bytearray((len(values) + 31) // 32 * 4)
            for i, value in enumerate(values):
                packed[i // 8] |= bool(value) << i % 8
        else:
            packed = bytearray(b"".join(pack(kind, value) for value in values))
        tag = self.tags[path.lower()] = Tag(code, packed, SIZES[code])
        return tag

    def put_strings(self, path: str, *texts: str, most: int = 82, handle: int = 0x0FCE) -> Tag:
        """Store one or more strings as Logix has them: length, characters, room to a multiple of four."""
        room = (most + 3) // 4 * 4
        memory = b"".join(struct.pack("<I", len(t)) + t.encode("latin-1").ljust(room, b"\0") for t in texts)
        tag = self.tags[path.lower()] = Tag(0xA0, bytearray(memory), 4 + room, handle)
        return tag

    def get(self, path: str, kind: str) -> tuple[Any, ...]:
        memory = self.tags[path.lower()].memory
        return struct.unpack(f"<{len(memory) // SIZES[CODES[kind]]}{_FORMS[kind]}", memory)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(24)
            command, length, session, _, context, _ = struct.unpack("<HHIIQI", head)
            body = await reader.readexactly(length)
            self.requests += 1
            if self.silent:
                continue
            if command == 0x66:
                return
            session, status, answer = self._answer(command, session, body)
            frame = struct.pack("<HHIIQI", command, len(answer), session, status, context, 0) + answer
            if not await self._send(writer, head + body, frame):
                return

    def _answer(self, command: int, session: int, body: bytes) -> tuple[int, int, bytes]:
        if command == 0x63:
            return session, 0, self.identity()
        if command == 0x65:
            return 0x1234_5678, 0, body
        if session != 0x1234_5678:
            return session, 0x64, b""
        if command == 0x6F:
            reply = self._cip(body[16:])
            return session, 0, struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, len(reply)) + reply
        if command == 0x70:
            (connection,) = struct.unpack_from("<I", body, 12)
            if connection not in self.opened:
                return session, 0x64, b""
            reply = body[20:22] + self._cip(body[22:])
            to_them = connection ^ 0xFFFF_0000
            return session, 0, struct.pack("<IHHHHIHH", 0, 0, 2, 0xA1, 4, to_them, 0xB1, len(reply)) + reply
        return session, 1, b""

    def identity(self) -> bytes:
        """Return the answer to List Identity (Vol 2 §2-4.2)."""
        name = b"1756-L85E/B LOGIX5585E"
        address = struct.pack(">HHI8x", 2, 44818, 0x7F000001)
        plate = struct.pack("<HHHBBHI", 1, 14, 166, 33, 11, 0x3060, 0x00C0FFEE)
        item = struct.pack("<H", 1) + address + plate + bytes((len(name),)) + name + b"\3"
        return struct.pack("<HHH", 1, 0x0C, len(item)) + item

    def _cip(self, request: bytes) -> bytes:
        code, words = request[0], request[1]
        path, data = request[2 : 2 + 2 * words], request[2 + 2 * words :]
        self.asked.append(code)
        try:
            return bytes((code | 0x80, 0, 0, 0)) + self._serve_cip(code, path, data)
        except RefusedError as exc:
            extended = struct.pack("<H", exc.extended) if exc.extended else b""
            return bytes((code | 0x80, 0, exc.status, len(extended) // 2)) + extended + exc.payload
        except _UnwrappedError as exc:
            return exc.reply

    def _serve_cip(self, code: int, path: bytes, data: bytes) -> bytes:
        name, numbers = parse_path(path)
        cip_class = numbers.get("class", 0)
        if cip_class == 6:
            return self._manage(code, data)
        if cip_class == 2 and code == 0x0A:
            return self._multiple(data)
        if cip_class == 0x6B and code == 0x55:
            return self._symbols(name, numbers["instance"], data)
        if cip_class == 0x6C:
            return self._template(code, numbers["instance"], data)
        if cip_class:
            return self._attribute(code, numbers, data)
        if code in (0x4C, 0x52):
            return self._read(code, name, data)
        if code in (0x4D, 0x4E):
            return self._write(code, name, data)
        raise RefusedError(0x08)

    def _manage(self, code: int, data: bytes) -> bytes:
        if code == 0x52:
            (size,) = struct.unpack_from("<H", data, 2)
            at = 4 + size + size % 2
            self._check_route(data[at + 2 : at + 2 + 2 * data[at]])
            raise _UnwrappedError(self._cip(data[4 : 4 + size]))
        if code == 0x4E:
            return data[2:10] + b"\0\0"
        if code not in (0x54, 0x5B) or not self.connected or (code == 0x5B and not self.large):
            raise RefusedError(0x08)
        if self.full:
            raise RefusedError(0x01, self.full)
        at = 40 if code == 0x5B else 36
        parameters = struct.unpack_from("<I" if code == 0x5B else "<H", data, 26)[0]
        self._check_route(data[at : at + 2 * data[at - 1] - 4])
        self._limit = parameters & (0xFFFF if code == 0x5B else 0x1FF)
        (to_them,) = struct.unpack_from("<I", data, 6)
        self.opened.add(to_them ^ 0xFFFF_0000)
        return struct.pack("<II", to_them ^ 0xFFFF_0000, to_them) + data[10:18] + bytes(10)

    def _check_route(self, route: bytes) -> None:
        if route not in (b"", bytes((1, self.slot))):
            raise RefusedError(0x01, 0x0312 if route[:1] == b"\1" else 0x0311)

    def _multiple(self, data: bytes) -> bytes:
        if not self.multiple:
            raise RefusedError(0x08)
        (count,) = struct.unpack_from("<H", data)
        offsets = (*struct.unpack_from(f"<{count}H", data, 2), len(data))
        replies = [self._cip(data[a:b]) for a, b in itertools.pairwise(offsets)]
        at, table = 2 + 2 * count, b""
        for reply in replies:
            table += struct.pack("<H", at)
            at += len(reply)
        body = struct.pack("<H", count) + table + b"".join(replies)
        if len(body) + 6 > self._limit:
            raise RefusedError(0x11)
        if any(reply[2] for reply in replies):
            raise RefusedError(0x1E, 0, body)
        return body

    def _refuse(self) -> None:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            raise RefusedError(*refusal)

    def _find(self, name: str) -> tuple[Tag, int]:
        """Return a tag and the element that a path names; BOOL arrays count DWORDs here."""
        tag = self.tags.get(name)
        if tag is not None:
            return tag, 0
        base, bracket, index = name.rpartition("[")
        tag = self.tags.get(base) if bracket else None
        if tag is None or "," in index:
            raise RefusedError(0x05 if "." in name else 0x04)
        if int(index[:-1]) >= tag.count:
            raise RefusedError(0xFF, 0x2105)
        return tag, int(index[:-1])

    def _read(self, code: int, name: str, data: bytes) -> bytes:
        self._refuse()
        tag, first = self._find(name)
        (count,) = struct.unpack_from("<H", data)
        if first + count > tag.count:
            raise RefusedError(0xFF, 0x2105)
        (offset,) = struct.unpack_from("<I", data, 2) if code == 0x52 else (0,)
        value = bytes(tag.memory[first * tag.size : (first + count) * tag.size])[offset:]
        room = (self._limit - 16) // 8 * 8
        if len(value) > room:
            raise RefusedError(0x06, 0, tag.head + value[:room])
        return tag.head + value

    def _write(self, code: int, name: str, data: bytes) -> bytes:
        self.writes += 1
        self._refuse()
        tag, first = self._find(name)
        if tag.readonly:
            raise RefusedError(0x0F)
        if code == 0x4E:
            size = int.from_bytes(data[:2], "little")
            if size != tag.size:
                raise RefusedError(0x03)
            ones, keep = data[2 : 2 + size], data[2 + size : 2 + 2 * size]
            for i in range(size):
                tag.memory[first * size + i] = tag.memory[first * size + i] & keep[i] | ones[i]
            return b""
        if data[: len(tag.head)] != tag.head:
            raise RefusedError(0xFF, 0x2107)
        (count,) = struct.unpack_from("<H", data, len(tag.head))
        value = data[len(tag.head) + 2 :]
        if first + count > tag.count or len(value) != count * tag.size:
            raise RefusedError(0xFF, 0x2105)
        tag.memory[first * tag.size : first * tag.size + len(value)] = value
        return b""

    def _attribute(self, code: int, numbers: dict[str, int], data: bytes) -> bytes:
        self._refuse()
        key = (numbers["class"], numbers["instance"], numbers.get("attribute", 0))
        if key[:2] == (1, 1) and code == 0x01:
            name = b"1756-L85E/B"
            return (
                struct.pack("<HHHBBHI", 1, 14, 166, 33, 11, 0x3060, 0x00C0FFEE) + bytes((len(name),)) + name
            )
        held = self.attributes.get(key)
        if held is None:
            raise RefusedError(0x14 if any(k[:2] == key[:2] for k in self.attributes) else 0x16)
        if code == 0x0E:
            return bytes(held)
        if code != 0x10:
            raise RefusedError(0x08)
        self.writes += 1
        if len(data) != len(held):
            raise RefusedError(0x15 if len(data) > len(held) else 0x13)
        held[:] = data
        return b""

    def _symbols(self, scope: str, first: int, data: bytes) -> bytes:
        """Return three symbols at a time, so that clients have to come again."""
        (count,) = struct.unpack_from("<H", data)
        wanted = struct.unpack_from(f"<{count}H", data, 2)
        shown = [
            (instance, symbol)
            for instance, symbol in enumerate(self.symbols, 1)
            if symbol[0].lower() == scope and instance >= first
        ]
        body = b""
        for instance, (_, name, kind, dimensions) in shown[:3]:
            parts = {
                1: struct.pack("<H", len(name)) + name.encode(),
                2: struct.pack("<H", kind),
                8: struct.pack("<III", *dimensions),
            }
            body += struct.pack("<I", instance) + b"".join(parts[number] for number in wanted)
        if len(shown) > 3:
            raise RefusedError(0x06, 0, body)
        return body

    def _template(self, code: int, instance: int, data: bytes) -> bytes:
        template = self.templates.get(instance)
        if template is None:
            raise RefusedError(0x05)
        text = f"{template.name};n{'EA' * len(template.members)}\0" + "".join(
            f"{name}\0" for name, *_ in template.members
        )
        members = (struct.pack("<HHI", info, kind, offset) for _, kind, info, offset in template.members)
        definition = b"".join(members) + text.encode()
        words = (len(definition) + 23 + 3) // 4
        if code == 0x03:
            values = {
                4: struct.pack("<I", words),
                5: struct.pack("<I", template.size),
                2: struct.pack("<H", len(template.members)),
                3: struct.pack("<H", len(template.members)),
                1: struct.pack("<H", template.handle),
            }
            (count,) = struct.unpack_from("<H", data)
            wanted = struct.unpack_from(f"<{count}H", data, 2)
            return data[:2] + b"".join(struct.pack("<HH", number, 0) + values[number] for number in wanted)
        offset, size = struct.unpack_from("<IH", data)
        padded = definition.ljust(words * 4 - 20, b"\0")
        piece = padded[offset : offset + min(size, 40)]
        if offset + len(piece) < min(len(padded), offset + size):
            raise RefusedError(0x06, 0, piece)
        return piece


class _UnwrappedError(Exception):
    """The answer to what an Unconnected Send carried comes in its place."""

    def __init__(self, reply: bytes) -> None:
        super().__init__()
        self.reply = reply


_FORMS: Final = {
    "BOOL": "?", "SINT": "b", "INT": "h", "DINT": "i", "LINT": "q", "USINT": "B", "UINT": "H", "UDINT": "I",
    "ULINT": "Q", "REAL": "f", "LREAL": "d", "BOOLS": "I",
}  # fmt: skip


def pack(kind: str, value: Any) -> bytes:
    return struct.pack("<" + _FORMS[kind], value)


def parse_path(path: bytes) -> tuple[str, dict[str, int]]:
    """Return names with indices, e.g. ``program:main.pump[3]``, and class, instance and attribute."""
    names, numbers, at, after = "", {}, 0, ""
    while at < len(path):
        code = path[at]
        if code == 0x91:
            length = path[at + 1]
            text = path[at + 2 : at + 2 + length].decode().lower()
            names += ("." if names else "") + text
            at, after = at + 2 + length + length % 2, "name"
            continue
        width = {0: 1, 1: 2, 2: 4}[code & 3]
        at += 1 if width == 1 else 2
        number = int.from_bytes(path[at : at + width], "little")
        at += width
        what = {0x20: "class", 0x24: "instance", 0x28: "element", 0x30: "attribute"}[code & 0xFC]
        if what == "element":
            names = f"{names[:-1]},{number}]" if after == "element" else f"{names}[{number}]"
        else:
            numbers[what] = number
        after = what
    return names, numbers
