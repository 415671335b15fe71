"""What Wireshark makes of our frames: a relay that records, a capture file, and tshark's opinion."""

from __future__ import annotations

import asyncio
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

_PCAP: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)  # raw IP
_RECORD: Final = struct.Struct("<IIII")
_IP: Final = struct.Struct(">BBHHHBBH4s4s")
_TCP: Final = struct.Struct(">HHIIBBHHH")
_SYN, _ACK, _PUSH = 0x02, 0x10, 0x08
_MOST: Final = 1400
_CLIENT, _SERVER = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
_CLIENT_PORT: Final = 50_000
_TIMEOUT_S: Final = 15.0


@dataclass
class Talk:
    """What went over one relay, in order: whether the client sent it, and the bytes.

    Attributes:
        port: Where the relay listens.
    """

    port: int = 0
    said: list[tuple[bool, bytes]] = field(default_factory=list)

    def write(self, path: Path, server_port: int) -> None:
        """Write it as a capture of one TCP connection to the port that the protocol is known by."""
        sent = {True: 1, False: 1}
        packets = [
            _packet(True, _SYN, 0, 0, b"", server_port),
            _packet(False, _SYN | _ACK, 0, 1, b"", server_port),
        ]
        for by_client, data in self.said:
            for at in range(0, len(data), _MOST):
                part = data[at : at + _MOST]
                seen = sent[not by_client]
                packets.append(_packet(by_client, _PUSH | _ACK, sent[by_client], seen, part, server_port))
                sent[by_client] += len(part)
        records = [
            _RECORD.pack(n // 1000, n % 1000 * 1000, len(p), len(p)) + p for n, p in enumerate(packets)
        ]
        path.write_bytes(_PCAP + b"".join(records))


def _packet(
    by_client: bool, flags: int, number: int, acknowledged: int, data: bytes, server_port: int
) -> bytes:
    ports = (_CLIENT_PORT, server_port) if by_client else (server_port, _CLIENT_PORT)
    ends = (_CLIENT, _SERVER) if by_client else (_SERVER, _CLIENT)
    tcp = _TCP.pack(*ports, number, acknowledged, 5 << 4, flags, 65_535, 0, 0) + data
    return _IP.pack(0x45, 0, _IP.size + len(tcp), 0, 0, 64, 6, 0, *ends) + tcp


@asynccontextmanager
async def recorded(port: int) -> AsyncIterator[Talk]:
    """Relay to a port of this machine, and remember what went over."""
    talk = Talk()
    writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, by_client: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                talk.said.append((by_client, data))
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, back))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy(reader, back, True))
            tasks.create_task(copy(there, writer, False))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    talk.port = listener.sockets[0].getsockname()[1]
    try:
        yield talk
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)


def require_tshark() -> str:
    """Return tshark, or skip."""
    found = shutil.which("tshark")
    if found is None:
        pytest.skip("tshark is not installed: run tests/peers/install")
    return found


async def dissected(path: Path, only: str, *fields: str, decode_as: str = "") -> list[list[str]]:
    """Return fields of the packets of a capture that a display filter lets through.

    ``decode_as`` names the protocol of a port that is not known by one: ``tcp.port==4001,mbrtu``.
    """
    wanted = [part for name in fields for part in ("-e", name)]
    ports = ("-d", decode_as) if decode_as else ()
    command = (require_tshark(), *ports, "-r", str(path), "-Y", only, "-T", "fields", *wanted)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(_TIMEOUT_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return [line.split("\t") for line in out.decode().splitlines()]


async def faults(path: Path, *, decode_as: str = "") -> list[list[str]]:
    """Return the packets that Wireshark calls malformed or faulty."""
    return await dissected(
        path,
        "_ws.malformed or _ws.expert.severity == error",
        "frame.number",
        "_ws.expert.message",
        decode_as=decode_as,
    )
