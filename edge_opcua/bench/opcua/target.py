"""A server under test with whatever feeds it, started and asked in the same way whoever made it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from asyncua import ua

from edge_opcua.bench.opcua.channel import LoadError, Secured
from edge_opcua.bench.opcua.client import LoadClient
from edge_opcua.bench.opcua.plant import NAME, ROWS, blocks, configuration
from edge_opcua.bench.opcua.remote import START_S, Remote, python
from edge_opcua.bench.opcua.wire import Decoder
from edge_opcua.config.handover import packed
from edge_opcua.core.bus import Bus
from edge_opcua.security.pki import Pki, key_file, open_pki, own_certificate
from edge_opcua.security.trust import TrustList

OURS, ASYNCUA, NODE = "edge_opcua", "asyncua", "node-opcua"
# The default of the product; the fastest it can be set to where latency is measured.
PUBLISH_MS, FAST_MS = 20, 5
PEERS: Final = Path(__file__).parents[3] / "tests" / "peers" / ".installed" / "node_modules"
HOW_TO_GET_NODE: Final = (
    "node-opcua is not here: install Node.js 20, check out the sources, run tests/peers/install"
)
_SERVER_CORE, _CLIENT_CORE = 0, 1


@dataclass(frozen=True, slots=True)
class Load:
    """What a server shall hold.

    Args:
        tags: How many variables.
        flat: Whether they lie in one folder; ours always do.
        doubles: Whether all are Doubles, for embedded times.
    """

    tags: int
    flat: bool = False
    doubles: bool = False


@dataclass
class Home:
    """The folder and certificates of a run."""

    root: Path

    @cached_property
    def client(self) -> Secured:
        """The client's certificate; the server's is put in by each target."""
        pki = open_pki(self.root / "client" / "pki", names=("127.0.0.1",), key_bits=2048)
        own = own_certificate(pki.root)
        return Secured(own, key_file(pki.root), own, pki.application_uri)

    @cached_property
    def identity(self) -> Pki:
        """The servers' identity; it trusts the client."""
        pki = open_pki(self.root / "server" / "pki", names=("127.0.0.1",), key_bits=2048)
        TrustList(pki.root).add(self.client.certificate.read_bytes())
        return pki


@contextmanager
def home() -> Iterator[Home]:
    """Make the folder of a run, and take it away afterwards."""
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as name:
        yield Home(Path(name))


