"""One EtherNet/IP connection against a controller that is well and one that is not."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_OUT_OF_RANGE,
    BAD_TYPE_MISMATCH,
    BAD_USER_ACCESS_DENIED,
    GOOD,
    UNCERTAIN_LAST_USABLE,
)
from edge_opcua.drivers.ethernetip.address import parse
from edge_opcua.drivers.ethernetip.cip import MODIFY_TAG, MULTIPLE, READ_FRAGMENT, READ_TAG
from edge_opcua.drivers.ethernetip.settings import EipOptions, parse_url
from edge_opcua.drivers.ethernetip.wire import EipWire
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError
from edge_opcua.sim.proxy import Mode
from edge_opcua.testing import ManualClock
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import Bench, config, proxied

TIMEOUT_S = 0.3


@pytest.fixture
async def plc() -> AsyncIterator[LogixPeer]:
    peer = LogixPeer()
    peer.put("D", "DINT", *range(2_000))
    peer.put("R", "REAL", 1.5)
    peer.put("B", "BOOL", True)
    peer.put("L", "LINT", -(2**62) - 1)
    peer.put("UL", "ULINT", 2**64 - 1)
    peer.put("F", "LREAL", 1e300)
    peer.put("Status", "DINT", -0x7FFF_FFFF)
    peer.put("Small", "SINT", -3)
    peer.put("Doors", "BOOLS", *(i % 3 == 0 for i in range(2_048)))
    peer.put("Bytewise", "BOOL", *(i % 2 == 0 for i in range(64)))
    peer.put("Program:Main.Pump[3].Speed", "REAL", 2.5)
    peer.put_strings("Name", "Grüß Gott")
    peer.put_strings("Recipe", "one", "", "three", most=20, handle=0x1234)
    peer.attributes[(4, 154, 3)] = bytearray(range(32))
    async with peer.serving():
        yield peer


@asynccontextmanager
async def wired(port: int, path: str = "/0", **options: Any) -> AsyncIterator[EipWire]:
    endpoint = parse_url(f"eip://127.0.0.1:{port}{path}")
    wire = EipWire(endpoint, EipOptions(**options), 2.0, TIMEOUT_S, ManualClock())
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


async def read(wire: EipWire, *texts: str) -> list[Any]:
    """Return the value, or the refusal, of each address, read as the planner has it."""
    places = [parse(text) for text in texts]
    plan = plan_reads(places, wire.shape)
    image = bytearray(plan.image_bytes)
    faults: dict[int, Fault] = {}
    for request, answers in zip(plan.requests, await wire.read(plan.requests), strict=True):
        for fragment, answer in zip(request.fragments, answers, strict=True):
            if isinstance(answer, Fault):
                faults |= dict.fromkeys(fragment.rows, answer)
            else:
                assert isinstance(answer, bytes)
                image[fragment.image_at : fragment.image_at + len(answer)] = answer
    return [
        faults.get(row) or place.codec.decode(bytes(image[at : at + place.codec.size_bytes]))
        for row, (place, at) in enumerate(zip(places, plan.image_at, strict=True))
    ]


async def write(wire: EipWire, text: str, value: Any) -> None:
    place = parse(text)
    await wire.write(place, place.codec.encode(value))


async def test_every_type_is_exact_and_many_tags_are_one_request(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        before = plc.requests
        values = await read(
            wire,
            *("D:DINT", "D[1999]:DINT", "D[3]:DINT[4]", "R:REAL", "B:BOOL", "L:LINT", "UL:ULINT", "F:LREAL"),
            *(
                "Status:DWORD",
                "Status.31:BOOL",
                "Status.1:BOOL",
                "Status.0:BOOL[4]",
                "Small:SINT",
                "Small:BYTE",
            ),
            *("Doors[33]:BOOL", "Doors[30]:BOOL[5]", "Program:Main.Pump[3].Speed:REAL", "Name:STRING"),
            *("Recipe[2]:STRING[20]", "@4/154/3+30:UINT", "@4/154/3+1.0:BOOL", "@1/1/7:STRING[20]"),
        )
        assert values == [
            *(0, 1999, [3, 4, 5, 6], 1.5, True, -(2**62) - 1, 2**64 - 1, 1e300),
            *(0x8000_0001, True, False, [True, False, False, False], -3, 253),
            *(True, [True, False, False, True, False], 2.5, "Grüß Gott"),
            *("three", 0x1F1E, True, "1756-L85E/B T"),
        ]
        assert plc.requests == before + 1


async def test_neighbours_come_with_one_service_and_far_ones_in_the_same_packet(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        plc.asked.clear()
        assert await read(wire, "D[5]:DINT", "D[9]:DINT", "D[1000]:DINT") == [5, 9, 1000]
        assert plc.asked == [MULTIPLE, READ_TAG, READ_TAG]


@pytest.mark.parametrize("size", [0, 500, 4000])
async def test_an_array_larger_than_a_connection_is_read_in_pieces(plc: LogixPeer, size: int) -> None:
    async with wired(plc.port, connection_bytes=size) as wire:
        (values, doors) = await read(wire, "D:DINT[2000]", "Doors[5]:BOOL[2000]")
        assert values == list(range(2_000))
        assert doors == [i % 3 == 0 for i in range(5, 2_005)]


async def test_what_the_device_cuts_short_is_read_on(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        plc._limit = 400  # it answers with less than its connection takes
        plc.asked.clear()
        assert await read(wire, "D:DINT[900]") == [list(range(900))]
        assert plc.asked[0] == READ_TAG
        assert plc.asked.count(READ_FRAGMENT) == len(plc.asked) - 1


async def test_a_small_connection_is_taken_where_the_device_has_no_large_ones(plc: LogixPeer) -> None:
    plc.large = False
    async with wired(plc.port) as wire:
        assert wire.shape.limit == 500
        assert await read(wire, "R:REAL") == [1.5]


async def test_a_device_without_connections_is_asked_without(plc: LogixPeer) -> None:
    plc.connected = False
    async with wired(plc.port) as wire:
        assert wire.shape.limit == 480
        assert await read(wire, "R:REAL", "D[7]:DINT") == [1.5, 7]


async def test_a_device_without_multiple_services_is_asked_one_by_one(plc: LogixPeer) -> None:
    plc.multiple = False
    async with wired(plc.port) as wire:
        assert await read(wire, "R:REAL", "D[7]:DINT", "Nope:DINT") != []
        assert not wire.shape.batches
        plc.asked.clear()
        assert await read(wire, "R:REAL", "D[7]:DINT") == [1.5, 7]
        assert plc.asked == [READ_TAG, READ_TAG]


async def test_bools_that_take_a_byte_each_are_found_out(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        for _ in range(2):
            assert await read(wire, "Bytewise[40]:BOOL", "Bytewise[3]:BOOL[3]") == [
                True,
                [False, True, False],
            ]
        plc.asked.clear()
        await read(wire, "Bytewise[40]:BOOL")
        assert plc.asked == [READ_TAG]


async def test_one_bad_tag_does_not_cost_the_others(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        good, absent, beyond, wrong, other = await read(
            wire, "R:REAL", "Nope.Speed:REAL", "D[5000]:DINT", "L:DINT", "D[1]:DINT"
        )
        assert (good, other) == (1.5, 1)
        assert absent == Fault(FaultKind.ADDRESS, absent.reason)
        assert absent.reason.startswith("D363 read of Nope.Speed: ")
        assert "External Access" in absent.reason
        assert beyond == Fault(FaultKind.ADDRESS, beyond.reason)
        assert beyond.reason.startswith("D365 read of D[5000]")
        assert wrong == Fault(FaultKind.DENIED, "D364 L is LINT, not DINT: write L:LINT")


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("D:REAL", "D is DINT, not REAL: write D:DINT"),
        ("D[4]:UDINT", "D[4] is DINT, not UDINT: write D[4]:DINT"),
        ("Status:BOOL", "Status is DINT, not BOOL: write Status.0:BOOL for a bit of it, or Status:DINT"),
        ("Doors:REAL", "Doors is DWORD, not REAL: write Doors:BOOL, or Doors:DWORD"),
        ("Name:DINT", "Name is a structure, not DINT: write Name:STRING"),
        ("Recipe:DINT", "Recipe is a structure, not DINT: name one of its members: Recipe.Member"),
        ("R:STRING", "R is REAL, not STRING: write R:REAL"),
        ("R.3:BOOL", "R is REAL, which has no bits"),
        ("Small.8:BOOL", "D365 Small is SINT: its bits are 0..7"),
        ("@4/154/3+31:INT", "D365 @4/154/3 has 32 bytes"),
        ("@4/154/9:INT", "D367 read of @4/154/9: attribute not supported (CIP status 0x14)"),
        ("@4/155/3:INT", "D363 read of @4/155/3: the device has no such object (CIP status 0x16)"),
    ],
)
async def test_the_reason_names_the_right_type(plc: LogixPeer, address: str, advice: str) -> None:
    async with wired(plc.port) as wire:
        (fault,) = await read(wire, address)
        assert fault.reason.removeprefix("D364 ") == advice


async def test_a_text_longer_than_declared_is_no_text(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        assert await read(wire, "Name:STRING[4]") == [None]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ((0x04, 0), FaultKind.ADDRESS, "D363"),
        ((0x05, 0), FaultKind.ADDRESS, "D363"),
        ((0x08, 0), FaultKind.DENIED, "D367"),
        ((0x0F, 0), FaultKind.DENIED, "D366"),
        ((0xFF, 0x2105), FaultKind.ADDRESS, "D365"),
        ((0xFF, 0x2107), FaultKind.DENIED, "D364"),
        ((0xFF, 0x2001), FaultKind.DEVICE, "D369"),
        ((0x77, 0), FaultKind.DEVICE, "D369"),
    ],
)
async def test_each_status_is_what_it_means(
    plc: LogixPeer, status: tuple[int, int], kind: FaultKind, code: str
) -> None:
    async with wired(plc.port) as wire:
        plc.refusals = [None, status]
        good, fault = await read(wire, "D:DINT", "R:REAL")
        assert good == 0
        assert (fault.kind, fault.reason[:4]) == (kind, code)


async def test_a_busy_controller_is_asked_again_and_gives_no_made_up_value(plc: LogixPeer) -> None:
    async with wired(plc.port, busy_retries=2, busy_wait_ms=1) as wire, asyncio.TaskGroup() as tasks:
        clock = wire._clock
        assert isinstance(clock, ManualClock)

        async def tick() -> None:
            while True:
                await clock.advance(0.001)

        ticking = tasks.create_task(tick())
        plc.refusals = [None, (0x02, 0), (0x02, 0)]
        assert await read(wire, "D[4]:DINT", "R:REAL") == [4, 1.5]
        plc.refusals = [(0x02, 0)] * 3
        (fault,) = await read(wire, "R:REAL")
        assert (fault.kind, fault.reason[:4]) == (FaultKind.BUSY, "D368")
        ticking.cancel()


async def test_a_packet_that_is_refused_as_busy_is_asked_again_as_a_packet(plc: LogixPeer) -> None:
    def busy(asked: bytes, answer: bytes) -> tuple[bytes, ...]:
        if answer[46:47] != b"\x8a":
            return (answer,)
        plc.distort = None
        reply = b"\x8a\0\2\0"
        total, item = (len(reply) + more for more in (22, 2))
        return (
            answer[:2]
            + struct.pack("<H", total)
            + answer[4:42]
            + struct.pack("<H", item)
            + answer[44:46]
            + reply,
        )

    async with wired(plc.port, busy_wait_ms=1) as wire, asyncio.TaskGroup() as tasks:
        clock = wire._clock
        assert isinstance(clock, ManualClock)
        plc.distort = busy
        reading = tasks.create_task(read(wire, "R:REAL", "L:LINT", "D[7]:DINT"))
        while not clock.sleepers:
            await asyncio.sleep(0.001)
        plc.asked.clear()
        await clock.advance(0.001)
        assert await reading == [1.5, -(2**62) - 1, 7]
        assert plc.asked == [MULTIPLE, READ_TAG, READ_TAG, READ_TAG]


async def test_a_packet_whose_answer_is_too_large_is_divided(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        plc._limit = 300  # the device answers with less than it granted
        texts = [f"D[{i}]:DINT" for i in range(0, 2000, 50)]
        before = plc.requests
        assert await read(wire, *texts) == list(range(0, 2000, 50))
        assert plc.requests - before <= 7


async def test_a_request_in_a_hurry_is_given_up_earlier(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        plc.silent = True
        (request,) = plan_reads([parse("R:REAL")], wire.shape).requests
        with pytest.raises(DeviceTimeoutError, match=r"did not answer in 0\.02 s"):
            await wire.read([replace(request, deadline_s=0.02)])


async def test_a_tag_that_is_missing_as_a_whole_is_not_looked_for_row_by_row(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        faults = await read(wire, *(f"Nope[{i}]:DINT" for i in range(100)))
        assert {fault.kind for fault in faults} == {FaultKind.DENIED}
        assert plc.requests < 8


@pytest.mark.parametrize(
    ("address", "value"),
    [
        *(("D[7]:DINT", -5), ("D[20]:DINT[3]", [1, -2, 3]), ("R:REAL", -0.5), ("B:BOOL", False)),
        *(("L:LINT", 2**62 + 1), ("UL:ULINT", 2**63 + 1), ("Status:DWORD", 0xF000_0001), ("F:LREAL", 1e-300)),
        *(("Status.30:BOOL", True), ("Status.31:BOOL", False), ("Status.4:BOOL[3]", [True, False, True])),
        *(
            ("Doors[34]:BOOL", True),
            ("Doors[33]:BOOL", False),
            ("Doors[64]:BOOL[4]", [False, True, True, False]),
        ),
        *(
            ("Bytewise[41]:BOOL", True),
            ("Name:STRING", "ok"),
            ("Recipe[1]:STRING[20]", "twenty characters ok"),
        ),
        ("@4/154/3:BYTES[32]", list(range(32, 0, -1))),
    ],
)
async def test_what_is_written_is_read_back_and_nothing_else_changes(
    plc: LogixPeer, address: str, value: Any
) -> None:
    before = {name: bytes(tag.memory) for name, tag in plc.tags.items()}
    async with wired(plc.port) as wire:
        await write(wire, address, value)
        assert await read(wire, address) == [value]
    changed = {name for name, tag in plc.tags.items() if tag.memory != before[name]}
    assert changed <= {address.partition(":")[0].partition("[")[0].partition(".")[0].lower()}


async def test_a_bit_is_set_in_the_controller_and_not_by_reading_and_writing(plc: LogixPeer) -> None:
    async with wired(plc.port) as wire:
        await read(wire, "Status.5:BOOL")
        plc.asked.clear()
        await write(wire, "Status.5:BOOL", True)
        assert plc.asked == [MODIFY_TAG]
    assert plc.get("Status", "DINT") == (-0x7FFF_FFFF | 1 << 5,)


@pytest.mark.parametrize(
    ("address", "value", "status", "code"),
    [
        ("Locked:DINT", 1, BAD_USER_ACCESS_DENIED, "D366"),
        ("Nope:DINT", 1, BAD_CONFIGURATION_ERROR, "D363"),
        ("R:DINT", 1, BAD_TYPE_MISMATCH, "D364"),
        ("D:STRING", "x", BAD_TYPE_MISMATCH, "D364"),
        ("R.1:BOOL", True, BAD_TYPE_MISMATCH, "D364"),
        ("D[1999]:DINT[2]", [1, 2], BAD_OUT_OF_RANGE, "D365"),
        ("D:DINT[1500]", [0] * 1500, BAD_NOT_SUPPORTED, "D340"),
        ("Doors[30]:BOOL[4]", [True] * 4, BAD_NOT_SUPPORTED, "D340"),
        ("Small.7:BOOL[2]", [True] * 2, BAD_NOT_SUPPORTED, "D340"),
        ("@4/154/3:BYTES[33]", [0] * 33, BAD_OUT_OF_RANGE, "D369"),
        ("@4/154/3+1:BYTE", 0, BAD_NOT_SUPPORTED, "D340"),
    ],
)
async def test_a_write_that_cannot_be_is_refused_with_its_reason(
    plc: LogixPeer, address: str, value: Any, status: int, code: str
) -> None:
    plc.put("Locked", "DINT", 7).readonly = True
    before = {name: bytes(tag.memory) for name, tag in plc.tags.items()}
    async with wired(plc.port) as wire:
        with pytest.raises(DeviceRefusedError) as caught:
            await write(wire, address, value)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert await read(wire, "B:BOOL") == [True]  # a refusal does not cost the connection
    assert {name: bytes(tag.memory) for name, tag in plc.tags.items()} == before


async def test_words_go_into_an_array_of_words_only(plc: LogixPeer) -> None:
    plc.put("Words", "INT", *range(8))
    async with wired(plc.port) as wire:
        await wire.write_bytes("Words[1]", 2, struct.pack(">2h", -1, 5))
        assert await read(wire, "Words[2]:INT[4]") == [[2, -1, 5, 5]]
        for area in ("D", "R", "1D"):
            with pytest.raises(DeviceRefusedError):
                await wire.write_bytes(area, 0, b"\0\0\0\0")


def refused(extended: int) -> Callable[[LogixPeer], None]:
    def set_up(plc: LogixPeer) -> None:
        plc.full = extended

    return set_up


def in_slot_three(plc: LogixPeer) -> None:
    plc.slot = 3


@pytest.mark.parametrize(
    ("set_up", "path", "code", "words"),
    [
        (refused(0x0113), "/0", "D362", "no connection left"),
        (refused(0x0100), "/0", "D362", "still open"),
        (refused(0x0203), "/0", "D368", "timed out"),
        (refused(0x0204), "/0", "D361", "end of the route"),
        (in_slot_three, "/2", "D361", "no module in that slot"),
        (in_slot_three, "?route=2,4", "D361", "no such port"),
    ],
)
async def test_a_refused_connection_says_what_to_look_at(
    plc: LogixPeer, set_up: Callable[[LogixPeer], None], path: str, code: str, words: str
) -> None:
    set_up(plc)
    with pytest.raises(DeviceError, match=f"{code} .*{words}"):
        async with wired(plc.port, path):
            pass


async def test_an_empty_slot_is_a_fault_of_the_way_also_without_a_connection(plc: LogixPeer) -> None:
    async with wired(plc.port, "/5", connection_bytes=0) as wire:
        with pytest.raises(DeviceError, match=r"D361 .*no module in that slot"):
            await read(wire, "R:REAL", "D:DINT")


async def test_a_service_that_does_not_speak_the_protocol_is_named(plc: LogixPeer) -> None:
    plc.distort = lambda asked, answer: (b"HTTP/1.1 400 Bad Request\r\n\r\n",)
    with pytest.raises(DeviceError, match=r"D360 .* does not speak EtherNet/IP"):
        async with wired(plc.port):
            pass


def nibble(answer: bytes, at: int, change: int = 1) -> bytes:
    return answer[:at] + bytes((answer[at] ^ change,)) + answer[at + 1 :]


LIES: dict[str, Callable[[bytes, bytes], tuple[bytes, ...] | None]] = {
    "another command": lambda asked, answer: (b"\x6f" + answer[1:],),
    "another session": lambda asked, answer: (nibble(answer, 4),),
    "an encapsulation status": lambda asked, answer: (nibble(answer, 8),),
    "another connection": lambda asked, answer: (nibble(answer, 36),),
    "another sequence": lambda asked, answer: (nibble(answer, 44),),
    "another service": lambda asked, answer: (nibble(answer, 46),),
    "a wrong item length": lambda asked, answer: (nibble(answer, 42),),
    "another number of items": lambda asked, answer: (nibble(answer, 30),),
    "a value of another length": lambda asked, answer: (
        answer[:2] + (len(answer) - 26).to_bytes(2, "little") + answer[4:42]
        + (len(answer) - 46).to_bytes(2, "little") + answer[44:-2],
    ),
    "more than the answer": lambda asked, answer: (answer + b"\0",),
    "the answer twice": lambda asked, answer: (answer + answer,),
    "noise": lambda asked, answer: (bytes(range(7, 90)),),
    "only its beginning": lambda asked, answer: (answer[:30],),
    "nothing": lambda asked, answer: (),
    "the end": lambda asked, answer: None,
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
async def test_nothing_is_believed_that_is_not_the_answer(
    plc: LogixPeer, lie: Callable[[bytes, bytes], tuple[bytes, ...] | None]
) -> None:
    async with wired(plc.port) as wire:
        plc.distort = lie
        with pytest.raises(DeviceError):
            await read(wire, "R:REAL")
        plc.distort = None
        await wire.open()
        assert await read(wire, "R:REAL") == [1.5]


@pytest.mark.parametrize(
    "lie",
    [
        lambda body: body[:2] + b"\xff\xff" + body[4:],  # an offset outside
        lambda body: b"\x07" + body[1:],  # another number of services
        lambda body: body[:-3],  # ends within the last
    ],
)
async def test_a_packet_of_services_that_does_not_add_up_costs_the_connection(
    plc: LogixPeer, lie: Callable[[bytes], bytes]
) -> None:
    def spoil(asked: bytes, answer: bytes) -> tuple[bytes, ...]:
        if answer[0] != 0x70:
            return (answer,)
        body = answer[:50] + lie(answer[50:])
        grown = len(body) - len(answer)
        total, item = (int.from_bytes(answer[at : at + 2], "little") + grown for at in (2, 42))
        return (body[:2] + total.to_bytes(2, "little") + body[4:42] + item.to_bytes(2, "little") + body[44:],)

    async with wired(plc.port) as wire:
        plc.distort = spoil
        with pytest.raises(DeviceError):
            await read(wire, "R:REAL", "L:LINT")


async def test_an_answer_in_crumbs_is_an_answer(plc: LogixPeer) -> None:
    plc.distort = lambda asked, answer: tuple(answer[i : i + 5] for i in range(0, len(answer), 5))
    async with wired(plc.port) as wire:
        assert await read(wire, "R:REAL", "L:LINT") == [1.5, -(2**62) - 1]


async def test_a_frozen_controller_costs_one_deadline(plc: LogixPeer) -> None:
    async with proxied(plc.port) as cable, wired(cable.port) as wire:
        await cable.set(Mode.parse("freeze"))
        with pytest.raises(DeviceTimeoutError, match=r"D310 .* did not answer in 0.3 s"):
            await read(wire, "R:REAL")


async def test_cancellation_leaves_at_once_and_its_answer_is_not_taken_for_another(plc: LogixPeer) -> None:
    async with proxied(plc.port) as cable, wired(cable.port) as wire:
        await cable.set(Mode.parse("freeze"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read(wire, "R:REAL")
        await cable.set(Mode.parse("pass"))
        with pytest.raises(DeviceError, match=r"given up|nobody had asked for"):
            await read(wire, "L:LINT")
        await wire.open()
        assert await read(wire, "R:REAL") == [1.5]


async def test_nobody_listening_is_said_with_the_next_step() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused for certain
        with pytest.raises(DeviceError, match=r"D311 .* refuses the connection: check the port"):
            async with wired(reserved.getsockname()[1]):
                pass


async def test_closing_tells_the_controller(plc: LogixPeer) -> None:
    async with wired(plc.port):
        pass
    async with asyncio.timeout(10.0):
        while not plc.asked or plc.asked[-1] != 0x4E:  # Forward Close
            await asyncio.sleep(0.005)


TAGS = {
    "speed": "R:REAL",
    "count": "D[9]:DINT",
    "door": "Doors[33]:BOOL",
    "name": "Name:STRING",
    "absent": "Nope:REAL",
    "beyond": "D[9999]:DINT",
    "wrong": "L:DINT",
}
EXTRA = {"speed": {"access": "rw", "low": -10, "high": 100}, "door": {"access": "rw"}}


async def test_a_whole_device_over_ethernet_ip(plc: LogixPeer) -> None:
    bench = Bench(config("ethernet-ip", f"eip://127.0.0.1:{plc.port}/0", TAGS, extra=EXTRA))
    assert bench.requests_per_period == {"fast": 1}
    async with bench.running() as device:
        await bench.until(lambda: bench.statuses("fast")["speed"] == GOOD and device.link_up)
        await bench.until(lambda: bench.statuses("fast")["beyond"] == BAD_CONFIGURATION_ERROR)
        bad = {name for name, status in bench.statuses("fast").items() if status != GOOD}
        assert bad == {"absent", "beyond", "wrong"}
        assert bench.values("fast")["name"] == "Grüß Gott"
        assert (await device.write("speed", 80.0)).status == GOOD
        assert plc.get("R", "REAL") == (80.0,)
        assert (await device.write("speed", 101.0)).status == BAD_OUT_OF_RANGE
        assert (await device.write("door", False)).status == GOOD
        await bench.until(lambda: bench.values("fast")["door"] is False)
    assert (await device.write("speed", 1.0)).status not in (GOOD, BAD_INVALID_STATE)


async def test_a_busy_tag_keeps_its_value_and_is_uncertain(plc: LogixPeer) -> None:
    tags = {"speed": "R:REAL"}
    cfg = config("ethernet-ip", f"eip://127.0.0.1:{plc.port}", tags, options={"busy_retries": 0})
    bench = Bench(cfg)
    async with bench.running():
        await bench.until(lambda: bench.statuses("fast")["speed"] == GOOD)
        plc.refusals = [(0x02, 0)] * 10_000
        await bench.until(lambda: bench.statuses("fast")["speed"] == UNCERTAIN_LAST_USABLE)
        assert bench.values("fast")["speed"] == 1.5
        plc.refusals = []
        await bench.until(lambda: bench.statuses("fast")["speed"] == GOOD)
