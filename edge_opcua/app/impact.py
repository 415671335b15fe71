"""What has to stop and start for a change of the configuration, and what goes on; pure.

Every process works it out for itself from the two configurations and from where the blocks of the bus lie
before and after, so all of them come to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edge_opcua.config.difference import SHOWN_ONLY, same_device
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.inference.lane import lane_spec

Homes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Impact:
    """What stops and what starts; what does both is started anew.

    Args:
        stopped_devices: Names of devices that stop.
        started_devices: Names of devices that start.
        stopped_outputs: Names of outputs that are released and stop.
        started_outputs: Names of outputs that start.
        stopped_lanes: Names of pipelines whose lane stops.
        started_lanes: Names of pipelines whose lane starts.
        changed_groups: Groups that stay and whose process is replaced, because something of them changes.
        handed_over: Names of their pipelines that are not touched: the new process goes on for them.
    """

    stopped_devices: tuple[str, ...]
    started_devices: tuple[str, ...]
    stopped_outputs: tuple[str, ...]
    started_outputs: tuple[str, ...]
    stopped_lanes: tuple[str, ...]
    started_lanes: tuple[str, ...]
    changed_groups: tuple[str, ...] = ()
    handed_over: tuple[str, ...] = ()


def impact(old: EdgeConfig, new: EdgeConfig, before: Homes, after: Homes) -> Impact:
    """Return what a change means.

    Args:
        old: The configuration that runs.
        new: The one that shall run.
        before: Where each block of the bus lies now.
        after: Where each block will lie.
    """

    def moved(block: str) -> bool:
        return before.get(block) != after.get(block)

    old_devices = {device.name: device for device in old.devices}
    new_devices = {device.name: device for device in new.devices}
    same = {
        name
        for name, device in old_devices.items()
        if name in new_devices
        and same_device(device, new_devices[name], ignoring=SHOWN_ONLY)
        and not any(moved(block) for block in device_blocks(device))
    }
    old_lanes = {each.name: _lane(old, each.name) for each in old.pipelines}
    new_lanes = {each.name: _lane(new, each.name) for each in new.pipelines}
    same_lanes = {
        name
        for name, lane in old_lanes.items()
        if lane == new_lanes.get(name) and not any(moved(block) for block in lane_blocks(old, name))
    }
    old_outputs = {each.name: each for each in old.outputs}
    new_outputs = {each.name: each for each in new.outputs}
    same_outputs = {
        name
        for name, output in old_outputs.items()
        if output == new_outputs.get(name)
        and output.pipeline in same_lanes
        and _devices_of(old, output) <= same
        and not moved(output.authority_block)
    }
    return Impact(
        *_stop_and_start(old_devices, new_devices, same),
        *_stop_and_start(old_outputs, new_outputs, same_outputs),
        *_stop_and_start(old_lanes, new_lanes, same_lanes),
        *_groups(old, new, same_lanes),
    )


def device_blocks(device: DeviceConfig) -> Iterator[str]:
    """Yield the blocks that a device writes."""
    yield device.link_block
    used = set(device.tags.column("group"))
    yield from (device.block_name(group.name) for group in device.groups if group.name in used)
    yield from (device.block_name(capture.name) for capture in device.captures)


def lane_blocks(config: EdgeConfig, pipeline: str) -> Iterator[str]:
    """Yield the blocks that a lane reads and writes."""
    spec = lane_spec(config, pipeline)
    yield from (spec.capture_block, spec.result_block, spec.lane_block)
    chosen = config.pipeline(pipeline)
    yield from (chosen.watch_block, chosen.shadow_block)
    yield from (tag.block for tag in spec.context)
    if spec.part_id is not None:
        yield spec.part_id.block


def _lane(config: EdgeConfig, pipeline: str) -> tuple[object, ...]:
    chosen = config.pipeline(pipeline)
    capture = None if chosen.capture is None else config.capture(chosen.capture)[1]
    return (chosen, lane_spec(config, pipeline), capture)


def _groups(
    old: EdgeConfig, new: EdgeConfig, same_lanes: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the groups that stay and get a new process, and their pipelines that it goes on for."""
    before, after = _processes(old), _processes(new)
    unlike = old.inference.keep_free_mb != new.inference.keep_free_mb
    unlike |= old.inference.warm_celsius != new.inference.warm_celsius
    changed = tuple(
        name
        for name, process in after.items()
        if name in before and (unlike or process != before[name] or not process[0] <= same_lanes)
    )
    goes_on = (each.name for each in new.pipelines if each.process in changed and each.name in same_lanes)
    return changed, tuple(goes_on)


def _processes(config: EdgeConfig) -> dict[str, tuple[set[str], object]]:
    """Return the pipelines and the settings of each group."""
    settings = {group.name: group for group in config.inference.groups}
    found: dict[str, tuple[set[str], object]] = {}
    for pipeline in config.pipelines:
        found.setdefault(pipeline.process, (set(), settings.get(pipeline.process)))[0].add(pipeline.name)
    return found


def _devices_of(config: EdgeConfig, output: OutputConfig) -> set[str]:
    """Return the devices that an output writes to, or that tell it anything."""
    sources = config.source_devices(config.pipeline(output.pipeline))
    references = (
        output.grant,
        output.ack_required,
        output.plc_trusts,
        output.plc_heartbeat,
        output.echo_heartbeat,
    )
    told = (device.name for device in sources)
    return {output.device, *told, *(each.partition("/")[0] for each in references if each is not None)}


def _stop_and_start(
    old: Mapping[str, object], new: Mapping[str, object], same: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(name for name in old if name not in same), tuple(name for name in new if name not in same)
