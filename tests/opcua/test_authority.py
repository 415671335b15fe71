"""Outputs as operators see them: members, methods by role, events, and who may write their tags."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NOT_WRITABLE,
    BAD_USER_ACCESS_DENIED,
    GOOD_LOCAL_OVERRIDE,
)
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.identity import guard_identity
from edge_opcua.opcua.namespaces import Ids, plant_id
from edge_opcua.security.roles import parse_roles
from edge_opcua.security.users import Cost, UserStore
from tests.opcua.plant import (
    INTERFACE,
    LOST_S,
    Ground,
    Plant,
    Watcher,
    configuration,
    output,
    prepare,
    running,
    until,
)
from tests.opcua.test_commands import write
from tests.opcua.test_respace import change, space_of

CODES = ua.StatusCodes
OUTPUTS = "Press01.Outputs"
SPEED = "Press01.Process.sp_speed"
METHODS = ("Acknowledge", "GrantAuthority", "RevokeAuthority", "TakeManual", "ReturnToAutomatic")
USER_ACCESS_LEVEL, CURRENT_WRITE = ua.AttributeIds.UserAccessLevel, 2
VERDICT = output("verdict", interface=INTERFACE)
GRANTED = output("verdict", interface=INTERFACE, granted_by="operator")
VALUES = [
    {"tag": "press/sp_speed", "source": "score", "writers": ["operator", "program", "model"]},
    {"tag": "press/ack", "source": "verdict", "kind": "bit"},
]
SPEEDS = output("speed", values=VALUES, acknowledged_by="plc")


def outputs(*given: dict[str, Any]) -> EdgeConfig:
    return configuration(outputs=list(given))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def users(ground: Ground) -> UserStore:
    store = UserStore(ground.root, cost=Cost(n=2**10, r=8, p=1))
    for role in ("observer", "operator", "engineer", "supervisor"):
        store.add(role, parse_roles([role]), password=f"{role} has a password")
    return store


RECORDS: list[Mapping[str, Any]] = []


@pytest.fixture(scope="module")
async def standing(ground: Ground, users: UserStore) -> AsyncIterator[Plant]:
    async with running(ground, outputs(GRANTED, SPEEDS), users=users, journal=RECORDS.append) as plant:
        yield plant


@pytest.fixture
def plant(standing: Plant) -> Plant:
    standing.asked.acts.clear()
    standing.asked.written.clear()
    standing.asked.gone.clear()
    standing.asked.act_reply = Reply()
    RECORDS.clear()
    return standing


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    """A program: its certificate has the roles operator and engineer, and nobody has signed in."""
    async with await plant.client() as client:
        yield client


async def signed_in(plant: Plant, role: str) -> Client:
    """Return a client, not connected yet, whose user has a role."""
    client = await plant.client()
    client.set_user(role)
    client.set_password(f"{role} has a password")
    return client


async def call(client: Client, name: str, method: str, comment: Any = "why not") -> int:
    request = ua.CallMethodRequest()
    request.ObjectId = plant_id(f"{OUTPUTS}.{name}")
    request.MethodId = plant_id(f"{OUTPUTS}.{name}.{method}")
    request.InputArguments = [ua.Variant(comment, ua.VariantType.String)]
    return int((await client.uaclient.call([request]))[0].StatusCode.value)


async def members(client: Client, name: str) -> set[str]:
    node = client.get_node(plant_id(f"{OUTPUTS}.{name}"))
    return {(await each.read_browse_name()).Name for each in await node.get_children()}


async def shown(client: Client, name: str) -> ua.DataValue:
    return await client.get_node(plant_id(f"{OUTPUTS}.{name}")).read_data_value(raise_on_bad_status=False)


async def shows(client: Client, name: str, value: Any) -> None:
    async def is_there() -> bool:
        return bool((await shown(client, name)).Value.Value == value)

    await until(is_there)


async def attribute(client: Client, name: str, wanted: ua.AttributeIds) -> Any:
    return (await client.get_node(plant_id(name)).read_attribute(wanted)).Value.Value


async def test_an_output_has_the_members_and_methods_of_its_kind(plant: Plant, client: Client) -> None:
    common = {"State", "Fault", "Reason", "Since", "Writer", "Granted", "AckRequired", "PlcLatched"}
    common |= {"PlcTrusts", "Heartbeat", "ResultSeq", "Writes", "Refused", "Indeterminate", "LandedLate"}
    assert await members(client, "verdict") == common | set(METHODS)
    # Nobody but the PLC may acknowledge this one, and nobody has to grant anything.
    assert await members(client, "speed") == common | {"Values", "TakeManual", "ReturnToAutomatic"}


async def test_what_the_writing_process_says_is_shown(plant: Plant, client: Client) -> None:
    since_ns = plant.clock.utc_ns() // 1_000_000 * 1_000_000
    plant.authority(
        "verdict", state="HOLD", fault="INPUT", writer="model", since_ns=since_ns, result_seq=65535
    )
    await shows(client, "verdict.Fault", "INPUT")
    assert (await shown(client, "verdict.Writer")).Value.Value == "model"
    assert (await shown(client, "verdict.ResultSeq")).Value.Value == 65535
    since = (await shown(client, "verdict.Since")).Value.Value
    assert since.timestamp() == pytest.approx(since_ns / 1e9, abs=1e-5)


async def test_what_is_written_per_tag_has_type_range_unit_and_status(plant: Plant, client: Client) -> None:
    plant.stamp("speed.authority")
    batch = plant.writer("speed.authority").batch
    for name, value in {"state": "MANUAL", "value.0": 42.5, "value.1": 1.0}.items():
        batch.set(batch.row(name), value)
    batch.status[batch.row("value.0")] = GOOD_LOCAL_OVERRIDE
    plant.writer("speed.authority").publish()
    await shows(client, "speed.Values.sp_speed", 42.5)
    found = await shown(client, "speed.Values.sp_speed")
    assert (found.Value.VariantType, found.StatusCode.value) == (ua.VariantType.Double, GOOD_LOCAL_OVERRIDE)
    assert (await shown(client, "speed.Values.ack")).Value == ua.Variant(True, ua.VariantType.Boolean)
    limits = (await shown(client, "speed.Values.sp_speed.EURange")).Value.Value
    assert (limits.Low, limits.High) == (10.0, 60.0)
    units = (await shown(client, "speed.Values.sp_speed.EngineeringUnits")).Value.Value
    assert units.DisplayName.Text == "1/min"


async def test_each_method_asks_for_its_action_in_the_name_of_its_caller(
    plant: Plant, client: Client
) -> None:
    for method in METHODS:
        assert await call(client, "verdict", method, "line 3 is clear") == 0
    assert [act.action for act in plant.asked.acts] == [
        "acknowledge",
        "grant",
        "revoke",
        "manual",
        "automatic",
    ]
    assert {(act.output, act.why) for act in plant.asked.acts} == {("verdict", "line 3 is clear")}
    assert all("127.0.0.1" in act.user for act in plant.asked.acts)


async def test_a_comment_may_be_left_empty_and_has_an_end(plant: Plant, client: Client) -> None:
    assert await call(client, "verdict", "Acknowledge", None) == 0
    assert plant.asked.acts[0].why == ""
    assert await call(client, "verdict", "Acknowledge", "x" * 501) == CODES.BadInvalidArgument
    assert len(plant.asked.acts) == 1


async def test_what_the_writing_process_answers_is_the_answer(plant: Plant, client: Client) -> None:
    plant.asked.act_reply = Reply(BAD_INVALID_STATE, "verdict is ACTIVE: there is nothing to acknowledge")
    assert await call(client, "verdict", "Acknowledge") == BAD_INVALID_STATE


@pytest.mark.parametrize(
    ("role", "answer"),
    [
        ("observer", CODES.BadUserAccessDenied),
        ("engineer", CODES.BadUserAccessDenied),  # Part 18 §4.2: roles are not a ladder
        ("operator", 0),
        ("supervisor", 0),
    ],
)
async def test_operators_and_above_may_call_the_methods(plant: Plant, role: str, answer: int) -> None:
    async with await signed_in(plant, role) as person:
        for method in METHODS:
            name = f"{OUTPUTS}.verdict.{method}"
            assert await attribute(person, name, ua.AttributeIds.UserExecutable) is (answer == 0)
            assert await call(person, "verdict", method) == answer
    assert len(plant.asked.acts) == (0 if answer else len(METHODS))


async def test_a_call_is_in_the_journal_once_with_who_and_why(plant: Plant, client: Client) -> None:
    async with await signed_in(plant, "operator") as person:
        assert await call(person, "verdict", "TakeManual", "set-up") == 0
        # The process that writes keeps a record of its own, with what came of it.
        plant.asked.act_reply = Reply(body={"recorded": True})
        assert await call(person, "verdict", "ReturnToAutomatic") == 0
    (record,) = (each for each in RECORDS if each["what"] == "method.called")
    assert (record["user"], record["why"], record["outcome"]) == ("operator", "set-up", "Good")
    assert record["node"].endswith(f"{OUTPUTS}.verdict")


async def test_a_call_is_an_audit_event_for_those_who_may_know(plant: Plant, client: Client) -> None:
    watcher = Watcher()
    async with await signed_in(plant, "supervisor") as chief:
        subscription = await chief.create_subscription(20, watcher)
        await subscription.subscribe_events(
            ua.NodeId(ua.ObjectIds.Server), ua.NodeId(ua.ObjectIds.AuditUpdateMethodEventType)
        )
        await call(client, "verdict", "Acknowledge", "guard closed again")
        await watcher.wait(1)
    event = watcher.events[0]
    assert event.MethodId == plant_id(f"{OUTPUTS}.verdict.Acknowledge")
    assert [each.Value for each in event.InputArguments] == ["guard closed again"]


async def test_operators_see_that_an_output_fell_safe_waits_and_is_back(plant: Plant, client: Client) -> None:
    plant.authority("verdict", state="ACTIVE", fault="", reason="")
    await shows(client, "verdict.State", "ACTIVE")
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(
        ua.NodeId(ua.ObjectIds.Server), client.get_node(Ids.OUTPUT_EVENT_TYPE)
    )
    since_ns = plant.clock.utc_ns() // 1000 * 1000 - 3_000_000_000
    # Faster than any tick: none may be missed, and what does not change is no event.
    plant.authority("verdict", state="FAILSAFE", fault="LINK", reason="no link to the PLC", since_ns=since_ns)
    plant.authority("verdict", heartbeat=3)
    plant.authority("verdict", state="ACK_REQUIRED", fault="", reason="", ack_required=True, since_ns=0)
    plant.authority("verdict", state="READY", ack_required=False)
    plant.authority("verdict", state="ACTIVE")
    await watcher.wait(4)
    await subscription.delete()
    told = [(each.EventType, each.State, each.PreviousState, each.Severity) for each in watcher.events]
    assert told == [
        (Ids.OUTPUT_FAIL_SAFE_EVENT_TYPE, "FAILSAFE", "ACTIVE", 800),
        (Ids.OUTPUT_ACK_REQUIRED_EVENT_TYPE, "ACK_REQUIRED", "FAILSAFE", 700),
        (Ids.OUTPUT_EVENT_TYPE, "READY", "ACK_REQUIRED", 100),
        (Ids.OUTPUT_ACTIVE_EVENT_TYPE, "ACTIVE", "READY", 200),
    ]
    first = watcher.events[0]
    assert (first.Output, first.Device, first.Fault) == ("verdict", "press", "LINK")
    assert first.Message.Text == "verdict: has fallen safe (no link to the PLC)"
    assert first.SourceNode == plant_id(f"{OUTPUTS}.verdict")
    assert first.Time.timestamp() == pytest.approx(since_ns / 1e9, abs=1e-6)


async def test_a_writing_process_that_stops_is_told_as_an_output_fallen_safe(
    plant: Plant, client: Client
) -> None:
    plant.authority("speed", state="ACTIVE")
    await shows(client, "speed.State", "ACTIVE")
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(
        plant_id(f"{OUTPUTS}.speed"), client.get_node(Ids.OUTPUT_FAIL_SAFE_EVENT_TYPE)
    )
    plant.clock.skip(LOST_S + 1.0)
    await watcher.wait(1)
    assert watcher.events[0].State == "UNKNOWN"
    assert "time-out acts" in watcher.events[0].Reason
    await subscription.delete()


async def test_a_write_says_whether_a_person_or_a_program_writes(plant: Plant, client: Client) -> None:
    assert await write(client, SPEED, 30.0, ua.VariantType.Float) == 0
    async with await signed_in(plant, "operator") as person:
        assert await write(person, SPEED, 31.0, ua.VariantType.Float) == 0
    assert [(each.value, each.writer) for each in plant.asked.written] == [
        (30.0, "program"),
        (31.0, "operator"),
    ]
    assert all(each.why.startswith("session ") and len(each.why) > 8 for each in plant.asked.written)


async def test_a_tag_that_only_an_output_writes_is_not_writable(plant: Plant, client: Client) -> None:
    name = "Press01.Process.ack"
    assert await attribute(client, name, ua.AttributeIds.AccessLevel) == 1
    assert await write(client, name, True, ua.VariantType.Boolean) == BAD_NOT_WRITABLE
    assert plant.asked.written == []


async def test_who_may_write_a_tag_of_an_output_is_as_the_configuration_says(
    plant: Plant, client: Client
) -> None:
    async def may(writers: list[str], who: Client) -> tuple[bool, int]:
        value = {"tag": "press/sp_speed", "source": "score", "writers": writers}
        await change(plant, outputs(GRANTED, output("speed", values=[value])))
        level = await attribute(who, SPEED, USER_ACCESS_LEVEL)
        assert await attribute(who, SPEED, ua.AttributeIds.AccessLevel) == 3
        return bool(level & CURRENT_WRITE), await write(who, SPEED, 30.0, ua.VariantType.Float)

    denied = (False, BAD_USER_ACCESS_DENIED)
    async with await signed_in(plant, "operator") as person, await signed_in(plant, "observer") as guest:
        assert await may(["operator", "model"], client) == denied
        assert await may(["operator", "model"], person) == (True, 0)
        assert await may(["program", "model"], client) == (True, 0)
        assert await may(["program", "model"], person) == denied
        assert await may(["operator", "program"], guest) == denied
    await change(plant, outputs(GRANTED, SPEEDS))


async def test_the_claim_of_a_program_ends_with_its_session(plant: Plant) -> None:
    async with await plant.client() as program:
        assert await write(program, SPEED, 30.0, ua.VariantType.Float) == 0
        assert await write(program, SPEED, 31.0, ua.VariantType.Float) == 0
        assert plant.asked.gone == []
    assert plant.asked.gone == [("speed", plant.asked.written[0].user, "its session is over")]


async def test_the_claim_of_a_program_ends_when_it_falls_silent(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = plant.server._running().iserver
    monkeypatch.setattr(core, "min_session_timeout_ms", 100)
    program = await plant.client()
    program.session_timeout = 300
    async with program:
        assert await write(program, SPEED, 30.0, ua.VariantType.Float) == 0
        transport = program.uaclient.protocol.transport
        assert transport is not None
        transport.abort()  # a cable that was pulled: nobody says goodbye

        async def told() -> bool:
            return bool(plant.asked.gone)

        await until(told)
    assert plant.asked.gone == [("speed", plant.asked.written[0].user, "its session is over")]


async def test_the_claim_of_a_program_ends_when_a_person_takes_its_session_over(plant: Plant) -> None:
    async with await plant.client() as program:
        assert await write(program, SPEED, 30.0, ua.VariantType.Float) == 0
        await program.activate_session(username="operator", password="operator has a password")
        assert [each[2] for each in plant.asked.gone] == ["a person signed in"]
        assert await write(program, SPEED, 31.0, ua.VariantType.Float) == 0
    assert [each.writer for each in plant.asked.written] == ["program", "operator"]
    assert len(plant.asked.gone) == 1


async def test_what_holds_nothing_ends_nothing(plant: Plant) -> None:
    async with await signed_in(plant, "operator") as person:
        assert await write(person, SPEED, 30.0, ua.VariantType.Float) == 0
    async with await plant.client() as program:
        assert await write(program, "Press01.Process.sp_recipe", "R9", ua.VariantType.String) == 0
    assert plant.asked.gone == []


async def test_a_reload_keeps_what_stays_and_adds_what_comes(plant: Plant, client: Client) -> None:
    await change(plant, outputs(VERDICT, SPEEDS))
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_data_change(client.get_node(plant_id(f"{OUTPUTS}.verdict.State")))
    granting = {"GrantAuthority", "RevokeAuthority"}
    assert not granting & await members(client, "verdict")
    await change(plant, outputs(GRANTED, output("speed", values=VALUES[1:])))
    assert granting < await members(client, "verdict")
    assert await call(client, "verdict", "GrantAuthority") == 0
    gone = await shown(client, "speed.Values.sp_speed")
    assert gone.StatusCode.value == CODES.BadNodeIdUnknown
    plant.authority("speed", **{"state": "ACTIVE", "value.0": 1.0})
    await shows(client, "speed.Values.ack", True)
    plant.authority("verdict", state="HOLD")
    await until(lambda: _saw(watcher, "HOLD"))  # the item has lived through it
    await change(plant, outputs(GRANTED, SPEEDS))
    assert (await shown(client, "speed.Values.sp_speed")).StatusCode.value != CODES.BadNodeIdUnknown
    await subscription.delete()


async def _saw(watcher: Watcher, state: str) -> bool:
    return any(each.Value.Value == state for each in watcher.of(f"{OUTPUTS}.verdict.State"))


def test_two_outputs_of_a_device_are_promised_each_for_itself(tmp_path: Path) -> None:
    lock = tmp_path / "identity.lock"
    guard_identity(lock, outputs(VERDICT, SPEEDS))
    other = {**SPEEDS, "name": "pace"}
    with pytest.raises(IdentityError, match=r"Outputs\.speed -> Press01\.Outputs\.pace"):
        guard_identity(lock, outputs(VERDICT, other))
    # That it writes more or has another area is no other output.
    fewer, moved = {**SPEEDS, "values": VALUES[:1]}, {**VERDICT, "interface": {**INTERFACE, "status": "DB22"}}
    assert not guard_identity(lock, outputs(moved, fewer)).refused


async def test_after_changes_the_outputs_are_those_of_a_start(ground: Ground, plant: Plant) -> None:
    wanted = [outputs(VERDICT), outputs(SPEEDS, GRANTED), outputs(GRANTED, SPEEDS)]
    for config in wanted:
        async with running(ground, config) as fresh:
            started = space_of(fresh)
        await change(plant, config)
        assert space_of(plant) == started
