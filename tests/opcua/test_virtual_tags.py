"""Tags as clients meet them: no node object exists for any, and every service answers as if it did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.messages import Reply
from edge_opcua.core.values import BAD_OUT_OF_RANGE, GOOD, Scalar
from edge_opcua.opcua.namespaces import Namespace, plant_id, plant_name
from edge_opcua.security.roles import Role
from tests.opcua.plant import TAGS, Plant, Watcher, configuration, prepare, running, tag, until
from tests.security.certificates import make

IDS, AT, CODES = ua.ObjectIds, ua.AttributeIds, ua.StatusCodes
FOLDER = "Press01.Process"
HAS_COMPONENT, HAS_PROPERTY = ua.NodeId(IDS.HasComponent), ua.NodeId(IDS.HasProperty)
HAS_TYPE = ua.NodeId(IDS.HasTypeDefinition)
OBSERVER_URI = "urn:tests:observer"

MORE = [
    tag("state", Scalar.INT16, "DB10.DBW90:INT", states=((0, "Idle"), (4, "Execute"))),
    tag("level", Scalar.INT16, "DB10.DBW92:INT", unit="mm", low=0, high=500, scale=0.1, offset=-2),
    tag("oven.zone", Scalar.FLOAT, "DB10.DBD94:REAL", node_id="Furnace/zone 1.EURange", low=0, high=9),
    tag("secret", Scalar.FLOAT, "DB10.DBD98:REAL", unit="kN", low=0, high=9, access="rw"),
    tag("sp_curve", Scalar.INT16, "DB11.DBW40:INT[3]", length=3, low=0, high=9, access="rw"),
    tag("big", Scalar.UINT64, "DB10.DBD110:ULINT"),
]
NAMES = [each["name"] for each in (*TAGS, *MORE)]


def node_of(name: str, member: str = "") -> ua.NodeId:
    """The NodeId of a tag or of a property of one."""
    own = "Furnace/zone 1.EURange" if name == "oven.zone" else f"{FOLDER}.{name}"
    return plant_id(f"{own}.{member}" if member else own)


def config() -> EdgeConfig:
    raw = configuration().model_dump()
    raw["devices"][0]["tags"] = [*TAGS, *MORE]
    # Whoever observes sees nothing of the secret and its properties.
    raw["opcua"]["access"] = [{"nodes": f"{FOLDER}.secret*", "role": "observer", "permissions": "none"}]
    return EdgeConfig.model_validate(raw)


@dataclass
class Scene:
    plant: Plant
    operator: Client
    observer: Client

    def client(self, role: str) -> Client:
        return self.operator if role == "operator" else self.observer


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    ground = prepare(tmp_path_factory.mktemp("plant"))
    observer = make("observer", uri=OBSERVER_URI)
    ground.trust.add(observer.der, roles=frozenset({Role.OBSERVER}))
    async with running(ground, config()) as plant:
        plant.press(**values())
        async with await plant.client() as operator, await plant.client() as other:
            del other
            for name, content in (("client.der", observer.der), ("client.pem", observer.key_pem)):
                await asyncio.to_thread((ground.root / name).write_bytes, content)
            second = await plant.client()
            second.application_uri = OBSERVER_URI
            async with second:
                scene = Scene(plant, operator, second)
                await until(lambda: _shows(scene, "stroke_count", 7))
                yield scene


async def _shows(scene: Scene, name: str, value: Any) -> bool:
    found = await read(scene.operator, node_of(name))
    return bool(found.Value is not None and found.Value.Value == value)


def values(**changes: Any) -> dict[str, Any]:
    return {
        "die_temp": 60.5,
        "stroke_count": 7,
        "guard_closed": True,
        "recipe": "door left",
        "profile": [1, 2, 3],
        "state": 4,
        "level": 120,
        "oven.zone": 3.5,
        "secret": 1.5,
        "sp_curve": [4, 5, 6],
        "big": 2**64 - 1,
        **changes,
    }


async def read(
    client: Client, node: ua.NodeId, attribute: int = AT.Value, index_range: str | None = None
) -> ua.DataValue:
    item = ua.ReadValueId(node, attribute, index_range)
    both = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[item])
    (found,) = await client.uaclient.read(both)
    return found


async def status(client: Client, node: ua.NodeId, attribute: int = AT.Value, part: str | None = None) -> int:
    return int((await read(client, node, attribute, part)).StatusCode.value)


async def browse(
    client: Client,
    node: ua.NodeId,
    direction: ua.BrowseDirection = ua.BrowseDirection.Both,
    *,
    kind: ua.NodeId | None = None,
    subtypes: bool = True,
    classes: int = 0,
) -> list[ua.ReferenceDescription]:
    wanted = ua.BrowseDescription(node, direction, kind or ua.NodeId(), subtypes, classes, 63)
    (found,) = await client.uaclient.browse(ua.BrowseParameters(NodesToBrowse=[wanted]))
    found.StatusCode.check()
    return list(found.References)


async def translate(client: Client, start: ua.NodeId, *names: ua.QualifiedName, inverse: bool = False) -> Any:
    elements = [ua.RelativePathElement(ua.NodeId(), inverse, True, name) for name in names]
    path = ua.BrowsePath(start, ua.RelativePath(elements))
    (found,) = await client.uaclient.translate_browsepaths_to_nodeids([path])
    return found


async def write(
    client: Client, node: ua.NodeId, value: ua.Variant, part: str | None = None, attribute: int = AT.Value
) -> int:
    item = ua.WriteValue(node, attribute, part, ua.DataValue(value))
    (found,) = await client.uaclient.write(ua.WriteParameters([item]))
    return int(found.value)


# --- Browse (Part 4 §5.9.2) -------------------------------------------------------------------------------


async def test_the_folder_leads_to_every_tag_in_the_order_of_the_table(scene: Scene) -> None:
    folder = plant_id(FOLDER)
    found = await browse(scene.operator, folder, ua.BrowseDirection.Forward, kind=HAS_COMPONENT)
    assert [each.BrowseName for each in found] == [plant_name(name) for name in NAMES]
    assert [each.NodeId for each in found] == [node_of(name) for name in NAMES]
    assert {each.NodeClass for each in found} == {ua.NodeClass.Variable}
    assert found[0].TypeDefinition == ua.NodeId(IDS.AnalogUnitRangeType)
    (above,) = await browse(scene.operator, folder, ua.BrowseDirection.Inverse)
    assert above.NodeId == plant_id("Press01.Monitoring")


@pytest.mark.parametrize(
    ("direction", "kind", "subtypes", "names"),
    [
        (ua.BrowseDirection.Inverse, None, True, ["Process"]),
        (ua.BrowseDirection.Inverse, IDS.HierarchicalReferences, True, ["Process"]),
        (ua.BrowseDirection.Inverse, IDS.HierarchicalReferences, False, []),
        (ua.BrowseDirection.Inverse, IDS.HasProperty, True, []),
        (ua.BrowseDirection.Forward, IDS.HasProperty, False, ["EURange", "EngineeringUnits", "Definition"]),
        (ua.BrowseDirection.Forward, IDS.Aggregates, True, ["EURange", "EngineeringUnits", "Definition"]),
        (ua.BrowseDirection.Forward, IDS.HasTypeDefinition, True, ["AnalogUnitRangeType"]),
        (
            ua.BrowseDirection.Both,
            None,
            True,
            ["AnalogUnitRangeType", "Process", "EURange", "EngineeringUnits", "Definition"],
        ),
    ],
)
async def test_a_tag_is_browsed_by_direction_and_reference_type(
    scene: Scene, direction: ua.BrowseDirection, kind: int | None, subtypes: bool, names: list[str]
) -> None:
    wanted = None if kind is None else ua.NodeId(kind)
    found = await browse(scene.operator, node_of("level"), direction, kind=wanted, subtypes=subtypes)
    assert [each.BrowseName.Name for each in found] == names


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (ua.NodeClass.Variable, ["TrueState", "FalseState"]),
        (ua.NodeClass.VariableType, ["TwoStateDiscreteType"]),
        (ua.NodeClass.Object, ["Process"]),
        (ua.NodeClass.Object | ua.NodeClass.Variable, ["Process", "TrueState", "FalseState"]),
        (ua.NodeClass.Method, []),
    ],
)
async def test_a_tag_is_browsed_by_the_class_of_its_neighbours(
    scene: Scene, classes: int, names: list[str]
) -> None:
    found = await browse(scene.operator, node_of("guard_closed"), classes=int(classes))
    assert [each.BrowseName.Name for each in found] == names


async def test_a_property_leads_back_to_its_tag(scene: Scene) -> None:
    up, down = ua.BrowseDirection.Inverse, ua.BrowseDirection.Forward
    (owner,) = await browse(scene.operator, node_of("oven.zone", "EURange"), up)
    assert (owner.NodeId, owner.ReferenceTypeId) == (node_of("oven.zone"), HAS_PROPERTY)
    assert (owner.BrowseName, owner.IsForward) == (plant_name("oven.zone"), False)
    (kind,) = await browse(scene.operator, node_of("oven.zone", "EURange"), down)
    assert (kind.NodeId, kind.ReferenceTypeId) == (ua.NodeId(IDS.PropertyType), HAS_TYPE)


async def test_a_browse_of_tags_is_continued_where_it_stopped(scene: Scene) -> None:
    # Part 4 §5.9.3.
    wanted = ua.BrowseDescription(plant_id(FOLDER), ua.BrowseDirection.Forward, HAS_COMPONENT, True, 0, 63)
    asked = ua.BrowseParameters(RequestedMaxReferencesPerNode=5, NodesToBrowse=[wanted])
    (found,) = await scene.operator.uaclient.browse(asked)
    names = [each.BrowseName.Name for each in found.References]
    while found.ContinuationPoint:
        (found,) = await scene.operator.uaclient.browse_next(
            ua.BrowseNextParameters(False, [found.ContinuationPoint])
        )
        assert 0 < len(found.References) <= 5
        names += [each.BrowseName.Name for each in found.References]
    assert names == NAMES


# --- TranslateBrowsePathsToNodeIds (Part 4 §5.9.4) ---------------------------------------------------------


async def test_a_path_leads_to_a_tag_and_on_to_its_range(scene: Scene) -> None:
    start = plant_id("Press01")
    steps = [ua.QualifiedName(name, Namespace.MACHINERY) for name in ("Monitoring", "Process")]
    for name in ("die_temp", "oven.zone"):
        found = await translate(scene.operator, start, *steps, plant_name(name))
        assert [each.TargetId for each in found.Targets] == [node_of(name)]
        found = await translate(scene.operator, start, *steps, plant_name(name), ua.QualifiedName("EURange"))
        assert [each.TargetId for each in found.Targets] == [node_of(name, "EURange")]


async def test_a_path_leads_from_a_property_up_to_the_folder(scene: Scene) -> None:
    found = await translate(
        scene.operator,
        node_of("die_temp", "EURange"),
        plant_name("die_temp"),
        ua.QualifiedName("Process", Namespace.MACHINERY),
        inverse=True,
    )
    assert [each.TargetId for each in found.Targets] == [plant_id(FOLDER)]


@pytest.mark.parametrize(
    "names",
    [
        [plant_name("die_tem")],
        [ua.QualifiedName("die_temp", 6)],
        [plant_name("die_temp"), ua.QualifiedName("TrueState")],
        [plant_name("die_temp"), plant_name("EURange")],
        [plant_name("Furnace/zone 1.EURange")],
    ],
)
async def test_a_path_beside_a_tag_leads_nowhere(scene: Scene, names: list[ua.QualifiedName]) -> None:
    found = await translate(scene.operator, plant_id(FOLDER), *names)
    assert found.StatusCode.value == CODES.BadNoMatch


# --- Read (Part 4 §5.11.2) --------------------------------------------------------------------------------

TEXT, NAME = ua.VariantType.LocalizedText, ua.VariantType.QualifiedName
ATTRIBUTES = [
    (AT.NodeId, node_of("level"), ua.VariantType.NodeId),
    (AT.NodeClass, int(ua.NodeClass.Variable), ua.VariantType.Int32),
    (AT.BrowseName, plant_name("level"), NAME),
    (AT.DisplayName, ua.LocalizedText("level"), TEXT),
    (AT.Description, ua.LocalizedText(), TEXT),
    (AT.WriteMask, 0, ua.VariantType.UInt32),
    (AT.UserWriteMask, 0, ua.VariantType.UInt32),
    (AT.DataType, ua.NodeId(IDS.Int16), ua.VariantType.NodeId),
    (AT.ValueRank, -1, ua.VariantType.Int32),
    (AT.ArrayDimensions, [], ua.VariantType.UInt32),
    (AT.AccessLevel, 1, ua.VariantType.Byte),
    (AT.UserAccessLevel, 1, ua.VariantType.Byte),
    (AT.AccessLevelEx, 1, ua.VariantType.UInt32),
    (AT.AccessRestrictions, 0, ua.VariantType.UInt16),
    (AT.MinimumSamplingInterval, 0.0, ua.VariantType.Double),
    (AT.Historizing, False, ua.VariantType.Boolean),
    (AT.Value, 120, ua.VariantType.Int16),
]


@pytest.mark.parametrize(("attribute", "value", "kind"), ATTRIBUTES)
async def test_every_attribute_of_a_tag_is_read(
    scene: Scene, attribute: ua.AttributeIds, value: Any, kind: ua.VariantType
) -> None:
    # Part 3 §5.6.2.
    found = await read(scene.operator, node_of("level"), attribute)
    assert found.StatusCode.value == GOOD
    assert found.Value.VariantType == kind
    assert found.Value.Value == value
    assert (found.SourceTimestamp is not None) is (attribute == AT.Value)


async def test_a_tag_has_the_attributes_of_a_variable_and_no_others(scene: Scene) -> None:
    asked = {attribute for attribute, _, _ in ATTRIBUTES} | {AT.RolePermissions, AT.UserRolePermissions}
    for attribute in ua.AttributeIds:
        if attribute not in asked:
            code = await status(scene.operator, node_of("level"), attribute)
            assert code == CODES.BadAttributeIdInvalid, attribute
    assert await status(scene.operator, node_of("level"), 99) == CODES.BadAttributeIdInvalid


@pytest.mark.parametrize("name", ["recipe", "profile", "sp_speed", "sp_curve", "guard_closed"])
async def test_type_rank_and_access_follow_the_table(scene: Scene, name: str) -> None:
    row = next(each for each in (*TAGS, *MORE) if each["name"] == name)
    array = name in ("profile", "sp_curve")
    writable = row.get("access") == "rw"
    expected = {
        AT.DataType: ua.NodeId(int(row["type"])),
        AT.ValueRank: 1 if array else -1,
        AT.ArrayDimensions: [0] if array else [],
        AT.AccessLevel: 3 if writable else 1,
        AT.UserAccessLevel: 3 if writable else 1,
        AT.AccessLevelEx: 3 | 1 << 10 if writable else 1,  # WriteFullArrayOnly: a handler writes it
    }
    for attribute, value in expected.items():
        assert (await read(scene.operator, node_of(name), attribute)).Value.Value == value, attribute
    level = (await read(scene.observer, node_of(name), AT.UserAccessLevel)).Value.Value
    assert level == 1  # Part 3 §5.6.2: what this user may do


async def test_role_permissions_of_a_tag_are_read_by_who_may(scene: Scene) -> None:
    # Part 3 §5.2.9 and §5.2.10.
    assert await status(scene.operator, node_of("level"), AT.RolePermissions) == CODES.BadUserAccessDenied
    rows = (await read(scene.operator, node_of("sp_speed"), AT.UserRolePermissions)).Value.Value
    allowed = {row.RoleId: ua.PermissionType(row.Permissions) for row in rows}
    assert ua.PermissionType.Write in allowed[ua.NodeId(Role.OPERATOR.value)]
    assert ua.PermissionType.Write not in allowed[ua.NodeId(Role.ENGINEER.value)]


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("profile", "1", [2]),
        ("profile", "1:9", [2, 3]),
        ("recipe", "5:8", "left"),
        ("profile", "3", CODES.BadIndexRangeNoData),
        ("profile", "2:1", CODES.BadIndexRangeInvalid),
        ("profile", "0,0", CODES.BadIndexRangeNoData),
        ("recipe", "9", CODES.BadIndexRangeNoData),
        ("level", "0", CODES.BadIndexRangeNoData),
    ],
)
async def test_a_part_of_an_array_or_text_is_read(scene: Scene, name: str, part: str, expected: Any) -> None:
    # Part 4 §7.27.
    found = await read(scene.operator, node_of(name), AT.Value, part)
    if isinstance(expected, int):
        assert found.StatusCode.value == expected
    else:
        assert (found.StatusCode.value, found.Value.Value) == (GOOD, expected)


@pytest.mark.parametrize(
    ("name", "member", "value"),
    [
        ("level", "EURange", ua.Range(0.0, 500.0)),
        ("level", "Definition", "raw x 0.1 -2"),
        ("guard_closed", "TrueState", ua.LocalizedText("TRUE")),
        ("guard_closed", "FalseState", ua.LocalizedText("FALSE")),
        ("oven.zone", "EURange", ua.Range(0.0, 9.0)),
        ("state", "ValueAsText", ua.LocalizedText("Execute")),
    ],
)
async def test_properties_of_a_tag_are_read(scene: Scene, name: str, member: str, value: Any) -> None:
    # Part 8 §5.3.
    found = await read(scene.operator, node_of(name, member))
    assert (found.StatusCode.value, found.Value.Value) == (GOOD, value)
    shown = (await read(scene.operator, node_of(name, member), AT.BrowseName)).Value.Value
    assert shown == ua.QualifiedName(member, 0)
    assert (
        await status(scene.operator, node_of(name, member), AT.EventNotifier) == CODES.BadAttributeIdInvalid
    )


async def test_the_unit_of_a_tag_is_read(scene: Scene) -> None:
    found = (await read(scene.operator, node_of("die_temp", "EngineeringUnits"))).Value.Value
    assert (found.UnitId, found.DisplayName.Text) == (4408652, "°C")
    values = (await read(scene.operator, node_of("state", "EnumValues"))).Value.Value
    assert [(each.Value, each.DisplayName.Text) for each in values] == [(0, "Idle"), (4, "Execute")]


@pytest.mark.parametrize(
    "name",
    [
        "die_tem",
        "die_temp.",
        "die_temp.EURang",
        "die_temp.TrueState",
        "die_temp.EURange.EURange",
        "stroke_count.EURange",
        "oven.zone",
    ],
)
async def test_a_name_near_an_existing_one_is_unknown_to_every_service(scene: Scene, name: str) -> None:
    node = plant_id(f"{FOLDER}.{name}")
    assert await status(scene.operator, node) == CODES.BadNodeIdUnknown
    assert await status(scene.operator, node, AT.BrowseName) == CODES.BadNodeIdUnknown
    assert await write(scene.operator, node, ua.Variant(1.0)) == CODES.BadNodeIdUnknown
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await browse(scene.operator, node)
    assert (await translate(scene.operator, node, plant_name("x"))).StatusCode.value == CODES.BadNodeIdUnknown
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await subscribed(scene.operator, node)


async def test_only_a_structure_can_be_asked_for_in_an_encoding(scene: Scene) -> None:
    # Part 4 §5.11.2.4.
    binary = ua.QualifiedName("Default Binary", 0)
    for node, expected in (
        (node_of("level"), CODES.BadDataEncodingInvalid),
        (node_of("level", "EURange"), GOOD),
    ):
        item = ua.ReadValueId(node, AT.Value, None, binary)
        (found,) = await scene.operator.uaclient.read(ua.ReadParameters(NodesToRead=[item]))
        assert found.StatusCode.value == expected


# --- Write (Part 4 §5.11.4) -------------------------------------------------------------------------------

FLOAT = ua.VariantType.Float


@pytest.mark.parametrize(
    ("name", "value", "part", "expected"),
    [
        ("sp_speed", ua.Variant(30.0, FLOAT), None, GOOD),
        ("sp_speed", ua.Variant(30.0, ua.VariantType.Double), None, CODES.BadTypeMismatch),
        ("sp_speed", ua.Variant("fast"), None, CODES.BadTypeMismatch),
        ("sp_speed", ua.Variant([30.0], FLOAT), None, CODES.BadTypeMismatch),
        ("sp_speed", ua.Variant(90.0, FLOAT), None, CODES.BadOutOfRange),
        ("sp_speed", ua.Variant(float("nan"), FLOAT), None, CODES.BadOutOfRange),
        ("sp_curve", ua.Variant([1, 2, 3], ua.VariantType.Int16), None, GOOD),
        ("sp_curve", ua.Variant([1, 2], ua.VariantType.Int16), None, CODES.BadOutOfRange),
        ("sp_curve", ua.Variant([2], ua.VariantType.Int16), "1", CODES.BadWriteNotSupported),
        ("sp_recipe", ua.Variant("far too long"), None, CODES.BadOutOfRange),
        ("ack", ua.Variant(True), None, GOOD),
        ("level", ua.Variant(1, ua.VariantType.Int16), None, CODES.BadNotWritable),
        ("profile", ua.Variant([9], ua.VariantType.Int16), "1", CODES.BadNotWritable),
    ],
)
async def test_a_write_is_looked_at_and_reaches_the_device(
    scene: Scene, name: str, value: ua.Variant, part: str | None, expected: int
) -> None:
    scene.plant.asked.writes.clear()
    assert await write(scene.operator, node_of(name), value, part) == expected
    written = [(tag_name, what) for tag_name, what, _ in scene.plant.asked.writes]
    assert written == ([(f"press/{name}", value.Value)] if expected == GOOD else [])


async def test_a_write_is_answered_with_what_the_device_said(scene: Scene) -> None:
    scene.plant.asked.write_reply = Reply(BAD_OUT_OF_RANGE, "not now", {})
    try:
        code = await write(scene.operator, node_of("sp_speed"), ua.Variant(30.0, FLOAT))
    finally:
        scene.plant.asked.write_reply = Reply()
    assert code == BAD_OUT_OF_RANGE


async def test_who_may_not_write_a_set_point_is_refused(scene: Scene) -> None:
    scene.plant.asked.writes.clear()
    code = await write(scene.observer, node_of("sp_speed"), ua.Variant(30.0, FLOAT))
    assert code == CODES.BadUserAccessDenied
    assert not scene.plant.asked.writes


@pytest.mark.parametrize(
    ("node", "attribute", "expected"),
    [
        (node_of("level", "EURange"), AT.Value, CODES.BadNotWritable),
        (node_of("state", "ValueAsText"), AT.Value, CODES.BadNotWritable),
        (node_of("sp_speed"), AT.DisplayName, CODES.BadNotWritable),
        (node_of("sp_speed"), AT.AccessLevel, CODES.BadNotWritable),
        (node_of("sp_speed"), AT.RolePermissions, CODES.BadNotWritable),
        (node_of("sp_speed"), AT.EventNotifier, CODES.BadAttributeIdInvalid),
    ],
)
async def test_nothing_else_of_a_tag_can_be_written(
    scene: Scene, node: ua.NodeId, attribute: int, expected: int
) -> None:
    assert await write(scene.operator, node, ua.Variant("x"), attribute=attribute) == expected


# --- monitored items (Part 4 §5.13) -----------------------------------------------------------------------


async def subscribed(
    client: Client, node: ua.NodeId, attribute: int = AT.Value, watcher: Watcher | None = None, **asked: Any
) -> tuple[Any, int]:
    """Return a subscription with one item, and its number."""
    subscription = await client.create_subscription(20, watcher or Watcher())
    try:
        number = await subscription._subscribe([client.get_node(node)], attribute, **asked)
    except ua.UaError:
        await subscription.delete()
        raise
    (found,) = number if isinstance(number, list) else [number]
    if isinstance(found, ua.StatusCode):
        await subscription.delete()
        found.check()
    return subscription, int(found)


def seen(watcher: Watcher, node: ua.NodeId) -> list[Any]:
    return [each.Value.Value for each in watcher.of(str(node.Identifier)) if each.Value is not None]


async def test_a_tag_is_subscribed_changed_and_unsubscribed(scene: Scene) -> None:
    watcher, node = Watcher(), node_of("die_temp")
    handed = scene.plant.server.sessions()["values_notified"]
    scene.plant.press(**values(die_temp=60.5))
    subscription, number = await subscribed(scene.operator, node, watcher=watcher)

    async def shown(value: float) -> bool:
        return bool(seen(watcher, node)) and seen(watcher, node)[-1] == value

    await until(lambda: shown(60.5))
    scene.plant.press(**values(die_temp=61.5))
    await until(lambda: shown(61.5))
    (result,) = await subscription.modify_monitored_item(number, 20, new_queuesize=5)
    result.StatusCode.check()
    assert result.RevisedQueueSize == 5
    scene.plant.press(**values(die_temp=62.5))
    await until(lambda: shown(62.5))
    await subscription.unsubscribe(number)
    count = len(watcher.values)
    scene.plant.press(**values(die_temp=63.5))
    await until(lambda: _shows(scene, "die_temp", 63.5))
    await asyncio.sleep(0.06)
    assert len(watcher.values) == count
    assert scene.plant.server.sessions()["values_notified"] >= handed + 3
    await subscription.delete()
    assert not any(followers(scene))


def followers(scene: Scene) -> Iterable[Any]:
    """Whoever still follows a block of tags."""
    core = scene.plant.server._server.iserver  # type: ignore[union-attr]
    for block in core.aspace.tags.blocks:
        yield from block.listeners
        yield from block.watchers()


async def test_an_array_and_a_text_are_reported(scene: Scene) -> None:
    watcher = Watcher()
    scene.plant.press(**values())
    subscription = await scene.operator.create_subscription(20, watcher)
    nodes = [node_of("profile"), node_of("recipe"), node_of("big")]
    await subscription.subscribe_data_change([scene.operator.get_node(node) for node in nodes])
    scene.plant.press(**values(profile=[7, 8, 9], recipe="bonnet", big=2**63))

    async def shown() -> bool:
        return all(
            seen(watcher, node)[-1:] == [value]
            for node, value in zip(nodes, ([7, 8, 9], "bonnet", 2**63), strict=True)
        )

    await until(shown)
    await subscription.delete()
    assert not any(followers(scene))


async def test_a_property_is_subscribed_and_tells_its_value_once(scene: Scene) -> None:
    watcher, node = Watcher(), node_of("die_temp", "EURange")
    subscription, _ = await subscribed(scene.operator, node, watcher=watcher)

    async def shown() -> bool:
        return seen(watcher, node) == [ua.Range(0.0, 120.0)]

    await until(shown)
    scene.plant.press(**values(die_temp=64.5))
    await until(lambda: _shows(scene, "die_temp", 64.5))
    await asyncio.sleep(0.06)
    assert len(watcher.values) == 1
    await subscription.delete()


async def test_another_attribute_is_subscribed(scene: Scene) -> None:
    watcher, node = Watcher(), node_of("die_temp")
    subscription, _ = await subscribed(scene.operator, node, AT.DisplayName, watcher)

    async def shown() -> bool:
        return seen(watcher, node) == [ua.LocalizedText("die_temp")]

    await until(shown)
    await subscription.delete()


async def test_the_text_of_a_state_is_reported(scene: Scene) -> None:
    # Part 8 §5.3.3.4.
    watcher, node = Watcher(), node_of("state", "ValueAsText")
    scene.plant.press(**values(state=4))
    subscription, _ = await subscribed(scene.operator, node, watcher=watcher)
    scene.plant.press(**values(state=0))

    async def shown() -> bool:
        return ua.LocalizedText("Idle") in seen(watcher, node)

    await until(shown)
    await subscription.delete()


def filtered(kind: ua.DeadbandType, value: float) -> ua.DataChangeFilter:
    return ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.UInt32(kind), value)


async def created(
    scene: Scene, node: ua.NodeId, wanted: Any = None, attribute: int = AT.Value, part: str | None = None
) -> int:
    """Return the StatusCode with which one item is made."""
    subscription = await scene.operator.create_subscription(1000, Watcher())
    item = ua.MonitoredItemCreateRequest(
        ua.ReadValueId(node, attribute, part),
        ua.MonitoringMode.Reporting,
        ua.MonitoringParameters(1, 0.0, wanted, 1, True),
    )
    asked = ua.CreateMonitoredItemsParameters(subscription.subscription_id, ItemsToCreate=[item])
    (result,) = await scene.operator.uaclient.create_monitored_items(asked)
    await subscription.delete()
    return int(result.StatusCode.value)


PERCENT = ua.DeadbandType.Percent


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("die_temp", filtered(PERCENT, 10.0), GOOD),
        ("die_temp", filtered(PERCENT, 101.0), CODES.BadDeadbandFilterInvalid),
        ("stroke_count", filtered(PERCENT, 10.0), CODES.BadMonitoredItemFilterUnsupported),
        ("guard_closed", filtered(ua.DeadbandType.Absolute, 1.0), CODES.BadFilterNotAllowed),
        ("recipe", filtered(ua.DeadbandType.Absolute, 1.0), CODES.BadFilterNotAllowed),
    ],
)
async def test_a_percent_deadband_needs_the_range_of_the_tag(
    scene: Scene, name: str, wanted: ua.DataChangeFilter, expected: int
) -> None:
    # Part 4 §7.22.2: of the EURange.
    assert await created(scene, node_of(name), wanted) == expected


async def test_a_percent_deadband_counts_in_the_range_of_the_tag(scene: Scene) -> None:
    watcher, node = Watcher(), node_of("die_temp")  # 10 % of 0 … 120
    scene.plant.press(**values(die_temp=20.0))
    await until(lambda: _shows(scene, "die_temp", 20.0))
    subscription = await scene.operator.create_subscription(20, watcher)
    await subscription.deadband_monitor(scene.operator.get_node(node), 10.0, PERCENT)

    async def shown(*wanted: float) -> bool:
        return seen(watcher, node) == list(wanted)

    await until(partial(shown, 20.0))  # the queue holds one: what is not fetched yet would give way
    for value in (20.0, 31.0, 33.0):
        scene.plant.press(**values(die_temp=value))
        await until(lambda value=value: _shows(scene, "die_temp", value))
    await until(partial(shown, 20.0, 33.0))
    await subscription.delete()


@pytest.mark.parametrize(
    ("attribute", "part", "expected"),
    [
        (AT.EventNotifier, None, CODES.BadAttributeIdInvalid),
        (AT.Executable, None, CODES.BadAttributeIdInvalid),
        (99, None, CODES.BadAttributeIdInvalid),
        (AT.Value, "1:0", CODES.BadIndexRangeInvalid),
    ],
)
async def test_what_a_tag_has_not_cannot_be_subscribed(
    scene: Scene, attribute: int, part: str | None, expected: int
) -> None:
    assert await created(scene, node_of("die_temp"), None, attribute, part) == expected


async def test_events_of_a_tag_are_refused(scene: Scene) -> None:
    # Part 4 §5.13.1.5: only what has an EventNotifier has events.
    wanted = ua.EventFilter(SelectClauses=[ua.SimpleAttributeOperand()])
    assert await created(scene, node_of("die_temp"), wanted, AT.EventNotifier) == CODES.BadAttributeIdInvalid


async def test_get_monitored_items_counts_those_of_tags(scene: Scene) -> None:
    # Part 5 §9.1.
    subscription, number = await subscribed(scene.operator, node_of("die_temp"))
    server = scene.operator.get_node(ua.NodeId(IDS.Server))
    servers, clients = await server.call_method(
        ua.NodeId(IDS.Server_GetMonitoredItems),
        ua.Variant(subscription.subscription_id, ua.VariantType.UInt32),
    )
    assert servers == [number]
    assert len(clients) == 1
    await subscription.delete()


# --- permissions (Part 3 §8.55) ---------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["", "EURange"])
async def test_a_rule_hides_a_tag_and_its_properties_from_one_role(scene: Scene, member: str) -> None:
    node = node_of("secret", member)
    for role, hidden in (("operator", False), ("observer", True)):
        client = scene.client(role)
        code = CODES.BadUserAccessDenied if hidden else GOOD
        assert await status(client, node) == code
        assert await status(client, node, AT.BrowseName) == code
        below = await browse(client, plant_id(FOLDER), kind=HAS_COMPONENT)
        assert ("secret" in {each.BrowseName.Name for each in below}) is not hidden
        names = [plant_name("secret"), *([ua.QualifiedName(member)] if member else [])]
        found = await translate(client, plant_id(FOLDER), *names)
        assert found.StatusCode.value == (CODES.BadNoMatch if hidden else GOOD)
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await browse(scene.observer, node)


async def test_what_is_hidden_cannot_be_written_and_its_changes_are_not_told(scene: Scene) -> None:
    scene.plant.asked.writes.clear()
    assert await write(scene.observer, node_of("secret"), ua.Variant(2.0, FLOAT)) == CODES.BadUserAccessDenied
    assert not scene.plant.asked.writes
    assert await write(scene.operator, node_of("secret"), ua.Variant(2.0, FLOAT)) == GOOD
    watcher = Watcher()
    subscription, _ = await subscribed(scene.observer, node_of("secret"), watcher=watcher)
    scene.plant.press(**values(secret=8.5))
    await until(lambda: _shows(scene, "secret", 8.5))
    await asyncio.sleep(0.06)
    told = watcher.of(str(node_of("secret").Identifier))
    assert {each.StatusCode.value for each in told} == {CODES.BadUserAccessDenied}
    assert all(each.Value is None or each.Value.Value is None for each in told)
    await subscription.delete()


async def test_the_alias_of_what_is_hidden_is_not_found(scene: Scene) -> None:
    # Part 17 §6.3.2.
    for role, expected in (("operator", [node_of("secret")]), ("observer", [])):
        category = scene.client(role).get_node(ua.NodeId(IDS.TagVariables))
        found = await category.call_method(
            ua.NodeId(IDS.TagVariables_FindAlias), "press/secret", ua.Variant(ua.NodeId(IDS.AliasFor))
        )
        targets = [
            ua.NodeId(target.Identifier, target.NamespaceIndex)
            for each in found
            for target in each.ReferencedNodes
        ]
        assert targets == expected


async def test_a_tag_with_a_node_id_of_its_own_is_found_by_its_alias(scene: Scene) -> None:
    category = scene.operator.get_node(ua.NodeId(IDS.TagVariables))
    (found,) = await category.call_method(
        ua.NodeId(IDS.TagVariables_FindAlias), "press/oven.zone", ua.Variant(ua.NodeId(IDS.AliasFor))
    )
    assert [each.Identifier for each in found.ReferencedNodes] == [node_of("oven.zone").Identifier]


# --- the others -------------------------------------------------------------------------------------------


async def test_registered_tags_keep_their_node_ids(scene: Scene) -> None:
    # Part 4 §5.9.5.
    nodes = [node_of("die_temp"), node_of("die_temp", "EURange")]
    assert await scene.operator.uaclient.register_nodes(nodes) == nodes
    await scene.operator.uaclient.unregister_nodes(nodes)


async def test_a_tag_has_no_methods(scene: Scene) -> None:
    # Part 4 §5.12.2.2.
    request = ua.CallMethodRequest(node_of("die_temp"), ua.NodeId(IDS.Server_GetMonitoredItems), [])
    (found,) = await scene.operator.uaclient.call([request])
    assert found.StatusCode.value == CODES.BadMethodInvalid


async def test_the_servers_own_calls_find_no_node(scene: Scene) -> None:
    server = scene.plant.server._server
    assert server is not None
    node = server.get_node(node_of("sp_speed"))
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await node.read_value()
    with pytest.raises(ua.uaerrors.BadNodeIdUnknown):
        await node.write_value(ua.Variant(1.0, FLOAT))


async def test_after_all_of_this_no_object_exists_for_any_tag(scene: Scene) -> None:
    # The last test of this module.
    core = scene.plant.server._server.iserver  # type: ignore[union-attr]
    plant = [node for node in core.aspace.keys() if node.NamespaceIndex == Namespace.PLANT]  # noqa: SIM118
    assert plant_id(FOLDER) in plant
    assert len(core.aspace.tags) == len(NAMES)
    assert not [node for node in plant if core.aspace.virtual.find(node) is not None]
    references = core.aspace[plant_id(FOLDER)].references
    assert [each.NodeId for each in references] == [
        ua.NodeId(IDS.FolderType),
        plant_id("Press01.Monitoring"),
        plant_id(f"{FOLDER}.NodeVersion"),
    ]
    assert not [node for node in core.access._of_node if core.aspace.virtual.find(node) is not None]
    assert not [node for node in core.access._kinds if core.aspace.virtual.find(node) is not None]
    assert not any(followers(scene))
