"""Servers and clients that somebody else wrote, each in a process of its own; found in a checkout only."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[3] / "tests" / "peers"
INSTALLED: Final = SOURCES / ".installed"
SNAP7: Final = INSTALLED / "snap7" / "bin" / "python"
CPPPO: Final = INSTALLED / "cpppo" / "bin" / "python"
THINGSBOARD: Final = INSTALLED / "thingsboard" / "bin" / "python"
REGISTERS: Final = 12_000
# From here on a register holds its number; before lie values for other tests, NaN among them.
FIRST: Final = 1_100
_START_S: Final = 20.0
_STOP_S: Final = 3.0


class MissingPeerError(Exception):
    """A peer is not here; says what would bring it."""


@dataclass
class Process:
    """A peer at work."""

    popen: subprocess.Popen[bytes]
    port: int = 0

    def say(self, line: str) -> str:
        """Send it a line and return its answer."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()
        return self.hear()

    def hear(self) -> str:
        """Return its next line; MissingPeerError if none comes."""
        assert self.popen.stdout is not None
        if not select.select([self.popen.stdout], [], [], _START_S)[0]:
            raise MissingPeerError(f"{self.popen.args!r} says nothing")
        line = self.popen.stdout.readline().decode()
        if not line:
            raise MissingPeerError(f"{self.popen.args!r} ended with {self.popen.wait()}")
        return line.strip()

    def freeze(self) -> None:
        """Let it live and do nothing."""
        self.popen.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def process(command: Sequence[str], *, port: int = 0) -> Iterator[Process]:
    """Run a peer that says a line when it is ready, and end it afterwards."""
    popen = subprocess.Popen(  # noqa: S603 - programs of this checkout
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        peer = Process(popen, port)
        said = peer.hear().split()
        peer.port = port or int(said[-1])
        yield peer
    finally:
        popen.send_signal(signal.SIGCONT)
        popen.terminate()
        try:
            popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
        for pipe in (popen.stdin, popen.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@cache
def libmodbus() -> Path:
    """Compile the programs on libmodbus and return the folder they are in until this process ends.

    Raises:
        MissingPeerError: The compiler, the library or the sources are not here.
    """
    compiler = shutil.which("gcc")
    sources = SOURCES / "libmodbus"
    if compiler is None or not sources.is_dir():
        raise MissingPeerError("the C programs need gcc, libmodbus-dev and a checkout of the sources")
    folder = Path(tempfile.mkdtemp(prefix="edge-opcua-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("server", "client"):
        source, program = str(sources / f"{name}.c"), str(folder / name)
        defines = ["-O2", f"-DSIZE={REGISTERS}", "-I/usr/include/modbus"]
        made = subprocess.run(  # noqa: S603 - our own sources
            [compiler, *defines, source, "-o", program, "-lmodbus"], capture_output=True, check=False
        )
        if made.returncode:
            raise MissingPeerError("libmodbus-dev is not here: apt-get install libmodbus-dev")
    return folder


@contextlib.contextmanager
def modbus_server() -> Iterator[Process]:
    """Run a Modbus TCP device on libmodbus; it takes one client at a time and answers for every unit."""
    with process([str(libmodbus() / "server"), "tcp", "0"]) as peer:
        yield peer


def modbus_client_us(port: int, requests: int, registers: int = 125) -> float:
    """Return what a C client needs for a read request, µs."""
    command = [str(libmodbus() / "client"), str(port), str(requests), str(registers)]
    done = subprocess.run(  # noqa: S603 - compiled a moment ago
        command, capture_output=True, check=True, timeout=_START_S
    )
    return float(done.stdout.split()[0])


@contextlib.contextmanager
def snap7_server() -> Iterator[Process]:
    """Run the C server of snap7."""
    if not SNAP7.exists():
        raise MissingPeerError("the C server of snap7 is not here: run tests/peers/install")
    port = free_port()
    with process([str(SNAP7), str(SOURCES / "snap7_server.py"), str(port)], port=port) as peer:
        yield peer


@contextlib.contextmanager
def simulator(*arguments: str) -> Iterator[Process]:
    """Run a module of this package that says ``ready PORT``."""
    with process([sys.executable, "-m", *arguments]) as peer:
        yield peer


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def own_cpu_s() -> float:
    """Return the processor time of this process, seconds."""
    times = os.times()
    return times.user + times.system
