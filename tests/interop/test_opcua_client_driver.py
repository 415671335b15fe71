"""The OPC UA client driver against node-opcua's server: values, security, refusals, broken links."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_NOT_WRITABLE,
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    is_bad,
)
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.opcuaclient import OpcUaDriver, trusting
from edge_opcua.drivers.opcuaclient.address import OpcUaAddress, parse
from edge_opcua.drivers.opcuaclient.trusting import device_trust
from edge_opcua.drivers.opcuaclient.wire import OpcUaWire
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.wire import Fault, Stamped
from edge_opcua.errors import DeviceError, DeviceRefusedError
from edge_opcua.security.pki import Pki, open_pki
from edge_opcua.security.trust import TrustList
from tests.drivers.peers import Bench, config
from tests.interop.opcua_server import PASSWORD, OpcUaServer, opcua_server, plc_identity

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PLANT = "nsu=urn:tests:plant;s="
# Address, and what it holds: the greatest and the least where that is where things go wrong.
VALUES: dict[str, Any] = {
    "Boolean:BOOL": True,
    "SByte:SINT": -128,
    "Byte:BYTE": 255,
    "Int16:INT": -32768,
    "UInt16:UINT": 65535,
    "Int32:DINT": -(2**31),
    "UInt32:UDINT": 2**32 - 1,
    "Int64:LINT": -(2**63),
    "UInt64:ULINT": 2**64 - 1,
    "Float:REAL": float(np.float32(0.1)),
    "Double:LREAL": 0.1,
    "String:STRING[20]": "Größe 5 µm",
    "Floats:REAL[3]": [1.5, -2.25, 3.0],
    "Booleans:BOOL[4]": [True, False, True, True],
    "Long:INT[500]": list(range(-250, 250)),
    "Long:INT[3]": [-250, -249, -248],
    "Long:INT[3];from=100": [-150, -149, -148],
    "Long:INT;from=499": 249,
    "Longs:ULINT[2]": [0, 2**64 - 1],
    '"DB1"."speed":REAL': 12.5,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("plc")
    plc = plc_identity()
    (found / "plc.pem").write_bytes(plc.pem)
    (found / "plc.key").write_bytes(plc.key_pem)
    password = found / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    wrong = found / "wrong"
    wrong.write_text("battery staple")
    wrong.chmod(0o600)
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    """Our state directory: with a certificate of our own, and the server's among those that are trusted."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(state))
        pki = open_pki(state / "pki", key_bits=2048)
        trust(pki)
        yield pki


def trust(pki: Pki) -> None:
    root = device_trust(pki.root)
    for place in (root, root / "trusted", root / "rejected", root / "issuers"):
        place.mkdir(mode=0o700, exist_ok=True)
    TrustList(root).add(plc_identity().der)


@pytest.fixture(scope="module")
async def plc(node: str, home: Path, pki: Path) -> AsyncIterator[OpcUaServer]:
    async with opcua_server(node, home, pki, many=20, maxNodesPerRead=15) as server:
        yield server


def wire_to(port: int, state: Path | None = None, **options: Any) -> OpcUaWire:
    cfg = config("opcua", f"opc.tcp://127.0.0.1:{port}", {}, options=options, timeout_ms=3000)
    found = OpcUaDriver.wire(cfg, SystemClock(), Lines(state))
    assert isinstance(found, OpcUaWire)
    return found


@asynccontextmanager
async def connected(port: int, **options: Any) -> AsyncIterator[OpcUaWire]:
    wire = wire_to(port, **options)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


async def refused(wire: OpcUaWire) -> str:
    with pytest.raises(DeviceError) as caught:
        await wire.open()
    return str(caught.value)


async def read(wire: OpcUaWire, *texts: str) -> dict[str, Any]:
    """Read some addresses; a value is as its codec has it, a refusal its sentence."""
    places: list[OpcUaAddress] = [parse(text) for text in texts]
    plan = plan_reads(places, wire.shape)
    found: dict[str, Any] = {}
    for request, answers in zip(plan.requests, await wire.read(plan.requests), strict=True):
        for fragment, answer in zip(request.fragments, answers, strict=True):
            for row in fragment.rows:
                if isinstance(answer, Fault):
                    found[texts[row]] = answer.reason
                else:
                    assert isinstance(answer, Stamped)
                    assert answer.status == GOOD
                    found[texts[row]] = places[row].codec.decode(answer.wire)
    return found


