"""What scipy and scikit-learn make of the cases of a file: run in the environment of a notebook.

    python gate_oracle.py CASES.npz OUT.npz

CASES.npz holds ``beta`` (n, 3: a, b, x), ``binomial`` (n, 3: count, samples, level), ``turned`` (n, 4: worse,
better, samples, level), ``scores`` (2, m: original, variant), ``is_fault`` (m), ``errors`` (2, k: original,
variant).
"""

import sys

import numpy as np
from scipy import optimize, special, stats
from sklearn.metrics import roc_auc_score

given = np.load(sys.argv[1])


def clopper_pearson(count, samples, level):
    test = stats.binomtest(int(count), int(samples))
    return tuple(test.proportion_ci(1.0 - 2.0 * level, "exact"))


def tango(worse, better, samples, level):
    """Tango's interval from its definition, the likelihood maximised numerically under each supposed loss."""

    def score(loss):
        def against(share):
            rest = samples - worse - better
            logs = special.xlogy(worse, share + loss) + special.xlogy(better, share)
            return -(logs + special.xlogy(rest, 1.0 - 2.0 * share - loss))

        bounds = (max(0.0, -loss), (1.0 - loss) / 2.0)
        share = optimize.minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-14}).x
        return (worse - better - samples * loss) / np.sqrt(samples * (2.0 * share + loss * (1.0 - loss)))

    z, measured = stats.norm.isf(level), (worse - better) / samples
    low = optimize.brentq(lambda loss: score(loss) - z, -0.99, measured - 1e-9)
    return low, optimize.brentq(lambda loss: score(loss) + z, measured + 1e-9, 0.99)


def delong(scores, is_fault):
    """Both AUCs and the standard error of their difference, from all pairs as in the paper of 1988."""
    off = scores[:, is_fault][:, :, None] - scores[:, ~is_fault][:, None, :]
    psi = (off > 0.0) + 0.5 * (off == 0.0)
    faults, others = np.cov(psi.mean(axis=2)), np.cov(psi.mean(axis=1))
    covariance = faults / is_fault.sum() + others / (~is_fault).sum()
    return np.sqrt(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])


def log_ratio(original, variant, axis=-1):
    return 0.5 * np.log(np.mean(variant**2, axis=axis) / np.mean(original**2, axis=axis))


interval = stats.bootstrap(
    tuple(given["errors"]), log_ratio, paired=True, vectorized=True, n_resamples=4999, method="BCa", rng=1
)
np.savez(
    sys.argv[2],
    beta=[special.betainc(a, b, x) for a, b, x in given["beta"]],
    binomial=[clopper_pearson(*case) for case in given["binomial"]],
    turned=[tango(*case) for case in given["turned"]],
    auc=[roc_auc_score(given["is_fault"], scores) for scores in given["scores"]],
    auc_error=delong(given["scores"], given["is_fault"]),
    ratio=np.exp(interval.confidence_interval) - 1.0,
    z=stats.norm.isf(given["binomial"][:, 2]),
)
