"""Strangers, thieves and noise: each is refused, and the honest client is served all the while."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from asyncua import Client, ua
from asyncua.common.utils import Buffer, NotEnoughData, ServiceError
from asyncua.crypto import security_policies
from asyncua.ua.ua_binary import (
    Primitives,
    nodeid_from_binary,
    nodeid_to_binary,
    struct_to_binary,
    uatcp_to_binary,
    variant_from_binary,
    variant_to_binary,
)

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam import ServerSecurity
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.gate import Gate
from edge_opcua.security.pki import Pki
from edge_opcua.security.trust import Knock, TrustList
from edge_opcua.testing import ManualClock
from tests.opcua.secure_peers import (
    GOOD,
    OTHER,
    STRANGER,
    Plant,
    channel,
    request,
    running_plant,
    status_of,
    until,
)
from tests.security.certificates import make

CODES = ua.StatusCodes


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="module")
async def lax(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """A server with security None configured, and small limits."""
    limits = ServerLimits(
        connections=8,
        per_address=8,
        sessions=3,
        activation_s=5.0,
        recheck_s=0.1,
        min_lifetime_s=0.2,
        message_bytes=200_000,
        waiting_messages=4,
    )
    async with running_plant(tmp_path_factory.mktemp("state"), allow_none=True, limits=limits) as running:
        yield running


async def create(client: Client, identity: Any = GOOD, **parameters: Any) -> Any:
    """Send CreateSession as an honest client would, but for the given parameters."""
    description = ua.ApplicationDescription()
    description.ApplicationUri = client.application_uri
    sent: dict[str, Any] = {
        "ClientDescription": description,
        "ClientCertificate": identity.der if identity else None,
        "ClientNonce": os.urandom(32),
        "EndpointUrl": client.server_url.geturl(),
        "SessionName": "intruder",
        "RequestedSessionTimeout": 60_000.0,
    }
    return await request(client, ua.CreateSessionRequest(), **{**sent, **parameters})


def use_token(client: Client, token: ua.NodeId) -> None:
    client.uaclient.protocol.authentication_token = token


def token_of(client: Client) -> ua.NodeId:
    return client.uaclient.session.authentication_token


async def read(client: Client, plant: Plant) -> Any:
    item = ua.ReadValueId()
    item.NodeId, item.AttributeId = plant.plain.nodeid, ua.AttributeIds.Value
    return await request(client, ua.ReadRequest(), NodesToRead=[item])


# --- who may open a channel ----------------------------------------------------------------------------


async def test_a_trusted_client_finds_names_and_certificate_that_match(plant: Plant) -> None:
    async with plant.client() as client:
        (endpoint,) = await client.get_endpoints()
        assert endpoint.Server.ApplicationUri == plant.pki.application_uri
        assert endpoint.ServerCertificate == plant.pki.certificate_der
        assert endpoint.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
        assert endpoint.EndpointUrl == plant.server.url
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        array = await client.nodes.namespace_array.read_value()
        assert array[1] == plant.pki.application_uri  # Part 5 §6.3.1


async def test_a_stranger_learns_nothing_and_the_operator_everything(plant: Plant) -> None:
    assert await status_of(plant.client(STRANGER).connect()) == CODES.BadSecurityChecksFailed
    knock = plant.knocks[-1]
    assert (knock.name, knock.code, knock.reason) == ("stranger", "S401", "not trusted")
    assert knock.address.startswith("127.0.0.1:")
    assert [k.thumbprint for k in await asyncio.to_thread(plant.trust.rejected)] == [STRANGER.print]
    assert await plant.read_by_a_good_client() == 1.5


async def test_trusting_a_stranger_and_taking_it_back_needs_no_restart(plant: Plant) -> None:
    assert await status_of(plant.client(STRANGER).connect()) == CODES.BadSecurityChecksFailed
    await asyncio.to_thread(plant.trust.trust, STRANGER.print)
    async with plant.client(STRANGER) as client:
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        await asyncio.to_thread(plant.trust.distrust, STRANGER.print)
        # The channel that is open ends at its renewal.
        renewal = await status_of(client.open_secure_channel(renew=True))
        assert renewal == CODES.BadSecurityChecksFailed
    assert await status_of(plant.client(STRANGER).connect()) == CODES.BadSecurityChecksFailed


async def test_an_open_channel_ends_soon_after_its_trust_is_withdrawn(lax: Plant) -> None:
    await asyncio.to_thread(lax.trust.add, STRANGER.der)
    async with lax.client() as good:
        client = lax.client(STRANGER)
        await client.connect()
        protocol = client.uaclient.protocol
        await asyncio.to_thread(lax.trust.distrust, STRANGER.print)
        await until(lambda: protocol.transport is None)
        await client.disconnect()
        assert await good.get_node(lax.plain.nodeid).read_value() == 1.5


async def test_a_client_that_holds_an_older_certificate_of_ours_is_told_in_the_log(plant: Plant) -> None:
    client = plant.client()
    policy = client.security_policy
    before = policy.peer_certificate
    policy.peer_certificate = OTHER.der  # its thumbprint is what the client sends
    assert await status_of(client.connect()) != 0
    policy.peer_certificate = before
    assert plant.knocks[-1].code == "S412"


async def test_a_policy_that_is_not_offered_opens_nothing(plant: Plant) -> None:
    for policy in (
        security_policies.SecurityPolicyAes256Sha256RsaPss,
        security_policies.SecurityPolicyBasic256,
    ):
        refused = await status_of(plant.client(policy=policy).connect())
        assert refused == CODES.BadSecurityChecksFailed
        assert plant.knocks[-1].code == "S413"


async def test_a_channel_that_only_signs_is_not_offered(plant: Plant) -> None:
    assert await status_of(plant.client(mode=ua.MessageSecurityMode.Sign).connect()) != 0
    assert (plant.knocks[-1].code, plant.knocks[-1].name) == ("S415", "good client")
    assert await plant.read_by_a_good_client() == 1.5


async def test_every_policy_we_offer_works(tmp_path: Path) -> None:
    names = ("Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
    urls = ("opc.tcp://press.example:4840",)
    async with running_plant(tmp_path, policies=names, advertised_urls=urls) as many:
        for policy in (
            security_policies.SecurityPolicyAes128Sha256RsaOaep,
            security_policies.SecurityPolicyAes256Sha256RsaPss,
        ):
            async with many.client(policy=policy) as client:
                assert await client.get_node(many.plain.nodeid).read_value() == 1.5
        async with channel(many.client(None)) as anybody:
            endpoints = await anybody.get_endpoints()
            assert {endpoint.EndpointUrl for endpoint in endpoints} == set(urls)
            (found,) = await anybody.find_servers()
            assert found.DiscoveryUrls == list(urls)
        assert many.server.urls() == urls


async def test_a_trust_list_that_cannot_be_read_trusts_nobody_and_ends_no_open_channel(
    lax: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    async with lax.client() as client:
        monkeypatch.setattr(lax.trust, "decide", broken)
        monkeypatch.setattr(lax.trust, "version", broken)
        assert await status_of(lax.client(OTHER).connect()) == CODES.BadSecurityChecksFailed
        assert lax.knocks[-1].code == "S414"
        await asyncio.sleep(0.3)
        assert await client.get_node(lax.plain.nodeid).read_value() == 1.5
        monkeypatch.setattr(lax.trust, "version", lambda: (1,))
        await asyncio.sleep(0.3)
        assert await client.get_node(lax.plain.nodeid).read_value() == 1.5
        monkeypatch.undo()
    assert await lax.read_by_a_good_client() == 1.5


async def test_a_crowd_of_strangers_fills_neither_log_nor_disk_and_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    listed = TrustList(tmp_path)
    busy = threading.Event()
    told: list[Knock] = []
    monkeypatch.setattr(listed, "record", lambda decision, address: busy.wait(5) and None)
    monkeypatch.setattr("edge_opcua.opcua.seam.gate.MAX_LINES", 3)
    security = ServerSecurity(Pki(tmp_path, GOOD.certificate, GOOD.key), listed, on_refused=told.append)
    gate = Gate(security, clock)
    with structlog.testing.capture_logs() as logs:
        recording = [asyncio.ensure_future(gate.admit(STRANGER.der, "192.0.2.1:1")) for _ in range(4)]
        await asyncio.sleep(0.05)
        for peer in range(8):
            decision = await gate.admit(make(f"crowd {peer}", key=STRANGER.key).der, f"192.0.2.2:{peer}")
            assert decision.code == "S401"
        assert [knock.number for knock in told] == [0] * 8  # reported, not kept
        clock.step(61)
        gate.refuse(decision, "192.0.2.2:9")
        for task in recording:
            task.cancel()
        await asyncio.gather(*recording, return_exceptions=True)
    busy.set()
    gate.close()
    lines = [(line["event"], line["log_level"]) for line in logs]
    assert lines.count(("client.refused", "warning")) == 4
    assert ("client.refused_more", "warning") in lines


# --- who may have a session ----------------------------------------------------------------------------


async def test_a_null_client_certificate_opens_no_session(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        assert await status_of(create(client, None)) == CODES.BadCertificateInvalid
        assert await status_of(create(client, None, ClientCertificate=b"")) == CODES.BadCertificateInvalid
    assert plant.knocks[-1].code == "S420"
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_swapped_client_certificate_opens_no_session(plant: Plant) -> None:
    # OTHER is trusted, and its certificate is public: having it proves nothing.
    async with channel(plant.client()) as client:
        assert await status_of(create(client, OTHER)) == CODES.BadCertificateInvalid
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_borrowed_application_uri_opens_no_session(plant: Plant) -> None:
    async with channel(plant.client(uri="urn:test:other client")) as client:
        assert await status_of(create(client)) == CODES.BadCertificateUriInvalid
    assert plant.knocks[-1].code == "S421"


async def test_a_short_nonce_opens_no_session(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        assert await status_of(create(client, ClientNonce=b"short")) == CODES.BadNonceInvalid


async def test_without_security_there_is_discovery_and_nothing_else(plant: Plant) -> None:
    async with channel(plant.client(None)) as client:
        assert len(await client.get_endpoints()) == 1
        (server,) = await client.find_servers()
        assert server.ApplicationUri == plant.pki.application_uri
        assert await status_of(create(client, None)) == CODES.BadSecurityModeInsufficient
        assert await status_of(read(client, plant)) == CODES.BadSessionIdInvalid


async def test_a_session_does_nothing_before_it_is_activated(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        await client.create_session()
        assert await status_of(read(client, plant)) == CODES.BadSessionNotActivated


async def test_a_second_session_on_a_channel_is_refused_and_the_first_lives(plant: Plant) -> None:
    async with plant.client() as client:
        assert await status_of(create(client)) == CODES.BadTooManySessions
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_sessions_that_were_never_activated_do_not_pile_up(plant: Plant) -> None:
    before = len(plant.server.sessions())
    async with channel(plant.client()) as client:
        for _ in range(5):
            await create(client)
        assert len(plant.server.sessions()) == before + 1
    await until(lambda: len(plant.server.sessions()) == before)


async def test_user_names_and_user_certificates_are_refused(plant: Plant) -> None:
    # Without users no name and no password means anything: not even "admin".
    for token in (
        ua.UserNameIdentityToken(PolicyId="username", UserName="admin", Password=b"admin"),
        ua.X509IdentityToken(PolicyId="certificate", CertificateData=GOOD.der),
    ):
        async with channel(plant.client()) as client:
            await client.create_session()
            policy = client.security_policy
            signed = policy.peer_certificate + client._server_nonce
            signature = ua.SignatureData(Signature=policy.asymmetric_cryptography.signature(signed))
            activate = ua.ActivateSessionRequest()
            refused = await status_of(
                request(client, activate, ClientSignature=signature, UserIdentityToken=token)
            )
            assert refused == CODES.BadIdentityTokenRejected
            assert await status_of(read(client, plant)) == CODES.BadSessionNotActivated


# --- tokens --------------------------------------------------------------------------------------------


async def test_tokens_are_random_and_session_ids_are_not_counted(plant: Plant) -> None:
    async with plant.client() as one, plant.client(OTHER) as two:
        tokens = [token_of(one), token_of(two)]
        assert all(len(token.Identifier) == 32 for token in tokens)
        assert tokens[0] != tokens[1]
        sessions = plant.server.iserver.sessions()
        assert all(session.session_id.NodeIdType == ua.NodeIdType.Guid for session in sessions)
        assert all(session.session_id != session.auth_token for session in sessions)


async def test_a_guessed_token_is_no_session(plant: Plant) -> None:
    async with plant.client(OTHER):
        async with channel(plant.client()) as thief:
            guesses = [ua.NodeId(n) for n in (0, 10, 11, 1000, 1001, 1002, 1003)]
            for guess in (*guesses, ua.NodeId(os.urandom(32), 0, ua.NodeIdType.ByteString), ua.NodeId()):
                use_token(thief, guess)
                assert await status_of(read(thief, plant)) == CODES.BadSessionIdInvalid
                activate = request(thief, ua.ActivateSessionRequest())
                assert await status_of(activate) == CODES.BadSessionIdInvalid
        async with plant.client() as thief:
            own = token_of(thief)
            use_token(thief, ua.NodeId(os.urandom(32), 0, ua.NodeIdType.ByteString))
            assert await status_of(read(thief, plant)) == CODES.BadSessionIdInvalid
            use_token(thief, own)
    assert await plant.read_by_a_good_client() == 1.5


@pytest.mark.parametrize("identity", [None, OTHER], ids=["no security", "another trusted client"])
async def test_a_stolen_token_is_worth_nothing_on_another_channel(plant: Plant, identity: Any) -> None:
    seen: list[float] = []

    class Handler:
        def datachange_notification(self, node: Any, value: float, data: Any) -> None:
            seen.append(value)

    async with plant.client(GOOD) as victim:
        subscription = await victim.create_subscription(20, Handler())
        await subscription.subscribe_data_change(plant.plain)
        await until(lambda: seen == [1.5])
        async with channel(plant.client(identity)) as thief:
            use_token(thief, token_of(victim))
            assert await status_of(read(thief, plant)) == CODES.BadSessionIdInvalid
            close = ua.CloseSessionRequest()
            assert await status_of(request(thief, close)) == CODES.BadSessionIdInvalid
            publish = request(thief, ua.PublishRequest())
            assert await status_of(publish) == CODES.BadSessionIdInvalid
            thief._server_nonce = victim._server_nonce
            stolen = thief.activate_session if identity else None
            if stolen is not None:
                thief._policy_ids = victim._policy_ids
                assert await status_of(stolen()) == CODES.BadSecureChannelIdInvalid
            else:
                activate = request(thief, ua.ActivateSessionRequest())
                assert await status_of(activate) == CODES.BadSecureChannelIdInvalid
        assert plant.knocks[-1].code == "S422"
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(7.5)))
        await until(lambda: seen == [1.5, 7.5])
    await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(1.5)))


async def test_a_stolen_token_beside_a_session_of_ones_own_is_worth_nothing(plant: Plant) -> None:
    async with plant.client() as victim, plant.client(OTHER) as thief:
        own = token_of(thief)
        use_token(thief, token_of(victim))
        assert await status_of(read(thief, plant)) == CODES.BadSessionIdInvalid
        delete = request(thief, ua.DeleteSubscriptionsRequest(), SubscriptionIds=[1])
        assert await status_of(delete) == CODES.BadSessionIdInvalid
        use_token(thief, own)
        assert await victim.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_nobody_closes_anothers_session(plant: Plant) -> None:
    # Part 4 §5.7.4: a session is closed on its own channel only.
    async with plant.client() as victim, channel(plant.client(OTHER)) as thief:
        use_token(thief, token_of(victim))
        close = request(thief, ua.CloseSessionRequest(), DeleteSubscriptions=True)
        assert await status_of(close) == CODES.BadSessionIdInvalid
        assert await victim.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_an_unsigned_or_forged_activation_is_refused(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        await client.create_session()
        forger = plant.client(OTHER).security_policy.asymmetric_cryptography
        data = plant.pki.certificate_der + client._server_nonce
        for signature in (None, b"", b"x" * 256, forger.signature(data)):
            activate = ua.ActivateSessionRequest()
            activate.Parameters.ClientSignature.Signature = signature
            refused = await status_of(request(client, activate))
            assert refused == CODES.BadApplicationSignatureInvalid
        assert plant.knocks[-1].code == "S423"
        assert await status_of(read(client, plant)) == CODES.BadSessionNotActivated
        await client.activate_session()
        await read(client, plant)


async def test_an_activation_signed_for_an_earlier_nonce_is_refused(plant: Plant) -> None:
    async with plant.client() as client:
        activate = ua.ActivateSessionRequest()
        data = plant.pki.certificate_der + os.urandom(32)
        signature = client.security_policy.asymmetric_cryptography.signature(data)
        activate.Parameters.ClientSignature.Signature = signature
        assert await status_of(request(client, activate)) == CODES.BadApplicationSignatureInvalid
        await client.activate_session()


async def test_the_same_client_may_move_its_session_to_a_new_channel(plant: Plant) -> None:
    # Part 4 §5.7.3, and what every client does after a broken cable.
    seen: list[float] = []

    class Handler:
        def datachange_notification(self, node: Any, value: float, data: Any) -> None:
            seen.append(value)

    old = plant.client()
    await old.connect()
    subscription = await old.create_subscription(20, Handler())
    await subscription.subscribe_data_change(plant.plain)
    await until(lambda: len(seen) == 1)
    async with channel(plant.client()) as new:
        use_token(new, token_of(old))
        new._server_nonce, new._policy_ids = old._server_nonce, old._policy_ids
        await new.activate_session()
        await read(new, plant)
        assert await status_of(read(old, plant)) == CODES.BadSessionIdInvalid
        answer = asyncio.ensure_future(request(new, ua.PublishRequest()))
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(3.5)))
        await answer
        assert seen == [1.5]
    await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(1.5)))
    old.uaclient.request_disconnect()
    await old.disconnect()


async def test_a_session_cannot_be_moved_before_its_first_activation(plant: Plant) -> None:
    async with channel(plant.client()) as one, channel(plant.client()) as two:
        await one.create_session()
        use_token(two, token_of(one))
        two._server_nonce, two._policy_ids = one._server_nonce, one._policy_ids
        assert await status_of(two.activate_session()) == CODES.BadSecureChannelIdInvalid


# --- services that are not for clients -----------------------------------------------------------------


async def test_nobody_registers_servers_here(plant: Plant) -> None:
    evil = ua.RegisteredServer(
        ServerUri="urn:evil", ServerNames=[ua.LocalizedText("evil")], DiscoveryUrls=["opc.tcp://evil:1"]
    )
    async with channel(plant.client(None)) as stranger, plant.client() as client:
        for who in (stranger, client):
            first = request(who, ua.RegisterServerRequest(), Server=evil)
            second = request(who, ua.RegisterServer2Request(), Server=evil)
            assert await status_of(first) == CODES.BadServiceUnsupported
            assert await status_of(second) == CODES.BadServiceUnsupported
        assert [server.ApplicationUri for server in await client.find_servers()] == [
            plant.pki.application_uri
        ]


async def test_clients_do_not_change_the_address_space(plant: Plant) -> None:
    async with plant.client() as client:
        for message in (
            ua.AddNodesRequest(),
            ua.DeleteNodesRequest(),
            ua.AddReferencesRequest(),
            ua.DeleteReferencesRequest(),
        ):
            assert await status_of(request(client, message)) == CODES.BadServiceUnsupported
        node = client.get_node(plant.machine.nodeid)
        assert await status_of(node.add_variable(2, "x", 1.0)) == CODES.BadServiceUnsupported
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.DisplayName):
            written = await status_of(
                client.get_node(plant.readonly.nodeid).write_attribute(
                    attribute, ua.DataValue(ua.Variant(3, ua.VariantType.Byte))
                )
            )
            assert written == CODES.BadNotWritable


async def test_one_session_does_not_touch_anothers_subscription(plant: Plant) -> None:
    class Handler:
        def datachange_notification(self, node: Any, value: float, data: Any) -> None:
            return

    async with plant.client() as victim, plant.client(OTHER) as thief:
        subscription = await victim.create_subscription(50, Handler())
        handle = await subscription.subscribe_data_change(plant.plain)
        stolen = subscription.subscription_id
        own = await thief.create_subscription(50, Handler())
        codes = [
            (ua.ModifySubscriptionRequest(), {"SubscriptionId": stolen}),
            (
                ua.CreateMonitoredItemsRequest(),
                {"SubscriptionId": stolen, "ItemsToCreate": [ua.MonitoredItemCreateRequest()]},
            ),
            (
                ua.ModifyMonitoredItemsRequest(),
                {"SubscriptionId": stolen, "ItemsToModify": [ua.MonitoredItemModifyRequest()]},
            ),
            (ua.DeleteMonitoredItemsRequest(), {"SubscriptionId": stolen, "MonitoredItemIds": [handle]}),
            (ua.SetMonitoringModeRequest(), {"SubscriptionId": stolen, "MonitoredItemIds": [handle]}),
            (ua.RepublishRequest(), {"SubscriptionId": stolen, "RetransmitSequenceNumber": 1}),
        ]
        for message, parameters in codes:
            assert await status_of(request(thief, message, **parameters)) == CODES.BadSubscriptionIdInvalid
        session = thief.uaclient.session
        results = await session.delete_subscriptions([stolen])
        assert [result.value for result in results] == [CODES.BadSubscriptionIdInvalid]
        mode = ua.SetPublishingModeParameters(PublishingEnabled=False, SubscriptionIds=[stolen])
        assert [r.value for r in await session.set_publishing_mode(mode)] == [CODES.BadSubscriptionIdInvalid]
        transfer = ua.TransferSubscriptionsParameters(SubscriptionIds=[stolen, 4_000_000_000])
        (first, second) = await session.transfer_subscriptions(transfer)
        assert first.StatusCode.value == CODES.BadUserAccessDenied
        assert second.StatusCode.value == CODES.BadSubscriptionIdInvalid
        await own.delete()
        assert plant.server.iserver.subscription_service.subscriptions[stolen].cycle.enabled


# --- noise ---------------------------------------------------------------------------------------------


async def speak(plant: Plant, *packets: bytes, answers: bool = True) -> bytes:
    """Send bytes as they are and return all that comes back until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plant.server.port)
    try:
        for packet in packets:
            writer.write(packet)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


