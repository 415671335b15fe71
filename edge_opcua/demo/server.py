"""The server of the demo, as its own process: the very command a user would type."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from edge_opcua.errors import EdgeError

READY_S = 30.0
END_S = 5.0
_ENDPOINT = re.compile(r"opc\.tcp://\S+")


class DemoServer:
    """``edge-opcua run`` on a configuration.

    Args:
        config: Configuration file.
        state_dir: State directory.
        environment: Variables the configuration refers to.
    """

    def __init__(self, config: Path, state_dir: Path, environment: Mapping[str, str]) -> None:
        self._command = (
            "-m",
            "edge_opcua.cli",
            "run",
            str(config),
            "--state",
            str(state_dir),
            "--end-with-parent",
        )
        self._environment = {**os.environ, **environment}
        self._log_path = state_dir / "demo-server.log"
        self._process: asyncio.subprocess.Process | None = None
        self.lines: deque[str] = deque(maxlen=200)
        self.endpoint = ""
        self._ready = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    async def start(self, group: asyncio.TaskGroup) -> None:
        """Start the server and wait until it listens.

        Raises:
            EdgeError: It did not come up; the message holds what it said.
        """
        self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self._reader = group.create_task(self._read_lines(), name="server.lines")
        try:
            async with asyncio.timeout(READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise EdgeError(f"the server was not ready in {READY_S:g} s:\n{self._last_words()}") from None
        if not self.endpoint:
            raise EdgeError(f"the server ended at once:\n{self._last_words()}")

    def log(self) -> str:
        """Return what the server has logged so far."""
        return self._log_path.read_text("utf-8", "replace")

    async def stop(self) -> int | None:
        """Ask the server to end, as Ctrl-C would, and return its exit code."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(END_S):
                return await self._process.wait()
        except TimeoutError:
            os.kill(self._process.pid, signal.SIGKILL)
            return await self._process.wait()

    async def _read_lines(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            self.lines.append(line)
            found = _ENDPOINT.search(line)
            if found and not self.endpoint:
                self.endpoint = found.group()
            if line.startswith("ready"):
                self._ready.set()
        self._ready.set()

    def _last_words(self) -> str:
        log = self.log().splitlines()
        return "\n".join([*self.lines, *log[-20:]])
