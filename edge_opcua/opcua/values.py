"""From rows of a bus batch to OPC UA DataValues: null when Bad, substitutes in their place, true stamps."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import Any, Final

import numpy as np
from asyncua import ua

from edge_opcua.core.batch import SCALARS, TagBatch
from edge_opcua.core.ticks import from_utc, to_utc
from edge_opcua.core.values import UNCERTAIN_SUBSTITUTE, Scalar, is_bad

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
NULL: Final = ua.Variant(None, ua.VariantType.Null)
VARIANT_OF: Final = {scalar: ua.VariantType(int(scalar)) for scalar in Scalar}


class SharedDataValue(ua.DataValue):  # type: ignore[misc, unused-ignore]
    """A DataValue that nobody changes once it was made, so that keeping it needs no copy.

    asyncua makes a deep copy for each monitored item and change (about 30 µs); ours hands out itself.
    """

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedDataValue:
        return self


@lru_cache(maxsize=1024)  # the rows of a batch share their stamps
def utc(time_ns: int) -> dt.datetime | None:
    """Return ns UTC as OPC UA takes it (1 µs steps), None for 0: no time is known."""
    return _EPOCH + dt.timedelta(microseconds=time_ns // 1000) if time_ns else None


@lru_cache(maxsize=1024)
def status_code(status: int) -> ua.StatusCode:
    """Return a bus status as a StatusCode, limit bits included; it is shared, so nobody changes it."""
    return ua.StatusCode(ua.UInt32(status))


def data_value(
    value: Any, kind: ua.VariantType, status: int, source_ns: int, server_ns: int
) -> SharedDataValue:
    """Return a DataValue; a Bad status has no value (Part 4 §7.11.1).

    Args:
        value: Value, or a list of them; ignored if the status is Bad.
        kind: Built-in type.
        status: StatusCode.
        source_ns: When the device said it, ns UTC; 0 if it never did.
        server_ns: When we took it or learnt of its status, ns UTC.
    """
    variant = NULL if is_bad(status) else ua.Variant(value, kind)
    return SharedDataValue(variant, status_code(status), utc(source_ns), utc(server_ns))


def shown_value(batch: TagBatch, row: int, status: int) -> Any:
    """Return what a client reads for a row whose status is not Bad: its value, or its substitute."""
    kind = SCALARS[batch.layout.kinds[row]]
    if status == UNCERTAIN_SUBSTITUTE and int(batch.status[row]) != UNCERTAIN_SUBSTITUTE:
        substitute = batch.layout.spec.tags[row].substitute
        if substitute is not None:
            return as_sent(substitute, kind)
    value = batch.value(row)
    return as_sent(value.tolist() if isinstance(value, np.ndarray) else value, kind)


def as_sent(value: Any, kind: Scalar) -> Any:
    """Return a value of the bus as asyncua takes it: times are datetimes there."""
    if kind is not Scalar.DATETIME:
        return value
    return [to_utc(each) for each in value] if isinstance(value, list) else to_utc(value)


def as_held(value: Any, kind: Scalar) -> Any:
    """Undo :func:`as_sent` for what a client wrote."""
    if kind is not Scalar.DATETIME:
        return value
    return [from_utc(each) for each in value] if isinstance(value, list) else from_utc(value)
