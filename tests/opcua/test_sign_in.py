"""Users sign in, over the wire: what is offered, what is refused and how, and what a user may do then."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.crypto import security_policies, uacrypto
from asyncua.ua.ua_binary import struct_from_binary
from structlog.testing import capture_logs

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.identity import MAX_WAITING, Snapshot
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.standard.roles import install_roles, mapping
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.security.roles import Role
from edge_opcua.security.tokens import RSA_OAEP, RSA_OAEP_SHA256, RSA_SHA256
from edge_opcua.security.trust import Trusted
from edge_opcua.security.users import Cost, UserStore
from tests.opcua.secure_peers import GOOD, OTHER, Plant, channel, request, running_plant, status_of, until
from tests.security.certificates import Identity, make

CODES = ua.StatusCodes
PASSWORD = "correct horse"
RSA_1_5 = "http://www.w3.org/2001/04/xmlenc#rsa-1_5"
POLICY = "Basic256Sha256"
URI = f"http://opcfoundation.org/UA/SecurityPolicy#{POLICY}"
PSS = security_policies.SecurityPolicyAes256Sha256RsaPss
CARD = make("anna's card", uri=None, purposes=None)
FOREIGN = make("foreign card", uri=None)


class Town:
    """The server, its users, and what was told of them."""

    def __init__(self, plant: Plant, users: UserStore) -> None:
        self.plant = plant
        self.users = users
        self.acts: list[Act] = []
        plant.server.iserver.audit = self.acts.append

    @property
    def core(self) -> Any:
        return self.plant.server.iserver

    def client(self, user: str = "", password: str = PASSWORD, **more: Any) -> Client:
        client = self.plant.client(**more)
        if user:
            client.set_user(user)
            client.set_password(password)
        return client

    async def change(self, action: str, *arguments: Any, **named: Any) -> None:
        """Do what the command line does, in a thread as it blocks."""
        await asyncio.to_thread(lambda: getattr(self.users, action)(*arguments, **named))

    def refusals(self) -> list[str]:
        return [act.facts["code"] for act in self.acts if act.kind == "session.activated" and act.status]


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    state = tmp_path_factory.mktemp("state")
    users = UserStore(state, cost=Cost(n=2**10, r=8, p=1))
    policies = (POLICY, "Aes256_Sha256_RsaPss")
    async with running_plant(
        state, allow_none=True, users=users, policies=policies, limits=ServerLimits(recheck_s=0.1)
    ) as plant:
        found = Town(plant, users)
        await found.change("add", "anna", frozenset({Role.OPERATOR}), password=PASSWORD)
        await found.change("add", "otto", frozenset({Role.OBSERVER}), password="otto's secret")
        await found.change("add", "card", frozenset({Role.ENGINEER}), certificate=CARD.der)
        core = found.core
        await core.identity.refresh(now=True)
        variables = Variables(core.aspace, set(), core.clock)
        install_roles(core.aspace, core.access, variables, lambda: core.identity.snapshot)
        yield found


@pytest.fixture(autouse=True)
async def forget(town: Town) -> None:
    await until(lambda: town.core.sessions() == [])
    town.acts.clear()
    town.core.identity._locks._kept.clear()


@asynccontextmanager
async def created(client: Client) -> AsyncIterator[Client]:
    """Have a session that nobody is signed in to yet."""
    async with channel(client):
        await client.create_session()
        yield client


async def activate(client: Client, token: Any, signature: ua.SignatureData | None = None) -> int:
    """Send ActivateSession with a token of one's choice; returns the status."""
    sent = ua.ActivateSessionRequest()
    policy = client.security_policy
    signed = (policy.peer_certificate or b"") + client._server_nonce
    sent.Parameters.ClientSignature = ua.SignatureData(
        Algorithm=policy.AsymmetricSignatureURI, Signature=policy.asymmetric_cryptography.signature(signed)
    )
    sent.Parameters.UserIdentityToken = token
    sent.Parameters.UserTokenSignature = signature or ua.SignatureData()
    try:
        answer = await request(client, sent)
    except ua.UaStatusCodeError as exc:
        return int(exc.code)
    decoded = struct_from_binary(ua.ActivateSessionResponse, answer)
    client._server_nonce = decoded.Parameters.ServerNonce
    return 0


