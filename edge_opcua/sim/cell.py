"""The press cell: an S7 PLC, a vibration unit and the links to them, as processes that end with the caller.

``python -m edge_opcua.sim.cell`` runs it for people who want to play, with commands on stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import IO, Any, Final, Self

from edge_opcua.errors import ControlError
from edge_opcua.sim.physics import Fault
from edge_opcua.sim.press import DEFAULT_WEAR
from edge_opcua.sim.process import UnitProcess
from edge_opcua.sim.proxy import Mode

UNITS: Final = ("press", "vib")
TIME_FACTORS: Final = (1.0, 20.0)
_MODULES: Final = {
    "press": "edge_opcua.sim.press",
    "vib": "edge_opcua.sim.vibration",
    "proxy": "edge_opcua.sim.proxy",
}


class Cell:
    """The press cell behind real protocols; ``async with`` starts and ends its processes.

    Args:
        time_factor: How many seconds of the press pass in one second, 1..20. Captures still take 200 ms, so
            from about 16 on the vibration unit misses strokes.
        seed: Seed of the press; the same seed gives the same strokes.
        wear: Wear of the die edge at the start, 0..1.
        ports: Public port of ``press`` and ``vib``; 0 or missing means any that is free.
        host: Address the cell listens on.
        errors: Where the processes write what goes wrong in them; nowhere by default. They never get the
            caller's stdout, so a pipe behind it ends with the caller.

    Raises:
        ControlError: A process did not start (on entry), for example because a port is taken.
    """

    def __init__(
        self,
        *,
        time_factor: float = 1.0,
        seed: int = 7,
        wear: float = DEFAULT_WEAR,
        ports: Mapping[str, int] | None = None,
        host: str = "127.0.0.1",
        errors: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        if not TIME_FACTORS[0] <= time_factor <= TIME_FACTORS[1]:
            raise ValueError(f"a time factor lies between 1 and 20, not {time_factor}")
        ports = ports or {}
        self._host = host
        self._modes = dict.fromkeys(UNITS, "pass")
        self._ports = {name: ports.get(name, 0) for name in UNITS}
        self._arguments = {
            "press": ("--time-factor", str(time_factor), "--seed", str(seed), "--wear", str(wear)),
            "vib": (),
            "proxy": tuple(word for name in UNITS for word in ("--link", f"{name}:{self._ports[name]}")),
        }
        self._processes = {
            name: UnitProcess(name, module, errors=errors) for name, module in _MODULES.items()
        }
        self._shock: tuple[socket.socket, socket.socket] | None = None
        self._truth: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Start the processes and wait until all of them listen."""
        self._shock = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            async with asyncio.TaskGroup() as starts:
                for name in _MODULES:
                    starts.create_task(self._start(name), name=f"cell.start.{name}")
            for name in UNITS:
                await self._aim(name)
        except BaseException as exc:
            await self._end()
            if isinstance(exc, ExceptionGroup):
                raise exc.exceptions[0] from exc
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, stopped ones too."""
        del kind, exc, trace
        await self._end()

    @property
    def s7_url(self) -> str:
        """Where a client finds the PLC."""
        return f"s7://{self._host}:{self._ports['press']}?rack=0&slot=1"

    @property
    def modbus_url(self) -> str:
        """Where a client finds the vibration unit."""
        return f"modbus://{self._host}:{self._ports['vib']}/1"

    @property
    def ports(self) -> dict[str, int]:
        """Public port of each unit."""
        return dict(self._ports)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of ``press``, ``vib`` and ``proxy``, for SIGSTOP, SIGCONT and SIGKILL."""
        return {name: process.pid for name, process in self._processes.items()}

    async def wear(self, wear: float) -> None:
        """Set the wear of the die edge, 0 (ground) to 1, from the next stroke on."""
        await self._processes["press"].ask("wear", value=wear)

    async def sensor_fault(self, sensor: str | None) -> None:
        """Break the ``accelerometer`` or the ``tonnage`` sensor, or mend both with None."""
        await self._processes["press"].ask("fault", sensor=None if sensor is None else Fault(sensor).value)

    async def guard(self, *, closed: bool) -> None:
        """Open or close the guard; the press idles while it is open."""
        await self._processes["press"].ask("guard", closed=closed)

    async def scanning(self, *, on: bool) -> None:
        """Let the PLC's program stand still while its communication goes on, or let it run again.

        Reads are answered from the last image; what is written is stored when the program runs again.
        """
        await self._processes["press"].ask("scan", on=on)

    async def forget_reaction(self) -> None:
        """Let the PLC forget how far and how fast the block's Out has moved."""
        await self._processes["press"].ask("forget")

    async def link(self, unit: str, mode: str) -> None:
        """Let the link to ``press`` or ``vib`` fail as :mod:`edge_opcua.sim.proxy` lists it, or mend it.

        Raises:
            ValueError: There is no such unit or mode.
        """
        if unit not in UNITS:
            raise ValueError(f"there is no unit {unit}; there are {', '.join(UNITS)}")
        Mode.parse(mode)
        await self._processes["proxy"].ask("link", link=unit, mode=mode)
        self._modes[unit] = mode

    async def restart(self, unit: str) -> None:
        """Switch a unit off and on: its counters start from 0, its public port stays."""
        if unit not in UNITS:
            raise ValueError(f"there is no unit {unit}; there are {', '.join(UNITS)}")
        await self._processes[unit].end()
        await self._start(unit)
        await self._aim(unit)

    async def truth(self) -> dict[str, Any]:
        """Return what really happens in the cell.

        Keys: ``stroke``, ``wear``, ``state``, ``edge_trusted``, ``ack_required``, ``guard_closed``,
        ``rejects``, ``tonnage_kn``, ``die_temp_c``, ``strokes_per_min``, ``part_id``, ``sensor_fault``,
        ``reaction`` (when trust fell last, and after how much silence), ``s7_connections``,
        ``s7_requests``, ``captures``, ``captured_stroke``, ``captures_missed``, ``modbus_requests``,
        ``links``, and ``silent``: the units that gave no answer, whose keys are those of the last time.
        """
        silent: list[str] = []
        async with asyncio.TaskGroup() as asked:
            for name in UNITS:
                asked.create_task(self._ask_truth(name, silent), name=f"cell.truth.{name}")
        return {**self._truth, "links": dict(self._modes), "silent": sorted(silent)}

    async def _ask_truth(self, name: str, silent: list[str]) -> None:
        try:
            self._truth.update(await self._processes[name].ask("truth"))
        except ControlError:
            silent.append(name)

    async def _start(self, name: str) -> None:
        assert self._shock is not None
        shock = {"press": self._shock[0], "vib": self._shock[1]}.get(name)
        ready = await self._processes[name].start(
            "--host", self._host, *self._arguments[name], shock_fd=None if shock is None else shock.fileno()
        )
        if name == "proxy":
            self._ports = ready["ports"]

    async def _aim(self, name: str) -> None:
        port = self._processes[name].ready["port"]
        await self._processes["proxy"].ask("target", link=name, host=self._host, port=port)

    async def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            await process.end()
        for end in self._shock or ():
            end.close()
        self._shock = None


