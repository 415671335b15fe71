"""Every fault that an output knows, on a running line: the PLC is safe in time and comes back gently.

The PLC executes the function block that `edge-opcua ladder export` writes; what it is held against is what
`edge-opcua check` prints for the same file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from edge_opcua.bench.failsafe.rig import Rig
from edge_opcua.bench.failsafe.trials import (
    RATE_PER_S,
    TRIALS,
    Trial,
    in_use,
    measure,
    printed_ms,
    promised_ms,
    reaction,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MILLISECOND_OF_THE_BLOCK = 1.1  # it counts whole milliseconds, of which a scan has about twenty


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("rig")) as running:
        yield running


@pytest.fixture(scope="module")
async def printed(rig: Rig) -> dict[str, float]:
    """What `check` prints: the worst case of each fault, ms."""
    check = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_opcua.cli", "check", str(rig.config)),
        env={**os.environ, **rig.environment},
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    text, _ = await check.communicate()
    assert check.returncode == 0, text.decode()
    return printed_ms(text.decode())


async def test_what_check_prints_is_what_the_executor_goes_by(rig: Rig, printed: dict[str, float]) -> None:
    promised = promised_ms(rig)
    assert {fault: printed[fault] for fault in promised} == promised


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name.replace(" ", "-"))
async def test_a_fault_makes_the_plc_safe_within_what_check_promises(
    rig: Rig, printed: dict[str, float], trial: Trial
) -> None:
    seen = await measure(rig, trial)
    if (
        seen.reaction_ms > printed[trial.promised]
    ):  # a busy computer, or a promise that is not kept: then again
        seen = await measure(rig, trial)
    # A scan that took longer than the configured one is the PLC's own delay, twice: it saw the last
    # heartbeat that much later, and acts that much later.
    assert seen.reaction_ms <= printed[trial.promised] + 2 * seen.late_ms, seen
    assert seen.latched, "nobody has acknowledged yet"
    assert seen.fastest_per_s <= RATE_PER_S * MILLISECOND_OF_THE_BLOCK, "a bump"


async def test_a_write_that_lands_late_is_ignored_by_the_plc_and_told(rig: Rig) -> None:
    """Plc.md 6.1: a timed-out write is not a failed write; this one lands when the program runs again."""
    await in_use(rig)
    before, falls = await rig.output(), (await reaction(rig))["falls"]
    await rig.cell.scanning(on=False)

    async def timed_out() -> bool:
        return bool((await rig.output())["indeterminate"] > before["indeterminate"])

    await rig.until(timed_out, "a write that nobody answers")
    await rig.cell.scanning(on=True)

    async def told() -> bool:
        return bool((await rig.output())["landed_late"] > before["landed_late"])

    await rig.until(told, "what came late is found when the area is read back")
    truth = await rig.cell.truth()
    assert truth["reaction"]["falls"] == falls + 1, "a program that stood still believes nothing it finds"
    assert truth["ack_required"]
    assert not truth["edge_trusted"]
    await in_use(rig)


def test_what_is_promised_is_read_from_what_people_read() -> None:
    text = "reacts   verdict   edge dead     540 ms   a 20\n                   lane frozen   90.5 ms   c\n"
    assert printed_ms(text) == {"edge dead": 540.0, "lane frozen": 90.5}
