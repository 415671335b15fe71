"""The bus as people see it: plain rows for ``status`` and ``watch``, read by the supervisor on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_opcua.app.pages import RowPages, plain_value
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Value, Verdict, is_bad, status_name

_SECOND_NS = 1e9
_IN_SHADOW = frozenset({"Comparing", "Behind", "Compared"})
_VALUE = "value."  # and the number of the tag: rows of an output's block


class BusView:
    """Reads blocks of the bus into plain, JSON-ready values.

    Args:
        config: The configuration the bus was made for.
        bus: The tag bus.
        clock: For ages.

    Attributes:
        pages: Every row of tags and results.
    """

    def __init__(self, config: EdgeConfig, bus: Bus, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._readers: dict[str, BlockReader] = {name: bus.reader(name) for name in bus.blocks}
        self.pages = RowPages(config, self._readers, clock)

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
                    "group": pipeline.process,
                    "lane_class": pipeline.lane,
                    "deadline_ms": pipeline.deadline_ms,
                    "lane": _plain(self.fields(pipeline.lane_block)),
                    "watch": self._watch(pipeline.watch_block),
                    "shadow": self._shadow(pipeline.shadow_block),
                    "last": _plain(last),
                    "verdict": Verdict(verdict).name if isinstance(verdict, int) else None,
                    "age_s": age_s,
                }
            )
        return out

    def models(self) -> list[dict[str, Any]]:
        """Return the alarms of each running model."""
        return [
            {"pipeline": pipeline.name, "watch": {name: fields.get(name) for name in ("alarm", "alarms")}}
            for pipeline in self._config.pipelines
            for fields in (self.block(pipeline.watch_block),)
        ]

    def _watch(self, block: str) -> dict[str, Any]:
        """Return what a model is watched for, without the histogram: that is for graphs."""
        return {name: value for name, value in self.block(block).items() if name != "latency_us"}

    def _shadow(self, block: str) -> dict[str, Any] | None:
        """Return what judges beside the model of a pipeline and how far it agrees; None if nothing does."""
        fields = self.block(block)
        if fields.get("state") not in _IN_SHADOW:
            return None
        return {"name": fields.pop("model_name"), "version": fields.pop("model_version"), **fields}

    def outputs(self) -> list[dict[str, Any]]:
        """Return the authority state of each output, who may say what of it, and what it writes to tags."""
        return [self._output(output) for output in self._config.outputs]

    def _output(self, output: OutputConfig) -> dict[str, Any]:
        fields = _plain(self.fields(output.authority_block))
        since_ns = fields.get("since_ns")
        return {
            "output": output.name,
            "device": output.device,
            "acknowledged_by": output.acknowledged_by,
            "granted_by": output.granted_by,
            "auto_restart": output.auto_restart,
            # Whether somebody can acknowledge at the PLC, and whether it can say that it uses the output.
            "plc_acknowledges": output.interface is not None or output.ack_required is not None,
            "plc_tells": output.interface is not None or output.plc_trusts is not None,
            "since_s": max(0.0, (self._clock.utc_ns() - since_ns) / _SECOND_NS) if since_ns else None,
            **{name: value for name, value in fields.items() if not name.startswith(_VALUE)},
            "values": [
                {"tag": value.tag, "value": fields[f"{_VALUE}{index}"], "status": self._status(output, index)}
                for index, value in enumerate(output.values)
                if f"{_VALUE}{index}" in fields
            ],
        }

    def _status(self, output: OutputConfig, index: int) -> str:
        """Return how good it is what an output writes to one of its tags."""
        reader = self._readers[output.authority_block]
        batch = reader.latest()
        assert batch is not None, "its fields were read from one"
        return status_name(int(reader.effective(batch)[batch.row(f"{_VALUE}{index}")]))

    def block(self, name: str) -> dict[str, Any]:
        """Return one block as plain values."""
        return _plain(self.fields(name))


def _plain(fields: Mapping[str, Value]) -> dict[str, Any]:
    return {name: plain_value(value) for name, value in fields.items()}
