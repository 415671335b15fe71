"""Method calls whose arguments were looked at (Part 4 §5.12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AddressSpace, MethodService

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.services.service import Caller, Service
from edge_opcua.opcua.types import attribute, fits, is_component_of, property_value

_log = structlog.get_logger(__name__)


class Methods(MethodService):
    """Part 4 §5.12 with what asyncua leaves out: whose method it is, may it run, do the arguments fit.

    Args:
        aspace: The address space.
        access: Who may call what.
        most: Most calls in one request.
    """

    def __init__(self, aspace: AddressSpace, access: Access, most: int) -> None:
        super().__init__(aspace)
        self._access = access
        self._most = most

    def services(self) -> Mapping[str, Service]:
        """Call."""
        return {
            "Call": Service(ua.CallParameters, self._serve_call, ("MethodsToCall",), self._most, aside=True)
        }

    async def _serve_call(self, caller: Caller, params: ua.CallParameters) -> ua.CallResponse:
        response = ua.CallResponse()
        response.Results = [await self._call_for(caller, method) for method in params.MethodsToCall]
        return response

    async def _call_for(self, caller: Caller, method: ua.CallMethodRequest) -> ua.CallMethodResult:
        arguments = list(method.InputArguments or ())
        result = ua.CallMethodResult()
        try:
            function = self._function(caller, method)
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

    def _function(self, caller: Caller, method: ua.CallMethodRequest) -> Any:
        codes = ua.StatusCodes
        if method.ObjectId not in self._aspace:
            raise ServiceError(codes.BadNodeIdUnknown)
        if method.MethodId not in self._aspace or not is_component_of(
            self._aspace, method.MethodId, method.ObjectId
        ):
            raise ServiceError(codes.BadMethodInvalid)
        if attribute(self._aspace, method.MethodId, ua.AttributeIds.Executable) is False:
            raise ServiceError(codes.BadNotExecutable)
        # Part 3 §8.55: the object has to be there for him, too.
        if not self._access.may(caller.roles, Permission.Browse, method.ObjectId):
            raise ServiceError(codes.BadUserAccessDenied)
        if not self._access.may(caller.roles, Permission.Call, method.MethodId):
            raise ServiceError(codes.BadUserAccessDenied)
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
