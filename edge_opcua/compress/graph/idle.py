"""Nodes and weights that do nothing: they are bypassed or dropped."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge_opcua.compress.graph.files import onnx_package
from edge_opcua.compress.graph.structure import attributes, captured, consumers, producers, shapes, weights

_ALWAYS: Final = frozenset({"Identity"})
_STANDARD: Final = ("", "ai.onnx")
_IDEMPOTENT: Final = frozenset({"Relu", "Abs", "Ceil", "Floor", "Round", "Sign"})


def drop_idle(model: Any) -> int:
    """Bypass nodes that hand on what they get; return how many."""
    known, kinds, constant = shapes(model), _kinds(model), weights(model)
    makers = producers(model)
    count = 0
    for node in list(model.graph.node):
        if node.domain in _STANDARD and _is_idle(node, known, kinds, constant, makers):
            count += _bypass(model, node)
            makers = producers(model)
    return count


def drop_unused(model: Any) -> int:
    """Drop nodes and weights from which no answer follows; return how many."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    before = len(graph.node) + len(graph.initializer)
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
            needed |= captured(node)
    for weight in [weight for weight in graph.initializer if weight.name not in needed]:
        graph.initializer.remove(weight)
    return before - len(graph.node) - len(graph.initializer)


def share_twins(model: Any) -> int:
    """Let nodes share weights that are equal, bit by bit; return how many were dropped."""
    first: dict[tuple[Any, ...], str] = {}
    instead: dict[str, str] = {}
    guarded = set().union(*(captured(node) for node in model.graph.node))
    guarded |= {output.name for output in model.graph.output}
    for name, array in weights(model).items():
        if array.dtype == object or name in guarded:
            continue
        key = (array.dtype.str, array.shape, array.tobytes())
        if first.setdefault(key, name) != name:
            instead[name] = first[key]
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if name in instead:
                node.input[at] = instead[name]
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in instead]:
        model.graph.initializer.remove(tensor)
    return len(instead)


def drop_remarks(model: Any) -> int:
    """Drop what an exporter wrote for people beside nodes and values; return how many nodes had any."""
    count = 0
    graph = model.graph
    for node in graph.node:
        if node.doc_string or node.metadata_props:
            count += 1
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    return count


def _is_idle(node: Any, known: Any, kinds: Any, constant: Any, makers: Any) -> bool:
    kind, source, given = node.op_type, node.input[0] if node.input else "", attributes(node)
    if kind in _ALWAYS:
        return True
    if kind == "Dropout":
        return _in_use(node, constant)
    if kind == "Cast":
        return source in kinds and kinds[source] == given["to"]
    if kind == "Transpose":
        perm = list(given.get("perm", ()))
        return bool(perm) and perm == sorted(perm)
    if kind == "Flatten":
        return len(known.get(source, ())) == 2 and given.get("axis", 1) in (1, -1)
    if kind == "Pad":
        return len(node.input) > 1 and node.input[1] in constant and not np.any(constant[node.input[1]])
    if kind in _IDEMPOTENT:
        return source in makers and makers[source].op_type == kind
    return False


def _in_use(node: Any, constant: Any) -> bool:
    """Return whether a dropout hands on everything, as in a model in use, and nobody takes its mask."""
    if len(node.output) > 1 and node.output[1]:
        return False
    training = node.input[2] if len(node.input) > 2 else ""
    return not training or (training in constant and not bool(constant[training]))


def _bypass(model: Any, node: Any) -> bool:
    """Let whoever takes the output of a node take its input; False where names of answers forbid it."""
    source, target = node.input[0], node.output[0]
    answers = {output.name for output in model.graph.output}
    takers = consumers(model)
    if any(target in captured(taker) for taker in takers.get(target, ())):
        return False
    if target not in answers:
        _rename_inputs(takers.get(target, ()), target, source)
        model.graph.node.remove(node)
        return True
    maker = producers(model).get(source)
    if maker is None or source in answers or any(source in captured(taker) for taker in takers[source]):
        return False
    for at, name in enumerate(maker.output):
        if name == source:
            maker.output[at] = target
    _rename_inputs(takers[source], source, target)
    model.graph.node.remove(node)
    return True


def _rename_inputs(nodes: Any, old: str, new: str) -> None:
    for node in nodes:
        for at, name in enumerate(node.input):
            if name == old:
                node.input[at] = new


def _kinds(model: Any) -> dict[str, int]:
    graph = model.graph
    found = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    undefined = onnx_package().TensorProto.UNDEFINED
    found = {name: kind for name, kind in found.items() if kind != undefined}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}
