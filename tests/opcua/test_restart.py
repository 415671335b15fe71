"""What a client keeps over a restart, and what a server does that cannot start."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest
from asyncua import ua

from edge_opcua.core.bus import Bus
from edge_opcua.core.values import Verdict
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.namespaces import Ids, Namespace, plant_id
from edge_opcua.opcua.nodesets import read_nodesets
from edge_opcua.opcua.seam import ServerSecurity
from edge_opcua.opcua.server import PlantServer
from tests.opcua.plant import Ground, Plant, Watcher, blocks, configuration, nodesets, prepare, running, until
from tests.opcua.test_nodesets import OFFICIAL_FILES

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return prepare(tmp_path)


async def nodes_of(plant: Plant) -> dict[str, ua.NodeClass]:
    """Everything below Objects that lies in the plant's namespace, by NodeId."""
    found: dict[str, ua.NodeClass] = {}
    async with await plant.client() as client:
        waiting = [client.nodes.objects]
        while waiting:
            for child in await waiting.pop().get_children_descriptions():
                name = child.NodeId.to_string()
                if child.NodeId.NamespaceIndex >= Namespace.DI and name not in found:
                    found[name] = child.NodeClass
                    waiting.append(client.get_node(child.NodeId))
    return found


async def test_nodes_and_the_last_result_are_the_same_after_a_restart(ground: Ground) -> None:
    async with running(ground) as plant:
        before = await nodes_of(plant)
    assert len(before) > 150
    assert all(";s=" in name for name in before if name.startswith("ns=7"))
    async with running(ground) as plant:
        assert await nodes_of(plant) == before


async def test_a_server_shows_what_the_bus_already_holds(ground: Ground) -> None:
    """The OPC UA process was restarted: a client finds the last result, but no event of long ago."""
    config = configuration()
    bus = Bus.create(blocks(config))
    server = PlantServer(
        config, bus, security=ServerSecurity(ground.pki, ground.trust), nodesets=ground.nodesets
    )
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        plant = Plant(config, bus, server, None, ground)  # type: ignore[arg-type]
        plant.result(5, Verdict.NOT_OK)
        tasks.create_task(server.run(stopping))
        await server.ready.wait()
        async with await plant.client() as client:
            stroke = client.get_node(plant_id("Press01.Inference.press-anomaly.Stroke"))

            async def shown() -> bool:
                plant.writer(config.pipelines[0].result_block).beat()
                found = await stroke.read_data_value(raise_on_bad_status=False)
                return bool(found.Value.Value == 5)

            await until(shown)
        assert server.sessions()["results"] == 0
        stopping.set()
    assert server.sessions() == {"ready": False, "sessions": []}
    bus.close()


@pytest.fixture
def full(ground: Ground) -> Ground:
    if not OFFICIAL_FILES.is_dir():
        pytest.skip("no official nodesets: run tests/peers/install")
    return dataclasses.replace(ground, nodesets=read_nodesets(OFFICIAL_FILES))


@pytest.mark.interop
async def test_results_are_the_same_on_the_full_official_nodesets(full: Ground) -> None:
    async with running(full) as plant, await plant.client() as client:
        subset = client.get_node("ns=5;i=6002")
        assert await subset.read_value() is False
        watcher = Watcher()
        subscription = await client.create_subscription(20, watcher)
        kind = client.get_node(Ids.RESULT_EVENT_TYPE)
        await subscription.subscribe_events(plant_id("Press01"), kind)
        plant.result(9, Verdict.NOT_OK)
        await watcher.wait(1)
        await subscription.delete()
    event = watcher.events[0]
    assert (event.Stroke, event.Verdict) == (9, int(Verdict.NOT_OK))
    assert getattr(event, "Result/ResultMetaData/PartId") == "1009"


async def test_a_taken_port_is_a_clear_error(ground: Ground) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        config = configuration(opcua={"listen": listen})
        bus = Bus.create(blocks(config))
        security = ServerSecurity(ground.pki, ground.trust)
        server = PlantServer(config, bus, security=security, nodesets=nodesets())
        with pytest.raises(ConfigError, match=f"cannot listen on {listen}"):
            await server.run(asyncio.Event())
        bus.close()
