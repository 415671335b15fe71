"""Bytes from the network that cannot make the decoder run for ever.

asyncua 2.1.0 can be stopped by one packet of forty bytes from anybody, before any certificate is looked at:
a string of negative length moves its cursor back, so that a list of two thousand million strings needs no
bytes. That ends here; what unfolds to more than was sent ends in :mod:`~edge_opcua.opcua.seam.guard`.
"""

from __future__ import annotations

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData, ServiceError

_LENGTH_BYTES = 4


class StrictBuffer(Buffer):
    """asyncua's buffer that only moves forward and returns no string that is too long.

    Args:
        data: The bytes.
        start_pos: Where to begin.
        size: How many of them; -1: all.
        longest: Longest String or ByteString, bytes.

    Raises:
        NotEnoughData: On reading or skipping a negative length, or more than there is.
        ServiceError: BadEncodingLimitsExceeded: on reading a string that is too long (an array of numbers
            of one byte each looks the same).
    """

    _cur_pos: int
    _size: int

    def __init__(self, data: bytes, start_pos: int = 0, size: int = -1, *, longest: int = 1 << 31) -> None:
        super().__init__(data, start_pos, size)
        self._longest = longest

    @property
    def whole(self) -> bytes:
        """All bytes, those before the present place too."""
        data: bytes = self._data
        return data

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= size <= self._size:
            raise NotEnoughData(f"{size} bytes wanted, {self._size} left")
        start = self._cur_pos
        self._cur_pos = end = start + size
        self._size -= size
        if (
            size > self._longest
            and int.from_bytes(self._data[start - _LENGTH_BYTES : start], "little") == size
        ):
            raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
        found: bytes = self._data[start:end]
        return found

    def skip(self, size: int) -> None:
        """Pass over bytes."""
        if size < 0:
            raise NotEnoughData(f"{size} bytes to skip")
        super().skip(size)

    def copy(self, size: int = -1) -> StrictBuffer:
        """Return the next bytes as a buffer of their own, without moving."""
        if size == -1 or size > self._size:
            size = self._size
        elif size < 0:
            raise NotEnoughData(f"{size} bytes to copy")
        return StrictBuffer(self._data, self._cur_pos, size, longest=self._longest)
