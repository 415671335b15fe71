"""Who may write a tag that belongs to an output: the model, a program or a person; pure.

The order of ``writers`` is the precedence. A person who writes holds every tag of the output until it is
given back; a program holds what it wrote until it goes or falls silent; else the model holds what it drives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.outputs import Writer

_PEOPLE: Final[dict[Writer, str]] = {"operator": "a person", "program": "a program", "model": "the model"}


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody who holds a tag.

    Args:
        writer: What kind of writer.
        user: Which one.
        until_ns: Monotonic time at which it ends unless it is renewed; None for never.
    """

    writer: Writer
    user: str = ""
    until_ns: int | None = None

    def has_ended(self, now_ns: int) -> bool:
        """Return whether it was not renewed in time."""
        return self.until_ns is not None and now_ns > self.until_ns

    @property
    def text(self) -> str:
        """Who it is, for people."""
        return f"{_PEOPLE[self.writer]} ({self.user})" if self.user else _PEOPLE[self.writer]


Claims = Mapping[str, Claim]
"""Who holds each tag; the model holds what is not here, while the output is active."""

MODEL: Final = Claim("model")


def refusal(
    order: tuple[Writer, ...], holder: Claim | None, writer: Writer, user: str, now_ns: int
) -> str | None:
    """Return why somebody may not write a tag now; None if they may.

    Args:
        order: Who may write it at all, the first before the others.
        holder: Who holds it; None for nobody.
        writer: Who wants to write.
        user: Which one.
        now_ns: Monotonic time, ns.
    """
    if writer not in order:
        return f"{_PEOPLE[writer]} may not write it"
    if holder is None or holder.has_ended(now_ns) or holder.writer not in order:
        return None
    ahead, behind = order.index(writer), order.index(holder.writer)
    if ahead < behind:
        return None
    if ahead > behind:
        return f"{holder.text} holds it"
    return f"{holder.text} holds it" if writer == "program" and user != holder.user else None


def gone(claims: Claims, now_ns: int) -> tuple[str, ...]:
    """Return the tags whose program has fallen silent."""
    return tuple(tag for tag, claim in claims.items() if claim.has_ended(now_ns))
