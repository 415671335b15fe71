"""What is advertised is enforced: places, rates and sizes; and whoever keeps within them notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, uatcp_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.audit import Act
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
    write_held,
)

CODES = ua.StatusCodes
HELLO = uatcp_to_binary(ua.MessageType.Hello, ua.Hello())
UATCP = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    limits = ServerLimits(
        connections=6,
        per_address=4,
        sessions=3,
        hello_s=0.3,
        activation_s=5.0,
        requests_per_s=50,
        request_burst=300,
        renewal_cost=1,
        busy_batch=10,
        busy_answers=60,
        response_bytes=100_000,
        early_request_burst=120,
        early_unread_bytes=20_000,
        in_flight_bytes=10_000,
        recheck_s=0.1,
    )
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        yield made


@pytest.fixture
async def plant(running: Plant) -> Plant:
    running.written.clear()
    running.gates["held"] = asyncio.Event()
    await until(lambda: not running.connections())
    return running


class Parking:
    """Connections of strangers that say no more than Hello."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def park(self, source: str, *, greet: bool = True) -> asyncio.StreamReader:
        """Connect from an address of this machine."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))
        self._writers.append(writer)
        if greet:
            await self.say(HELLO)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await reader.readexactly(28)
        return reader

    async def say(self, data: bytes) -> None:
        """Send something on the newest connection."""
        self._writers[-1].write(data)

    def leave(self) -> None:
        """Close them all."""
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def parking(plant: Plant) -> AsyncIterator[Parking]:
    made = Parking(plant.server.port)
    yield made
    made.leave()
    await asyncio.sleep(0)


async def is_over(reader: asyncio.StreamReader, within_s: float = 15.0) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await reader.read() == b"" or True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


async def read_many(client: Client, node: Any, times: int) -> Any:
    items = [ua.ReadValueId(NodeId=node.nodeid, AttributeId=ua.AttributeIds.Value) for _ in range(times)]
    return await request(client, ua.ReadRequest(), NodesToRead=items)


# --- places --------------------------------------------------------------------------------------------


async def test_who_says_nothing_is_sent_away_soon(parking: Parking) -> None:
    # Part 6 §7.1.3: close a connection that does not receive a Hello in time.
    silent = await parking.park("127.0.0.2", greet=False)
    await parking.say(b"HELF" + struct.pack("<I", 60) + b"\x00" * 10)  # nor does a part of one
    greeted = await parking.park("127.0.0.2")
    assert await is_over(silent)
    assert not await is_over(greeted, 0.1)


async def test_the_oldest_idle_connection_of_an_address_gives_way_to_its_next(
    plant: Plant, parking: Parking
) -> None:
    before = plant.server.iserver.counts.rejected_connection_count
    parked = [await parking.park("127.0.0.2") for _ in range(5)]
    assert await is_over(parked[0])
    assert not await is_over(parked[1], 0.1)
    assert plant.server.iserver.counts.rejected_connection_count == before + 1


async def test_strangers_from_many_addresses_keep_no_client_out(plant: Plant, parking: Parking) -> None:
    # Part 4 §5.5.2: the oldest channel without a session is closed before a new one is refused.
    async with plant.client() as first:
        for i in range(20):
            await parking.park(f"127.0.0.{2 + i % 5}")
        for _ in range(3):
            async with plant.client() as client:
                assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        assert await first.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_connections_with_a_session_never_give_way(plant: Plant, parking: Parking) -> None:
    async with plant.client() as one, plant.client(OTHER) as two, plant.client() as three:
        for i in range(8):
            await parking.park(f"127.0.0.{2 + i}")
        for client in (one, two, three):
            assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_sessions_that_were_never_activated_give_way(plant: Plant) -> None:
    # Part 4 §5.7.2: the oldest session that is not activated is closed before the limit is reached.
    async with (
        channel(plant.client(OTHER)) as a,
        channel(plant.client(OTHER)) as b,
        channel(plant.client(OTHER)) as c,
    ):
        for client in (a, b, c):
            await client.create_session()
        assert await plant.read_by_a_good_client() == 1.5
        assert await status_of(a.activate_session()) == CODES.BadSessionIdInvalid
        await c.activate_session()


# --- rates ---------------------------------------------------------------------------------------------


async def test_a_client_that_asks_too_often_is_told_and_stays(plant: Plant) -> None:
    # It waits for each answer: it is refused now and then, slowed, and never cut off.
    async with plant.client() as client:
        node = client.get_node(plant.plain.nodeid)
        codes: list[int] = []
        while codes.count(CODES.BadServerTooBusy) < 12 and len(codes) < 3000:
            codes.append(await status_of(node.read_value()))
        assert codes[:250] == [0] * 250
        assert set(codes) == {0, CODES.BadServerTooBusy}
        await asyncio.sleep(0.1)
        assert await node.read_value() == 1.5


async def test_a_client_that_goes_on_hammering_is_cut_off_and_disturbs_nobody(plant: Plant) -> None:
    before = plant.server.iserver.counts.rejected_requests_count
    async with plant.client(OTHER) as good:
        flooder = plant.client()
        await flooder.connect()
        node = flooder.get_node(plant.plain.nodeid)
        sent = [asyncio.ensure_future(status_of(node.read_value())) for _ in range(700)]
        for _ in range(20):
            assert await good.get_node(plant.plain.nodeid).read_value() == 1.5
        answers = await asyncio.gather(*sent, return_exceptions=True)
        assert 250 <= answers.count(0) < 640
        assert answers.count(CODES.BadServerTooBusy) >= 20
        assert any(isinstance(answer, Exception) for answer in answers)  # cut off
        assert plant.server.iserver.counts.rejected_requests_count >= before + 20
        await flooder.disconnect()


async def test_a_stranger_may_ask_less_than_a_client(plant: Plant) -> None:
    # Discovery is for everybody, and costs us as much as a client's request.
    async with plant.client() as good, channel(plant.client(None)) as stranger:
        endpoints = [request(stranger, ua.GetEndpointsRequest()) for _ in range(130)]
        codes = await asyncio.gather(*map(status_of, endpoints))
        assert 110 <= codes.count(0) < 130
        assert set(codes) == {0, CODES.BadServerTooBusy}
        assert await good.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_of_a_stranger_only_a_few_messages_wait(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    # While its certificate is looked at it may send what it likes: it waits in its own socket.
    opened = asyncio.Event()
    gate = plant.server.iserver.gate
    admit = gate.admit

    async def slowly(*arguments: Any) -> Any:
        await opened.wait()
        return await admit(*arguments)

    monkeypatch.setattr(gate, "admit", slowly)
    client = plant.client()
    connecting = asyncio.ensure_future(client.connect())
    await until(lambda: bool(plant.connections()))
    await asyncio.sleep(0.1)
    for _ in range(40):
        client.uaclient.protocol.transport.write(b"MSGF" + struct.pack("<I", 60_000) + bytes(59_992))
    await asyncio.sleep(0.1)
    assert plant.connections()[-1].messages.qsize() <= 4
    opened.set()
    with contextlib.suppress(ConnectionError, ua.UaError, TimeoutError):
        await connecting
    await client.disconnect()


async def test_new_connections_of_one_address_come_at_a_rate(plant: Plant) -> None:
    arrivals = plant.server.iserver.arrivals
    assert [arrivals.admit("198.51.100.7") for _ in range(301)] == [True] * 300 + [False]
    assert arrivals.admit("198.51.100.8")


async def test_a_stranger_who_reads_no_answers_is_cut_off(plant: Plant) -> None:
    async with channel(plant.client(None)) as stranger:
        transport = stranger.uaclient.protocol.transport
        theirs = plant.connections()[-1].transport
        assert theirs is not None
        for end, which in ((transport, socket.SO_RCVBUF), (theirs, socket.SO_SNDBUF)):
            # Not the megabytes that the system would take from us.
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, which, 4096)
        transport.pause_reading()
        for _ in range(110):
            message = ua.GetEndpointsRequest()
            message.Parameters.EndpointUrl = plant.server.url
            body = struct_to_binary(message)
            transport.write(stranger.uaclient.protocol._connection.message_to_binary(body, request_id=1))
        await until(lambda: not plant.connections())


# --- sizes ---------------------------------------------------------------------------------------------


async def test_an_answer_that_is_too_large_is_an_answer_not_the_end(plant: Plant) -> None:
    # Part 4 §7.38.2 Bad_ResponseTooLarge.
    async with plant.client() as client:
        assert await status_of(read_many(client, plant.plain, 100)) == 0
        assert await status_of(read_many(client, plant.array, 4000)) == CODES.BadResponseTooLarge
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_a_client_may_say_how_large_answers_may_be(plant: Plant) -> None:
    # Part 4 §5.7.2.2 maxResponseMessageSize.
    async with channel(plant.client()) as client:
        created = await create(client, MaxResponseMessageSize=8192)
        client._server_nonce = created.ServerNonce
        client.uaclient.protocol.authentication_token = created.AuthenticationToken
        await client.activate_session()
        assert await status_of(read_many(client, plant.array, 10)) == 0
        assert await status_of(read_many(client, plant.array, 400)) == CODES.BadResponseTooLarge


@pytest.mark.parametrize("hello", [{"MaxMessageSize": 8192}, {"MaxChunkCount": 1, "ReceiveBufferSize": 8192}])
async def test_a_client_may_say_so_in_its_hello(plant: Plant, hello: dict[str, int]) -> None:
    # Part 6 §7.1.2.3: MaxMessageSize and MaxChunkCount are about responses, and no limit of its requests.
    client = plant.client()
    await client.connect_socket()
    protocol = client.uaclient.protocol
    acknowledged = protocol._callbackmap[0] = asyncio.get_running_loop().create_future()
    sizes = {"ReceiveBufferSize": 65_535, "SendBufferSize": 65_535, **hello}
    protocol.transport.write(uatcp_to_binary(ua.MessageType.Hello, ua.Hello(**sizes)))
    assert (await acknowledged).MaxMessageSize == plant.server.limits.max_message_size
    try:
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session()
        assert await status_of(read_many(client, plant.array, 10)) == 0
        assert await status_of(read_many(client, plant.array, 900)) == CODES.BadResponseTooLarge
    finally:
        client.disconnect_socket()


async def test_what_unfolds_is_refused_and_the_session_goes_on(plant: Plant) -> None:
    async with plant.client() as client:
        node = client.get_node(plant.plain.nodeid)
        value: Any = ua.Variant(1)
        for _ in range(120):
            value = ua.Variant([value], ua.VariantType.Variant)
        assert await status_of(node.write_value(ua.DataValue(value))) == CODES.BadEncodingLimitsExceeded
        matrix = ua.DataValue(ua.Variant([1], ua.VariantType.Int32, [1, 1, 1]))
        assert await status_of(node.write_value(matrix)) == CODES.BadTypeMismatch
        many = [ua.ReadValueId(NodeId=plant.plain.nodeid)] * 10_001
        refused = await status_of(request(client, ua.ReadRequest(), NodesToRead=many))
        assert refused == CODES.BadTooManyOperations
        assert await node.read_value() == 1.5


async def test_writes_in_flight_are_limited_by_size_as_well(plant: Plant) -> None:
    async with plant.client() as client:
        held = write_held(client, plant)
        await until(lambda: bool(plant.written))
        node = client.get_node(plant.plain.nodeid)
        assert await status_of(node.write_value("x" * 20_000)) == CODES.BadServerTooBusy
        plant.gates["held"].set()
        await held
        assert await status_of(node.write_value("x" * 20_000)) == CODES.BadTypeMismatch


# --- discovery and sessions ----------------------------------------------------------------------------


async def test_discovery_answers_what_was_asked_for(plant: Plant) -> None:
    # Part 4 §5.5.2, §5.5.4: serverUris and profileUris choose, localeIds choose among texts.
    async with channel(plant.client(None)) as anybody:

        async def endpoints(**wanted: Any) -> int:
            answer = await request(anybody, ua.GetEndpointsRequest(), **wanted)
            return len(struct_from_binary(ua.GetEndpointsResponse, answer).Endpoints)

        async def servers(*uris: str) -> int:
            answer = await request(anybody, ua.FindServersRequest(), ServerUris=list(uris))
            return len(struct_from_binary(ua.FindServersResponse, answer).Servers)

        assert await endpoints() == await endpoints(ProfileUris=[UATCP], LocaleIds=["de", "en"]) == 1
        assert await endpoints(ProfileUris=["http://opcfoundation.org/UA-Profile/Transport/https"]) == 0
        own = plant.pki.application_uri
        assert [await servers(), await servers("urn:other", own), await servers(own[:-1])] == [1, 1, 0]
        for message in (
            ua.FindServersOnNetworkRequest(),
            ua.RegisterServerRequest(),
            ua.RegisterServer2Request(),
            ua.AddNodesRequest(),
        ):
            assert await status_of(request(anybody, message)) in {
                CODES.BadServiceUnsupported,
                CODES.BadSessionIdInvalid,
            }


async def create(client: Client, **parameters: Any) -> Any:
    description = ua.ApplicationDescription()
    description.ApplicationUri = client.application_uri
    sent: dict[str, Any] = {
        "ClientDescription": description,
        "ClientCertificate": GOOD.der,
        "ClientNonce": os.urandom(32),
        "EndpointUrl": client.server_url.geturl(),
        "RequestedSessionTimeout": 60_000.0,
        **parameters,
    }
    answer = await request(client, ua.CreateSessionRequest(), **sent)
    return struct_from_binary(ua.CreateSessionResponse, answer).Parameters


async def test_a_session_for_another_server_is_refused(plant: Plant) -> None:
    # Part 4 §5.7.2.3 Bad_ServerUriInvalid.
    async with channel(plant.client()) as client:
        assert await status_of(create(client, ServerUri="urn:other")) == CODES.BadServerUriInvalid
        assert (await create(client, ServerUri=plant.pki.application_uri)).MaxRequestMessageSize > 0


async def test_a_session_has_a_name_and_no_longer_one_than_fits(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        for sent, known in (("x" * 5000, "x" * 200), ("a\nb", "a?b")):
            await create(client, SessionName=sent)
            assert plant.server.iserver.sessions()[-1].name == known
        await create(client, SessionName="")
        assert plant.server.iserver.sessions()[-1].name.startswith("session ")


async def test_what_happens_at_the_door_is_audited_and_a_crowd_does_not_flood_it(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Part 5 §6.5: AuditOpenSecureChannel, AuditCreateSession, AuditSession, AuditUrlMismatch.
    acts: list[Act] = []
    monkeypatch.setattr(plant.server.iserver, "audit", acts.append)
    async with plant.client():
        pass
    await until(lambda: bool(acts) and acts[-1].kind == "channel.closed")
    kinds = [act.kind for act in acts if act.kind != "url.mismatched"]
    assert kinds == [
        "channel.opened",
        "session.created",
        "session.activated",
        "session.closed",
        "channel.closed",
    ]
    assert all("good client" in act.who for act in acts)
    opened, created = (next(act for act in acts if act.kind == kind) for kind in kinds[:2])
    assert opened.event["SecureChannelId"] == created.event["SecureChannelId"]
    assert opened.event["ClientCertificate"] == created.event["ClientCertificate"] == GOOD.der
    assert opened.event["SecurityMode"] == ua.MessageSecurityMode.SignAndEncrypt
    acts.clear()
    async with channel(plant.client()) as client:
        await create(client, EndpointUrl="opc.tcp://somewhere.else:4840")
    mismatch = next(act for act in acts if act.kind == "url.mismatched")
    assert mismatch.facts == {"endpoint_url": "opc.tcp://somewhere.else:4840"}
    acts.clear()
    refused_before = plant.server.iserver.gate.refused
    for _ in range(3):
        assert await status_of(plant.client(STRANGER).connect()) == CODES.BadSecurityChecksFailed
    assert plant.server.iserver.gate.refused == refused_before + 3
    assert [act.kind for act in acts].count("channel.refused") == 1
    (refused,) = [act for act in acts if act.kind == "channel.refused"]
    assert refused.status == CODES.BadSecurityChecksFailed


async def test_what_was_refused_is_counted(plant: Plant) -> None:
    # Part 5 §12.9.
    counts = plant.server.iserver.counts
    sessions, requests, created = (
        counts.security_rejected_session_count,
        counts.rejected_requests_count,
        counts.cumulated_session_count,
    )
    async with plant.client() as client:
        assert await status_of(request(client, ua.QueryFirstRequest())) == CODES.BadServiceUnsupported
    async with channel(plant.client()) as client:
        assert await status_of(create(client, ClientNonce=b"")) == CODES.BadNonceInvalid
    assert counts.security_rejected_session_count == sessions + 1
    assert counts.rejected_requests_count == requests + 1
    assert counts.cumulated_session_count == created + 1
