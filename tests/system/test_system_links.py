"""Pulling each cable of the running whole: what the client reads, and that it comes back."""

from __future__ import annotations

import signal

import pytest

from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    Verdict,
    is_good,
)
from tests.system.plant import Plant, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CODE = 0xFFFF0000
TAG = {"press": "die_temp", "vib": "vib rms"}


async def _lost(plant: Plant, name: str) -> None:
    """The quality goes Good -> Uncertain -> Bad without a value; see architecture section 4."""
    source_ns, cut_ns = plant.now(name).source_ns, plant.clock.utc_ns()
    seen = plant.client.history[name]
    seen.clear()
    await plant.until(
        lambda: [
            s
            for s in seen
            if s.status & CODE in (UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, UNCERTAIN_LAST_USABLE)
        ],
        f"{name} Uncertain",
    )
    uncertain = next(s for s in seen if not is_good(s.status))
    assert uncertain.value is not None
    assert source_ns <= uncertain.source_ns <= cut_ns, "the time of the last true read, not of the loss"
    bad = await plant.until(
        lambda: [s for s in seen if s.status & CODE == BAD_COMMUNICATION_ERROR], f"{name} Bad"
    )
    assert bad[0].value is None


async def _recovered(plant: Plant, name: str) -> None:
    since = plant.mark()
    await plant.until(lambda: is_good(plant.now(name).status), f"{name} Good again", within_s=20)
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK again", within_s=20)


@pytest.mark.parametrize("device", ["vib", "press"])
@pytest.mark.parametrize("fault", ["cut", "freeze", "garbage"])
async def test_a_lost_link_degrades_by_the_table_and_comes_back(
    plant: Plant, device: str, fault: str
) -> None:
    name = TAG[device]
    await plant.until(lambda: name in plant.client.values and is_good(plant.now(name).status), "a start")
    other = TAG["press" if device == "vib" else "vib"]
    since = plant.mark()
    await plant.cell.link(device, fault)
    try:
        await _lost(plant, name)
        await plant.until(lambda: plant.results(since, Verdict.NOT_DECIDABLE), "a verdict NotDecidable")
        assert is_good(plant.now(other).status), "the other device has to stay Good"
        link = next(row for row in (await plant.status())["links"] if row["device"] == device)
        assert link["last_error"], "status has to name a reason"
    finally:
        await plant.cell.link(device, "pass")
    await _recovered(plant, name)


@pytest.mark.parametrize("device", ["vib", "press"])
async def test_a_device_stopped_in_mid_work_is_lost_and_comes_back(plant: Plant, device: str) -> None:
    name = TAG[device]
    await plant.until(lambda: name in plant.client.values and is_good(plant.now(name).status), "a start")
    pid = plant.cell.pids[device]
    signal_process(pid, signal.SIGSTOP)
    try:
        await _lost(plant, name)  # no verdict is asked for: a press that is stopped makes no strokes
    finally:
        signal_process(pid, signal.SIGCONT)
    await _recovered(plant, name)
