"""The address space of one machine, made from its configuration: what a client browses.

::

    Objects
    ├─ Machines/<machine>     Identification, Monitoring/Process, Captures, Inference, Outputs
    ├─ DeviceSet/<device>     name plate, DeviceHealth, Connection
    ├─ Models                 one object per version, LoadModel, LastJob
    └─ Records                health of the durable records

Every object that sends events hangs by HasNotifier below its machine, and the machine below Server, so that
a client finds them wherever it subscribes (Part 3 §7.14).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import (
    CaptureConfig,
    DeviceConfig,
    EdgeConfig,
    PipelineConfig,
    public_url,
)
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BlockSpec
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.items import (
    Property,
    analog_properties,
    text_property,
)
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.modelspace import add_models, show_bounds
from edge_opcua.opcua.namespaces import Ids, Names, Namespace
from edge_opcua.opcua.nodes import ARRAY, NodeMaker, VariableSpec
from edge_opcua.opcua.outputspace import bind_output, methods_of, shape_output
from edge_opcua.opcua.owners import only_model, owned_tags
from edge_opcua.opcua.plantspace import DeviceNodes, InferenceNodes, OutputNodes, PlantSpace
from edge_opcua.opcua.rows import (
    CAPTURE_ROWS,
    LANE_ROWS,
    LINK_ROWS,
    RECORDS_ROWS,
    RESULT_ROWS,
    SHADOW_ROWS,
    WATCH_ROWS,
    Binding,
    bind,
)
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import Part
from edge_opcua.opcua.units import engineering_unit

RECORDS_BLOCK: Final = "records.health"

_NOTIFIER: Final = ua.ObjectIds.HasNotifier
_STRING: Final = ua.NodeId(ua.ObjectIds.String)


def tag_node_name(names: Names, tag: TagConfig) -> str:
    """Return the string of a tag's NodeId: its own ``node_id`` if the table gives one.

    Raises:
        IdentityError: The table's ``node_id`` is not a string id of the plant's namespace.
    """
    if not tag.node_id:
        return names.tag(tag.name)
    own = tag.node_id.removeprefix(f"ns={Namespace.PLANT};").removeprefix("s=")
    if own.startswith(("ns=", "i=", "g=", "b=")):
        raise IdentityError(
            f'{tag.file}:{tag.line}: node_id "{tag.node_id}" of {tag.name} is not a string id of this plant; '
            f'write "ns={Namespace.PLANT};s=…" or only the string',
            code="C193",
        )
    return own


def tag_node_names(names: Names, tags: TagRows) -> list[str]:
    """Return the strings of the NodeIds of many tags; see :func:`tag_node_name`."""
    usual = names.tag("")
    return [
        tag_node_name(names, tags[row]) if own else usual + name
        for row, (name, own) in enumerate(zip(tags.column("name"), tags.column("node_id"), strict=True))
    ]


def device_facts(device: DeviceConfig) -> dict[str, ua.Variant]:
    """Return what a device's object says of its configuration, by member."""
    text = ua.VariantType.String
    return {
        "Model": ua.Variant(ua.LocalizedText(device.driver), ua.VariantType.LocalizedText),
        "Connection.Url": ua.Variant(public_url(device.url), text),
        "Connection.Protocol": ua.Variant(device.driver, text),
    }


