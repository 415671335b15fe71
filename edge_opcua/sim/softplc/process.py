"""The soft PLC as a process: its scan cycle, its servers and what a parent or a person can ask of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_opcua.core.clock import Clock
from edge_opcua.sim import unit
from edge_opcua.sim.s7server import S7Server
from edge_opcua.sim.softplc.areas import Area
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.instance import as_json
from edge_opcua.sim.softplc.plc import SoftPlc, main_around
from edge_opcua.sim.softplc.registers import Registers

MOST_CHANGES: Final = 300
"""Changes in one answer: a line has at most 64 KiB."""


class SoftPlcUnit:
    """The PLC behind S7 and Modbus TCP.

    Args:
        arguments: Of the command line.
        clock: Drives the scan.
    """

    def __init__(self, arguments: argparse.Namespace, *, clock: Clock) -> None:
        self._arguments = arguments
        self._clock = clock
        self._frozen = False
        self._late_ns = 0
        self._plc: SoftPlc
        self._s7: S7Server | None = None
        self._modbus: Registers | None = None

    @property
    def commands(self) -> Mapping[str, unit.Command]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        return {
            "get": self._get,
            "set": self._set,
            "press": self._press,
            "watch": self._watch,
            "trace": self._trace,
            "reaction": self._reaction,
            "trigger": self._trigger,
            "answers": self._answers,
            "freeze": self._freeze,
            "state": self._state,
        }

    async def open(self) -> dict[str, Any]:
        """See :class:`edge_opcua.sim.unit.Unit`; a program that is wrong is told as StError."""
        arguments = self._arguments
        texts = [_text(path) for path in arguments.files]
        if arguments.block:
            texts.append(main_around("\n".join(texts), arguments.block, payload=arguments.payload))
        areas = [Area.parse(text) for text in arguments.area]
        self._plc = SoftPlc(texts, program=arguments.program, areas=areas, watch=arguments.watch)
        for given in arguments.set:
            name, _, value = given.partition("=")
            self._plc.main.set(name, _value(value))
        ports: dict[str, Any] = {}
        if self._plc.blocks:
            self._s7 = S7Server(self._plc.blocks)
            ports["s7"] = await self._s7.open(arguments.host, arguments.port)
        if self._plc.registers is not None:
            ours = [each for each in self._plc.mapped if each.area.block is None]
            self._modbus = Registers(self._plc.registers, ours)
            ports["modbus"] = await self._modbus.open(arguments.host, arguments.modbus_port)
        return ports

    async def run(self) -> None:
        """Scan until cancelled; a scan that comes late shifts the following ones, as on a PLC."""
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._arguments.control_fd is None:
                    tasks.create_task(self._obey_a_person(), name="softplc.stdin")
                await self._scan_on()
        finally:
            for server in (self._s7, self._modbus):
                if server is not None:
                    server.close()

    async def _scan_on(self) -> None:
        period_ns = round(self._arguments.scan_ms * 1e6)
        while True:
            started_ns = self._clock.monotonic_ns()
            if not self._frozen:
                self._scan(started_ns)
            spent_ns = self._clock.monotonic_ns() - started_ns
            await self._clock.sleep(max(0, period_ns - spent_ns) / 1e9)
            self._late_ns = max(self._late_ns, self._clock.monotonic_ns() - started_ns - period_ns)

    def _scan(self, now_ns: int) -> None:
        servers = [server for server in (self._s7, self._modbus) if server is not None]
        for server in servers:
            server.begin_scan()
        self._plc.scan(now_ns)
        if self._s7 is not None:
            self._s7.stopped = bool(self._plc.fault)
        for server in servers:
            server.end_scan()

    async def _get(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {name: as_json(self._plc.main.get(name)) for name in arguments["names"]}

    async def _set(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments["values"].items():
            self._plc.main.set(name, value)
        return {}

    async def _press(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._plc.press(arguments["name"], scans=int(arguments.get("scans", 1)))
        return {}

    async def _watch(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._plc.trace.watch(arguments["names"])
        return {}

    async def _trace(self, arguments: dict[str, Any]) -> dict[str, Any]:
        since = int(arguments.get("since", 0))
        found = self._plc.trace.changes(since=since, name=arguments.get("name"))
        rows = [
            {
                "number": each.number,
                "scan": each.scan,
                "ns": each.ns,
                "name": each.name,
                "before": as_json(each.before),
                "after": as_json(each.after),
            }
            for each in found[-MOST_CHANGES:]
        ]
        return {"changes": rows, "steps": as_json(dict(self._plc.trace.steps))}

    async def _reaction(self, arguments: dict[str, Any]) -> dict[str, Any]:
        reaction = self._plc.reaction
        if reaction is None:
            raise StError("there is no block edge with InUse, Status and Out in this program")
        found = reaction.as_dict()
        if arguments.get("reset"):
            reaction.reset()
        return found

    async def _trigger(self, arguments: dict[str, Any]) -> dict[str, Any]:
        pause = int(arguments.get("pause_scans", 5))
        self._plc.trigger(times=int(arguments["times"]), pause_scans=pause)
        return {}

    async def _answers(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise StError("the answers take no arguments")
        if self._plc.triggering is None:
            raise StError("nothing was triggered yet")
        return self._plc.triggering.as_dict()

    async def _freeze(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._frozen = bool(arguments["on"])
        return {}

    async def _state(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise StError("the state takes no arguments")
        return {
            "scans": self._plc.scans,
            "fault": self._plc.fault,
            "frozen": self._frozen,
            "latest_scan_ms": round(self._late_ns / 1e6, 3),
            "s7_requests": 0 if self._s7 is None else self._s7.requests,
            "modbus_requests": 0 if self._modbus is None else self._modbus.requests,
        }

    async def _obey_a_person(self) -> None:
        """Read commands from stdin and answer in JSON; the end of stdin ends nothing."""
        typed = asyncio.StreamReader()
        loop = asyncio.get_running_loop()

        def read() -> None:
            with suppress(RuntimeError):  # the loop has closed while we waited for a line
                for line in sys.stdin:
                    loop.call_soon_threadsafe(typed.feed_data, line.encode())

        threading.Thread(target=read, name="softplc.stdin", daemon=True).start()
        while line := await typed.readline():
            if line.strip() in (b"quit", b"exit"):
                signal.raise_signal(signal.SIGTERM)
            elif line.strip():
                sys.stdout.write(json.dumps(await self._answer(line.decode())) + "\n")
                sys.stdout.flush()

    async def _answer(self, line: str) -> dict[str, Any]:
        try:
            name, arguments = spoken(line)
            return await self.commands[name](arguments)
        except (ValueError, KeyError) as exc:
            return {"error": str(exc)}


def spoken(line: str) -> tuple[str, dict[str, Any]]:
    """Return the command that a person typed, and its arguments.

    Raises:
        StError: It is none.
    """
    match shlex.split(line):
        case ["get", *names] if names:
            return "get", {"names": names}
        case ["set", name, value]:
            return "set", {"values": {name: _value(value)}}
        case ["press", name]:
            return "press", {"name": name}
        case ["press", name, scans] if scans.isdecimal():
            return "press", {"name": name, "scans": int(scans)}
        case ["watch", *names]:
            return "watch", {"names": names}
        case ["trigger", times] if times.isdecimal():
            return "trigger", {"times": int(times)}
        case ["freeze", ("on" | "off") as which]:
            return "freeze", {"on": which == "on"}
        case [("trace" | "reaction" | "answers" | "state") as name]:
            return name, {}
    raise StError(f"not a command: {line.strip()}")


def _value(text: str) -> Any:
    """Return a value as a person writes it: TRUE, 16#FF, 5, 2.5, or a list in JSON."""
    if text.upper() in ("TRUE", "FALSE"):
        return text.upper() == "TRUE"
    try:
        if "#" in text:
            base, digits = text.split("#", 1)
            return int(digits, int(base))
        return json.loads(text)
    except ValueError as exc:
        raise StError(f"{text} is no value") from exc


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as exc:
        raise StError(f"{path} is no UTF-8 text") from exc