async def test_all_types_arrive_exactly_over_an_encrypted_connection(plc: OpcUaServer, own: Pki) -> None:
    wanted = {PLANT + text: value for text, value in VALUES.items()}
    async with connected(plc.port) as wire:
        assert str(wire.offer) == "Basic256Sha256 SignAndEncrypt"
        assert wire.shape.max_nodes == 15  # what the server allows
        for _ in range(2):  # the second time without what was too long the first time
            assert await read(wire, *wanted) == wanted
        time = (await read(wire, PLANT + "DateTime:LDT"))[PLANT + "DateTime:LDT"]
    assert to_text(time) == "2026-03-01T12:00:00.250000Z"


@pytest.mark.parametrize(
    "options", [{"security_mode": "Sign"}, {"security": "None"}, {"register_nodes": False}], ids=str
)
async def test_values_are_the_same_however_they_are_asked_for(
    plc: OpcUaServer, own: Pki, options: dict[str, Any]
) -> None:
    wanted = {PLANT + text: value for text, value in VALUES.items()}
    async with connected(plc.port, **options) as wire:
        assert await read(wire, *wanted) == wanted


async def test_a_node_that_is_not_there_or_of_another_type_costs_itself(plc: OpcUaServer, own: Pki) -> None:
    texts = {
        "Int16:INT": -32768,
        "nobody:INT": "D375 .* no such node .BadNodeIdUnknown",
        "Int32:REAL": r"D374 .* the node is Int32 \(DINT\), the address says REAL",
        "Floats:REAL": r"D374 .* the node is Float\[3\] \(REAL\[3\]\), the address says REAL",
        "Floats:REAL[5]": "D374 .* says REAL.5.",
        "WriteOnly:DINT": "D376 .* cannot be read .BadNotReadable",
        "Long:INT;from=500": "D374 .* no such elements",
    }
    async with connected(plc.port) as wire:
        found = await read(wire, *(PLANT + text for text in texts), "ns=9;s=a:INT", "nsu=urn:nobody;s=a:INT")
    for text, wanted in texts.items():
        if isinstance(wanted, str):
            assert re.search(wanted, str(found[PLANT + text])), found[PLANT + text]
        else:
            assert found[PLANT + text] == wanted
    assert "D375" in found["ns=9;s=a:INT"]
    assert "has no namespace urn:nobody" in found["nsu=urn:nobody;s=a:INT"]


async def test_status_and_time_of_the_source_reach_clients(plc: OpcUaServer, own: Pki) -> None:
    taken = dt.datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    await plc.set("Double", 7.25, status="UncertainLastUsableValue", time=taken.isoformat())
    await plc.set("Float", 1.5, status="BadSensorFailure", time=taken.isoformat())
    tags = {
        "x": PLANT + "Double:LREAL",
        "y": PLANT + "Float:REAL",
        "z": PLANT + "Int32:DINT",
        "n": PLANT + "nope:INT",
    }
    bench = Bench(config("opcua", f"opc.tcp://127.0.0.1:{plc.port}", tags, timeout_ms=3000))
    try:
        with structlog.testing.capture_logs() as logs:
            async with bench.running_once():
                await bench.until(lambda: bench.statuses("fast")["z"] == GOOD)
                await bench.until(lambda: bench.statuses("fast")["n"] == BAD_CONFIGURATION_ERROR)
                statuses, batch = bench.statuses("fast"), bench.reader("fast").latest()
        assert statuses == {
            "x": UNCERTAIN_LAST_USABLE,
            "y": BAD_SENSOR_FAILURE,
            "z": GOOD,
            "n": BAD_CONFIGURATION_ERROR,
        }
        assert batch is not None
        assert batch.value(0) == 7.25
        assert batch.source_ns[0] == int(taken.timestamp()) * 10**9 + 250_000_000
        said = [line for line in logs if line["event"] == "driver.tags_refused"]
        assert [line["tags"] for line in said] == [["n"]]
    finally:
        bench.bus.close()
        await plc.set("Double", 0.1)
        await plc.set("Float", 0.1)


