"""What an OPC UA server may do that node-opcua's does not: refuse whole services, send odd answers."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.codes import codes
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_WAITING_FOR_INITIAL_DATA, GOOD
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.opcuaclient import OpcUaDriver, content
from edge_opcua.drivers.opcuaclient.address import parse
from edge_opcua.drivers.opcuaclient.messages import Cell, ServiceRefusedError, parse_read
from edge_opcua.drivers.opcuaclient.reasons import refusal, status_text
from edge_opcua.drivers.opcuaclient.wire import OpcUaWire
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.reasons import parts_of
from edge_opcua.drivers.wire import Fault, FaultKind, Stamped
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError
from tests.drivers.peers import config
from tests.drivers.uapeer import UaPeer, standard_nodes, ua_peer

TAGS = [f"nsu=urn:tests:plant;s=v{i}:DINT" for i in range(20)]


@pytest.fixture(scope="module")
async def peer() -> AsyncIterator[UaPeer]:
    with standard_nodes():
        async with ua_peer() as found:
            for i in range(20):
                await found.put(f"v{i}", ua.VariantType.Int32, i)
            yield found


@pytest.fixture
async def wire(peer: UaPeer) -> AsyncIterator[OpcUaWire]:
    cfg = config(
        "opcua", f"opc.tcp://127.0.0.1:{peer.port}", {}, options={"security": "None"}, timeout_ms=2000
    )
    found = OpcUaDriver.wire(cfg, SystemClock(), Lines())
    assert isinstance(found, OpcUaWire)
    await found.open()
    yield found
    await found.close()


class Server:
    """What the server's Read does instead of reading."""

    def __init__(self) -> None:
        self.most = 1000
        self.busy = 0
        self.asked: list[int] = []


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    real = InternalSession.read

    async def read(self: InternalSession, params: Any) -> Any:
        count = len(params.NodesToRead)
        found.asked.append(count)
        if found.busy:
            found.busy -= 1
            raise ServiceError(0x80EE0000)  # BadServerTooBusy
        if count > found.most:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)
        return await real(self, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InternalSession, "read", read)
        yield found


async def values(wire: OpcUaWire, plan: Any) -> list[int]:
    found = []
    for answers in await wire.read(plan.requests):
        for answer in answers:
            assert isinstance(answer, Stamped)
            found.append(struct.unpack("<i", answer.wire)[0])
    return sorted(found)


@pytest.mark.parametrize(
    ("said", "unknown"),
    [
        (ua.StatusCodes.BadTimeout, True),
        (ua.StatusCodes.BadCommunicationError, True),
        (ua.StatusCodes.BadOutOfRange, False),
        (ua.StatusCodes.BadNoCommunication, False),
    ],
)
async def test_a_server_that_does_not_know_itself_what_became_of_a_write_leaves_it_open(
    wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch, said: int, *, unknown: bool
) -> None:
    # A gateway answers for a device behind it: its BadTimeout means as little as silence.
    asked: list[Any] = []

    async def write(self: InternalSession, params: Any) -> list[ua.StatusCode]:
        asked.append(params)
        return [ua.StatusCode(said)]

    monkeypatch.setattr(InternalSession, "write", write)
    place = parse(TAGS[0])
    with pytest.raises(DeviceError) as caught:
        await wire.write(place, place.codec.encode(7))
    assert isinstance(caught.value, DeviceTimeoutError) == unknown
    assert isinstance(caught.value, DeviceRefusedError) != unknown
    assert len(asked) == 1


async def test_a_server_that_can_do_less_than_it_says_is_asked_for_less(
    wire: OpcUaWire, server: Server
) -> None:
    plan = plan_reads([parse(text) for text in TAGS], wire.shape)
    assert len(plan.requests) == 1
    server.most = 6
    assert await values(wire, plan) == list(range(20))
    assert server.asked == [20, 10, 5, 5, 5, 5]
    server.asked.clear()
    assert await values(wire, plan) == list(range(20))
    assert server.asked == [5, 5, 5, 5]  # it has learned
    await wire.open()
    assert wire.shape.max_nodes == 9


async def test_a_busy_server_is_asked_again_and_never_gives_a_made_up_value(
    wire: OpcUaWire, server: Server
) -> None:
    plan = plan_reads([parse(text) for text in TAGS], wire.shape)
    server.busy = 2
    assert await values(wire, plan) == list(range(20))
    server.busy = 100
    (answers,) = await wire.read(plan.requests)
    assert {answer.kind for answer in answers if isinstance(answer, Fault)} == {FaultKind.BUSY}
    server.busy = 0
    assert await values(wire, plan) == list(range(20))


async def test_several_reads_are_on_the_way_at_once(peer: UaPeer, server: Server) -> None:
    options = {"security": "None", "max_nodes": 4}
    cfg = config("opcua", f"opc.tcp://127.0.0.1:{peer.port}", {}, options=options, timeout_ms=2000)
    wire = OpcUaDriver.wire(cfg, SystemClock(), Lines())
    assert isinstance(wire, OpcUaWire)
    await wire.open()
    plan = plan_reads([parse(text) for text in TAGS], wire.shape)
    assert len(plan.requests) == 5
    assert wire.depth == 4
    assert await values(wire, plan) == list(range(20))
    await wire.close()


def answer(*results: ua.DataValue, header: ua.ResponseHeader | None = None) -> bytes:
    response = ua.ReadResponse()
    response.ResponseHeader = header or ua.ResponseHeader()
    response.Results = list(results)
    encoded: bytes = struct_to_binary(response)
    return encoded


