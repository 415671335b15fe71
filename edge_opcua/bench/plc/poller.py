"""Devices that are polled in this process as the io process does it, with what readers of the bus see."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import GOOD
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.plan import load_driver, plan_device
from edge_opcua.drivers.poller import Device

GROUP: Final = "g"
_READY_S: Final = 20.0
_LOOK_S: Final = 0.2


def device(name: str, driver: str, url: str, addresses: Sequence[str], **settings: Any) -> DeviceConfig:
    """Return a device whose tags are one poll group.

    Args:
        name: Its name.
        driver: Its driver.
        url: Where it is.
        addresses: Address of each tag.
        settings: ``period_ms`` and whatever a device can have.
    """
    parse = load_driver(driver).parse_address
    places = [parse(address) for address in addresses]
    tags = [
        {"name": f"t{i}", "address": address, "type": place.scalar, "length": place.length, "group": GROUP}
        for i, (address, place) in enumerate(zip(addresses, places, strict=True))
    ]
    period_ms = settings.pop("period_ms", 1000)
    group = {"name": GROUP, "period_ms": period_ms}
    return DeviceConfig.model_validate(
        {"name": name, "driver": driver, "url": url, "tags": tags, "groups": [group], **settings}
    )


class Polling:
    """Some devices at work on a bus of their own."""

    def __init__(self, configs: Sequence[DeviceConfig]) -> None:
        self.clock = SystemClock()
        blocks = [block for cfg in configs for block in plan_device(cfg).blocks]
        self.bus = Bus.create(blocks, clock=self.clock)
        lines = Lines()
        self.devices = {
            cfg.name: Device(cfg, load_driver(cfg.driver), self.bus, self.clock, lines) for cfg in configs
        }
        self.requests = {cfg.name: plan_device(cfg).reads[GROUP].requests for cfg in configs}

    @contextlib.asynccontextmanager
    async def running(self, ready: Iterable[str] | None = None) -> AsyncIterator[Polling]:
        """Poll until the end of the block; begins when the named devices, else all, have Good values."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in self.devices.values()]
            try:
                async with asyncio.timeout(_READY_S):
                    for name in self.devices if ready is None else ready:
                        while not self.good(name):  # noqa: ASYNC110 - the bus tells nobody
                            await asyncio.sleep(0.01)
                yield self
            finally:
                for task in tasks:
                    task.cancel()
        self.bus.close()

    def reader(self, name: str) -> BlockReader:
        """Return a reader of a device's values, from the newest batch on."""
        return self.bus.reader(f"{name}.{GROUP}")

    def good(self, name: str) -> bool:
        """Return whether all values of a device are Good."""
        reader = self.reader(name)
        batch = reader.latest()
        return batch is not None and bool((reader.effective(batch) == GOOD).all())

    async def refresh_ms(self, name: str, times: int) -> list[float]:
        """Return how long each of some polls takes, from asking to values on the bus, ms."""
        took = []
        for _ in range(times):
            started_s = time.perf_counter()
            outcome = await self.devices[name].poll_now(GROUP)
            took.append(1000 * (time.perf_counter() - started_s))
            if outcome.status != GOOD:
                raise RuntimeError(outcome.reason)
        return took

    async def stamps_s(self, names: Sequence[str], seconds: float) -> dict[str, npt.NDArray[np.float64]]:
        """Return when each batch of some devices was published, monotonic seconds."""
        readers = {name: self.reader(name) for name in names}
        seen: dict[str, list[int]] = {name: [] for name in names}
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(_LOOK_S)
            for name, reader in readers.items():
                seen[name] += [batch.stamp_ns for batch in reader.poll()]
        return {name: np.array(stamps) / 1e9 for name, stamps in seen.items()}
