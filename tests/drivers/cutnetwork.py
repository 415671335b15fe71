"""Pulls the cable while drivers write; run in a network of its own: ``unshare -rn python -m … DRIVER …``.

Prints a line of JSON: for each driver how the write ended, and what the device held after the cable was back.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from edge_opcua.core.values import BAD_NO_COMMUNICATION, status_name
from tests.drivers.peers import Bench, config
from tests.drivers.test_writes_drivers import DRIVERS, NEW, Peer, opcua

_SET_FLAGS = 0x8914
_UP, _RUNNING = 0x1, 0x40
_BACK_S = 2.0  # the kernel repeats what was not acknowledged after 0.2, 0.4, 0.8, 1.6 s


def plug(*, connected: bool) -> None:
    """Plug the cable in or pull it: nothing that is sent meanwhile arrives, and the kernel repeats it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _UP | _RUNNING if connected else 0
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh", b"lo", flags))


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[Bench]:
    """A device that works."""
    options: dict[str, Any] = {"security": "None"} if peer is opcua else {}
    async with peer() as (port, url, address):
        rw = {"x": {"access": "rw"}}
        bench = Bench(
            config(DRIVERS[peer], url.format(port), {"x": address}, extra=rw, options=options, hold_s=30.0)
        )
        async with bench.running():
            await bench.until_state("ONLINE")
            yield bench


async def write_while_cut(benches: list[Bench]) -> list[int]:
    """Pull the cable, write, wait until the connections were given up, and plug in again."""
    plug(connected=False)
    async with asyncio.TaskGroup() as tasks:
        writes = [tasks.create_task(bench.device.write("x", NEW, timeout_s=3.0)) for bench in benches]
    for bench in benches:
        await bench.until(lambda bench=bench: not bench.device.status.reads, timeout_s=10.0)  # type: ignore[misc]
    plug(connected=True)
    for bench in benches:
        await bench.until_state("ONLINE", timeout_s=10.0)
    return [write.result().status for write in writes]


async def main() -> None:
    plug(connected=True)
    outcomes: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        peers = [peer for peer, driver in DRIVERS.items() if driver in sys.argv[1:]]
        benches = [await stack.enter_async_context(connected(peer)) for peer in peers]
        while len(outcomes) < len(benches):  # it may be cut within a read: then nothing was sent
            left = [bench for bench in benches if bench.cfg.driver not in outcomes]
            for bench, status in zip(left, await write_while_cut(left), strict=True):
                if status != BAD_NO_COMMUNICATION:
                    outcomes[bench.cfg.driver] = status
        await asyncio.sleep(_BACK_S)
        found = {
            bench.cfg.driver: (status_name(outcomes[bench.cfg.driver]), bench.values("fast")["x"])
            for bench in benches
        }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
