"""``Poll`` of a device: which groups it means, who may call it, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import BAD_NO_COMMUNICATION, Scalar
from edge_opcua.opcua.demand import groups_of
from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.security.roles import Role
from tests.opcua.plant import Ground, Plant, configuration, prepare, running

DEVICE = plant_id("Devices.press")
POLL = plant_id("Devices.press.Poll")


def device(*groups: dict[str, Any]) -> DeviceConfig:
    tags = [
        {
            "name": f"t_{group['name']}",
            "address": "DB1.DBW0:INT",
            "type": Scalar.INT16,
            "group": group["name"],
        }
        for group in groups
        if group["name"] != "empty"
    ]
    return DeviceConfig.model_validate(
        {"name": "dev", "driver": "s7", "url": "s7://h", "tags": tags, "groups": list(groups)}
    )


def test_no_name_means_all_that_is_read_on_demand() -> None:
    mixed = device(
        {"name": "fast", "period_ms": 100},
        {"name": "recipe", "on_request": True},
        {"name": "batch", "trigger": "t_fast", "period_ms": 5000},
        {"name": "empty", "on_request": True},
    )
    assert groups_of(mixed, "") == ["recipe", "batch"]
    assert groups_of(mixed, "fast") == ["fast"]
    assert groups_of(mixed, "empty") == []
    assert groups_of(mixed, "nobody") == []


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("demand"))


@pytest.fixture(scope="module")
async def plant(ground: Ground) -> AsyncIterator[Plant]:
    async with running(ground, configuration()) as found:
        yield found


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    plant.asked.polls.clear()
    plant.asked.poll_reply = Reply()
    found = await plant.client()
    async with found:
        yield found


async def poll(client: Client, *arguments: ua.Variant, method: ua.NodeId = POLL) -> ua.CallMethodResult:
    request = ua.CallMethodRequest()
    request.ObjectId, request.MethodId, request.InputArguments = DEVICE, method, list(arguments)
    (result,) = await client.uaclient.call([request])
    return result


def group(name: str) -> ua.Variant:
    return ua.Variant(name, ua.VariantType.String)


async def test_a_group_is_polled_for_whoever_asked(plant: Plant, client: Client) -> None:
    assert (await poll(client, group("fast"))).StatusCode.value == 0
    ((device_name, polled, user),) = plant.asked.polls
    assert (device_name, polled) == ("press", "fast")
    assert "127.0.0.1" in user


async def test_what_came_of_it_is_the_answer(plant: Plant, client: Client) -> None:
    plant.asked.poll_reply = Reply(BAD_NO_COMMUNICATION, "no link to press")
    assert (await poll(client, group("fast"))).StatusCode.value == BAD_NO_COMMUNICATION


async def test_a_group_that_is_not_there_is_said_to_be_the_wrong_argument(
    plant: Plant, client: Client
) -> None:
    answer = await poll(client, group("nobody"))
    assert answer.StatusCode.value == ua.StatusCodes.BadInvalidArgument
    assert [each.value for each in answer.InputArgumentResults] == [ua.StatusCodes.BadOutOfRange]
    # The press has nothing that is read on demand.
    assert (await poll(client, group(""))).StatusCode.value == ua.StatusCodes.BadNothingToDo
    assert plant.asked.polls == []


async def test_only_operators_may(plant: Plant, client: Client, ground: Ground) -> None:
    roles = frozenset({Role.OPERATOR, Role.ENGINEER})
    await asyncio.to_thread(ground.trust.set_roles, ground.identity.print, roles - {Role.OPERATOR})
    try:
        async with await plant.client() as engineer:
            assert (
                await poll(engineer, group("fast"))
            ).StatusCode.value == ua.StatusCodes.BadUserAccessDenied
    finally:
        await asyncio.to_thread(ground.trust.set_roles, ground.identity.print, roles)
    assert plant.asked.polls == []
