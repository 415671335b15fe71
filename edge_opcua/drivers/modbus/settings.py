"""What a Modbus device's URL and options say, and the limits of a request that follow from them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field

from edge_opcua.drivers.modbus.address import BITS
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE, Fragment
from edge_opcua.errors import ConfigError


class ModbusOptions(DriverOptions):
    """Settings of a Modbus device."""

    order: Literal["ABCD", "BADC", "CDAB", "DCBA"] = Field(
        default="ABCD", description="Byte order of numbers whose address names none; A is the highest byte."
    )
    max_registers: Annotated[int, Field(ge=4, le=125)] = Field(
        default=125, description="Registers that one request may read."
    )
    max_bits: Annotated[int, Field(ge=1, le=2000)] = Field(
        default=2000, description="Coils or discrete inputs that one request may read."
    )
    bit_writes: Literal["mask", "read-modify-write"] = Field(
        default="mask",
        description="How a bit of a register is written: by function 22, or by reading and writing the "
        "register, which loses what the device changes in between.",
    )
    busy_retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=3, description="How often a busy device is asked again within the deadline of a request."
    )
    busy_wait_ms: Annotated[int, Field(ge=1, le=10_000)] = Field(default=20, description="Pause before that.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a device says."""

    host: str
    port: int
    unit: int


@dataclass(frozen=True, slots=True)
class ModbusShape:
    """Limits of a Modbus request: one stretch of registers or bits of one unit.

    Args:
        max_registers: Registers per request.
        max_bits: Bits per request.
        gap: Unwanted registers worth reading; None: as the cost model says.
        byte_rate: Bytes per second that the line carries.
    """

    max_registers: int = 125
    max_bits: int = 2000
    gap: int | None = None
    byte_rate: float = ETHERNET_BYTE_RATE

    def unit_bytes(self, space: Hashable) -> int:
        """Return 2 for registers, 1 for bits (each is unpacked to a byte)."""
        return 1 if cast("tuple[int, str]", space)[1] in BITS else 2

    def wire_bytes(self, space: Hashable) -> float:
        """Return 2 for registers, 1/8 for bits."""
        return 0.125 if cast("tuple[int, str]", space)[1] in BITS else 2.0

    def station(self, space: Hashable) -> Hashable:
        """Return the unit."""
        return cast("tuple[int, str]", space)[0]

    def max_units(self, space: Hashable) -> int:
        """Return how many registers or bits one request may have."""
        return self.max_bits if cast("tuple[int, str]", space)[1] in BITS else self.max_registers

    def max_gap(self, space: Hashable) -> int | None:
        """Return the unwanted registers, or sixteen times as many bits."""
        if self.gap is None:
            return None
        return self.gap * 16 if cast("tuple[int, str]", space)[1] in BITS else self.gap

    def fits(self, fragments: Sequence[Fragment], more: Fragment) -> bool:  # noqa: ARG002 - of the Protocol
        """Return False: a Modbus request reads one stretch."""
        return False


@lru_cache(maxsize=64)  # asked for each tag of a device
def parse_url(url: str) -> Endpoint:
    """Read ``modbus://host[:port][/unit]``.

    Raises:
        ConfigError: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 502
        unit = int(parts.path.strip("/") or 1)
    except ValueError:
        parts, port, unit = urlsplit(""), 0, -1
    if parts.scheme not in ("modbus", "modbus+tcp") or not parts.hostname or not 0 <= unit <= 255:
        raise ConfigError(f'"{url}" is not a Modbus URL; write e.g. modbus://192.168.0.20:502/1')
    return Endpoint(parts.hostname, port, unit)
