"""ReferenceDescriptions straight to bytes (Part 4 §7.30): the very bytes that the codec writes.

A Browse of a thousand children is a thousand of these and hardly anything else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

__all__ = [
    "FORWARD",
    "NO_CLASS",
    "NO_NAME",
    "NO_NODE",
    "NO_TEXT",
    "ONLY_TEXT",
    "Encode",
    "encoder",
    "has",
    "node_class",
    "node_id",
]

_MASK: Final = ua.BrowseResultMask
_ALL: Final = int(_MASK.All)
_VARIANTS: Final = _ALL + 1
_NODE_ID: Final = ua.NodeId
_STRING, _FOUR_BYTE, _TWO_BYTE = ua.NodeIdType.String, ua.NodeIdType.FourByte, ua.NodeIdType.TwoByte
_STRING_HEAD: Final = struct.Struct("<BHi").pack
_IN_FOUR: Final = struct.Struct("<BBH").pack
_IN_TWO: Final = struct.Struct("<BB").pack
_INDEX: Final = struct.Struct("<H").pack
_NUMBER: Final = struct.Struct("<i").pack
_NO_STRING: Final = _NUMBER(-1)
FORWARD: Final = b"\x01"
_INVERSE: Final = b"\x00"
ONLY_TEXT: Final = b"\x02"
_HAS_LOCALE: Final = 1
_HAS_TEXT: Final = 2
# What stands for a field that the client did not ask for (Part 4 §5.9.2.2: null).
NO_NODE: Final = b"\x00\x00"
NO_CLASS: Final = _NUMBER(0)
NO_NAME: Final = _INDEX(0) + _NO_STRING
NO_TEXT: Final = b"\x00"

Encode = Callable[[ua.ReferenceDescription], bytes]


def has(mask: int, field: str) -> bool:
    """Whether a ResultMask asks for a field of the ReferenceDescription."""
    return bool(mask & int(getattr(_MASK, field)))


def node_id(node: ua.NodeId) -> bytes:
    """Return a NodeId or ExpandedNodeId (Part 6 §5.2.2.9, §5.2.2.10); what is rare the codec does."""
    if type(node) is _NODE_ID:
        kind, index = node.NodeIdType, node.NamespaceIndex
        if kind is _FOUR_BYTE:
            return _IN_FOUR(1, index, node.Identifier)
        if kind is _TWO_BYTE:
            return _IN_TWO(0, node.Identifier)
        if kind is _STRING:
            text: bytes = node.Identifier.encode("utf-8", "surrogateescape")
            return _STRING_HEAD(3, index, len(text)) + text
    return bytes(nodeid_to_binary(node))


def node_class(kind: int) -> bytes:
    """Return a NodeClass."""
    return _NUMBER(kind)


def _string(text: str | None) -> bytes:
    if text is None:
        return _NO_STRING
    held = text.encode("utf-8", "surrogateescape")
    return _NUMBER(len(held)) + held


def _name(name: ua.QualifiedName) -> bytes:
    return _INDEX(name.NamespaceIndex) + _string(name.Name)


def _text(text: ua.LocalizedText) -> bytes:
    there = (_HAS_LOCALE if text.Locale is not None else 0) | (_HAS_TEXT if text.Text is not None else 0)
    parts = [_string(each) for each in (text.Locale, text.Text) if each is not None]
    return b"".join((bytes((there,)), *parts))


def _whole(reference: ua.ReferenceDescription) -> bytes:
    name, text = reference.BrowseName, reference.DisplayName
    browse_name = _string(name.Name)
    if text.Locale is None and text.Text is not None and text.Text == name.Name:  # of almost every node
        display_name = ONLY_TEXT + browse_name
    else:
        display_name = _text(text)
    return (
        node_id(reference.ReferenceTypeId)
        + (FORWARD if reference.IsForward else _INVERSE)
        + node_id(reference.NodeId)
        + _INDEX(name.NamespaceIndex)
        + browse_name
        + display_name
        + _NUMBER(reference.NodeClass)
        + node_id(reference.TypeDefinition)
    )


@lru_cache(_VARIANTS)
def encoder(mask: int) -> Encode:
    """Return what encodes references with the fields of a ResultMask, the others null.

    Args:
        mask: ResultMask without the bits that have no meaning.
    """
    if mask == _ALL:
        return _whole
    kind, direction, number = (has(mask, each) for each in ("ReferenceTypeId", "IsForward", "NodeClass"))
    name, text, definition = (has(mask, each) for each in ("BrowseName", "DisplayName", "TypeDefinition"))

    def some(reference: ua.ReferenceDescription) -> bytes:
        return b"".join(
            (
                node_id(reference.ReferenceTypeId) if kind else NO_NODE,
                FORWARD if direction and reference.IsForward else _INVERSE,
                node_id(reference.NodeId),  # always there
                _name(reference.BrowseName) if name else NO_NAME,
                _text(reference.DisplayName) if text else NO_TEXT,
                _NUMBER(reference.NodeClass) if number else NO_CLASS,
                node_id(reference.TypeDefinition) if definition else NO_NODE,
            )
        )

    return some
