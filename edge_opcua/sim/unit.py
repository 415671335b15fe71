"""What the processes of a simulated plant share: they obey one parent and do not outlive it."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the arguments of one command and returns what it found; raises ValueError for what it refuses."""

LINE_LIMIT_BYTES: Final = 64 * 1024
_PR_SET_PDEATHSIG: Final = 1


class Unit(Protocol):
    """One process of the plant."""

    @property
    def commands(self) -> Mapping[str, Command]:
        """What the parent can ask for, by name."""
        ...

    async def open(self) -> dict[str, Any]:
        """Open the sockets and return what the parent has to know, the ports above all."""
        ...

    async def run(self) -> None:
        """Work until cancelled, then close everything."""
        ...


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments every unit understands."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--control-fd", type=int, help="socket the parent commands this process through")
    parser.add_argument("--parent", type=int, help="process id of the parent")
    return parser


def run(unit: Unit, arguments: argparse.Namespace) -> int:
    """Run a unit until its parent goes, SIGTERM arrives or it fails; return the exit code.

    Without a parent the ready line goes to stdout and SIGINT ends the process as well.
    """
    if arguments.parent is not None:
        _die_with(arguments.parent)
    return asyncio.run(_run(unit, arguments.control_fd))


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, even while it is stopped by SIGSTOP."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)


async def _run(unit: Unit, control_fd: int | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    control = None
    if control_fd is None:
        loop.add_signal_handler(signal.SIGINT, stopping.set)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C on a terminal is for the parent to handle
        control = socket.socket(fileno=control_fd)
    try:
        ready = {"ready": await unit.open()}
    except (OSError, ValueError) as exc:  # a port that is taken, an address that is not ours, a wrong program
        _tell(control, {"failed": str(exc)})
        return 1
    _tell(control, ready)
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(unit.run(), name="unit")]
        if control is not None:
            obey = _obey(control, unit.commands, stopping)
            work.append(tasks.create_task(obey, name="parent"))
        await stopping.wait()
        for task in work:
            task.cancel()
    return 0


def _tell(control: socket.socket | None, message: dict[str, Any]) -> None:
    """Say the first words; the parent waits for them, so they cannot block."""
    if control is None:
        sys.stdout.write(_line(message).decode())
        sys.stdout.flush()
        return
    with suppress(ConnectionError):  # a parent that has gone is noticed when its commands end
        control.sendall(_line(message))


async def _obey(control: socket.socket, commands: Mapping[str, Command], stopping: asyncio.Event) -> None:
    """Answer the parent's commands, one JSON object per line, until it closes its end."""
    reader, writer = await asyncio.open_unix_connection(sock=control, limit=LINE_LIMIT_BYTES)
    try:
        while line := await reader.readline():
            writer.write(_line(await _answer(json.loads(line), commands)))
            await writer.drain()
    except (ConnectionError, json.JSONDecodeError):
        pass  # a parent that is gone or talks nonsense is no parent
    finally:
        stopping.set()
        writer.close()


async def _answer(request: dict[str, Any], commands: Mapping[str, Command]) -> dict[str, Any]:
    number, name = request.pop("id"), request.pop("do")
    command = commands.get(name)
    if command is None:
        return {"id": number, "error": f"there is no command {name}; there are {', '.join(commands)}"}
    try:
        return {"id": number, "found": await command(request)}
    except (ValueError, KeyError, TypeError) as exc:
        return {"id": number, "error": f"{name}: {exc}"}


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
