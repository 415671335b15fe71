"""A monitored item on a scalar tag: a number, and a place in a group of columns where all else stands."""

from __future__ import annotations

import numpy as np
from asyncua import ua

from edge_opcua.core.values import Scalar
from edge_opcua.opcua.services.subscription.columnqueues import FLAGGED
from edge_opcua.opcua.services.subscription.columns import ColumnGroup
from edge_opcua.opcua.services.subscription.items import Item, Mode
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.records import Records
from edge_opcua.opcua.values import VARIANT_OF, SharedDataValue, as_sent, data_value


class TagItem(Item):
    """An item that is Reporting or Disabled and has no links; for anything else it becomes a DataItem.

    Args:
        number: MonitoredItemId.
        handle: ClientHandle.
        holder: The session whose share of places it has.

    Attributes:
        group: Where it is.
        place: Its place there.
    """

    __slots__ = ("group", "handle", "holder", "mode", "number", "place", "places", "sampling_ms")

    group: ColumnGroup
    place: int

    def __init__(self, number: int, handle: int, holder: ua.NodeId) -> None:
        self.number = number
        self.handle = handle
        self.holder = holder
        self.places = 0
        self.mode = Mode.Disabled

    def enter(self, group: ColumnGroup, place: int) -> None:
        """Take a place in a group."""
        self.group = group
        self.place = place
        self.sampling_ms = group.key.interval_ms

    @property
    def queue_size(self) -> int:
        """How long its queue may be."""
        return int(self.group.queues.size[self.place])

    def set_mode(self, mode: ua.MonitoringMode) -> None:
        """SetMonitoringMode: Reporting or Disabled; the present value is queued when the group settles."""
        assert mode is not Mode.Sampling, "such an item is no column"
        if mode is self.mode:
            return
        self.mode = mode
        if mode is Mode.Disabled:
            self.group.deactivate(self.place)
        else:
            self.group.activate((self.place,))

    def close(self) -> None:
        """End; the subscription forgets it elsewhere."""
        self.group.remove(self.place)


def decoded(values: Records) -> list[tuple[SharedDataValue, bool]]:
    """Return queued values as a ValueQueue has them: each with whether it has the Overflow bit."""
    found = []
    for value in values:
        mask = int(value["mask"])
        source_ns, server_ns = (
            records.nanoseconds(int(value[name])) if mask & bit else 0
            for name, bit in (("source", records.SOURCE), ("server", records.SERVER))
        )
        shown = None
        scalar = Scalar(int(value["kind"]))
        if mask & records.VALUE:
            raw = records.narrowed(np.array([value["value"]], np.uint64), scalar)[0].item()
            shown = as_sent(raw, scalar)
        status = int(value["status"])
        made = data_value(shown, VARIANT_OF[scalar], status, source_ns, server_ns)
        found.append((made, bool(mask & FLAGGED)))
    return found


def notified(last: tuple[int, int, int], scalar: Scalar) -> SharedDataValue:
    """Return what was last notified, as far as the next change is compared with it."""
    number, status, source = last
    value = as_sent(records.from_canonical(number, scalar), scalar)
    return data_value(value, VARIANT_OF[scalar], status, records.nanoseconds(source), 0)
