"""The S7 PLC of the press cell, a process of its own: runs the press and decides whether to trust the edge.

``python -m edge_opcua.sim.press`` serves DB10 (the press), DB11 (set-points and commands), DB20 and DB21 (the
edge-AI interface) and scans its program every 20 ms. Its side of the interface is the function block that is
exported for the real PLC, executed as it is written. Every stroke is sent to the vibration unit through
``--shock-fd``, as the blow itself would go through the steel.
"""

from __future__ import annotations

import argparse
import enum
import math
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.sim import unit
from edge_opcua.sim.edgeblock import EdgeBlock, exported_block
from edge_opcua.sim.physics import RATED_STROKES_PER_MIN, Fault, PressPhysics, Stroke
from edge_opcua.sim.s7server import DataBlock, S7Server
from edge_opcua.sim.shock import Shock

SCAN_S: Final = 0.020
STROKES_PER_MIN_LIMITS: Final = (10.0, 60.0)
TONNAGE_LIMITS_KN: Final = (100.0, 2_000.0)
DEFAULT_TONNAGE_LIMIT_KN: Final = 1_200.0
DEFAULT_WEAR: Final = 0.05
_FIRST_STROKE_S: Final = 0.5
_RAMP_PER_S: Final = 6.0
_DIVERTER_STROKES: Final = 8
"""A verdict can divert its part until this many further parts have left the die."""

_OUT: Final = struct.Struct(">Ih4xBxIffffIh")
_SETPOINTS: Final = struct.Struct(">ffB")
_RECIPE: Final = b"SIDE PANEL 1.2"
_ACK_EDGE, _GRANT_AUTHORITY = 0x01, 0x02


class State(enum.IntEnum):
    """State of the press (PackML, ISA-TR88.00.02: the states every unit has)."""

    STOPPED = 0
    IDLE = 2
    EXECUTE = 4
    ABORTED = 8


NOT_OK: Final = 2
"""Machinery-Result ResultEvaluation: the part is bad."""


