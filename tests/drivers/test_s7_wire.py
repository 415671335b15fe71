"""One S7 connection against two servers we did not write together, and a relay that lies."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from snap7.server import Server
from snap7.type import SrvArea

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_USER_ACCESS_DENIED,
    GOOD,
)
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.s7 import address as s7
from edge_opcua.drivers.s7.settings import Endpoint, S7Options, parse_url
from edge_opcua.drivers.s7.sysinfo import State
from edge_opcua.drivers.s7.wire import S7Wire
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import ConfigError, DeviceError, DeviceRefusedError, DeviceTimeoutError
from edge_opcua.sim import s7server
from edge_opcua.sim.proxy import Mode
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.drivers.peers import Bench, config, proxied, read

TIMEOUT_S = 0.3
SCAN_S = 0.005


class Plc:
    """The S7 server of the simulated press, scanning."""

    def __init__(self) -> None:
        self.out = DataBlock(10, 64, writable=False)
        self.out.memory[:] = bytes(range(64))
        self.settings = DataBlock(11, 16, writable=True)
        self.large = DataBlock(12, 2_000, writable=True)
        self.large.memory[:] = bytes(i % 251 for i in range(2_000))
        self.server = S7Server((self.out, self.settings, self.large))
        self.clamp = False

    async def scan(self) -> None:
        while True:
            self.server.begin_scan()
            if self.clamp:
                (speed,) = struct.unpack_from(">f", self.settings.memory, 0)
                struct.pack_into(">f", self.settings.memory, 0, min(speed, 60.0))
            self.server.end_scan()
            await asyncio.sleep(SCAN_S)


@pytest.fixture
async def plc() -> AsyncIterator[tuple[Plc, int]]:
    made = Plc()
    port = await made.server.open("127.0.0.1", 0)
    async with asyncio.TaskGroup() as tasks:
        scanning = tasks.create_task(made.scan())
        yield made, port
        scanning.cancel()
    made.server.close()
    await asyncio.sleep(0)


@asynccontextmanager
async def wired(port: int, **options: Any) -> AsyncIterator[S7Wire]:
    wire = S7Wire("plc", Endpoint("127.0.0.1", port, 0, 1), S7Options(**options), TIMEOUT_S)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


def blocks(*spans: tuple[int, int, int]) -> Request:
    return Request(tuple(Fragment(("DB", db), start, size) for db, start, size in spans))


async def test_several_blocks_come_in_one_round_trip(plc: tuple[Plc, int]) -> None:
    async with wired(plc[1]) as wire:
        before = wire.traffic.requests
        assert await read(wire, blocks((10, 3, 5), (12, 0, 7), (10, 60, 4))) == [
            bytes(range(3, 8)),
            bytes(range(7)),
            bytes(range(60, 64)),
        ]
        assert wire.traffic.requests == before + 1


@pytest.mark.parametrize("pdu", [240, 480])
async def test_the_pdu_size_that_the_plc_grants_is_kept(plc: tuple[Plc, int], pdu: int) -> None:
    async with wired(plc[1], pdu=pdu) as wire:
        most = wire.shape.max_units(("DB", 12))
        assert most == pdu - 18
        (answer,) = await read(wire, blocks((12, 0, most)))
        assert answer == bytes(i % 251 for i in range(most))


async def test_a_plc_that_grants_less_is_obeyed(plc: tuple[Plc, int]) -> None:
    async with wired(plc[1], pdu=960) as wire:
        assert wire.shape.pdu == 480


async def test_one_missing_block_does_not_cost_the_others(plc: tuple[Plc, int]) -> None:
    async with wired(plc[1]) as wire:
        first, missing, beyond, last = await read(
            wire, blocks((10, 0, 2), (99, 0, 2), (10, 60, 9), (12, 1, 1))
        )
    assert (first, last) == (b"\0\1", b"\1")
    assert isinstance(missing, Fault)
    assert isinstance(beyond, Fault)
    assert (missing.kind, beyond.kind) == (FaultKind.DENIED, FaultKind.ADDRESS)
    assert "DB99" in missing.reason


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("DB11.DBD0:REAL", 42.5),
        ("DB11.DBB4:LREAL", -1e100),
        ("DB12.DBB100:STRING[16]", "SIDE PANEL"),
        ("DB12.DBW200:INT[3]", [1, -2, 3]),
        ("DB11.DBX8.1:BOOL", True),
    ],
)
async def test_a_value_is_written_and_read_again(plc: tuple[Plc, int], address: str, value: Any) -> None:
    place = s7.parse(address)
    async with wired(plc[1]) as wire:
        await wire.write(place, place.codec.encode(value))
        (answer,) = await read(wire, blocks((place.db, place.start, place.size)))
        assert isinstance(answer, bytes)
        assert place.codec.decode(answer) == value


async def test_a_bit_is_written_without_touching_its_neighbours(plc: tuple[Plc, int]) -> None:
    plc[0].settings.memory[8] = 0b1010_0101
    place = s7.parse("DB11.DBX8.2:BOOL")
    async with wired(plc[1]) as wire:
        await wire.write(place, place.codec.encode(False))
        assert plc[0].settings.memory[8] == 0b1010_0001


async def test_what_cannot_be_written_is_refused_with_the_plcs_reason(plc: tuple[Plc, int]) -> None:
    async with wired(plc[1]) as wire:
        with pytest.raises(DeviceRefusedError, match="PUT/GET") as caught:
            await wire.write(s7.parse("DB10.DBW0:INT"), b"\0\1")
        assert (caught.value.code, caught.value.status) == ("D331", BAD_USER_ACCESS_DENIED)
        with pytest.raises(DeviceRefusedError) as caught:
            await wire.write_bytes("DB99", 0, b"\0\1")
        assert caught.value.status == BAD_CONFIGURATION_ERROR
        for area, payload in (("M", b"\0"), ("DB11", bytes(470))):
            with pytest.raises(DeviceRefusedError) as caught:
                await wire.write_bytes(area, 0, payload)
            assert caught.value.status == BAD_NOT_SUPPORTED
        bits = s7.parse("DB11.DBX8.0:BOOL[2]")
        with pytest.raises(DeviceRefusedError):
            await wire.write(bits, bits.codec.encode([True, True]))
        await wire.write_bytes("DB11", 1, b"\x55\xaa")  # the connection has lived through all that
    assert plc[0].settings.memory[2:4] == b"\x55\xaa"


async def test_a_slot_without_cpu_is_a_lost_link(plc: tuple[Plc, int]) -> None:
    wire = S7Wire("plc", Endpoint("127.0.0.1", plc[1], 0, 7), S7Options(), TIMEOUT_S)
    with pytest.raises(DeviceError):
        await wire.open()
    with pytest.raises(DeviceError, match="not connected"):
        await read(wire, blocks((10, 0, 1)))


async def test_nobody_there_is_an_error_at_once() -> None:
    wire = S7Wire("plc", Endpoint("127.0.0.1", 1, 0, 1), S7Options(), TIMEOUT_S)
    with pytest.raises(DeviceError):
        await wire.open()


@pytest.mark.parametrize("mode", ["freeze", "freeze:half", "freeze:replies"])
async def test_a_frozen_plc_is_given_up_after_its_deadline(plc: tuple[Plc, int], mode: str) -> None:
    async with proxied(plc[1]) as cable, wired(cable.port) as wire:
        await cable.set(Mode.parse(mode))
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(DeviceTimeoutError):
            await read(wire, blocks((10, 0, 4)))
        assert loop.time() - started_s < 3 * TIMEOUT_S


async def test_a_plc_that_does_not_greet_is_given_up(plc: tuple[Plc, int]) -> None:
    async with proxied(plc[1]) as cable:
        await cable.set(Mode.parse("freeze"))
        wire = S7Wire("plc", Endpoint("127.0.0.1", cable.port, 0, 1), S7Options(), TIMEOUT_S)
        with pytest.raises(DeviceTimeoutError):
            await wire.open()


@asynccontextmanager
async def relayed(port: int, distort: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Forward to a port; change each frame that comes back after the two of the greeting."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def forth() -> None:
            while chunk := await reader.read(4096):
                back.write(chunk)
            back.transport.abort()

        forward = asyncio.get_running_loop().create_task(forth())
        tasks.add(forward)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            for count in range(1_000):
                head = await there.readexactly(4)
                frame = head + await there.readexactly(int.from_bytes(head[2:], "big") - 4)
                writer.write(frame if count < 2 else distort(frame))
                await writer.drain()
        for end in (writer, back):
            end.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)


def swapped(at: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda chunk: chunk[:at] + new + chunk[at + len(new) :]


LIES: dict[str, Callable[[bytes], bytes]] = {
    "another request": swapped(11, b"\x77\x77"),
    "the request before": swapped(11, b"\0\1"),
    "a write": swapped(19, b"\x05"),
    "two items": swapped(20, b"\x02"),
    "not S7": swapped(7, b"\x33"),
    "not TPKT": swapped(0, b"\x09"),
    "a shorter item": swapped(23, b"\0\x08"),
    "cut": lambda chunk: chunk[:2] + (len(chunk) - 2).to_bytes(2, "big") + chunk[4:-2],
    "noise": lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_never_a_value(plc: tuple[Plc, int], lie: str) -> None:
    async with relayed(plc[1], LIES[lie]) as port, wired(port) as wire:
        with pytest.raises(DeviceError):
            await read(wire, blocks((10, 0, 4)))


async def test_a_plc_that_forbids_put_get_is_explained(plc: tuple[Plc, int]) -> None:
    def deny(chunk: bytes) -> bytes:
        pdu = chunk[7:11] + chunk[11:13] + b"\0\0\0\0" + b"\x81\x04"
        return b"\x03\0" + (7 + len(pdu)).to_bytes(2, "big") + b"\x02\xf0\x80" + pdu

    async with relayed(plc[1], deny) as port, wired(port) as wire:
        answers = await read(wire, blocks((10, 0, 4), (11, 0, 4)))
        assert len(answers) == 2
        for answer in answers:
            assert isinstance(answer, Fault)
            assert answer.kind is FaultKind.DENIED
            assert answer.reason.startswith("D331")
            assert "PUT/GET" in answer.reason


async def test_cancellation_leaves_at_once_and_the_next_connection_works(plc: tuple[Plc, int]) -> None:
    async with proxied(plc[1]) as cable, wired(cable.port) as wire:
        await cable.set(Mode.parse("freeze"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read(wire, blocks((10, 0, 4)))
        await cable.set(Mode.parse("pass"))
        await wire.open()
        assert await read(wire, blocks((10, 0, 2))) == [b"\0\1"]


# --- several requests at once --------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "depth"), [(1, 1), (3, 3), (8, 8)])
async def test_as_many_requests_are_on_the_way_as_plc_and_options_allow(
    plc: tuple[Plc, int], wanted: int, depth: int
) -> None:
    async with wired(plc[1], parallel=wanted) as wire:
        assert wire.depth == depth


class Together:
    """Holds answers back until there are some, then sends them the other way round."""

    def __init__(self, count: int, *, twice: bool = False) -> None:
        self.count = count
        self.twice = twice
        self.held: list[bytes] = []

    def __call__(self, frame: bytes) -> bytes:
        if frame[8] == 7:  # what the CPU says of its mode, before anything is read
            return frame
        self.held.append(frame)
        if len(self.held) < self.count:
            return b""
        answers, self.held = self.held[::-1], []
        return b"".join([answers[0], *answers] if self.twice else answers)


async def test_answers_belong_to_the_request_whose_number_they_have(plc: tuple[Plc, int]) -> None:
    requests = [blocks((10, at, 3), (12, at, 1)) for at in range(0, 24, 3)]
    async with relayed(plc[1], Together(8)) as port, wired(port) as wire:
        answers = await wire.read(requests)
    assert [found for found, _ in answers] == [bytes(range(at, at + 3)) for at in range(0, 24, 3)]


async def test_an_answer_that_nobody_waits_for_costs_the_connection(plc: tuple[Plc, int]) -> None:
    async with relayed(plc[1], Together(2, twice=True)) as port, wired(port) as wire:
        with pytest.raises(DeviceError, match="answered request"):
            await wire.read([blocks((10, 0, 1)), blocks((10, 1, 1))])


async def test_one_refused_request_does_not_cost_those_beside_it(plc: tuple[Plc, int]) -> None:
    async with wired(plc[1], pdu=240) as wire:
        good, too_large, last = await wire.read(
            [blocks((10, 0, 2)), blocks((12, 0, 200), (12, 300, 200)), blocks((10, 2, 2))]
        )
        assert (good, last) == ([b"\0\1"], [b"\2\3"])
        # Together they do not fit an answer (0x85/0x00); asked one by one they do.
        assert [len(each) for each in too_large if isinstance(each, bytes)] == [200, 200]


@pytest.mark.parametrize(("refusals", "is_read"), [(2, True), (50, False)])
async def test_a_plc_without_resources_is_asked_again(
    plc: tuple[Plc, int], refusals: int, is_read: bool
) -> None:
    left = refusals

    def busy(frame: bytes) -> bytes:
        nonlocal left
        if frame[8] == 7 or not left:
            return frame
        left -= 1
        pdu = b"\x32\x02" + frame[9:13] + b"\0\0\0\0" + b"\x83\x01"
        return b"\x03\0" + (7 + len(pdu)).to_bytes(2, "big") + b"\x02\xf0\x80" + pdu

    async with relayed(plc[1], busy) as port, wired(port) as wire:
        (answer,) = await read(wire, blocks((10, 0, 2)))
    if is_read:
        assert answer == b"\0\1"
    else:
        assert isinstance(answer, Fault)
        assert (answer.kind, answer.reason[:4]) == (FaultKind.BUSY, "D335")
        assert left == refusals - 4


# --- what a PLC says of itself, or does not --------------------------------------------------------------


async def test_a_plc_that_is_silent_about_its_mode_is_read_all_the_same(plc: tuple[Plc, int]) -> None:
    def swallow(frame: bytes) -> bytes:
        return b"" if frame[8] == 7 else frame

    async with relayed(plc[1], swallow) as port, wired(port) as wire:
        assert await read(wire, blocks((10, 0, 2))) == [b"\0\1"]
        assert wire.state is State.UNKNOWN


async def test_a_refused_connection_says_which_part_was_refused(plc: tuple[Plc, int]) -> None:
    wire = S7Wire("plc", Endpoint("127.0.0.1", plc[1], 0, 7), S7Options(), TIMEOUT_S)
    with pytest.raises(DeviceError, match=r"D320 .*slot"):
        await wire.open()
    nobody = S7Wire("plc", Endpoint("127.0.0.1", 1, 0, 1), S7Options(), TIMEOUT_S)
    with pytest.raises(DeviceError, match="D311"):
        await nobody.open()


async def test_a_tsap_takes_the_place_of_rack_and_slot(plc: tuple[Plc, int]) -> None:
    there = parse_url(f"s7://127.0.0.1:{plc[1]}?tsap=10.00,03.01")
    wire = S7Wire("logo", there, S7Options(), TIMEOUT_S)
    await wire.open()
    assert await read(wire, blocks((10, 0, 2))) == [b"\0\1"]
    await wire.close()
    assert wire.traffic.requests == 2  # a LOGO! is not asked for its mode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def snap7_server() -> Any:
    server = Server(log=False)
    server.register_area(SrvArea.DB, 1, bytearray(range(200)))
    server.register_area(SrvArea.DB, 2, bytearray(range(50)))
    server.register_area(SrvArea.MK, 0, bytearray(range(100, 150)))
    port = free_port()
    server.start(port)
    yield port
    server.stop()


async def test_it_understands_the_server_of_python_snap7(snap7_server: int) -> None:
    async with wired(snap7_server) as wire:
        flags = Fragment(("M", 0), 3, 2)
        answers = await read(
            wire, Request((*blocks((1, 5, 3), (2, 49, 1), (3, 0, 1), (2, 49, 5)).fragments, flags))
        )
        assert answers[:2] == [b"\5\6\7", b"\x31"]
        kinds = [answer.kind for answer in answers if isinstance(answer, Fault)]
        assert kinds == [FaultKind.DENIED, FaultKind.ADDRESS]
        assert answers[4] == bytes((103, 104))
        await wire.write_bytes("DB1", 50, b"\xaa\xbb")
        assert await read(wire, blocks((1, 99, 4))) == [b"\x63\xaa\xbb\x66"]


TAGS = {
    "first": "DB10.DBW0:INT",
    "bit": "DB10.DBX10.1:BOOL",
    "beyond": "DB10.DBD70:REAL",
    "absent": "DB77.DBW0:INT",
    "speed": "DB11.DBD0:REAL",
    "ack": "DB11.DBX8.0:BOOL",
}
EXTRA = {"speed": {"access": "rw", "low": 0, "high": 100}, "ack": {"access": "rw"}}


async def test_a_whole_device_over_s7(plc: tuple[Plc, int]) -> None:
    cfg = config("s7", f"s7://127.0.0.1:{plc[1]}?rack=0&slot=1", TAGS, extra=EXTRA)
    bench = Bench(cfg)
    assert bench.requests_per_period == {"fast": 1}
    async with bench.running() as device:
        await bench.until(lambda: bench.statuses("fast")["first"] == GOOD and device.link_up)
        bad = {name for name, status in bench.statuses("fast").items() if status != GOOD}
        assert bad == {"beyond", "absent"}
        assert {bench.statuses("fast")[name] for name in bad} == {BAD_CONFIGURATION_ERROR}
        assert bench.values("fast")["first"] == 1
        plc[0].clamp = True
        outcome = await device.write("speed", 80.0)
        assert outcome.reason == "the device holds 60.0"
        plc[0].clamp = False
        assert (await device.write("speed", 80.0)).status == GOOD
        assert (await device.write_bytes("DB12", 0, b"\1\2")).status == GOOD
        assert (await device.write_bytes("DB10", 0, b"\1\2")).status == BAD_USER_ACCESS_DENIED
    assert (await device.write("ack", True)).status not in (GOOD, BAD_INVALID_STATE)


async def test_a_plc_that_grants_less_after_a_hiccup_is_obeyed(
    plc: tuple[Plc, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(config("s7", f"s7://127.0.0.1:{plc[1]}", {"large": "DB12.DBB0:BYTE[400]"}))
    async with bench.running() as device:
        await bench.until(lambda: device.link_up)
        monkeypatch.setattr(s7server, "PDU_BYTES", 240)
        for connection in tuple(plc[0].server._connections):
            connection.drop()
        await bench.until(lambda: bench.values("link")["reconnects"] == 1)
        reader = bench.bus.reader("dev.fast")
        await bench.until(lambda: reader.newest > reader.cursor + 2)
        assert bench.statuses("fast") == {"large": GOOD}
        assert bench.values("fast")["large"].tolist() == [i % 251 for i in range(400)]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s7://10.0.0.1", Endpoint("10.0.0.1", 102, 0, 1)),
        ("s7://plc.local:1102?rack=1&slot=3", Endpoint("plc.local", 1102, 1, 3)),
        ("s7://10.0.0.1?slot=0", Endpoint("10.0.0.1", 102, 0, 0)),
    ],
)
def test_a_url_names_host_rack_and_slot(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint
    assert endpoint.remote_tsap == 0x100 + 32 * endpoint.rack + endpoint.slot


@pytest.mark.parametrize(
    ("url", "tsaps"),
    [
        ("s7://10.0.0.1", (0x0100, 0x0101)),
        ("s7://10.0.0.1?device=logo", (0x0100, 0x0200)),
        ("s7://10.0.0.1?device=LOGO", (0x0100, 0x0200)),
        ("s7://10.0.0.1?device=s7-200", (0x1000, 0x1001)),
        ("s7://10.0.0.1?device=s7-200-smart", (0x0100, 0x0101)),
        ("s7://10.0.0.1?tsap=0x1000,0x2000", (0x1000, 0x2000)),
        ("s7://10.0.0.1?tsap=10.00,20.00", (0x1000, 0x2000)),
        ("s7://10.0.0.1?rack=1&slot=2", (0x0100, 0x0122)),
    ],
)
def test_a_url_names_the_transport_selectors(url: str, tsaps: tuple[int, int]) -> None:
    endpoint = parse_url(url)
    assert (endpoint.local_tsap, endpoint.remote_tsap) == tsaps


@pytest.mark.parametrize(
    "url",
    [
        *("10.0.0.1", "modbus://h", "s7://", "s7://h?rack=9", "s7://h?slot=99", "s7://h?cpu=1"),
        *("s7://h?slot=x", "s7://h?device=logo2", "s7://h?tsap=0x0100", "s7://h?tsap=1,2"),
        *("s7://h?device=logo&slot=1", "s7://h?device=logo&tsap=0100,0200"),
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="s7://"):
        parse_url(url)