def named(
    client: Client,
    user: str = "anna",
    password: bytes = PASSWORD.encode(),
    *,
    nonce: bytes | None = None,
    algorithm: str | None = RSA_OAEP,
    policy: str | None = f"username_{POLICY}",
    secret: bytes | None = None,
) -> ua.UserNameIdentityToken:
    """Return a UserName token (Part 4 §7.40.4), right but for what is given."""
    content = password + (client._server_nonce if nonce is None else nonce)
    plain = struct.pack("<I", len(content)) + content if secret is None else secret
    key = uacrypto.x509_from_der(client.security_policy.peer_certificate).public_key()
    encrypt = uacrypto.encrypt_rsa15 if algorithm == RSA_1_5 else uacrypto.encrypt_rsa_oaep
    token = ua.UserNameIdentityToken()
    token.UserName, token.PolicyId, token.EncryptionAlgorithm = user, policy, algorithm
    token.Password = encrypt(key, plain) if algorithm else password
    return token


def carded(
    client: Client,
    card: Identity = CARD,
    key: Identity | None = None,
    nonce: bytes | None = None,
    algorithm: str = RSA_SHA256,
) -> tuple[ua.X509IdentityToken, ua.SignatureData]:
    """Return an X509 token (Part 4 §7.40.5) and its signature, right but for what is given."""
    token = ua.X509IdentityToken()
    token.PolicyId, token.CertificateData = f"certificate_{POLICY}", card.der
    signed = client.security_policy.peer_certificate + (client._server_nonce if nonce is None else nonce)
    signature = uacrypto.sign_sha256((key or card).key, signed)
    return token, ua.SignatureData(Algorithm=algorithm, Signature=signature)


async def write_plain(client: Client, town: Town) -> int:
    """Write a set-point and return the status."""
    item = ua.WriteValue()
    item.NodeId, item.AttributeId = town.plant.plain.nodeid, ua.AttributeIds.Value
    item.Value = ua.DataValue(ua.Variant(1.5, ua.VariantType.Double))
    return int((await client.uaclient.write(ua.WriteParameters(NodesToWrite=[item])))[0].value)


async def call_echo(client: Client, town: Town) -> int:
    call = ua.CallMethodRequest()
    call.ObjectId, call.MethodId = town.plant.machine.nodeid, town.plant.methods["echo"].nodeid
    call.InputArguments = [ua.Variant("x")]
    return int((await client.uaclient.call([call]))[0].StatusCode.value)


# --- what is offered -------------------------------------------------------------------------------------


async def test_endpoints_offer_only_what_is_possible(town: Town) -> None:
    # Part 4 §7.42: the id names one policy; a password never without security.
    endpoints = await town.plant.client(None).connect_and_get_server_endpoints()
    found = {one.SecurityPolicyUri.rpartition("#")[2]: one.UserIdentityTokens for one in endpoints}
    ids = {name: [policy.PolicyId for policy in offered] for name, offered in found.items()}
    assert ids == {
        "None": ["anonymous"],
        POLICY: ["anonymous", f"username_{POLICY}", f"certificate_{POLICY}"],
        "Aes256_Sha256_RsaPss": [
            "anonymous",
            "username_Aes256_Sha256_RsaPss",
            "certificate_Aes256_Sha256_RsaPss",
        ],
    }
    by_id = {policy.PolicyId: policy for offered in found.values() for policy in offered}
    assert all(policy.SecurityPolicyUri for policy in by_id.values())
    assert by_id[f"username_{POLICY}"].SecurityPolicyUri == URI
    assert by_id[f"username_{POLICY}"].TokenType == ua.UserTokenType.UserName


async def test_without_users_there_is_only_anonymous_and_without_that_nothing(tmp_path: Path) -> None:
    users = UserStore(tmp_path)
    with capture_logs() as logs:
        async with running_plant(tmp_path, users=users, anonymous=False) as plant:
            assert "users.nobody_can_sign_in" in [log["event"] for log in logs]
            (endpoint,) = await plant.client(None).connect_and_get_server_endpoints()
            assert endpoint.UserIdentityTokens == []
            assert await status_of(plant.client().connect()) == CODES.BadIdentityTokenRejected
            cheap = UserStore(tmp_path, cost=Cost(2**10, 8, 1))
            await asyncio.to_thread(cheap.add, "anna", frozenset({Role.OPERATOR}), password=PASSWORD)
            town = Town(plant, users)
            plant.server.iserver.identity._read_s -= 1  # a second later
            async with town.client("anna") as client:  # no restart
                assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


