"""What a server said about a node becomes bytes for the codec of its tag, and the other way round; pure."""

from __future__ import annotations

from typing import Final

from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_WAITING_FOR_INITIAL_DATA, is_bad
from edge_opcua.drivers.iec import BOOL, TEXTS
from edge_opcua.drivers.opcuaclient.address import Space, builtin_of, length_of
from edge_opcua.drivers.opcuaclient.messages import STRING, Cell
from edge_opcua.drivers.opcuaclient.reasons import is_of_node, mismatch, node_fault
from edge_opcua.drivers.wire import Reading, Stamped

# Built-in types by number (Part 6 §5.1.2), with the type an address would name.
_TYPES: Final = {
    1: ("Boolean", "BOOL"),
    2: ("SByte", "SINT"),
    3: ("Byte", "USINT"),
    4: ("Int16", "INT"),
    5: ("UInt16", "UINT"),
    6: ("Int32", "DINT"),
    7: ("UInt32", "UDINT"),
    8: ("Int64", "LINT"),
    9: ("UInt64", "ULINT"),
    10: ("Float", "REAL"),
    11: ("Double", "LREAL"),
    12: ("String", "STRING[80]"),
    13: ("DateTime", "LDT"),
    14: ("Guid", ""),
    15: ("ByteString", ""),
    16: ("XmlElement", ""),
    17: ("NodeId", ""),
    18: ("ExpandedNodeId", ""),
    19: ("StatusCode", ""),
    20: ("QualifiedName", ""),
    21: ("LocalizedText", ""),
    22: ("a structure", ""),
    23: ("DataValue", ""),
    24: ("Variant", ""),
    25: ("DiagnosticInfo", ""),
}


def type_text(kind: int, count: int) -> str:
    """Return a type as the server has it and as an address would name it, e.g. ``Float[8] (REAL[8])``."""
    name, iec = _TYPES.get(kind, (f"type {kind}", ""))
    if count < 0:
        return f"{name} ({iec})" if iec else name
    return f"{name}[{count}] ({iec}[{count}])" if iec and kind != STRING else f"{name}[{count}]"


def iec_of(kind: int, count: int = -1) -> str:
    """Return the type an address would name, or an empty string if there is none."""
    iec = _TYPES.get(kind, ("", ""))[1]
    if count < 0 or not iec:
        return iec
    return "" if kind == STRING else f"{iec}[{count}]"


def range_of(space: Space, *, cut: bool) -> str:
    """Return the part of an array to be asked for; empty for all of it.

    Args:
        space: What is wanted.
        cut: Whether the array is known to be longer than that.
    """
    if space.first < 0 and cut:
        return Space(space.node, space.type, 0).range
    return space.range


def is_longer(cell: Cell, space: Space) -> bool:
    """Return whether an array came of which only the first elements are wanted."""
    wanted = space.type.count
    is_array = space.first < 0 and wanted and space.type.type not in TEXTS
    return bool(is_array and cell.count > wanted and cell.type == builtin_of(space.type.type))


def reading(cell: Cell, space: Space) -> Reading:
    """Return what came as the codec of the tag reads it."""
    what = f"read of {space.node}"
    size = space.unit_bytes
    if is_of_node(cell.status):
        return node_fault(cell.status, what)
    if is_bad(cell.status):
        return Stamped(bytes(size), cell.status, cell.source_ns)
    if not cell.type:
        return Stamped(bytes(size), BAD_WAITING_FOR_INITIAL_DATA, cell.source_ns)
    if not _fits(cell, space):
        return mismatch(what, type_text(cell.type, cell.count), str(space.type))
    if cell.type == STRING:
        text = cell.raw
        if len(text) > size or b"\0" in text:  # never a part of a text for the whole
            return Stamped(bytes(size), BAD_OUT_OF_RANGE, cell.source_ns)
        return Stamped(text.ljust(size, b"\0"), cell.status, cell.source_ns)
    return Stamped(_wanted(cell, space, size), cell.status, cell.source_ns)


def _fits(cell: Cell, space: Space) -> bool:
    kind = space.type
    if cell.type != builtin_of(kind.type):
        return False
    if kind.type in TEXTS:
        return cell.count < 0
    if space.first < 0:
        return cell.count >= kind.count if kind.count else cell.count < 0
    wanted = max(1, kind.count)  # Part 4 §7.27: a range gives an array, also of one element
    return cell.count == wanted or cell.count >= space.first + wanted


def _wanted(cell: Cell, space: Space, size: int) -> bytes:
    """Return the elements that are wanted; some servers give the whole array although asked for a part."""
    if len(cell.raw) == size:
        return cell.raw
    at = max(0, space.first) * (len(cell.raw) // cell.count)
    return cell.raw[at : at + size]


def written(space: Space, encoded: bytes) -> tuple[int, int, bytes]:
    """Return built-in type, elements (-1: single) and bytes of a value to be written.

    Args:
        space: Where it goes.
        encoded: What its codec made of it.
    """
    kind = space.type
    builtin = builtin_of(kind.type)
    if kind.type in TEXTS:
        return builtin, -1, encoded[: length_of(kind)].split(b"\0", 1)[0]
    if kind.type is BOOL:
        encoded = bytes(bool(each) for each in encoded)
    is_array = kind.count or space.first >= 0
    return builtin, max(1, kind.count) if is_array else -1, encoded
