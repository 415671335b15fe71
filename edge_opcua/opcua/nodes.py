"""Makes nodes: instances of types with string NodeIds made of names, straight in the server's address space.

asyncua's own ``instantiate`` leaves the members of nested objects out and needs a round of coroutines per
member; here an instance has every mandatory member of its type, its supertypes and its nested objects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeManagementService

from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA
from edge_opcua.errors import ConfigError, IdentityError

_HAS_COMPONENT: Final = ua.NodeId(ua.ObjectIds.HasComponent)
_HAS_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_HAS_SUBTYPE: Final = ua.NodeId(ua.ObjectIds.HasSubtype)
_HAS_TYPE: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_HAS_RULE: Final = ua.NodeId(ua.ObjectIds.HasModellingRule)
_HAS_STRUCTURED: Final = ua.NodeId(ua.ObjectIds.HasStructuredComponent)
_MANDATORY: Final = ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory)
_OPTIONAL: Final = ua.NodeId(ua.ObjectIds.ModellingRule_Optional)
_BASE_DATA_VARIABLE: Final = ua.NodeId(ua.ObjectIds.BaseDataVariableType)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.PropertyType)
_CHILDREN: Final = (_HAS_COMPONENT, _HAS_PROPERTY, _HAS_STRUCTURED)

READ: Final = ua.AccessLevel.CurrentRead.mask
READ_WRITE: Final = READ | ua.AccessLevel.CurrentWrite.mask
SCALAR: Final = -1
ARRAY: Final = 1

WAITING: Final = ua.DataValue(
    ua.Variant(None, ua.VariantType.Null), ua.StatusCode(ua.UInt32(BAD_WAITING_FOR_INITIAL_DATA))
)


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """What a variable is, apart from its name.

    Args:
        data_type: NodeId of its DataType.
        rank: ``SCALAR`` or ``ARRAY``.
        type_definition: NodeId of its VariableType.
        writable: Whether clients may write it.
        description: One sentence for people.
        value: First value; without one the variable waits for initial data.
    """

    data_type: ua.NodeId
    rank: int = SCALAR
    type_definition: ua.NodeId = field(default=_BASE_DATA_VARIABLE)
    writable: bool = False
    description: str = ""
    value: ua.Variant | None = None


class NodeMaker:
    """Adds nodes under string NodeIds; a name taken twice is an error.

    Args:
        aspace: The server's address space.
        management: Its node management service.
        namespace: Namespace index of everything made here.
    """

    def __init__(self, aspace: AddressSpace, management: NodeManagementService, namespace: int) -> None:
        self._aspace = aspace
        self._management = management
        self._namespace = namespace

    def node_id(self, name: str) -> ua.NodeId:
        """Return the NodeId of a name."""
        return ua.NodeId(name, self._namespace)

    def slot(self, name: str) -> AttributeValue:
        """Return where the value of a variable lies; KeyError if there is no variable of this name."""
        return self._aspace[self.node_id(name)].attributes[ua.AttributeIds.Value]

    def instance(  # noqa: PLR0913 - what a node is; all but three have a default
        self,
        parent: ua.NodeId,
        name: str,
        type_id: ua.NodeId,
        *,
        browse_name: ua.QualifiedName | None = None,
        optional: Collection[str] = (),
        notifier: bool = False,
        component: bool = False,
        description: str = "",
    ) -> ua.NodeId:
        """Add an object with the mandatory members of its type, and those optional ones that are named.

        Args:
            parent: Node it hangs under; Organizes from a folder, HasComponent otherwise.
            name: String of its NodeId; members add ``.<BrowseName>``.
            type_id: ObjectType.
            browse_name: BrowseName; the last part of ``name`` in the own namespace if not given.
            optional: BrowseNames of optional members to make, of this object only.
            notifier: Whether clients may subscribe to events here.
            component: HasComponent also from a folder.
            description: One sentence for people.
        """
        attributes = ua.ObjectAttributes()
        attributes.EventNotifier = ua.EventNotifier.SubscribeToEvents.mask if notifier else 0
        reference = _HAS_COMPONENT if component else self._hierarchy(parent)
        node_id = self._add(
            _item(parent, reference, ua.NodeClass.Object, type_id),
            attributes,
            name,
            browse_name or self._browse_name(name),
            description,
        )
        self._members(node_id, name, type_id, optional)
        return node_id

    def complete(self, name: str, type_id: ua.NodeId, optional: Collection[str]) -> None:
        """Give an object that is there exactly these optional members; what it has already stays.

        Args:
            name: String of its NodeId.
            type_id: Its ObjectType.
            optional: BrowseNames of the optional members that it shall have.
        """
        for reference, rule in self._declared(type_id):
            member = f"{name}.{reference.BrowseName.Name}"
            if rule != _OPTIONAL:
                continue
            if reference.BrowseName.Name in optional:
                if not self.has(member):
                    self._member(self.node_id(name), member, reference)
            elif self.has(member):
                self.remove(member)

    def folder(self, parent: ua.NodeId, name: str, *, description: str = "") -> ua.NodeId:
        """Add a FolderType object."""
        return self.instance(parent, name, ua.NodeId(ua.ObjectIds.FolderType), description=description)

    def variable(
        self, parent: ua.NodeId, name: str, spec: VariableSpec, *, browse_name: ua.QualifiedName | None = None
    ) -> ua.NodeId:
        """Add a variable; Organizes never, HasComponent always (it is part of its parent)."""
        item = _item(parent, _HAS_COMPONENT, ua.NodeClass.Variable, spec.type_definition)
        return self._add_variable(item, name, browse_name or self._browse_name(name), spec)

    def property(
        self, parent: ua.NodeId, name: str, browse_name: str, value: ua.Variant | None, **spec: Any
    ) -> None:
        """Add a property of the base namespace, e.g. ``EURange``, named ``<name>.<browse_name>``.

        Keyword arguments are those of :class:`VariableSpec`.
        """
        item = _item(parent, _HAS_PROPERTY, ua.NodeClass.Variable, _PROPERTY)
        whole = VariableSpec(type_definition=_PROPERTY, value=value, **spec)
        self._add_variable(item, f"{name}.{browse_name}", ua.QualifiedName(browse_name, 0), whole)

    def refer(self, source: ua.NodeId, reference: int, target: ua.NodeId) -> None:
        """Add a reference and its inverse."""
        both = []
        for start, end, forward in ((source, target, True), (target, source, False)):
            item = ua.AddReferencesItem()
            item.SourceNodeId = start
            item.TargetNodeId = end
            item.ReferenceTypeId = ua.NodeId(reference)
            item.IsForward = forward
            item.TargetNodeClass = ua.NodeClass.Unspecified
            both.append(item)
        for status in self._management.add_references(both):
            status.check()

    def has(self, name: str) -> bool:
        """Whether there is a node of this name."""
        return self.node_id(name) in self._aspace

    def members(self, name: str) -> set[ua.NodeId]:
        """Return a node and all that belongs to it."""
        return set(self._with_members(self.node_id(name)))

    def remove(self, name: str) -> None:
        """Take away a node with all that belongs to it, and every reference to them."""
        going = self._with_members(self.node_id(name))
        for node in going:
            for reference in self._aspace[node].references:
                other = self._aspace.get(reference.NodeId)
                if other is not None and reference.NodeId not in going:
                    other.references[:] = [each for each in other.references if each.NodeId not in going]
        for node in going:
            del self._aspace[node]

    def _with_members(self, node: ua.NodeId) -> dict[ua.NodeId, None]:
        found = {node: None}
        for each in iter(tuple(found)):
            for kind in _CHILDREN:
                for child in self._targets(each, kind):
                    if child in self._aspace and child not in found:
                        found.update(self._with_members(child))
        return found

    def _hierarchy(self, parent: ua.NodeId) -> ua.NodeId:
        folder = ua.NodeId(ua.ObjectIds.FolderType)
        types = self._supertypes(self._type_of(parent))
        return ua.NodeId(ua.ObjectIds.Organizes) if folder in types else _HAS_COMPONENT

    def _browse_name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name.rpartition(".")[2], self._namespace)

    def _add_variable(
        self, item: ua.AddNodesItem, name: str, browse_name: ua.QualifiedName, spec: VariableSpec
    ) -> ua.NodeId:
        attributes = ua.VariableAttributes()
        attributes.DataType = spec.data_type
        attributes.ValueRank = spec.rank
        attributes.ArrayDimensions = [0] if spec.rank == ARRAY else []
        attributes.AccessLevel = attributes.UserAccessLevel = READ_WRITE if spec.writable else READ
        node_id = self._add(item, attributes, name, browse_name, spec.description)
        slot = self._aspace[node_id].attributes[ua.AttributeIds.Value]
        slot.value = WAITING if spec.value is None else ua.DataValue(spec.value)
        return node_id

    def _add(
        self,
        item: ua.AddNodesItem,
        attributes: Any,
        name: str,
        browse_name: ua.QualifiedName,
        description: str,
    ) -> ua.NodeId:
        attributes.DisplayName = ua.LocalizedText(browse_name.Name)
        attributes.Description = ua.LocalizedText(description, "en") if description else ua.LocalizedText()
        item.RequestedNewNodeId = self.node_id(name)
        if item.RequestedNewNodeId in self._aspace:
            raise IdentityError(
                f'two nodes would be called "{name}": rename one of them, or give a tag a node_id',
                code="C193",
            )
        item.BrowseName = browse_name
        item.NodeAttributes = attributes
        parent, item.ParentNodeId = item.ParentNodeId, ua.NodeId()
        # Without a parent: asyncua would compare the newcomer with every sibling, twice.
        if list(self._management.try_add_nodes([item], check=False)):
            raise ConfigError(f'node "{name}" cannot be made: its type is missing')
        added: ua.NodeId = item.RequestedNewNodeId
        self._hang(parent, item)
        return added

    def _hang(self, parent: ua.NodeId, item: ua.AddNodesItem) -> None:
        """Enter a new node at its parent, and its parent at it."""
        above = self._aspace[parent]
        forward = ua.ReferenceDescription(
            ReferenceTypeId=item.ReferenceTypeId,
            IsForward=True,
            NodeId=item.RequestedNewNodeId,
            BrowseName=item.BrowseName,
            DisplayName=item.NodeAttributes.DisplayName,
            NodeClass=item.NodeClass,
            TypeDefinition=item.TypeDefinition,
        )
        above.references.append(forward)
        inverse = ua.ReferenceDescription(
            ReferenceTypeId=item.ReferenceTypeId,
            IsForward=False,
            NodeId=parent,
            BrowseName=self._attribute(parent, ua.AttributeIds.BrowseName),
            DisplayName=self._attribute(parent, ua.AttributeIds.DisplayName),
            NodeClass=self._attribute(parent, ua.AttributeIds.NodeClass),
            TypeDefinition=self._type_of(parent),
        )
        self._aspace[item.RequestedNewNodeId].references.append(inverse)

    def _members(self, node_id: ua.NodeId, name: str, type_id: ua.NodeId, optional: Collection[str]) -> None:
        """Add what each type of the hierarchy demands, the most derived one first."""
        present: set[str] = set()
        for reference, rule in self._declared(type_id):
            browse_name = reference.BrowseName.to_string()
            wanted = rule == _OPTIONAL and reference.BrowseName.Name in optional
            if browse_name not in present and (rule == _MANDATORY or wanted):
                present.add(browse_name)
                self._member(node_id, f"{name}.{reference.BrowseName.Name}", reference)

    def _declared(self, type_id: ua.NodeId) -> Iterator[tuple[ua.ReferenceDescription, ua.NodeId | None]]:
        """Yield the members that a type and those above it declare, each with its ModellingRule."""
        for each in self._supertypes(type_id):
            for reference in tuple(self._aspace[each].references):
                if reference.IsForward and reference.ReferenceTypeId in _CHILDREN:
                    yield reference, self._rule_of(reference.NodeId)

    def _member(self, parent: ua.NodeId, name: str, declaration: ua.ReferenceDescription) -> None:
        source = declaration.NodeId
        type_id = self._type_of(source)
        item = _item(parent, declaration.ReferenceTypeId, declaration.NodeClass, type_id)
        description = self._attribute(source, ua.AttributeIds.Description)
        text = description.Text or "" if description is not None else ""
        if declaration.NodeClass == ua.NodeClass.Variable:
            rank = self._attribute(source, ua.AttributeIds.ValueRank)
            spec = VariableSpec(
                self._attribute(source, ua.AttributeIds.DataType),
                rank=rank,
                type_definition=type_id,
                description=text,
                value=self._declared_value(source),
            )
            self._add_variable(item, name, declaration.BrowseName, spec)
            return
        if declaration.NodeClass == ua.NodeClass.Method:
            attributes: Any = ua.MethodAttributes()
            attributes.Executable = attributes.UserExecutable = True
        else:
            attributes = ua.ObjectAttributes()
        node_id = self._add(item, attributes, name, declaration.BrowseName, text)
        if declaration.NodeClass == ua.NodeClass.Method:
            self._members(node_id, name, source, ())
        else:
            self._members(node_id, name, type_id, ())

    def _declared_value(self, node_id: ua.NodeId) -> ua.Variant | None:
        held = self._aspace[node_id].attributes[ua.AttributeIds.Value].value
        if held is None or held.Value is None or held.Value.Value is None:
            return None
        return held.Value

    def _attribute(self, node_id: ua.NodeId, attribute: ua.AttributeIds) -> Any:
        held = self._aspace[node_id].attributes.get(attribute)
        return None if held is None or held.value is None else held.value.Value.Value

    def _rule_of(self, node_id: ua.NodeId) -> ua.NodeId | None:
        return next(self._targets(node_id, _HAS_RULE), None)

    def _type_of(self, node_id: ua.NodeId) -> ua.NodeId:
        return next(self._targets(node_id, _HAS_TYPE), ua.NodeId())

    def _targets(self, node_id: ua.NodeId, kind: ua.NodeId, *, forward: bool = True) -> Iterator[ua.NodeId]:
        for reference in self._aspace[node_id].references:
            if reference.ReferenceTypeId == kind and reference.IsForward == forward:
                yield reference.NodeId

    def _supertypes(self, type_id: ua.NodeId) -> list[ua.NodeId]:
        """Return a type and those it derives from, the type itself first."""
        found = []
        current: ua.NodeId | None = type_id
        while current is not None and current in self._aspace:
            found.append(current)
            current = next(self._targets(current, _HAS_SUBTYPE, forward=False), None)
        return found


def _item(parent: ua.NodeId, reference: ua.NodeId, kind: ua.NodeClass, type_id: ua.NodeId) -> ua.AddNodesItem:
    item = ua.AddNodesItem()
    item.ParentNodeId = parent
    item.ReferenceTypeId = reference
    item.NodeClass = kind
    # A method has no type definition (Part 3 §5.7); what asyncua finds there is not one.
    item.TypeDefinition = ua.NodeId() if kind == ua.NodeClass.Method else type_id
    return item