# --- who is who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [security_policies.SecurityPolicyBasic256Sha256, PSS])
async def test_a_user_acts_with_his_own_rights_not_with_those_of_the_application(
    town: Town, policy: Any
) -> None:
    # Part 18 §4.4; the application alone may call, the operator may not.
    async with town.client(policy=policy) as client:
        assert await call_echo(client, town) == 0
    async with town.client("anna", policy=policy) as client:
        (session,) = town.core.sessions()
        assert session.user_name == "anna"
        assert session.roles == {Role.ANONYMOUS, Role.AUTHENTICATED_USER, Role.OPERATOR}
        assert session.who.startswith("anna, good client (127.0.0.1:")
        assert [(row.user, row.roles) for row in town.plant.server.sessions()] == [("anna", session.roles)]
        assert await write_plain(client, town) == 0
        assert await call_echo(client, town) == CODES.BadUserAccessDenied
    kinds = [(act.kind, act.status, act.facts.get("user")) for act in town.acts]
    assert ("session.activated", 0, "anna") in kinds
    assert ("session.closed", 0, "anna") in kinds


async def test_a_user_certificate_is_a_user(town: Town) -> None:
    client = town.client()
    client.user_certificate, client.user_private_key = CARD.certificate, CARD.key
    async with client:
        assert [session.user_name for session in town.core.sessions()] == ["card"]
        assert await call_echo(client, town) == 0
        assert await write_plain(client, town) == CODES.BadUserAccessDenied


async def test_without_security_there_is_nobody_but_anonymous(town: Town) -> None:
    async with town.client(identity=None) as client:
        assert [session.roles for session in town.core.sessions()] == [{Role.ANONYMOUS}]
        assert await write_plain(client, town) == CODES.BadUserAccessDenied
    async with created(town.client(identity=None)) as client:
        token = ua.UserNameIdentityToken()
        token.UserName, token.Password, token.PolicyId = "anna", PASSWORD.encode(), f"username_{POLICY}"
        assert await activate(client, token) == CODES.BadIdentityTokenRejected
    assert town.refusals() == ["S454"]


class Quiet:
    """Takes what a subscription delivers."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Take a value."""


async def test_another_user_on_the_same_session_changes_what_it_may(town: Town) -> None:
    # Part 4 §5.7.3: a client may change the user of its session.
    async with town.client("otto", "otto's secret") as client:
        assert await write_plain(client, town) == CODES.BadUserAccessDenied
        (session,) = town.core.sessions()
        before = session.nonce
        await client.activate_session("anna", PASSWORD)
        assert session.nonce != before
        assert await write_plain(client, town) == 0
        assert await status_of(client.activate_session("otto", "wrong")) == CODES.BadUserAccessDenied
        assert session.user_name == "anna"  # a failure changes nothing
        await client.activate_session()
        assert session.user_name == ""
        assert Role.ENGINEER in session.roles  # the application's own rights again


async def test_what_waits_for_a_user_is_not_for_the_next_one_with_less_rights(town: Town) -> None:
    # Part 4 §5.7.3
    async with town.client("anna", PASSWORD) as client:
        subscription = await client.create_subscription(3_600_000, Quiet())
        node = client.get_node(town.plant.plain.nodeid)
        await subscription.subscribe_data_change(node, ua.AttributeIds.UserAccessLevel)
        (found,) = town.core.subscription_service.subscriptions.values()
        (item,) = found.items.values()
        assert [value.Value.Value for value, _ in item.queue] == [3]
        await client.activate_session("otto", "otto's secret")
        assert [value.Value.Value for value, _ in item.queue] == [1]


async def test_sessions_of_two_users_of_one_application_are_not_the_same_user(town: Town) -> None:
    # Part 4 §5.14.7: a subscription moves only to a session of the same user.
    async with town.client("anna"), town.client("anna"), town.client("otto", "otto's secret"), town.client():
        one, two, otto, nobody = town.core.sessions()
        assert one.same_user(two)
        assert not one.same_user(otto)
        assert not one.same_user(nobody)
    async with town.client("anna"), town.client("anna", identity=OTHER):
        one, elsewhere = town.core.sessions()
        assert not one.same_user(elsewhere)


