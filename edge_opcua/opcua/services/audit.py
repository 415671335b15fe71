"""What the services tell about security-relevant acts (Part 5 §6.5); who listens is decided elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua

from edge_opcua.opcua.services.service import Caller
from edge_opcua.security.users import role_names


@dataclass(frozen=True, slots=True)
class Act:
    """Something a client did, or was not allowed to do.

    Args:
        kind: Constant ``noun.verb``: ``session.created``, ``session.activated``, ``session.closed``,
            ``channel.opened``, ``channel.refused``, ``value.written``, ``method.called``,
            ``certificate.updated``, ``trust.changed``, ``user.locked`` …
        status: StatusCode the client was answered with; 0 is Good.
        who: User, application and address, for people.
        session: NodeId of the session; null without one.
        node: What it was done to; null if nothing.
        facts: More, JSON types: never a password, nonce, token or key.
        event: More for the OPC UA event, as OPC UA values by field name (``OldValue``, ``InputArguments``).
    """

    kind: str
    status: int = 0
    who: str = ""
    session: ua.NodeId = field(default_factory=ua.NodeId)
    node: ua.NodeId = field(default_factory=ua.NodeId)
    facts: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] = field(default_factory=dict)


Audit = Callable[[Act], None]


def lacking(caller: Caller, status: int) -> dict[str, str]:
    """Return the exact reason of a refusal, if it was the caller's roles; the answer does not say it."""
    if status != ua.StatusCodes.BadUserAccessDenied:
        return {}
    return {"reason": f"not for {', '.join(role_names(caller.roles))}"}


def unheard(_: Act) -> None:
    """Tell nobody: the server before somebody listens."""
