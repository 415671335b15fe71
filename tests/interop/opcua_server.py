"""node-opcua's server as a process of its own: the PLC that our OPC UA client driver reads."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.security.certificates import Identity, make

SCRIPT = Path(__file__).parents[1] / "peers" / "opcuaserver.js"
PLANT = "urn:tests:plant"
PASSWORD = "correct horse"
START_S = 15.0
STEP_S = 5.0


@cache
def plc_identity(name: str = "press plc") -> Identity:
    """Make a certificate as a PLC has it."""
    purposes = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    return make(name, uri="urn:tests:plc", purposes=purposes)


class OpcUaServer:
    """The process; see ``opcuaserver.js`` for its settings."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self.port = 0

    async def begin(self) -> None:
        async with asyncio.timeout(START_S):
            self.port = (await self._answer())["port"]

    async def _answer(self) -> Any:
        assert self._process.stdout is not None
        said = []
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):
                return json.loads(line)
            said.append(line.decode(errors="replace"))
        raise AssertionError("".join(said[-20:]))

    async def ask(self, do: str, node: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        number = next(self._ids)
        self._process.stdin.write(json.dumps({"id": number, "do": do, "node": node, **more}).encode() + b"\n")
        async with asyncio.timeout(STEP_S):
            while (answer := await self._answer()).get("id") != number:
                pass
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["result"]

    async def set(self, node: str, value: Any, **more: Any) -> None:
        """Set value, ``status`` (a name), ``time`` (ISO 8601) and ``type`` of a node."""
        await self.ask("set", node, value=value, **more)

    async def get(self, node: str) -> Any:
        """Return what the server holds."""
        return (await self.ask("get", node))["value"]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    async def kill(self) -> None:
        """End the process as a power cut does."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def opcua_server(node: str, home: Path, pki: Path, **settings: Any) -> AsyncIterator[OpcUaServer]:
    """Run a server; its process ends with the block.

    Args:
        node: Node.js.
        home: Where its certificate and key lie: ``plc.pem`` and ``plc.key``.
        pki: Its trust list.
        settings: See ``opcuaserver.js``.
    """
    given = {
        "pki": str(pki),
        "certificate": str(home / "plc.pem"),
        "key": str(home / "plc.key"),
        "uri": "urn:tests:plc",
        "password": PASSWORD,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        node,
        str(SCRIPT),
        json.dumps(given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
    )
    server = OpcUaServer(process)
    try:
        await server.begin()
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        # What it still says is read, or its end is never seen.
        await process.communicate()
