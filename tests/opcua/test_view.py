"""Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes (Part 4 §5.9), without a server."""

from __future__ import annotations

import asyncio
import gc
from itertools import chain
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.opcua.access import Access, AccessRule
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.slices import SLICE, Encoded, Rest, begin
from edge_opcua.opcua.services.view.paths import MAX_ELEMENTS, MAX_REFERENCES, MAX_TARGETS
from edge_opcua.opcua.services.view.view import Views
from edge_opcua.security.roles import Role
from tests.opcua.small_space import IDS, Asker, Space, settled

CODES = ua.StatusCodes
MASK = ua.BrowseResultMask
NOTHING = ua.PermissionType(0)


class Desk:
    """Views over a small space, asked as a client asks."""

    def __init__(self, rules: tuple[AccessRule, ...] = (), **limits: Any) -> None:
        self.space = Space()
        self.access = Access(rules)
        self.views = Views(self.space.aspace, self.access, ServerLimits(**limits))
        self.asker = Asker()
        self.folder = self.space.node("folder")

    def children(self, count: int, kind: int = IDS.HasComponent) -> list[ua.NodeId]:
        made = []
        for index in range(count):
            made.append(self.space.node(f"folder.c{index:05}"))
            self.space.refer(self.folder, made[-1], kind)
        return made

    def wanted(self, node: ua.NodeId | None = None, **description: Any) -> ua.BrowseDescription:
        description.setdefault("ResultMask", MASK.All)
        return ua.BrowseDescription(NodeId=node or self.folder, **description)

    async def browse(
        self, *wanted: ua.BrowseDescription, most: int = 0, asker: Asker | None = None
    ) -> list[ua.BrowseResult]:
        params = ua.BrowseParameters(
            RequestedMaxReferencesPerNode=most, NodesToBrowse=list(wanted or (self.wanted(),))
        )
        response = await settled(self.views.services()["Browse"].run(asker or self.asker, params))
        return list(decoded(response, ua.BrowseResponse).Results)

    async def one(self, node: ua.NodeId | None = None, *, most: int = 0, **wanted: Any) -> ua.BrowseResult:
        (result,) = await self.browse(self.wanted(node, **wanted), most=most)
        return result

    async def go_on(
        self, *points: bytes | None, release: bool = False, asker: Asker | None = None
    ) -> list[ua.BrowseResult]:
        params = ua.BrowseNextParameters(ReleaseContinuationPoints=release, ContinuationPoints=list(points))
        response = await settled(self.views.services()["BrowseNext"].run(asker or self.asker, params))
        return list(decoded(response, ua.BrowseNextResponse).Parameters.Results)

    async def follow(self, *steps: str | ua.RelativePathElement, start: ua.NodeId | None = None) -> Any:
        elements = [
            step
            if isinstance(step, ua.RelativePathElement)
            else ua.RelativePathElement(ua.NodeId(), False, True, ua.QualifiedName(step, 7))
            for step in steps
        ]
        path = ua.BrowsePath(start or self.folder, ua.RelativePath(elements))
        params = ua.TranslateBrowsePathsToNodeIdsParameters([path])
        service = self.views.services()["TranslateBrowsePathsToNodeIds"]
        (result,) = (await settled(service.run(self.asker, params))).Results
        return result


def decoded(response: Any, kind: type[Any]) -> Any:
    """Return a response as a client sees it, whichever way it was encoded."""
    binary = response.to_binary() if isinstance(response, Encoded) else struct_to_binary(response)
    return struct_from_binary(kind, Buffer(binary))


def names(result: ua.BrowseResult) -> list[str]:
    return [str(reference.BrowseName.Name) for reference in result.References]


async def pages(desk: Desk, result: ua.BrowseResult) -> list[list[str]]:
    """Return the names page by page."""
    found = [names(result)]
    while result.ContinuationPoint:
        (result,) = await desk.go_on(result.ContinuationPoint)
        found.append(names(result))
    return found


# --- Browse (Part 4 §5.9.2) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (10, [10]), (0, [7, 3]), (99, [7, 3])]
)
async def test_no_result_has_more_references_than_client_and_server_want(most: int, sizes: list[int]) -> None:
    # Part 4 §5.9.2.2, requestedMaxReferencesPerNode; 0: as many as the server likes.
    desk = Desk(references_per_node=7 if most in (0, 99) else 1000)
    desk.children(10)
    found = await pages(desk, await desk.one(most=most))
    assert [len(page) for page in found] == sizes
    assert [*chain(*found)] == [f"c{index:05}" for index in range(10)]
    assert desk.views.points() == 0