WRITES = [
    ("Boolean:BOOL", False, False),
    ("SByte:SINT", 127, 127),
    ("UInt16:UINT", 0, 0),
    ("Int64:LINT", 2**63 - 1, str(2**63 - 1)),
    ("UInt64:ULINT", 2**64 - 2, str(2**64 - 2)),
    ("Double:LREAL", -2.5e300, -2.5e300),
    ("String:STRING[20]", "Ärger™", "Ärger™"),
    ("Floats:REAL[3]", [0.5, 0.25, 0.125], [0.5, 0.25, 0.125]),
    ("DateTime:LDT", 133_000_000_000_000_000, "2022-06-18T04:26:40.000Z"),
]


async def test_what_is_written_is_what_the_server_holds_and_is_read_back(plc: OpcUaServer, own: Pki) -> None:
    async with connected(plc.port) as wire:
        for text, value, shown in WRITES:
            place = parse(PLANT + text)
            before = (await read(wire, PLANT + text))[PLANT + text]
            await wire.write(place, place.codec.encode(value))
            assert await plc.get(text.partition(":")[0]) == shown, text
            assert (await read(wire, PLANT + text))[PLANT + text] == value
            await wire.write(place, place.codec.encode(before))
        part = parse(PLANT + "Long:INT[2];from=10")
        await wire.write(part, part.codec.encode([7, 8]))
        assert (await plc.get("Long"))[9:13] == [-241, 7, 8, -238]
        await wire.write(part, part.codec.encode([-240, -239]))


async def test_a_write_the_server_refuses_says_why_and_is_not_done(plc: OpcUaServer, own: Pki) -> None:
    async with connected(plc.port) as wire:
        for text, status, reason in (
            ("ReadOnly:DINT", BAD_NOT_WRITABLE, "D376"),
            ("Int32:REAL", 0x80740000, "D374"),  # BadTypeMismatch
            ("nobody:INT", 0x80340000, "D375"),
        ):
            place = parse(PLANT + text)
            with pytest.raises(DeviceRefusedError, match=reason) as caught:
                await wire.write(place, bytes(place.codec.size_bytes))
            assert caught.value.status == status
        with pytest.raises(DeviceRefusedError, match="raw bytes"):
            await wire.write_bytes("DB1", 0, b"\0")


async def test_a_set_point_is_written_once_and_read_back_by_the_poller(plc: OpcUaServer, own: Pki) -> None:
    tags = {"speed": PLANT + '"DB1"."speed":REAL', "fixed": PLANT + "ReadOnly:DINT"}
    extra = {name: {"access": "rw"} for name in tags}
    bench = Bench(config("opcua", f"opc.tcp://127.0.0.1:{plc.port}", tags, timeout_ms=3000, extra=extra))
    async with bench.running() as device:
        await bench.until_state("ONLINE")
        assert (await device.write("speed", 40.5)).status == GOOD
        await bench.until(lambda: bench.values("fast")["speed"] == 40.5)
        refused_so = await device.write("fixed", 1)
        assert refused_so.status == BAD_NOT_WRITABLE
        assert (await device.write("speed", 12.5)).status == GOOD


async def test_a_user_gets_in_with_the_right_password_only(plc: OpcUaServer, own: Pki, home: Path) -> None:
    secret = {"file": str(home / "password")}
    async with connected(plc.port, user="line", password=secret) as wire:
        assert (await read(wire, PLANT + "Int16:INT"))[PLANT + "Int16:INT"] == -32768
    wrong = home / "wrong"
    said = await refused(wire_to(plc.port, user="line", password={"file": str(wrong)}))
    assert said.startswith("D373")
    assert "battery" not in said
    wrong.chmod(0o644)
    assert "readable by others" in await refused(
        wire_to(plc.port, user="line", password={"file": str(wrong)})
    )


async def opens(wire: OpcUaWire) -> bool:
    try:
        await wire.open()
    except DeviceError:
        return False
    await wire.close()
    return True


