"""Graphs: every node can be named, weights are arrays, what lies inside can be asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.compress.graph import (
    activations,
    consumers,
    input_shape,
    open_graph,
    producers,
    save_graph,
    set_weight,
    shapes,
    sort,
    weights,
    with_shapes,
)
from edge_opcua.errors import ModelError
from tests.compress.models import autoencoder, conv_net, pictures, run, saved, signals


def test_unnamed_and_namesake_nodes_get_names_of_their_own(tmp_path: Path) -> None:
    model = conv_net()
    for node in model.graph.node[:4]:
        node.name = ""
    model.graph.node[4].name = "Relu_2"  # what the third would be called
    model.graph.node[5].name = model.graph.node[6].name = "twins"
    opened = open_graph(saved(model, tmp_path))
    names = [node.name for node in opened.graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert names[4:6] == ["Relu_2", "twins"]


def test_constant_nodes_and_weights_that_are_inputs_become_plain_weights(tmp_path: Path) -> None:
    factor = numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "inner")
    shift = numpy_helper.from_array(np.array([1.0, 1.0], np.float32), "shift")
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["factor"], value=factor),
            helper.make_node("Constant", [], ["power"], value_float=2.0),
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("Pow", ["scaled", "power"], ["squared"]),
            helper.make_node("Add", ["squared", "shift"], ["y"]),
        ],
        "constants",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "shift")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [shift],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=3)
    opened = open_graph(saved(model, tmp_path))
    assert [node.op_type for node in opened.graph.node] == ["Mul", "Pow", "Add"]
    assert input_shape(opened) == ("x", (2,))
    assert weights(opened)["factor"].tolist() == [2.0, 3.0]
    assert run(opened, np.array([1.0, 1.0], np.float32)).tolist() == [5.0, 10.0]


def test_the_same_model_gives_the_same_bytes_and_no_shapes_are_stored(tmp_path: Path) -> None:
    opened = open_graph(saved(conv_net(), tmp_path))
    assert shapes(opened)["relu2"] == (None, 24, 4, 4)
    one, two = tmp_path / "one.onnx", tmp_path / "two.onnx"
    save_graph(opened, one)
    save_graph(open_graph(one), two)
    assert one.read_bytes() == two.read_bytes()
    assert not onnx.load(str(one)).graph.value_info
    assert opened.graph.value_info  # the one that was saved keeps them
    rows = pictures(5, 7).rows
    assert np.array_equal(run(two, rows), run(conv_net(), rows))


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_what_is_computed_inside_is_told_for_every_sample_whatever_batch_the_model_takes(
    tmp_path: Path, batch: int | str
) -> None:
    model, rows = conv_net(batch=batch), pictures(41, 7).rows
    found = activations(open_graph(saved(model, tmp_path)), ["x", "relu1", "logits"], rows)
    free = conv_net()
    assert np.array_equal(found["x"], rows)
    np.testing.assert_allclose(found["relu1"], run(free, rows, "relu1"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["logits"], run(free, rows), rtol=1e-4, atol=1e-4)


def test_producers_and_consumers_know_who_makes_and_who_takes(tmp_path: Path) -> None:
    opened = open_graph(saved(autoencoder(), tmp_path))
    assert producers(opened)["act1"].op_type == "Relu"
    assert [node.op_type for node in consumers(opened)["act1"]] == ["MatMul"]
    assert "x" not in producers(opened)


def test_a_changed_weight_and_nodes_out_of_order_are_put_right(tmp_path: Path) -> None:
    opened = open_graph(saved(autoencoder(), tmp_path))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(opened.graph.node)]
    del opened.graph.node[:]
    opened.graph.node.extend(nodes)
    sort(opened)
    set_weight(opened, "bias3", np.zeros(32, np.float32))
    rows = signals(3, 1).rows
    expected = run(autoencoder(), rows) - weights(open_graph(saved(autoencoder(), tmp_path)))["bias3"]
    np.testing.assert_allclose(run(with_shapes(opened), rows), expected, atol=1e-5)


def test_what_is_no_model_or_cannot_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is a text")
    with pytest.raises(ModelError, match="no ONNX model") as caught:
        open_graph(tmp_path / "text.onnx")
    assert caught.value.code == "M510"
    with pytest.raises(ModelError, match="no ONNX model"):
        open_graph(tmp_path / "nothing.onnx")
    opened = open_graph(saved(autoencoder(), tmp_path))
    set_weight(opened, "weight2", np.zeros((7, 7), np.float32))
    with pytest.raises(ModelError, match=r"cannot (run|be loaded)|contradict"):
        activations(with_shapes(opened), ["reconstruction"], signals(3, 1).rows)
