"""The list of a CreateMonitoredItems request straight from its bytes, if all of it asks for columns.

An element is a NodeId with a string, the Value attribute without range or encoding, a mode, and parameters
with no filter or a DataChangeFilter (Part 4 §5.13.2.2, §7.21, §7.22.2). A list with anything else in it takes
the general way.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.uaprotocol_auto import DataChangeFilter

from edge_opcua.opcua.services.slices import Encoded
from edge_opcua.opcua.services.subscription.items import Item
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.opcua.tags.table import PLANT, TagTable

_HEAD: Final = struct.Struct("<Iii")
HEAD_BYTES: Final = _HEAD.size
_STRING: Final = 3
_NAME: Final = struct.Struct("<Hi")
_NAME_AT: Final = 7
# AttributeId, IndexRange, DataEncoding; then MonitoringMode, ClientHandle, SamplingInterval.
_NOTHING: Final = (-1, 0)
_WHOLE_VALUE: Final = frozenset(
    struct.pack("<IiHi", int(ua.AttributeIds.Value), index_range, 0, encoding)
    for index_range in _NOTHING
    for encoding in _NOTHING
)
_WHAT_BYTES: Final = 14
_ASKED: Final = struct.Struct("<iId")
_FILTER_AT: Final = _WHAT_BYTES + _ASKED.size
_NO_FILTER: Final = b"\x00\x00\x00"
# TypeId 724 in four bytes, a ByteString follows, of 16 bytes.
_FILTER_HEAD: Final = b"\x01\x00\xd4\x02\x01\x10\x00\x00\x00"
_FILTER: Final = struct.Struct("<iId")
_TRIGGERS: Final = frozenset(map(int, ua.DataChangeTrigger))
# StatusCode, MonitoredItemId, RevisedSamplingInterval, RevisedQueueSize, and an ExtensionObject that is none.
_RESULT: Final = struct.Struct("<IIdI3x")
_NO_DIAGNOSTICS: Final = bytes(4)
_PART_WORK, _GROUP_WORK = 500, 25
# QueueSize, DiscardOldest.
_QUEUE: Final = struct.Struct("<I?")
# Whatever only samples has a queue that links can release: it is no column.
COLUMN_MODES: Final = {int(mode): mode for mode in (ua.MonitoringMode.Reporting, ua.MonitoringMode.Disabled)}


class Wanted(NamedTuple):
    """An item that somebody wants.

    Args:
        tag: Number of the tag.
        mode: MonitoringMode: Reporting or Disabled.
        handle: ClientHandle.
        sampling_ms: SamplingInterval.
        filter: The filter, None without one.
        queue: QueueSize.
        discard_oldest: DiscardOldest.
    """

    tag: int
    mode: int
    handle: int
    sampling_ms: float
    filter: Any
    queue: int
    discard_oldest: bool


def head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return SubscriptionId, TimestampsToReturn and how many items are wanted."""
    subscription, timestamps, count = _HEAD.unpack_from(data, at)
    return subscription, timestamps, count


def wanted_columns(data: bytes, at: int, count: int, tags: TagTable) -> list[Wanted] | None:
    """Return the elements of ItemsToCreate; None: not all are columns, or something is wrong with them.

    Args:
        data: The request.
        at: Where the first element begins.
        count: How many there are.
        tags: The tags.
    """
    found: list[Wanted] = []
    filters: dict[bytes, DataChangeFilter] = {}  # most lists have one for all
    try:
        for _ in range(count):
            tag, at = _tag(data, at, tags)
            if tag is None:
                return None
            mode, handle, sampling_ms = _ASKED.unpack_from(data, at + _WHAT_BYTES)
            at += _FILTER_AT
            change = None
            if data[at : at + 3] == _NO_FILTER:
                at += 3
            elif data[at : at + 9] == _FILTER_HEAD:
                at += 9 + _FILTER.size
                sent = data[at - _FILTER.size : at]
                change = filters.get(sent)
                if change is None:
                    trigger, kind, band = _FILTER.unpack(sent)
                    if trigger not in _TRIGGERS:
                        return None
                    change = filters[sent] = DataChangeFilter(trigger, kind, band)
            else:
                return None
            queue, discard_oldest = _QUEUE.unpack_from(data, at)
            at += _QUEUE.size
            if mode not in COLUMN_MODES:
                return None
            found.append(Wanted(tag, mode, handle, sampling_ms, change, queue, discard_oldest))
    except (IndexError, struct.error):
        return None  # it is too short: whoever decodes it says so
    return found if at == len(data) else None


def parts(wanted: Sequence[Wanted], tags: TagTable) -> Iterator[list[Wanted]]:
    """Cut a list into parts of about a millisecond of work: to begin a group is as much as many items."""
    part: list[Wanted] = []
    work, groups = 0, set()
    for one in wanted:
        group = (tags.place(one.tag)[0], one.sampling_ms)
        if group not in groups:
            groups.add(group)
            work += _GROUP_WORK
        work += 1
        part.append(one)
        if work >= _PART_WORK:
            yield part
            part, work, groups = [], 0, set()
    if part:
        yield part


def result(made: Item | int) -> bytes:
    """Return a MonitoredItemCreateResult: of an item, or with the StatusCode that says why there is none."""
    if isinstance(made, int):
        return _RESULT.pack(made, 0, 0.0, 0)
    size = made.places + 1 if isinstance(made, TagItem) else made.queue_size
    return _RESULT.pack(0, made.number, made.sampling_ms, size)


def answer(results: Sequence[bytes]) -> Encoded:
    """Return the CreateMonitoredItemsResponse."""
    body = len(results).to_bytes(4, "little") + b"".join(results) + _NO_DIAGNOSTICS
    return Encoded(ua.CreateMonitoredItemsResponse(), body)


def _tag(data: bytes, at: int, tags: TagTable) -> tuple[int | None, int]:
    """Return the tag of an element, and where the rest begins."""
    if data[at] != _STRING:
        return None, at
    namespace, length = _NAME.unpack_from(data, at + 1)
    end = at + _NAME_AT + length
    if namespace != PLANT or length <= 0 or data[end : end + _WHAT_BYTES] not in _WHOLE_VALUE:
        return None, at
    tag = tags.find(data[at + _NAME_AT : end])
    if tag is None:
        return None, at
    block, row = tags.place(tag)
    return (tag if block.scalars[row] else None), end
