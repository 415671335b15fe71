"""Long lists that methods return, encoded slice by slice: ten thousand structures take fifty milliseconds."""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from typing import Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import extensionobject_to_binary, struct_to_binary, variant_to_binary

from edge_opcua.opcua.services.slices import SLICE, Encoded

__all__ = ["LongResults", "is_long"]

_COUNT: Final = struct.Struct("<i").pack
_ARRAY: Final = bytes((0x80 | int(ua.VariantType.ExtensionObject.value),))
_NO_DIAGNOSTICS: Final = _COUNT(0)
# A structure takes about as long as two of what a slice counts in.
_PER_YIELD: Final = SLICE // 2


def is_long(result: ua.CallMethodResult) -> bool:
    """Whether a method returned more structures than should be encoded at once."""
    return any(map(_is_long, result.OutputArguments or ()))


def _is_long(output: ua.Variant) -> bool:
    """Whether an output is a list of many structures; matrices are left to the codec."""
    return (
        output.VariantType == ua.VariantType.ExtensionObject
        and isinstance(output.Value, list)
        and len(output.Value) > _PER_YIELD
        and output.Dimensions is None
        and not isinstance(output.Value[0], list)
    )


class LongResults:
    """The results of a Call of which some are long, as bytes.

    Args:
        results: Those that came before the first long one.
        most_bytes: Largest answer.
    """

    def __init__(self, results: Sequence[ua.CallMethodResult], most_bytes: int) -> None:
        self._parts: list[bytes] = [struct_to_binary(result) for result in results]
        self._count = len(results)
        self._size = sum(map(len, self._parts))
        self._most = most_bytes

    def add(self, result: ua.CallMethodResult) -> Generator[None, None, None]:
        """Add a result; once there are too many bytes nothing is kept any more."""
        self._count += 1
        self._keep(
            struct_to_binary(result.StatusCode)
            + _array([struct_to_binary(each) for each in result.InputArgumentResults or ()])
            + _array([struct_to_binary(each) for each in result.InputArgumentDiagnosticInfos or ()])
            + _COUNT(len(result.OutputArguments or ()))
        )
        for output in result.OutputArguments or ():
            if not _is_long(output):
                self._keep(variant_to_binary(output))
                continue
            self._keep(_ARRAY + _COUNT(len(output.Value)))
            for start in range(0, len(output.Value), _PER_YIELD):
                if start:
                    yield
                some = output.Value[start : start + _PER_YIELD]
                self._keep(b"".join(map(extensionobject_to_binary, some)))

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._most:
            self._parts.append(part)

    def response(self) -> Encoded:
        """Return the answer.

        Raises:
            ServiceError: BadResponseTooLarge.
        """
        if self._size > self._most:
            raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
        return Encoded(ua.CallResponse(), b"".join((_COUNT(self._count), *self._parts, _NO_DIAGNOSTICS)))


def _array(encoded: Sequence[bytes]) -> bytes:
    return _COUNT(len(encoded)) + b"".join(encoded)
