"""A model's life as node-opcua sees it: loads, watches, rolls back, answers verdicts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.values import Verdict
from tests.interop.conftest import Press
from tests.interop.node_remote import Remote, subscribed
from tests.interop.test_roles import named
from tests.opcua.plant import MODELS, SHA_B, Plant

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

ENGINE = "ns=7;s=Press01.Inference.press-anomaly"
SERVER = "i=2253"
JOB, ALARM, CHANGED = "ns=6;i=1011", "ns=6;i=1019", "ns=6;i=1020"
DENIED = ua.StatusCodes.BadUserAccessDenied
FIELDS = [
    "EventType",
    "SourceName",
    "Message",
    "Severity",
    "Progress",
    "6:State",
    "6:Kind",
    "6:Pipelines",
    "6:ShadowCompared",
    "6:ShadowAgreementLow",
    "6:Outcome",
    "6:FromVersion",
    "6:ToVersion",
    "6:User",
    "6:Note",
    "6:Reason",
    "6:Active",
    "6:Value",
    "6:Limit",
    "6:Code",
]
PIPELINES = ["press-anomaly"]


@pytest.fixture
async def session(served: Plant, peer: Remote, identity: dict[str, str]) -> AsyncIterator[str]:
    """A program: its certificate has the roles operator and engineer."""
    served.asked.models.clear()
    await served.server.on_models(MODELS)
    name = await peer.connect(served.server.url, identity)
    yield name
    await peer.leave()
    await served.server.on_models(MODELS)


async def call(peer: Remote, session: str, owner: str, method: str, *arguments: tuple[str, Any]) -> Any:
    return await peer.call(
        session,
        "call",
        {
            "objectId": owner,
            "methodId": f"{owner}.{method}",
            "inputArguments": [{"dataType": kind, "value": value} for kind, value in arguments],
        },
    )


def told(events: list[list[dict[str, Any]]], kind: str) -> list[dict[str, Any]]:
    """The events of one type, by field."""
    named_fields = [dict(zip(FIELDS, (each["value"] for each in event), strict=True)) for event in events]
    return [event for event in named_fields if event["EventType"] == kind]


async def play(plant: Plant, job: dict[str, Any], *states: str, **more: Any) -> None:
    """Do what the supervisor does while a job runs."""
    percent = {"Queued": 0, "Loading": 10, "Validating": 50, "Shadow": 70, "Switching": 90}
    shadow = {"wanted": 50, "compared": 50, "agreement": 0.98, "agreement_low": 0.895}
    for state in states:
        body = {**job, "state": state, "percent": percent.get(state, 100), "reason": ""}
        await plant.server.on_job({**body, **({"shadow": shadow} if state == "Shadow" else {}), **more})


async def test_node_opcua_loads_a_model_on_a_pipeline_sees_every_state_and_rolls_it_back(
    served: Plant, peer: Remote, session: str
) -> None:
    async with subscribed(peer, session):
        await peer.monitor_events(SERVER, "events", FIELDS)
        await peer.monitor("ns=7;s=Models.LastJob.State", "state")
        load = [("UInt32", 2), ("String", SHA_B), ("UInt32", 50), ("String", "retrained")]
        answer = await call(peer, session, ENGINE, "LoadModel", *load)
        assert (answer["statusCode"], answer["outputArguments"][0]["value"]) == (0, "job-1")
        kind, asked = served.asked.models[-1]
        assert (kind, asked["pipelines"], asked["shadow"], asked["note"]) == (
            "load_model",
            PIPELINES,
            50,
            "retrained",
        )
        job = {**asked, "job": "job-1", "kind": "load"}
        steps = ("Queued", "Loading", "Validating", "Shadow", "Switching", "Active")
        await play(served, job, *steps[:5])
        first, second = MODELS
        second_judges = replace(second, state="Active", pipelines=("press-anomaly",))
        await served.server.on_models([replace(first, state="Standby", pipelines=()), second_judges])
        await play(served, job, "Active")

        assert (await call(peer, session, ENGINE, "RollbackModel", ("String", "")))["statusCode"] == 0
        assert served.asked.models[-1][0] == "rollback_model"
        back = {"job": "job-2", "kind": "rollback", "name": "press-anomaly", "version": 2}
        back |= {"pipelines": PIPELINES, "user": "edge-opcua"}
        await play(served, back, "Queued", "Switching")
        await served.server.on_models([first, replace(second, state="Quarantined", reason="M652: late")])
        await play(served, back, "RolledBack")
        events = await peer.gather("events.seen", 11)
        states = await peer.gather("state.seen", 1)
        quarantined = [
            (await peer.read(session, f"ns=7;s=Models.press-anomaly.2.{member}"))["value"]["value"]
            for member in ("State", "Reason")
        ]
    jobs = told(events, JOB)
    assert [each["6:State"] for each in jobs] == [*steps, "Queued", "Switching", "RolledBack"]
    assert (jobs[3]["6:ShadowCompared"], jobs[3]["6:ShadowAgreementLow"]) == ([0, 50], 0.895)
    assert {each["6:Kind"] for each in jobs} == {"load", "rollback"}
    assert all(each["6:Pipelines"] == PIPELINES for each in jobs)
    changes = [
        (each["6:Outcome"], each["6:FromVersion"], each["6:ToVersion"]) for each in told(events, CHANGED)
    ]
    assert changes == [("Active", 1, 2), ("RolledBack", 2, 1)]
    assert told(events, CHANGED)[0]["6:Note"] == "retrained"
    assert states[-1]["value"]["value"] == "RolledBack"
    assert quarantined == ["Quarantined", "M652: late"]


async def test_node_opcua_answers_a_verdict_if_its_user_may(
    served: Plant, press: Press, peer: Remote, identity: dict[str, str]
) -> None:
    served.asked.models.clear()
    served.result(41, Verdict.NOT_OK)
    answers = {}
    for role in ("observer", "engineer", "operator"):
        session = await peer.connect(served.server.url, identity, user=named(role))
        result = ("String", "7041")
        given = await call(
            peer, session, ENGINE, "AnswerVerdict", result, ("Int32", 2), ("String", "die change")
        )
        answers[role] = given["statusCode"]
        await peer.leave()
    assert answers == {"observer": DENIED, "engineer": DENIED, "operator": 0}
    ((kind, body),) = served.asked.models
    assert kind == "answer_verdict"
    assert (body["result_id"], body["answer"], body["note"]) == ("7041", "normal", "die change")
    assert "operator" in body["user"]


async def test_node_opcua_knows_the_answers_by_name(peer: Remote, session: str) -> None:
    read = await peer.read(session, f"{ENGINE}.AnswerVerdict.InputArguments")
    arguments = read["value"]["value"]
    assert [each["name"] for each in arguments] == ["ResultId", "Answer", "Note"]
    assert arguments[1]["dataType"] == "ns=6;i=3002"
    definition = await peer.call(session, "read", {"nodeId": "ns=6;i=3002", "attributeId": 23})
    fields = definition["value"]["value"]["fields"]
    assert [each["name"] for each in fields] == ["UNKNOWN", "REAL", "NORMAL", "SENSOR_FAULT"]


async def test_node_opcua_is_told_when_an_alarm_comes_and_when_it_goes(
    served: Plant, peer: Remote, session: str
) -> None:
    body: dict[str, Any] = {"pipeline": "press-anomaly", "model": "press-anomaly/1", "kind": "latency"}
    body |= {"code": "M652", "value": 0.12, "limit": 0.05, "text": "12 % of the last 100 verdicts were late"}
    async with subscribed(peer, session):
        await peer.monitor_events(ENGINE, "events", FIELDS)
        await peer.monitor(f"{ENGINE}.Watch.Alarms", "alarms")
        await served.server.on_alarm({**body, "active": True})
        await served.server.on_alarm({**body, "active": False})
        events = told(await peer.gather("events.seen", 2), ALARM)
        block = served.config.pipelines[0].watch_block
        served.stamp(block)
        batch = served.writer(block).batch
        batch.set(batch.row("alarms"), 4)
        served.writer(block).publish()
        alarms = await peer.gather("alarms.seen", 2)
    assert [(each["6:Active"], each["Severity"], each["6:Code"]) for each in events] == [
        (True, 600, "M652"),
        (False, 200, "M652"),
    ]
    assert events[0]["SourceName"] == "press-anomaly"
    assert (events[0]["6:Value"], events[0]["6:Limit"]) == (0.12, 0.05)
    assert "12 % of the last 100" in events[0]["Message"]
    assert alarms[-1]["value"]["value"] == 4
