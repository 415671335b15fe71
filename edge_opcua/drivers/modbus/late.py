"""What a unit may still answer, and the read that shows that nothing of it is left to come; pure.

RTU numbers nothing: an answer that comes after its time-out looks like one to the next request. So before a
unit is used again it gets a read whose answer looks like none of those. A unit answers in order: behind that
answer nothing older can come.
"""

from __future__ import annotations

import struct
from typing import Final

from edge_opcua.drivers.modbus.pdu import Answer, Ask, ask_echo, ask_read

MAX_LOST: Final = 16  # each costs a time-out and a rest: that is how late an answer may be
_AREAS: Final[dict[int, str]] = {1: "co", 2: "di", 3: "hr", 4: "ir", 5: "co", 15: "co"}
_ECHO: Final = 8
_WITHOUT_ADDRESS: Final = frozenset({_ECHO, 43})
_BYTE_BITS: Final = 8


class Late:
    """The requests to one unit whose answers nobody waits for any more, oldest first.

    Args:
        lost: The first of them.
    """

    def __init__(self, lost: Ask) -> None:
        self._first = lost
        self._lost: list[Ask] = []
        self._doubt = False
        self._mute = False
        self.add(lost)

    def __bool__(self) -> bool:
        return bool(self._lost)

    def add(self, ask: Ask) -> None:
        """Note one more that was not answered in time; beyond ``MAX_LOST`` the oldest is forgotten."""
        self._mute = self._mute or ask.function == _ECHO
        self._lost.append(ask)
        del self._lost[:-MAX_LOST]

    def match(self, frame: bytes | bytearray) -> Ask | None:
        """Return the oldest that may be answered by what begins so, or None."""
        return next((ask for ask in self._lost if ask.fits(frame)), None)

    def answered(self, ask: Ask, *, refused: bool) -> None:
        """Note that the answer to one came after all: what is older than it will not be answered any more.

        Args:
            ask: Which, of :meth:`match`.
            refused: Whether that is an exception, which may also be the answer to one that is younger.
        """
        place = self._lost.index(ask)
        del self._lost[place if refused else 0 : place + 1]

    def sync(self) -> Ask:
        """Return what to ask next; its answer differs from all those that may still come."""
        unit = self._first.unit
        if self._doubt and not self._mute:
            return ask_echo(unit)
        function = self._first.function
        area = _AREAS.get(function, "hr")
        start = 0 if function in _WITHOUT_ADDRESS else struct.unpack_from(">H", self._first.pdu, 1)[0]
        step = _BYTE_BITS if area in ("co", "di") else 1
        shapes = {(ask.function, ask.head) for ask in self._lost}
        for size in range(1, step * (len(shapes) + 2), step):
            ask = ask_read(unit, area, min(start, 0x10000 - size), size)
            if (ask.function, ask.head) not in shapes:
                return ask
        raise AssertionError("more sizes than requests")

    def settles(self, sync: Ask, answer: Answer) -> bool:
        """Return whether this answer to a :meth:`sync` shows that nothing older will come.

        An exception carries no size, so it may be an older read's. Then an echo is asked for (function 8),
        which nobody else asks for, so that also its refusal is its own; a unit that does not even refuse it
        is believed the next exception.
        """
        refused = isinstance(answer, int)
        if not refused or self._mute or all(ask.function != sync.function for ask in self._lost):
            return True
        self._doubt = True
        self._lost.append(sync)
        return False