HELLO = uatcp_to_binary(ua.MessageType.Hello, ua.Hello())


@pytest.mark.parametrize(
    "packets",
    [
        [b"GET / HTTP/1.1\r\n\r\n"],
        [b"\x00" * 64],
        [os.urandom(4096)],
        [b"HELF" + struct.pack("<I", 7)],
        [b"HELF" + struct.pack("<I", 0xFFFFFFFF)],
        [b"HELF" + struct.pack("<I", 65536) + b"x" * 70_000],
        [b"MSGF" + struct.pack("<II", 12, 0)],
        [HELLO, HELLO],
        [HELLO, b"MSGF" + struct.pack("<III", 24, 0, 0) + b"\x00" * 8],
        [HELLO, b"CLOF" + struct.pack("<III", 24, 0, 0) + b"\x00" * 8],
        [HELLO, b"OPNF" + struct.pack("<II", 64, 0) + os.urandom(52)],
        [HELLO, b"OPNC" + struct.pack("<II", 32, 0) + struct.pack("<iii", -1, -1, -1) + b"\x00" * 8],
        [HELLO, b"ERRF" + struct.pack("<I", 16) + b"\x00" * 8],
        [uatcp_to_binary(ua.MessageType.Hello, ua.Hello(ReceiveBufferSize=1, SendBufferSize=1))],
        [b"OPNF" + struct.pack("<II", 24, 0) + b"\x00" * 12],
    ],
)
async def test_garbage_ends_its_own_connection_only(plant: Plant, packets: list[bytes]) -> None:
    await speak(plant, *packets)
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_chunk_that_was_changed_on_the_way_ends_the_channel(plant: Plant) -> None:
    client = plant.client()
    await client.connect()
    protocol = client.uaclient.protocol
    message = bytearray(
        protocol._connection.message_to_binary(b"\x01\x00\x77\x02" + b"\x00" * 64, request_id=99)
    )
    message[-1] ^= 1
    protocol.transport.write(bytes(message))
    await until(lambda: protocol.transport is None)
    await client.disconnect()
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_repeated_chunk_ends_the_channel(plant: Plant) -> None:
    # Part 6 §6.7.2.4: a sequence number that does not rise closes the channel.
    client = plant.client()
    await client.connect()
    protocol = client.uaclient.protocol
    protocol._connection._sequence_number -= 1
    with pytest.raises((ConnectionError, ua.UaError)):
        await read(client, plant)
    await client.disconnect()
    assert await plant.read_by_a_good_client() == 1.5


