"""The folder Models: the objects of the versions, the youngest job, and the events of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.modelevents import ModelChange, alarm_event, changed_event, job_event
from edge_opcua.opcua.models import Job, ModelAlarm, ModelInfo
from edge_opcua.opcua.modelspace import add_model, show_version
from edge_opcua.opcua.nodes import NodeMaker
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.slots import assign_now
from edge_opcua.opcua.standard.modelchange import ModelChanges
from edge_opcua.opcua.values import utc

__all__ = ["ModelRepositoryNode"]

_KINDS: Final = ua.VariantType


class ModelRepositoryNode:
    """The folder ``Models``: the objects of the versions, and its last job.

    Args:
        space: The address space.
        maker: Adds versions that appear later, and finds their variables.
        emit: Delivers an event.
        changes: Tells clients of new nodes.
        clock: For stamps.
    """

    def __init__(
        self,
        space: PlantSpace,
        maker: NodeMaker,
        emit: Callable[[PlantEvent], Awaitable[None]],
        changes: ModelChanges,
        clock: Clock,
    ) -> None:
        self._space = space
        self._maker = maker
        self._emit = emit
        self._changes = changes
        self._clock = clock
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self._has_begun = False
        self._job = Job()
        self._before: Mapping[str, int] = {}

    def find(self, name: str, version: int) -> ModelInfo | None:
        """Return a version of a model, if it is known."""
        return self._models.get((name, version))

    async def show(self, models: Sequence[ModelInfo]) -> None:
        """Show the versions that there are; what is not named any more becomes ``Retired``."""
        if not self._has_begun:  # that there was no job yet is known: nothing to wait for
            self._has_begun = True
            self.show_job(self._job)
        now = {model.key: model for model in models}
        for key, model in self._models.items():
            if key not in now:
                gone = replace(model, state="Retired", reason="", pipelines=())
                show_version(self._maker, gone, self._clock)
        for key, model in now.items():
            if key not in self._space.model_nodes:
                add_model(self._maker, self._space, model)
                self._changes.added(self._space.model_nodes[key], self._space.models)
            show_version(self._maker, model, self._clock)
        self._models = now
        await self._changes.tell()

    async def on_job(self, job: Job) -> None:
        """Show the progress of a job, and tell it to everybody; its end is an event of its own as well."""
        if job.job_id != self._job.job_id:
            self._before = self._judging(job.name) if not job.ended else {}
        self.show_job(job)
        now = utc(self._clock.utc_ns())
        await self._emit(job_event(job, self._space.models, now))
        if job.ended:
            await self._emit(changed_event(self._change(job), self._space.models, now))

    async def on_alarm(self, alarm: ModelAlarm) -> None:
        """Tell everybody that an alarm of a running model comes or goes."""
        nodes = self._space.inferences.get(alarm.pipeline)
        if nodes is not None:
            now_ns = self._clock.utc_ns()
            await self._emit(alarm_event(alarm, nodes.node, now_ns, alarm.since_ns or now_ns))

    def _change(self, job: Job) -> ModelChange:
        """Return the outcome of a job: of several pipelines, what the first of them ran and runs."""
        first = next(iter((*job.pipelines, *job.before, *self._before)), "")
        before = job.before.get(first, self._before.get(first, 0))
        now = job.now.get(first, self._judging(job.name).get(first, 0) if job.changed else before)
        return ModelChange(job, before, now)

    def _judging(self, name: str) -> dict[str, int]:
        """Return which version of a model each pipeline runs, as far as it is known."""
        return {
            pipeline: model.version
            for model in self._models.values()
            if model.name == name
            for pipeline in model.pipelines
        }

    def show_job(self, job: Job) -> None:
        """Show a job as the youngest one; tells nobody but who watches its variables."""
        self._job = job
        for member, value, kind in (
            ("JobId", job.job_id, _KINDS.String),
            ("ModelName", job.name, _KINDS.String),
            ("ModelVersion", job.version, _KINDS.UInt32),
            ("State", job.state, _KINDS.String),
            ("Percent", job.percent, _KINDS.UInt16),
            ("Reason", job.reason, _KINDS.String),
            ("Kind", job.kind, _KINDS.String),
            ("Pipelines", list(job.pipelines), _KINDS.String),
            ("Note", job.note, _KINDS.String),
            ("User", job.user, _KINDS.String),
            ("ShadowWanted", job.shadow.wanted, _KINDS.UInt64),
            ("ShadowCompared", job.shadow.compared, _KINDS.UInt64),
            ("ShadowAgreement", job.shadow.agreement, _KINDS.Double),
            ("ShadowAgreementLow", job.shadow.agreement_low, _KINDS.Double),
        ):
            assign_now(self._space.job[member], value, kind, self._clock)
