"""A meter nobody has papers of: Modbus TCP by another's library, numbers with the low word first.

``python tests/system/unknown_meter.py`` prints its port and serves until its stdin ends. Requests that write
are counted and told at the end.
"""

from __future__ import annotations

import asyncio
import struct
import sys

from pymodbus import ModbusDeviceIdentification
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

WRITES = {5, 6, 15, 16, 22, 23}
IDENTITY = {0: "ACME", 1: "VIB-4", 2: "2.1"}


def low_word_first(value: float) -> list[int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return [low, high]


async def serve() -> None:
    written = 0

    def count(sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        nonlocal written
        written += not sending and pdu.function_code in WRITES
        return pdu

    values = [*low_word_first(23.41), *low_word_first(19.87), 412]
    registers = [
        SimData(0, values=[1, 2], datatype=DataType.REGISTERS),
        SimData(100, values=values, datatype=DataType.REGISTERS),
    ]
    server = ModbusTcpServer(
        SimDevice(1, simdata=registers),
        address=("127.0.0.1", 0),
        identity=ModbusDeviceIdentification(info=IDENTITY),  # type: ignore[no-untyped-call]
        trace_pdu=count,
    )
    await server.serve_forever(background=True)
    assert server.transport is not None
    sys.stdout.write(f"{server.transport.sockets[0].getsockname()[1]}\n")  # type: ignore[attr-defined]
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sys.stdout.write(f"{written}\n")
    await server.shutdown()  # type: ignore[no-untyped-call]


asyncio.run(serve())
