"""INT8 with calibrated ranges: small, close to the original, quiet, the same bytes again, or refused."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import open_graph
from edge_opcua.compress.making import Device
from edge_opcua.compress.quantise.equalise import equalise
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.prepare import prepare
from edge_opcua.compress.quantise.recipe import Int8
from edge_opcua.compress.quantise.static import also, make, proposals, variant_of
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import autoencoder, conv_net, mlp, pictures, residual_net, run, saved, signals
from tests.compress.quantise.nets import (
    constants,
    decibels,
    decoder,
    gemm_with_factors,
    operators,
    scaled_net,
    scaled_rows,
    sensors_net,
    sensors_rows,
    uneven_net,
    weightless,
)

VNNI = Device("cpu", "some processor", "x86_64", has_vnni=True)


def made(model: Any, folder: Path, data: Dataset, **recipe: Any) -> Path:
    """Return the file of an INT8 variant."""
    target = folder / "variant.onnx"
    make(variant_of(Int8(**recipe)), saved(model, folder), target, kitchen(data), quiet)
    return target


@pytest.mark.parametrize(("net", "data"), [(residual_net, pictures), (autoencoder, signals)])
def test_every_proposal_is_a_third_of_the_size_and_answers_nearly_the_same(
    net: Callable[[], Any], data: Callable[[int, int], Dataset], tmp_path: Path
) -> None:
    path = saved(net(), tmp_path)
    before = path.read_bytes()
    given = replace(kitchen(data(64, 5)), device=VNNI)
    found = proposals(path, given)
    assert len({each.name for each in found}) == len(found) == 10
    fresh = data(400, 6).rows
    right = run(path, fresh)
    for variant in found:
        target = tmp_path / f"{variant.name}.onnx"
        notes = make(variant, path, target, given, quiet)
        assert target.stat().st_size < 0.42 * len(before)
        assert decibels(right, run(target, fresh)) > 14.0, variant.name
        assert notes["whole_nodes"] >= 3
    assert path.read_bytes() == before


def test_the_same_recipe_makes_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    path = saved(residual_net(), tmp_path)
    script = f"""
