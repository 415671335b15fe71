"""What a probe says of a Modbus device: identity, units, every byte order, and which one is likely."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.drivers.modbus.address import parse
from edge_opcua.drivers.modbus.plausible import ORDERS, readings, text_of
from edge_opcua.drivers.modbus.probe import _at_unit, probe
from edge_opcua.drivers.probing import Finding, Target
from edge_opcua.errors import AddressError, ConfigError
from tests.drivers.peers import ModbusPeer


@pytest.fixture(autouse=True)
def a_unit_has_as_long_as_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer may be busy; how long a unit is waited for stands in each test's target."""
    monkeypatch.setattr("edge_opcua.drivers.modbus.probe._SCAN_S", 5.0)


@pytest.fixture
async def peer() -> AsyncIterator[ModbusPeer]:
    async with ModbusPeer().serving() as peer:
        yield peer


async def findings(
    peer: ModbusPeer, *reads: str, unit: int = 1, patience_s: float = 5.0, **more: Any
) -> dict[str, Finding]:
    target = Target(f"modbus://127.0.0.1:{peer.port}/{unit}", reads, timeout_s=patience_s, **more)
    return {finding.step: finding async for finding in probe(target)}


def marked(raw: str, **limits: float) -> tuple[str, str, Any] | None:
    """Return order, type and value of the plausible reading of some registers."""
    found = [way for way in readings(bytes.fromhex(raw), **limits) if way.plausible]
    assert len(found) <= 1
    return (found[0].order, found[0].kind, found[0].values[found[0].kind]) if found else None


@pytest.mark.parametrize(
    ("raw", "order", "kind", "value"),
    [
        ("47AE 41BB", "CDAB", "REAL", 23.41),  # reference/experience.md §3.2
        ("4365 028F", "ABCD", "REAL", 229.01),  # ThingsBoard #614: read as 2.4e-41
        ("028F 4365", "CDAB", "REAL", 229.01),
        ("41AD 851F", "ABCD", "REAL", 21.69),
        ("4248 0000", "ABCD", "REAL", 50.0),
        ("0000 4248", "CDAB", "REAL", 50.0),
        ("0000 3F80", "CDAB", "REAL", 1.0),
        ("C1C8 0000", "ABCD", "REAL", -25.0),
        ("BB41 AE47", "BADC", "REAL", 23.41),
        ("AE47 BB41", "DCBA", "REAL", 23.41),
        ("0000 05DC", "ABCD", "DINT", 1500),
        ("05DC 0000", "CDAB", "DINT", 1500),
        ("FFFF FF38", "ABCD", "DINT", -200),
        ("41BB 4F9C", "ABCD", "REAL", 23.41387),  # a sensor's digits are many; its size is moderate
    ],
)
def test_the_likely_reading_is_marked(raw: str, order: str, kind: str, value: float) -> None:
    found = marked(raw)
    assert found is not None
    assert found[:2] == (order, kind)
    assert found[2] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("raw", ["0000 0000", "FFFF FFFF", "1234 5678 9ABC DEF0", "0000" * 4])
def test_what_says_nothing_is_not_guessed_at(raw: str) -> None:
    assert marked(raw) is None


def test_limits_decide_where_size_alone_does_not() -> None:
    raw = struct.pack(">f", 3.7512345).hex()
    assert marked(raw, low=0, high=50) == ("ABCD", "REAL", pytest.approx(3.7512345))
    assert marked("4248 0000", low=100, high=200) is None


@pytest.mark.parametrize("order", ORDERS[4])
@pytest.mark.parametrize(("kind", "form", "value"), [("LREAL", ">d", 1234.5), ("LINT", ">q", 86_400)])
def test_a_64_bit_number_is_found_in_its_order(order: str, kind: str, form: str, value: float) -> None:
    straight = struct.pack(form, value)
    wire = bytes(straight["ABCDEFGH".index(letter)] for letter in order)
    found = {way.order: way for way in readings(wire)}
    assert found[order].values[kind] == value
    best = [way for way in found.values() if way.plausible]
    if order.startswith(("A", "C", "E", "G")) or kind == "LREAL":
        assert [(way.order, way.kind) for way in best] == [(order, kind)]


