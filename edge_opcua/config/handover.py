"""How the configuration comes to every process: the settings as JSON, the tags as columns beside them.

The supervisor writes it once; the others map it and read the tags where they lie, so that a hundred thousand
of them are in memory once and not once per process.
"""

from __future__ import annotations

import struct
from typing import Final

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.config.tags import TagRows

_SIZE: Final = struct.Struct("=Q")
_ALIGN_BYTES: Final = 8


def packed(config: EdgeConfig) -> bytes:
    """Return a checked configuration for :func:`unpacked` in another process of this program."""
    settings = config.model_dump_json(exclude={"devices": {"__all__": {"tags"}}}).encode()
    parts = (settings, *(device.tags.to_bytes() for device in config.devices))
    return b"".join(_SIZE.pack(len(part)) + part + bytes(-len(part) % _ALIGN_BYTES) for part in parts)


def unpacked(buffer: memoryview) -> EdgeConfig:
    """Return the configuration; its tags stay where they lie, so the buffer has to."""
    parts = []
    at = 0
    while at < len(buffer):
        (size,) = _SIZE.unpack_from(buffer, at)
        at += _SIZE.size
        parts.append(buffer[at : at + size])
        at += size + -size % _ALIGN_BYTES
    config = EdgeConfig.model_validate_json(bytes(parts[0]))
    devices = tuple(
        device.model_copy(update={"tags": TagRows.from_buffer(part)})
        for device, part in zip(config.devices, parts[1:], strict=True)
    )
    return config.model_copy(update={"devices": devices})
