"""The declared steps beside scipy and scikit-learn, on the same windows."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.features.chain import Chain, fit_steps
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import Feature

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

PEERS = Path(__file__).resolve().parents[1] / "peers"
PYTHON = PEERS / ".installed" / "notebook-sklearn" / "bin" / "python"
RATE_HZ = 1_000.0
ROWS = 240
RNG = np.random.default_rng(17)
SAMPLES = (RNG.normal(size=(30, 2, ROWS)) + np.linspace(0.0, 3.0, ROWS)).astype(np.float32)
CONTEXT = np.column_stack([RNG.uniform(20.0, 60.0, 30), RNG.integers(1, 5, 30)])
SOURCE = Source(
    (Feature("x", "m"), Feature("y", "m")), ROWS, RATE_HZ, (Feature("temp", "°C"), Feature("recipe", "1"))
)
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Floats]:
    if not PYTHON.exists():
        pytest.skip("no scikit-learn: tests/peers/install-notebooks sklearn")
    folder = tmp_path_factory.mktemp("oracle")
    np.savez(
        folder / "in.npz",
        samples=SAMPLES.astype(np.float64),
        rate_hz=RATE_HZ,
        features=CONTEXT[:, :1],
        names=CONTEXT[:, 1:],
    )
    done = subprocess.run(
        [PYTHON, PEERS / "steps_oracle.py", folder / "in.npz", folder / "out.npz"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "out.npz"))


def made_by(*steps: dict[str, Any]) -> Floats:
    """Return the features of all windows, shape ``(n, k)``."""
    windows = [(one.T.reshape(-1), context) for one, context in zip(SAMPLES, CONTEXT, strict=True)]
    chain = Chain(SOURCE, fit_steps(SOURCE, steps, windows))
    return np.array([chain.extract(samples, RATE_HZ, context) for samples, context in windows], np.float64)


FLAT = {"step": "flatten", "order": "channel"}
CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "linear": ({"step": "detrend", "kind": "linear"}, FLAT),
    "constant": ({"step": "detrend"}, FLAT),
    "fewer": ({"step": "resample", "rows": ROWS // 2, "method": "fourier"}, FLAT),
    "odd": ({"step": "resample", "rows": ROWS // 2 - 1, "method": "fourier"}, FLAT),
    "more": ({"step": "resample", "rows": 2 * ROWS, "method": "fourier"}, FLAT),
    "bands": ({"step": "fft_bands", "edges_hz": [0, 100, 400]},),
    "envelope": ({"step": "envelope_spectrum", "carrier_hz": [200, 400], "bands_hz": [[5, 80]]},),
    "kurtosis": ({"step": "statistics", "measures": ["kurtosis"]},),
    "skewness": ({"step": "statistics", "measures": ["skewness"]},),
    "slope": ({"step": "statistics", "measures": ["slope"]},),
    "standard": ({"step": "context", "tags": ["temp"]}, {"step": "normalise"}),
    "minmax": ({"step": "context", "tags": ["temp"]}, {"step": "normalise", "method": "minmax"}),
    "one_hot": ({"step": "context", "tags": ["recipe"]}, {"step": "one_hot", "feature": "recipe"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_gives_what_scipy_or_scikit_learn_gives(case: str, oracle: Mapping[str, Floats]) -> None:
    found = made_by(*CASES[case])
    np.testing.assert_allclose(found, oracle[case].reshape(found.shape), rtol=2e-5, atol=2e-6)
