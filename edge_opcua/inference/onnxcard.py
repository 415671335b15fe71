"""What an ONNX file says of itself to people: inputs, outputs, operators, precision, who made it.

Read like :mod:`edge_opcua.inference.onnxfile` does, from the framing alone and with bounded effort; nothing
is loaded and nothing runs. Field numbers are those of ``onnx.proto3`` (IR version 3 to 14).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.onnxfile import MOST_FIELDS, inspect_file
from edge_opcua.inference.plainfile import open_plain
from edge_opcua.inference.protobuf import Fields, Part, Stretch, TooManyFieldsError, text

_MODEL_IR, _MODEL_PRODUCER, _MODEL_PRODUCER_VERSION, _MODEL_DOC = 1, 2, 3, 6
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR = 5
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_KIND, _TENSOR_SHAPE = 1, 1, 2
_SHAPE_DIM, _DIM_VALUE, _DIM_NAME = 1, 1, 2
_INIT_DIMS, _INIT_KIND, _INIT_NAME = 1, 2, 8
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_KINDS: Final = (
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
)
"""Element types by their number in ``TensorProto.DataType``."""
_NOT_WEIGHTS: Final = frozenset({"int32", "int64", "bool", "string", "undefined"})
"""Shapes, indices and names: they say nothing of how precisely a model computes."""
_QUANTISED: Final = frozenset({"int8", "uint8", "int4", "uint4"})
MOST_TEXT: Final = 2000
MOST_METADATA: Final = 50
MOST_TENSORS: Final = 1000


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output.

    Args:
        name: Its name.
        kind: Element type as numpy calls it; empty if it is no tensor.
        shape: Its axes; an open one has its name, or is empty.
    """

    name: str
    kind: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        axes = ",".join(str(size) if size != "" else "?" for size in self.shape)
        return f"{self.kind}[{axes}]" if self.kind else "a sequence or map, not a tensor"


