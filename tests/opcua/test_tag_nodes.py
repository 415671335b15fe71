"""What a tag answers is what a node made of the same row would answer; no server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeManagementService
from asyncua.server.internal_server import InternalServer
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.tags import TagConfig
from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA, BlockSpec, Scalar, TagSpec
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.access import Access, Kind, Permission, rule
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.items import item_property, item_type, property_names
from edge_opcua.opcua.namespaces import Namespace, plant_id, plant_name
from edge_opcua.opcua.nodes import ARRAY, SCALAR, NodeMaker, VariableSpec
from edge_opcua.opcua.space import SpaceBuilder
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import TagTable
from edge_opcua.security.roles import Role
from edge_opcua.testing import ManualClock
from tests.opcua.plant import configuration

IDS = ua.ObjectIds
FOLDER = "Press01.Process"


class Space:
    """The standard's nodes, and a folder for tags."""

    def __init__(self, standard: AddressSpace) -> None:
        self.aspace = Nodes()
        self.aspace._nodes = dict(standard._nodes)
        self.maker = NodeMaker(self.aspace, NodeManagementService(self.aspace), int(Namespace.PLANT))
        self.monitoring = self.maker.folder(plant_id("Press01"), "Press01.Monitoring")
        self.folder = self.maker.instance(
            self.monitoring,
            FOLDER,
            ua.NodeId(IDS.FolderType),
            browse_name=ua.QualifiedName("Process", Namespace.MACHINERY),
            component=True,
        )
        self.aspace.tags.folder = self.folder

    def add(self, *configs: TagConfig, device: str = "press") -> None:
        """Enter tags in the table."""
        block = LiveBlock(BlockSpec("press.fast", tuple(each.spec for each in configs), 2), ManualClock())
        rows = [(row, each.node_id or f"{FOLDER}.{each.name}", each) for row, each in enumerate(configs)]
        self.aspace.tags.add(block, rows, device=device)

    def make(self, tag: TagConfig) -> ua.NodeId:
        """Make node objects of a tag, as this server did before tags were rows."""
        name = tag.node_id or f"{FOLDER}.{tag.name}"
        is_array = tag.length > 0 and tag.type is not Scalar.STRING
        spec = VariableSpec(
            ua.NodeId(int(tag.type)),
            rank=ARRAY if is_array else SCALAR,
            type_definition=item_type(tag),
            writable=tag.writable,
            description=tag.description,
        )
        node = self.maker.variable(self.folder, name, spec, browse_name=plant_name(tag.name))
        for each in filter(None, (item_property(tag, each) for each in property_names(tag))):
            self.maker.property(node, name, each.name, each.value, data_type=each.data_type, rank=each.rank)
        return node


@pytest.fixture(scope="module")
def standard() -> AddressSpace:
    async def loaded() -> InternalServer:
        core = InternalServer()
        core.method_service.stop()
        await core.load_standard_address_space()
        return core

    core = asyncio.run(loaded())
    maker = NodeMaker(core.aspace, core.node_mgt_service, int(Namespace.PLANT))
    maker.instance(ua.NodeId(IDS.ObjectsFolder), "Press01", ua.NodeId(IDS.BaseObjectType))
    return core.aspace


def tag(name: str = "x", kind: Scalar = Scalar.DOUBLE, **more: Any) -> TagConfig:
    return TagConfig(name=name, address="DB1.DBD0:REAL", type=kind, **more)


NAMES = st.sampled_from(["x", "die_temp", "a.b", "x.EURange", "EURange", "x.TrueState.y"])
RANGES = st.sampled_from([(None, None), (0.0, None), (0.0, 5.0), (-1.5, 1e6)])


