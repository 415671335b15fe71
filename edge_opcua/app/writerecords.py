"""What the audit says of a write: who wanted it, why, what stood there, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import status_name
from edge_opcua.drivers.doubts import Finding


@dataclass(frozen=True, slots=True)
class Wanted:
    """A write as a client or an operator asked for it.

    Args:
        tag: ``<device>/<tag>``.
        value: What to write.
        who: Who wants it.
        writer: As what: ``operator`` or ``program``; empty: it was not said.
        why: Why; empty: it was not said.
    """

    tag: str
    value: Any
    who: str
    writer: str = ""
    why: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Wanted:
        """Return what a ``write`` request says."""
        rest = {name: str(body.get(name) or "") for name in ("writer", "why")}
        return cls(str(body["tag"]), body["value"], str(body.get("user") or ""), **rest)


def record_of(wanted: Wanted, outcome: WriteOutcome) -> dict[str, Any]:
    """Return the record of a write that was answered."""
    return {
        "what": f"write {wanted.tag}",
        "who": wanted.who,
        "writer": wanted.writer,
        "why": wanted.why,
        "old": outcome.old,
        "new": wanted.value,
        "outcome": f"{status_name(outcome.status)} {outcome.reason}".strip(),
    }


def record_of_finding(device: str, finding: Finding) -> dict[str, Any]:
    """Return the record of what became of a write long after it was answered with BadTimeout."""
    doubt = finding.doubt
    return {
        "what": f"write {device}/{doubt.tag}",
        "who": doubt.terms.who,
        "why": doubt.terms.why,
        "old": doubt.old,
        "new": doubt.new,
        "outcome": finding.fate.value,
        "held": finding.held,
        "after_s": round(finding.after_s, 3),
    }
