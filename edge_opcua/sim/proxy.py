"""A TCP proxy that breaks a link the way plants do: cut, frozen, garbled, slow.

``python -m edge_opcua.sim.proxy`` stands before the units of a plant, in a process of its own so that neither
the plant nor the program under test feels its work.

============== =====================================================================================
pass           forwards both ways
cut            resets all connections and refuses new ones (the port stays reserved)
freeze         takes connections and forwards nothing, like a peer stopped by SIGSTOP; what was
               sent meanwhile arrives after the thaw
freeze:replies requests get through, replies do not: a timed-out write has still been done
freeze:half    the next chunk in each direction is forwarded to its middle, then as freeze
garbage        every chunk is hit at its head: overwritten, preceded by noise, or truncated
delay:S        the round trip takes S seconds longer, half of it on each way
============== =====================================================================================

Garbage hits the head of a chunk because Modbus TCP carries no checksum: a payload bit flipped behind a
correct TCP checksum could not be told from a value by any client.
"""

from __future__ import annotations

import argparse
import asyncio
import enum
import random
import socket
import struct
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.sim import unit

CONNECT_S: Final = 2.0
MAX_DELAY_S: Final = 60.0
_MAX_HELD_BYTES: Final = 256 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_HEAD_BYTES: Final = 8


class Kind(enum.Enum):
    """What a link does to the bytes."""

    FORWARD = "pass"
    CUT = "cut"
    FREEZE = "freeze"
    GARBAGE = "garbage"
    DELAY = "delay"


class Way(enum.Enum):
    """The two directions of a connection."""

    REQUEST = "request"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Mode:
    """How a link behaves.

    Args:
        kind: What it does.
        frozen: The directions that a frozen link holds back.
        half: A freezing link forwards one more half chunk.
        delay_s: What a slow link adds to one direction, s.
    """

    kind: Kind
    frozen: frozenset[Way] = frozenset()
    half: bool = False
    delay_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Mode:
        """Read a mode as the module's docstring lists them.

        Raises:
            ValueError: There is no such mode.
        """
        name, _, detail = text.partition(":")
        kind = Kind(name)
        if kind is Kind.DELAY:
            delay_s = float(detail)
            if not 0.0 <= delay_s <= MAX_DELAY_S:
                raise ValueError(f"a delay lies between 0 and {MAX_DELAY_S:g} s, not {detail}")
            return cls(kind, delay_s=delay_s / 2)
        if kind is Kind.FREEZE and detail in ("", "half", "replies"):
            frozen = frozenset({Way.REPLY} if detail == "replies" else Way)
            return cls(kind, frozen=frozen, half=detail == "half")
        if detail:
            raise ValueError(f"{name} knows no {detail}")
        return cls(kind)


PASS: Final = Mode(Kind.FORWARD)


