"""ONNX files: read so that every node can be called by its name, and written so that bytes repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_opcua.errors import ModelError


def onnx_package() -> Any:
    """Return the package onnx, with what is used of it.

    Raises:
        ModelError: It is not installed (M607).
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as exc:
        raise ModelError(
            'onnx is not installed: pip install "edge-opcua[cpu,compress]"', code="M607"
        ) from exc
    return onnx


def open_graph(path: Path) -> Any:
    """Return a model in the form that all of this room works on.

    Every node of the main graph has a name of its own (quantisers leave nodes out by name, and all unnamed
    ones share the name ""); constants are weights, not nodes; weights are no inputs; shapes are inferred;
    weights that lay in files beside it are in it.

    Args:
        path: The ONNX file.

    Returns:
        An ``onnx.ModelProto``.

    Raises:
        ModelError: It is no ONNX model or its weights cannot be read (M510), or onnx is not installed (M607).
    """
    onnx = onnx_package()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path))
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as exc:
        raise ModelError(f"{path} is no ONNX model: {exc}", code="M510") from exc
    _lift_constants(onnx, model)
    _keep_true_inputs(model)
    _name_nodes(model)
    return with_shapes(model)


def save_graph(model: Any, path: Path) -> None:
    """Write a model; the same model gives the same bytes.

    Shapes of what lies between the nodes are left out: every runtime infers them, and in a small model they
    are a large part of the file.

    Raises:
        ModelError: It is larger than one file may be, 2 GB (M510).
    """
    whole = onnx_package().ModelProto()
    whole.CopyFrom(model)
    del whole.graph.value_info[:]
    try:
        image: bytes = whole.SerializeToString(deterministic=True)
    except ValueError as exc:
        raise ModelError(f"{path} would be larger than an ONNX file may be: {exc}", code="M510") from exc
    path.write_bytes(image)


def with_shapes(model: Any) -> Any:
    """Return the model with shapes inferred anew; for use after its weights or nodes were changed.

    Raises:
        ModelError: Types or shapes of its nodes contradict each other (M510).
    """
    onnx = onnx_package()
    del model.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError) as exc:
        raise ModelError(f"the shapes of the model contradict each other: {exc}", code="M510") from exc


def _lift_constants(onnx: Any, model: Any) -> None:
    """Turn nodes that hold a dense constant into weights."""
    graph = model.graph
    answers = {output.name for output in graph.output}  # a constant answer needs its node
    for node in [node for node in graph.node if node.op_type == "Constant" and len(node.attribute) == 1]:
        value = _constant(onnx, node.attribute[0])
        if value is not None and node.output[0] not in answers:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            graph.node.remove(node)


def _constant(onnx: Any, attribute: Any) -> Any:
    if attribute.name == "value":
        return attribute.t
    kinds = {
        "value_float": (np.float32, "f"),
        "value_floats": (np.float32, "floats"),
        "value_int": (np.int64, "i"),
        "value_ints": (np.int64, "ints"),
    }
    if attribute.name not in kinds:
        return None  # texts and sparse tensors stay nodes
    kind, where = kinds[attribute.name]
    return onnx.numpy_helper.from_array(np.array(getattr(attribute, where), kind))


def _keep_true_inputs(model: Any) -> None:
    """Before IR version 4, weights had to be inputs too, and a runtime could not rely on their values."""
    known = {weight.name for weight in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in known]:
        model.graph.input.remove(value)
    model.ir_version = max(model.ir_version, 4)


def _name_nodes(model: Any) -> None:
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)
