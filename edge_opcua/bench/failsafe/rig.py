"""A line to break: the press cell, ``edge-opcua run`` on it as a user starts it, and an operator's client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from asyncua import ua

from edge_opcua.assets import examples_dir
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.demo.client import ScadaClient
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.sim.cell import Cell

MACHINE: Final = "Press01"
OUTPUT: Final = "verdict"
WAIT_S: Final = 40.0
_LOOK_S: Final = 0.02
_SETTINGS: Final = {
    "deadline_ms": "30",  # so that a result is late before its lane is silent for too long
    "plc_timeout_ms": "500\nrecover_hold_s = 0.5",  # the time-out as it is; each trial waits for the other
}


class Rig:
    """Cell, server and client; ``async with`` starts and ends them.

    Args:
        home: Directory for configuration, state and keys.
        time_factor: Speed of the press; 6 gives 1.8 strokes a second.

    Attributes:
        cell: The press and its vibration unit.
        config: The configuration that runs.
        server: The server on it.
        client: The operator's client.
        frozen: Processes that a trial has frozen.
    """

    def __init__(self, home: Path, *, time_factor: float = 6.0) -> None:
        self.clock: Clock = SystemClock()
        self.cell = Cell(time_factor=time_factor)
        self.config = _example(home, _SETTINGS)
        self.state_dir = home / "state"
        self.state_dir.mkdir(exist_ok=True)
        self.frozen: list[int] = []
        self._home = home
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start everything; the client is let in as an operator."""
        try:
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            await self._stack.enter_async_context(self.cell)
            self.server = DemoServer(self.config, self.state_dir, self.environment)
            self._stack.push_async_callback(self.server.stop)
            await self.server.start(group)
            self.client = await self._client()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the client, the server and the cell."""
        del kind, exc, trace
        signal_all(self.frozen, signal.SIGCONT)  # whom a trial left frozen could not be asked to end
        await self._stack.aclose()

    @property
    def environment(self) -> Mapping[str, str]:
        """What the configuration is pointed at."""
        return {
            "PRESS_URL": self.cell.s7_url,
            "VIB_URL": self.cell.modbus_url,
            "OPCUA_LISTEN": "127.0.0.1:0",
        }

    async def _client(self) -> ScadaClient:
        client = ScadaClient(self.server.endpoint, self._home / "client", self.clock)
        with contextlib.suppress(EdgeError):  # unknown yet: this is the knock that makes it known
            await client.connect()
        trust = TrustList(StateDir(self.state_dir).pki)
        for knock in trust.rejected():
            trust.trust(knock.thumbprint, frozenset({Role.OPERATOR, Role.ENGINEER}))
        await client.connect()
        self._stack.push_async_callback(_quietly, client)
        await client.browse(MACHINE)
        return client

    async def output(self) -> dict[str, Any]:
        """Return what the server says of the output."""
        reply = await ask(StateDir(self.state_dir).control_socket, "supervisor", "status", {}, timeout_s=3.0)
        if reply.status:
            raise EdgeError(f"the server does not say its status: {reply.reason}")
        found: dict[str, Any] = next(row for row in reply.body["outputs"] if row["output"] == OUTPUT)
        return found

    async def pids(self) -> dict[str, int]:
        """Return the process ids of the server by role."""
        reply = await ask(StateDir(self.state_dir).control_socket, "supervisor", "status", {}, timeout_s=3.0)
        return {row["role"]: int(row["pid"]) for row in reply.body["processes"] if row["pid"]}

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something is seen.

        Raises:
            EdgeError: It never is.
        """
        ends_s = self.clock.monotonic_s() + WAIT_S
        while not await look():
            if self.clock.monotonic_s() > ends_s:
                raise EdgeError(f"not seen within {WAIT_S:g} s: {what}\n{self.last_words()}")
            await self.clock.sleep(_LOOK_S)

    async def write(self, ending: str, *, value: bool) -> None:
        """Write a BOOL of the PLC as a client does.

        Raises:
            EdgeError: The server refuses.
        """
        status = await self.client.write(self.client.find(ending), value=value, kind=ua.VariantType.Boolean)
        if status:
            raise EdgeError(f"{ending} cannot be written: 0x{status:08X}")

    async def call(self, method: str, why: str) -> None:
        """Call a method of the output as an operator.

        Raises:
            EdgeError: The server refuses.
        """
        found = self.client.find(f"{OUTPUT}/{method}")
        try:
            await self.client.call(found.rpartition("/")[0], found, ua.Variant(why, ua.VariantType.String))
        except ua.UaStatusCodeError as exc:
            raise EdgeError(f"{method} was refused: {exc}") from exc

    def last_words(self) -> str:
        """Return the end of what the server printed and logged."""
        log = (self.state_dir / "demo-server.log").read_text("utf-8", "replace").splitlines()
        return "\n".join([*list(self.server.lines)[-10:], *log[-30:]])


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes that the rig started."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def _quietly(client: ScadaClient) -> None:
    with contextlib.suppress(EdgeError):
        await client.disconnect()


def _example(home: Path, settings: Mapping[str, str]) -> Path:
    """Return a copy of the press example with some settings changed."""
    copy = home / "press"
    shutil.copytree(examples_dir() / "press", copy)
    file = copy / "press.toml"
    text = file.read_text()
    for key, value in settings.items():
        text, count = re.subn(rf"^(\s*){key} *= *\S+", rf"\g<1>{key} = {value}", text, flags=re.MULTILINE)
        if not count:
            raise EdgeError(f"{file} does not set {key}")
    file.write_text(text)
    return file
