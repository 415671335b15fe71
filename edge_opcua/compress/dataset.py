"""What a model is made smaller with and judged by: rows it is fed with, and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Truth = Literal["none", "labels", "targets"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Some samples.

    Args:
        rows: What the model is fed with, shape ``(n, …)``: the rest is the shape of one sample without its
            batch axis.
        truth: What is true of each: labels, int64 of shape ``(n,)``; targets, float64 of shape ``(n, k)``;
            None if nobody knows.
        origin: Where they come from, for people.
    """

    rows: Rows
    truth: npt.NDArray[Any] | None = None
    origin: str = ""

    @property
    def kind(self) -> Truth:
        """What is known of the samples."""
        if self.truth is None:
            return "none"
        return "labels" if self.truth.ndim == 1 else "targets"

    def __len__(self) -> int:
        return len(self.rows)

    def some(self, which: npt.NDArray[np.intp]) -> Dataset:
        """Return the samples of these numbers, in this order."""
        truth = None if self.truth is None else self.truth[which]
        return replace(self, rows=self.rows[which], truth=truth)