async def test_what_a_user_asked_for_is_done_in_his_name_before_another_comes(town: Town) -> None:
    async with town.client("anna") as client:
        item = ua.WriteValue()
        item.NodeId, item.AttributeId = town.plant.slow.nodeid, ua.AttributeIds.Value
        item.Value = ua.DataValue(ua.Variant(0.2, ua.VariantType.Double))
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(client.uaclient.write(ua.WriteParameters(NodesToWrite=[item])))
            await until(lambda: ("slow begins", 0.2) in town.plant.written)
            await client.activate_session("otto", "otto's secret")
            assert ("slow ends", 0.2) in town.plant.written
        assert writing.result()[0].value == CODES.GoodClamped


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        ({"password": b"wrong horse"}, "S451"),
        ({"user": "nobody"}, "S450"),
        ({"user": "admin", "password": b"admin"}, "S450"),  # asyncua made him an administrator
        ({"user": ""}, "S450"),
        ({"user": "card"}, "S451"),  # he has no password
        ({"nonce": os.urandom(32)}, "S456"),
        ({"nonce": b""}, "S456"),
        ({"secret": b"\x05\x00\x00\x00horse"}, "S456"),
        ({"secret": b"\x01"}, "S456"),
        ({"secret": struct.pack("<I", 2**31) + b"horse"}, "S456"),
        ({"password": b"x" * 120}, "S451"),
    ],
)
async def test_a_wrong_secret_gets_one_answer_whatever_is_wrong(
    town: Town, spoilt: dict[str, Any], code: str
) -> None:
    # Part 4 §5.7.3; and no hint whether the user exists, or the padding was right.
    async with created(town.client()) as client:
        with capture_logs() as logs:
            assert await activate(client, named(client, **spoilt)) == CODES.BadUserAccessDenied
        (line,) = [log for log in logs if log["event"] == "user.refused"]
        assert line["code"] == code
        assert await status_of(client.nodes.server.read_browse_name()) == CODES.BadSessionNotActivated
        assert await activate(client, named(client)) == 0  # a mistake can be mended
    assert town.refusals() == [code]
    told = repr(town.acts) + repr(logs)
    assert "horse" not in told


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        ({"algorithm": None}, "S455"),
        ({"algorithm": RSA_1_5}, "S455"),
        ({"algorithm": RSA_OAEP_SHA256}, "S455"),
        ({"algorithm": ""}, "S455"),
        ({"policy": None}, "S454"),
        ({"policy": "anonymous"}, "S454"),
        ({"policy": "username_Aes256_Sha256_RsaPss"}, "S454"),
        ({"policy": f"certificate_{POLICY}"}, "S454"),
    ],
)
async def test_a_password_only_travels_as_the_policy_says(
    town: Town, spoilt: dict[str, Any], code: str
) -> None:
    # Part 4 §7.40.4; rsa-1_5 gives the password away bit by bit.
    async with created(town.client()) as client:
        assert await activate(client, named(client, **spoilt)) == CODES.BadIdentityTokenRejected
    assert town.refusals() == [code]


async def test_a_recorded_token_is_worth_nothing_in_the_next_activation(town: Town) -> None:
    # Part 4 §7.40.2.2: the nonce inside is the last one of this session.
    async with created(town.client()) as client:
        recorded = named(client)
        assert await activate(client, recorded) == 0
        assert await activate(client, recorded) == CODES.BadUserAccessDenied
        async with created(town.client()) as other:
            assert await activate(other, recorded) == CODES.BadUserAccessDenied
    assert town.refusals() == ["S456", "S456"]