SCALARS = st.one_of(
    st.tuples(st.just(ua.VariantType.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(ua.VariantType.Float), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just(ua.VariantType.String), st.text(max_size=9)),
    st.tuples(st.just(ua.VariantType.ByteString), st.binary(max_size=9)),
    st.tuples(st.just(ua.VariantType.LocalizedText), st.text(max_size=9).map(ua.LocalizedText)),
    st.tuples(st.just(ua.VariantType.Guid), st.uuids()),
)


@given(
    st.lists(st.tuples(SCALARS, st.integers(0, 3), st.sampled_from((0, 0x40900000, 0x808C0000))), max_size=8)
)
def test_an_answer_is_taken_apart_whatever_types_stand_in_it(given: list[Any]) -> None:
    results = []
    for (kind, value), count, status in given:
        variant = ua.Variant([value] * count, kind, is_array=True) if count else ua.Variant(value, kind)
        results.append(ua.DataValue(variant, ua.StatusCode(ua.UInt32(status))))
    header = ua.ResponseHeader()
    header.StringTable = ["what", "asyncua", "would never send"]  # the rare form of a header

    for head in (None, header):
        cells = parse_read(answer(*results, header=head), len(results))
        assert [(cell.type, cell.status) for cell in cells] == [
            (int(kind.value), status) for (kind, _), _, status in given
        ]
        assert [max(0, cell.count) for cell in cells] == [count for _, count, _ in given]


@given(st.binary(max_size=60), st.integers(1, 3))
def test_garbage_is_no_answer(garbage: bytes, count: int) -> None:
    with pytest.raises(DeviceError):
        parse_read(garbage, count)


def test_an_answer_that_ends_too_soon_or_counts_wrong_is_none() -> None:
    whole = answer(ua.DataValue(ua.Variant(1.5, ua.VariantType.Double)))
    assert parse_read(whole, 1)[0].raw == struct.pack("<d", 1.5)
    for end in range(len(whole) - 9):  # what follows the value is the empty list of diagnostics
        with pytest.raises(DeviceError):
            parse_read(whole[:end], 1)
    with pytest.raises(DeviceError, match="asked were 2"):
        parse_read(whole, 2)


def test_a_service_that_was_refused_says_with_which_status() -> None:
    header = ua.ResponseHeader()
    header.ServiceResult = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadSessionIdInvalid))
    fault = ua.ServiceFault()
    fault.ResponseHeader = header
    with pytest.raises(ServiceRefusedError) as caught:
        parse_read(struct_to_binary(fault), 1)
    assert caught.value.status == ua.StatusCodes.BadSessionIdInvalid


def test_what_has_no_value_or_too_much_text_is_bad_and_not_empty() -> None:
    text = parse("i=1:STRING[4]").space
    null = content.reading(Cell(0, 5, 0, -1, b""), text)
    assert isinstance(null, Stamped)
    assert (null.status, null.source_ns) == (BAD_WAITING_FOR_INITIAL_DATA, 5)
    for raw, status in ((b"abcd", GOOD), (b"x" * 13, BAD_OUT_OF_RANGE), (b"a\0b", BAD_OUT_OF_RANGE)):
        found = content.reading(Cell(0, 0, 12, -1, raw), text)
        assert isinstance(found, Stamped)
        assert found.status == status
    none = content.reading(Cell(0, 0, 12, -1, b""), text)
    assert isinstance(none, Stamped)
    assert parse("i=1:STRING[4]").codec.decode(none.wire) == ""


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ua.StatusCodes.BadCertificateUntrusted, "D372"),
        (ua.StatusCodes.BadSecurityChecksFailed, "D372"),
        (ua.StatusCodes.BadIdentityTokenRejected, "D373"),
        (ua.StatusCodes.BadUserAccessDenied, "D373"),
        (ua.StatusCodes.BadSecurityPolicyRejected, "D370"),
        (ua.StatusCodes.BadTooManySessions, "D377"),
        (ua.StatusCodes.BadTcpNotEnoughResources, "D377"),
        (ua.StatusCodes.BadTcpEndpointUrlInvalid, "D378"),
        (ua.StatusCodes.BadServerHalted, "D378"),
        (0x80FF0000, "D378"),
    ],
)
def test_what_a_server_refuses_has_a_code_a_sentence_and_a_step(status: int, code: str) -> None:
    told = refusal(status).of("10.0.0.9:4840")
    found, sentence, step = parts_of(told)
    assert found == code
    assert step
    assert code in codes()
    assert status_text(status) in sentence


def test_the_dates_of_a_plc_come_as_the_numbers_they_are_there() -> None:
    # S7-1500: DATE and S5TIME are UInt16; only LDT is a DateTime.
    day = parse("ns=3;s=day:DATE")
    found = content.reading(Cell(0, 0, 5, -1, struct.pack("<H", 13_209)), day.space)
    assert isinstance(found, Stamped)
    ticks: Any = day.codec.decode(found.wire)
    assert to_text(ticks) == "2026-03-02T00:00:00Z"
    assert content.written(day.space, day.codec.encode(ticks)) == (5, -1, found.wire)
    pause = parse("ns=3;s=pause:S5TIME")
    found = content.reading(Cell(0, 0, 5, -1, struct.pack("<H", 0x2127)), pause.space)
    assert isinstance(found, Stamped)
    assert pause.codec.decode(found.wire) == 127_000