@dataclass
class Target:
    """One server with its producer.

    Attributes:
        name: Whose it is.
        server: Its process.
        producer: The process that feeds it: another one for ours, itself for the peers.
        load: What it holds.
        ready: What it said when it was ready.
        start_s: From its start to that.
        start_cpu_s: Processor time of that.
    """

    name: str
    server: Remote
    producer: Remote
    load: Load
    home: Home
    ready: dict[str, Any]
    start_s: float
    start_cpu_s: float
    memory_mb: float
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.ready["url"])

    def nodes(self, count: int) -> list[ua.NodeId]:
        """Return the first variables."""
        pattern = str(self.ready["nodes"])
        return [ua.NodeId.from_string(pattern.format(NAME.format(item))) for item in range(count)]

    def connect(self, *, secured: bool = False, decoder: Decoder | None = None) -> LoadClient:
        """Open a session."""
        return LoadClient(self.url, self._secured() if secured else None, decoder)

    def _secured(self) -> Secured:
        client = self.home.client
        certificate = own_certificate(self.home.identity.root)
        return Secured(client.certificate, client.key, certificate, client.uri)

    def begin(self, items: int, hz: float, seconds: float, what: str = "values") -> None:
        """Let the first ``items`` variables change ``hz`` times a second; :meth:`finish` tells the end."""
        order = {"do": "run", "hz": hz, "seconds": seconds, "what": what}
        if self.name == OURS:
            order["blocks"] = [0, -(-items // ROWS)]
        else:
            order["items"] = [0, items]
        self.producer.tell(order)

    def finish(self, timeout_s: float = 0.0) -> dict[str, Any] | None:
        """Return what was written, if that is over."""
        return self.producer.heard(timeout_s)

    def pause(self) -> None:
        """Let it have no processor time while another one is measured."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it work."""
        os.kill(self.server.pid, signal.SIGCONT)

    def close(self) -> None:
        """End its processes."""
        self.resume()
        self.stack.close()


def cores() -> tuple[int | None, int | None]:
    """Return the cores of server and client; None where there are no two."""
    usable = sorted(os.sched_getaffinity(0)) if len(os.sched_getaffinity(0)) > 1 else []
    return (usable[_SERVER_CORE], usable[_CLIENT_CORE]) if usable else (None, None)


def node_missing() -> str:
    """Return why node-opcua's server cannot be measured, empty if it can."""
    there = shutil.which("node") is not None and (PEERS / "node-opcua").is_dir()
    return "" if there else HOW_TO_GET_NODE


def start(name: str, load: Load, where: Home, placed: tuple[int | None, int | None]) -> Target:
    """Start a server and wait until it is ready.

    Args:
        name: :data:`OURS`, :data:`ASYNCUA` or :data:`NODE`.
        load: What it shall hold.
        where: Folder and certificates.
        placed: Cores of server and producer.
    """
    with ExitStack() as stack:
        begin = _start_ours if name == OURS else _start_peer
        server, producer = begin(name, load, where, placed, stack)
        ready = server.hear(START_S)
        took_s = time.monotonic() - server.began_s
        target = Target(
            name, server, producer, load, where, ready, took_s, server.cpu_s(), server.memory_mb()
        )
        target.stack = stack.pop_all()
        return target


def _start_ours(
    name: str, load: Load, where: Home, placed: tuple[int | None, int | None], stack: ExitStack
) -> tuple[Remote, Remote]:
    config = configuration(
        load.tags, publish_ms=FAST_MS if load.doubles else PUBLISH_MS, doubles=load.doubles
    )
    bus = Bus.create(blocks(config))
    stack.callback(bus.close)
    fd = os.memfd_create("edge_opcua.bench", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    with open(fd, "wb", closefd=False) as file:
        file.write(packed(config))
    what = "times" if load.doubles else "values"
    producer = Remote(
        python("edge_opcua.bench.opcua.producer"),
        {"bus": bus.fd, "what": what},
        pass_fds=bus.pass_fds,
        core=placed[1],
        log=where.root / "producer.log",
    )
    stack.callback(producer.close)
    producer.hear()
    server = Remote(
        python("edge_opcua.bench.opcua.ours"),
        {"bus": bus.fd, "config": fd, "root": str(where.identity.root.parent)},
        pass_fds=(*bus.pass_fds, fd),
        core=placed[0],
        log=where.root / f"{name}.log",
    )
    stack.callback(server.close)
    return server, producer


def _start_peer(
    name: str, load: Load, where: Home, placed: tuple[int | None, int | None], stack: ExitStack
) -> tuple[Remote, Remote]:
    if name == NODE and (reason := node_missing()):
        raise LoadError(reason)
    command = python("edge_opcua.bench.opcua.plain")
    if name == NODE:
        command = [shutil.which("node") or "node", str(Path(__file__).with_name("node.js")), str(PEERS)]
    pki = where.identity
    given = {
        "tags": load.tags,
        "flat": load.flat,
        "doubles": load.doubles,
        "certificate": str(own_certificate(pki.root)),
        "key": str(key_file(pki.root)),
        "uri": pki.application_uri,
        "root": str(where.root / "node"),
    }
    server = Remote(command, given, core=placed[0], log=where.root / f"{name}.log")
    stack.callback(server.close)
    return server, server


def folder_of(target: Target) -> ua.NodeId:
    """Return the folder that is browsed."""
    if target.name == OURS:
        return ua.NodeId.from_string(str(target.ready["nodes"]).partition(".")[0].rstrip() + ".Process")
    return ua.NodeId.from_string(str(target.ready["folder"]))
