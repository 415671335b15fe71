"""LoadModel jobs: answered at once, done one after the other, every step told to those who watch."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from edge_opcua.app.choice import ModelChoice
from edge_opcua.app.laneprocess import Progress
from edge_opcua.app.models import ActiveModels
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import Reply
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_TOO_MANY_OPERATIONS, GOOD
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import Job, JobEvent

_log = structlog.get_logger(__name__)

MAX_WAITING = 4
VERIFY_S = 30.0


class Swaps(Protocol):
    """Who keeps the lanes of a group."""

    @property
    def group(self) -> str:
        """Name of the group."""
        ...

    async def swap(self, changes: Mapping[str, ModelChoice], progress: Progress) -> None:
        """Change models, by pipeline; ModelError if one is not fit."""
        ...


class ModelJobs:
    """Changes models on request.

    Args:
        config: Which pipeline runs which model.
        keeper_of: Returns who keeps the lane of a pipeline.
        active: Remembers what was loaded.
        tell: Gets the notice of every step.

    Attributes:
        last: The notice of the last step, None before the first.
        changing: Held while a model is changed; who changes the configuration holds it as well.
    """

    def __init__(
        self,
        config: EdgeConfig,
        keeper_of: Callable[[str], Swaps],
        active: ActiveModels,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._config = config
        self._keeper_of = keeper_of
        self._active = active
        self._tell = tell
        self._worker = Worker("models")
        self._numbers = itertools.count(1)
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self.last: dict[str, Any] | None = None
        self.changing = asyncio.Lock()

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config

    def submit(self, body: Mapping[str, Any]) -> Reply:
        """Take a request and answer with its job; nothing has been done yet.

        Args:
            body: ``name``, ``version``, ``sha256`` (may be empty) and ``user``.
        """
        name, version, sha256 = body.get("name"), body.get("version"), body.get("sha256") or ""
        if not isinstance(name, str) or not isinstance(version, int) or not isinstance(sha256, str):
            return Reply(BAD_INVALID_ARGUMENT, "LoadModel takes a name, a version number and a SHA-256")
        if not self._pipelines(name):
            known = ", ".join(sorted({pipeline.model for pipeline in self._config.pipelines}))
            return Reply(BAD_INVALID_ARGUMENT, f'no pipeline runs a model "{name[:80]}"; there are: {known}')
        if len(self._waiting) >= MAX_WAITING:
            return Reply(BAD_TOO_MANY_OPERATIONS, f"{MAX_WAITING} jobs wait already")
        job = Job(f"job-{next(self._numbers)}", name, version, sha256, str(body.get("user", "")))
        self._waiting.append(job)
        self._arrived.set()
        self._publish(job)
        return Reply(GOOD, "", {"job": job.number})

    async def run(self) -> None:
        """Do the jobs, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                async with self.changing:
                    await self._do(self._waiting.popleft())

    async def _do(self, job: Job) -> None:
        current = job
        changed: list[str] = []

        async def progress(event: JobEvent) -> None:
            nonlocal current
            current = current.after(event)
            self._publish(current)

        try:
            asked = ModelChoice(job.name, job.version, job.sha256)
            choice = await self._worker.call(self._active.verify, asked, timeout_s=VERIFY_S)
            for keeper, pipelines in self._groups(job.name):
                await keeper.swap(dict.fromkeys(pipelines, choice), progress)
                changed += pipelines
                for pipeline in pipelines:
                    await self._keep(pipeline, choice)
            await progress(JobEvent.SWITCHING)
            await progress(JobEvent.ACTIVE)
        except (ModelError, OSError, TimeoutError) as exc:
            code = f"{exc.code}: " if isinstance(exc, ModelError) else ""
            already = f"; it runs already in {', '.join(changed)}" if changed else ""
            current = current.after(JobEvent.FAILED, f"{code}{exc}{already}" or "time-out")
            self._publish(current)

    async def _keep(self, pipeline: str, choice: ModelChoice) -> None:
        """Remember the choice; a disk that is full does not undo a change that has happened."""
        try:
            await self._worker.call(self._active.keep, pipeline, choice, timeout_s=VERIFY_S)
        except (OSError, TimeoutError) as exc:
            consequence = "after a restart the former model is active"
            _log.warning(
                "models.choice_not_kept", error=str(exc), consequence=consequence, **choice.as_json()
            )

    def _groups(self, model: str) -> list[tuple[Swaps, list[str]]]:
        """Return the pipelines with a model by who keeps their lanes: one process is changed once."""
        found: dict[str, tuple[Swaps, list[str]]] = {}
        for pipeline in self._pipelines(model):
            keeper = self._keeper_of(pipeline)
            found.setdefault(keeper.group, (keeper, []))[1].append(pipeline)
        return list(found.values())

    def _pipelines(self, model: str) -> list[str]:
        return [pipeline.name for pipeline in self._config.pipelines if pipeline.model == model]

    def _publish(self, job: Job) -> None:
        self.last = {**job.notice(), "sha256": job.sha256, "user": job.user}
        _log.info("job.changed", **self.last)
        self._tell(self.last)
