"""Faster, as fast, slower: the burden of proof lies with the variant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.compress.measure.ratio import ROUNDS, Ratios, ratios, speed

Rounds = list[npt.NDArray[np.float64]]


def rounds(
    factor: float, *, between: float = 0.003, tail: float = 1.0, seed: int = 1, runs: int = 20
) -> tuple[Rounds, Rounds]:
    """Return times of an original of 100 µs and of a variant that takes ``factor`` times as long.

    Args:
        factor: How many times as long.
        between: How much that differs from one load to the next, as a share.
        tail: How many times as long the longest 3 % of the variant's runs take.
        seed: Of the noise.
        runs: Of each in a block.
    """
    random = np.random.default_rng(seed)

    def times(middle: float, tail: float) -> npt.NDArray[np.float64]:
        drift = np.linspace(1.0, 1.6, 30)[:, None]  # the box is slowed down meanwhile, for both
        found = middle * drift * random.lognormal(0.0, 0.03, (30, runs))
        found[random.uniform(size=found.shape) < 0.03] *= tail
        return found

    load = random.normal(0.0, between, ROUNDS)
    originals = [times(100.0, 1.0) for _ in range(ROUNDS)]
    return originals, [times(100.0 * factor * np.exp(each), tail) for each in load]


def found(factor: float, **noise: float) -> Ratios:
    return ratios(*rounds(factor, **noise))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.25, "faster"), (0.95, "faster"), (1.0, "as fast"), (1.05, "slower"), (4.6, "slower")],
)
def test_the_verdict_follows_the_ratio(factor: float, verdict: str) -> None:
    result = found(factor)
    assert speed(result) == verdict
    assert result.low < factor < result.high
    assert result.ratio == pytest.approx(factor, rel=0.01)
    assert result.p50 / result.original_p50 == pytest.approx(result.ratio, rel=0.01)
    assert result.p99 / result.original_p99 == pytest.approx(result.p99_ratio)


def test_what_differs_from_load_to_load_is_not_called_faster() -> None:
    result = found(0.94, between=0.08)
    assert result.low < 1.0 < result.high
    assert speed(result) != "faster"


def test_a_longer_tail_makes_a_faster_median_slower() -> None:
    result = found(0.8, tail=3.0)
    assert result.high < 0.9
    assert result.p99_low > 1.1
    assert speed(result) == "slower"


def test_of_few_runs_no_tail_is_believed() -> None:
    originals, variants = rounds(0.8, tail=3.0)
    result = ratios([each[:4] for each in originals], [each[:4] for each in variants])
    assert (result.p99_low, result.p99_high) == (0.0, np.inf)
    assert result.runs == ROUNDS * 4 * 20
    assert speed(result) == "faster"


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        result = ratios(*rounds(1.0, between=0.01, seed=seed, runs=4))
        covered += result.low <= 1.0 <= result.high
    assert 0.90 <= covered / 200 <= 0.99
