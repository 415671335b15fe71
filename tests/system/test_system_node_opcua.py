"""The running whole, seen by a client of another vendor: reads, events, LoadModel, all encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import GOOD, Verdict
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from tests.interop.node_remote import Remote, remote, require_node, subscribed
from tests.security.certificates import make
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.interop, pytest.mark.timeout(180)]

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


CHANGE_FIELDS = [
    "EventType",
    "6:State",
    "6:Outcome",
    "6:FromVersion",
    "6:ToVersion",
    "6:Kind",
    "6:Note",
    "6:ShadowCompared",
]
JOB, ALARM, CHANGED = "ns=6;i=1011", "ns=6;i=1019", "ns=6;i=1020"


async def _call(peer: Remote, session: str, owner: str, method: str, *given: tuple[str, Any]) -> Any:
    arguments = [{"dataType": kind, "value": value} for kind, value in given]
    call = {"objectId": owner, "methodId": f"{owner}.{method}", "inputArguments": arguments}
    return await peer.call(session, "call", call)


async def _value(peer: Remote, session: str, node: str) -> Any:
    return (await peer.read(session, f"ns=7;s={node}"))["value"]["value"]


async def _until_ended(peer: Remote) -> list[dict[str, Any]]:
    """Return the events up to the outcome of a job."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not any(each["EventType"] == CHANGED for each in events):
            seen = await peer.taken("jobs.seen")
            events += [
                dict(zip(CHANGE_FIELDS, (field["value"] for field in event), strict=True)) for event in seen
            ]
            await asyncio.sleep(0.1)
    return events


@pytest.mark.timeout(180)
async def test_node_opcua_changes_a_model_in_shadow_goes_back_and_answers_a_verdict(
    plant: Plant, peer: Remote, session: str
) -> None:
    models = ModelRepository(StateDir(plant.state_dir).models).list()
    active = int(await _value(peer, session, f"{ENGINE[7:]}.Watch.ModelVersion"))
    wanted = next(model for model in models if model.version != active)
    async with subscribed(peer, session):
        await peer.monitor_events("ns=7;s=Models", "jobs", CHANGE_FIELDS)
        load = [("UInt32", wanted.version), ("String", wanted.sha256), ("UInt32", 3), ("String", "retrained")]
        answer = await _call(peer, session, ENGINE, "LoadModel", *load)
        assert answer["statusCode"] == 0
        events = await _until_ended(peer)
        states = [each["6:State"] for each in events if each["EventType"] == JOB]
        assert [state for at, state in enumerate(states) if state not in states[:at]] == [
            "Queued",
            "Loading",
            "Validating",
            "Shadow",
            "Switching",
            "Active",
        ]
        (outcome,) = (each for each in events if each["EventType"] == CHANGED)
        assert (outcome["6:Outcome"], outcome["6:Note"]) == ("Active", "retrained")
        assert (outcome["6:FromVersion"], outcome["6:ToVersion"]) == (active, wanted.version)
        assert await _value(peer, session, f"Models.press-anomaly.{wanted.version}.State") == "Active"
        assert await _value(peer, session, f"Models.press-anomaly.{active}.State") == "Standby"

        back = await _call(peer, session, ENGINE, "RollbackModel", ("String", "not convinced"))
        assert back["statusCode"] == 0
        (outcome,) = (each for each in await _until_ended(peer) if each["EventType"] == CHANGED)
        assert (outcome["6:Outcome"], outcome["6:Kind"]) == ("RolledBack", "rollback")
        assert (outcome["6:FromVersion"], outcome["6:ToVersion"]) == (wanted.version, active)
        assert await _value(peer, session, f"Models.press-anomaly.{active}.State") == "Active"

    result_id = await _value(peer, session, f"{ENGINE[7:]}.LastResultId")
    note = ("String", "die change")

    async def given(result: str) -> int:
        answer = await _call(peer, session, ENGINE, "AnswerVerdict", ("String", result), ("Int32", 2), note)
        return int(answer["statusCode"])

    async with asyncio.timeout(15):
        while await given(result_id) != 0:  # the window is on disk a moment after its result is seen
            await asyncio.sleep(0.3)
    assert await given("1") == ua.StatusCodes.BadNotFound


async def test_an_alarm_of_a_model_goes_from_the_control_channel_to_node_opcua(
    plant: Plant, peer: Remote, session: str
) -> None:
    socket = StateDir(plant.state_dir).control_socket
    body = {"pipeline": "press-anomaly", "model": "press-anomaly/1", "kind": "trend", "code": "M658"}
    said = {**body, "value": 6.0, "limit": 24.0, "text": "reaches the limit in about 6 h", "since_ns": 0}
    async with subscribed(peer, session):
        await peer.monitor_events(ENGINE, "alarms", ["EventType", "6:Kind", "6:Active", "6:Code", "Message"])
        for active in (True, False):
            reply = await ask(socket, "supervisor", "watch", {**said, "active": active}, timeout_s=5)
            assert reply.status == GOOD
        events: list[list[Any]] = []
        async with asyncio.timeout(20):
            while len(events) < 2:  # among results
                seen = [[field["value"] for field in event] for event in await peer.taken("alarms.seen")]
                events += [event for event in seen if event[0] == ALARM and event[1] == "trend"]
                await asyncio.sleep(0.1)
    assert [event[2:4] for event in events] == [[True, "M658"], [False, "M658"]]
    assert "reaches the limit in about 6 h" in events[0][4]
