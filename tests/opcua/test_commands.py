"""What a client may ask the plant to do: write a set-point, load a model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NO_COMMUNICATION,
    BAD_NOT_WRITABLE,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    BAD_TYPE_MISMATCH,
    GOOD_CLAMPED,
)
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.namespaces import Ids, plant_id
from tests.opcua.plant import MODELS, SHA_B, Plant, Watcher, prepare, running, until

SPEED = "Press01.Process.sp_speed"
FLOAT = ua.VariantType.Float


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running(prepare(tmp_path_factory.mktemp("plant"))) as running_plant:
        yield running_plant


@pytest.fixture(scope="module")
async def client(plant: Plant) -> AsyncIterator[Client]:
    client = await plant.client()
    async with client:
        yield client


@pytest.fixture(autouse=True)
def forget(plant: Plant) -> None:
    plant.asked.writes.clear()
    plant.asked.loads.clear()
    plant.asked.write_reply = Reply()
    plant.asked.load_reply = Reply(body={"job": "job-1"})
    plant.asked.delay_s = 0.0


async def write(client: Client, name: str, value: Any, kind: ua.VariantType) -> int:
    """Write a value and return the true answer."""
    item = ua.WriteValue()
    item.NodeId = plant_id(name)
    item.AttributeId = ua.AttributeIds.Value
    item.Value = ua.DataValue(ua.Variant(value, kind))
    return int((await client.uaclient.write(ua.WriteParameters(NodesToWrite=[item])))[0].value)


async def load(client: Client, *arguments: ua.Variant) -> ua.CallMethodResult:
    request = ua.CallMethodRequest()
    request.ObjectId = plant_id("Models")
    request.MethodId = plant_id("Models.LoadModel")
    request.InputArguments = list(arguments)
    return (await client.uaclient.call([request]))[0]


def arguments(name: Any = "press-anomaly", version: int = 2, sha256: str = SHA_B) -> list[ua.Variant]:
    return [
        ua.Variant(name, ua.VariantType.String),
        ua.Variant(version, ua.VariantType.UInt32),
        ua.Variant(sha256, ua.VariantType.String),
    ]


async def test_a_write_goes_to_the_device_and_not_into_the_address_space(
    plant: Plant, client: Client
) -> None:
    plant.press(sp_speed=20.0)
    node = client.get_node(plant_id(SPEED))
    await until(lambda: _is(client, SPEED, 20.0))
    assert await write(client, SPEED, 30.0, FLOAT) == 0
    (tag, value, user) = plant.asked.writes[0]
    assert (tag, value) == ("press/sp_speed", 30.0)
    assert "127.0.0.1" in user
    assert await node.read_value() == 20.0
    plant.press(sp_speed=30.0)
    await until(lambda: _is(client, SPEED, 30.0))


async def _is(client: Client, name: str, expected: Any) -> bool:
    found = await client.get_node(plant_id(name)).read_data_value(raise_on_bad_status=False)
    return bool(found.Value.Value == expected)


@pytest.mark.parametrize("status", [GOOD_CLAMPED, BAD_TIMEOUT, BAD_NO_COMMUNICATION, BAD_INVALID_STATE])
async def test_a_client_gets_the_answer_of_the_plc(plant: Plant, client: Client, status: int) -> None:
    plant.asked.write_reply = Reply(status, "because")
    assert await write(client, SPEED, 30.0, FLOAT) == status


@pytest.mark.parametrize(
    ("name", "value", "kind", "status"),
    [
        (SPEED, 61.0, FLOAT, BAD_OUT_OF_RANGE),
        (SPEED, math.nan, FLOAT, BAD_OUT_OF_RANGE),
        (SPEED, 30.0, ua.VariantType.Double, BAD_TYPE_MISMATCH),
        (SPEED, [30.0], FLOAT, BAD_TYPE_MISMATCH),
        ("Press01.Process.sp_recipe", "too long!", ua.VariantType.String, BAD_OUT_OF_RANGE),
        ("Press01.Process.die_temp", 3.0, FLOAT, BAD_NOT_WRITABLE),
        ("Press01.Inference.press-anomaly.Verdict", 1, ua.VariantType.Int32, BAD_NOT_WRITABLE),
        ("Press01.Process.sp_speed.EURange", 1, ua.VariantType.Int32, BAD_NOT_WRITABLE),
    ],
)
async def test_a_write_that_may_not_be_never_leaves_the_server(
    plant: Plant, client: Client, name: str, value: Any, kind: ua.VariantType, status: int
) -> None:
    assert await write(client, name, value, kind) == status
    assert plant.asked.writes == []


async def test_a_slow_write_delays_no_read(plant: Plant, client: Client) -> None:
    plant.asked.delay_s = 0.5
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write(client, SPEED, 30.0, FLOAT))
        await asyncio.sleep(0.05)
        node = client.get_node(plant_id("Press01.Process.die_temp"))
        await node.read_data_value(raise_on_bad_status=False)
        assert not writing.done()


async def test_load_model_answers_at_once_with_a_job(plant: Plant, client: Client) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    found = await client.get_node(plant_id("Models")).call_method(plant_id("Models.LoadModel"), *arguments())
    assert loop.time() - started < 0.2  # not when the job is done
    assert found == "job-1"
    name, version, sha256, user = plant.asked.loads[0]
    assert (name, version, sha256) == ("press-anomaly", 2, SHA_B)
    assert "127.0.0.1" in user


@pytest.mark.parametrize(
    ("given", "status", "each"),
    [
        (arguments()[:2], ua.StatusCodes.BadArgumentsMissing, None),
        ([*arguments(), *arguments()], ua.StatusCodes.BadTooManyArguments, None),
        (
            [arguments()[0], ua.Variant("2", ua.VariantType.String), arguments()[2]],
            ua.StatusCodes.BadInvalidArgument,
            [0, BAD_TYPE_MISMATCH, 0],
        ),
        (arguments("../x"), ua.StatusCodes.BadInvalidArgument, [BAD_OUT_OF_RANGE, 0, 0]),
        (arguments(sha256="abc"), ua.StatusCodes.BadInvalidArgument, [0, 0, BAD_OUT_OF_RANGE]),
    ],
)
async def test_load_model_says_which_argument_is_wrong(
    plant: Plant, client: Client, given: list[ua.Variant], status: int, each: list[int] | None
) -> None:
    answer = await load(client, *given)
    assert answer.StatusCode.value == status
    if each is not None:
        assert [one.value for one in answer.InputArgumentResults] == each
    assert plant.asked.loads == []


async def test_a_refused_load_has_the_status_of_the_refusal(plant: Plant, client: Client) -> None:
    plant.asked.load_reply = Reply(BAD_INVALID_STATE, "a job runs already")
    assert (await load(client, *arguments())).StatusCode.value == BAD_INVALID_STATE


@pytest.mark.parametrize(
    "notifier",
    [ua.NodeId(ua.ObjectIds.Server), plant_id("Press01"), plant_id("Models")],
    ids=["Server", "machine", "Models"],
)
async def test_a_job_is_told_by_events_and_variables(
    plant: Plant, client: Client, notifier: ua.NodeId
) -> None:
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(notifier, client.get_node(Ids.JOB_EVENT_TYPE), queuesize=20)
    body = {"job": "job-9", "kind": "load", "name": "press-anomaly", "version": 2, "note": "better"}
    body["pipelines"] = ["press-anomaly"]
    seen = {"compared": 20, "wanted": 50, "agreement": 0.95, "agreement_low": 0.76}
    states = [("Queued", 0), ("Loading", 10), ("Validating", 50), ("Shadow", 70), ("Switching", 90)]
    states.append(("Active", 100))
    for state, percent in states:
        more = {"shadow": seen} if state == "Shadow" else {}
        await plant.server.on_job({**body, "state": state, "percent": percent, "reason": "", **more})
    await watcher.wait(6)
    assert [(event.State, event.Progress) for event in watcher.events] == states
    assert {(event.Context, event.Kind, event.Note) for event in watcher.events} == {
        ("job-9", "load", "better")
    }
    assert {tuple(event.Pipelines) for event in watcher.events} == {("press-anomaly",)}
    shadow = watcher.events[3]
    assert (shadow.ShadowCompared, shadow.ShadowWanted) == (20, 50)
    assert (shadow.ShadowAgreement, shadow.ShadowAgreementLow) == (0.95, 0.76)
    await until(lambda: _is(client, "Models.LastJob.State", "Active"))
    assert await _is(client, "Models.LastJob.JobId", "job-9")
    assert await _is(client, "Models.LastJob.Percent", 100)
    assert await _is(client, "Models.LastJob.Pipelines", ["press-anomaly"])
    failed = {**body, "version": 1, "state": "Failed", "percent": 40, "reason": "hash differs"}
    await plant.server.on_job(failed)
    await watcher.wait(7)
    await subscription.delete()
    assert (watcher.events[6].Severity, watcher.events[6].Reason) == (600, "hash differs")


async def test_a_version_that_appears_is_shown_and_one_that_goes_is_retired(
    plant: Plant, client: Client
) -> None:
    added = ModelInfo("press-anomaly", 3, "c" * 64, "Available", ("a",))
    await plant.server.on_models([*MODELS[:1], added])
    assert await _is(client, "Models.press-anomaly.3.Sha256", "c" * 64)
    assert await _is(client, "Models.press-anomaly.2.State", "Retired")
    await plant.server.on_models(MODELS)
    assert await _is(client, "Models.press-anomaly.2.State", "Available")
    assert await _is(client, "Models.press-anomaly.3.State", "Retired")


async def test_a_client_is_told_when_a_version_of_a_model_appears(plant: Plant, client: Client) -> None:
    # Part 3 §9.32, Part 5 §6.4.32: GeneralModelChangeEventType on Server, and a new NodeVersion.
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    kind = client.get_node(ua.ObjectIds.GeneralModelChangeEventType)
    await subscription.subscribe_events(ua.NodeId(ua.ObjectIds.Server), kind, queuesize=20)
    version = client.get_node(plant_id("Models.NodeVersion"))
    before = await version.read_value()
    added = ModelInfo("press-anomaly", 4, "d" * 64, "Available", ("a",))
    await plant.server.on_models([*MODELS, added])
    await plant.server.on_models(MODELS)  # what goes becomes Retired: its node stays, nothing is told
    await watcher.wait(1)
    changes = {(change.Affected, change.Verb) for change in watcher.events[0].Changes}
    assert changes == {(plant_id("Models.press-anomaly.4"), 1), (plant_id("Models"), 4)}
    assert watcher.events[0].SourceNode == ua.NodeId(ua.ObjectIds.Server)
    assert await version.read_value() != before
    await subscription.delete()
    assert len(watcher.events) == 1
