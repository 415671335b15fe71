"""Every metric by name: what it is, its labels, and what it counts; exporter, dashboard and rules agree here.

Names follow the conventions of Prometheus: base units (seconds, bytes, Celsius, ratios of 0..1), ``_total``
for what only grows. Labels are pipelines, devices, models and the like, never tags: there may be 100 000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

PREFIX: Final = "edge_"
BOUNDS_S: Final = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the buckets of durations: microseconds count here, other than for a web server."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: Its name as it is exported; of a counter with ``_total``.
        kind: What Prometheus calls it.
        help: What it counts, for people.
        labels: Names of its labels, in order.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_PIPELINE: Final = ("pipeline",)
_LANE: Final = ("pipeline", "lane")
_MODEL: Final = ("pipeline", "model", "version", "ep", "lane")
_DEVICE: Final = ("device",)
_ROLE: Final = ("role",)

_ALL: Final = (
    # Results.
    Metric("edge_inference_duration_seconds", "histogram", "Features, run and judgement of a result", _MODEL),
    Metric("edge_queue_wait_seconds", "histogram", "From the capture on the bus to its run", _LANE),
    Metric(
        "edge_end_to_end_seconds",
        "histogram",
        "From the capture at its source to the verdict",
        ("pipeline", "source"),
    ),
    Metric("edge_verdicts_total", "counter", "Results by verdict", ("pipeline", "verdict")),
    Metric("edge_failsafe_total", "counter", "Results that are the fail-safe verdict", _PIPELINE),
    Metric("edge_failsafe_active", "gauge", "1 while the last result is the fail-safe verdict", _PIPELINE),
    Metric("edge_score", "gauge", "Score of the last result; from 1 on the verdict is NotOk", _PIPELINE),
    Metric(
        "edge_results_lost_total",
        "counter",
        "Results that were overwritten before they were counted",
        _PIPELINE,
    ),
    # Lanes.
    Metric("edge_captures_total", "counter", "Captures that a lane has dealt with", _LANE),
    Metric("edge_captures_lost_total", "counter", "Captures that no lane has seen", _LANE),
    Metric("edge_deadline_missed_total", "counter", "Verdicts that were not there at their deadline", _LANE),
    Metric("edge_rejected_total", "counter", "Captures that were not judged", ("pipeline", "lane", "reason")),
    Metric("edge_preempted_total", "counter", "Runs interrupted for more urgent ones", _LANE),
    Metric("edge_shed_total", "counter", "Captures given up for more urgent ones", _LANE),
    Metric("edge_failed_total", "counter", "Runs that failed", _LANE),
    Metric("edge_batch_size", "gauge", "Mean number of captures judged in one run", _LANE),
    Metric(
        "edge_lane_utilisation_ratio",
        "gauge",
        "Share of the time of its workers that a lane's group uses",
        _LANE,
    ),
    Metric("edge_schedulable", "gauge", "1 while the deadline can be promised with what was measured", _LANE),
    Metric("edge_degraded", "gauge", "1 while a cheaper version answers", _LANE),
    Metric(
        "edge_ep_node_ratio",
        "gauge",
        "Share of the model's nodes on the provider asked for",
        ("pipeline", "ep"),
    ),
    Metric("edge_lane_resident_bytes", "gauge", "Memory of the lane's process", _LANE),
    Metric("edge_thermal_celsius", "gauge", "Hottest zone that a lane sees", ("zone",)),
    Metric("edge_throttled", "gauge", "1 while the machine is slowed down because it is hot"),
    # Models.
    Metric("edge_model_info", "gauge", "1 for the active model", ("pipeline", "model", "version", "sha256")),
    Metric("edge_model_age_seconds", "gauge", "Time since the active model was trained", _PIPELINE),
    Metric("edge_model_alarm", "gauge", "1 while the model is in alarm", ("pipeline", "kind")),
    Metric(
        "edge_model_on_probation",
        "gauge",
        "1 while the former version may still come back by itself",
        _PIPELINE,
    ),
    Metric(
        "edge_reference_accuracy_ratio",
        "gauge",
        "Share of the reference samples answered as stored",
        _PIPELINE,
    ),
    Metric("edge_error_ratio", "gauge", "Share of failed runs in the window", _PIPELINE),
    Metric("edge_confidence_mean_ratio", "gauge", "Mean confidence of the window", _PIPELINE),
    Metric(
        "edge_drift_psi",
        "gauge",
        "Population stability index against the reference profile",
        ("pipeline", "feature"),
    ),
    Metric(
        "edge_drift_alarm", "gauge", "1 while inputs or scores drift from the reference profile", _PIPELINE
    ),
    Metric(
        "edge_hours_to_limit",
        "gauge",
        "Hours until the score reaches its limit at the present rate",
        _PIPELINE,
    ),
    Metric("edge_swap_total", "counter", "Changes of models by how they ended", ("result",)),
    Metric("edge_rollback_total", "counter", "Roll-backs by what made the server do it", ("reason",)),
    Metric("edge_shadow_agreement_ratio", "gauge", "Agreement of the version in shadow", _PIPELINE),
    # The plant.
    Metric("edge_link_up", "gauge", "1 while a device answers", _DEVICE),
    Metric("edge_link_requests_total", "counter", "Requests to a device", _DEVICE),
    Metric("edge_link_errors_total", "counter", "Requests that failed", _DEVICE),
    Metric("edge_link_reconnects_total", "counter", "Connections made again", _DEVICE),
    Metric("edge_link_round_trip_seconds", "gauge", "Last round trip to a device", _DEVICE),
    Metric("edge_link_values", "gauge", "Values of a device by quality", ("device", "quality")),
    Metric("edge_output_authority", "gauge", "1 for the state that an output is in", ("output", "state")),
    Metric("edge_output_writes_total", "counter", "Writes to the PLC", ("output",)),
    Metric("edge_records_written_total", "counter", "Records made durable"),
    Metric("edge_records_lost_total", "counter", "Records given up because nothing could be written"),
    Metric("edge_records_spooled", "gauge", "Records that wait for the disk"),
    Metric("edge_opcua_sessions", "gauge", "Sessions of OPC UA clients"),
    Metric("edge_opcua_service_level", "gauge", "ServiceLevel of the OPC UA server, 0..255"),
    Metric("edge_faults", "gauge", "Faults that need somebody, by code", ("code",)),
    # The host.
    Metric("edge_uptime_seconds", "gauge", "Time since the server was started"),
    Metric("edge_process_restarts_total", "counter", "Processes started again", _ROLE),
    Metric("edge_process_cpu_seconds_total", "counter", "Processor time", _ROLE),
    Metric("edge_process_resident_bytes", "gauge", "Memory of a process", _ROLE),
    Metric("edge_host_cpu_ratio", "gauge", "Share of all processors that is busy"),
    Metric("edge_host_memory_bytes", "gauge", "Memory of the machine", ("kind",)),
    Metric("edge_state_disk_free_bytes", "gauge", "Room on the disk of the state directory"),
    Metric(
        "edge_gpu_utilisation_ratio", "gauge", "Share of the time in which an accelerator computes", ("gpu",)
    ),
    Metric("edge_gpu_memory_bytes", "gauge", "Memory of an accelerator", ("gpu", "kind")),
)
METRICS: Final = {metric.name: metric for metric in _ALL}
"""Every metric by name."""
