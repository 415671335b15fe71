"""Files that Prometheus and Grafana are set up with, so that a dashboard is there without a click."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from edge_opcua.telemetry.dashboard import dashboard
from edge_opcua.telemetry.rules import rules, yaml_of

PROMETHEUS: Final = "http://localhost:9090"


def files(target: str) -> dict[str, str]:
    """Return every file by its path.

    Args:
        target: Where the metrics are served, ``host:port``.
    """
    return {
        "prometheus/prometheus.yml": yaml_of(_prometheus(target)),
        "prometheus/edge-opcua.rules.yml": yaml_of(rules()),
        "grafana/dashboards/edge-opcua.json": json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n",
        "grafana/provisioning/dashboards/edge-opcua.yml": yaml_of(_provider()),
        "grafana/provisioning/datasources/edge-opcua.yml": yaml_of(_datasource()),
    }


def write(folder: Path, target: str) -> list[Path]:
    """Write the files below a folder; what is there is overwritten.

    Raises:
        OSError: One cannot be written.
    """
    written = []
    for name, text in files(target).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _prometheus(target: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": ["edge-opcua.rules.yml"],
        "scrape_configs": [{"job_name": "edge_opcua", "static_configs": [{"targets": [target]}]}],
    }


def _provider() -> dict[str, Any]:
    folder = "/var/lib/grafana/dashboards"
    provider = {"name": "edge_opcua", "type": "file", "folder": "", "options": {"path": folder}}
    return {"apiVersion": 1, "providers": [provider]}


def _datasource() -> dict[str, Any]:
    source = {
        "name": "Prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": PROMETHEUS,
        "isDefault": True,
    }
    return {"apiVersion": 1, "datasources": [source]}
