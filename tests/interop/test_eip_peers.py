"""The EtherNet/IP driver against cpppo, a controller by others, and against Wireshark's dissectors."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pylogix import PLC

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, GOOD, is_bad
from edge_opcua.drivers.ethernetip.probe import probe
from edge_opcua.drivers.ethernetip.settings import EipOptions, parse_url
from edge_opcua.drivers.ethernetip.wire import EipWire
from edge_opcua.drivers.probing import Target
from edge_opcua.drivers.wire import Fault
from tests.drivers.logixpeer import LogixPeer, Template
from tests.drivers.peers import Bench, config
from tests.drivers.test_ethernetip_wire import read, write
from tests.interop.dissect import Talk, dissected, faults, recorded

PYTHON = Path(__file__).parents[1] / "peers" / ".installed" / "cpppo" / "bin" / "python"
TYPES = ("BOOL", "SINT", "INT", "DINT", "LINT", "USINT", "UINT", "UDINT", "ULINT", "REAL", "LREAL")
BATCH = 500

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


class Cpppo:
    """One process of cpppo's server."""

    def __init__(self, *tags: str) -> None:
        if not PYTHON.exists():
            pytest.skip("no cpppo: run tests/peers/install")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._tags = tags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-m", "cpppo.server.enip", "--no-config", "-a", f"127.0.0.1:{self.port}", *self._tags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_s = time.monotonic() + 20
        while time.monotonic() < until_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.05)
        raise AssertionError("cpppo did not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(5)

    def client(self, *operations: str) -> str:
        """Return what cpppo's own client prints."""
        command = [
            str(PYTHON),
            "-m",
            "cpppo.server.enip.client",
            "-p",
            "-a",
            f"127.0.0.1:{self.port}",
            *operations,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.fixture(scope="module")
def cpppo() -> Iterator[Cpppo]:
    arrays = (f"A{kind}={kind}[1000]" for kind in TYPES)
    singles = (f"S{kind}={kind}" for kind in TYPES)
    texts = ("Text=STRING[3]", "Short=SSTRING", "Pump.Speed=REAL", "Attr@4/154/3=USINT[32]")
    server = Cpppo(*arrays, *singles, *texts, *(f"T{i}=DINT" for i in range(BATCH)))
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def wired(port: int, **options: Any) -> AsyncIterator[EipWire]:
    wire = EipWire(parse_url(f"eip://127.0.0.1:{port}/0"), EipOptions(**options), 2.0, 5.0, SystemClock())
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "SINT": [-128, 127, -1],
    "INT": [-(2**15), 2**15 - 1, -1],
    "DINT": [-(2**31), 2**31 - 1, -1],
    "LINT": [-(2**63), 2**63 - 1, -(2**53) - 1],
    "USINT": [0, 255, 7],
    "UINT": [0, 2**16 - 1, 7],
    "UDINT": [0, 2**32 - 1, 7],
    "ULINT": [0, 2**64 - 1, 2**53 + 1],
    "REAL": [-0.5, 1.5, 2.0**120],
    "LREAL": [-0.1, 1e300, 5e-324],
}


@pytest.mark.parametrize("size", [0, 500, 4000])
async def test_all_its_types_come_out_as_they_went_in(cpppo: Cpppo, size: int) -> None:
    async with wired(cpppo.port, connection_bytes=size) as wire:
        for kind, values in VALUES.items():
            await write(wire, f"A{kind}[500]:{kind}[3]", values)
            await write(wire, f"S{kind}:{kind}", values[1])
        await write(wire, "Text[1]:STRING[20]", "odd")
        await write(wire, "Short:STRING[20]", "even")
        await write(wire, "Pump.Speed:REAL", 2.5)
        wanted: list[tuple[str, Any]] = [
            (f"A{kind}[500]:{kind}[3]", values) for kind, values in VALUES.items()
        ]
        wanted += [(f"S{kind}:{kind}", values[1]) for kind, values in VALUES.items()]
        wanted += [("Text[1]:STRING[20]", "odd"), ("Short:STRING[20]", "even"), ("Pump.Speed:REAL", 2.5)]
        assert await read(wire, *(text for text, _ in wanted)) == [value for _, value in wanted]


async def test_arrays_of_a_thousand(cpppo: Cpppo) -> None:
    async with wired(cpppo.port) as wire:
        for first in range(0, 1000, 100):
            await write(wire, f"ALINT[{first}]:LINT[100]", [-(2**40) - i for i in range(first, first + 100)])
        found = await read(wire, "ALINT:LINT[1000]", "ABOOL:BOOL[1000]", "AUSINT:USINT[1000]")
        assert found[0] == [-(2**40) - i for i in range(1000)]
        assert [len(values) for values in found] == [1000, 1000, 1000]


async def test_five_hundred_tags_are_two_requests_and_a_bad_one_among_them_costs_only_itself(
    cpppo: Cpppo,
) -> None:
    async with wired(cpppo.port) as wire:
        await write(wire, "T499:DINT", -499)
        before = wire.traffic.requests
        values = await read(wire, *(f"T{i}:DINT" for i in range(BATCH)))
        assert wire.traffic.requests == before + 2
        assert values[499] == -499
        mixed = await read(wire, "T499:DINT", "Nope:DINT", "ADINT[1000]:DINT", "SLINT:DINT", "T0:DINT")
        assert [isinstance(value, Fault) for value in mixed] == [False, True, True, True, False]
        assert [fault.reason[:4] for fault in mixed if isinstance(fault, Fault)] == ["D363", "D365", "D364"]


async def test_attributes_of_any_object(cpppo: Cpppo) -> None:
    async with wired(cpppo.port) as wire:
        await write(wire, "@4/154/3:BYTES[32]", list(range(32)))
        vendor, name, whole, part = await read(
            wire, "@1/1/1:UINT", "@1/1/7:STRING", "@4/154/3:BYTES[32]", "@4/154/3+30:UINT"
        )
        assert (vendor, name) == (1, "1756-L61/B LOGIX5561")
        assert (whole, part) == (list(range(32)), 0x1F1E)


async def test_it_and_its_own_client_see_the_same(cpppo: Cpppo) -> None:
    async with wired(cpppo.port) as wire:
        await write(wire, "SLINT:LINT", -(2**62) - 1)
        await write(wire, "Text[2]:STRING[20]", "ours")
        said = await asyncio.get_running_loop().run_in_executor(
            None, cpppo.client, "SLINT", "Text[2]", "SDINT=(DINT)-77", "SREAL=(REAL)0.25"
        )
        assert f"== [{-(2**62) - 1}]: 'OK'" in said
        assert "== ['ours']: 'OK'" in said
        assert await read(wire, "SDINT:DINT", "SREAL:REAL") == [-77, 0.25]


async def test_word_n_of_an_area_is_element_n_to_its_own_client(cpppo: Cpppo) -> None:
    """CIP is little-endian and S7 is not; what an output writes is words, whoever turns their bytes."""
    async with wired(cpppo.port) as wire:
        await wire.write_bytes("AINT[700]", 2, struct.pack(">3H", 0x0102, 0x8000, 0xFFFF))
        said = await asyncio.get_running_loop().run_in_executor(None, cpppo.client, "AINT[701-705]")
        assert "== [0, 258, -32768, -1, 0]: 'OK'" in said
        assert await read(wire, "AINT[702]:WORD[3]") == [[0x0102, 0x8000, 0xFFFF]]


async def test_probing_it_says_who_it_is_and_ends_well_without_a_list_of_tags(cpppo: Cpppo) -> None:
    target = Target(
        f"eip://127.0.0.1:{cpppo.port}/0", reads=("SDINT", "AREAL[3]:REAL", "Nope"), timeout_s=5.0
    )
    found = [finding async for finding in probe(target)]
    assert [finding.step for finding in found] == [
        *("connect", "protocol", "identity", "units", "browse", "read", "read", "read")
    ]
    assert found[2].facts["vendor"] == "Rockwell Automation"
    assert "no list of tags" in found[4].text
    assert [finding.code for finding in found] == ["", "", "", "", "", "", "", "D363"]


async def test_a_device_lives_through_freezing_and_restarting(cpppo: Cpppo) -> None:
    server = Cpppo("Speed=REAL", "Count=DINT[100]")
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, server.start)
    try:
        tags = {"speed": "Speed:REAL", "count": "Count[7]:DINT", "absent": "Nope:DINT"}
        extra = {"speed": {"access": "rw"}, "count": {"access": "rw"}}
        url = f"eip://127.0.0.1:{server.port}/0"
        bench = Bench(config("ethernet-ip", url, tags, extra=extra, timeout_ms=500))

        def healthy() -> bool:
            statuses = bench.statuses("fast")
            bad = statuses["absent"] == BAD_CONFIGURATION_ERROR
            return bad and statuses["speed"] == statuses["count"] == GOOD

        async with bench.running() as device:
            await bench.until(lambda: healthy() and device.link_up, timeout_s=10)
            assert (await device.write("speed", 12.5)).status == GOOD
            assert (await device.write("count", -3)).status == GOOD
            await bench.until(lambda: bench.values("fast")["count"] == -3)
            server.signal(signal.SIGSTOP)
            await bench.until(lambda: is_bad(bench.statuses("fast")["speed"]), timeout_s=10)
            server.signal(signal.SIGCONT)
            await bench.until(healthy, timeout_s=10)
            assert bench.values("fast")["speed"] == 12.5
            await loop.run_in_executor(None, server.stop)
            await bench.until(lambda: is_bad(bench.statuses("fast")["speed"]), timeout_s=10)
            await loop.run_in_executor(None, server.start)
            await bench.until(lambda: healthy() and bench.values("fast")["speed"] == 0.0, timeout_s=10)
    finally:
        await loop.run_in_executor(None, server.stop)


