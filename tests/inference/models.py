"""Small models of every bad kind, built with the real ``onnx`` package."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.assets import examples_dir

DELIVERED = examples_dir() / "press" / "models" / "press-anomaly" / "1"


def copy_of_delivered(target: Path) -> Path:
    """Return a folder with a writable copy of the delivered version 1."""
    shutil.copytree(DELIVERED, target)
    return target


def unwatched(folder: Path) -> Path:
    """Take profile and age from a copy of a delivered version, as in a package from before there were any."""
    (folder / "profile.npz").unlink()
    path = folder / "manifest.toml"
    text, found = re.subn(r"^\[(?:profile|age)\]\n(?:\w.*\n)+\n?", "", path.read_text(), flags=re.MULTILINE)
    assert found == 2
    path.write_text(text)
    return folder


def with_model(folder: Path, image: bytes) -> Path:
    """Put another model into a folder and make its manifest agree with the hash."""
    (folder / "model.onnx").write_bytes(image)
    return edited(folder, sha256=hashlib.sha256(image).hexdigest())


def edited(folder: Path, **values: str) -> Path:
    """Change root keys of a manifest."""
    path = folder / "manifest.toml"
    lines = path.read_text().splitlines()
    for key, value in values.items():
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key} ="))
        lines[index] = f'{key} = "{value}"'
    path.write_text("\n".join(lines) + "\n")
    return folder


def replaced(folder: Path, old: str, new: str) -> Path:
    """Replace a text in a manifest."""
    path = folder / "manifest.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder


def graph(
    nodes: list[Any],
    *,
    k: int = 13,
    outputs: tuple[tuple[str, list[int | str]], ...] = (("score", [1]),),
    kind: int = TensorProto.FLOAT,
    initializers: tuple[Any, ...] = (),
) -> Any:
    """Return a graph that takes ``features``."""
    return helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("features", kind, [1, k])],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs],
        list(initializers),
    )


def model(
    made: Any, *, domains: tuple[tuple[str, int], ...] = (("", 17),), functions: tuple[Any, ...] = ()
) -> bytes:
    """Return a model file."""
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains]
    result = helper.make_model(made, opset_imports=opsets, ir_version=8, functions=list(functions))
    return bytes(result.SerializeToString(deterministic=True))


def identity_model(k: int = 13, *, size: int | str = 13, kind: int = TensorProto.FLOAT) -> bytes:
    """Return a model whose one output is its input."""
    node = helper.make_node("Identity", ["features"], ["score"])
    return model(graph([node], k=k, outputs=(("score", [1, size]),), kind=kind))


def custom_operator_model() -> bytes:
    """Return a model with an operator of a foreign library inside an inner graph."""
    inner = helper.make_graph(
        [helper.make_node("Sneak", ["features"], ["inner"], domain="com.evil")],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 13])],
    )
    condition = numpy_helper.from_array(np.array([True]), "condition")
    node = helper.make_node("If", ["condition"], ["score"], then_branch=inner, else_branch=inner)
    made = graph([node], outputs=(("score", [1, 13]),), initializers=(condition,))
    return model(made, domains=(("", 17), ("com.evil", 1)))


def own_function_model() -> bytes:
    """Return a model that calls a function it defines itself, as exporters of PyTorch do."""
    twice = helper.make_function(
        "pkg.own",
        "Twice",
        ["x"],
        ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    node = helper.make_node("Twice", ["features"], ["score"], domain="pkg.own")
    return model(
        graph([node], outputs=(("score", [1, 13]),)), domains=(("", 17), ("pkg.own", 1)), functions=(twice,)
    )


def external_data_model(location: str, folder: Path | None = None) -> bytes:
    """Return a model whose weights lie in another file; written into the folder if given."""
    weights = np.full((1, 13), 2.0, np.float32)
    tensor = numpy_helper.from_array(weights, "weights")
    raw = tensor.raw_data
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=len(raw))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    if folder is not None:
        (folder / location).write_bytes(raw)
    node = helper.make_node("Mul", ["features", "weights"], ["score"])
    return model(graph([node], outputs=(("score", [1, 13]),), initializers=(tensor,)))


def answering_model(**values: float) -> bytes:
    """Return a model with the four answers, each a constant."""
    k = 13
    sizes: dict[str, list[int | str]] = {
        "score": [1],
        "confidence": [1],
        "expected": [1, k],
        "contributions": [1, k],
    }
    tensors, nodes = [], []
    for name, shape in sizes.items():
        array = np.full([int(size) for size in shape], values.get(name, 0.5), np.float32)
        tensors.append(numpy_helper.from_array(array, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    return model(graph(nodes, outputs=tuple(sizes.items()), initializers=tuple(tensors)))
