"""The standard's nodes, made once per run: each server gets a copy, which takes a third of the time."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.address_space import AttributeValue, NodeData
from asyncua.server.internal_server import InternalServer

# What nobody changes in place; everything else (lists, structures) is copied whole.
_CONSTANT = (int, float, str, bytes, type(None), ua.NodeId, ua.QualifiedName, ua.LocalizedText)


@contextmanager
def kept() -> Iterator[None]:
    """Let every server of this process start with a copy of the nodes that the first one loaded."""
    nodes: dict[Any, NodeData] = {}
    load = InternalServer.load_standard_address_space

    async def load_once(core: InternalServer, shelf_file: Path | None = None) -> None:
        if not nodes:
            await load(core, shelf_file)
            nodes.update(core.aspace._nodes)
        core.aspace._nodes = {node_id: _copied(node) for node_id, node in nodes.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InternalServer, "load_standard_address_space", load_once)
        yield


def _copied(node: NodeData) -> NodeData:
    made = NodeData(node.nodeid)
    made.attributes = {which: AttributeValue(_value(held.value)) for which, held in node.attributes.items()}
    made.references = [copy.copy(reference) for reference in node.references]
    return made


def _value(value: Any) -> Any:
    plain = isinstance(value.Value.Value, _CONSTANT)
    return dataclasses.replace(value) if plain else copy.deepcopy(value)
