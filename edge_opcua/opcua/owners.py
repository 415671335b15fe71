"""Tags that an output writes have one writer at a time: which clients may be it, and when a claim ends.

A client is an *operator* if a person has signed in, else a *program* (ADR 0014). Which of the two may write
a tag is up to its ``writers``; who comes first is decided where it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asyncua import ua

from edge_opcua.config.outputs import MODEL_ALONE, Writer
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.opcua.services.audit import Act
from edge_opcua.security.roles import Role

__all__ = ["OwnedTag", "ProgramClaims", "WriterGone", "nobody_cares", "only_model", "owned_tags", "writer_of"]

WriterGone = Callable[[str, str, str], None]
"""Tells that a program no longer writes: output, who it was, why."""


@dataclass(frozen=True, slots=True)
class OwnedTag:
    """A tag that an output writes.

    Args:
        output: Name of the output.
        writers: Who may write it.
    """

    output: str
    writers: frozenset[Writer]


def owned_tags(config: EdgeConfig) -> dict[str, OwnedTag]:
    """Return the tags that outputs write, by public id ``<device>/<tag>``; pure."""
    return {
        tag: OwnedTag(output.name, writers)
        for output in config.outputs
        for tag, writers in output.writers.items()
    }


def writer_of(roles: frozenset[Role]) -> Writer:
    """Return what a session with these roles writes as: only who signed in has the role AuthenticatedUser."""
    return "operator" if Role.AUTHENTICATED_USER in roles else "program"


class ProgramClaims:
    """Knows which programs wrote tags of outputs, and tells when one is gone.

    Args:
        gone: Told of every output that a program may hold when its session is over.
    """

    def __init__(self, gone: WriterGone) -> None:
        self._gone = gone
        self._claims: dict[ua.NodeId, dict[str, str]] = {}

    def note(self, session: ua.NodeId, output: str, who: str) -> None:
        """Remember that a program wrote: also if the answer was bad, it may have arrived."""
        self._claims.setdefault(session, {})[output] = who

    def hear(self, act: Act) -> None:
        """End the claims of a session that is over, or that a person has taken over."""
        signed_in = act.kind == "session.activated" and not act.status and bool(act.facts.get("user"))
        if act.kind != "session.closed" and not signed_in:
            return
        why = "a person signed in" if signed_in else "its session is over"
        for output, who in self._claims.pop(act.session, {}).items():
            self._gone(output, who, why)


def only_model(owned: Mapping[str, OwnedTag]) -> list[str]:
    """Return the public ids of those that no client may write."""
    return [tag for tag, one in owned.items() if one.writers == MODEL_ALONE]


def nobody_cares(output: str, who: str, why: str) -> None:
    """Tell nobody: nothing writes in this server."""
