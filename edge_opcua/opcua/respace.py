"""Changes the address space of a running server: what comes, what goes, and what shows another block.

Nothing here waits for anything, so no client ever sees half of a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

import numpy as np
from asyncua import ua

from edge_opcua.config.schema import CaptureConfig, DeviceConfig, EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BlockSpec, Scalar, TagSpec
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.namespaces import Ids, Names, plant_id
from edge_opcua.opcua.nodes import NodeMaker
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.slots import notify
from edge_opcua.opcua.space import SpaceBuilder, device_facts
from edge_opcua.opcua.standard.modelchange import MAX_CHANGES, ModelChanges
from edge_opcua.opcua.tags.live import LiveBlock

__all__ = ["HasMoved", "SpaceChanger"]

HasMoved = Callable[[str], bool]
_GONE: Final = BlockSpec("gone", (TagSpec("gone", Scalar.BOOLEAN),), depth=2)


class SpaceChanger:
    """Makes the address space of one configuration out of that of another.

    Args:
        aspace: The address space.
        maker: Adds and removes nodes.
        builder: Made it, and makes what comes.
        space: Where everything lies; it is changed.
        changes: Tells clients what came and went.
        clock: Clock of the bus.
    """

    def __init__(
        self,
        aspace: Nodes,
        maker: NodeMaker,
        builder: SpaceBuilder,
        space: PlantSpace,
        changes: ModelChanges,
        clock: Clock,
    ) -> None:
        self._aspace = aspace
        self._maker = maker
        self._builder = builder
        self._space = space
        self._changes = changes
        self._clock = clock

    def change(
        self, old: EdgeConfig, new: EdgeConfig, blocks: Mapping[str, BlockSpec], has_moved: HasMoved
    ) -> None:
        """Show another configuration.

        Args:
            old: What is shown.
            new: What shall be shown; site and server settings are the same.
            blocks: The blocks of the bus as they are now.
            has_moved: Whether a block came, went, or is another one of the same name.

        Raises:
            IdentityError: Two nodes would have the same NodeId.
        """
        self._builder.go_by(new, blocks)
        names = Names(new.site.machine)
        for name in [name for name in self._space.bindings if name not in blocks]:
            del self._space.bindings[name]
        self._devices(old, new, names, has_moved)
        self._captures(old, new, names, has_moved)
        self._pipelines(old, new, names, has_moved)
        self._outputs(old, new, names, has_moved)
        self._empty_folders(new, names)
        self._tags(has_moved)

    def _empty_folders(self, new: EdgeConfig, names: Names) -> None:
        """Take away the folders of what there is no longer any of."""
        for name, members in (
            (names.captures, _captures_of(new)),
            (names.inferences, new.pipelines),
            (names.outputs, new.outputs),
        ):
            if not members:
                self._remove(name, plant_id(names.machine))

    def _tags(self, has_moved: HasMoved) -> None:
        tags = self._aspace.tags
        before = {tags.names[number] for number in tags.order}
        there = {block.spec.name: block for block in tags.blocks if not has_moved(block.spec.name)}
        gone = LiveBlock(_GONE, self._clock)
        gone.status = np.full(1, BAD_NODE_ID_UNKNOWN, np.uint32)
        tags.replace(tuple(self._builder.tag_parts(there)), gone)
        self._builder.withhold_tags()
        self._aspace.check_tags()
        self._aspace.changes += 1  # what was worked out from references is old
        after = {tags.names[number] for number in tags.order}
        for fresh in islice(after - before, MAX_CHANGES):
            self._changes.added(plant_id(fresh.decode()), tags.folder)
        for lost in islice(before - after, MAX_CHANGES):
            self._changes.removed(plant_id(lost.decode()), tags.folder)

    def _devices(self, old: EdgeConfig, new: EdgeConfig, names: Names, has_moved: HasMoved) -> None:
        before = {device.name: device for device in old.devices}
        after = {device.name: device for device in new.devices}
        for name in before.keys() - after.keys():
            self._remove(names.device(name), Ids.DEVICE_SET)
            del self._space.devices[name]
        for name, device in after.items():
            if name not in before:
                self._builder.device(device, self._space)
                self._changes.added(plant_id(names.device(name)), Ids.DEVICE_SET)
                continue
            if has_moved(device.link_block):
                self._builder.bind_device(device, self._space)
            self._show_facts(names.device(name), before[name], device)

    def _show_facts(self, name: str, old: DeviceConfig, new: DeviceConfig) -> None:
        shown = device_facts(old)
        for member, value in device_facts(new).items():
            if value != shown[member]:
                slot = self._maker.slot(f"{name}.{member}")
                slot.value = ua.DataValue(value)
                notify(slot, slot.value)

    def _captures(self, old: EdgeConfig, new: EdgeConfig, names: Names, has_moved: HasMoved) -> None:
        before, after = _captures_of(old), _captures_of(new)
        folder = plant_id(names.captures)

        def stays(block: str) -> bool:
            return block in before and block in after and before[block] == after[block]

        for block, (_, capture) in before.items():
            if not (stays(block) and not has_moved(block)):
                self._remove(names.capture(capture.name), folder)
        devices = {device.name: device for device in new.devices}
        for block, (device, capture) in after.items():
            if not (stays(block) and not has_moved(block)):
                self._builder.capture(self._space.machine, devices[device], capture, self._space)
                self._changes.added(plant_id(names.capture(capture.name)), folder)

    def _pipelines(self, old: EdgeConfig, new: EdgeConfig, names: Names, has_moved: HasMoved) -> None:
        before = {each.name for each in old.pipelines}
        after = {each.name: each for each in new.pipelines}
        folder = plant_id(names.inferences)
        for name in before - after.keys():
            self._remove(names.inference(name), folder)
            del self._space.inferences[name]
        for name, pipeline in after.items():
            if name not in before:
                self._builder.inference(self._space.machine, pipeline, self._space)
                self._changes.added(plant_id(names.inference(name)), folder)
                continue
            self._builder.show_promise(pipeline)
            shown = (
                pipeline.result_block,
                pipeline.lane_block,
                pipeline.watch_block,
                pipeline.shadow_block,
            )
            if any(has_moved(block) for block in shown):
                self._builder.bind_inference(pipeline, self._space)

    def _outputs(self, old: EdgeConfig, new: EdgeConfig, names: Names, has_moved: HasMoved) -> None:
        before = {each.name for each in old.outputs}
        after = {each.name: each for each in new.outputs}
        folder = plant_id(names.outputs)
        for name in before - after.keys():
            self._remove(names.output(name), folder)
            del self._space.outputs[name]
        for name, output in after.items():
            if name not in before:
                self._builder.output(self._space.machine, output, self._space)
                self._changes.added(plant_id(names.output(name)), folder)
                continue
            own = names.output(name)
            there = self._maker.members(own)
            self._builder.show_output(output, self._space, has_moved=has_moved(output.authority_block))
            for fresh in self._maker.members(own) - there:
                self._changes.added(fresh, plant_id(own))
            for lost in there - self._maker.members(own):
                self._changes.removed(lost, plant_id(own))

    def _remove(self, name: str, parent: ua.NodeId) -> None:
        if self._maker.has(name):
            self._changes.removed(plant_id(name), parent)
            self._maker.remove(name)


def _captures_of(config: EdgeConfig) -> dict[str, tuple[str, CaptureConfig]]:
    """Return device and capture by the block of each."""
    return {
        device.block_name(capture.name): (device.name, capture)
        for device in config.devices
        for capture in device.captures
    }
