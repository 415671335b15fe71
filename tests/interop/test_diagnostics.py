"""Diagnostics as node-opcua decodes them, by the structures of its own copy of the specification."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.node_remote import Remote
from tests.interop.test_roles import named
from tests.opcua.plant import Plant

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

SUMMARY, SUBSCRIPTIONS, SESSIONS, SECURITIES = "i=2275", "i=2290", "i=3707", "i=3708"


async def test_sessions_their_security_and_subscriptions_can_be_read(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 5 §12.9, §12.11, §12.12, §12.15.
    session = await peer.connect(served.server.url, identity, user=named("security-admin"))

    async def read(node: str) -> Any:
        found = await peer.call(session, "read", {"nodeId": node, "attributeId": 13})
        assert found["statusCode"] == 0
        return found["value"]["value"]

    (mine,) = [row for row in await read(SECURITIES) if row["clientUserIdOfSession"] == "security-admin"]
    assert mine["authenticationMechanism"] == "UserName"
    assert (mine["encoding"], mine["transportProtocol"]) == ("UA Binary", "opc.tcp")
    assert mine["securityPolicyUri"].endswith("#Basic256Sha256")
    (row,) = [row for row in await read(SESSIONS) if row["sessionId"] == mine["sessionId"]]
    assert row["readCount"]["totalCount"] >= 1
    assert (await read(SUMMARY))["currentSessionCount"] >= 1
    assert isinstance(await read(SUBSCRIPTIONS), list)
    await peer.leave()