async def test_a_server_is_refused_until_its_certificate_is_trusted(
    plc: OpcUaServer, own: Pki, home: Path, tmp_path: Path
) -> None:
    await asyncio.to_thread(open_pki, tmp_path / "pki", key_bits=2048)
    wire = wire_to(plc.port, tmp_path)
    said = await refused(wire)
    thumbprint = plc_identity().print
    assert said.startswith("D371")
    assert thumbprint in said
    assert f"edge-opcua trust --devices --state {tmp_path} 1" in said
    assert "D371" in await refused(wire)  # and again: nothing is trusted by trying twice
    await asyncio.to_thread(TrustList(device_trust(tmp_path / "pki")).trust, "1")
    assert await opens(wire)

    async with connected(plc.port, server_certificate=str(home / "plc.pem")):
        pass
    await asyncio.to_thread((tmp_path / "other.der").write_bytes, plc_identity("another").der)
    said = await refused(wire_to(plc.port, server_certificate=str(tmp_path / "other.der")))
    assert said.startswith("D371")
    assert thumbprint in said


async def test_nothing_weaker_than_what_was_asked_for_is_ever_taken(plc: OpcUaServer, own: Pki) -> None:
    said = await refused(wire_to(plc.port, security="Aes256_Sha256_RsaPss"))
    assert said.startswith("D370")
    assert "Basic256Sha256 SignAndEncrypt" in said
    assert 'security = "None"' in said


async def test_without_a_certificate_of_our_own_there_is_no_secured_connection(
    plc: OpcUaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusting, "OWN_WAIT_S", 0.2)
    said = await refused(wire_to(plc.port, tmp_path))
    assert said.startswith("D379")
    assert "edge-opcua probe" in said


async def test_where_nobody_listens_the_hint_is_to_activate_the_server(own: Pki, unused_port: int) -> None:
    said = await refused(wire_to(unused_port))
    assert said.startswith("D311")
    assert "activate the OPC UA server" in said


async def test_keys_are_renewed_while_values_flow(plc: OpcUaServer, own: Pki) -> None:
    text = PLANT + "Int16:INT"
    async with connected(plc.port) as wire:
        for _ in range(3):
            wire.session._renew_at_ns = 0
            assert await read(wire, text) == {text: -32768}
            assert await read(wire, text) == {text: -32768}


def subscribing(port: int, tags: dict[str, str], **more: Any) -> Bench:
    url, options = f"opc.tcp://127.0.0.1:{port}", {"mode": "subscribe"}
    groups = [{"name": "fast", "period_ms": 30}]
    return Bench(config("opcua", url, tags, options=options, groups=groups, timeout_ms=3000, **more))


def wire_of(bench: Bench) -> OpcUaWire:
    wire = bench.device._wire
    assert isinstance(wire, OpcUaWire)
    return wire


async def test_what_the_server_sends_by_itself_is_the_same_and_costs_no_reads(
    plc: OpcUaServer, own: Pki
) -> None:
    tags = {f"t{i}": PLANT + text for i, text in enumerate(VALUES)}
    wanted = dict(zip(tags, VALUES.values(), strict=True))
    bench = subscribing(plc.port, tags | {"none": PLANT + "nobody:INT"})
    taken = dt.datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
    async with bench.running():
        watch = await watched(bench, len(tags))
        found = {name: plain(value) for name, value in bench.values("fast").items()}
        assert {name: found[name] for name in wanted} == wanted
        assert bench.statuses("fast")["none"] == BAD_CONFIGURATION_ERROR
        sent = wire_of(bench).traffic.requests
        polls = bench.reader("fast").latest()
        assert polls is not None
        await asyncio.sleep(0.5)
        # Sixteen polls: a few answers to Publish, no Read.
        assert wire_of(bench).traffic.requests - sent < 8
        speed = next(name for name, text in tags.items() if "speed" in text)
        await plc.set('"DB1"."speed"', 99.5, status="UncertainLastUsableValue", time=taken.isoformat())
        try:
            await bench.until(lambda: bench.values("fast")[speed] == 99.5)
            assert bench.statuses("fast")[speed] == UNCERTAIN_LAST_USABLE
            batch = bench.reader("fast").latest()
            assert batch is not None
            row = list(tags).index(speed)
            assert batch.source_ns[row] == int(taken.timestamp()) * 10**9 + 250_000_000
        finally:
            await plc.set('"DB1"."speed"', 12.5)
        assert watch is wire_of(bench)._watch  # over one and the same subscription


