"""The decoder of lists to read against asyncua's, on what clients send and on what nobody should."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.request import decode
from edge_opcua.opcua.services.attribute.readlist import SLICE, ReadList, read_list
from tests.opcua.read_requests import PER_BLOCK, Tags, item, read

CODES = ua.StatusCodes
TAGS = Tags()
LONGEST = 60
HEAD_BYTES = 16

NODE_IDS = st.one_of(
    st.integers(0, 2 * PER_BLOCK - 1).map(TAGS.tag),
    st.builds(ua.NodeId, st.integers(0, 255), st.just(0)),
    st.builds(ua.NodeId, st.integers(0, 65535), st.integers(0, 255)),
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.text(max_size=8), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.binary(max_size=8), st.integers(0, 65535)),
    st.builds(ua.NodeId, st.just(uuid.UUID(int=7)), st.integers(0, 65535)),
    st.builds(
        lambda name, uri, index: ua.ExpandedNodeId(name, 7, None, uri, index),
        st.text(max_size=8),
        st.sampled_from(["urn:x", ""]),
        st.integers(0, 3),
    ),
)
TEXTS = st.one_of(st.none(), st.text(max_size=6))
ITEMS = st.one_of(
    NODE_IDS.map(item),
    st.builds(
        lambda node, attribute, index_range, name, namespace: item(
            node, attribute, IndexRange=index_range, DataEncoding=ua.QualifiedName(name, namespace)
        ),
        NODE_IDS,
        st.sampled_from([13, 0, 1, 27, 2**32 - 1]),
        TEXTS,
        TEXTS,
        st.integers(-3, 3),
    ),
)
LISTS = st.lists(ITEMS, min_size=1, max_size=12)


def plain(found: ua.ReadValueId) -> tuple[Any, ...]:
    """An element as it is read: an IndexRange or a DataEncoding of no letters is none."""
    encoding = found.DataEncoding
    uri = getattr(found.NodeId, "NamespaceUri", None), getattr(found.NodeId, "ServerIndex", None)
    named = (encoding.Name, encoding.NamespaceIndex) if encoding.Name else None
    return found.NodeId, found.NodeId.NodeIdType, uri, found.AttributeId, found.IndexRange or None, named


def ours(request: bytes) -> list[tuple[Any, ...]] | int:
    (count,) = struct.unpack_from("<i", request, 12)
    work = read_list(request, HEAD_BYTES, count, TAGS.table, LONGEST)
    try:
        while True:
            next(work)
    except StopIteration as done:
        found: ReadList = done.value
    except ServiceError as exc:
        return int(exc.code)
    assert len(found) == count
    items = [plain(item(TAGS.tag(number))) for number in found.numbers]
    for place, other in found.others:
        items.insert(place, plain(other))
    return items


def theirs(request: bytes) -> list[tuple[Any, ...]] | int:
    buffer = StrictBuffer(request, longest=LONGEST)
    params_class = TAGS.service.params
    assert params_class is not None
    try:
        params = decode(params_class, buffer, ServerLimits())
    except ServiceError as exc:
        return int(exc.code)
    except ua.UaError:
        return int(CODES.BadDecodingError)
    return [plain(each) for each in params.NodesToRead]


@settings(max_examples=300, deadline=None)
@given(LISTS, st.binary(max_size=3))
def test_every_element_is_what_asyncua_takes_it_for(items: list[ua.ReadValueId], after: bytes) -> None:
    # Part 6 §5.2.2.9, §5.2.5: all forms of a NodeId, in any order; what follows the list is not looked at.
    request = read(items) + after
    found = ours(request)
    assert isinstance(found, list)
    assert found == theirs(request)


@settings(max_examples=400, deadline=None)
@given(LISTS, st.data())
def test_what_was_garbled_is_refused_or_read_as_asyncua_reads_it(
    items: list[ua.ReadValueId], data: st.DataObject
) -> None:
    request = bytearray(read(items))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(HEAD_BYTES, len(request) - 1))
        request[where] = data.draw(
            st.one_of(st.sampled_from([0, 1, 3, 0x7F, 0x80, 0xFF]), st.integers(0, 255))
        )
    garbled = bytes(request)[: data.draw(st.one_of(st.none(), st.integers(HEAD_BYTES, len(request))))]
    assert ours(garbled) == theirs(garbled)


@pytest.mark.parametrize("length", [-2, -(2**31), 2**31 - 1, 1_000_000])
@pytest.mark.parametrize("where", ["name", "range", "encoding"])
def test_a_length_that_lies_is_a_decoding_error(length: int, where: str) -> None:
    # Part 6 §5.2.2.4: such a length moves no cursor and allocates nothing.
    tag = bytearray(struct_to_binary(item(TAGS.tag(0))))
    at = {"name": 3, "range": len(tag) - 10, "encoding": len(tag) - 4}[where]
    tag[at : at + 4] = struct.pack("<i", length)
    request = (
        read([item(TAGS.tag(1))])[:12] + struct.pack("<i", 2) + bytes(struct_to_binary(item(TAGS.tag(1))))
    )
    assert ours(request + bytes(tag)) == CODES.BadDecodingError


def test_a_string_that_is_too_long_is_told_so() -> None:
    # Part 4 §7.38.2.
    long = "x" * (LONGEST + 1)
    for each in (
        item(ua.NodeId(long, 7)),
        item(ua.NodeId(long.encode(), 1)),
        item(TAGS.tag(0), IndexRange=long),
        item(TAGS.tag(0), DataEncoding=ua.QualifiedName(long)),
    ):
        assert ours(read([each])) == theirs(read([each])) == CODES.BadEncodingLimitsExceeded


@pytest.mark.parametrize(
    ("node", "slices"), [(TAGS.tag(0), 10_000 // SLICE), (ua.NodeId(2259), 10_000 // SLICE * 5)]
)
def test_a_long_list_is_decoded_in_slices(node: ua.NodeId, slices: int) -> None:
    request = read([item(node)] * 10_000)
    work = read_list(request, HEAD_BYTES, 10_000, TAGS.table, LONGEST)
    assert slices - 1 <= sum(1 for _ in work) <= slices * 1.1
