"""Read and Write (Part 4 §5.11): what a caller sees of an attribute, and where a write goes.

What is read is what is here: tags come from the bus as fast as their devices are polled, and a read does not
reach through to a device. So any MaxAge is met with the newest value there is (Part 4 §5.11.2.2 asks for the
best effort), and its SourceTimestamp says how old that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AddressSpace, AttributeService, NodeData

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.audit import Act, Audit, unheard
from edge_opcua.opcua.services.personal import Personal
from edge_opcua.opcua.services.ranges import parse
from edge_opcua.opcua.services.service import Caller, Service, WriteHandler
from edge_opcua.opcua.services.slices import SLICE, answer, begin
from edge_opcua.opcua.types import allows, attribute, is_subtype, objection, property_value
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
_BYTE: Final = ua.NodeId(ua.ObjectIds.Byte)

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
        aspace: AddressSpace,
        access: Access,
        limits: ServerLimits,
        *,
        clock: Clock | None = None,
        audit: Audit = unheard,
    ) -> None:
        super().__init__(aspace)
        self._access = access
        self._limits = limits
        self._clock = clock or SystemClock()
        self._audit = audit
        self._handlers: dict[ua.NodeId, WriteHandler] = {}
        self._personal = Personal(access, whole_only=self._handlers)

    def services(self) -> Mapping[str, Service]:
        """Read, Write."""
        most = self._limits.operations
        return {
            "Read": Service(_ReadParameters, self._serve_read, ("NodesToRead",), most.read),
            "Write": Service(
                ua.WriteParameters,
                self._serve_write,
                ("NodesToWrite",),
                most.write,
                aside=True,
                order=_written_nodes,
            ),
        }

    # --- reading -------------------------------------------------------------------------------------

    def _serve_read(self, caller: Caller, params: _ReadParameters) -> Any:
        if not params.MaxAge >= 0:
            raise ServiceError(ua.StatusCodes.BadMaxAgeInvalid)
        if not _SOURCE <= params.TimestampsToReturn <= _NEITHER:
            raise ServiceError(ua.StatusCodes.BadTimestampsToReturnInvalid)
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
        if data is None:
            return _UNKNOWN
        may = self._access.bits(node, caller.roles)
        if attribute == _VALUE:
            value = self._value(data, may)
            if timestamps != _BOTH or value.ServerTimestamp is None:
                value = self._stamped(value, timestamps)
        else:
            value = self._attribute(data, attribute, may, caller)
        return _part(value, index_range) if index_range else value

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

    def _attribute(self, data: NodeData, attribute: int, may: int, caller: Caller) -> ua.DataValue:
        """Return an attribute that is no Value: whoever may browse a node may read it (Part 3 §8.55)."""
        if not may & _MAY_BROWSE:
            return _DENIED
        if attribute in self._personal.attributes:
            found = self._personal.read(data, attribute, may, caller.roles)
            return found if isinstance(found, ua.DataValue) else _refused(found)
        slot = data.attributes.get(attribute)
        if slot is None or slot.value is None:
            return _NO_ATTRIBUTE
        value = slot.value
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
        """Send clients' writes of these nodes' values to ``handler`` instead of the address space.

        They are written whole: a part with an IndexRange is BadWriteNotSupported, and their AccessLevelEx
        says so (WriteFullArrayOnly). To write a part we would have to read the rest, and by the time it came
        back to the device the PLC or somebody else may have changed it: elements that nobody touched would
        fall back.
        """
        self._handlers.update(dict.fromkeys(nodes, handler))

    async def write_for(self, session: Caller, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write the values in the order of the request, each after the one before it."""
        return [await self._write(session, item) for item in params.NodesToWrite]

    async def _write(self, session: Caller, item: ua.WriteValue) -> ua.StatusCode:
        before = ua.Variant()
        # A write that is cut off may have happened: it is told as one that timed out.
        status = ua.StatusCode(ua.StatusCodes.BadTimeout)
        try:
            self._check_right(session, item)
            before = self._before(item.NodeId)
            status = await self._execute(session, item)
        except (ServiceError, ua.UaStatusCodeError) as exc:
            status = ua.StatusCode(exc.code)
        except TimeoutError:  # indeterminate: the value may still arrive
            _log.debug("write.timed_out", node=item.NodeId.to_string())
        except Exception as exc:  # noqa: BLE001 - boundary: one bad handler shall not fail the other values
            _log.error("write.failed", node=item.NodeId.to_string(), error=repr(exc), exc_info=exc)
            status = ua.StatusCode(ua.StatusCodes.BadInternalError)
        finally:
            self._tell(session, item, before, status)
        return status

    async def _execute(self, session: Caller, item: ua.WriteValue) -> ua.StatusCode:
        """Write what passed :meth:`_check_right`; nobody runs between reading an array and writing it."""
        value = self._adapted(item)
        handler = self._handlers.get(item.NodeId)
        if item.IndexRange:
            part = parse(item.IndexRange)
            if handler is not None:
                raise ServiceError(ua.StatusCodes.BadWriteNotSupported)
            value = part.write(self._before(item.NodeId), value)
        self._check_value(item.NodeId, value)
        # Part 4 §5.11.4.1: how good a value is and when it was made is not the client's to say here.
        given = item.Value
        if (given.StatusCode and given.StatusCode.value) or given.SourceTimestamp or given.ServerTimestamp:
            raise ServiceError(ua.StatusCodes.BadWriteNotSupported)
        if handler is None:
            return await self._store(item.NodeId, value)
        async with asyncio.timeout(self._limits.write_s):
            return await handler(session, item.NodeId, item.AttributeId, ua.DataValue(value))

    async def _store(self, node: ua.NodeId, value: ua.Variant) -> ua.StatusCode:
        """Set a value that lives in the address space, and tell who watches it.

        asyncua's own way compares with the type of the last value; a Number may be an Int32 after a Double.
        """
        data = self._aspace[node]
        slot = data.attributes[_VALUE]
        if slot.value_callback is not None and slot.value_setter is None:
            raise ServiceError(
                ua.StatusCodes.BadWriteNotSupported
            )  # somebody works it out; nobody would know
        now = utc(self._clock.utc_ns())
        stamped = ua.DataValue(value, SourceTimestamp=now, ServerTimestamp=now)
        if slot.value_setter is not None:
            slot.value_setter(data, ua.AttributeIds.Value, stamped)
        else:
            slot.value = stamped
        for handle, watcher in list(slot.datachange_callbacks.items()):
            try:
                await watcher(handle, stamped)
            except Exception as exc:  # noqa: BLE001 - boundary: the value is written, whoever watches it
                _log.error("watcher.failed", node=node.to_string(), error=repr(exc), exc_info=exc)
        return ua.StatusCode()

    def _check_right(self, session: Caller, item: ua.WriteValue) -> None:
        codes = ua.StatusCodes
        data = self._aspace.get(item.NodeId)
        if data is None:
            raise ServiceError(codes.BadNodeIdUnknown)
        if item.AttributeId != _VALUE:
            known = item.AttributeId in data.attributes or item.AttributeId in self._personal.attributes
            raise ServiceError(codes.BadNotWritable if known else codes.BadAttributeIdInvalid)
        level = attribute(self._aspace, item.NodeId, ua.AttributeIds.AccessLevel)
        if not allows(level, ua.AccessLevel.CurrentWrite):
            raise ServiceError(codes.BadNotWritable)
        if not self._access.may(session.roles, Permission.Write, item.NodeId):
            raise ServiceError(codes.BadUserAccessDenied)

    def _check_value(self, node: ua.NodeId, value: ua.Variant) -> None:
        """Look at type, rank, dimensions and range of what is to be written (Part 4 §5.11.4.4)."""

        def read(attribute_id: ua.AttributeIds) -> Any:
            return attribute(self._aspace, node, attribute_id)

        rank = read(ua.AttributeIds.ValueRank)
        refused = objection(
            self._aspace,
            value,
            read(ua.AttributeIds.DataType),
            ua.ValueRank.Any if rank is None else rank,
            read(ua.AttributeIds.ArrayDimensions) or (),
        )
        states = property_value(self._aspace, node, "EnumStrings")
        # Part 8 §5.3.3: a discrete item takes the number of one of its states.
        if not refused and states and isinstance(value.Value, int) and not 0 <= value.Value < len(states):
            refused = int(ua.StatusCodes.BadOutOfRange)
        if refused:
            raise ServiceError(refused)

    def _adapted(self, item: ua.WriteValue) -> ua.Variant:
        """Part 4 §5.11.4.1: a ByteString is taken where an array of Byte is expected."""
        value = item.Value.Value
        if value.VariantType != ua.VariantType.ByteString or value.is_array or value.Value is None:
            return value
        if attribute(self._aspace, item.NodeId, ua.AttributeIds.DataType) != _BYTE:
            return value
        return ua.Variant(list(value.Value), ua.VariantType.Byte, is_array=True)

    def _before(self, node: ua.NodeId) -> ua.Variant:
        """Return the newest value of a node, whoever asks."""
        held = self._aspace.read_attribute_value(node, ua.AttributeIds.Value).Value
        return ua.Variant() if held is None else held

    def _tell(self, session: Caller, item: ua.WriteValue, before: ua.Variant, status: ua.StatusCode) -> None:
        """Tell of a write, done or refused (Part 5 §6.5.20, AuditWriteUpdateEventType)."""
        act = Act(
            "value.written",
            status=int(status.value),
            who=session.who,
            session=session.session_id,
            node=item.NodeId,
            facts={"attribute": int(item.AttributeId), "index_range": item.IndexRange or ""},
            event={
                "AttributeId": ua.UInt32(item.AttributeId),
                "IndexRange": item.IndexRange,
                "OldValue": before,
                "NewValue": item.Value.Value,
            },
        )
        self._audit(act)


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
