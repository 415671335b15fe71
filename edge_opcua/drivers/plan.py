"""What a configured device will put on the bus and ask over the wire, known before anything is connected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from edge_opcua.config.schema import DEFAULT_GROUP, CaptureConfig, DeviceConfig, GroupConfig
from edge_opcua.core.values import BlockSpec, Policy, Scalar, TagSpec
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.planner import ReadPlan, plan_reads
from edge_opcua.drivers.wire import Driver
from edge_opcua.plugins import DRIVERS, InstalledPlugins, Plugins

CAPTURE_RING: Final = 128
CAPTURE_RING_S: Final = 30.0
LINK_RING: Final = 32
_MIN_RING: Final = 8
_DEFAULT_PERIOD_MS: Final = 1000

LINK_TAGS: Final = (
    TagSpec("state", Scalar.INT32),
    TagSpec("state_text", Scalar.STRING, 24),
    TagSpec("requests", Scalar.UINT64),
    TagSpec("errors", Scalar.UINT64),
    TagSpec("reconnects", Scalar.UINT64),
    TagSpec("bytes", Scalar.UINT64),
    TagSpec("rtt_ms", Scalar.DOUBLE),
    TagSpec("last_error", Scalar.STRING, 200),
    TagSpec("last_good_ns", Scalar.INT64),
    TagSpec("values_good", Scalar.UINT32),
    TagSpec("values_bad", Scalar.UINT32),
)


@dataclass(frozen=True, slots=True)
class PeriodicReads:
    """What one poll group or capture asks of the device.

    Args:
        period_ms: Time between two polls.
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
    def requests_per_period(self) -> Mapping[str, int]:
        """Requests of one poll of each group or capture."""
        return {name: reads.requests for name, reads in self.reads.items()}

    @property
    def requests_per_s(self) -> float:
        """Load on the device by regular polling, without what captures add when they are ready."""
        return sum(1000 * reads.requests / reads.period_ms for reads in self.reads.values())


def load_driver(name: str, plugins: Plugins | None = None) -> type[Driver]:
    """Return the driver class of that name.

    Raises:
        ConfigError: There is no such driver, or it cannot be imported.
    """
    driver: type[Driver] = (plugins or InstalledPlugins()).load(DRIVERS, name)
    return driver


def groups_of(cfg: DeviceConfig) -> tuple[GroupConfig, ...]:
    """Return the poll groups of a device, with the default one if its tags need it."""
    named = {group.name for group in cfg.groups}
    if DEFAULT_GROUP not in named and any(tag.group == DEFAULT_GROUP for tag in cfg.tags):
        return (*cfg.groups, GroupConfig(name=DEFAULT_GROUP, period_ms=_DEFAULT_PERIOD_MS))
    return cfg.groups


def policy_of(cfg: DeviceConfig, group: GroupConfig) -> Policy:
    """Return when the values of a group stop being trusted."""
    stale_s = cfg.stale_after_s
    if stale_s is None:
        stale_s = max(1.0, 3 * group.period_ms / 1000)
    return Policy(stale_after_s=stale_s, hold_s=cfg.hold_s)


def rows_of(cfg: DeviceConfig, group: str, driver: type[Driver]) -> tuple[Row, ...]:
    """Return the rows of a group's block, in the order of the tag table."""
    return tuple(
        Row(driver.place(tag.address, cfg), tag.scale, tag.offset, tag.low, tag.high)
        for tag in cfg.tags_of(group)
    )


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
    blocks: list[BlockSpec] = []
    reads: dict[str, PeriodicReads] = {}
    for group in groups_of(cfg):
        tags = cfg.tags_of(group.name)
        if not tags:
            continue
        rows = rows_of(cfg, group.name, driver)
        plan = plan_reads([row.place for row in rows], shape)
        depth = max(_MIN_RING, math.ceil(1000 * options.ring_s / group.period_ms) + 1)
        specs = tuple(tag.spec for tag in tags)
        blocks.append(BlockSpec(cfg.block_name(group.name), specs, depth, policy_of(cfg, group)))
        reads[group.name] = PeriodicReads(group.period_ms, len(plan.requests), len(tags))
    for capture in cfg.captures:
        head, body = plan_capture(cfg, capture, driver)
        blocks.append(_capture_block(cfg, capture, driver, wakes))
        # Found by one poll, read, and found unchanged by one more.
        extra = len(body.requests) + len(head.requests)
        reads[capture.name] = PeriodicReads(capture.poll_ms, len(head.requests), 1, extra)
    blocks.append(BlockSpec(cfg.link_block, LINK_TAGS, LINK_RING))
    return DevicePlan(cfg.name, tuple(blocks), MappingProxyType(reads))


def plan_capture(
    cfg: DeviceConfig, capture: CaptureConfig, driver: type[Driver]
) -> tuple[ReadPlan, ReadPlan]:
    """Return how the head (sequence, ready, time, stroke) and the samples of a capture are read."""
    shape = driver.shape(cfg)
    heads = [driver.place(text, cfg) for text in head_addresses(capture).values()]
    return plan_reads(heads, shape), plan_reads([driver.place(capture.samples, cfg)], shape)


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