@dataclass(slots=True)
class OnnxCard:
    """A model file in short.

    Args:
        size_bytes: Size of the file.
        inputs: What is fed to it; weights are left out.
        outputs: What it answers.
        opsets: Version of each imported operator domain.
        operators: How often each operator stands in the main graph, ``domain.type`` where it is not ONNX's.
        nodes: Operators to execute once, calls of functions replaced by what they call.
        weights: Numbers stored in the file by element type, shapes and indices included.
        external: Files in which it keeps weights.
        ir_version: Version of the file format.
        producer: What wrote it.
        graph: Name of the graph.
        description: What its author wrote.
        metadata: Further notes of its author.
    """

    size_bytes: int = 0
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    opsets: Mapping[str, int] = field(default_factory=dict)
    operators: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    weights: Counter[str] = field(default_factory=Counter)
    external: tuple[str, ...] = ()
    ir_version: int = 0
    producer: str = ""
    graph: str = ""
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many numbers it has learned; those of trees stand in attributes and are not counted."""
        return sum(count for kind, count in self.weights.items() if kind not in _NOT_WEIGHTS)

    @property
    def precision(self) -> str:
        """How it computes: the type of most weights; of one without any the type of its first input."""
        learned = Counter({kind: count for kind, count in self.weights.items() if kind not in _NOT_WEIGHTS})
        if not learned:
            return self.inputs[0].kind if self.inputs else ""
        kind, count = learned.most_common(1)[0]
        if any(each in learned for each in _QUANTISED) and kind not in _QUANTISED:
            quantised = next(each for each in learned if each in _QUANTISED)
            return f"{kind}, in part {quantised}"
        return kind if count == sum(learned.values()) else f"{kind}, in part others"


def read_card(path: Path) -> OnnxCard:
    """Return what a model file says of itself.

    Raises:
        ModelError: It is no ONNX model (M510), one that is larger than is served (M585), no plain
            file (M509), or cannot be read (M507).
    """
    contents = inspect_file(path)
    try:
        fd = open_plain(path)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    try:
        size = os.fstat(fd).st_size
        card = _Reading().read(Stretch(fd, 0, size))
    except TooManyFieldsError:
        raise ModelError(f"{path} holds more than {MOST_FIELDS} fields", code="M585") from None
    except (ValueError, UnicodeDecodeError) as exc:
        raise ModelError(f"the file is not an ONNX model: {exc}", code="M510") from exc
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    finally:
        os.close(fd)
    card.size_bytes, card.opsets, card.nodes = size, dict(contents.opsets), contents.nodes
    card.external = tuple(sorted(contents.external))
    return card


class _Reading:
    """One walk through a model."""

    def __init__(self) -> None:
        self._fields = Fields(MOST_FIELDS)
        self._card = OnnxCard()
        self._initialised: set[str] = set()

    def read(self, whole: Part) -> OnnxCard:
        producer = ["", ""]
        for number, part in self._fields.of(whole, varints=True):
            if number == _MODEL_IR:
                self._card.ir_version = _whole(part)
            elif number in {_MODEL_PRODUCER, _MODEL_PRODUCER_VERSION}:
                producer[number - _MODEL_PRODUCER] = _said(part)
            elif number == _MODEL_DOC:
                self._card.description = _said(part)
            elif number == _MODEL_METADATA and len(self._card.metadata) < MOST_METADATA:
                key, value = self._entry(part)
                self._card.metadata[key] = value
            elif number == _MODEL_GRAPH:
                self._graph(part)
        self._card.producer = " ".join(producer).strip()
        self._card.inputs = [each for each in self._card.inputs if each.name not in self._initialised]
        return self._card

    def _graph(self, part: Part) -> None:
        for number, value in self._fields.of(part):
            if number == _GRAPH_NODE:
                self._node(value)
            elif number == _GRAPH_INITIALIZER:
                self._initialised.add(self._weights(value))
            elif number == _GRAPH_INPUT:
                self._add(self._card.inputs, value)
            elif number == _GRAPH_OUTPUT:
                self._add(self._card.outputs, value)
            elif number == _GRAPH_NAME:
                self._card.graph = _said(value)

    def _add(self, tensors: list[Tensor], part: Part) -> None:
        if len(tensors) < MOST_TENSORS:  # of an old file every weight is an input too
            tensors.append(self._tensor(part))

    def _node(self, part: Part) -> None:
        domain, operator, tensors = "", "", []
        for number, value in self._fields.of(part):
            if number == _NODE_OP_TYPE:
                operator = text(value)
            elif number == _NODE_DOMAIN:
                domain = text(value)
            elif number == _NODE_ATTRIBUTE:
                tensors += [each for field, each in self._fields.of(value) if field == _ATTRIBUTE_TENSOR]
        self._card.operators[f"{domain}.{operator}" if domain not in {"", "ai.onnx"} else operator] += 1
        if operator == "Constant":
            for tensor in tensors:
                self._weights(tensor)

    def _weights(self, part: Part) -> str:
        name, kind, count = "", 0, 1
        for number, value in self._fields.of(part, varints=True):
            if number == _INIT_DIMS:
                for size in _sizes(value):
                    count *= size
            elif number == _INIT_KIND:
                kind = _whole(value)
            elif number == _INIT_NAME:
                name = text(value)
        self._card.weights[_kind(kind)] += count
        return name

    def _tensor(self, part: Part) -> Tensor:
        name, kind = "", ""
        shape: tuple[int | str, ...] = ()
        for number, value in self._fields.of(part):
            if number == _VALUE_NAME:
                name = text(value)
            elif number == _VALUE_TYPE:
                for inner, tensor in self._fields.of(value):
                    if inner == _TYPE_TENSOR:
                        kind, shape = self._tensor_type(tensor)
        return Tensor(name, kind, shape)

    def _tensor_type(self, part: Part) -> tuple[str, tuple[int | str, ...]]:
        kind = "undefined"
        shape: tuple[int | str, ...] = ()
        for number, value in self._fields.of(part, varints=True):
            if number == _TENSOR_KIND:
                kind = _kind(_whole(value))
            elif number == _TENSOR_SHAPE:
                shape = tuple(self._axes(value))
        return kind, shape

    def _axes(self, part: Part) -> Iterator[int | str]:
        for number, dim in self._fields.of(part):
            if number != _SHAPE_DIM:
                continue
            size: int | str = ""
            for inner, value in self._fields.of(dim, varints=True):
                if inner == _DIM_VALUE:
                    size = _whole(value)
                elif inner == _DIM_NAME:
                    size = text(value)
            yield size

    def _entry(self, part: Part) -> tuple[str, str]:
        found = {_ENTRY_KEY: "", _ENTRY_VALUE: ""}
        for number, value in self._fields.of(part):
            if number in found:
                found[number] = _said(value)
        return found[_ENTRY_KEY], found[_ENTRY_VALUE]


def _said(part: Part) -> str:
    """Return a text of the author, shortened: it may be a whole page, and hold anything."""
    if isinstance(part, Stretch):
        return "…"
    said = str(part, "utf-8", "replace")
    return said if len(said) <= MOST_TEXT else f"{said[: MOST_TEXT - 1]}…"


def _whole(part: Part) -> int:
    """Return a number of at most 64 bits, two's complement; 0 for what is no number."""
    if isinstance(part, Stretch) or len(part) != 10:
        return 0
    value = int.from_bytes(part, "little") & (2**64 - 1)
    return value - 2**64 if value >= 2**63 else value


def _sizes(part: Part) -> Iterator[int]:
    """Yield the axes of a weight: a number alone, or several packed into one field."""
    if isinstance(part, Stretch):
        raise ValueError("a weight in it has a megabyte of axes")  # noqa: TRY004 - of the file, not of the caller
    if len(part) == 10 and not any(part[8:]):
        yield max(0, _whole(part))
        return
    value = shift = 0
    for byte in part:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _kind(number: int) -> str:
    return _KINDS[number] if 0 <= number < len(_KINDS) else f"type {number}"
