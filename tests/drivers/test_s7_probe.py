"""Looking at an unknown S7 PLC: where it is, who it is, whether it may be read; nothing is ever written."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest

from edge_opcua.drivers.probing import Finding, Target
from edge_opcua.drivers.s7.probe import probe
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.drivers.test_s7_wire import relayed

TIMEOUT_S = 0.3


@pytest.fixture
async def cpu() -> AsyncIterator[tuple[S7Server, int]]:
    """A CPU in slot 2 alone."""
    block = DataBlock(10, 64, writable=True)
    block.memory[:] = struct.pack(">fhH", 23.5, -7, 9) + bytes(56)
    server = S7Server((block,), slots=frozenset({2}))
    made = await server.open("127.0.0.1", 0)
    server.begin_scan()
    server.end_scan()
    before = bytes(block.memory)
    yield server, made
    server.begin_scan()
    assert bytes(block.memory) == before  # nothing was written
    server.close()


@pytest.fixture
def port(cpu: tuple[S7Server, int]) -> int:
    return cpu[1]


async def found(port: int, query: str = "", *reads: str) -> list[Finding]:
    url = f"s7://127.0.0.1:{port}{query}"
    return [each async for each in probe(Target(url, reads, TIMEOUT_S))]


async def test_a_cpu_is_found_in_its_slot(port: int) -> None:
    connect, protocol, identity, access = await found(port)
    assert (connect.step, connect.code) == ("connect", "")
    assert protocol.facts["url"] == f"s7://127.0.0.1:{port}?rack=0&slot=2"
    assert "rack 0 slot 2" in protocol.text
    assert identity.text == "Simulated S7 EDGE-OPCUA SIM V1.0.0 SIMULATED, RUN"
    assert identity.facts["serial"] == "SIM 1"
    assert access.facts["put_get"]
    assert access.facts["requests"] >= 4


async def test_a_wrong_slot_in_the_url_is_said_with_the_right_one(port: int) -> None:
    _, protocol, *_ = await found(port, "?rack=0&slot=3")
    assert (protocol.code, protocol.help) == ("D320", f"write s7://127.0.0.1:{port}?rack=0&slot=2")


async def test_an_address_without_a_type_is_shown_as_what_it_may_be(port: int) -> None:
    findings = await found(port, "", "DB10.DBD0", "DB10.DBW4:INT", "DB99.DBW0:INT")
    real, number, missing = [each for each in findings if each.step == "read"]
    assert real.candidates[0].values["REAL"] == 23.5
    assert real.candidates[0].address == "DB10.DBD0:REAL"
    assert number.candidates[0].values == {"INT": -7}
    assert "FF F9" in number.text
    assert (missing.code, missing.candidates) == ("D331", ())
    assert missing.help


async def test_a_cpu_that_forbids_put_get_is_said_to(port: int) -> None:
    def deny(frame: bytes) -> bytes:
        pdu = frame[7:13] + b"\0\0\0\0" + b"\x81\x04"
        return b"\x03\0" + (7 + len(pdu)).to_bytes(2, "big") + b"\x02\xf0\x80" + pdu

    async with relayed(port, deny) as lying:
        findings = await found(lying, "?rack=0&slot=2")
    assert (findings[-1].step, findings[-1].code) == ("browse", "D331")
    assert "PUT/GET" in findings[-1].text


async def test_a_stopped_cpu_is_said_to_be_stopped(cpu: tuple[S7Server, int]) -> None:
    cpu[0].stopped = True
    _, _, identity, *_ = await found(cpu[1])
    assert (identity.code, identity.facts["state"]) == ("D333", "STOP")
    assert "STOP" in identity.text


async def test_a_cpu_that_does_not_say_who_it_is_is_looked_at_all_the_same(port: int) -> None:
    def unknown(frame: bytes) -> bytes:  # no such list (0xD401)
        return frame if frame[8] != 7 else frame[:27] + b"\xd4\x01" + frame[29:]

    async with relayed(port, unknown) as lying:
        _, _, identity, access = await found(lying, "?rack=0&slot=2")
    assert identity.text == "does not say who it is"
    assert access.facts["put_get"]


async def test_nobody_there_is_one_finding(port: int) -> None:
    (nobody,) = await found(1)
    assert (nobody.step, nobody.code) == ("connect", "D311")


async def test_a_port_that_is_open_and_mute_is_no_matter_of_power_and_cable() -> None:
    done = asyncio.Event()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        steps = await found(server.sockets[0].getsockname()[1])
        done.set()
    assert [(each.step, each.code) for each in steps] == [("connect", ""), ("protocol", "D314")]
    assert "did not answer" in steps[1].text


async def test_what_cannot_be_asked_is_refused_before_anything_connects() -> None:
    with pytest.raises(AddressError):
        await found(1, "", "hr:100")
    with pytest.raises(ConfigError):
        await found(1, "?cpu=7")