@pytest.mark.parametrize(
    ("mask", "field"),
    [
        (MASK.ReferenceTypeId, "ReferenceTypeId"),
        (MASK.IsForward, "IsForward"),
        (MASK.NodeClass, "NodeClass"),
        (MASK.BrowseName, "BrowseName"),
        (MASK.DisplayName, "DisplayName"),
        (MASK.TypeDefinition, "TypeDefinition"),
        (0, ""),
    ],
)
async def test_a_result_has_the_fields_that_were_asked_for(mask: int, field: str) -> None:
    # Part 4 §5.9.2.2, resultMask.
    desk = Desk()
    (child,) = desk.children(1)
    (shown,) = (await desk.one(ResultMask=mask)).References
    (whole,) = (await desk.one()).References
    assert shown.NodeId == child  # always there
    empty = {
        "ReferenceTypeId": ua.NodeId(),
        "IsForward": False,
        "NodeClass": ua.NodeClass.Unspecified,
        "BrowseName": ua.QualifiedName(),
        "DisplayName": ua.LocalizedText(),
        "TypeDefinition": ua.NodeId(),
    }
    for name, nothing in empty.items():
        assert getattr(whole, name) != nothing
        assert getattr(shown, name) == (getattr(whole, name) if name == field else nothing)


async def test_a_result_has_the_references_that_were_asked_for() -> None:
    # Part 4 §5.9.2.2: direction, type with subtypes, class.
    desk = Desk()
    space = desk.space
    ordered, prop, below = (space.node(name) for name in ("ordered", "prop", "below"))
    top = space.node("top")
    variable = space.node("variable", ua.NodeClass.Variable)
    space.refer(desk.folder, ordered, IDS.HasOrderedComponent)
    space.refer(desk.folder, prop, IDS.HasProperty)
    space.refer(desk.folder, below, IDS.Organizes)
    space.refer(desk.folder, variable)
    space.refer(top, desk.folder)

    async def found(**wanted: Any) -> list[str]:
        return names(await desk.one(**wanted))

    everything = ["ordered", "prop", "below", "variable"]
    directions = ua.BrowseDirection
    assert await found() == everything
    assert await found(BrowseDirection=directions.Inverse) == ["top"]
    assert await found(BrowseDirection=directions.Both) == [*everything, "top"]
    component = ua.NodeId(IDS.HasComponent)
    assert await found(ReferenceTypeId=component) == ["ordered", "variable"]
    assert await found(ReferenceTypeId=component, IncludeSubtypes=False) == ["variable"]
    assert await found(ReferenceTypeId=ua.NodeId(IDS.HierarchicalReferences)) == everything
    assert await found(ReferenceTypeId=ua.NodeId(IDS.HierarchicalReferences), IncludeSubtypes=False) == []
    # A null type means all of them, and IncludeSubtypes is not looked at.
    assert await found(IncludeSubtypes=False) == everything
    assert await found(NodeClassMask=ua.NodeClass.Variable) == ["variable"]
    assert await found(NodeClassMask=ua.NodeClass.Variable | ua.NodeClass.Object) == everything
    assert await found(NodeClassMask=ua.NodeClass.Method) == []


async def test_a_reference_type_that_gets_a_subtype_later_includes_it() -> None:
    desk = Desk()
    space = desk.space
    kind = ua.NodeId(IDS.HasComponent)
    assert names(await desk.one(ReferenceTypeId=kind)) == []
    special = space.node(ua.NodeId("HasSpecialComponent", 7), ua.NodeClass.ReferenceType)
    space.refer(kind, special, IDS.HasSubtype)
    child = space.node("child")
    space.refer(desk.folder, child)
    space.aspace[desk.folder].references[-1].ReferenceTypeId = special
    assert names(await desk.one(ReferenceTypeId=kind)) == ["child"]