@given(st.binary(min_size=4, max_size=4))
def test_every_way_is_what_the_address_reads(wire: bytes) -> None:
    for way in readings(wire):
        for kind, value in way.values.items():
            decoded = parse(f"hr:0:{kind};order={way.order}").codec.decode(wire)
            assert decoded == value or decoded != decoded


def test_text_is_seen_in_either_order() -> None:
    assert text_of(b"VIB-4 \0\0") == ("VIB-4", "HL")
    assert text_of(b"rPse\0s\0\0") == ("Press", "LH")
    assert text_of(bytes(8)) is None


async def test_a_device_is_reached_proved_and_read(peer: ModbusPeer) -> None:
    peer.registers[100:102] = [0x47AE, 0x41BB]
    found = await findings(peer, "hr:100x2")
    assert list(found) == ["connect", "protocol", "read"]  # it knows no 43/14 and says so by an exception
    assert found["connect"].text == f"tcp {peer.port} open"
    assert found["protocol"].text.startswith("Modbus answers in ")
    assert found["read"].text == "hr:100 = 40101   47AE 41BB"
    best = [one for one in found["read"].candidates if one.plausible]
    assert [(one.address, one.plausible) for one in best] == [
        ("1/hr:100:REAL;order=CDAB", "small, few digits")
    ]
    assert found["read"].candidates[0].address == "1/hr:100:REAL"
    assert found["read"].candidates[0].values["UINT"] == [0x47AE, 0x41BB]
    assert found["read"].facts["requests"] == 3


async def test_nothing_is_ever_written(peer: ModbusPeer) -> None:
    await findings(peer, "hr:0x4", "co:0x8", "40001x2", "hr:5:REAL", "ir:0x10", units=range(1, 4))
    assert {function for _, function, _, _ in peer.asked} <= {1, 2, 3, 4, 43}
    assert peer.connections == 1
    async with asyncio.timeout(10.0):  # and the connection is closed
        while peer._writers:
            await asyncio.sleep(0.001)


async def test_other_shapes_are_read_as_they_are(peer: ModbusPeer) -> None:
    peer.registers[0:3] = struct.unpack(">3H", b"VIB-4\0")
    peer.registers[7] = 0xFFFE
    peer.coils[2] = True
    target = Target(
        f"modbus://127.0.0.1:{peer.port}/1",
        ("hr:0x3", "hr:7", "co:0x3", "hr:7:INT", "hr:7:REAL;order=CDAB", "hr:7:REAL", "hr:500x4"),
    )
    reads = [finding async for finding in probe(target) if finding.step == "read"]
    first = [[(one.address, one.order, dict(one.values)) for one in found.candidates] for found in reads]
    assert first[0][1] == ("1/hr:0:STRING[6]", "HL", {"STRING": "VIB-4"})
    assert first[1] == [("1/hr:7:INT", "", {"INT": -2, "UINT": 65534})]
    assert first[2] == [("1/co:0:BOOL[3]", "", {"BOOL[3]": [False, False, True]})]
    assert first[3] == [("1/hr:7:INT", "", {"INT": -2})]
    assert len(first[4]) == 1
    assert [one[1] for one in first[5]] == ["ABCD", "CDAB", "BADC", "DCBA"]
    assert [one[1] for one in first[6]] == list(ORDERS[4])


async def test_a_refused_read_does_not_end_the_probe(peer: ModbusPeer) -> None:
    peer.holes = {100, 101}
    target = Target(f"modbus://127.0.0.1:{peer.port}/1", ("hr:100x2", "hr:5"))
    steps = [finding async for finding in probe(target)]
    assert [(finding.step, finding.code) for finding in steps][-2:] == [("read", "D341"), ("read", "")]
    assert "number minus one" in steps[-2].help


