"""FP16: of the weights on processors, of everything on cards; what is too large for it stays in float."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.making import Device
from edge_opcua.compress.quantise.half import also, make, proposals
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import Draft, autoencoder, conv_net, mlp, pictures, run, saved, signals
from tests.compress.quantise.nets import constants, decibels, scaled_net, scaled_rows, weightless

CARD = Device("cuda", "some card", "x86_64", has_vnni=True)


def loud_net() -> Any:
    """Its second layer answers with what FP16 cannot hold, its third makes that small: "y" of 4 values."""
    draft = Draft(8)
    at = draft.node("Tanh", draft.dense("x", "soft", 4, 16), output="act1")
    at = draft.node("Relu", draft.dense(at, "loud", 16, 16), output="act2")
    draft.weights["loud.weight"] *= 1e5
    draft.dense(at, "y", 16, 4)
    draft.weights["y.weight"] *= 1e-5
    return draft.model((4,), "y", (4,))


def test_weights_alone_take_half_the_file_and_change_next_to_nothing(tmp_path: Path) -> None:
    for net, data in ((conv_net, pictures), (mlp, pictures), (autoencoder, signals)):
        path = saved(net(), tmp_path)
        (variant,) = proposals(path, kitchen(data(40, 5)))
        assert variant.name == "fp16-weights"
        make(variant, path, tmp_path / "variant.onnx", kitchen(data(40, 5)), quiet)
        assert (tmp_path / "variant.onnx").stat().st_size < 0.55 * path.stat().st_size
        rows = data(100, 6).rows
        assert decibels(run(path, rows), run(tmp_path / "variant.onnx", rows)) > 50.0


def test_a_card_is_offered_all_of_it_and_a_processor_only_if_it_is_named(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    card, processor = replace(kitchen(pictures(40, 5)), device=CARD), kitchen(pictures(40, 5))
    assert [each.name for each in proposals(path, card)] == ["fp16"]
    assert also(path, card) == []
    assert [each.name for each in also(path, processor)] == ["fp16"]
    before = list(sys.path)
    make(proposals(path, card)[0], path, tmp_path / "variant.onnx", card, quiet)
    assert sys.path == before
    graph = onnx.load(str(tmp_path / "variant.onnx")).graph
    assert {each.data_type for each in graph.initializer} <= {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [1, 1]  # float32
    rows = pictures(60, 6).rows
    assert decibels(run(path, rows), run(tmp_path / "variant.onnx", rows)) > 45.0


def test_what_fp16_cannot_hold_stays_in_float(tmp_path: Path) -> None:
    path = saved(loud_net(), tmp_path)
    data = Dataset(np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32))
    card = replace(kitchen(data), device=CARD)
    notes = make(proposals(path, card)[0], path, tmp_path / "variant.onnx", card, quiet)
    assert notes["float_nodes"] == ["/loud", "/act2", "/y"]
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 50.0
    make(Variant("w", "fp16", {"weights_only": True}), path, tmp_path / "variant.onnx", kitchen(data), quiet)
    floats = [array for array in constants(tmp_path / "variant.onnx").values() if array.dtype == np.float32]
    assert max(float(np.abs(array).max()) for array in floats) > 65_504  # the loud weights stay
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 50.0


def test_what_lies_far_from_zero_is_shifted_before_it_is_rounded(tmp_path: Path) -> None:
    path, data = saved(scaled_net(), tmp_path), Dataset(scaled_rows(100, 1))
    card = replace(kitchen(data), device=CARD)
    notes = make(Variant("v", "fp16"), path, tmp_path / "variant.onnx", card, quiet)
    assert notes["float_nodes"][:2] == ["/hidden_shift", "/hidden_scale"]
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 50.0
    make(Variant("w", "fp16", {"weights_only": True}), path, tmp_path / "variant.onnx", card, quiet)
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 60.0


def test_the_same_bytes_again(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    for recipe in ({}, {"weights_only": True}):
        for name in ("one", "two"):
            make(Variant("v", "fp16", recipe), path, tmp_path / name, kitchen(pictures(40, 5)), quiet)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_model_without_weights_is_left_alone(tmp_path: Path) -> None:
    path, given = saved(weightless(), tmp_path), kitchen(signals(9, 5))
    assert proposals(path, given) == also(path, given) == []
    for recipe in ({}, {"weights_only": True}):
        with pytest.raises(ModelError, match="no weights") as caught:
            make(Variant("v", "fp16", recipe), path, tmp_path / "variant.onnx", given, quiet)
        assert caught.value.code == "M678"


def test_a_recipe_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    with pytest.raises(ModelError, match='no "bf16"') as caught:
        make(Variant("v", "fp16", {"bf16": True}), path, tmp_path / "x", kitchen(pictures(9, 5)), quiet)
    assert caught.value.code == "M679"
