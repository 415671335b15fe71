"""The vibration unit of the press cell, a process of its own: one capture per stroke in holding registers.

``python -m edge_opcua.sim.vibration`` serves the register map below as Modbus unit 1. All values are
big-endian, high word first.

=========== ====================================================================================
hr:0        sequence number of the capture, 1..65535, wraps to 1; 0 before the first one
hr:1.0      ready; off while the unit samples the next stroke
hr:2..5     UTC of ready, ns
hr:6, 7     sample rate, Hz; number of samples
hr:8.0      sensor fault
hr:10, 12   temperature, °C; r.m.s. of the capture, m/s² (REAL)
hr:14       stroke counter of the PLC (UDINT)
hr:100..    2 000 samples, 0.01 m/s² (INT)
=========== ====================================================================================

Registers that are not named read as 0. The unit samples into a second buffer for 200 ms and exchanges the
buffers between two requests, so that no single request sees two captures. A reader of several requests
compares the sequence number before and after.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import math
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.sim import unit
from edge_opcua.sim.shock import DATAGRAM_BYTES, Shock

UNIT_ID: Final = 1
SAMPLE_RATE_HZ: Final = 10_000
SAMPLE_COUNT: Final = 2_000
CAPTURE_NS: Final = SAMPLE_COUNT * 1_000_000_000 // SAMPLE_RATE_HZ
RESOLUTION_MS2: Final = 0.01
SAMPLES_AT: Final = 100
REGISTERS: Final = SAMPLES_AT + SAMPLE_COUNT
_LATE_NS: Final = 100_000_000
_HEAD: Final = struct.Struct(">HHQHHHxxffI")
_MOUNT_C: Final = 22.0
_MOUNT_SHARE: Final = 0.7


class Captures:
    """The two register buffers of the unit: the one that is read and the one that is filled; no clock."""

    __slots__ = ("missed", "registers", "sequence", "stroke")

    def __init__(self) -> None:
        self.registers = [0] * REGISTERS
        self.registers[6:8] = (SAMPLE_RATE_HZ, SAMPLE_COUNT)
        self.sequence = 0
        self.stroke = 0
        self.missed = 0

    def begin(self) -> None:
        """Sample a stroke: the last capture stays readable, but is no longer announced."""
        self.registers[1] = 0

    def complete(self, shock: Shock, *, utc_ns: int) -> None:
        """Exchange the buffers; ``utc_ns`` is when the last sample was taken."""
        samples = array.array("h", shock.raw)
        if sys.byteorder == "big":
            samples.byteswap()
        self.sequence = self.sequence % 65_535 + 1
        self.stroke = shock.stroke
        square = math.fsum(sample * sample for sample in samples) / len(samples)
        head = _HEAD.pack(
            self.sequence,
            1,
            utc_ns,
            SAMPLE_RATE_HZ,
            len(samples),
            shock.sensor_fault,
            _MOUNT_C + _MOUNT_SHARE * (shock.die_temp - _MOUNT_C),
            RESOLUTION_MS2 * math.sqrt(square),
            shock.stroke,
        )
        registers = [0] * REGISTERS
        registers[: len(head) // 2] = struct.unpack(f">{len(head) // 2}H", head)
        registers[SAMPLES_AT : SAMPLES_AT + len(samples)] = [sample & 0xFFFF for sample in samples]
        self.registers = registers


class VibrationUnit:
    """The unit as a process: takes blows from the press, serves captures over Modbus TCP.

    Args:
        arguments: Of the command line.
        clock: Times the sampling and stamps the captures.
    """

    def __init__(self, arguments: argparse.Namespace, *, clock: Clock) -> None:
        self._arguments = arguments
        self._clock = clock
        self._captures = Captures()
        self._shock = None if arguments.shock_fd is None else socket.socket(fileno=arguments.shock_fd)
        if self._shock is not None:
            self._shock.settimeout(0.0)
        self._server: ModbusTcpServer | None = None
        self._requests = 0

    @property
    def commands(self) -> Mapping[str, unit.Command]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        return {"truth": self._truth}

    async def open(self) -> dict[str, Any]:
        """See :class:`edge_opcua.sim.unit.Unit`."""
        registers = SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS, readonly=True)
        self._server = ModbusTcpServer(
            SimDevice(UNIT_ID, simdata=[registers], action=self._on_request),
            address=(self._arguments.host, self._arguments.port),
        )
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as exc:  # pymodbus logs the OSError and forgets it
            raise OSError(f"cannot listen on {self._arguments.host}:{self._arguments.port}") from exc
        listener = self._server.transport
        assert isinstance(listener, asyncio.Server)
        return {"port": listener.sockets[0].getsockname()[1]}

    async def run(self) -> None:
        """Capture strokes until cancelled."""
        assert self._server is not None
        try:
            if self._shock is None:
                await asyncio.Event().wait()
            else:
                await self._sample(self._shock)
        finally:
            self._server.close()
            if self._shock is not None:
                self._shock.close()

    async def _sample(self, shocks: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        busy_until_ns = 0
        while True:
            shock = Shock.unpack(await loop.sock_recv(shocks, DATAGRAM_BYTES))
            # One sampler: a blow during a capture is missed, and so is one that fell while we were stopped.
            if shock.struck_ns < busy_until_ns or self._clock.monotonic_ns() - shock.struck_ns > _LATE_NS:
                self._captures.missed += 1
                continue
            self._captures.begin()
            busy_until_ns = shock.struck_ns + CAPTURE_NS
            await self._clock.sleep((busy_until_ns - self._clock.monotonic_ns()) / 1e9)
            self._captures.complete(shock, utc_ns=self._clock.utc_ns())

    async def _on_request(  # the signature is pymodbus'
        self, _function: int, _start: int, _address: int, _count: int, registers: list[int], _values: object
    ) -> ExcCodes | None:
        """Show the newest capture to one request; pymodbus reads right after this, without an await."""
        self._requests += 1
        registers[:REGISTERS] = self._captures.registers
        return None

    async def _truth(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments:
            raise ValueError("the truth takes no arguments")
        return {
            "captures": self._captures.sequence,
            "captured_stroke": self._captures.stroke,
            "captures_missed": self._captures.missed,
            "modbus_requests": self._requests,
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the unit until its parent goes or SIGTERM comes."""
    parser = unit.argument_parser(__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on, 0 for any that is free")
    parser.add_argument("--shock-fd", type=int, help="datagram socket that brings the strokes")
    arguments = parser.parse_args(argv)
    return unit.run(VibrationUnit(arguments, clock=SystemClock()), arguments)


if __name__ == "__main__":
    sys.exit(main())
