"""The events of models: a job makes progress, a job has ended, an alarm of a running model comes or goes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua

from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.models import Job, ModelAlarm
from edge_opcua.opcua.namespaces import Ids
from edge_opcua.opcua.values import utc

__all__ = ["ModelChange", "alarm_event", "changed_event", "job_event"]

# Part 5 §6.4.2: bands as in Part 9 §5.5.3 (low 1-333, medium 334-666, high 667-1000).
JOB_SEVERITY: Final = 150
FAILED_SEVERITY: Final = 600
ACTIVE_SEVERITY: Final = 200
ROLLED_BACK_SEVERITY: Final = 600
ALARM_GONE_SEVERITY: Final = 200
OTHER_ALARM_SEVERITY: Final = 500

_ALARM_SEVERITY: Final = {
    "errors": 700,
    "not_a_number": 700,
    "reference": 700,
    "latency": 600,
    "age": 400,
    "trend": 400,
}
_OUTCOME_SEVERITY: Final = {
    "Active": ACTIVE_SEVERITY,
    "RolledBack": ROLLED_BACK_SEVERITY,
    "Validated": JOB_SEVERITY,
    "Failed": FAILED_SEVERITY,
}
_SOURCE: Final = "Models"
_KINDS: Final = ua.VariantType
_Fields = Iterable[tuple[str, Any, ua.VariantType]]


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What came of a job.

    Args:
        job: The job at its end.
        before: Version that judged when it began; 0 if none did, or nobody knows.
        now: Version that judges now; 0 likewise.
    """

    job: Job
    before: int
    now: int


def job_event(job: Job, source: ua.NodeId, time: dt.datetime | None) -> PlantEvent:
    """Return the event of a job's progress or end (a ProgressEventType: Context is the job's id)."""
    message = f"model {job.name} {job.version}: {job.state}"
    if job.state == "Shadow" and job.shadow.wanted:
        message += f" {job.shadow.compared} of {job.shadow.wanted}"
    event = PlantEvent(
        Ids.JOB_EVENT_TYPE,
        (source, _SOURCE),
        message=f"{message} ({job.reason})" if job.reason else message,
        severity=FAILED_SEVERITY if job.failed else JOB_SEVERITY,
        time=time,
    )
    return _with(
        event,
        (
            ("Context", job.job_id, _KINDS.String),
            ("Progress", job.percent, _KINDS.UInt16),
            ("JobId", job.job_id, _KINDS.String),
            ("ModelName", job.name, _KINDS.String),
            ("ModelVersion", job.version, _KINDS.UInt32),
            ("State", job.state, _KINDS.String),
            ("Reason", job.reason, _KINDS.String),
            ("Kind", job.kind, _KINDS.String),
            ("Pipelines", list(job.pipelines), _KINDS.String),
            ("Note", job.note, _KINDS.String),
            ("User", job.user, _KINDS.String),
            ("ShadowWanted", job.shadow.wanted, _KINDS.UInt64),
            ("ShadowCompared", job.shadow.compared, _KINDS.UInt64),
            ("ShadowAgreement", job.shadow.agreement, _KINDS.Double),
            ("ShadowAgreementLow", job.shadow.agreement_low, _KINDS.Double),
        ),
    )


def changed_event(change: ModelChange, source: ua.NodeId, time: dt.datetime | None) -> PlantEvent:
    """Return the event of the outcome of a job: who, what, from, to, outcome, why."""
    job = change.job
    event = PlantEvent(
        Ids.MODEL_CHANGED_EVENT_TYPE,
        (source, _SOURCE),
        message=_outcome(change),
        severity=_OUTCOME_SEVERITY.get(job.state, JOB_SEVERITY),
        time=time,
    )
    return _with(
        event,
        (
            ("JobId", job.job_id, _KINDS.String),
            ("Kind", job.kind, _KINDS.String),
            ("Outcome", job.state, _KINDS.String),
            ("Pipelines", list(job.pipelines), _KINDS.String),
            ("ModelName", job.name, _KINDS.String),
            ("ModelVersion", job.version, _KINDS.UInt32),
            ("FromVersion", change.before, _KINDS.UInt32),
            ("ToVersion", change.now, _KINDS.UInt32),
            ("User", job.user, _KINDS.String),
            ("Reason", job.reason, _KINDS.String),
            ("Note", job.note, _KINDS.String),
        ),
    )


def alarm_event(alarm: ModelAlarm, source: ua.NodeId, time_ns: int, begun_ns: int) -> PlantEvent:
    """Return the event of an alarm of a running model that comes or goes.

    Args:
        alarm: The alarm.
        source: Inference object of its pipeline.
        time_ns: When, ns UTC.
        begun_ns: Since when it is so, ns UTC.
    """
    said = alarm.text or alarm.kind
    event = PlantEvent(
        Ids.MODEL_ALARM_EVENT_TYPE,
        (source, alarm.pipeline),
        message=f"{alarm.pipeline}: {said}" if alarm.active else f"{alarm.pipeline}: no longer: {said}",
        severity=_ALARM_SEVERITY.get(alarm.kind, OTHER_ALARM_SEVERITY)
        if alarm.active
        else ALARM_GONE_SEVERITY,
        time=utc(time_ns),
    )
    return _with(
        event,
        (
            ("Pipeline", alarm.pipeline, _KINDS.String),
            ("ModelName", alarm.name, _KINDS.String),
            ("ModelVersion", alarm.version, _KINDS.UInt32),
            ("Kind", alarm.kind, _KINDS.String),
            ("Active", alarm.active, _KINDS.Boolean),
            ("Value", alarm.value, _KINDS.Double),
            ("Limit", alarm.limit, _KINDS.Double),
            ("Since", utc(begun_ns), _KINDS.DateTime),
            ("Code", alarm.code, _KINDS.String),
            ("Reason", alarm.text, _KINDS.String),
        ),
    )


def _outcome(change: ModelChange) -> str:
    job = change.job
    where = f" for {', '.join(job.pipelines)}" if job.pipelines else ""
    match job.state:
        case "Active":
            came = f" instead of {change.before}" if change.before not in (0, job.version) else ""
            said = f"model {job.name} {job.version} judges{where}{came}"
        case "RolledBack":
            to = f"{change.now} " if change.now else ""
            said = f"model {job.name}: back to version {to}from {change.before or job.version}{where}"
        case "Validated":
            said = f"model {job.name} {job.version} is fit{where}; nothing was changed"
        case _:
            said = f"model {job.name} {job.version}: {job.kind} failed{where}"
    return f"{said} ({job.reason})" if job.reason else said


def _with(event: PlantEvent, fields: _Fields) -> PlantEvent:
    for name, value, kind in fields:
        event.add_property(name, value, kind)
    return event
