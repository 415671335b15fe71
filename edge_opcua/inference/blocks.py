"""The blocks a lane writes: its results, of which every one counts, and its health."""

from __future__ import annotations

from typing import Final

from edge_opcua.config.lanes import silence_ms
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.values import BlockSpec, Policy, Scalar, TagSpec
from edge_opcua.inference.spec import VERDICTS
from edge_opcua.inference.watch.latency import BUCKETS

FEATURE_CAPACITY: Final = 64
"""Features a result has room for; a swap may bring a model with more or fewer than the last one."""
MOST_FEATURES: Final = 1024
"""Of a pipeline on tags a result has room for a whole window, up to so many numbers."""

RESULT_DEPTH: Final = 256
LANE_DEPTH: Final = 16
WATCH_DEPTH: Final = 8
RESULT_HOLD_S: Final = 2.0
"""After a lane died its last verdict is Uncertain this long, then the fail-safe verdict takes its place."""


def result_policy(pipeline: PipelineConfig) -> Policy:
    """Return when readers stop believing the results of a pipeline.

    Of a safety lane nothing is held: one that is silent for longer than its deadline and one tick could not
    have answered in time, so the fail-safe verdict stands there at once, whoever reads and whatever hangs.
    """
    if pipeline.lane == "safety":
        return Policy(hold_s=0.0, writer_lost_s=silence_ms(pipeline.deadline_ms) / 1e3)
    return Policy(hold_s=RESULT_HOLD_S)


def result_blocks(pipeline: PipelineConfig, *, wakes: int = 1) -> tuple[BlockSpec, BlockSpec]:
    """Return the blocks of a pipeline: results, of which every one counts, and the health of the lane.

    Args:
        pipeline: The pipeline.
        wakes: Deadline readers of the results: the outputs that write them to PLCs.
    """
    verdict = VERDICTS[pipeline.fail_safe_verdict]
    room = max(FEATURE_CAPACITY, min(MOST_FEATURES, pipeline.window * len(pipeline.inputs)))
    result = (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("part_id", Scalar.UINT32),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("verdict", Scalar.INT32, substitute=int(verdict)),
        TagSpec("confidence", Scalar.DOUBLE),
        TagSpec("contributions", Scalar.FLOAT, room),
        TagSpec("features", Scalar.FLOAT, room),
        TagSpec("expected", Scalar.FLOAT, room),
        TagSpec("label", Scalar.STRING, 64),
        TagSpec("acquire_ms", Scalar.DOUBLE),
        TagSpec("queue_ms", Scalar.DOUBLE),
        TagSpec("infer_ms", Scalar.DOUBLE),
        TagSpec("total_ms", Scalar.DOUBLE),
        TagSpec("input_age_ms", Scalar.DOUBLE),
        TagSpec("captured_ns", Scalar.INT64),
        TagSpec("fail_safe_active", Scalar.BOOLEAN, substitute=True),
        TagSpec("model_name", Scalar.STRING, 64),
        TagSpec("model_version", Scalar.UINT32),
        TagSpec("model_sha256", Scalar.STRING, 64),
        TagSpec("source", Scalar.STRING, 64),
        TagSpec("batch", Scalar.UINT32),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("result_id", Scalar.UINT64),
    )
    return (
        BlockSpec(pipeline.result_block, result, RESULT_DEPTH, result_policy(pipeline), wakes=wakes),
        BlockSpec(pipeline.lane_block, _HEALTH, LANE_DEPTH, Policy(hold_s=RESULT_HOLD_S)),
    )


def shadow_block(pipeline: PipelineConfig) -> BlockSpec:
    """Return the block in which a version in shadow says how far it agrees with the active one."""
    return BlockSpec(pipeline.shadow_block, _SHADOW, LANE_DEPTH)


