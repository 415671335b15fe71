"""What a configured device will put on the bus and ask over the wire, known before anything is connected."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from edge_opcua.config.schema import CaptureConfig, DeviceConfig
from edge_opcua.core.values import BlockSpec, Scalar, TagSpec
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.noread import check_not_closed, closed_stretches
from edge_opcua.drivers.planner import Place, ReadPlan, Terms, plan_reads
from edge_opcua.drivers.watchprofile import fitted
from edge_opcua.drivers.wire import Driver, SharesLines
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.plugins import DRIVERS, InstalledPlugins, Plugins

CAPTURE_RING: Final = 128
CAPTURE_RING_S: Final = 30.0
LINK_RING: Final = 32
_MIN_RING: Final = 8
_DEMAND_RING: Final = 32  # a trigger may come as often as the tags that are polled by time

_WHOLE: Final = tuple(scalar for scalar in Scalar if scalar.dtype.kind in "iu" and scalar.is_number)

LINK_TAGS: Final = (
    TagSpec("state", Scalar.INT32),
    TagSpec("state_text", Scalar.STRING, 24),
    TagSpec("requests", Scalar.UINT64),
    TagSpec("errors", Scalar.UINT64),
    TagSpec("reconnects", Scalar.UINT64),
    TagSpec("bytes", Scalar.UINT64),
    TagSpec("rtt_ms", Scalar.DOUBLE),
    TagSpec("last_error", Scalar.STRING, 200),
    TagSpec("notice", Scalar.STRING, 200),
    TagSpec("last_good_ns", Scalar.INT64),
    TagSpec("values_good", Scalar.UINT32),
    TagSpec("values_bad", Scalar.UINT32),
    TagSpec("timeouts", Scalar.UINT64),
    TagSpec("retries", Scalar.UINT64),
    TagSpec("busy", Scalar.UINT64),
    TagSpec("writes", Scalar.UINT64),
    TagSpec("indeterminate", Scalar.UINT64),
    TagSpec("landed_late", Scalar.UINT64),
    TagSpec("overruns", Scalar.UINT64),
    TagSpec("refused", Scalar.UINT32),
    TagSpec("units_lost", Scalar.UINT32),
    TagSpec("scan_ms", Scalar.DOUBLE),
    TagSpec("scan_max_ms", Scalar.DOUBLE),
    TagSpec("jitter_ms", Scalar.DOUBLE),
    TagSpec("values_per_s", Scalar.DOUBLE),
    TagSpec("simulated", Scalar.BOOLEAN),
)


@dataclass(frozen=True, slots=True)
class PeriodicReads:
    """What one poll group or capture asks of the device.

    Args:
        period_ms: Time between two polls; 0: only on demand.
        requests: Requests of one poll.
        tags: Tags it reads.
        extra_requests: Further requests when a capture is ready; 0 for groups.
    """

    period_ms: int
    requests: int
    tags: int
    extra_requests: int = 0


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """A device as the bus, ``check`` and the poller need it.

    Args:
        name: Name of the device.
        blocks: Every block it writes.
        reads: What is asked, per group or capture.
    """

    name: str
    blocks: tuple[BlockSpec, ...]
    reads: Mapping[str, PeriodicReads]

    @property
    def requests_per_s(self) -> float:
        """Load on the device by regular polling, without what captures add when they are ready."""
        return sum(1000 * each.requests / each.period_ms for each in self.reads.values() if each.period_ms)


def load_driver(name: str, plugins: Plugins | None = None) -> type[Driver]:
    """Return the driver class of that name.

    Raises:
        ConfigError: There is no such driver, or it cannot be imported.
    """
    driver: type[Driver] = (plugins or InstalledPlugins()).load(DRIVERS, name)
    return driver


def rows_of(cfg: DeviceConfig, group: str, driver: type[Driver]) -> tuple[Row, ...]:
    """Return the rows of a group's block, in the order of the tag table."""
    tags = cfg.tags_of(group)
    names = ("address", "scale", "offset", "low", "high", "deadband", "clamp")
    columns = zip(*map(tags.column, names), strict=True)
    return tuple(Row(driver.place(address, cfg), *rest) for address, *rest in columns)


