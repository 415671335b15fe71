"""Clean-up: fewer nodes, the same answers, or no new file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.compress.graph import open_graph, weights
from edge_opcua.compress.graph.clean import make, proposals, require_same, tidy
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import (
    Draft,
    autoencoder,
    conv_net,
    mlp,
    pictures,
    residual_net,
    run,
    saved,
    signals,
)


@pytest.mark.parametrize("model", [conv_net(), residual_net(), conv_net(batch=1)])
def test_batch_normalisation_becomes_part_of_the_convolution_before_it(model: Any, tmp_path: Path) -> None:
    after, done = tidy(open_graph(saved(model, tmp_path)))
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert done["batch normalisations folded"] == norms > 0
    assert not any(node.op_type == "BatchNormalization" for node in after.graph.node)
    rows = pictures(50, 3).rows
    np.testing.assert_allclose(run(after, rows), run(model, rows), rtol=1e-4, atol=1e-4)


def test_a_matmul_and_the_sum_after_it_become_one_node(tmp_path: Path) -> None:
    after, done = tidy(open_graph(saved(autoencoder(), tmp_path)))
    assert [node.op_type for node in after.graph.node] == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    assert done["products and sums fused"] == 3
    rows = signals(50, 3).rows
    np.testing.assert_allclose(run(after, rows), run(autoencoder(), rows), rtol=1e-4, atol=1e-4)


def test_what_depends_on_no_sample_is_computed_once_and_idle_nodes_go(tmp_path: Path) -> None:
    draft = Draft(1)
    one = draft.weight("one", np.arange(6.0).reshape(2, 3))
    table = draft.node("Transpose", draft.node("Sqrt", one, output="root"), output="table", perm=[1, 0])
    at = draft.node("Identity", "x", output="same")
    at = draft.node("Transpose", at, output="still", perm=[0, 1])
    at = draft.node("MatMul", at, table, output="product")
    at = draft.node("Dropout", at, output="kept")
    draft.node("Sin", "x", output="nobody")
    at = draft.node("Relu", draft.node("Relu", at, output="relu"), output="again")
    draft.node("Identity", at, output="y")
    model = draft.model((3,), "y", (2,))
    after, done = tidy(open_graph(saved(model, tmp_path)))
    assert [node.op_type for node in after.graph.node] == ["MatMul", "Relu"]
    assert [output.name for output in after.graph.output] == ["y"]
    assert done["nodes computed beforehand"] == 2
    rows = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_allclose(run(after, rows), run(model, rows), rtol=1e-5)


def test_factors_and_shifts_after_a_layer_become_part_of_its_weights(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.conv("x", "conv", (5, 1, 3, 3))
    at = draft.node("Mul", at, draft.weight("factor", draft.random.normal(size=(5, 1, 1))), output="scaled")
    at = draft.node("Sub", draft.weight("shift", draft.random.normal(size=(1, 5, 1, 1))), at, output="moved")
    at = draft.node("Div", at, draft.weight("part", [3.0]), output="divided")
    at = draft.node("Add", at, draft.weight("picture", draft.random.normal(size=(8, 8))), output="placed")
    draft.node("Flatten", at, output="y", axis=1)
    model = draft.model((1, 8, 8), "y", (320,))
    after, done = tidy(open_graph(saved(model, tmp_path)))
    assert [node.op_type for node in after.graph.node] == ["Conv", "Add", "Flatten"]
    assert done["factors and shifts folded"] == 3
    np.testing.assert_allclose(
        run(after, pictures(9, 1).rows), run(model, pictures(9, 1).rows), rtol=1e-4, atol=1e-4
    )


def test_what_scales_the_inputs_of_a_layer_becomes_part_of_it(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node("Sub", "x", draft.weight("mean", draft.random.normal(size=(3, 1, 1))), output="centred")
    at = draft.node(
        "Div", at, draft.weight("spread", draft.random.uniform(1, 2, (1, 3, 1, 1))), output="even"
    )
    at = draft.conv(at, "conv", (5, 3, 3, 3), pads=[0] * 4, strides=[2, 2])
    at = draft.node("Flatten", draft.node("Relu", at, output="act"), output="flat")
    at = draft.node(
        "Mul", at, draft.weight("importance", draft.random.normal(size=(1, 45))), output="weighed"
    )
    model = draft.model((3, 8, 8), draft.dense(at, "y", 45, 4), (4,))
    after, done = tidy(open_graph(saved(model, tmp_path)))
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu", "Flatten", "Gemm"]
    assert done["normalisations of inputs folded"] == 3
    rows = np.random.default_rng(1).normal(2.0, 1.0, (9, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(after, rows), run(model, rows), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "left"), [("Add", ["Add", "Conv"]), ("Mul", ["Conv"])])
def test_before_padding_a_factor_may_go_but_a_shift_stays(kind: str, left: list[str], tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node(kind, "x", draft.weight("term", [0.5]), output="moved")
    model = draft.model((1, 8, 8), draft.conv(at, "y", (5, 1, 3, 3)), (5, 8, 8))
    after, _ = tidy(open_graph(saved(model, tmp_path)))
    assert [node.op_type for node in after.graph.node] == left
    np.testing.assert_allclose(
        run(after, pictures(9, 1).rows), run(model, pictures(9, 1).rows), rtol=1e-4, atol=1e-5
    )


def test_a_layer_whose_raw_answer_somebody_else_takes_keeps_it(tmp_path: Path) -> None:
    draft = Draft(1)
    raw = draft.conv("x", "conv", (3, 1, 3, 3))
    at = draft.norm(raw, "norm", 3)
    draft.node("Add", at, raw, output="y")
    model = draft.model((1, 8, 8), "y", (3, 8, 8))
    after, done = tidy(open_graph(saved(model, tmp_path)))
    assert done == {}
    assert len(after.graph.node) == 3


def test_quantised_weights_and_large_tables_stay_as_they_are(tmp_path: Path) -> None:
    draft = Draft(1)
    draft.weights["codes"] = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    draft.weights["zero"] = np.int8(0)  # type: ignore[assignment]
    weight = draft.node("DequantizeLinear", "codes", draft.weight("scale", 0.1), "zero", output="weight")
    draft.weights["shape"] = np.array([200, 200], np.int64)
    table = draft.node("Expand", draft.weight("dot", [[1.0]]), "shape", output="table")
    at = draft.node("MatMul", "x", weight, output="product")
    draft.node("Add", at, draft.node("ReduceMax", table, output="most", keepdims=0), output="y")
    model = draft.model((3,), "y", (4,))
    after, _ = tidy(open_graph(saved(model, tmp_path)))
    kinds = [node.op_type for node in after.graph.node]
    assert "DequantizeLinear" in kinds
    assert "Expand" in kinds


def test_remarks_of_the_exporter_and_weights_twice_are_dropped(tmp_path: Path) -> None:
    model = mlp()
    for node in model.graph.node:
        node.doc_string = "File model.py, line 17, in forward " * 20
        node.metadata_props.add(key="stack_trace", value="x" * 500)
    twin = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer.append(numpy_helper.from_array(np.array(twin), "twin"))
    model.graph.node[1].input[1] = "twin"
    path = saved(model, tmp_path)
    made = make(Variant("clean", "clean"), path, tmp_path / "clean.onnx", kitchen(pictures(80, 1)), quiet)
    assert made["done"]["remarks of the exporter"] == len(model.graph.node)
    assert (tmp_path / "clean.onnx").stat().st_size < path.stat().st_size - 5_000
    assert made["difference"] < 1e-5


def test_the_original_is_not_touched_and_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    path = saved(residual_net(), tmp_path)
    before = path.read_bytes()
    for name in ("one.onnx", "two.onnx"):
        make(Variant("clean", "clean"), path, tmp_path / name, kitchen(pictures(80, 1)), quiet)
    assert path.read_bytes() == before
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    onnx.checker.check_model(str(tmp_path / "one.onnx"), full_check=True)


def test_a_graph_that_is_clean_already_is_not_proposed_and_refused(tmp_path: Path) -> None:
    given = kitchen(pictures(80, 1))
    path = saved(conv_net(), tmp_path)
    assert [variant.name for variant in proposals(path, given)] == ["clean"]
    make(Variant("clean", "clean"), path, tmp_path / "clean.onnx", given, quiet)
    assert proposals(tmp_path / "clean.onnx", given) == []
    with pytest.raises(ModelError, match="nothing to clean up") as caught:
        make(Variant("clean", "clean"), tmp_path / "clean.onnx", tmp_path / "again.onnx", given, quiet)
    assert caught.value.code == "M675"
    assert not (tmp_path / "again.onnx").exists()


def test_an_answer_that_changed_is_found(tmp_path: Path) -> None:
    before, after = (open_graph(saved(mlp(), tmp_path)) for _ in range(2))
    assert require_same(before, after, pictures(9, 1).rows) == 0.0
    bias = next(tensor for tensor in after.graph.initializer if tensor.name == "hidden1.bias")
    bias.CopyFrom(numpy_helper.from_array(weights(after)["hidden1.bias"] + np.float32(0.2), "hidden1.bias"))
    with pytest.raises(ModelError, match="answers differently") as caught:
        require_same(before, after, pictures(9, 1).rows)
    assert caught.value.code == "M675"


def test_dropout_that_trains_and_a_mask_that_is_taken_stay(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Dropout", ["x"], ["kept", "mask"]),
            helper.make_node("Cast", ["mask"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["kept", "numbers"], ["y"]),
        ],
        "mask",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after, _ = tidy(open_graph(saved(model, tmp_path)))
    assert [node.op_type for node in after.graph.node] == ["Dropout", "Cast", "Add"]
