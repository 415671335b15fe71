"""``reload`` of pipelines and outputs on the press: only their lanes start and stop, outputs are released."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, Verdict, is_good
from tests.system.plant import EXAMPLE, Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LANE = "lane/press-anomaly"
UNKNOWN = int(ua.StatusCodes.BadNodeIdUnknown)


@pytest.fixture
async def changeable(tmp_path: Path) -> AsyncIterator[Plant]:
    shutil.copytree(EXAMPLE.parent, tmp_path / "press")
    async with Plant(tmp_path, config=tmp_path / "press" / "press.toml") as plant:
        yield plant


async def _reload(plant: Plant) -> dict[str, Any]:
    socket = StateDir(plant.state_dir).control_socket
    reply = await ask(socket, "supervisor", "reload", {}, timeout_s=60.0)
    assert reply.body.get("outcome") == "applied", f"{reply}\n{plant.log_tail()}"
    return reply.body


async def _pids(plant: Plant) -> dict[str, int]:
    return {row["role"]: row["pid"] for row in (await plant.status())["processes"]}


async def test_a_pipeline_and_its_output_go_and_come_and_the_press_runs_on(changeable: Plant) -> None:
    plant = changeable
    file = plant.home / "press" / "press.toml"
    whole = file.read_text()
    since = plant.mark()
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK")
    before = await _pids(plant)
    seen = plant.client.history["die_temp"]

    file.write_text(whole[: whole.index("[[pipelines]]")])
    seen.clear()
    body = await _reload(plant)
    assert "- pipeline press-anomaly" in body["changes"]
    assert "- output verdict" in body["changes"]
    assert await _pids(plant) == {role: pid for role, pid in before.items() if role != LANE}
    status = await plant.status()
    assert (status["pipelines"], status["outputs"], status["faults"]) == ([], [], [])
    log = (plant.state_dir / "demo-server.log").read_text()
    assert re.search(r'"output": "verdict".*"arrived": true.*"authority.released"', log)
    # Part 4 §5.13.1: its nodes are gone, and whoever watches them is told.
    await plant.until(lambda: plant.now("Verdict").status == UNKNOWN, "BadNodeIdUnknown of the verdict")
    # The block of the output was polled from the press, the capture woke the lane: both are connected anew.
    # Meanwhile the last values stand, no longer Good once somebody looks; none of them is lost.
    assert "reconnects: press, vib" in body["effects"]
    await plant.until(lambda: sum(is_good(value.status) for value in seen) > 5, "values that go on")
    assert {value.status for value in seen} <= {GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE}
    assert None not in {value.value for value in seen}

    file.write_text(whole.replace("deadline_ms = 100", "deadline_ms = 90"))
    since = plant.mark()
    await _reload(plant)
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK by the new lane")
    await plant.until(lambda: is_good(plant.now("Verdict").status), "the verdict under its old NodeId")
    after = await _pids(plant)
    assert after[LANE] not in (None, before[LANE])
    assert after["io"] == before["io"]
    assert after["opcua"] == before["opcua"]

    # Another deadline is another lane, and nothing else.
    file.write_text(whole)
    since = plant.mark()
    body = await _reload(plant)
    assert body["effects"] == [
        "lanes start anew: press-anomaly",
        "outputs are released, and begin as after a start: verdict",
    ]
    await plant.until(lambda: plant.results(since, Verdict.OK), "a stroke judged OK by the next lane")
    assert (await _pids(plant))[LANE] != after[LANE]
