"""A table of many rows kept as columns: a row costs bytes, and becomes an object when it is asked for.

Of a hundred thousand tags nobody looks at more than a few at a time. A column with few different values holds
each once and a small number per row; texts lie one after the other in one stretch of bytes; numbers are an
array. All of it can be written into shared memory as it is and read there without being copied.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]

_ALIGN_BYTES: Final = 8
_HEAD: Final = struct.Struct("=QQ")  # length of the description, number of rows
_FEW: Final = 16  # so many different values are few, however short the table is
_SHARE: Final = 8  # as are those that stand in eight rows each


class Column(Protocol):
    """One value for each row."""

    def value(self, row: int) -> Any:
        """Return the value of a row."""
        ...

    def values(self, rows: Rows | None) -> list[Any]:
        """Return the values of some rows, or of all."""
        ...


class Few:
    """Few different values: each once, and which of them for each row.

    Args:
        kinds: The different values.
        codes: Index of each row's value; None if there is only one.
        length: Number of rows.
    """

    def __init__(self, kinds: Sequence[Any], codes: npt.NDArray[Any] | None, length: int) -> None:
        self.kinds = tuple(kinds)
        self.codes = codes
        self.length = length

    def value(self, row: int) -> Any:
        """Return the value of a row."""
        return self.kinds[0 if self.codes is None else self.codes[row]]

    def values(self, rows: Rows | None) -> list[Any]:
        """Return the values of some rows, or of all."""
        if self.codes is None:
            return list(self.kinds) * (self.length if rows is None else len(rows))
        codes = self.codes if rows is None else self.codes[rows]
        kinds = self.kinds
        return [kinds[code] for code in codes.tolist()]


class Texts:
    """Texts, one after the other.

    Args:
        utf8: All of them.
        ends: Where each ends, with a 0 before.
    """

    def __init__(self, utf8: memoryview, ends: npt.NDArray[np.uint32]) -> None:
        self.utf8 = utf8
        self.ends = ends

    def value(self, row: int) -> str:
        """Return the text of a row."""
        return self.utf8_of(row).decode()

    def utf8_of(self, row: int) -> bytes:
        """Return the text of a row as UTF-8."""
        return bytes(self.utf8[self.ends[row] : self.ends[row + 1]])

    def values(self, rows: Rows | None) -> list[str]:
        """Return the texts of some rows, or of all."""
        if rows is not None:
            pairs = zip(self.ends[rows].tolist(), self.ends[rows + 1].tolist(), strict=True)
            return [str(self.utf8[start:end], "utf-8") for start, end in pairs]
        whole, ends = bytes(self.utf8), self.ends.tolist()
        return [whole[start:end].decode() for start, end in itertools.pairwise(ends)]


class Numbers:
    """Numbers of one type.

    Args:
        array: The numbers.
        nullable: Whether NaN stands for None.
    """

    def __init__(self, array: npt.NDArray[Any], *, nullable: bool = False) -> None:
        self.array = array
        self.nullable = nullable

    def value(self, row: int) -> Any:
        """Return the number of a row."""
        number = self.array[row].item()
        return None if self.nullable and number != number else number

    def values(self, rows: Rows | None) -> list[Any]:
        """Return the numbers of some rows, or of all."""
        numbers = (self.array if rows is None else self.array[rows]).tolist()
        return [None if each != each else each for each in numbers] if self.nullable else numbers


class Table:
    """Rows as columns; immutable.

    Args:
        columns: Its columns by name.
        length: Number of rows.
    """

    def __init__(self, columns: Mapping[str, Column], length: int) -> None:
        self.columns = dict(columns)
        self.length = length

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], length: int) -> Table:
        """Make a table of lists of values: None, bool, int, float, str, and tuples of these."""
        return cls({name: _column(values) for name, values in columns.items()}, length)

    def where(self, name: str, value: Any) -> npt.NDArray[np.bool_]:
        """Return which rows have a value in a column, shape ``(length,)``."""
        column = self.columns[name]
        if not isinstance(column, Few):
            return np.array([each == value for each in column.values(None)], np.bool_)
        hits = np.array([each == value for each in column.kinds], np.bool_)
        return np.repeat(hits, self.length) if column.codes is None else hits[column.codes]

    def to_bytes(self) -> bytes:
        """Return the table as bytes of this machine's order, for :meth:`from_buffer`."""
        parts: list[bytes] = []
        described = {name: _described(column, parts) for name, column in self.columns.items()}
        text = json.dumps(described).encode()
        parts.insert(0, _padded(_HEAD.pack(len(text), self.length) + text))
        return b"".join(parts)

    @classmethod
    def from_buffer(cls, buffer: memoryview) -> Table:
        """Read a table where it lies; the buffer must stay as it is as long as the table is used."""
        size, length = _HEAD.unpack_from(buffer)
        described = json.loads(bytes(buffer[_HEAD.size : _HEAD.size + size]))
        reader = _Parts(buffer, _aligned(_HEAD.size + size))
        return cls({name: reader.column(each, length) for name, each in described.items()}, length)