async def test_a_silent_unit_is_told_from_a_dead_line(peer: ModbusPeer) -> None:
    peer.mute = {5}
    found = await findings(peer, unit=5, patience_s=0.4)
    assert found["protocol"].code == "D357"
    assert found["protocol"].text == "unit 5 is silent, unit 1 answers"
    peer.silent = True
    found = await findings(peer, unit=5, patience_s=0.1)
    assert found["protocol"].code == "D310"


async def test_units_are_looked_for_on_request(peer: ModbusPeer) -> None:
    peer.mute = {2, 3, 5}
    found = await findings(peer, units=range(1, 7), patience_s=0.5)
    assert found["units"].text == "units 1, 4, 6 (2..3, 5 silent)"
    assert found["units"].facts["units"] == [1, 4, 6]


async def test_units_are_looked_for_also_if_the_one_of_the_url_is_silent(peer: ModbusPeer) -> None:
    peer.mute = {1, 2, 3}
    found = await findings(peer, units=range(1, 6), patience_s=0.5)
    assert not any(finding.code for finding in found.values())
    assert found["protocol"].facts["url"] == f"modbus://127.0.0.1:{peer.port}/4"
    assert found["units"].text == "units 4..5 (1..3 silent)"
    assert found["units"].facts["requests"] == 4 + 1 + 2  # a silent unit costs its time once


async def test_a_gateway_that_asked_in_vain_is_no_unit(peer: ModbusPeer) -> None:
    peer.refusals = [11, 10, 0]
    found = await findings(peer, units=range(1, 4))
    assert found["units"].text == "units 3 (1..2 silent)"
    peer.refusals = [0, 0, 11]  # the proof, unit 1, unit 2
    found = await findings(peer, units=range(1, 4))
    assert found["units"].text == "units 1, 3 (2 silent)"
    peer.refusals = [11]
    assert (await findings(peer, unit=7))["protocol"].code == "D346"


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("modbus://h:5020/1", "modbus://h:5020/9"),
        ("modbus+rtutcp://[::1]:4001", "modbus+rtutcp://[::1]:4001/9"),
        ("modbus+rtu:///dev/ttyS0", "modbus+rtu:///dev/ttyS0?unit=9"),
        ("modbus+rtu:///dev/ttyS0?unit=1&baud=9600", "modbus+rtu:///dev/ttyS0?baud=9600&unit=9"),
    ],
)
def test_the_url_of_another_unit_names_the_same_place(url: str, other: str) -> None:
    assert _at_unit(url, 9) == other


async def test_who_it_is_comes_from_its_identification(peer: ModbusPeer) -> None:
    peer.identity = ("ACME", "VIB-4", "2.1")
    found = await findings(peer)
    assert found["identity"].text == "ACME VIB-4 2.1"
    assert {"vendor": "ACME", "model": "VIB-4", "revision": "2.1"}.items() <= found["identity"].facts.items()


async def test_nobody_there_is_a_finding_with_a_step(peer: ModbusPeer) -> None:
    target = Target("modbus://127.0.0.1:1/1", timeout_s=0.2)
    (found,) = [finding async for finding in probe(target)]
    assert (found.step, found.code) == ("connect", "D311")
    assert found.help
    peer.distort = lambda *_: (b"SSH-2.0-OpenSSH_9.2p1\r\n",)
    told = await findings(peer)
    assert told["protocol"].code == "D314"


@pytest.mark.parametrize(
    ("read", "error"),
    [("hr:40101:REAL", AddressError), ("hr:0x200", AddressError), ("nonsense", AddressError)],
)
async def test_a_wrong_address_is_refused_before_anything_connects(
    peer: ModbusPeer, read: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await findings(peer, read)
    with pytest.raises(ConfigError):
        await findings(peer, options={"pipeline": 99})
    assert peer.connections == 0
