"""Looks into an ONNX file before anything runs it: which operators and files it needs, and how large it is.

Only the protobuf framing is read (no ``onnx`` package at run time), and only the few fields that decide
whether a model may be served. Field numbers are those of ``onnx.proto3`` (IR version 3 to 14).
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from edge_opcua.errors import ModelError
from edge_opcua.inference.plainfile import open_plain
from edge_opcua.inference.protobuf import Fields, Part, Stretch, TooManyFieldsError, text

# Domains whose operators are part of ONNX Runtime itself; everything else would need a foreign library.
BUILT_IN_DOMAINS: Final = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.ms.internal.nhwc", "com.microsoft.nchwc"}
)

# ONNX Runtime's time to load grows faster than these (docs/explanation/hostile-models.md): 50 000 operators
# take 4 s, 10 000 out of functions 3 s, and 100 000 out of functions more than a minute; a file of a few
# kilobytes can ask for any number of those, because a function may call another one ten times.
MOST_NODES: Final = 50_000
MOST_NODES_OF_FUNCTIONS: Final = 10_000
MOST_DEPTH: Final = 64
MOST_FIELDS: Final = 10_000_000

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

Operators: TypeAlias = Counter[tuple[str, str]]


@dataclass(slots=True)
class OnnxContents:
    """What a model file needs besides itself, and how large it is.

    Args:
        opsets: Version of each imported operator domain; the empty domain is ONNX's own.
        operators: Operators used, as (domain, type), those of inner graphs and functions included.
        functions: Functions the file defines itself, as (domain, name).
        external: Locations of tensors kept in other files, as written.
        nodes: Operators to execute once, calls of functions replaced by what they call.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: set[str] = field(default_factory=set)
    nodes: int = 0


def inspect(image: bytes | memoryview) -> OnnxContents:
    """Return what a model needs besides itself.

    Args:
        image: The whole model file.

    Raises:
        ModelError: The bytes are not an ONNX model (M510), or one that is larger than is served (M585).
    """
    return _Inspection().read(memoryview(image))


def inspect_file(path: Path) -> OnnxContents:
    """Return the same of a file, of which never more than some megabytes are in memory.

    Raises:
        ModelError: As :func:`inspect`; or it is no plain file (M509), or cannot be read (M507).
    """
    try:
        fd = open_plain(path)
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    try:
        return _Inspection().read(Stretch(fd, 0, os.fstat(fd).st_size))
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}", code="M507") from exc
    finally:
        os.close(fd)


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


class _Inspection:
    """One walk through a model."""

    def __init__(self) -> None:
        self._fields = Fields(MOST_FIELDS)
        self._contents = OnnxContents()
        self._in_graph: Operators = Counter()
        self._in_functions: dict[tuple[str, str], Operators] = {}
        self._nodes = 0

    def read(self, whole: Part) -> OnnxContents:
        try:
            self._model(whole)
        except TooManyFieldsError:
            raise _too_large(f"it holds more than {MOST_FIELDS} fields") from None
        except (ValueError, UnicodeDecodeError) as exc:
            raise ModelError(f"the file is not an ONNX model: {exc}", code="M510") from exc
        contents = self._contents
        contents.operators = set(self._in_graph).union(*self._in_functions.values())
        contents.functions = set(self._in_functions)
        if not contents.operators:
            raise ModelError("the file is not an ONNX model: it holds no operators", code="M510")
        contents.nodes = _expanded(self._in_graph, self._in_functions)
        return contents

    def _model(self, whole: Part) -> None:
        for number, part in self._fields.of(whole):
            if number == _MODEL_OPSET:
                self._opset(part)
            elif number == _MODEL_GRAPH:
                self._graph(part, self._in_graph, 0)
            elif number == _MODEL_FUNCTIONS:
                self._function(part)

    def _opset(self, part: Part) -> None:
        domain, version = "", 0
        for number, value in self._fields.of(part, varints=True):
            if number == _OPSET_DOMAIN:
                domain = text(value)
            elif number == _OPSET_VERSION and isinstance(value, memoryview):
                version = int.from_bytes(value, "little")
        self._contents.opsets[domain] = version

    def _graph(self, part: Part, operators: Operators, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise _too_large(f"its graphs are nested too deeply, more than {MOST_DEPTH} times")
        for number, value in self._fields.of(part):
            if number == _GRAPH_NODE:
                self._node(value, operators, depth)
            elif number == _GRAPH_INITIALIZER:
                self._tensor(value)
            elif number == _GRAPH_SPARSE:
                self._sparse(value)

    def _node(self, part: Part, operators: Operators, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _too_large(f"it holds more than {MOST_NODES} operators")
        domain, operator = "", ""
        for number, value in self._fields.of(part):
            if number == _NODE_OP_TYPE:
                operator = text(value)
            elif number == _NODE_DOMAIN:
                domain = text(value)
            elif number == _NODE_ATTRIBUTE:
                self._attribute(value, operators, depth)
        operators[domain, operator] += 1

    def _attribute(self, part: Part, operators: Operators, depth: int) -> None:
        for number, value in self._fields.of(part):
            if number in {_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS}:
                self._graph(value, operators, depth + 1)
            elif number in {_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}:
                self._tensor(value)
            elif number in {_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES}:
                self._sparse(value)

    def _sparse(self, part: Part) -> None:
        for number, value in self._fields.of(part):
            if number in {_SPARSE_VALUES, _SPARSE_INDICES}:
                self._tensor(value)

    def _tensor(self, part: Part) -> None:
        for number, value in self._fields.of(part):
            if number != _TENSOR_EXTERNAL:
                continue
            key, location = "", ""
            for entry, entry_value in self._fields.of(value):
                if entry == _ENTRY_KEY:
                    key = text(entry_value)
                elif entry == _ENTRY_VALUE:
                    location = text(entry_value)
            if key == "location":
                self._contents.external.add(location)

    def _function(self, part: Part) -> None:
        name, domain = "", ""
        operators: Operators = Counter()
        for number, value in self._fields.of(part):
            if number == _FUNCTION_NAME:
                name = text(value)
            elif number == _FUNCTION_DOMAIN:
                domain = text(value)
            elif number == _FUNCTION_NODE:
                self._node(value, operators, 0)
        # Overloads share a name: the larger count of each operator is what a call can cost at most.
        self._in_functions[domain, name] = self._in_functions.get((domain, name), Counter()) | operators


def _expanded(graph: Operators, functions: dict[tuple[str, str], Operators]) -> int:
    """Return how many operators are left when every call of a function is replaced by its body.

    Raises:
        ModelError: Too many, or a function calls itself (M585).
    """
    sizes: dict[tuple[str, str], int] = {}

    def size_of(operator: tuple[str, str], depth: int) -> int:
        if operator not in functions:
            return 1
        if depth > MOST_DEPTH:
            raise _too_large("its functions call each other without end")
        if operator not in sizes:
            inner = functions[operator].items()
            sizes[operator] = sum(times * size_of(one, depth + 1) for one, times in inner)
        return sizes[operator]

    called = sum(times * size_of(one, 1) for one, times in graph.items() if one in functions)
    if called > MOST_NODES_OF_FUNCTIONS:
        raise _too_large(f"its functions call {called} operators, more than {MOST_NODES_OF_FUNCTIONS}")
    return called + sum(times for one, times in graph.items() if one not in functions)


def _too_large(how: str) -> ModelError:
    return ModelError(f"the model is larger than any that is served: {how}", code="M585")