class PressProgram:
    """The program of the PLC: motion, set-points, edge interface; no clock and no sockets.

    Args:
        physics: The press.
        time_factor: How many seconds of the press pass in one second of real time.
        strike: Gets every stroke when it happens.
        edge: Decides whether the edge is trusted.
    """

    def __init__(
        self,
        physics: PressPhysics,
        *,
        time_factor: float,
        strike: Callable[[Stroke], None],
        edge: EdgeBlock,
    ) -> None:
        self.edge = edge
        self.process = DataBlock(10, 64, writable=False)
        self.setpoints = DataBlock(11, 16, writable=True)
        self.wear = DEFAULT_WEAR
        self.faults: frozenset[Fault] = frozenset()
        self.guard_closed = True
        self.state = State.STOPPED
        self.strokes = 0
        self.rejects = 0
        self.last_stroke: Stroke | None = None
        self._physics = physics
        self._time_factor = time_factor
        self._strike = strike
        self._scanned_s: float | None = None
        self._speed = RATED_STROKES_PER_MIN
        self._phase = 0.0
        self._last_verdict = 0
        self._judged = 0
        self._asked_speed = RATED_STROKES_PER_MIN
        self._tonnage_limit_kn = DEFAULT_TONNAGE_LIMIT_KN
        _SETPOINTS.pack_into(
            self.setpoints.memory, 0, self._asked_speed, self._tonnage_limit_kn, _GRANT_AUTHORITY
        )

    def scan(self, now_s: float) -> None:
        """Run the program once over the memory of the data blocks."""
        first = self._scanned_s is None
        elapsed_s = 0.0 if self._scanned_s is None else now_s - self._scanned_s
        self._scanned_s = now_s
        if first:
            self._phase = 1.0 - _FIRST_STROKE_S * self._time_factor * self._speed / 60.0
        flags = self._obey_setpoints()
        self.edge.scan(
            ack=bool(flags & _ACK_EDGE),
            grant=bool(flags & _GRANT_AUTHORITY),
            state=self.state,
            now_s=now_s,
        )
        self._move(elapsed_s * self._time_factor)
        self._judge()
        self._show()

    @property
    def data_blocks(self) -> tuple[DataBlock, ...]:
        """Everything that the PLC serves."""
        return (self.process, self.setpoints, self.edge.status, self.edge.control)

    def _obey_setpoints(self) -> int:
        """Take over what was written into DB11, put the clamped values back, and return its flags."""
        speed, limit_kn, flags = _SETPOINTS.unpack_from(self.setpoints.memory)
        self._asked_speed = _clamped(speed, STROKES_PER_MIN_LIMITS, self._asked_speed)
        self._tonnage_limit_kn = _clamped(limit_kn, TONNAGE_LIMITS_KN, self._tonnage_limit_kn)
        # The acknowledge is a button: the PLC lets go of it after one scan.
        _SETPOINTS.pack_into(
            self.setpoints.memory, 0, self._asked_speed, self._tonnage_limit_kn, flags & ~_ACK_EDGE
        )
        return int(flags)

    def _move(self, elapsed_s: float) -> None:
        """Advance the crank by some seconds of press time and strike where it passes the sheet."""
        overload = (
            self.last_stroke is not None
            and Fault.TONNAGE not in self.faults  # a broken sensor cannot stop the press
            and Fault.TONNAGE not in self.last_stroke.faults
            and self.last_stroke.tonnage > self._tonnage_limit_kn
        )
        if overload:
            self.state = State.ABORTED
        else:
            self.state = State.EXECUTE if self.guard_closed else State.IDLE
        if self.state is not State.EXECUTE:
            return
        step = _RAMP_PER_S * elapsed_s
        self._speed += min(max(self._asked_speed - self._speed, -step), step)
        self._phase += elapsed_s * self._speed / 60.0
        if self._phase >= 1.0:
            self._phase %= 1.0
            self.strokes += 1
            self.last_stroke = self._physics.stroke(
                self.strokes, wear=self.wear, strokes_per_min=self._speed, faults=self.faults
            )
            self._strike(self.last_stroke)

    def _judge(self) -> None:
        """Act once on every verdict that is trusted and whose part can still be reached."""
        if not self.edge.trusted:
            self._last_verdict = 0
            return
        verdict, stroke = self.edge.new_result() or (0, 0)
        if stroke == self._judged or not 0 <= self.strokes - stroke <= _DIVERTER_STROKES or not stroke:
            return
        self._judged = stroke
        self._last_verdict = verdict
        if verdict == NOT_OK:
            self.rejects += 1

    def _show(self) -> None:
        """Write DB10."""
        stroke = self.last_stroke
        flags = (
            self.edge.trusted
            | self.edge.ack_required << 1
            | self.guard_closed << 2
            | (Fault.TONNAGE in self.faults) << 3
        )
        running = self.state is State.EXECUTE
        _OUT.pack_into(
            self.process.memory,
            0,
            self.strokes,
            self.state,
            flags,
            0 if stroke is None else stroke.part_id,
            0.0 if stroke is None else stroke.tonnage,
            stroke.strokes_per_min if stroke is not None and running else 0.0,
            0.0 if stroke is None else stroke.die_temp,
            0.0 if stroke is None else stroke.oil_temp,
            self.rejects,
            self._last_verdict,
        )
        self.process.memory[_OUT.size : _OUT.size + 2 + len(_RECIPE)] = bytes((16, len(_RECIPE))) + _RECIPE


