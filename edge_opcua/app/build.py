"""From a configuration to the blocks of the bus: what every process must agree on before the first starts."""

from __future__ import annotations

from dataclasses import dataclass

from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.collector import paused
from edge_opcua.core.values import BlockSpec
from edge_opcua.drivers.plan import DevicePlan, check_lines, plan_device, settings_of
from edge_opcua.inference.blocks import result_blocks, shadow_block, watch_block
from edge_opcua.inference.fed import samples_block
from edge_opcua.records.recorder import health_block
from edge_opcua.records.windowhealth import windows_block
from edge_opcua.writeback.output import authority_block


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run.

    Args:
        devices: How each device is read, in the order of the configuration.
        blocks: Every block of the bus.
    """

    devices: tuple[DevicePlan, ...]
    blocks: tuple[BlockSpec, ...]


def plan(config: EdgeConfig) -> Plan:
    """Return what will run; no I/O.

    Raises:
        ConfigError: A driver cannot read what its tags name, or devices do not agree about their line.
    """
    check_lines(config.devices)
    with paused():  # an address for each tag, none of which is garbage before all are planned
        devices = tuple(_planned(config, device) for device in config.devices)
    blocks = [block for device in devices for block in device.blocks]
    for pipeline in config.pipelines:
        outputs = [output for output in config.outputs if output.pipeline == pipeline.name]
        blocks += result_blocks(pipeline, wakes=len(outputs))
        if pipeline.capture is None:
            blocks.append(samples_block(pipeline))
        blocks.append(watch_block(pipeline))
        blocks.append(shadow_block(pipeline))
    blocks += [authority_block(output) for output in config.outputs]
    blocks += [health_block(), windows_block()]
    return Plan(devices, tuple(blocks))


def _planned(config: EdgeConfig, device: DeviceConfig) -> DevicePlan:
    with settings_of(device):
        return plan_device(device, wakes=_lanes_of(config, device.name))


def _lanes_of(config: EdgeConfig, device: str) -> int:
    """Return how many lanes at most wait for the same capture of a device."""
    captures = [p.capture for p in config.pipelines if p.capture and p.capture.partition("/")[0] == device]
    return max((captures.count(capture) for capture in captures), default=0)
