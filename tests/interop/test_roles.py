"""People who sign in with node-opcua, and what each of them may do."""

from __future__ import annotations

from typing import Any

import pytest
from asyncua import ua

from tests.interop.conftest import POLICIES, Press
from tests.interop.node_remote import Remote, RemoteError
from tests.opcua.plant import SHA_B, Plant

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

CODES = ua.StatusCodes
SPEED = "ns=7;s=Press01.Process.sp_speed"
LOAD = {"objectId": "ns=7;s=Models", "methodId": "ns=7;s=Models.LoadModel"}
MODEL = [
    {"dataType": "String", "value": "press-anomaly"},
    {"dataType": "UInt32", "value": 2},
    {"dataType": "String", "value": SHA_B},
]
REJECTED = {"objectId": "i=12637", "methodId": "i=12777", "inputArguments": []}
SESSIONS = "i=3707"  # SessionDiagnosticsArray
USER_WRITE, USER_EXECUTABLE, USER_ROLES = 18, 22, 25


def named(role: str) -> dict[str, Any]:
    return {
        "type": {"$enum": "UserTokenType.UserName"},
        "userName": role,
        "password": f"{role} has a password",
    }


async def may(peer: Remote, session: str) -> dict[str, int]:
    """Return what each act is answered with."""
    value = {"dataType": "Float", "value": 30.0}
    write = {"nodeId": SPEED, "attributeId": 13, "value": {"value": value}}
    answers = {
        "read": (await peer.call(session, "read", {"nodeId": SPEED, "attributeId": 13}))["statusCode"],
        "write": await peer.call(session, "write", write),
        "load": (await peer.call(session, "call", {**LOAD, "inputArguments": MODEL}))["statusCode"],
        "rejected": (await peer.call(session, "call", REJECTED))["statusCode"],
        "sessions": (await peer.call(session, "read", {"nodeId": SESSIONS, "attributeId": 13}))["statusCode"],
    }
    return {name: 0 if code == 0 else code for name, code in answers.items()}


DENIED = CODES.BadUserAccessDenied
MAY = {
    "observer": {"read": 0, "write": DENIED, "load": DENIED, "rejected": DENIED, "sessions": DENIED},
    "operator": {"read": 0, "write": 0, "load": DENIED, "rejected": DENIED, "sessions": DENIED},
    "engineer": {"read": 0, "write": DENIED, "load": 0, "rejected": DENIED, "sessions": DENIED},
    "security-admin": {"read": 0, "write": DENIED, "load": DENIED, "rejected": 0, "sessions": 0},
}


@pytest.mark.parametrize("role", sorted(MAY))
async def test_each_role_does_what_it_is_for_and_nothing_else(
    served: Plant, press: Press, peer: Remote, identity: dict[str, str], role: str
) -> None:
    press.set()
    session = await peer.connect(served.server.url, identity, user=named(role))
    assert await may(peer, session) == MAY[role]
    level = await peer.call(session, "read", {"nodeId": SPEED, "attributeId": USER_WRITE})
    assert bool(level["value"]["value"] & 2) == (MAY[role]["write"] == 0)
    executable = await peer.call(
        session, "read", {"nodeId": LOAD["methodId"], "attributeId": USER_EXECUTABLE}
    )
    assert executable["value"]["value"] == (MAY[role]["load"] == 0)
    await peer.leave()


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_password_is_taken_with_every_policy(
    served: Plant, peer: Remote, identity: dict[str, str], policy: str
) -> None:
    # Part 4 §7.40.4: encrypted with the algorithm of the policy, with the last nonce in it.
    session = await peer.connect(served.server.url, identity, policy=policy, user=named("operator"))
    seen = await peer.call(session, "read", {"nodeId": SPEED, "attributeId": USER_WRITE})
    assert seen["value"]["value"] & 2
    await peer.leave()


@pytest.mark.parametrize("user", [{**named("operator"), "password": "no"}, named("nobody")])
async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(
    served: Plant, peer: Remote, identity: dict[str, str], user: dict[str, Any]
) -> None:
    with pytest.raises(RemoteError) as refused:
        await peer.connect(served.server.url, identity, user=user)
    assert refused.value.status == CODES.BadUserAccessDenied
    await peer.call("client", "disconnect")


async def test_a_person_signs_in_with_a_certificate(
    served: Plant, press: Press, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 4 §7.40.5
    press.set()
    root = served.ground.root
    user = {
        "type": {"$enum": "UserTokenType.Certificate"},
        "certificateData": {"$hex": (root / "ada.der").read_bytes().hex()},
        "privateKey": (root / "ada.pem").read_text(),
    }
    session = await peer.connect(served.server.url, identity, user=user)
    allowed = await may(peer, session)
    assert (allowed["write"], allowed["load"], allowed["rejected"]) == (0, 0, DENIED)
    await peer.leave()


async def test_the_roles_of_a_node_are_shown_to_who_may_see_them(
    served: Plant, peer: Remote, identity: dict[str, str]
) -> None:
    # Part 3 §5.2.9, §5.2.10
    session = await peer.connect(served.server.url, identity, user=named("security-admin"))
    every = await peer.call(session, "read", {"nodeId": SPEED, "attributeId": 24})
    writers = {row["roleId"] for row in every["value"]["value"] if row["permissions"] & 0x40}
    assert writers == {"ns=0;i=15680", "ns=0;i=15692"}  # Operator, Supervisor
    await peer.leave()
    session = await peer.connect(served.server.url, identity, user=named("observer"))
    own = await peer.call(session, "read", {"nodeId": SPEED, "attributeId": USER_ROLES})
    assert all(not row["permissions"] & 0x40 for row in own["value"]["value"])
    hidden = await peer.call(session, "read", {"nodeId": SPEED, "attributeId": 24})
    assert hidden["statusCode"] == CODES.BadUserAccessDenied
    await peer.leave()
