"""The least-squares fit of a layer, in closed form, as close to the weights it had as the samples allow.

With what the layer takes now, x, and what it lacks of what it should answer, r, the correction is
``(X'X + λ)⁻¹ X'R``: ridge regression towards the weights that are there. How far the samples are followed (λ)
is chosen by the error on every fifth of them, which the correction was not computed from.

Source:
    He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, §3.1
    (reconstruction of the next layer); Hoerl, Kennard, Ridge Regression, Technometrics 12, 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STRENGTHS: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""λ as shares of the mean energy of a column of X; without any correction is compared with, too."""
DECOMPOSED: Final = 1_500
"""Columns up to which the matrix is decomposed once for all λ; beyond, it is solved for some of them."""


@dataclass(slots=True)
class Moments:
    """Sums over rows that all of the fit follows from.

    Args:
        inputs: Number of columns of X.
        outputs: Number of columns of R.
    """

    inputs: int
    outputs: int
    rows: int = 0
    xx: Any = field(init=False)
    xr: Any = field(init=False)
    x: Any = field(init=False)
    r: Any = field(init=False)
    rr: float = 0.0

    def __post_init__(self) -> None:
        self.xx = np.zeros((self.inputs, self.inputs))
        self.xr = np.zeros((self.inputs, self.outputs))
        self.x, self.r = np.zeros(self.inputs), np.zeros(self.outputs)

    def add(self, x: Floats, r: Floats) -> None:
        """Add rows: what the layer takes, shape ``(n, inputs)``, and what it lacks, ``(n, outputs)``."""
        self.rows += len(x)
        self.xx += x.T @ x
        self.xr += x.T @ r
        self.x += x.sum(0)
        self.r += r.sum(0)
        self.rr += float((r * r).sum())

    def with_(self, other: Moments) -> Moments:
        """Return the sums over the rows of both."""
        both = Moments(self.inputs, self.outputs, self.rows + other.rows)
        both.xx, both.xr = self.xx + other.xx, self.xr + other.xr
        both.x, both.r, both.rr = self.x + other.x, self.r + other.r, self.rr + other.rr
        return both

    def error(self, correction: Floats, shift: Floats) -> float:
        """Return the sum of squares that these rows still lack after a correction of weights and bias."""
        fitted = np.einsum("io,ij,jo->", correction, self.xx, correction, optimize=True)
        crossed = float((correction * self.xr).sum()) + float(shift @ self.r)
        moved = 2.0 * float(shift @ (self.x @ correction)) + self.rows * float(shift @ shift)
        return self.rr - 2.0 * crossed + float(fitted) + moved


@dataclass(frozen=True, slots=True)
class Fit:
    """What a fit came to.

    Args:
        correction: To be added to the weights, shape ``(inputs, outputs)``.
        shift: To be added to the bias.
        before: Mean square that was lacking, on the samples left out.
        after: The same with the correction that was computed without them.
    """

    correction: Floats
    shift: Floats
    before: float
    after: float


def fit(seen: Moments, left_out: Moments, *, with_bias: bool) -> Fit:
    """Return the correction of a layer.

    Args:
        seen: Samples to fit to.
        left_out: Samples to choose λ by; the correction is then computed of both.
        with_bias: Whether the layer has a bias that may change.
    """
    nothing = np.zeros((seen.inputs, seen.outputs)), np.zeros(seen.outputs)
    rows = max(left_out.rows, 1)
    before = left_out.error(*nothing) / rows
    best, strength = before, None
    solve = _Ridge(seen, with_bias=with_bias)
    for candidate in STRENGTHS if seen.inputs <= DECOMPOSED else STRENGTHS[::2]:
        error = left_out.error(*solve(candidate)) / rows
        if error < best:
            best, strength = error, candidate
    if strength is None:
        return Fit(*nothing, before, before)
    return Fit(*_Ridge(seen.with_(left_out), with_bias=with_bias)(strength), before, best)


class _Ridge:
    """Ridge regressions of several strengths on the same rows.

    Args:
        moments: The rows.
        with_bias: Whether there is an intercept.
    """

    def __init__(self, moments: Moments, *, with_bias: bool) -> None:
        rows = max(moments.rows, 1)
        self._mean_x = moments.x / rows if with_bias else np.zeros(moments.inputs)
        self._mean_r = moments.r / rows if with_bias else np.zeros(moments.outputs)
        self._gram = moments.xx - rows * np.outer(self._mean_x, self._mean_x)
        self._aim = moments.xr - rows * np.outer(self._mean_x, self._mean_r)
        self._unit = max(float(np.trace(self._gram)) / moments.inputs, 1e-12)
        if moments.inputs <= DECOMPOSED:
            values, self._vectors = np.linalg.eigh(self._gram)
            self._values = np.maximum(values, 0.0)
            self._aim = self._vectors.T @ self._aim

    def __call__(self, strength: float) -> tuple[Floats, Floats]:
        if len(self._gram) <= DECOMPOSED:
            correction = self._vectors @ (self._aim / (self._values + strength * self._unit)[:, None])
        else:
            raised = self._gram + strength * self._unit * np.eye(len(self._gram))
            correction = np.linalg.solve(raised, self._aim)
        return correction, self._mean_r - self._mean_x @ correction
