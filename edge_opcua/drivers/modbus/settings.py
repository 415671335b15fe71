"""What the options of a Modbus device say, and the limits of a request that follow from them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field

from edge_opcua.drivers.modbus.address import BITS
from edge_opcua.drivers.modbus.endpoint import Endpoint, LineSettings, Rs485, TlsFiles
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE, Fragment


class ModbusOptions(DriverOptions):
    """Settings of a Modbus device."""

    order: Literal["ABCD", "BADC", "CDAB", "DCBA"] = Field(
        default="ABCD", description="Byte order of numbers whose address names none; A is the highest byte."
    )
    order64: Literal[
        "ABCDEFGH",
        "BADCFEHG",
        "CDABGHEF",
        "DCBAHGFE",
        "EFGHABCD",
        "FEHGBADC",
        "GHEFCDAB",
        "HGFEDCBA",
        None,
    ] = Field(default=None, description="The same for 64-bit numbers, if `order` does not hold for them.")
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
    pipeline: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="Requests on the way at once over TCP or TLS; the smallest on a connection counts.",
    )
    request_delay_ms: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0,
        description="Pause between an answer and the next request; on a shared line the longest counts.",
    )
    connections: Literal["shared", "own"] = Field(
        default="shared",
        description="Whether devices with the same host and port share one connection, as a gateway needs "
        "it; a serial port is always shared.",
    )
    echo: bool = Field(
        default=False,
        description="Whether an RTU line brings back what is sent, as some two-wire adapters do.",
    )
    rs485: Literal["rts-high", "rts-low", None] = Field(
        default=None,
        description="Level of RTS that turns the transmitter on, switched by the port's driver; not needed "
        "where the adapter does it by itself.",
    )
    rs485_before_ms: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0, description="Pause between turning the transmitter on and the first bit."
    )
    rs485_after_ms: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0, description="Pause between the last bit and turning it off."
    )
    ca: Path | None = Field(default=None, description="TLS: certificates of the device's issuers, PEM.")
    certificate: Path | None = Field(default=None, description="TLS: our certificate with its chain, PEM.")
    key: Path | None = Field(default=None, description="TLS: its private key, PEM, mode 0600.")
    server_name: str | None = Field(
        default=None, description="TLS: name in the device's certificate, if it is not the host of the URL."
    )

    def wrong_with(self, endpoint: Endpoint) -> str:
        """Return why these settings do not fit a URL, or an empty string."""
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        given = [name for name, path in files.items() if path is not None]
        if endpoint.way == "tls":
            missing = [name for name in files if name not in given]
            if missing:
                return f"modbus+tls needs {', '.join(missing)}"
        elif given or self.server_name:
            return f"{(given or ['server_name'])[0]} is for modbus+tls only"
        relative = [name for name in given if not cast(Path, files[name]).is_absolute()]
        if relative:
            return f"{relative[0]} has to be an absolute path"
        if self.echo and not endpoint.rtu:
            return "echo is for RTU only"
        if self.rs485 and endpoint.way != "rtu":
            return "rs485 is for serial ports only"
        return ""

    def line(self, endpoint: Endpoint) -> LineSettings:
        """Return what a device of these settings needs its line to be."""
        tls = rs485 = None
        if self.ca is not None and self.certificate is not None and self.key is not None:
            tls = TlsFiles(self.ca, self.certificate, self.key, self.server_name or endpoint.host)
        if self.rs485:
            pauses = self.rs485_before_ms / 1000, self.rs485_after_ms / 1000
            rs485 = Rs485(self.rs485 == "rts-high", *pauses)
        return LineSettings(
            endpoint.way, endpoint.host, endpoint.port, endpoint.serial, tls, rs485, echo=self.echo
        )


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
