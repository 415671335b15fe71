"""A client's Write of a set-point: looked at here, done by the io process, answered with what the PLC did."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from asyncua import ua

from edge_opcua.config.outputs import Writer
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NOT_WRITABLE,
    BAD_OUT_OF_RANGE,
    BAD_TYPE_MISMATCH,
    Scalar,
    status_name,
)
from edge_opcua.opcua.owners import OwnedTag, ProgramClaims, writer_of
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.tags.setpoints import Setpoint
from edge_opcua.opcua.values import as_held, status_code

if TYPE_CHECKING:
    from edge_opcua.opcua.services.service import Caller


@dataclass(frozen=True, slots=True)
class ClientWrite:
    """What a client wants to be written.

    Args:
        tag: Public id of the tag, ``<device>/<tag>``.
        value: The value, as the bus holds it.
        user: Who it is: user, application and address.
        writer: What it writes as: ``operator`` if a person has signed in, else ``program``.
        why: What is known of the occasion: the name that the client gave its session.
    """

    tag: str
    value: Any
    user: str
    writer: Writer
    why: str


Write = Callable[[ClientWrite], Awaitable[Reply]]

_NOT_FINITE: Final = frozenset({Scalar.FLOAT, Scalar.DOUBLE})
_log = structlog.get_logger(__name__)


def check(setpoint: Setpoint, value: ua.Variant | None) -> int:
    """Return why a value may not be written, or 0; pure.

    Args:
        setpoint: What is written.
        value: What the client sent.
    """
    if value is None or value.VariantType != ua.VariantType(int(setpoint.type)) or value.Value is None:
        return BAD_TYPE_MISMATCH
    is_array = setpoint.length > 0 and setpoint.type is not Scalar.STRING
    if bool(value.is_array) != is_array:
        return BAD_TYPE_MISMATCH
    elements = value.Value if is_array else [value.Value]
    if is_array and len(elements) != setpoint.length:
        return BAD_OUT_OF_RANGE
    if setpoint.type is Scalar.STRING:
        return 0 if len(str(value.Value).encode()) <= setpoint.length else BAD_OUT_OF_RANGE
    if not setpoint.type.is_number:
        return 0
    return 0 if all(_in_range(setpoint, element) for element in elements) else BAD_OUT_OF_RANGE


def _in_range(setpoint: Setpoint, value: float) -> bool:
    if setpoint.type in _NOT_FINITE and not math.isfinite(value):
        return False
    above = setpoint.low is None or value >= setpoint.low
    return above and (setpoint.high is None or value <= setpoint.high)


class Writable(Protocol):
    """What may be written, by node."""

    def get(self, node: ua.NodeId, /) -> Setpoint | None:
        """Return what may be written to a node, None: nothing."""
        ...


class SetpointWrites:
    """The write handler of every writable tag.

    Args:
        setpoints: What may be written.
        write: Does it; answers with the StatusCode of what happened.
        claims: Remembers which programs wrote tags of outputs.

    Attributes:
        owned: The tags that outputs write, by public id.
    """

    def __init__(self, setpoints: Writable, write: Write, claims: ProgramClaims) -> None:
        self.owned: Mapping[str, OwnedTag] = {}
        self._setpoints = setpoints
        self._write = write
        self._claims = claims
        self._recorded: set[tuple[ua.NodeId, ua.NodeId]] = set()

    async def __call__(
        self, session: Caller, node_id: ua.NodeId, attribute: ua.AttributeIds, value: ua.DataValue
    ) -> ua.StatusCode:
        """Check, write, and return the client's answer."""
        setpoint = self._setpoints.get(node_id)
        if setpoint is None or attribute != ua.AttributeIds.Value:
            return status_code(BAD_NOT_WRITABLE)
        refused = check(setpoint, value.Value)
        if refused:
            _log.info("write.refused", tag=setpoint.tag, user=session.who, status=status_name(refused))
            return status_code(refused)
        reply = await self._write(self._asked(session, setpoint, value.Value))
        if reply.body.get("recorded"):
            self._recorded.add((session.session_id, node_id))
        if reply.status:
            _log.info(
                "write.answered",
                tag=setpoint.tag,
                user=session.who,
                status=status_name(reply.status),
                reason=reply.reason,
            )
        return status_code(reply.status)

    def _asked(self, session: Caller, setpoint: Setpoint, value: ua.Variant) -> ClientWrite:
        writer, owned = writer_of(session.roles), self.owned.get(setpoint.tag)
        if owned is not None and writer == "program":
            self._claims.note(session.session_id, owned.output, session.who)
        held = as_held(value.Value, setpoint.type)
        return ClientWrite(setpoint.tag, held, session.who, writer, f"session {session.name or '?'}")

    def was_recorded(self, act: Act) -> bool:
        """Whether the io process keeps the record of this write; asked once for each, right after it."""
        key = (act.session, act.node)
        if act.kind != "value.written" or key not in self._recorded:
            return False
        self._recorded.discard(key)
        return True


async def no_writes(write: ClientWrite) -> Reply:  # noqa: ARG001 - the port's signature
    """Refuse: nothing writes in this server."""
    return Reply(BAD_INVALID_STATE, "this server writes nothing", {})
