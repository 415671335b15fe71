"""Values to bytes and back: byte orders, bits, texts and scaling of single tags; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH, Scalar
from edge_opcua.drivers.iec import IecType
from edge_opcua.errors import WriteRejectedError

_GREATEST_FLOAT: Final = float(np.finfo(np.float32).max)
_FLOATS: Final = (Scalar.FLOAT, Scalar.DOUBLE)


@dataclass(frozen=True, slots=True)
class NumberCodec:
    """A number or a time, or an array of them.

    Args:
        type: Elementary type.
        count: 0 for a single value, otherwise elements.
        places: For each byte of an element, least significant first, its offset on the wire.
        stride: Bytes from one element to the next on the wire.
    """

    type: IecType
    count: int
    places: tuple[int, ...]
    stride: int

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        return self.stride * max(1, self.count)

    def offsets(self) -> npt.NDArray[np.intp]:
        """Return where each byte lies on the wire, shape ``(elements, itemsize)``, little-endian order."""
        starts = np.arange(max(1, self.count), dtype=np.intp) * self.stride
        return starts[:, None] + np.array(self.places, np.intp)[None, :]

    def encode(self, value: Any) -> bytes:
        """Return the wire bytes of a raw value; bytes between the elements are 0.

        Raises:
            WriteRejectedError: The value does not fit the type.
        """
        elements = self._elements(value)
        image = np.zeros(self.size_bytes, np.uint8)
        image[self.offsets()] = self._raw(elements)
        return image.tobytes()

    def _raw(self, elements: list[Any]) -> npt.NDArray[np.uint8]:
        """Return the bytes of each element, least significant first, shape ``(elements, size_bytes)``."""
        if self.type.form is None:
            flat = np.array(elements, self.type.raw).view(np.uint8)
            return flat.reshape(len(elements), self.type.size_bytes)
        coded = np.frombuffer(b"".join(map(self._coded, elements)), np.uint8)
        return coded.reshape(len(elements), self.type.size_bytes)[:, ::-1]

    def _coded(self, element: int) -> bytes:
        """Return a date or time as its type has it, most significant byte first."""
        assert self.type.form is not None, "only asked of such types"
        try:
            return self.type.form.encode(element)
        except ValueError as exc:
            raise WriteRejectedError(str(exc), status=BAD_OUT_OF_RANGE) from exc

    def _elements(self, value: Any) -> list[Any]:
        given = _array(value)
        wanted = (self.count,) if self.count else ()
        if given.shape != wanted:
            raise WriteRejectedError(
                f"{self.count or 1} elements are wanted, {given.size} were given", status=BAD_TYPE_MISMATCH
            )
        flat: list[Any] = given.reshape(-1).tolist()
        if given.dtype.kind == "f" and isinstance(
            value, list | tuple
        ):  # of [1, 2**64 - 1] numpy makes floats
            flat = [item.item() if isinstance(item, np.generic) else item for item in value]
        return [fit_number(item, self.type.scalar) for item in flat]

    def decode(self, wire: bytes) -> Any:
        """Return the raw value: a Python number (ticks of a time), a list of them, or None for no time."""
        elements, wrong = raw_values(np.frombuffer(wire, np.uint8)[self.offsets()], self.type)
        if wrong is not None and wrong.any():
            return None
        return elements.tolist() if self.count else elements[0].item()


def raw_values(
    gathered: npt.NDArray[np.uint8], iec: IecType
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return the elements of gathered bytes, and which are none (None: all are some).

    Args:
        gathered: Bytes of each element, least significant first, shape ``(n, size_bytes)``.
        iec: Their type.
    """
    if iec.form is None:
        return gathered.view(iec.raw)[:, 0], None
    return iec.form.decode(gathered[:, ::-1])


@dataclass(frozen=True, slots=True)
class BitCodec:
    """A bit, or a row of them.

    Args:
        type: Always BOOL.
        count: 0 for a single bit, otherwise bits.
        bits: Byte offset and mask of each bit.
        size_bytes: Bytes on the wire that hold them.
    """

    type: IecType
    count: int
    bits: tuple[tuple[int, int], ...]
    size_bytes: int

    def encode(self, value: Any) -> bytes:
        """Return one byte, 0 or 1, per bit; the driver puts them where they belong.

        Raises:
            WriteRejectedError: The value is not BOOL, or has another length.
        """
        given = _array(value)
        if given.shape != ((self.count,) if self.count else ()) or given.dtype != np.bool_:
            raise WriteRejectedError(f"{value!r} is not {self.count or 'a'} BOOL", status=BAD_TYPE_MISMATCH)
        return given.reshape(-1).astype(np.uint8).tobytes()

    def decode(self, wire: bytes) -> Any:
        """Return the bit as bool, or a list of them."""
        values = [bool(wire[at] & mask) for at, mask in self.bits]
        return values if self.count else values[0]


