"""The S7 driver against the C server of snap7, in a process of its own, and in the eyes of Wireshark."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.core.ticks import from_utc
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_SENSOR_FAILURE,
    GOOD,
    is_bad,
)
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.probing import Target
from edge_opcua.drivers.s7.address import parse
from edge_opcua.drivers.s7.probe import probe
from edge_opcua.drivers.s7.settings import S7Options, parse_url
from edge_opcua.drivers.s7.sysinfo import State
from edge_opcua.drivers.s7.wire import S7Wire
from edge_opcua.drivers.wire import Fault
from edge_opcua.testing import ManualClock
from tests.drivers.peers import Bench, config
from tests.drivers.test_s7_wire import free_port
from tests.drivers.test_times import date_bytes, dt_bytes, dtl_bytes, ldt_bytes
from tests.interop.dissect import dissected, faults, recorded

HERE = Path(__file__).parents[1] / "peers"
PYTHON = HERE / ".installed" / "snap7" / "bin" / "python"
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not PYTHON.exists(), reason="snap7 is not installed; run tests/peers/install"),
]

DAY = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
MOMENT = dt.datetime(2026, 3, 1, 12, 34, 56, 789_000, tzinfo=dt.UTC)
TICKS = from_utc(MOMENT)


class Snap7:
    """The server, ready; orders go to it line by line."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def order(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(5.0):
            return (await self.process.stdout.readline()).decode().strip()

    async def put(self, area: str, at: int, content: bytes) -> None:
        assert await self.order(f"put {area} {at} {content.hex()}") == "ok"

    async def get(self, area: str, at: int, size: int) -> bytes:
        return bytes.fromhex(await self.order(f"get {area} {at} {size}"))

    @property
    def url(self) -> str:
        return f"s7://127.0.0.1:{self.port}?rack=0&slot=1"


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[Snap7]:
    port = port or free_port()
    pipe = asyncio.subprocess.PIPE
    command = (str(PYTHON), str(HERE / "snap7_server.py"), str(port))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10.0):
            assert await process.stdout.readline() == b"ready\n"
        yield Snap7(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await asyncio.sleep(0)


@pytest.fixture
async def plc() -> AsyncIterator[Snap7]:
    async with serving() as made:
        yield made


@asynccontextmanager
async def wired(url: str, **options: Any) -> AsyncIterator[S7Wire]:
    wire = S7Wire("plc", parse_url(url), S7Options(**options), 1.0)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


# Type, its bytes by struct or by hand, and what a client is to see.
VALUES: list[tuple[str, bytes, Any]] = [
    ("SINT", struct.pack(">b", -5), -5),
    ("USINT", b"\xfa", 250),
    ("BYTE", b"\x7f", 127),
    ("INT", struct.pack(">h", -30_000), -30_000),
    ("UINT", struct.pack(">H", 60_000), 60_000),
    ("WORD", b"\xbe\xef", 0xBEEF),
    ("DINT", struct.pack(">i", -(2**31)), -(2**31)),
    ("UDINT", struct.pack(">I", 2**32 - 1), 2**32 - 1),
    ("DWORD", b"\xde\xad\xbe\xef", 0xDEADBEEF),
    ("LINT", struct.pack(">q", -(2**63) + 1), -(2**63) + 1),
    ("ULINT", struct.pack(">Q", 2**64 - 1), 2**64 - 1),
    ("LWORD", struct.pack(">Q", 2**63 + 7), 2**63 + 7),
    ("REAL", struct.pack(">f", 23.5), 23.5),
    ("LREAL", struct.pack(">d", -1e300), -1e300),
    ("STRING[8]", b"\x08\x05Pre\xdfe\0\0\0", "Preße"),
    ("WSTRING[4]", struct.pack(">HH", 4, 3) + "ñ€z".encode("utf-16-be") + b"\0\0", "ñ€z"),
    ("TIME", struct.pack(">i", -1_500), -1_500),
    ("LTIME", struct.pack(">q", 2**40), 2**40),
    ("TOD", struct.pack(">I", 86_399_999), 86_399_999),
    ("LTOD", struct.pack(">Q", 86_399_999_999_999), 86_399_999_999_999),
    ("S5TIME", b"\x22\x55", 255_000),
    ("DATE", date_bytes(DAY), from_utc(DAY)),
    ("DT", dt_bytes(MOMENT), TICKS),
    ("DTL", dtl_bytes(MOMENT), TICKS),
    ("LDT", ldt_bytes(MOMENT), TICKS),
    ("INT[3]", struct.pack(">3h", 1, -2, 3), [1, -2, 3]),
    ("REAL[2]", struct.pack(">2f", 0.5, -0.25), [0.5, -0.25]),
    ("DTL[2]", dtl_bytes(MOMENT) + dtl_bytes(DAY), [TICKS, from_utc(DAY)]),
]


def laid_out() -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """Return the content of a block with a value of each type, their addresses, and what they are."""
    memory, tags, wanted = b"", {}, {}
    for number, (kind, content, value) in enumerate(VALUES):
        name = f"t{number}"
        tags[name] = f"DB10.DBB{len(memory)}:{kind}"
        wanted[name] = value
        memory += content + bytes(number % 3)
    for bit in range(8):
        tags[f"b{bit}"] = f"DB10.DBX{len(memory)}.{bit}:BOOL"
        wanted[f"b{bit}"] = bool(0b1010_0110 >> bit & 1)
    return memory + b"\xa6", tags, wanted


def plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in values.items()}


