"""What a request costs apart from what it reads, measured per device: the cost model decides gaps by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge_opcua.drivers.planner import Request, Shape, guessed_overhead_s

_WEIGHT: Final = 0.05
_FEWEST: Final = 20  # samples before the guess is given up
_PAUSE_NS: Final = 60_000_000_000
_RATIO: Final = 2.0


class RequestCost:
    """Overhead of the requests to one device: moving average of round trip less transfer.

    A plan that follows every sample would never be the same twice, so the figure plans are made with stays
    until the average is another by more than a factor of two, and changes at most once a minute.

    Attributes:
        planned_s: Overhead that plans are made with, seconds; None: not measured yet.
    """

    def __init__(self) -> None:
        self.planned_s: float | None = None
        self._average_s = 0.0
        self._samples = 0
        self._changed_ns = 0

    def took(self, elapsed_s: float, requests: Iterable[Request], shape: Shape) -> None:
        """Note the round trip of requests that were on the way together, seconds."""
        count, size = 0, 0.0
        for request in requests:
            count += 1
            for fragment in request.fragments:
                size += fragment.size * shape.wire_bytes(fragment.space)
        overhead_s = max(0.0, elapsed_s - size / shape.byte_rate) / max(1, count)
        self._samples += 1
        weight = max(_WEIGHT, 1 / self._samples)
        self._average_s += (overhead_s - self._average_s) * weight

    def connected(self) -> None:
        """Plan for a new connection with what is known now."""
        if self._samples >= _FEWEST:
            self.planned_s = self._average_s

    def has_changed(self, shape: Shape, now_ns: int) -> bool:
        """Return whether to plan anew, which then is taken for done."""
        if self._samples < _FEWEST or now_ns - self._changed_ns < _PAUSE_NS:
            return False
        planned_s = guessed_overhead_s(shape) if self.planned_s is None else self.planned_s
        if planned_s / _RATIO <= self._average_s <= planned_s * _RATIO:
            return False
        self.planned_s = self._average_s
        self._changed_ns = now_ns
        return True