class Link:
    """One proxied port.

    Args:
        host: Address to listen on.
        port: Port to listen on, 0 for any that is free.
        seed: Seed of the noise.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0) -> None:
        self.mode = PASS
        self.port = port
        self.target: tuple[str, int] | None = None
        self.noise = random.Random(seed)  # noqa: S311 - noise on a wire, not a secret
        self.forwarded_bytes = 0
        self._host = host
        self._reserved: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._connects: asyncio.TaskGroup | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._pairs)

    async def open(self) -> None:
        """Listen; from now on ``port`` names the port for the life of the link, cut or not."""
        # A bound socket that never listens keeps the port ours while the link is cut, and lets the kernel
        # refuse connections to it.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self._host, self.port))
        self.port = self._reserved.getsockname()[1]
        await self._listen()

    async def run(self) -> None:
        """Connect clients to the target until cancelled, then drop everything."""
        try:
            async with asyncio.TaskGroup() as self._connects:
                for pair in self._pairs:
                    pair.reach()
                await asyncio.Event().wait()
        finally:
            self._connects = None
            self._cut()
            if self._reserved is not None:
                self._reserved.close()

    async def set(self, mode: Mode) -> None:
        """Change how the link behaves, for the connections there are and for new ones."""
        self.mode = mode
        if mode.kind is Kind.CUT:
            self._cut()
        elif self._listener is None:
            await self._listen()
        for pair in tuple(self._pairs):
            pair.adapt()

    def take(self, pair: _Pair) -> None:
        """Register a new client."""
        self._pairs.add(pair)
        pair.reach()

    def forget(self, pair: _Pair) -> None:
        """Let a connection go that has ended."""
        self._pairs.discard(pair)

    def connect(self, pair: _Pair) -> bool:
        """Start to connect a client to the target; False when it is too early for that."""
        if self._connects is None:
            return False
        self._connects.create_task(self._connect(pair), name="proxy.connect")
        return True

    async def _connect(self, pair: _Pair) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self.target is None:
                raise ConnectionRefusedError
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: pair.server, *self.target)
        except OSError:  # TimeoutError is one
            pair.reset()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Pair(self).client, self._host, self.port, reuse_address=True, backlog=100
        )

    def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for pair in tuple(self._pairs):
            pair.reset()


class _Pair:
    """A client and its server, and what is on the way between them."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.client = _End(self, Way.REQUEST)
        self.server = _End(self, Way.REPLY)
        self._reached = False

    def other(self, end: _End) -> _End:
        return self.server if end is self.client else self.client

    def reach(self) -> None:
        """Connect to the server, unless the link is frozen: a stopped peer does not notice new clients."""
        if not self._reached and Way.REQUEST not in self.link.mode.frozen:
            self._reached = self.link.connect(self)

    def adapt(self) -> None:
        """Take up a changed mode."""
        self.reach()
        for end in (self.client, self.server):
            end.thaw()

    def end(self) -> None:
        """Close both connections behind what is already on its way."""
        self.link.forget(self)
        for end in (self.client, self.server):
            end.close()

    def reset(self) -> None:
        """Close both connections with a reset."""
        self.link.forget(self)
        for end in (self.client, self.server):
            end.reset()


