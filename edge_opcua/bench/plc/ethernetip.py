"""Many tags of a controller over EtherNet/IP, beside pylogix, from cpppo's server (B7)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.plc import peers
from edge_opcua.bench.plc.poller import Polling, device

TAGS: Final = 500
TIMES: Final = 10
_START_S: Final = 20.0


def many_tags() -> Iterator[Figure]:
    """B7: 500 DINT tags of their own names, from cpppo."""
    names = [f"T{i}" for i in range(TAGS)]
    with _cpppo([f"{name}=DINT" for name in names]) as port:
        pylogix_ms, pylogix_cpu_ms = _pylogix_ms(port, names)
        took, cpu_ms, requests = asyncio.run(_ours(port, [f"{name}:DINT" for name in names]))
    name, peer = f"B7: EtherNet/IP, {TAGS} tags", "pylogix, one batch read"
    note = f"{requests} requests; mean of {TIMES}; ours with publishing on the bus"
    yield Figure(f"{name}, processor", cpu_ms, "ms", peer, pylogix_cpu_ms, note=note)
    note = "nearly all of it is the time of the server, which is written in Python"
    yield Figure(name, statistics.median(took), "ms", peer, pylogix_ms, note=note)


async def _ours(port: int, addresses: list[str]) -> tuple[list[float], float, int]:
    cfg = device(
        "b7", "ethernet-ip", f"eip://127.0.0.1:{port}/0", addresses, period_ms=60_000, timeout_ms=5_000
    )
    async with Polling([cfg]).running() as polling:
        await polling.refresh_ms("b7", 2)
        before_s = peers.own_cpu_s()
        took = await polling.refresh_ms("b7", TIMES)
        return took, 1000 * (peers.own_cpu_s() - before_s) / TIMES, polling.requests["b7"]


def _pylogix_ms(port: int, names: list[str]) -> tuple[float, float]:
    """Return time and processor time of a batch read by pylogix, ms."""
    script = str(peers.SOURCES / "pylogix_client.py")
    done = subprocess.run(  # noqa: S603 - a program of this checkout
        [sys.executable, script, str(port), str(TIMES), *names], capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        raise peers.MissingPeerError(f"pylogix: {done.stderr.decode().strip().splitlines()[-1:]}")
    said = json.loads(done.stdout)
    return statistics.median(said["took"]), float(said["cpu"])


@contextlib.contextmanager
def _cpppo(tags: list[str]) -> Iterator[int]:
    if not peers.CPPPO.exists():
        raise peers.MissingPeerError("cpppo is not here: run tests/peers/install")
    port = peers.free_port()
    address = f"127.0.0.1:{port}"
    command = [str(peers.CPPPO), "-m", "cpppo.server.enip", "--no-config", "-a", address, *tags]
    server = subprocess.Popen(  # noqa: S603 - a peer in an environment of its own
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port, server)
        yield port
    finally:
        server.kill()
        server.wait()


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise peers.MissingPeerError("cpppo does not start")
