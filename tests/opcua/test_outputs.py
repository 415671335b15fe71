"""Long lists that methods return: the bytes of the codec, and others have their turn (Part 4 §5.12)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.opcua.services.outputs import LongResults, is_long
from edge_opcua.opcua.services.slices import SLICE, Encoded
from tests.opcua.small_space import IDS
from tests.opcua.test_methods import Desk, argument

KIND = ua.VariantType


def ranges(count: int) -> ua.Variant:
    return ua.Variant(
        [ua.Range(0.0, float(high)) for high in range(count)], KIND.ExtensionObject, is_array=True
    )


def encoded(results: list[ua.CallMethodResult], most: int = 1_000_000) -> tuple[Encoded, int]:
    """Return the answer and how many slices it took after the first of each."""
    long = LongResults(results[:1], most)
    slices = sum(1 for result in results[1:] for _ in long.add(result))
    return long.response(), slices


def test_long_results_have_the_bytes_of_the_codec() -> None:
    numbers = ua.Variant(list(range(5000)), KIND.Int32)
    matrix = ua.Variant([[ua.Range(0, 1)], [ua.Range(2, 3)]] * 200, KIND.ExtensionObject, [400, 1])
    refused = ua.CallMethodResult(
        StatusCode=ua.StatusCode(ua.StatusCodes.BadInvalidArgument),
        InputArgumentResults=[ua.StatusCode(), ua.StatusCode(ua.StatusCodes.BadTypeMismatch)],
    )
    results = [
        ua.CallMethodResult(OutputArguments=[ua.Variant("first")]),
        ua.CallMethodResult(OutputArguments=[ua.Variant(1), ranges(1000), ranges(3), numbers]),
        refused,
        ua.CallMethodResult(OutputArguments=[matrix]),
    ]
    assert [is_long(result) for result in results] == [False, True, False, False]
    answer, slices = encoded(results)
    assert slices >= 1000 // SLICE
    plain = ua.CallResponse(ResponseHeader=answer.ResponseHeader, Results=results)
    assert answer.to_binary() == struct_to_binary(plain)


def test_results_that_grow_too_large_are_not_kept() -> None:
    # Part 4 §5.7.2.2: also where nobody of many calls returned too much.
    results = [ua.CallMethodResult(OutputArguments=[ranges(1000)])] * 10
    with pytest.raises(ServiceError) as caught:
        encoded(results, 100_000)
    assert caught.value.code == ua.StatusCodes.BadResponseTooLarge


async def test_a_method_that_returns_much_lets_others_have_their_turn() -> None:
    desk = Desk()
    for number in (IDS.Structure, IDS.Range):
        desk.space.node(ua.NodeId(number), ua.NodeClass.DataType)
    desk.space.refer(ua.NodeId(IDS.Structure), ua.NodeId(IDS.Range), IDS.HasSubtype)
    method = desk.method(gives=(argument(IDS.Range, 1),))
    desk.answer = [ranges(2000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    wanted: Any = ua.CallParameters([ua.CallMethodRequest(desk.owner, method, [])])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        response = await desk.methods.services()["Call"].run(desk.asker, wanted)
        task.cancel()
    assert isinstance(response, Encoded)
    assert turns >= 2000 // SLICE
    plain = ua.CallResponse(ResponseHeader=response.ResponseHeader)
    plain.Results = [ua.CallMethodResult(OutputArguments=[ranges(2000)])]
    assert response.to_binary() == struct_to_binary(plain)