async def watched(bench: Bench, count: int) -> Any:
    def all_came() -> bool:
        watch = wire_of(bench)._watch
        return watch is not None and len(watch._readings) == count

    await bench.until(all_came)
    return wire_of(bench)._watch


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


async def test_a_set_point_is_read_back_and_never_falls_back_to_what_was_sent_before(
    plc: OpcUaServer, own: Pki
) -> None:
    tags = {"speed": PLANT + '"DB1"."speed":REAL', "other": PLANT + "Int32:DINT"}
    bench = subscribing(plc.port, tags, extra={"speed": {"access": "rw"}})
    async with bench.running() as device:
        await bench.until_state("ONLINE")
        await watched(bench, 2)
        for value in (40.5, 41.5, 42.5, 12.5):
            assert (await device.write("speed", value)).status == GOOD
            await bench.until(lambda value=value: bench.values("fast")["speed"] == value)  # type: ignore[misc]
            for _ in range(10):
                await asyncio.sleep(0.02)
                assert bench.values("fast")["speed"] == value


def accept(pki: Path) -> None:
    """Do what a person does who trusts a client of node-opcua."""
    for file in (pki / "rejected").iterdir():
        file.rename(pki / "trusted" / "certs" / file.name)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_a_server_that_does_not_know_us_or_is_full_says_what_to_do_there(
    node: str, home: Path, pki: Path, own: Pki, tmp_path: Path
) -> None:
    trusting = tmp_path / "plc-pki"
    trusted = trusting / "trusted" / "certs"
    await asyncio.to_thread(shutil.copytree, pki, trusting)  # its own key takes seconds to make
    await asyncio.to_thread(shutil.rmtree, trusted, ignore_errors=True)
    await asyncio.to_thread(trusted.mkdir, parents=True)
    async with opcua_server(node, home, trusting, accept=False, sessions=2) as server:
        said = await refused(wire_to(server.port))
        assert said.startswith("D372")
        assert own.thumbprint in said
        async with asyncio.timeout(15.0):
            # It looks at its files from time to time, and on a busy computer overlooks one that is new.
            while not await opens(wire_to(server.port)):
                await asyncio.to_thread(accept, trusting)
                await asyncio.sleep(0.1)
        async with connected(server.port), connected(server.port):
            assert (await refused(wire_to(server.port))).startswith("D377")


async def test_a_server_that_freezes_dies_and_comes_back_changed(
    node: str, home: Path, pki: Path, own: Pki
) -> None:
    async with opcua_server(node, home, pki) as server:
        port = server.port
        tags = {"byindex": "ns=2;s=Int32:DINT", "byuri": PLANT + "Int32:DINT"}
        url = f"opc.tcp://127.0.0.1:{port}"
        bench = Bench(config("opcua", url, tags, timeout_ms=500, reconnect_max_s=0.3))
        async with bench.running():
            await bench.until(lambda: set(bench.statuses("fast").values()) == {GOOD})
            server.signal(signal.SIGSTOP)
            await bench.until(lambda: GOOD not in bench.statuses("fast").values())
            server.signal(signal.SIGCONT)
            await bench.until(lambda: set(bench.statuses("fast").values()) == {GOOD})
            await server.kill()
            await bench.until(lambda: all(map(is_bad, bench.statuses("fast").values())))
            # Another project was loaded meanwhile: what was namespace 2 is 3 now.
            order = ["urn:tests:other", "urn:tests:plant"]
            async with opcua_server(node, home, pki, port=port, namespaces=order):
                await bench.until(lambda: set(bench.statuses("fast").values()) == {GOOD}, timeout_s=8.0)
                assert bench.values("fast") == {"byindex": -(2**31), "byuri": -(2**31)}
