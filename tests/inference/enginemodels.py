"""Models with an open first axis for tests of the engine, built with the real ``onnx`` package and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.loaded import LoadedModel

SIZE = 4


def graph_of(
    nodes: list[Any], *, outputs: tuple[str, ...] = ("y",), constants: tuple[Any, ...] = ()
) -> bytes:
    """Return a model that takes ``x`` of any number of rows, and answers with as many."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SIZE]) for name in outputs],
        list(constants),
    )
    opset = [helper.make_opsetid("", 17)]
    image: bytes = helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()
    return image


def loaded(folder: Path, image: bytes, key: str) -> LoadedModel:
    """Write a model into a folder and load it."""
    path = folder / f"{key.replace('/', '-')}.onnx"
    path.write_bytes(image)
    backend = OnnxRuntimeBackend.load(path, provider="cpu", input_shapes={"x": (1, SIZE)})
    return LoadedModel(key, backend, "x", SIZE)


def logarithm(folder: Path, key: str = "log/1") -> LoadedModel:
    """Return a model that answers with no number for negative rows, and with minus infinity for zero."""
    nodes = [helper.make_node("Log", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    return loaded(folder, graph_of(nodes, outputs=("y", "z")), key)


def doubling(folder: Path, key: str = "double/1") -> LoadedModel:
    """Return a model that answers with twice its input."""
    return loaded(folder, graph_of([helper.make_node("Add", ["x", "x"], ["y"])]), key)


def picking(folder: Path, key: str = "pick/1") -> LoadedModel:
    """Return a model that fails for a sample that begins with 4 or more: it picks a column by that number."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one", "one"], ["first"]),
        helper.make_node("Cast", ["first"], ["column"], to=TensorProto.INT64),
        helper.make_node("GatherElements", ["x", "column"], ["found"], axis=1),
        helper.make_node("Add", ["x", "found"], ["y"]),
    ]
    constants = (_whole("zero", [0]), _whole("one", [1]))
    return loaded(folder, graph_of(nodes, constants=constants), key)


def turning(folder: Path, key: str = "turn/1") -> LoadedModel:
    """Return a model that goes round as often as its first value says, some 2 µs each: it may be for ever."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still"]),
            helper.make_node("Add", ["state", "tiny"], ["sum"]),
            helper.make_node("Mul", ["sum", "almost"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n", SIZE]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", SIZE]),
        ],
        [_number("tiny", 1e-3), _number("almost", 0.999)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body),
    ]
    return loaded(folder, graph_of(nodes), key)


def _whole(name: str, values: list[int]) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _number(name: str, value: float) -> Any:
    return numpy_helper.from_array(np.array([value], np.float32), name)