async def test_each_node_has_its_own_status() -> None:
    # Part 4 §5.9.2.4.
    desk = Desk()
    desk.children(1)
    results = await desk.browse(
        desk.wanted(ua.NodeId("gone", 7)),
        desk.wanted(BrowseDirection=3),
        desk.wanted(BrowseDirection=-1),
        desk.wanted(ReferenceTypeId=ua.NodeId("gone", 7)),
        desk.wanted(ReferenceTypeId=desk.folder),
        desk.wanted(),
    )
    assert [result.StatusCode.value for result in results] == [
        CODES.BadNodeIdUnknown,
        CODES.BadBrowseDirectionInvalid,
        CODES.BadBrowseDirectionInvalid,
        CODES.BadReferenceTypeIdInvalid,
        CODES.BadReferenceTypeIdInvalid,
        CODES.Good,
    ]
    assert [len(result.References) for result in results] == [0, 0, 0, 0, 0, 1]


def test_there_are_no_views() -> None:
    # Part 4 §5.9.2.3.
    desk = Desk()
    params = ua.BrowseParameters(View=ua.ViewDescription(ViewId=desk.folder), NodesToBrowse=[desk.wanted()])
    with pytest.raises(ServiceError) as caught:
        desk.views.services()["Browse"].run(desk.asker, params)
    assert caught.value.code == CODES.BadViewIdUnknown


async def test_a_reference_that_outlived_its_target_is_not_shown() -> None:
    desk = Desk()
    first, *_ = desk.children(3)
    del desk.space.aspace[first]
    assert names(await desk.one()) == ["c00001", "c00002"]


# --- continuation points (Part 4 §5.9.3, §7.9) -------------------------------------------------------


async def test_a_continuation_point_cannot_be_guessed_and_serves_once() -> None:
    desk = Desk()
    desk.children(10)
    first = (await desk.one(most=4)).ContinuationPoint
    (second,) = await desk.go_on(first)
    assert len(first) >= 16
    assert first != second.ContinuationPoint
    (again, unknown, empty) = await desk.go_on(first, b"x" * 16, None)
    for result in (again, unknown, empty):
        assert result.StatusCode.value == CODES.BadContinuationPointInvalid
    assert len((await desk.go_on(second.ContinuationPoint))[0].References) == 2


async def test_a_continuation_point_is_of_its_session_only() -> None:
    # Part 4 §5.9.3.1.
    desk = Desk()
    desk.children(10)
    point = (await desk.one(most=4)).ContinuationPoint
    (foreign,) = await desk.go_on(point, asker=Asker())
    assert foreign.StatusCode.value == CODES.BadContinuationPointInvalid
    assert len((await desk.go_on(point))[0].References) == 4


async def test_a_released_continuation_point_is_gone() -> None:
    # Part 4 §5.9.3.2: and the results are empty.
    desk = Desk()
    desk.children(10)
    point = (await desk.one(most=4)).ContinuationPoint
    assert await desk.go_on(point, b"unknown", release=True) == []
    assert desk.views.points() == 0
    assert (await desk.go_on(point))[0].StatusCode.value == CODES.BadContinuationPointInvalid


async def test_a_request_that_needs_too_many_continuation_points_is_told_so_per_node() -> None:
    # Part 4 §5.9.2.4.
    desk = Desk(browse_continuation_points=2)
    desk.children(10)
    results = await desk.browse(*[desk.wanted()] * 4, most=4)
    assert [result.StatusCode.value for result in results] == [0, 0, *[CODES.BadNoContinuationPoints] * 2]
    assert [len(result.References) for result in results] == [4, 4, 0, 0]
    assert desk.views.points() == 2


async def test_continuation_points_of_earlier_requests_give_way() -> None:
    # Part 4 §7.9: "shall automatically free".
    desk = Desk(browse_continuation_points=2)
    desk.children(10)
    oldest, old, new = [(await desk.one(most=4)).ContinuationPoint for _ in range(3)]
    assert desk.views.points() == 2
    results = await desk.go_on(oldest, old, new)
    assert [result.StatusCode.value for result in results] == [CODES.BadContinuationPointInvalid, 0, 0]


async def test_continuation_points_end_with_their_session() -> None:
    desk = Desk()
    desk.children(10)
    for _ in range(3):
        await desk.browse(most=4, asker=Asker())
    gc.collect()
    assert desk.views.points() == 0


async def test_what_changes_between_two_pages_neither_repeats_nor_skips_a_node() -> None:
    desk = Desk()
    children = desk.children(10)
    result = await desk.one(most=4)
    for gone in (children[0], children[5]):
        desk.space.aspace[desk.folder].references[:] = [
            reference for reference in desk.space.aspace[desk.folder].references if reference.NodeId != gone
        ]
        del desk.space.aspace[gone]
    desk.space.refer(desk.folder, desk.space.node("new"))
    (_, *rest) = await pages(desk, result)
    assert [*chain(*rest)] == ["c00004", "c00006", "c00007", "c00008", "c00009"]