SHADOW_COUNTS: Final = ("wanted", "compared", "agreed", "undecided", "new_alarms", "lost_alarms")
SHADOW_FIGURES: Final = (
    "agreement",
    "agreement_low",
    "agreement_high",
    "score_difference_p50",
    "score_difference_p99",
    "p99_ms",
)
_SHADOW: Final = (
    TagSpec("state", Scalar.STRING, 24),
    TagSpec("model_name", Scalar.STRING, 64),
    TagSpec("model_version", Scalar.UINT32),
    *(TagSpec(name, Scalar.UINT64) for name in SHADOW_COUNTS),
    *(TagSpec(name, Scalar.DOUBLE) for name in SHADOW_FIGURES),
    TagSpec("disagreement", Scalar.STRING, 120),
)


def watch_block(pipeline: PipelineConfig) -> BlockSpec:
    """Return the block in which the active lane says what it has seen of its model."""
    return BlockSpec(pipeline.watch_block, _WATCH, WATCH_DEPTH, Policy(hold_s=RESULT_HOLD_S))


COUNTERS: Final = (
    "processed",
    "missed",
    "late",
    "superseded",
    "rejected",
    "expired",
    "shed",
    "preempted",
    "failed",
)
"""Rows of the health block that only grow; a lane goes on where the one before it stopped."""

_HEALTH: Final = (
    TagSpec("state", Scalar.STRING, 24),
    *(TagSpec(name, Scalar.UINT64) for name in COUNTERS),
    TagSpec("p50_ms", Scalar.DOUBLE),
    TagSpec("p99_ms", Scalar.DOUBLE),
    TagSpec("p999_ms", Scalar.DOUBLE),
    TagSpec("max_ms", Scalar.DOUBLE),
    TagSpec("cursor", Scalar.UINT64),
    TagSpec("degraded", Scalar.BOOLEAN),
    TagSpec("batch_mean", Scalar.DOUBLE),
    TagSpec("utilisation", Scalar.DOUBLE),
    TagSpec("schedulable", Scalar.BOOLEAN),
    TagSpec("accelerated", Scalar.DOUBLE),
    TagSpec("provider", Scalar.STRING, 64),
    TagSpec("scheduler", Scalar.STRING, 32),
    TagSpec("memory_locked", Scalar.BOOLEAN),
    TagSpec("rss_mb", Scalar.DOUBLE),
    TagSpec("celsius", Scalar.DOUBLE),
    TagSpec("throttled", Scalar.BOOLEAN),
)

_WATCH: Final = (
    TagSpec("model_name", Scalar.STRING, 64),
    TagSpec("model_version", Scalar.UINT32),
    TagSpec("probation", Scalar.BOOLEAN),
    TagSpec("alarms", Scalar.UINT32),
    TagSpec("alarm", Scalar.STRING, 160),
    TagSpec("note", Scalar.STRING, 160),
    TagSpec("results", Scalar.UINT64),
    TagSpec("error_share", Scalar.DOUBLE),
    TagSpec("late_share", Scalar.DOUBLE),
    TagSpec("score_mean", Scalar.DOUBLE),
    TagSpec("score_p50", Scalar.DOUBLE),
    TagSpec("score_p99", Scalar.DOUBLE),
    TagSpec("confidence_mean", Scalar.DOUBLE),
    TagSpec("psi_score", Scalar.DOUBLE),
    TagSpec("psi_max", Scalar.DOUBLE),
    TagSpec("psi_feature", Scalar.STRING, 64),
    TagSpec("ks", Scalar.DOUBLE),
    TagSpec("page_hinkley", Scalar.DOUBLE),
    TagSpec("input_quality", Scalar.STRING, 120),
    TagSpec("reference_ok", Scalar.BOOLEAN),
    TagSpec("reference_checked_ns", Scalar.INT64),
    TagSpec("age_days", Scalar.DOUBLE),
    TagSpec("age_state", Scalar.STRING, 16),
    TagSpec("trend_hours", Scalar.DOUBLE),
    TagSpec("trend_low_hours", Scalar.DOUBLE),
    TagSpec("trend_high_hours", Scalar.DOUBLE),
    TagSpec("trend", Scalar.STRING, 120),
    TagSpec("false_alarms_per_month", Scalar.DOUBLE),
    TagSpec("latency_us", Scalar.UINT64, BUCKETS),
    TagSpec("latency_sum_us", Scalar.DOUBLE),
)
"""What is not known has a Bad status; ``note`` says in words what cannot be known, e.g. without a profile."""
