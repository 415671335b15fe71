"""What a CPU tells of itself: system status lists (SZL) with its state, type, order number and serial number.

Lists 0x0011 (identification), 0x001C (components) and 0x0424 (mode) of "System Software for S7-300/400,
System and Standard Functions"; S7-1200 and 1500 have these three, a LOGO! has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge_opcua.drivers.s7.frames import HeaderRefusedError, parse_system, sequence_of
from edge_opcua.drivers.s7.transport import Transport
from edge_opcua.errors import DeviceError

_IDENTIFICATION: Final = 0x0011
_COMPONENTS: Final = 0x001C
_MODE: Final = 0x0424
_GROUP: Final = 4
_SUBFUNCTION: Final = 1
_MOST_PARTS: Final = 16
_HEAD_BYTES: Final = 8
# Indices of the lists.
_MODULE, _FIRMWARE = 0x0001, 0x0007
_SYSTEM_NAME, _MODULE_NAME, _SERIAL, _MODULE_TYPE = 0x0001, 0x0002, 0x0005, 0x0007
_ORDER_BYTES: Final = 20
_NAME_BYTES: Final = 32


class State(Enum):
    """Operating mode of a CPU."""

    UNKNOWN = ""
    RUN = "RUN"
    STOP = "STOP"


_STATES: Final = {0x08: State.RUN, 0x03: State.STOP, 0x04: State.STOP}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a CPU is; empty where it does not say.

    Args:
        order: Order number, e.g. ``6ES7 513-1AL02-0AB0``.
        firmware: E.g. ``V2.9.4``.
        station: Name of the station.
        module: Name of the CPU in the project.
        type: E.g. ``CPU 1513-1 PN``.
        serial: Serial number.
    """

    order: str = ""
    firmware: str = ""
    station: str = ""
    module: str = ""
    type: str = ""
    serial: str = ""


async def cpu_state(transport: Transport) -> State:
    """Return the mode of the CPU; DeviceError if it does not answer at all."""
    records = await _list(transport, _MODE)
    mode = records[0][3] & 0x0F if records and len(records[0]) > 3 else 0
    return _STATES.get(mode, State.UNKNOWN)


async def identity(transport: Transport) -> Identity:
    """Return who the CPU is; DeviceError if it does not answer at all."""
    modules = {int.from_bytes(each[:2], "big"): each for each in await _list(transport, _IDENTIFICATION)}
    texts = {
        int.from_bytes(each[:2], "big"): _text(each[2 : 2 + _NAME_BYTES])
        for each in await _list(transport, _COMPONENTS)
    }
    return Identity(
        order=_text(modules.get(_MODULE, b"")[2 : 2 + _ORDER_BYTES]),
        firmware=_version(modules.get(_FIRMWARE, b"")),
        station=texts.get(_SYSTEM_NAME, ""),
        module=texts.get(_MODULE_NAME, ""),
        type=texts.get(_MODULE_TYPE, ""),
        serial=texts.get(_SERIAL, ""),
    )


def _text(raw: bytes) -> str:
    text = raw.split(b"\0", 1)[0].decode("latin-1").strip()
    return "".join(each for each in text if each.isprintable())


def _version(record: bytes) -> str:
    """Return the version of a record: a letter and three numbers at its end."""
    if len(record) < 6:
        return ""
    letter, *numbers = record[-4:]
    text = ".".join(map(str, numbers))
    return f"V{text}" if letter == ord("V") else ""


async def _list(transport: Transport, number: int) -> list[bytes]:
    """Return the records of a system status list, none if the CPU does not have it."""
    try:
        content = await _content(transport, number)
    except HeaderRefusedError:
        return []
    if len(content) < _HEAD_BYTES:
        return []
    size = int.from_bytes(content[4:6], "big")
    count = int.from_bytes(content[6:8], "big")
    body = content[_HEAD_BYTES:]
    if not size:
        return []
    return [body[at : at + size] for at in range(0, min(len(body), size * count) - size + 1, size)]


async def _content(transport: Transport, number: int) -> bytes:
    """Return a list as the CPU sends it, in as many parts as it takes."""
    request: bytes = transport.requests.build_read_szl_request(number, 0)
    found, following = parse_system(await transport.ask(request), sequence_of(request))
    for _ in range(_MOST_PARTS):
        if not following:
            return found
        request = transport.requests.build_userdata_followup_request(_GROUP, _SUBFUNCTION, following)
        part, following = parse_system(await transport.ask(request), sequence_of(request))
        found += part
    raise DeviceError(f"{transport.where} does not come to an end with list {number:#06x}")
