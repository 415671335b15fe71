"""What every event of the plant has, and that of a link lost or back; results and models have own files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.common.events import Event

from edge_opcua.opcua.namespaces import Ids
from edge_opcua.opcua.services.event.encoded import FieldTypes

# Part 5 §6.4.2: 1 is least, 1000 most severe; bands as in Part 9 §5.5.3 (low 1-333, medium 334-666, high).
LINK_LOST_SEVERITY: Final = 700
LINK_BACK_SEVERITY: Final = 200

# What every event has (Part 5 §6.4.2).
BASE_TYPES: Final = FieldTypes(
    {
        "EventId": ua.VariantType.ByteString,
        "EventType": ua.VariantType.NodeId,
        "SourceNode": ua.VariantType.NodeId,
        "SourceName": ua.VariantType.String,
        "Time": ua.VariantType.DateTime,
        "ReceiveTime": ua.VariantType.DateTime,
        "LocalTime": ua.VariantType.ExtensionObject,
        "Message": ua.VariantType.LocalizedText,
        "Severity": ua.VariantType.UInt16,
    }
)
_LOCAL_TIME: Final = ua.TimeZoneDataType(Offset=0)  # of all events; nobody changes it


class PlantEvent(Event):
    """An event with its fields; ids and reception time are filled when it is emitted.

    Args:
        event_type: NodeId of its type.
        source: Node that it comes from, and that node's name.
        message: One sentence for people.
        severity: 1..1000.
        time: When it happened (UTC).
        types: Types of its fields, shared with other events; every event has :data:`BASE_TYPES`.
    """

    # What asyncua's constructor sets in every event, for its client.
    server_handle: Any = None
    select_clauses: Any = None
    event_fields: Any = None
    internal_properties: Any = ("data_types", "emitting_node", "internal_properties")

    def __init__(
        self,
        event_type: ua.NodeId,
        source: tuple[ua.NodeId, str],
        *,
        message: str,
        severity: int,
        time: dt.datetime | None,
        types: FieldTypes = BASE_TYPES,
    ) -> None:
        self.emitting_node = source[0]
        self.data_types: dict[str, ua.VariantType] = types
        self.EventId: bytes | None = None
        self.EventType = event_type
        self.SourceNode, self.SourceName = source
        self.Time = time
        self.ReceiveTime: dt.datetime | None = None
        self.LocalTime = _LOCAL_TIME
        self.Message = ua.LocalizedText(message, "en")
        self.Severity = severity

    def add_property(self, name: str, val: Any, datatype: ua.VariantType) -> None:
        """Add a field; its types are its own from now on."""
        if isinstance(self.data_types, FieldTypes):
            self.data_types = dict(self.data_types)
        super().add_property(name, val, datatype)


# Delivers events that came at once, in their order.
Emit = Callable[[Sequence[PlantEvent]], None]


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A change of a link that is worth an event.

    Args:
        device: Name of the device.
        state: New state.
        previous: Former state.
        usable: Whether values come in the new state.
        last_error: What went wrong last.
    """

    device: str
    state: str
    previous: str
    usable: bool
    last_error: str


def link_event(change: LinkChange, source: ua.NodeId, time: dt.datetime | None) -> PlantEvent:
    """Return the event of a link that was lost or came back."""
    message = f"{change.device}: link {change.previous} -> {change.state}"
    event = PlantEvent(
        Ids.LINK_EVENT_TYPE,
        (source, change.device),
        message=f"{message} ({change.last_error})" if change.last_error and not change.usable else message,
        severity=LINK_BACK_SEVERITY if change.usable else LINK_LOST_SEVERITY,
        time=time,
    )
    for name, value in (
        ("Device", change.device),
        ("State", change.state),
        ("PreviousState", change.previous),
        ("LastError", change.last_error),
    ):
        event.add_property(name, value, ua.VariantType.String)
    return event
