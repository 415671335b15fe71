"""A client of another vendor on the encrypted endpoint: node-opcua, installed by ``tests/peers/install``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_WAITING_FOR_INITIAL_DATA, Verdict
from tests.interop.conftest import Press
from tests.interop.node_remote import Remote, subscribed
from tests.opcua.plant import SHA_B, Plant

ENGINE = "ns=7;s=Press01.Inference.press-anomaly"
PROCESS = "ns=7;s=Press01.Process"
SERVER, MACHINE = "i=2253", "ns=7;s=Press01"
FIELDS = [
    "EventType",
    "SourceNode",
    "SourceName",
    "Message",
    "Severity",
    "Time",
    "6:Stroke",
    "6:Score",
    "6:Verdict",
    "6:ContributionNames",
    "6:State",
    "Progress",
    "5:Result",
    "5:Result.5:ResultMetaData.5:ResultId",
    "5:Result.5:ResultMetaData.5:ResultEvaluation",
    "5:Result.5:ResultMetaData.5:PartId",
]

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture
async def session(served: Plant, peer: Remote, identity: dict[str, str]) -> AsyncIterator[str]:
    served.asked.writes.clear()
    name = await peer.connect(served.server.url, identity)
    yield name
    await peer.leave()


async def write(peer: Remote, session: str, node: str, kind: str, value: Any) -> int:
    variant = {"dataType": kind, "value": value}
    return int(
        await peer.call(session, "write", {"nodeId": node, "attributeId": 13, "value": {"value": variant}})
    )


async def test_node_opcua_finds_what_a_machine_has(peer: Remote, session: str) -> None:
    async def browse(node: str) -> set[str]:
        below = {
            "nodeId": node,
            "referenceTypeId": "HierarchicalReferences",
            "includeSubtypes": True,
            "resultMask": 63,
        }
        found = await peer.call(session, "browse", below)
        return {each["browseName"] for each in found["references"]}

    assert (await peer.call(session, "readNamespaceArray"))[7] == "urn:plant-1:plant"
    assert {"4:Machines", "2:DeviceSet", "7:Models"} <= await browse("i=85")
    assert {"2:Identification", "4:Monitoring", "7:Inference"} <= await browse(MACHINE)


async def test_node_opcua_reads_values_with_their_properties(
    press: Press, peer: Remote, session: str
) -> None:
    press.set(die_temp=55.5, guard_closed=True, recipe="R7")
    await press.ramp(3.0)
    names = ("die_temp", "guard_closed", "recipe")
    found = [await peer.read(session, f"{PROCESS}.{name}") for name in names]
    assert [each["value"]["value"] for each in found] == [55.5, True, "R7"]
    assert found[0]["sourceTimestamp"] < found[0]["serverTimestamp"]
    high = await peer.read(session, f"{PROCESS}.die_temp.EURange")
    assert high["value"]["value"] == {"low": 0, "high": 120}
    unit = await peer.read(session, f"{PROCESS}.die_temp.EngineeringUnits")
    assert unit["value"]["value"]["unitId"] == 4408652
    unknown = await peer.read(session, "ns=7;s=Press01.Outputs.verdict.State")
    assert (unknown["value"]["value"], unknown["statusCode"]) == (None, BAD_WAITING_FOR_INITIAL_DATA)


async def test_node_opcua_gets_every_result_as_values_and_events(
    served: Plant, peer: Remote, session: str
) -> None:
    async with subscribed(peer, session):
        for member in ("Stroke", "Contributions"):
            await peer.monitor(f"{ENGINE}.{member}", member)
        for name, notifier in (("server", SERVER), ("machine", MACHINE)):
            await peer.monitor_events(notifier, name, FIELDS)
        await peer.gather("Stroke.seen", 1)
        for stroke in (1, 2, 3):
            served.result(stroke, Verdict.NOT_OK if stroke == 3 else Verdict.OK, score=0.5 * stroke)
        strokes = await peer.gather("Stroke.seen", 3)
        contributions = await peer.gather("Contributions.seen", 2)
        body = {"job": "job-1", "name": "press-anomaly", "version": 2, "state": "Active", "percent": 100}
        await served.server.on_job(body)
        seen = [await peer.gather(f"{name}.seen", 4) for name in ("server", "machine")]

    assert [each["value"]["value"] for each in strokes] == [1, 2, 3]
    assert contributions[-1]["value"]["value"] == [0.5, 0.25, 0.25]
    assert seen[0] == seen[1]
    events = [dict(zip(FIELDS, (field["value"] for field in event), strict=True)) for event in seen[0]]
    # node-opcua looks a new structure up before it hands an event out, so the job's event may come first.
    results = [event for event in events if event["EventType"] == "ns=6;i=1010"]
    (done,) = (event for event in events if event["EventType"] == "ns=6;i=1011")
    assert [event["6:Stroke"] for event in results] == [1, 2, 3]
    assert [event["6:Score"] for event in results] == [0.5, 1.0, 1.5]
    last = results[2]
    assert last["SourceNode"] == ENGINE
    assert (last["Severity"], last["6:Verdict"]) == (500, int(Verdict.NOT_OK))
    assert last["6:ContributionNames"] == ["rms", "crest", "band_200_400"]
    # node-opcua learnt the structure from our data type definition and decoded it.
    meta = last["5:Result"]["resultMetaData"]
    assert (meta["resultId"], meta["partId"], meta["resultEvaluation"]) == ("7003", "1003", 2)
    assert [each["value"] for each in last["5:Result"]["resultContent"]] == [1.5, 0.75]
    assert last["5:Result.5:ResultMetaData.5:ResultId"] == "7003"
    assert last["5:Result.5:ResultMetaData.5:ResultEvaluation"] == 2
    assert (done["6:State"], done["Progress"]) == ("Active", 100)


async def test_node_opcua_loads_a_model_and_is_answered_at_once(
    served: Plant, peer: Remote, session: str
) -> None:
    arguments = [("String", "press-anomaly"), ("UInt32", 2), ("String", SHA_B)]
    call = {
        "objectId": "ns=7;s=Models",
        "methodId": "ns=7;s=Models.LoadModel",
        "inputArguments": [{"dataType": kind, "value": value} for kind, value in arguments],
    }
    async with asyncio.timeout(1):
        answer = await peer.call(session, "call", call)
    assert (answer["statusCode"], [each["value"] for each in answer["outputArguments"]]) == (0, ["job-1"])
    assert served.asked.loads[-1][:3] == ("press-anomaly", 2, SHA_B)


async def test_node_opcua_writes_set_points(served: Plant, peer: Remote, session: str) -> None:
    assert await write(peer, session, f"{PROCESS}.sp_speed", "Float", 30.0) == 0
    assert await write(peer, session, f"{PROCESS}.ack", "Boolean", value=True) == 0
    assert [each[:2] for each in served.asked.writes] == [("press/sp_speed", 30.0), ("press/ack", True)]
    assert "node-opcua" in served.asked.writes[0][2]


async def test_node_opcua_gets_the_answer_to_a_write_out_of_range(
    served: Plant, peer: Remote, session: str
) -> None:
    assert await write(peer, session, f"{PROCESS}.sp_speed", "Float", 99.0) == BAD_OUT_OF_RANGE
    assert served.asked.writes == []
