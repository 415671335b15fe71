"""A model's life as clients see it: methods by role, audit, jobs, outcomes, alarms, watch and shadow."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from asyncua import Client, ua

from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_OUT_OF_RANGE,
    BAD_USER_ACCESS_DENIED,
)
from edge_opcua.inference.watch.latency import BOUNDS_US
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.namespaces import Ids, plant_id
from edge_opcua.security.roles import parse_roles
from edge_opcua.security.users import Cost, UserStore
from tests.opcua.plant import (
    FEATURES,
    MODELS,
    SHA_A,
    SHA_B,
    Ground,
    Plant,
    Watcher,
    configuration,
    prepare,
    running,
    until,
)
from tests.opcua.test_respace import change

ENGINE = "Press01.Inference.press-anomaly"
SERVER = ua.NodeId(ua.ObjectIds.Server)
TYPE_MISMATCH = ua.StatusCodes.BadTypeMismatch
INVALID_ARGUMENT = ua.StatusCodes.BadInvalidArgument
KINDS = ua.VariantType
RECORDS: list[Mapping[str, Any]] = []


def text(value: str | None) -> ua.Variant:
    return ua.Variant(value, KINDS.String)


def number(value: int) -> ua.Variant:
    return ua.Variant(value, KINDS.UInt32)


def answer_of(value: int) -> ua.Variant:
    return ua.Variant(value, KINDS.Int32)


LOAD = (number(2), text(SHA_B.upper()), number(200), text("retrained on May"))
ANSWER = (text("7003"), answer_of(3), text("cable was loose"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def users(ground: Ground) -> UserStore:
    store = UserStore(ground.root, cost=Cost(n=2**10, r=8, p=1))
    for role in ("observer", "operator", "engineer", "supervisor"):
        store.add(role, parse_roles([role]), password=f"{role} has a password")
    return store


@pytest.fixture(scope="module")
async def standing(ground: Ground, users: UserStore) -> AsyncIterator[Plant]:
    async with running(ground, users=users, journal=RECORDS.append) as plant:
        yield plant


@pytest.fixture
def plant(standing: Plant) -> Plant:
    standing.asked.models.clear()
    standing.asked.load_reply = Reply(body={"job": "job-1"})
    standing.asked.answer_reply = Reply()
    RECORDS.clear()
    return standing


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    """A program: its certificate has the roles operator and engineer."""
    async with await plant.client() as client:
        yield client


async def signed_in(plant: Plant, role: str) -> Client:
    client = await plant.client()
    client.set_user(role)
    client.set_password(f"{role} has a password")
    return client


async def call(client: Client, owner: str, method: str, *arguments: ua.Variant) -> ua.CallMethodResult:
    request = ua.CallMethodRequest()
    request.ObjectId = plant_id(owner)
    request.MethodId = plant_id(f"{owner}.{method}")
    request.InputArguments = list(arguments)
    return (await client.uaclient.call([request]))[0]


async def shown(client: Client, name: str) -> Any:
    return (await client.get_node(plant_id(name)).read_data_value(raise_on_bad_status=False)).Value.Value


async def shows(client: Client, name: str, value: Any) -> None:
    async def is_there() -> bool:
        return bool(await shown(client, name) == value)

    await until(is_there)


# --- methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "method", "arguments", "request_kind", "body"),
    [
        (
            ENGINE,
            "LoadModel",
            LOAD,
            "load_model",
            {
                "name": "press-anomaly",
                "version": 2,
                "sha256": SHA_B,
                "pipelines": ["press-anomaly"],
                "shadow": 200,
                "note": "retrained on May",
            },
        ),
        (
            ENGINE,
            "RollbackModel",
            (text("bad"),),
            "rollback_model",
            {"pipeline": "press-anomaly", "note": "bad"},
        ),
        (
            "Models",
            "ValidateModel",
            (text("press-anomaly"), number(2), text(None)),
            "validate_model",
            {"name": "press-anomaly", "version": 2, "sha256": ""},
        ),
        (
            "Models",
            "RollbackModel",
            (text("press-anomaly"), text(None)),
            "rollback_model",
            {"name": "press-anomaly", "note": ""},
        ),
    ],
)
async def test_each_method_is_one_request_and_answers_with_its_job(
    plant: Plant,
    client: Client,
    owner: str,
    method: str,
    arguments: tuple[ua.Variant, ...],
    request_kind: str,
    body: dict[str, Any],
) -> None:
    answer = await call(client, owner, method, *arguments)
    assert [each.Value for each in answer.OutputArguments] == ["job-1"]
    ((kind, asked),) = plant.asked.models
    user = asked.pop("user")
    assert (kind, asked) == (request_kind, body)
    assert "127.0.0.1" in user


async def test_no_shadow_captures_means_as_configured(plant: Plant, client: Client) -> None:
    # A client that leaves 0 must not switch off what the configuration demands.
    answer = await call(client, ENGINE, "LoadModel", number(2), text(SHA_B), number(0), text(""))
    assert answer.StatusCode.is_good()
    assert "shadow" not in plant.asked.models[0][1]


@pytest.mark.parametrize(
    ("owner", "method", "arguments", "each"),
    [
        (ENGINE, "LoadModel", (number(0), *LOAD[1:]), [BAD_OUT_OF_RANGE, 0, 0, 0]),
        (ENGINE, "LoadModel", (LOAD[0], text(""), *LOAD[2:]), [0, BAD_OUT_OF_RANGE, 0, 0]),
        (ENGINE, "LoadModel", (*LOAD[:2], number(1_000_001), LOAD[3]), [0, 0, BAD_OUT_OF_RANGE, 0]),
        (ENGINE, "LoadModel", (*LOAD[:3], text("x" * 501)), [0, 0, 0, BAD_OUT_OF_RANGE]),
        (ENGINE, "RollbackModel", (text("x" * 501),), [BAD_OUT_OF_RANGE]),
        (ENGINE, "AnswerVerdict", (text("7;drop"), *ANSWER[1:]), [BAD_OUT_OF_RANGE, 0, 0]),
        # Part 3 §8.14: an enumeration has the members that it has.
        (ENGINE, "AnswerVerdict", (ANSWER[0], answer_of(4), ANSWER[2]), [0, BAD_OUT_OF_RANGE, 0]),
        (ENGINE, "AnswerVerdict", (ANSWER[0], text("real"), ANSWER[2]), [0, TYPE_MISMATCH, 0]),
        ("Models", "ValidateModel", (text("../x"), number(1), text("")), [BAD_OUT_OF_RANGE, 0, 0]),
        ("Models", "ValidateModel", (text("a"), number(1), text("abc")), [0, 0, BAD_OUT_OF_RANGE]),
        ("Models", "RollbackModel", (text("a/b"), text("")), [BAD_OUT_OF_RANGE, 0]),
    ],
)
async def test_what_cannot_be_is_refused_before_anybody_is_asked(
    plant: Plant,
    client: Client,
    owner: str,
    method: str,
    arguments: tuple[ua.Variant, ...],
    each: list[int],
) -> None:
    answer = await call(client, owner, method, *arguments)
    assert answer.StatusCode.value == INVALID_ARGUMENT
    assert [one.value for one in answer.InputArgumentResults] == each
    assert plant.asked.models == []


@pytest.mark.parametrize(
    ("number_of", "word"), [(0, "unknown"), (1, "real"), (2, "normal"), (3, "sensor_fault")]
)
async def test_an_answer_travels_as_the_word_of_its_number(
    plant: Plant, client: Client, number_of: int, word: str
) -> None:
    answer = await call(client, ENGINE, "AnswerVerdict", ANSWER[0], answer_of(number_of), ANSWER[2])
    assert (answer.StatusCode.value, answer.OutputArguments) == (0, [])
    ((kind, body),) = plant.asked.models
    assert kind == "answer_verdict"
    assert (body["pipeline"], body["result_id"], body["answer"]) == ("press-anomaly", "7003", word)
    assert body["note"] == "cable was loose"


async def test_a_refusal_has_the_status_of_who_refused(plant: Plant, client: Client) -> None:
    refused = Reply(BAD_INVALID_STATE, "M633: there is no former version")
    plant.asked.load_reply = plant.asked.answer_reply = refused
    for method, arguments in (("RollbackModel", (text(""),)), ("AnswerVerdict", ANSWER)):
        answer = await call(client, ENGINE, method, *arguments)
        assert (answer.StatusCode.value, answer.OutputArguments) == (BAD_INVALID_STATE, [])


async def test_a_result_that_is_not_kept_any_more_is_not_found(plant: Plant, client: Client) -> None:
    plant.asked.answer_reply = Reply(BAD_NODE_ID_UNKNOWN, "result 7003 is not kept, or not any more")
    answer = await call(client, ENGINE, "AnswerVerdict", *ANSWER)
    assert answer.StatusCode.value == ua.StatusCodes.BadNotFound


MAY = {
    "observer": set[str](),
    "operator": {"AnswerVerdict"},
    "supervisor": {"AnswerVerdict"},
    "engineer": {"LoadModel", "RollbackModel", "ValidateModel"},
}


@pytest.mark.parametrize("role", sorted(MAY))
async def test_engineers_change_models_and_operators_answer_verdicts(plant: Plant, role: str) -> None:
    asked = (
        (ENGINE, "LoadModel", LOAD),
        (ENGINE, "RollbackModel", (text(""),)),
        (ENGINE, "AnswerVerdict", ANSWER),
        ("Models", "ValidateModel", (text("press-anomaly"), number(2), text(SHA_B))),
        ("Models", "RollbackModel", (text("press-anomaly"), text(""))),
    )
    async with await signed_in(plant, role) as client:
        for owner, method, arguments in asked:
            answer = await call(client, owner, method, *arguments)
            assert answer.StatusCode.value == (0 if method in MAY[role] else BAD_USER_ACCESS_DENIED), method
            node = client.get_node(plant_id(f"{owner}.{method}"))
            executable = await node.read_attribute(ua.AttributeIds.UserExecutable)
            assert executable.Value.Value is (method in MAY[role]), method
    assert len(plant.asked.models) == sum(method in MAY[role] for _, method, _ in asked)


async def test_each_call_is_in_the_journal_once(plant: Plant, client: Client) -> None:
    def kept() -> list[Any]:
        return [each.get("why") for each in RECORDS if each["what"] == "method.called"]

    await call(client, ENGINE, "LoadModel", *LOAD)  # the supervisor keeps the record of its job
    assert kept() == []
    await call(client, ENGINE, "AnswerVerdict", *ANSWER)  # nobody has said that he keeps it
    assert kept() == ["cable was loose"]
    plant.asked.answer_reply = Reply(body={"id": 17, "former": None})
    await call(client, ENGINE, "AnswerVerdict", *ANSWER)
    assert len(kept()) == 1


async def test_an_audit_event_tells_who_answered_what(plant: Plant) -> None:
    # Part 5 §6.5.23.
    watcher = Watcher()
    async with await signed_in(plant, "supervisor") as client:
        subscription = await client.create_subscription(20, watcher)
        kind = client.get_node(ua.ObjectIds.AuditUpdateMethodEventType)
        await subscription.subscribe_events(SERVER, kind, queuesize=20)
        await call(client, ENGINE, "AnswerVerdict", *ANSWER)
        await watcher.wait(1)
        await subscription.delete()
    (event,) = watcher.events
    assert event.MethodId == plant_id(f"{ENGINE}.AnswerVerdict")
    assert "supervisor" in event.ClientUserId
    assert [each.Value for each in event.InputArguments] == ["7003", 3, "cable was loose"]


async def test_arguments_say_what_they_mean_and_the_answer_is_an_enumeration(client: Client) -> None:
    node = client.get_node(plant_id(f"{ENGINE}.AnswerVerdict.InputArguments"))
    arguments = await node.read_value()
    assert [each.Name for each in arguments] == ["ResultId", "Answer", "Note"]
    assert all(each.Description.Text for each in arguments)
    kind = arguments[1].DataType
    assert kind == Ids.VERDICT_ANSWER
    names = await (await client.get_node(kind).get_child("0:EnumStrings")).read_value()
    assert [each.Text for each in names] == ["UNKNOWN", "REAL", "NORMAL", "SENSOR_FAULT"]


async def test_methods_of_a_pipeline_come_and_go_with_it(ground: Ground) -> None:
    whole = configuration().model_dump()
    second = {**whole["pipelines"][0], "name": "second", "model": "other"}
    both = configuration(pipelines=[*whole["pipelines"], second])
    async with running(ground) as plant, await plant.client() as client:
        await change(plant, both)
        owner = "Press01.Inference.second"
        assert (await call(client, owner, "LoadModel", *LOAD)).StatusCode.is_good()
        assert plant.asked.models[-1][1]["name"] == "other"
        await change(plant, configuration())
        gone = await call(client, owner, "LoadModel", *LOAD)
        assert gone.StatusCode.value == ua.StatusCodes.BadNodeIdUnknown
        assert (await call(client, ENGINE, "LoadModel", *LOAD)).StatusCode.is_good()


# --- jobs and outcomes ------------------------------------------------------------------------------------


async def subscribed(client: Client, watcher: Watcher, kind: ua.NodeId, notifier: ua.NodeId = SERVER) -> Any:
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(notifier, client.get_node(kind), queuesize=50)
    return subscription


def versions(active: int, *, other: str = "Available", reason: str = "") -> list[ModelInfo]:
    """The repository with one version active, and the other in some state."""
    return [
        replace(each, state="Active", pipelines=("press-anomaly",), reason="")
        if each.version == active
        else replace(each, state=other, pipelines=(), reason=reason)
        for each in MODELS
    ]


async def test_the_end_of_a_job_says_who_what_from_to_and_why(plant: Plant, client: Client) -> None:
    watcher = Watcher()
    await plant.server.on_models(MODELS)
    subscription = await subscribed(client, watcher, Ids.MODEL_CHANGED_EVENT_TYPE)
    job = {
        "job": "job-5",
        "kind": "load",
        "name": "press-anomaly",
        "version": 2,
        "pipelines": ["press-anomaly"],
        "user": "ada",
        "note": "retrained",
    }
    await plant.server.on_job({**job, "state": "Queued"})
    await plant.server.on_models(versions(2, other="Standby"))
    await plant.server.on_job({**job, "state": "Active", "percent": 100})
    back = {**job, "job": "job-6", "kind": "rollback", "user": "edge-opcua", "note": ""}
    await plant.server.on_job({**back, "state": "Queued"})
    await plant.server.on_models(versions(1, other="Quarantined", reason="M652: too slow"))
    await plant.server.on_job({**back, "state": "RolledBack", "reason": ""})
    again = {**job, "job": "job-7", "state": "Failed", "reason": "M635: version 2 is in quarantine"}
    await plant.server.on_job({**again, "state": "Queued", "reason": ""})
    await plant.server.on_job(again)
    await watcher.wait(3)
    await subscription.delete()
    seen = [
        (each.JobId, each.Outcome, each.FromVersion, each.ToVersion, each.User, each.Severity)
        for each in watcher.events
    ]
    assert seen == [
        ("job-5", "Active", 1, 2, "ada", 200),
        ("job-6", "RolledBack", 2, 1, "edge-opcua", 600),
        ("job-7", "Failed", 1, 1, "ada", 600),
    ]
    assert watcher.events[0].Note == "retrained"
    assert watcher.events[2].Reason == "M635: version 2 is in quarantine"
    assert "back to version 1 from 2" in watcher.events[1].Message.Text
    assert await shown(client, "Models.press-anomaly.2.State") == "Quarantined"
    assert await shown(client, "Models.press-anomaly.2.Reason") == "M652: too slow"
    assert await shown(client, "Models.press-anomaly.1.Pipelines") == ["press-anomaly"]
    await plant.server.on_models(MODELS)


async def test_the_last_job_is_known_after_a_restart_and_told_to_nobody_again(
    plant: Plant, client: Client
) -> None:
    watcher = Watcher()
    subscription = await subscribed(client, watcher, Ids.JOB_EVENT_TYPE)
    job = {"job": "job-11", "kind": "load", "name": "press-anomaly", "version": 2, "state": "Shadow"}
    await plant.server.on_last_job(job)
    assert await shown(client, "Models.LastJob.JobId") == "job-11"
    await plant.server.on_job({**job, "state": "Switching"})
    await watcher.wait(1)
    await subscription.delete()
    assert [each.State for each in watcher.events] == ["Switching"]


async def test_a_version_shows_its_age_precision_and_where_it_comes_from(client: Client) -> None:
    name = "Models.press-anomaly.2"
    found = {member: await shown(client, f"{name}.{member}") for member in ("MaxAgeDays", "WhenOld")}
    assert found == {"MaxAgeDays": 90.0, "WhenOld": "degrade"}
    assert (await shown(client, f"{name}.Trained")).year == 2026
    assert await shown(client, f"{name}.Precision") == "int8"
    assert await shown(client, f"{name}.Provenance.author") == "Ada"
    assert await shown(client, f"{name}.Provenance.rows") == 400
    untold = await client.get_node(plant_id("Models.press-anomaly.1.Trained")).read_data_value()
    assert (untold.Value.Value, untold.StatusCode.is_good()) == (None, True)


async def test_a_version_that_is_mended_shows_what_it_is(plant: Plant, client: Client) -> None:
    broken = ModelInfo("press-anomaly", 8, "", "Failed", reason="M507: manifest.toml is missing")
    await plant.server.on_models([*MODELS, broken])
    assert await shown(client, "Models.press-anomaly.8.Reason") == "M507: manifest.toml is missing"
    whole = ModelInfo("press-anomaly", 8, SHA_A, trained_ns=MODELS[1].trained_ns, precision="float16")
    await plant.server.on_models([*MODELS, whole])
    found = {each: await shown(client, f"Models.press-anomaly.8.{each}") for each in ("State", "Reason")}
    assert found == {"State": "Available", "Reason": ""}
    assert await shown(client, "Models.press-anomaly.8.Sha256") == SHA_A
    assert await shown(client, "Models.press-anomaly.8.Precision") == "float16"
    await plant.server.on_models(MODELS)
    assert await shown(client, "Models.press-anomaly.8.State") == "Retired"
    assert await shown(client, "Models.press-anomaly.8.Sha256") == SHA_A


# --- watch and shadow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("notifier", [SERVER, plant_id("Press01"), plant_id(ENGINE)])
async def test_an_alarm_of_a_running_model_is_an_event_of_its_pipeline(
    plant: Plant, client: Client, notifier: ua.NodeId
) -> None:
    watcher = Watcher()
    subscription = await subscribed(client, watcher, Ids.MODEL_ALARM_EVENT_TYPE, notifier)
    body = {
        "pipeline": "press-anomaly",
        "model": "press-anomaly/2",
        "kind": "drift",
        "active": True,
        "value": 0.31,
        "limit": 0.25,
        "text": "rms is not what it was",
        "since_ns": plant.clock.utc_ns(),
        "code": "M654",
    }
    await plant.server.on_alarm(body)
    await plant.server.on_alarm({**body, "active": False, "value": None})
    await plant.server.on_alarm({**body, "pipeline": "unheard of"})
    await watcher.wait(2)
    await subscription.delete()
    came, went = watcher.events
    assert (came.SourceNode, came.SourceName) == (plant_id(ENGINE), "press-anomaly")
    assert (came.ModelName, came.ModelVersion, came.Kind, came.Code) == ("press-anomaly", 2, "drift", "M654")
    assert (came.Active, came.Value, came.Limit, came.Severity) == (True, 0.31, 0.25, 500)
    assert came.Message.Text == "press-anomaly: rms is not what it was"
    assert (went.Active, went.Severity) == (False, 200)
    assert math.isnan(went.Value)
    assert "no longer" in went.Message.Text


async def test_watch_and_shadow_mirror_their_blocks(plant: Plant, client: Client) -> None:
    pipeline = plant.config.pipelines[0]
    counts = np.arange(len(BOUNDS_US) + 1, dtype=np.uint64)
    for block, values in (
        (
            pipeline.watch_block,
            {
                "alarms": 16,
                "alarm": "drift of rms",
                "psi_max": 0.31,
                "latency_us": counts,
                "age_state": "fresh",
            },
        ),
        (pipeline.shadow_block, {"state": "Shadow", "model_version": 2, "compared": 40, "agreement": 0.975}),
    ):
        plant.stamp(block)
        batch = plant.writer(block).batch
        for name, value in values.items():
            batch.set(batch.row(name), value)
        plant.writer(block).publish()
    await shows(client, f"{ENGINE}.Watch.Alarms", 16)
    assert await shown(client, f"{ENGINE}.Watch.Alarm") == "drift of rms"
    assert await shown(client, f"{ENGINE}.Watch.PsiMax") == 0.31
    assert await shown(client, f"{ENGINE}.Watch.LatencyHistogram") == counts.tolist()
    assert await shown(client, f"{ENGINE}.Watch.LatencyBounds") == list(BOUNDS_US)
    await shows(client, f"{ENGINE}.Shadow.Compared", 40)
    assert await shown(client, f"{ENGINE}.Shadow.Agreement") == 0.975


async def test_a_result_says_which_class_was_recognised(plant: Plant, client: Client) -> None:
    watcher = Watcher()
    subscription = await subscribed(client, watcher, Ids.RESULT_EVENT_TYPE)
    plant.result(9, label="bearing outer race", model_sha256=SHA_A, features=np.ones(len(FEATURES)))
    await watcher.wait(1)
    await subscription.delete()
    assert watcher.events[0].Label == "bearing outer race"
    assert "OK, bearing outer race, score" in watcher.events[0].Message.Text
    await shows(client, f"{ENGINE}.Label", "bearing outer race")