HELP: Final = """\
wear SHARE                   wear of the die edge, 0..1
cut|freeze|garbage|pass UNIT let the link to press or vib fail, or mend it
freeze UNIT replies|half     freeze only the replies, or amid a message
delay UNIT SECONDS           make the link slow
fault SENSOR                 break accelerometer or tonnage; none mends both
guard open|closed            the press idles while its guard is open
restart UNIT                 switch a unit off and on
truth                        what really happens in the cell
quit                         end
"""


async def obey(cell: Cell, line: str) -> str:
    """Do what a person typed, and return what to show.

    Raises:
        ValueError: It is no command, or its arguments are refused.
        ControlError: A process of the cell does not answer.
    """
    command, *words = shlex.split(line)
    match command, words:
        case "wear", [share]:
            await cell.wear(float(share))
        case (("cut" | "freeze" | "garbage" | "pass"), [unit]):
            await cell.link(unit, command)
        case (("freeze" | "delay"), [unit, detail]):
            await cell.link(unit, f"{command}:{detail}")
        case "fault", [sensor]:
            await cell.sensor_fault(None if sensor == "none" else sensor)
        case "guard", [("open" | "closed") as position]:
            await cell.guard(closed=position == "closed")
        case "restart", [unit]:
            await cell.restart(unit)
        case "truth", []:
            return "".join(f"{name:18} {value}\n" for name, value in (await cell.truth()).items())
        case _:
            raise ValueError(f"not a command: {line.strip()}\n{HELP.rstrip()}")
    return ""


async def _play(arguments: argparse.Namespace) -> None:
    ports = {}
    if arguments.port_base:
        ports = {name: arguments.port_base + offset for offset, name in enumerate(UNITS)}
    loop = asyncio.get_running_loop()
    async with (
        Cell(
            time_factor=arguments.time_factor,
            seed=arguments.seed,
            wear=arguments.wear,
            host=arguments.host,
            ports=ports,
            errors=sys.stderr.fileno(),
        ) as cell,
        _lines(sys.stdin, loop) as lines,
    ):
        _show(f"{cell.s7_url}\n{cell.modbus_url}\n")
        async for line in lines:
            if line.strip() in ("quit", "exit"):
                return
            if line.strip():
                try:
                    _show(await obey(cell, line))
                except (ValueError, ControlError) as exc:
                    _show(f"{exc}\n")


@asynccontextmanager
async def _lines(source: IO[str], loop: asyncio.AbstractEventLoop) -> AsyncIterator[AsyncIterator[str]]:
    """Give the lines of a blocking stream; its end ends nothing, SIGINT and SIGTERM do."""
    typed: asyncio.StreamReader = asyncio.StreamReader()

    def read() -> None:
        with suppress(RuntimeError):  # the loop has closed while we waited for a line
            for line in source:
                loop.call_soon_threadsafe(typed.feed_data, line.encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, typed.feed_eof)
    threading.Thread(target=read, name="cell.stdin", daemon=True).start()

    async def each() -> AsyncIterator[str]:
        while line := await typed.readline():
            yield line.decode()

    yield each()


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _within(number: type[int] | type[float], low: int, high: int) -> Callable[[str], float]:
    """Return what reads an argument and refuses one out of range, before any process starts."""

    def read(text: str) -> float:
        value = number(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is out of range {low}..{high}")
        return value

    read.__name__ = number.__name__  # argparse names the type by it
    return read


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cell until ``quit``, SIGINT or SIGTERM; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="edge-opcua sim",
        description="A stamping press cell: an S7 PLC and a Modbus vibration unit.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port-base",
        type=_within(int, 0, 65_533),
        default=0,
        help="port of the PLC; the unit takes the next one",
    )
    parser.add_argument(
        "--time-factor", type=_within(float, 1, 20), default=1.0, help="1 (18 strokes/min) to 20"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--wear", type=_within(float, 0, 1), default=DEFAULT_WEAR, help="of the die edge, 0..1"
    )
    arguments = parser.parse_args(argv)
    try:
        asyncio.run(_play(arguments))
    except ControlError as exc:  # a taken port, an address that is not ours
        sys.stderr.write(f"edge-opcua sim: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
