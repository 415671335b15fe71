"""Our server as a process: the true ``PlantServer`` on a bus that others write, and events on demand."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

from asyncua import ua

from edge_opcua.bench.opcua import profile
from edge_opcua.bench.opcua.remote import say
from edge_opcua.config.handover import unpacked
from edge_opcua.core.bus import Bus
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.process import mapped
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.namespaces import Namespace
from edge_opcua.opcua.nodesets import read_nodesets
from edge_opcua.opcua.seam import ServerSecurity
from edge_opcua.opcua.server import PlantServer
from edge_opcua.security.pki import open_pki
from edge_opcua.security.trust import TrustList

# What differs from the limits of the product: the client of a benchmark asks as often as it can.
LIMITS: Final = ServerLimits(
    min_publishing_ms=1.0,
    min_sampling_ms=1.0,
    requests_per_s=1e6,
    request_burst=1_000_000,
    connects_per_s=1e4,
    connect_burst=10_000,
    early_requests_per_s=1e4,
    early_request_burst=10_000,
    sessions=200,
    items=20_000_000,
    queue=10_000,
    queued=50_000_000,
)
_SERVER: Final = ua.NodeId(ua.ObjectIds.Server)
_EVENT: Final = ua.NodeId(ua.ObjectIds.BaseEventType)


class _Bench(PlantServer):
    """The server, and events from within it: those of a tick at once, as results come."""

    async def emit_for(self, order: dict[str, Any]) -> dict[str, Any]:
        """Emit events at a rate for a time; their Message is their number."""
        server, feed = self._running(), self._feed
        assert feed is not None, "the server runs"
        ticks, ended = feed.tick, asyncio.Event()
        count, began_s = 0, time.perf_counter()

        async def tick() -> None:
            nonlocal count
            await ticks()
            passed_s = time.perf_counter() - began_s
            due = max(count, math.ceil(passed_s * order["hz"]))
            if due > count:
                server.emit_all([_event(number) for number in range(count, due)])
                count = due
            if passed_s >= order["seconds"]:
                ended.set()

        feed.tick = tick  # type: ignore[method-assign]
        try:
            await ended.wait()
        finally:
            feed.tick = ticks  # type: ignore[method-assign]
        return {"cycles": count, "seconds": time.perf_counter() - began_s}


def _event(number: int) -> PlantEvent:
    return PlantEvent(_EVENT, (_SERVER, "Server"), message=str(number), severity=500, time=None)


async def _serve(order: dict[str, Any]) -> None:
    config = unpacked(mapped(order["config"]))
    root = Path(order["root"])
    pki = open_pki(root / "pki", names=("127.0.0.1",), key_bits=2048)
    server = _Bench(
        config,
        Bus.attach(order["bus"]),
        security=ServerSecurity(
            pki, TrustList(root / "pki"), config.opcua.secure_policies, allow_none=True, anonymous=True
        ),
        nodesets=read_nodesets(),
        limits=LIMITS,
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run(stopping), name="bench.server")
        async with asyncio.timeout(120):
            await server.ready.wait()
        gc.collect()
        gc.freeze()
        say(
            {"url": server.url, "nodes": f"ns={int(Namespace.PLANT)};s={config.site.machine}.Process." + "{}"}
        )
        try:
            await _obey(server)
        finally:
            stopping.set()


async def _obey(server: _Bench) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            order = json.loads(line)
            if order["do"] == "events":
                say(await server.emit_for(order))
            elif order["do"] == "profile":
                say(await profile.sampled(order["seconds"]))
            elif order["do"] == "state":
                say(server.sessions())
    finally:
        transport.close()


def main() -> None:
    """Serve until the input ends."""
    configure_logging(level=logging.ERROR)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    asyncio.run(_serve(json.loads(sys.stdin.readline())))


if __name__ == "__main__":
    main()
