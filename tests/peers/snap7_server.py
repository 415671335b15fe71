"""An S7 PLC by somebody else: the C server of snap7, in a process and an environment of its own.

Run by the Python of tests/peers/.installed/snap7: ``snap7_server.py PORT``. Orders are lines on standard
input, each answered by a line: ``put DB1 0 00ff``, ``get DB1 0 2``, ``mode STOP`` or ``mode RUN``.
"""

from __future__ import annotations

import ctypes
import sys

from snap7.server import Server
from snap7.type import SrvArea

BLOCKS = {"DB1": 8192, "DB2": 256, "DB10": 2048}
CPU_STATES = {"STOP": 0x04, "RUN": 0x08}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until standard input ends."""
    server = Server(log=False)
    memory = {name: (ctypes.c_uint8 * size)() for name, size in BLOCKS.items()}
    memory["M"] = (ctypes.c_uint8 * 256)()
    for name, area in memory.items():
        if name == "M":
            server.register_area(SrvArea.MK, 0, area)
        else:
            server.register_area(SrvArea.DB, int(name[2:]), area)
    server.start_to("127.0.0.1", tcp_port=int(sys.argv[1]))
    _say("ready")
    for line in sys.stdin:
        order, name, *rest = line.split()
        if order == "put":
            payload = bytes.fromhex(rest[1])
            ctypes.memmove(ctypes.addressof(memory[name]) + int(rest[0]), payload, len(payload))
            _say("ok")
        elif order == "get":
            at, size = int(rest[0]), int(rest[1])
            _say(bytes(memory[name][at : at + size]).hex())
        elif order == "mode":
            server.set_cpu_status(CPU_STATES[name])
            _say("ok")
    server.stop()
    server.destroy()


if __name__ == "__main__":
    main()