@st.composite
def tags(draw: st.DrawFn) -> TagConfig:
    kind = draw(st.sampled_from(Scalar))
    length = draw(st.sampled_from([8, 16])) if kind is Scalar.STRING else draw(st.sampled_from([0, 0, 4]))
    low, high = draw(RANGES)
    return tag(
        draw(NAMES),
        kind,
        length=length,
        low=low,
        high=high,
        unit=draw(st.sampled_from(["", "kN", "furlong"])),
        description=draw(st.sampled_from(["", "Pressure of the die"])),
        scale=draw(st.sampled_from([1.0, 0.1])),
        offset=draw(st.sampled_from([0.0, -3.0])),
        access=draw(st.sampled_from(["r", "rw"])),
        node_id=draw(st.sampled_from([None, "oven/temp 1", "Press01.Process.other.name", "straße"])),
        true_name=draw(st.sampled_from(["", "Closed"])),
        states=draw(st.sampled_from([(), ((0, "Idle"), (4, "Execute"))])),
        historize=draw(st.booleans()),
    )


def described(reference: ua.ReferenceDescription) -> tuple[Any, ...]:
    return (
        reference.ReferenceTypeId,
        reference.IsForward,
        reference.NodeId,
        reference.BrowseName,
        reference.DisplayName,
        reference.NodeClass,
        reference.TypeDefinition,
    )


@settings(max_examples=60, deadline=None)
@given(tag=tags())
def test_every_attribute_and_reference_is_that_of_a_node_made_of_the_same_row(
    standard: AddressSpace, tag: TagConfig
) -> None:
    # Part 3 §5.6 (attributes of variables), Part 8 §5.3 (properties of data items).
    old, new = Space(standard), Space(standard)
    made = old.make(tag)
    new.add(tag)
    nodes = [made, *(ua.NodeId(f"{made.Identifier}.{name}", 7) for name in property_names(tag))]
    assert list(new.aspace.virtual.every()) == nodes
    for node in nodes:
        assert node not in new.aspace
        assert new.aspace.knows(node)
        for attribute in ua.AttributeIds:
            before, now = old.aspace.shown(node, attribute), new.aspace.shown(node, attribute)
            assert (before and before.Value) == (now and now.Value), attribute
            assert old.aspace.attribute(node, attribute) == new.aspace.attribute(node, attribute)
            assert old.aspace.has(node, attribute) == new.aspace.has(node, attribute)
        before = [described(each) for each in old.aspace.references_of(node)]
        assert [described(each) for each in new.aspace.references_of(node)] == before
    before = [described(each) for each in old.aspace.references_of(old.folder)]
    assert [described(each) for each in new.aspace.references_of(new.folder)] == before


MIXED = (
    tag("die_temp", Scalar.FLOAT, unit="°C", low=0, high=120, scale=0.1),
    tag("guard", Scalar.BOOLEAN, access="rw"),
    tag("state", Scalar.INT16, states=((0, "Idle"), (4, "Execute"))),
    tag("profile", Scalar.INT16, length=3),
    tag("recipe", Scalar.STRING, length=16, access="rw"),
)


@pytest.fixture
def space(standard: AddressSpace) -> Space:
    made = Space(standard)
    made.add(*MIXED)
    return made


def test_each_hierarchical_reference_has_its_inverse(space: Space) -> None:
    # Part 3 §4.3.4: a reference is seen from both ends. Types do not know their instances.
    kinds = {ua.NodeId(IDS.HasComponent), ua.NodeId(IDS.HasProperty)}
    looked_at = [space.folder, *space.aspace.virtual.every()]
    assert len(looked_at) == 1 + 5 + 7
    for node in looked_at:
        for reference in space.aspace.references_of(node):
            if reference.ReferenceTypeId not in kinds:
                continue
            back = [
                each
                for each in space.aspace.references_of(reference.NodeId)
                if each.NodeId == node and each.ReferenceTypeId == reference.ReferenceTypeId
            ]
            assert [each.IsForward for each in back] == [not reference.IsForward]
            assert back[0].BrowseName == space.aspace.attribute(node, ua.AttributeIds.BrowseName)


def test_the_references_of_the_folder_are_a_sequence_that_holds_none_of_them(space: Space) -> None:
    found = space.aspace.references_of(space.folder)
    assert len(found) == 2 + len(MIXED)
    assert [each.BrowseName.Name for each in found[2:]] == [each.name for each in MIXED]
    assert found[-1].BrowseName == plant_name("recipe")
    assert found[2] is not found[2]
    assert [each.BrowseName.Name for each in found[3:5]] == ["guard", "state"]
    with pytest.raises(IndexError):
        found[len(found)]
    with pytest.raises(IndexError):
        found[-len(found) - 1]


