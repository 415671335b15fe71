"""Samples by metric, put together for one scrape: each is declared in :mod:`edge_opcua.telemetry.names`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from edge_opcua.telemetry.names import METRICS
from edge_opcua.telemetry.results import Histogram

Number: TypeAlias = bool | int | float


class Families:
    """The metrics of one scrape."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}

    def add(self, name: str, value: Number | None, *labels: object) -> None:
        """Add a sample; what is not known (None, NaN) has none, so that nobody takes it for a nought.

        Args:
            name: A metric of :data:`METRICS`.
            value: Its value, in its unit.
            labels: Values of its labels, in order.
        """
        if value is None or math.isnan(value):
            return
        self._family(name).add_metric([str(label) for label in labels], float(value))

    def add_histogram(self, name: str, histogram: Histogram, *labels: object) -> None:
        """Add a histogram."""
        family = self._family(name)
        family.add_metric([str(label) for label in labels], histogram.buckets(), histogram.total_s)

    def _family(self, name: str) -> Any:  # each kind takes samples in its own way
        found = self._families.get(name)
        if found is None:
            metric = METRICS[name]
            make = _KINDS[metric.kind]
            found = self._families[name] = make(name, metric.help, labels=metric.labels)
        return found

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())


_KINDS = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
