"""One DataValue as bytes, for what is no column: strings, arrays, attributes, nodes that are objects."""

from __future__ import annotations

import struct
from typing import Final

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.opcua.services.variants import variant
from edge_opcua.opcua.tags.records import SERVER, SOURCE, STATUS, VALUE

_NULL: Final = ua.VariantType.Null
_STATUS: Final = struct.Struct("<I")
_TIME: Final = struct.Struct("<q")


def data_value(value: ua.DataValue) -> bytes:
    """Return a DataValue as bytes (Part 6 §5.2.2.17); a null value is not sent, as with columns."""
    if value.SourcePicoseconds is not None or value.ServerPicoseconds is not None:
        return bytes(struct_to_binary(value))
    mask = 0
    parts = [b""]
    held = value.Value
    if held is not None and (held.VariantType is not _NULL or held.is_array):
        mask = VALUE
        parts.append(variant(held))
    if value.StatusCode is not None:
        mask |= STATUS
        parts.append(_STATUS.pack(value.StatusCode.value))
    if value.SourceTimestamp is not None:
        mask |= SOURCE
        parts.append(_TIME.pack(ua.datetime_to_win_epoch(value.SourceTimestamp)))
    if value.ServerTimestamp is not None:
        mask |= SERVER
        parts.append(_TIME.pack(ua.datetime_to_win_epoch(value.ServerTimestamp)))
    parts[0] = mask.to_bytes(1, "little")
    return b"".join(parts)
