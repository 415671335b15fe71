"""A line whose configuration is changed while it runs: PLCs that count, a server on them, and a client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asyncua import Client, Node, ua

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.demo.server import DemoServer

HEAD = """\
version = 1
[site]
name = "p"
machine = "{machine}"
[opcua]
listen = "127.0.0.1:0"
security = ["None"]
anonymous = true
publish_ms = 20
"""
DEVICE = """
[[devices]]
name = "{name}"
driver = "modbus"
url = "modbus://127.0.0.1:{port}/1"
tags = "{name}.csv"
timeout_ms = 500
  [[devices.groups]]
  name = "fast"
  period_ms = 50
"""
COUNT = "{name}_count,hr:0:UINT,fast"


class CountingPlc:
    """Answers Modbus reads: register 0 is how many there were, the others hold their number.

    Attributes:
        reads: Reads that were answered.
        connections: Connections that were made.
    """

    def __init__(self) -> None:
        self.reads = self.connections = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
                function, start, count = struct.unpack(">BHH", (await reader.readexactly(length - 1))[:5])
                self.reads += 1
                registers = [self.reads & 0xFFFF if start + i == 0 else start + i for i in range(count)]
                body = struct.pack(f">BB{count}H", function, 2 * count, *registers)
                writer.write(struct.pack(">HHHB", number, 0, len(body) + 1, unit) + body)
                await writer.drain()
        writer.close()


@dataclass(slots=True)
class Watched:
    """What a client was told of one node.

    Attributes:
        values: Value and StatusCode of each notification, in order.
    """

    values: list[tuple[Any, int]] = field(default_factory=list)

    def datachange_notification(self, _node: Node, value: Any, data: Any) -> None:
        """Take a notification."""
        self.values.append((value, int(data.monitored_item.Value.StatusCode.value)))

    @property
    def last(self) -> tuple[Any, int]:
        """The newest one."""
        return self.values[-1] if self.values else (None, -1)

    @property
    def statuses(self) -> set[int]:
        """Every StatusCode there was."""
        return {status for _, status in self.values}

    def is_gapless(self) -> bool:
        """Whether the values count without leaving one out."""
        told = [value for value, status in self.values if status == 0]
        return len(told) > 1 and told == list(range(told[0], told[0] + len(told)))


class Line:
    """A server whose devices are counting PLCs, and one client; ``async with`` starts and ends them.

    Args:
        home: Directory for configuration and state.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "line.toml"
        self.state_dir = home / "state"
        self.clock = SystemClock()
        self.plcs = {name: CountingPlc() for name in "abc"}
        self.machine = "M"
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            for plc in self.plcs.values():
                await plc.start()
                self._stack.callback(plc.stop)
            self.write("a")
            self.server = DemoServer(self.file, self.state_dir, {})
            self._stack.push_async_callback(self.server.stop)
            await self.server.start(group)
            self.client = await self._stack.enter_async_context(Client(self.server.endpoint))
            self.namespace = await self.client.get_namespace_index("urn:p:plant")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- its configuration ---------------------------------------------------------------------------

    def write(self, *devices: str, tail: str = "", **tags: Iterable[str]) -> None:
        """Write the configuration: devices with a tag that counts, and more rows of each by its name."""
        text = HEAD.format(machine=self.machine)
        for name in devices:
            rows = [COUNT.format(name=name), *tags.get(name, ())]
            (self.home / f"{name}.csv").write_text("\n".join(["name,address,group", *rows, ""]))
            text += DEVICE.format(name=name, port=self.plcs[name].port)
        self.file.write_text(text + tail)

    async def reload(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run ``edge-opcua reload --json``; return its exit code and what it said."""
        command = ("-m", "edge_opcua.cli", "reload", "--json", "--state", str(self.state_dir), *arguments)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(told)

    async def asked(self) -> dict[str, Any]:
        """Reload as the command does, without starting one."""
        socket = StateDir(self.state_dir).control_socket
        reply = await ask(socket, "supervisor", "reload", {}, timeout_s=60.0)
        assert reply.status == 0, reply.reason
        return reply.body

    async def applied(self) -> dict[str, Any]:
        """Reload, and see to it that it was applied."""
        body = await self.asked()
        assert body["outcome"] == "applied", f"{body}\n{self.log_tail()}"
        return body

    # --- what its client sees ------------------------------------------------------------------------

    def node(self, tag: str) -> Node:
        """Return the node of a tag."""
        return self.client.get_node(ua.NodeId(f"M.Process.{tag}", self.namespace))

    async def watch(self, tag: str, *, queue: int = 1000) -> Watched:
        """Subscribe to every value of a tag."""
        watched = Watched()
        subscription = await self.client.create_subscription(50, watched)
        await subscription.subscribe_data_change(self.node(tag), queuesize=queue, sampling_interval=0)
        return watched

    async def tags(self) -> list[str]:
        """Return the BrowseNames in the folder of the tags."""
        folder = self.client.get_node(ua.NodeId("M.Process", self.namespace))
        names = [(await child.read_browse_name()).Name for child in await folder.get_children()]
        return [name for name in names if name != "NodeVersion"]

    async def until(self, look: Any, what: str, *, within_s: float = 40.0) -> None:
        """Wait until ``look`` finds something; fail the test if it never does."""
        ends_s = self.clock.monotonic_s() + within_s
        while not look():
            if self.clock.monotonic_s() > ends_s:
                raise AssertionError(f"not seen within {within_s:g} s: {what}\n{self.log_tail()}")
            await self.clock.sleep(0.05)

    async def counts_on(self, watched: Watched, *, values: int = 10) -> None:
        """Wait until some more Good values came."""
        have = len(watched.values)
        await self.until(
            lambda: len(watched.values) >= have + values and watched.last[1] == 0, "values that go on"
        )

    # --- its processes -------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """Return what ``edge-opcua status --json`` prints."""
        socket = StateDir(self.state_dir).control_socket
        reply = await ask(socket, "supervisor", "status", {}, timeout_s=3.0)
        assert reply.status == 0, reply.reason
        return reply.body

    async def pids(self) -> dict[str, int]:
        """Return the process of each role."""
        return {row["role"]: row["pid"] for row in (await self.status())["processes"]}

    async def whole(self) -> None:
        """Wait until every process runs: one that a test stopped for long may have been replaced."""
        async with asyncio.timeout(15):
            while not all((await self.pids()).values()):
                await self.clock.sleep(0.05)

    def log_tail(self) -> str:
        """Return the end of what the server printed and logged."""
        log = (self.state_dir / "demo-server.log").read_text("utf-8", "replace").splitlines()
        return "\n".join([*list(self.server.lines)[-20:], *log[-30:]])


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory_kb(pid: int) -> int:
    """Return the memory of a process that is its own: anonymous, not the shared bus."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not tell RssAnon")


def shared_kb(pid: int) -> int:
    """Return the shared memory that a process maps."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssShmem:"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not tell RssShmem")