async def test_wireshark_understands_every_frame(tmp_path: Path) -> None:
    peer = LogixPeer()
    peer.put("D", "DINT", *range(2_000))
    peer.put("Doors", "BOOLS", *[True] * 64)
    peer.put_strings("Name", "hello")
    peer.attributes[(4, 154, 3)] = bytearray(32)
    services: set[str] = set()
    async with peer.serving():
        for size in (0, 500, 4000):
            async with recorded(peer.port) as talk, wired(talk.port, connection_bytes=size) as wire:
                tags = ("D[3]:DINT", "Name:STRING", "@4/154/3:BYTES[32]", "Nope:REAL", "Doors[9]:BOOL")
                await read(wire, *tags)
                peer._limit = 300
                await read(wire, "D:DINT[200]")
                for address, value in (("D[1]:DINT", 1), ("Name:STRING", "x"), ("Doors[3]:BOOL", False)):
                    await write(wire, address, value)
            services |= await dissection(talk, tmp_path / f"{size}.pcap")
        async with recorded(peer.port) as talk:
            async for _ in probe(Target(f"eip://127.0.0.1:{talk.port}/0")):
                pass
        services |= await dissection(talk, tmp_path / "probe.pcap")
    assert {"0x0a", "0x4c", "0x4d", "0x4e", "0x0e", "0x52", "0x54", "0x55", "0x5b"} <= services


