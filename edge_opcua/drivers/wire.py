"""The seam between the poller and a protocol: one open connection, and the class that a plugin names."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NOT_SUPPORTED, GOOD
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.planner import Place, Request, Shape
from edge_opcua.errors import DeviceRefusedError


class FaultKind(Enum):
    """What a device means by refusing a fragment."""

    ADDRESS = "address"  # some of it does not exist: find out which rows, and leave them out
    DENIED = "denied"  # none of it may be read
    DEVICE = "device"  # the device has a fault of its own
    BUSY = "busy"  # ask again later
    ABSENT = "absent"  # the unit does not answer, but the line to it lives: the others are asked as before
    MISSED = "missed"  # the same once, or not asked: the unit is not given up; never said by a wire


@dataclass(frozen=True, slots=True)
class Fault:
    """The answer of a device that refused one fragment.

    Args:
        kind: What that means.
        reason: One sentence for people, with the protocol's own code.
    """

    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Stamped:
    """The answer of a device that says itself how good a value is and when it was taken.

    Args:
        wire: Bytes of the value, as the codec of its place reads them; what they say counts unless Bad.
        status: StatusCode of the source.
        source_ns: Its source time, ns UTC; 0 if it gives none.
    """

    wire: bytes
    status: int = GOOD
    source_ns: int = 0


Reading: TypeAlias = bytes | Stamped | Fault
"""What came for one fragment."""


def content(answer: bytes | Stamped) -> bytes:
    """Return the bytes of an answer that is no refusal."""
    return answer.wire if isinstance(answer, Stamped) else answer


@dataclass(slots=True)
class Traffic:
    """What went over a wire since it was made.

    Args:
        requests: Requests that were sent.
        errors: Those that were refused or got no answer.
        size_bytes: Bytes of requests and answers.
        notice: What the device says of itself now that people should know, with a code; empty: nothing.
        on_line_s: Time in which requests were on the way, seconds, each for itself, where devices share a
            line and a round trip is also a wait for the others; 0: not known.
    """

    requests: int = 0
    errors: int = 0
    size_bytes: int = 0
    notice: str = ""
    on_line_s: float = 0.0


def whole_words(area: str, payload: bytes) -> tuple[int, ...]:
    """Return the words of a payload, high bytes first; DeviceRefusedError if it ends in half a one."""
    if len(payload) % 2:
        raise DeviceRefusedError(f"{area}: {len(payload)} bytes are no whole words", status=BAD_NOT_SUPPORTED)
    return struct.unpack(f">{len(payload) // 2}H", payload)


class Wire(Protocol):
    """One connection to one device. Not reentrant: the poller makes one call at a time."""

    traffic: Traffic

    @property
    def depth(self) -> int:
        """How many requests may usefully be given to one :meth:`read`; it has them on the way together."""
        ...

    @property
    def shape(self) -> Shape:
        """Limits of a request; what the device told at :meth:`open` counts from then on."""
        ...

    async def open(self) -> None:
        """Connect; DeviceError if that fails."""
        ...

    async def close(self) -> None:
        """Drop the connection; never fails and never waits long."""
        ...

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """Send some requests and return, for each, the bytes or the refusal of each of its fragments.

        A request with ``deadline_s`` is given up after that, if it is shorter than the wire's own deadline.

        Raises:
            DeviceTimeoutError: No answer in time; with ``again`` the connection stands and would not take a
                late answer for that to another request, so that the poller may ask once more.
            DeviceError: The connection broke or spoke nonsense; it must be closed.
        """
        ...

    async def write(self, place: Place, encoded: bytes) -> None:
        """Write one value, once.

        Raises:
            DeviceRefusedError: The device answered no; nothing was written.
            DeviceTimeoutError: No answer in time: the value may have been written.
            DeviceError: The connection broke; the value may have been written.
        """
        ...

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write 16-bit words in one request; errors as :meth:`write`.

        Args:
            area: Where they begin, as :meth:`edge_opcua.core.ports.AreaPlugin.parse_area` reads it.
            offset: Words behind that.
            payload: The words, the high byte of each first, whatever order the protocol has.
        """
        ...


class Driver(Protocol):
    """The class that an entry point of group ``edge_opcua.drivers`` names."""

    Config: ClassVar[type[DriverOptions]]

    @classmethod
    def parse_address(cls, text: str) -> Place:
        """Read one address; AddressError with a hint if it does not follow the grammar."""
        ...

    @classmethod
    def options(cls, cfg: DeviceConfig) -> DriverOptions:
        """Return the checked options of a device; ConfigError if url or options are unusable."""
        ...

    @classmethod
    def place(cls, text: str, cfg: DeviceConfig) -> Place:
        """Return the place of an address in this device: its defaults filled in."""
        ...

    @classmethod
    def shape(cls, cfg: DeviceConfig) -> Shape:
        """Return the limits that hold before a connection has told its own."""
        ...

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:
        """Return a connection, not yet open; what it shares with other devices comes from ``lines``."""
        ...


@runtime_checkable
class SharesLines(Protocol):
    """A driver whose devices may share a line that all of them have to set up alike."""

    def line(self, cfg: DeviceConfig) -> tuple[Hashable, object]:
        """Return what makes it the same line, and how this device sets it up."""
        ...
