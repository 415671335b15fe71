"""``Poll`` of a device: reads a poll group now, and answers what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from asyncua import ua

from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    GOOD,
    is_bad,
    is_good,
    status_name,
)
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import Names, plant_id
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.values import status_code

Poll = Callable[[str, str, str], Awaitable[Reply]]

ANSWER_S: Final = 5.0
_NOTHING_TO_DO: Final = 0x800F0000  # BadNothingToDo
_METHOD: Final = "Poll"

_log = structlog.get_logger(__name__)


async def no_polls(device: str, group: str, user: str) -> Reply:  # noqa: ARG001 - the port's signature
    """Refuse: nothing polls in this server."""
    return Reply(BAD_INVALID_STATE, "this server polls nothing", {})


class DemandPolls:
    """The method of every device.

    Args:
        aspace: The address space.
        access: Says who may call it.
        poll: Polls a group: device, group, who -> what came of it.
    """

    def __init__(self, aspace: Nodes, access: Access, poll: Poll) -> None:
        self._aspace = aspace
        self._access = access
        self._poll = poll
        self._devices: dict[ua.NodeId, DeviceConfig] = {}

    def bind(self, config: EdgeConfig) -> None:
        """Let the method of every device there is work; again whenever devices came or went."""
        self._devices = {plant_id(Names.device(device.name)): device for device in config.devices}
        methods = [plant_id(Names.device(device.name, _METHOD)) for device in config.devices]
        self._access.mark(Kind.DEMAND, methods)
        for method in methods:
            self._aspace.add_method_callback(method, self.call)

    async def call(self, parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
        """Run the method on the object of a device."""
        device = self._devices.get(parent)
        group = arguments[0].Value or ""
        if device is None:
            return _answer(BAD_NODE_ID_UNKNOWN)
        groups = groups_of(device, group)
        if not groups:
            return _answer(BAD_OUT_OF_RANGE if group else _NOTHING_TO_DO)
        who = caller().who
        status, reason = GOOD, ""
        for each in groups:
            reply = await self._ask(device.name, each, who)
            if not is_bad(status) and not is_good(reply.status):
                status, reason = reply.status, reply.reason
        _log.info(
            "device.poll_asked",
            device=device.name,
            groups=groups,
            user=who,
            status=status_name(status),
            reason=reason,
        )
        return _answer(status)

    async def _ask(self, device: str, group: str, who: str) -> Reply:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._poll(device, group, who)
        except TimeoutError:
            return Reply(BAD_TIMEOUT, "no answer in time", {})


def groups_of(device: DeviceConfig, group: str) -> Sequence[str]:
    """Return the groups that are meant: the one that is named, or all that are read on demand; pure.

    Args:
        device: The device.
        group: Name of a group or capture, or empty.
    """
    named = [each for each in device.groups if device.tags_of(each.name)]
    if not group:
        return [each.name for each in named if each.on_request or each.trigger or each.on_demand]
    there = [each.name for each in named] + [capture.name for capture in device.captures]
    return [group] if group in there else []


def _answer(status: int) -> ua.CallMethodResult:
    result = ua.CallMethodResult()
    result.StatusCode = status_code(status)
    if status == BAD_OUT_OF_RANGE:
        result.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidArgument))
        result.InputArgumentResults = [status_code(BAD_OUT_OF_RANGE)]
    return result