def plan_device(cfg: DeviceConfig, *, plugins: Plugins | None = None, wakes: int = 1) -> DevicePlan:
    """Return the blocks and the load of a device.

    Args:
        cfg: The device.
        plugins: Where drivers are looked up.
        wakes: Deadline readers of each capture.

    Raises:
        ConfigError: The driver, the URL, an option or an address is unusable.
    """
    driver = load_driver(cfg.driver, plugins)
    options, shape = driver.options(cfg), driver.shape(cfg)
    fitted(cfg, driver)
    closed = closed_stretches(options.no_read, cfg, driver)
    blocks: list[BlockSpec] = []
    reads: dict[str, PeriodicReads] = {}
    for group in cfg.groups:
        tags = cfg.tags_of(group.name)
        if not tags:
            continue
        rows = rows_of(cfg, group.name, driver)
        check_not_closed(cfg, tags.column("name"), [row.place for row in rows], closed)
        plan = plan_reads([row.place for row in rows], shape, None, Terms(no_read=closed))
        depth = _DEMAND_RING
        if not group.on_demand:
            depth = max(_MIN_RING, math.ceil(1000 * options.ring_s / group.period_ms) + 1)
        blocks.append(BlockSpec(cfg.block_name(group.name), tags.specs, depth, cfg.policy(group.name)))
        reads[group.name] = PeriodicReads(group.period_ms, len(plan.requests), len(tags))
    for capture in cfg.captures:
        head, body = plan_capture(cfg, capture, driver)
        blocks.append(_capture_block(cfg, capture, driver, wakes))
        # Found by one poll, read, and found unchanged by one more.
        extra = len(body.requests) + len(head.requests)
        reads[capture.name] = PeriodicReads(capture.poll_ms, len(head.requests), 1, extra)
    blocks.append(BlockSpec(cfg.link_block, LINK_TAGS, LINK_RING))
    return DevicePlan(cfg.name, tuple(blocks), MappingProxyType(reads))


def check_lines(devices: Iterable[DeviceConfig], *, plugins: Plugins | None = None) -> None:
    """Refuse devices that share a line but set it up differently, e.g. a serial port at two baud rates.

    Raises:
        ConfigError: There are such (C128).
    """
    first: dict[Hashable, tuple[str, object]] = {}
    for cfg in devices:
        driver = load_driver(cfg.driver, plugins)
        if not isinstance(driver, SharesLines):
            continue
        with settings_of(cfg):
            key, settings = driver.line(cfg)
            name, theirs = first.setdefault(key, (cfg.name, settings))
            if theirs != settings:
                raise ConfigError(
                    f"{name} and {cfg.name} share a line but set it up differently", code="C128"
                )


@contextmanager
def settings_of(cfg: DeviceConfig) -> Iterator[None]:
    """Let a ConfigError say whose settings are wrong."""
    try:
        yield
    except ConfigError as exc:
        exc.device = exc.device or cfg.name
        raise


def plan_capture(
    cfg: DeviceConfig, capture: CaptureConfig, driver: type[Driver]
) -> tuple[ReadPlan, ReadPlan]:
    """Return how the head (sequence, ready, time, stroke) and the samples of a capture are read."""
    shape = driver.shape(cfg)
    heads, samples = capture_places(cfg, capture, driver)
    return plan_reads(list(heads.values()), shape), plan_reads([samples], shape)


def capture_places(
    cfg: DeviceConfig, capture: CaptureConfig, driver: type[Driver]
) -> tuple[dict[str, Place], Place]:
    """Return the places of a capture's head by what they mean, and that of its samples.

    Raises:
        ConfigError: An address is unusable, or its type is not what it is needed for.
    """
    heads = {name: driver.place(text, cfg) for name, text in head_addresses(capture).items()}
    for name, place in heads.items():
        wanted = (Scalar.BOOLEAN,) if name == "ready" else _WHOLE
        if place.scalar not in wanted or place.length:
            kind = "a BOOL" if name == "ready" else "a whole number"
            raise AddressError(f"{cfg.name}/{capture.name}: {name} has to be {kind}", code="T218")
    samples = driver.place(capture.samples, cfg)
    if samples.length == 0 or not samples.scalar.is_number:
        raise AddressError(
            f"{cfg.name}/{capture.name}: samples have to be an array of numbers",
            hint="write e.g. 1/hr:100:INT[2000]",
            code="T218",
        )
    return heads, samples


def head_addresses(capture: CaptureConfig) -> dict[str, str]:
    """Return the addresses of a capture's head by what they mean, as far as they are configured."""
    given = {
        "sequence": capture.sequence,
        "ready": capture.ready,
        "ready_ns": capture.ready_ns,
        "stroke": capture.stroke,
    }
    return {meaning: address for meaning, address in given.items() if address is not None}


def _capture_block(cfg: DeviceConfig, capture: CaptureConfig, driver: type[Driver], wakes: int) -> BlockSpec:
    samples = max(1, driver.place(capture.samples, cfg).length)
    tags = (
        TagSpec("sequence", Scalar.UINT32),
        TagSpec("ready_ns", Scalar.INT64),
        TagSpec("sample_rate_hz", Scalar.DOUBLE),
        TagSpec("waveform", Scalar.FLOAT, samples),
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("missed", Scalar.UINT64),
        TagSpec("read_ms", Scalar.DOUBLE),
    )
    depth = max(CAPTURE_RING, math.ceil(CAPTURE_RING_S))
    return BlockSpec(cfg.block_name(capture.name), tags, depth, cfg.capture_policy, wakes=wakes)