async def test_every_type_is_read_from_a_plc_that_is_not_ours(plc: Snap7) -> None:
    memory, tags, wanted = laid_out()
    await plc.put("DB10", 0, memory)
    bench = Bench(config("s7", plc.url, tags))
    async with bench.running():
        await bench.until(lambda: set(bench.statuses("fast").values()) == {GOOD})
        assert plain(bench.values("fast")) == wanted


async def test_twenty_scattered_blocks_come_at_once_and_a_missing_one_costs_itself(plc: Snap7) -> None:
    await plc.put("DB1", 0, bytes(range(256)) * 16)
    good = [Fragment(("DB", 1), 200 * n, 6) for n in range(18)]
    missing, beyond = Fragment(("DB", 77), 0, 4), Fragment(("DB", 2), 254, 4)
    request = Request((*good[:9], missing, *good[9:], beyond))
    async with wired(plc.url) as wire:
        assert wire.depth == 8  # the C server grants what it is asked for
        before = wire.traffic.requests
        (answers,) = await wire.read((request,))
        assert wire.traffic.requests == before + 1
    found = dict(zip(request.fragments, answers, strict=True))
    for each in good:
        assert found[each] == bytes((each.start + i) % 256 for i in range(6))
    no_block, too_far = found[missing], found[beyond]
    assert isinstance(no_block, Fault)
    assert isinstance(too_far, Fault)
    assert (no_block.reason[:4], too_far.reason[:4]) == ("D331", "D332")


async def test_a_tag_of_a_missing_block_is_bad_and_the_others_are_good(plc: Snap7) -> None:
    await plc.put("DB1", 0, struct.pack(">h", 7))
    await plc.put("DB2", 10, b"\0" * 8)  # a DATE_AND_TIME that was never set
    tags = {"good": "DB1.DBW0:INT", "missing": "DB99.DBW0:INT", "unset": "DB2.DBB10:DT", "flag": "M3.0"}
    bench = Bench(config("s7", plc.url, tags))
    async with bench.running():
        await bench.until(lambda: bench.statuses("fast")["missing"] == BAD_CONFIGURATION_ERROR)
        statuses = bench.statuses("fast")
        assert (statuses["good"], statuses["flag"], statuses["unset"]) == (GOOD, GOOD, BAD_SENSOR_FAILURE)
        assert bench.values("fast")["good"] == 7


WRITES: list[tuple[str, Any, bytes]] = [
    ("DB2.DBW0:INT", -7, struct.pack(">h", -7)),
    ("DB2.DBD4:REAL", 2.5, struct.pack(">f", 2.5)),
    ("DB2.DBB8:ULINT", 2**64 - 1, b"\xff" * 8),
    ("DB2.DBB16:STRING[6]", "ab", b"\x06\x02ab\0\0\0\0"),
    ("DB2.DBB24:WSTRING[3]", "€", struct.pack(">HHH", 3, 1, 0x20AC) + bytes(4)),
    ("DB2.DBB40:DTL", TICKS, dtl_bytes(MOMENT)),
    ("DB2.DBB52:DT", TICKS, dt_bytes(MOMENT)),
    ("DB2.DBW60:INT[2]", [1, -1], b"\0\1\xff\xff"),
    ("MW4:UINT", 513, b"\2\1"),
]


async def test_what_is_written_stands_in_the_plc_and_is_read_back(plc: Snap7) -> None:
    tags = {f"t{n}": address for n, (address, _, _) in enumerate(WRITES)}
    bench = Bench(config("s7", plc.url, tags, extra={name: {"access": "rw"} for name in tags}))
    async with bench.running() as device:
        await bench.until_state("ONLINE")
        for name, (address, value, content) in zip(tags, WRITES, strict=True):
            assert (await device.write(name, value)).status == GOOD, address
            place = parse(address)
            area = "M" if place.area == "M" else f"DB{place.db}"
            assert await plc.get(area, place.start, len(content)) == content


async def test_a_bit_is_written_without_its_neighbours(plc: Snap7) -> None:
    await plc.put("DB2", 100, b"\xa5")
    bench = Bench(config("s7", plc.url, {"bit": "DB2.DBX100.1:BOOL"}, extra={"bit": {"access": "rw"}}))
    async with bench.running() as device:
        await bench.until_state("ONLINE")
        assert (await device.write("bit", True)).status == GOOD
    assert await plc.get("DB2", 100, 1) == b"\xa7"


