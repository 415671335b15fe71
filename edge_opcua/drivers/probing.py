"""What is found out about an unknown device, step by step, without ever writing to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be probed.

    Args:
        url: URL of the device, as ``devices[].url`` has it.
        reads: Addresses to be read, in the driver's grammar; for Modbus also ``hr:100x2`` without a type.
        timeout_s: Deadline of one step, seconds.
        options: Driver settings, as ``devices[].options``.
    """

    url: str
    reads: Sequence[str] = ()
    timeout_s: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read some bytes.

    Args:
        address: The address that reads it so, e.g. ``1/hr:100:REAL;order=CDAB``.
        order: Byte order, or "" where the protocol has only one.
        values: The value by IEC type, e.g. ``{"REAL": 23.41, "DINT": 1102792622}``.
        plausible: Why it is the likely one ("small, few digits"); "" if it is not.
    """

    address: str
    order: str
    values: Mapping[str, Any]
    plausible: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one step.

    Args:
        step: ``connect``, ``protocol``, ``identity``, ``units``, ``browse`` or ``read``.
        text: One line for people, e.g. ``Modbus answers in 3 ms``.
        code: Stable code (D3xx) if the step failed; "" if it went well.
        help: Next physical step if it failed.
        facts: The same for programs; ``init`` uses ``vendor``, ``model``, ``serial``, ``units`` and ``tags``
            (list of name, address, unit, description).
        candidates: Readings of one address, if the step was a read.
    """

    step: str
    text: str
    code: str = ""
    help: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()


class Prober(Protocol):
    """What a driver offers to ``probe`` and ``init``: module ``edge_opcua.drivers.<protocol>.probe``."""

    async def probe(self, target: Target) -> AsyncIterator[Finding]:
        """Connect once, look, close; yields each finding as soon as it is known, and never writes."""
        yield Finding("", "")
