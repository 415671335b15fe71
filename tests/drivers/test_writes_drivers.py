"""Every driver alike: what is not answered is sent once, and seen when it lands late (rule 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.values import BAD_NO_COMMUNICATION, BAD_TIMEOUT, GOOD
from edge_opcua.drivers.doubts import Fate, Finding
from edge_opcua.drivers.writeterms import WriteTerms
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import Bench, ModbusPeer, config
from tests.drivers.relay import Relay, relayed
from tests.drivers.test_s7_wire import Plc
from tests.drivers.uapeer import standard_nodes, ua_peer

OLD, NEW, NEWER = 12, 0x5A7BC3D1, 77  # the new one looks like nothing else on the wire
ANNA = WriteTerms(who="anna")


@asynccontextmanager
async def modbus() -> AsyncIterator[tuple[int, str, str]]:
    async with ModbusPeer().serving() as peer:
        peer.put(0, "i", OLD)
        yield peer.port, "modbus://127.0.0.1:{}/1", "hr:0:DINT"


@asynccontextmanager
async def s7() -> AsyncIterator[tuple[int, str, str]]:
    plc = Plc()
    plc.settings.memory[:4] = OLD.to_bytes(4, "big")
    port = await plc.server.open("127.0.0.1", 0)
    async with asyncio.TaskGroup() as tasks:
        scanning = tasks.create_task(plc.scan())
        yield port, "s7://127.0.0.1:{}?rack=0&slot=1", "DB11.DBD0:DINT"
        scanning.cancel()
    plc.server.close()
    await asyncio.sleep(0)


@asynccontextmanager
async def eip() -> AsyncIterator[tuple[int, str, str]]:
    async with LogixPeer().serving() as peer:
        peer.put("Target", "DINT", OLD)
        yield peer.port, "eip://127.0.0.1:{}/0", "Target:DINT"


@asynccontextmanager
async def opcua() -> AsyncIterator[tuple[int, str, str]]:
    with standard_nodes():
        async with ua_peer() as peer:
            await peer.put("target", ua.VariantType.Int32, OLD)
            yield peer.port, "opc.tcp://127.0.0.1:{}", "nsu=urn:tests:plant;s=target:DINT"


Peer = Callable[[], AbstractAsyncContextManager[tuple[int, str, str]]]
DRIVERS: dict[Peer, str] = {modbus: "modbus", s7: "s7", eip: "ethernet-ip", opcua: "opcua"}


@asynccontextmanager
async def behind_a_relay(peer: Peer) -> AsyncIterator[tuple[Relay, Bench, list[Finding]]]:
    """A device that works, over a network that can keep what is sent."""
    found: list[Finding] = []
    options: dict[str, Any] = {"read_retries": 0}
    if peer is opcua:
        options["security"] = "None"
    async with peer() as (port, url, address), relayed(port) as relay:
        url = url.format(relay.port)
        cfg = config(
            DRIVERS[peer], url, {"x": address}, extra={"x": {"access": "rw"}}, options=options, hold_s=30.0
        )
        bench = Bench(cfg, tell=found.append)
        async with bench.running():
            await bench.until_state("ONLINE")
            await bench.until(lambda: bench.values("fast")["x"] == OLD)
            yield relay, bench, found


async def unanswered(bench: Bench, strike: Callable[[], None]) -> None:
    """Write while the connection falls silent; again if it fell silent before anything was sent."""
    status = BAD_NO_COMMUNICATION
    while status == BAD_NO_COMMUNICATION:
        await bench.until(lambda: bench.device.link_up)
        strike()
        status = (await bench.device.write("x", NEW, timeout_s=3.0, terms=ANNA)).status
    assert status == BAD_TIMEOUT


def times_sent(relay: Relay) -> int:
    return max(relay.said.count(NEW.to_bytes(4, order)) for order in ("big", "little"))


@pytest.mark.parametrize("peer", [modbus, s7, eip])
async def test_a_write_whose_answer_is_lost_is_sent_once_and_found_to_have_landed(peer: Peer) -> None:
    async with behind_a_relay(peer) as (relay, bench, found):
        await unanswered(bench, relay.deafen)
        await bench.until(lambda: bool(found))
        assert (found[0].fate, found[0].held, found[0].doubt.old) == (Fate.LANDED, NEW, OLD)
        await bench.until(lambda: bench.device.link_up)
        await asyncio.sleep(0.1)
        assert times_sent(relay) == 1


@pytest.mark.parametrize("peer", DRIVERS)
async def test_a_write_that_the_network_kept_lands_over_a_newer_one_and_is_seen(peer: Peer) -> None:
    # The old connection lives on behind the network when we have long been using another one.
    async with behind_a_relay(peer) as (relay, bench, found):
        await unanswered(bench, relay.freeze)
        await bench.until(lambda: len(found) == 1 and bench.device.link_up)
        assert found[0].fate is Fate.NOT_LANDED
        assert (await bench.device.write("x", NEWER)).status == GOOD
        await bench.until(lambda: bench.values("fast")["x"] == NEWER)
        relay.deliver()
        await bench.until(lambda: len(found) == 2)
        assert (found[1].fate, found[1].held, found[1].doubt.terms.who) == (Fate.LANDED, NEW, "anna")
        assert times_sent(relay) == 1
