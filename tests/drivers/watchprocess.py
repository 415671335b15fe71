"""A WAGO 750 with its watchdog as a process of its own, on pymodbus' server: ``python -m`` this module."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_opcua.core.clock import Clock, SystemClock

TIME, MASK, TRIGGER, STATUS, STOP = 0x1000, 0x1001, 0x1003, 0x1006, 0x1008
RUNNING, TRIPPED = 1, 2


class WagoWatchdog:
    """The registers 0x1000 to 0x100A of a WAGO 750 (manual of the 750-880, tables 133-140).

    Attributes:
        state: 0 not active, 1 active, 2 exhausted, as in register 0x1006.
        time_ms: Time, ms; cannot be changed while it is active.
        triggers: How often it was triggered.
    """

    def __init__(self, clock: Clock) -> None:
        self.state = 0
        self.time_ms = 0
        self.triggers = 0
        self._clock = clock
        self._trigger = 0
        self._heard_ms = 0.0

    def now(self) -> int:
        """Let time pass; return the state."""
        silence_ms = self._clock.monotonic_ns() / 1e6 - self._heard_ms
        if self.state == RUNNING and silence_ms > self.time_ms:
            self.state = TRIPPED
        return self.state

    def write(self, address: int, value: int) -> int:
        """Take a write to one of its registers; return an exception code, or 0."""
        state = self.now()
        if address == STOP and value in (0xAA55, 0x55AA):
            self.state = 0
        elif address in (TIME, MASK, MASK + 1):
            if state == RUNNING:
                return 3
            self.time_ms = 100 * value if address == TIME else self.time_ms
        elif address == TRIGGER and value != self._trigger and self.time_ms:
            # A trigger also resets a fault: who triggers blindly never learns of it.
            self._trigger, self.state = value, RUNNING
            self._heard_ms = self._clock.monotonic_ns() / 1e6
            self.triggers += 1
        return 0


class Served:
    """A WAGO 750 on pymodbus' server, for a process of its own; it prints what happens to it."""

    def __init__(self) -> None:
        self._watchdog = WagoWatchdog(SystemClock())
        registers = SimData(0, values=[0] * 0x1100, datatype=DataType.REGISTERS)
        self._device = SimDevice(1, simdata=[registers], action=self._on_request)
        self._outputs: list[int] = []
        self._said = 0

    async def run(self) -> None:
        """Serve until the parent ends it."""
        server = ModbusTcpServer(self._device, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        listener: Any = server.transport
        print("ready", listener.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - for the test
        while True:
            await asyncio.sleep(0.01)
            state = self._watchdog.now()
            if state == TRIPPED and self._outputs:
                self._outputs[:4] = [0] * 4
            if state != self._said:
                self._said = state
                print("state", state, *self._outputs[:4], flush=True)  # noqa: T201 - for the test

    async def _on_request(  # the signature is pymodbus'
        self, function: int, _start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        self._outputs = registers
        state = self._watchdog.now()
        registers[STATUS] = state
        if TIME <= address <= 0x100A:
            # pymodbus asks twice for a write: with its values, and for what stands there then.
            if function == 6 and values and self._watchdog.write(address, values[0]):
                return ExcCodes.ILLEGAL_VALUE
            registers[STATUS] = self._watchdog.now()
            return None
        assert count
        return ExcCodes.DEVICE_FAILURE if state == TRIPPED else None


if __name__ == "__main__":
    sys.exit(asyncio.run(Served().run()))
