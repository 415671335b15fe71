"""Pruning: what can be spared goes first, what is left makes up for it, and the share is what was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import activations, open_graph, weights
from edge_opcua.compress.prune.choose import choose
from edge_opcua.compress.prune.cut import unshared
from edge_opcua.compress.prune.make import make, proposals, prune
from edge_opcua.compress.prune.rank import rank
from edge_opcua.compress.prune.rules import trace
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
from tests.compress.tangled import NETS, inputs_of


def right(model: Any, data: Dataset) -> float:
    """Return the share of right answers, in percent."""
    return 100.0 * float(np.mean(run(model, data.rows).argmax(1) == data.truth))


@pytest.mark.parametrize(("net", "lost"), [(conv_net, 1.0), (residual_net, 2.0), (mlp, 5.0)])
def test_the_layers_behind_make_up_for_channels_that_went(net: Any, lost: float, tmp_path: Path) -> None:
    path, rows, unseen = saved(net(), tmp_path), pictures(300, 11).rows, pictures(1_000, 12)
    plain = prune(open_graph(path), rows, 0.4, fit=False)
    fitted = prune(open_graph(path), rows, 0.4)
    assert 0.4 <= fitted.share < 0.5
    assert right(fitted.model, unseen) > right(net(), unseen) - lost
    assert right(plain.model, unseen) < right(fitted.model, unseen) - 2.0
    assert all(each.after < each.before for each in fitted.fitted)


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("conv", "residual", "mlp")])
def test_no_tangle_of_layers_is_worse_for_the_fit(name: str, tmp_path: Path) -> None:
    model = NETS[name]()
    path, rows, unseen = saved(model, tmp_path), inputs_of(model, 300), inputs_of(model, 400)[300:]
    plain, fitted = (prune(open_graph(path), rows, 0.25, fit=fit).model for fit in (False, True))
    onnx.checker.check_model(fitted, full_check=True)
    expected = run(model, unseen)
    lost = [float(np.mean((run(made, unseen) - expected) ** 2)) for made in (plain, fitted)]
    assert lost[1] <= lost[0]
    assert lost[1] < 0.5 * float(expected.var())


def test_weights_that_two_layers_share_are_not_fitted_to_one_of_them(tmp_path: Path) -> None:
    model = NETS["shared"]()
    made = prune(open_graph(saved(model, tmp_path)), inputs_of(model, 100), 0.25)
    assert made.channels["/twice"] == made.channels["/thrice"] == (6, 8)
    assert [each.node for each in made.fitted] == ["/y"]
    assert made.unfitted == ["/twice", "/thrice"]


def test_an_autoencoder_that_is_wider_than_needed_loses_half_of_it_for_nothing(tmp_path: Path) -> None:
    made = prune(open_graph(saved(autoencoder(), tmp_path)), signals(300, 11).rows, 0.5)
    rows = signals(1_000, 12).rows
    before, after = (float(np.mean((run(each, rows) - rows) ** 2)) for each in (autoencoder(), made.model))
    assert made.weights < 0.5 * made.weights_before
    assert after < 1.02 * before


def test_channels_that_others_repeat_go_first_and_nothing_is_lost(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node("Relu", draft.dense("x", "first", 6, 8), output="a")
    draft.weights["first.weight"][5:] = draft.weights["first.weight"][:3] * 2.0
    draft.weights["first.bias"][5:] = draft.weights["first.bias"][:3] * 2.0
    model = draft.model((6,), draft.dense(at, "y", 8, 4), (4,))
    rows = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    made = prune(open_graph(saved(model, tmp_path)), rows, 0.3)
    assert made.channels == {"/first": (5, 8)}
    np.testing.assert_allclose(run(made.model, rows), run(model, rows), atol=2e-2)
    plain = prune(open_graph(saved(model, tmp_path)), rows, 0.3, fit=False)
    assert np.abs(run(plain.model, rows) - run(model, rows)).max() > 0.2


def test_the_cost_of_a_channel_is_what_the_best_fit_without_it_lacks(tmp_path: Path) -> None:
    model = unshared(open_graph(saved(mlp(), tmp_path)))
    coupling, rows = trace(model), pictures(400, 3).rows
    group, found = coupling.groups()[1], rank(model, coupling, rows, refit=True)[1]
    x = activations(model, ["act2"], rows)["act2"].astype(np.float64)
    y = x @ weights(model)["logits.weight"].T.astype(np.float64)
    y -= y.mean(0)
    gone = np.searchsorted(group, found.units[:5])
    for count in (1, 3, 5):
        left = np.delete(x, gone[:count], axis=1)
        left = left - left.mean(0)
        lacking = y - left @ np.linalg.lstsq(left, y, rcond=None)[0]
        # A ridge keeps the ranking stable; the costs of the fits without one are a little smaller.
        expected = (lacking**2).sum() / (y**2).sum()
        assert expected <= found.damage[:count].sum() <= 1.3 * expected + 1e-4


def test_without_a_fit_a_channel_is_worth_its_energy_times_the_weights_behind_it(tmp_path: Path) -> None:
    model = unshared(open_graph(saved(mlp(), tmp_path)))
    coupling, rows = trace(model), pictures(100, 3).rows
    group, found = coupling.groups()[1], rank(model, coupling, rows, refit=False)[1]
    x = activations(model, ["act2"], rows)["act2"].astype(np.float64)
    worth = (x**2).mean(0) * (weights(model)["logits.weight"].astype(np.float64) ** 2).sum(0)
    assert np.array_equal(found.units, group[np.argsort(worth)])
    np.testing.assert_allclose(found.damage, np.sort(worth) / worth.sum(), rtol=1e-6)


def test_a_larger_share_removes_what_a_smaller_one_does_and_more(tmp_path: Path) -> None:
    model = unshared(open_graph(saved(residual_net(), tmp_path)))
    coupling = trace(model)
    ranking = rank(model, coupling, pictures(60, 3).rows, refit=True)
    before: frozenset[int] = frozenset()
    for share in (0.1, 0.3, 0.5, 0.7):
        gone = choose(model, coupling, ranking, share)
        assert before < gone
        before = gone


def test_a_variant_says_what_went_and_repeats_to_the_last_byte(tmp_path: Path) -> None:
    path = saved(residual_net(channels=8, batch=1), tmp_path)
    before = path.read_bytes()
    variant = proposals(path, kitchen(pictures(80, 1)))[2]
    assert (variant.name, variant.recipe) == ("pruned-60", {"share": 0.6, "refit": True})
    notes = [
        make(variant, path, tmp_path / name, kitchen(pictures(80, 1)), quiet)
        for name in ("one.onnx", "two.onnx")
    ]
    assert notes[0] == notes[1]
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert path.read_bytes() == before
    model = onnx.load(str(tmp_path / "one.onnx"))
    onnx.checker.check_model(model, full_check=True)
    counted = sum(array.size for array in weights(model).values() if array.dtype == np.float32)
    assert notes[0]["weights"] == counted <= 0.4 * notes[0]["weights_before"]
    assert notes[0]["channels"]["/stem"] == notes[0]["channels"]["/conv2"]
    assert set(notes[0]["lacking"]) >= {"/logits"}
    assert notes[0]["unfitted"] == []


def test_a_layer_without_bias_gets_one_if_the_fit_needs_it(tmp_path: Path) -> None:
    draft = Draft(1)
    at = draft.node("Sigmoid", draft.conv("x", "one", (12, 1, 3, 3)), output="a")
    model = draft.model((1, 8, 8), draft.conv(at, "two", (3, 12, 3, 3)), (3, 8, 8))
    made = prune(open_graph(saved(model, tmp_path)), pictures(100, 1).rows, 0.3)
    node = next(node for node in made.model.graph.node if node.name == "/two")
    assert len(node.input) == 3
    rows = pictures(50, 2).rows
    lacking = run(made.model, rows) - run(model, rows)
    assert lacking.std() < 0.2 * run(model, rows).std()


def test_samples_to_train_with_are_fitted_to_as_well_but_none_twice(tmp_path: Path) -> None:
    path, variant = saved(mlp(), tmp_path), Variant("pruned", "pruned", {"share": 0.5})
    few, more = pictures(60, 1), pictures(400, 2)
    both = Dataset(np.concatenate([few.rows, more.rows]))

    def lost(name: str, training: Dataset | None) -> float:
        make(variant, path, tmp_path / name, kitchen(few, training), quiet)
        rows = pictures(500, 3).rows
        return float(np.mean((run(tmp_path / name, rows) - run(path, rows)) ** 2))

    alone = lost("alone.onnx", None)
    assert lost("more.onnx", more) < 0.9 * alone
    assert lost("both.onnx", both) < 0.9 * alone
    assert (tmp_path / "both.onnx").read_bytes() == (tmp_path / "more.onnx").read_bytes()
    assert lost("same.onnx", few) == alone


def test_what_cannot_be_pruned_is_not_proposed_and_refused(tmp_path: Path) -> None:
    draft = Draft(1)
    linear = saved(draft.model((6,), draft.dense("x", "y", 6, 2), (2,)), tmp_path)
    rows = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    assert proposals(linear, kitchen(Dataset(rows))) == []
    with pytest.raises(ModelError, match="nothing can be pruned") as caught:
        prune(open_graph(linear), rows, 0.3)
    assert caught.value.code == "M676"
    net = saved(conv_net(), tmp_path, "net.onnx")
    assert proposals(net, kitchen(pictures(19, 1))) == []
    with pytest.raises(ModelError, match="19 samples are too few") as caught:
        prune(open_graph(net), pictures(19, 1).rows, 0.3)
    assert caught.value.code == "M676"


@pytest.mark.parametrize("share", [0.995, 0.0, 1.0, float("nan")])
def test_a_share_that_would_leave_nothing_is_refused(share: float, tmp_path: Path) -> None:
    variant = Variant("pruned", "pruned", {"share": share})
    with pytest.raises(ModelError, match=r"cannot be pruned|between 0 and 1") as caught:
        make(variant, saved(conv_net(), tmp_path), tmp_path / "pruned.onnx", kitchen(pictures(40, 1)), quiet)
    assert caught.value.code == "M677"
    assert not (tmp_path / "pruned.onnx").exists()
