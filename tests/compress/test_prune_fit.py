"""The fit of a layer: exact where the samples allow, careful where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_opcua.compress.prune.fit import STRENGTHS, Moments, fit
from edge_opcua.compress.prune.patches import patches
from tests.compress.models import Draft, run


def moments(x: Any, r: Any) -> Moments:
    made = Moments(x.shape[1], r.shape[1])
    for at in range(0, len(x), 7):
        made.add(x[at : at + 7], r[at : at + 7])
    return made


def test_what_follows_from_the_inputs_is_found_to_the_last_digits() -> None:
    random = np.random.default_rng(1)
    x, true, shift = random.normal(2.0, 1.0, (200, 6)), random.normal(size=(6, 3)), np.array([1.0, -2.0, 3.0])
    r = x @ true + shift
    found = fit(moments(x[:150], r[:150]), moments(x[150:], r[150:]), with_bias=True)
    np.testing.assert_allclose(found.correction, true, atol=1e-3)
    np.testing.assert_allclose(found.shift, shift, atol=1e-2)
    assert found.after < 1e-6 * found.before


def test_the_fit_is_the_ridge_regression_of_all_samples_with_the_strength_that_served_the_others_best() -> (
    None
):
    random = np.random.default_rng(2)
    x = random.normal(size=(60, 40))
    r = x @ random.normal(size=(40, 2)) * 0.2 + random.normal(size=(60, 2))
    found = fit(moments(x[:48], r[:48]), moments(x[48:], r[48:]), with_bias=True)
    best = (np.inf, 0.0)
    for strength in STRENGTHS:
        solved, shift = ridge(x[:48], r[:48], strength)
        best = min(best, (float(((r[48:] - x[48:] @ solved - shift) ** 2).sum() / 12), strength))
    solved, shift = ridge(x, r, best[1])
    np.testing.assert_allclose(found.correction, solved, atol=1e-6)
    np.testing.assert_allclose(found.shift, shift, atol=1e-6)
    assert found.after == pytest.approx(best[0])


def ridge(x: Any, r: Any, strength: Any) -> Any:
    """Return ridge regression with an intercept, by the normal equations."""
    centred = x - x.mean(0)
    gram = centred.T @ centred
    gram += strength * np.trace(gram) / len(gram) * np.eye(len(gram))
    solved = np.linalg.solve(gram, centred.T @ (r - r.mean(0)))
    return solved, r.mean(0) - x.mean(0) @ solved


def test_a_fit_too_wide_to_be_decomposed_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    x = random.normal(1.0, 1.0, size=(300, 30))
    r = x @ random.normal(size=(30, 4)) + random.normal(0.0, 3.0, size=(300, 4))
    folds = moments(x[:240], r[:240]), moments(x[240:], r[240:])
    decomposed = fit(*folds, with_bias=True)
    monkeypatch.setattr("edge_opcua.compress.prune.fit.DECOMPOSED", 29)
    solved = fit(*folds, with_bias=True)
    np.testing.assert_allclose(solved.correction, decomposed.correction, atol=0.06)
    np.testing.assert_allclose(solved.shift, decomposed.shift, atol=0.2)
    assert solved.after == pytest.approx(decomposed.after, rel=0.01)


def test_noise_is_not_learnt() -> None:
    random = np.random.default_rng(3)
    x, r = random.normal(size=(50, 45)), random.normal(size=(50, 4))
    found = fit(moments(x[:40], r[:40]), moments(x[40:], r[40:]), with_bias=True)
    assert found.after <= found.before
    careless, _ = ridge(x, r, 1e-9)
    assert np.abs(found.correction).max() < 0.2 * np.abs(careless).max()


def test_nothing_changes_where_nothing_helps_and_no_bias_where_there_is_none() -> None:
    random = np.random.default_rng(4)
    x, r = random.normal(size=(50, 3)), np.ones((50, 2))
    found = fit(moments(x[:40], r[:40]), moments(x[40:], -9.0 * r[40:]), with_bias=True)
    assert not found.correction.any()
    assert not found.shift.any()
    assert found.after == found.before
    assert not fit(moments(x[:40], r[:40]), moments(x[40:], r[40:]), with_bias=False).shift.any()


@pytest.mark.parametrize(
    ("kernel", "given"),
    [
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 3]}),
        ((3, 3), {"dilations": [2, 1], "strides": [1, 2]}),
        ((4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
        ((4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
        ((2, 2), {"auto_pad": "VALID"}),
        ((5,), {"pads": [2, 2], "strides": [2]}),
        ((2, 2, 2), {"strides": [1, 2, 1]}),
    ],
)
def test_patches_times_weights_are_what_the_convolution_answers(kernel: Any, given: dict[str, Any]) -> None:
    draft = Draft(1)
    weight = draft.he("weight", 4, 3, *kernel)
    draft.node("Conv", "x", weight, output="y", **given)
    lengths = (9, 10, 6)[: len(kernel)]
    model = draft.model((3, *lengths), "y", (4, *("abc"[: len(kernel)])))
    rows = np.random.default_rng(1).normal(size=(5, 3, *lengths)).astype(np.float32)
    expected = run(model, rows).reshape(5, 4, -1)
    places = np.arange(expected.shape[2])[::3]
    attributes = {name: value.encode() if isinstance(value, str) else value for name, value in given.items()}
    table = patches(rows, attributes, kernel, places)
    found = table @ draft.weights["weight"].reshape(4, -1).T
    np.testing.assert_allclose(found, np.moveaxis(expected[:, :, places], 1, 2), rtol=1e-4, atol=1e-5)
