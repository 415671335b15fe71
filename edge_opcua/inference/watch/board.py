"""The block and the notices of one watch: figures onto the bus, alarms to whoever acts on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NOT_SUPPORTED, GOOD
from edge_opcua.inference.intake import number_of
from edge_opcua.inference.watch.findings import Finding
from edge_opcua.inference.watch.kinds import CODES, bits_of, kinds_of, most_important
from edge_opcua.inference.watch.latency import LatencyHistogram
from edge_opcua.inference.watch.modelwatch import Report
from edge_opcua.inference.watch.terms import WatchTerms

NOTICE: Final = "watch"
Tell = Callable[[str, dict[str, Any]], None]
"""Sends a notice to the supervisor: its kind and its body."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Standing:
    """An alarm that stands."""

    finding: Finding
    since_ns: int


class WatchBoard:
    """Shows one watch; only the active lane's process makes one. Counters go on where a former one stopped.

    Args:
        bus: The tag bus.
        block: Block of the watch.
        terms: What the watch knows of its model.
        clock: For the stamps.
        tell: Sends notices.

    Attributes:
        former: ``<name>/<version>`` of the model that was watched before; empty if there was none.
        latency: The histogram.
    """

    def __init__(self, bus: Bus, block: str, terms: WatchTerms, clock: Clock, tell: Tell) -> None:
        self._terms = terms
        self._clock = clock
        self._tell = tell
        self._writer = bus.writer(block)
        batch = self._writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        self._standing: dict[str, _Standing] = {}
        self.former = ""
        self.latency = LatencyHistogram()
        self.results = 0
        self._begun_ns = clock.monotonic_ns()
        if self._writer.sequence:
            self._go_on()
        self._results_before = self.results
        name, _, version = terms.model.rpartition("/")
        batch.status[:] = BAD_NOT_SUPPORTED  # nothing is known of this model yet
        self._set("model_name", name)
        self._set("model_version", int(version))
        self._set("false_alarms_per_month", terms.false_alarms_per_month)

    def beat(self) -> None:
        """Say that the watch lives."""
        self._writer.beat()

    def publish(self, report: Report, *, probation: bool, reference: tuple[bool, int] | None) -> None:
        """Show what is known, and tell which alarms come and go.

        Args:
            report: What is known.
            probation: Whether the version is on probation.
            reference: Whether the reference samples had the right answers, and when that was found out, ns
                UTC; None if they were not run again.
        """
        self._announce(report.findings, probation=probation)
        self._figures(report)
        checked = reference is not None and reference[1] > 0
        self._set("reference_ok", reference[0] if checked and reference is not None else None)
        self._set("reference_checked_ns", reference[1] if checked and reference is not None else None)
        self._set("probation", probation)
        now_ns = self._clock.utc_ns()
        self._writer.batch.source_ns[:] = now_ns
        self._writer.batch.server_ns[:] = now_ns
        self._writer.publish()

    @property
    def _after_s(self) -> float:
        """Time since this watch began, s: since its model took over."""
        return (self._clock.monotonic_ns() - self._begun_ns) / 1e9

    def _figures(self, report: Report) -> None:
        values: dict[str, Any] = {
            "alarms": bits_of(self._standing),
            "alarm": self._alarm(),
            "note": report.note,
            "results": self.results,
            "error_share": report.error_share,
            "late_share": report.late_share,
            "score_mean": report.score[0],
            "score_p50": report.score[1],
            "score_p99": report.score[2],
            "confidence_mean": report.confidence,
            "psi_score": report.psi_score,
            "psi_max": report.psi_feature[0],
            "psi_feature": report.psi_feature[1] or None,
            "ks": report.ks,
            "page_hinkley": report.page_hinkley,
            "input_quality": report.quality,
            "age_days": report.age.days,
            "age_state": report.age.state,
            "trend_hours": report.trend.hours,
            "trend_low_hours": report.trend.low_hours,
            "trend_high_hours": report.trend.high_hours,
            "trend": report.trend.text(),
            "latency_us": self.latency.counts,
            "latency_sum_us": self.latency.sum_us,
        }
        for name, value in values.items():
            self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        """Show a value; what is not known is null, not a number made up."""
        row, batch = self._rows[name], self._writer.batch
        if value is None or (isinstance(value, float) and math.isnan(value)):
            batch.status[row] = BAD_NOT_SUPPORTED
            return
        batch.status[row] = GOOD
        batch.set(row, value)

    def _alarm(self) -> str:
        kind = most_important(self._standing)
        if not kind:
            return ""
        more = f" (and {len(self._standing) - 1} more)" if len(self._standing) > 1 else ""
        return f"{CODES[kind]}: {self._standing[kind].finding.text}{more}"

    def _announce(self, findings: Sequence[Finding], *, probation: bool) -> None:
        now_ns = self._clock.utc_ns()
        took = f"; found {self._after_s:.1f} s after it took over" if probation else ""
        found: dict[str, Finding] = {}
        for each in findings:
            found.setdefault(each.kind, each)
        for kind in [kind for kind in self._standing if kind not in found]:
            gone = self._standing.pop(kind)
            _log.info("model.alarm_over", pipeline=self._terms.pipeline, kind=kind)
            self._notice(gone.finding, gone.since_ns, active=False)
        for kind, finding in found.items():
            if kind in self._standing:
                self._standing[kind].finding = finding
                continue
            finding = replace(finding, text=finding.text + took)
            self._standing[kind] = _Standing(finding, now_ns)
            _log.warning(
                "model.alarm", pipeline=self._terms.pipeline, kind=kind, code=CODES[kind], reason=finding.text
            )
            self._notice(finding, now_ns, active=True)

    def _notice(self, finding: Finding, since_ns: int, *, active: bool, model: str = "") -> None:
        body = {
            "pipeline": self._terms.pipeline,
            "model": model or self._terms.model,
            "kind": finding.kind,
            "active": active,
            "value": _number(finding.value),
            "limit": _number(finding.limit),
            "text": finding.text,
            "since_ns": since_ns,
            "code": CODES[finding.kind],
            "after_s": round(self._after_s, 3),
            "after_results": self.results - self._results_before if active else 0,
        }
        self._tell(NOTICE, body)

    def _go_on(self) -> None:
        """Take over the counters; alarms about the former model are over, those about this one come again."""
        batch, rows = self._writer.batch, self._rows
        self.former = f"{batch.text(rows['model_name'])}/{int(number_of(batch, 'model_version'))}"
        self.results = int(number_of(batch, "results"))
        counts = batch.array(rows["latency_us"])
        self.latency = LatencyHistogram(counts.astype("uint64"), float(number_of(batch, "latency_sum_us")))
        for kind in kinds_of(int(number_of(batch, "alarms"))):
            gone = Finding(kind, f"{self._terms.model} is watched from here on")
            self._notice(gone, self._clock.utc_ns(), active=False, model=self.former)


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0
