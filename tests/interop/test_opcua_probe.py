"""``probe`` of an OPC UA server: what it offers, who it is, which variables it has; against node-opcua's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.drivers.opcuaclient.address import parse
from edge_opcua.drivers.opcuaclient.probe import probe
from edge_opcua.drivers.opcuaclient.trusting import device_trust
from edge_opcua.drivers.probing import Finding, Target
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.security.pki import open_pki, own_certificate
from edge_opcua.security.trust import TrustList
from tests.interop.opcua_server import OpcUaServer, opcua_server, plc_identity

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("plc")
    (found / "plc.pem").write_bytes(plc_identity().pem)
    (found / "plc.key").write_bytes(plc_identity().key_pem)
    return found


@pytest.fixture(scope="module")
async def plc(node: str, home: Path, pki: Path) -> AsyncIterator[OpcUaServer]:
    async with opcua_server(node, home, pki, many=150) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path))
        yield tmp_path


@pytest.fixture
def trusting(state: Path) -> Path:
    open_pki(state / "pki", key_bits=2048)
    root = device_trust(state / "pki")
    for place in (root, root / "trusted", root / "rejected", root / "issuers"):
        place.mkdir(mode=0o700)
    TrustList(root).add(plc_identity().der)
    return state


async def findings(plc: OpcUaServer, *reads: str, **options: Any) -> list[Finding]:
    target = Target(f"opc.tcp://127.0.0.1:{plc.port}", reads, timeout_s=5.0, options=options)
    return [finding async for finding in probe(target)]


async def test_a_known_server_shows_its_plate_its_variables_and_their_values(
    plc: OpcUaServer, trusting: Path
) -> None:
    before = await plc.get("Int64")

    found = await findings(plc, "ns=2;s=Int64", "i=2258:LDT", "ns=2;s=nobody:INT", "ns=2;s=Int32:REAL")

    assert [finding.step for finding in found] == ["connect", "protocol", "identity", "browse", *["read"] * 4]
    _, protocol, identity, tags, *reads = found
    assert protocol.facts["endpoints"] == ["None", "Basic256Sha256 Sign", "Basic256Sha256 SignAndEncrypt"]
    assert identity.text == "ACME Press PLC 2.1"
    assert identity.facts["vendor"] == "ACME"
    rows = {row["name"]: row for row in tags.facts["tags"]}
    assert len(rows) == 18 + 1 + 1 + 150  # those of a type, what is read only, the analog one, the many
    assert rows["Press.DB1.speed"]["address"] == 'nsu=urn:tests:plant;s="DB1"."speed":REAL'
    assert rows["Press.UInt64"]["address"] == "nsu=urn:tests:plant;s=UInt64:ULINT"
    assert rows["Press.Floats"]["type"] == "REAL[3]"
    assert rows["Press.temperature"]["unit"] == "°C"
    assert rows["Press.temperature"]["description"] == "die, left"
    assert not rows["Press.ReadOnly"]["writable"]
    assert rows["Press.Int16"]["writable"]
    for row in rows.values():
        assert parse(row["address"]).canonical == row["address"]
    assert reads[0].candidates[0].values == {"LINT": -(2**63)}
    assert reads[0].candidates[0].address == "ns=2;s=Int64:LINT"
    assert reads[1].candidates[0].values["LDT"].startswith("20")
    assert [reads[2].code, reads[3].code] == ["D375", "D374"]
    assert await plc.get("Int64") == before


async def test_a_node_without_a_type_that_is_not_there_is_told_and_the_others_are_read(
    plc: OpcUaServer, trusting: Path
) -> None:
    reads = ("ns=9;s=Int32", "nsu=urn:nobody;s=Int32", "ns=2;s=nobody", "ns=2;s=WriteOnly", "ns=2;s=Int32")

    found = await findings(plc, *reads)

    assert [finding.code for finding in found[4:]] == ["D375", "D375", "D375", "D376", ""]
    assert found[-1].candidates[0].address == "ns=2;s=Int32:DINT"


async def test_a_stranger_is_not_looked_into_before_it_is_trusted(plc: OpcUaServer, state: Path) -> None:
    found = await findings(plc)

    assert [finding.step for finding in found] == ["connect", "protocol", "identity", "browse"]
    assert found[2].text == "Press"
    assert found[3].code == "D371"
    assert "edge-opcua trust --devices 1" in found[3].help
    # It has made what the server has to trust, so that both can be done at once.
    assert await asyncio.to_thread(own_certificate(state / "pki").exists)


async def test_what_can_never_be_asked_is_refused_before_it_connects() -> None:
    async def first(url: str, *reads: str, **options: Any) -> None:
        async for _ in probe(Target(url, reads, options=options)):
            raise AssertionError("it connected")

    with pytest.raises(AddressError):
        await first("opc.tcp://127.0.0.1:1", "DB1.DBW0:INT")
    with pytest.raises(ConfigError):
        await first("modbus://127.0.0.1")
    with pytest.raises(ConfigError):
        await first("opc.tcp://127.0.0.1:1", secrity="None")


async def test_where_nobody_listens_that_is_all_there_is_to_say() -> None:
    found = [finding async for finding in probe(Target("opc.tcp://127.0.0.1:1"))]
    assert [(finding.step, finding.code) for finding in found] == [("connect", "D311")]
    assert "activate the OPC UA server" in found[0].help


async def test_a_port_that_is_open_and_mute_is_no_matter_of_power_and_cable() -> None:
    done = asyncio.Event()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        url = f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = [finding async for finding in probe(Target(url, timeout_s=0.2))]
        done.set()
    assert [(finding.step, finding.code) for finding in found] == [("connect", ""), ("protocol", "D314")]
    assert "did not answer in 0.2 s" in found[1].text
