"""What probing an EtherNet/IP device finds out, and that it never writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from edge_opcua.drivers.ethernetip.address import parse
from edge_opcua.drivers.ethernetip.probe import probe
from edge_opcua.drivers.ethernetip.taglist import read_template
from edge_opcua.drivers.probing import Finding, Target
from edge_opcua.errors import AddressError, ConfigError, DeviceError
from tests.drivers.logixpeer import LogixPeer, Template


@pytest.fixture
async def plc() -> AsyncIterator[LogixPeer]:
    peer = LogixPeer()
    peer.put("Total", "DINT", 7)
    peer.put("Recipe", "REAL", *(0.5 * i for i in range(20)))
    peer.put_strings("Name", "line 4")
    peer.put("Pumps[1].Speed", "REAL", 2.5)
    peer.symbols = [
        ("", "Total", 0xC4, (0, 0, 0)),
        ("", "Recipe", 0x20CA, (20, 0, 0)),
        ("", "Grid", 0x40C3, (4, 5, 0)),
        ("", "Doors", 0x20D3, (2, 0, 0)),
        ("", "Name", 0x8FCE, (0, 0, 0)),
        ("", "Pumps", 0xA123, (2, 0, 0)),
        ("", "__hidden", 0xC4, (0, 0, 0)),
        ("", "Map:Local", 0x1069, (0, 0, 0)),
        ("", "Local:1:I", 0x8200, (0, 0, 0)),
        ("", "System", 0x10C4, (0, 0, 0)),
        ("", "Program:Main", 0x68, (0, 0, 0)),
        ("Program:Main", "Speed", 0xCA, (0, 0, 0)),
        ("Program:Main", "Route:Like", 0xC4, (0, 0, 0)),
        ("Program:Main", "Odd", 0xAF, (0, 0, 0)),
    ]
    peer.templates = {
        0xFCE: Template("STRING", 0x0FCE, 88, [("LEN", 0xC4, 0, 0), ("DATA", 0x20C2, 82, 4)]),
        0x123: Template(
            "Pump",
            0xABCD,
            40,
            [
                ("Speed", 0xCA, 0, 0),
                ("ZZZZZZZZZZPump1", 0xC2, 0, 4),
                ("On", 0xC1, 0, 4),
                ("Faults", 0x20D3, 1, 8),
                ("History", 0x20C3, 6, 12),
                ("Label", 0x8124, 0, 24),
            ],
        ),
        0x124: Template("String12", 0x4321, 16, [("LEN", 0xC4, 0, 0), ("DATA", 0x20C2, 12, 4)]),
        0x200: Template("AB:1756_DI:I:0", 0x2222, 8, [("Fault", 0xC4, 0, 0), ("Data", 0xC4, 0, 4)]),
    }
    async with peer.serving():
        yield peer
    assert peer.writes == 0


async def looked(plc: LogixPeer, *reads: str, path: str = "/0", **options: Any) -> list[Finding]:
    target = Target(f"eip://127.0.0.1:{plc.port}{path}", reads=reads, timeout_s=0.5, options=options)
    return [finding async for finding in probe(target)]


def of(findings: Sequence[Finding], step: str) -> Finding:
    (found,) = [finding for finding in findings if finding.step == step]
    return found


async def test_it_says_who_answers_where_and_with_which_tags(plc: LogixPeer) -> None:
    found = await looked(plc)

    assert [finding.step for finding in found] == ["connect", "protocol", "identity", "units", "browse"]
    assert not any(finding.code for finding in found)
    assert of(found, "identity").text == "Rockwell Automation 1756-L85E/B 33.11, serial 00C0FFEE"
    facts = of(found, "identity").facts
    assert (facts["vendor"], facts["model"], facts["serial"]) == (
        *("Rockwell Automation", "1756-L85E/B 33.11", "00C0FFEE"),
    )
    assert of(found, "units").facts["units"] == [0]


async def test_the_tags_it_tells_are_addresses_with_structures_taken_apart(plc: LogixPeer) -> None:
    tags = {tag["address"]: tag["name"] for tag in of(await looked(plc), "browse").facts["tags"]}

    pump = ["Speed:REAL", "On:BOOL", "Faults:BOOL[32]", "History:INT[6]", "Label:STRING[12]"]
    assert list(tags) == [
        *("Total:DINT", "Recipe:REAL[20]", "Grid[0,0]:INT[20]", "Doors:BOOL[64]", "Name:STRING"),
        *(f"Pumps[{i}].{member}" for i in range(2) for member in pump),
        *("Local:1:I.Fault:DINT", "Local:1:I.Data:DINT"),
        *("Program:Main.Speed:REAL", "Program:Main.Route:Like:DINT"),
    ]
    assert tags["Pumps[1].Speed:REAL"] == "Pumps_1.Speed"
    assert tags["Program:Main.Speed:REAL"] == "Main.Speed"
    assert [parse(address).canonical.partition("[82]")[0] for address in tags] == list(tags)


async def test_a_read_without_a_type_is_told_the_type(plc: LogixPeer) -> None:
    found = await looked(
        plc, "Total", "Recipe[3]", "Name", "Total.2", "Recipe:REAL[3]", "Pumps[1].Speed:DINT", "Nope"
    )

    reads = found[5:]
    assert [finding.text for finding in reads[:5]] == [
        *("Total:DINT = 7", "Recipe[3]:REAL = 1.5", "Name:STRING[82] = 'line 4'", "Total.2:BOOL = True"),
        "Recipe:REAL[3] = [0.0, 0.5, 1.0]",
    ]
    assert reads[0].candidates[0].address == "Total:DINT"
    assert reads[0].candidates[0].values == {"DINT": 7}
    assert [finding.code for finding in reads[5:]] == ["D364", "D363"]
    assert "write Pumps[1].Speed:REAL" in reads[5].text


async def test_the_slot_of_the_controller_is_found(plc: LogixPeer) -> None:
    plc.slot = 3
    units = of(await looked(plc, path="/1"), "units")
    assert (units.code, units.facts["units"]) == ("D361", [3])
    assert units.help == f"write eip://127.0.0.1:{plc.port}/3: there is the controller"


async def test_a_device_without_a_backplane_is_asked_directly(plc: LogixPeer) -> None:
    found = await looked(plc, "@1/1/1:UINT", path="?route=")
    assert [finding.step for finding in found] == ["connect", "protocol", "identity", "browse", "read"]
    assert found[-1].text == "@1/1/1:UINT = 1"


async def test_a_device_that_ends_the_session_at_an_unknown_service_is_asked_on(plc: LogixPeer) -> None:
    plc.distort = lambda asked, answer: None if b"\x55\x03\x20\x6b" in asked else (answer,)
    found = await looked(plc, "Total")
    assert of(found, "browse").text == "no list of tags: tell each by name"
    assert of(found, "read").text == "Total:DINT = 7"


async def test_a_server_that_does_not_say_who_it_is_is_asked_on(plc: LogixPeer) -> None:
    def unknown_command(asked: bytes, answer: bytes) -> tuple[bytes, ...]:
        listing = asked[:1] == b"\x63"
        return (asked[:2] + bytes(6) + b"\1" + asked[9:24],) if listing else (answer,)

    plc.distort = unknown_command
    found = await looked(plc, "Total", path="?route=")
    assert of(found, "identity").text == "gives no name"
    assert of(found, "read").text == "Total:DINT = 7"


async def test_what_cannot_be_an_address_is_refused_before_it_connects(plc: LogixPeer) -> None:
    for text in ("3x", "Program:Main", "@4/1"):
        with pytest.raises(AddressError):
            await looked(plc, text)
    with pytest.raises(ConfigError, match="options"):
        await looked(plc, nonsense=1)
    assert plc.connections == 0


async def test_a_list_of_tags_that_does_not_end_is_given_up(plc: LogixPeer) -> None:
    def same_again(asked: bytes, answer: bytes) -> tuple[bytes, ...]:
        at = 24 + 16
        # Always the first page, and always with more to come.
        return (answer[: at + 2] + b"\6" + answer[at + 3 :],) if answer[at : at + 1] == b"\xd5" else (answer,)

    plc.symbols = [("", "Total", 0xC4, (0, 0, 0))]
    plc.distort = same_again
    assert of(await looked(plc), "browse").text == "no list of tags: tell each by name"


def test_a_definition_that_ends_early_is_none() -> None:
    with pytest.raises(DeviceError, match="ends within"):
        read_template(bytes(12), 2)
    assert read_template(bytes(8) + b"T;n\0", 1).members == ()
