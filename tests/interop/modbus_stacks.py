"""Processes of others that speak Modbus: programs on libmodbus, socat between, and tshark's opinion."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
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


@dataclass
class Tape:
    """What went through a relay: from us or to us, and the bytes."""

    port: int = 0
    chunks: list[tuple[bool, bytes]] = field(default_factory=list)


@asynccontextmanager
async def taped(port: int) -> AsyncIterator[Tape]:
    """Relay to a port of this machine and keep what passes."""
    tape = Tape()
    writers: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, ours: bool) -> None:
        try:
            while chunk := await source.read(4096):
                tape.chunks.append((ours, chunk))
                sink.write(chunk)
        except ConnectionError:
            pass
        finally:
            sink.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, outer))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, outer, ours=True))
            tasks.create_task(pump(inner, writer, ours=False))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    tape.port = listener.sockets[0].getsockname()[1]
    try:
        yield tape
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.02)


def pcap(chunks: Sequence[tuple[bool, bytes]], port: int) -> bytes:
    """Return a capture file in which each chunk is a TCP segment between two hosts (raw IP)."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    sequence = {True: 1, False: 1}
    for number, (ours, chunk) in enumerate(chunks):
        ports = (50_000, port) if ours else (port, 50_000)
        hosts = (b"\x0a\0\0\1", b"\x0a\0\0\2") if ours else (b"\x0a\0\0\2", b"\x0a\0\0\1")
        segment = struct.pack(
            ">HHIIBBHHH", *ports, sequence[ours], sequence[not ours], 0x50, 0x18, 8192, 0, 0
        )
        head = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(chunk), number, 0, 64, 6, 0)
        packet = head + hosts[0] + hosts[1] + segment + chunk
        out.append(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(packet), len(packet)))
        out.append(packet)
        sequence[ours] += len(chunk)
    return b"".join(out)


def dissected(capture: Path, port: int, protocol: str) -> list[dict[str, str]]:
    """Return what tshark sees in a capture, one row per frame; skip where it is not installed."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: run tests/peers/install")
    fields = (
        "_ws.malformed",
        "_ws.expert.message",
        "modbus.func_code",
        "modbus.exception_code",
        "mbtcp.trans_id",
    )
    command = [
        "tshark",
        "-r",
        str(capture),
        "-d",
        f"tcp.port=={port},{protocol}",
        "-T",
        "fields",
        "-E",
        "separator=|",
    ]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return [dict(zip(fields, line.split("|"), strict=True)) for line in done.stdout.splitlines()]
