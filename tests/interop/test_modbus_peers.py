"""Our Modbus driver against stacks that others wrote: libmodbus over TCP, RTU, RTU over TCP and TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.probe import probe
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.probing import Target
from edge_opcua.drivers.wire import Wire
from edge_opcua.errors import DeviceError
from tests.drivers.peers import Bench, config, read
from tests.interop import modbus_stacks as stacks
from tests.interop.dissect import dissected, faults, recorded, require_tshark
from tests.interop.modbus_stacks import UNIT, Stack

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]
WAYS = ("tcp", "rtu", "rtutcp", "tls")

# What server.c has put there.
VALUES: dict[str, tuple[str, Any]] = {
    "abcd": ("hr:1000:REAL", 23.41),
    "badc": ("hr:1002:REAL;order=BADC", 23.41),
    "cdab": ("hr:1004:REAL;order=CDAB", 23.41),
    "dcba": ("hr:1006:REAL;order=DCBA", 23.41),
    "dint": ("hr:1008:DINT", -123_456_789),
    "lint": ("hr:1010:LINT", -1_234_567_890_123_456_789),
    "ulint": ("hr:1014:ULINT", 18_446_744_073_709_551_557),
    "lreal": ("hr:1018:LREAL", 3.141592653589793),
    "int": ("hr:1022:INT", -2),
    "word": ("hr:1023:WORD", 0x8001),
    "bit": ("hr:1023.15:BOOL", True),
    "low": ("hr:1023:USINT", 1),
    "high": ("hr:1023:USINT;order=H", 0x80),
    "text": ("hr:1030:STRING[16]", "libmodbus peer"),
    "array": ("hr:200:UINT[300]", list(range(200, 500))),
    "input": ("ir:10:UINT", 10 ^ 0x5555),
    "coil": ("co:9", True),
    "coils": ("co:6:BOOL[9]", [True, False, False] * 3),
    "discrete": ("di:10:BOOL[5]", [True, False, False, False, False]),
}
WRITES: dict[str, tuple[str, Any]] = {
    "w_int": ("hr:2000:INT", -7),
    "w_real": ("hr:2002:REAL;order=CDAB", 1.5),
    "w_lint": ("hr:2004:LINT", 2**62 + 1),
    "w_lreal": ("hr:2008:LREAL;order=GHEFCDAB", -0.1),
    "w_text": ("hr:2012:STRING[8]", "Teil 7"),
    "w_array": ("hr:2020:DINT[3]", [1, -2, 2**31 - 1]),
    "w_bit": ("hr:2030.5:BOOL", True),
    "w_coil": ("co:2000", False),
    "w_coils": ("co:2010:BOOL[11]", [True] * 11),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stacks.build(tmp_path_factory.mktemp("libmodbus"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An authority with a device and us, and a second one that nobody trusts, with a stranger."""
    at = tmp_path_factory.mktemp("pki")
    files: dict[str, Path] = {}
    for authority, holders in (("ca", ("device", "ours")), ("other", ("stranger",))):
        key, certificate = issued(authority)
        files[authority] = kept(at / f"{authority}.pem", pem(certificate))
        for holder in holders:
            own, shown = issued(holder, key, certificate)
            files[holder] = kept(at / f"{holder}.pem", pem(shown))
            files[f"{holder}.key"] = kept(at / f"{holder}.key", pem(own))
    return files


