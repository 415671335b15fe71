"""The bounds of the gate beside scipy and scikit-learn, on the same cases."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.compress.intervals.binomial import Changed, beta_share
from edge_opcua.compress.intervals.delong import ranked
from edge_opcua.compress.intervals.estimate import z_of
from edge_opcua.compress.intervals.ratio import grown
from edge_opcua.compress.intervals.tango import Turned

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PEERS = Path(__file__).resolve().parents[1] / "peers"
PYTHON = PEERS / ".installed" / "notebook-sklearn" / "bin" / "python"
Floats = npt.NDArray[np.float64]
RNG = np.random.default_rng(41)
BETA = [(0.5, 0.5, 0.2), (1, 740, 0.005), (12, 1989, 0.006), (500, 500, 0.51), (20_000, 80_000, 0.2003)]
BINOMIAL = [(0, 740, 0.025), (1, 50, 0.025), (7, 2000, 0.05 / 2**9), (37, 1000, 1e-7), (50, 50, 0.025)]
TURNED = [(1, 0, 800, 0.025), (9, 4, 2000, 0.025), (4, 9, 2000, 0.05 / 2**7), (160, 150, 30_000, 0.025)]
IS_FAULT = np.arange(500) % 4 == 0
SCORE = np.round(RNG.normal(size=500) + IS_FAULT, 1)  # with equal values among them
SCORES = np.stack([SCORE, SCORE + np.round(0.3 * RNG.normal(size=500), 1)])
ERROR = RNG.normal(size=1500)
ERRORS = np.stack([ERROR, 1.01 * ERROR + 0.2 * RNG.normal(size=1500)])


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    if not PYTHON.exists():
        pytest.skip("no scikit-learn: tests/peers/install-notebooks sklearn")
    folder = tmp_path_factory.mktemp("oracle")
    cases = {"beta": BETA, "binomial": BINOMIAL, "turned": TURNED}
    np.savez(folder / "in.npz", scores=SCORES, is_fault=IS_FAULT, errors=ERRORS, **cases)  # type: ignore[arg-type]
    done = subprocess.run(
        [PYTHON, PEERS / "gate_oracle.py", folder / "in.npz", folder / "out.npz"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "out.npz"))


def test_the_incomplete_beta_function_and_normal_quantiles_are_scipys(oracle: Mapping[str, Floats]) -> None:
    np.testing.assert_allclose([beta_share(x, a, b) for a, b, x in BETA], oracle["beta"], rtol=1e-7)
    np.testing.assert_allclose([z_of(level) for _, _, level in BINOMIAL], oracle["z"], rtol=1e-9)


def test_the_bounds_of_changed_decisions_are_those_of_scipy(oracle: Mapping[str, Floats]) -> None:
    found = [(Changed(c, n).low(level), Changed(c, n).high(level)) for c, n, level in BINOMIAL]
    np.testing.assert_allclose(found, oracle["binomial"], rtol=1e-6)


def test_the_bounds_of_turned_decisions_are_tangos_with_the_likelihood_maximised_numerically(
    oracle: Mapping[str, Floats],
) -> None:
    found = [(Turned(b, c, n).low(level), Turned(b, c, n).high(level)) for b, c, n, level in TURNED]
    np.testing.assert_allclose(found, oracle["turned"], rtol=1e-4)


def test_aucs_are_those_of_scikit_learn_and_their_error_is_that_of_all_pairs(
    oracle: Mapping[str, Floats],
) -> None:
    found = ranked(SCORES[0], SCORES[1], IS_FAULT)
    np.testing.assert_allclose([found.original, found.variant], oracle["auc"], rtol=1e-12)
    assert found.error == pytest.approx(float(oracle["auc_error"]), rel=1e-9)


def test_the_growth_of_an_error_has_the_bounds_of_a_bootstrap_or_wider_ones(
    oracle: Mapping[str, Floats],
) -> None:
    found, (low, high) = grown(ERRORS[0] ** 2, ERRORS[1] ** 2), oracle["ratio"]
    assert found.loss == pytest.approx((low + high) / 2.0, abs=0.1 * (high - low))
    spread = (1.0 + found.loss) * z_of(0.025) * found.error
    assert 2.0 * spread == pytest.approx(high - low, rel=0.05)
    assert found.low(0.025) < low < high < found.high(0.025)
