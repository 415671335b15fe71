"""The object of an output: which members it has by what it writes and who may rule, and what feeds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from asyncua import ua

from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.config.tags import TagConfig
from edge_opcua.core.values import BlockSpec, Scalar
from edge_opcua.opcua.items import item_property, item_type, property_names
from edge_opcua.opcua.namespaces import Ids, plant_name
from edge_opcua.opcua.nodes import NodeMaker, VariableSpec
from edge_opcua.opcua.rows import AUTHORITY_ROWS, Binding, bind

__all__ = ["ACTIONS", "OutputShape", "bind_output", "methods_of", "shape_output"]

ACTIONS: Final[Mapping[str, str]] = {
    "Acknowledge": "acknowledge",
    "GrantAuthority": "grant",
    "RevokeAuthority": "revoke",
    "TakeManual": "manual",
    "ReturnToAutomatic": "automatic",
}
"""What each method asks of the process that writes."""

_VALUES: Final = "Values"
_BOOLEAN: Final = ua.NodeId(ua.ObjectIds.Boolean)
_DOUBLE: Final = ua.NodeId(ua.ObjectIds.Double)

OutputShape = Mapping[str, TagConfig]
"""What an output's object shows of single tags: the tag, as it is shown, by the name of the variable."""


def methods_of(output: OutputConfig) -> tuple[str, ...]:
    """Return the methods that the object of an output has: those that may come to something."""
    found = []
    if output.acknowledged_by != "plc":
        found.append("Acknowledge")
    if output.granted_by == "operator":
        found += ["GrantAuthority", "RevokeAuthority"]
    return (*found, "TakeManual", "ReturnToAutomatic")


def shape_output(
    maker: NodeMaker, config: EdgeConfig, output: OutputConfig, before: OutputShape, name: str
) -> OutputShape:
    """Give the object of an output the members that it shall have; what stays is not touched.

    Args:
        maker: Adds and removes nodes.
        config: Says what the tags are.
        output: The output.
        before: What it shows of single tags already.
        name: String of the object's NodeId.

    Returns:
        What it shows of single tags now.
    """
    values = _shown_tags(config, output)
    wanted = {*methods_of(output), *((_VALUES,) if values else ())}
    there = before if maker.has(f"{name}.{_VALUES}") and values else {}
    maker.complete(name, Ids.OUTPUT_AUTHORITY_TYPE, wanted)
    for member, tag in there.items():
        if values.get(member) != tag:
            maker.remove(f"{name}.{member}")
    for member, tag in values.items():
        if there.get(member) != tag:
            _add_value(maker, f"{name}.{_VALUES}", f"{name}.{member}", tag)
    return values


def bind_output(maker: NodeMaker, spec: BlockSpec, shape: OutputShape, name: str) -> tuple[Binding, ...]:
    """Return which row feeds which member of the object of an output."""
    rows = dict(AUTHORITY_ROWS)
    boolean = set()
    for index, (member, tag) in enumerate(shape.items()):
        rows[f"value.{index}"] = member
        if tag.type is Scalar.BOOLEAN:
            boolean.add(f"value.{index}")
    bound = bind(spec, rows, lambda member: maker.slot(f"{name}.{member}"))
    return tuple(
        replace(each, kind=ua.VariantType.Boolean, convert=bool)
        if spec.tags[each.row].name in boolean
        else each
        for each in bound
    )


def _shown_tags(config: EdgeConfig, output: OutputConfig) -> dict[str, TagConfig]:
    """Return the tags that an output writes, in its order, by the name of the variable that shows each."""
    found = {}
    for value in output.values:
        device, tag = config.tag(value.tag)
        own = tag.name if device.name == output.device else f"{device.name}.{tag.name}"
        # Only what is shown: that its row has moved in the file makes no other variable of it.
        found[f"{_VALUES}.{own}"] = TagConfig(
            tag.name,
            "",
            tag.type,
            unit=tag.unit,
            low=value.low if tag.low is None else tag.low,
            high=value.high if tag.high is None else tag.high,
            description=tag.description,
            true_name=tag.true_name,
            false_name=tag.false_name,
        )
    return found


def _add_value(maker: NodeMaker, folder: str, name: str, tag: TagConfig) -> None:
    is_boolean = tag.type is Scalar.BOOLEAN
    spec = VariableSpec(
        _BOOLEAN if is_boolean else _DOUBLE,
        type_definition=item_type(tag),
        description=tag.description,
    )
    browse_name = plant_name(name.removeprefix(f"{folder}."))
    node = maker.variable(maker.node_id(folder), name, spec, browse_name=browse_name)
    for each in property_names(tag):
        shown = item_property(tag, each)
        if shown is not None:
            maker.property(node, name, shown.name, shown.value, data_type=shown.data_type, rank=shown.rank)
