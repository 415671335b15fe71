"""INT8 with ranges measured at every run: for products and LSTMs; for convolutions only if named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.making import Device
from edge_opcua.compress.quantise.dynamic import also, make, proposals
from edge_opcua.compress.quantise.static import proposals as static_proposals
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import Draft, autoencoder, conv_net, mlp, pictures, run, saved, signals
from tests.compress.quantise.nets import decibels, operators, scaled_net, scaled_rows, weightless


def recurrent() -> Any:
    """Sequences of 12 steps with 6 values each, shape (12, n, 6), an LSTM of 16: "y" of its last state."""
    draft = Draft(7)
    weight = draft.weight("w", draft.random.normal(0.0, 0.4, (1, 64, 6)))
    state = draft.weight("r", draft.random.normal(0.0, 0.2, (1, 64, 16)))
    draft.nodes.append(
        onnx.helper.make_node("LSTM", ["steps", weight, state], ["", "last"], hidden_size=16, name="/lstm")
    )
    draft.nodes.insert(0, onnx.helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2], name="/turn"))
    draft.weights["axes"] = np.array([0], np.int64)
    draft.node("Squeeze", "last", "axes", output="y")
    return draft.model((12, 6), "y", (16,))


def test_products_of_matrices_get_small_and_stay_close(tmp_path: Path) -> None:
    for net, data in ((mlp, pictures), (autoencoder, signals)):
        path = saved(net(), tmp_path)
        (variant,) = proposals(path, kitchen(data(40, 5)))
        notes = make(variant, path, tmp_path / "variant.onnx", kitchen(data(40, 5)), quiet)
        assert notes["whole_nodes"] == 3
        assert (tmp_path / "variant.onnx").stat().st_size < 0.35 * path.stat().st_size
        rows = data(100, 6).rows
        assert decibels(run(path, rows), run(tmp_path / "variant.onnx", rows)) > 25.0
        assert operators(onnx.load(str(tmp_path / "variant.onnx")))["MatMulInteger"] == 3


def test_features_of_different_units_are_scaled_before_anything_is_rounded(tmp_path: Path) -> None:
    path, data = saved(scaled_net(), tmp_path), Dataset(scaled_rows(100, 1))
    make(Variant("v", "int8-dynamic"), path, tmp_path / "variant.onnx", kitchen(data), quiet)
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 25.0


def test_an_lstm_has_this_kind_of_int8_only(tmp_path: Path) -> None:
    path = saved(recurrent(), tmp_path)
    data = Dataset(np.random.default_rng(1).normal(size=(50, 12, 6)).astype(np.float32))
    assert static_proposals(path, kitchen(data)) == []
    (variant,) = proposals(path, kitchen(data))
    make(variant, path, tmp_path / "variant.onnx", kitchen(data), quiet)
    assert operators(onnx.load(str(tmp_path / "variant.onnx")))["DynamicQuantizeLSTM"] == 1
    assert (tmp_path / "variant.onnx").stat().st_size < 0.5 * path.stat().st_size
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 20.0


def test_convolutions_are_left_to_who_names_them(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    given = kitchen(pictures(40, 5))
    assert proposals(path, given) == []
    (variant,) = also(path, given)
    assert variant.name == "int8-dynamic-convolutions"
    make(variant, path, tmp_path / "variant.onnx", given, quiet)
    assert operators(onnx.load(str(tmp_path / "variant.onnx")))["ConvInteger"] == 2
    rows = pictures(60, 6).rows
    assert decibels(run(path, rows), run(tmp_path / "variant.onnx", rows)) > 20.0
    assert also(saved(mlp(), tmp_path), given) == []


def test_the_same_bytes_again(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    for name in ("one", "two"):
        make(Variant("v", "int8-dynamic"), path, tmp_path / name, kitchen(pictures(40, 5)), quiet)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_only_processors_are_offered_it(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    device = Device("tensorrt", "some card", "x86_64", has_vnni=True)
    assert proposals(path, replace(kitchen(pictures(9, 5)), device=device)) == []


def test_a_model_without_weights_is_left_alone(tmp_path: Path) -> None:
    path, given = saved(weightless(), tmp_path), kitchen(signals(9, 5))
    assert proposals(path, given) == also(path, given) == []
    with pytest.raises(ModelError, match="no matrix product") as caught:
        make(Variant("v", "int8-dynamic"), path, tmp_path / "variant.onnx", given, quiet)
    assert caught.value.code == "M678"


def test_a_recipe_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path)
    with pytest.raises(ModelError, match='no "activation"') as caught:
        make(
            Variant("v", "int8-dynamic", {"activation": "u8"}),
            path,
            tmp_path / "variant.onnx",
            kitchen(pictures(9, 5)),
            quiet,
        )
    assert caught.value.code == "M679"
