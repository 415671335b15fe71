"""The last samples of some tags, and how far they may be believed: as far as the worst of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import (
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    status_name,
)

_SEVERITY_AT: Final = np.uint32(30)
_BAD: Final = np.uint32(2)


class TagWindow:
    """A window of samples.

    Args:
        references: What the tags are called for people, in the order of a sample.
        size: Samples of one window.

    Attributes:
        values: The samples, shape ``(size, k)``, oldest first.
    """

    def __init__(self, references: Sequence[str], size: int) -> None:
        shape = (size, len(references))
        self.values: npt.NDArray[np.float32] = np.zeros(shape, np.float32)
        self._statuses: npt.NDArray[np.uint32] = np.full(shape, GOOD, np.uint32)
        self._references = tuple(references)
        self._filled = 0

    def add(self, values: Sequence[float], statuses: Sequence[int]) -> None:
        """Take a sample; the oldest one goes.

        Args:
            values: One for each tag; what is no number although it is not Bad counts as a broken sensor.
            statuses: Effective status of each.
        """
        self._move(1)
        with np.errstate(all="ignore"):  # what is too large for float32 is no number
            self.values[-1] = values
        self._statuses[-1] = statuses
        row, bad = self.values[-1], self._statuses[-1]
        unusable = ~np.isfinite(row)
        bad[unusable & (bad >> _SEVERITY_AT < _BAD)] = BAD_SENSOR_FAILURE
        row[unusable] = 0.0
        self._filled = min(self._filled + 1, len(self.values))

    def repeat(self, count: int) -> None:
        """Fill the place of samples that were not taken in time with the last one; it is Uncertain there."""
        if not self._filled:
            return
        count = min(count, len(self.values))
        last, statuses = self.values[-1].copy(), self._statuses[-1].copy()
        statuses[statuses >> _SEVERITY_AT == 0] = UNCERTAIN_LAST_USABLE
        self._move(count)
        self.values[-count:], self._statuses[-count:] = last, statuses
        self._filled = min(self._filled + count, len(self.values))

    def worst(self) -> tuple[int, str]:
        """Return the status of the window and, if it is not Good, which tag of which sample it is."""
        size = len(self.values)
        if self._filled < size:
            return BAD_WAITING_FOR_INITIAL_DATA, f"{self._filled} of {size} samples are there"
        newest_first = self._statuses[::-1]
        severity = newest_first >> _SEVERITY_AT
        age, column = divmod(int(np.argmax(severity)), severity.shape[1])
        status = int(newest_first[age, column])
        if not severity[age, column]:
            return GOOD, ""
        when = f", {age} {'sample' if age == 1 else 'samples'} ago" if age else ""
        return status, f"{self._references[column]}: {status_name(status)}{when}"

    def _move(self, count: int) -> None:
        if count < len(self.values):
            self.values[:-count] = self.values[count:]
            self._statuses[:-count] = self._statuses[count:]
