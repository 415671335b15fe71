"""What one scrape gets: the counted results, the blocks of the bus as they are now, and the host."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client.metrics_core import Metric as Family

from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.values import Value, is_bad
from edge_opcua.telemetry import host
from edge_opcua.telemetry.families import Families
from edge_opcua.telemetry.results import ResultCounts

_ANSWERS: Final = frozenset({"ONLINE", "SUSPECT", "SIMULATED"})
_MIB: Final = 1024.0 * 1024.0
_DAY_S: Final = 86_400.0

# Row of a lane's block -> metric, and the factor to its unit.
_LANE: Final = (
    ("processed", "edge_captures_total", 1.0),
    ("missed", "edge_captures_lost_total", 1.0),
    ("preempted", "edge_preempted_total", 1.0),
    ("shed", "edge_shed_total", 1.0),
    ("failed", "edge_failed_total", 1.0),
    ("batch_mean", "edge_batch_size", 1.0),
    ("utilisation", "edge_lane_utilisation_ratio", 1.0),
    ("schedulable", "edge_schedulable", 1.0),
    ("degraded", "edge_degraded", 1.0),
    ("rss_mb", "edge_lane_resident_bytes", _MIB),
)
_MISSED: Final = ("late", "expired")
_REJECTED: Final = ("rejected", "expired", "superseded")
_WATCH: Final = (
    ("age_days", "edge_model_age_seconds", _DAY_S),
    ("probation", "edge_model_on_probation", 1.0),
    ("reference_ok", "edge_reference_accuracy_ratio", 1.0),
    ("error_share", "edge_error_ratio", 1.0),
    ("confidence_mean", "edge_confidence_mean_ratio", 1.0),
    ("trend_hours", "edge_hours_to_limit", 1.0),
)
_LINK: Final = (
    ("requests", "edge_link_requests_total", 1.0),
    ("errors", "edge_link_errors_total", 1.0),
    ("reconnects", "edge_link_reconnects_total", 1.0),
    ("rtt_ms", "edge_link_round_trip_seconds", 1e-3),
)
_RECORDS: Final = (
    ("written", "edge_records_written_total", 1.0),
    ("lost", "edge_records_lost_total", 1.0),
    ("spooled", "edge_records_spooled", 1.0),
)


class Card(Protocol):
    """How much of an accelerator is in use; None where it does not tell."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def utilisation(self) -> float | None:
        """Share of the time in which it computes, 0..1."""
        ...

    @property
    def memory_used_bytes(self) -> int | None:
        """Memory in use."""
        ...

    @property
    def memory_bytes(self) -> int | None:
        """All of its memory."""
        ...

    @property
    def celsius(self) -> float | None:
        """How hot it is."""
        ...


@dataclass(slots=True)
class Heard:
    """What others have told this process; put here by its event loop, read by the scrape.

    Attributes:
        status: The supervisor's ``status``.
        swaps: Jobs by how they ended.
        rollbacks: Roll-backs by what made the server do it.
        cards: Accelerators.
    """

    status: Mapping[str, Any] = field(default_factory=dict)
    swaps: Counter[str] = field(default_factory=Counter)
    rollbacks: Counter[str] = field(default_factory=Counter)
    cards: Sequence[Card] = ()