@pytest.mark.parametrize(
    ("spoilt", "status", "code"),
    [
        ({"key": FOREIGN}, CODES.BadUserAccessDenied, "S458"),
        ({"nonce": os.urandom(32)}, CODES.BadUserAccessDenied, "S458"),
        ({"card": FOREIGN}, CODES.BadUserAccessDenied, "S401"),
        ({"card": GOOD}, CODES.BadUserAccessDenied, "S401"),  # trusted as an application, no person
        ({"algorithm": ""}, CODES.BadIdentityTokenRejected, "S458"),
        (
            {"algorithm": "http://www.w3.org/2000/09/xmldsig#rsa-sha1"},
            CODES.BadIdentityTokenRejected,
            "S458",
        ),
    ],
)
async def test_a_user_certificate_that_is_not_his_is_refused(
    town: Town, spoilt: dict[str, Any], status: int, code: str
) -> None:
    async with created(town.client()) as client:
        assert await activate(client, *carded(client, **spoilt)) == status
    assert town.refusals() == [code]


@pytest.mark.parametrize(
    ("token", "taken"),
    [
        (ua.IssuedIdentityToken(PolicyId="anonymous", TokenData=b"jwt"), False),
        (ua.AnonymousIdentityToken(PolicyId=f"username_{POLICY}"), False),
        (ua.AnonymousIdentityToken(PolicyId="guest"), False),
        (ua.AnonymousIdentityToken(PolicyId="anonymous"), True),
        (ua.AnonymousIdentityToken(), True),
        (ua.ExtensionObject(), True),  # Part 4 §5.7.3: a null token is anonymous
    ],
)
async def test_tokens_of_other_kinds(town: Town, token: Any, taken: bool) -> None:
    async with created(town.client()) as client:
        assert await activate(client, token) == (0 if taken else CODES.BadIdentityTokenRejected)
    assert town.refusals() == ([] if taken else ["S454"])


# --- guessing --------------------------------------------------------------------------------------------


async def test_five_guesses_lock_the_user_for_that_client_only(town: Town) -> None:
    # The right password does not help any more, and the answer does not tell that it is locked.
    with capture_logs() as logs:
        async with created(town.client()) as client:
            for _ in range(5):
                token = named(client, password=b"guess")
                assert await activate(client, token) == CODES.BadUserAccessDenied
            assert await activate(client, named(client)) == CODES.BadUserAccessDenied
            assert await activate(client, named(client, "otto", b"otto's secret")) == 0
    assert town.refusals() == ["S451"] * 5 + ["S453"]
    (lock,) = [act for act in town.acts if act.kind == "user.locked"]
    assert (lock.facts["user"], lock.facts["lock_s"]) == ("anna", 300)
    assert [log["user"] for log in logs if log["event"] == "user.locked"] == ["anna"]
    async with town.client("anna", identity=OTHER) as elsewhere:
        assert await write_plain(elsewhere, town) == 0


async def test_a_flood_of_guesses_at_once_gets_no_more_than_one_after_the_other(town: Town) -> None:
    async def guess() -> None:
        async with created(town.client()) as client:
            await activate(client, named(client, password=b"guess"))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(12):
            tasks.create_task(guess())
    assert sorted(town.refusals()) == ["S451"] * 5 + ["S453"] * 7


# --- sign-ins that cross something -----------------------------------------------------------------------


async def test_of_two_activations_at_once_one_counts_and_the_other_is_too_late(town: Town) -> None:
    # The nonce of the first is used up when the second is decided.
    async with created(town.client()) as client:
        tokens = [named(client), named(client, "otto", b"otto's secret")]
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(activate(client, token)) for token in tokens]
        assert [task.result() for task in both] == [0, CODES.BadApplicationSignatureInvalid]
        assert [session.user_name for session in town.core.sessions()] == ["anna"]


async def test_a_session_closed_meanwhile_is_not_revived(town: Town) -> None:
    async with created(town.client()) as client:
        (session,) = town.core.sessions()
        turn = town.core.identity._turn
        await turn.acquire()  # as if somebody else's password were being hashed
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(activate(client, named(client)))
            await until(lambda: town.core.identity._waiting == 1)
            await session.close_session(delete_subs=True)
            turn.release()
        assert waiting.result() == CODES.BadSessionIdInvalid
        assert session.is_over
        assert town.core.sessions() == []


