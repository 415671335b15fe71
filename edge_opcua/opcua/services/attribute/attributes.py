"""Read and Write (Part 4 §5.11): what a caller sees of an attribute, and where a write goes.

What is read is what is here: tags come from the bus as fast as their devices are polled, and a read does not
reach through to a device. So any MaxAge is met with the newest value there is (Part 4 §5.11.2.2 asks for the
best effort), and its SourceTimestamp says how old that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AttributeService, NodeData

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.attribute.personal import COMPUTED, Personal
from edge_opcua.opcua.services.attribute.ranges import parse
from edge_opcua.opcua.services.attribute.reading import Reading, nothing
from edge_opcua.opcua.services.attribute.writing import Writing
from edge_opcua.opcua.services.audit import Audit, unheard
from edge_opcua.opcua.services.service import Caller, Service, WriteHandler
from edge_opcua.opcua.services.slices import SLICE, answer, begin
from edge_opcua.opcua.tags.nodes import TagNode
from edge_opcua.opcua.types import attribute, is_subtype
from edge_opcua.opcua.values import SharedDataValue, utc

_VALUE: Final = int(ua.AttributeIds.Value)
_ACCESS_LEVEL: Final = int(ua.AttributeIds.AccessLevel)
_MAY_READ: Final = int(Permission.Read)
_MAY_BROWSE: Final = int(Permission.Browse)
_CURRENT_READ: Final = ua.AccessLevel.CurrentRead.mask
_SOURCE, _SERVER, _BOTH, _NEITHER = (
    int(getattr(ua.TimestampsToReturn, each)) for each in ("Source", "Server", "Both", "Neither")
)
_DEFAULT_BINARY: Final = "Default Binary"
_STRUCTURE: Final = ua.NodeId(ua.ObjectIds.Structure)

_log = structlog.get_logger(__name__)


def _refused(code: int) -> SharedDataValue:
    return SharedDataValue(StatusCode=ua.StatusCode(ua.UInt32(code)))


_UNKNOWN: Final = _refused(ua.StatusCodes.BadNodeIdUnknown)
_DENIED: Final = _refused(ua.StatusCodes.BadUserAccessDenied)
_NOT_READABLE: Final = _refused(ua.StatusCodes.BadNotReadable)
_NO_ATTRIBUTE: Final = _refused(ua.StatusCodes.BadAttributeIdInvalid)
_FAILED: Final = _refused(ua.StatusCodes.BadInternalError)


@dataclass
class _ReadParameters:
    """The parameters of Read with the enumeration as it came, so that an unknown one has its StatusCode."""

    MaxAge: ua.Double = 0.0
    TimestampsToReturn: ua.Int32 = 0
    NodesToRead: list[ua.ReadValueId] = field(default_factory=list)


class Attributes(AttributeService):
    """The attribute services for clients; the server itself reads and writes through the base class.

    Args:
        aspace: The address space.
        access: Who may do what.
        limits: Longest time for one value, most operations.
        clock: For the stamps of what is written here.
        audit: Hears of every write.
    """

    def __init__(
        self,
        aspace: Nodes,
        access: Access,
        limits: ServerLimits,
        *,
        clock: Clock | None = None,
        audit: Audit = unheard,
    ) -> None:
        super().__init__(aspace)
        self._aspace: Nodes = aspace
        self._access = access
        self._limits = limits
        self._clock = clock or SystemClock()
        self._writing = Writing(aspace, access, limits, clock=self._clock, audit=audit)
        self.reading = Reading(aspace.tags, access, limits, self._clock, self._read_one)
        self._refresh: Callable[[], object] = nothing
        self._personal = Personal(aspace, access, whole_only=self._writing)

    def services(self) -> Mapping[str, Service]:
        """Read, Write."""
        most = self._limits.operations
        return {
            "Read": Service(
                _ReadParameters, self._serve_read, ("NodesToRead",), most.read, raw=self.reading.raw
            ),
            "Write": Service(
                ua.WriteParameters,
                self._serve_write,
                ("NodesToWrite",),
                most.write,
                aside=True,
                order=_written_nodes,
            ),
        }

    def before_reading(self, refresh: Callable[[], object]) -> None:
        """Call something before each Read: what is new then is what is read."""
        self._refresh = self.reading.refresh = refresh

    # --- reading: what comes in is answered by Reading; this is the slow, obvious way -----------------

    def _read_one(self, caller: Caller, item: ua.ReadValueId, timestamps: int) -> ua.DataValue:
        return self.read_for(caller, item, timestamps, 0.0)

    def _serve_read(self, caller: Caller, params: _ReadParameters) -> Any:
        if not params.MaxAge >= 0:
            raise ServiceError(ua.StatusCodes.BadMaxAgeInvalid)
        if not _SOURCE <= params.TimestampsToReturn <= _NEITHER:
            raise ServiceError(ua.StatusCodes.BadTimestampsToReturnInvalid)
        self._refresh()
        return begin(self._read_all(caller, params))

    def _read_all(self, caller: Caller, params: _ReadParameters) -> Generator[None, None, Any]:
        items, timestamps, max_age_ms = params.NodesToRead, params.TimestampsToReturn, params.MaxAge
        results: list[ua.DataValue] = []
        for start in range(0, len(items), SLICE):
            if start:
                yield
            results += [
                self.read_for(caller, item, timestamps, max_age_ms) for item in items[start : start + SLICE]
            ]
        return (yield from answer(ua.ReadResponse(), results, self._limits.response_bytes))

    def read_for(
        self,
        caller: Caller,
        item: ua.ReadValueId,
        timestamps: int,
        max_age_ms: float,  # noqa: ARG002 - what is here is as new as it gets
    ) -> ua.DataValue:
        """Return what this caller reads there (Part 4 §5.11.2)."""
        if item.DataEncoding.Name:
            refused = self._encoding_objection(item)
            if refused:
                return _refused(refused)
        return self.value_for(caller, item.NodeId, item.AttributeId, item.IndexRange, timestamps)

    def value_for(
        self, caller: Caller, node: ua.NodeId, attribute: int, index_range: str | None, timestamps: int
    ) -> ua.DataValue:
        """Return an attribute as this caller may see it; what goes wrong is the status of the answer.

        Args:
            caller: Whose roles count.
            node: The node.
            attribute: Which attribute (AttributeId).
            index_range: NumericRange (Part 4 §7.27), None or empty: the whole value.
            timestamps: Which stamps go along (TimestampsToReturn); only a Value has any.
        """
        data = self._aspace.get(node)
        tag = self._aspace.virtual.find(node) if data is None else None
        if data is None and tag is None:
            return _UNKNOWN
        may = self._access.bits(node, caller.roles)
        if attribute == _VALUE:
            value = self._value(data, may) if tag is None else self._value_of_tag(tag, may)
            if timestamps != _BOTH or value.ServerTimestamp is None:
                value = self._stamped(value, timestamps)
        else:
            value = self._attribute(node, attribute, may, caller)
        return _part(value, index_range) if index_range else value

    def _value_of_tag(self, tag: TagNode, may: int) -> ua.DataValue:
        """Return the value of a tag or of a property of one; all of them can be read."""
        return self._aspace.virtual.value(tag) if may & _MAY_READ else _DENIED

    def _value(self, data: NodeData, may: int) -> ua.DataValue:
        slot = data.attributes.get(_VALUE)
        if slot is None:
            return _NO_ATTRIBUTE
        if not may & _MAY_READ:
            return _DENIED
        level = data.attributes.get(_ACCESS_LEVEL)  # a VariableType has none
        if level is not None and not level.value.Value.Value & _CURRENT_READ:
            return _NOT_READABLE
        if slot.value_callback is None:
            return _NO_ATTRIBUTE if slot.value is None else slot.value
        try:
            return slot.value_callback(data.nodeid, ua.AttributeIds.Value)
        except Exception as exc:  # noqa: BLE001 - boundary: whoever computes one value shall not fail the others
            _log.error("read.failed", node=data.nodeid.to_string(), error=repr(exc), exc_info=exc)
            return _FAILED

    def _stamped(self, value: ua.DataValue, timestamps: int) -> ua.DataValue:
        """Return a value with the stamps that were asked for; copied only if they differ."""
        if _is_bad(value) and value.ServerTimestamp is None:
            return value
        source = value.SourceTimestamp if timestamps in (_SOURCE, _BOTH) else None
        server = value.ServerTimestamp if timestamps in (_SERVER, _BOTH) else None
        if timestamps in (_SERVER, _BOTH) and server is None:
            server = utc(self._clock.utc_ns())  # Part 4 §7.11.4: when it was known to be accurate
        if source is value.SourceTimestamp and server is value.ServerTimestamp:
            return value
        return SharedDataValue(value.Value, value.StatusCode, source, server)

    def _attribute(self, node: ua.NodeId, attribute: int, may: int, caller: Caller) -> ua.DataValue:
        """Return an attribute that is no Value: whoever may browse a node may read it (Part 3 §8.55)."""
        if not may & _MAY_BROWSE:
            return _DENIED
        if attribute in COMPUTED:
            found = self._personal.read(node, attribute, may, caller.roles)
            return found if isinstance(found, ua.DataValue) else _refused(found)
        value = self._aspace.shown(node, attribute)
        if value is None:
            return _NO_ATTRIBUTE
        if value.SourceTimestamp is None and value.ServerTimestamp is None:
            return value
        return SharedDataValue(value.Value, value.StatusCode)

    def _encoding_objection(self, item: ua.ReadValueId) -> int:
        """Part 4 §5.11.2.4: only a structure can be asked for in an encoding; we have one."""
        data_type = attribute(self._aspace, item.NodeId, ua.AttributeIds.DataType)
        if item.AttributeId != _VALUE or data_type is None:
            return int(ua.StatusCodes.BadDataEncodingInvalid)
        if not is_subtype(self._aspace, data_type, _STRUCTURE):
            return int(ua.StatusCodes.BadDataEncodingInvalid)
        wanted = item.DataEncoding
        if wanted.Name == _DEFAULT_BINARY and not wanted.NamespaceIndex:
            return 0
        return int(ua.StatusCodes.BadDataEncodingUnsupported)

    # --- writing -------------------------------------------------------------------------------------

    async def _serve_write(self, caller: Caller, params: ua.WriteParameters) -> ua.WriteResponse:
        response = ua.WriteResponse()
        response.Results = await self.write_for(caller, params)
        return response

    def set_handler(self, handler: WriteHandler, nodes: Iterable[ua.NodeId]) -> None:
        """Send clients' writes of these nodes' values to ``handler``; see :class:`Writing`."""
        self._writing.set_handler(handler, nodes)

    def set_tag_handler(self, handler: WriteHandler) -> None:
        """Send clients' writes of tags' values to ``handler``; see :class:`Writing`."""
        self._writing.tag_handler = handler

    async def write_for(self, session: Caller, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write the values in the order of the request, each after the one before it."""
        results: list[ua.StatusCode] = []
        for item in params.NodesToWrite:
            if len(results) % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            results.append(await self._writing.write(session, item))
        return results


def _is_bad(value: ua.DataValue) -> bool:
    return value.StatusCode is not None and bool(value.StatusCode.is_bad())


def _part(value: ua.DataValue, index_range: str) -> ua.DataValue:
    try:
        wanted = parse(index_range)
        if _is_bad(value):
            return value
        part = wanted.read(value.Value)
    except ServiceError as exc:
        return _refused(exc.code)
    return SharedDataValue(part, value.StatusCode, value.SourceTimestamp, value.ServerTimestamp)


def _written_nodes(params: ua.WriteParameters) -> Iterable[ua.NodeId]:
    return [item.NodeId for item in params.NodesToWrite]
