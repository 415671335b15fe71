"""The bus as people see it: plain rows for ``status`` and ``watch``, read by the supervisor on demand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import UNCERTAIN_SUBSTITUTE, Value, Verdict, is_bad, is_good, status_name

_SECOND_NS = 1e9
_SHOWN = frozenset({"verdict", "score", "confidence", "stroke", "input_age_ms", "fail_safe_active"})


class BusView:
    """Reads blocks of the bus into plain, JSON-ready values.

    Args:
        config: The configuration the bus was made for.
        bus: The tag bus.
        clock: For ages.
    """

    def __init__(self, config: EdgeConfig, bus: Bus, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._readers: dict[str, BlockReader] = {name: bus.reader(name) for name in bus.blocks}

    def rows(self) -> list[dict[str, Any]]:
        """Return every tag: id, value, unit, status, age in seconds and source time in ns UTC."""
        rows: list[dict[str, Any]] = []
        for device in self._config.devices:
            units = dict(zip(device.tags.column("name"), device.tags.column("unit"), strict=True))
            for group in device.groups:
                block = device.block_name(group.name)
                if block in self._readers:  # a group without tags has none
                    rows += self._block_rows(block, f"{device.name}/", units)
        for pipeline in self._config.pipelines:
            rows += self._result_rows(pipeline)
        return rows

    def fields(self, block: str) -> Mapping[str, Value]:
        """Return the newest values of a block by name, Bad ones as None; empty before the first batch."""
        batch = self._readers[block].latest() if block in self._readers else None
        if batch is None:
            return {}
        status = self._readers[block].effective(batch)
        return {
            tag.name: None if is_bad(int(status[row])) else batch.value(row)
            for row, tag in enumerate(batch.layout.spec.tags)
        }

    def recorded_cursor(self, pipeline: str) -> int | None:
        """Return the capture sequence on the bus that a lane has last dealt with; None before the first."""
        batch = self._readers[self._config.pipeline(pipeline).lane_block].latest()
        if batch is None:
            return None
        return int(batch.column(batch.place(batch.row("cursor"))[0])[batch.place(batch.row("cursor"))[1]])

    def links(self) -> list[dict[str, Any]]:
        """Return state and counters of the link to each device."""
        return [
            {"device": device.name, "driver": device.driver, **_plain(self.fields(device.link_block))}
            for device in self._config.devices
        ]

    def pipelines(self) -> list[dict[str, Any]]:
        """Return each pipeline's lane health and its last result."""
        out = []
        for pipeline in self._config.pipelines:
            result = self._readers[pipeline.result_block].latest()
            age_s = None
            if result is not None:
                age_s = (self._clock.monotonic_ns() - result.stamp_ns) / _SECOND_NS
            last = dict(self.fields(pipeline.result_block))
            verdict = last.get("verdict")
            out.append(
                {
                    "pipeline": pipeline.name,
                    "lane": _plain(self.fields(pipeline.lane_block)),
                    "last": _plain(last),
                    "verdict": Verdict(verdict).name if isinstance(verdict, int) else None,
                    "age_s": age_s,
                }
            )
        return out

    def outputs(self) -> list[dict[str, Any]]:
        """Return the authority state of each output."""
        return [
            {"output": output.name, **_plain(self.fields(output.authority_block))}
            for output in self._config.outputs
        ]

    def block(self, name: str) -> dict[str, Any]:
        """Return one block as plain values."""
        return _plain(self.fields(name))

    def _result_rows(self, pipeline: PipelineConfig) -> list[dict[str, Any]]:
        """Return what people want to see of a result; the verdict by its name."""
        prefix = f"{pipeline.name}/"
        shown = [
            row
            for row in self._block_rows(pipeline.result_block, prefix, {})
            if row["id"].removeprefix(prefix) in _SHOWN
        ]
        for row in shown:
            if row["id"] == f"{prefix}verdict" and row["value"] is not None:
                row["value"] = Verdict(row["value"]).name
        return shown

    def _block_rows(self, block: str, prefix: str, units: Mapping[str, str]) -> list[dict[str, Any]]:
        reader = self._readers[block]
        batch = reader.latest()
        if batch is None:
            return [
                {"id": prefix + tag.name, "value": None, "unit": units.get(tag.name, ""), "status": None}
                for tag in reader.spec.tags
            ]
        status = reader.effective(batch)
        now_ns = self._clock.utc_ns()
        return [self._row(batch, row, int(status[row]), prefix, units, now_ns) for row in range(len(status))]

    def _row(
        self, batch: TagBatch, row: int, status: int, prefix: str, units: Mapping[str, str], now_ns: int
    ) -> dict[str, Any]:
        tag = batch.layout.spec.tags[row]
        source_ns = int(batch.source_ns[row])
        if is_bad(status):
            value: Value = None
        elif status == UNCERTAIN_SUBSTITUTE and tag.substitute is not None:
            value = tag.substitute
        else:
            value = batch.value(row)
        return {
            "id": prefix + tag.name,
            "value": _json_value(value),
            "unit": units.get(tag.name, ""),
            "status": status,
            "quality": status_name(status),
            "good": is_good(status),
            "age_s": (now_ns - source_ns) / _SECOND_NS if source_ns else None,
            "source_ns": source_ns or None,
        }


def _json_value(value: Value) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.tolist()


def _plain(fields: Mapping[str, Value]) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in fields.items()}
