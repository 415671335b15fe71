"""Areas of words: where they begin in each protocol, what else lies in them, and that word n stays word n."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_opcua.core.ports import Area, AreaPlugin
from edge_opcua.core.values import BAD_NOT_SUPPORTED, BAD_TYPE_MISMATCH, GOOD, UNCERTAIN_SIMULATED, Scalar
from edge_opcua.drivers.poller import Device
from edge_opcua.errors import AddressError
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import DRIVERS, Bench, ModbusPeer, config

URLS = {"s7": "s7://plc", "modbus": "modbus://plc/1", "ethernet-ip": "eip://plc/0"}
WORDS = (0x0102, 0x8000, 0, 0xFFFF, 5)
PAYLOAD = struct.pack(">5H", *WORDS)


def area(driver: str, text: str, **options: Any) -> Area:
    plugin = DRIVERS[driver]
    assert isinstance(plugin, AreaPlugin)
    return plugin.parse_area(text, URLS[driver], options)


@pytest.mark.parametrize(
    ("driver", "text", "canonical", "words", "bit"),
    [
        ("s7", "DB21", "DB21", "DB21.DBW6:UINT[2]", "DB21.DBX6.1:BOOL"),
        ("s7", " db21.dbb40 ", "DB21.DBB40", "DB21.DBW46:UINT[2]", "DB21.DBX46.1:BOOL"),
        ("s7", "DB21.DBW40", "DB21.DBB40", "DB21.DBW46:UINT[2]", "DB21.DBX46.1:BOOL"),
        ("s7", "MB100", "MB100", "MW106:UINT[2]", "M106.1:BOOL"),
        ("modbus", "hr:200", "1/hr:200", "1/hr:203:UINT[2]", "1/hr:203.9:BOOL"),
        ("modbus", "3/hr:200", "3/hr:200", "3/hr:203:UINT[2]", "3/hr:203.9:BOOL"),
        ("modbus", "3/ir:200", "3/ir:200", "3/ir:203:UINT[2]", "3/ir:203.9:BOOL"),
        ("modbus", "40201", "1/hr:200", "1/hr:203:UINT[2]", "1/hr:203.9:BOOL"),
        ("modbus", "hr:201;base=1", "1/hr:200", "1/hr:203:UINT[2]", "1/hr:203.9:BOOL"),
        ("ethernet-ip", "EdgeAI", "EdgeAI[0]", "EdgeAI[3]:WORD[2]", "EdgeAI[3].9:BOOL"),
        (
            "ethernet-ip",
            "Program:Main.EdgeAI[16]",
            "Program:Main.EdgeAI[16]",
            "Program:Main.EdgeAI[19]:WORD[2]",
            "Program:Main.EdgeAI[19].9:BOOL",
        ),
        ("ethernet-ip", "T[1,2]", "T[1,2]", "T[1,5]:WORD[2]", "T[1,5].9:BOOL"),
    ],
)
def test_an_area_knows_the_addresses_of_its_words_and_bits(
    driver: str, text: str, canonical: str, words: str, bit: str
) -> None:
    found = area(driver, text)
    assert (found.canonical, found.words(3, 2), found.bit(3, 9)) == (canonical, words, bit)
    assert area(driver, found.canonical) == found
    parse = DRIVERS[driver].parse_address
    assert (parse(words).scalar, parse(words).length, parse(bit).scalar) == (Scalar.UINT16, 2, Scalar.BOOLEAN)


@pytest.mark.parametrize(
    ("driver", "text", "code"),
    [
        ("s7", "DB21.DBX4.0", "T260"),
        ("s7", "DB21.DBW4:UINT", "T260"),
        ("s7", "QB4", "T260"),
        ("s7", "DB21.DBB41", "T261"),
        ("s7", "DB0", "T216"),
        ("modbus", "co:200", "T260"),
        ("modbus", "di:200", "T260"),
        ("modbus", "hr:200:UINT", "T260"),
        ("modbus", "hr:40201", "T212"),
        ("modbus", "300/hr:200", "T216"),
        ("ethernet-ip", "@4/100/3", "T260"),
        ("ethernet-ip", "EdgeAI:INT[8]", "T260"),
        ("ethernet-ip", "EdgeAI.3", "T260"),
        ("ethernet-ip", "8Words", "T260"),
    ],
)
def test_what_is_no_area_is_refused_with_its_code(driver: str, text: str, code: str) -> None:
    with pytest.raises(AddressError) as refused:
        area(driver, text)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("driver", "text", "inside", "outside"),
    [
        (
            "s7",
            "DB21.DBB40",
            ("DB21.DBX40.0:BOOL", "DB21.DBD38:REAL", "DB21.DBB49:BYTE", "DB21.DBW40:UINT[8]"),
            ("DB21.DBD36:REAL", "DB21.DBW50:UINT", "DB22.DBW40:UINT", "MW40:UINT"),
        ),
        (
            "modbus",
            "3/hr:200",
            ("3/hr:204:UINT", "3/hr:199:REAL", "3/hr:203.15:BOOL"),
            # Without a unit it is that of the URL, which is another one.
            ("hr:202:UINT", "3/hr:205:UINT", "3/ir:202:UINT", "3/hr:198:REAL"),
        ),
        ("modbus", "hr:200", ("hr:200:UINT", "1/hr:200:UINT"), ("2/hr:200:UINT", "co:200")),
        ("modbus", "ir:200", ("ir:200:UINT", "1/ir:204:UINT"), ("ir:205:UINT", "hr:200:UINT")),
        (
            "ethernet-ip",
            "EdgeAI[4]",
            ("EDGEAI[8]:INT", "EdgeAI[4].15:BOOL", "EdgeAI[0]:INT[5]", "edgeai[3].12:BOOL[8]"),
            ("EdgeAI[9]:INT", "EdgeAI.3:BOOL", "Program:Main.EdgeAI[4]:INT", "Other[4]:INT"),
        ),
    ],
)
def test_it_says_what_else_lies_in_its_words(
    driver: str, text: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    found, parse = area(driver, text), DRIVERS[driver].parse_address
    assert {each for each in (*inside, *outside) if found.touches(5, parse(each))} == set(inside)


@pytest.mark.parametrize(
    ("driver", "text", "word", "bit"),
    [
        ("s7", "DB21", "DB21.DBW6:INT", "DB21.DBX1.1:BOOL"),
        ("modbus", "2/hr:10", "2/hr:13:UINT", "2/hr:10.1:BOOL"),
        ("ethernet-ip", "C", "C[3]:INT", "c[0].1:BOOL"),
        ("ethernet-ip", "C", "c[3]:WORD", "C.1:BOOL"),
    ],
)
def test_it_recognizes_a_word_and_a_bit_of_its_own(driver: str, text: str, word: str, bit: str) -> None:
    found, parse = area(driver, text), DRIVERS[driver].parse_address
    asked = {"word": parse(word), "bit": parse(bit)}
    assert [name for name, each in asked.items() if found.holds(each, 3)] == ["word"]
    assert [name for name, each in asked.items() if found.holds(each, 0, 1)] == ["bit"]
    assert not any(found.holds(each, 2) or found.holds(each, 0, 2) for each in asked.values())


def test_input_registers_are_only_read() -> None:
    # Modbus application protocol 4.3: holding registers are what a client may write.
    assert area("modbus", "hr:200").writable
    assert not area("modbus", "ir:200").writable
    assert area("s7", "DB21").writable
    assert area("ethernet-ip", "EdgeAI").writable


async def test_words_for_input_registers_are_refused_and_nothing_is_sent() -> None:
    async with ModbusPeer().serving() as peer:
        bench = Bench(config("modbus", f"modbus://127.0.0.1:{peer.port}/1", {"words": "ir:200:UINT[6]"}))
        async with bench.running() as device:
            await bench.until(lambda: device.link_up)
            outcome = await device.write_bytes("ir:200", 1, PAYLOAD)
        assert outcome.status == BAD_NOT_SUPPORTED
        assert "ir:200 can only be read" in outcome.reason
        assert {ask[1] for ask in peer.asked} == {4}


def test_one_request_writes_what_any_device_of_the_kind_takes() -> None:
    assert area("s7", "DB1").most_words == 106  # 240 bytes, which every PLC grants, less 28
    assert area("modbus", "hr:1").most_words == 123  # Modbus application protocol 6.12
    assert area("modbus", "hr:1", max_registers=20).most_words == 20
    assert 200 < area("ethernet-ip", "EdgeAI").most_words < 240


async def _sent(device: Device, text: str) -> None:
    outcome = await device.write_bytes(text, 1, PAYLOAD)
    assert outcome.status == GOOD, outcome


async def _read_back(bench: Bench, found: Callable[[], bytes], text: str) -> None:
    """Write words and see them twice: in the device's own memory, and through a tag of the same words."""
    async with bench.running() as device:
        await bench.until(lambda: device.link_up)
        await _sent(device, text)
        await bench.until(lambda: list(bench.values("fast")["words"]) == [0, *WORDS])
        assert found() == PAYLOAD