@pytest.mark.parametrize(
    "name",
    [
        "Press01.Process.die_temp.EURang",
        "Press01.Process.die_temp.eurange",
        "Press01.Process.die_temp.EURange.EURange",
        "Press01.Process.die_temp.TrueState",
        "Press01.Process.guard.EURange",
        "Press01.Process.die_temp.",
        "Press01.Process.die_temp ",
        ".EURange",
        "EURange",
        "",
        "\udcff",
    ],
)
def test_a_name_near_an_existing_one_is_no_node(space: Space, name: str) -> None:
    node = ua.NodeId(name, 7)
    assert not space.aspace.knows(node)
    assert space.aspace.shown(node, ua.AttributeIds.NodeId) is None
    assert not space.aspace.references_of(node)


@pytest.mark.parametrize(
    "node",
    [
        ua.NodeId("Press01.Process.die_temp", 6),
        ua.NodeId(b"Press01.Process.die_temp", 7),
        ua.NodeId(7, 7),
        ua.NodeId(),
    ],
)
def test_a_tag_is_found_by_its_namespace_and_kind_of_id_too(space: Space, node: ua.NodeId) -> None:
    # Part 3 §8.2: a NodeId is namespace, type and identifier.
    assert not space.aspace.knows(node)


def test_a_name_may_have_dots_and_look_like_a_property(standard: AddressSpace) -> None:
    space = Space(standard)
    space.add(tag("a", low=0, high=1), tag("a.EURange.b"), tag("b.EURange"), tag("b"))
    space.aspace.check_tags()
    get = space.aspace.attribute
    assert get(plant_id(f"{FOLDER}.a.EURange"), ua.AttributeIds.Value) == ua.Range(0.0, 1.0)
    assert get(plant_id(f"{FOLDER}.a.EURange.b"), ua.AttributeIds.BrowseName) == plant_name("a.EURange.b")
    assert get(plant_id(f"{FOLDER}.b.EURange"), ua.AttributeIds.BrowseName) == plant_name("b.EURange")


@pytest.mark.parametrize(
    "tags",
    [
        (tag("a", low=0, high=1), tag("a.EURange")),
        (tag("a.EURange"), tag("a", low=0, high=1)),
        (tag("a"), tag("b", node_id=f"{FOLDER}.a")),
        (tag("a", node_id="Press01.Monitoring"),),
        (tag("a", node_id=FOLDER),),
    ],
)
def test_two_nodes_of_one_name_are_refused(standard: AddressSpace, tags: tuple[TagConfig, ...]) -> None:
    space = Space(standard)
    with pytest.raises(IdentityError, match="two nodes would be called") as refused:  # noqa: PT012 - either
        space.add(*tags)
        space.aspace.check_tags()
    assert refused.value.code == "C193"


@pytest.mark.parametrize("name", ["die_temp", "die_temp.EURange"])
def test_an_object_cannot_take_the_name_of_a_tag_or_its_property(space: Space, name: str) -> None:
    with pytest.raises(IdentityError) as refused:
        space.maker.folder(space.monitoring, f"{FOLDER}.{name}")
    assert refused.value.code == "C193"


def test_to_asyncua_a_tag_is_an_unknown_node(space: Space) -> None:
    node = plant_id(f"{FOLDER}.die_temp")
    assert space.aspace.get(node) is None
    status = space.aspace.read_attribute_value(node, ua.AttributeIds.Value).StatusCode
    assert status == ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)


def test_before_the_first_batch_a_tag_waits_for_data(space: Space) -> None:
    shown = space.aspace.shown(plant_id(f"{FOLDER}.state"), ua.AttributeIds.Value)
    text = space.aspace.shown(plant_id(f"{FOLDER}.state.ValueAsText"), ua.AttributeIds.Value)
    for each in (shown, text):
        assert each is not None
        assert each.StatusCode.value == BAD_WAITING_FOR_INITIAL_DATA
        assert each.Value.Value is None


