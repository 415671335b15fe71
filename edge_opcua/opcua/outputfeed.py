"""What becomes of an output's authority is an event: people have to see that something waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Link, is_good
from edge_opcua.opcua.blockview import BlockView, FeedCounts, notify_all
from edge_opcua.opcua.events import Emit, PlantEvent
from edge_opcua.opcua.namespaces import Ids
from edge_opcua.opcua.plantspace import OutputNodes
from edge_opcua.opcua.values import utc

__all__ = ["OutputChange", "OutputFeed", "output_event"]

# Part 5 §6.4.2: bands as in Part 9 §5.5.3 (low 1-333, medium 334-666, high 667-1000).
FAIL_SAFE_SEVERITY: Final = 800
ACK_REQUIRED_SEVERITY: Final = 700
HELD_SEVERITY: Final = 500
MANUAL_SEVERITY: Final = 400
ACTIVE_SEVERITY: Final = 200
OTHER_SEVERITY: Final = 100

UNKNOWN: Final = "UNKNOWN"
_SILENT: Final = "the process that writes this output does not answer: the PLC's own time-out acts"
# What is worth an event when it is the first that is heard of an output.
_TOLD_AT_FIRST: Final = frozenset({"FAILSAFE", "ACK_REQUIRED", "HOLD", "MANUAL", UNKNOWN})
_SEVERITIES: Final = {
    "FAILSAFE": FAIL_SAFE_SEVERITY,
    UNKNOWN: FAIL_SAFE_SEVERITY,
    "ACK_REQUIRED": ACK_REQUIRED_SEVERITY,
    "HOLD": HELD_SEVERITY,
    "MANUAL": MANUAL_SEVERITY,
    "ACTIVE": ACTIVE_SEVERITY,
}
_TYPES: Final = {
    "FAILSAFE": Ids.OUTPUT_FAIL_SAFE_EVENT_TYPE,
    UNKNOWN: Ids.OUTPUT_FAIL_SAFE_EVENT_TYPE,
    "ACK_REQUIRED": Ids.OUTPUT_ACK_REQUIRED_EVENT_TYPE,
    "ACTIVE": Ids.OUTPUT_ACTIVE_EVENT_TYPE,
}
_WORDS: Final = {
    "INHIBITED": "inhibited",
    "READY": "ready, does not act",
    "ACTIVE": "acts",
    "HOLD": "holds its last value",
    "FAILSAFE": "has fallen safe",
    "ACK_REQUIRED": "waits for an acknowledge",
    "MANUAL": "in the hands of an operator",
    UNKNOWN: "cannot be seen",
}


@dataclass(frozen=True, slots=True)
class OutputChange:
    """A change of an output's authority.

    Args:
        output: Name of the output.
        device: Name of the device that it writes to.
        state: New state.
        previous: Former state; empty if none was seen.
        fault: What makes it fall safe; empty if nothing does.
        reason: The same in words.
    """

    output: str
    device: str
    state: str
    previous: str
    fault: str = ""
    reason: str = ""


def output_event(change: OutputChange, source: ua.NodeId, time_ns: int) -> PlantEvent:
    """Return the event of a change; pure.

    Args:
        change: What changed.
        source: Object of the output.
        time_ns: When, ns UTC.
    """
    why = f" ({change.reason})" if change.reason else ""
    event = PlantEvent(
        _TYPES.get(change.state, Ids.OUTPUT_EVENT_TYPE),
        (source, change.output),
        message=f"{change.output}: {_WORDS.get(change.state, change.state)}{why}",
        severity=_SEVERITIES.get(change.state, OTHER_SEVERITY),
        time=utc(time_ns),
    )
    for name, value in (
        ("Output", change.output),
        ("Device", change.device),
        ("State", change.state),
        ("PreviousState", change.previous),
        ("Fault", change.fault),
        ("Reason", change.reason),
    ):
        event.add_property(name, value, ua.VariantType.String)
    return event


class OutputFeed:
    """One output: its rows, and an event for each change of state, in order and none left out.

    Args:
        nodes: Its object.
        view: Shows its block.
        emit: Delivers events.
        clock: Clock of the bus.
        counts: What the feed did.
    """

    def __init__(
        self, nodes: OutputNodes, view: BlockView, emit: Emit, clock: Clock, counts: FeedCounts
    ) -> None:
        self.view = view
        self.nodes = nodes
        self._emit = emit
        self._clock = clock
        self._counts = counts
        self._state: str | None = None

    def tick(self, *, assess: bool) -> None:
        """Show what is new: each batch, since a state may have come and gone between two ticks."""
        taken = False
        for batch in self.view.reader.poll():
            taken = True
            notify_all(self.view, list(self.view.take(batch)), self._counts)
            self._follow()
        if not taken and assess:
            aged = list(self.view.reassess())
            notify_all(self.view, aged, self._counts)
            if aged or self._state is None:
                self._follow()

    def _follow(self) -> None:
        state, fault, reason = self._seen()
        before, self._state = self._state, state or self._state
        if not state or state == before or (before is None and state not in _TOLD_AT_FIRST):
            return
        change = OutputChange(self.nodes.output, self.nodes.device, state, before or "", fault, reason)
        self._emit((output_event(change, self.nodes.node, self._since_ns(state)),))

    def _since_ns(self, state: str) -> int:
        """Return when the state was entered, ns UTC."""
        since_ns = 0 if state == UNKNOWN else int(self.view.field("since_ns"))
        return since_ns or self._clock.utc_ns()

    def _seen(self) -> tuple[str, str, str]:
        """Return state, fault and reason; no state before the first batch."""
        batch = self.view.batch
        if batch is None:
            return "", "", ""
        if batch.link is Link.UP and not is_good(int(self.view.status[batch.row("state")])):
            return UNKNOWN, "", _SILENT
        view = self.view
        return str(view.field("state")), str(view.field("fault")), str(view.field("reason"))
