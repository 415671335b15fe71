"""RegisterNodes and UnregisterNodes from the bytes of the request (Part 4 §5.9.5, §5.9.6)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.services.view.register import Registration
from tests.opcua.small_space import Asker

HEAD = b"header"
identifiers = st.one_of(st.integers(0, 2**32 - 1), st.text(max_size=20), st.binary(max_size=20), st.uuids())
nodes = st.builds(ua.NodeId, identifiers, st.integers(0, 300))


class Answer:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        self.sent.append((type_id, body))


def ask(name: str, body: bytes, **limits: Any) -> list[tuple[bytes, bytes]]:
    """Return what was answered; nothing if it is left to the codec."""
    answer = Answer()
    raw = Registration(ServerLimits(**limits)).services()[name].raw
    assert raw is not None
    done = raw(Asker(), HEAD + body, len(HEAD), answer)
    assert done == bool(answer.sent)
    return answer.sent


def listed(given: list[ua.NodeId]) -> bytes:
    return struct.pack("<i", len(given)) + b"".join(map(nodeid_to_binary, given))


@given(st.lists(nodes, min_size=1, max_size=8))
def test_the_answer_has_the_bytes_of_the_codec(given: list[ua.NodeId]) -> None:
    response = ua.RegisterNodesResponse()
    response.Parameters.RegisteredNodeIds = given
    ((type_id, body),) = ask("RegisterNodes", listed(given))
    assert type_id + struct_to_binary(response.ResponseHeader) + body == struct_to_binary(response)
    nothing = ua.UnregisterNodesResponse()
    ((type_id, body),) = ask("UnregisterNodes", listed(given))
    assert type_id + struct_to_binary(nothing.ResponseHeader) + body == struct_to_binary(nothing)


@given(st.lists(nodes, min_size=1, max_size=3), st.data())
def test_what_is_cut_off_is_left_to_the_codec(given: list[ua.NodeId], data: st.DataObject) -> None:
    whole = listed(given)
    assert not ask("RegisterNodes", whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not ask("RegisterNodes", whole + b"\0")


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<i", -1),
        listed([]),
        listed([ua.NodeId("a", 7)] * 4),
        listed([ua.NodeId("much too long", 7)]),
        listed([ua.NodeId("", 7)])[:-4] + struct.pack("<i", -1),
        listed([ua.ExpandedNodeId("a", 7, ServerIndex=1)]),
        struct.pack("<iBH", 1, 6, 0),
    ],
)
def test_what_is_refused_or_rare_is_left_to_the_codec(body: bytes) -> None:
    # BadNothingToDo, BadTooManyOperations, BadEncodingLimitsExceeded, BadDecodingError are said there.
    limits: Any = {"operations": OperationLimits(register=3), "string_bytes": 10}
    assert not ask("RegisterNodes", body, **limits)
    assert not ask("UnregisterNodes", body, **limits)
