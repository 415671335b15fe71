"""The ONNX file of a package: what the trainer handed over, without outputs that nobody looks at."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from edge_opcua.errors import ModelError


def graph_bytes(model: Any, outputs: Collection[str]) -> tuple[bytes, str]:
    """Return the model as a file, and the name of its one input.

    Classifiers give their label as a whole number or a text beside the probabilities; the server takes
    float32 only, so what is not looked at is taken off together with the nodes that lead to it alone. So are
    the remarks of exporters: they name folders of the machine that trained.

    Args:
        model: An ONNX model: its path, its bytes, or an ``onnx.ModelProto``.
        outputs: Names of the outputs that are looked at.

    Raises:
        ModelError: It is no ONNX model (M510), lacks an output (M505), has not one input (M504), or the
            package onnx is not installed (M607).
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as exc:
        raise ModelError(
            'onnx is not installed: pip install "edge-opcua[cpu,compress]"', code="M607"
        ) from exc
    try:
        if isinstance(model, (str, Path)):
            model = Path(model).read_bytes()
        proto = onnx.load_from_string(model if isinstance(model, bytes) else model.SerializeToString())
    except (OSError, AttributeError, TypeError, ValueError, DecodeError) as exc:
        raise ModelError(f"the model is no ONNX model: {exc}", code="M510") from exc
    graph = proto.graph
    there = [output.name for output in graph.output]
    missing = [name for name in outputs if name not in there]
    if missing:
        raise ModelError(f'the model has no output "{missing[0]}"; it has {", ".join(there)}', code="M505")
    weights = {weight.name for weight in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs, not one: {', '.join(inputs)}", code="M504")
    _prune(graph, set(outputs))
    _forget_remarks(graph)
    return proto.SerializeToString(deterministic=True), inputs[0]


def _prune(graph: Any, wanted: set[str]) -> None:
    for output in [output for output in graph.output if output.name not in wanted]:
        graph.output.remove(output)
    needed = set(wanted)
    for node in reversed(list(graph.node)):  # in the order of computation, as ONNX wants it
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            needed.update(_captured(node))
        else:
            graph.node.remove(node)
    for weight in [weight for weight in graph.initializer if weight.name not in needed]:
        graph.initializer.remove(weight)


def _forget_remarks(graph: Any) -> None:
    """Take off what exporters note: stack traces, which name folders of the machine that trained."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _captured(node: Any) -> set[str]:
    """Return every name that the graphs inside a node (If, Loop, Scan) may take from outside."""
    names: set[str] = set()
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            names.update(output.name for output in inner.output)
            for part in inner.node:
                names.update(part.input)
                names |= _captured(part)
    return names
