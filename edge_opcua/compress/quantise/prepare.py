"""A model in the form that quantises well: a scale per channel is known, biases are inside their nodes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.graph import attributes, onnx_package, open_graph, set_weight, weights, with_shapes
from edge_opcua.compress.graph.clean import tidy
from edge_opcua.errors import ModelError

OPSET: Final = 13
"""QuantizeLinear knows an axis, and so a scale per channel, from here on."""
HEAVY: Final = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators with weights that have INT8 forms on processors."""

_QUANTISED: Final = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
)


def prepare(path: Path) -> Any:
    """Return a model that is ready to be quantised.

    It is brought to operators that know a scale per channel; a batch normalisation is part of its
    convolution; a product and the bias added to it are one node, so that there is nothing to round between
    them; factors of such nodes are part of their weights, because ONNX Runtime's quantiser forgets ``beta``.

    Args:
        path: The ONNX file, in float.

    Returns:
        An ``onnx.ModelProto`` as ``open_graph`` returns it, which answers what the file does.

    Raises:
        ModelError: It is no ONNX model (M510), is quantised already or has no weights to quantise (M678), or
            cannot be brought to opset 13 (M680).
    """
    model = prepare_dynamic(path)
    if not heavy_nodes(model):
        raise ModelError(
            "the model has no convolution or matrix product with constant weights, so there is nothing that "
            "INT8 would make smaller",
            code="M678",
        )
    return model


def prepare_dynamic(path: Path) -> Any:
    """Return the same, whatever operators it has.

    Raises:
        ModelError: As :func:`prepare`, except that it may have none of the usual weights.
    """
    model = open_graph(path)
    if any(node.op_type in _QUANTISED or node.op_type.startswith("QLinear") for node in model.graph.node):
        raise ModelError("the model is quantised already: start from the one in float", code="M678")
    model = _modern(model)
    _take_factors_in(model)
    model, _ = tidy(with_shapes(model))
    _flatten_biases(model)
    return with_shapes(model)


def dynamic_nodes(model: Any, *, convolutions: bool) -> list[Any]:
    """Return the nodes that take INT8 weights with ranges measured at run time."""
    floats = float_weights(model)
    kinds = {"Gemm", "MatMul", "LSTM", *(["Conv"] if convolutions else [])}
    return [node for node in model.graph.node if node.op_type in kinds and node.input[1] in floats]


def heavy_nodes(model: Any) -> list[Any]:
    """Return the nodes whose weights are constants and have INT8 forms, in the order of the graph."""
    floats = float_weights(model)
    return [node for node in model.graph.node if node.op_type in HEAVY and node.input[1] in floats]


def float_weights(model: Any) -> set[str]:
    """Return the names of the weights of float32."""
    kind = onnx_package().TensorProto.FLOAT
    return {tensor.name for tensor in model.graph.initializer if tensor.data_type == kind}


def opset(model: Any) -> int:
    """Return the version of ONNX's own operators that the model uses."""
    return next(int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx"))


def _modern(model: Any) -> Any:
    """Bring the model to opset 13 if it is older."""
    if opset(model) >= OPSET:
        return model
    from onnx import version_converter

    try:
        newer = version_converter.convert_version(model, OPSET)
    except Exception as exc:  # the converter is C++ and raises what it likes
        raise ModelError(
            f"the model has opset {opset(model)} and cannot be brought to {OPSET}, from which on INT8 knows "
            f"a scale per channel ({exc}): export it with opset_version={OPSET} or newer",
            code="M680",
        ) from exc
    with tempfile.TemporaryDirectory(prefix="edge-opcua-opset-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(newer.SerializeToString())
        return open_graph(path)  # the converter makes nodes without names, and constants


def _take_factors_in(model: Any) -> None:
    """Multiply ``alpha`` and ``beta`` of a Gemm into its weights, each into a copy of its own."""
    arrays = weights(model)
    for node in [node for node in model.graph.node if node.op_type == "Gemm"]:
        factors = attributes(node)
        for key, place in (("alpha", 1), ("beta", 2)):
            factor = factors.get(key, 1.0)
            if factor == 1.0 or len(node.input) <= place or node.input[place] not in arrays:
                continue
            name = f"{node.input[place]}_times_{key}_of_{node.name}"
            set_weight(model, name, np.asarray(arrays[node.input[place]] * np.float32(factor), np.float32))
            node.input[place] = name
            node.attribute.remove(next(each for each in node.attribute if each.name == key))


def _flatten_biases(model: Any) -> None:
    """Give each Gemm its bias as one row without a batch axis: a scale per channel needs it so."""
    arrays = weights(model)
    for node in [node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2]:
        bias = arrays.get(node.input[2])
        if bias is not None and bias.ndim == 2 and bias.shape[0] == 1:
            name = f"{node.input[2]}_of_{node.name}"
            set_weight(model, name, bias.reshape(-1))
            node.input[2] = name
