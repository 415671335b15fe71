"""Browse and BrowseNext from the bytes of the request, answered as if they were decoded (Part 4 §5.9)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.services.slices import Rest
from edge_opcua.opcua.services.view.request import browse_next_request, browse_request
from tests.opcua.small_space import IDS, settled
from tests.opcua.test_folder import Plant
from tests.opcua.test_view import Desk

HEAD = b"header"
LIMITS = ServerLimits()
numbers = st.integers(0, 2**32 - 1)
nodes = st.builds(ua.NodeId, st.one_of(numbers, st.text(max_size=20)), st.integers(0, 300))
descriptions = st.builds(
    ua.BrowseDescription,
    nodes,
    st.integers(-(2**31), 2**31 - 1),
    nodes,
    st.booleans(),
    numbers,
    numbers,
)


def encoded(*wanted: ua.BrowseDescription, most: int = 0, **more: Any) -> bytes:
    params = ua.BrowseParameters(RequestedMaxReferencesPerNode=most, NodesToBrowse=list(wanted), **more)
    return bytes(struct_to_binary(params))


@given(st.lists(descriptions, min_size=1, max_size=5), numbers)
def test_a_browse_is_read_as_the_codec_reads_it(wanted: list[ua.BrowseDescription], most: int) -> None:
    whole = HEAD + encoded(*wanted, most=most)
    found = browse_request(whole, len(HEAD), LIMITS)
    assert found is not None
    assert found[0] == most
    shown = [dataclasses.astuple(each) for each in found[1]]
    assert shown == [dataclasses.astuple(each) for each in wanted]


@given(st.lists(descriptions, min_size=1, max_size=2), st.data())
def test_what_is_cut_off_is_left_to_the_codec(
    wanted: list[ua.BrowseDescription], data: st.DataObject
) -> None:
    whole = encoded(*wanted)
    assert browse_request(whole[: data.draw(st.integers(0, len(whole) - 1))], 0, LIMITS) is None
    assert browse_request(whole + b"\0", 0, LIMITS) is None
    points = struct_to_binary(ua.BrowseNextParameters(False, [b"one", b"two"]))
    assert browse_next_request(points[: data.draw(st.integers(0, len(points) - 1))], 0, LIMITS) is None
    assert browse_next_request(points + b"\0", 0, LIMITS) is None


def test_what_is_unusual_is_left_to_the_codec() -> None:
    some = ua.BrowseDescription(NodeId=ua.NodeId(85))
    limits = ServerLimits(operations=OperationLimits(browse=2), string_bytes=10)
    assert browse_request(encoded(some, some), 0, limits) is not None
    for whole in (
        encoded(some, some, some),
        encoded(),
        encoded(some, View=ua.ViewDescription(ViewId=ua.NodeId(85))),
        encoded(ua.BrowseDescription(NodeId=ua.NodeId("much too long", 7))),
        encoded(ua.BrowseDescription(NodeId=ua.NodeId(b"opaque", 7))),
        encoded(ua.BrowseDescription(NodeId=ua.ExpandedNodeId(85, 0, ServerIndex=1))),
    ):
        assert browse_request(whole, 0, limits) is None
    one, null, long = [b"one"], [None], [b"much too long"]
    assert browse_next_request(struct_to_binary(ua.BrowseNextParameters(False, one)), 0, limits) == one
    for points, releases in ((one, True), (null, False), (long, False), ([], False), (one * 3, False)):
        whole = struct_to_binary(ua.BrowseNextParameters(releases, points))
        assert browse_next_request(whole, 0, limits) is None


class Answer:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        self.sent.append(type_id + body)


async def raw(desk: Desk, name: str, params: Any) -> Any:
    """Return the answer to the bytes of a request, decoded."""
    answer = Answer()
    served = desk.views.services()[name].raw
    assert served is not None
    done = served(desk.asker, HEAD + struct_to_binary(params), len(HEAD), answer)
    response = getattr(ua, f"{name}Response")
    if isinstance(done, Rest):
        return struct_from_binary(response, Buffer((await settled(done)).to_binary()))
    assert done
    (whole,) = answer.sent
    head = nodeid_to_binary(response().TypeId)
    assert whole.startswith(head)
    whole = head + struct_to_binary(ua.ResponseHeader()) + whole[len(head) :]
    return struct_from_binary(response, Buffer(whole))


@pytest.mark.parametrize("most", [0, 7])
async def test_the_answer_is_that_of_a_decoded_request(most: int) -> None:
    plant = Plant(2500)
    wanted = [
        plant.wanted(),
        plant.wanted(ua.NodeId("gone", 7)),
        plant.wanted(ua.NodeId("Press01.Process.tag_00002", 7)),
        plant.wanted(ReferenceTypeId=ua.NodeId(IDS.HasComponent), ResultMask=9),
        plant.wanted(BrowseDirection=7),
    ]
    params = ua.BrowseParameters(RequestedMaxReferencesPerNode=most, NodesToBrowse=wanted)
    expected, found = await plant.browse(*wanted, most=most), (await raw(plant, "Browse", params)).Results
    while True:
        assert [each.References for each in found] == [each.References for each in expected]
        assert [each.StatusCode for each in found] == [each.StatusCode for each in expected]
        points = [[each.ContinuationPoint for each in results] for results in (expected, found)]
        assert [*map(bool, points[0])] == [*map(bool, points[1])]
        ours, theirs = ([point for point in some if point] for some in points)
        if not ours:
            return
        expected = await plant.go_on(*ours)
        found = (await raw(plant, "BrowseNext", ua.BrowseNextParameters(False, theirs))).Parameters.Results
