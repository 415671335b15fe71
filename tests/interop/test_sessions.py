"""Sessions and subscriptions that outlive what happens to them, seen by node-opcua."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.sim.proxy import PASS, Kind, Link, Mode
from tests.interop.conftest import Press
from tests.interop.node_remote import Remote
from tests.opcua.plant import Plant

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CODES = ua.StatusCodes
TONNAGE = "ns=7;s=Press01.Process.tonnage"
SETTINGS = {
    "requestedPublishingInterval": 50,
    "requestedLifetimeCount": 600,
    "requestedMaxKeepAliveCount": 10,
    "maxNotificationsPerPublish": 0,
    "publishingEnabled": True,
    "priority": 0,
}
ITEM = {"nodeId": TONNAGE, "attributeId": 13}
BOTH = {"$enum": "TimestampsToReturn.Both"}


@asynccontextmanager
async def proxied(plant: Plant) -> AsyncIterator[Link]:
    link = Link()
    await link.open()
    host, _, port = plant.server.url.removeprefix("opc.tcp://").rpartition(":")
    link.target = (host, int(port))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run())
        yield link
        running.cancel()


async def test_a_subscription_survives_the_loss_of_its_connection(
    served: Plant, press: Press, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 4 §6.7: new channel, ActivateSession, Republish of what was missed; nothing is lost.
    async with proxied(served) as link:
        endpoint = f"opc.tcp://127.0.0.1:{link.port}"
        patient = {"maxRetry": 100, "initialDelay": 50, "maxDelay": 100}
        session = await peer.connect(endpoint, identity, connectionStrategy=patient)
        await peer.call(session, "createSubscription2", SETTINGS, name="subscription")
        before = await peer.get("subscription", "subscriptionId")
        settings = {"samplingInterval": 0, "queueSize": 1000, "discardOldest": True}
        await peer.call("subscription", "monitor", ITEM, settings, BOTH, name="item", collect="changed")
        await peer.gather("item.seen", 1)
        seen: list[Any] = []
        for round_ in range(3):
            for step in range(10):
                await press.ramp(100.0 * (round_ + 1) + step)
                if step == 4:
                    await link.set(Mode(Kind.CUT))
                    await asyncio.sleep(0.1)
                    await link.set(PASS)
            seen += await peer.gather("item.seen", 10 - len(seen) % 10, within_s=15)
        found = [each["value"]["value"] for each in seen]
        assert found == [100.0 * (round_ + 1) + step for round_ in range(3) for step in range(10)]
        assert await peer.get("subscription", "subscriptionId") == before
        await peer.leave()


async def test_a_subscription_goes_over_to_another_session_of_the_same_client(
    served: Plant, press: Press, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 4 §5.14.7
    first = await peer.connect(served.server.url, identity, name="A")
    second = await peer.connect(served.server.url, identity, name="B")
    await press.ramp(1.0)
    created = await peer.send(first, "CreateSubscriptionRequest", SETTINGS)
    item = {
        "itemToMonitor": ITEM,
        "monitoringMode": 2,
        "requestedParameters": {"clientHandle": 9, "samplingInterval": 0, "queueSize": 10},
    }
    number = created["subscriptionId"]
    made = await peer.send(
        first, "CreateMonitoredItemsRequest", {"subscriptionId": number, "itemsToCreate": [item]}
    )
    assert made["results"][0]["statusCode"] == 0
    fields = {"subscriptionIds": [number, 4711], "sendInitialValues": True}
    moved, unknown = (await peer.send(second, "TransferSubscriptionsRequest", fields))["results"]
    assert moved["statusCode"] == 0
    assert unknown["statusCode"] == CODES.BadSubscriptionIdInvalid
    published = await peer.send(second, "PublishRequest", {"subscriptionAcknowledgements": []}, aside=True)
    assert published["subscriptionId"] == number
    (part,) = published["notificationMessage"]["notificationData"]
    assert [each["value"]["value"]["value"] for each in part["monitoredItems"]] == [1.0]
    deleted = await peer.send(second, "DeleteSubscriptionsRequest", {"subscriptionIds": [number]})
    assert deleted["results"] == [0]
    await peer.leave("A")
    await peer.leave("B")


async def test_nobody_touches_the_subscription_of_another(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    first = await peer.connect(served.server.url, identity, name="A")
    second = await peer.connect(served.server.url, identity, name="B")
    number = (await peer.send(first, "CreateSubscriptionRequest", SETTINGS))["subscriptionId"]
    gone = await peer.send(second, "DeleteSubscriptionsRequest", {"subscriptionIds": [number]})
    assert gone["results"] == [CODES.BadSubscriptionIdInvalid]
    off = {"publishingEnabled": False, "subscriptionIds": [number]}
    assert (await peer.send(second, "SetPublishingModeRequest", off))["results"] == [
        CODES.BadSubscriptionIdInvalid
    ]
    assert (await peer.send(first, "DeleteSubscriptionsRequest", {"subscriptionIds": [number]}))[
        "results"
    ] == [0]
    await peer.leave("A")
    await peer.leave("B")
