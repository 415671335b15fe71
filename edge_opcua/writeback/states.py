"""The authority of one output over its PLC, as a table; pure.

========================================== =========================================================
INHIBITED                                  since the start nothing has proved that the chain works
READY                                      it works, and nobody has granted authority
ACTIVE                                     the PLC gets results
FAILSAFE                                   something failed: heartbeat stopped, safe values written
ACK_REQUIRED                               it works again, and somebody has to say so
HOLD                                       something is missing that may come back: the last value stays
MANUAL                                     a person has taken over
========================================== =========================================================

The only ways into ACTIVE lead through READY or back from HOLD, where nothing was lost yet. The only ways out
of FAILSAFE lead through an acknowledge, unless the output is configured to need none.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Who rules over the output."""

    INHIBITED = 0
    READY = 1
    ACTIVE = 2
    FAILSAFE = 3
    ACK_REQUIRED = 4
    HOLD = 5
    MANUAL = 6


class Trigger(IntEnum):
    """What moves authority."""

    PROVEN = 0  # the whole chain has worked once, up to a Good result
    GRANTED = 1  # the plant lets us
    REVOKED = 2  # it no longer does
    FAULT = 3  # anything the output depends on has failed
    CLEARED = 4  # nothing has been failing for a while
    PLC_LATCHED = 5  # the PLC does not trust us until somebody acknowledges
    ACKNOWLEDGED = 6  # somebody did
    MISSING = 7  # something fails that may come back by itself, and there is time to wait for it
    MENDED = 8  # it came back in time
    RESTARTED = 9  # nothing has been failing for a while, and nobody has to acknowledge
    TAKEN = 10  # a person takes over
    RETURNED = 11  # and gives the output back
    OWED = 12  # the person took over after a fault that nobody has acknowledged


# Default refuse: what is not here changes nothing.
TABLE: Final[dict[tuple[State, Trigger], State]] = {
    (State.INHIBITED, Trigger.PROVEN): State.READY,
    (State.READY, Trigger.FAULT): State.FAILSAFE,
    (State.READY, Trigger.PLC_LATCHED): State.ACK_REQUIRED,
    (State.READY, Trigger.OWED): State.ACK_REQUIRED,
    (State.READY, Trigger.GRANTED): State.ACTIVE,
    (State.ACTIVE, Trigger.MISSING): State.HOLD,
    (State.ACTIVE, Trigger.FAULT): State.FAILSAFE,
    (State.ACTIVE, Trigger.PLC_LATCHED): State.ACK_REQUIRED,
    (State.ACTIVE, Trigger.REVOKED): State.READY,
    (State.HOLD, Trigger.MENDED): State.ACTIVE,
    (State.HOLD, Trigger.FAULT): State.FAILSAFE,
    (State.HOLD, Trigger.PLC_LATCHED): State.ACK_REQUIRED,
    (State.HOLD, Trigger.REVOKED): State.READY,
    (State.FAILSAFE, Trigger.CLEARED): State.ACK_REQUIRED,
    (State.FAILSAFE, Trigger.RESTARTED): State.READY,
    (State.ACK_REQUIRED, Trigger.FAULT): State.FAILSAFE,
    (State.ACK_REQUIRED, Trigger.ACKNOWLEDGED): State.READY,
    (State.INHIBITED, Trigger.TAKEN): State.MANUAL,
    (State.READY, Trigger.TAKEN): State.MANUAL,
    (State.ACTIVE, Trigger.TAKEN): State.MANUAL,
    (State.HOLD, Trigger.TAKEN): State.MANUAL,
    (State.FAILSAFE, Trigger.TAKEN): State.MANUAL,
    (State.ACK_REQUIRED, Trigger.TAKEN): State.MANUAL,
    (State.MANUAL, Trigger.RETURNED): State.READY,
}

WORDS: Final = {
    Trigger.PROVEN: "the chain works",
    Trigger.GRANTED: "authority is granted",
    Trigger.REVOKED: "authority is withdrawn",
    Trigger.FAULT: "a fault",
    Trigger.CLEARED: "works again",
    Trigger.PLC_LATCHED: "the PLC waits for an acknowledge",
    Trigger.ACKNOWLEDGED: "acknowledged",
    Trigger.MISSING: "a fault that may pass",
    Trigger.MENDED: "it has passed",
    Trigger.RESTARTED: "works again, no acknowledge needed",
    Trigger.TAKEN: "taken by a person",
    Trigger.RETURNED: "given back by a person",
    Trigger.OWED: "a fault was not acknowledged",
}
"""What each trigger is called for people: in the diagram, and as the reason of a change."""


def after(state: State, trigger: Trigger) -> State:
    """Return the state that a trigger leads to; the same one if it means nothing there."""
    return TABLE.get((state, trigger), state)


def diagram() -> str:
    """Return the table as a state diagram (Mermaid); that a person may always take over is one arrow."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.INHIBITED.name}"]
    for (source, trigger), target in TABLE.items():
        if trigger is not Trigger.TAKEN:
            lines.append(f"    {source.name} --> {target.name}: {WORDS[trigger]}")
    lines.append(f"    note right of {State.MANUAL.name}: from every state, {WORDS[Trigger.TAKEN]}")
    return "\n".join(lines)