# --- what a caller may not browse (Part 3 §8.55) ------------------------------------------------------


def secretive() -> Desk:
    rule = AccessRule("folder.c0000[13]", Role.OPERATOR, NOTHING)
    anonymous = AccessRule("folder.c0000[13]", Role.ANONYMOUS, NOTHING)
    desk = Desk((rule, anonymous))
    desk.children(5)
    return desk


async def test_a_hidden_node_is_in_no_result_and_is_unknown() -> None:
    desk = secretive()
    assert names(await desk.one()) == ["c00000", "c00002", "c00004"]
    hidden = ua.NodeId("folder.c00001", 7)
    assert (await desk.one(hidden)).StatusCode.value == CODES.BadNodeIdUnknown
    assert (await desk.follow("c00001")).StatusCode.value == CODES.BadNoMatch
    assert (await desk.follow("c00000")).StatusCode.value == CODES.Good
    assert (await desk.follow("x", start=hidden)).StatusCode.value == CODES.BadNodeIdUnknown
    desk.asker.roles = frozenset({Role.SECURITY_ADMIN})
    assert len(names(await desk.one())) == 5


async def test_who_is_somebody_else_by_the_next_page_sees_what_he_may_see() -> None:
    desk = secretive()
    desk.asker.roles = frozenset({Role.SECURITY_ADMIN})
    result = await desk.one(most=1)
    assert names(result) == ["c00000"]
    desk.asker.roles = frozenset({Role.OPERATOR})
    assert await pages(desk, result) == [["c00000"], ["c00002"], ["c00004"]]


# --- TranslateBrowsePathsToNodeIds (Part 4 §5.9.4) ---------------------------------------------------


def step(name: str, kind: int = 0, *, inverse: bool = False, subtypes: bool = True) -> ua.RelativePathElement:
    return ua.RelativePathElement(ua.NodeId(kind), inverse, subtypes, ua.QualifiedName(name, 7))


async def test_a_path_leads_to_every_node_of_that_name() -> None:
    desk = Desk()
    space = desk.space
    inner = space.node("inner")
    twins = [space.node(f"{place}.twin") for place in ("a", "b")]
    space.refer(desk.folder, inner)
    for twin in twins:
        space.refer(inner, twin, IDS.Organizes)
    space.refer(inner, twins[0], IDS.HasComponent)  # a second way to the same node

    async def found(*steps: Any) -> Any:
        result = await desk.follow(*steps)
        if result.StatusCode.value:
            assert result.Targets == []
            return result.StatusCode.value
        assert all(target.RemainingPathIndex == 0xFFFFFFFF for target in result.Targets)
        return [target.TargetId for target in result.Targets]

    assert await found("inner", "twin") == twins
    assert await found("inner", step("twin", IDS.Organizes)) == twins
    assert await found("inner", step("twin", IDS.HierarchicalReferences)) == twins
    hierarchical = step("twin", IDS.HierarchicalReferences, subtypes=False)
    assert await found("inner", hierarchical) == CODES.BadNoMatch
    assert await found("inner", step("twin", IDS.Aggregates)) == twins[:1]
    assert await found("inner", step("folder", inverse=True)) == [desk.folder]
    assert await found(step("inner", inverse=True)) == CODES.BadNoMatch
    assert await found("inner", "none", "twin") == CODES.BadNoMatch
    assert await found(step("inner", 99_999)) == CODES.BadNoMatch
    wrong_namespace = ua.RelativePathElement(ua.NodeId(), False, True, ua.QualifiedName("inner", 3))
    assert await found(wrong_namespace) == CODES.BadNoMatch


async def test_a_path_that_is_none_says_why() -> None:
    # Part 4 §5.9.4.4.
    desk = Desk()
    desk.children(1)
    nameless = ua.RelativePathElement(ua.NodeId(), False, True, ua.QualifiedName())
    assert (await desk.follow()).StatusCode.value == CODES.BadNothingToDo
    assert (await desk.follow("c00000", nameless)).StatusCode.value == CODES.BadBrowseNameInvalid
    assert (await desk.follow("x", start=ua.NodeId("gone", 7))).StatusCode.value == CODES.BadNodeIdUnknown
    too_long = await desk.follow(*["x"] * (MAX_ELEMENTS + 1))
    assert too_long.StatusCode.value == CODES.BadQueryTooComplex


