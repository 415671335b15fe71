"""The address space of a configuration without a server: what the exports are made from.

It is built by the same hands as the one that is served, so what is exported is what a client will find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from asyncua import Server, ua
from asyncua.server.address_space import AttributeService, NodeManagementService, ViewService
from asyncua.server.internal_server import InternalServer

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.core.values import BlockSpec
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.loading import load_standard
from edge_opcua.opcua.namespaces import Namespace, namespace_order
from edge_opcua.opcua.nodes import NodeMaker
from edge_opcua.opcua.nodesets import NodeSet, import_nodesets
from edge_opcua.opcua.space import SpaceBuilder
from edge_opcua.opcua.types import attribute, is_subtype, supertypes

__all__ = ["Model", "offline_model"]

_HIERARCHICAL: Final = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
_TYPE_DEFINITION: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_ENUMERATION: Final = ua.NodeId(ua.ObjectIds.Enumeration)
_STRUCTURE: Final = ua.NodeId(ua.ObjectIds.Structure)
_OBJECTS: Final = ua.NodeId(ua.ObjectIds.ObjectsFolder)
_LAST_BUILT_IN: Final = 25


class Model:
    """Questions to an address space that nobody is connected to.

    Args:
        aspace: The address space.
        uris: URIs of its namespaces by index.
        nodesets: What its types were loaded from.
    """

    def __init__(self, aspace: Nodes, uris: tuple[str, ...], nodesets: tuple[NodeSet, ...]) -> None:
        self.aspace = aspace
        self.uris = uris
        self.nodesets = nodesets

    def plant_nodes(self) -> Iterator[ua.NodeId]:
        """Yield the nodes of the plant's namespace in the order they were made: that of the configuration."""
        yield from self.aspace.every(int(Namespace.PLANT))

    def references(self, node: ua.NodeId) -> Sequence[ua.ReferenceDescription]:
        """Return the references of a node, both directions."""
        return self.aspace.references_of(node)

    def value(self, node: ua.NodeId) -> ua.Variant | None:
        """Return the value of a variable, None if it has none."""
        held = self.aspace.shown(node, ua.AttributeIds.Value)
        return None if held is None else held.Value

    def attribute(self, node: ua.NodeId, which: ua.AttributeIds) -> Any:
        """Return the value of an attribute, None if the node has none."""
        return self.aspace.attribute(node, which)

    def type_definition(self, node: ua.NodeId) -> ua.NodeId | None:
        """Return the type of an object or variable."""
        found = (ref.NodeId for ref in self.references(node) if ref.ReferenceTypeId == _TYPE_DEFINITION)
        return next(found, None)

    def parent(self, node: ua.NodeId) -> ua.ReferenceDescription | None:
        """Return the first hierarchical reference upwards: where a node was made."""
        for ref in self.references(node):
            if not ref.IsForward and is_subtype(self.aspace, ref.ReferenceTypeId, _HIERARCHICAL):
                return ref
        return None

    def path(self, node: ua.NodeId) -> tuple[ua.QualifiedName, ...]:
        """Return the BrowseNames from below Objects to a node."""
        found: list[ua.QualifiedName] = []
        here: ua.NodeId | None = node
        while here is not None and here != _OBJECTS:
            found.append(self.attribute(here, ua.AttributeIds.BrowseName))
            above = self.parent(here)
            here = None if above is None else above.NodeId
        return tuple(reversed(found))

    def name_of(self, node: ua.NodeId) -> str:
        """Return a node's BrowseName without its namespace."""
        name = attribute(self.aspace, node, ua.AttributeIds.BrowseName)
        return "" if name is None else str(name.Name)

    def built_in(self, data_type: ua.NodeId) -> ua.VariantType:
        """Return the built-in type that carries a data type (Part 6 §5.1.2)."""
        for above in supertypes(self.aspace, data_type):
            if above == _ENUMERATION:
                return ua.VariantType.Int32
            if above == _STRUCTURE:
                return ua.VariantType.ExtensionObject
            if above.NamespaceIndex == 0 and 1 <= int(above.Identifier) < _LAST_BUILT_IN:
                return ua.VariantType(above.Identifier)
        return ua.VariantType.Variant


class _Core(InternalServer):
    """asyncua's internal server, with tags in its address space."""

    def __init__(self) -> None:
        super().__init__()
        self.aspace: Nodes = Nodes()
        self.attribute_service = AttributeService(self.aspace)
        self.view_service = ViewService(self.aspace)
        self.node_mgt_service = NodeManagementService(self.aspace)
        self.isession.aspace = self.aspace

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:  # noqa: ARG002 - asyncua's signature
        """Make the standard's nodes."""
        load_standard(self.aspace)


async def offline_model(
    config: EdgeConfig, blocks: Iterable[BlockSpec], nodesets: tuple[NodeSet, ...]
) -> Model:
    """Build the address space of a configuration; opens no port and needs no state directory.

    Args:
        config: The machine.
        blocks: What will be on the bus, see ``app.build.plan``.
        nodesets: From ``read_nodesets()``.

    Raises:
        ConfigError: A nodeset cannot be loaded, or two nodes have the same id.
    """
    core = _Core()
    server = Server(core)
    with paused():
        await server.init()
        for uri in namespace_order(config.site.namespace_uri):
            await server.register_namespace(uri)
        await import_nodesets(server, nodesets)
        maker = NodeMaker(core.aspace, core.node_mgt_service, int(Namespace.PLANT))
        by_name = {block.name: block for block in blocks}
        SpaceBuilder(core.aspace, maker, config, by_name, SystemClock()).build(())
    uris = await server.get_namespace_array()
    await server.stop()
    return Model(core.aspace, tuple(uris), nodesets)
