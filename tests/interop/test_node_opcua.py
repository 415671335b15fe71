"""A client of another vendor on the encrypted endpoint: node-opcua, installed by ``tests/peers/install``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_WAITING_FOR_INITIAL_DATA, Verdict
from tests.interop.node_client import NodeClient, require_node
from tests.opcua.plant import CLIENT_URI, SHA_B, Ground, Plant, prepare, running

ENGINE = "ns=7;s=Press01.Inference.press-anomaly"
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

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


@pytest.fixture
def node() -> str:
    return require_node()


@pytest.fixture
def ground(node: str, tmp_path: Path) -> Ground:
    return prepare(tmp_path)


def job_for(plant: Plant, **more: Any) -> dict[str, Any]:
    root = plant.ground.root
    return {
        "endpoint": plant.server.url,
        "applicationUri": CLIENT_URI,
        "certificate": str(root / "client.crt"),
        "privateKey": str(root / "client.pem"),
        # Kept for the whole run: node-opcua makes a key of its own there, which takes seconds.
        "pki": str(root.parent / "node-opcua-pki"),
        **more,
    }


async def poll(plant: Plant) -> None:
    """Read the press over and over, as the io process does."""
    while True:
        plant.press(die_temp=55.5, guard_closed=True, recipe="R7")
        await asyncio.sleep(0.1)


async def test_node_opcua_browses_reads_gets_events_writes_and_loads_a_model(
    node: str, ground: Ground
) -> None:
    async with running(ground) as plant:
        tags = [f"ns=7;s=Press01.Process.{name}" for name in ("die_temp", "guard_closed", "recipe")]
        unknown = "ns=7;s=Press01.Outputs.verdict.State"
        job = job_for(
            plant,
            browse=["i=85", MACHINE, "ns=2;i=5001", "ns=7;s=Models"],
            read=[*tags, f"{tags[0]}.EURange", f"{tags[0]}.EngineeringUnits", unknown],
            monitor=[f"{ENGINE}.Stroke", f"{ENGINE}.Contributions"],
            notifiers=[SERVER, MACHINE],
            fields=FIELDS,
            events=4,
            models="ns=7;s=Models",
            method="ns=7;s=Models.LoadModel",
            loadModel=["press-anomaly", 2, SHA_B],
            write=[
                {"nodeId": "ns=7;s=Press01.Process.sp_speed", "value": 30.0, "dataType": "Float"},
                {"nodeId": "ns=7;s=Press01.Process.ack", "value": True, "dataType": "Boolean"},
            ],
        )
        client = await NodeClient.start(node, job)
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(poll(plant))
            await client.ready()
            polling.cancel()
        for stroke in (1, 2, 3):
            plant.result(stroke, Verdict.NOT_OK if stroke == 3 else Verdict.OK, score=0.5 * stroke)
            await asyncio.sleep(0.1)
        body = {"job": "job-1", "name": "press-anomaly", "version": 2, "state": "Done", "percent": 100}
        await plant.server.on_job(body)
        seen = await client.seen()
        asked = plant.asked

    assert seen["namespaces"][7] == "urn:plant-1:plant"
    assert {"4:Machines", "2:DeviceSet", "7:Models"} <= set(seen["browse"]["i=85"])
    assert {"2:Identification", "4:Monitoring", "7:Inference"} <= set(seen["browse"][MACHINE])
    values = seen["values"]
    assert [values[tag]["value"] for tag in tags] == [55.5, True, "R7"]
    assert values[tags[0]]["source"] < values[tags[0]]["server"]
    assert values[f"{tags[0]}.EURange"]["value"] == {"low": 0, "high": 120}
    assert values[f"{tags[0]}.EngineeringUnits"]["value"]["unitId"] == 4408652
    assert (values[unknown]["value"], values[unknown]["status"]) == (None, BAD_WAITING_FOR_INITIAL_DATA)

    assert seen["loadModel"]["outputs"] == ["job-1"]
    assert seen["loadModel"]["ms"] < 200
    assert asked.loads[0][:3] == ("press-anomaly", 2, SHA_B)
    assert list(seen["writes"].values()) == [0, 0]
    assert [write[:2] for write in asked.writes] == [("press/sp_speed", 30.0), ("press/ack", True)]
    assert "node-opcua interop" in asked.writes[0][2]

    strokes = seen["notifications"][f"{ENGINE}.Stroke"]
    assert [each["value"] for each in strokes if not each["status"]] == [1, 2, 3]
    assert seen["notifications"][f"{ENGINE}.Contributions"][-1]["value"] == [0.5, 0.25, 0.25]
    assert seen["events"][SERVER] == seen["events"][MACHINE]
    # node-opcua looks a new structure up before it hands an event out, so the job's event may come first.
    results = [event for event in seen["events"][SERVER] if event["EventType"] == "ns=6;i=1010"]
    (done,) = (event for event in seen["events"][SERVER] if event["EventType"] == "ns=6;i=1011")
    assert [event["6:Stroke"] for event in results] == [1, 2, 3]
    assert [event["6:Score"] for event in results] == [0.5, 1.0, 1.5]
    last = results[2]
    assert last["SourceNode"] == ENGINE
    assert (last["Severity"], last["6:Verdict"]) == (500, int(Verdict.NOT_OK))
    assert last["6:ContributionNames"] == ["rms", "crest", "band_200_400"]
    # node-opcua learnt the structure from our data type definition and decoded it.
    meta = last["5:Result"]["resultMetaData"]
    assert (meta["resultId"], meta["partId"], meta["resultEvaluation"]) == ("7003", "1003", 2)
    assert last["5:Result"]["resultContent"] == [1.5, 0.75]
    assert last["5:Result.5:ResultMetaData.5:ResultId"] == "7003"
    assert last["5:Result.5:ResultMetaData.5:ResultEvaluation"] == 2
    assert (done["6:State"], done["Progress"]) == ("Done", 100)


async def test_node_opcua_gets_the_plcs_answer_to_a_write(node: str, ground: Ground) -> None:
    async with running(ground) as plant:
        speed = "ns=7;s=Press01.Process.sp_speed"
        wanted = [{"nodeId": speed, "value": 99.0, "dataType": "Float"}]
        client = await NodeClient.start(node, job_for(plant, write=wanted))
        await client.ready()
        seen = await client.seen()
        assert plant.asked.writes == []
    assert seen["writes"][speed] == BAD_OUT_OF_RANGE