class _Parts:
    """Takes the arrays of a table out of its bytes, in the order in which they were put there."""

    def __init__(self, buffer: memoryview, at: int) -> None:
        self._buffer = buffer
        self._at = at

    def column(self, described: Mapping[str, Any], length: int) -> Column:
        """Return the next column."""
        if described["is"] == "few":
            codes = self._array(described["codes"], length) if described["codes"] else None
            return Few([_frozen(each) for each in described["kinds"]], codes, length)
        if described["is"] == "texts":
            ends = self._array("<u4", length + 1)
            return Texts(self._bytes(described["bytes"]), ends)
        return Numbers(self._array(described["type"], length), nullable=described["nullable"])

    def _array(self, kind: str, count: int) -> npt.NDArray[Any]:
        dtype = np.dtype(kind)
        return np.frombuffer(self._bytes(dtype.itemsize * count), dtype)

    def _bytes(self, size: int) -> memoryview:
        part = self._buffer[self._at : self._at + size]
        self._at += _aligned(size)
        return part


def _column(values: Sequence[Any]) -> Column:
    if len(set(map(id, values))) == 1:
        return Few(values[:1], None, len(values))
    types = set(map(type, values))
    if types == {str}:
        return _texts(values)
    if types == {float}:
        return _numbers(np.array(values, np.float64), nullable=False)
    if types == {float, type(None)} and not any(each != each for each in values):
        return _numbers(np.array([math.nan if each is None else each for each in values]), nullable=True)
    if types == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        return _numbers(np.array(values, np.int64), nullable=False)
    # 1, 1.0 and True are equal, and so are 0.0 and -0.0; here they are not the same.
    return _few(values, [(type(each), repr(each)) for each in values])


def _few(values: Sequence[Any], keys: Sequence[Any]) -> Few:
    found: dict[Any, int] = {}
    kinds: list[Any] = []
    codes = []
    for value, key in zip(values, keys, strict=True):
        code = found.setdefault(key, len(kinds))
        if code == len(kinds):
            kinds.append(value)
        codes.append(code)
    return Few(kinds, _codes(np.array(codes, np.int64), len(kinds)), len(values))


def _codes(codes: npt.NDArray[Any], kinds: int) -> npt.NDArray[Any] | None:
    return None if kinds <= 1 else codes.astype(np.min_scalar_type(kinds - 1))


def _texts(values: Sequence[str]) -> Column:
    if _are_few(len(set(values)), len(values)):
        return _few(values, values)
    encoded = [each.encode() for each in values]
    ends = np.zeros(len(encoded) + 1, "<u4")
    np.cumsum([len(each) for each in encoded], out=ends[1:])
    return Texts(memoryview(b"".join(encoded)), ends)


def _numbers(array: npt.NDArray[Any], *, nullable: bool) -> Column:
    bits, first, codes = np.unique(array.view(np.int64), return_index=True, return_inverse=True)
    if _are_few(len(bits), len(array)):
        return Few(Numbers(array, nullable=nullable).values(first), _codes(codes, len(bits)), len(array))
    if array.dtype.kind == "i":
        array = array.astype(_smallest(int(array.min()), int(array.max())))
    return Numbers(array, nullable=nullable)


def _smallest(low: int, high: int) -> np.dtype[Any]:
    """Return the smallest type of whole numbers that holds a range."""
    if low >= 0:
        return np.min_scalar_type(high)
    return np.promote_types(np.min_scalar_type(low), np.min_scalar_type(-high - 1))


def _are_few(kinds: int, length: int) -> bool:
    return kinds <= max(_FEW, length // _SHARE)


def _described(column: Column, parts: list[bytes]) -> dict[str, Any]:
    """Return what has to be known to read a column again, and put its arrays to the others."""
    if isinstance(column, Few):
        if column.codes is not None:
            parts.append(_padded(column.codes.tobytes()))
        kind = None if column.codes is None else column.codes.dtype.str
        return {"is": "few", "kinds": column.kinds, "codes": kind}
    if isinstance(column, Texts):
        parts.append(_padded(column.ends.tobytes()))
        parts.append(_padded(bytes(column.utf8)))
        return {"is": "texts", "bytes": len(column.utf8)}
    assert isinstance(column, Numbers), "there is no other kind"
    parts.append(_padded(column.array.tobytes()))
    return {"is": "numbers", "type": column.array.dtype.str, "nullable": column.nullable}


def _frozen(value: Any) -> Any:
    """Return a value as it was before it was JSON, which has no tuples."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _aligned(size: int) -> int:
    return -(-size // _ALIGN_BYTES) * _ALIGN_BYTES


def _padded(part: bytes) -> bytes:
    return part + bytes(_aligned(len(part)) - len(part))
