"""Writes and calls run side by side, in order per node, bounded, and die with their connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from asyncua import Client, Node, ua

from edge_opcua.errors import ConfigError
from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam import SecureServer
from edge_opcua.opcua.seam.session import WriteOrder
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.types import fits
from edge_opcua.security.pki import names_in
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, status_of, until

CODES = ua.StatusCodes


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    limits = ServerLimits(in_flight=4, write_s=0.5, request_s=1.0, unread_bytes=100_000)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        yield made


@pytest.fixture
def plant(running: Plant) -> Plant:
    running.written.clear()
    running.gates["held"] = asyncio.Event()
    running.cancelled = 0
    return running


async def write(client: Client, *items: tuple[Node, Any]) -> list[int]:
    """Write several values in one request and return their status codes."""
    nodes = [client.get_node(node.nodeid) for node, _ in items]
    values = [ua.DataValue(ua.Variant(value)) for _, value in items]
    return [status.value for status in await client.write_values(nodes, values, raise_on_partial_error=False)]


async def test_a_slow_write_delays_no_other_answer_of_the_connection(plant: Plant) -> None:
    async with plant.client() as client, asyncio.TaskGroup() as group:
        slow = group.create_task(write(client, (plant.held, 1.0)))
        await until(lambda: bool(plant.written))
        for _ in range(5):
            assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        assert await write(client, (plant.plain, 1.5)) == [0]
        assert not slow.done()
        plant.gates["held"].set()
        assert await slow == [CODES.GoodClamped]
        # The address space is not the writer's: the value comes back through the feed.
        assert await client.get_node(plant.held.nodeid).read_value() == 0.0


async def test_a_slow_method_delays_no_other_answer_of_the_connection(plant: Plant) -> None:
    async with plant.client() as client, asyncio.TaskGroup() as group:
        machine = client.get_node(plant.machine.nodeid)
        slow = group.create_task(machine.call_method(plant.methods["wait"], 0.3))
        answer = await machine.call_method(plant.methods["echo"], "hello")
        assert answer == "urn:test:good client hello"
        assert not slow.done()


async def test_writes_of_a_session_to_a_node_keep_their_order(plant: Plant) -> None:
    async with plant.client() as client, asyncio.TaskGroup() as group:
        for value in (0.03, 0.02, 0.01, 0.0):
            group.create_task(write(client, (plant.slow, value)))
            await asyncio.sleep(0)
    assert plant.written == [
        (f"slow {what}", value) for value in (0.03, 0.02, 0.01, 0.0) for what in ("begins", "ends")
    ]


async def test_writes_to_different_nodes_do_not_wait_for_each_other(plant: Plant) -> None:
    async with plant.client() as client, asyncio.TaskGroup() as group:
        group.create_task(write(client, (plant.held, 1.0)))
        await until(lambda: bool(plant.written))
        assert await write(client, (plant.slow, 0.0)) == [CODES.GoodClamped]
        plant.gates["held"].set()


async def test_two_sessions_do_not_wait_for_each_other(plant: Plant) -> None:
    async with plant.client() as one, plant.client(OTHER) as two, asyncio.TaskGroup() as group:
        group.create_task(write(one, (plant.held, 1.0)))
        await until(lambda: len(plant.written) == 1)
        group.create_task(write(two, (plant.held, 2.0)))
        await until(lambda: len(plant.written) == 2)
        plant.gates["held"].set()


async def test_one_request_writes_one_value_after_the_other(plant: Plant) -> None:
    async with plant.client() as client:
        written = await write(client, (plant.slow, 0.02), (plant.readonly, 1.0), (plant.slow, 0.0))
    assert written == [CODES.GoodClamped, CODES.BadNotWritable, CODES.GoodClamped]
    assert [value for _, value in plant.written] == [0.02, 0.02, 0.0, 0.0]


class Deaf:
    """Takes what comes."""

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        """Take a value."""


async def test_more_in_flight_than_allowed_is_refused_and_nothing_is_lost(plant: Plant) -> None:
    async with plant.client() as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(write(client, (plant.held, float(i)))) for i in range(4)]
        await until(lambda: bool(plant.written))
        with pytest.raises(ua.uaerrors.BadServerTooBusy):
            await write(client, (plant.held, 9.0))
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        plant.gates["held"].set()
    assert [await task for task in tasks] == [[CODES.GoodClamped]] * 4


async def test_what_is_refused_for_want_of_room_has_not_begun(plant: Plant) -> None:
    # Part 4 §7.38: a client that is told BadServerTooBusy asks again: no item stays that it never heard of.
    async with plant.client() as client, asyncio.TaskGroup() as group:
        subscription = await client.create_subscription(1000, Deaf())
        tasks = [group.create_task(write(client, (plant.held, float(i)))) for i in range(4)]
        await until(lambda: bool(plant.written))
        many = [client.get_node(plant.plain.nodeid)] * 600
        for some in (many, many[:1]):
            with pytest.raises(ua.uaerrors.BadServerTooBusy):
                await subscription.subscribe_data_change(some)
        found = plant.server.iserver.subscription_service.subscriptions[subscription.subscription_id]
        assert not found.items
        plant.gates["held"].set()
        assert [await task for task in tasks] == [[CODES.GoodClamped]] * 4
        await subscription.subscribe_data_change(many)
        assert len(found.items) == 600


async def test_a_write_that_takes_too_long_is_indeterminate(plant: Plant) -> None:
    async with plant.client() as client:
        assert await write(client, (plant.held, 1.0)) == [CODES.BadTimeout]
        # The whole request has its end as well.
        with pytest.raises(ua.uaerrors.BadTimeout):
            await write(client, (plant.held, 1.0), (plant.held, 2.0), (plant.held, 3.0))
        plant.gates["held"].set()
        assert await write(client, (plant.held, 1.0)) == [CODES.GoodClamped]


async def test_writes_die_with_their_connection_and_hold_up_nobody(plant: Plant) -> None:
    client = plant.client()
    await client.connect()
    tasks = [asyncio.ensure_future(write(client, (plant.held, float(i)))) for i in range(3)]
    await until(lambda: bool(plant.written))
    client.uaclient.protocol.transport.abort()
    await until(lambda: plant.cancelled == 1)
    for task in tasks:
        with pytest.raises((ConnectionError, ua.UaError)):
            await task
    await client.disconnect()
    assert plant.written == [("held begins", 0.0)]
    async with plant.client() as again:
        plant.gates["held"].set()
        assert await write(again, (plant.held, 7.0)) == [CODES.GoodClamped]


async def test_a_part_of_an_array_is_written_and_read_and_the_rest_is_whole(plant: Plant) -> None:
    # Part 4 §7.27; asyncua replaced the array by the part and said Good.
    async with plant.client() as client:

        async def write_part(node: Node, part: Any) -> int:
            item = ua.WriteValue(node.nodeid, ua.AttributeIds.Value, "1:2", ua.DataValue(ua.Variant(part)))
            (status,) = await client.uaclient.session.write(ua.WriteParameters(NodesToWrite=[item]))
            return int(status.value)

        assert await write_part(plant.array, [9.0, 9.0]) == 0
        assert await client.get_node(plant.array.nodeid).read_value() == [1.0, 9.0, 9.0, 4.0]
        assert await write_part(plant.array, [9.0]) == CODES.BadIndexRangeDataMismatch
        assert await write_part(plant.held, 9.0) == CODES.BadWriteNotSupported  # lives in a device
        item = ua.ReadValueId(plant.array.nodeid, ua.AttributeIds.Value, "2:9")
        (value,) = await client.uaclient.session.read(ua.ReadParameters(NodesToRead=[item]))
        assert value.Value.Value == [9.0, 4.0]
        await plant.array.write_value([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (ua.Variant(1.0, ua.VariantType.Float), CODES.BadTypeMismatch),
        (ua.Variant(1, ua.VariantType.Int64), CODES.BadTypeMismatch),
        (ua.Variant("1.0"), CODES.BadTypeMismatch),
        (ua.Variant([0.0]), CODES.BadTypeMismatch),
        (ua.Variant(None), CODES.BadTypeMismatch),
    ],
)
async def test_a_value_of_another_type_never_reaches_the_writer(
    plant: Plant, value: ua.Variant, code: int
) -> None:
    async with plant.client() as client:
        for node in (plant.slow, plant.plain):
            item = ua.WriteValue(NodeId=node.nodeid, AttributeId=13, Value=ua.DataValue(value))
            (status,) = await client.uaclient.session.write(ua.WriteParameters(NodesToWrite=[item]))
            assert status.value == code
    assert plant.written == []


async def test_what_cannot_be_written_says_why(plant: Plant) -> None:
    async with plant.client() as client:

        async def one(node: ua.NodeId, attribute: int, value: ua.DataValue) -> int:
            item = ua.WriteValue(NodeId=node, AttributeId=attribute, Value=value)
            (status,) = await client.uaclient.session.write(ua.WriteParameters(NodesToWrite=[item]))
            return int(status.value)

        value = ua.DataValue(ua.Variant(1.0))
        assert await one(ua.NodeId("gone", 2), 13, value) == CODES.BadNodeIdUnknown
        assert await one(plant.readonly.nodeid, 13, value) == CODES.BadNotWritable
        assert await one(plant.machine.nodeid, 13, value) == CODES.BadNotWritable
        assert await one(plant.plain.nodeid, 4, value) == CODES.BadNotWritable
        assert await one(plant.machine.nodeid, 14, value) == CODES.BadAttributeIdInvalid
        bad = ua.DataValue(ua.Variant(1.0), StatusCode=ua.StatusCode(CODES.BadDeviceFailure))
        assert await one(plant.plain.nodeid, 13, bad) == CODES.BadWriteNotSupported
        empty = request(client, ua.WriteRequest(), NodesToWrite=[])
        assert await status_of(empty) == CODES.BadNothingToDo


async def test_methods_are_called_with_what_they_declare_or_not_at_all(plant: Plant) -> None:
    async with plant.client() as client:

        async def call(method: ua.NodeId, *arguments: Any, owner: ua.NodeId | None = None) -> Any:
            wanted = ua.CallMethodRequest(
                ObjectId=owner or plant.machine.nodeid,
                MethodId=method,
                InputArguments=[a if isinstance(a, ua.Variant) else ua.Variant(a) for a in arguments],
            )
            (result,) = await client.uaclient.session.call([wanted])
            return result

        echo, fail = plant.methods["echo"].nodeid, plant.methods["fail"].nodeid
        assert (await call(echo, "x")).OutputArguments[0].Value == "urn:test:good client x"
        assert (await call(echo)).StatusCode.value == CODES.BadArgumentsMissing
        assert (await call(echo, "x", "y")).StatusCode.value == CODES.BadTooManyArguments
        mistyped = await call(echo, 3)
        assert mistyped.StatusCode.value == CODES.BadInvalidArgument
        assert [result.value for result in mistyped.InputArgumentResults] == [CODES.BadTypeMismatch]
        for code in (CODES.BadInvalidState, CODES.BadTimeout, CODES.GoodClamped):
            assert (await call(fail, ua.Variant(code, ua.VariantType.UInt32))).StatusCode.value == code
        with structlog.testing.capture_logs() as logs:
            bug = await call(fail, ua.Variant(0, ua.VariantType.UInt32))
        assert [line["event"] for line in logs] == ["method.failed"]
        assert bug.StatusCode.value == CODES.BadInternalError
        server = ua.NodeId(ua.ObjectIds.Server)
        assert (await call(echo, "x", owner=server)).StatusCode.value == CODES.BadMethodInvalid
        assert (await call(ua.NodeId("gone", 2))).StatusCode.value == CODES.BadMethodInvalid
        assert (await call(echo, "x", owner=ua.NodeId("gone", 2))).StatusCode.value == CODES.BadNodeIdUnknown
        # Declared by the standard, bound by nobody.
        standard = ua.NodeId(ua.ObjectIds.Server_SetSubscriptionDurable)
        plant.server.access.mark(Kind.OWN, [standard])
        number = ua.Variant(1, ua.VariantType.UInt32)
        unbound = await call(standard, number, number, owner=server)
        assert unbound.StatusCode.value == CODES.BadNotImplemented
        executable = ua.AttributeIds.Executable
        await plant.methods["echo"].write_attribute(executable, ua.DataValue(ua.Variant(False)))
        assert (await call(echo, "x")).StatusCode.value == CODES.BadNotExecutable
        await plant.methods["echo"].write_attribute(executable, ua.DataValue(ua.Variant(True)))
        plant.server.access.mark(Kind.SECURITY, [echo])
        assert (await call(echo, "x")).StatusCode.value == CODES.BadUserAccessDenied
        plant.server.access.mark(Kind.MODEL, [echo])
        with pytest.raises(ua.uaerrors.BadTimeout):
            await call(plant.methods["wait"].nodeid, 5.0)


async def test_an_instance_runs_the_method_of_its_type(plant: Plant) -> None:
    server = plant.server
    kind = await server.nodes.base_object_type.add_object_type(2, "PressType")

    async def who(parent: ua.NodeId) -> list[ua.Variant]:
        return [ua.Variant(str(parent.Identifier))]

    method = await kind.add_method(ua.NodeId("who", 2), "2:who", who, [], [ua.VariantType.String])
    server.access.mark(Kind.OWN, [method.nodeid])
    press = await server.nodes.objects.add_object(ua.NodeId("press", 2), "2:Press")
    await press.delete_reference(
        ua.NodeId(ua.ObjectIds.BaseObjectType), ua.NodeId(ua.ObjectIds.HasTypeDefinition), forward=True
    )
    await press.add_reference(kind, ua.ObjectIds.HasTypeDefinition, bidirectional=False)
    async with plant.client() as client:
        assert await client.get_node(press.nodeid).call_method(method) == "press"


async def test_who_calls_is_known_inside_a_call_only() -> None:
    with pytest.raises(LookupError):
        caller()


async def test_clients_that_do_not_read_their_answers_share_what_may_wait(plant: Plant) -> None:
    # One who has little unread goes on, whatever the others leave.
    async with plant.client(), plant.client(OTHER):
        one, other = (each.processor for each in plant.connections()[-2:])
        assert one is not None
        assert other is not None
        assert one._share_of_unread() == plant.server.iserver.limits.all_unread_bytes / 2
        assert {one._transport, other._transport} <= set(plant.server.iserver.transports)


async def test_a_client_that_does_not_read_its_answers_is_cut_off(plant: Plant) -> None:
    big = await plant.machine.add_variable(ua.NodeId("big", 2), "2:big", "x" * 200_000)
    client = plant.client()
    await client.connect()
    transport = client.uaclient.protocol.transport
    transport.pause_reading()
    item = ua.ReadValueId()
    item.NodeId, item.AttributeId = big.nodeid, ua.AttributeIds.Value
    before = len(plant.server.bserver.clients)  # type: ignore[union-attr]
    tasks = [
        asyncio.ensure_future(request(client, ua.ReadRequest(), NodesToRead=[item] * 10)) for _ in range(10)
    ]
    await until(lambda: len(plant.server.bserver.clients) < before)  # type: ignore[union-attr]
    transport.resume_reading()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(answer, (ConnectionError, ua.UaError)) for answer in answers)
    await client.disconnect()
    assert await plant.read_by_a_good_client() == 1.5


def test_a_turn_that_ends_early_lets_only_its_own_place_go() -> None:
    a, b = ua.NodeId(1, 1), ua.NodeId(2, 1)
    order = WriteOrder()
    first, second = order.enter([a, b, a]), order.enter([b])
    second.leave()
    third = order.enter([a, b])
    assert third._ahead == (first._done,)
    first.leave()
    third.leave()
    assert order._last == {}


IDS = ua.ObjectIds
KIND = ua.VariantType


@pytest.mark.parametrize(
    ("value", "data_type", "rank", "passes"),
    [
        (ua.Variant(1.0), IDS.Double, -1, True),
        (ua.Variant(1.0), IDS.Duration, -1, True),  # a subtype travels as its built-in type
        (ua.Variant("x"), IDS.LocaleId, -1, True),
        (ua.Variant(None, KIND.String), IDS.String, -1, True),  # the null string is a string
        (ua.Variant(1, KIND.Int32), IDS.ServerState, -1, True),  # an enumeration
        (ua.Variant(1, KIND.UInt32), IDS.ServerState, -1, False),
        (ua.Variant(1, KIND.Int16), IDS.Number, -1, True),
        (ua.Variant(1.0, KIND.Float), IDS.Number, -1, True),
        (ua.Variant("1"), IDS.Number, -1, False),
        (ua.Variant(1, KIND.Int16), IDS.Integer, -1, True),
        (ua.Variant(1, KIND.UInt16), IDS.Integer, -1, False),
        (ua.Variant(1, KIND.UInt16), IDS.UInteger, -1, True),
        (ua.Variant("anything"), IDS.BaseDataType, -1, True),
        (ua.Variant(ua.EUInformation()), IDS.EUInformation, -1, True),
        (ua.Variant(1.0), IDS.EUInformation, -1, False),
        (ua.Variant([1.0]), IDS.Double, -1, False),
        (ua.Variant([1.0]), IDS.Double, 1, True),
        (ua.Variant(1.0), IDS.Double, 1, False),
        (ua.Variant([1.0]), IDS.Double, 0, True),
        (ua.Variant(1.0), IDS.Double, -3, True),
        (ua.Variant([1.0]), IDS.Double, -2, True),
        (ua.Variant(None), IDS.Double, -1, False),
    ],
)
async def test_a_value_fits_what_is_declared_or_not(
    plant: Plant, value: ua.Variant, data_type: int, rank: int, passes: bool
) -> None:
    aspace = plant.server.iserver.aspace
    assert fits(aspace, value, ua.NodeId(data_type), rank) is passes


async def test_a_data_type_nobody_knows_fits_nothing_and_none_fits_all(plant: Plant) -> None:
    aspace = plant.server.iserver.aspace
    assert not fits(aspace, ua.Variant(1.0), ua.NodeId("no such type", 2), -1)
    assert fits(aspace, ua.Variant(1.0), None, -1)
    assert not fits(aspace, None, None, -1)


async def test_a_port_that_is_taken_is_the_operators_error(plant: Plant) -> None:
    second = SecureServer(plant.server.security, listen=f"127.0.0.1:{plant.server.port}")
    await second.init()
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{plant.server.port}"):
        await second.start()


async def test_the_urls_to_print_carry_the_names_of_the_certificate(plant: Plant) -> None:
    anywhere = SecureServer(plant.server.security, listen="0.0.0.0:4840")
    names = names_in(plant.pki.certificate) - {"localhost", "127.0.0.1", "::1"}
    hosts = {f"[{name}]" if ":" in name else name for name in names}
    assert set(anywhere.urls()) == {f"opc.tcp://{host}:4840" for host in hosts}
    assert anywhere.url == "opc.tcp://127.0.0.1:4840"
    assert SecureServer(plant.server.security, listen="[::]:4840").url == "opc.tcp://[::1]:4840"


async def test_discovery_echoes_only_what_can_be_a_name(plant: Plant) -> None:
    core = plant.server.iserver
    for sent, wanted in (
        ("opc.tcp://press-1:4840", "press-1:4840"),
        ("opc.tcp://[fd00::2]:4840", "[fd00::2]:4840"),
        ("opc.tcp://evil host:1", "192.0.2.1:4840"),
        ("opc.tcp://" + "x" * 300, "192.0.2.1:4840"),
        ("opc.tcp://[broken", "192.0.2.1:4840"),
        (None, "192.0.2.1:4840"),
    ):
        url = core._mangle_endpoint_url("opc.tcp://0.0.0.0:4840", sent, ("192.0.2.1", 4840))
        assert url == f"opc.tcp://{wanted}"
