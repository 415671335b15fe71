"""Our detectors beside those of river, on the same numbers: neither may miss what the other finds."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from edge_opcua.inference.watch.drift import DriftWatch
from edge_opcua.inference.watch.profile import make_profile

PEERS: Final = Path(__file__).parents[1] / "peers"
PYTHON: Final = PEERS / ".installed" / "river" / "bin" / "python"
HEALTHY, CHANGED, RUNS = 500, 300, 3
DETECTORS: Final = {
    "mean": ("ADWIN", "PageHinkley"),
    "variance": ("ADWIN", "PageHinkley", "KSWIN"),  # the last one takes 1 ms for each number
    "stuck": ("ADWIN", "PageHinkley"),
}

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="river is not there: tests/peers/install")


def series(kind: str, seed: int) -> np.ndarray:
    """Return healthy numbers and behind them changed ones."""
    random = np.random.default_rng(100 + seed)
    healthy, then = random.normal(size=HEALTHY), random.normal(size=CHANGED)
    changed = {
        "healthy": then,
        "mean": then + 1.0,
        "variance": then * 2.5,
        "stuck": np.full(CHANGED, 0.3),
    }
    return np.concatenate([healthy, changed[kind]]).astype(np.float32).astype(np.float64)


def ours(numbers: np.ndarray) -> list[int]:
    """Return at which places our drift detectors alarm; the reference are other numbers."""
    reference = np.random.default_rng(7).normal(size=5_000)
    profile = make_profile(reference[:, None], names=("x",), units=("",), scores=reference)
    watched = DriftWatch(profile, window=100, accepted=1.0)
    watched.set_pace(100_000)
    places, stands = [], False
    for place, value in enumerate(numbers.tolist()):
        watched.take(float("nan"), float("nan"), [value])
        found = bool(watched.findings())
        if found and not stands:
            places.append(place)
        stands = found
    return places


@lru_cache(maxsize=1)
def rivers() -> dict[tuple[str, int], dict[str, list[int]]]:
    """Return at which places river's detectors say that something has changed."""
    keys = [(kind, seed) for kind in DETECTORS for seed in range(RUNS)]
    given = json.dumps([(DETECTORS[kind], series(kind, seed).tolist()) for kind, seed in keys])
    command = [str(PYTHON), str(PEERS / "river_detectors.py")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=True)
    return dict(zip(keys, json.loads(done.stdout), strict=True))


def delays(kind: str) -> dict[str, list[int]]:
    """Return after how many changed numbers each detector alarms; CHANGED where it does not."""
    found: dict[str, list[int]] = {}
    for seed in range(RUNS):
        places = {"ours": ours(series(kind, seed)), **rivers()[kind, seed]}
        for name, all_places in places.items():
            after = [place - HEALTHY for place in all_places if place >= HEALTHY]
            found.setdefault(name, []).append(min(after, default=CHANGED))
    return found


def test_healthy_numbers_are_healthy_for_ours() -> None:
    assert [ours(series("healthy", seed)) for seed in range(10)] == [[]] * 10


def test_a_shift_of_the_mean_is_found_as_soon_as_by_river() -> None:
    found = delays("mean")
    best = min(float(np.median(found[name])) for name in DETECTORS["mean"])
    assert max(found["ours"]) < CHANGED
    assert float(np.median(found["ours"])) <= 2 * best


def test_a_change_of_the_variance_is_found_which_detectors_of_the_mean_do_not_see() -> None:
    found = delays("variance")
    assert float(np.median(found["ours"])) <= float(np.median(found["KSWIN"]))
    assert max(found["ours"]) < 200


def test_a_stuck_sensor_is_found_which_detectors_of_the_mean_may_not_see() -> None:
    found = delays("stuck")
    assert max(found["ours"]) <= 300
    assert float(np.median(found["ours"])) <= float(np.median(found["ADWIN"]))
