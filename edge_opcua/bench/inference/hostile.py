"""Models that do harm once a die is worn: the model of the demo with one more branch, proven as any other."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.assets import examples_dir

ABOVE: Final = 1.05
"""Score from which on it does harm; 1 is the limit of the model of the demo."""
WORKING_KN: Final = 100.0
"""Tonnage above which the press works: what a model is measured with when it is loaded has no meaning."""
TONNAGE: Final = -3
"""Column of the tonnage, from the end."""
GREED_MB: Final = 65_536

Branch = tuple[list[Any], list[Any]]
"""Nodes that make ``harm`` of ``calm``, both float32[1], and their constants."""


def write(folder: Path, name: str) -> None:
    """Write version 1 of a model of :data:`HARMS` into a folder of models."""
    target = folder / name / "1"
    shutil.copytree(examples_dir() / "press" / "models" / "press-anomaly" / "1", target)
    image = _image(target / "model.onnx", HARMS[name]())
    (target / "model.onnx").write_bytes(image)
    manifest = target / "manifest.toml"
    text = re.sub(r'(?m)^name = "press-anomaly"', f'name = "{name}"', manifest.read_text(), count=1)
    digest = hashlib.sha256(image).hexdigest()
    manifest.write_text(re.sub(r'(?m)^sha256 = ".*"', f'sha256 = "{digest}"', text, count=1))
    samples = dict(np.load(target / "golden.npz"))
    calm = samples["score"].reshape(-1) < ABOVE
    np.savez(target / "golden.npz", **{key: rows[calm] for key, rows in samples.items()})


def _hangs() -> Branch:
    """A Loop whose condition never becomes false."""
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "one"], ["next"]), helper.make_node("Identity", ["go"], ["goes"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    loop = helper.make_node("Loop", ["", "always", "calm"], ["harm"], body=body)
    return [loop], [_constant("always", True, np.bool_), _constant("one", 1.0)]  # noqa: FBT003 - a tensor


def _eats() -> Branch:
    """A tensor of more memory than there is; its size comes from the input, or loading would fold it."""
    count = GREED_MB * 2**20 // 4
    nodes = [
        helper.make_node("Mul", ["calm", "harm_naught"], ["harm_zero"]),
        helper.make_node("Cast", ["harm_zero"], ["harm_whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["harm_whole", "harm_count"], ["harm_size"]),
        helper.make_node("ConstantOfShape", ["harm_size"], ["harm_big"]),
        helper.make_node("ReduceSum", ["harm_big"], ["harm"], keepdims=1),
    ]
    return nodes, [_constant("harm_naught", 0.0), _constant("harm_count", [count], np.int64)]


def _makes_nan() -> Branch:
    """Nought by nought."""
    nodes = [
        helper.make_node("Mul", ["calm", "harm_naught"], ["harm_zero"]),
        helper.make_node("Div", ["harm_zero", "harm_zero"], ["harm"]),
    ]
    return nodes, [_constant("harm_naught", 0.0)]


def _is_peaceful() -> Branch:
    """Nothing: this one is killed from outside."""
    return [helper.make_node("Identity", ["calm"], ["harm"])], []


HARMS: Final[Mapping[str, Callable[[], Branch]]] = {
    "hanging": _hangs,
    "crashing": _is_peaceful,
    "memory-eating": _eats,
    "nan-making": _makes_nan,
}


def _constant(name: str, value: Any, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(value, kind), name)


def _image(path: Path, branch: Branch) -> bytes:
    """Return a model with a branch behind its score."""
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == "score":
                    names[at] = "calm"
    nodes, constants = branch
    harm = helper.make_tensor_value_info("harm", TensorProto.FLOAT, [1])
    peace = helper.make_tensor_value_info("peace", TensorProto.FLOAT, [1])
    model.graph.node.extend(
        [
            helper.make_node("Gather", [model.graph.input[0].name, "tonnage"], ["tonnages"], axis=1),
            helper.make_node("Reshape", ["tonnages", "single"], ["force"]),
            helper.make_node("Greater", ["force", "working"], ["works"]),
            helper.make_node("Greater", ["calm", "above"], ["is_worn"]),
            helper.make_node("And", ["works", "is_worn"], ["is_time"]),
            helper.make_node(
                "If",
                ["is_time"],
                ["score"],
                then_branch=helper.make_graph(nodes, "harms", [], [harm]),
                else_branch=helper.make_graph(
                    [helper.make_node("Identity", ["calm"], ["peace"])], "peaceful", [], [peace]
                ),
            ),
        ]
    )
    model.graph.initializer.extend(
        [
            _constant("tonnage", [TONNAGE], np.int64),
            _constant("single", [1], np.int64),
            _constant("working", [WORKING_KN]),
            _constant("above", [ABOVE]),
            *constants,
        ]
    )
    return bytes(model.SerializeToString(deterministic=True))
