"""How a stroke gets from the press to the vibration unit: one datagram, as a blow goes through steel."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_HEAD: Final = struct.Struct("<IqBxxxf")
DATAGRAM_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Shock:
    """One blow on the die set.

    Args:
        stroke: Stroke counter of the PLC.
        struck_ns: Monotonic time of the blow, ns.
        sensor_fault: The accelerometer is broken.
        die_temp: Temperature of the die, °C.
        raw: Samples at 10 kHz in steps of 0.01 m/s², int16, little-endian.
    """

    stroke: int
    struck_ns: int
    sensor_fault: bool
    die_temp: float
    raw: bytes

    def pack(self) -> bytes:
        """Return the datagram."""
        return _HEAD.pack(self.stroke, self.struck_ns, self.sensor_fault, self.die_temp) + self.raw

    @classmethod
    def unpack(cls, datagram: bytes) -> Shock:
        """Read a datagram made by :meth:`pack`."""
        stroke, struck_ns, fault, die_temp = _HEAD.unpack_from(datagram)
        return cls(stroke, struck_ns, bool(fault), die_temp, datagram[_HEAD.size :])
