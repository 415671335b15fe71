"""One child process: started with bus, configuration and control socket, and ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
from dataclasses import dataclass

from edge_opcua.core.bus import Bus
from edge_opcua.core.process import EXIT_HUNG


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What every child gets from the supervisor.

    Args:
        bus: The tag bus.
        config_fd: memfd holding the checked configuration (:mod:`edge_opcua.config.handover`).
        state_dir: State directory, as text for the command line.
    """

    bus: Bus
    config_fd: int
    state_dir: str


class ChildProcess:
    """A running child; made by :meth:`start`.

    Attributes:
        role: Name on the control channel.
        control: Our end of its control socket.
        descriptors: Our end of the socket over which it gets descriptors of new memory.
        inheritance: What it was given at its start.
    """

    def __init__(
        self,
        role: str,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        descriptors: socket.socket,
        inheritance: Inheritance,
    ) -> None:
        self.role = role
        self.control = control
        self.descriptors = descriptors
        self.inheritance = inheritance
        self._process = process

    @classmethod
    async def start(cls, role: str, inheritance: Inheritance, *arguments: str) -> ChildProcess:
        """Start ``python -m edge_opcua.app.child ROLE``; stdout goes nowhere, stderr where ours goes."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        sends, takes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sends.settimeout(0)
        fds = (*inheritance.bus.pass_fds, inheritance.config_fd, theirs.fileno(), takes.fileno())
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edge_opcua.app.child",
                role,
                f"--bus-fd={','.join(map(str, inheritance.bus.fds))}",
                f"--control-fd={theirs.fileno()}",
                f"--config-fd={inheritance.config_fd}",
                f"--descriptors-fd={takes.fileno()}",
                f"--state={inheritance.state_dir}",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=fds,
            )
        except BaseException:
            ours.close()
            sends.close()
            raise
        finally:
            theirs.close()
            takes.close()
        return cls(role, process, ours, sends, inheritance)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Return the exit code once it has ended; negative for a signal."""
        code = await self._process.wait()
        self.descriptors.close()
        return code

    async def end(self, *, grace_s: float) -> int:
        """Ask it to stop, and kill it when ``grace_s`` is over; return the exit code."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """Kill it now, frozen or not."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal; not by asyncio's process, which polls first and so takes the exit code away."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def config_memfd(config: bytes) -> int:
    """Return a memfd that holds the configuration for the children to map; nobody can change it."""
    fd = os.memfd_create("edge_opcua.config", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    at = 0
    while at < len(config):
        at += os.write(fd, memoryview(config)[at:])
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def exit_text(code: int) -> str:
    """Return in words how a process ended."""
    if code == EXIT_HUNG:
        return "ended itself because a model hung"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
