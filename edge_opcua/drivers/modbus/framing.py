"""Frames of Modbus TCP and RTU: what goes out, and which request each frame that comes in answers; pure.

Garbage is a DeviceError; whoever owns the connection decides what it costs.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from pymodbus.framer.rtu import FramerRTU

from edge_opcua.drivers.modbus.late import Late
from edge_opcua.drivers.modbus.pdu import REFUSED, Answer, Ask
from edge_opcua.drivers.modbus.reasons import CHECKSUM, ECHO
from edge_opcua.errors import DeviceError

_HEAD: Final = struct.Struct(">HHHB")
_MAX_LENGTH: Final = 254
_MAX_FRAME: Final = 256
MAX_LATE: Final = 3  # answers in a row that nobody waits for any more
_REMEMBERED: Final = 64

Answers: TypeAlias = list[tuple[int, Answer]]
"""Keys of requests, and what came for each."""


@dataclass(slots=True)
class Strays:
    """Frames that came too late to be of use, since the connection was made."""

    late: int = 0


class Framing(Protocol):
    """How requests and answers are told apart on one connection."""

    strays: Strays

    def frame(self, ask: Ask) -> tuple[int, bytes]:
        """Return the key by which the answer will be known, and the bytes to send."""
        ...

    def feed(self, chunk: bytes, flying: Mapping[int, Ask]) -> Answers:
        """Take what came; return the answers that are complete with it.

        Raises:
            DeviceError: It cannot be, or belong to, an answer; nothing of this chunk counts.
        """
        ...

    def expired(self, key: int, ask: Ask) -> None:
        """Note that nobody waits for an answer any more; it may still come."""
        ...

    def sync(self, unit: int) -> Ask | None:
        """Return what has to be asked before a unit is used again; None if late answers cannot mislead."""
        ...

    def reset(self) -> None:
        """Forget what is half received: a new connection, or a line that was cleared."""
        ...


class MbapFraming:
    """Modbus TCP: a transaction id on each frame, so that several may be on the way (V1.0b §4.2)."""

    def __init__(self) -> None:
        self.strays = Strays()
        self._buffer = b""
        self._last = 0
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._in_a_row = 0

    def frame(self, ask: Ask) -> tuple[int, bytes]:
        """See :class:`Framing`; ids run 1..65535 through all connections."""
        self._last = self._last % 0xFFFF + 1
        self._gone.pop(self._last, None)
        return self._last, _HEAD.pack(self._last, 0, len(ask.pdu) + 1, ask.unit) + ask.pdu

    def feed(self, chunk: bytes, flying: Mapping[int, Ask]) -> Answers:
        """See :class:`Framing`."""
        buffer = self._buffer + chunk if self._buffer else chunk
        answers: Answers = []
        at, size = 0, len(buffer)
        while at < size:
            if size - at < _HEAD.size:
                self._refuse_unasked(buffer[at:], flying, answers)
                break
            key, protocol, length, unit = _HEAD.unpack_from(buffer, at)
            if protocol or not 3 <= length <= _MAX_LENGTH:
                raise DeviceError(f"frame begins with {buffer[at : at + 8].hex(' ')}")
            ask = self._asked(key, flying, answers, size - at)
            end = at + 6 + length
            if ask is not None and at + 7 < size:
                ask.check_head(unit, buffer[at + 7])
            if end > size:
                break
            if ask is not None:
                answers.append((key, ask.answer(unit, buffer[at + 7 : end])))
                self._in_a_row = 0
            else:
                self._drop(key)
            at = end
        self._buffer = buffer[at:]
        return answers

    def _asked(self, key: int, flying: Mapping[int, Ask], answers: Answers, size: int) -> Ask | None:
        """Return what a transaction asked; None for one to be dropped, because a time-out came before."""
        ask = flying.get(key)
        if ask is not None and all(key != answered for answered, _ in answers):
            return ask
        if self._gone:
            return None
        if len(flying) == len(answers):
            raise DeviceError(f"{size} bytes came that nobody had asked for")
        asked = ", ".join(str(number) for number in flying)
        raise DeviceError(f"transaction {key} was answered, asked was {asked}")

    def _refuse_unasked(self, rest: bytes, flying: Mapping[int, Ask], answers: Answers) -> None:
        if len(flying) == len(answers) and not self._gone:
            raise DeviceError(f"{len(rest)} bytes came that nobody had asked for")

    def _drop(self, key: int) -> None:
        self._gone.pop(key, None)
        self.strays.late += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_LATE:
            raise DeviceError(f"{self._in_a_row} answers in a row came too late: out of step")

    def expired(self, key: int, ask: Ask) -> None:  # noqa: ARG002 - of the Protocol
        """See :class:`Framing`."""
        self._gone[key] = None
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)

    def sync(self, unit: int) -> Ask | None:  # noqa: ARG002 - of the Protocol
        """See :class:`Framing`; the transaction id says which answers are late."""
        return None

    def reset(self) -> None:
        """See :class:`Framing`."""
        self._buffer = b""
        self._gone.clear()
        self._in_a_row = 0


class RtuFraming:
    """Modbus RTU: one request at a time, a checksum, and the length known from what was asked (V1.02 §2.5).

    Args:
        echo: Whether what is sent comes back first, as on two wires without suppression in the adapter.
        noisy: Whether bytes may come out of nowhere, as on a serial line: they are cleared before a request.
    """

    def __init__(self, *, echo: bool = False, noisy: bool = True) -> None:
        self.strays = Strays()
        self._noisy = noisy
        self._echo = echo
        self._buffer = bytearray()
        self._echoed = b""
        self._late: dict[int, Late] = {}

    def frame(self, ask: Ask) -> tuple[int, bytes]:
        """See :class:`Framing`; the key is always 0."""
        body = bytes((ask.unit,)) + ask.pdu
        sent = body + checksum(body)
        if self._noisy:
            self._buffer.clear()
        self._echoed = sent if self._echo else b""
        return 0, sent

    def feed(self, chunk: bytes, flying: Mapping[int, Ask]) -> Answers:
        """See :class:`Framing`."""
        self._buffer += chunk
        buffer, ask = self._buffer, flying.get(0)
        if self._echoed and not self._take_echo():
            return []
        while buffer and (late := self._late.get(buffer[0])) is not None:
            if ask is not None and ask.unit == buffer[0] and ask.fits(buffer):
                break
            lost = late.match(buffer)
            if lost is None:
                break
            if not self._drop_late(late, lost):
                return []
        if ask is not None:
            return self._answers(buffer, ask) if len(buffer) >= 2 else []
        stray = len(buffer)
        buffer.clear()
        if stray:
            raise DeviceError(f"{stray} bytes came that nobody had asked for")
        return []

    def _answers(self, buffer: bytearray, ask: Ask) -> Answers:
        ask.check_head(buffer[0], buffer[1])
        if len(buffer) > 2 and not buffer[1] & REFUSED and buffer[2] != ask.head[0]:
            raise DeviceError(f"{ask.what}: the answer begins with {buffer.hex(' ')}")
        size = ask.rtu_size(buffer)
        if len(buffer) > size:
            raise DeviceError(f"{len(buffer) - size} bytes follow the answer")
        if len(buffer) > _MAX_FRAME:
            raise DeviceError(f"{len(buffer)} bytes are no frame")
        if len(buffer) < size:
            return []
        answer = ask.answer(buffer[0], _checked(buffer, ask.what)[1:])
        buffer.clear()
        late = self._late.get(ask.unit)
        if late is not None and late.settles(ask, answer):
            del self._late[ask.unit]
        return [(0, answer)]

    def _take_echo(self) -> bool:
        size = len(self._echoed)
        if not self._echoed.startswith(self._buffer[:size]):
            raise DeviceError(ECHO.of("the"))
        if len(self._buffer) < size:
            return False
        del self._buffer[:size]
        self._echoed = b""
        return True

    def _drop_late(self, late: Late, ask: Ask) -> bool:
        """Drop the answer to a request that was given up, once it is whole."""
        if len(self._buffer) < 2:
            return False
        size = ask.rtu_size(self._buffer)
        if len(self._buffer) < size:
            return False
        _checked(self._buffer[:size], ask.what)
        late.answered(ask, refused=bool(self._buffer[1] & REFUSED))
        if not late:
            del self._late[ask.unit]
        del self._buffer[:size]
        self.strays.late += 1
        return True

    def expired(self, key: int, ask: Ask) -> None:  # noqa: ARG002 - of the Protocol
        """See :class:`Framing`."""
        late = self._late.get(ask.unit)
        if late is None:
            self._late[ask.unit] = Late(ask)
        else:
            late.add(ask)
        self._echoed = b""

    def sync(self, unit: int) -> Ask | None:
        """See :class:`Framing`."""
        late = self._late.get(unit)
        return None if late is None else late.sync()

    def reset(self) -> None:
        """See :class:`Framing`; a late answer may come to the next connection, so that is not forgotten."""
        self._buffer.clear()
        self._echoed = b""


def checksum(body: bytes | bytearray) -> bytes:
    """Return the two bytes behind an RTU frame, low byte first."""
    return FramerRTU.compute_CRC(bytes(body)).to_bytes(2, "big")  # pymodbus has swapped it already


def _checked(frame: bytearray, what: str) -> bytes:
    """Return a frame without its checksum; DeviceError if that is wrong."""
    body = bytes(frame[:-2])
    if checksum(body) != frame[-2:]:
        raise DeviceError(CHECKSUM.of(what))
    return body
