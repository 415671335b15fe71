"""Where everything of a machine lies in the address space: what makes it and what feeds it meet here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.config.tags import TagConfig
from edge_opcua.opcua.rows import Binding
from edge_opcua.opcua.tags.table import TagTable


@dataclass(frozen=True, slots=True)
class InferenceNodes:
    """What a pipeline shows beside its rows: the members that are computed here, and its events' source."""

    pipeline: str
    node: ua.NodeId
    names: AttributeValue
    model_ref: AttributeValue
    latency_publish: AttributeValue
    published: AttributeValue
    lost: AttributeValue


@dataclass(frozen=True, slots=True)
class DeviceNodes:
    """What a device shows beside its rows."""

    device: str
    node: ua.NodeId
    health: AttributeValue


@dataclass(frozen=True, slots=True)
class OutputNodes:
    """What an output shows beside its rows.

    Args:
        output: Its name.
        device: Name of the device that it writes to.
        block: Name of its block.
        node: Its object, the source of its events.
        methods: The methods that it has.
        values: The tags that it writes, by the name of the variable that shows each.
    """

    output: str
    device: str
    block: str
    node: ua.NodeId
    methods: tuple[str, ...] = ()
    values: Mapping[str, TagConfig] = field(default_factory=dict)


@dataclass(slots=True)
class PlantSpace:
    """Where everything of the machine lies in the address space.

    Attributes:
        machine: The machine's object.
        machine_health: Value of the machine's DeviceHealth.
        tags: The tags: rows, no nodes.
        bindings: Rows shown by nodes, by block.
        inferences: By pipeline.
        devices: By device.
        outputs: By output.
        models: Folder of the models, notifier of job events.
        job: Values of LastJob by member.
        model_nodes: Objects of model versions.
    """

    machine: ua.NodeId
    machine_health: AttributeValue
    tags: TagTable
    bindings: dict[str, tuple[Binding, ...]] = field(default_factory=dict)
    inferences: dict[str, InferenceNodes] = field(default_factory=dict)
    devices: dict[str, DeviceNodes] = field(default_factory=dict)
    outputs: dict[str, OutputNodes] = field(default_factory=dict)
    models: ua.NodeId = field(default_factory=ua.NodeId)
    job: dict[str, AttributeValue] = field(default_factory=dict)
    model_nodes: dict[tuple[str, int], ua.NodeId] = field(default_factory=dict)
