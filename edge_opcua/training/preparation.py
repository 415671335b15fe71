"""The fitted steps of a model: what the notebook trains on, and what goes into the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.features.chain import Chain, fit_steps
from edge_opcua.training.windows import Capture, Tags, Windows


class Preparation:
    """What makes the features of a model, with everything it has learned.

    Args:
        source: What a window holds.
        steps: Tables of the steps, fitted.

    Raises:
        ModelError: A step is unknown (M600) or wrong (M601), does not fit (M602), or is not fitted (M603).
    """

    def __init__(self, source: Capture | Tags, steps: Sequence[Mapping[str, Any]] = ()) -> None:
        self.source = source
        self.steps = tuple(dict(step) for step in steps)
        if isinstance(source, Capture) and not steps:
            self.steps = ({"step": "flatten"},)
        self.chain = Chain(source.source, self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return self.chain.names

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the features in order."""
        return self.chain.units

    def features(self, windows: Windows) -> npt.NDArray[np.float32]:
        """Return the features of windows, as the server computes them.

        Args:
            windows: The windows.

        Returns:
            Shape ``(n, k)``; a row of NaN for a window in which a value is not finite.

        Raises:
            ModelError: The windows are not such as this was made for (M605).
        """
        rate_hz = self.chain.sample_rate_hz
        rows = np.empty((len(windows), len(self.names)), np.float32)
        try:
            for row, (samples, context) in zip(rows, windows, strict=True):
                self.chain.extract(samples, rate_hz, context, row)
        except ValueError as exc:
            raise ModelError(f"the windows do not fit: {exc}", code="M605") from exc
        return rows


def fit(source: Capture | Tags, steps: Sequence[Mapping[str, Any]], windows: Windows) -> Preparation:
    """Learn the numbers of declared steps from recorded windows.

    Args:
        source: What a window holds.
        steps: The steps as tables: ``{"step": "normalise", "method": "minmax"}``. A step that has its numbers
            keeps them.
        windows: Windows to learn from; use those that the model is fitted on, and no others.

    Raises:
        ModelError: As of :class:`Preparation`, or the windows do not fit (M605).
    """
    try:
        return Preparation(source, fit_steps(source.source, steps, windows))
    except ValueError as exc:
        raise ModelError(f"the windows do not fit: {exc}", code="M605") from exc
