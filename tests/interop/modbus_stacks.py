"""Processes of others that speak Modbus: programs on libmodbus, and socat between."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parents[1] / "peers" / "libmodbus"
HEADER = Path("/usr/include/modbus/modbus.h")
UNIT = 7


def build(target: Path) -> Path:
    """Compile the programs; skip with the reason where that cannot be."""
    for tool in ("gcc", "socat"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: run tests/peers/install")
    if not HEADER.exists():
        pytest.skip("libmodbus-dev is not installed: run tests/peers/install")
    for name in ("server", "client"):
        command = [
            "gcc",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-o",
            str(target / name),
            f"{SOURCES / name}.c",
        ]
        done = subprocess.run(
            [*command, f"-I{HEADER.parent}", "-lmodbus"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    return target


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program until the end of the block; only this one is ended, also if it is stopped."""
    running = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGCONT)
            running.kill()
        async with asyncio.timeout(5.0):
            await running.communicate()


@dataclass
class Stack:
    """A device as somebody else built it.

    Args:
        url: How we reach it.
        device: The process that answers.
        options: What our device needs for it.
    """

    url: str
    device: asyncio.subprocess.Process
    options: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Run a program that says ``ready PORT`` when it is."""
    async with process(*command) as running:
        assert running.stdout is not None
        async with asyncio.timeout(5.0):
            said = (await running.stdout.readline()).split()
        assert said[:1] == [b"ready"], said
        yield running, int(said[1])


@asynccontextmanager
async def tcp(programs: Path) -> AsyncIterator[Stack]:
    async with serving(str(programs / "server"), "tcp", "0") as (device, port):
        yield Stack(f"modbus://127.0.0.1:{port}/{UNIT}", device)


@asynccontextmanager
async def rtu(programs: Path, at: Path) -> AsyncIterator[Stack]:
    ours, theirs = at / "ours", at / "theirs"
    async with AsyncExitStack() as stack:
        ends = [f"pty,raw,echo=0,link={end}" for end in (ours, theirs)]
        await stack.enter_async_context(process("socat", *ends))
        await until_there(ours, theirs)
        command = str(programs / "server"), "rtu", str(theirs), "115200", str(UNIT)
        device, _ = await stack.enter_async_context(serving(*command))
        yield Stack(f"modbus+rtu://{ours}?baud=115200&parity=N&unit={UNIT}", device)


@asynccontextmanager
async def rtutcp(programs: Path, at: Path) -> AsyncIterator[Stack]:
    port, theirs = free_port(), at / "slave"
    async with AsyncExitStack() as stack:
        listen = f"tcp-listen:{port},bind=127.0.0.1,reuseaddr,fork,max-children=1,nodelay"
        # One at a time: behind the end of a connection socat would read the line beside the next one.
        other = at / "server"
        ends = [f"pty,raw,echo=0,link={end}" for end in (other, theirs)]
        await stack.enter_async_context(process("socat", *ends))
        await until_there(other, theirs)
        await stack.enter_async_context(process("socat", "-t0.001", listen, f"{other},raw,echo=0"))
        command = str(programs / "server"), "rtu", str(theirs), "115200", str(UNIT)
        device, _ = await stack.enter_async_context(serving(*command))
        await until_open(port)
        yield Stack(f"modbus+rtutcp://127.0.0.1:{port}/{UNIT}", device)


@asynccontextmanager
async def tls(programs: Path, pki: dict[str, Path]) -> AsyncIterator[Stack]:
    port = free_port()
    async with tcp(programs) as plain, AsyncExitStack() as stack:
        inner = plain.url.split(":")[-1].split("/")[0]
        listen = (
            f"openssl-listen:{port},bind=127.0.0.1,reuseaddr,fork,verify=1,openssl-min-proto-version=TLS1.2,"
            f"cert={pki['device']},key={pki['device.key']},cafile={pki['ca']}"
        )
        await stack.enter_async_context(process("socat", listen, f"tcp:127.0.0.1:{inner},nodelay"))
        await until_open(port)
        files = {"ca": pki["ca"], "certificate": pki["ours"], "key": pki["ours.key"]}
        options = {name: str(path) for name, path in files.items()}
        yield Stack(f"modbus+tls://127.0.0.1:{port}/{UNIT}", plain.device, options)


async def until_there(*paths: Path) -> None:
    async with asyncio.timeout(5.0):
        while not all(path.exists() for path in paths):
            await asyncio.sleep(0.01)


async def until_open(port: int) -> None:
    """Wait until somebody listens, without a connection of its own: a device may take one only."""
    needle = f":{port:04X} 00000000:0000 0A"
    async with asyncio.timeout(5.0):
        while needle not in Path("/proc/net/tcp").read_text():
            await asyncio.sleep(0.01)