async def test_an_undecodable_request_is_an_answer_not_the_end(plant: Plant) -> None:
    async with plant.client() as client:
        protocol = client.uaclient.protocol
        session = ua.ReadRequest()
        protocol._setup_request_header(session.RequestHeader)
        body = struct_to_binary(session)[:-4] + struct.pack("<i", 1000)  # announces nodes that do not come
        message = protocol._connection.message_to_binary(body, request_id=protocol._request_id + 1)
        protocol._request_id += 1
        answer = asyncio.get_running_loop().create_future()
        protocol._callbackmap[protocol._request_id] = answer
        protocol.transport.write(message)
        data = await answer
        with pytest.raises(ua.uaerrors.BadDecodingError):
            protocol.check_answer(data, "")
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_an_unknown_service_is_answered(plant: Plant) -> None:
    async with plant.client() as client:
        for message in (ua.QueryFirstRequest(), ua.QueryNextRequest(), ua.FindServersOnNetworkRequest()):
            assert await status_of(request(client, message)) == CODES.BadServiceUnsupported


async def test_a_large_message_before_activation_ends_the_connection(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        with pytest.raises((ConnectionError, ua.UaError)):
            await create(client, SessionName="x" * 100_000)
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_message_beyond_the_limit_ends_the_connection(lax: Plant) -> None:
    client = lax.client()
    await client.connect()
    node = client.get_node(lax.plain.nodeid)
    assert await status_of(node.write_value("x" * 100_000)) == CODES.BadTypeMismatch  # that is fine
    with pytest.raises((ConnectionError, ua.UaError)):
        await node.write_value("x" * 300_000)
    await client.disconnect()
    assert await lax.read_by_a_good_client() == 1.5


# --- None, when it is configured -----------------------------------------------------------------------


async def test_without_security_one_may_read_and_subscribe_but_not_write_or_call(lax: Plant) -> None:
    seen: list[float] = []

    class Handler:
        def datachange_notification(self, node: Any, value: float, data: Any) -> None:
            seen.append(value)

    async with lax.client(None) as client:
        node = client.get_node(lax.plain.nodeid)
        assert await node.read_value() == 1.5
        assert await status_of(node.write_value(9.0)) == CODES.BadUserAccessDenied
        slow = client.get_node(lax.slow.nodeid)
        assert await status_of(slow.write_value(9.0)) == CODES.BadUserAccessDenied
        machine = client.get_node(lax.machine.nodeid)
        call = machine.call_method(lax.methods["echo"], "x")
        assert await status_of(call) == CODES.BadUserAccessDenied
        subscription = await client.create_subscription(20, Handler())
        await subscription.subscribe_data_change(node)
        await until(lambda: seen == [1.5])
    assert await lax.plain.read_value() == 1.5


async def test_a_session_without_security_cannot_be_moved(lax: Plant) -> None:
    async with lax.client(None) as victim, channel(lax.client(None)) as thief:
        use_token(thief, token_of(victim))
        refused = await status_of(request(thief, ua.ActivateSessionRequest()))
        assert refused == CODES.BadSecureChannelIdInvalid
        assert await victim.get_node(lax.plain.nodeid).read_value() == 1.5


async def test_too_many_sessions_are_refused(lax: Plant) -> None:
    async with lax.client(), lax.client(OTHER), lax.client():
        assert await status_of(lax.client().connect()) == CODES.BadTooManySessions
    assert await lax.read_by_a_good_client() == 1.5


async def test_strangers_without_security_keep_no_known_client_out(lax: Plant) -> None:
    # Part 4 §5.7.2: all places are taken, and used.
    stranger = lax.client(None)
    await stranger.connect()
    async with lax.client(), lax.client(OTHER):
        assert await status_of(lax.client(None).connect()) == CODES.BadTooManySessions
        assert await stranger.get_node(lax.plain.nodeid).read_value() == 1.5
        assert await lax.read_by_a_good_client() == 1.5
        gone = await status_of(stranger.get_node(lax.plain.nodeid).read_value())
        assert gone == CODES.BadSessionIdInvalid
    with contextlib.suppress(ua.UaError, OSError, TimeoutError):
        await stranger.disconnect()


async def test_a_session_that_lost_its_connection_gives_way_to_a_new_client(lax: Plant) -> None:
    class Handler:
        """Takes nothing."""

    async with lax.client(), lax.client(OTHER):
        vanished = lax.client()
        await vanished.connect()
        await vanished.create_subscription(20, Handler())  # a session without one ends with its connection
        vanished.uaclient.protocol.transport.abort()  # no goodbye: the session waits
        async with asyncio.timeout(10):
            while all(session.owner is not None for session in lax.server.iserver.sessions()):
                await asyncio.sleep(0.01)
        assert await lax.read_by_a_good_client() == 1.5
        with contextlib.suppress(ua.UaError, OSError, TimeoutError):
            await vanished.disconnect()


async def test_too_many_connections_are_refused_and_the_idle_ones_end(
    lax: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lax.client() as client:
        core = lax.server.iserver
        monkeypatch.setattr(core, "limits", dataclasses.replace(core.limits, activation_s=0.5))
        parked = [await asyncio.open_connection("127.0.0.1", lax.server.port) for _ in range(10)]
        assert await client.get_node(lax.plain.nodeid).read_value() == 1.5
        async with asyncio.timeout(10):
            for reader, writer in parked:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                writer.close()
        assert await client.get_node(lax.plain.nodeid).read_value() == 1.5
    assert await lax.read_by_a_good_client() == 1.5


async def test_a_channel_that_is_not_renewed_ends(lax: Plant) -> None:
    client = lax.client()
    client.secure_channel_timeout = 1  # clamped to 0.2 s
    async with channel(client):
        assert client.secure_channel_timeout == 200
        await client.create_session()
        await client.activate_session()
        await read(client, lax)
        protocol = client.uaclient.protocol
        await until(lambda: protocol.transport is None)


async def test_a_long_lifetime_is_clamped_and_a_renewal_is_taken(plant: Plant) -> None:
    client = plant.client()
    client.secure_channel_timeout = 1_000_000_000
    async with client:
        assert client.secure_channel_timeout == 3_600_000
        await client.open_secure_channel(renew=True)
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_a_channel_is_not_opened_twice_nor_renewed_before_it_is_open(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
            await client.open_secure_channel()
    client = plant.client()
    await client.connect_socket()
    await client.send_hello()
    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        await client.open_secure_channel(renew=True)
    client.disconnect_socket()


async def test_more_requests_than_fit_wait_and_none_is_lost(lax: Plant) -> None:
    async with lax.client() as client, asyncio.TaskGroup() as group:
        for _ in range(60):
            group.create_task(client.get_node(lax.plain.nodeid).read_value())


# --- one packet that keeps the decoder busy for ever ------------------------------------------------------

FAULT = ua.NodeId(ua.ObjectIds.ServiceFault_Encoding_DefaultBinary)
ENDLESS_STRINGS = struct.pack("<ii", 0x7FFFFFFF, -4)  # a list of strings, each moving the cursor back
ENDLESS_NULLS = b"\x80" + struct.pack("<i", 0x7FFFFFFF)  # a Variant: an array of Null takes no bytes


def endless_header() -> bytes:
    """Return a RequestHeader whose AdditionalHeader holds an array of Null without end."""
    whole = struct_to_binary(ua.RequestHeader())
    pair = struct.pack("<i", 1) + struct.pack("<H", 0) + struct.pack("<i", -1) + ENDLESS_NULLS
    kind = ua.NodeId(ua.ObjectIds.AdditionalParametersType_Encoding_DefaultBinary)
    additional = nodeid_to_binary(kind) + b"\x01" + struct.pack("<i", len(pair)) + pair
    return bytes(whole[:-3] + additional)  # in place of the null ExtensionObject


def unfolding_token() -> bytes:
    """Return ActivateSession parameters whose token is a list of Variants that each unfold to 64 MB."""
    variant = b"\xc6" + struct.pack("<i", 0) + struct.pack("<ii", 1, 1_000_000)  # no elements, dimensions
    pair = struct.pack("<H", 0) + struct.pack("<i", -1) + variant
    body = struct.pack("<i", 2000) + pair * 2000
    kind = ua.NodeId(ua.ObjectIds.AdditionalParametersType_Encoding_DefaultBinary)
    token = nodeid_to_binary(kind) + b"\x01" + struct.pack("<i", len(body)) + body
    return bytes(struct.pack("<iiii", -1, -1, -1, -1) + token)


async def send_body(client: Client, body: bytes, kind: Any = ua.MessageType.SecureMessage) -> bytes:
    """Send a body as it is in a chunk of its own, and return the answer."""
    protocol = client.uaclient.protocol
    protocol._request_id += 1
    answer = asyncio.get_running_loop().create_future()
    protocol._callbackmap[protocol._request_id] = answer
    protocol.transport.write(
        protocol._connection.message_to_binary(body, message_type=kind, request_id=protocol._request_id)
    )
    async with asyncio.timeout(10):
        return bytes(await answer)


async def test_no_packet_of_a_stranger_keeps_the_server_busy(plant: Plant) -> None:
    header = struct_to_binary(ua.RequestHeader())
    bodies = []
    for name, head, tail in (
        ("GetEndpoints", header, struct.pack("<i", -1) + ENDLESS_STRINGS),
        ("FindServers", header, struct.pack("<i", -1) + ENDLESS_STRINGS),
        ("CreateSession", endless_header(), b""),
        ("ActivateSession", endless_header(), b""),
        ("ActivateSession", header, unfolding_token()),
        ("Read", endless_header(), b""),
    ):
        kind = ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary"))
        bodies.append(nodeid_to_binary(kind) + head + tail)
    for body in bodies:
        async with channel(plant.client(None)) as stranger:
            answer = await send_body(stranger, body + b"\x00" * 32)
            assert nodeid_from_binary(Buffer(answer)) == FAULT
    stranger = plant.client(None)
    await stranger.connect_socket()
    await stranger.send_hello()
    kind = ua.NodeId(ua.ObjectIds.OpenSecureChannelRequest_Encoding_DefaultBinary)
    with contextlib.suppress(ConnectionError, ua.UaError):
        await send_body(stranger, nodeid_to_binary(kind) + endless_header(), ua.MessageType.SecureOpen)
    stranger.disconnect_socket()
    assert await plant.read_by_a_good_client() == 1.5


def test_a_strict_buffer_only_moves_forward() -> None:
    buffer = StrictBuffer(b"12345678")
    for wrong, size in ((buffer.read, -1), (buffer.read, 9), (buffer.skip, -1), (buffer.copy, -2)):
        with pytest.raises(NotEnoughData):
            wrong(size)
    assert buffer.read(8) == b"12345678"
    long = StrictBuffer(struct.pack("<i", 9) + b"123456789", longest=8).copy()
    with pytest.raises(ServiceError) as refused:
        Primitives.String.unpack(long)
    assert refused.value.code == CODES.BadEncodingLimitsExceeded
    for value in ([None, None], [1, 2], ["a", None], 128, b"\x80", [b"\x80" * 4]):
        variant = ua.Variant(value)
        assert variant_from_binary(StrictBuffer(variant_to_binary(variant)).copy()) == variant


async def test_mutated_requests_of_a_stranger_are_answered_or_end_their_connection(plant: Plant) -> None:
    dice = random.Random(20261120)
    activation = ua.ActivateSessionRequest()
    activation.Parameters.UserIdentityToken = ua.AnonymousIdentityToken(PolicyId="anonymous")
    endpoints = ua.GetEndpointsRequest()
    endpoints.Parameters.EndpointUrl, endpoints.Parameters.LocaleIds = "opc.tcp://x:1", ["en", "de"]
    seeds = [
        struct_to_binary(message)
        for message in (endpoints, activation, ua.FindServersRequest(), ua.CreateSessionRequest())
    ]
    answered = ended = 0
    while answered + ended < 300:
        async with channel(plant.client(None)) as stranger:
            for _ in range(20):
                body = bytearray(dice.choice(seeds))
                for _ in range(dice.randint(1, 4)):
                    at = dice.randrange(4, len(body))
                    match dice.randrange(4):
                        case 0:
                            body[at] = dice.choice([0, 1, 0x7F, 0x80, 0xC0, 0xFF, dice.randrange(256)])
                        case 1:
                            lengths = [-1, -4, -(2**31), 2**31 - 1, 0, 1_000_000]
                            body[at : at + 4] = struct.pack("<i", dice.choice(lengths))
                        case 2:
                            del body[at : at + 4]
                        case 3:
                            body[at:at] = dice.randbytes(dice.randint(1, 16))
                try:
                    await send_body(stranger, bytes(body))
                    answered += 1
                except (ConnectionError, ua.UaError):
                    ended += 1
                    break
    assert answered
    assert ended
    assert await plant.read_by_a_good_client() == 1.5
