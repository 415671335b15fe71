"""What the tests' servers start with is what asyncua loads, and no server shares it with another."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.server.address_space import AddressSpace

from tests.opcua.standard_space import loaded


def contents(space: AddressSpace) -> dict[Any, Any]:
    return {
        node_id: ({which: held.value for which, held in node.attributes.items()}, node.references)
        for node_id, node in space._nodes.items()
    }


@pytest.mark.timeout(120)
async def test_each_server_has_its_own_copy_of_what_asyncua_loads() -> None:
    first, second = Server(), Server()
    for server in (first, second):
        await server.iserver.load_standard_address_space()
    spaces = [server.iserver.aspace for server in (first, second)]
    for node in spaces[0]._nodes.values():
        for reference in node.references:
            reference.BrowseName = ua.QualifiedName("changed")
        node.references.clear()
        for held in node.attributes.values():
            if isinstance(held.value.Value.Value, list):
                held.value.Value.Value.append("changed")
            held.value.StatusCode = ua.StatusCode(ua.StatusCodes.Bad)
            held.value = None
    assert contents(spaces[1]) == contents(loaded())
    for server in (first, second):
        await server.stop()
