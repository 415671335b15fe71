"""ServiceLevel: how much of the plant a client gets from this server now (Part 4 §6.6.2.4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_good

__all__ = ["Health", "HealthWatch", "service_level"]

# Part 4 §6.6.2.4.2, Table 107: 0 maintenance, 1 no data, 2-199 degraded, 200-255 healthy.
MAINTENANCE: Final = 0
NO_DATA: Final = 1
LINK_LOST: Final = 100
LANE_DOWN: Final = 150
NOT_RECORDED: Final = 199
ALL_GOOD: Final = 255

LOOK_NS: Final = 500_000_000
_USABLE: Final = frozenset({"ONLINE", "SUSPECT", "RECOVERING", "SIMULATED"})
_SWITCHED_OFF: Final = "DISABLED"
_AT_WORK: Final = "Active"
_RECORDS: Final = "records.health"


@dataclass(frozen=True, slots=True)
class Health:
    """What the service level follows from.

    Args:
        links: Devices that are wanted: those that nobody switched off.
        links_lost: Those of them that cannot be read now.
        lanes_down: Pipelines whose lane does not judge now.
        recorded: Whether results and audit reach the disk.
        maintenance: Whether the server is being shut down.
    """

    links: int = 0
    links_lost: int = 0
    lanes_down: int = 0
    recorded: bool = True
    maintenance: bool = False


def service_level(health: Health) -> int:
    """Return the ServiceLevel; the worst thing that is the case counts. Pure.

    ======  ==========================================================================================
    level   when
    ======  ==========================================================================================
    0       the server is shutting down: clients shall go elsewhere
    1       no device can be read: everything shown is old
    100     at least one device cannot be read
    150     at least one pipeline does not judge: its verdict is the fail-safe one
    199     results and audit do not reach the disk (they wait in memory, and then are counted as lost)
    255     everything works
    ======  ==========================================================================================
    """
    if health.maintenance:
        return MAINTENANCE
    if health.links_lost and health.links_lost >= health.links:
        return NO_DATA
    if health.links_lost:
        return LINK_LOST
    if health.lanes_down:
        return LANE_DOWN
    return ALL_GOOD if health.recorded else NOT_RECORDED


class HealthWatch:
    """Looks at the bus, at most twice a second.

    Args:
        config: Which devices and pipelines there are.
        bus: The tag bus.
        clock: Clock of the bus.

    Attributes:
        maintenance: Set when the shutdown begins.
    """

    def __init__(self, config: EdgeConfig, bus: Bus, clock: Clock) -> None:
        self.maintenance = False
        self._clock = clock
        self._looked_ns = -LOOK_NS
        self._health = Health()
        self.watch(config, bus)

    def watch(self, config: EdgeConfig, bus: Bus) -> None:
        """Look at other devices and pipelines from now on."""

        def readers(names: list[str]) -> list[BlockReader]:
            return [bus.reader(name) for name in names if name in bus.blocks]

        self._links = readers([device.link_block for device in config.devices])
        self._lanes = readers([pipeline.lane_block for pipeline in config.pipelines])
        self._records = readers([_RECORDS])

    def health(self) -> Health:
        """Return what is the case now."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= LOOK_NS or self._health.maintenance != self.maintenance:
            self._looked_ns = now_ns
            self._health = self._look()
        return self._health

    def level(self) -> int:
        """Return the ServiceLevel now."""
        return service_level(self.health())

    def _look(self) -> Health:
        states = [_field(reader, "state_text") for reader in self._links]
        wanted = [state for state in states if state != _SWITCHED_OFF]
        faults = [_field(reader, "fault") for reader in self._records]
        return Health(
            links=len(wanted),
            links_lost=sum(state not in _USABLE for state in wanted),
            lanes_down=sum(_field(reader, "state") != _AT_WORK for reader in self._lanes),
            recorded=all(fault == "" for fault in faults),
            maintenance=self.maintenance,
        )


def _field(reader: BlockReader, name: str) -> Any:
    """Return a value of the newest batch; None before the first, and when its writer no longer answers."""
    batch = reader.latest()
    if batch is None:
        return None
    row = batch.row(name)
    status = int(reader.effective(batch)[row])
    return batch.value(row) if is_good(status) else None
