"""The authority of one output over its PLC, as a table; pure.

========================================== =========================================================
INHIBITED                                  since the start nothing has proved that the chain works
READY                                      it works, and the plant has not granted authority
ACTIVE                                     the PLC gets verdicts
FAILSAFE                                   something failed: heartbeat stopped, safe values written
ACK_REQUIRED                               it works again, and a person has to say so
========================================== =========================================================

The only ways into ACTIVE lead through READY, and the only way from FAILSAFE to READY is ACKNOWLEDGED.
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


class Trigger(IntEnum):
    """What moves authority."""

    PROVEN = 0  # the whole chain has worked once, up to a Good result
    GRANTED = 1  # the plant lets us
    REVOKED = 2  # it no longer does
    FAULT = 3  # anything the output depends on has failed
    CLEARED = 4  # nothing has been failing for a while
    PLC_LATCHED = 5  # the PLC does not trust us until somebody acknowledges
    ACKNOWLEDGED = 6  # somebody did


# Default refuse: what is not here changes nothing.
TABLE: Final[dict[tuple[State, Trigger], State]] = {
    (State.INHIBITED, Trigger.PROVEN): State.READY,
    (State.READY, Trigger.FAULT): State.FAILSAFE,
    (State.READY, Trigger.PLC_LATCHED): State.ACK_REQUIRED,
    (State.READY, Trigger.GRANTED): State.ACTIVE,
    (State.ACTIVE, Trigger.FAULT): State.FAILSAFE,
    (State.ACTIVE, Trigger.PLC_LATCHED): State.ACK_REQUIRED,
    (State.ACTIVE, Trigger.REVOKED): State.READY,
    (State.FAILSAFE, Trigger.CLEARED): State.ACK_REQUIRED,
    (State.ACK_REQUIRED, Trigger.FAULT): State.FAILSAFE,
    (State.ACK_REQUIRED, Trigger.ACKNOWLEDGED): State.READY,
}


def after(state: State, trigger: Trigger) -> State:
    """Return the state that a trigger leads to; the same one if it means nothing there."""
    return TABLE.get((state, trigger), state)
