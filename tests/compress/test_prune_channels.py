"""Which channels hang together: what is removed from a graph is as if it had been nothing but zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.graph import open_graph, set_weight, weights
from edge_opcua.compress.graph.clean import tidy
from edge_opcua.compress.prune.channels import Coupling
from edge_opcua.compress.prune.cut import kept, unshared, without
from edge_opcua.compress.prune.rules import trace
from tests.compress.models import Draft, conv_net, residual_net, run, saved
from tests.compress.tangled import NETS, PICTURE, inputs_of


def opened(model: Any, folder: Path) -> Any:
    return unshared(open_graph(saved(model, folder)))


def with_zeros(model: Any, coupling: Coupling, gone: set[int]) -> Any:
    """Return the whole model whose layers take nothing of some channels."""
    silenced = onnx.ModelProto()
    silenced.CopyFrom(model)
    for layer in coupling.layers:
        array = np.moveaxis(weights(silenced)[layer.weight], layer.axis, 0)
        array[~kept(layer.inputs, gone)] = 0.0
        set_weight(silenced, layer.weight, np.moveaxis(array, 0, layer.axis))
    return silenced


@pytest.mark.parametrize("clean", [False, True], ids=["as exported", "cleaned up"])
@pytest.mark.parametrize("name", NETS)
def test_a_removed_channel_is_as_good_as_one_that_nobody_listens_to(
    name: str, clean: bool, tmp_path: Path
) -> None:
    model = opened(NETS[name](), tmp_path)
    model = tidy(model)[0] if clean else model
    coupling = trace(model)
    random = np.random.default_rng(1)
    gone = {
        int(u) for group in coupling.groups() for u in random.choice(group, len(group) // 2, replace=False)
    }
    assert gone
    smaller = without(model, coupling, gone)
    onnx.checker.check_model(smaller, full_check=True)
    rows = inputs_of(model)
    expected = run(with_zeros(model, coupling, gone), rows)
    np.testing.assert_allclose(run(smaller, rows), expected, rtol=1e-3, atol=1e-4)
    sizes = [sum(array.size for array in weights(each).values()) for each in (model, smaller)]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.parametrize("name", NETS)
def test_where_shapes_are_not_known_less_is_removed_and_nothing_breaks(name: str, tmp_path: Path) -> None:
    model = opened(NETS[name](), tmp_path)
    del model.graph.value_info[:]
    coupling = trace(model)
    gone = {int(group[0]) for group in coupling.groups()}
    rows = inputs_of(model)
    expected = run(with_zeros(model, coupling, gone), rows)
    np.testing.assert_allclose(run(without(model, coupling, gone), rows), expected, rtol=1e-3, atol=1e-4)


def test_channels_that_are_added_up_are_the_same_and_those_of_the_answer_stay(tmp_path: Path) -> None:
    coupling = trace(opened(residual_net(), tmp_path))
    layers = {layer.node: layer for layer in coupling.layers}
    assert np.array_equal(layers["/stem"].outputs, layers["/conv2"].outputs)
    assert np.array_equal(layers["/point"].inputs, layers["/conv2"].outputs)  # depthwise, in between
    assert coupling.frozen.issuperset(layers["/logits"].outputs.tolist())
    assert coupling.frozen.issuperset(layers["/stem"].inputs.tolist())
    assert sorted(len(group) for group in coupling.groups()) == [16, 16, 32]


def test_a_flattened_picture_has_each_channel_at_all_its_places(tmp_path: Path) -> None:
    coupling = trace(opened(conv_net(), tmp_path))
    layers = {layer.node: layer for layer in coupling.layers}
    assert np.array_equal(layers["/logits"].inputs, np.repeat(layers["/conv2"].outputs, 4))


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("Softmax", {"axis": 1}),
        ("LRN", {"size": 3}),
        ("ReduceMean", {"axes": [1], "keepdims": 1}),
        ("ArgMax", {"axis": 1}),
        ("DepthToSpace", {"blocksize": 2}),
    ],
)
def test_what_needs_all_channels_keeps_them(kind: str, attributes: dict[str, Any], tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node(kind, draft.conv("x", "conv", (8, 1, 3, 3)), output="whole", **attributes)
    at = draft.node("Cast", at, output="numbers", to=1)
    at = draft.node("GlobalAveragePool", at, output="mean")
    draft.node("Flatten", at, output="flat")
    channels = {"Softmax": 8, "LRN": 8, "DepthToSpace": 2}.get(kind, 1)
    model = draft.model(PICTURE, draft.dense("flat", "y", channels, 2), (2,))
    assert trace(opened(model, tmp_path)).groups() == []


def test_a_convolution_in_groups_keeps_what_goes_in_and_out(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node("Relu", draft.conv("x", "one", (8, 1, 3, 3)), output="a")
    at = draft.node("Relu", draft.conv(at, "grouped", (8, 4, 3, 3), group=2), output="b")
    at = draft.node("Relu", draft.conv(at, "free", (6, 8, 3, 3)), output="c")
    at = draft.conv(at, "last", (2, 6, 3, 3))
    coupling = trace(opened(draft.model(PICTURE, at, (2, 8, 8)), tmp_path))
    assert [len(group) for group in coupling.groups()] == [6]


def test_equal_biases_of_two_layers_do_not_tie_them(tmp_path: Path) -> None:
    draft = Draft(1)
    nothing = draft.weight("nothing", np.zeros(8))
    at = draft.node("Gemm", "x", draft.he("w1", 6, 8), nothing, output="one")
    at = draft.node("Gemm", draft.node("Relu", at, output="a"), draft.he("w2", 8, 8), nothing, output="two")
    shift = draft.weight("shift", np.zeros((1, 8)))
    at = draft.node("Add", draft.node("Relu", at, output="b"), shift, output="c")
    at = draft.node("Gemm", draft.node("Tanh", at, output="d"), draft.he("w3", 8, 8), output="three")
    at = draft.node("Relu", draft.node("Add", at, shift, output="e"), output="f")
    draft.node("Gemm", at, draft.he("w4", 8, 2), output="y")
    coupling = trace(opened(draft.model((6,), "y", (2,)), tmp_path))
    assert [len(group) for group in coupling.groups()] == [8, 8, 8]


def test_a_weight_that_somebody_else_uses_in_another_way_stays_whole(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node("Relu", draft.dense("x", "one", 6, 8), output="a")
    at = draft.dense(at, "two", 8, 2)
    total = draft.node("ReduceSum", "two.weight", output="total", keepdims=0)
    draft.node("Add", at, total, output="y")
    assert trace(opened(draft.model((6,), "y", (2,)), tmp_path)).groups() == []
