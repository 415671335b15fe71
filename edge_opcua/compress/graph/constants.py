"""Constant folding: what depends on no sample is computed once, now."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge_opcua.compress.graph.answers import session_of
from edge_opcua.compress.graph.files import onnx_package
from edge_opcua.compress.graph.structure import captured, set_weight, shapes, weights
from edge_opcua.errors import ModelError

# Random by nature, or there so that a weight can be small in the file.
_LEFT: Final = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "If",
        "Loop",
        "Scan",
        "SequenceEmpty",
        "Constant",
    }
)
_LARGEST_GROWTH: Final = 65_536  # bytes that a folded constant may add to the file: beyond, a node is cheaper


def fold_constants(model: Any) -> int:
    """Replace nodes that depend on weights alone by what they compute; return how many."""
    count = _fold_shapes(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    answers = {output.name for output in model.graph.output}
    chosen: list[Any] = []
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if _foldable(node) and inputs and constant.issuperset(inputs) and answers.isdisjoint(node.output):
            chosen.append(node)
            constant.update(node.output)
    computed = _computed(model, chosen) if chosen else {}
    for node in chosen:
        outputs = [name for name in node.output if name]
        if outputs and all(name in computed for name in outputs):
            for name in outputs:
                set_weight(model, name, computed[name])
            model.graph.node.remove(node)
            count += 1
    return count


def _foldable(node: Any) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type not in _LEFT and not captured(node)


def _fold_shapes(model: Any) -> int:
    """Replace Shape and Size of what has a known shape."""
    known, count = shapes(model), 0
    answers = {output.name for output in model.graph.output}
    for node in [node for node in model.graph.node if node.op_type == "Shape" and not node.attribute]:
        shape = known.get(node.input[0])
        if shape is None or None in shape or node.output[0] in answers:
            continue
        set_weight(model, node.output[0], np.array(shape, np.int64))
        model.graph.node.remove(node)
        count += 1
    return count


def _computed(model: Any, nodes: list[Any]) -> dict[str, Any]:
    """Return what the nodes compute, by value, as far as it is small enough to be kept."""
    onnx = onnx_package()
    outputs = [name for node in nodes for name in node.output if name]
    made = set(outputs)
    inputs = {name for node in nodes for name in node.input if name and name not in made}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    for field in ("node", "input", "output", "value_info", "initializer"):
        del getattr(part.graph, field)[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in inputs)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    try:
        arrays = session_of(part).run(outputs, {})
    except ModelError:  # an operator that the runtime lacks: the model will say so when it is loaded
        return {}
    sizes = {name: array.nbytes for name, array in weights(part).items()}
    sizes |= {name: array.nbytes for name, array in zip(outputs, arrays, strict=True)}
    small = set()
    for node in nodes:
        grown = sum(sizes[name] for name in node.output if name) - sum(
            sizes[name] for name in node.input if name
        )
        if grown <= _LARGEST_GROWTH and all(name in small or name not in made for name in node.input if name):
            small.update(node.output)
    return {name: array for name, array in zip(outputs, arrays, strict=True) if name in small}