async def test_of_two_channels_that_want_one_session_one_gets_it(town: Town) -> None:
    turn = town.core.identity._turn
    async with town.client("anna") as here, channel(town.client()) as there:
        there.uaclient.protocol.authentication_token = here.uaclient.session.authentication_token
        there._server_nonce = here._server_nonce
        await turn.acquire()
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(activate(client, named(client))) for client in (here, there)]
            await until(lambda: town.core.identity._waiting == 2)
            turn.release()
        assert sorted(task.result() for task in both) == [0, CODES.BadSessionIdInvalid]
        assert len(town.core.sessions()) == 1


async def test_a_session_moves_to_another_channel_with_its_user_only(town: Town) -> None:
    # Part 4 §5.7.3; otherwise otto would inherit what anna subscribed to.
    async with town.client("anna") as here, channel(town.client()) as there:
        there.uaclient.protocol.authentication_token = here.uaclient.session.authentication_token
        there._server_nonce = here._server_nonce
        for token in (named(there, "otto", b"otto's secret"), ua.AnonymousIdentityToken()):
            assert await activate(there, token) == CODES.BadIdentityChangeNotSupported
        assert await write_plain(here, town) == 0
        assert await activate(there, named(there)) == 0
        assert [session.user_name for session in town.core.sessions()] == ["anna"]


async def test_requests_behind_a_sign_in_wait_for_it(town: Town) -> None:
    async with created(town.client()) as client:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(activate(client, named(client)))
            await asyncio.sleep(0)
            name = await client.nodes.server.read_browse_name()
        assert name.Name == "Server"


