"""What counts as a change: triggers and deadbands of a DataChangeFilter (Part 4 §7.22.2, Part 8 §7.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua

Trigger = ua.DataChangeTrigger
NUMBERS: Final = frozenset(
    {
        ua.VariantType.SByte,
        ua.VariantType.Byte,
        ua.VariantType.Int16,
        ua.VariantType.UInt16,
        ua.VariantType.Int32,
        ua.VariantType.UInt32,
        ua.VariantType.Int64,
        ua.VariantType.UInt64,
        ua.VariantType.Float,
        ua.VariantType.Double,
    }
)


def absolute(kind: int, value: float, eu_range: tuple[float, float] | None) -> float:
    """Return a deadband as an absolute number, 0 for none.

    Args:
        kind: DeadbandType as the client sent it.
        value: DeadbandValue: engineering units, or percent of the range.
        eu_range: Low and high of the node's EURange; None without one.

    Raises:
        ua.UaStatusCodeError: BadDeadbandFilterInvalid, or BadMonitoredItemFilterUnsupported where a
            percentage has no range to be of.
    """
    if kind == ua.DeadbandType.None_:
        return 0.0
    if kind not in (ua.DeadbandType.Absolute, ua.DeadbandType.Percent):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadDeadbandFilterInvalid)
    if not math.isfinite(value) or value < 0:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadDeadbandFilterInvalid)
    if kind == ua.DeadbandType.Absolute:
        return value
    if value > 100:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadDeadbandFilterInvalid)
    if eu_range is None or not eu_range[1] > eu_range[0]:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
    return value / 100 * (eu_range[1] - eu_range[0])


def changed(trigger: int, band: float, last: ua.DataValue | None, now: ua.DataValue) -> bool:
    """Whether a sample is a notification, compared with the last one that was.

    Args:
        trigger: DataChangeTrigger.
        band: Deadband in engineering units; 0: none.
        last: The last notification; None: there was none yet.
        now: The sample.
    """
    if last is None:
        return True
    if last is now:
        return False
    if _code(last) != _code(now):
        return True
    if trigger == Trigger.Status:
        return False
    if trigger == Trigger.StatusValueTimestamp and not band and last.SourceTimestamp != now.SourceTimestamp:
        return True
    return _differ(last.Value, now.Value, band)


def _code(value: ua.DataValue) -> int:
    status = value.StatusCode
    return status.value if status is not None else 0


def _differ(last: ua.Variant | None, now: ua.Variant | None, band: float) -> bool:
    if last is None or now is None:
        return last is not now
    if last.VariantType != now.VariantType:
        return True
    if not band or now.VariantType not in NUMBERS:
        return not _same(last.Value, now.Value)
    return exceeds(last.Value, now.Value, band)


def exceeds(last: Any, now: Any, band: float) -> bool:
    """Whether a number, or any element of an array, moved by more than the deadband.

    An array that changed its length did; so did a number that became NaN, or stopped being it.
    """
    if isinstance(now, Sequence):
        if not isinstance(last, Sequence) or len(last) != len(now):
            return True
        return any(exceeds(a, b, band) for a, b in zip(last, now, strict=True))
    if last is None or now is None or isinstance(last, Sequence):
        return last is not now
    if last == now:
        return False  # also both infinite: their difference would be NaN
    if last != last or now != now:
        return not (last != last and now != now)
    return bool(abs(now - last) > band)


def _same(last: Any, now: Any) -> bool:
    try:
        if last == now:
            return True
    except (TypeError, ValueError):  # values that cannot be compared are not the same
        return False
    if isinstance(now, float):
        return now != now and last != last
    if isinstance(now, list) and isinstance(last, list) and len(now) == len(last):
        return all(_same(a, b) for a, b in zip(last, now, strict=True))
    return False