@dataclass(frozen=True, slots=True)
class TextCodec:
    """A string of one-byte characters.

    Args:
        type: Always STRING.
        count: Most characters.
        places: Offset on the wire of each character.
        size_bytes: Bytes on the wire.
        counted: Whether two bytes lead: the greatest and the present length (S7).
    """

    type: IecType
    count: int
    places: tuple[int, ...]
    size_bytes: int
    counted: bool

    def encode(self, value: Any) -> bytes:
        """Return the wire bytes of a text; the rest is filled with NUL.

        Raises:
            WriteRejectedError: No text, too long, or with characters the device cannot hold.
        """
        if not isinstance(value, str):
            raise WriteRejectedError(f"{value!r} is not a text", status=BAD_TYPE_MISMATCH)
        try:
            text = value.encode("latin-1") if self.counted else value.encode()
        except UnicodeEncodeError as exc:
            raise WriteRejectedError(
                f"the device cannot hold {value[exc.start]!r}", status=BAD_OUT_OF_RANGE
            ) from exc
        if len(text) > self.count:
            raise WriteRejectedError(
                f"{len(text)} characters do not fit STRING[{self.count}]", status=BAD_OUT_OF_RANGE
            )
        wire = bytearray(self.size_bytes)
        if self.counted:
            wire[0], wire[1] = self.count, len(text)
        for place, char in zip(self.places, text, strict=False):
            wire[place] = char
        return bytes(wire)

    def decode(self, wire: bytes) -> str | None:
        """Return the text, or None if the bytes are not a string (S7: length beyond the declared one)."""
        if self.counted:
            greatest, length = wire[0], wire[1]
            if length > greatest or length > self.count:
                return None
            return bytes(wire[place] for place in self.places[:length]).decode("latin-1")
        text = bytes(wire[place] for place in self.places).split(b"\0", 1)[0]
        try:
            return text.decode()
        except UnicodeDecodeError:
            return text.decode("latin-1")


@dataclass(frozen=True, slots=True)
class WideTextCodec:
    """A string of UTF-16 characters behind two words: the greatest and the present length (S7's WSTRING).

    Args:
        type: Always WSTRING.
        count: Most characters, in units of UTF-16.
    """

    type: IecType
    count: int

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire."""
        return 4 + 2 * self.count

    def encode(self, value: Any) -> bytes:
        """Return the wire bytes of a text; the rest is filled with NUL.

        Raises:
            WriteRejectedError: No text, too long, or half a character.
        """
        if not isinstance(value, str):
            raise WriteRejectedError(f"{value!r} is not a text", status=BAD_TYPE_MISMATCH)
        try:
            text = value.encode("utf-16-be")
        except UnicodeEncodeError as exc:
            raise WriteRejectedError(
                f"the device cannot hold {value[exc.start]!r}", status=BAD_OUT_OF_RANGE
            ) from exc
        length = len(text) // 2
        if length > self.count:
            raise WriteRejectedError(
                f"{length} characters do not fit WSTRING[{self.count}]", status=BAD_OUT_OF_RANGE
            )
        head = self.count.to_bytes(2, "big") + length.to_bytes(2, "big")
        return (head + text).ljust(self.size_bytes, b"\0")

    def decode(self, wire: bytes) -> str | None:
        """Return the text, or None if the bytes are not such a string: a length beyond the declared one."""
        greatest, length = int.from_bytes(wire[:2], "big"), int.from_bytes(wire[2:4], "big")
        if length > greatest or length > self.count:
            return None
        return bytes(wire[4 : 4 + 2 * length]).decode("utf-16-be", "replace")


Codec: TypeAlias = NumberCodec | BitCodec | TextCodec | WideTextCodec


def _array(value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as exc:
        raise WriteRejectedError(f"{value!r} is not an array", status=BAD_TYPE_MISMATCH) from exc


def fit_number(value: Any, scalar: Scalar) -> int | float:
    """Return a number as the type holds it.

    Raises:
        WriteRejectedError: Not a number (BadTypeMismatch), or out of the type's range (BadOutOfRange).
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WriteRejectedError(f"{value!r} is not a number", status=BAD_TYPE_MISMATCH)
    if scalar in _FLOATS:
        return _fit_float(float(value), scalar)
    if isinstance(value, float) and not value.is_integer():
        raise WriteRejectedError(f"{value} is not a whole number", status=BAD_TYPE_MISMATCH)
    whole = int(value)
    bits = 8 * scalar.dtype.itemsize
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if scalar.dtype.kind == "i" else (0, (1 << bits) - 1)
    if not low <= whole <= high:
        raise WriteRejectedError(f"{whole} is not in {low}..{high}", status=BAD_OUT_OF_RANGE)
    return whole


def _fit_float(value: float, scalar: Scalar) -> float:
    if not math.isfinite(value):
        raise WriteRejectedError(f"{value} is not a value to write", status=BAD_OUT_OF_RANGE)
    if scalar is Scalar.FLOAT and abs(value) > _GREATEST_FLOAT:
        raise WriteRejectedError(f"{value} does not fit {scalar.name}", status=BAD_OUT_OF_RANGE)
    return value


def unscaled(value: Any, *, scalar: Scalar, scale: float, offset: float) -> Any:
    """Return the raw value of an engineering value: the inverse of ``raw * scale + offset``.

    Raises:
        WriteRejectedError: Not a number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WriteRejectedError(f"{value!r} is not a number", status=BAD_TYPE_MISMATCH)
    if not math.isfinite(value):
        raise WriteRejectedError(f"{value} is not a value to write", status=BAD_OUT_OF_RANGE)
    raw = (value - offset) / scale
    return raw if scalar in _FLOATS else round(raw)
