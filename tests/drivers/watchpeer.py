"""Modbus devices with a watchdog, as their manuals describe them."""

from __future__ import annotations

from typing import Final

from edge_opcua.core.clock import SystemClock
from tests.drivers.peers import ModbusPeer
from tests.drivers.watchprocess import STATUS, TIME, TRIPPED, WagoWatchdog

DEVICE_FAILURE: Final = 4
OUTPUTS: Final = 16
WRITES: Final = (5, 6, 15, 16, 22)


class WagoPeer(ModbusPeer):
    """A WAGO 750 coupler: tripped it switches all outputs off and answers with exception 4."""

    def __init__(self) -> None:
        super().__init__()
        self.registers = [0] * 0x1100
        self.watchdog = WagoWatchdog(SystemClock())
        self.status_refused = False

    async def _answer(self, unit: int, body: bytes) -> bytes:
        function, start = body[0], int.from_bytes(body[1:3], "big")
        tripped = self.watchdog.now() == TRIPPED
        if tripped:
            self.coils[:OUTPUTS] = [False] * OUTPUTS
        self.registers[STATUS] = self.watchdog.state
        is_own = TIME <= start <= 0x100A
        if tripped and (not is_own or (self.status_refused and start == STATUS)):
            return bytes((function | 0x80, DEVICE_FAILURE))
        if is_own and function == 6:
            code = self.watchdog.write(start, int.from_bytes(body[3:5], "big"))
            if code:
                return bytes((function | 0x80, code))
        return await super()._answer(unit, body)


class TurckPeer(ModbusPeer):
    """A Turck gateway: any write triggers; tripped it clears the outputs, and says so nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.registers = [0] * 0x1200
        self.locked = False
        self.tripped = 0
        self._clock = SystemClock()
        self._heard_ns = self._clock.monotonic_ns()

    async def _answer(self, unit: int, body: bytes) -> bytes:
        time_ms = self.registers[0x1120]
        if time_ms and self._clock.monotonic_ns() - self._heard_ns > 1_000_000 * time_ms:
            self.coils[:OUTPUTS] = [False] * OUTPUTS
            self.tripped += 1
            self._heard_ns = self._clock.monotonic_ns()
        if body[0] in WRITES:
            self._heard_ns = self._clock.monotonic_ns()
            if self.locked and body[1:3] == b"\x11\x20":
                return bytes((body[0] | 0x80, 1))
        return await super()._answer(unit, body)


class MoxaPeer(ModbusPeer):
    """A Moxa ioLogik E1200: a coil tells of the safe mode, and writing 1 to it ends that."""

    def __init__(self) -> None:
        super().__init__()
        self.coils = [False] * 5_000

    async def _answer(self, unit: int, body: bytes) -> bytes:
        if body == b"\x05\x10\x30\xff\x00":
            self.coils[4144] = False
            return body
        return await super()._answer(unit, body)
