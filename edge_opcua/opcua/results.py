"""The event of a result: what a client reads of it is made when a filter wants it, not before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.values import BlockSpec, Scalar, Verdict, bad_rows
from edge_opcua.opcua.events import BASE_TYPES, PlantEvent
from edge_opcua.opcua.namespaces import Ids
from edge_opcua.opcua.rows import RESULT_ROWS
from edge_opcua.opcua.services.event.encoded import FieldTypes
from edge_opcua.opcua.values import VARIANT_OF, status_code, utc

__all__ = ["ResultContext", "ResultEvents"]

# Part 5 §6.4.2: 1 is least, 1000 most severe; bands as in Part 9 §5.5.3 (low 1-333, medium 334-666, high).
SEVERITY_OF: Final = {
    Verdict.UNDEFINED: 300,
    Verdict.OK: 100,
    Verdict.NOT_OK: 500,
    Verdict.NOT_DECIDABLE: 400,
}

# ResultState (OPC 40001-101 §10.6).
COMPLETED: Final = 1
FAILED: Final = 4

_VERDICT_TEXT: Final = {
    Verdict.UNDEFINED: "not evaluated",
    Verdict.OK: "OK",
    Verdict.NOT_OK: "not OK",
    Verdict.NOT_DECIDABLE: "not decidable",
}
# Rows that become a field otherwise than as they are.
_OTHERWISE: Final = frozenset({"result_id", "captured_ns", "verdict"})
_META: Final = "Result/ResultMetaData"
_TYPES: Final = {
    "Verdict": ua.VariantType.Int32,
    "Pipeline": ua.VariantType.String,
    "ContributionNames": ua.VariantType.String,
    "ModelRef": ua.VariantType.NodeId,
    "LatencyPublish": ua.VariantType.Double,
    "CapturedAt": ua.VariantType.DateTime,
    "ResultStatus": ua.VariantType.StatusCode,
    "Result": ua.VariantType.ExtensionObject,
    _META: ua.VariantType.ExtensionObject,
    f"{_META}/ResultId": ua.VariantType.String,
    f"{_META}/IsSimulated": ua.VariantType.Boolean,
    f"{_META}/ResultState": ua.VariantType.Int32,
    f"{_META}/PartId": ua.VariantType.String,
    f"{_META}/InternalConfigurationId": ua.VariantType.String,
    f"{_META}/CreationTime": ua.VariantType.DateTime,
    f"{_META}/ProcessingTimes": ua.VariantType.ExtensionObject,
    f"{_META}/ResultEvaluationCode": ua.VariantType.Int64,
    f"{_META}/ResultEvaluationDetails": ua.VariantType.LocalizedText,
    f"{_META}/ResultEvaluation": ua.VariantType.Int32,
}


@dataclass(frozen=True, slots=True)
class ResultContext:
    """What a result event says beyond its batch.

    Args:
        names: Names of the features.
        model_ref: Object of the model that judged, the null NodeId if it is not in the repository.
        publish_ms: From the result's publication on the bus to now.
    """

    names: tuple[str, ...]
    model_ref: ua.NodeId
    publish_ms: float


class ResultEvents:
    """Makes the events of one pipeline (OPC 40001-101 ResultReadyEventType, with what the model said).

    Args:
        spec: Its result block.
        pipeline: Its name.
        node: Its inference object.
    """

    def __init__(self, spec: BlockSpec, pipeline: str, node: ua.NodeId) -> None:
        tags = list(spec.tags)
        self._source = (node, pipeline)
        self._names = [tag.name for tag in tags]
        self._verdict = self._names.index("verdict")
        self._columns: dict[Scalar, list[str]] = {}
        self._slots: list[tuple[int, str, bool]] = []
        for row, tag in enumerate(tags):
            if tag.length:
                self._slots.append((row, tag.name, tag.type is Scalar.STRING))
            else:
                self._columns.setdefault(tag.type, []).append(tag.name)
        members = [
            (RESULT_ROWS[tag.name], tag)
            for tag in tags
            if tag.name in RESULT_ROWS and tag.name not in _OTHERWISE
        ]
        self._members = {member: tag.name for member, tag in members}
        own = {member: VARIANT_OF[tag.type] for member, tag in members}
        self._types = FieldTypes({**BASE_TYPES, **own, **_TYPES})

    def event(self, batch: TagBatch, status: npt.NDArray[np.uint32], context: ResultContext) -> ResultEvent:
        """Return the event of one result.

        Args:
            batch: A batch of the block.
            status: Effective status of its rows; a Bad one makes a field null.
            context: What the batch does not say.
        """
        row = self._read(batch, status)
        made = utc(int(batch.server_ns[self._verdict]))
        code = int(status[self._verdict])
        result = _Result(row, code, made, self._source[1], context, self._members)
        return ResultEvent(result, self._source, self._types)

    def _read(self, batch: TagBatch, status: npt.NDArray[np.uint32]) -> dict[str, Any]:
        """Return every value of a batch by the name of its row, None where its status is Bad."""
        row: dict[str, Any] = {}
        for scalar, names in self._columns.items():
            row.update(zip(names, batch.column(scalar).tolist(), strict=True))
        for at, name, is_text in self._slots:
            row[name] = batch.text(at) if is_text else batch.array(at).tolist()
        bad = bad_rows(status)
        if bad.any():
            for at in np.flatnonzero(bad).tolist():
                row[self._names[at]] = None
        return row


class _Result:
    """One result, as an event has to tell it; nothing of it changes any more.

    Args:
        row: Its values by the names of their rows, None where the status is Bad.
        status: StatusCode of the verdict.
        made: When.
        pipeline: Name of the pipeline.
        context: What the batch does not say.
        members: Name of the row of each field that is a row as it is.
    """

    def __init__(
        self,
        row: Mapping[str, Any],
        status: int,
        made: dt.datetime | None,
        pipeline: str,
        context: ResultContext,
        members: Mapping[str, str],
    ) -> None:
        self.row = row
        self.verdict = _verdict(row["verdict"])
        self.status = status
        self.made = made
        self.pipeline = pipeline
        self.context = context
        self._members = members

    @property
    def message(self) -> str:
        """One sentence for people."""
        row = self.row
        stroke = "" if row["stroke"] is None else f" stroke {row['stroke']}"
        score = "" if row["score"] is None else f", score {row['score']:.3g}"
        label = f", {row['label']}" if row.get("label") else ""
        reason = f" ({row['reason']})" if row["reason"] else ""
        return f"{self.pipeline}:{stroke} {_VERDICT_TEXT[self.verdict]}{label}{score}{reason}"

    @property
    def captured(self) -> dt.datetime | None:
        """When the part was measured."""
        return utc(self.row["captured_ns"] or 0)

    @cached_property
    def meta(self) -> Any:
        """ResultMetaData as OPC 40001-101 has it, for clients that know only that."""
        row, captured, made = self.row, self.captured, self.made
        meta = _structure(Ids.RESULT_META_DATA)(ResultId=str(row["result_id"]))
        meta.IsSimulated = False
        meta.ResultState = COMPLETED if row["score"] is not None else FAILED
        meta.PartId = None if row["part_id"] is None else str(row["part_id"])
        meta.InternalConfigurationId = f"{row['model_name']}/{row['model_version']}"
        meta.CreationTime = made
        meta.ResultEvaluation = ua.enums_by_datatype[Ids.RESULT_EVALUATION](int(self.verdict))
        meta.ResultEvaluationCode = int(self.verdict)
        meta.ResultEvaluationDetails = ua.LocalizedText(row["reason"] or "")
        if captured is not None:
            times = _structure(Ids.PROCESSING_TIMES)(StartTime=captured, EndTime=made or captured)
            times.AcquisitionDuration = row["acquire_ms"]
            times.ProcessingDuration = row["infer_ms"]
            meta.ProcessingTimes = times
        return meta

    def field(self, name: str) -> Any:
        """Make the value of a field."""
        row = self._members.get(name)
        if row is not None:
            return self.row[row]
        make = _FIELDS.get(name)
        return getattr(self.meta, name.rpartition("/")[2]) if make is None else make(self)


def _verdict(value: Any) -> Verdict:
    """Return what a verdict row says; Part 4 lets a Bad one say nothing, then it is not decidable."""
    if value is None:
        return Verdict.NOT_DECIDABLE
    return Verdict(value) if value in Verdict._value2member_map_ else Verdict.UNDEFINED


def _structure(data_type: ua.NodeId) -> Any:
    # Looked up by NodeId: asyncua keeps structures by BrowseName, and MachineVision has a ResultDataType too.
    return ua.extension_objects_by_datatype[data_type]


def _result(result: _Result) -> Any:
    content = [
        ua.Variant(result.row[name], ua.VariantType.Double)
        for name in ("score", "confidence")
        if result.row[name] is not None
    ]
    return _structure(Ids.RESULT_DATA)(ResultMetaData=result.meta, ResultContent=content)


# Fields that are no rows; those below _META that are not here are members of it.
_FIELDS: Final[Mapping[str, Callable[[_Result], Any]]] = {
    "Verdict": lambda result: int(result.verdict),
    "Pipeline": lambda result: result.pipeline,
    "ContributionNames": lambda result: list(result.context.names),
    "ModelRef": lambda result: result.context.model_ref,
    "LatencyPublish": lambda result: result.context.publish_ms,
    "CapturedAt": lambda result: result.captured,
    "ResultStatus": lambda result: status_code(result.status),
    "Result": _result,
    _META: lambda result: result.meta,
    f"{_META}/ResultEvaluation": lambda result: int(result.verdict),
}


class ResultEvent(PlantEvent):
    """The event of one result. Beside what every event has, a field is made when somebody asks for it.

    Args:
        result: The result.
        source: Inference object and name of the pipeline.
        types: Built-in types of the fields.
    """

    def __init__(self, result: _Result, source: tuple[ua.NodeId, str], types: FieldTypes) -> None:
        super().__init__(
            Ids.RESULT_EVENT_TYPE,
            source,
            message=result.message,
            severity=SEVERITY_OF[result.verdict],
            time=result.made,
            types=types,
        )
        self._result = result

    def __getattr__(self, name: str) -> Any:
        """Make a field.

        Raises:
            AttributeError: The event has none of this name.
        """
        if name not in self.__dict__.get("data_types", ()):
            raise AttributeError(name)
        made = self.__dict__[name] = self._result.field(name)
        return made
