"""The services of Part 4 as node-opcua uses them: another vendor's codec, state machines and expectations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.values import Verdict
from tests.interop.conftest import POLICIES, Press
from tests.interop.node_remote import Remote, RemoteError, subscribed
from tests.opcua.plant import Plant

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CODES = ua.StatusCodes
TONNAGE = "ns=7;s=Press01.Process.tonnage"  # EURange 0..2000
TEMPERATURE = "ns=7;s=Press01.Process.die_temp"
PROFILE = "ns=7;s=Press01.Process.profile"
COUNT = "ns=7;s=Press01.Process.stroke_count"
PROCESS = "ns=7;s=Press01.Process"
OVERFLOW = 0x480


@pytest.fixture
async def session(served: Plant, peer: Remote, identity: dict[str, str]) -> AsyncIterator[str]:
    name = await peer.connect(served.server.url, identity)
    yield name
    await peer.leave()


def deadband(kind: str, value: float) -> dict[str, Any]:
    return {
        "$": "DataChangeFilter",
        "trigger": {"$enum": "DataChangeTrigger.StatusValue"},
        "deadbandType": {"$enum": f"DeadbandType.{kind}"},
        "deadbandValue": value,
    }


def values(seen: list[Any]) -> list[Any]:
    return [each["value"]["value"] for each in seen]


@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_connects(
    served: Plant, peer: Remote, identity: dict[str, str], policy: str
) -> None:
    session = await peer.connect(served.server.url, identity, policy=policy)
    answer = await peer.call(session, "read", {"nodeId": "i=2255", "attributeId": 13})
    assert answer["value"]["value"][7] == "urn:plant-1:plant"
    await peer.leave()


async def test_a_large_folder_is_browsed_in_parts(peer: Remote, session: str) -> None:
    # Part 4 §5.9.2, §5.9.3
    async def browse(most: int) -> Any:
        nodes = [{"nodeId": PROCESS, "browseDirection": 0, "includeSubtypes": True, "resultMask": 63}]
        fields = {"requestedMaxReferencesPerNode": most, "nodesToBrowse": nodes}
        return (await peer.send(session, "BrowseRequest", fields))["results"][0]

    whole = await browse(0)
    first = await browse(4)
    names = [each["browseName"] for each in first["references"]]
    assert len(names) == 4
    point = first["continuationPoint"]
    while point and point["hex"]:
        fields = {"releaseContinuationPoints": False, "continuationPoints": [{"$hex": point["hex"]}]}
        (more,) = (await peer.send(session, "BrowseNextRequest", fields))["results"]
        assert more["statusCode"] == 0
        assert 1 <= len(more["references"]) <= 4
        names += [each["browseName"] for each in more["references"]]
        point = more["continuationPoint"]
    assert names == [each["browseName"] for each in whole["references"]]
    fields = {"releaseContinuationPoints": False, "continuationPoints": [{"$hex": "00112233"}]}
    (unknown,) = (await peer.send(session, "BrowseNextRequest", fields))["results"]
    assert unknown["statusCode"] == CODES.BadContinuationPointInvalid


async def test_a_part_of_an_array_is_read(press: Press, peer: Remote, session: str) -> None:
    # Part 4 §5.11.2, §7.27
    await press.ramp(1.0)
    found = await peer.call(session, "read", {"nodeId": PROFILE, "attributeId": 13, "indexRange": "1:2"})
    assert found["value"]["value"] == [2, 3]
    found = await peer.call(session, "read", {"nodeId": PROFILE, "attributeId": 13, "indexRange": "7"})
    assert found["statusCode"] == CODES.BadIndexRangeNoData


async def test_an_absolute_deadband_counts_from_what_was_reported(
    press: Press, peer: Remote, session: str
) -> None:
    # Part 4 §7.22.2: a slow ramp is reported although each step is smaller than the deadband.
    await press.ramp(0.0)
    async with subscribed(peer, session):
        await peer.monitor(TONNAGE, "item", filter=deadband("Absolute", 100.0))
        await peer.gather("item.seen", 1)
        await press.ramp(*[40.0 * step for step in range(1, 13)])  # to 480
        seen = values(await peer.gather("item.seen", 4))
    assert len(seen) == 4
    steps = [after - before for before, after in zip([0.0, *seen], seen, strict=False)]
    assert all(step > 100 for step in steps)


async def test_a_percent_deadband_is_of_the_range(press: Press, peer: Remote, session: str) -> None:
    # Part 8 §6.2: EURange 0..2000, 10 % is 200.
    await press.ramp(0.0)
    async with subscribed(peer, session):
        await peer.monitor(TONNAGE, "item", filter=deadband("Percent", 10.0))
        await peer.gather("item.seen", 1)
        await press.ramp(150.0, 190.0, 205.0, 300.0, 410.0)
        assert values(await peer.gather("item.seen", 2)) == [205.0, 410.0]
        # A variable without EURange has no percent.
        item = {"itemToMonitor": {"nodeId": COUNT, "attributeId": 13}, "monitoringMode": 2}
        item["requestedParameters"] = {
            "clientHandle": 77,
            "filter": deadband("Percent", 10.0),
            "queueSize": 1,
        }
        fields = {
            "subscriptionId": await peer.get("subscription", "subscriptionId"),
            "itemsToCreate": [item],
        }
        (refused,) = (await peer.send(session, "CreateMonitoredItemsRequest", fields))["results"]
    assert refused["statusCode"] in (CODES.BadDeadbandFilterInvalid, CODES.BadMonitoredItemFilterUnsupported)


@pytest.mark.parametrize("oldest", [True, False])
async def test_a_queue_that_overflows_says_so(
    press: Press, peer: Remote, session: str, *, oldest: bool
) -> None:
    # Part 4 §5.13.1.5
    await press.ramp(0.0)
    async with subscribed(peer, session) as subscription:

        async def publish(*, enabled: bool) -> None:
            mode = {"publishingEnabled": enabled, "subscriptionIds": [subscription]}
            assert (await peer.send(session, "SetPublishingModeRequest", mode))["results"] == [0]

        await peer.monitor(TONNAGE, "item", queueSize=3, discardOldest=oldest)
        await peer.gather("item.seen", 1)
        await publish(enabled=False)
        await press.ramp(1.0, 2.0, 3.0, 4.0, 5.0)
        await publish(enabled=True)
        seen = await peer.gather("item.seen", 3)
    assert len(seen) == 3
    assert values(seen)[-1] == 5.0
    marked = [each["value"]["value"] for each in seen if each["statusCode"] & OVERFLOW == OVERFLOW]
    assert marked == ([3.0] if oldest else [5.0])


async def test_a_triggered_item_is_reported_with_its_trigger(
    press: Press, peer: Remote, session: str
) -> None:
    # Part 4 §5.13.1.6
    await press.ramp(0.0)
    async with subscribed(peer, session) as subscription:
        trigger = await peer.monitor(COUNT, "trigger")
        await peer.monitor(TONNAGE, "linked")
        linked = int(await peer.get("linked", "monitoredItemId"))
        await peer.gather("linked.seen", 1)
        mode = {"subscriptionId": subscription, "monitoringMode": 1, "monitoredItemIds": [linked]}
        await peer.send(session, "SetMonitoringModeRequest", mode)
        links = {
            "subscriptionId": subscription,
            "triggeringItemId": trigger,
            "linksToAdd": [linked],
            "linksToRemove": [],
        }
        answer = await peer.send(session, "SetTriggeringRequest", links)
        assert answer["addResults"] == [0]
        await press.ramp(5.0, 6.0)
        await asyncio.sleep(0.2)
        assert await peer.taken("linked.seen") == []  # sampled, not reported
        press.set(tonnage=7.0, stroke_count=1)
        assert values(await peer.gather("linked.seen", 3)) == [5.0, 6.0, 7.0]


async def test_the_server_tells_what_is_monitored_and_resends(
    served: Plant, peer: Remote, session: str
) -> None:
    # Part 5 §9.1, §9.2
    async with subscribed(peer, session) as subscription:
        item = await peer.monitor(TONNAGE, "item")
        await peer.gather("item.seen", 1)
        call = {"objectId": "i=2253", "inputArguments": [{"dataType": "UInt32", "value": subscription}]}
        found = await peer.call(session, "call", {**call, "methodId": "i=11492"})
        handles, clients = (each["value"] for each in found["outputArguments"])
        assert found["statusCode"] == 0
        assert handles == [item]
        assert len(clients) == 1
        again = await peer.call(session, "call", {**call, "methodId": "i=12873"})
        assert again["statusCode"] == 0
        assert len(await peer.gather("item.seen", 1)) == 1
        foreign = {**call, "inputArguments": [{"dataType": "UInt32", "value": subscription + 1}]}
        refused = await peer.call(session, "call", {**foreign, "methodId": "i=11492"})
        assert refused["statusCode"] == CODES.BadSubscriptionIdInvalid


async def test_a_subscription_is_modified_and_its_message_limit_kept(
    press: Press, peer: Remote, session: str
) -> None:
    # Part 4 §5.14.3, §5.14.5
    async with subscribed(peer, session) as subscription:
        changed = await peer.send(
            session,
            "ModifySubscriptionRequest",
            {
                "subscriptionId": subscription,
                "requestedPublishingInterval": 400,
                "requestedLifetimeCount": 600,
                "requestedMaxKeepAliveCount": 20,
                "maxNotificationsPerPublish": 2,
                "priority": 1,
            },
        )
        assert changed["revisedPublishingInterval"] == 400
        await peer.collect("subscription", "raw_notification", "messages")
        await peer.monitor(TONNAGE, "item")
        await press.ramp(*[1000.0 + step for step in range(7)])
        await peer.gather("item.seen", 7)
        sizes = [
            len(part["monitoredItems"])
            for message in await peer.taken("messages")
            for part in message["notificationData"] or []
            if "monitoredItems" in part
        ]
    assert sum(sizes) >= 7
    assert max(sizes) <= 2


async def test_a_message_that_is_gone_is_not_republished(peer: Remote, session: str) -> None:
    # Part 4 §5.14.6
    async with subscribed(peer, session) as subscription:
        fields = {"subscriptionId": subscription, "retransmitSequenceNumber": 4711}
        with pytest.raises(RemoteError) as refused:
            await peer.send(session, "RepublishRequest", fields)
        assert refused.value.status == CODES.BadMessageNotAvailable
        with pytest.raises(RemoteError) as unknown:
            await peer.send(session, "RepublishRequest", {**fields, "subscriptionId": subscription + 1})
        assert unknown.value.status == CODES.BadSubscriptionIdInvalid


async def test_wrong_arguments_of_a_method_are_named(peer: Remote, session: str) -> None:
    # Part 4 §5.12.2
    call = {"objectId": "ns=7;s=Models", "methodId": "ns=7;s=Models.LoadModel"}
    few = await peer.call(session, "call", {**call, "inputArguments": []})
    assert few["statusCode"] == CODES.BadArgumentsMissing
    mistyped = [
        {"dataType": "String", "value": "press-anomaly"},
        {"dataType": "Double", "value": 2.0},
        {"dataType": "String", "value": ""},
    ]
    wrong = await peer.call(session, "call", {**call, "inputArguments": mistyped})
    assert wrong["statusCode"] == CODES.BadInvalidArgument
    assert wrong["inputArgumentResults"] == [0, CODES.BadTypeMismatch, 0]


async def test_events_of_the_machine_reach_a_client_on_the_server_object(
    served: Plant, peer: Remote, session: str
) -> None:
    # Part 3 §7.17, Part 4 §7.7.3: OfType with subtypes, and a comparison on a field of ours.
    async with subscribed(peer, session):
        await peer.monitor_events("i=2253", "events", ["EventType", "6:Stroke", "Severity"])
        served.result(501, Verdict.NOT_OK)
        (event,) = await peer.gather("events.seen", 1)
        assert [field["value"] for field in event][1:] == [501, 500]


async def test_what_is_not_offered_is_refused(peer: Remote, session: str) -> None:
    for request in ("AddNodesRequest", "DeleteNodesRequest", "QueryFirstRequest", "HistoryUpdateRequest"):
        with pytest.raises(RemoteError) as refused:
            await peer.send(session, request, {})
        assert refused.value.status == CODES.BadServiceUnsupported