def issued(
    name: str, issuer_key: ec.EllipticCurvePrivateKey | None = None, issuer: x509.Certificate | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return key, builder.sign(issuer_key or key, hashes.SHA256())


def pem(thing: Any) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return bytes(thing.private_bytes(serialization.Encoding.PEM, form, plain))


def kept(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@asynccontextmanager
async def peer(way: str, programs: Path, pki: dict[str, Path], at: Path) -> AsyncIterator[Stack]:
    made = {
        "tcp": lambda: stacks.tcp(programs),
        "rtu": lambda: stacks.rtu(programs, at),
        "rtutcp": lambda: stacks.rtutcp(programs, at),
        "tls": lambda: stacks.tls(programs, pki),
    }[way]()
    async with made as stack:
        yield stack


def bench(stack: Stack, tags: dict[str, tuple[str, Any]], *, writable: bool = False, **more: Any) -> Bench:
    extra = {name: {"access": "rw"} for name in tags} if writable else {}
    options = stack.options | more.pop("options", {})
    addresses = {name: address for name, (address, _) in tags.items()}
    return Bench(config("modbus", stack.url, addresses, extra=extra, options=options, **more))


@pytest.mark.parametrize("way", WAYS)
async def test_every_area_type_and_order_is_what_the_device_put_there(
    way: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    async with peer(way, programs, pki, tmp_path) as stack:
        shown = bench(stack, VALUES)
        async with shown.running():
            await shown.until(lambda: set(shown.statuses("fast").values()) == {GOOD})
            values = shown.values("fast")
    for name, (address, expected) in VALUES.items():
        wanted = (
            pytest.approx(expected, rel=1e-7)
            if address.startswith("hr:100") and "REAL" in address
            else expected
        )
        held = values[name]
        assert (list(held) if isinstance(expected, list) else held) == wanted, address


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_written_is_read_back(
    way: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    async with peer(way, programs, pki, tmp_path) as stack:
        shown = bench(stack, WRITES, writable=True)
        async with shown.running() as device:
            await shown.until(lambda: device.link_up)
            for name, (_, value) in WRITES.items():
                outcome = await device.write(name, value)
                assert outcome.status == GOOD, (name, outcome)


@pytest.mark.parametrize("way", WAYS)
async def test_a_bad_address_costs_one_tag_only(
    way: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    tags = {"good": ("hr:2990:INT", 2990), "bad": ("hr:3010:INT", None), "also": ("hr:2995:INT", 2995)}
    async with peer(way, programs, pki, tmp_path) as stack:
        shown = bench(stack, tags)
        async with shown.running():
            await shown.until(lambda: shown.statuses("fast")["bad"] == BAD_CONFIGURATION_ERROR)
            await shown.until(lambda: shown.statuses("fast")["good"] == GOOD)
            assert shown.statuses("fast")["also"] == GOOD
            assert "D341" in shown.values("link")["last_error"]


@pytest.mark.parametrize("way", ["tcp", "rtu", "tls"])
async def test_a_stopped_device_is_noticed_and_found_again(
    way: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    async with peer(way, programs, pki, tmp_path) as stack:
        shown = bench(stack, {"int": VALUES["int"]}, hold_s=30.0, options={"read_retries": 0})
        async with shown.running():
            await shown.until(lambda: shown.statuses("fast")["int"] == GOOD)
            stack.device.send_signal(signal.SIGSTOP)
            lost = UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
            await shown.until(lambda: shown.statuses("fast")["int"] == lost, timeout_s=10.0)
            stack.device.send_signal(signal.SIGCONT)
            await shown.until(lambda: shown.statuses("fast")["int"] == GOOD, timeout_s=10.0)
            assert shown.values("fast")["int"] == -2


@pytest.mark.parametrize("depth", [1, 4, 16])
async def test_many_requests_at_once_come_back_to_where_they_belong(
    depth: int, programs: Path, pki: dict[str, Path]
) -> None:
    async with stacks.tcp(programs) as stack:
        tags = {f"t{i}": (f"hr:{i}:UINT", i) for i in range(0, 1000, 2)}
        shown = bench(stack, tags, options={"pipeline": depth, "max_registers": 10})
        async with shown.running():
            await shown.until(lambda: set(shown.statuses("fast").values()) == {GOOD})
            assert shown.values("fast") == {name: value for name, (_, value) in tags.items()}


def wire_of(stack: Stack, **options: Any) -> Wire:
    cfg = config("modbus", stack.url, {}, options=stack.options | options, timeout_ms=2000)
    return ModbusDriver.wire(cfg, SystemClock(), Lines())


async def refused(stack: Stack, **options: Any) -> str:
    """Return why a connection cannot be made or, with TLS 1.3, not be used."""
    wire = wire_of(stack, **options)
    with pytest.raises(DeviceError) as caught:  # noqa: PT012 - either may be refused
        await wire.open()
        await read(wire, Request((Fragment((UNIT, "hr"), 0, 1),)))
    await wire.close()
    return str(caught.value)


async def test_tls_is_refused_with_a_wrong_certificate_on_either_side(
    programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    async with stacks.tls(programs, pki) as stack:
        stranger = {"certificate": str(pki["stranger"]), "key": str(pki["stranger.key"])}
        assert (await refused(stack, **stranger)).startswith(("D307", "D313"))
        assert (await refused(stack, ca=str(pki["other"]))).startswith("D305")
        assert (await refused(stack, server_name="press.local")).startswith("D306")
        readable = kept(tmp_path / "readable.key", pki["ours.key"].read_bytes())
        readable.chmod(0o644)
        assert "readable by others (0644)" in await refused(stack, key=str(readable))
        assert (await refused(stack, key=str(tmp_path / "none.key"))).startswith("D309")
        assert (await refused(stack, key=str(pki["stranger.key"]))).startswith("D309")
        async with stacks.tcp(programs) as plain:
            assert (
                await refused(Stack(plain.url.replace("modbus:", "modbus+tls:"), plain.device, stack.options))
            ).startswith(("D308", "D310", "D313"))
        wire = wire_of(stack)
        await wire.open()
        assert await read(wire, Request((Fragment((UNIT, "hr"), 5, 1),))) == (b"\0\5",)
        await wire.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_probe_reads_it_and_marks_the_right_order(
    way: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    async with peer(way, programs, pki, tmp_path) as stack:
        target = Target(stack.url, ("hr:1004x2", "hr:1000x2", "co:9"), 0.3, stack.options)
        found = [finding async for finding in probe(target)]
    assert not [finding for finding in found if finding.code], found
    reads = [finding for finding in found if finding.step == "read"]
    best = [one.address for finding in reads for one in finding.candidates if one.plausible]
    assert best == [f"{UNIT}/hr:1004:REAL;order=CDAB", f"{UNIT}/hr:1000:REAL"]


@pytest.mark.parametrize(
    ("way", "known"), [("tcp", "tcp.port==502,mbtcp"), ("rtutcp", "tcp.port==502,mbrtu")]
)
async def test_wireshark_finds_nothing_malformed_in_what_we_send(
    way: str, known: str, programs: Path, pki: dict[str, Path], tmp_path: Path
) -> None:
    require_tshark()
    async with peer(way, programs, pki, tmp_path) as stack:
        port = int(stack.url.rsplit(":", 1)[1].split("/")[0])
        async with recorded(port) as talk:
            relayed = Stack(stack.url.replace(str(port), str(talk.port)), stack.device)
            shown = bench(relayed, VALUES | WRITES, writable=False, options={"pipeline": 4})
            writing = bench(relayed, WRITES, writable=True)
            async with shown.running():
                await shown.until(lambda: set(shown.statuses("fast").values()) == {GOOD})
            async with writing.running() as device:
                await writing.until(lambda: device.link_up)
                for name, (_, value) in WRITES.items():
                    assert (await device.write(name, value)).status == GOOD
            async for _ in probe(Target(relayed.url, ("hr:2999x2",), 0.3)):
                pass
    capture = tmp_path / "modbus.pcap"
    talk.write(capture, 502)
    assert await faults(capture, decode_as=known) == []
    rows = await dissected(capture, "modbus", "modbus.func_code", "modbus.exception_code", decode_as=known)
    assert len(rows) == len(talk.said)
    functions = {int(code) for codes, _ in rows for code in codes.split(",") if code}
    assert {1, 2, 3, 4, 5, 6, 15, 16, 22, 43} <= functions
    assert any(refused == "2" for _, refused in rows)  # hr:2999x2 is one too far


async def test_the_client_in_c_reads_the_same_server(programs: Path) -> None:
    # The floor of the benchmarks has to work before it can be a floor.
    async with stacks.tcp(programs) as stack:
        port = stack.url.rsplit(":", 1)[1].split("/")[0]
        done = await asyncio.create_subprocess_exec(
            str(programs / "client"), port, "200", stdout=subprocess.PIPE
        )
        said, _ = await done.communicate()
    wall_us, cpu_us = (float(word) for word in said.split())
    assert wall_us > 0
    assert cpu_us > 0
