"""Where the supervisor takes everything about models: requests, what lanes see, what becomes of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.models.guard import FaultBoard, Guard
from edge_opcua.app.models.jobs import ModelJobs
from edge_opcua.app.serving.groups import LaneGroups
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, GOOD, is_good
from edge_opcua.inference.ledger import Step
from edge_opcua.inference.lifecycle import ENDED, Job, JobKind, JobState

_JOBS: Final = {
    "load_model": JobKind.LOAD,
    "validate_model": JobKind.VALIDATE,
    "rollback_model": JobKind.ROLLBACK,
}
_AUDITED: Final = 2000  # characters of what people and models say
_ENDED: Final = frozenset(state.value for state in ENDED)


class Announce(Protocol):
    """Tells the other processes; a process that is not there misses it, the records are kept for it."""

    def __call__(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        """Tell one of them something."""
        ...


class ModelDesk:
    """Everything about models in the supervisor.

    Args:
        config: The configuration.
        book: What is written down of models.
        lanes: The lanes of all groups.
        board: Where people see what is wrong.
        notify: Tells the other processes.
        clock: Clock of the machine.

    Attributes:
        jobs: The changes of models.
        guard: Goes back by itself.
    """

    def __init__(
        self,
        config: EdgeConfig,
        book: ModelBook,
        lanes: LaneGroups,
        board: FaultBoard,
        notify: Announce,
        clock: Clock,
    ) -> None:
        self._book = book
        self._lanes = lanes
        self._notify = notify
        self._untold: list[dict[str, Any]] = []
        self.jobs = ModelJobs(config, lanes.of, book, self._on_job, clock)
        self.guard = Guard(config, book, lambda: lanes.keepers, self.jobs.go_back, board, clock)

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._book.active.reconfigure(config)
        self.jobs.reconfigure(config)
        self.guard.reconfigure(config)

    def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[Any]]:
        """Tell what the start has found, and work from now on; what was ordered meanwhile begins."""
        self.guard.tell_found()
        for number, found in enumerate(self._book.found, 1):
            entry, back = found.entry, found.entry.step is Step.REVERTED
            model, kind = entry.model, JobKind.ROLLBACK if back else JobKind.LOAD
            state = JobState.ROLLED_BACK if back else JobState.FAILED
            job = Job(
                f"start-{number}",
                model.name,
                model.version,
                model.sha256,
                entry.user,
                kind,
                entry.pipelines,
                entry.note,
                state=state,
                reason=entry.why,
                before={name: choice.version for name, choice in entry.before.items()},
                now={name: self._book.active.choice(name).version for name in entry.pipelines},
            )
            self._untold.append(job.notice())
            self._notify("records", "job", job.notice())
        self.jobs.order()
        return [
            tasks.create_task(self.jobs.run(), name="jobs"),
            tasks.create_task(self.guard.run(), name="guard"),
        ]

    def on_listening(self) -> None:
        """Tell OPC UA clients what the start has found, now that there may be some."""
        untold, self._untold = self._untold, []
        for body in untold:
            self._notify("opcua", "job", body)

    async def handle(self, request: Request) -> Reply | None:
        """Answer a request about models; None if it is about something else."""
        body = request.body
        match request.kind:
            case "load_model" | "validate_model" | "rollback_model":
                return self.jobs.submit(body, _JOBS[request.kind])
            case "release_model":
                return await self._release(body)
            case "model_job":
                notice = self.jobs.notice(str(body.get("job", "")))
                if notice is None:
                    return Reply(BAD_INVALID_ARGUMENT, "there is no such job, or not any more")
                return Reply(GOOD, "", notice)
            case "watch":
                self.guard.on_watch(body)
                for role in ("opcua", "records"):
                    self._notify(role, "watch", body)
                return Reply(GOOD, "", {})
        return None

    async def _release(self, body: Mapping[str, Any]) -> Reply:
        reply = await self.jobs.release(body)
        if is_good(reply.status):
            what, who = f"model release {body['name']} {body['version']}", str(body.get("user", ""))
            record = {"what": what, "who": who, "why": str(body.get("note", ""))[:_AUDITED]}
            self._notify("records", "audit", {**record, "outcome": "Released"})
            # Clients see it with everything else that is known of versions.
            self._notify("opcua", "standby", {"models": self._lanes.standby_models()})
        return reply

    def _on_job(self, body: dict[str, Any]) -> None:
        self.guard.on_job(body)
        if body["state"] in _ENDED and body["kind"] != JobKind.VALIDATE.value:
            self._notify("records", "audit", _audit(body))
        for role in ("opcua", "records", "telemetry"):
            self._notify(role, "job", body)


def _audit(body: Mapping[str, Any]) -> dict[str, str]:
    """Return who has changed what, from which version to which, and why, for the journal."""
    old, new = (
        ", ".join(f"{name}: {body['name']} {version}" for name, version in body[when].items())
        for when in ("before", "now")
    )
    outcome = f"{body['state']} {body['reason']}".strip()[:_AUDITED]
    return {
        "what": f"model {body['kind']} {body['name']} {body['version']}",
        "who": str(body["user"]),
        "old": old,
        "new": new,
        "why": str(body["note"]),
        "outcome": outcome,
    }