async def test_words_arrive_in_an_s7_plc_and_are_read_back() -> None:
    block = DataBlock(20, 64, writable=True)
    server = S7Server((block,))
    port = await server.open("127.0.0.1", 0)

    async def scan() -> None:
        while True:
            server.begin_scan()
            server.end_scan()
            await asyncio.sleep(0.005)

    tag = area("s7", "DB20.DBB10").words(0, 6)
    bench = Bench(config("s7", f"s7://127.0.0.1:{port}", {"words": tag}))
    async with asyncio.TaskGroup() as tasks:
        scanning = tasks.create_task(scan())
        await _read_back(bench, lambda: bytes(block.memory[12:22]), "DB20.DBB10")
        scanning.cancel()
    server.close()
    await asyncio.sleep(0)


async def test_words_arrive_in_the_unit_that_the_area_names_and_are_read_back() -> None:
    async with ModbusPeer().serving() as peer:
        tag = area("modbus", "3/hr:200").words(0, 6)
        bench = Bench(config("modbus", f"modbus://127.0.0.1:{peer.port}/1", {"words": tag}))
        await _read_back(bench, lambda: struct.pack(">5H", *peer.registers[201:206]), "3/hr:200")
        assert {ask[0] for ask in peer.asked if ask[1] == 16} == {3}