async def dissection(talk: Talk, path: Path) -> set[str]:
    """Return the CIP services that Wireshark sees in our frames, none of which it may find fault with."""
    talk.said = [each for each in talk.said if each[0]]
    await asyncio.get_running_loop().run_in_executor(None, talk.write, path, 44818)
    assert await faults(path) == []
    frames = await dissected(path, "tcp.len > 0", "frame.protocols", "cip.sc")
    assert {"enip" in protocols for protocols, _ in frames} == {True}
    return {service for _, seen in frames for service in seen.split(",")}


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning", "ignore:Exception ignored in")
async def test_pylogix_sees_our_controller_as_we_do() -> None:
    """What the other tests hold the driver against is held against a client by others."""
    peer = LogixPeer()
    peer.put("D", "DINT", *range(1_000))
    peer.put("Doors", "BOOLS", *(i % 3 == 0 for i in range(96)))
    peer.put("Status", "DINT", -0x7FFF_FFFF)
    peer.put("Program:Main.Energy", "LINT", -(2**62))
    peer.put("Pump[1].Speed", "REAL", 2.5)
    peer.put_strings("Name", "hello", "world")
    peer.symbols = [
        ("", "D", 0x20C4, (1000, 0, 0)),
        ("", "Pump", 0xA123, (2, 0, 0)),
        ("", "Program:Main", 0x68, (0, 0, 0)),
        ("Program:Main", "Energy", 0xC5, (0, 0, 0)),
    ]
    peer.templates[0x123] = Template("Pump_t", 0xABCD, 4, [("Speed", 0xCA, 0, 0)])

    def ask() -> list[Any]:
        # It forgets this socket, which would be complained of whenever it is collected: in another test.
        with PLC("127.0.0.1", port=peer.port, timeout=10) as plc, plc.conn.msg_socket:
            plc.Write("Status.1", True)
            plc.Write("Name[1]", "moon")
            reads = (("D[5]", 3), ("Doors[30]", 5), ("Status", 1), ("Program:Main.Energy", 1), ("Name[1]", 1))
            values = [plc.Read(*each).Value for each in reads]
            values += [(tag.TagName, tag.DataType) for tag in plc.GetTagList().Value]
            return values

    async with peer.serving():
        assert await asyncio.get_running_loop().run_in_executor(None, ask) == [
            *([5, 6, 7], [True, False, False, True, False], -0x7FFF_FFFD, -(2**62), "moon"),
            *(("D", "DINT"), ("Pump", "Pump_t"), ("Program:Main", ""), ("Program:Main.Energy", "LINT")),
        ]
