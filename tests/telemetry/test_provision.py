"""Dashboard and rules name nothing that is not exported, and leave nothing out that is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edge_opcua.app.command.metrics import metrics
from edge_opcua.telemetry.dashboard import dashboard
from edge_opcua.telemetry.names import METRICS
from edge_opcua.telemetry.provision import files
from edge_opcua.telemetry.rules import RULES, yaml_of

_NAME = re.compile(r"\bedge_[a-z_]+")
_PARTS = ("_bucket", "_sum", "_count")


def exported(expression: str) -> set[str]:
    """Return the metrics that an expression names, of a histogram the metric and not its parts."""
    found = set()
    for name in _NAME.findall(expression):
        part = next((part for part in _PARTS if name.endswith(part) and name not in METRICS), "")
        found.add(name.removesuffix(part))
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_every_name_in_dashboard_and_rules_is_exported() -> None:
    for expression in (*expressions(), *(rule.expression for rule in RULES)):
        names = exported(expression)
        assert names, expression
        assert names <= METRICS.keys(), names - METRICS.keys()


def test_every_label_in_dashboard_and_rules_is_one_of_its_metric() -> None:
    legends = [
        (target["expr"], target["legendFormat"])
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    ]
    summaries = [(rule.expression, rule.summary.replace("$labels.", "")) for rule in RULES]
    for expression, text in (*legends, *summaries):
        labels = set(re.findall(r"{{\s*([a-z]+)\s*}}", text))
        known = {label for name in exported(expression) for label in METRICS[name].labels}
        assert labels <= known, (expression, labels - known)


def test_what_is_exported_can_be_seen() -> None:
    shown = {name for expression in expressions() for name in exported(expression)}
    # The rest is shown by another name of the same thing, or is for one's own queries.
    unseen = METRICS.keys() - shown
    assert unseen == {
        "edge_results_lost_total",
        "edge_captures_total",
        "edge_captures_lost_total",
        "edge_degraded",
        "edge_link_requests_total",
        "edge_lane_resident_bytes",
        "edge_model_on_probation",
        "edge_drift_alarm",
        "edge_output_writes_total",
        "edge_records_written_total",
        "edge_opcua_service_level",
        "edge_uptime_seconds",
    }


def test_panels_do_not_overlap_and_fit_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_the_files_lie_where_prometheus_and_grafana_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert metrics(tmp_path, "10.0.0.5:9464") == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == files("10.0.0.5:9464").keys()
    assert '"10.0.0.5:9464"' in (tmp_path / "prometheus" / "prometheus.yml").read_text()
    assert json.loads((tmp_path / "grafana" / "dashboards" / "edge-opcua.json").read_text()) == dashboard()
    assert "written: " in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("")
    assert metrics(tmp_path / "taken", "127.0.0.1:9464") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_the_list_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert metrics(None, "") == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == METRICS.keys()


def test_yaml_of_plain_data_is_read_as_it_was() -> None:
    tree = {"a": [{"b": 1, "c": ["x: y", "{{ z }}"]}, {"d": {}}], "e": True, "f": None, "g": []}
    text = 'a:\n  - b: 1\n    c:\n      - "x: y"\n      - "{{ z }}"\n  - d: {}\ne: true\nf: null\ng: []\n'
    assert yaml_of(tree) == text
