"""node-opcua as a process, for every test that wants a client which is not asyncua."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALLED = HERE.parent / "peers" / ".installed" / "node_modules" / "node-opcua"


def require_node() -> str:
    """Return Node.js; skip the test if it or node-opcua is not here."""
    found = shutil.which("node")
    if found is None or not INSTALLED.is_dir():
        pytest.skip("no node-opcua: run tests/peers/install")
    return found


class NodeClient:
    """The script as a process: waits until it is ready, then for what it saw."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, node: str, job: dict[str, Any]) -> NodeClient:
        process = await asyncio.create_subprocess_exec(
            node,
            str(HERE / "client.js"),
            json.dumps(job),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def ready(self) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._process.stdout.readline():
                if line == b"READY\n":
                    return
        _, err = await self._process.communicate()
        raise AssertionError(err.decode()[-3000:])

    async def seen(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            out, err = await self._process.communicate()
        assert self._process.returncode == 0, err.decode()[-3000:]
        seen: dict[str, Any] = json.loads(out.splitlines()[-1])
        return seen