async def test_element_n_of_a_logix_array_is_word_n() -> None:
    plc = LogixPeer()
    tag = plc.put("EdgeAI", "INT", *([0] * 16))
    async with plc.serving():
        bench = Bench(config("ethernet-ip", f"eip://127.0.0.1:{plc.port}/0", {"words": "EdgeAI[4]:WORD[6]"}))
        # The controller holds its integers low byte first.
        swapped = lambda: struct.pack(">5H", *struct.unpack_from("<5H", tag.memory, 10))  # noqa: E731
        await _read_back(bench, swapped, "EdgeAI[4]")


@asynccontextmanager
async def _logix(kind: str) -> AsyncIterator[Callable[[str, bytes], Awaitable[Any]]]:
    plc = LogixPeer()
    plc.put("Words", kind, *([0] * 16))
    plc.put("Speed", "REAL", 0.0)
    async with plc.serving():
        bench = Bench(config("ethernet-ip", f"eip://127.0.0.1:{plc.port}/0", {"v": "Speed:REAL"}))
        async with bench.running() as device:
            await bench.until(lambda: device.link_up)

            async def write(text: str, payload: bytes) -> Any:
                return await device.write_bytes(text, 0, payload)

            yield write


@pytest.mark.parametrize("kind", ["DINT", "SINT", "REAL"])
async def test_an_array_of_anything_but_words_is_not_written(kind: str) -> None:
    async with _logix(kind) as write:
        outcome = await write("Words", PAYLOAD)
        assert outcome.status == BAD_TYPE_MISMATCH
        assert outcome.reason == f"D364 Words is {kind}; words need an array of INT"


async def test_half_a_word_and_what_is_no_area_are_not_written() -> None:
    async with _logix("INT") as write:
        assert (await write("Words", b"\0")).status == BAD_NOT_SUPPORTED
        assert (await write("@4/100/3", PAYLOAD)).status == BAD_NOT_SUPPORTED


@pytest.mark.parametrize(
    ("driver", "text"), [("s7", "DB20.DBB10"), ("modbus", "3/hr:200"), ("ethernet-ip", "EdgeAI[4]")]
)
async def test_a_simulated_device_keeps_words_that_are_read_back(driver: str, text: str) -> None:
    tags = {"words": area(driver, text).words(0, 6)}
    bench = Bench(config(driver, URLS[driver], tags, simulate=True))
    async with bench.running() as device:
        await bench.until(lambda: device.link_up)
        await bench.until(lambda: set(bench.statuses("fast").values()) == {UNCERTAIN_SIMULATED})
        await _sent(device, text)
        await bench.until(lambda: list(bench.values("fast")["words"][1:]) == list(WORDS))
