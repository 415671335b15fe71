"""What a scrape says, held against what lies on the bus."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_opcua.inference.watch.kinds import bits_of
from edge_opcua.telemetry import host
from edge_opcua.telemetry.names import METRICS, PREFIX
from edge_opcua.telemetry.results import KEPT_MODELS
from tests.telemetry.plant import PIPELINE, Plant, sample


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.close()


def infer(version: int, le: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = {"pipeline": PIPELINE, "model": "press-anomaly", "version": str(version), "ep": "cpu"}
    return sample("edge_inference_duration_seconds_bucket", lane="realtime", le=le, **labels)


def test_names_follow_prometheus_conventions() -> None:
    for metric in METRICS.values():
        assert metric.name.startswith(PREFIX)
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert "tag" not in metric.labels  # there may be 100 000 of them


def test_every_result_is_counted_once_with_its_times_by_model(plant: Plant) -> None:
    for number in range(5):
        plant.result(verdict=1 if number < 3 else 2, infer_ms=0.7 if number else 40.0)
        plant.collector.count()
    plant.result(verdict=3, fail_safe_active=True, bad=("score",), batch=0)
    seen = plant.scrape()
    assert seen[sample("edge_verdicts_total", pipeline=PIPELINE, verdict="ok")] == 3
    assert seen[sample("edge_verdicts_total", pipeline=PIPELINE, verdict="not_ok")] == 2
    assert seen[sample("edge_failsafe_total", pipeline=PIPELINE)] == 1
    assert seen[sample("edge_failsafe_active", pipeline=PIPELINE)] == 1
    assert sample("edge_score", pipeline=PIPELINE) not in seen  # no score is not a score of nought
    # 40 ms, and four of 0.7 ms; in the sixth no model has run.
    assert (seen[infer(1, "0.0005")], seen[infer(1, "0.001")], seen[infer(1, "+Inf")]) == (0, 4, 5)
    queue = sample("edge_queue_wait_seconds_sum", pipeline=PIPELINE, lane="realtime")
    assert seen[queue] == pytest.approx(6 * 0.2e-3)
    end_to_end = sample("edge_end_to_end_seconds_count", pipeline=PIPELINE, source="vib/stroke")
    assert seen[end_to_end] == 6
    plant.publish(f"{PIPELINE}.lane")
    assert plant.scrape()[end_to_end] == 6


def test_a_beat_of_the_lane_is_no_result(plant: Plant) -> None:
    plant.result()
    plant.collector.count()
    plant.bus.writer(f"{PIPELINE}.result").beat()
    assert plant.scrape()[sample("edge_verdicts_total", pipeline=PIPELINE, verdict="ok")] == 1


def test_the_loss_of_the_source_is_a_verdict_without_times(plant: Plant) -> None:
    plant.result(verdict=3, fail_safe_active=True, bad=("queue_ms", "stroke", "score"))
    seen = plant.scrape()
    assert seen[sample("edge_verdicts_total", pipeline=PIPELINE, verdict="not_decidable")] == 1
    assert seen[sample("edge_queue_wait_seconds_count", pipeline=PIPELINE, lane="realtime")] == 0


def test_series_of_models_long_gone_are_let_go(plant: Plant) -> None:
    for version in range(1, KEPT_MODELS + 4):
        plant.result(model_version=version)
        plant.collector.count()
    seen = plant.scrape()
    assert infer(1, "+Inf") not in seen
    assert seen[infer(KEPT_MODELS + 3, "+Inf")] == 1


def test_what_was_overwritten_before_it_was_counted_is_told(plant: Plant) -> None:
    for _ in range(300):
        plant.result()
    seen = plant.scrape()
    lost = seen[sample("edge_results_lost_total", pipeline=PIPELINE)]
    assert lost > 0
    assert lost + seen[sample("edge_verdicts_total", pipeline=PIPELINE, verdict="ok")] == 300


def test_the_lane_the_watch_and_the_shadow_are_shown_in_base_units(plant: Plant) -> None:
    plant.publish(
        f"{PIPELINE}.lane", processed=90, late=2, expired=3, rejected=4, superseded=5, rss_mb=10.0,
        utilisation=0.25, celsius=71.0, throttled=True, provider="cpu", accelerated=1.0, schedulable=False,
    )  # fmt: skip
    plant.publish(
        f"{PIPELINE}.watch", alarms=bits_of(("drift", "age")), age_days=2.0, psi_score=0.3, psi_max=0.5,
        probation=True, bad=("trend_hours",),
    )  # fmt: skip
    plant.publish(f"{PIPELINE}.shadow", compared=10, agreement=0.9)
    seen = plant.scrape()
    lane = {"pipeline": PIPELINE, "lane": "realtime"}
    assert seen[sample("edge_captures_total", **lane)] == 90
    assert seen[sample("edge_deadline_missed_total", **lane)] == 5
    assert seen[sample("edge_rejected_total", **lane, reason="superseded")] == 5
    assert seen[sample("edge_lane_resident_bytes", **lane)] == 10 * 2**20
    assert seen[sample("edge_schedulable", **lane)] == 0
    assert seen[sample("edge_ep_node_ratio", pipeline=PIPELINE, ep="cpu")] == 1
    assert seen[sample("edge_thermal_celsius", zone="hottest")] == 71
    assert seen[sample("edge_throttled")] == 1
    assert seen[sample("edge_model_age_seconds", pipeline=PIPELINE)] == 2 * 86_400
    assert seen[sample("edge_drift_psi", pipeline=PIPELINE, feature="worst")] == 0.5
    alarms = {
        kind: seen[sample("edge_model_alarm", pipeline=PIPELINE, kind=kind)]
        for kind in ("drift", "age", "trend")
    }
    assert alarms == {"drift": 1, "age": 1, "trend": 0}
    assert seen[sample("edge_drift_alarm", pipeline=PIPELINE)] == 1
    assert sample("edge_hours_to_limit", pipeline=PIPELINE) not in seen
    assert seen[sample("edge_shadow_agreement_ratio", pipeline=PIPELINE)] == 0.9


def test_links_outputs_and_records_are_shown(plant: Plant) -> None:
    plant.publish(
        "vib.link", state_text="ONLINE", requests=7, errors=1, rtt_ms=2.0, values_good=3, values_bad=4
    )
    plant.publish("press.link", state_text="OFFLINE", bad=("rtt_ms",))
    plant.publish("verdict.authority", state="ACTIVE", writes=9)
    plant.publish("records.health", written=5, lost=0, spooled=1)
    seen = plant.scrape()
    assert seen[sample("edge_link_up", device="vib")] == 1
    assert seen[sample("edge_link_up", device="press")] == 0
    assert seen[sample("edge_link_round_trip_seconds", device="vib")] == pytest.approx(2e-3)
    assert sample("edge_link_round_trip_seconds", device="press") not in seen
    assert seen[sample("edge_link_values", device="vib", quality="bad")] == 4
    assert seen[sample("edge_output_authority", output="verdict", state="ACTIVE")] == 1
    assert seen[sample("edge_records_written_total")] == 5


def test_what_the_supervisor_and_jobs_have_told_is_shown(plant: Plant) -> None:
    plant.heard.status = {
        "uptime_s": 12.5,
        "sessions": [{}, {}],
        "service_level": 255,
        "faults": [{"code": "M590"}, {"code": "M590"}],
        "processes": [{"role": "io", "pid": os.getpid(), "restarts": 3}, {"role": "lane/x", "pid": None}],
    }
    plant.heard.swaps["active"] += 2
    plant.heard.rollbacks["reference"] += 1
    seen = plant.scrape()
    assert seen[sample("edge_uptime_seconds")] == 12.5
    assert seen[sample("edge_opcua_sessions")] == 2
    assert seen[sample("edge_faults", code="M590")] == 2
    assert seen[sample("edge_process_restarts_total", role="io")] == 3
    assert seen[sample("edge_process_resident_bytes", role="io")] > 2**20
    assert sample("edge_process_resident_bytes", role="lane/x") not in seen
    assert seen[sample("edge_swap_total", result="active")] == 2
    assert seen[sample("edge_rollback_total", reason="reference")] == 1
    assert (
        seen[sample("edge_host_memory_bytes", kind="total")]
        > seen[sample("edge_host_memory_bytes", kind="available")]
    )
    assert seen[sample("edge_state_disk_free_bytes")] > 0


def test_before_anything_was_said_nothing_is_made_up(plant: Plant) -> None:
    names = {name for name, _ in plant.scrape()}
    assert not names & {
        "edge_score",
        "edge_failsafe_active",
        "edge_captures_total",
        "edge_uptime_seconds",
        "edge_link_up",
    }


def test_figures_of_processes_that_are_gone_or_named_strangely(tmp_path: Path) -> None:
    assert host.process_use(2**22 + 1) is None
    (tmp_path / "7").mkdir()
    fields = ["S", *["0"] * 10, "250", "50", *["0"] * 8, "3", "0"]
    (tmp_path / "7" / "stat").write_text(f"7 (a) (b) {' '.join(fields)}\n")
    used = host.process_use(7, proc=tmp_path)
    assert used is not None
    assert (used.cpu_s, used.resident_bytes) == (
        300 / os.sysconf("SC_CLK_TCK"),
        3 * os.sysconf("SC_PAGE_SIZE"),
    )


def test_processors_are_busy_by_what_passed_since_the_last_look(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 100 0 100 700 100 0 0 0 0 0\ncpu0 0\n")
    looked = host.Processors(proc=tmp_path)
    assert looked.busy_ratio() is None  # no time has passed
    stat.write_text("cpu 130 0 120 740 110 0 0 0 0 0\ncpu0 0\n")
    assert looked.busy_ratio() == pytest.approx(0.5)
