"""Subscriptions on tags without a server: one block whose batches a test makes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from asyncua import ua

from edge_opcua.config.tags import TagConfig
from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import GOOD, BlockSpec, Scalar
from edge_opcua.opcua.access import rule
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.tags.live import LiveBlock
from tests.opcua.publishing import Plant


def config(name: str, kind: Scalar = Scalar.DOUBLE, **more: Any) -> TagConfig:
    return TagConfig(name=name, address="DB1.DBD0:REAL", type=kind, **more)


class TagPlant(Plant):
    """A plant with one block of tags.

    Args:
        tags: The tags. An observer may not read one that is called ``secret``.
    """

    def __init__(self, *tags: TagConfig, **limits: Any) -> None:
        super().__init__(rules=[rule("secret", "Observer", ["browse"])], **limits)
        spec = BlockSpec("press.fast", tuple(each.spec for each in tags), 4)
        self.block = LiveBlock(spec, self.clock)
        self.aspace.tags.add(self.block, [(row, each.name, each) for row, each in enumerate(tags)])
        self.access.cover(self.aspace.tags, self.aspace.virtual)
        self.nodes = [self.aspace.tags.node_id(number) for number in range(len(tags))]
        self.batch = TagBatch(BlockLayout(spec))
        self.batch.status[:] = GOOD
        self.stamp_s(0)

    def stamp_s(self, at_s: float) -> None:
        """Set the times of what comes next."""
        self.batch.source_ns[:] = self.batch.server_ns[:] = 1_700_000_000_000_000_000 + round(at_s * 1e9)

    def take(self, *, missed: bool = False, status: Any = None) -> None:
        """Let the batch come in."""
        shown = self.batch.status.copy() if status is None else np.array(status, np.uint32)
        self.block.take(self.batch, shown, missed=missed)

    def poll(self, values: Iterable[Any] = (), *, missed: bool = False) -> None:
        """Let a batch with these values come in, from the first tag on."""
        for row, value in enumerate(values):
            self.batch.set(row, value)
        self.take(missed=missed)

    def parcel(self, number: int, *, most: int = 10_000, room: int = 1 << 20) -> wire.Parcel:
        """Take out of the queues what goes into one message."""
        return drained(self.found(number), most=most, room=room)


def drained(subscription: Subscription, *, most: int, room: int = 1 << 20) -> wire.Parcel:
    """Do what a subscription does for one message."""
    parcel = wire.Parcel(most, room)
    while subscription.pending and parcel.has_room:
        reporter = next(iter(subscription.pending))
        reporter.take(parcel)
        if not reporter.reports():
            subscription.pending.pop(reporter, None)
    return parcel


def parts(parcel: wire.Parcel) -> list[bytes]:
    """Cut what is in a parcel into single MonitoredItemNotifications."""
    whole, found, at = b"".join(parcel.data), [], 0
    while at < len(whole):
        mask, kind = whole[at + 4], whole[at + 5]
        size = 5
        if mask & 1:
            size += 1 + Scalar(kind).dtype.itemsize
        size += 4 * bool(mask & 2) + 8 * bool(mask & 4) + 8 * bool(mask & 8)
        found.append(whole[at : at + size])
        at += size
    assert len(found) == parcel.values
    return found


def handle_of(part: bytes) -> int:
    """Return the ClientHandle of a notification."""
    return int.from_bytes(part[:4], "little")


def values_of(parcel: wire.Parcel) -> list[tuple[int, Any, int]]:
    """Return ClientHandle, value and status of each notification."""
    made = []
    for part in parts(parcel):
        value = ua.ua_binary.struct_from_binary(ua.DataValue, ua.utils.Buffer(part[4:]))
        shown = value.Value.Value if value.Value is not None else None
        made.append((handle_of(part), shown, value.StatusCode.value if value.StatusCode else 0))
    return made
