"""Long lists are decoded slice by slice, to what they are if they are decoded at once."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.request import decode, decode_slowly, long_list
from edge_opcua.opcua.services.subscription.parameters import (
    CreateParameters,
    ModeParameters,
    ModifyParameters,
)
from tests.opcua.publishing import deadband, item, parameters

LIMITS = ServerLimits(array_length=500, string_bytes=1000)
NODE = ua.NodeId("Press01.temp", 7)
CASES: list[tuple[type[Any], str, Any]] = [
    (
        CreateParameters,
        "ItemsToCreate",
        CreateParameters(7, 2, [item(NODE, handle=i, filter=deadband(i)) for i in range(90)]),
    ),
    (
        ModifyParameters,
        "ItemsToModify",
        ModifyParameters(7, 9, [ua.MonitoredItemModifyRequest(i, parameters(handle=i)) for i in range(90)]),
    ),
    (
        ua.TranslateBrowsePathsToNodeIdsParameters,
        "BrowsePaths",
        ua.TranslateBrowsePathsToNodeIdsParameters(
            [ua.BrowsePath(NODE, ua.RelativePath([ua.RelativePathElement()] * (i % 3))) for i in range(90)]
        ),
    ),
]


def slowly(cls: type[Any], name: str, body: bytes, most: int = 0) -> tuple[Any, int]:
    """Return the parameters, or the StatusCode, and how many pauses there were."""
    where = long_list(cls, (name,))
    assert where is not None
    work = decode_slowly(cls, where, StrictBuffer(body, longest=1000), LIMITS, most)
    pauses = 0
    try:
        while True:
            next(work)
            pauses += 1
    except StopIteration as done:
        return done.value, pauses
    except ServiceError as exc:
        return exc.code, pauses


def at_once(cls: type[Any], name: str, body: bytes, most: int = 0) -> Any:
    try:
        return decode(cls, StrictBuffer(body, longest=1000), LIMITS, {name: most})
    except ServiceError as exc:
        return exc.code


@pytest.mark.parametrize(("cls", "name", "given"), CASES, ids=[name for _, name, _ in CASES])
def test_both_ways_say_the_same_whatever_comes(cls: type[Any], name: str, given: Any) -> None:
    whole = bytes(struct_to_binary(given))
    found, pauses = slowly(cls, name, whole)
    assert found == at_once(cls, name, whole)
    assert pauses >= 3
    dice = random.Random(20261121)
    codes = set()
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(dice.choice([1, 2, 5])):
            at = dice.randrange(len(changed) - 4)
            what = dice.choice(
                [b"", b"\xff", b"\x16", struct.pack("<i", dice.choice([-1, -2, 0, 9, 2**31 - 1]))]
            )
            changed[at : at + dice.choice([0, 1, 4])] = what
        expected = at_once(cls, name, bytes(changed))
        again = slowly(cls, name, bytes(changed))[0]
        assert str(again) == str(expected)  # a NaN is not equal to itself
        codes.add(expected if isinstance(expected, int) else 0)
    assert len(codes) > 2


def test_too_many_are_told_before_one_is_decoded() -> None:
    cls, name, given = CASES[1]
    assert slowly(cls, name, bytes(struct_to_binary(given)), most=89) == (
        ua.StatusCodes.BadTooManyOperations,
        0,
    )


@pytest.mark.parametrize(
    ("cls", "counted"),
    [
        (ModeParameters, ("MonitoredItemIds",)),  # plain numbers are decoded in one go
        (ua.RegisterNodesParameters, ("NodesToRegister",)),
        (ua.SetTriggeringParameters, ("LinksToAdd", "LinksToRemove")),
        (ua.CreateSubscriptionParameters, ()),
    ],
)
def test_what_is_no_list_of_structures_behind_all_else_is_decoded_at_once(
    cls: type[Any], counted: tuple[str, ...]
) -> None:
    assert long_list(cls, counted) is None
