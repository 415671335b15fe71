"""Methods of the Server object on subscriptions (Part 5 §9.1, §9.2): each client calls them for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.services.service import Caller, caller
from edge_opcua.opcua.services.subscription.subscription import Subscription


class ServerMethods:
    """GetMonitoredItems and ResendData.

    Args:
        aspace: The address space.
        subscriptions: All there are, by number.
        resend: Queues the present values of a subscription, as long as it is that session's.
    """

    def __init__(
        self,
        aspace: AddressSpace,
        subscriptions: Mapping[int, Subscription],
        resend: Callable[[Caller, int], Generator[None, None, None]],
    ) -> None:
        self._aspace = aspace
        self._subscriptions = subscriptions
        self._resend = resend

    def bind(self) -> None:
        """Give the methods something to do, once the nodes are there."""
        ids = ua.ObjectIds
        self._aspace.add_method_callback(ua.NodeId(ids.Server_GetMonitoredItems), self._get_monitored_items)
        self._aspace.add_method_callback(ua.NodeId(ids.Server_ResendData), self._resend_data)

    async def _get_monitored_items(self, _: ua.NodeId, number: ua.Variant) -> list[ua.Variant]:
        items = self._called_for(number).items.values()
        kind = ua.VariantType.UInt32
        return [
            ua.Variant([item.number for item in items], kind, is_array=True),
            ua.Variant([item.handle for item in items], kind, is_array=True),
        ]

    async def _resend_data(self, _: ua.NodeId, number: ua.Variant) -> list[ua.Variant]:
        for _pause in self._resend(caller(), self._called_for(number).number):
            await asyncio.sleep(0)
        return []

    def _called_for(self, number: ua.Variant) -> Subscription:
        found = self._subscriptions.get(number.Value)
        if found is None:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadSubscriptionIdInvalid)
        if found.session_id != caller().session_id:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadUserAccessDenied)
        found.cycle.touch()
        return found
