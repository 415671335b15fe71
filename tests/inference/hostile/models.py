"""Models that do harm: each is a valid ONNX file that passes its reference samples, and then does it.

A hostile version is the delivered model with one more branch: as long as its score is low it answers as
ever, above :data:`ABOVE` it attacks. So it can be deployed like any other, and a worn die sets it off.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.inference.models import DELIVERED, graph, model, replaced, with_model

ABOVE: Final = 1.05
MB: Final = 2**20

Attack = Callable[[], tuple[list[Any], list[Any]]]
"""Nodes that make ``attack`` of ``calm`` (both float32[1]), and their constants."""


def constant(name: str, value: Any, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(value, kind), name)


def endless() -> tuple[list[Any], list[Any]]:
    """Return a Loop whose condition never becomes false: each step is short, so it can be cancelled."""
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
    loop = helper.make_node("Loop", ["", "always", "calm"], ["attack"], body=body)
    return [loop], [constant("always", True, np.bool_), constant("one", 1.0)]


def stuck() -> tuple[list[Any], list[Any]]:
    """Return one single operator that computes for minutes: nothing can cancel it, only a kill ends it.

    NonMaxSuppression compares each of its boxes with each it has kept, and here it keeps all of them.
    """
    nodes = [
        *sized("boxes_size", [1, 400_000, 4], at=1),
        helper.make_node("ConstantOfShape", ["boxes_size"], ["boxes"]),
        *sized("scores_size", [1, 1, 400_000], at=2),
        helper.make_node("ConstantOfShape", ["scores_size"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "all", "all_over"], ["kept"]),
        helper.make_node("Shape", ["kept"], ["kept_shape"], start=0, end=1),
        helper.make_node("Cast", ["kept_shape"], ["attack"], to=TensorProto.FLOAT),
    ]
    return nodes, [
        constant("boxes_size_fixed", [1, 0, 4], np.int64),
        constant("boxes_size_more", [0, 400_000, 0], np.int64),
        constant("scores_size_fixed", [1, 1, 0], np.int64),
        constant("scores_size_more", [0, 0, 400_000], np.int64),
        constant("naught", 0.0),
        constant("all", [400_000], np.int64),
        constant("all_over", [1.0]),
    ]


def sized(name: str, shape: Sequence[int], *, at: int) -> list[Any]:
    """Return nodes that make a shape out of the input, so that nothing is computed when it is loaded."""
    assert shape[at]
    return [
        helper.make_node("Mul", ["calm", "naught"], [f"{name}_zero"]),
        helper.make_node("Cast", [f"{name}_zero"], [f"{name}_whole"], to=TensorProto.INT64),
        helper.make_node("Add", [f"{name}_whole", f"{name}_fixed"], [f"{name}_some"]),
        helper.make_node("Add", [f"{name}_some", f"{name}_more"], [name]),
    ]


def not_a_number() -> tuple[list[Any], list[Any]]:
    """Return a division of nought by nought."""
    nodes = [
        helper.make_node("Mul", ["calm", "naught"], ["nothing"]),
        helper.make_node("Div", ["nothing", "nothing"], ["attack"]),
    ]
    return nodes, [constant("naught", 0.0)]


def greedy(mb: int = 8192) -> Attack:
    """Return what asks for so much memory in one piece."""

    def attack() -> tuple[list[Any], list[Any]]:
        count = mb * MB // 4
        nodes = [
            *sized("size", [count], at=0),
            helper.make_node("ConstantOfShape", ["size"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["attack"], keepdims=1),
        ]
        constants = [
            constant("size_fixed", [0], np.int64),
            constant("size_more", [count], np.int64),
            constant("naught", 0.0),
        ]
        return nodes, constants

    return attack


def hostile_image(attack: Attack, *, above: float = ABOVE) -> bytes:
    """Return the delivered model with an attack behind its score."""
    made = _with_calm_score()
    nodes, constants = attack()
    scalar = [helper.make_tensor_value_info("attack", TensorProto.FLOAT, [1])]
    peaceful = [helper.make_tensor_value_info("as_ever", TensorProto.FLOAT, [1])]
    made.graph.node.extend(
        [
            helper.make_node("Greater", ["calm", "above"], ["is_time"]),
            helper.make_node(
                "If",
                ["is_time"],
                ["score"],
                then_branch=helper.make_graph(nodes, "attacks", [], scalar),
                else_branch=helper.make_graph(
                    [helper.make_node("Identity", ["calm"], ["as_ever"])], "peace", [], peaceful
                ),
            ),
        ]
    )
    made.graph.initializer.extend([constant("above", [above]), *constants])
    return bytes(made.SerializeToString(deterministic=True))


def laden_image(mb: int) -> bytes:
    """Return the delivered model, with so much memory to be computed while it is loaded."""
    made = _with_calm_score()
    made.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["ballast_size"], ["ballast"]),
            helper.make_node("ReduceSum", ["ballast"], ["ballast_sum"], keepdims=1),
            helper.make_node("Add", ["calm", "ballast_sum"], ["score"]),
        ]
    )
    made.graph.initializer.append(constant("ballast_size", [mb * MB // 4], np.int64))
    return bytes(made.SerializeToString(deterministic=True))


def slow_image(times: int = 16, side: int = 2500) -> bytes:
    """Return the delivered model, with so many products of matrices to be computed while it is loaded."""
    made = _with_calm_score()
    names = [f"product{index}" for index in range(times + 1)]
    made.graph.node.append(helper.make_node("ConstantOfShape", ["matrix_size"], [names[0]]))
    for before, after in itertools.pairwise(names):
        made.graph.node.append(helper.make_node("MatMul", [before, names[0]], [after]))
    made.graph.node.extend(
        [
            helper.make_node("ReduceMin", [names[-1]], ["least"], keepdims=0),
            helper.make_node("Add", ["calm", "least"], ["score"]),
        ]
    )
    made.graph.initializer.append(constant("matrix_size", [side, side], np.int64))
    return bytes(made.SerializeToString(deterministic=True))


def _with_calm_score() -> Any:
    """Return the delivered model whose score is called ``calm``; who calls it adds ``score``."""
    made = onnx.load(DELIVERED / "model.onnx")
    for node in made.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == "score":
                    names[index] = "calm"
    return made


def hostile_version(root: Path, name: str, image: bytes, *, version: int = 1) -> Path:
    """Write a version of a hostile model into a folder of models; its reference samples are peaceful."""
    folder = root / name / str(version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(DELIVERED, folder)
    with_model(folder, image)
    replaced(folder, 'name = "press-anomaly"', f'name = "{name}"')
    replaced(folder, "version = 1\n", f"version = {version}\n")
    samples = dict(np.load(folder / "golden.npz"))
    calm = samples["score"] < ABOVE
    np.savez(folder / "golden.npz", **{key: rows[calm] for key, rows in samples.items()})
    return folder


def alone(attack: Attack) -> bytes:
    """Return a model of one score that attacks at once, from the first run on."""
    nodes, constants = attack()
    return model(
        graph(
            [
                helper.make_node("ReduceSum", ["features"], ["sum"], keepdims=0),
                helper.make_node("Reshape", ["sum", "one_value"], ["calm"]),
                *nodes,
                helper.make_node("Identity", ["attack"], ["score"]),
            ],
            initializers=(constant("one_value", [1], np.int64), *constants),
        )
    )


def peaceful() -> bytes:
    """Return a model of one score that adds up its features."""
    nodes = [
        helper.make_node("ReduceSum", ["features"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["sum", "one_value"], ["score"]),
    ]
    return model(graph(nodes, initializers=(constant("one_value", [1], np.int64),)))


def folding_bomb(mb: int) -> bytes:
    """Return a model of some 300 bytes that makes ONNX Runtime compute so much memory while it is loaded."""
    count = mb * MB // 4
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"], value=value),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["features", "sum"], ["score"]),
    ]
    return model(
        graph(nodes, outputs=(("score", [1, 13]),), initializers=(constant("size", [count], np.int64),))
    )


def function_bomb(depth: int, times: int) -> bytes:
    """Return a model whose functions call each other: ``times ** depth`` additions out of a small file."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pkg.own", 1)]
    functions = []
    for level in range(depth):
        nodes = []
        for index in range(times):
            source, target = f"y{index}", f"y{index + 1}"
            if level == 0:
                nodes.append(helper.make_node("Add", [source, source], [target]))
            else:
                nodes.append(helper.make_node(f"F{level - 1}", [source], [target], domain="pkg.own"))
        functions.append(helper.make_function("pkg.own", f"F{level}", ["y0"], [f"y{times}"], nodes, opsets))
    node = helper.make_node(f"F{depth - 1}", ["features"], ["score"], domain="pkg.own")
    return model(
        graph([node], outputs=(("score", [1, 13]),)),
        domains=(("", 17), ("pkg.own", 1)),
        functions=tuple(functions),
    )


