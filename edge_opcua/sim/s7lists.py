"""What a simulated S7 PLC tells of itself: system status lists as a real CPU sends them; pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_IDENTIFICATION, _COMPONENTS, _MODE = 0x0011, 0x001C, 0x0424
_RUN, _STOP = 0x08, 0x04
_HEAD: Final = struct.Struct(">HHHH")
_MODULE: Final = struct.Struct(">H20sHHH")
_NAME: Final = struct.Struct(">H32s")
_MODE_RECORD: Final = struct.Struct(">HBB16x")


@dataclass(frozen=True, slots=True)
class NamePlate:
    """Who the CPU says it is.

    Args:
        order: Order number.
        version: Three numbers of the firmware.
        station: Name of the station.
        type: Type of the CPU.
        serial: Serial number.
    """

    order: str = "EDGE-OPCUA SIM"
    version: tuple[int, int, int] = (1, 0, 0)
    station: str = "SIMULATED"
    type: str = "Simulated S7"
    serial: str = "SIM 1"


def status_list(number: int, plate: NamePlate, *, stopped: bool) -> bytes | None:
    """Return a list as it is sent, None if this CPU does not have it.

    Args:
        number: SZL-ID.
        plate: Who the CPU is.
        stopped: Whether it is in STOP.
    """
    if number == _IDENTIFICATION:
        order = plate.order.encode("latin-1")
        major, minor, patch = plate.version
        version = (ord("V") << 8 | major, minor << 8 | patch)
        return _list(number, [_MODULE.pack(1, order, 0, 0, 1), _MODULE.pack(7, order, 0, *version)])
    if number == _COMPONENTS:
        names = {1: plate.station, 2: plate.type, 5: plate.serial, 7: plate.type}
        return _list(number, [_NAME.pack(index, name.encode("latin-1")) for index, name in names.items()])
    if number == _MODE:
        return _list(number, [_MODE_RECORD.pack(0x4304, 0xFF, _STOP if stopped else _RUN)])
    return None


def _list(number: int, records: list[bytes]) -> bytes:
    return _HEAD.pack(number, 0, len(records[0]), len(records)) + b"".join(records)
