"""Writing from a client to the PLC: the answer is what the PLC did, and a slow one delays nobody."""

from __future__ import annotations

import asyncio
import signal

import pytest
from asyncua import ua

from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    Verdict,
    is_bad,
    is_good,
)
from tests.system.plant import Plant, alive, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SET_POINT = "sp_strokes_per_min"
CODE = 0xFFFF0000
PLC_TIMEOUT_S = 0.5  # of the simulated PLC, and plc_timeout_ms of the example
NOTICE_S = 0.4  # its cycle and our looking, on a busy machine
KILLED_S = 15.0  # some 8 s by the supervisor's pings


async def _proven(plant: Plant) -> None:
    """Wait until the link to the press may carry writes: one that came back a moment ago may not yet."""
    async with asyncio.timeout(20):
        while not any(
            row["device"] == "press" and row.get("state_text") == "ONLINE"
            for row in (await plant.status())["links"]
        ):
            await plant.clock.sleep(0.1)


async def test_a_set_point_reaches_the_plc_and_is_read_back(plant: Plant) -> None:
    path = plant.client.find(SET_POINT)
    await _proven(plant)
    try:
        assert await plant.client.write(path, value=24.0, kind=ua.VariantType.Float) == 0
        await plant.until(lambda: plant.now("strokes_per_min").value > 20.0, "a faster press")
    finally:
        await plant.client.write(path, value=18.0, kind=ua.VariantType.Float)
        await _reads(plant, path, 18.0)


async def test_a_set_point_out_of_range_is_refused_and_changes_nothing(plant: Plant) -> None:
    path = plant.client.find(SET_POINT)
    before = await plant.client.read(path)
    assert await plant.client.write(path, value=1e6, kind=ua.VariantType.Float) & CODE == BAD_OUT_OF_RANGE
    assert await plant.client.read(path) == before


async def test_a_measured_value_cannot_be_written(plant: Plant) -> None:
    assert is_bad(
        await plant.client.write(plant.client.find("die_temp"), value=1.0, kind=ua.VariantType.Float)
    )


async def test_a_write_to_a_silent_plc_says_timeout_and_delays_no_other_answer(plant: Plant) -> None:
    path, other = plant.client.find(SET_POINT), plant.client.find("rms_last")
    await plant.cell.link("press", "freeze")
    try:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(plant.client.write(path, value=20.0, kind=ua.VariantType.Float))
            await plant.clock.sleep(0.05)
            assert not writing.done()
            began_s = plant.clock.monotonic_s()
            for _ in range(5):
                await plant.client.read(other)
            assert not writing.done(), "the reads have to overtake the write"
            assert plant.clock.monotonic_s() - began_s < 1.0
        # Sent and not answered: nobody knows. Not sent before the link was given up: it did not happen.
        assert writing.result() & CODE in (BAD_TIMEOUT, BAD_NO_COMMUNICATION)
    finally:
        await plant.cell.link("press", "pass")
        await plant.until(lambda: plant.now("die_temp").status == 0, "the PLC back", within_s=20)


async def test_a_frozen_edge_loses_the_trust_of_the_plc_until_somebody_acknowledges(plant: Plant) -> None:
    await _acknowledge(plant)
    pid = await plant.pid("io")
    signal_process(pid, signal.SIGSTOP)
    try:
        await _trusted(plant, wanted=False)
    finally:
        signal_process(pid, signal.SIGCONT)
    await plant.clock.sleep(2.0)
    truth = await plant.cell.truth()
    assert truth["ack_required"], "nobody has acknowledged yet"
    assert not truth["edge_trusted"]
    await _acknowledge(plant)


async def test_a_frozen_lane_loses_the_trust_of_the_plc_though_io_lives_and_is_replaced(plant: Plant) -> None:
    await plant.until(lambda: "Verdict" in plant.client.values, "a first verdict")
    await _acknowledge(plant)
    verdicts = plant.client.history["Verdict"]
    verdicts.clear()
    pid = await plant.pid("lane/press-anomaly")
    signal_process(pid, signal.SIGSTOP)  # and never continued: only the supervisor can help
    frozen_s = plant.clock.monotonic_s()
    await _trusted(plant, wanted=False)
    assert plant.clock.monotonic_s() - frozen_s < PLC_TIMEOUT_S + NOTICE_S
    await plant.until(lambda: [seen for seen in verdicts if not is_good(seen.status)], "a verdict not Good")
    assert plant.now("die_temp").status == 0, "io lives"
    await plant.until(lambda: not alive(pid), "the frozen process killed", within_s=KILLED_S)
    since = plant.mark()
    await plant.until(lambda: plant.results(since, Verdict.OK), "strokes judged by a new process")
    assert (await plant.cell.truth())["ack_required"], "nobody has acknowledged yet"
    await _acknowledge(plant)


async def _reads(plant: Plant, path: str, wanted: float) -> None:
    """Wait for a poll after the write: what is read is what the PLC said last, not what was asked of it."""
    async with asyncio.timeout(10):
        while await plant.client.read(path) != wanted:
            await plant.clock.sleep(0.05)


async def _acknowledge(plant: Plant) -> None:
    """Be the person an output waits for, until the PLC trusts it."""
    path = plant.client.find("ack_edge")
    for _ in range(400):
        if (await plant.cell.truth())["edge_trusted"]:
            return
        if plant.now("authority").value == "ACK_REQUIRED":
            await plant.client.write(path, value=True, kind=ua.VariantType.Boolean)
        await plant.clock.sleep(0.05)
    raise AssertionError(f"nobody was trusted after the acknowledge\n{plant.log_tail()}")


async def _trusted(plant: Plant, *, wanted: bool) -> None:
    for _ in range(200):
        if (await plant.cell.truth())["edge_trusted"] is wanted:
            return
        await plant.clock.sleep(0.05)
    raise AssertionError(f"edge_trusted never became {wanted}\n{plant.log_tail()}")