class PlantCollector:
    """A collector of the Prometheus library: yields all metrics each time it is asked.

    Args:
        config: The configuration that runs.
        bus: The tag bus.
        heard: What others have told.
        state_dir: State directory, for the room on its disk.
        kinds: Names of the alarms of a model, in the order of their bits.
    """

    def __init__(
        self, config: EdgeConfig, bus: Bus, heard: Heard, state_dir: Path, kinds: Sequence[str]
    ) -> None:
        self._heard = heard
        self._state_dir = state_dir
        self._kinds = kinds
        self._processors = host.Processors()
        self._lock = threading.Lock()
        self._follow(config, bus)

    def follow(self, config: EdgeConfig, bus: Bus) -> None:
        """Go by another configuration; what was counted of pipelines that stay the same begins anew."""
        with self._lock:
            self._follow(config, bus)

    def _follow(self, config: EdgeConfig, bus: Bus) -> None:
        self._config = config
        self._counts = ResultCounts(bus, {each.name: each.result_block for each in config.pipelines})
        self._readers: dict[str, BlockReader] = {name: bus.reader(name) for name in bus.blocks}

    def count(self) -> None:
        """Count the results that came since the last time."""
        with self._lock:
            self._counts.collect()

    def collect(self) -> Iterator[Family]:
        """Yield every metric as it is now."""
        families = Families()
        with self._lock:
            self._counts.collect()
            for pipeline in self._config.pipelines:
                self._results(families, pipeline)
                self._lane(families, pipeline)
                self._watch(families, pipeline)
            self._plant(families)
            self._host(families)
        yield from families

    def _fields(self, block: str) -> Mapping[str, Value]:
        """Return the values of a block by row, None where the status is Bad; empty before the first batch."""
        reader = self._readers.get(block)
        batch = None if reader is None else reader.latest()
        if reader is None or batch is None:
            return {}
        status = reader.effective(batch)
        return {
            tag.name: None if is_bad(int(status[row])) else batch.value(row)
            for row, tag in enumerate(batch.layout.spec.tags)
        }

    def _results(self, families: Families, pipeline: PipelineConfig) -> None:
        name, counts = pipeline.name, self._counts.pipelines[pipeline.name]
        for ran, took in counts.infer.items():
            families.add_histogram(
                "edge_inference_duration_seconds",
                took,
                name,
                ran.model,
                ran.version,
                ran.provider,
                pipeline.lane,
            )
        families.add_histogram("edge_queue_wait_seconds", counts.queue, name, pipeline.lane)
        families.add_histogram("edge_end_to_end_seconds", counts.total, name, source_of(pipeline))
        for verdict, count in counts.verdicts.items():
            families.add("edge_verdicts_total", count, name, verdict)
        families.add("edge_failsafe_total", counts.fail_safe, name)
        families.add("edge_failsafe_active", counts.fail_safe_active, name)
        families.add("edge_score", counts.score, name)
        families.add("edge_results_lost_total", counts.lost, name)
        shown = self._fields(pipeline.result_block)
        if shown.get("model_name"):
            sha256 = shown.get("model_sha256")
            families.add("edge_model_info", 1, name, shown["model_name"], shown["model_version"], sha256)

    def _lane(self, families: Families, pipeline: PipelineConfig) -> None:
        fields = self._fields(pipeline.lane_block)
        if not fields:
            return
        labels = (pipeline.name, pipeline.lane)
        _add(families, fields, _LANE, *labels)
        families.add("edge_deadline_missed_total", sum(_whole(fields, row) for row in _MISSED), *labels)
        for row in _REJECTED:
            families.add("edge_rejected_total", _whole(fields, row), *labels, row)
        provider = fields.get("provider") or ""
        families.add("edge_ep_node_ratio", _number(fields, "accelerated"), pipeline.name, provider)

    def _watch(self, families: Families, pipeline: PipelineConfig) -> None:
        fields, name = self._fields(pipeline.watch_block), pipeline.name
        if fields:
            _add(families, fields, _WATCH, name)
            families.add("edge_drift_psi", _number(fields, "psi_score"), name, "score")
            families.add("edge_drift_psi", _number(fields, "psi_max"), name, "worst")
            alarms = _whole(fields, "alarms")
            for bit, kind in enumerate(self._kinds):
                families.add("edge_model_alarm", alarms >> bit & 1, name, kind)
                if kind == "drift":
                    families.add("edge_drift_alarm", alarms >> bit & 1, name)
        shadow = self._fields(pipeline.shadow_block)
        if shadow.get("compared"):
            families.add("edge_shadow_agreement_ratio", _number(shadow, "agreement"), name)

    def _plant(self, families: Families) -> None:
        for device in self._config.devices:
            fields = self._fields(device.link_block)
            if not fields:
                continue
            families.add("edge_link_up", fields.get("state_text") in _ANSWERS, device.name)
            _add(families, fields, _LINK, device.name)
            for quality in ("good", "bad"):
                families.add("edge_link_values", _number(fields, f"values_{quality}"), device.name, quality)
        for output in self._config.outputs:
            fields = self._fields(output.authority_block)
            if fields.get("state"):
                families.add("edge_output_authority", 1, output.name, fields["state"])
                families.add("edge_output_writes_total", _number(fields, "writes"), output.name)
        _add(families, self._fields("records.health"), _RECORDS)

    def _host(self, families: Families) -> None:
        status = self._heard.status
        families.add("edge_uptime_seconds", status.get("uptime_s"))
        families.add("edge_opcua_service_level", status.get("service_level"))
        if status:
            families.add("edge_opcua_sessions", len(status.get("sessions", ())))
        for code, count in Counter(row["code"] for row in status.get("faults", ())).items():
            families.add("edge_faults", count, code)
        self._processes(families, status.get("processes", ()))
        for result, count in self._heard.swaps.items():
            families.add("edge_swap_total", count, result)
        for reason, count in self._heard.rollbacks.items():
            families.add("edge_rollback_total", count, reason)
        families.add("edge_host_cpu_ratio", self._processors.busy_ratio())
        for kind, size in host.memory_bytes().items():
            families.add("edge_host_memory_bytes", size, kind)
        families.add("edge_state_disk_free_bytes", host.disk_free_bytes(self._state_dir))
        self._heat(families)

    def _processes(self, families: Families, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            role = row["role"]
            families.add("edge_process_restarts_total", row.get("restarts", 0), role)
            used = host.process_use(int(row["pid"])) if row.get("pid") else None
            if used is not None:
                families.add("edge_process_cpu_seconds_total", used.cpu_s, role)
                families.add("edge_process_resident_bytes", used.resident_bytes, role)

    def _heat(self, families: Families) -> None:
        lanes = [self._fields(pipeline.lane_block) for pipeline in self._config.pipelines]
        celsius = [found for lane in lanes if (found := _number(lane, "celsius")) is not None]
        families.add("edge_thermal_celsius", max(celsius, default=None), "hottest")
        if any("throttled" in lane for lane in lanes):
            families.add("edge_throttled", any(lane.get("throttled") for lane in lanes))
        for number, card in enumerate(self._heard.cards):
            gpu = f"{number} {card.name}"
            families.add("edge_thermal_celsius", card.celsius, gpu)
            families.add("edge_gpu_utilisation_ratio", card.utilisation, gpu)
            families.add("edge_gpu_memory_bytes", card.memory_used_bytes, gpu, "used")
            families.add("edge_gpu_memory_bytes", card.memory_bytes, gpu, "total")


def source_of(pipeline: PipelineConfig) -> str:
    """Return what wakes a pipeline, as a label: the capture, or its own tags."""
    return pipeline.capture or "tags"


def _add(
    families: Families,
    fields: Mapping[str, Value],
    sources: Sequence[tuple[str, str, float]],
    *labels: str,
) -> None:
    for row, metric, factor in sources:
        value = _number(fields, row)
        families.add(metric, None if value is None else value * factor, *labels)


def _number(fields: Mapping[str, Value], row: str) -> float | None:
    value = fields.get(row)
    return float(value) if isinstance(value, (bool, int, float)) else None


def _whole(fields: Mapping[str, Value], row: str) -> int:
    return int(_number(fields, row) or 0)
