"""The methods of models: ``LoadModel`` and its siblings on the folder Models and on each pipeline.

Each looks at its arguments, asks the supervisor, and answers at once: with a job that events and variables
tell of, or with what became of an answer to a verdict. Nothing is done here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from asyncua import ua

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    GOOD,
    is_good,
    status_name,
)
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import Names, plant_id
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.values import status_code

__all__ = ["ANSWERS", "LONGEST_NOTE", "ModelActs", "ModelMethods", "ModelRequest", "no_models", "objections"]

ANSWER_S: Final = 5.0
LONGEST_NOTE: Final = 500
MOST_SHADOW: Final = 1_000_000
ANSWERS: Final = ("unknown", "real", "normal", "sensor_fault")
"""What a verdict really was, by the number of VerdictAnswer."""

# The same patterns as the repository's: what cannot be a model is refused before anybody looks for it.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_RESULT_ID: Final = re.compile(r"[0-9]{1,20}")
_MAX_VERSION: Final = 1_000_000

# What a reply holds if who has given it keeps the record: the id of a job, or of a record in the journal.
_RECORDED: Final = ("job", "id")
# A result is no node: a client would look for the object it has called.
_TOLD_AS: Final = {BAD_NODE_ID_UNKNOWN: int(ua.StatusCodes.BadNotFound)}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a client wants of a model.

    Args:
        kind: ``load_model``, ``validate_model``, ``rollback_model`` or ``answer_verdict``.
        body: The request's facts; ``user`` is who asks.
    """

    kind: str
    body: Mapping[str, Any]


ModelActs = Callable[[ModelRequest], Awaitable[Reply]]


async def no_models(request: ModelRequest) -> Reply:  # noqa: ARG001 - the port's signature
    """Refuse: nothing loads models in this server."""
    return Reply(BAD_INVALID_STATE, "this server loads no models", {})


@dataclass(frozen=True, slots=True)
class _Argument:
    """One argument of a method: its name in the request, what it may be, and how it travels."""

    name: str
    fits: Callable[[Any], bool]
    sent: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, slots=True)
