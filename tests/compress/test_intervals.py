"""The bounds of a loss: how often they are wrong, counted outcome by outcome, and what stays unseen."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.compress.intervals.binomial import Changed
from edge_opcua.compress.intervals.delong import midranks, ranked
from edge_opcua.compress.intervals.estimate import Estimate, needed, unseen, z_of
from edge_opcua.compress.intervals.ratio import deviation, grown
from edge_opcua.compress.intervals.tango import Turned, score

Floats = npt.NDArray[np.float64]
ORDINARY = 0.025


def chance_of_proof(samples: int, loss: float, better: float, allowed: float, level: float) -> float:
    """Return how often a loss is shown to be below another, summed over all that can turn right or wrong."""
    worse = better + loss
    most = [int(samples * share + 9.0 * math.sqrt(samples * share) + 20.0) for share in (worse, better)]
    b, c = np.meshgrid(*(np.arange(count) for count in most), indexing="ij")
    logs = np.array([math.lgamma(count + 1.0) for count in range(samples + 1)])
    rest = samples - b - c
    chance = logs[samples] - logs[b] - logs[c] - logs[rest] + rest * math.log1p(-worse - better)
    chance = (
        chance + b * math.log(worse) + (c * math.log(better) if better else np.where(c > 0, -np.inf, 0.0))
    )
    return float(np.exp(chance)[score(b, c, samples, allowed) <= -z_of(level)].sum())


def chances(samples: int, share: float) -> Floats:
    """Return how likely it is that none, one, two … of the samples are of a kind."""
    logs = np.array([math.lgamma(count + 1.0) for count in range(samples + 1)])
    k = np.arange(samples + 1)
    found: Floats = np.exp(
        logs[-1] - logs - logs[::-1] + k * math.log(share) + (samples - k) * math.log1p(-share)
    )
    return found


@pytest.mark.parametrize("samples", [764, 1000, 2000, 5000])
@pytest.mark.parametrize("level", [0.025, 0.025 / 8])
def test_a_loss_as_large_as_accepted_is_called_proved_as_seldom_as_promised(
    samples: int, level: float
) -> None:
    found = [chance_of_proof(samples, 0.005, better, 0.005, level) for better in (0.0, 1e-4, 1e-3, 1e-2)]
    assert max(found) <= 1.01 * level
    assert max(found) > 0.3 * level, "so strict that it proves nothing"


def test_a_good_variant_is_proved_with_enough_samples() -> None:
    assert chance_of_proof(5000, 0.0, 0.005, 0.005, ORDINARY) > 0.9
    assert chance_of_proof(500, 0.0, 0.005, 0.005, ORDINARY) < 0.2


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 0), (0, 4), (12, 9), (40, 0)])
def test_the_bounds_of_turned_decisions_are_where_the_score_is_that_of_the_level(
    worse: int, better: int
) -> None:
    turned = Turned(worse, better, 1000)
    assert -1.0 <= turned.low(ORDINARY) <= turned.loss <= turned.high(ORDINARY) <= 1.0
    assert float(score(worse, better, 1000, turned.high(ORDINARY))) == pytest.approx(-1.96, abs=1e-3)
    mirrored = Turned(better, worse, 1000)
    assert mirrored.low(ORDINARY) == pytest.approx(-turned.high(ORDINARY), abs=1e-9)


def test_no_change_at_all_proves_half_a_point_from_about_770_samples_on() -> None:
    nothing = Turned(0, 0, 100)
    assert nothing.high(ORDINARY) == pytest.approx(1.96**2 / (100 + 1.96**2), rel=1e-3)
    assert needed(nothing, 100, 0.005, ORDINARY) == 770
    assert needed(Changed(0, 100), 100, 0.005, ORDINARY) == 740
    assert needed(Turned(6, 0, 1000), 1000, 0.005, ORDINARY) is None


@pytest.mark.parametrize(
    "estimate", [Turned(6, 3, 1000), Turned(3, 6, 1000), Changed(2, 1000), grown(*np.ones((2, 1000)))]
)
def test_as_many_samples_as_are_said_to_be_needed_are_enough_and_hardly_more(estimate: Estimate) -> None:
    wanted = needed(estimate, 1000, 0.02, 1e-3)
    assert wanted is not None
    assert estimate.grown(wanted / 1000).high(1e-3) < 0.02
    assert estimate.grown(0.85 * wanted / 1000).high(1e-3) > 0.02


@pytest.mark.parametrize(("count", "samples"), [(0, 50), (1, 50), (7, 2000), (50, 50)])
@pytest.mark.parametrize("level", [0.025, 1e-6])
def test_the_bounds_of_changed_decisions_leave_the_level_on_both_sides(
    count: int, samples: int, level: float
) -> None:
    # Clopper and Pearson: the chance of so few (so many) is the level at the upper (lower) bound.
    changed = Changed(count, samples)
    if count < samples:
        assert chances(samples, changed.high(level))[: count + 1].sum() == pytest.approx(level, rel=1e-6)
    else:
        assert changed.high(level) == 1.0
    if count:
        assert chances(samples, changed.low(level))[count:].sum() == pytest.approx(level, rel=1e-6)
    else:
        assert changed.low(level) == 0.0


def test_the_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(3)
    is_fault = random.random(120) < 0.3
    original = np.round(random.normal(size=120) + is_fault, 1)
    variant = np.round(original + 0.3 * random.normal(size=120), 1)
    found = ranked(original, variant, is_fault)
    for scores, auc in ((original, found.original), (variant, found.variant)):
        off = scores[is_fault][:, None] - scores[~is_fault][None, :]
        assert auc == pytest.approx(((off > 0.0) + 0.5 * (off == 0.0)).mean())
    assert found.rarer == is_fault.sum()


def test_the_error_of_an_auc_is_that_of_many_repetitions() -> None:
    random = np.random.default_rng(5)
    is_fault = np.arange(300) < 100
    losses, errors = [], []
    for _ in range(400):
        original = random.normal(size=300) + 1.5 * is_fault
        found = ranked(original, original + 0.5 * random.normal(size=300), is_fault)
        losses.append(found.loss)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.1)


def test_twenty_faults_that_both_find_prove_next_to_nothing_about_the_auc() -> None:
    # Each of the 20 is above all of the 2000, with both: no variance at all, and no knowledge of the 21st.
    scores = np.r_[np.zeros(2000), np.ones(20)] + np.linspace(0.0, 0.1, 2020)
    found = ranked(scores, scores, np.arange(2020) >= 2000)
    assert (found.loss, found.error) == (0.0, 0.0)
    assert found.high(ORDINARY) == pytest.approx(unseen(20, ORDINARY))
    assert needed(found, 2020, 0.005, ORDINARY) == pytest.approx(736 * 2020 / 20, rel=0.02)


def test_a_variant_that_ruins_rare_faults_is_not_proved_by_their_absence() -> None:
    # One fault in 200 is lost, the ranks of all others do not move: the AUC falls by the half point
    # that is accepted. DeLong alone would prove it whenever none of them is among the samples.
    random = np.random.default_rng(7)
    proofs = alone = 0
    for _ in range(300):
        original = random.normal(size=1600) + 6.0 * (np.arange(1600) >= 800)
        is_lost = (np.arange(1600) >= 800) & (random.random(1600) < 0.005)
        variant = np.where(is_lost, -9.0, original)
        found = ranked(original, variant, np.arange(1600) >= 800)
        proofs += found.high(ORDINARY) < 0.005
        alone += found.loss + z_of(ORDINARY) * found.error < 0.005
    assert proofs <= 15, "2.5 % of 300 are 7.5"
    assert alone > 20


@pytest.mark.parametrize("shape", ["noise", "scale", "rare"])
def test_an_error_that_grows_by_what_is_accepted_is_seldom_called_proved(shape: str) -> None:
    random = np.random.default_rng(11)
    more, proofs = 1.02**2 - 1.0, 0
    for _ in range(400):
        error = random.normal(size=4000)
        worse = {
            "noise": error + math.sqrt(more) * random.normal(size=4000),
            "scale": 1.02 * error,
            "rare": error + 4.0 * (random.random(4000) < more / 16.0),
        }[shape]
        proofs += grown(error**2, worse**2).high(ORDINARY) < 0.02
    assert proofs <= 18, "2.5 % of 400 are 10"


def test_the_growth_of_an_error_lies_between_its_bounds_as_often_as_promised() -> None:
    random = np.random.default_rng(13)
    inside = 0
    for _ in range(400):
        error = random.normal(size=500)
        found = grown(error**2, (error + 0.5 * random.normal(size=500)) ** 2)
        inside += found.low(ORDINARY) <= math.sqrt(1.25) - 1.0 <= found.high(ORDINARY)
    assert inside >= 0.95 * 400


def test_a_variant_without_error_is_better_by_all_of_it() -> None:
    found = grown(np.array([1.0, 4.0, 9.0]), np.zeros(3))
    assert found.loss == -1.0
    assert found.high(ORDINARY) == -1.0


def test_the_deviation_is_in_the_unit_of_the_spread_and_widened_by_what_was_not_seen() -> None:
    found = deviation(np.full(1000, 1e-4))
    assert found.loss == pytest.approx(0.01)
    assert found.low(ORDINARY) == pytest.approx(0.01)
    assert found.high(ORDINARY) == pytest.approx(math.sqrt(1e-4 * (1.0 + unseen(1000, ORDINARY))))


def test_equal_values_share_their_ranks() -> None:
    np.testing.assert_array_equal(midranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])), [4.0, 1.0, 4.0, 2.0, 4.0])


def test_what_was_not_seen_may_be_as_frequent_as_the_rule_of_three_says() -> None:
    assert (1.0 - unseen(740, ORDINARY)) ** 740 == pytest.approx(ORDINARY)
    assert unseen(1000, 0.05) == pytest.approx(3.0 / 1000, rel=0.01)
