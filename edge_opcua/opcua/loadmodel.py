"""``LoadModel``: names a model of the repository, gets a job at once; variables and events tell the rest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    GOOD,
    is_good,
    status_name,
)
from edge_opcua.opcua.events import PlantEvent, job_event
from edge_opcua.opcua.models import Job, ModelInfo
from edge_opcua.opcua.namespaces import Names
from edge_opcua.opcua.nodes import NodeMaker
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.slots import assign
from edge_opcua.opcua.space import SpaceBuilder
from edge_opcua.opcua.standard.modelchange import ModelChanges
from edge_opcua.opcua.values import SharedDataValue, status_code, utc

LoadModel = Callable[[str, int, str, str], Awaitable[Reply]]

ANSWER_S: Final = 5.0
# The same patterns as the repository's: what cannot be a model is refused before anybody looks for it.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_MAX_VERSION: Final = 1_000_000

_log = structlog.get_logger(__name__)


async def no_models(name: str, version: int, sha256: str, user: str) -> Reply:  # noqa: ARG001 - the port's signature
    """Refuse: nothing loads models in this server."""
    return Reply(BAD_INVALID_STATE, "this server loads no models", {})


def objections(name: Any, version: Any, sha256: Any) -> list[int]:
    """Return a StatusCode for each argument of ``LoadModel``; pure."""
    return [
        GOOD if isinstance(name, str) and _NAME.fullmatch(name) else BAD_OUT_OF_RANGE,
        GOOD if isinstance(version, int) and 1 <= version <= _MAX_VERSION else BAD_OUT_OF_RANGE,
        GOOD if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else BAD_OUT_OF_RANGE,
    ]


class ModelRepositoryNode:
    """The folder ``Models``: its method, its last job, and the objects of the versions.

    Args:
        space: The address space.
        builder: Adds versions that appear later.
        maker: Finds their variables.
        load_model: Starts a job; answers at once.
        emit: Delivers an event.
        changes: Tells clients of new nodes.
        clock: For stamps.
    """

    def __init__(
        self,
        space: PlantSpace,
        builder: SpaceBuilder,
        maker: NodeMaker,
        load_model: LoadModel,
        emit: Callable[[PlantEvent], Awaitable[None]],
        changes: ModelChanges,
        clock: Clock,
    ) -> None:
        self._space = space
        self._builder = builder
        self._maker = maker
        self._load_model = load_model
        self._emit = emit
        self._changes = changes
        self._clock = clock
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self._has_begun = False

    def find(self, name: str, version: int) -> ModelInfo | None:
        """Return a version of a model, if it is known."""
        return self._models.get((name, version))

    async def show(self, models: Sequence[ModelInfo]) -> None:
        """Show the versions that there are; what is not named any more becomes ``Retired``."""
        if not self._has_begun:  # that there was no job yet is known: nothing to wait for
            self._has_begun = True
            self._show_job(Job("", "", 0, "", 0))
        now = {model.key: model for model in models}
        for key, model in self._models.items():
            if key not in now:
                self._set_state(model.name, model.version, "Retired")
        for key, model in now.items():
            if key not in self._space.model_nodes:
                self._builder.model(self._space, model)
                self._changes.added(self._space.model_nodes[key], self._space.models)
            else:
                self._set_state(model.name, model.version, model.state)
        self._models = now
        await self._changes.tell()

    async def call(self, parent: ua.NodeId, *arguments: ua.Variant) -> ua.CallMethodResult:  # noqa: ARG002 - asyncua's
        """Run the method: look at the arguments, start a job, return its id."""
        name, version, sha256 = (argument.Value for argument in arguments)
        found = objections(name, version, sha256)
        if any(found):
            return _answer(ua.StatusCodes.BadInvalidArgument, arguments=found)
        who = caller().who
        try:
            async with asyncio.timeout(ANSWER_S):
                reply = await self._load_model(name, version, sha256.lower(), who)
        except TimeoutError:
            reply = Reply(BAD_TIMEOUT, "no answer in time", {})
        _log.info(
            "model.load_asked",
            model=name,
            version=version,
            user=who,
            status=status_name(reply.status),
            reason=reply.reason,
        )
        if not is_good(reply.status):
            return _answer(reply.status)
        return _answer(GOOD, outputs=[ua.Variant(str(reply.body.get("job", "")), ua.VariantType.String)])

    async def on_job(self, job: Job) -> None:
        """Show the progress of a job, and tell it to everybody."""
        self._show_job(job)
        if job.done:
            self._activate(job.name, job.version)
        await self._emit(job_event(job, self._space.models, utc(self._clock.utc_ns())))

    def _show_job(self, job: Job) -> None:
        kinds = ua.VariantType
        for member, value, kind in (
            ("JobId", job.job_id, kinds.String),
            ("ModelName", job.name, kinds.String),
            ("ModelVersion", job.version, kinds.UInt32),
            ("State", job.state, kinds.String),
            ("Percent", job.percent, kinds.UInt16),
            ("Reason", job.reason, kinds.String),
        ):
            assign(self._space.job[member], self._value(ua.Variant(value, kind)))

    def _activate(self, name: str, version: int) -> None:
        for other in [key for key in self._space.model_nodes if key[0] == name]:
            self._set_state(*other, "Active" if other[1] == version else "Available")

    def _set_state(self, name: str, version: int, state: str) -> None:
        slot = self._maker.slot(f"{Names.model(name, version)}.State")
        assign(slot, self._value(ua.Variant(state, ua.VariantType.String)))

    def _value(self, variant: ua.Variant) -> ua.DataValue:
        now = utc(self._clock.utc_ns())
        return SharedDataValue(variant, ua.StatusCode(ua.UInt32(GOOD)), now, now)


def _answer(
    status: int, *, arguments: Sequence[int] = (GOOD, GOOD, GOOD), outputs: Sequence[ua.Variant] = ()
) -> ua.CallMethodResult:
    result = ua.CallMethodResult()
    result.StatusCode = status_code(status)
    result.InputArgumentResults = [status_code(each) for each in arguments]
    result.OutputArguments = list(outputs)
    return result
