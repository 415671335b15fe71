"""What a model's inputs and answers looked like when it was trained: what drift is held against.

The profile is a ``.npz`` file beside the model. It keeps no sample, only quantiles of each column and how
fast the column moves: two samples that follow each other tell little that is new when the process is slow,
and a detector that counts them as two raises false alarms.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.inference.npzfile import read_arrays
from edge_opcua.inference.watch.pace import longest_hold, stride_of

FORMAT: Final = 1
SCORE: Final = 0
CONFIDENCE: Final = 1
FIRST_FEATURE: Final = 2
"""Columns of a profile: the score, the confidence, and after them the features in the model's order."""

FEWEST: Final = 30
"""Samples from which on a profile says anything."""
MAX_BYTES: Final = 16 * 2**20
MOST_BYTES: Final = 64 * 2**20
"""Of what is in the file."""

Floats = npt.NDArray[np.float64]

_SHARES: Final = np.concatenate(([0.0, 0.001, 0.005], np.arange(1, 100) / 100, [0.995, 0.999, 1.0]))
_ARRAYS: Final = ("shares", "quantiles", "mean", "std", "stride", "hold", "count", "interval_s")


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceProfile:
    """The distribution of a model's score, confidence and features over what it was trained on.

    Args:
        names: Names of the features.
        units: Their units.
        shares: Shares for which quantiles are kept, rising from 0 to 1, shape ``(q,)``.
        quantiles: Quantiles, shape ``(2 + k, q)``; NaN where a column is not known.
        mean: Mean of each column, shape ``(2 + k,)``.
        std: Standard deviation of each column, shape ``(2 + k,)``.
        stride: Samples after which a column has forgotten where it was, shape ``(2 + k,)``, at least 1.
        hold: Longest run of samples in which a column did not move at all, shape ``(2 + k,)``.
        count: Samples it was made of.
        interval_s: Usual time between two of them, s; NaN if nobody said it.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    shares: Floats
    quantiles: Floats
    mean: Floats
    std: Floats
    stride: npt.NDArray[np.int64]
    hold: npt.NDArray[np.int64]
    count: int
    interval_s: float = float("nan")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return ("score", "confidence", *self.names)

    @property
    def independent(self) -> Floats:
        """Samples of each column that tell something new, shape ``(2 + k,)``."""
        known = np.isfinite(self.mean)
        return np.where(known, self.count / np.maximum(self.stride, 1), 0.0)

    def save(self, path: Path) -> str:
        """Write the file and return its SHA-256, for ``[profile]`` of the manifest."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        with path.open("wb") as stream:
            np.savez_compressed(
                stream,
                format=FORMAT,
                names=np.array(self.names, str),
                units=np.array(self.units, str),
                **arrays,
            )
        return hashlib.sha256(path.read_bytes()).hexdigest()


def make_profile(
    features: npt.ArrayLike,
    *,
    names: Sequence[str],
    units: Sequence[str],
    scores: npt.ArrayLike,
    confidences: npt.ArrayLike | None = None,
    interval_s: float | None = None,
) -> ReferenceProfile:
    """Return the profile of healthy samples; best of some that the model was *not* fitted on.

    Args:
        features: What the model was given, shape ``(n, k)``, in the order of time: the profile learns from it
            how fast each feature moves.
        names: Names of the features, in the order of the manifest.
        units: Their units.
        scores: What the model answered, shape ``(n,)``.
        confidences: How sure it was, shape ``(n,)``; None if it does not say.
        interval_s: Usual time between two samples, s.

    Raises:
        ValueError: Shapes do not fit, there are fewer than 30 samples, or a feature is not finite.
    """
    rows = np.atleast_2d(_as_served(features))
    n, k = rows.shape
    if n < FEWEST:
        raise ValueError(f"a profile needs at least {FEWEST} samples, there are {n}")
    if not len(names) == len(units) == k:
        raise ValueError(f"{k} features have {len(names)} names and {len(units)} units")
    answered = [_as_served(scores).reshape(-1)]
    answered.append(np.full(n, np.nan) if confidences is None else _as_served(confidences).reshape(-1))
    if any(len(column) != n for column in answered):
        raise ValueError(
            f"there are {n} samples, {[len(column) for column in answered]} scores and confidences"
        )
    if not (np.isfinite(rows).all() and np.isfinite(answered[SCORE]).all()):
        raise ValueError("a feature or a score is not a finite number")
    columns = np.column_stack([*answered, rows])
    return ReferenceProfile(
        tuple(names),
        tuple(units),
        _SHARES.copy(),
        np.quantile(columns, _SHARES, axis=0).T,
        columns.mean(axis=0),
        columns.std(axis=0, ddof=1),
        np.array([stride_of(column) for column in columns.T], np.int64),
        np.array([longest_hold(column) for column in columns.T], np.int64),
        n,
        float("nan") if interval_s is None else float(interval_s),
    )


