"""Which way leads to a Modbus device: what its URL says, and what else makes it the same line."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from edge_opcua.drivers.planner import ETHERNET_BYTE_RATE
from edge_opcua.errors import ConfigError

Way: TypeAlias = Literal["tcp", "tls", "rtutcp", "rtu"]

_WAYS: Final[dict[str, Way]] = {
    "modbus": "tcp",
    "modbus+tcp": "tcp",
    "modbus+tls": "tls",
    "modbus+rtutcp": "rtutcp",
    "modbus+rtu": "rtu",
}
_PORTS: Final[dict[Way, int]] = {"tcp": 502, "tls": 802}
_SERIAL_KEYS: Final = frozenset({"baud", "parity", "stop", "unit"})
_EXAMPLES: Final = (
    "modbus://192.168.0.20:502/1, modbus+tls://plc.local/1, modbus+rtutcp://192.168.0.21:4001/1 or "
    "modbus+rtu:///dev/ttyUSB0?baud=19200&parity=E&stop=1&unit=1"
)
LAST_SERIAL_UNIT: Final = 247  # Modbus over serial line V1.02 §2.2; 0 is a broadcast, which nobody answers


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """How bytes go over a serial line; 8 data bits always.

    Args:
        baud: Bits per second.
        parity: ``N``, ``E`` or ``O``.
        stop: Stop bits, 1 or 2.
    """

    baud: int = 19_200
    parity: str = "E"
    stop: int = 1

    @property
    def char_s(self) -> float:
        """Seconds that one byte takes: start bit, 8 data bits, parity, stop bits."""
        return (9 + (self.parity != "N") + self.stop) / self.baud

    @property
    def gap_s(self) -> float:
        """Silence between two frames: 3.5 characters, 1.75 ms above 19 200 baud (V1.02 §2.5.1.1)."""
        return 0.00175 if self.baud > 19_200 else 3.5 * self.char_s


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a device says.

    Args:
        host: Name or address, or the path of a serial port.
        port: TCP port; 0 for a serial port.
        unit: Unit that addresses without one of their own mean.
        way: How frames get there.
        serial: Settings of a serial port.
    """

    host: str
    port: int
    unit: int
    way: Way = "tcp"
    serial: SerialSettings | None = None

    @property
    def rtu(self) -> bool:
        """Whether frames have a checksum and no transaction id."""
        return self.way in ("rtu", "rtutcp")

    @property
    def byte_rate(self) -> float:
        """Bytes per second that get there; behind a gateway for RTU what is usual."""
        if not self.rtu:
            return ETHERNET_BYTE_RATE
        return 1 / (self.serial or SerialSettings()).char_s

    def check_unit(self, unit: int) -> str:
        """Return why a unit cannot be asked over this way, or an empty string."""
        if self.rtu and not 1 <= unit <= LAST_SERIAL_UNIT:
            return f"unit {unit} answers nothing on a serial line; units are 1..{LAST_SERIAL_UNIT}"
        return "" if 0 <= unit <= 255 else f"unit {unit} is not in 0..255"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates of a connection lie; read anew for each, so that a renewed one is taken up.

    Args:
        ca: Certificates of those who may have issued the device's, PEM.
        certificate: Our certificate with its chain, PEM.
        key: Its private key, PEM, readable by us only.
        server_name: Name that the device's certificate has to show.
    """

    ca: Path
    certificate: Path
    key: Path
    server_name: str


@dataclass(frozen=True, slots=True)
class Rs485:
    """How the driver of a port turns the transmitter of two wires on and off.

    Args:
        rts_on_send: Level of RTS while sending.
        before_s: Pause between turning on and the first bit.
        after_s: Pause between the last bit and turning off.
    """

    rts_on_send: bool = True
    before_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LineSettings:
    """What makes it the same line; all devices on one have to agree.

    Args:
        way: How frames get there.
        host: Name or address, or the path of a serial port.
        port: TCP port; 0 for a serial port.
        serial: Settings of a serial port.
        tls: Certificates of a TLS connection.
        rs485: How a port's transmitter is switched.
        echo: Whether what is sent comes back first.
    """

    way: Way
    host: str
    port: int
    serial: SerialSettings | None = None
    tls: TlsFiles | None = None
    rs485: Rs485 | None = None
    echo: bool = False

    @property
    def name(self) -> str:
        """What messages call it: ``host:port``, or the path of the port."""
        if self.serial is not None:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def rtu(self) -> bool:
        """Whether frames have a checksum and no transaction id."""
        return self.way in ("rtu", "rtutcp")

    @property
    def key(self) -> Hashable:
        """What the line is known by among those of one process."""
        return ("modbus", self.host, self.port)


@lru_cache(maxsize=256)  # asked for each tag of a device
def parse_url(url: str) -> Endpoint:
    """Read the URL of a Modbus device.

    Raises:
        ConfigError: It is not such a URL.
    """
    try:
        found = _read(url)
    except ValueError as exc:
        said = f" ({exc})" if str(exc) else ""
        raise ConfigError(f'"{url}" is not a Modbus URL{said}; write e.g. {_EXAMPLES}') from None
    return found


def _read(url: str) -> Endpoint:
    parts = urlsplit(url)
    way = _WAYS.get(parts.scheme)
    if way is None or parts.username or parts.fragment:
        raise ValueError
    if way == "rtu":
        found = _read_serial(parts.netloc, parts.path, parts.query)
    else:
        if parts.query or not parts.hostname:
            raise ValueError
        port = parts.port or _PORTS.get(way, 0)
        if not port:
            raise ValueError("RTU over TCP has no usual port: write the gateway's")
        found = Endpoint(parts.hostname, port, int(parts.path.strip("/") or 1), way)
    wrong = found.check_unit(found.unit)
    if wrong:
        raise ValueError(wrong)
    return found


def _read_serial(netloc: str, path: str, query: str) -> Endpoint:
    if netloc or not path.startswith("/") or path == "/":
        raise ValueError("a serial port is a path: three slashes")
    given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    unknown = sorted(set(given) - _SERIAL_KEYS)
    if unknown:
        raise ValueError(f"{unknown[0]} means nothing; settings are baud, parity, stop and unit")
    settings = SerialSettings(
        int(given.get("baud", "19200")), given.get("parity", "E").upper()[:1], int(given.get("stop", "1"))
    )
    if not 300 <= settings.baud <= 4_000_000:
        raise ValueError(f"baud={settings.baud} is not in 300..4000000")
    if settings.parity not in ("N", "E", "O"):
        raise ValueError("parity is N, E or O")
    if settings.stop not in (1, 2):
        raise ValueError("stop is 1 or 2")
    return Endpoint(path, 0, int(given.get("unit", "1")), "rtu", settings)
