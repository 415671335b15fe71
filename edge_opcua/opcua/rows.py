"""Which row of which bus block becomes which variable, and as what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.core.values import BlockSpec
from edge_opcua.opcua.values import VARIANT_OF, utc


@dataclass(frozen=True, slots=True)
class Binding:
    """A row that is shown as a variable.

    Args:
        row: Row in its block.
        slot: Where the variable's value lies.
        kind: Built-in type of the variable.
        convert: From the row's value to the variable's, where they differ.
    """

    row: int
    slot: AttributeValue
    kind: ua.VariantType
    convert: Callable[[Any], Any] | None = None


def _time(value_ns: Any) -> Any:
    return utc(int(value_ns)) or ua.get_win_epoch()


# Row -> member of InferenceEngineType; `State` … `LatencyP99` come from the lane's own block.
RESULT_ROWS: Final = {
    "score": "Score",
    "verdict": "Verdict",
    "confidence": "Confidence",
    "contributions": "Contributions",
    "features": "Features",
    "expected": "Expected",
    "acquire_ms": "LatencyAcquire",
    "queue_ms": "LatencyQueue",
    "infer_ms": "LatencyInfer",
    "total_ms": "LatencyTotal",
    "input_age_ms": "InputAge",
    "captured_ns": "CapturedAt",
    "fail_safe_active": "FailSafeActive",
    "stroke": "Stroke",
    "part_id": "PartId",
    "model_name": "ModelName",
    "model_version": "ModelVersion",
    "model_sha256": "ModelSha256",
    "reason": "Reason",
    "result_id": "LastResultId",
    "source": "RanOn",
    "batch": "BatchSize",
    "label": "Label",
}
LANE_ROWS: Final = {
    "state": "State",
    "processed": "Processed",
    "missed": "Missed",
    "late": "Late",
    "p50_ms": "LatencyP50",
    "p99_ms": "LatencyP99",
    "p999_ms": "LatencyP999",
    "max_ms": "LatencyMax",
    "superseded": "Superseded",
    "rejected": "Rejected",
    "expired": "Expired",
    "shed": "Shed",
    "preempted": "Preempted",
    "failed": "Failed",
    "degraded": "Degraded",
    "batch_mean": "MeanBatch",
    "utilisation": "Utilisation",
    "schedulable": "Schedulable",
    "accelerated": "Accelerated",
    "provider": "Provider",
    "scheduler": "Scheduler",
    "memory_locked": "MemoryLocked",
    "rss_mb": "MemoryUsed",
    "celsius": "Temperature",
    "throttled": "Throttled",
}
# Row -> member of the objects Watch (ModelWatchType) and Shadow (ModelShadowType) of a pipeline.
WATCH_ROWS: Final = {
    "model_name": "ModelName",
    "model_version": "ModelVersion",
    "probation": "Probation",
    "alarms": "Alarms",
    "alarm": "Alarm",
    "note": "Note",
    "results": "Results",
    "error_share": "ErrorShare",
    "late_share": "LateShare",
    "score_mean": "ScoreMean",
    "score_p50": "ScoreP50",
    "score_p99": "ScoreP99",
    "confidence_mean": "ConfidenceMean",
    "psi_score": "PsiScore",
    "psi_max": "PsiMax",
    "psi_feature": "PsiFeature",
    "ks": "KolmogorovSmirnov",
    "page_hinkley": "PageHinkley",
    "input_quality": "InputQuality",
    "reference_ok": "ReferenceOk",
    "reference_checked_ns": "ReferenceCheckedAt",
    "age_days": "AgeDays",
    "age_state": "AgeState",
    "trend_hours": "TrendHours",
    "trend_low_hours": "TrendLowHours",
    "trend_high_hours": "TrendHighHours",
    "trend": "Trend",
    "false_alarms_per_month": "FalseAlarmsPerMonth",
    "latency_us": "LatencyHistogram",
    "latency_sum_us": "LatencySum",
}
SHADOW_ROWS: Final = {
    "state": "State",
    "model_name": "ModelName",
    "model_version": "ModelVersion",
    "wanted": "Wanted",
    "compared": "Compared",
    "agreed": "Agreed",
    "undecided": "Undecided",
    "new_alarms": "NewAlarms",
    "lost_alarms": "LostAlarms",
    "agreement": "Agreement",
    "agreement_low": "AgreementLow",
    "agreement_high": "AgreementHigh",
    "score_difference_p50": "ScoreDifferenceP50",
    "score_difference_p99": "ScoreDifferenceP99",
    "p99_ms": "LatencyP99",
    "disagreement": "Disagreement",
}
LINK_ROWS: Final = {
    "state_text": "State",
    "state": "StateCode",
    "requests": "Requests",
    "errors": "Errors",
    "reconnects": "Reconnects",
    "rtt_ms": "RoundTrip",
    "last_error": "LastError",
    "last_good_ns": "LastGood",
    "values_good": "ValuesGood",
    "values_bad": "ValuesBad",
    "timeouts": "Timeouts",
    "retries": "Retries",
    "busy": "Busy",
    "writes": "Writes",
    "overruns": "Overruns",
    "refused": "RefusedTags",
    "units_lost": "UnitsLost",
    "scan_ms": "ScanTime",
    "scan_max_ms": "ScanTimeMax",
    "jitter_ms": "ScanJitter",
    "values_per_s": "ValuesPerSecond",
    "simulated": "Simulated",
    "indeterminate": "Indeterminate",
    "landed_late": "LandedLate",
}
AUTHORITY_ROWS: Final = {
    "state": "State",
    "fault": "Fault",
    "reason": "Reason",
    "since_ns": "Since",
    "writer": "Writer",
    "granted": "Granted",
    "ack_required": "AckRequired",
    "plc_latched": "PlcLatched",
    "plc_trusts": "PlcTrusts",
    "heartbeat": "Heartbeat",
    "result_seq": "ResultSeq",
    "writes": "Writes",
    "refused": "Refused",
    "indeterminate": "Indeterminate",
    "landed_late": "LandedLate",
}
CAPTURE_ROWS: Final = {
    "sequence": "Sequence",
    "ready_ns": "ReadyAt",
    "sample_rate_hz": "SampleRate",
    "waveform": "Waveform",
}
RECORDS_ROWS: Final = {"written": "Written", "spooled": "Spooled", "lost": "Lost", "fault": "Fault"}

# Rows whose variable has another type than the row.
_CONVERTED: Final[dict[str, tuple[ua.VariantType, Callable[[Any], Any]]]] = {
    "captured_ns": (ua.VariantType.DateTime, _time),
    "last_good_ns": (ua.VariantType.DateTime, _time),
    "ready_ns": (ua.VariantType.DateTime, _time),
    "reference_checked_ns": (ua.VariantType.DateTime, _time),
    "since_ns": (ua.VariantType.DateTime, _time),
    "result_id": (ua.VariantType.String, str),
}


def bind(
    spec: BlockSpec, rows: dict[str, str], slot_of: Callable[[str], AttributeValue]
) -> tuple[Binding, ...]:
    """Return the bindings of a block whose rows become members of one object.

    Args:
        spec: The block.
        rows: Member by row name; a row that the block lacks leaves its member waiting for data.
        slot_of: Where a member's value lies.
    """
    bound = []
    for row, tag in enumerate(spec.tags):
        member = rows.get(tag.name)
        if member is None:
            continue
        kind, convert = _CONVERTED.get(tag.name, (VARIANT_OF[tag.type], None))
        bound.append(Binding(row, slot_of(member), kind, convert))
    return tuple(bound)
