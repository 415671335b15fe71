"""The running whole, seen by a client of another vendor: reads, events, LoadModel, all encrypted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from tests.interop.node_remote import Remote, remote, require_node, subscribed
from tests.security.certificates import make
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.interop, pytest.mark.timeout(90)]

URI = "urn:edge-opcua:test:node-opcua"
ENGINE = "ns=7;s=Press01.Inference.press-anomaly"
NOTIFIERS = {"server": "i=2253", "machine": "ns=7;s=Press01"}
FIELDS = ["EventType", "6:Stroke", "6:Verdict"]


@pytest.fixture(scope="module")
def node() -> str:
    return require_node()


@pytest.fixture
async def peer(node: str) -> AsyncIterator[Remote]:
    async with remote(node) as process:
        yield process


@pytest.fixture
async def session(plant: Plant, peer: Remote, tmp_path: Path) -> AsyncIterator[str]:
    identity = make("node-opcua", uri=URI)
    certificate, key = tmp_path / "client.crt", tmp_path / "client.pem"
    certificate.write_bytes(identity.pem)
    key.write_bytes(identity.key_pem)
    trust = TrustList(StateDir(plant.state_dir).pki)
    trust.add(identity.der, roles=frozenset({Role.OPERATOR, Role.ENGINEER}))
    files = {"certificate": str(certificate), "key": str(key), "pki": str(plant.home / "node-opcua-pki")}
    yield await peer.connect(plant.server.endpoint, {"uri": URI, **files})
    await peer.leave()


async def test_node_opcua_reads_the_press_gets_its_events_and_loads_a_model(
    plant: Plant, peer: Remote, session: str
) -> None:
    tag = "ns=7;s=Press01.Process.die_temp"
    temperature = await peer.read(session, tag)
    assert temperature["statusCode"] == 0
    assert 15 < temperature["value"]["value"] < 120
    unit = await peer.read(session, f"{tag}.EngineeringUnits")
    assert unit["value"]["value"]["displayName"] == "°C"
    state = await peer.read(session, "ns=7;s=Devices.press.Connection.State")
    assert state["value"]["value"] in ("ONLINE", "RECOVERING")
    models = ModelRepository(StateDir(plant.state_dir).models).list()
    wanted = next(model for model in models if model.version == 2)
    arguments = [("String", wanted.name), ("UInt32", wanted.version), ("String", wanted.sha256)]
    call = {
        "objectId": "ns=7;s=Models",
        "methodId": "ns=7;s=Models.LoadModel",
        "inputArguments": [{"dataType": kind, "value": value} for kind, value in arguments],
    }
    async with subscribed(peer, session):
        for name, notifier in NOTIFIERS.items():
            await peer.monitor_events(notifier, name, FIELDS)
        answer = await peer.call(session, "call", call)
        assert answer["statusCode"] == 0
        assert answer["outputArguments"][0]["value"].startswith("job-")
        for name in NOTIFIERS:
            seen = await peer.gather(f"{name}.seen", 8, within_s=30)
            events = [[field["value"] for field in event] for event in seen]
            results = [(stroke, verdict) for _, stroke, verdict in events if verdict is not None]
            strokes = [stroke for stroke, _ in results]
            assert len(strokes) >= 2
            assert strokes == list(range(strokes[0], strokes[0] + len(strokes)))
            assert {verdict for _, verdict in results} <= {int(Verdict.OK), int(Verdict.NOT_OK)}
