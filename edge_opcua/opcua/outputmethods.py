"""``Acknowledge`` and its siblings: what an operator may do to an output, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from asyncua import ua

from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    status_name,
)
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import Names, plant_id
from edge_opcua.opcua.outputspace import ACTIONS
from edge_opcua.opcua.plantspace import OutputNodes
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.values import status_code

__all__ = ["OutputAct", "OutputActs", "OutputMethods", "no_outputs"]

ANSWER_S: Final = 5.0
LONGEST_COMMENT: Final = 500

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutputAct:
    """What somebody wants of an output.

    Args:
        output: Name of the output.
        action: ``acknowledge``, ``grant``, ``revoke``, ``manual`` or ``automatic``.
        user: Who he is: user, application and address.
        why: What he says about it; may be empty.
    """

    output: str
    action: str
    user: str
    why: str


OutputActs = Callable[[OutputAct], Awaitable[Reply]]


async def no_outputs(act: OutputAct) -> Reply:  # noqa: ARG001 - the port's signature
    """Refuse: nothing writes in this server."""
    return Reply(BAD_INVALID_STATE, "this server writes nothing", {})


class OutputMethods:
    """The methods of every output.

    Args:
        aspace: The address space.
        access: Says who may call them.
        act: Does it, in the process that writes.
        names: Names of the plant's nodes.
    """

    def __init__(self, aspace: Nodes, access: Access, act: OutputActs, names: Names) -> None:
        self._aspace = aspace
        self._access = access
        self._act = act
        self._names = names
        self._outputs: dict[ua.NodeId, str] = {}
        self._recorded: set[tuple[ua.NodeId, ua.NodeId]] = set()

    def bind(self, outputs: Iterable[OutputNodes]) -> None:
        """Let the methods of every output there is work; again whenever one came, went or changed."""
        self._outputs.clear()
        for each in outputs:
            self._outputs[each.node] = each.output
            for method in each.methods:
                node = plant_id(self._names.output(each.output, method))
                self._access.mark(Kind.OUTPUT, [node])
                self._aspace.add_method_callback(node, self._calls(ACTIONS[method]))

    def was_recorded(self, act: Act) -> bool:
        """Whether the process that writes keeps the record of a call; asked once for each, right after it."""
        key = (act.session, act.node)
        if act.kind != "method.called" or key not in self._recorded:
            return False
        self._recorded.discard(key)
        return True

    def _calls(self, action: str) -> Callable[..., Awaitable[ua.CallMethodResult]]:
        async def call(parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
            return await self._call(parent, action, arguments[0].Value)

        return call

    async def _call(self, parent: ua.NodeId, action: str, comment: Any) -> ua.CallMethodResult:
        output, why = self._outputs.get(parent), str(comment or "")
        if output is None:
            return ua.CallMethodResult(StatusCode=status_code(BAD_NODE_ID_UNKNOWN))
        if len(why) > LONGEST_COMMENT:
            return _too_long()
        session = caller()
        act = OutputAct(output, action, session.who, why)
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._act(act)
        except TimeoutError:
            reply = Reply(BAD_TIMEOUT, "no answer in time: look at the output's state", {})
        if reply.body.get("recorded"):  # and told in its log
            self._recorded.add((session.session_id, parent))
        else:
            said = {"status": status_name(reply.status), "reason": reply.reason}
            _log.info("output.asked", output=output, action=action, user=act.user, why=why, **said)
        return ua.CallMethodResult(StatusCode=status_code(reply.status))


def _too_long() -> ua.CallMethodResult:
    return ua.CallMethodResult(
        StatusCode=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidArgument)),
        InputArgumentResults=[status_code(BAD_OUT_OF_RANGE)],
    )
