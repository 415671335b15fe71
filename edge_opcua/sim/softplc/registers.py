"""The holding registers of a PLC over Modbus TCP, synchronous with its scan."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_opcua.sim.s7server import DataBlock
from edge_opcua.sim.softplc.areas import Mapped

UNIT_ID: Final = 1
_MOST_WAITING: Final = 256


class Registers:
    """Serves registers as unit 1: reads show the end of the last scan, writes are stored before the next one.

    A write is answered after the scan that saw it, as the S7 server does it.

    Args:
        memory: The registers, two bytes each.
        mapped: The areas in them; what lies in none of them does not exist.
    """

    def __init__(self, memory: DataBlock, mapped: Sequence[Mapped]) -> None:
        self.requests = 0
        self._memory = memory
        self._mapped = mapped
        self._waiting: deque[tuple[int, list[int], asyncio.Event]] = deque()
        self._server: ModbusTcpServer | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port.

        Raises:
            OSError: The port is taken.
        """
        data = SimData(0, values=[0] * (len(self._memory.memory) // 2), datatype=DataType.REGISTERS)
        self._server = ModbusTcpServer(
            SimDevice(UNIT_ID, simdata=[data], action=self._on_request), address=(host, port)
        )
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as exc:  # pymodbus logs the OSError and forgets it
            raise OSError(f"cannot listen on {host}:{port}") from exc
        listener = self._server.transport
        assert isinstance(listener, asyncio.Server)
        listening: int = listener.sockets[0].getsockname()[1]
        return listening

    def close(self) -> None:
        """Stop listening and drop all clients."""
        if self._server is not None:
            self._server.close()
        for _, _, stored in self._waiting:
            stored.set()

    def begin_scan(self) -> None:
        """Store all writes that have arrived since the last scan, in the order of their arrival."""
        for first, values, _ in self._waiting:
            content = b"".join(value.to_bytes(2, "big") for value in values)
            self._memory.memory[2 * first : 2 * first + len(content)] = content

    def end_scan(self) -> None:
        """Show the result of the scan to the readers and answer the writers."""
        self._memory.image = bytes(self._memory.memory)
        while self._waiting:
            self._waiting.popleft()[2].set()

    async def _on_request(  # the signature is pymodbus'
        self,
        _function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        self.requests += 1
        first, last = 2 * address, 2 * (address + count) - 1
        if not all(self._exists(at, write=bool(values)) for at in range(first, last, 2)):
            return ExcCodes.ILLEGAL_ADDRESS
        if values:
            if len(self._waiting) >= _MOST_WAITING:
                return ExcCodes.DEVICE_BUSY
            stored = asyncio.Event()
            self._waiting.append((address, [int(value) for value in values], stored))
            await stored.wait()
            return None
        image = self._memory.image
        registers[address - start : address - start + count] = [
            int.from_bytes(image[at : at + 2], "big") for at in range(first, last, 2)
        ]
        return None

    def _exists(self, at: int, *, write: bool) -> bool:
        return any(each.covers(at, at + 1) and (each.area.writable or not write) for each in self._mapped)
