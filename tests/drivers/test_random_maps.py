"""Random maps, encoded by an encoder that shares only the standards with ours, read through each driver."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_opcua.core.ticks import from_utc, to_utc
from edge_opcua.core.values import GOOD
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import Bench, ModbusPeer, config
from tests.drivers.rows import BYTES, NUMBERS
from tests.drivers.test_times import KINDS as TIMES
from tests.drivers.uapeer import PLANT, UaPeer, standard_nodes, ua_peer

# How a field device puts the eight bytes of a number on the wire; A is the most significant.
ORDERS_64 = ("ABCDEFGH", "BADCFEHG", "CDABGHEF", "DCBAHGFE", "GHEFCDAB", "HGFEDCBA")
ORDERS_32 = ("ABCD", "BADC", "CDAB", "DCBA")
TEXTS = ("STRING", "WSTRING")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "STRING": st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
    **{kind: values for kind, (_, values) in {**NUMBERS, **BYTES}.items()},
    **{kind: moments.map(from_utc) for kind, (moments, _) in TIMES.items()},
    "WSTRING": st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
}


@dataclass(frozen=True)
class Item:
    """One tag: its type, how often, the values, and how much unused room lies before it."""

    kind: str
    count: int
    values: tuple[Any, ...]
    order: str
    gap: int

    @property
    def value(self) -> Any:
        return list(self.values) if self.count else self.values[0]

    @property
    def type(self) -> str:
        if self.kind in TEXTS:
            return f"{self.kind}[12]"
        return f"{self.kind}[{self.count}]" if self.count else self.kind


@st.composite
def items(draw: Callable[[Any], Any], kinds: Sequence[str], *, orders: bool = True) -> Item:
    kind = draw(st.sampled_from(sorted(kinds)))
    count = draw(st.sampled_from((0, 0, 0, 1, 2, 5))) if kind not in TEXTS else 0
    one = VALUES[kind]
    values = tuple(draw(one) for _ in range(max(1, count)))
    order = ""
    if orders and kind in NUMBERS:
        size = struct.calcsize(NUMBERS[kind][0])
        order = draw(st.sampled_from(("", *ORDERS_32, *(ORDERS_64 if size == 8 else ()))))
    return Item(kind, count, values, order, draw(st.integers(0, 40)))


def shuffled(number: bytes, order: str) -> bytes:
    """Put a big-endian number into the byte order of a device, letter by letter."""
    if len(order) == len(number):
        return bytes(number["ABCDEFGH".index(letter)] for letter in order)
    words = [number[i : i + 2] for i in range(0, len(number), 2)]
    if order in ("BADC", "DCBA"):
        words = [word[1:] + word[:1] for word in words]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    return b"".join(words)


def packed(kind: str, value: Any) -> bytes:
    if kind in TIMES:
        return bytes(TIMES[kind][1](to_utc(value)))
    return struct.pack(">" + {**NUMBERS, **BYTES}[kind][0], value)


async def served(bench: Bench, wanted: dict[str, Any]) -> None:
    """Run the device until all is Good, and compare what clients would see with what was put in."""
    async with bench.running():
        await bench.until(lambda: set(bench.statuses("fast").values()) == {GOOD})
        found = bench.values("fast")
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found.items()
    }
    assert plain == wanted


class Registers:
    """Holding and input registers, coils and discrete inputs, filled one after the other."""

    def __init__(self, peer: ModbusPeer) -> None:
        self.images: dict[str, list[Any]] = {
            "hr": peer.registers,
            "ir": peer.inputs,
            "co": peer.coils,
            "di": peer.discretes,
        }
        self.end = dict.fromkeys(self.images, 0)

    def put(self, item: Item, area: str) -> str:
        """Store an item and return its address."""
        if item.kind == "BOOL" and area in ("co", "di"):
            at = self._take(area, item.gap, len(item.values))
            self.images[area][at : at + len(item.values)] = item.values
            return f"{area}:{at}:{item.type}"
        area = {"co": "hr", "di": "ir"}.get(area, area)
        words = self._words(item)
        at = self._take(area, item.gap, len(words))
        self.images[area][at : at + len(words)] = words
        bit = ".5" if item.kind == "BOOL" else ""
        order = f";order={item.order}" if item.order else ""
        return f"{area}:{at}{bit}:{item.type}{order}"

    def _take(self, area: str, gap: int, size: int) -> int:
        at = self.end[area] + gap
        self.end[area] = at + size
        return at

    @staticmethod
    def _words(item: Item) -> list[int]:
        if item.kind == "BOOL":  # from bit 5 on, upwards, through the registers
            bits = [False] * 5 + list(item.values) + [True] * 16
            return [
                sum(bit << i for i, bit in enumerate(bits[first : first + 16]))
                for first in range(0, 5 + len(item.values), 16)
            ]
        if item.kind == "STRING":
            raw = item.values[0].encode().ljust(12, b"\0")
        elif item.kind in BYTES:  # one in the low half of each register
            raw = b"".join(b"\xa5" + packed(item.kind, value) for value in item.values)
        else:
            raw = b"".join(shuffled(packed(item.kind, value), item.order) for value in item.values)
        return list(struct.unpack(f">{len(raw) // 2}H", raw))


MODBUS_KINDS = (*NUMBERS, *BYTES, "BOOL", "STRING")
S7_KINDS = (*MODBUS_KINDS, *TIMES, "WSTRING")


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    given=st.lists(
        st.tuples(items(MODBUS_KINDS), st.sampled_from(("hr", "ir", "co", "di"))), min_size=1, max_size=25
    )
)
def test_modbus_registers_come_out_as_they_went_in(given: list[tuple[Item, str]]) -> None:
    async def main() -> None:
        async with ModbusPeer().serving() as peer:
            registers = Registers(peer)
            tags = {f"t{i}": registers.put(item, area) for i, (item, area) in enumerate(given)}
            wanted = {f"t{i}": item.value for i, (item, _) in enumerate(given)}
            await served(Bench(config("modbus", f"modbus://127.0.0.1:{peer.port}/1", tags)), wanted)

    asyncio.run(main())


def s7_bytes(item: Item) -> tuple[bytes, int | None]:
    """Return the bytes of an item in a data block and, of bits, where they begin."""
    if item.kind == "BOOL":
        bits = [True] * 3 + list(item.values)
        return bytes(
            sum(bit << i for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8)
        ), 3
    if item.kind == "STRING":
        text = item.values[0].encode()
        return bytes((12, len(text))) + text.ljust(12, b"?"), None
    if item.kind == "WSTRING":
        units = item.values[0].encode("utf-16-be")
        return struct.pack(">HH", 12, len(units) // 2) + units.ljust(24, b"?"), None
    return b"".join(packed(item.kind, value) for value in item.values), None


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(given=st.lists(items(S7_KINDS, orders=False), min_size=1, max_size=25))
def test_s7_blocks_come_out_as_they_went_in(given: list[Item]) -> None:
    async def main() -> None:
        block = DataBlock(10, 4_000, writable=True)
        tags, end = {}, 0
        for i, item in enumerate(given):
            raw, bit = s7_bytes(item)
            at = end + item.gap
            end = at + len(raw)
            block.memory[at:end] = raw
            width, where = ("X", f"{at}.{bit}") if bit is not None else (_width(item), str(at))
            tags[f"t{i}"] = f"DB10.DB{width}{where}:{item.type}"
        server = S7Server((block,))
        port = await server.open("127.0.0.1", 0)
        server.begin_scan()
        server.end_scan()
        try:
            await served(
                Bench(config("s7", f"s7://127.0.0.1:{port}?rack=0&slot=1", tags)),
                {f"t{i}": item.value for i, item in enumerate(given)},
            )
        finally:
            server.close()

    asyncio.run(main())


def _width(item: Item) -> str:
    if item.kind in TEXTS or item.kind in TIMES:
        return "B"
    size = struct.calcsize({**NUMBERS, **BYTES}[item.kind][0])
    return {1: "B", 2: "W", 4: "D", 8: "B"}[size]


# What a Logix controller has for types that it does not know itself.
CARRIERS = {"WORD": "UINT", "BYTE": "USINT"}


class LogixTags:
    """Tags of a Logix controller: each of its own, or one behind the other in an array of its type."""

    def __init__(self, peer: LogixPeer) -> None:
        self._peer = peer
        self._arrays: dict[str, list[Any]] = {}

    def put(self, number: int, item: Item, *, shared: bool) -> str:
        """Store an item and return its address."""
        if item.kind == "STRING":
            self._peer.put_strings(f"T{number}", item.values[0], most=12, handle=0x1357)
            return f"T{number}:{item.type}"
        if item.kind == "BOOL" and not shared:  # bits of an integer, from bit 5 on
            self._peer.put(f"T{number}", "UDINT", sum(bit << 5 + i for i, bit in enumerate(item.values)))
            return f"T{number}.5:{item.type}"
        kind = "BOOLS" if item.kind == "BOOL" else CARRIERS.get(item.kind, item.kind)
        if not shared:
            self._peer.put(f"Program:Main.T{number}", kind, *item.values)
            return f"Program:Main.T{number}:{item.type}"
        array = self._arrays.setdefault(kind, [])
        array += [0] * item.gap
        at = len(array)
        array += item.values
        return f"{kind}_array[{at}]:{item.type}"

    def done(self) -> None:
        """Store the arrays."""
        for kind, values in self._arrays.items():
            self._peer.put(f"{kind}_array", kind, *values)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    given=st.lists(st.tuples(items(MODBUS_KINDS, orders=False), st.booleans()), min_size=1, max_size=25),
    size=st.sampled_from((0, 500, 4000)),
)
def test_logix_tags_come_out_as_they_went_in(given: list[tuple[Item, bool]], size: int) -> None:
    async def main() -> None:
        async with LogixPeer().serving() as peer:
            stored = LogixTags(peer)
            tags = {f"t{i}": stored.put(i, item, shared=shared) for i, (item, shared) in enumerate(given)}
            stored.done()
            wanted = {f"t{i}": item.value for i, (item, _) in enumerate(given)}
            url, options = f"eip://127.0.0.1:{peer.port}/0", {"connection_bytes": size}
            await served(Bench(config("ethernet-ip", url, tags, options=options)), wanted)

    asyncio.run(main())


# What an OPC UA server has for each type (OPC 30000 §5.2).
BUILT_IN = {
    "BOOL": ua.VariantType.Boolean,
    "SINT": ua.VariantType.SByte,
    "USINT": ua.VariantType.Byte,
    "BYTE": ua.VariantType.Byte,
    "INT": ua.VariantType.Int16,
    "UINT": ua.VariantType.UInt16,
    "WORD": ua.VariantType.UInt16,
    "DINT": ua.VariantType.Int32,
    "UDINT": ua.VariantType.UInt32,
    "LINT": ua.VariantType.Int64,
    "ULINT": ua.VariantType.UInt64,
    "REAL": ua.VariantType.Float,
    "LREAL": ua.VariantType.Double,
    "STRING": ua.VariantType.String,
}
_NAMES = itertools.count()


@pytest.fixture(scope="module")
async def ua_server() -> AsyncIterator[UaPeer]:
    with standard_nodes():
        async with ua_peer() as peer:
            yield peer


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    given=st.lists(st.tuples(items(MODBUS_KINDS, orders=False), st.booleans()), min_size=1, max_size=25),
    most=st.sampled_from((1, 7, 1000)),
)
async def test_opcua_values_come_out_as_they_went_in(
    ua_server: UaPeer, given: list[tuple[Item, bool]], most: int
) -> None:
    tags, wanted = {}, {}
    for i, (item, longer) in enumerate(given):
        name = f"map{next(_NAMES)}"
        value, first = item.value, ""
        if item.count and longer:  # the tag is a part of an array
            value = [item.values[0]] * item.gap + item.value + [item.values[-1]]
            first = f";from={item.gap}"
        await ua_server.put(name, BUILT_IN[item.kind], value)
        tags[f"t{i}"] = f"nsu={PLANT};s={name}:{item.type}{first}"
        wanted[f"t{i}"] = item.value
    options = {"security": "None", "max_nodes": most}
    cfg = config("opcua", f"opc.tcp://127.0.0.1:{ua_server.port}", tags, options=options, timeout_ms=2000)
    await served(Bench(cfg), wanted)


def test_an_order_is_what_its_letters_say() -> None:
    assert shuffled(bytes(range(8)), "GHEFCDAB") == bytes((6, 7, 4, 5, 2, 3, 0, 1))
    assert shuffled(bytes(range(8)), "CDAB") == bytes((6, 7, 4, 5, 2, 3, 0, 1))
    assert shuffled(b"\x41\xbb\x47\xae", "CDAB") == bytes.fromhex("47ae41bb")
    with pytest.raises(ValueError, match="substring"):
        shuffled(bytes(4), "WXYZ")
