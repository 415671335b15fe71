import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from edge_opcua.core.supervise import FIRST_DELAY_S, MAX_DELAY_S, describe, foreseen, supervise
from edge_opcua.errors import DeviceError, EdgeError
from edge_opcua.testing import ManualClock


async def test_a_component_that_fails_is_started_again_after_growing_pauses() -> None:
    clock = ManualClock()
    starts: list[float] = []

    async def fails() -> None:
        starts.append(clock.monotonic_s())
        raise DeviceError("no link")

    with capture_logs() as logs:
        task = asyncio.ensure_future(supervise("io", fails, clock=clock))
        await clock.advance(200)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    pauses = [round(b - a, 6) for a, b in itertools.pairwise(starts)]
    assert pauses[:3] == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
    assert max(pauses) == MAX_DELAY_S
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert len(warnings) == 1  # once per outage
    assert (warnings[0]["component"], warnings[0]["exc_info"]) == ("io", None)


async def test_a_component_that_ran_long_is_started_again_soon_and_its_failure_is_news() -> None:
    clock = ManualClock()
    starts: list[float] = []

    async def runs_a_while() -> None:
        starts.append(clock.monotonic_s())
        await clock.sleep(MAX_DELAY_S + 1)
        raise ZeroDivisionError

    with capture_logs() as logs:
        task = asyncio.ensure_future(supervise("io", runs_a_while, clock=clock))
        await clock.advance(3 * (MAX_DELAY_S + 1 + FIRST_DELAY_S) + 0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [round(b - a, 6) for a, b in itertools.pairwise(starts)] == [31.25, 31.25, 31.25]
    assert all(
        (entry["log_level"], type(entry["exc_info"])) == ("warning", ZeroDivisionError) for entry in logs
    )


async def test_a_component_that_returns_is_started_again() -> None:
    clock = ManualClock()
    starts: list[int] = []

    async def returns() -> None:
        starts.append(1)

    task = asyncio.ensure_future(supervise("io", returns, clock=clock))
    await clock.advance(FIRST_DELAY_S * 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(starts) == 3


def test_a_group_is_foreseen_only_if_all_its_parts_are() -> None:
    ours = ExceptionGroup("g", [DeviceError("a"), ExceptionGroup("h", [EdgeError("b")])])
    assert foreseen(ours)
    assert not foreseen(ExceptionGroup("g", [DeviceError("a"), ValueError("b")]))
    assert describe(ours) == "DeviceError: a; EdgeError: b"
    assert describe(KeyError()) == "KeyError"
