"""The events of the plant: a result, progress of a model job, a link lost or back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.common.events import Event

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.values import Verdict, is_bad
from edge_opcua.opcua.models import Job
from edge_opcua.opcua.namespaces import Ids
from edge_opcua.opcua.rows import RESULT_ROWS
from edge_opcua.opcua.values import VARIANT_OF, status_code, utc

# Part 5 §6.4.2: 1 is least, 1000 most severe; bands as in Part 9 §5.5.3 (low 1-333, medium 334-666, high).
SEVERITY_OF: Final = {
    Verdict.UNDEFINED: 300,
    Verdict.OK: 100,
    Verdict.NOT_OK: 500,
    Verdict.NOT_DECIDABLE: 400,
}
LINK_LOST_SEVERITY: Final = 700
LINK_BACK_SEVERITY: Final = 200
JOB_SEVERITY: Final = 150
JOB_FAILED_SEVERITY: Final = 600

# ResultState (OPC 40001-101 §10.6).
COMPLETED: Final = 1
FAILED: Final = 4

# Rows that become a field otherwise than as they are.
_OTHERWISE: Final = frozenset({"result_id", "captured_ns", "verdict"})

_VERDICT_TEXT: Final = {
    Verdict.UNDEFINED: "not evaluated",
    Verdict.OK: "OK",
    Verdict.NOT_OK: "not OK",
    Verdict.NOT_DECIDABLE: "not decidable",
}


class PlantEvent(Event):
    """An event with its fields; ids and reception time are filled when it is emitted.

    Args:
        event_type: NodeId of its type.
        source: Node that it comes from, and that node's name.
        message: One sentence for people.
        severity: 1..1000.
        time: When it happened (UTC).
    """

    def __init__(
        self,
        event_type: ua.NodeId,
        source: tuple[ua.NodeId, str],
        *,
        message: str,
        severity: int,
        time: dt.datetime | None,
    ) -> None:
        super().__init__(source[0])
        kinds = ua.VariantType
        for name, value, kind in (
            ("EventId", None, kinds.ByteString),
            ("EventType", event_type, kinds.NodeId),
            ("SourceNode", source[0], kinds.NodeId),
            ("SourceName", source[1], kinds.String),
            ("Time", time, kinds.DateTime),
            ("ReceiveTime", None, kinds.DateTime),
            ("LocalTime", ua.TimeZoneDataType(Offset=0), kinds.ExtensionObject),
            ("Message", ua.LocalizedText(message, "en"), kinds.LocalizedText),
            ("Severity", severity, kinds.UInt16),
        ):
            self.add_property(name, value, kind)


@dataclass(frozen=True, slots=True)
class ResultContext:
    """What a result event says beyond its batch.

    Args:
        pipeline: Name of the pipeline.
        node: Its inference object.
        names: Names of the features.
        model_ref: Object of the model that judged, the null NodeId if it is not in the repository.
        publish_ms: From the result's publication on the bus to now.
    """

    pipeline: str
    node: ua.NodeId
    names: tuple[str, ...]
    model_ref: ua.NodeId
    publish_ms: float


def result_event(batch: TagBatch, status: npt.NDArray[np.uint32], context: ResultContext) -> PlantEvent:
    """Return the event of one result (OPC 40001-101 ResultReadyEventType, with what the model said).

    Args:
        batch: A batch of a result block.
        status: Effective status of its rows; a Bad one makes a field null.
        context: What the batch does not say.
    """
    row: dict[str, Any] = {
        tag.name: None if is_bad(int(status[i])) else batch.value(i)
        for i, tag in enumerate(batch.layout.spec.tags)
    }
    verdict_row = batch.row("verdict")
    verdict = _verdict(row["verdict"])
    made = utc(int(batch.server_ns[verdict_row]))
    event = PlantEvent(
        Ids.RESULT_EVENT_TYPE,
        (context.node, context.pipeline),
        message=_result_message(context.pipeline, verdict, row),
        severity=SEVERITY_OF[verdict],
        time=made,
    )
    for tag in batch.layout.spec.tags:
        member = RESULT_ROWS.get(tag.name)
        if member is not None and tag.name not in _OTHERWISE:
            event.add_property(member, _plain(row[tag.name]), VARIANT_OF[tag.type])
    captured = utc(row["captured_ns"] or 0)
    kinds = ua.VariantType
    for name, value, kind in (
        ("Verdict", int(verdict), kinds.Int32),
        ("Pipeline", context.pipeline, kinds.String),
        ("ContributionNames", list(context.names), kinds.String),
        ("ModelRef", context.model_ref, kinds.NodeId),
        ("LatencyPublish", context.publish_ms, kinds.Double),
        ("CapturedAt", captured, kinds.DateTime),
        ("ResultStatus", status_code(int(status[verdict_row])), kinds.StatusCode),
    ):
        event.add_property(name, value, kind)
    _add_result(event, row, verdict, captured, made)
    return event


def _verdict(value: Any) -> Verdict:
    """Return what a verdict row says; Part 4 lets a Bad one say nothing, then it is not decidable."""
    if value is None:
        return Verdict.NOT_DECIDABLE
    return Verdict(value) if value in Verdict._value2member_map_ else Verdict.UNDEFINED


def _result_message(pipeline: str, verdict: Verdict, row: Mapping[str, Any]) -> str:
    stroke = "" if row["stroke"] is None else f" stroke {row['stroke']}"
    score = "" if row["score"] is None else f", score {row['score']:.3g}"
    reason = f" ({row['reason']})" if row["reason"] else ""
    return f"{pipeline}:{stroke} {_VERDICT_TEXT[verdict]}{score}{reason}"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _add_result(
    event: PlantEvent,
    row: Mapping[str, Any],
    verdict: Verdict,
    captured: dt.datetime | None,
    made: dt.datetime | None,
) -> None:
    """Add ``Result`` and its parts as OPC 40001-101 has them, for clients that know only that."""
    # Looked up by NodeId: asyncua keeps structures by BrowseName, and MachineVision has a ResultDataType too.
    structures = ua.extension_objects_by_datatype
    meta = structures[Ids.RESULT_META_DATA](ResultId=str(row["result_id"]))
    meta.IsSimulated = False
    meta.ResultState = COMPLETED if row["score"] is not None else FAILED
    meta.PartId = _text(row["part_id"])
    meta.InternalConfigurationId = f"{row['model_name']}/{row['model_version']}"
    meta.CreationTime = made
    meta.ResultEvaluation = ua.enums_by_datatype[Ids.RESULT_EVALUATION](int(verdict))
    meta.ResultEvaluationCode = int(verdict)
    meta.ResultEvaluationDetails = ua.LocalizedText(row["reason"] or "")
    if captured is not None:
        times = structures[Ids.PROCESSING_TIMES](StartTime=captured, EndTime=made or captured)
        times.AcquisitionDuration = row["acquire_ms"]
        times.ProcessingDuration = row["infer_ms"]
        meta.ProcessingTimes = times
    content = [
        ua.Variant(row[name], ua.VariantType.Double)
        for name in ("score", "confidence")
        if row[name] is not None
    ]
    result = structures[Ids.RESULT_DATA](ResultMetaData=meta, ResultContent=content)
    kinds = ua.VariantType
    event.add_property("Result", result, kinds.ExtensionObject)
    event.add_property("Result/ResultMetaData", meta, kinds.ExtensionObject)
    for member, kind in (
        ("ResultId", kinds.String),
        ("IsSimulated", kinds.Boolean),
        ("ResultState", kinds.Int32),
        ("PartId", kinds.String),
        ("InternalConfigurationId", kinds.String),
        ("CreationTime", kinds.DateTime),
        ("ProcessingTimes", kinds.ExtensionObject),
        ("ResultEvaluationCode", kinds.Int64),
        ("ResultEvaluationDetails", kinds.LocalizedText),
    ):
        event.add_property(f"Result/ResultMetaData/{member}", getattr(meta, member), kind)
    event.add_property("Result/ResultMetaData/ResultEvaluation", int(verdict), kinds.Int32)


def job_event(job: Job, source: ua.NodeId, time: dt.datetime | None) -> PlantEvent:
    """Return the event of a job's progress or end (a ProgressEventType: Context is the job's id)."""
    message = f"model {job.name} {job.version}: {job.state}"
    event = PlantEvent(
        Ids.JOB_EVENT_TYPE,
        (source, "Models"),
        message=f"{message} ({job.reason})" if job.reason else message,
        severity=JOB_FAILED_SEVERITY if job.failed else JOB_SEVERITY,
        time=time,
    )
    kinds = ua.VariantType
    for name, value, kind in (
        ("Context", job.job_id, kinds.String),
        ("Progress", job.percent, kinds.UInt16),
        ("JobId", job.job_id, kinds.String),
        ("ModelName", job.name, kinds.String),
        ("ModelVersion", job.version, kinds.UInt32),
        ("State", job.state, kinds.String),
        ("Reason", job.reason, kinds.String),
    ):
        event.add_property(name, value, kind)
    return event


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A change of a link that is worth an event.

    Args:
        device: Name of the device.
        state: New state.
        previous: Former state.
        usable: Whether values come in the new state.
        last_error: What went wrong last.
    """

    device: str
    state: str
    previous: str
    usable: bool
    last_error: str


def link_event(change: LinkChange, source: ua.NodeId, time: dt.datetime | None) -> PlantEvent:
    """Return the event of a link that was lost or came back."""
    message = f"{change.device}: link {change.previous} -> {change.state}"
    event = PlantEvent(
        Ids.LINK_EVENT_TYPE,
        (source, change.device),
        message=f"{message} ({change.last_error})" if change.last_error and not change.usable else message,
        severity=LINK_BACK_SEVERITY if change.usable else LINK_LOST_SEVERITY,
        time=time,
    )
    for name, value in (
        ("Device", change.device),
        ("State", change.state),
        ("PreviousState", change.previous),
        ("LastError", change.last_error),
    ):
        event.add_property(name, value, ua.VariantType.String)
    return event
