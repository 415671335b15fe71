"""Types the commands of the documents as their reader does: at a desk, in the environment of a notebook."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "peers" / ".installed"


async def type_in(
    desk: Path,
    command: str,
    *,
    peer: str,
    state: Path,
    within_s: float,
    environment: Mapping[str, str] | None = None,
    ends_with: tuple[int, ...] = (0,),
) -> str:
    """Run a command and return what it prints; fail with what it said if it ends otherwise.

    Args:
        desk: Folder in which it is typed.
        command: The line.
        peer: Environment below ``tests/peers/.installed`` whose programs it finds first.
        state: State directory.
        within_s: Longest time (s).
        environment: Further variables.
        ends_with: Exit codes that are right.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTHON"))}
    child = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        cwd=desk,
        env={
            **ours,
            **(environment or {}),
            "PATH": f"{PEERS / peer / 'bin'}:{os.environ['PATH']}",
            "STATE_DIRECTORY": str(state),
            "OMP_NUM_THREADS": "1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within_s):
            printed, told = (text.decode("utf-8", "replace") for text in await child.communicate())
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode in ends_with, f"{command}\n{printed}\n{told[-2_000:]}"
    return printed
