"""An operator's screen made by others: node-opcua sees that an output waits, and acknowledges it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.messages import Reply
from edge_opcua.core.values import BAD_INVALID_STATE
from edge_opcua.security.users import UserStore
from tests.interop.node_remote import Remote, subscribed
from tests.interop.test_roles import named
from tests.opcua.plant import Ground, Plant, configuration, running
from tests.opcua.test_authority import GRANTED, SPEEDS

OUTPUT = "ns=7;s=Press01.Outputs.verdict"
SPEED = "ns=7;s=Press01.Process.sp_speed"
FIELDS = [
    "EventType",
    "SourceNode",
    "SourceName",
    "Message",
    "Severity",
    "6:Output",
    "6:State",
    "6:PreviousState",
    "6:Fault",
]
DENIED = ua.StatusCodes.BadUserAccessDenied

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
async def served(grounds: Ground, users: UserStore) -> AsyncIterator[Plant]:
    """The plant, with an output that operators grant, and one on single tags."""
    async with running(grounds, configuration(outputs=[GRANTED, SPEEDS]), users=users) as plant:
        yield plant


async def call(peer: Remote, session: str, method: str, comment: str = "seen by node-opcua") -> int:
    wanted = {
        "objectId": OUTPUT,
        "methodId": method,
        "inputArguments": [{"dataType": "String", "value": comment}],
    }
    return int((await peer.call(session, "call", wanted))["statusCode"])


async def test_an_operator_sees_what_waits_and_acknowledges_it(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    served.authority("verdict", state="ACTIVE")
    session = await peer.connect(served.server.url, identity, user=named("operator"))
    async with subscribed(peer, session):
        await peer.monitor(f"{OUTPUT}.State", "state")
        await peer.monitor_events("i=2253", "events", FIELDS)
        await peer.gather("state.seen", 1)
        served.authority("verdict", state="FAILSAFE", fault="PLC_HEARTBEAT", reason="it stands still")
        served.authority("verdict", state="ACK_REQUIRED", fault="", reason="", ack_required=True)
        events = await peer.gather("events.seen", 2)
        seen = await peer.gather("state.seen", 1)
    told: list[dict[str, Any]] = [
        dict(zip(FIELDS, (field["value"] for field in event), strict=True)) for event in events
    ]
    assert [each["EventType"] for each in told] == ["ns=6;i=1014", "ns=6;i=1015"]
    assert [each["6:State"] for each in told] == ["FAILSAFE", "ACK_REQUIRED"]
    assert (told[0]["6:Output"], told[0]["6:Fault"]) == ("verdict", "PLC_HEARTBEAT")
    assert told[0]["Severity"] > told[1]["Severity"] > 666  # both high, Part 9 §5.5.3
    assert told[1]["SourceNode"] == OUTPUT
    assert seen[-1]["value"]["value"] == "ACK_REQUIRED"
    assert await call(peer, session, f"{OUTPUT}.Acknowledge", "guard closed") == 0
    served.asked.act_reply = Reply(BAD_INVALID_STATE, "nothing waits any more")
    # Part 4 §5.12.2: the method of the type means that of the object.
    assert await call(peer, session, "ns=6;i=7003") == BAD_INVALID_STATE
    await peer.leave()
    first, second = served.asked.acts[-2:]
    assert (first.output, first.action, first.why) == ("verdict", "acknowledge", "guard closed")
    assert first.user.startswith("operator, node-opcua")
    assert second.action == "acknowledge"


@pytest.mark.parametrize("role", ["observer", "engineer"])
async def test_who_is_no_operator_is_refused_and_told_so_beforehand(
    served: Plant, peer: Remote, identity: dict[str, str], role: str
) -> None:
    session = await peer.connect(served.server.url, identity, user=named(role))
    before = len(served.asked.acts)
    for method in ("Acknowledge", "GrantAuthority", "RevokeAuthority", "TakeManual", "ReturnToAutomatic"):
        node = f"{OUTPUT}.{method}"
        executable = await peer.call(session, "read", {"nodeId": node, "attributeId": 22})
        assert executable["value"]["value"] is False
        assert await call(peer, session, node) == DENIED
    assert len(served.asked.acts) == before
    await peer.leave()


async def test_a_program_of_another_vendor_that_leaves_gives_its_tags_back(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    session = await peer.connect(served.server.url, identity)
    variant = {"dataType": "Float", "value": 30.0}
    value = {"nodeId": SPEED, "attributeId": 13, "value": {"value": variant}}
    assert await peer.call(session, "write", value) == 0
    assert (served.asked.written[-1].writer, served.asked.gone) == ("program", [])
    await peer.leave()
    assert served.asked.gone == [("speed", served.asked.written[-1].user, "its session is over")]