class Press:
    """The PLC as a process: the program, its scan cycle and its S7 server.

    Args:
        arguments: Of the command line.
        clock: Drives the scan.
    """

    def __init__(self, arguments: argparse.Namespace, *, clock: Clock) -> None:
        self._arguments = arguments
        self._clock = clock
        self._scanning = True
        self._shock = None if arguments.shock_fd is None else socket.socket(fileno=arguments.shock_fd)
        if self._shock is not None:
            self._shock.settimeout(0.0)
        self.program = PressProgram(
            PressPhysics(arguments.seed),
            time_factor=arguments.time_factor,
            strike=self._strike,
            edge=EdgeBlock(exported_block().read_text("utf-8")),
        )
        self.program.wear = arguments.wear
        self._server = S7Server(self.program.data_blocks)

    @property
    def commands(self) -> Mapping[str, unit.Command]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        return {
            "wear": self._set_wear,
            "fault": self._set_fault,
            "guard": self._set_guard,
            "truth": self._truth,
            "forget": self._forget,
            "scan": self._set_scanning,
        }

    async def open(self) -> dict[str, Any]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        return {"port": await self._server.open(self._arguments.host, self._arguments.port)}

    async def run(self) -> None:
        """Scan until cancelled; a scan that comes late shifts the following ones, as on a PLC."""
        try:
            while True:
                started_s = self._clock.monotonic_s()
                if self._scanning:
                    self._server.begin_scan()
                    self.program.scan(started_s)
                    self._server.end_scan()
                await self._clock.sleep(max(0.0, started_s + SCAN_S - self._clock.monotonic_s()))
        finally:
            self._server.close()
            if self._shock is not None:
                self._shock.close()

    def _strike(self, stroke: Stroke) -> None:
        if self._shock is None:
            return
        shock = Shock(
            stroke=stroke.index,
            struck_ns=self._clock.monotonic_ns(),
            sensor_fault=Fault.ACCELEROMETER in stroke.faults,
            die_temp=stroke.die_temp,
            raw=stroke.raw.astype("<i2").tobytes(),
        )
        try:
            self._shock.send(shock.pack())
        except (BlockingIOError, ConnectionError):
            return  # the blow falls whether somebody listens or not

    async def _set_wear(self, arguments: dict[str, Any]) -> dict[str, Any]:
        wear = float(arguments["value"])
        if not 0.0 <= wear <= 1.0:
            raise ValueError(f"wear is a share between 0 and 1, not {wear}")
        self.program.wear = wear
        return {}

    async def _set_fault(self, arguments: dict[str, Any]) -> dict[str, Any]:
        sensor = arguments["sensor"]
        self.program.faults = frozenset() if sensor is None else frozenset({Fault(sensor)})
        return {}

    async def _set_guard(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.program.guard_closed = bool(arguments["closed"])
        return {}

    async def _set_scanning(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._scanning = bool(arguments["on"])
        return {}

    async def _forget(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise ValueError("forgetting takes no arguments")
        self.program.edge.reaction.reset()
        return {}

    async def _truth(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise ValueError("the truth takes no arguments")
        program, stroke = self.program, self.program.last_stroke
        return {
            "stroke": program.strokes,
            "wear": program.wear,
            "state": program.state.name.title(),
            "edge_trusted": program.edge.trusted,
            "ack_required": program.edge.ack_required,
            "guard_closed": program.guard_closed,
            "rejects": program.rejects,
            "tonnage_kn": None if stroke is None else stroke.tonnage,
            "die_temp_c": None if stroke is None else stroke.die_temp,
            "strokes_per_min": None if stroke is None else stroke.strokes_per_min,
            "part_id": None if stroke is None else stroke.part_id,
            "sensor_fault": next((fault.value for fault in program.faults), None),
            "reaction": program.edge.reaction.as_dict(),
            "s7_connections": self._server.connections,
            "s7_requests": self._server.requests,
        }


def _clamped(value: float, limits: tuple[float, float], valid: float) -> float:
    """Return a set-point within its limits; NaN leaves the valid one in force."""
    return valid if math.isnan(value) else min(max(value, limits[0]), limits[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the PLC until its parent goes or SIGTERM comes."""
    parser = unit.argument_parser(__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on, 0 for any that is free")
    parser.add_argument("--time-factor", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wear", type=float, default=DEFAULT_WEAR)
    parser.add_argument("--shock-fd", type=int, help="datagram socket that takes the strokes")
    arguments = parser.parse_args(argv)
    return unit.run(Press(arguments, clock=SystemClock()), arguments)


if __name__ == "__main__":
    sys.exit(main())
