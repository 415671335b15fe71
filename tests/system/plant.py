"""A whole plant for a test: the simulated cell, ``edge-opcua run`` as a user starts it, and a real client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from edge_opcua.assets import examples_dir
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.demo.client import ScadaClient, Seen
from edge_opcua.demo.server import DemoServer
from edge_opcua.demo.story import MACHINE, WATCHED
from edge_opcua.errors import EdgeError
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.sim.cell import Cell

Found = TypeVar("Found")

RECONNECT_S = 30.0
EXAMPLE = examples_dir() / "press" / "press.toml"
OFFICE = """
[[pipelines]]
name = "trend"
model = "press-anomaly"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = 400
lane = "realtime"
group = "office"

[[pipelines]]
name = "study"
model = "press-anomaly"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = 2000
lane = "best_effort"
group = "office"

"""
"""Two more pipelines for the example, in one process: what nobody waits for at the press."""


class Plant:
    """Cell, server and client on loopback; ``async with`` starts and ends them.

    Args:
        home: Directory for state and keys.
        config: Configuration file.
        environment: Further variables the configuration refers to.
        state_dir: State directory, if it shall not be below ``home``.
        time_factor: Speed of the press; 6 gives 1.8 strokes a second.
    """

    def __init__(
        self,
        home: Path,
        *,
        config: Path = EXAMPLE,
        environment: Mapping[str, str] | None = None,
        state_dir: Path | None = None,
        time_factor: float = 6.0,
    ) -> None:
        self.clock = SystemClock()
        self.state_dir = state_dir or home / "state"
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.cell = Cell(time_factor=time_factor)
        self._config = config
        self._environment = dict(environment or {})
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            await self._stack.enter_async_context(self.cell)
            self.server = DemoServer(self._config, self.state_dir, self.environment)
            self._stack.push_async_callback(self.server.stop)
            await self.server.start(group)
            await self._watch(await self.trusted_client("client"))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def environment(self) -> dict[str, str]:
        """What the example configuration is pointed at."""
        return {
            "PRESS_URL": self.cell.s7_url,
            "VIB_URL": self.cell.modbus_url,
            "OPCUA_LISTEN": "127.0.0.1:0",
            **self._environment,
        }

    async def trusted_client(self, name: str) -> ScadaClient:
        """Return a connected client that was refused, trusted by command, and let in."""
        client = ScadaClient(self.server.endpoint, self.home / name, self.clock)
        with contextlib.suppress(EdgeError):
            await client.connect()
        trust = TrustList(StateDir(self.state_dir).pki)
        for knock in trust.rejected():
            trust.trust(knock.thumbprint, frozenset({Role.OPERATOR, Role.ENGINEER}))
        await client.connect()
        self._stack.push_async_callback(_quietly, client)
        return client

    async def reconnect(self) -> None:
        """Give the plant a new client of the same identity, as soon as the server takes it."""
        client = ScadaClient(self.server.endpoint, self.home / "client", self.clock)
        ends_s = self.clock.monotonic_s() + RECONNECT_S
        while True:
            try:
                await client.connect()
                break
            except EdgeError as exc:
                if self.clock.monotonic_s() > ends_s:
                    raise AssertionError(f"the server did not come back: {exc}\n{self.log_tail()}") from exc
            await self.clock.sleep(0.25)
        self._stack.push_async_callback(_quietly, client)
        await self._watch(client)

    async def _watch(self, client: ScadaClient) -> None:
        await client.browse(MACHINE)
        await client.subscribe({client.find(ending): name for ending, name in WATCHED})
        self.client = client

    async def until(self, look: Callable[[], Found], what: str, *, within_s: float = 40.0) -> Found:
        """Return what ``look`` finds as soon as it finds anything; fail the test if it never does."""
        ends_s = self.clock.monotonic_s() + within_s
        while not (found := look()):
            if self.clock.monotonic_s() > ends_s:
                raise AssertionError(f"not seen within {within_s:g} s: {what}\n{self.log_tail()}")
            await self.clock.sleep(0.05)
        return found

    def now(self, name: str) -> Seen:
        """Return what the client last saw of a value."""
        return self.client.values[name]

    def results(self, since: int = 0, verdict: Verdict | None = None) -> list[dict[str, Any]]:
        """Return the result events since a mark (:meth:`mark`), of one verdict or all."""
        rows = [event.fields for event in self.client.events[since:]]
        rows = [row for row in rows if row.get("Verdict") is not None]
        return [row for row in rows if verdict is None or row["Verdict"] == verdict]

    def mark(self) -> int:
        """Return a mark in the stream of events."""
        return len(self.client.events)

    async def status(self) -> dict[str, Any]:
        """Return what ``edge-opcua status --json`` prints."""
        reply = await ask(StateDir(self.state_dir).control_socket, "supervisor", "status", {}, timeout_s=3.0)
        assert reply.status == 0, reply.reason
        return reply.body

    async def pid(self, role: str) -> int:
        """Return the process id of a role, waiting while it restarts."""
        for _ in range(100):
            for row in (await self.status())["processes"]:
                if row["role"] == role and row["pid"]:
                    return int(row["pid"])
            await self.clock.sleep(0.05)
        raise AssertionError(f"no process {role}")

    def log_tail(self) -> str:
        """Return the end of what the server printed and logged."""
        log = (self.state_dir / "demo-server.log").read_text("utf-8", "replace").splitlines()
        return "\n".join([*list(self.server.lines)[-20:], *log[-40:]])


async def _quietly(client: ScadaClient) -> None:
    with contextlib.suppress(EdgeError):
        await client.disconnect()


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def signal_process(pid: int, number: int) -> None:
    """Send a signal to a process that the test started."""
    os.kill(pid, number)
