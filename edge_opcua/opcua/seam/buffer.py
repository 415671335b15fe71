"""Bytes from the network that cannot make the decoder run for ever.

asyncua 2.1.0 can be stopped by one packet of forty bytes from anybody, before any certificate is looked at:
a string of negative length moves its cursor back, so that a list of two thousand million strings needs no
bytes; and an array of Null values takes no bytes per value either. Both end here.
"""

from __future__ import annotations

from asyncua.common.utils import Buffer, NotEnoughData

# Part 6 §5.2.2.16: the encoding byte of a Variant: bit 7 array, bit 6 dimensions, bits 0 to 5 the type.
_ARRAY_OF_NULL = 0x80
_WITHOUT_DIMENSIONS = 0xBF
_LENGTH_BYTES = 4
_MAX_NULLS = 1000


class StrictBuffer(Buffer):
    """asyncua's buffer that only moves forward and allows no value that takes no bytes.

    Raises:
        NotEnoughData: On reading or skipping a negative length, or more than there is; and on a length of
            an array of Null beyond the bytes left and a thousand. (A Byte of 0x80 followed by a large
            four-byte number looks the same; no request holds that.)
    """

    _cur_pos: int
    _size: int

    def __init__(self, data: bytes, start_pos: int = 0, size: int = -1) -> None:
        super().__init__(data, start_pos, size)
        self._array_of_null = False

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= size <= self._size:
            raise NotEnoughData(f"{size} bytes wanted, {self._size} left")
        start = self._cur_pos
        self._cur_pos = start + size
        self._size -= size
        found: bytes = self._data[start : self._cur_pos]
        if size == 1:
            self._array_of_null = found[0] & _WITHOUT_DIMENSIONS == _ARRAY_OF_NULL
        elif self._array_of_null:
            self._array_of_null = False
            length = int.from_bytes(found, "little", signed=True)
            if size == _LENGTH_BYTES and length > max(self._size, _MAX_NULLS):
                raise NotEnoughData(f"an array of {length} times Null")
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
        return StrictBuffer(self._data, self._cur_pos, size)
