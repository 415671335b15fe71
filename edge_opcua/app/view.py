"""The bus as people see it: plain rows for ``status`` and ``watch``, read by the supervisor on demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_opcua.app.pages import RowPages, plain_value
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Value, Verdict, is_bad

_SECOND_NS = 1e9


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


def _plain(fields: Mapping[str, Value]) -> dict[str, Any]:
    return {name: plain_value(value) for name, value in fields.items()}
