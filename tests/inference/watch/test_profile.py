"""The reference profile: what it keeps of healthy samples, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.watch.pace import longest_hold, stride_of
from edge_opcua.inference.watch.profile import (
    FIRST_FEATURE,
    SCORE,
    ReferenceProfile,
    load_profile,
    make_profile,
)

NAMES, UNITS = ("rms", "die_temp"), ("m/s²", "°C")


def healthy(n: int = 2_000, seed: int = 3) -> ReferenceProfile:
    random = np.random.default_rng(seed)
    features = np.column_stack([random.normal(4, 0.2, n), random.normal(45, 2, n)])
    return make_profile(
        features,
        names=NAMES,
        units=UNITS,
        scores=random.gamma(4, 0.1, n),
        confidences=random.beta(20, 2, n),
        interval_s=3.3,
    )


def test_a_profile_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    made = healthy()
    digest = made.save(tmp_path / "profile.npz")
    found = load_profile(tmp_path / "profile.npz", NAMES, sha256=digest)
    assert (found.names, found.units, found.count, found.interval_s) == (NAMES, UNITS, 2_000, 3.3)
    for name in ("shares", "quantiles", "mean", "std", "stride", "hold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))


def test_a_profile_of_other_features_is_refused(tmp_path: Path) -> None:
    digest = healthy().save(tmp_path / "profile.npz")
    with pytest.raises(ModelError, match="other features") as refused:
        load_profile(tmp_path / "profile.npz", ("rms", "tonnage"), sha256=digest)
    assert refused.value.code == "M659"


def test_a_profile_that_was_exchanged_is_refused(tmp_path: Path) -> None:
    digest = healthy().save(tmp_path / "profile.npz")
    healthy(seed=4).save(tmp_path / "profile.npz")
    with pytest.raises(ModelError, match="not the file that the manifest names") as refused:
        load_profile(tmp_path / "profile.npz", NAMES, sha256=digest)
    assert refused.value.code == "M508"


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 torn", b"\x93NUMPY" + bytes(80)], ids=["none", "torn", "npy"]
)
def test_what_is_no_profile_is_refused_and_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "profile.npz").write_bytes(content)
    with pytest.raises(ModelError) as refused:
        load_profile(tmp_path / "profile.npz", NAMES)
    assert refused.value.code == "M659"


def test_a_profile_whose_quantiles_fall_is_refused(tmp_path: Path) -> None:
    made = healthy()
    made.quantiles[SCORE] = made.quantiles[SCORE][::-1].copy()
    made.save(tmp_path / "profile.npz")
    with pytest.raises(ModelError, match="do not rise"):
        load_profile(tmp_path / "profile.npz", NAMES)


def test_too_few_or_unfinished_samples_make_no_profile() -> None:
    features = np.ones((10, 2))
    with pytest.raises(ValueError, match="at least 30"):
        make_profile(features, names=NAMES, units=UNITS, scores=np.ones(10))
    features = np.full((40, 2), np.nan)
    with pytest.raises(ValueError, match="not a finite number"):
        make_profile(features, names=NAMES, units=UNITS, scores=np.ones(40))


def test_a_profile_without_confidence_says_that_it_does_not_know_it(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    made = make_profile(
        random.normal(size=(100, 2)), names=NAMES, units=UNITS, scores=random.normal(size=100)
    )
    made.save(tmp_path / "profile.npz")
    found = load_profile(tmp_path / "profile.npz", NAMES)
    assert np.isnan(found.mean[1])
    assert found.independent[1] == 0


def test_a_slow_process_has_a_long_stride_and_noise_has_none() -> None:
    # An AR(1) process with coefficient 0.98 falls below a correlation of 0.1 after ln 0.1 / ln 0.98 = 114.
    random = np.random.default_rng(5)
    slow = np.zeros(20_000)
    for at, step in enumerate(random.normal(size=19_999)):
        slow[at + 1] = 0.98 * slow[at] + step
    assert 80 < stride_of(slow) < 150
    assert stride_of(random.normal(size=5_000)) == 1
    assert stride_of(np.full(100, 3.0)) == 1


def test_the_longest_hold_is_the_longest_run_of_equal_samples() -> None:
    assert longest_hold(np.array([1.0, 1, 2, 2, 2, 3])) == 3
    assert longest_hold(np.array([1.0, 2, 3])) == 1
    assert longest_hold(np.full(7, 2.0)) == 7


def test_the_columns_are_score_confidence_and_the_features() -> None:
    made = healthy()
    assert made.columns == ("score", "confidence", "rms", "die_temp")
    assert made.quantiles.shape[0] == FIRST_FEATURE + 2
