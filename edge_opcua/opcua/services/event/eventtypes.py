"""Which event types there are and which fields their events have, as the address space declares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.types import is_subtype, supertypes

__all__ = ["BASE_EVENT", "EventTypes", "Path", "path_of"]

BASE_EVENT: Final = ua.NodeId(ua.ObjectIds.BaseEventType)
_SUBTYPE: Final = ua.NodeId(ua.ObjectIds.HasSubtype)
_HIERARCHICAL: Final = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
_FIELDS: Final = frozenset({ua.NodeClass.Object, ua.NodeClass.Variable})
_OPC_UA: Final = "http://opcfoundation.org/UA/"
_LAST_BUILT_IN: Final = ua.ObjectIds.LocalizedText  # the last one that an operator takes
MAX_PATH: Final = 8
_MOST_FIELDS: Final = 5000  # of one type; a model with a circle ends here

Path = tuple[tuple[int, str], ...]


def path_of(names: list[ua.QualifiedName]) -> Path:
    """Return a BrowsePath as a key."""
    return tuple((name.NamespaceIndex, name.Name or "") for name in names)


class EventTypes:
    """The event types of one address space; what was looked up once is kept.

    Args:
        aspace: The address space.
    """

    def __init__(self, aspace: AddressSpace) -> None:
        self._aspace = aspace
        self._own: dict[ua.NodeId, Mapping[Path, ua.NodeClass]] = {}
        self._anywhere: dict[Path, ua.NodeClass] = {}
        self._references: dict[ua.NodeId, bool] = {}

    def exists(self, node: ua.NodeId) -> bool:
        """Whether there is such a node at all."""
        return node in self._aspace

    def node_class(self, node: ua.NodeId) -> ua.NodeClass | None:
        """Return the class of a node, None if there is none."""
        found = self._aspace.read_attribute_value(node, ua.AttributeIds.NodeClass).Value
        return None if found is None else ua.NodeClass(found.Value)

    def is_type(self, node: ua.NodeId, of: ua.NodeId) -> bool:
        """Whether a type is another one or below it."""
        return is_subtype(self._aspace, node, of)

    def is_event_type(self, node: ua.NodeId) -> bool:
        """Whether a node is BaseEventType or below it."""
        return self.exists(node) and self.is_type(node, BASE_EVENT)

    def field(self, event_type: ua.NodeId, path: Path) -> ua.NodeClass | None:
        """Return what a path leads to from a type or one above it (Part 4 §7.22.3), None if to nothing."""
        for above in supertypes(self._aspace, event_type):
            found = self._fields(above).get(path)
            if found is not None:
                return found
        return None

    def anywhere(self, path: Path) -> ua.NodeClass | None:
        """Return what a path leads to from some event type, None if no event will ever have it."""
        if not self._anywhere:
            for kind in self._all():
                for declared, node_class in self._fields(kind).items():
                    self._anywhere.setdefault(declared, node_class)
        return self._anywhere.get(path)

    def built_in(self, data_type: ua.NodeId) -> ua.VariantType | None:
        """Return the built-in type that carries a data type; None: it is none, or it is abstract."""
        for above in supertypes(self._aspace, data_type):
            if above.NamespaceIndex == 0 and isinstance(above.Identifier, int):
                if above.Identifier == ua.ObjectIds.Enumeration:
                    return ua.VariantType.Int32
                if 0 < above.Identifier <= _LAST_BUILT_IN:
                    return ua.VariantType(above.Identifier)
        return None

    def namespace(self, uri: str) -> int | None:
        """Return the index of a namespace, None if it is not here."""
        if uri == _OPC_UA:
            return 0
        array = ua.NodeId(ua.ObjectIds.Server_NamespaceArray)
        value = self._aspace.read_attribute_value(array, ua.AttributeIds.Value).Value
        known = value.Value if value is not None else None
        return known.index(uri) if known and uri in known else None

    def _all(self) -> Iterator[ua.NodeId]:
        todo, seen = [BASE_EVENT], {BASE_EVENT}
        while todo:
            here = todo.pop()
            yield here
            data = self._aspace.get(here)
            for ref in data.references if data is not None else ():
                if ref.IsForward and ref.ReferenceTypeId == _SUBTYPE and ref.NodeId not in seen:
                    seen.add(ref.NodeId)
                    todo.append(ref.NodeId)

    def _fields(self, event_type: ua.NodeId) -> Mapping[Path, ua.NodeClass]:
        """Return the fields that a type adds to those above it."""
        found = self._own.get(event_type)
        if found is None:
            found = self._own[event_type] = dict(self._declared(event_type, ()))
        return found

    def _declared(self, node: ua.NodeId, above: Path) -> Iterator[tuple[Path, ua.NodeClass]]:
        todo, count = [(node, above)], 0
        while todo and count < _MOST_FIELDS:
            here, path = todo.pop(0)
            data = self._aspace.get(here)
            for ref in data.references if data is not None and len(path) < MAX_PATH else ():
                node_class = self.node_class(ref.NodeId)
                if ref.IsForward and node_class in _FIELDS and self._leads_down(ref.ReferenceTypeId):
                    name = self._aspace.read_attribute_value(ref.NodeId, ua.AttributeIds.BrowseName)
                    below = (*path, *path_of([name.Value.Value]))
                    yield below, node_class
                    todo.append((ref.NodeId, below))
                    count += 1

    def _leads_down(self, reference: ua.NodeId) -> bool:
        found = self._references.get(reference)
        if found is None:
            found = self._references[reference] = is_subtype(self._aspace, reference, _HIERARCHICAL)
        return found