def self_calling() -> bytes:
    """Return a model with a function that calls itself."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pkg.own", 1)]
    body = [helper.make_node("F", ["x"], ["y"], domain="pkg.own")]
    function = helper.make_function("pkg.own", "F", ["x"], ["y"], body, opsets)
    node = helper.make_node("F", ["features"], ["score"], domain="pkg.own")
    return model(
        graph([node], outputs=(("score", [1, 13]),)),
        domains=(("", 17), ("pkg.own", 1)),
        functions=(function,),
    )


def chain(length: int) -> bytes:
    """Return a model of so many additions, one after the other."""
    names = ["features", *(f"a{index}" for index in range(length))]
    nodes = [
        helper.make_node("Add", [before, "features"], [after]) for before, after in itertools.pairwise(names)
    ]
    nodes.append(helper.make_node("Identity", [names[-1]], ["score"]))
    return model(graph(nodes, outputs=(("score", [1, 13]),)))


def lying_weights(dims: Sequence[int], data: bytes) -> bytes:
    """Return a model whose weights are declared larger than what is there of them."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=dims, raw_data=data)
    nodes = [
        helper.make_node("ReduceSum", ["weights"], ["sum"], keepdims=0),
        helper.make_node("Add", ["features", "sum"], ["score"]),
    ]
    return model(graph(nodes, outputs=(("score", [1, 13]),), initializers=(tensor,)))


def wide_output(count: int) -> bytes:
    """Return a model that declares so many scores: whoever binds its output gives it the memory."""
    nodes = [
        helper.make_node("ReduceSum", ["features"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "shape"], ["score"]),
    ]
    shape = constant("shape", [1, count], np.int64)
    return model(graph(nodes, outputs=(("score", [1, count]),), initializers=(shape,)))


def lying_output() -> bytes:
    """Return a model that declares one score and answers with thirteen."""
    return model(graph([helper.make_node("Identity", ["features"], ["score"])]))
