"""What an ONNX file says of itself is read without running it, as the ``onnx`` package reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.errors import ModelError
from edge_opcua.inference.onnxcard import MOST_TENSORS, OnnxCard, read_card
from tests.inference.models import DELIVERED, external_data_model, graph, model


def card_of(tmp_path: Path, image: bytes) -> OnnxCard:
    path = tmp_path / "model.onnx"
    path.write_bytes(image)
    return read_card(path)


def test_it_says_of_the_delivered_model_what_the_onnx_package_says() -> None:
    path = DELIVERED / "model.onnx"
    card, known = read_card(path), onnx.load(path)
    assert [(each.name, each.kind) for each in card.inputs] == [("features", "float32")]
    for found, wanted in zip(card.outputs, known.graph.output, strict=True):
        assert found.name == wanted.name
        assert found.shape == tuple(axis.dim_value for axis in wanted.type.tensor_type.shape.dim)
    assert card.nodes == len(known.graph.node)
    assert card.operators.total() == len(known.graph.node)
    assert card.opsets == {each.domain: each.version for each in known.opset_import}
    floats = [each for each in known.graph.initializer if each.data_type == TensorProto.FLOAT]
    assert card.parameters == sum(int(np.prod(each.dims)) for each in floats)
    assert (card.ir_version, card.precision) == (known.ir_version, "float32")
    assert known.producer_name in card.producer


def test_open_axes_keep_their_names_and_weights_are_no_inputs(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "open",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]),  # as files of IR 3 list them
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [weights],
    )
    card = card_of(tmp_path, model(made))
    assert [str(each) for each in card.inputs] == ["float32[N,4]"]
    assert [str(each) for each in card.outputs] == ["float32[?,2]"]


def test_a_quantised_model_shows_as_one(tmp_path: Path) -> None:
    quantised = numpy_helper.from_array(np.ones((13, 13), np.int8), "w")
    scale = numpy_helper.from_array(np.array(1.0, np.float32), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"]),
        helper.make_node("MatMul", ["features", "wf"], ["score"]),
    ]
    card = card_of(
        tmp_path, model(graph(nodes, outputs=(("score", [1, 13]),), initializers=(quantised, scale)))
    )
    assert card.precision == "int8, in part others"
    assert card.weights["int8"] == 169


def test_files_with_weights_of_their_own_are_named(tmp_path: Path) -> None:
    assert card_of(tmp_path, external_data_model("weights.bin")).external == ("weights.bin",)


def test_notes_of_its_author_are_read_and_bounded(tmp_path: Path) -> None:
    made = helper.make_model(
        graph([helper.make_node("Identity", ["features"], ["score"])], outputs=(("score", [1, 13]),)),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    made.doc_string = "x" * 5000
    note = made.metadata_props.add()
    note.key, note.value = "feature_names", '["a", "b"]'
    card = card_of(tmp_path, made.SerializeToString())
    assert card.metadata == {"feature_names": '["a", "b"]'}
    assert len(card.description) == 2000


def test_more_inputs_than_anybody_reads_are_left_out(tmp_path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info(f"i{at}", TensorProto.FLOAT, [1]) for at in range(MOST_TENSORS + 5)
    ]
    node = helper.make_node("Identity", ["i0"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    card = card_of(tmp_path, model(helper.make_graph([node], "wide", inputs, [output])))
    assert len(card.inputs) == MOST_TENSORS


def test_a_file_cut_off_anywhere_is_refused_or_read_but_never_an_accident(tmp_path: Path) -> None:
    whole = (DELIVERED / "model.onnx").read_bytes()
    codes = {code_of(tmp_path, whole[:end]) for end in range(0, len(whole), 37)}
    assert codes <= {"", "M510"}
    assert code_of(tmp_path, b"\x00" * 40) == "M510"


def code_of(tmp_path: Path, image: bytes) -> str:
    try:
        card_of(tmp_path, image)
    except ModelError as exc:
        return exc.code
    return ""
