"""NumericRange: parts of arrays, matrices, strings and ByteStrings, read and written (Part 4 §7.27)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError

_DIMENSION: Final = re.compile(r"(\d{1,19})(?::(\d{1,19}))?", re.ASCII)
_MAX_LETTERS: Final = 400
_TEXTS: Final = frozenset({ua.VariantType.String, ua.VariantType.ByteString})

Bounds = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class NumericRange:
    """A range of indexes for each dimension.

    Args:
        bounds: First and last index, both inside, of each dimension.
    """

    bounds: Bounds

    def read(self, value: ua.Variant) -> ua.Variant:
        """Return this part of a value; what reaches beyond its end is cut off.

        An array stays an array and a matrix a matrix, however small. Behind the dimensions of an array of
        strings one more range chooses the letters; a string too short for them is null there.

        Raises:
            ServiceError: BadIndexRangeNoData: nothing of the value lies in the range.
        """
        if not _is_array(value):
            return ua.Variant(self._letters(value), value.VariantType)
        part = _cut(value.Value, self.bounds, self._dimensions(value))
        return ua.Variant(part, value.VariantType, is_array=True)

    def write(self, whole: ua.Variant, part: ua.Variant) -> ua.Variant:
        """Return a copy of a value with this part replaced; nothing is ever cut off.

        Raises:
            ServiceError: BadTypeMismatch; BadIndexRangeNoData: the range reaches beyond the value;
                BadIndexRangeDataMismatch: the part is not as large as the range.
        """
        if part.VariantType != whole.VariantType:
            raise ServiceError(ua.StatusCodes.BadTypeMismatch)
        if not _is_array(whole):
            self._letters(whole)
            return ua.Variant(_overwrite(whole.Value, part.Value, self.bounds[0]), whole.VariantType)
        merged = _merge(whole.Value, part.Value, self.bounds, self._dimensions(whole))
        return ua.Variant(merged, whole.VariantType, is_array=True)

    def _letters(self, value: ua.Variant) -> Any:
        """Return a part of one String or ByteString."""
        (first, last), *more = self.bounds
        text = value.Value
        if value.VariantType not in _TEXTS or more or text is None or first >= len(text):
            raise ServiceError(ua.StatusCodes.BadIndexRangeNoData)
        return text[first : last + 1]

    def _dimensions(self, value: ua.Variant) -> int:
        """Return over how many dimensions of the array the range goes, before it goes into its strings."""
        dimensions = len(value.Dimensions) if value.Dimensions else 1
        beyond = len(self.bounds) - dimensions
        if beyond == 0 or (beyond == 1 and value.VariantType in _TEXTS):
            return dimensions
        raise ServiceError(ua.StatusCodes.BadIndexRangeNoData)


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> NumericRange:
    """Return the range a client wrote: ``3``, ``2:5``, ``0:1,4``.

    Raises:
        ServiceError: BadIndexRangeInvalid: it is not written like a range.
    """
    if len(text) > _MAX_LETTERS:
        raise ServiceError(ua.StatusCodes.BadIndexRangeInvalid)
    return NumericRange(tuple(_bounds(each) for each in text.split(",")))


def _bounds(text: str) -> tuple[int, int]:
    found = _DIMENSION.fullmatch(text)
    if found is None:
        raise ServiceError(ua.StatusCodes.BadIndexRangeInvalid)
    first = int(found[1])
    if found[2] is None:
        return first, first
    last = int(found[2])
    if first >= last:  # "5:5" is not valid either
        raise ServiceError(ua.StatusCodes.BadIndexRangeInvalid)
    return first, last


def _is_array(value: ua.Variant) -> bool:
    """Whether a value is an array; asyncua's nodes hold lists that say they are none."""
    return bool(value.is_array) or isinstance(value.Value, list | tuple)


def _cut(value: Sequence[Any] | None, bounds: Bounds, dimensions: int) -> list[Any]:
    (first, last), *rest = bounds
    if value is None or first >= len(value):
        raise ServiceError(ua.StatusCodes.BadIndexRangeNoData)
    chosen = value[first : last + 1]
    if not rest:
        return list(chosen)
    if dimensions > 1:
        return [_cut(each, tuple(rest), dimensions - 1) for each in chosen]
    first, last = rest[0]
    return [text[first : last + 1] if text is not None and first < len(text) else None for text in chosen]


def _merge(whole: Sequence[Any] | None, part: Any, bounds: Bounds, dimensions: int) -> list[Any]:
    (first, last), *rest = bounds
    if whole is None or last >= len(whole):
        raise ServiceError(ua.StatusCodes.BadIndexRangeNoData)
    if not isinstance(part, list) or len(part) != last + 1 - first:
        raise ServiceError(ua.StatusCodes.BadIndexRangeDataMismatch)
    merged = list(whole)
    for index, given in enumerate(part, first):
        if dimensions > 1:
            merged[index] = _merge(merged[index], given, tuple(rest), dimensions - 1)
        elif isinstance(given, list):  # asyncua fills a matrix with too few elements up with these
            raise ServiceError(ua.StatusCodes.BadIndexRangeDataMismatch)
        else:
            merged[index] = _overwrite(merged[index], given, rest[0]) if rest else given
    return merged


def _overwrite(text: Any, letters: Any, bounds: tuple[int, int]) -> Any:
    first, last = bounds
    if text is None or last >= len(text):
        raise ServiceError(ua.StatusCodes.BadIndexRangeNoData)
    if not isinstance(letters, type(text)) or len(letters) != last + 1 - first:
        raise ServiceError(ua.StatusCodes.BadIndexRangeDataMismatch)
    return text[:first] + letters + text[last + 1 :]
