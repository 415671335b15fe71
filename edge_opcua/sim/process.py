"""Starts and commands one process of a simulated plant; it does not outlive its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import IO, Any, Final

from edge_opcua.errors import ControlError
from edge_opcua.sim.unit import LINE_LIMIT_BYTES

START_S: Final = 15.0
ANSWER_S: Final = 1.0
END_S: Final = 1.0


class UnitProcess:
    """One process of a simulated plant and the line of commands to it.

    Args:
        name: How messages call it.
        module: What it runs, see :mod:`edge_opcua.sim.unit`.
        errors: Where it writes what goes wrong in it; nowhere by default. It never gets the caller's stdout,
            so a pipe behind that ends with the caller.
    """

    def __init__(self, name: str, module: str, *, errors: int | IO[bytes] = subprocess.DEVNULL) -> None:
        self.ready: dict[str, Any] = {}
        self._name = name
        self._module = module
        self._errors = errors
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._asked = 0

    @property
    def pid(self) -> int:
        """Its process id, for SIGSTOP, SIGCONT and SIGKILL."""
        if self._process is None:
            raise ControlError(f"the {self._name} process does not run")
        return self._process.pid

    async def start(self, *arguments: str, shock_fd: int | None = None) -> dict[str, Any]:
        """Start the process and return what it says once it listens.

        Raises:
            ControlError: It did not start, for example because a port is taken.
        """
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno()]
        shock: tuple[str, ...] = ()
        if shock_fd is not None:
            fds.append(shock_fd)
            shock = ("--shock-fd", str(shock_fd))
        with theirs:
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_LIMIT_BYTES)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                "--control-fd",
                str(theirs.fileno()),
                "--parent",
                str(os.getpid()),
                *shock,
                *arguments,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
            )
        said = await self._next_line(START_S)
        if "failed" in said:
            raise ControlError(f"the {self._name} process could not start: {said['failed']}")
        self.ready = said["ready"]
        return self.ready

    async def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """Send one command and return its answer.

        Raises:
            ControlError: The process does not answer.
            ValueError: It refuses the arguments.
        """
        if self._writer is None:
            raise ControlError(f"the {self._name} process does not run")
        async with self._turn:
            self._asked += 1
            request = {"id": self._asked, "do": command, **arguments}
            self._writer.write(json.dumps(request).encode() + b"\n")
            answer = await self._next_line(ANSWER_S)
            while answer["id"] != self._asked:  # the answer to a question whose patience had run out
                answer = await self._next_line(ANSWER_S)
        if "error" in answer:
            raise ValueError(answer["error"])
        found: dict[str, Any] = answer["found"]
        return found

    def kill(self) -> None:
        """Kill the process; it holds nothing that must be put down."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not process.kill(): that polls first, and takes the exit code away from the event loop.
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        process, self._process = self._process, None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if process is not None:
            async with asyncio.timeout(END_S):
                await process.wait()

    async def _next_line(self, timeout_s: float) -> dict[str, Any]:
        assert self._reader is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._reader.readline()
        except (TimeoutError, ConnectionError) as exc:
            raise ControlError(f"the {self._name} process does not answer") from exc
        if not line:
            raise ControlError(f"the {self._name} process has ended")
        message: dict[str, Any] = json.loads(line)
        return message
