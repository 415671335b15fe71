"""Writes that wait for what the PLC did, and method calls whose arguments were looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AddressSpace, AttributeService, MethodService

from edge_opcua.opcua.seam.types import allows, attribute, fits, is_component_of, property_value

if TYPE_CHECKING:
    from edge_opcua.opcua.seam.session import Session, WriteHandler


_log = structlog.get_logger(__name__)


class Attributes(AttributeService):
    """Part 4 §5.11 for our nodes: a write goes where the value lives, and its answer comes from there.

    Args:
        aspace: The address space.
        write_s: Longest time for one value, seconds.
    """

    def __init__(self, aspace: AddressSpace, write_s: float) -> None:
        super().__init__(aspace)
        self._write_s = write_s
        self._handlers: dict[ua.NodeId, WriteHandler] = {}

    def set_handler(self, handler: WriteHandler, nodes: Iterable[ua.NodeId]) -> None:
        """Send clients' writes of these nodes' values to ``handler`` instead of the address space."""
        self._handlers.update(dict.fromkeys(nodes, handler))

    async def write_for(self, session: Session, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write the values in the order of the request, each after the one before it."""
        results = []
        for item in params.NodesToWrite:
            code = self._objection(session, item)
            if code is None:
                results.append(await self._write(session, item))
            else:
                results.append(ua.StatusCode(code))
        return results

    async def _write(self, session: Session, item: ua.WriteValue) -> ua.StatusCode:
        handler = self._handlers.get(item.NodeId)
        if handler is None:
            only = ua.WriteParameters()
            only.NodesToWrite = [item]
            return (await super().write(only, user=session.user))[0]
        try:
            async with asyncio.timeout(self._write_s):
                return await handler(session, item.NodeId, item.AttributeId, item.Value)
        except TimeoutError:  # indeterminate: the value may still arrive
            return ua.StatusCode(ua.StatusCodes.BadTimeout)
        except (ServiceError, ua.UaStatusCodeError) as exc:
            return ua.StatusCode(exc.code)

    def _objection(self, session: Session, item: ua.WriteValue) -> int | None:
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
        if not session.client.secured or not allows(read(ua.AttributeIds.UserAccessLevel), write):
            return int(codes.BadUserAccessDenied)
        # asyncua would replace the whole array by the part. Nor can a client say how good our value is.
        if item.IndexRange or (item.Value.StatusCode is not None and item.Value.StatusCode.value):
            return int(codes.BadWriteNotSupported)
        rank = read(ua.AttributeIds.ValueRank)
        rank = ua.ValueRank.Any if rank is None else rank
        if not fits(self._aspace, item.Value.Value, read(ua.AttributeIds.DataType), rank):
            return int(codes.BadTypeMismatch)
        return None


class Methods(MethodService):
    """Part 4 §5.12 with what asyncua leaves out: whose method it is, may it run, do the arguments fit."""

    async def _call(self, method: ua.CallMethodRequest) -> ua.CallMethodResult:
        arguments = list(method.InputArguments or ())
        result = ua.CallMethodResult()
        try:
            function = self._function(method)
            result.InputArgumentResults = self._examine(method.MethodId, arguments)
            if any(not status.is_good() for status in result.InputArgumentResults):
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
                return result
            answer = await self._run_method(function, method.ObjectId, *arguments)
        except (ServiceError, ua.UaStatusCodeError) as exc:
            result.StatusCode = ua.StatusCode(exc.code)
        except TimeoutError:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadTimeout)
        except Exception as exc:  # noqa: BLE001 - boundary: one bad method shall not fail its neighbours' calls
            _log.error("method.failed", method=str(method.MethodId), error=repr(exc), exc_info=exc)
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadInternalError)
        else:
            _enter(answer, result)
            if isinstance(answer, ua.CallMethodResult):
                answer.InputArgumentResults = answer.InputArgumentResults or result.InputArgumentResults
                return answer
        return result

    def _function(self, method: ua.CallMethodRequest) -> Any:
        codes = ua.StatusCodes
        if method.ObjectId not in self._aspace:
            raise ServiceError(codes.BadNodeIdUnknown)
        if method.MethodId not in self._aspace or not is_component_of(
            self._aspace, method.MethodId, method.ObjectId
        ):
            raise ServiceError(codes.BadMethodInvalid)
        for attribute_id, code in (
            (ua.AttributeIds.Executable, codes.BadNotExecutable),
            (ua.AttributeIds.UserExecutable, codes.BadUserAccessDenied),
        ):
            if attribute(self._aspace, method.MethodId, attribute_id) is False:
                raise ServiceError(code)
        function = self._aspace[method.MethodId].call
        if function is None:
            raise ServiceError(codes.BadNotImplemented)
        return function

    def _examine(self, method: ua.NodeId, arguments: Sequence[ua.Variant]) -> list[ua.StatusCode]:
        declared = property_value(self._aspace, method, "InputArguments") or []
        if len(arguments) < len(declared):
            raise ServiceError(ua.StatusCodes.BadArgumentsMissing)
        if len(arguments) > len(declared):
            raise ServiceError(ua.StatusCodes.BadTooManyArguments)
        return [
            ua.StatusCode(
                ua.StatusCodes.Good
                if fits(self._aspace, given, wanted.DataType, wanted.ValueRank)
                else ua.StatusCodes.BadTypeMismatch
            )
            for given, wanted in zip(arguments, declared, strict=True)
        ]


def _enter(answer: Any, result: ua.CallMethodResult) -> None:
    if isinstance(answer, ua.StatusCode):
        result.StatusCode = answer
    elif not isinstance(answer, ua.CallMethodResult):
        result.OutputArguments = list(answer or ())
