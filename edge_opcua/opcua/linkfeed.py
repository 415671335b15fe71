"""What the link to a device does becomes its health (NAMUR NE 107), and an event when it is lost or back."""

from __future__ import annotations

from typing import Final

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Link, is_good
from edge_opcua.opcua.blockview import BlockView, FeedCounts, refresh
from edge_opcua.opcua.events import Emit, LinkChange, link_event
from edge_opcua.opcua.plantspace import DeviceNodes
from edge_opcua.opcua.slots import assign_now
from edge_opcua.opcua.values import utc

# NAMUR NE 107 (DI DeviceHealthEnumeration), worst first.
NORMAL, FAILURE, CHECK_FUNCTION, OFF_SPEC, MAINTENANCE_REQUIRED = range(5)
_WORST_FIRST: Final = (FAILURE, CHECK_FUNCTION, OFF_SPEC, MAINTENANCE_REQUIRED, NORMAL)

_USABLE: Final = frozenset({"ONLINE", "SUSPECT", "RECOVERING", "SIMULATED"})
_NOT_YET: Final = frozenset({"", "CONNECTING"})
_CHECKED: Final = frozenset({"", "CONNECTING", "RECOVERING", "SIMULATED", "DISABLED"})
_SILENT: Final = "the process that reads this device does not answer"


def worst(healths: list[int]) -> int:
    """Return what a machine says whose devices say this."""
    return min(healths, key=_WORST_FIRST.index)


class LinkFeed:
    """One device's link: its counters, its health, and an event when it is lost or comes back."""

    def __init__(
        self, nodes: DeviceNodes, view: BlockView, emit: Emit, clock: Clock, counts: FeedCounts
    ) -> None:
        self.view = view
        self._nodes = nodes
        self._emit = emit
        self._clock = clock
        self._counts = counts
        self._usable: bool | None = None
        self._state = ""
        self.health = CHECK_FUNCTION

    def tick(self, *, assess: bool) -> bool:
        """Show what is new; returns whether anything was."""
        changed = refresh(self.view, self._counts, assess=assess)
        if changed or self._usable is None:
            self._follow()
        return changed

    def _follow(self) -> None:
        state, error = self._link()
        usable = state in _USABLE
        worth_telling = usable != self._usable and not (self._usable is None and state in _NOT_YET)
        if worth_telling:
            if self._usable is not None or not usable:
                change = LinkChange(self._nodes.device, state, self._state or "CONNECTING", usable, error)
                self._emit((link_event(change, self._nodes.node, utc(self._clock.utc_ns())),))
            self._usable = usable
        self._state = state
        self.health = self._health(state, usable=usable)
        assign_now(self._nodes.health, self.health, ua.VariantType.Int32, self._clock)

    def _link(self) -> tuple[str, str]:
        batch = self.view.batch
        if batch is None:
            return "", ""
        if batch.link is Link.UP and not is_good(int(self.view.status[batch.row("state_text")])):
            return "UNKNOWN", _SILENT
        return str(self.view.field("state_text")), str(self.view.field("last_error"))

    def _health(self, state: str, *, usable: bool) -> int:
        if state in _CHECKED:
            return CHECK_FUNCTION
        if not usable:
            return FAILURE
        return MAINTENANCE_REQUIRED if int(self.view.field("values_bad")) else NORMAL
