"""A server in a process of its own, so that its memory, tasks and descriptors can be counted.

``python -m tests.opcua.victim STATE`` is that process. It trusts the certificates in ``STATE/trust``, counts
``plain`` up every 50 ms, answers each line on standard input with what it has open, and ends with it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from asyncua import Client, ua
from cryptography import x509

from edge_opcua.opcua.limits import ServerLimits
from tests.opcua.secure_peers import GOOD, OPERATES, Plant, client_of, running_plant
from tests.security.certificates import Identity

TICK_S = 0.05
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# The rates are for one client; a test is a hundred of them in a hurry.
LIMITS = ServerLimits(
    connect_burst=1_000_000,
    requests_per_s=100_000,
    request_burst=100_000,
    early_request_burst=1000,
    hello_s=1.0,
)


# --- in the process of the test ------------------------------------------------------------------------


@dataclass
class Victim:
    """The server as its test sees it.

    Attributes:
        url: Its endpoint.
        plain: NodeId of the variable that counts; ``held`` and ``methods`` as in ``Plant``.
    """

    url: str
    certificate: x509.Certificate
    process: asyncio.subprocess.Process

    plain = ua.NodeId("plain", 2)
    array = ua.NodeId("array", 2)
    held = ua.NodeId("held", 2)
    machine = ua.NodeId("machine", 2)
    echo = ua.NodeId("echo", 2)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def client(self, identity: Identity | None = GOOD) -> Client:
        """Return a client that is not connected yet."""
        return client_of(self.url, self.certificate, identity)

    async def facts(self) -> dict[str, Any]:
        """Return what it has open, after it collected its garbage; see :func:`_facts`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"facts\n")
        async with asyncio.timeout(20):
            return dict(json.loads(await self.process.stdout.readline()))

    async def settled(self, within_s: float = 10.0) -> dict[str, Any]:
        """Return its facts once nobody is connected any more, or after a while."""
        until_s = time.monotonic() + within_s
        while True:
            facts = await self.facts()
            if not (facts["connections"] or facts["closing"]) or time.monotonic() > until_s:
                return facts
            await asyncio.sleep(0.1)

    async def rss_bytes(self) -> int:
        """Return its resident memory."""
        return await asyncio.to_thread(_rss_bytes, self.process.pid)


@asynccontextmanager
async def running_victim(state: Path, *, trusted: tuple[Identity, ...] = (GOOD,)) -> AsyncIterator[Victim]:
    """Start the process and wait until it listens."""
    await asyncio.to_thread(_hand_over, state, trusted)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.opcua.victim",
        str(state),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            told = json.loads(await process.stdout.readline())
        yield Victim(told["url"], x509.load_pem_x509_certificate(told["certificate"].encode()), process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _hand_over(state: Path, trusted: tuple[Identity, ...]) -> None:
    folder = state / "trust"
    folder.mkdir(parents=True, exist_ok=True)
    for index, identity in enumerate(trusted):
        (folder / f"{index}.der").write_bytes(identity.der)


def _rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


# --- the process itself --------------------------------------------------------------------------------


class _Log:
    """Counts log events; of what nobody foresaw it keeps the text."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.unforeseen: list[str] = []

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        self.events[event["event"]] += 1
        if event["event"] == "request.failed" and len(self.unforeseen) < 20:
            self.unforeseen.append(_where(event.get("exc_info")) or str(event.get("error")))
        raise structlog.DropEvent


def _where(exc: Any) -> str:
    if not isinstance(exc, BaseException):
        return ""
    place, traceback = "", exc.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        place, traceback = f"{Path(code.co_filename).name}:{traceback.tb_lineno}", traceback.tb_next
    return f"{exc!r:.150} at {place}"


def _facts(plant: Plant, log: _Log) -> dict[str, Any]:
    gc.collect()
    core = plant.server.iserver
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - of this process
        "objects": len(gc.get_objects()),
        "connections": len(plant.server.bserver.clients) if plant.server.bserver else 0,
        "closing": len(plant.server.bserver.closing_tasks) if plant.server.bserver else 0,
        "sessions": len(core.sessions()),
        "subscriptions": len(core.subscription_service.subscriptions),
        "rss": _rss_bytes(os.getpid()),
        "events": dict(log.events),
        "unforeseen": log.unforeseen,
    }


async def _count_up(plant: Plant) -> None:
    count = 0.0
    while True:
        count += 1
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(count)))
        await asyncio.sleep(TICK_S)


async def _serve(state: Path) -> None:
    log = _Log()
    structlog.configure(processors=[log])
    async with running_plant(state, allow_none=True, limits=LIMITS) as plant, asyncio.TaskGroup() as group:
        for der in sorted((state / "trust").iterdir()):
            plant.trust.add(der.read_bytes(), roles=OPERATES)
        counting = group.create_task(_count_up(plant))
        certificate = plant.pki.certificate.public_bytes(_pem()).decode()
        _say({"url": plant.server.url, "certificate": certificate})
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while await reader.readline():
            _say(_facts(plant, log))
        counting.cancel()


def _pem() -> Any:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - the other end of the pipe


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
