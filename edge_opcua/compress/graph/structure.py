"""What is connected with what in a graph, and its weights as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph.files import onnx_package
from edge_opcua.errors import ModelError

Array = npt.NDArray[Any]


def weights(model: Any) -> dict[str, Array]:
    """Return the weights by name, as arrays of their own."""
    to_array = onnx_package().numpy_helper.to_array
    return {tensor.name: np.array(to_array(tensor)) for tensor in model.graph.initializer}


def set_weight(model: Any, name: str, array: Array) -> None:
    """Give a weight a new value, of any shape; add it if there is none of this name."""
    tensor = onnx_package().numpy_helper.from_array(np.asarray(array, order="C"), name)  # a number stays one
    for there in model.graph.initializer:
        if there.name == name:
            there.CopyFrom(tensor)
            return
    model.graph.initializer.append(tensor)


def producers(model: Any) -> dict[str, Any]:
    """Return the node that makes each value; weights and inputs have none."""
    return {name: node for node in model.graph.node for name in node.output if name}


def consumers(model: Any) -> dict[str, list[Any]]:
    """Return the nodes that take each value, in the order of the graph; a node that takes it twice once.

    A node with graphs inside (If, Loop, Scan) takes what these take from outside.
    """
    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in dict.fromkeys([*node.input, *sorted(captured(node))]):
            if name:
                found.setdefault(name, []).append(node)
    return found


def captured(node: Any) -> set[str]:
    """Return every name that the graphs inside a node may take from outside."""
    names: set[str] = set()
    for attribute in node.attribute:
        for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            names.update(output.name for output in inner.output)
            for part in inner.node:
                names.update(part.input)
                names |= captured(part)
    return names


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node as Python values."""
    value_of = onnx_package().helper.get_attribute_value
    return {attribute.name: value_of(attribute) for attribute in node.attribute}


def shapes(model: Any) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of every value, as far as it is known; an open axis is None."""
    found: dict[str, tuple[int | None, ...]] = {}
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            axes = value.type.tensor_type.shape.dim
            found[value.name] = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in axes)
    found |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return found


def input_shape(model: Any) -> tuple[str, tuple[int | None, ...]]:
    """Return name and shape of the one input; an open axis is None.

    Raises:
        ModelError: It has not one input (M504).
    """
    inputs = [value.name for value in model.graph.input]
    if len(inputs) != 1:
        raise ModelError(f"the model has {len(inputs)} inputs, not one: {', '.join(inputs)}", code="M504")
    return inputs[0], shapes(model).get(inputs[0], ())


def sort(model: Any) -> None:
    """Bring the nodes into an order of computation, keeping theirs where it is one.

    Raises:
        ModelError: They wait for each other in a circle (M510).
    """
    waiting = list(model.graph.node)
    made_by: Mapping[str, Any] = {name: node for node in waiting for name in node.output if name}
    ready: set[str] = set()
    done: list[Any] = []
    while waiting:
        rest = []
        for node in waiting:
            needs = {name for name in (*node.input, *captured(node)) if name in made_by}
            if needs <= ready:
                done.append(node)
                ready.update(node.output)
            else:
                rest.append(node)
        if len(rest) == len(waiting):
            raise ModelError("the nodes of the model wait for each other in a circle", code="M510")
        waiting = rest
    copies = [type(node).FromString(node.SerializeToString()) for node in done]
    del model.graph.node[:]
    model.graph.node.extend(copies)
