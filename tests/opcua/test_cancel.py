"""Cancel: what waits or runs under a handle is given up, and told so; nobody else's is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.opcua.services.audit import Act
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, until, write_held

CODES = ua.StatusCodes


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def plant(running: Plant) -> Plant:
    running.written.clear()
    running.gates["held"] = asyncio.Event()
    running.cancelled = 0
    return running


def write(client: Client, plant: Plant, value: float) -> tuple[asyncio.Future[Any], int]:
    """Start a write that does not end; return it and its RequestHandle."""
    return write_held(client, plant, value), client.uaclient.protocol._request_handle + 1


async def cancel(client: Client, handle: int) -> int:
    answer = await request(client, ua.CancelRequest(), RequestHandle=handle)
    return int(struct_from_binary(ua.CancelResponse, answer).Parameters.CancelCount)


def status_in(answer: Any) -> int:
    return int(struct_from_binary(ua.WriteResponse, answer).Results[0].value)


async def code_of(sent: asyncio.Future[Any]) -> int:
    with pytest.raises(ua.UaStatusCodeError) as failed:
        async with asyncio.timeout(10):
            await sent
    return int(failed.value.code)


async def test_a_write_in_flight_is_cancelled_and_says_so(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Part 4 §5.7.5: Bad_RequestCancelledByClient, and the number of requests that were cancelled.
    acts: list[Act] = []
    monkeypatch.setattr(plant.server.iserver, "audit", acts.append)
    async with plant.client() as client:
        sent, handle = write(client, plant, 1.0)
        await until(lambda: bool(plant.written))
        assert await cancel(client, handle) == 1
        assert await code_of(sent) == CODES.BadRequestCancelledByClient
        assert plant.cancelled == 1
        assert await cancel(client, handle) == 0
    # Part 5 §6.5.10 AuditCancelEventType.
    told = [dict(act.event) for act in acts if act.kind == "request.cancelled"]
    assert told == [{"RequestHandle": handle}] * 2


async def test_a_write_that_waits_for_its_turn_is_cancelled_and_the_others_keep_their_order(
    plant: Plant,
) -> None:
    async with plant.client() as client:
        first, _ = write(client, plant, 1.0)
        await until(lambda: bool(plant.written))
        second, handle = write(client, plant, 2.0)
        await asyncio.sleep(0.05)
        third, _ = write(client, plant, 3.0)
        await asyncio.sleep(0.05)
        assert await cancel(client, handle) == 1
        assert await code_of(second) == CODES.BadRequestCancelledByClient
        plant.gates["held"].set()
        for sent in (first, third):
            assert status_in(await sent) == CODES.GoodClamped
        assert [value for what, value in plant.written if what == "held begins"] == [1.0, 3.0]


async def test_another_session_cancels_nothing_of_ours(plant: Plant) -> None:
    async with plant.client() as client, plant.client(OTHER) as other:
        sent, handle = write(client, plant, 1.0)
        await until(lambda: bool(plant.written))
        assert await cancel(other, handle) == 0
        plant.gates["held"].set()
        assert status_in(await sent) == CODES.GoodClamped


async def test_waiting_publish_requests_are_cancelled(plant: Plant) -> None:
    class Handler:
        """Takes nothing."""

    async with plant.client() as client:
        await client.create_subscription(1000, Handler())
        sent = asyncio.ensure_future(request(client, ua.PublishRequest()))
        await asyncio.sleep(0)
        handle = client.uaclient.protocol._request_handle
        await asyncio.sleep(0.05)
        assert await cancel(client, handle) == 1
        assert await code_of(sent) == CODES.BadRequestCancelledByClient


async def test_a_handle_nobody_used_cancels_nothing(plant: Plant) -> None:
    async with plant.client() as client:
        assert await cancel(client, 4_000_000_000) == 0