@pytest.mark.parametrize(("area", "block", "at"), [("DB2.DBB40", "DB2", 44), ("MB40", "M", 44)])
async def test_words_of_an_area_lie_where_it_begins_and_nowhere_else(
    plc: Snap7, area: str, block: str, at: int
) -> None:
    await plc.put(block, at - 2, b"\x55" * 8)
    async with wired(plc.url) as wire:
        await wire.write_bytes(area, 2, b"\x01\x02\x80\x00")
    assert await plc.get(block, at - 2, 8) == b"\x55\x55\x01\x02\x80\x00\x55\x55"


async def test_a_frozen_plc_is_noticed_and_comes_back(plc: Snap7) -> None:
    await plc.put("DB1", 0, struct.pack(">h", 5))
    bench = Bench(config("s7", plc.url, {"x": "DB1.DBW0:INT"}, timeout_ms=200))
    async with bench.running():
        await bench.until_state("ONLINE")
        plc.process.send_signal(signal.SIGSTOP)
        try:
            await bench.until(lambda: bench.statuses("fast")["x"] != GOOD)
        finally:
            plc.process.send_signal(signal.SIGCONT)
        await bench.until_state("ONLINE", timeout_s=8.0)
        await bench.until(lambda: bench.statuses("fast")["x"] == GOOD)
        assert bench.values("fast")["x"] == 5


async def test_a_restarted_plc_is_connected_to_again() -> None:
    async with serving() as first:
        bench = Bench(config("s7", first.url, {"x": "DB1.DBW0:INT"}, timeout_ms=300))
        async with bench.running():
            await bench.until_state("ONLINE")
            first.process.kill()
            await first.process.wait()
            await bench.until(lambda: bench.device.status.state.name != "ONLINE")
            async with serving(first.port) as second:
                await second.put("DB1", 0, struct.pack(">h", 9))
                await bench.until_state("ONLINE", timeout_s=8.0)
                await bench.until(lambda: bench.values("fast")["x"] == 9)
                assert not is_bad(bench.statuses("fast")["x"])


async def test_a_cpu_in_stop_says_so(plc: Snap7) -> None:
    clock = ManualClock()
    wire = S7Wire("plc", parse_url(plc.url), S7Options(), 1.0, clock)
    await wire.open()
    states = []
    for mode in ("STOP", "RUN"):
        await plc.order(f"mode {mode}")
        states.append((wire.state, wire.traffic.notice[:4]))
        clock.step(10.0)
        await wire.read([Request((Fragment(("DB", 1), 0, 2),))])
    states.append((wire.state, wire.traffic.notice[:4]))
    await wire.close()
    assert states == [(State.RUN, ""), (State.STOP, "D333"), (State.RUN, "")]


async def test_probe_tells_who_it_is_and_what_it_holds(plc: Snap7) -> None:
    await plc.put("DB1", 4, struct.pack(">f", 23.5))
    target = Target(f"s7://127.0.0.1:{plc.port}", ("DB1.DBD4",), 1.0)
    findings = [finding async for finding in probe(target)]
    assert [finding.step for finding in findings] == ["connect", "protocol", "identity", "browse", "read"]
    assert not any(finding.code for finding in findings)
    who = findings[2].facts
    assert (who["vendor"], who["model"], who["order"]) == (
        "Siemens",
        "CPU 315-2 PN/DP",
        "6ES7 315-2EH14-0AB0",
    )
    assert (who["firmware"], who["state"]) == ("V3.2.6", "RUN")
    assert findings[4].candidates[0].values["REAL"] == 23.5


async def test_wireshark_finds_no_fault_in_our_frames(plc: Snap7, tmp_path: Path) -> None:
    async with recorded(plc.port) as talk:
        async with wired(f"s7://127.0.0.1:{talk.port}") as wire:
            await wire.read(
                [Request((Fragment(("DB", 1), 100 * n, 7), Fragment(("M", 0), n, 1))) for n in range(8)]
            )
            await wire.read([Request((Fragment(("DB", 77), 0, 2), Fragment(("DB", 1), 0, 2)))])
            await wire.write_bytes("DB1", 3, b"\1\2\3\4")
        target = Target(f"s7://127.0.0.1:{talk.port}", ("DB1.DBD4:REAL",), 1.0)
        assert [finding async for finding in probe(target)][-1].step == "read"
    path = tmp_path / "s7.pcap"
    talk.write(path, 102)
    assert await faults(path) == []
    asked = await dissected(
        path, "s7comm and tcp.dstport == 102", "s7comm.param.func", "s7comm.param.itemcount"
    )
    functions = [each.split(",")[0] for each, _ in asked]
    assert {"0xf0", "0x04", "0x05"} <= set(functions)
    # All that follows the two greetings is S7 to Wireshark, and it would see a fault.
    others = await dissected(
        path, "tcp.len > 0 and not s7comm and not cotp.type in {0x0d, 0x0e}", "frame.number"
    )
    assert others == []
    first = next(at for at, (by_client, data) in enumerate(talk.said) if by_client and data[17] == 4)
    talk.said[first] = (True, talk.said[first][1][:18] + b"\x63" + talk.said[first][1][19:])  # 99 items
    talk.write(path, 102)
    assert await faults(path) != []