def test_the_rows_are_those_of_the_bus_whatever_the_order_of_the_table(space: Space) -> None:
    config = configuration()
    names = ["tonnage", "no longer configured", "die_temp"]
    spec = BlockSpec("press.fast", tuple(TagSpec(name, Scalar.FLOAT) for name in names), 2)
    builder = SpaceBuilder(space.aspace, space.maker, config, {spec.name: spec}, ManualClock())
    table = space.aspace.tags = TagTable(space.folder)
    for block, rows, found, tags, owner in builder.tag_parts({}):
        table.extend(block, rows, found, tags, device=owner)
    assert [table.name(number) for number in range(len(table))] == [
        "Press01.Process.die_temp",
        "Press01.Process.tonnage",
    ]
    assert [table.place(number)[1] for number in range(2)] == [2, 0]
    assert [each.tolist() for each in table.places()] == [[0, 0], [2, 0]]
    assert table.device(1) == "press"


# --- permissions ------------------------------------------------------------------------------------------

OPERATOR = frozenset({Role.OPERATOR})
OBSERVER = frozenset({Role.OBSERVER})


def test_a_writable_tag_is_a_set_point_and_everything_else_of_tags_is_plain(space: Space) -> None:
    access = Access()
    access.cover(space.aspace.tags, space.aspace.virtual)
    assert access.kind(plant_id(f"{FOLDER}.guard")) is Kind.SETPOINT
    assert access.may(OPERATOR, Permission.Write, plant_id(f"{FOLDER}.guard"))
    assert not access.may(OBSERVER, Permission.Write, plant_id(f"{FOLDER}.guard"))
    for name in ("die_temp", "guard.TrueState"):
        assert access.kind(plant_id(f"{FOLDER}.{name}")) is Kind.PLAIN
        assert not access.may(OPERATOR, Permission.Write, plant_id(f"{FOLDER}.{name}"))


def test_a_rule_counts_for_tags_and_properties_and_nothing_is_kept_of_them(space: Space) -> None:
    hidden, shown = f"{FOLDER}.die_temp", f"{FOLDER}.guard"
    access = Access([rule(f"{hidden}*", "Observer", []), rule(shown, "Operator", ["browse"])])
    access.cover(space.aspace.tags, space.aspace.virtual)
    assert not access.idle_rules(space.aspace.every(7))
    for _ in range(2):
        assert not access.may(OBSERVER, Permission.Browse, plant_id(hidden))
        assert not access.may(OBSERVER, Permission.Read, plant_id(f"{hidden}.EURange"))
        assert access.may(OPERATOR, Permission.Read, plant_id(hidden))
        assert access.permissions(plant_id(shown), OPERATOR) == Permission.Browse
        assert access.may(OPERATOR, Permission.Read, plant_id(f"{shown}.TrueState"))
    assert access._of_node == {}


def test_tags_of_as_many_kinds_as_there_are_rules_keep_their_own_permissions(standard: AddressSpace) -> None:
    space = Space(standard)
    space.add(*(tag(f"t{number}") for number in range(300)))
    access = Access([rule(f"{FOLDER}.t{number}", "Observer", []) for number in range(0, 300, 2)])
    access.cover(space.aspace.tags, space.aspace.virtual)
    for _ in range(2):
        hidden = [
            number
            for number in range(300)
            if not access.may(OBSERVER, Permission.Read, plant_id(f"{FOLDER}.t{number}"))
        ]
        assert hidden == list(range(0, 300, 2))


def test_rules_match_tags_that_are_entered_after_the_first_question(space: Space) -> None:
    access = Access([rule(f"{FOLDER}.late", "Observer", [])])
    access.cover(space.aspace.tags, space.aspace.virtual)
    assert access.may(OBSERVER, Permission.Browse, plant_id(f"{FOLDER}.guard"))
    space.add(tag("late"))
    assert not access.may(OBSERVER, Permission.Browse, plant_id(f"{FOLDER}.late"))
