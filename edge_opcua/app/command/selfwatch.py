"""``watch`` without a server: the devices are polled by the command itself, and nothing is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.build import plan
from edge_opcua.app.view import BusView
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.supervise import supervise
from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import Device, build_device

_LOOK_S: Final = 0.05


class OwnPolling:
    """Polls the devices of a configuration, without models, outputs and OPC UA.

    Args:
        config: The checked configuration.
        clock: Clock.
        state_dir: Directory whose certificate devices are shown.

    Raises:
        ConfigError: A driver cannot read what its tags name.
    """

    def __init__(self, config: EdgeConfig, clock: Clock, state_dir: Path) -> None:
        self._config = config.model_copy(update={"pipelines": (), "outputs": ()})
        self._clock = clock
        self._bus = Bus.create(plan(self._config).blocks, clock=clock)
        self._view = BusView(self._config, self._bus, clock)
        lines = Lines(state_dir)
        self._devices: list[Device] = [
            build_device(device, self._bus, clock, lines) for device in self._config.devices
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll as long as the body runs."""
        try:
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(supervise(device.name, device.run, clock=self._clock), name=device.name)
                    for device in self._devices
                ]
                try:
                    yield
                finally:
                    for task in work:
                        task.cancel()
        finally:
            self._bus.close()

    async def first_values(self, within_s: float) -> None:
        """Wait until each device has answered or failed, so that the first thing shown is worth a look."""
        ends_s = self._clock.monotonic_s() + within_s
        while self._clock.monotonic_s() < ends_s:
            rows, _ = self._view.pages.page(0, only_bad=True)
            if not any(row["status"] in (None, BAD_WAITING_FOR_INITIAL_DATA) for row in rows):
                return
            await self._clock.sleep(_LOOK_S)

    def snapshot(self, *, bad: bool) -> dict[str, Any]:
        """Return every row, as a running server answers ``snapshot`` page by page."""
        rows: list[dict[str, Any]] = []
        following: int | None = 0
        while following is not None:
            page, following = self._view.pages.page(following, only_bad=bad)
            rows += page
        return {
            "machine": self._config.site.machine,
            "utc_ns": self._clock.utc_ns(),
            "rows": rows,
            "links": self._view.links(),
        }
