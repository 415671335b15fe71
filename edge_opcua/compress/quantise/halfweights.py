"""Weights kept in a file as FP16, with conversions behind them that a runtime does once, when it loads."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph import consumers, onnx_package, weights
from edge_opcua.compress.graph.structure import captured

MOST: Final = 65504.0
"""Largest number of FP16 (IEEE 754, binary16)."""
FEW: Final = 16
"""Weights of fewer numbers stay as they are: a conversion takes more of the file than it saves."""
_WORST: Final = 1e-3
"""Relative error of weights from which on they are too small for FP16: twice what rounding makes at most."""
_TOUCHY: Final = frozenset({"QuantizeLinear", "DequantizeLinear", "Resize", "Upsample"})
"""Operators some runtimes want plain constants for."""


def large_weights(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the weights of float32 that are worth keeping as FP16, by name."""
    found = weights(model).items()
    return {name: array for name, array in found if array.dtype == np.float32 and array.size >= FEW}


def fits(array: npt.NDArray[Any]) -> bool:
    """Return whether FP16 holds an array as precisely as numbers that are neither large nor small."""
    if np.abs(array).max(initial=0.0) > MOST:
        return False
    wrong = float(np.linalg.norm(array.astype(np.float16).astype(np.float64) - array))
    return wrong <= _WORST * float(np.linalg.norm(array.astype(np.float64)))


def halve_weights(model: Any) -> int:
    """Keep the weights of float32 as FP16; return how many.

    Args:
        model: The ``onnx.ModelProto``; is changed.
    """
    onnx, graph = onnx_package(), model.graph
    taken_by = consumers(model)
    inside = {name for node in graph.node for name in captured(node)}
    answers = {output.name for output in graph.output}
    found = {
        name: array
        for name, array in large_weights(model).items()
        if fits(array)
        and name not in inside | answers
        and not any(node.op_type in _TOUCHY for node in taken_by.get(name, ()))
    }
    for tensor in [tensor for tensor in graph.initializer if tensor.name in found]:
        graph.initializer.remove(tensor)
    for number, (name, array) in enumerate(found.items()):
        half = f"{name}_fp16"
        graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float16), half))
        node = onnx.helper.make_node("Cast", [half], [name], name=half, to=onnx.TensorProto.FLOAT)
        graph.node.insert(number, node)
    return len(found)
