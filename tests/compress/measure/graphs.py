"""Smallest models that have one property each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper


def graph(
    folder: Path,
    nodes: Sequence[Any],
    *,
    batch: int | str = "n",
    answer: Sequence[int | str] | None = None,
    weights: Sequence[Any] = (),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """Write a model with the input "x" of 3 values a sample and the output "y", and return its path."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])]
    outputs = [helper.make_tensor_value_info("y", kind, [batch, 3] if answer is None else answer)]
    made = helper.make_graph(list(nodes), "small", inputs, outputs, list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """Return a node; names are separated by spaces."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)