class _End(asyncio.Protocol):
    """One socket of a pair; what it receives goes to the other end in the way the link's mode says."""

    def __init__(self, pair: _Pair, way: Way) -> None:
        self.transport: asyncio.Transport | None = None
        self._pair = pair
        self._way = way
        self._held: deque[tuple[float, bytes]] = deque()  # (due, chunk); an empty chunk ends the stream
        self._held_bytes = 0
        self._half_sent = False
        self._full = False
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start forwarding; a client first needs its server."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._gone:  # the client left while we were connecting
            self.reset()
        elif self._way is Way.REQUEST:
            self._pair.link.take(self._pair)
        else:
            self._pair.client.flush()
        self._steer()

    def data_received(self, data: bytes) -> None:
        """Hold or forward a chunk."""
        if self.transport is not None:
            # A server that waits for an acknowledgement (RFC 896) shall not wait for the proxy's.
            peer = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        mode = self._pair.link.mode
        target = self._pair.other(self).transport
        if mode.half and not self._half_sent and target is not None:
            self._half_sent = True
            self._forward(target, data[: len(data) // 2])
            data = data[len(data) // 2 :]
        self._hold(data)

    def eof_received(self) -> bool:
        """Keep the end of the stream behind the bytes before it."""
        self._hold(b"")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on a reset; an orderly end has already been passed on."""
        self.transport = None
        if exc is not None:
            self._pair.reset()

    def pause_writing(self) -> None:
        """Our peer is slow: the other end reads no more."""
        self._pair.other(self).fill(full=True)

    def resume_writing(self) -> None:
        """Our peer has caught up."""
        self._pair.other(self).fill(full=False)

    def fill(self, *, full: bool) -> None:
        """Note whether the other end takes more."""
        self._full = full
        self._steer()

    def thaw(self) -> None:
        """Take up a changed mode."""
        self._half_sent = False
        self.flush()

    def flush(self) -> None:
        """Forward what may go and is due, then read on if there is room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        mode = self._pair.link.mode
        while self._held and self._way not in mode.frozen:
            target = self._pair.other(self).transport
            if target is None:
                break
            due_s, chunk = self._held[0]
            if mode.kind is Kind.DELAY and due_s > loop.time():
                self._timer = loop.call_at(due_s, self.flush)
                break
            self._held.popleft()
            self._held_bytes -= len(chunk)
            self._forward(target, chunk)
        self._steer()

    def close(self) -> None:
        """Close behind what has been written."""
        self._gone = True
        self._drop_held()
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Close with a reset instead of a farewell."""
        self._gone = True
        self._drop_held()
        if self.transport is not None:
            stream = self.transport.get_extra_info("socket")
            if stream.fileno() >= 0:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()

    def _hold(self, chunk: bytes) -> None:
        self._held.append((asyncio.get_running_loop().time() + self._pair.link.mode.delay_s, chunk))
        self._held_bytes += len(chunk)
        self.flush()

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forward(self, target: asyncio.Transport, chunk: bytes) -> None:
        link = self._pair.link
        if not chunk:
            self._pair.end()
            return
        if link.mode.kind is Kind.GARBAGE:
            chunk = garbled(chunk, link.noise)
        link.forwarded_bytes += len(chunk)
        target.write(chunk)

    def _steer(self) -> None:
        """Read from the socket only what can go on; a frozen link leaves the rest in the kernel."""
        if self.transport is None or self.transport.is_closing():
            return
        mode = self._pair.link.mode
        frozen = self._way in mode.frozen and not (mode.half and not self._half_sent)
        if frozen or self._full or self._held_bytes > _MAX_HELD_BYTES:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


def garbled(chunk: bytes, noise: random.Random) -> bytes:
    """Return a chunk whose head is overwritten, preceded by noise, or cut off."""
    match noise.randrange(4):
        case 0:
            return noise.randbytes(noise.randint(1, 24)) + chunk
        case 1:
            return noise.randbytes(min(_HEAD_BYTES, len(chunk))) + chunk[_HEAD_BYTES:]
        case 2:
            return noise.randbytes(len(chunk))
        case _:
            return chunk[noise.randint(1, _HEAD_BYTES) :] or noise.randbytes(1)


class Proxy:
    """The proxies of a plant as one process.

    Args:
        arguments: Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._links = {}
        for seed, text in enumerate(arguments.link):
            name, port, *target = text.split(":")
            link = Link(host=arguments.host, port=int(port), seed=seed)
            link.target = (target[0], int(target[1])) if target else None
            self._links[name] = link

    @property
    def commands(self) -> Mapping[str, unit.Command]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        return {"target": self._set_target, "link": self._set_mode, "truth": self._truth}

    async def open(self) -> dict[str, Any]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        for link in self._links.values():
            await link.open()
        return {"ports": {name: link.port for name, link in self._links.items()}}

    async def run(self) -> None:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        async with asyncio.TaskGroup() as links:
            for name, link in self._links.items():
                links.create_task(link.run(), name=f"proxy.{name}")

    async def _set_target(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._links[arguments["link"]].target = (str(arguments["host"]), int(arguments["port"]))
        return {}

    async def _set_mode(self, arguments: dict[str, Any]) -> dict[str, Any]:
        await self._links[arguments["link"]].set(Mode.parse(arguments["mode"]))
        return {}

    async def _truth(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise ValueError("the truth takes no arguments")
        return {
            name: {
                "mode": link.mode.kind.value,
                "connections": link.connections,
                "forwarded_bytes": link.forwarded_bytes,
            }
            for name, link in self._links.items()
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxies until the parent goes or SIGTERM comes."""
    parser = unit.argument_parser(__doc__)
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="NAME:PORT[:HOST:PORT]",
        help="port to listen on, target",
    )
    arguments = parser.parse_args(argv)
    return unit.run(Proxy(arguments), arguments)


if __name__ == "__main__":
    sys.exit(main())
