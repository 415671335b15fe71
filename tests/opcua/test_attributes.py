"""Read and Write (Part 4 §5.11), without a server."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import Any

import pytest
import structlog
from asyncua import ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.opcua.access import Access, AccessRule, Kind, Permission
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.attribute.attributes import Attributes
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.slices import Encoded
from edge_opcua.opcua.values import data_value
from edge_opcua.security.roles import Role
from edge_opcua.testing import ManualClock
from tests.opcua.small_space import IDS, Asker, Space, settled

CODES = ua.StatusCodes
KIND = ua.VariantType
AT = ua.AttributeIds
STAMPS = ua.TimestampsToReturn
EARLIER = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
OPERATOR = frozenset({Role.ANONYMOUS, Role.OPERATOR})
OBSERVER = frozenset({Role.ANONYMOUS, Role.OBSERVER})


class Desk:
    """Attributes of a small space, asked as a client asks."""

    def __init__(self, rules: tuple[AccessRule, ...] = (), **limits: Any) -> None:
        self.space = Space()
        self.access = Access(rules)
        self.acts: list[Act] = []
        self.clock = ManualClock()
        self.attributes = Attributes(
            self.space.aspace,
            self.access,
            ServerLimits(**limits),
            clock=self.clock,
            audit=self.acts.append,
        )
        self.asker = Asker()

    def setpoint(self, name: str, value: Any, data_type: int, **more: Any) -> ua.NodeId:
        node = self.space.variable(name, value, data_type, **more)
        self.access.mark(Kind.SETPOINT, [node])
        return node

    def read(
        self,
        node: ua.NodeId,
        attribute: int = AT.Value,
        *,
        index_range: str | None = None,
        stamps: int = STAMPS.Both,
        encoding: ua.QualifiedName | None = None,
    ) -> ua.DataValue:
        item = ua.ReadValueId(node, attribute, index_range, encoding or ua.QualifiedName())
        return self.attributes.read_for(self.asker, item, stamps, 0.0)

    def status(self, *arguments: Any, **more: Any) -> int:
        return int(self.read(*arguments, **more).StatusCode.value)

    def value(self, *arguments: Any, **more: Any) -> Any:
        read = self.read(*arguments, **more)
        assert read.StatusCode.value == 0
        return read.Value.Value

    async def write(
        self,
        node: ua.NodeId,
        value: ua.Variant | ua.DataValue,
        *,
        index_range: str | None = None,
    ) -> int:
        whole = value if isinstance(value, ua.DataValue) else ua.DataValue(value)
        item = ua.WriteValue(node, AT.Value, index_range, whole)
        (status,) = await self.attributes.write_for(self.asker, ua.WriteParameters([item]))
        return int(status.value)


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- Read (Part 4 §5.11.2) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "source", "server"),
    [
        (STAMPS.Source, EARLIER, None),
        (STAMPS.Server, None, LATER),
        (STAMPS.Both, EARLIER, LATER),
        (STAMPS.Neither, None, None),
    ],
)
def test_a_value_comes_with_the_stamps_that_were_asked_for(
    desk: Desk, stamps: int, source: Any, server: Any
) -> None:
    # Part 4 §5.11.2.2, §7.39.
    whole = ua.DataValue(ua.Variant(1.5), SourceTimestamp=EARLIER, ServerTimestamp=LATER)
    node = desk.space.variable("v", whole, IDS.Double)
    read = desk.read(node, stamps=stamps)
    assert (read.Value.Value, read.SourceTimestamp, read.ServerTimestamp) == (1.5, source, server)


def test_a_value_without_a_server_time_gets_the_present_one(desk: Desk) -> None:
    # Part 4 §7.11.4.
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    for stamps in (STAMPS.Server, STAMPS.Both):
        assert desk.read(node, stamps=stamps).ServerTimestamp is not None
    assert desk.read(node, stamps=STAMPS.Source).ServerTimestamp is None
    assert desk.read(node).SourceTimestamp is None  # nobody knows


def test_what_is_no_value_has_no_stamps(desk: Desk) -> None:
    # Part 4 §5.11.2.2: the stamps of Variable Value Attributes.
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    slot = desk.space.aspace[node].attributes[AT.DisplayName]
    slot.value = ua.DataValue(slot.value.Value, SourceTimestamp=EARLIER, ServerTimestamp=LATER)
    read = desk.read(node, AT.DisplayName)
    assert (read.Value.Value.Text, read.SourceTimestamp, read.ServerTimestamp) == ("v", None, None)


@pytest.mark.parametrize(
    ("stamps", "max_age_ms", "code"),
    [
        (4, 0.0, CODES.BadTimestampsToReturnInvalid),
        (-1, 0.0, CODES.BadTimestampsToReturnInvalid),
        (STAMPS.Both, -1.0, CODES.BadMaxAgeInvalid),
        (STAMPS.Both, math.nan, CODES.BadMaxAgeInvalid),
        (STAMPS.Both, 0.0, 0),  # as new as possible: what is here
        (STAMPS.Both, math.inf, 0),
        (STAMPS.Both, 3_600_000.0, 0),
    ],
)
async def test_stamps_and_age_are_valid_or_nothing_is_read(
    desk: Desk, stamps: int, max_age_ms: float, code: int
) -> None:
    # Part 4 §5.11.2.3.
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    service = desk.attributes.services()["Read"]
    params = service.params(max_age_ms, stamps, [ua.ReadValueId(node, AT.Value)])  # type: ignore[misc]
    if code:
        with pytest.raises(ServiceError) as caught:
            service.run(desk.asker, params)
        assert caught.value.code == code
    else:
        response = await settled(service.run(desk.asker, params))
        assert response.Results[0].Value.Value == 1.5


async def test_a_long_read_is_answered_in_slices_and_in_order(desk: Desk) -> None:
    nodes = [desk.space.variable(f"v{index}", ua.Variant(float(index)), IDS.Double) for index in range(1000)]
    params = ua.ReadParameters(0, STAMPS.Neither, [ua.ReadValueId(node, AT.Value) for node in nodes])
    response = await settled(desk.attributes.services()["Read"].run(desk.asker, params))
    assert isinstance(response, Encoded)
    read = struct_from_binary(ua.ReadResponse, Buffer(response.to_binary()))
    assert [result.Value.Value for result in read.Results] == [float(index) for index in range(1000)]


def test_an_index_range_reads_its_part(desk: Desk) -> None:
    # Part 4 §5.11.2.2, §7.27; asyncua gave the whole array.
    whole = data_value([1.0, 2.0, 3.0, 4.0], KIND.Double, 0, 10**18, 10**18)
    node = desk.space.variable("v", whole, IDS.Double, rank=1)
    read = desk.read(node, index_range="1:2")
    assert read.Value.Value == [2.0, 3.0]
    assert (read.SourceTimestamp, read.ServerTimestamp) == (whole.SourceTimestamp, whole.ServerTimestamp)
    assert desk.value(node, index_range="3:9") == [4.0]
    assert desk.value(node, index_range="") == [1.0, 2.0, 3.0, 4.0]
    assert desk.status(node, index_range="4") == CODES.BadIndexRangeNoData
    assert desk.status(node, index_range="3:2") == CODES.BadIndexRangeInvalid
    assert desk.status(node, AT.DisplayName, index_range="0") == CODES.BadIndexRangeNoData
    # An attribute that is an array has parts, too.
    assert desk.value(node, AT.UserRolePermissions, index_range="0")[0].RoleId == ua.NodeId(15644)


def test_a_value_that_is_bad_says_why_and_not_that_the_range_is_empty(desk: Desk) -> None:
    node = desk.space.variable("v", data_value(None, KIND.Double, 0x80310000, 0, 1), IDS.Double, rank=1)
    assert desk.status(node, index_range="0:1") == 0x80310000
    assert desk.status(node, index_range="x") == CODES.BadIndexRangeInvalid


def test_an_encoding_is_for_structures_only(desk: Desk) -> None:
    # Part 4 §5.11.2.4.
    number = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    desk.space.type(IDS.Structure)
    structure = desk.space.variable("s", ua.Variant(ua.Range(0, 1)), IDS.Structure)
    binary, xml = ua.QualifiedName("Default Binary"), ua.QualifiedName("Default XML")
    assert desk.status(structure, encoding=binary) == 0
    assert desk.status(structure, encoding=xml) == CODES.BadDataEncodingUnsupported
    assert desk.status(structure, encoding=ua.QualifiedName("Default Binary", 7)) == (
        CODES.BadDataEncodingUnsupported
    )
    assert desk.status(number, encoding=binary) == CODES.BadDataEncodingInvalid
    assert desk.status(structure, AT.DisplayName, encoding=binary) == CODES.BadDataEncodingInvalid
    assert desk.status(ua.NodeId("gone", 7), encoding=binary) == CODES.BadDataEncodingInvalid


def test_what_cannot_be_read_says_why(desk: Desk) -> None:
    # Part 4 §5.11.2.4; asyncua reads what has no CurrentRead.
    write_only = desk.space.variable("w", ua.Variant(1.5), IDS.Double, level=2)
    thing = desk.space.node("thing")
    assert desk.status(write_only) == CODES.BadNotReadable
    assert desk.status(thing) == CODES.BadAttributeIdInvalid
    assert desk.status(thing, 99) == CODES.BadAttributeIdInvalid
    assert desk.status(thing, AT.AccessLevelEx) == CODES.BadAttributeIdInvalid
    assert desk.status(thing, AT.UserAccessLevel) == CODES.BadAttributeIdInvalid
    assert desk.status(thing, AT.UserExecutable) == CODES.BadAttributeIdInvalid
    assert desk.status(ua.NodeId("gone", 7)) == CODES.BadNodeIdUnknown
    assert desk.status(ua.NodeId("gone", 7), AT.DisplayName) == CODES.BadNodeIdUnknown


def test_a_value_that_cannot_be_worked_out_fails_no_other(desk: Desk) -> None:
    def fail(*_: Any) -> ua.DataValue:
        raise ZeroDivisionError

    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    desk.space.aspace.set_attribute_value_callback(node, AT.Value, fail)
    with structlog.testing.capture_logs() as logs:
        assert desk.status(node) == CODES.BadInternalError
    assert [line["event"] for line in logs] == ["read.failed"]


# --- attributes that depend on who asks (Part 3 §5.2, §8.55 to §8.58) ---------------------------------


def test_who_may_not_read_a_value_may_still_see_the_node() -> None:
    look = Permission.Browse
    rules = tuple(AccessRule("v", role, look) for role in (Role.ANONYMOUS, Role.OPERATOR))
    desk = Desk(rules)
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    assert desk.status(node) == CODES.BadUserAccessDenied
    assert desk.value(node, AT.DisplayName).Text == "v"
    assert desk.value(node, AT.AccessLevel) == 3
    assert desk.value(node, AT.UserAccessLevel) == 0


def test_what_may_not_be_browsed_may_not_be_read_either() -> None:
    rules = tuple(AccessRule("v", role, ua.PermissionType(0)) for role in (Role.ANONYMOUS, Role.OPERATOR))
    desk = Desk(rules)
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    for attribute in (AT.Value, AT.DisplayName, AT.UserAccessLevel, AT.AccessRestrictions):
        assert desk.status(node, attribute) == CODES.BadUserAccessDenied


def test_a_user_sees_what_he_himself_may_do(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant(1.5), IDS.Double)
    method = desk.space.node("m", ua.NodeClass.Method, Executable=True)
    stopped = desk.space.node("stopped", ua.NodeClass.Method, Executable=False)
    desk.access.mark(Kind.MODEL, [method, stopped])
    seen = {}
    for name, roles in {"operator": OPERATOR, "observer": OBSERVER, "engineer": {Role.ENGINEER}}.items():
        desk.asker.roles = frozenset(roles)
        level = desk.value(node, AT.UserAccessLevel)
        executable = (desk.value(method, AT.UserExecutable), desk.value(stopped, AT.UserExecutable))
        seen[name] = (level, *executable, desk.value(method, AT.Executable))
    assert seen == {
        "operator": (3, False, False, True),
        "observer": (1, False, False, True),
        "engineer": (1, True, False, True),
    }


def test_nobody_writes_anything_but_values(desk: Desk) -> None:
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    assert desk.value(node, AT.WriteMask) == 0
    assert desk.value(node, AT.UserWriteMask) == 0


def test_permissions_are_told_to_administrators_and_ones_own_to_everybody(desk: Desk) -> None:
    # Part 3 §5.2.9, §5.2.10.
    node = desk.setpoint("sp", ua.Variant(1.5), IDS.Double)
    assert desk.status(node, AT.RolePermissions) == CODES.BadUserAccessDenied
    own = {row.RoleId.Identifier: row.Permissions for row in desk.value(node, AT.UserRolePermissions)}
    assert set(own) == {Role.ANONYMOUS.value, Role.OPERATOR.value}
    assert own[Role.OPERATOR.value] & Permission.Write
    assert not own[Role.ANONYMOUS.value] & Permission.Write
    desk.asker.roles = frozenset({Role.SECURITY_ADMIN})
    everybody = {row.RoleId.Identifier for row in desk.value(node, AT.RolePermissions)}
    assert everybody == {role.value for role in Role}


def test_a_node_tells_how_it_is_restricted(desk: Desk) -> None:
    # Part 3 §8.56.
    node = desk.space.variable("v", ua.Variant(1.5), IDS.Double)
    secret = desk.space.variable("s", ua.Variant(1.5), IDS.Double)
    desk.access.mark(Kind.SECURITY, [secret])
    assert desk.value(node, AT.AccessRestrictions) == 0
    assert desk.status(secret, AT.AccessRestrictions) == CODES.BadUserAccessDenied
    desk.asker.roles = frozenset({Role.SECURITY_ADMIN})
    assert desk.value(secret, AT.AccessRestrictions) == 3


# --- Write (Part 4 §5.11.4) --------------------------------------------------------------------------


async def test_an_index_range_writes_its_part(desk: Desk) -> None:
    # Part 4 §7.27; asyncua replaced the array by the part and said Good.
    node = desk.setpoint("sp", ua.Variant([1.0, 2.0, 3.0, 4.0]), IDS.Double, rank=1)
    assert await desk.write(node, ua.Variant([9.0, 8.0]), index_range="1:2") == 0
    assert desk.value(node) == [1.0, 9.0, 8.0, 4.0]
    for index_range, part, code in (
        ("1:2", [9.0], CODES.BadIndexRangeDataMismatch),
        ("3:4", [9.0, 9.0], CODES.BadIndexRangeNoData),
        ("9", [9.0], CODES.BadIndexRangeNoData),
        ("2:1", [9.0], CODES.BadIndexRangeInvalid),
        ("0:1", [1, 2], CODES.BadTypeMismatch),
    ):
        assert await desk.write(node, ua.Variant(part), index_range=index_range) == code
    assert desk.value(node) == [1.0, 9.0, 8.0, 4.0]
    text = desk.setpoint("text", ua.Variant("press"), IDS.String)
    assert await desk.write(text, ua.Variant("X"), index_range="0") == 0
    assert desk.value(text) == "Xress"


async def test_two_sessions_that_write_parts_at_once_lose_nothing(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant([0] * 20, KIND.Int64), IDS.Int64, rank=1)

    async def watch(*_: Any) -> None:
        await asyncio.sleep(0)  # whoever is told of a change may wait

    desk.space.aspace.add_datachange_callback(node, AT.Value, watch)
    async with asyncio.TaskGroup() as group:
        for index in range(20):
            group.create_task(desk.write(node, ua.Variant([index], KIND.Int64), index_range=str(index)))
    assert desk.value(node) == list(range(20))


async def test_a_value_that_lives_in_a_device_is_written_whole(desk: Desk) -> None:
    # Part 4 §5.11.4.4, Part 3 §8.58: the rest of the array may have changed in the device meanwhile.
    node = desk.setpoint("sp", ua.Variant([1.0, 2.0]), IDS.Double, rank=1)
    assert not desk.value(node, AT.AccessLevelEx) & 1 << 10
    written = []

    async def handler(_: Any, __: ua.NodeId, ___: int, value: ua.DataValue) -> ua.StatusCode:
        written.append(value.Value.Value)
        return ua.StatusCode()

    desk.attributes.set_handler(handler, [node])
    assert await desk.write(node, ua.Variant([9.0]), index_range="0") == CODES.BadWriteNotSupported
    assert await desk.write(node, ua.Variant([9.0]), index_range="x") == CODES.BadIndexRangeInvalid
    assert await desk.write(node, ua.Variant([9.0, 8.0])) == 0
    assert written == [[9.0, 8.0]]
    assert desk.value(node, AT.AccessLevelEx) & 1 << 10


@pytest.mark.parametrize(
    "given",
    [
        ua.DataValue(ua.Variant(2.0), ua.StatusCode(CODES.BadDeviceFailure)),
        ua.DataValue(ua.Variant(2.0), ua.StatusCode(0x40000000)),
        ua.DataValue(ua.Variant(2.0), SourceTimestamp=EARLIER),
        ua.DataValue(ua.Variant(2.0), ServerTimestamp=EARLIER),
    ],
)
async def test_status_and_stamps_are_not_the_clients(desk: Desk, given: ua.DataValue) -> None:
    # Part 4 §5.11.4.4; asyncua took a SourceTimestamp of 1999.
    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    assert await desk.write(node, given) == CODES.BadWriteNotSupported
    assert desk.value(node) == 1.0
    assert await desk.write(node, ua.Variant(2.0)) == 0
    read = desk.read(node)
    assert read.SourceTimestamp == read.ServerTimestamp
    assert read.SourceTimestamp is not None


@pytest.mark.parametrize(
    ("value", "data_type", "rank", "dimensions", "code"),
    [
        (ua.Variant([[1.0, 2.0], [3.0, 4.0]]), IDS.Double, 2, (), 0),
        (ua.Variant([1.0, 2.0]), IDS.Double, 2, (), CODES.BadTypeMismatch),
        (ua.Variant([[1.0]]), IDS.Double, 1, (), CODES.BadTypeMismatch),
        (ua.Variant([[1.0]]), IDS.Double, -3, (), CODES.BadTypeMismatch),
        (ua.Variant([[1.0]]), IDS.Double, 0, (), 0),
        (ua.Variant(1.0), IDS.Double, 0, (), CODES.BadTypeMismatch),
        (ua.Variant([1.0, 2.0]), IDS.Double, 1, (2,), 0),
        (ua.Variant([1.0, 2.0, 3.0]), IDS.Double, 1, (2,), CODES.BadOutOfRange),
        (ua.Variant([[1.0, 2.0], [3.0, 4.0]]), IDS.Double, 2, (0, 1), CODES.BadOutOfRange),
        (ua.Variant([], KIND.Double), IDS.Double, 1, (2,), 0),
        # What asyncua makes of a matrix that has not as many elements as it says.
        (ua.Variant([[1.0, []]], KIND.Double, [1, 2]), IDS.Double, 2, (), CODES.BadTypeMismatch),
        (ua.Variant([[1.0], [2.0]], KIND.Double, [1, 1]), IDS.Double, 2, (), CODES.BadTypeMismatch),
        (ua.Variant([1.0], KIND.Double, [7]), IDS.Double, 1, (), CODES.BadTypeMismatch),
        # Part 4 §5.11.4.1: a ByteString is as good as an array of Byte.
        (ua.Variant(b"\x01\x02"), IDS.Byte, 1, (), 0),
        (ua.Variant(b"\x01\x02"), IDS.Byte, -1, (), CODES.BadTypeMismatch),
        (ua.Variant(b"\x01\x02"), IDS.Int16, 1, (), CODES.BadTypeMismatch),
    ],
)
async def test_a_value_has_the_type_and_the_dimensions_that_are_declared(
    desk: Desk, value: ua.Variant, data_type: int, rank: int, dimensions: tuple[int, ...], code: int
) -> None:
    node = desk.setpoint("sp", ua.Variant(None), data_type, rank=rank, dimensions=dimensions)
    assert await desk.write(node, value) == code
    if not code:
        expected = list(value.Value) if isinstance(value.Value, bytes) else value.Value
        assert desk.value(node) == expected


@pytest.mark.parametrize("how", ["definition", "values", "strings"])
async def test_a_number_is_one_of_its_enumeration(desk: Desk, how: str) -> None:
    # Part 4 §5.11.4.4, BadOutOfRange.
    space = desk.space
    space.type(IDS.Enumeration)
    kind = space.node("Mode", ua.NodeClass.DataType)
    space.refer(ua.NodeId(IDS.Enumeration), kind, IDS.HasSubtype)
    if how == "definition":
        fields = [ua.EnumField(Value=number, Name=str(number)) for number in (0, 1, 2)]
        definition = ua.Variant(ua.EnumDefinition(fields), KIND.ExtensionObject)
        space.aspace[kind].attributes[AT.DataTypeDefinition] = type(
            space.aspace[kind].attributes[AT.BrowseName]
        )(ua.DataValue(definition))
    else:
        name = "EnumValues" if how == "values" else "EnumStrings"
        members: list[Any] = [ua.EnumValueType(Value=number) for number in (0, 1, 2)]
        if how == "strings":
            members = [ua.LocalizedText(str(number)) for number in (0, 1, 2)]
        prop = space.variable(f"Mode.{name}", ua.Variant(members), IDS.BaseDataType, rank=1)
        space.refer(kind, prop, IDS.HasProperty)
    node = desk.setpoint("sp", ua.Variant(0, KIND.Int32), IDS.Double)
    space.aspace[node].attributes[AT.DataType].value = ua.DataValue(ua.Variant(kind))
    assert await desk.write(node, ua.Variant(2, KIND.Int32)) == 0
    assert await desk.write(node, ua.Variant(3, KIND.Int32)) == CODES.BadOutOfRange
    assert await desk.write(node, ua.Variant(-1, KIND.Int32)) == CODES.BadOutOfRange
    assert desk.value(node) == 2


async def test_a_discrete_item_takes_the_number_of_a_state(desk: Desk) -> None:
    # Part 8 §5.3.3.3.
    node = desk.setpoint("sp", ua.Variant(0, KIND.UInt32), IDS.UInt32)
    states = ua.Variant([ua.LocalizedText("off"), ua.LocalizedText("on")])
    desk.space.refer(
        node, desk.space.variable("sp.EnumStrings", states, IDS.LocalizedText, rank=1), IDS.HasProperty
    )
    assert await desk.write(node, ua.Variant(1, KIND.UInt32)) == 0
    assert await desk.write(node, ua.Variant(2, KIND.UInt32)) == CODES.BadOutOfRange


async def test_a_number_is_of_any_numeric_type_from_one_write_to_the_next(desk: Desk) -> None:
    # Part 3 §5.6.2, an abstract DataType; asyncua wanted the type of the last value.
    desk.space.type(IDS.Number)
    node = desk.setpoint("sp", ua.Variant(1.5), IDS.Number)
    anything = desk.setpoint("any", ua.Variant(None), IDS.BaseDataType)
    assert await desk.write(node, ua.Variant(2, KIND.Int32)) == 0
    assert await desk.write(node, ua.Variant("2")) == CODES.BadTypeMismatch
    assert await desk.write(anything, ua.Variant("x")) == 0
    assert (desk.value(node), desk.value(anything)) == (2, "x")


async def test_a_watcher_that_fails_fails_no_write(desk: Desk) -> None:
    seen = []

    async def fail(*_: Any) -> None:
        raise ZeroDivisionError

    async def see(_: int, value: ua.DataValue) -> None:
        seen.append(value.Value.Value)

    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    for watcher in (fail, see):
        desk.space.aspace.add_datachange_callback(node, AT.Value, watcher)
    with structlog.testing.capture_logs() as logs:
        assert await desk.write(node, ua.Variant(2.0)) == 0
    assert seen == [2.0]
    assert [line["event"] for line in logs] == ["watcher.failed"]


async def test_a_value_with_a_setter_goes_there(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    seen = []
    desk.space.aspace.set_attribute_value_setter(node, AT.Value, lambda *given: seen.append(given[2].Value))
    assert await desk.write(node, ua.Variant(2.0)) == 0
    assert seen == [ua.Variant(2.0)]


async def test_what_somebody_works_out_is_not_written(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    worked_out = data_value(5.0, KIND.Double, 0, 1, 1)
    desk.space.aspace.set_attribute_value_callback(node, AT.Value, lambda *_: worked_out)
    assert await desk.write(node, ua.Variant(2.0)) == CODES.BadWriteNotSupported
    assert desk.value(node) == 5.0


async def test_a_handler_that_fails_fails_its_own_value_only(desk: Desk) -> None:
    async def handler(*_: Any) -> ua.StatusCode:
        raise ZeroDivisionError

    node, other = (desk.setpoint(name, ua.Variant(1.0), IDS.Double) for name in ("sp", "other"))
    desk.attributes.set_handler(handler, [node])
    items = [ua.WriteValue(each, AT.Value, None, ua.DataValue(ua.Variant(2.0))) for each in (node, other)]
    with structlog.testing.capture_logs() as logs:
        results = await desk.attributes.write_for(desk.asker, ua.WriteParameters(items))
    assert [status.value for status in results] == [CODES.BadInternalError, 0]
    assert [line["event"] for line in logs] == ["write.failed"]


# --- what is told of it (Part 5 §6.5.20) --------------------------------------------------------------


async def test_every_write_is_told_with_what_was_there_before(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant([1.0, 2.0]), IDS.Double, rank=1)
    await desk.write(node, ua.Variant([9.0]), index_range="1")
    (act,) = desk.acts
    assert (act.kind, act.status, act.who, act.session, act.node) == (
        "value.written",
        0,
        "asker",
        desk.asker.session_id,
        node,
    )
    assert act.event == {
        "AttributeId": 13,
        "IndexRange": "1",
        "OldValue": ua.Variant([1.0, 2.0]),
        "NewValue": ua.Variant([9.0]),
    }


async def test_a_write_that_was_refused_is_told_too(desk: Desk) -> None:
    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    desk.asker.roles = OBSERVER
    assert await desk.write(node, ua.Variant(2.0)) == CODES.BadUserAccessDenied
    assert [act.status for act in desk.acts] == [CODES.BadUserAccessDenied]
    assert desk.acts[0].event["OldValue"] == ua.Variant()


async def test_a_write_that_was_cut_off_is_told_as_one_that_may_have_happened(desk: Desk) -> None:
    async def handler(*_: Any) -> ua.StatusCode:
        await asyncio.Event().wait()
        return ua.StatusCode()

    node = desk.setpoint("sp", ua.Variant(1.0), IDS.Double)
    desk.attributes.set_handler(handler, [node])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(desk.write(node, ua.Variant(2.0)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
    assert [act.status for act in desk.acts] == [CODES.BadTimeout]
