"""A small address space made by hand, and callers to ask about it: services without a server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.slices import Rest
from edge_opcua.security.roles import Role

IDS = ua.ObjectIds
# Reference types, each below the one before the colon.
_TREE = {
    IDS.References: (IDS.HierarchicalReferences, IDS.HasTypeDefinition),
    IDS.HierarchicalReferences: (IDS.HasChild, IDS.Organizes),
    IDS.HasChild: (IDS.Aggregates, IDS.HasSubtype),
    IDS.Aggregates: (IDS.HasComponent, IDS.HasProperty),
    IDS.HasComponent: (IDS.HasOrderedComponent,),
}


@dataclass(eq=False)
class Asker:
    """A caller."""

    roles: frozenset[Role] = frozenset({Role.ANONYMOUS, Role.OPERATOR})
    session_id: ua.NodeId = field(default_factory=lambda: ua.NodeId("session", 1))
    user_name: str = ""
    name: str = "session"
    locales: tuple[str, ...] = ()
    secured: bool = True
    who: str = "asker"

    def same_user(self, other: Any) -> bool:
        return other is self


class Space:
    """Makes nodes."""

    def __init__(self) -> None:
        self.aspace = Nodes()
        for upper, lowers in _TREE.items():
            for lower in lowers:
                self.refer(self.type(upper), self.type(lower), IDS.HasSubtype)

    def type(self, number: int) -> ua.NodeId:
        node = ua.NodeId(number)
        return node if node in self.aspace else self.node(node, ua.NodeClass.ReferenceType)

    def node(self, node: ua.NodeId | str, kind: ua.NodeClass = ua.NodeClass.Object, **more: Any) -> ua.NodeId:
        """Add a node; ``more`` are attributes by name, as Variants or as what a Variant can guess."""
        node_id = node if isinstance(node, ua.NodeId) else ua.NodeId(node, 7)
        name = str(node_id.Identifier).rpartition(".")[2]
        data = NodeData(node_id)
        for attribute, value in {
            "NodeId": node_id,
            "NodeClass": ua.Variant(kind, ua.VariantType.Int32),
            "BrowseName": ua.QualifiedName(name, node_id.NamespaceIndex),
            "DisplayName": ua.LocalizedText(name),
            **more,
        }.items():
            variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
            data.attributes[getattr(ua.AttributeIds, attribute)] = AttributeValue(ua.DataValue(variant))
        self.aspace[node_id] = data
        return node_id

    def variable(
        self,
        node: str,
        value: ua.Variant | ua.DataValue,
        data_type: int,
        *,
        rank: int = -1,
        level: int = 3,
        dimensions: Iterable[int] = (),
    ) -> ua.NodeId:
        made = self.node(
            node,
            ua.NodeClass.Variable,
            DataType=ua.NodeId(data_type),
            ValueRank=ua.Variant(rank, ua.VariantType.Int32),
            ArrayDimensions=ua.Variant(list(dimensions), ua.VariantType.UInt32, is_array=True),
            AccessLevel=ua.Variant(level, ua.VariantType.Byte),
        )
        whole = value if isinstance(value, ua.DataValue) else ua.DataValue(value)
        self.aspace[made].attributes[ua.AttributeIds.Value] = AttributeValue(whole)
        return made

    def refer(self, source: ua.NodeId, target: ua.NodeId, kind: int = IDS.HasComponent) -> None:
        """Add a reference and its inverse."""
        for start, end, forward in ((source, target, True), (target, source, False)):
            shown = self.aspace[end].attributes
            self.aspace[start].references.append(
                ua.ReferenceDescription(
                    ReferenceTypeId=ua.NodeId(kind),
                    IsForward=forward,
                    NodeId=end,
                    BrowseName=shown[ua.AttributeIds.BrowseName].value.Value.Value,
                    DisplayName=shown[ua.AttributeIds.DisplayName].value.Value.Value,
                    NodeClass=shown[ua.AttributeIds.NodeClass].value.Value.Value,
                    TypeDefinition=ua.NodeId(IDS.BaseObjectType),
                )
            )


async def settled(outcome: Any) -> Any:
    """Return a service's response, also if it takes several slices."""
    return await outcome if isinstance(outcome, Rest) else outcome
