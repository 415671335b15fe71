"""Method calls whose arguments were looked at (Part 4 §5.12)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import MethodService

from edge_opcua.opcua.access import Access, Kind, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.audit import Act, Audit, lacking, unheard
from edge_opcua.opcua.services.outputs import LongResults, is_long
from edge_opcua.opcua.services.service import Caller, Service
from edge_opcua.opcua.services.slices import Encoded, Rest
from edge_opcua.opcua.types import attribute, method_of, objection, property_value

_MOST_BYTES: Final = ServerLimits().response_bytes

_log = structlog.get_logger(__name__)


class Methods(MethodService):
    """Part 4 §5.12 with what asyncua leaves out: whose method it is, may it run, do the arguments fit.

    A method is a coroutine function ``(object_id, *arguments)``. It returns the output arguments, a
    StatusCode or a CallMethodResult; a plain function is not called, since it would hold up everybody else.

    Args:
        aspace: The address space.
        access: Who may call what.
        most: Most calls in one request.
        audit: Hears of every call.
        most_bytes: Largest answer.
    """

    def __init__(
        self,
        aspace: Nodes,
        access: Access,
        most: int,
        *,
        audit: Audit = unheard,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        super().__init__(aspace)
        self._aspace: Nodes = aspace
        self._access = access
        self._most = most
        self._most_bytes = most_bytes
        self._audit = audit

    def services(self) -> Mapping[str, Service]:
        """Call."""
        return {
            "Call": Service(ua.CallParameters, self._serve_call, ("MethodsToCall",), self._most, aside=True)
        }

    async def _serve_call(self, caller: Caller, params: ua.CallParameters) -> ua.CallResponse | Encoded:
        response = ua.CallResponse()
        results = response.Results = []
        long: LongResults | None = None
        for index, method in enumerate(params.MethodsToCall):
            if index:
                await asyncio.sleep(0)  # most methods never wait, and the others have their turn, too
            result = await self._call_for(caller, method)
            if long is None and is_long(result):
                long = LongResults(results, self._most_bytes)
            if long is None:
                results.append(result)
            else:
                await Rest(long.add(result))
        return response if long is None else long.response()

    async def _call_for(self, caller: Caller, wanted: ua.CallMethodRequest) -> ua.CallMethodResult:
        # A call that is cut off may have run: it is told as one that timed out.
        result = ua.CallMethodResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadTimeout))
        try:
            result = await self._try(caller, wanted)
        except (ServiceError, ua.UaStatusCodeError) as exc:
            result.StatusCode = ua.StatusCode(exc.code)
        except TimeoutError:
            _log.debug("method.timed_out", method=wanted.MethodId.to_string())
        except Exception as exc:  # noqa: BLE001 - boundary: one bad method shall not fail its neighbours' calls
            _log.error("method.failed", method=wanted.MethodId.to_string(), error=repr(exc), exc_info=exc)
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadInternalError)
        finally:
            self._tell(caller, wanted, result)
        return result

    async def _try(self, caller: Caller, wanted: ua.CallMethodRequest) -> ua.CallMethodResult:
        arguments = list(wanted.InputArguments or ())
        method = self._find(caller, wanted)
        refused = self._examine(method, arguments)
        if any(refused):
            return ua.CallMethodResult(
                StatusCode=ua.StatusCode(ua.StatusCodes.BadInvalidArgument),
                InputArgumentResults=[ua.StatusCode(ua.UInt32(code)) for code in refused],
            )
        function = self._aspace[method].call
        if function is None:
            raise ServiceError(ua.StatusCodes.BadNotImplemented)
        if not inspect.iscoroutinefunction(function):
            _log.error("method.not_async", method=method.to_string())
            raise ServiceError(ua.StatusCodes.BadNotImplemented)
        return self._checked(method, await function(wanted.ObjectId, *arguments))

    def _find(self, caller: Caller, wanted: ua.CallMethodRequest) -> ua.NodeId:
        """Return the method that is meant: the object's own one, if that of its type was named."""
        codes = ua.StatusCodes
        if not self._aspace.knows(wanted.ObjectId):
            raise ServiceError(codes.BadNodeIdUnknown)
        method = method_of(self._aspace, wanted.ObjectId, wanted.MethodId)
        if method is None:
            raise ServiceError(codes.BadMethodInvalid)
        # Part 3 §8.55: the object has to be there for him, too.
        if not self._access.may(caller.roles, Permission.Browse, wanted.ObjectId):
            raise ServiceError(codes.BadUserAccessDenied)
        if not self._access.may(caller.roles, Permission.Call, method):
            raise ServiceError(codes.BadUserAccessDenied)
        if attribute(self._aspace, method, ua.AttributeIds.Executable) is False:
            raise ServiceError(codes.BadNotExecutable)
        return method

    def _examine(self, method: ua.NodeId, arguments: Sequence[ua.Variant]) -> list[int]:
        """Return a StatusCode for each argument, 0 if it is as declared."""
        declared = property_value(self._aspace, method, "InputArguments") or []
        if len(arguments) < len(declared):
            raise ServiceError(ua.StatusCodes.BadArgumentsMissing)
        if len(arguments) > len(declared):
            raise ServiceError(ua.StatusCodes.BadTooManyArguments)
        return self._objections(arguments, declared)

    def _objections(self, values: Sequence[ua.Variant], declared: Sequence[ua.Argument]) -> list[int]:
        return [
            objection(self._aspace, value, each.DataType, each.ValueRank, each.ArrayDimensions or ())
            for value, each in zip(values, declared, strict=True)
        ]

    def _checked(self, method: ua.NodeId, answer: Any) -> ua.CallMethodResult:
        """Return a method's answer as the client gets it, once it is what the method declares."""
        result = _result(answer)
        # Part 4 §5.12.2.2: empty, unless an argument was wrong.
        if result.StatusCode.value != ua.StatusCodes.BadInvalidArgument:
            result.InputArgumentResults = []
        if result.StatusCode.is_bad():
            result.OutputArguments = []
            return result
        declared = property_value(self._aspace, method, "OutputArguments") or []
        outputs = result.OutputArguments
        if len(outputs) != len(declared) or any(self._objections(outputs, declared)):
            _log.error("method.answer_invalid", method=method.to_string(), outputs=len(outputs))
            raise ServiceError(ua.StatusCodes.BadInternalError)
        return result

    def _tell(self, caller: Caller, wanted: ua.CallMethodRequest, result: ua.CallMethodResult) -> None:
        """Tell of a call, done or refused (Part 5 §6.5.23, AuditUpdateMethodEventType)."""
        method = method_of(self._aspace, wanted.ObjectId, wanted.MethodId)
        kinds = {self._access.kind(each) for each in (method, wanted.MethodId) if each is not None}
        # What one tells the methods of security are keys and passwords; who knows what a wrong call was told.
        secret = method is None or Kind.SECURITY in kinds
        status = int(result.StatusCode.value)
        act = Act(
            "method.called",
            status=status,
            who=caller.who,
            session=caller.session_id,
            node=wanted.ObjectId,
            facts={
                "user": caller.user_name,
                "method": wanted.MethodId.to_string(),
                **lacking(caller, status),
                **_said(kinds, wanted),
            },
            event={
                "MethodId": wanted.MethodId,
                "StatusCodeId": result.StatusCode,
                "InputArguments": [] if secret else list(wanted.InputArguments or ()),
                "OutputArguments": [] if secret else list(result.OutputArguments or ()),
            },
        )
        self._audit(act)


def _said(kinds: Collection[Kind], wanted: ua.CallMethodRequest) -> dict[str, str]:
    """Return what somebody said about a call to a method of an output, or about an answer to a verdict."""
    if not wanted.InputArguments:
        return {}
    if Kind.OUTPUT in kinds:
        comment = wanted.InputArguments[0].Value
    elif Kind.ANSWER in kinds:
        comment = wanted.InputArguments[-1].Value
    else:
        return {}
    return {"why": comment} if isinstance(comment, str) and comment else {}


def _result(answer: Any) -> ua.CallMethodResult:
    if isinstance(answer, ua.CallMethodResult):
        return answer
    if isinstance(answer, ua.StatusCode):
        return ua.CallMethodResult(StatusCode=answer)
    return ua.CallMethodResult(OutputArguments=list(answer or ()))
