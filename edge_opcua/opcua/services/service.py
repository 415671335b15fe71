"""What a service is, who calls it, and how it answers; every service set is a table of these."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from asyncua import ua

from edge_opcua.opcua.services.slices import Rest
from edge_opcua.security.roles import Role

__all__ = ["Caller", "Reply", "Service", "ServiceSet", "WriteHandler", "caller", "set_caller"]


class Caller(Protocol):
    """The session a request came with, as the services see it.

    Attributes:
        session_id: NodeId of the session.
        roles: What its user is; changes when another user activates the session.
        secured: Whether the channel is signed and encrypted for a trusted certificate.
        who: Name for log and audit: user, application and address.
        user_name: Name of the user, empty if anonymous.
        name: Name of the session, chosen by the client.
        locales: LocaleIds in the order the client prefers them.
    """

    session_id: ua.NodeId
    roles: frozenset[Role]
    user_name: str
    name: str
    locales: tuple[str, ...]

    @property
    def secured(self) -> bool:
        """See the attributes."""
        ...

    @property
    def who(self) -> str:
        """See the attributes."""
        ...

    def same_user(self, other: Caller) -> bool:
        """Whether both act for the same user of the same application (Part 4 §5.14.7)."""
        ...


WriteHandler = Callable[[Any, ua.NodeId, ua.AttributeIds, ua.DataValue], Awaitable[ua.StatusCode]]


class Reply(Protocol):
    """The way back to a client for an answer that comes later (Publish).

    Attributes:
        handle: RequestHandle, by which Cancel names the request.
        until_s: Monotonic time after which the client no longer waits (TimeoutHint); infinite without one.
        most_bytes: Largest answer that this client takes.
    """

    handle: int
    until_s: float

    @property
    def most_bytes(self) -> int:
        """See the attributes."""
        ...

    def send(self, response: Any) -> None:
        """Answer; once, or not at all if the connection is gone. Never blocks, never raises."""
        ...

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        """Answer Good: the encoded NodeId of the response's type, and what follows the header, encoded."""
        ...

    def fault(self, code: int) -> None:
        """Answer with a ServiceFault."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Args:
        params: Class of the request's parameters; None: the request has none.
        run: ``(caller, params) -> response``, a coroutine if ``aside``; with ``later`` it is
            ``(caller, params, reply) -> None``. A failure of the whole request is a ServiceError.
        counted: Names of the lists in the parameters whose length together is limited by ``most``.
        most: Largest number of operations; 0: not limited. None at all is BadNothingToDo.
        optional: Whether a request without any operation is one, too.
        changes: What its first slice did stays done: it does not begin without room for what may follow.
        raw: ``(caller, whole, at, reply) -> done``: answers from the bytes of a request whose parameters
            begin at ``at``, or returns False and leaves it to ``run``, or a
            :class:`~edge_opcua.opcua.services.slices.Rest` whose result is the response. It keeps every limit
            itself.
        aside: Runs as a task of the connection beside other requests.
        order: Nodes whose earlier requests of this session must be over first (only with ``aside``).
        later: The answer comes through a :class:`Reply`.
    """

    params: type[Any] | None
    run: Callable[..., Any]
    counted: tuple[str, ...] = ()
    most: int = 0
    aside: bool = False
    order: Callable[[Any], Iterable[ua.NodeId]] | None = None
    later: bool = False
    optional: bool = False
    changes: bool = False
    raw: Callable[[Any, bytes, int, Any], bool | Rest[Any]] | None = None


class ServiceSet(Protocol):
    """Some services that belong together."""

    def services(self) -> Mapping[str, Service]:
        """Return its services by name: ``{"Browse": Service(…)}``."""
        ...


_CALLER: contextvars.ContextVar[Any] = contextvars.ContextVar("opcua_caller", default=None)


def caller() -> Any:
    """Return the session whose request runs now.

    Raises:
        LookupError: Called from elsewhere.
    """
    session = _CALLER.get()
    if session is None:
        raise LookupError("no client's request runs here")
    return session


def set_caller(session: Caller) -> None:
    """Say for whom the present task works."""
    _CALLER.set(session)
