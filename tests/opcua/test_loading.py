"""The standard's nodes are the same as asyncua makes of the same items, only sooner."""

from __future__ import annotations

from importlib import import_module

import pytest
from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeData

from edge_opcua.core.collector import paused
from edge_opcua.opcua.loading import ITEMS, load_standard
from tests.opcua.standard_space import loaded


def shown(node: NodeData) -> tuple[object, ...]:
    """Return all of a node, comparable."""
    attributes = [(which, repr(held.value)) for which, held in node.attributes.items()]
    return repr(node.nodeid), attributes, list(map(repr, node.references)), node.call


def test_every_node_attribute_and_reference_is_what_asyncua_makes() -> None:
    ours, theirs = AddressSpace(), loaded()
    with paused():
        load_standard(ours)
    assert list(ours._nodes) == list(theirs._nodes)
    different = [
        str(node) for node in theirs._nodes if shown(ours._nodes[node]) != shown(theirs._nodes[node])
    ]
    assert different == []


def test_a_write_changes_one_node_although_equal_values_are_shared() -> None:
    space = AddressSpace()
    with paused():
        load_standard(space)
    one, other = (
        ua.NodeId(which) for which in (ua.ObjectIds.Server_ServerArray, ua.ObjectIds.Server_NamespaceArray)
    )
    level = ua.AttributeIds.AccessLevel
    assert space[one].attributes[level].value is space[other].attributes[level].value
    space[one].attributes[level].value = ua.DataValue(ua.Variant(3, ua.VariantType.Byte))
    assert space[other].attributes[level].value.Value.Value == 1


def test_items_that_do_not_fit_together_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    item = ua.AddReferencesItem(
        SourceNodeId=ua.NodeId(1), ReferenceTypeId=ua.NodeId(35), TargetNodeId=ua.NodeId(2)
    )
    generated = import_module(ITEMS)
    monkeypatch.setattr(
        generated, "create_standard_address_space_Services", lambda server: server.add_references([item])
    )
    with pytest.raises(RuntimeError, match="do not fit together"):
        load_standard(AddressSpace())
