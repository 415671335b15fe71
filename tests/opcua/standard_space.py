"""The standard's nodes, made once per run: each server gets a copy, which takes a third of the time."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.standard_address_space import standard_address_space

from edge_opcua.core.collector import paused

# What nobody changes in place; everything else (lists, structures) is copied whole.
_CONSTANT = (int, float, str, bytes, type(None), ua.NodeId, ua.QualifiedName, ua.LocalizedText)


def loaded() -> AddressSpace:
    """Return what asyncua loads."""
    space = AddressSpace()
    with paused():
        standard_address_space.fill_address_space(NodeManagementService(space))
    return space


@cache
def _kept() -> AddressSpace:
    space = loaded()
    gc.collect()
    gc.freeze()  # it stays, and the collector need not look at it after each module
    return space


@contextmanager
def kept() -> Iterator[None]:
    """Let every server of this process start with a copy of the standard's nodes."""
    nodes = _kept()._nodes

    async def copied(self: InternalServer, shelf_file: Path | None = None) -> None:
        self.aspace._nodes = {node_id: _copied(node) for node_id, node in nodes.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InternalServer, "load_standard_address_space", copied)
        yield


def _copied(node: NodeData) -> NodeData:
    made = NodeData(node.nodeid)
    made.attributes = {which: AttributeValue(_value(held.value)) for which, held in node.attributes.items()}
    made.references = [copy.copy(reference) for reference in node.references]
    return made


def _value(value: Any) -> Any:
    plain = isinstance(value.Value.Value, _CONSTANT)
    return dataclasses.replace(value) if plain else copy.deepcopy(value)
