"""What counts as a change, for many items at once: :func:`deadband.changed` for columns (pure).

Values are compared as the numbers of :meth:`LiveBlock.canonical`: two of a row are equal exactly if the
values are. Numbers of integers are in the order of the integers, so that their distance is exact; those of
floats are the bits of a Double.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Scalar
from edge_opcua.opcua.services.subscription.deadband import Trigger
from edge_opcua.opcua.services.subscription.recordlog import Flags, Places

# A notification as far as the next is compared with it: canonical number, status and source ticks.
Last = tuple[int, int, int]

_LARGEST: Final = 2**64 - 1
_TOO_LARGE: Final = 2.0**64
_NO_NUMBERS: Final = [int(each) for each in Scalar if not each.is_number]
_FLOATS: Final = [int(Scalar.FLOAT), int(Scalar.DOUBLE)]


class Shown(NamedTuple):
    """What is shown of each item's row now.

    Args:
        bits: Canonical number of its value, 0 if it has none.
        status: StatusCode.
        source: Source time, in ticks; 0 if it has none.
    """

    bits: npt.NDArray[np.uint64]
    status: npt.NDArray[np.uint32]
    source: npt.NDArray[np.int64]


class Changes:
    """The filter and the last notification of each item, by its place."""

    def __init__(self) -> None:
        self._bits: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._status: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._source: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        # DataChangeFilter: by status only, by time too, and the deadband of a float and of an integer.
        self._status_only: Flags = np.zeros(0, np.bool_)
        self._timed: Flags = np.zeros(0, np.bool_)
        self._float: Flags = np.zeros(0, np.bool_)
        self._integer: Flags = np.zeros(0, np.bool_)
        self._band: npt.NDArray[np.float64] = np.zeros(0, np.float64)
        self._steps: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._any_status_only = self._any_timed = False

    def grow(self, capacity: int) -> None:
        """Make places for so many items."""
        for name, old in vars(self).items():
            if isinstance(old, np.ndarray):
                new = np.zeros(capacity, old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def set_filters(
        self, places: Places, triggers: Sequence[int], bands: Sequence[float], kinds: npt.NDArray[np.uint8]
    ) -> None:
        """Say what is a change of items.

        Args:
            places: The items.
            triggers: DataChangeTrigger of each.
            bands: Deadband of each, in engineering units; 0: none.
            kinds: Built-in type of each one's value.
        """
        trigger, band = np.array(triggers, np.intp), np.array(bands, np.float64)
        status_only = trigger == Trigger.Status
        banded = (band != 0) & ~status_only & ~np.isin(kinds, _NO_NUMBERS)
        floats = np.isin(kinds, _FLOATS)
        timed = (trigger == Trigger.StatusValueTimestamp) & (band == 0)
        self._status_only[places] = status_only
        self._timed[places] = timed
        self._any_status_only = self._any_status_only or bool(status_only.any())
        self._any_timed = self._any_timed or bool(timed.any())
        self._float[places] = banded & floats
        self._integer[places] = banded & ~floats
        self._band[places] = band
        # Integers differ by more than a band exactly if they do by more than its whole part.
        steps = np.full(len(band), _LARGEST, np.uint64)
        small = band < _TOO_LARGE
        steps[small] = band[small].astype(np.uint64)
        self._steps[places] = steps

    def note(self, places: Places, shown: Shown) -> None:
        """Remember what was just notified, of some items."""
        self._bits[places] = shown.bits[places]
        self._status[places] = shown.status[places]
        self._source[places] = shown.source[places]

    def of(self, shown: Shown) -> Flags:
        """Return of which items the sample is a notification; of one that had none yet it means nothing."""
        differing = shown.bits != self._bits
        self._within_bands(differing, shown.bits)
        if self._any_status_only:
            differing &= ~self._status_only
        if self._any_timed:
            differing |= self._timed & (shown.source != self._source)
        differing |= shown.status != self._status
        return cast("Flags", differing)

    def _within_bands(self, differing: Flags, bits: npt.NDArray[np.uint64]) -> None:
        """Take out what moved by no more than its deadband."""
        floats = (differing & self._float).nonzero()[0]
        if len(floats):
            now, last = bits[floats].view(np.float64), self._bits[floats].view(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                near = np.abs(now - last) <= self._band[floats]
            # NaN equals NaN, and is near to nothing else; what is equal does not come here.
            differing[floats] = ~near
        integers = (differing & self._integer).nonzero()[0]
        if len(integers):
            now_steps, last_steps = bits[integers], self._bits[integers]
            distance = np.maximum(now_steps, last_steps) - np.minimum(now_steps, last_steps)
            differing[integers] = distance > self._steps[integers]

    def filter_of(self, place: int) -> tuple[int, float]:
        """Return trigger and deadband of an item."""
        trigger = Trigger.StatusValue
        if self._status_only[place]:
            trigger = Trigger.Status
        elif self._timed[place]:
            trigger = Trigger.StatusValueTimestamp
        return trigger, float(self._band[place])

    def last(self, place: int) -> Last:
        """Return the last notification of an item that had one."""
        return int(self._bits[place]), int(self._status[place]), int(self._source[place])

    def restore(self, place: int, last: Last) -> None:
        """Take over what an item last notified elsewhere."""
        self._bits[place], self._status[place], self._source[place] = last
