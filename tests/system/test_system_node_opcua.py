"""The running whole, seen by a client of another vendor: reads, events, LoadModel, all encrypted."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from tests.interop.node_client import NodeClient, require_node
from tests.security.certificates import make
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.interop, pytest.mark.timeout(90)]

URI = "urn:edge-opcua:test:node-opcua"
ENGINE = "ns=7;s=Press01.Inference.press-anomaly"
SERVER, MACHINE = "i=2253", "ns=7;s=Press01"


@pytest.fixture
def node() -> str:
    return require_node()


async def test_node_opcua_reads_the_press_gets_its_events_and_loads_a_model(
    node: str, plant: Plant, tmp_path: Path
) -> None:
    identity = make("node-opcua", uri=URI)
    (tmp_path / "client.crt").write_bytes(identity.pem)
    (tmp_path / "client.pem").write_bytes(identity.key_pem)
    TrustList(StateDir(plant.state_dir).pki).add(
        identity.der, roles=frozenset({Role.OPERATOR, Role.ENGINEER})
    )
    models = ModelRepository(StateDir(plant.state_dir).models).list()
    wanted = next(model for model in models if model.version == 2)
    client = await NodeClient.start(
        node,
        {
            "endpoint": plant.server.endpoint,
            "applicationUri": URI,
            "certificate": str(tmp_path / "client.crt"),
            "privateKey": str(tmp_path / "client.pem"),
            "pki": str(plant.home / "node-opcua-pki"),
            "browse": ["i=85", MACHINE, "ns=2;i=5001"],
            "read": [
                "ns=7;s=Press01.Process.die_temp",
                "ns=7;s=Press01.Process.die_temp.EngineeringUnits",
                "ns=7;s=Devices.press.Connection.State",
            ],
            "monitor": [f"{ENGINE}.Stroke"],
            "notifiers": [SERVER, MACHINE],
            "fields": ["EventType", "SourceName", "6:Stroke", "6:Verdict", "6:Score", "6:State"],
            "events": 8,
            "models": "ns=7;s=Models",
            "method": "ns=7;s=Models.LoadModel",
            "loadModel": [wanted.name, wanted.version, wanted.sha256],
        },
    )
    await client.ready()
    seen = await client.seen()
    temperature, unit, state = seen["values"].values()
    assert temperature["status"] == 0
    assert 15 < temperature["value"] < 120
    assert unit["value"]["displayName"] == "°C"
    assert state["value"] in ("ONLINE", "RECOVERING")
    for notifier in (SERVER, MACHINE):
        events = [event for event in seen["events"][notifier] if event["6:Verdict"] is not None]
        strokes = [event["6:Stroke"] for event in events]
        assert len(strokes) >= 2
        assert strokes == list(range(strokes[0], strokes[0] + len(strokes)))
        assert {event["6:Verdict"] for event in events} <= {int(Verdict.OK), int(Verdict.NOT_OK)}
    assert seen["loadModel"]["status"] == 0
    assert seen["loadModel"]["outputs"][0].startswith("job-")
