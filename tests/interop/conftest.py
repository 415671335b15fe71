"""One plant and one node-opcua process for the whole folder; a client is made per test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.security.roles import parse_roles
from edge_opcua.security.users import Cost, UserStore
from tests.interop.node_remote import Remote, remote, require_node
from tests.opcua.plant import Ground, Plant, configuration, prepare, running, until
from tests.opcua.standard_space import kept
from tests.security.certificates import make

POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")


class Press:
    """The press's tags: what is set is published at once and kept fresh, as the io process does."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._values: dict[str, Any] = {"die_temp": 20.0, "profile": [1, 2, 3], "recipe": "R7"}

    def set(self, **values: Any) -> None:
        self._values.update(values)
        self._plant.press(**self._values)

    async def ramp(self, *tonnages: float) -> None:
        """Set one after the other; the server has seen each before the next one comes."""
        nodes = self._plant.server._running().iserver.aspace
        shown = plant_id("Press01.Process.tonnage")
        for tonnage in tonnages:
            self.set(tonnage=tonnage)

            async def arrived(tonnage: float = tonnage) -> bool:
                return bool(nodes.attribute(shown, ua.AttributeIds.Value) == tonnage)

            await until(arrived)

    async def keep_fresh(self) -> None:
        while True:
            self.set()
            await asyncio.sleep(1.0)


@pytest.fixture(scope="session", autouse=True)
def standard_nodes_are_made_once() -> Iterator[None]:
    with kept():
        yield


@pytest.fixture(scope="session")
def node() -> str:
    return require_node()


@pytest.fixture(scope="module")
def grounds(node: str, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("interop"))


@pytest.fixture(scope="module")
def users(grounds: Ground) -> UserStore:
    store = UserStore(grounds.root, cost=Cost(n=2**10))  # the cost is the server's, not the client's
    for role in ("observer", "operator", "engineer", "security-admin"):
        store.add(role, parse_roles([role]), password=f"{role} has a password")
    person = make("Ada", uri="urn:tests:ada")
    (grounds.root / "ada.der").write_bytes(person.der)
    (grounds.root / "ada.pem").write_bytes(person.key_pem)
    store.add("ada", parse_roles(["engineer", "operator"]), certificate=person.der)
    return store


@pytest.fixture(scope="module")
async def served(grounds: Ground, users: UserStore) -> AsyncIterator[Plant]:
    opcua = {"listen": "127.0.0.1:0", "publish_ms": 10, "security": list(POLICIES)}
    async with running(grounds, configuration(opcua=opcua), users=users) as plant:
        yield plant


@pytest.fixture(scope="module")
async def press(served: Plant) -> AsyncIterator[Press]:
    hand = Press(served)
    async with asyncio.TaskGroup() as tasks:
        fresh = tasks.create_task(hand.keep_fresh())
        yield hand
        fresh.cancel()


@pytest.fixture(scope="module")
async def peer(node: str) -> AsyncIterator[Remote]:
    async with remote(node) as process:
        yield process


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """node-opcua keeps a key of its own there, which takes seconds to make: once for the whole run."""
    return tmp_path_factory.mktemp("node-opcua-pki")


@pytest.fixture(scope="module")
def identity(grounds: Ground, pki: Path) -> dict[str, str]:
    root = grounds.root
    return {
        "uri": "urn:tests:client",
        "certificate": str(root / "client.crt"),
        "key": str(root / "client.pem"),
        "pki": str(pki),
    }
