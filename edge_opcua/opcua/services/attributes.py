"""Read and Write (Part 4 §5.11): a write goes where the value lives, and its answer comes from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AddressSpace, AttributeService

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.service import Caller, Service, WriteHandler
from edge_opcua.opcua.types import allows, attribute, fits

_ALLOWED = User(role=UserRole.User)  # asyncua looks once more; what may be written was decided before


class Attributes(AttributeService):
    """The attribute services for clients; the server itself reads and writes through the base class.

    Args:
        aspace: The address space.
        access: Who may do what.
        limits: Longest time for one value, most operations.
    """

    def __init__(self, aspace: AddressSpace, access: Access, limits: ServerLimits) -> None:
        super().__init__(aspace)
        self._access = access
        self._limits = limits
        self._handlers: dict[ua.NodeId, WriteHandler] = {}

    def services(self) -> Mapping[str, Service]:
        """Read, Write."""
        most = self._limits.operations
        return {
            "Read": Service(ua.ReadParameters, self._serve_read, ("NodesToRead",), most.read),
            "Write": Service(
                ua.WriteParameters,
                self._serve_write,
                ("NodesToWrite",),
                most.write,
                aside=True,
                order=_written_nodes,
            ),
        }

    def _serve_read(self, caller: Caller, params: ua.ReadParameters) -> ua.ReadResponse:
        response = ua.ReadResponse()
        timestamps, max_age_ms = params.TimestampsToReturn, params.MaxAge
        response.Results = [
            self.read_for(caller, item, timestamps, max_age_ms) for item in params.NodesToRead
        ]
        return response

    async def _serve_write(self, caller: Caller, params: ua.WriteParameters) -> ua.WriteResponse:
        response = ua.WriteResponse()
        response.Results = await self.write_for(caller, params)
        return response

    def read_for(
        self,
        caller: Caller,
        item: ua.ReadValueId,
        timestamps: ua.TimestampsToReturn,
        max_age_ms: float,  # noqa: ARG002 - what is here is as new as it gets
    ) -> ua.DataValue:
        """Return what this caller reads there (Part 4 §5.11.2)."""
        return self.value_for(caller, item.NodeId, item.AttributeId, item.IndexRange, timestamps)

    def value_for(
        self,
        caller: Caller,
        node: ua.NodeId,
        attribute: ua.AttributeIds,
        index_range: str | None,  # noqa: ARG002 - follows
        timestamps: ua.TimestampsToReturn,  # noqa: ARG002 - follows
    ) -> ua.DataValue:
        """Return an attribute as this caller may see it; what goes wrong is the status of the answer.

        Args:
            caller: Whose roles count.
            node: The node.
            attribute: Which attribute.
            index_range: NumericRange (Part 4 §7.27), None or empty: the whole value.
            timestamps: Which stamps go along; only a Value has any.
        """
        if node in self._aspace and not self._access.may(caller.roles, Permission.Read, node):
            return ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
        return self._aspace.read_attribute_value(node, attribute)

    def set_handler(self, handler: WriteHandler, nodes: Iterable[ua.NodeId]) -> None:
        """Send clients' writes of these nodes' values to ``handler`` instead of the address space."""
        self._handlers.update(dict.fromkeys(nodes, handler))

    async def write_for(self, session: Caller, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write the values in the order of the request, each after the one before it."""
        results = []
        for item in params.NodesToWrite:
            code = self._objection(session, item)
            if code is None:
                results.append(await self._write(session, item))
            else:
                results.append(ua.StatusCode(code))
        return results

    async def _write(self, session: Caller, item: ua.WriteValue) -> ua.StatusCode:
        handler = self._handlers.get(item.NodeId)
        if handler is None:
            only = ua.WriteParameters()
            only.NodesToWrite = [item]
            return (await super().write(only, user=_ALLOWED))[0]
        try:
            async with asyncio.timeout(self._limits.write_s):
                return await handler(session, item.NodeId, item.AttributeId, item.Value)
        except TimeoutError:  # indeterminate: the value may still arrive
            return ua.StatusCode(ua.StatusCodes.BadTimeout)
        except (ServiceError, ua.UaStatusCodeError) as exc:
            return ua.StatusCode(exc.code)

    def _objection(self, session: Caller, item: ua.WriteValue) -> int | None:
        """Return why this value may not be written, or None."""
        codes = ua.StatusCodes
        write = ua.AccessLevel.CurrentWrite

        def read(attribute_id: ua.AttributeIds) -> Any:
            return attribute(self._aspace, item.NodeId, attribute_id)

        if item.NodeId not in self._aspace:
            return int(codes.BadNodeIdUnknown)
        if item.AttributeId != ua.AttributeIds.Value:
            known = read(item.AttributeId) is not None
            return int(codes.BadNotWritable if known else codes.BadAttributeIdInvalid)
        if not allows(read(ua.AttributeIds.AccessLevel), write):
            return int(codes.BadNotWritable)
        if not self._access.may(session.roles, Permission.Write, item.NodeId):
            return int(codes.BadUserAccessDenied)
        # asyncua would replace the whole array by the part. Nor can a client say how good our value is.
        if item.IndexRange or (item.Value.StatusCode is not None and item.Value.StatusCode.value):
            return int(codes.BadWriteNotSupported)
        rank = read(ua.AttributeIds.ValueRank)
        rank = ua.ValueRank.Any if rank is None else rank
        if not fits(self._aspace, item.Value.Value, read(ua.AttributeIds.DataType), rank):
            return int(codes.BadTypeMismatch)
        return None


def _written_nodes(params: ua.WriteParameters) -> Iterable[ua.NodeId]:
    return [item.NodeId for item in params.NodesToWrite]