class _Method:
    """A method: the request it becomes, and what it takes."""

    request: str
    arguments: tuple[_Argument, ...]
    kind: Kind = Kind.MODEL

    def objections(self, values: Sequence[Any]) -> list[int]:
        """Return a StatusCode for each argument."""
        return [
            GOOD if argument.fits(value) else BAD_OUT_OF_RANGE
            for argument, value in zip(self.arguments, values, strict=True)
        ]

    def body(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return what the request says; what a caller left open is left out."""
        pairs = (
            (argument.name, argument.sent(value))
            for argument, value in zip(self.arguments, values, strict=True)
        )
        return {name: value for name, value in pairs if value is not None}


def _is(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_within(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and low <= value <= high


def _is_note(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= LONGEST_NOTE)


_IS_HASH: Final = _is(_SHA256)
_THE_NAME: Final = _Argument("name", _is(_NAME))
_THE_VERSION: Final = _Argument("version", _is_within(1, _MAX_VERSION))
_THE_HASH: Final = _Argument("sha256", _IS_HASH, str.lower)
_ANY_HASH: Final = _Argument(
    "sha256", lambda value: not value or _IS_HASH(value), lambda v: (v or "").lower()
)
_THE_SHADOW: Final = _Argument("shadow", _is_within(0, MOST_SHADOW), lambda value: value or None)
_THE_NOTE: Final = _Argument("note", _is_note, lambda value: value or "")
_THE_RESULT: Final = _Argument("result_id", _is(_RESULT_ID))
_THE_ANSWER: Final = _Argument("answer", _is_within(0, len(ANSWERS) - 1), lambda value: ANSWERS[value])

_LOAD: Final = _Method("load_model", (_THE_NAME, _THE_VERSION, _THE_HASH))
_OF_REPOSITORY: Final[Mapping[str, _Method]] = {
    "LoadModel": _LOAD,
    "ValidateModel": _Method("validate_model", (_THE_NAME, _THE_VERSION, _ANY_HASH)),
    "RollbackModel": _Method("rollback_model", (_THE_NAME, _THE_NOTE)),
}
_OF_PIPELINE: Final[Mapping[str, _Method]] = {
    "LoadModel": _Method("load_model", (_THE_VERSION, _THE_HASH, _THE_SHADOW, _THE_NOTE)),
    "RollbackModel": _Method("rollback_model", (_THE_NOTE,)),
    "AnswerVerdict": _Method("answer_verdict", (_THE_RESULT, _THE_ANSWER, _THE_NOTE), Kind.ANSWER),
}


def objections(name: Any, version: Any, sha256: Any) -> list[int]:
    """Return a StatusCode for each argument of ``LoadModel``; pure."""
    return _LOAD.objections((name, version, sha256))


class ModelMethods:
    """The methods of the folder Models and of every pipeline.

    Args:
        aspace: The address space.
        access: Says who may call them.
        act: Does it, or begins it, in another process.
        names: Names of the plant's nodes.
    """

    def __init__(self, aspace: Nodes, access: Access, act: ModelActs, names: Names) -> None:
        self._aspace = aspace
        self._access = access
        self._act = act
        self._names = names
        self._pipelines: dict[ua.NodeId, PipelineConfig] = {}
        self._recorded: set[tuple[ua.NodeId, ua.NodeId]] = set()
        for name, method in _OF_REPOSITORY.items():
            self._install(plant_id(f"{Names.MODELS}.{name}"), method, self._of_repository(method))

    def bind(self, pipelines: Iterable[PipelineConfig]) -> None:
        """Let the methods of every pipeline there is work; again whenever one came, went or changed."""
        self._pipelines.clear()
        for pipeline in pipelines:
            self._pipelines[plant_id(self._names.inference(pipeline.name))] = pipeline
            for name, method in _OF_PIPELINE.items():
                node = plant_id(self._names.inference(pipeline.name, name))
                self._install(node, method, self._of_pipeline(method))

    def was_recorded(self, act: Act) -> bool:
        """Whether another process keeps the record of a call; asked once for each, right after it."""
        key = (act.session, act.node)
        if act.kind != "method.called" or key not in self._recorded:
            return False
        self._recorded.discard(key)
        return True

    def _install(self, node: ua.NodeId, method: _Method, call: Callable[..., Any]) -> None:
        self._access.mark(method.kind, [node])
        self._aspace.add_method_callback(node, call)

    def _of_repository(self, method: _Method) -> Callable[..., Awaitable[ua.CallMethodResult]]:
        async def call(parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
            return await self._call(parent, method, arguments, {})

        return call

    def _of_pipeline(self, method: _Method) -> Callable[..., Awaitable[ua.CallMethodResult]]:
        async def call(parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:
            pipeline = self._pipelines.get(parent)
            if pipeline is None:
                return ua.CallMethodResult(StatusCode=status_code(BAD_NODE_ID_UNKNOWN))
            more: dict[str, Any] = {"pipeline": pipeline.name}
            if method.request == "load_model":
                more = {"name": pipeline.model, "pipelines": [pipeline.name]}
            return await self._call(parent, method, arguments, more)

        return call

    async def _call(
        self, parent: ua.NodeId, method: _Method, arguments: Sequence[ua.Variant], more: Mapping[str, Any]
    ) -> ua.CallMethodResult:
        values = [argument.Value for argument in arguments]
        found = method.objections(values)
        if any(found):
            return ua.CallMethodResult(
                StatusCode=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadInvalidArgument)),
                InputArgumentResults=[status_code(each) for each in found],
            )
        session = caller()
        request = ModelRequest(method.request, {**more, **method.body(values), "user": session.who})
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._act(request)
        except TimeoutError:
            reply = Reply(BAD_TIMEOUT, "no answer in time", {})
        _tell(request, reply)
        if is_good(reply.status) and not reply.body.keys().isdisjoint(_RECORDED):
            self._recorded.add((session.session_id, parent))
        return _answer(reply, with_job=method.kind is Kind.MODEL)


def _tell(request: ModelRequest, reply: Reply) -> None:
    refused = {} if is_good(reply.status) else {"code": "S461" if reply.status == BAD_TIMEOUT else "S460"}
    _log.info(
        "model.asked",
        request=request.kind,
        **request.body,
        status=status_name(reply.status),
        reason=reply.reason,
        **refused,
    )


def _answer(reply: Reply, *, with_job: bool) -> ua.CallMethodResult:
    result = ua.CallMethodResult(StatusCode=status_code(_TOLD_AS.get(reply.status, reply.status)))
    if with_job and is_good(reply.status):
        result.OutputArguments = [ua.Variant(str(reply.body.get("job", "")), ua.VariantType.String)]
    return result
