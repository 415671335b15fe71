"""The folder of the tags: browsed and found by path without a node for any of them (Part 4 §5.9)."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.schema import TagConfig
from edge_opcua.core.values import BlockSpec, Scalar, TagSpec
from edge_opcua.opcua.access import AccessRule
from edge_opcua.opcua.limits import OperationLimits
from edge_opcua.opcua.services.slices import SLICE, Rest
from edge_opcua.opcua.services.view.references import encoder
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.security.roles import Role
from edge_opcua.testing import ManualClock
from tests.opcua.small_space import IDS, settled
from tests.opcua.test_view import CODES, MASK, NOTHING, Desk, decoded, names, pages, step

PROCESS = "Press01.Process"
# One of each type of variable, and names of more bytes than letters.
KINDS: tuple[dict[str, Any], ...] = (
    {"type": Scalar.DOUBLE},
    {"type": Scalar.BOOLEAN, "access": "rw"},
    {"type": Scalar.FLOAT, "low": 0.0, "high": 1.0, "unit": "bar"},
    {"type": Scalar.FLOAT, "low": 0.0, "high": 1.0},
    {"type": Scalar.INT16, "unit": "bar", "length": 4},
    {"type": Scalar.INT32, "states": ((0, "off"), (1, "on")), "access": "rw"},
    {"type": Scalar.STRING, "length": 8},
)


def tag(name: str, number: int = 0, **more: Any) -> TagConfig:
    return TagConfig(name=name, address="", **{**KINDS[number % len(KINDS)], **more})


class Plant(Desk):
    """A desk with a folder of tags, and an object in it that is none."""

    def __init__(self, count: int = 0, rules: tuple[AccessRule, ...] = (), **limits: Any) -> None:
        super().__init__(rules, **limits)
        space = self.space
        self.folder = space.node(PROCESS)
        for each in ("Aggregates", "HasProperty"):
            space.type(getattr(IDS, each))
        for kind in (IDS.DataItemType, IDS.PropertyType, IDS.BaseObjectType):
            space.node(ua.NodeId(kind), ua.NodeClass.VariableType)
        space.refer(space.node("Press01.Monitoring"), self.folder)
        space.refer(self.folder, space.node("Press01.Process.Station"), IDS.Organizes)
        self.table = space.aspace.tags
        self.table.folder = self.folder
        self.block = LiveBlock(BlockSpec("press.fast", (TagSpec("x", Scalar.FLOAT),), 2), ManualClock())
        self.add(*(tag(f"tag_{number:05}", number) for number in range(count)))
        self.access.cover(self.table, space.aspace.virtual)

    def add(self, *configs: TagConfig) -> None:
        rows = ((0, config.node_id or f"{PROCESS}.{config.name}", config) for config in configs)
        self.table.add(self.block, rows)

    def general(self) -> list[ua.ReferenceDescription]:
        """Return what the folder refers to, one object each."""
        return [each for each in self.space.aspace.references_of(self.folder) if each.IsForward]

    async def all(self, most: int, **wanted: Any) -> list[list[ua.ReferenceDescription]]:
        result = await self.one(most=most, **wanted)
        found = [result.References]
        while result.ContinuationPoint:
            (result,) = await self.go_on(result.ContinuationPoint)
            found.append(result.References)
        return found


# --- Browse ------------------------------------------------------------------------------------------


async def test_a_folder_of_tags_is_browsed_page_by_page_like_any_other() -> None:
    # Part 4 §5.9.3: what the general path says of each, in its order, each once.
    plant = Plant(3000)
    found = await plant.all(7)
    assert [*chain(*found)] == plant.general()
    assert {len(page) for page in found[:-1]} == {7}
    assert plant.views.points() == 0


@pytest.mark.parametrize(("count", "most", "sizes"), [(9, 4, [4, 4, 2]), (9, 10, [10]), (9, 5, [5, 5])])
async def test_no_page_is_empty(count: int, most: int, sizes: list[int]) -> None:
    # One more for the object in the folder.
    found = await Plant(count).all(most)
    assert [len(page) for page in found] == sizes


async def test_a_tag_has_the_bytes_of_the_codec_under_every_mask() -> None:
    # Part 4 §5.9.2.2, resultMask.
    plant = Plant(len(KINDS))
    plant.add(tag("own", node_id="Größe/7"), tag("x" * 1100))
    objects = [reference for reference in plant.general() if reference.NodeClass == ua.NodeClass.Variable]
    assert len(objects) == len(KINDS) + 2
    rows = plant.views._searcher._rows
    numbers = range(len(objects))
    rows.learn(range(len(objects)))
    for mask in range(int(MASK.All) + 1):
        (result,) = await plant.browse(plant.wanted(ResultMask=mask, NodeClassMask=ua.NodeClass.Variable))
        assert rows.encode(numbers, mask) == b"".join(map(struct_to_binary, result.References))
    assert rows.encode(numbers, int(MASK.All)) == b"".join(map(struct_to_binary, objects))


async def test_tags_are_found_by_direction_type_and_class() -> None:
    plant = Plant(3)
    tags = ["tag_00000", "tag_00001", "tag_00002"]

    async def found(**wanted: Any) -> list[str]:
        return names(await plant.one(**wanted))

    directions = ua.BrowseDirection
    assert await found() == ["Station", *tags]
    assert await found(BrowseDirection=directions.Both) == ["Monitoring", "Station", *tags]
    assert await found(BrowseDirection=directions.Inverse) == ["Monitoring"]
    assert await found(ReferenceTypeId=ua.NodeId(IDS.HasComponent)) == tags
    assert await found(ReferenceTypeId=ua.NodeId(IDS.HasComponent), IncludeSubtypes=False) == tags
    assert await found(ReferenceTypeId=ua.NodeId(IDS.Aggregates)) == tags
    assert await found(ReferenceTypeId=ua.NodeId(IDS.Aggregates), IncludeSubtypes=False) == []
    assert await found(ReferenceTypeId=ua.NodeId(IDS.Organizes)) == ["Station"]
    assert await found(NodeClassMask=ua.NodeClass.Variable) == tags
    assert await found(NodeClassMask=ua.NodeClass.Object) == ["Station"]
    assert await found(NodeClassMask=ua.NodeClass.Variable | ua.NodeClass.Object) == ["Station", *tags]


async def test_a_tag_refers_to_its_folder_its_type_and_its_properties() -> None:
    plant = Plant()
    plant.add(tag("pressure", type=Scalar.FLOAT, low=0.0, high=1.0))
    pressure = ua.NodeId(f"{PROCESS}.pressure", 7)
    inverse = await plant.one(pressure, BrowseDirection=ua.BrowseDirection.Inverse)
    assert [reference.NodeId for reference in inverse.References] == [plant.folder]
    properties = await plant.one(pressure, ReferenceTypeId=ua.NodeId(IDS.HasProperty))
    assert names(properties) == ["EURange"]
    (range_of,) = properties.References
    owner = await plant.one(range_of.NodeId, BrowseDirection=ua.BrowseDirection.Inverse)
    assert [reference.NodeId for reference in owner.References] == [pressure]
    unknown = await plant.one(ua.NodeId(f"{PROCESS}.temperature", 7))
    assert unknown.StatusCode.value == CODES.BadNodeIdUnknown


async def test_a_tag_says_the_same_before_and_after_its_folder_was_browsed() -> None:
    plant = Plant(len(KINDS))
    plant.add(tag("own", 2, node_id="own"), tag("scaled", 3, scale=2.0), tag("shifted", offset=1.0))
    both = ua.BrowseDirection.Both
    nodes = [plant.table.node_id(number) for number in range(len(plant.table))]
    wanted = [plant.wanted(node, BrowseDirection=both) for node in nodes]
    before = await plant.browse(*wanted)
    assert len((await plant.one()).References) == len(nodes) + 1
    after = await plant.browse(*wanted)
    assert [each.References for each in after] == [each.References for each in before]
    assert names(after[-2])[-2:] == ["EURange", "Definition"]


# --- what a caller may not browse --------------------------------------------------------------------


def hiding(pattern: str) -> tuple[AccessRule, ...]:
    return AccessRule(pattern, Role.OPERATOR, NOTHING), AccessRule(pattern, Role.ANONYMOUS, NOTHING)


async def test_a_hidden_tag_is_in_no_result_and_leads_to_no_path() -> None:
    # Part 3 §8.55.
    plant = Plant(600, hiding("*.tag_00[15]*"))
    seen = [f"tag_{number:05}" for number in range(600) if number // 100 not in (1, 5)]
    for most in (1000, 100, 99):
        found = await pages(plant, await plant.one(most=most))
        assert [*chain(*found)] == ["Station", *seen]
        assert {len(page) for page in found[:-1]} <= {most}
    assert (await plant.follow("tag_00100")).StatusCode.value == CODES.BadNoMatch
    assert (await plant.follow("tag_00099")).StatusCode.value == CODES.Good
    plant.asker.roles = frozenset()
    assert (await plant.one()).StatusCode.value == CODES.BadNodeIdUnknown
    plant.asker.roles = frozenset({Role.OPERATOR})
    result = await plant.one(most=400)
    plant.asker.roles = frozenset({Role.SECURITY_ADMIN})
    rest = await pages(plant, result)
    assert [*chain(*rest[1:])] == [f"tag_{number:05}" for number in range(499, 600)]


a_tag = st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, len(KINDS) - 1))
TABLES = st.lists(a_tag, max_size=60)
HIDDEN = st.sampled_from(["", "*a?", "*.own*", "*b*"])


@given(
    TABLES, st.integers(1, 20), st.integers(0, int(MASK.All)), st.sampled_from(["", "*a?", "*.own*", "*b*"])
)
@settings(max_examples=40, deadline=None)
async def test_the_pages_are_those_of_the_general_path(
    table: list[tuple[str, bool, int]], most: int, mask: int, hidden: str
) -> None:
    plant = Plant(0, hiding(hidden) if hidden else ())
    for number, (letter, own, kind) in enumerate(table):
        name = f"{letter}{number}"
        plant.add(tag(letter if own else name, kind, node_id=f"{PROCESS}.own{name}" if own else None))
    plant.access.cover(plant.table, plant.space.aspace.virtual)
    seen = [
        reference
        for reference in plant.general()
        if plant.access.may(plant.asker.roles, ua.PermissionType.Browse, reference.NodeId)
    ]
    pages_of = [seen[start : start + most] for start in range(0, len(seen), most)]
    found = await plant.all(most, ResultMask=mask)
    encode = encoder(mask)
    assert [[*map(struct_to_binary, page)] for page in found] == [[*map(encode, page)] for page in pages_of]


# --- long answers ------------------------------------------------------------------------------------


def slices(outcome: Any) -> tuple[int, Any]:
    """Return how many slices a work takes after the first, and its result."""
    if not isinstance(outcome, Rest):
        return 0, outcome
    count = 0
    while True:
        try:
            next(outcome._work)
        except StopIteration as done:
            return count + 1, done.value
        count += 1


async def test_a_large_folder_is_browsed_in_slices() -> None:
    plant = Plant(20_000, references_per_node=50_000)
    browse = plant.views.services()["Browse"].run
    wanted = ua.BrowseParameters(NodesToBrowse=[plant.wanted()])
    first, response = slices(browse(plant.asker, wanted))
    again, same = slices(browse(plant.asker, wanted))
    # To meet a tag for the first time is more work than to see it again.
    assert first >= 20_000 // (3 * SLICE) - 1
    assert again >= 20_000 // (10 * SLICE)
    response.ResponseHeader = same.ResponseHeader
    assert response.to_binary() == same.to_binary()
    other_class = ua.BrowseParameters(NodesToBrowse=[plant.wanted(NodeClassMask=ua.NodeClass.Method)])
    assert not isinstance(browse(plant.asker, other_class), Rest)


async def test_where_nothing_is_to_be_seen_the_search_goes_in_slices_all_the_same() -> None:
    plant = Plant(20_000, hiding("*.tag_*"))
    browse = plant.views.services()["Browse"].run
    count, _ = slices(browse(plant.asker, ua.BrowseParameters(NodesToBrowse=[plant.wanted()])))
    assert count >= 20_000 // SLICE - 1
    assert names(await plant.one()) == ["Station"]


# --- TranslateBrowsePathsToNodeIds -------------------------------------------------------------------


async def test_a_path_leads_to_every_tag_of_that_name() -> None:
    # Part 4 §5.9.4.1: all matches; names repeat over devices, where the configuration tells them apart.
    plant = Plant(3)
    plant.add(
        tag("speed", node_id="press.speed"),
        tag("speed"),
        tag("speed", node_id="hall.speed"),
        tag("other", node_id=f"{PROCESS}.torque"),
        tag("main.speed"),
    )

    async def found(*steps: Any, start: ua.NodeId | None = None) -> Any:
        result = await plant.follow(*steps, start=start)
        return result.StatusCode.value or [target.TargetId.Identifier for target in result.Targets]

    assert await found("speed") == ["press.speed", f"{PROCESS}.speed", "hall.speed"]
    assert await found("other") == [f"{PROCESS}.torque"]
    assert await found("torque") == CODES.BadNoMatch
    assert await found("main.speed") == [f"{PROCESS}.main.speed"]
    assert await found("tag_00002", step("EURange")) == CODES.BadNoMatch
    property_name = ua.QualifiedName("EURange", 0)
    any_kind = ua.RelativePathElement(ua.NodeId(), False, True, property_name)
    assert await found("tag_00002", any_kind) == [f"{PROCESS}.tag_00002.EURange"]
    inverse = step("Process", inverse=True)
    assert await found("speed", inverse) == [PROCESS]
    assert await found(step("speed", inverse=True)) == CODES.BadNoMatch
    assert await found(step("tag_00000", IDS.Aggregates)) == [f"{PROCESS}.tag_00000"]
    assert await found(step("tag_00000", IDS.Organizes)) == CODES.BadNoMatch
    wrong_namespace = ua.RelativePathElement(ua.NodeId(), False, True, ua.QualifiedName("speed", 0))
    assert await found(wrong_namespace) == CODES.BadNoMatch
    assert await found("Process", "speed", start=ua.NodeId("Press01.Monitoring", 7)) == [
        "press.speed",
        f"{PROCESS}.speed",
        "hall.speed",
    ]


async def test_a_path_to_a_tag_costs_the_same_however_many_there_are() -> None:
    plant = Plant(20_000, operations=OperationLimits(translate=1000))
    path = ua.BrowsePath(plant.folder, ua.RelativePath([step("tag_19999")]))
    translate = plant.views.services()["TranslateBrowsePathsToNodeIds"].run
    params = ua.TranslateBrowsePathsToNodeIdsParameters([path])
    count, response = slices(translate(plant.asker, params))
    assert count >= 20_000 // (4 * SLICE) - 1  # those with a NodeId of their own are looked for once
    assert not isinstance(translate(plant.asker, params), Rest)
    # Far more references than a path may look through if each tag were one (BadQueryTooComplex).
    there_and_back = [step("tag_00007"), step("Process", inverse=True)] * 20
    long = ua.BrowsePath(plant.folder, ua.RelativePath([*there_and_back, step("tag_00007")]))
    response = await settled(translate(plant.asker, ua.TranslateBrowsePathsToNodeIdsParameters([long])))
    (result,) = response.Results
    assert [target.TargetId for target in result.Targets] == [ua.NodeId(f"{PROCESS}.tag_00007", 7)]


async def test_many_matches_are_found_and_encoded_in_slices() -> None:
    plant = Plant()
    plant.add(*(tag("speed", node_id=f"motor.{number}") for number in range(500)))
    path = ua.BrowsePath(plant.folder, ua.RelativePath([step("speed")]))
    translate = plant.views.services()["TranslateBrowsePathsToNodeIds"].run
    count, response = slices(translate(plant.asker, ua.TranslateBrowsePathsToNodeIdsParameters([path] * 20)))
    assert count >= 20 * 500 // SLICE - 1  # after the first
    found = decoded(response, ua.TranslateBrowsePathsToNodeIdsResponse).Results
    assert {len(result.Targets) for result in found} == {500}
