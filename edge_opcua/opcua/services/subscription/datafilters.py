"""What a client asks to be a change: the filter of a data item (Part 4 §7.22.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncua import ua

# What the codec makes of a filter; of some there are subclasses under ``ua``.
from asyncua.ua.uaprotocol_auto import AggregateFilter, DataChangeFilter, EventFilter

from edge_opcua.opcua.services.subscription.deadband import Trigger, absolute

Range = tuple[float, float]


def is_null(wanted: Any) -> bool:
    """Whether a filter is none."""
    return wanted is None or (isinstance(wanted, ua.ExtensionObject) and wanted.TypeId == ua.NodeId())


def data_filter(
    wanted: Any,
    attribute: int,
    *,
    is_number: Callable[[], bool],
    eu_range: Callable[[], Range | None],
) -> tuple[ua.DataChangeTrigger, float]:
    """Return trigger and deadband, in engineering units; the default is a change of status or value.

    Args:
        wanted: The filter as it came.
        attribute: What is watched (AttributeId).
        is_number: Says whether it is a number.
        eu_range: Returns low and high of its EURange, None without one.

    Raises:
        ua.UaStatusCodeError: There can be no such filter.
    """
    if is_null(wanted):
        return Trigger.StatusValue, 0.0
    if attribute != ua.AttributeIds.Value or isinstance(wanted, EventFilter):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadFilterNotAllowed)
    if isinstance(wanted, AggregateFilter):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
    if not isinstance(wanted, DataChangeFilter) or wanted.Trigger not in tuple(Trigger):
        raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
    if wanted.DeadbandType != ua.DeadbandType.None_ and not is_number():
        raise ua.UaStatusCodeError(ua.StatusCodes.BadFilterNotAllowed)
    kind, value = wanted.DeadbandType, wanted.DeadbandValue
    band = absolute(kind, value, eu_range() if kind == ua.DeadbandType.Percent else None)
    return Trigger(wanted.Trigger), band