class SpaceBuilder:
    """Makes the address space, before the endpoint opens; :mod:`edge_opcua.opcua.respace` changes it later.

    Args:
        aspace: Takes the tags.
        maker: Adds nodes.
        config: The machine.
        blocks: The bus's blocks by name; what has no block is not shown.
        clock: Clock of the bus.
        bounds_us: Where the classes of latency histograms end, µs.
    """

    def __init__(
        self,
        aspace: Nodes,
        maker: NodeMaker,
        config: EdgeConfig,
        blocks: Mapping[str, BlockSpec],
        clock: Clock,
        bounds_us: Sequence[int] = (),
    ) -> None:
        self._aspace = aspace
        self._bounds_us = tuple(bounds_us)
        self._maker = maker
        self._config = config
        self._blocks = blocks
        self._clock = clock
        self._names = Names(config.site.machine)

    def build(self, models: Sequence[ModelInfo]) -> PlantSpace:
        """Make every node.

        Raises:
            IdentityError: Two nodes would have the same NodeId.
        """
        maker, names = self._maker, self._names
        machine = maker.instance(
            Ids.MACHINES,
            names.machine,
            ua.NodeId(ua.ObjectIds.BaseObjectType),
            notifier=True,
            description=self._config.site.location,
        )
        maker.refer(ua.NodeId(ua.ObjectIds.Server), _NOTIFIER, Ids.MACHINES)
        maker.refer(Ids.MACHINES, _NOTIFIER, machine)
        self._identification(machine)
        monitoring = maker.instance(
            machine,
            names.monitoring,
            Ids.MONITORING_TYPE,
            browse_name=ua.QualifiedName("Monitoring", Namespace.MACHINERY),
        )
        space = PlantSpace(machine, self._health(monitoring), self._aspace.tags)
        self._building_blocks(machine, monitoring)
        self._process(monitoring)
        self._captures(machine, space)
        self._inferences(machine, space)
        self._outputs(machine, space)
        for device in self._config.devices:
            self.device(device, space)
        add_models(maker, space, models)
        self._records(space)
        return space

    def _identification(self, machine: ua.NodeId) -> None:
        site = self._config.site
        name = self._names.identification
        self._maker.instance(
            machine,
            name,
            Ids.MACHINE_IDENTIFICATION_TYPE,
            browse_name=ua.QualifiedName("Identification", Namespace.DI),
            optional=("Model", "Location"),
        )
        text = ua.VariantType.String
        localized = ua.VariantType.LocalizedText
        for member, value in {
            "ProductInstanceUri": ua.Variant(site.instance_uri, text),
            "Manufacturer": ua.Variant(ua.LocalizedText(site.manufacturer), localized),
            "Model": ua.Variant(ua.LocalizedText(site.model), localized),
            "SerialNumber": ua.Variant(site.serial_number, text),
            "Location": ua.Variant(site.location, text),
        }.items():
            self._set(f"{name}.{member}", value)

    def _health(self, monitoring: ua.NodeId) -> AttributeValue:
        maker, name = self._maker, self._names.health
        health = maker.instance(
            monitoring,
            name,
            ua.NodeId(ua.ObjectIds.FolderType),
            browse_name=ua.QualifiedName("Health", Namespace.MACHINERY),
            component=True,
        )
        spec = VariableSpec(Ids.DEVICE_HEALTH, description="The worst of what its devices say.")
        browse_name = ua.QualifiedName("DeviceHealth", Namespace.DI)
        maker.variable(health, f"{name}.DeviceHealth", spec, browse_name=browse_name)
        return maker.slot(f"{name}.DeviceHealth")

    def _building_blocks(self, machine: ua.NodeId, monitoring: ua.NodeId) -> None:
        blocks = self._maker.instance(
            machine,
            self._names.building_blocks,
            ua.NodeId(ua.ObjectIds.FolderType),
            browse_name=ua.QualifiedName("MachineryBuildingBlocks", Namespace.MACHINERY),
        )
        for block in (self._maker.node_id(self._names.identification), monitoring):
            self._maker.refer(blocks, ua.ObjectIds.HasAddIn, block)

    def _process(self, monitoring: ua.NodeId) -> None:
        """Add the folder of the tags, and enter them in the table: no node is made for any."""
        self._aspace.tags.folder = self._maker.instance(
            monitoring,
            self._names.process,
            ua.NodeId(ua.ObjectIds.FolderType),
            browse_name=ua.QualifiedName("Process", Namespace.MACHINERY),
            component=True,
        )
        self._version(self._aspace.tags.folder, self._names.process)
        for block, rows, names, tags, device in self.tag_parts({}):
            self._aspace.tags.extend(block, rows, names, tags, device=device)
        self.withhold_tags()
        self._aspace.check_tags()

    def withhold_tags(self) -> None:
        """Let clients write no tag that only an output writes."""
        kept = only_model(owned_tags(self._config))
        self._aspace.tags.withhold(tag_node_name(self._names, self._config.tag(tag)[1]) for tag in kept)

    def _version(self, node: ua.NodeId, name: str) -> None:
        """Give a node below which something changes at run time a NodeVersion (Part 3 §9.32)."""
        version = ua.Variant("0", ua.VariantType.String)
        self._maker.property(node, name, "NodeVersion", version, data_type=_STRING)

    def tag_parts(self, there: Mapping[str, LiveBlock]) -> Iterator[Part]:
        """Yield the tags of each block.

        Args:
            there: What clients see of blocks already, by name; they are kept.
        """
        for device in self._config.devices:
            for group, tags in _by_group(device.tags):
                spec = self._blocks.get(device.block_name(group))
                if spec is not None:
                    block = there.get(spec.name) or LiveBlock(spec, self._clock)
                    yield self._part(device, block, tags)

    def _part(self, device: DeviceConfig, block: LiveBlock, tags: TagRows) -> Part:
        on_the_bus = block.spec.columns.names
        rows: Sequence[int] = range(len(tags))
        if on_the_bus != tags.column("name"):
            row_of = {name: row for row, name in enumerate(on_the_bus)}
            tags = tags[np.array([name in row_of for name in tags.column("name")], np.bool_)]
            rows = [row_of[name] for name in tags.column("name")]
        return Part(block, rows, tag_node_names(self._names, tags), tags, device.name)

    def go_by(self, config: EdgeConfig, blocks: Mapping[str, BlockSpec]) -> None:
        """Make what is made from now on for another configuration."""
        self._config, self._blocks = config, blocks

    def _properties(self, node: ua.NodeId, name: str, properties: Iterable[Property]) -> None:
        for each in properties:
            self._maker.property(node, name, each.name, each.value, data_type=each.data_type, rank=each.rank)

    def _captures(self, machine: ua.NodeId, space: PlantSpace) -> None:
        for device in self._config.devices:
            for capture in device.captures:
                self.capture(machine, device, capture, space)

    def _folder(self, machine: ua.NodeId, name: str, description: str) -> ua.NodeId:
        if self._maker.has(name):
            return self._maker.node_id(name)
        return self._maker.folder(machine, name, description=description)

    def capture(
        self, machine: ua.NodeId, device: DeviceConfig, capture: CaptureConfig, space: PlantSpace
    ) -> ua.NodeId:
        """Add the object of a capture."""
        folder = self._folder(machine, self._names.captures, "Waveforms of the devices.")
        spec = self._blocks.get(device.block_name(capture.name))
        name = self._names.capture(capture.name)
        if spec is not None:
            node = self._maker.instance(
                folder, name, Ids.CAPTURE_TYPE, description=capture.description, notifier=False
            )
            self._waveform(node, f"{name}.Waveform", capture)
            space.bindings[spec.name] = self._bind(spec, CAPTURE_ROWS, name)
        return folder

    def _waveform(self, parent: ua.NodeId, name: str, capture: CaptureConfig) -> None:
        spec = VariableSpec(
            ua.NodeId(ua.ObjectIds.Float),
            rank=ARRAY,
            type_definition=ua.NodeId(ua.ObjectIds.YArrayItemType),
            description=capture.description,
        )
        node = self._maker.variable(parent, name, spec)
        ranged = capture.model_copy(
            update={
                "low": 0.0 if capture.low is None else capture.low,
                "high": 0.0 if capture.high is None else capture.high,
                "unit": capture.unit or "1",
            }
        )
        self._properties(node, name, analog_properties(ranged))
        self._properties(node, name, [text_property("Title", capture.description or capture.name)])
        axis = ua.AxisInformation(
            EngineeringUnits=engineering_unit("s"),
            EURange=ua.Range(0.0, capture.sample_count / capture.sample_rate_hz),
            Title=ua.LocalizedText("Time"),
            AxisScaleType=ua.AxisScaleEnumeration.Linear,
            AxisSteps=[],
        )
        linear = ua.Variant(int(ua.AxisScaleEnumeration.Linear), ua.VariantType.Int32)
        scale = Property("AxisScaleType", linear, ua.NodeId(ua.ObjectIds.AxisScaleEnumeration))
        shown = ua.Variant(axis, ua.VariantType.ExtensionObject)
        x_axis = Property("XAxisDefinition", shown, ua.NodeId(ua.ObjectIds.AxisInformation))
        self._properties(node, name, (scale, x_axis))

    def _inferences(self, machine: ua.NodeId, space: PlantSpace) -> None:
        for pipeline in self._config.pipelines:
            self.inference(machine, pipeline, space)

    def inference(self, machine: ua.NodeId, pipeline: PipelineConfig, space: PlantSpace) -> ua.NodeId:
        """Add the object of a pipeline."""
        maker = self._maker
        folder = self._folder(machine, self._names.inferences, "What models judge.")
        name = self._names.inference(pipeline.name)
        node = maker.instance(folder, name, Ids.INFERENCE_ENGINE_TYPE, notifier=True)
        maker.refer(space.machine, _NOTIFIER, node)
        self.bind_inference(pipeline, space)
        self.show_promise(pipeline)
        show_bounds(maker, name, self._bounds_us)
        space.inferences[pipeline.name] = InferenceNodes(
            pipeline.name,
            node,
            maker.slot(f"{name}.ContributionNames"),
            maker.slot(f"{name}.ModelRef"),
            maker.slot(f"{name}.LatencyPublish"),
            maker.slot(f"{name}.PublishedResults"),
            maker.slot(f"{name}.LostResults"),
        )
        return folder

    def bind_inference(self, pipeline: PipelineConfig, space: PlantSpace) -> None:
        """Let the object of a pipeline show its blocks."""
        name = self._names.inference(pipeline.name)
        for block, rows, owner in (
            (pipeline.result_block, RESULT_ROWS, name),
            (pipeline.lane_block, LANE_ROWS, name),
            (pipeline.watch_block, WATCH_ROWS, f"{name}.Watch"),
            (pipeline.shadow_block, SHADOW_ROWS, f"{name}.Shadow"),
        ):
            spec = self._blocks.get(block)
            if spec is not None:
                space.bindings[block] = self._bind(spec, rows, owner)

    def show_promise(self, pipeline: PipelineConfig) -> None:
        """Show what the configuration promises for a pipeline: its lane, its group and its deadline."""
        name = self._names.inference(pipeline.name)
        self._set(f"{name}.Lane", ua.Variant(pipeline.lane, ua.VariantType.String))
        self._set(f"{name}.Group", ua.Variant(pipeline.process, ua.VariantType.String))
        self._set(f"{name}.Deadline", ua.Variant(float(pipeline.deadline_ms), ua.VariantType.Double))

    def _outputs(self, machine: ua.NodeId, space: PlantSpace) -> None:
        for output in self._config.outputs:
            self.output(machine, output, space)

    def output(self, machine: ua.NodeId, output: OutputConfig, space: PlantSpace) -> ua.NodeId:
        """Add the object of an output."""
        maker, name = self._maker, self._names.output(output.name)
        folder = self._folder(machine, self._names.outputs, "What is written back.")
        node = maker.instance(folder, name, Ids.OUTPUT_AUTHORITY_TYPE, notifier=True)
        maker.refer(space.machine, _NOTIFIER, node)
        space.outputs[output.name] = OutputNodes(output.name, output.device, output.authority_block, node)
        self.show_output(output, space, has_moved=True)
        return folder

    def show_output(self, output: OutputConfig, space: PlantSpace, *, has_moved: bool) -> None:
        """Let the object of an output have the members that it shall have, and show its block.

        Args:
            output: The output.
            space: Where everything lies; it is changed.
            has_moved: Whether its block is another one than before.
        """
        spec = self._blocks.get(output.authority_block)
        if spec is None:
            return
        before, name = space.outputs[output.name], self._names.output(output.name)
        values = shape_output(self._maker, self._config, output, before.values, name)
        methods = methods_of(output)
        space.outputs[output.name] = replace(before, device=output.device, methods=methods, values=values)
        if has_moved or tuple(values.items()) != tuple(before.values.items()):
            space.bindings[spec.name] = bind_output(self._maker, spec, values, name)

    def device(self, device: DeviceConfig, space: PlantSpace) -> None:
        """Add the object of a device."""
        maker = self._maker
        name = self._names.device(device.name)
        node = maker.instance(Ids.DEVICE_SET, name, Ids.DEVICE_TYPE, notifier=True)
        maker.refer(space.machine, _NOTIFIER, node)
        text = ua.VariantType.String
        for member in (
            "HardwareRevision",
            "SoftwareRevision",
            "DeviceRevision",
            "DeviceManual",
            "SerialNumber",
        ):
            self._set(f"{name}.{member}", ua.Variant("", text))
        self._set(f"{name}.Manufacturer", ua.Variant(ua.LocalizedText(""), ua.VariantType.LocalizedText))
        # DI §4.5.4: -1 says that the device has no such counter.
        self._set(f"{name}.RevisionCounter", ua.Variant(-1, ua.VariantType.Int32))
        for member, shown in device_facts(device).items():
            self._set(f"{name}.{member}", shown)
        self.bind_device(device, space)
        space.devices[device.name] = DeviceNodes(device.name, node, maker.slot(f"{name}.DeviceHealth"))

    def bind_device(self, device: DeviceConfig, space: PlantSpace) -> None:
        """Let the object of a device show its link."""
        spec = self._blocks.get(device.link_block)
        if spec is not None:
            name = self._names.device(device.name)
            space.bindings[spec.name] = self._bind(spec, LINK_ROWS, f"{name}.Connection")

    def _records(self, space: PlantSpace) -> None:
        spec = self._blocks.get(RECORDS_BLOCK)
        if spec is None:
            return
        objects = ua.NodeId(ua.ObjectIds.ObjectsFolder)
        self._maker.instance(objects, Names.RECORDS, Ids.RECORDS_TYPE)
        space.bindings[spec.name] = self._bind(spec, RECORDS_ROWS, Names.RECORDS)

    def _bind(self, spec: BlockSpec, rows: dict[str, str], name: str) -> tuple[Binding, ...]:
        return bind(spec, rows, lambda member: self._maker.slot(f"{name}.{member}"))

    def _set(self, name: str, value: ua.Variant) -> None:
        self._maker.slot(name).value = ua.DataValue(value)


def _by_group(tags: TagRows) -> Iterator[tuple[str, TagRows]]:
    """Yield the poll groups in the order in which they are first named, each with its tags."""
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(tags.column("group")):
        rows.setdefault(group, []).append(row)
    for group, members in rows.items():
        yield group, tags[np.array(members, np.intp)]
