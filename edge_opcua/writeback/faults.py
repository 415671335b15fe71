"""What can be wrong with an output, and how it is found from facts; pure.

Nothing here trusts a single source: each part of the chain is judged by when it was last seen to move.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from edge_opcua.config.reaction import Times

MOST_WRITE_FAILURES: Final = 3
MOST_MISMATCHES: Final = 2
_MS: Final = 1_000_000


class Fault(IntEnum):
    """What has failed; the first one found is told."""

    RELEASED = 1  # this process ends
    CLOCK = 2  # the machine was suspended
    LAG = 3  # we stood still ourselves
    LINK = 4  # no proven link to the PLC
    CONTROL = 5  # what the PLC says is not Good, or too old
    VERSION = 6  # the PLC's function block was made from another map
    PLC_HEARTBEAT = 7  # the PLC's program stands still
    ECHO = 8  # the PLC does not see what we write
    LANE = 9  # the model's process stands still
    WRITES = 10  # several writes failed in a row
    READ_BACK = 11  # the device holds something else than was written
    INPUT = 12  # the source of the pipeline's capture is lost or silent
    RESULT = 13  # the newest result may not rule
    RESULT_AGE = 14  # the newest result is too old
    WRITER = 15  # the program that wrote a value is gone

    @property
    def rides_through(self) -> bool:
        """Whether it may pass by itself, so that the last value can be held for a while."""
        return self in _PASSING


_PASSING: Final = frozenset({Fault.INPUT, Fault.RESULT, Fault.RESULT_AGE, Fault.WRITER})


@dataclass(frozen=True, slots=True)
class Plc:
    """What the PLC says of itself and of us.

    Args:
        seen_ns: Monotonic time at which it was read.
        enabled: Whether it uses the interface at all.
        granted: Whether the plant grants authority.
        latched: Whether it waits for an acknowledge.
        trusts: Whether it acts on what we write.
        acknowledging: Whether somebody acknowledged at the PLC.
        version_ok: Whether its function block was made from our map.
        alive_ns: Monotonic time its own heartbeat last changed; None if it shows none.
        echo_ns: Monotonic time the echo of ours last changed; None if it shows none.
        echo: The echo; None if it shows none.
    """

    seen_ns: int
    enabled: bool = True
    granted: bool = True
    latched: bool = False
    trusts: bool = False
    acknowledging: bool = False
    version_ok: bool = True
    alive_ns: int | None = None
    echo_ns: int | None = None
    echo: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The newest result of the pipeline.

    Args:
        number: Grows with each result.
        usable: Whether it may rule at all: not Bad, not late, not a substitute.
        reason: Why it may not.
        at_ns: Monotonic time at which it was published.
    """

    number: int
    usable: bool = True
    reason: str = ""
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one moment; every ``_ns`` is monotonic.

    Args:
        link_up: Whether the link to the PLC is proven.
        link_ns: Last good scan of the PLC.
        lane_ns: When the lane last showed that it lives.
        input_ns: When the device that the capture comes from was last read.
        plc: What the PLC says; None if its words are not Good or too old.
        result: The newest result, None if there is none yet.
        input_lost: Why the source of the capture is lost; empty if it is there.
        pressed: Whether a person has acknowledged since the last decision.
        granted: Whether a person has granted authority, where a person has to.
        manual: Whether a person holds the output.
        failures: Writes that failed in a row.
        mismatches: Read-backs in a row that showed another value than was written.
        writer_gone: Which program that wrote a value is gone; empty for none.
        suspended_ns: Time that the machine has been suspended since it started.
        safe_ns: When the safe content that is wanted now arrived; 0 if it has not.
        releasing: Whether this process ends.
        why_no_writes: Why nothing may be written although the link is there; empty if the link is not.
    """

    link_up: bool
    link_ns: int
    lane_ns: int
    input_ns: int
    plc: Plc | None
    result: Result | None
    input_lost: str = ""
    pressed: bool = False
    granted: bool = False
    manual: bool = False
    failures: int = 0
    mismatches: int = 0
    writer_gone: str = ""
    suspended_ns: int = 0
    safe_ns: int = 0
    releasing: bool = False
    why_no_writes: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What the search needs from the decision before.

    Args:
        decided_ns: Monotonic time of that decision; 0 if there was none.
        suspended_ns: Time that the machine had been suspended until then.
        echoed_since_ns: Since when the PLC has to give our heartbeat back; 0: it does not have to now.
        watched: Whether our own standing still counts.
    """

    decided_ns: int = 0
    suspended_ns: int = 0
    echoed_since_ns: int = 0
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A fault and what it is for people."""

    fault: Fault
    reason: str


def find(facts: Facts, past: Past, now_ns: int, times: Times, *, ttl_ns: int | None = None) -> Found | None:
    """Return the first thing that is wrong, or None.

    What may ride through comes last, so that it never hides what may not.

    Args:
        facts: The facts.
        past: The decision before.
        now_ns: Monotonic time, ns.
        times: When silence is a fault.
        ttl_ns: Age at which a result is too old; None for never.
    """
    return (
        _own(facts, past, now_ns, times)
        or _of_plc(facts, past, now_ns, times)
        or _of_writing(facts, now_ns, times)
        or _of_input(facts, now_ns, times)
        or _of_result(facts, now_ns, ttl_ns)
    )


def _first(*candidates: tuple[bool, Fault, Callable[[], str]]) -> Found | None:
    for is_so, fault, reason in candidates:
        if is_so:
            return Found(fault, reason())
    return None


def _own(facts: Facts, past: Past, now_ns: int, times: Times) -> Found | None:
    """Return what is wrong with ourselves."""
    asleep_ns = facts.suspended_ns - past.suspended_ns
    silent_ns = now_ns - past.decided_ns
    watched = past.watched and past.decided_ns > 0
    return _first(
        (facts.releasing, Fault.RELEASED, lambda: "this process ends"),
        (
            watched and asleep_ns > times.lag_ms * _MS,
            Fault.CLOCK,
            lambda: f"the machine was suspended for {asleep_ns / 1e9:.1f} s",
        ),
        (
            watched and silent_ns > times.lag_ms * _MS,
            Fault.LAG,
            lambda: f"nothing was decided for {silent_ns / 1e6:.0f} ms",
        ),
    )


def _of_plc(facts: Facts, past: Past, now_ns: int, times: Times) -> Found | None:
    plc = facts.plc
    if not facts.link_up:
        return Found(Fault.LINK, facts.why_no_writes or "no link to the PLC")
    if plc is None:
        return Found(Fault.CONTROL, "the PLC's handshake tags are not Good")
    if not plc.version_ok:
        return Found(Fault.VERSION, "the PLC's function block was made from another configuration")
    still_ns = 2 * times.plc_timeout_ms * _MS
    if plc.alive_ns is not None and now_ns - plc.alive_ns > still_ns:
        return Found(Fault.PLC_HEARTBEAT, "the PLC's heartbeat stands still")
    # A PLC may go on answering reads and not see what we write.
    since_ns = past.echoed_since_ns
    if plc.echo_ns is not None and since_ns and now_ns - max(plc.echo_ns, since_ns) > still_ns:
        return Found(Fault.ECHO, "the PLC does not give our heartbeat back")
    return None


def _of_writing(facts: Facts, now_ns: int, times: Times) -> Found | None:
    failures = facts.failures
    return _first(
        (now_ns - facts.lane_ns > times.lane_ms * _MS, Fault.LANE, lambda: "the lane shows no life"),
        (failures >= MOST_WRITE_FAILURES, Fault.WRITES, lambda: f"{failures} writes failed in a row"),
        (
            facts.mismatches >= MOST_MISMATCHES,
            Fault.READ_BACK,
            lambda: "the device holds something else than was written",
        ),
    )


def _of_input(facts: Facts, now_ns: int, times: Times) -> Found | None:
    silent_ns = now_ns - facts.input_ns
    return _first(
        (bool(facts.input_lost), Fault.INPUT, lambda: facts.input_lost),
        (
            silent_ns > times.input_ms * _MS,
            Fault.INPUT,
            lambda: f"the source of the pipeline's input has been silent for {silent_ns / 1e6:.0f} ms",
        ),
    )


def _of_result(facts: Facts, now_ns: int, ttl_ns: int | None) -> Found | None:
    result = facts.result
    if result is not None and not result.usable:
        return Found(Fault.RESULT, result.reason or "the newest result may not rule")
    if result is not None and ttl_ns is not None and now_ns - result.at_ns > ttl_ns:
        return Found(Fault.RESULT_AGE, f"no result for {(now_ns - result.at_ns) / 1e9:.1f} s")
    if facts.writer_gone:
        return Found(Fault.WRITER, f"{facts.writer_gone} is gone")
    return None
