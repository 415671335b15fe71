"""When a server that does not answer is left alone, and when it is tried again: a table, and counts; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final


class State(Enum):
    """States of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Event(Enum):
    """What happens to a circuit."""

    SUCCESS = "the server answered"
    FAILURE = "the server did not answer, or with nonsense"
    ABANDONED = "a run was cancelled: nothing is known of the server"
    TRIP = "too many failures in a row"
    TRY = "the pause is over, and somebody asks"


# What is not in the table changes nothing. TRIP is drawn by `happen` from the count, TRY by `admit` from the
# time. An answer to a run that began before the circuit opened shows a living server as well as a probe does.
TABLE: Final = MappingProxyType(
    {
        (State.CLOSED, Event.TRIP): State.OPEN,
        (State.OPEN, Event.TRY): State.HALF_OPEN,
        (State.OPEN, Event.SUCCESS): State.CLOSED,
        (State.HALF_OPEN, Event.SUCCESS): State.CLOSED,
        (State.HALF_OPEN, Event.FAILURE): State.OPEN,
        (State.HALF_OPEN, Event.ABANDONED): State.OPEN,
    }
)

_MOST_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Terms:
    """When a circuit opens and for how long.

    Args:
        fail_after: Failures in a row that open it.
        first_ns: Pause until the first probe, ns; it doubles with each probe that fails.
        most_ns: Longest pause, ns.
    """

    fail_after: int = 3
    first_ns: int = 500_000_000
    most_ns: int = 10_000_000_000


@dataclass(frozen=True, slots=True)
class Circuit:
    """Everything that decides whether a server is asked.

    Args:
        state: Present state.
        failures: Failures in a row.
        probes: Probes in a row that failed.
        retry_ns: When the next probe may go out, monotonic; of use while it is open.
    """

    state: State = State.CLOSED
    failures: int = 0
    probes: int = 0
    retry_ns: int = 0


def admit(circuit: Circuit, now_ns: int) -> tuple[Circuit, bool]:
    """Return the circuit after somebody wanted to ask the server, and whether he may.

    Of all who want to while it is open, the first after the pause may: the probe.

    Args:
        circuit: Circuit before.
        now_ns: Monotonic time, ns.
    """
    if circuit.state is State.CLOSED:
        return circuit, True
    if circuit.state is State.OPEN and now_ns >= circuit.retry_ns:
        return replace(circuit, state=TABLE[State.OPEN, Event.TRY]), True
    return circuit, False


def happen(circuit: Circuit, event: Event, terms: Terms, now_ns: int) -> Circuit:
    """Return the circuit after an event; events that mean nothing in a state change nothing.

    Args:
        circuit: Circuit before.
        event: What happened.
        terms: Limits.
        now_ns: Monotonic time, ns.
    """
    if event is Event.SUCCESS:
        return Circuit()  # from every state: what counted against the server is settled
    if event is Event.FAILURE and circuit.state is State.CLOSED:
        circuit = replace(circuit, failures=circuit.failures + 1)
        event = Event.TRIP if circuit.failures >= terms.fail_after else event
    target = TABLE.get((circuit.state, event))
    if target is None:
        return circuit
    if event is Event.ABANDONED:
        return replace(circuit, state=target, retry_ns=now_ns)
    probes = circuit.probes + (event is Event.FAILURE)
    pause_ns = min(terms.first_ns << min(probes, _MOST_DOUBLINGS), terms.most_ns)
    return replace(circuit, state=target, probes=probes, retry_ns=now_ns + pause_ns)
