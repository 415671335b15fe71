"""Looks into an ONNX file before anything runs it: which operator domains and which further files it needs.

Only the protobuf framing is read (no ``onnx`` package at run time), and only the few fields that decide
whether a model may be served. Field numbers are those of ``onnx.proto3`` (IR version 3 to 14).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from edge_opcua.errors import ModelError

# Domains whose operators are part of ONNX Runtime itself; everything else would need a foreign library.
BUILT_IN_DOMAINS: Final = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc", "com.microsoft.nchwc"}
)

_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_MAX_DEPTH: Final = 64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE: Final = {_FIXED64: 8, _FIXED32: 4}


@dataclass(slots=True)
class OnnxContents:
    """What a model file needs besides itself.

    Args:
        opsets: Version of each imported operator domain; the empty domain is ONNX's own.
        operators: Operators used, as (domain, type), those of inner graphs and functions included.
        functions: Functions the file defines itself, as (domain, name).
        external: Locations of tensors kept in other files, as written.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: set[str] = field(default_factory=set)


def inspect(image: bytes | memoryview) -> OnnxContents:
    """Return what a model needs besides itself.

    Args:
        image: The whole model file.

    Raises:
        ModelError: The bytes are not an ONNX model (M510).
    """
    contents = OnnxContents()
    view = memoryview(image)
    try:
        for number, part in _fields(view):
            if number == _MODEL_OPSET:
                _opset(part, contents)
            elif number == _MODEL_GRAPH:
                _graph(part, contents, 0)
            elif number == _MODEL_FUNCTIONS:
                _function(part, contents)
    except (ValueError, UnicodeDecodeError) as exc:
        raise ModelError(f"the file is not an ONNX model: {exc}", code="M510") from exc
    if not contents.operators:
        raise ModelError("the file is not an ONNX model: it holds no operators", code="M510")
    return contents


def refuse_foreign(contents: OnnxContents, folder: Path, listed: frozenset[str]) -> None:
    """Refuse what would make the runtime load anything but this model's own files.

    Args:
        contents: What the model needs.
        folder: Folder of the model.
        listed: Names of further files that the manifest lists with their hashes.

    Raises:
        ModelError: A custom operator (M508), or external data that is not a listed file of the folder (M509).
    """
    foreign = sorted(
        f"{domain}.{operator}"
        for domain, operator in contents.operators - contents.functions
        if domain not in BUILT_IN_DOMAINS
    )
    if foreign:
        raise ModelError(
            f"the model uses {foreign[0]}, an operator of a custom library; only operators of ONNX and "
            "ONNX Runtime are served",
            code="M508",
        )
    for location in sorted(contents.external):
        if location not in listed:
            raise ModelError(
                f'the model keeps weights in "{location}", which its manifest does not list under [external]',
                code="M509",
            )
        require_inside(folder, location)


def require_inside(folder: Path, location: str) -> Path:
    """Return the path of a file that lies in the folder itself.

    Raises:
        ModelError: The location is absolute, leads out of the folder or through a symbolic link (M509).
    """
    relative = PurePosixPath(location)
    path = folder / location
    if relative.is_absolute() or len(relative.parts) != 1 or relative.name in {"", ".."} or path.is_symlink():
        raise ModelError(f'"{location}" is not a plain file in the folder of the model', code="M509")
    return path


def _opset(part: memoryview, contents: OnnxContents) -> None:
    domain, version = "", 0
    for number, value in _fields(part, varints=True):
        if number == _OPSET_DOMAIN:
            domain = str(value, "utf-8")
        elif number == _OPSET_VERSION:
            version = int.from_bytes(value, "little")
    contents.opsets[domain] = version


def _graph(part: memoryview, contents: OnnxContents, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs are nested too deeply")
    for number, value in _fields(part):
        if number == _GRAPH_NODE:
            _node(value, contents, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(value, contents)
        elif number == _GRAPH_SPARSE:
            _sparse(value, contents)


def _node(part: memoryview, contents: OnnxContents, depth: int) -> None:
    domain, operator = "", ""
    for number, value in _fields(part):
        if number == _NODE_OP_TYPE:
            operator = str(value, "utf-8")
        elif number == _NODE_DOMAIN:
            domain = str(value, "utf-8")
        elif number == _NODE_ATTRIBUTE:
            _attribute(value, contents, depth)
    contents.operators.add((domain, operator))


def _attribute(part: memoryview, contents: OnnxContents, depth: int) -> None:
    for number, value in _fields(part):
        if number in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
            _graph(value, contents, depth + 1)
        elif number in {_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}:
            _tensor(value, contents)
        elif number in {_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES}:
            _sparse(value, contents)


def _sparse(part: memoryview, contents: OnnxContents) -> None:
    for number, value in _fields(part):
        if number in {_SPARSE_VALUES, _SPARSE_INDICES}:
            _tensor(value, contents)


def _tensor(part: memoryview, contents: OnnxContents) -> None:
    for number, value in _fields(part):
        if number != _TENSOR_EXTERNAL:
            continue
        key, text = "", ""
        for entry, entry_value in _fields(value):
            if entry == _ENTRY_KEY:
                key = str(entry_value, "utf-8")
            elif entry == _ENTRY_VALUE:
                text = str(entry_value, "utf-8")
        if key == "location":
            contents.external.add(text)


def _function(part: memoryview, contents: OnnxContents) -> None:
    name, domain = "", ""
    for number, value in _fields(part):
        if number == _FUNCTION_NAME:
            name = str(value, "utf-8")
        elif number == _FUNCTION_DOMAIN:
            domain = str(value, "utf-8")
        elif number == _FUNCTION_NODE:
            _node(value, contents, 0)
    contents.functions.add((domain, name))


def _fields(part: memoryview, *, varints: bool = False) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of each length-delimited field; with ``varints`` those too, little-endian."""
    at = 0
    while at < len(part):
        tag, at = _varint(part, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(part, at)
            if varints:
                yield number, memoryview(value.to_bytes(10, "little"))
        elif kind == _BYTES:
            size, at = _varint(part, at)
            if size > len(part) - at:
                raise ValueError("it ends in the middle of a field")
            yield number, part[at : at + size]
            at += size
        elif kind in _FIXED_SIZE:
            at += _FIXED_SIZE[kind]
        else:
            raise ValueError("it is not a protobuf message")


def _varint(part: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(part):
            raise ValueError("it ends in the middle of a number")
        byte = part[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it holds a number of more than 10 bytes")
