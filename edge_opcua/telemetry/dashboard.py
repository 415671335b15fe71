"""The Grafana dashboard, from a short list: what somebody looks at who wonders how the line is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

UID: Final = "edge-opcua"
SCHEMA: Final = 39
"""Version of Grafana's dashboard JSON: Grafana 10.3 reads it, newer ones migrate it by themselves."""

_WIDTH: Final = 24
_HEIGHT: Final = 8
_SMALL: Final = 4
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_OF: Final = '{pipeline=~"$pipeline"}'
_LABELLED: Final = 'pipeline=~"$pipeline"'


@dataclass(frozen=True, slots=True)
class Query:
    """One curve, or one for each combination of labels.

    Args:
        expression: PromQL.
        legend: Grafana's pattern of the name.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Args:
        title: For people.
        queries: What it shows.
        unit: Grafana's name of the unit.
        kind: Grafana's name of the panel.
        width: Of 24 columns.
        about: Shown at its ``i``.
        red_from: From where on a number is bad; None: never.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""
    red_from: float | None = None


def _rate(metric: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}{_OF}[$__rate_interval]))"


def _quantile(share: float, metric: str, *by: str) -> str:
    buckets = f"rate({metric}_bucket{_OF}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le, {', '.join(by)}) ({buckets}))"


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Now",
        (
            Panel(
                "Fail-safe now",
                (Query(f"sum(edge_failsafe_active{_OF})", "pipelines"),),
                kind="stat",
                width=4,
                about="Pipelines whose last verdict is the fail-safe one.",
                red_from=1,
            ),
            Panel(
                "Deadlines missed, 1 h",
                (Query(f"sum(increase(edge_deadline_missed_total{_OF}[1h]))", "missed"),),
                kind="stat",
                width=4,
                red_from=1,
            ),
            Panel(
                "Models in alarm",
                (Query(f"count(max by (pipeline) (edge_model_alarm{_OF}) > 0) or vector(0)", "pipelines"),),
                kind="stat",
                width=4,
                red_from=1,
            ),
            Panel(
                "Devices not answering",
                (Query("count(edge_link_up == 0) or vector(0)", "devices"),),
                kind="stat",
                width=4,
                red_from=1,
            ),
            Panel(
                "Faults that need somebody",
                (Query("sum(edge_faults) or vector(0)", "faults"),),
                kind="stat",
                width=4,
                red_from=1,
            ),
            Panel("OPC UA sessions", (Query("edge_opcua_sessions", "sessions"),), kind="stat", width=4),
        ),
    ),
    (
        "Verdicts",
        (
            Panel(
                "Verdicts per second",
                (Query(_rate("edge_verdicts_total", "pipeline", "verdict"), "{{pipeline}} {{verdict}}"),),
                unit="ops",
            ),
            Panel(
                "Score", (Query(f"edge_score{_OF}", "{{pipeline}}"),), about="From 1 on: NotOk.", red_from=1
            ),
            Panel(
                "Fail-safe verdicts per second",
                (Query(_rate("edge_failsafe_total", "pipeline"), "{{pipeline}}"),),
                unit="ops",
            ),
        ),
    ),
    (
        "Time",
        (
            Panel(
                "Inference, p50 and p99",
                (
                    Query(
                        _quantile(0.5, "edge_inference_duration_seconds", "pipeline", "version"),
                        "p50 {{pipeline}} {{version}}",
                    ),
                    Query(
                        _quantile(0.99, "edge_inference_duration_seconds", "pipeline", "version"),
                        "p99 {{pipeline}} {{version}}",
                    ),
                ),
                unit="s",
                about="Features, run and judgement, by version of the model.",
            ),
            Panel(
                "From the capture to the verdict, p99",
                (
                    Query(_quantile(0.99, "edge_end_to_end_seconds", "pipeline"), "{{pipeline}}"),
                    Query(_quantile(0.99, "edge_queue_wait_seconds", "pipeline"), "waiting, {{pipeline}}"),
                ),
                unit="s",
            ),
            Panel(
                "Not judged in time, per second",
                (
                    Query(_rate("edge_deadline_missed_total", "pipeline"), "late {{pipeline}}"),
                    Query(_rate("edge_rejected_total", "pipeline", "reason"), "{{reason}} {{pipeline}}"),
                    Query(_rate("edge_shed_total", "pipeline"), "shed {{pipeline}}"),
                    Query(_rate("edge_failed_total", "pipeline"), "failed {{pipeline}}"),
                ),
                unit="ops",
            ),
            Panel(
                "Time of the workers in use",
                (Query(f"edge_lane_utilisation_ratio{_OF}", "{{pipeline}}"),),
                unit="percentunit",
                red_from=0.9,
            ),
            Panel(
                "Deadlines can be promised",
                (Query(f"edge_schedulable{_OF}", "{{pipeline}}"),),
                kind="state-timeline",
                about="1: with what was measured. 0: the first miss is only a matter of time.",
            ),
            Panel(
                "Captures in one run, and runs interrupted per second",
                (
                    Query(f"edge_batch_size{_OF}", "batch {{pipeline}}"),
                    Query(_rate("edge_preempted_total", "pipeline"), "interrupted {{pipeline}}"),
                ),
            ),
        ),
    ),
    (
        "Models",
        (
            Panel(
                "Active model",
                (
                    Query(
                        f"max by (pipeline, model, version) (edge_model_info{_OF})",
                        "{{pipeline}}: {{model}} {{version}}",
                    ),
                ),
                kind="state-timeline",
                about="A change of the version is where one bar ends and another begins.",
            ),
            Panel(
                "Alarms of models",
                (Query(f"max by (pipeline, kind) (edge_model_alarm{_OF})", "{{pipeline}} {{kind}}"),),
                kind="state-timeline",
            ),
            Panel(
                "Changes and roll-backs, a day",
                (
                    Query("increase(edge_swap_total[1d])", "changes: {{result}}"),
                    Query("increase(edge_rollback_total[1d])", "roll-backs: {{reason}}"),
                ),
            ),
            Panel(
                "Drift (PSI)",
                (Query(f"edge_drift_psi{_OF}", "{{pipeline}} {{feature}}"),),
                about="Against the reference profile of the model: 0.1 is a shift, 0.25 a large one.",
                red_from=0.25,
            ),
            Panel(
                "Mean confidence, and reference samples answered as stored",
                (
                    Query(f"edge_confidence_mean_ratio{_OF}", "confidence {{pipeline}}"),
                    Query(f"edge_reference_accuracy_ratio{_OF}", "reference {{pipeline}}"),
                    Query(f"edge_shadow_agreement_ratio{_OF}", "shadow agrees {{pipeline}}"),
                ),
                unit="percentunit",
            ),
            Panel(
                "Hours to the limit, at the present rate",
                (Query(f"edge_hours_to_limit{_OF}", "{{pipeline}}"),),
                unit="h",
            ),
            Panel(
                "Age of the models",
                (Query(f"edge_model_age_seconds{_OF}", "{{pipeline}}"),),
                unit="s",
            ),
            Panel(
                "Nodes on the provider asked for",
                (Query(f"edge_ep_node_ratio{_OF}", "{{pipeline}} {{ep}}"),),
                unit="percentunit",
            ),
            Panel(
                "Failed runs in the window",
                (Query(f"edge_error_ratio{_OF}", "{{pipeline}}"),),
                unit="percentunit",
            ),
        ),
    ),
    (
        "Plant",
        (
            Panel("Devices answer", (Query("edge_link_up", "{{device}}"),), kind="state-timeline"),
            Panel(
                "Round trip",
                (Query("edge_link_round_trip_seconds", "{{device}}"),),
                unit="s",
            ),
            Panel(
                "Requests that failed per second, and connections made again",
                (
                    Query("rate(edge_link_errors_total[$__rate_interval])", "failed {{device}}"),
                    Query("increase(edge_link_reconnects_total[1h])", "again, 1 h {{device}}"),
                ),
            ),
            Panel("Values by quality", (Query("edge_link_values", "{{device}} {{quality}}"),)),
            Panel(
                "Outputs",
                (Query("edge_output_authority", "{{output}}: {{state}}"),),
                kind="state-timeline",
            ),
            Panel(
                "Records that wait, and that were lost",
                (
                    Query("edge_records_spooled", "waiting"),
                    Query("increase(edge_records_lost_total[1h])", "lost, 1 h"),
                ),
            ),
        ),
    ),
    (
        "Computer",
        (
            Panel(
                "Processors",
                (
                    Query("edge_host_cpu_ratio", "all"),
                    Query("rate(edge_process_cpu_seconds_total[$__rate_interval])", "{{role}}"),
                ),
                unit="percentunit",
            ),
            Panel(
                "Memory",
                (
                    Query("edge_host_memory_bytes", "machine {{kind}}"),
                    Query("edge_process_resident_bytes", "{{role}}"),
                    Query("edge_gpu_memory_bytes", "GPU {{gpu}} {{kind}}"),
                ),
                unit="bytes",
            ),
            Panel(
                "Temperature, and slowed down for it",
                (
                    Query("edge_thermal_celsius", "{{zone}}"),
                    Query("edge_throttled", "slowed down"),
                ),
                unit="celsius",
            ),
            Panel(
                "Processes started again, 1 h",
                (Query("increase(edge_process_restarts_total[1h])", "{{role}}"),),
                red_from=1,
            ),
            Panel("Room on the disk", (Query("edge_state_disk_free_bytes", "free"),), unit="bytes"),
            Panel("GPU", (Query("edge_gpu_utilisation_ratio", "{{gpu}}"),), unit="percentunit"),
        ),
    ),
)
"""The rows of the dashboard with their panels."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {
                "type": "row",
                "title": title,
                "id": len(panels) + 1,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
            }
        )
        y = _laid_out(panels, row, y + 1)
    return {
        "uid": UID,
        "title": "edge_opcua",
        "tags": ["edge_opcua", "opc-ua", "inference"],
        "timezone": "browser",
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), _pipelines()]},
        "annotations": {"list": []},
        "panels": panels,
    }


def _laid_out(panels: list[dict[str, Any]], row: tuple[Panel, ...], y: int) -> int:
    """Add the panels of a row, left to right, and return where the next row begins."""
    x, height = 0, 0
    for panel in row:
        if x + panel.width > _WIDTH:
            x, y = 0, y + height
        height = _SMALL if panel.kind == "stat" else _HEIGHT
        place = {"h": height, "w": panel.width, "x": x, "y": y}
        panels.append(_panel(panel, len(panels) + 1, place))
        x += panel.width
    return y + height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _pipelines() -> dict[str, Any]:
    return {
        "name": "pipeline",
        "type": "query",
        "label": "Pipeline",
        "datasource": _SOURCE,
        "query": "label_values(edge_captures_total, pipeline)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
