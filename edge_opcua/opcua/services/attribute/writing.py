"""A client's Write (Part 4 §5.11.4) goes where the value lives, and its answer comes from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.attribute.personal import COMPUTED
from edge_opcua.opcua.services.attribute.ranges import parse
from edge_opcua.opcua.services.audit import Act, Audit, lacking
from edge_opcua.opcua.services.service import Caller, WriteHandler
from edge_opcua.opcua.types import allows, attribute, objection, property_value
from edge_opcua.opcua.values import utc

_VALUE: Final = int(ua.AttributeIds.Value)
_BYTE: Final = ua.NodeId(ua.ObjectIds.Byte)
# Some clients stamp what they write without being asked: asyncua's `write_value(5)` does.
_VALUE_ALONE: Final = "a status or time stamp was sent along; send the value alone"

_log = structlog.get_logger(__name__)


class Writing:
    """Writes single values for clients.

    Args:
        aspace: The address space.
        access: Who may do what.
        limits: Longest time for one value.
        clock: For the stamps of what is written here.
        audit: Hears of every write.

    Attributes:
        handlers: Where the values live that are not in the address space.
        tag_handler: Where those of the tags live; None: nobody writes them.
    """

    def __init__(
        self, aspace: Nodes, access: Access, limits: ServerLimits, *, clock: Clock, audit: Audit
    ) -> None:
        self._aspace = aspace
        self._access = access
        self._limits = limits
        self._clock = clock
        self._audit = audit
        self.handlers: dict[ua.NodeId, WriteHandler] = {}
        self.tag_handler: WriteHandler | None = None

    def __contains__(self, node: object) -> bool:
        """Whether a handler writes the value of a node, and so only whole."""
        return isinstance(node, ua.NodeId) and self._handler(node) is not None

    def _handler(self, node: ua.NodeId) -> WriteHandler | None:
        number = self._aspace.tags.number(node)
        if number is None:
            return self.handlers.get(node)
        return self.tag_handler if self._aspace.tags.writable[number] else None

    def set_handler(self, handler: WriteHandler, nodes: Iterable[ua.NodeId]) -> None:
        """Send clients' writes of these nodes' values to ``handler`` instead of the address space.

        They are written whole: a part with an IndexRange is BadWriteNotSupported, and their AccessLevelEx
        says so (WriteFullArrayOnly). To write a part we would have to read the rest, and by the time it came
        back to the device the PLC or somebody else may have changed it: elements that nobody touched would
        fall back.
        """
        self.handlers.update(dict.fromkeys(nodes, handler))

    async def write(self, session: Caller, item: ua.WriteValue) -> ua.StatusCode:
        """Write one value, and tell the audit what came of it."""
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
        handler = self._handler(item.NodeId)
        if item.IndexRange:
            part = parse(item.IndexRange)
            if handler is not None:
                raise ServiceError(ua.StatusCodes.BadWriteNotSupported)
            value = part.write(self._before(item.NodeId), value)
        self._check_value(item.NodeId, value)
        # Part 4 §5.11.4.1: how good a value is and when it was made is not the client's to say here.
        given = item.Value
        if (given.StatusCode and given.StatusCode.value) or given.SourceTimestamp or given.ServerTimestamp:
            _log.info("write.refused", node=item.NodeId.to_string(), user=session.who, reason=_VALUE_ALONE)
            raise ServiceError(ua.StatusCodes.BadWriteNotSupported)
        if handler is None:
            return await self._store(item.NodeId, value)
        async with asyncio.timeout(self._limits.write_s):
            return await handler(session, item.NodeId, item.AttributeId, ua.DataValue(value))

    async def _store(self, node: ua.NodeId, value: ua.Variant) -> ua.StatusCode:
        """Set a value that lives in the address space, and tell who watches it.

        asyncua's own way compares with the type of the last value; a Number may be an Int32 after a Double.
        """
        data = self._aspace.get(node)
        if data is None:  # a tag, and nobody writes tags
            raise ServiceError(ua.StatusCodes.BadWriteNotSupported)
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
        if not self._aspace.knows(item.NodeId):
            raise ServiceError(codes.BadNodeIdUnknown)
        if item.AttributeId != _VALUE:
            known = item.AttributeId in COMPUTED or self._aspace.has(item.NodeId, item.AttributeId)
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
        held = self._aspace.shown(node, _VALUE)
        return ua.Variant() if held is None or held.Value is None else held.Value

    def _tell(self, session: Caller, item: ua.WriteValue, before: ua.Variant, status: ua.StatusCode) -> None:
        """Tell of a write, done or refused (Part 5 §6.5.20, AuditWriteUpdateEventType)."""
        act = Act(
            "value.written",
            status=int(status.value),
            who=session.who,
            session=session.session_id,
            node=item.NodeId,
            facts={
                "user": session.user_name,
                "attribute": int(item.AttributeId),
                "index_range": item.IndexRange or "",
                **lacking(session, int(status.value)),
            },
            event={
                "AttributeId": ua.UInt32(item.AttributeId),
                "IndexRange": item.IndexRange,
                "OldValue": before,
                "NewValue": item.Value.Value,
            },
        )
        self._audit(act)
