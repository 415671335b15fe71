from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.compress.checks.look import Finding, look, require
from edge_opcua.compress.checks.operators import backends
from edge_opcua.compress.checks.parity import compare
from edge_opcua.errors import ModelError

RANDOM = np.random.default_rng(9)


def saved(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    opset: int = 17,
    domains: tuple[str, ...] = (),
) -> Path:
    inputs = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], weights or [])
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(each, 1) for each in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def dense(path: Path, *, opset: int = 17) -> Path:
    weights = [
        numpy_helper.from_array(RANDOM.normal(size=(4, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(RANDOM.normal(size=3).astype(np.float32), "b"),
    ]
    return saved(path, [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], weights=weights, opset=opset)


def of(findings: list[Finding], level: str) -> dict[str, str]:
    return {each.what: each.text for each in findings if each.level == level}


def reference(path: Path, model: Path, *, shift: float = 0.0, sample: int = 0) -> Path:
    x = RANDOM.normal(size=(12, 4)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    y[sample, 1] += shift
    np.savez(path, x=x, y=y)
    return path


def test_a_model_that_runs_here_is_found_fine(tmp_path: Path) -> None:
    findings = look(dense(tmp_path / "m.onnx"))
    assert not of(findings, "refused")
    assert {"opset", "input", "precision", "cpu"} <= set(of(findings, "ok"))
    require(findings)


def test_an_export_that_answers_what_the_framework_did_is_told_with_its_farthest_answer(
    tmp_path: Path,
) -> None:
    model = dense(tmp_path / "m.onnx")
    findings = look(model, reference=reference(tmp_path / "r.npz", model))
    assert "12 samples" in of(findings, "ok")["parity"]


def test_an_export_that_answers_otherwise_is_refused_with_the_sample_and_both_numbers(
    tmp_path: Path,
) -> None:
    model = dense(tmp_path / "m.onnx")
    findings = look(model, reference=reference(tmp_path / "r.npz", model, shift=0.25, sample=6))
    assert 'sample 7, output "y"' in of(findings, "refused")["parity"]
    with pytest.raises(ModelError, match="framework") as caught:
        require(findings)
    assert caught.value.code == "M697"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"z": np.zeros((3, 4), np.float32)}, 'has no "x"; it has z'),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros((2, 3))}, "2 and 3 samples"),
        ({"x": np.zeros((3, 4), np.float32), "y": np.zeros((3, 5))}, "has shape"),
        ({"x": np.zeros((3, 4), np.float32)}, "names no output"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused_with_what_is_wrong_with_it(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "r.npz", **arrays)  # type: ignore[arg-type]  # its third parameter is allow_pickle
    refused = of(look(dense(tmp_path / "m.onnx"), reference=tmp_path / "r.npz"), "refused")
    assert said in refused["parity"]


def test_a_file_that_is_no_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.npz").write_bytes(b"no arrays at all")
    refused = of(look(dense(tmp_path / "m.onnx"), reference=tmp_path / "r.npz"), "refused")
    assert "no .npz file" in refused["parity"]


def test_an_answer_that_is_no_number_is_as_far_off_as_can_be() -> None:
    right = np.ones((3, 2))
    found = np.array([[1.0, 1.0], [np.nan, 1.0], [1.0, 1.0]])
    parity = compare({"y": found}, {"y": right})
    assert not parity.is_equal
    assert parity.sample == 2
    assert compare({"y": found}, {"y": found}).is_equal


def test_operators_that_a_backend_leaves_out_are_named_and_refuse_only_where_it_is_the_one(
    tmp_path: Path,
) -> None:
    model = saved(tmp_path / "m.onnx", [helper.make_node("Tan", ["x"], ["y"])])
    notes = of(look(model), "note")
    assert "Tan" in notes["cuda"]
    assert "tensorrt" not in notes
    assert "Tan" in of(look(model, provider="cuda"), "refused")["cuda"]


def test_trees_are_run_by_the_processor_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])]
    notes = of(look(saved(tmp_path / "m.onnx", nodes, domains=("ai.onnx.ml",))), "note")
    assert {"cuda", "tensorrt", "openvino"} <= set(notes)


def test_every_operator_in_the_table_is_one_of_onnx() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for backend in backends().values():
        assert backend.missing <= known


def info(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize(
    ("inputs", "nodes", "said"),
    [
        ([info("x", TensorProto.DOUBLE, "n", 4)], [("Cast", ["x"], {"to": 1})], "only float32"),
        ([info("x", 1, "n", 4), info("z", 1, "n", 4)], [("Add", ["x", "z"], {})], "2 inputs (x, z)"),
        ([info("x", 1, 8, 4)], [("Relu", ["x"], {})], "first axis is 8"),
    ],
)
def test_a_model_that_nothing_can_be_made_of_is_refused_before_anything_is_tried(
    tmp_path: Path,
    inputs: list[onnx.ValueInfoProto],
    nodes: list[tuple[str, list[str], dict[str, int]]],
    said: str,
) -> None:
    made = [helper.make_node(kind, given, ["y"], **more) for kind, given, more in nodes]
    findings = look(saved(tmp_path / "m.onnx", made, inputs=inputs))
    assert any(said in text for text in of(findings, "refused").values())
    with pytest.raises(ModelError) as caught:
        require(findings)
    assert caught.value.code == "M696"


def test_a_model_that_is_quantised_already_is_refused(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(3), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    refused = of(look(saved(tmp_path / "m.onnx", nodes, weights=weights)), "refused")
    assert "quantised already" in refused["precision"]


def test_open_axes_one_sample_at_a_time_and_an_old_opset_are_worth_knowing(tmp_path: Path) -> None:
    inputs = [info("x", 1, 1, "time")]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    notes = of(look(saved(tmp_path / "m.onnx", nodes, inputs=inputs, opset=11)), "note")
    assert '"time"' in notes["shape"]
    assert "one sample is run at a time" in notes["batch"]
    assert "opset 11" in notes["opset"]


def test_a_provider_that_is_not_here_is_said_to_be_the_reason(tmp_path: Path) -> None:
    refused = of(look(dense(tmp_path / "m.onnx"), provider="openvino"), "refused")
    assert "does not run on openvino here" in refused["openvino"]


def test_a_model_that_draws_random_numbers_is_told(tmp_path: Path) -> None:
    noise = helper.make_node("RandomNormalLike", ["x"], ["r"])
    model = saved(tmp_path / "m.onnx", [noise, helper.make_node("Add", ["x", "r"], ["y"])])
    assert "draws random numbers (RandomNormalLike)" in of(look(model), "note")["operators"]