async def test_a_path_that_costs_too_much_is_refused() -> None:
    # Part 4 §5.9.4.4.
    desk = Desk()
    space = desk.space
    for index in range(MAX_TARGETS + 1):
        twin = space.node(f"{index}.twin")
        space.aspace[desk.folder].references.append(
            ua.ReferenceDescription(ua.NodeId(IDS.HasComponent), True, twin, ua.QualifiedName("twin", 7))
        )
    assert (await desk.follow("twin")).StatusCode.value == CODES.BadTooManyMatches
    twins = space.aspace[desk.folder].references
    twins[1:] = [ua.ReferenceDescription(ua.NodeId(IDS.HasComponent), True, desk.folder)] * MAX_REFERENCES
    assert (await desk.follow("twin")).StatusCode.value == CODES.BadQueryTooComplex


async def test_a_path_into_another_server_ends_there() -> None:
    # Part 4 §5.9.4.2, remainingPathIndex.
    desk = Desk()
    elsewhere = ua.ExpandedNodeId("far", 7, ServerIndex=1)
    desk.space.aspace[desk.folder].references.append(
        ua.ReferenceDescription(ua.NodeId(IDS.Organizes), True, elsewhere, ua.QualifiedName("far", 7))
    )
    last = await desk.follow("far")
    assert (last.StatusCode.value, last.Targets[0].RemainingPathIndex) == (0, 0xFFFFFFFF)
    midway = await desk.follow("far", "on", "and on")
    assert midway.StatusCode.value == CODES.UncertainReferenceOutOfServer
    assert (midway.Targets[0].TargetId, midway.Targets[0].RemainingPathIndex) == (elsewhere, 1)


# --- RegisterNodes (Part 4 §5.9.5) -------------------------------------------------------------------


def test_a_registered_node_keeps_its_name() -> None:
    desk = Desk()
    services = desk.views.services()
    registered = services["RegisterNodes"].run(desk.asker, ua.RegisterNodesParameters([desk.folder]))
    assert registered.Parameters.RegisteredNodeIds == [desk.folder]
    response = services["UnregisterNodes"].run(desk.asker, ua.UnregisterNodesParameters([desk.folder]))
    assert isinstance(response, ua.UnregisterNodesResponse)


# --- long answers ------------------------------------------------------------------------------------


async def test_a_large_folder_lets_others_have_their_turn() -> None:
    desk = Desk(references_per_node=10_000)
    desk.children(10_000)
    params = ua.BrowseParameters(
        NodesToBrowse=[desk.wanted(), desk.wanted(NodeClassMask=ua.NodeClass.Method)]
    )
    outcome = desk.views.services()["Browse"].run(desk.asker, params)
    assert isinstance(outcome, Rest)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        response = await outcome
        task.cancel()
    # Each of the 20 000 references looked at; the answer is one piece of work per node here.
    assert turns >= 20_000 // SLICE
    assert len(decoded(response, ua.BrowseResponse).Results[0].References) == 10_000


async def test_an_answer_made_in_slices_is_the_same_answer() -> None:
    desk = Desk()
    desk.children(100)
    wanted = [desk.wanted(most_of) for most_of in [desk.folder] * 5]
    response = await settled(
        desk.views.services()["Browse"].run(desk.asker, ua.BrowseParameters(NodesToBrowse=wanted))
    )
    assert isinstance(response, Encoded)
    response.ResponseHeader.RequestHandle = 7
    plain = ua.BrowseResponse(ResponseHeader=response.ResponseHeader)
    plain.Results = [await desk.one() for _ in range(5)]
    assert response.to_binary() == struct_to_binary(plain)


async def test_an_answer_that_grows_too_large_is_given_up() -> None:
    desk = Desk(response_bytes=10_000)
    desk.children(100)
    wanted = [desk.wanted() for _ in range(5)]
    browse = desk.views.services()["Browse"].run
    with pytest.raises(ServiceError) as caught:
        await settled(browse(desk.asker, ua.BrowseParameters(NodesToBrowse=wanted)))
    assert caught.value.code == CODES.BadResponseTooLarge


def test_a_short_work_is_done_at_once() -> None:
    def work() -> Any:
        return 5
        yield

    assert begin(work()) == 5
