"""The example's bus with nobody on it but the test, and its metrics as Prometheus's own parser reads them."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_opcua.app.build import plan
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.values import BAD_NO_COMMUNICATION, GOOD
from edge_opcua.inference.watch.kinds import KINDS
from edge_opcua.telemetry.collector import Heard, PlantCollector
from edge_opcua.telemetry.exporter import registry_of
from edge_opcua.testing import ManualClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "press" / "press.toml"
PIPELINE = "press-anomaly"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def example() -> EdgeConfig:
    found = load(EXAMPLE).config
    assert found is not None
    return found


def sample(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the key of a sample."""
    return name, tuple(sorted(labels.items()))


def parsed(text: str) -> Samples:
    return {
        sample(each.name, **each.labels): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def read(url: str, *, timeout_s: float = 5.0) -> str:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return str(answer.read().decode())


class Plant:
    """Writes blocks as their processes would."""

    def __init__(self, state_dir: Path) -> None:
        self.config = example()
        self.clock = ManualClock()
        self.bus = Bus.create(plan(self.config).blocks, clock=self.clock)
        self.heard = Heard()
        self.collector = PlantCollector(self.config, self.bus, self.heard, state_dir, KINDS)
        self.registry = registry_of(self.collector)
        self._writers: dict[str, BlockWriter] = {}

    def publish(self, block: str, bad: tuple[str, ...] = (), **rows: Any) -> None:
        """Publish a batch of a block; what is not named keeps its value."""
        writer = self._writers.get(block) or self._writers.setdefault(block, self.bus.writer(block))
        batch = writer.batch
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = self.clock.utc_ns()
        for name, value in rows.items():
            row = batch.row(name)
            if isinstance(value, str):
                batch.set_text(row, value)
            else:
                batch.set(row, value)
        for name in bad:
            batch.status[batch.row(name)] = BAD_NO_COMMUNICATION
        writer.publish()

    def result(self, bad: tuple[str, ...] = (), **rows: Any) -> None:
        """Publish a result like those of the example's lane."""
        usual: Mapping[str, Any] = {
            "verdict": 1,
            "score": 0.5,
            "queue_ms": 0.2,
            "infer_ms": 0.7,
            "total_ms": 30.0,
            "batch": 1,
            "fail_safe_active": False,
            "model_name": "press-anomaly",
            "model_version": 1,
            "model_sha256": "ab" * 32,
            "source": "cpu",
        }
        self.publish(f"{PIPELINE}.result", bad, **{**usual, **rows})

    def scrape(self) -> Samples:
        return parsed(generate_latest(self.registry).decode())

    def close(self) -> None:
        self.bus.close()
