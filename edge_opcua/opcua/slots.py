"""Values of variables that are nodes: setting one, and telling who watches it."""

from __future__ import annotations

from typing import Any

import structlog
from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD
from edge_opcua.opcua.values import SharedDataValue, utc

_log = structlog.get_logger(__name__)


def watches_time(slot: AttributeValue) -> bool:
    """Whether a monitored item of this value has the trigger StatusValueTimestamp (Part 4 §7.22.2)."""
    return any(watcher.wants_time for watcher in slot.datachange_callbacks.values())


def notify(slot: AttributeValue, value: ua.DataValue) -> None:
    """Tell every monitored item of a variable; what one of them makes of it stops nobody else."""
    for watcher in slot.datachange_callbacks.values():
        try:
            watcher.changed(value)
        except Exception as exc:  # noqa: BLE001 - boundary: an item compares whatever a value may be
            _log.error("notify.failed", error=repr(exc), exc_info=exc)


def assign(slot: AttributeValue, value: ua.DataValue) -> None:
    """Set a variable that no row of the bus feeds."""
    before = slot.value
    slot.value = value
    if slot.datachange_callbacks and (before is None or before.Value != value.Value):
        notify(slot, value)


def assign_now(slot: AttributeValue, value: Any, kind: ua.VariantType, clock: Clock) -> None:
    """Set a variable that is worked out here, if it changed."""
    variant = ua.Variant(value, kind)
    if slot.value is not None and slot.value.Value == variant and slot.value.StatusCode.is_good():
        return
    now = utc(clock.utc_ns())
    assign(slot, SharedDataValue(variant, ua.StatusCode(ua.UInt32(GOOD)), now, now))