from pathlib import Path
from edge_opcua.compress.quantise.recipe import Int8
from edge_opcua.compress.quantise.static import make, variant_of
from tests.compress.kitchens import kitchen, quiet
from tests.compress.models import pictures
recipe = Int8(calibration="percentile", equalise=True, bias_correction=True)
make(variant_of(recipe), Path({str(path)!r}), Path({str(tmp_path)!r}) / name, kitchen(pictures(60, 5)), quiet)
"""
    exec(script, {"name": "here.onnx"})
    subprocess.run(
        [sys.executable, "-c", f"name = 'there.onnx'\n{script}"],
        check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert (tmp_path / "here.onnx").read_bytes() == (tmp_path / "there.onnx").read_bytes()


def test_nothing_is_printed_logged_or_left_behind(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    handlers, filters = list(logging.getLogger().handlers), list(logging.getLogger().filters)
    for recipe in ({"calibration": "entropy", "bias_correction": True}, {"format": "qoperator"}):
        made(conv_net(opset=11), tmp_path, pictures(40, 5), **recipe)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger().filters == filters
    assert list(folder.iterdir()) == []


def test_one_unnamed_node_is_left_in_float_and_the_others_are_not(tmp_path: Path) -> None:
    model = residual_net()
    for node in model.graph.node:
        node.name = ""
    path = saved(model, tmp_path)
    name = next(node.name for node in prepare(path).graph.node if node.op_type == "Gemm")
    target = made(model, tmp_path, pictures(60, 5), exclude=(name,))
    floats = [array for array in constants(target).values() if array.dtype == np.float32 and array.ndim == 2]
    assert len(floats) == 1  # the weights of the Gemm alone
    notes = make(variant_of(Int8(exclude=(name,))), path, target, kitchen(pictures(60, 5)), quiet)
    assert notes["float_nodes"] == [name]
    assert notes["whole_nodes"] == 5


def test_what_has_no_int8_form_is_kept_as_fp16(tmp_path: Path) -> None:
    data = Dataset(np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32))
    path = saved(decoder(), tmp_path)
    first = proposals(path, kitchen(data))[0]
    notes = make(first, path, tmp_path / "variant.onnx", kitchen(data), quiet)
    assert notes["half_weights"] == 1  # of the ConvTranspose
    assert (tmp_path / "variant.onnx").stat().st_size < 0.6 * path.stat().st_size
    assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 30.0


@pytest.mark.parametrize(("net", "data"), [(conv_net, pictures), (autoencoder, signals)])
def test_a_model_of_one_sample_at_a_time_is_quantised_too(
    net: Callable[..., Any], data: Callable[[int, int], Dataset], tmp_path: Path
) -> None:
    rows = data(30, 5)
    target = made(net(batch=1), tmp_path, rows, equalise=True, bias_correction=True)
    assert decibels(run(net(batch=1), rows.rows), run(target, rows.rows)) > 25.0


def test_the_answer_is_not_rounded_to_256_steps(tmp_path: Path) -> None:
    for net, data in ((mlp, pictures), (autoencoder, signals)):
        target = made(net(), tmp_path, data(100, 5))
        answer = run(target, data(300, 6).rows)
        assert len(np.unique(answer)) > 1_000
        assert "QuantizeLinear" in operators(onnx.load(str(target)))


def test_softmax_stays_in_float(tmp_path: Path) -> None:
    graph = onnx.load(str(made(mlp(), tmp_path, pictures(100, 5)))).graph
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    makers = {name: node for node in graph.node for name in node.output}
    assert makers[softmax.input[0]].op_type == "Gemm"
    assert softmax.output[0] == graph.output[0].name


@pytest.mark.parametrize(("net", "rows"), [(scaled_net, scaled_rows), (sensors_net, sensors_rows)])
def test_features_of_different_units_are_scaled_before_anything_is_rounded(
    net: Callable[[], Any], rows: Callable[[int, int], np.ndarray], tmp_path: Path
) -> None:
    fresh, calibration = rows(200, 2), rows(200, 1)
    right = run(net(), fresh)
    target = made(net(), tmp_path, Dataset(calibration))
    assert decibels(right, run(target, fresh)) > 25.0
    model, scaled = standardise(prepare(tmp_path / "model.onnx"), calibration)
    assert scaled in (["/hidden_shift", "/hidden_scale"], ["/conv_scale"])
    assert np.allclose(run(model, fresh), right, atol=1e-4 * np.abs(right).max())  # in float the same model


def test_features_of_like_size_get_no_further_nodes(tmp_path: Path) -> None:
    for net, data in ((conv_net, pictures), (mlp, pictures), (autoencoder, signals)):
        assert standardise(prepare(saved(net(), tmp_path)), data(100, 5).rows)[1] == []


def test_factors_of_a_gemm_are_not_forgotten(tmp_path: Path) -> None:
    data = Dataset(np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32))
    target = made(gemm_with_factors(), tmp_path, data)
    assert decibels(run(gemm_with_factors(), data.rows), run(target, data.rows)) > 30.0


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_old_operators_are_brought_up_to_a_scale_per_channel(opset: int, tmp_path: Path) -> None:
    data = pictures(100, 5)
    target = made(conv_net(opset=opset), tmp_path, data, per_channel=True)
    assert decibels(run(conv_net(opset=opset), data.rows), run(target, data.rows)) > 25.0
    assert onnx.load(str(target)).opset_import[0].version >= 13


def test_a_scale_per_channel_is_one_for_each_channel(tmp_path: Path) -> None:
    weights = [
        array
        for array in constants(made(conv_net(), tmp_path, pictures(60, 5), per_channel=True)).values()
        if array.dtype == np.int8 and array.ndim == 4
    ]
    assert [int(np.abs(array).reshape(len(array), -1).max(axis=1).min()) for array in weights] == [127, 127]


def test_a_processor_that_overflows_gets_weights_of_7_bits(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    given = kitchen(pictures(60, 5))  # without VNNI
    first = proposals(path, given)[0]
    assert first.recipe["reduce_range"]
    make(first, path, tmp_path / "variant.onnx", given, quiet)
    weights = [array for array in constants(tmp_path / "variant.onnx").values() if array.dtype == np.int8]
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 64


def test_each_device_is_offered_what_it_computes_fast(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)

    def offered(provider: str, machine: str) -> list[dict[str, Any]]:
        device = Device(provider, "some processor", machine, has_vnni=True)
        given = replace(kitchen(pictures(9, 5)), device=device)
        return [dict(each.recipe) for each in proposals(path, given)]

    assert offered("cpu", "x86_64")[0]["activation"] == "u8"
    assert offered("cpu", "aarch64")[0]["activation"] == "s8"
    assert offered("cuda", "x86_64") == []
    for provider in ("tensorrt", "tensorrt_rtx"):
        found = offered(provider, "x86_64")
        assert found
        assert all(each["symmetric"] and each["per_channel"] for each in found)
        assert not any(each["integer_bias"] for each in found)


def test_symmetric_ranges_have_zero_in_the_middle_and_biases_in_float(tmp_path: Path) -> None:
    target = made(conv_net(), tmp_path, pictures(60, 5), activation="s8", symmetric=True, integer_bias=False)
    found = constants(target).values()
    assert not any(array.any() for array in found if array.dtype == np.int8 and array.ndim <= 1)
    assert not [array for array in found if array.dtype == np.int32]
    data = pictures(100, 6)
    assert decibels(run(conv_net(), data.rows), run(target, data.rows)) > 20.0


def test_a_dead_channel_and_a_dead_layer_are_quantised_without_a_word(tmp_path: Path) -> None:
    model = conv_net()
    for tensor in model.graph.initializer:
        if tensor.name == "bn1.scale":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(12, np.float32), tensor.name))
        if tensor.name == "bn1.shift":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(12, -1.0, np.float32), tensor.name))
    for recipe in ({}, {"per_channel": True}, {"calibration": "entropy", "equalise": True}):
        target = made(model, tmp_path, pictures(60, 5), **recipe)
        rows = pictures(50, 6).rows
        assert np.allclose(run(target, rows), run(model, rows), atol=0.02)


def test_corrected_biases_take_the_mean_error_off(tmp_path: Path) -> None:
    data = pictures(250, 5)
    right = run(uneven_net(), data.rows)
    plain, better = (
        run(made(uneven_net(), tmp_path, data, bias_correction=each), data.rows) - right
        for each in (False, True)
    )
    assert np.abs(better.mean(axis=0)).max() < 0.5 * np.abs(plain.mean(axis=0)).max()


def test_channels_of_like_size_are_the_same_model_to_the_last_bit(tmp_path: Path) -> None:
    rows = pictures(50, 5).rows
    for net in (uneven_net, conv_net):
        model = prepare(saved(net(), tmp_path))
        right = run(model, rows)
        assert equalise(model) > 0
        assert np.array_equal(run(model, rows), right)


def test_channels_that_are_alike_stay_as_they_are(tmp_path: Path) -> None:
    for net in (residual_net, mlp, autoencoder):
        path = saved(net(), tmp_path)
        assert equalise(prepare(path)) == 0
        assert not any(each.recipe["equalise"] for each in proposals(path, kitchen(pictures(9, 5))))
    found = proposals(saved(uneven_net(), tmp_path), kitchen(pictures(9, 5)))
    assert sum(each.recipe["equalise"] for each in found) == 2


def test_channels_of_like_size_give_back_what_a_scale_per_tensor_loses(tmp_path: Path) -> None:
    data = pictures(200, 5)
    right = run(uneven_net(), data.rows)
    found = [
        decibels(right, run(made(uneven_net(), tmp_path, data, equalise=each), data.rows))
        for each in (False, True)
    ]
    assert found[1] > found[0] + 6.0


def test_what_does_harm_on_processors_is_made_when_it_is_named(tmp_path: Path) -> None:
    path = saved(conv_net(), tmp_path)
    data = pictures(60, 5)
    names = []
    for variant in also(path, kitchen(data)):
        make(variant, path, tmp_path / "variant.onnx", kitchen(data), quiet)
        names.append(variant.name)
        assert operators(onnx.load(str(tmp_path / "variant.onnx")))["QLinearConv"] == 2
        assert decibels(run(path, data.rows), run(tmp_path / "variant.onnx", data.rows)) > 20.0
    assert names == ["qoperator-s8", "qoperator-u8"]


def test_a_model_without_weights_is_left_alone(tmp_path: Path) -> None:
    path = saved(weightless(), tmp_path)
    assert proposals(path, kitchen(pictures(9, 5))) == []
    assert also(path, kitchen(pictures(9, 5))) == []
    with pytest.raises(ModelError, match="no convolution or matrix product") as caught:
        prepare(path)
    assert caught.value.code == "M678"


def test_a_quantised_model_is_not_quantised_again(tmp_path: Path) -> None:
    target = made(conv_net(), tmp_path, pictures(60, 5))
    with pytest.raises(ModelError, match="quantised already") as caught:
        prepare(target)
    assert caught.value.code == "M678"


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"calibration": "median"}, "calibration = 'median' is unknown: minmax, percentile, entropy"),
        ({"activation": "s8", "weight": "u8"}, "no operators"),
        ({"bits": 4}, 'no "bits"'),
        ({"per_channel": 1}, "per_channel = 1 is unknown"),
        ({"exclude": "conv1"}, "exclude = 'conv1' is unknown"),
        ({"exclude": ["conv9"]}, 'no node "conv9"'),
        ({"format": "qoperator", "bias_correction": True}, "bias_correction needs"),
    ],
)
def test_a_recipe_that_nobody_knows_is_refused(recipe: dict[str, Any], words: str, tmp_path: Path) -> None:
    variant = Variant("strange", "int8-static", recipe)
    path = saved(conv_net(), tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        make(variant, path, tmp_path / "variant.onnx", kitchen(pictures(60, 5)), quiet)
    assert caught.value.code == "M679"
    assert not (tmp_path / "variant.onnx").exists()


def test_a_recipe_is_its_own_json(tmp_path: Path) -> None:
    for variant in proposals(saved(conv_net(), tmp_path), kitchen(pictures(9, 5))):
        assert dict(variant.recipe)["exclude"] == []
        assert variant_of(Int8(**{**variant.recipe, "exclude": ()})) == variant


def test_a_compact_file_keeps_the_names_of_inputs_and_answers(tmp_path: Path) -> None:
    graph = onnx.load(str(made(residual_net(), tmp_path, pictures(60, 5)))).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["x", "logits"]
    named = {name for node in graph.node for name in node.output} | {each.name for each in graph.initializer}
    assert max(len(name) for name in named - {"logits"}) <= 2
    opened = open_graph(tmp_path / "variant.onnx")
    assert len({node.name for node in opened.graph.node}) == len(opened.graph.node)
