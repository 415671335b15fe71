"""A server in a process of its own, so that its memory, tasks and descriptors can be counted.

``python -m tests.opcua.victim STATE`` is that process. It trusts the certificates in ``STATE/trust``, counts
``plain`` and its tags up every 50 ms, answers each line on standard input with what it has open, and ends
with it.
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

import numpy as np
import structlog
from asyncua import Client, ua
from cryptography import x509

from edge_opcua.config.tags import TagConfig
from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import BAD_DEVICE_FAILURE, UNCERTAIN_LAST_USABLE, BlockSpec, Scalar
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import PLANT
from tests.opcua.secure_peers import GOOD, OPERATES, Plant, client_of, running_plant
from tests.security.certificates import Identity

TICK_S = 0.05
TAGS = (
    *(f"{scalar.name}_{i}" for i in range(8) for scalar in Scalar if scalar is not Scalar.STRING),
    "STRING_0",
    "INT32_array",
)
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
    tags = ua.NodeId("Tags", PLANT)
    tag = tuple(ua.NodeId(f"Tags.{name}", PLANT) for name in TAGS)
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

    async def settled(self, within_s: float = 30.0) -> dict[str, Any]:
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

    BUGS = frozenset(
        {
            "request.failed",
            "notify.failed",
            "schedule.failed",
            "read.failed",
            "item.read_failed",
            "item.not_encoded",
            "connection.not_closed",
        }
    )

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.unforeseen: list[str] = []

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        self.events[event["event"]] += 1
        if event["event"] in self.BUGS and len(self.unforeseen) < 20:
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


class _Tags:
    """Two blocks of tags of every kind, which are rows and no nodes."""

    def __init__(self, plant: Plant) -> None:
        core = plant.server.iserver
        table = core.aspace.tags
        table.folder = Victim.tags
        self._blocks: list[tuple[LiveBlock, TagBatch]] = []
        half = len(TAGS) // 2
        for name, tags in (("one", TAGS[:half]), ("two", TAGS[half:])):
            configs = [_config(each) for each in tags]
            spec = BlockSpec(f"press.{name}", tuple(each.spec for each in configs), 4)
            block = LiveBlock(spec, core.clock)
            table.add(block, [(row, f"Tags.{each.name}", each) for row, each in enumerate(configs)])
            self._blocks.append((block, TagBatch(BlockLayout(spec))))
        core.access.cover(table, core.aspace.virtual)

    def poll(self, count: int) -> None:
        """Let new values come in; now and then they are Bad, of another status, or some were lost."""
        for block, batch in self._blocks:
            for row, tag in enumerate(batch.layout.spec.tags):
                if tag.length and tag.type is Scalar.STRING:
                    batch.set_text(row, f"{count}")
                elif tag.length:
                    batch.set_array(row, [count % 100] * 3)
                else:
                    batch.set(row, tag.type.dtype.type(count % 100))
            batch.status[:] = 0 if count % 7 else BAD_DEVICE_FAILURE
            batch.source_ns[:] = batch.server_ns[:] = time.time_ns()
            status = np.where(count % 11, batch.status, np.uint32(UNCERTAIN_LAST_USABLE))
            block.take(batch, status.astype(np.uint32), missed=count % 13 == 0)


def _config(name: str) -> TagConfig:
    kind, _, number = name.partition("_")
    length = {"STRING": 16}.get(kind, 3 if number == "array" else 0)
    high = 100.0 if number == "1" and kind in ("DOUBLE", "INT32") else None
    low = 0.0 if high else None
    return TagConfig(name, "DB1.DBD0:REAL", type=Scalar[kind], length=length, low=low, high=high)


async def _count_up(plant: Plant, tags: _Tags) -> None:
    count = 0.0
    while True:
        count += 1
        tags.poll(int(count))
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(count)))
        await asyncio.sleep(TICK_S)


async def _serve(state: Path) -> None:
    log = _Log()
    structlog.configure(processors=[log])
    async with running_plant(state, allow_none=True, limits=LIMITS) as plant, asyncio.TaskGroup() as group:
        for der in sorted((state / "trust").iterdir()):
            plant.trust.add(der.read_bytes(), roles=OPERATES)
        machine = plant.machine
        await machine.add_folder(Victim.tags, ua.QualifiedName("Tags", PLANT))
        counting = group.create_task(_count_up(plant, _Tags(plant)))
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
