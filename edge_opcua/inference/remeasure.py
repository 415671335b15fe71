"""Measures a model again that is refused because of what it costs: costs are learned from runs only.

A few slow moments (a machine that swaps, a debugger) would otherwise shut a model out for ever: what is not
run any more is not measured any more either. It is run again beside the requests, as best effort of the
lowest priority, with a sample it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request

ENOUGH: Final = 20
"""Runs that replace what was known."""
BURST_NS: Final = 50_000_000
"""Runs follow each other for this long, then they wait."""
PAUSE: Final = 20
"""So many times what the last burst took, nothing is run again: a twentieth of the time at most."""
LOWEST: Final = 9
_PATIENCE_NS: Final = 2_000_000_000


@dataclass(slots=True)
class _Suspect:
    """One model that is measured again."""

    samples_ns: list[int] = field(default_factory=list)
    burst_ns: int = 0
    not_before_ns: int = 0
    is_asked: bool = False


class Remeasure:
    """Makes the requests that measure models again, and takes them back; it is itself their ``tag``.

    Args:
        costs: What is believed, and put right.
    """

    def __init__(self, costs: CostTable) -> None:
        self._costs = costs
        self._suspects: dict[str, _Suspect] = {}

    def doubted(self, request: Request, now_ns: int) -> Request | None:
        """Return a run to measure with, if a request was not taken only because of what its model costs.

        Args:
            request: Was refused, or went to a cheaper variant.
            now_ns: The time.
        """
        if now_ns + self._costs.cost_ns(request.model, 1) <= request.deadline_ns:
            return None
        suspect = self._suspects.setdefault(request.model, _Suspect())
        if suspect.is_asked or now_ns < suspect.not_before_ns:
            return None
        suspect.burst_ns = 0
        return self._ask(suspect, request, now_ns)

    def took(self, request: Request, now_ns: int) -> Request | None:
        """Take one of these back that has ended, whatever its fate; returns the next one, if one follows."""
        suspect = self._suspects[request.model]
        suspect.is_asked = False
        took_ns = max(0, request.ended_ns - request.started_ns)
        suspect.burst_ns += took_ns
        if request.fate is Fate.DONE:
            suspect.samples_ns.append(took_ns)
            if len(suspect.samples_ns) == ENOUGH:
                self._costs.seed(request.model, 1, suspect.samples_ns)
                suspect.samples_ns.clear()
            elif suspect.burst_ns < BURST_NS:
                return self._ask(suspect, request, now_ns)
        suspect.not_before_ns = now_ns + max(BURST_NS, PAUSE * suspect.burst_ns)
        return None

    def gave_up(self, request: Request, now_ns: int) -> None:
        """Take one of these back that was refused: there is no time for it now."""
        suspect = self._suspects[request.model]
        suspect.is_asked = False
        suspect.not_before_ns = now_ns + BURST_NS

    def _ask(self, suspect: _Suspect, like: Request, now_ns: int) -> Request:
        suspect.is_asked = True
        until_ns = now_ns + _PATIENCE_NS + 4 * self._costs.cost_ns(like.model, 1)
        return Request(
            like.model, LaneClass.BEST_EFFORT, now_ns, until_ns, like.row, priority=LOWEST, tag=self
        )
