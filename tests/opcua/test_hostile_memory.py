"""Who comes and goes leaves nothing behind: no task, no descriptor, no memory; nor does a greedy request."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary

from tests.opcua.fuzz import MEMORY_BYTES
from tests.opcua.soak import soak
from tests.opcua.victim import running_victim

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
async def no_debug_mode() -> AsyncIterator[None]:
    """It is most of what a client's round trip takes, and the server is a process of its own."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    yield
    loop.set_debug(True)


async def test_clients_and_subscriptions_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    for growth in await soak(tmp_path, connect_cycles=120, subscription_cycles=150):
        assert growth.faults() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_clients_and_a_thousand_subscriptions_leave_nothing_behind(tmp_path: Path) -> None:
    for growth in await soak(tmp_path, connect_cycles=1000, subscription_cycles=1000):
        assert growth.faults() == []


async def test_the_greediest_requests_of_a_trusted_client_stay_within_the_memory_budget(
    tmp_path: Path,
) -> None:
    # The issue: memory stays within 50 MB of its start. asyncua 2.1.0: 4 MB of Variants become a gigabyte.
    async with running_victim(tmp_path) as victim, victim.client() as client:
        protocol = client.uaclient.protocol
        await client.get_node(victim.plain).read_value()
        before = await victim.rss_bytes()
        peak = before
        for body in _greedy(victim):
            kind, _, rest = body.partition(b"TOKEN")
            protocol._request_id += 1
            answer = asyncio.get_running_loop().create_future()
            protocol._callbackmap[protocol._request_id] = answer
            message = kind + nodeid_to_binary(protocol.authentication_token) + rest
            packet = protocol._connection.message_to_binary(message, request_id=protocol._request_id)
            protocol.transport.write(packet)
            while not answer.done():
                await asyncio.wait({answer}, timeout=0.005)
                peak = max(peak, await victim.rss_bytes())
            await answer
        assert peak - before < MEMORY_BYTES
        assert (await victim.facts())["unforeseen"] == []


def _greedy(victim: Any) -> list[bytes]:
    """Return requests of up to 4 MB that would unfold, or be answered, with far more."""
    size = 3_900_000
    write = _head(ua.WriteRequest) + struct.pack("<i", 1)
    write += nodeid_to_binary(victim.array) + struct.pack("<Ii", 13, -1) + b"\x01"
    call = _head(ua.CallRequest) + struct.pack("<i", 1)
    call += nodeid_to_binary(victim.machine) + nodeid_to_binary(victim.echo)
    item = struct_to_binary(ua.ReadValueId(NodeId=ua.NodeId(2253), AttributeId=ua.AttributeIds.Value))
    read = _head(ua.ReadRequest) + struct.pack("<di", 0.0, 3)
    browse = _head(ua.BrowseRequest) + struct_to_binary(ua.ViewDescription()) + struct.pack("<I", 0)
    node = struct_to_binary(ua.BrowseDescription(NodeId=ua.NodeId(3062), ResultMask=63))
    return [
        write + b"\x82" + struct.pack("<i", size) + b"\x90" * size,  # SBytes: 40 bytes each
        write + b"\x84" + struct.pack("<i", size // 2) + b"\x77\x11" * (size // 2),
        write + b"\x98" + struct.pack("<i", size) + bytes(size),  # Variants: 200 bytes each
        write + b"\x8c" + struct.pack("<i", size // 4) + b"\xff" * size,
        write + (b"\xc6" + struct.pack("<iii", 0, 1, 1_000_000)) * 300_000,
        write + b"\x81" + struct.pack("<i", 490_000) + bytes(490_000),  # within the limits
        call + struct.pack("<i", size) + bytes(size),
        read + struct.pack("<i", size // len(item)) + item * (size // len(item)),
        browse + struct.pack("<i", 1000) + node * 1000,
        _head(ua.PublishRequest) + struct.pack("<i", size // 8) + bytes(size),
        _head(ua.DeleteSubscriptionsRequest) + struct.pack("<i", size // 4) + bytes(size),
    ]


def _head(kind: Any) -> bytes:
    whole = bytes(struct_to_binary(kind()))
    header = bytes(struct_to_binary(ua.RequestHeader()))
    assert whole[4 : 4 + 2] == header[:2]
    return whole[:4] + b"TOKEN" + whole[6 : 4 + len(header)]