async def test_a_queue_of_sign_ins_is_bounded(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(town.core.identity, "_waiting", MAX_WAITING)
    assert await status_of(town.client("anna").connect()) == CODES.BadServerTooBusy


async def test_a_sign_in_that_takes_too_long_is_refused(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_opcua.opcua.seam.identity.VERIFY_S", 0.05)
    async with town.core.identity._turn:
        assert await status_of(town.client("anna").connect()) == CODES.BadUserAccessDenied
    assert town.refusals() == ["S459"]


async def test_a_write_without_an_end_keeps_the_next_user_out(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_opcua.opcua.seam.jobs.SETTLE_S", 0.05)
    gate = town.plant.gates["held"] = asyncio.Event()
    async with town.client("anna") as client:
        item = ua.WriteValue()
        item.NodeId, item.AttributeId = town.plant.held.nodeid, ua.AttributeIds.Value
        item.Value = ua.DataValue(ua.Variant(1.0, ua.VariantType.Double))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.uaclient.write(ua.WriteParameters(NodesToWrite=[item])))
            await until(lambda: ("held begins", 1.0) in town.plant.written)
            changing = client.activate_session("otto", "otto's secret")
            assert await status_of(changing) == CODES.BadInvalidState
            gate.set()
        assert [session.user_name for session in town.core.sessions()] == ["anna"]


# --- while somebody is signed in -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["disable", "remove", "password"])
async def test_who_is_taken_away_loses_his_open_session(town: Town, how: str) -> None:
    await town.change("add", "temp", frozenset({Role.OPERATOR}), password=PASSWORD)
    try:
        async with town.client("temp") as client:
            assert await write_plain(client, town) == 0
            if how == "disable":
                await town.change("set_disabled", "temp", disabled=True)
            elif how == "remove":
                await town.change("remove", "temp")
            else:
                await town.change("set_password", "temp", "another secret")
            await until(lambda: town.core.sessions() == [])
            client._auto_reconnect = False
    except (ConnectionError, ua.UaError):
        pass  # the client says goodbye to a connection that is closed
    finally:
        if how != "remove":
            await town.change("remove", "temp")
    assert [act.facts["user"] for act in town.acts if act.kind == "session.closed"] == ["temp"]


async def test_other_roles_count_in_an_open_session_too(town: Town) -> None:
    await town.change("add", "temp", frozenset({Role.OPERATOR}), password=PASSWORD)
    async with town.client("temp") as client, town.client(identity=OTHER) as application:
        assert await write_plain(client, town) == 0
        assert await write_plain(application, town) == 0
        await town.change("set_roles", "temp", frozenset({Role.OBSERVER}))
        await asyncio.to_thread(town.plant.trust.set_roles, OTHER.print, frozenset({Role.ENGINEER}))
        await until(lambda: not any(Role.OPERATOR in session.roles for session in town.core.sessions()))
        assert await write_plain(client, town) == CODES.BadUserAccessDenied
        assert await write_plain(application, town) == CODES.BadUserAccessDenied
    await town.change("remove", "temp")
    await asyncio.to_thread(town.plant.trust.set_roles, OTHER.print, frozenset({Role.OPERATOR}))


async def test_users_that_cannot_be_read_keep_out_and_end_nothing(town: Town, tmp_path: Path) -> None:
    file = town.users._file
    content = await asyncio.to_thread(file.read_bytes)
    async with town.client("anna") as client:
        try:
            with capture_logs() as logs:  # the open session may look at once
                await asyncio.to_thread(file.write_bytes, b"{ torn")
                refused = town.client("otto", "otto's secret").connect()
                assert await status_of(refused) == CODES.BadUserAccessDenied
                await asyncio.sleep(0.25)  # two looks of the open session
            told = [log for log in logs if log["event"] == "users.not_readable"]
            assert [log["code"] for log in told if log["log_level"] == "error"] == ["S459"]
            assert town.refusals() == ["S459"]
            assert await write_plain(client, town) == 0
        finally:
            await asyncio.to_thread(file.write_bytes, content)
            await asyncio.to_thread(file.chmod, 0o600)


# --- RoleSet (Part 18 §4.3) ------------------------------------------------------------------------------


async def test_whoever_an_authority_vouches_for_is_a_group() -> None:
    # Part 18 §4.4.3 has no criterion for it.
    until_ = CARD.certificate.not_valid_after_utc
    clients = [
        Trusted("plant CA", "", "AB", until_, True, Path("ca.der"), frozenset({Role.OPERATOR})),
        Trusted("panel", "urn:panel", "CD", until_, False, Path("panel.der"), frozenset({Role.OBSERVER})),
    ]
    (rule,) = mapping(Role.OPERATOR, Snapshot(clients=tuple(clients)))
    assert (rule.CriteriaType, rule.Criteria) == (ua.IdentityCriteriaType.GroupId, "issued by plant CA")


async def role_property(client: Client, role: Role, name: str) -> Any:
    identifier = getattr(ua.ObjectIds, f"WellKnownRole_{role.browse_name}_{name}")
    return await client.get_node(ua.NodeId(identifier)).read_value()


async def test_a_security_admin_sees_who_has_which_role_and_nobody_else_does(town: Town) -> None:
    await town.change("add", "sec", frozenset({Role.SECURITY_ADMIN}), password=PASSWORD)
    async with town.client("sec") as client:
        kinds = ua.IdentityCriteriaType
        found = {
            role: [
                (one.CriteriaType, one.Criteria) for one in await role_property(client, role, "Identities")
            ]
            for role in Role
        }
        assert found[Role.ANONYMOUS] == [(kinds.Anonymous, "")]
        assert found[Role.AUTHENTICATED_USER] == [(kinds.AuthenticatedUser, "")]
        assert (kinds.UserName, "anna") in found[Role.OPERATOR]
        assert (kinds.Application, "urn:test:good client") in found[Role.OPERATOR]
        assert (kinds.Thumbprint, CARD.print) in found[Role.ENGINEER]
        assert found[Role.SECURITY_ADMIN] == [(kinds.UserName, "sec")]
        assert await role_property(client, Role.OPERATOR, "ApplicationsExclude") is True
        assert await role_property(client, Role.OPERATOR, "Applications") == []
        add = ua.CallMethodRequest()
        add.ObjectId = ua.NodeId(Role.OPERATOR.value)
        add.MethodId = ua.NodeId(ua.ObjectIds.WellKnownRole_Operator_AddIdentity)
        add.InputArguments = [ua.Variant(ua.IdentityMappingRuleType())]
        (answer,) = await client.uaclient.call([add])
        assert answer.StatusCode.value == CODES.BadNotExecutable
        roles = await client.get_node(ua.ObjectIds.Server_ServerCapabilities_RoleSet).get_children()
        names = {(await node.read_browse_name()).Name for node in roles}
        assert names >= {role.browse_name for role in Role}
        assert "TrustedApplication" not in names
    async with town.client("anna") as client:
        code = await status_of(role_property(client, Role.OPERATOR, "Identities"))
        assert code == CODES.BadUserAccessDenied
    await town.change("remove", "sec")