def load_profile(path: Path, names: Sequence[str], *, sha256: str = "") -> ReferenceProfile:
    """Read a profile.

    Args:
        path: The file.
        names: The features of the model, which must be those of the profile.
        sha256: Its hash as the manifest has it; empty is not checked.

    Raises:
        ModelError: It is missing (M507), has another hash (M508), or is no profile of this model (M659).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES} bytes", code="M659")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", code="M507") from None
    except OSError as exc:
        raise ModelError(f"{path.name} cannot be read: {exc}", code="M659") from exc
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path.name} is not the file that the manifest names", code="M508")
    try:
        found = _read(content)
    except (OSError, ValueError, TypeError, OverflowError) as exc:
        raise ModelError(f"{path.name} is not a reference profile: {exc}", code="M659") from exc
    if found.names != tuple(names):
        raise ModelError(
            f"{path.name} has other features than the model: {', '.join(found.names)}", code="M659"
        )
    return found


def _as_served(values: npt.ArrayLike) -> Floats:
    """Return values as the lane will see them: rounded to 32 bits, so that a set-point equals itself."""
    return np.asarray(values, np.float32).astype(np.float64)


def _read(content: bytes) -> ReferenceProfile:
    arrays = read_arrays(io.BytesIO(content), ("format", "names", "units", *_ARRAYS), most_bytes=MOST_BYTES)
    if int(arrays["format"]) != FORMAT:
        raise ValueError(f"format {int(arrays['format'])}, this program reads {FORMAT}")
    names = tuple(str(name) for name in arrays["names"])
    units = tuple(str(unit) for unit in arrays["units"])
    columns, shares = FIRST_FEATURE + len(names), np.asarray(arrays["shares"], np.float64)
    if shares.ndim != 1 or len(shares) < 2 or not (np.diff(shares) > 0).all():
        raise ValueError("its shares do not rise")
    wanted = {"quantiles": (columns, len(shares)), "mean": (columns,), "std": (columns,)}
    wanted |= {"stride": (columns,), "hold": (columns,), "count": (), "interval_s": ()}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, not {shape}")
    quantiles = np.asarray(arrays["quantiles"], np.float64)
    if not np.isfinite(np.delete(quantiles, CONFIDENCE, axis=0)).all() or (np.diff(quantiles) < 0).any():
        raise ValueError("its quantiles do not rise")
    for name in ("mean", "std"):
        if not np.isfinite(np.delete(arrays[name], CONFIDENCE)).all():
            raise ValueError(f"{name} is not a finite number")
    if (arrays["std"] < 0).any():
        raise ValueError("a standard deviation is below 0")
    return ReferenceProfile(
        names,
        units,
        shares,
        quantiles,
        np.asarray(arrays["mean"], np.float64),
        np.asarray(arrays["std"], np.float64),
        np.maximum(np.asarray(arrays["stride"], np.int64), 1),
        np.asarray(arrays["hold"], np.int64),
        int(arrays["count"]),
        float(arrays["interval_s"]),
    )
