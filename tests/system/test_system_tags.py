"""Models on plain tags, run as the example stands: a PLC behind its protocol, the server, a real client."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict, is_bad
from edge_opcua.demo.client import ScadaClient
from edge_opcua.demo.story import MACHINE
from edge_opcua.sim.physics import Fault
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

EXAMPLE = examples_dir() / "tags" / "tags.toml"
SHOWN = ("Verdict", "Score", "Confidence", "Label", "Stroke", "Contributions")
WITHIN_S = 40.0  # a busy computer


class TagPlant(Plant):
    """The press without its vibration unit, and the example with models on its tags."""

    async def _watch(self, client: ScadaClient) -> None:
        await client.browse(MACHINE)
        wanted = [f"{pipeline}/{member}" for pipeline in ("press-state", "die-wear") for member in SHOWN]
        await client.subscribe({client.find(ending): ending for ending in wanted})
        self.client = client

    @property
    def config(self) -> Path:
        """The copy of the example that it runs."""
        return self._config

    def told(self, pipeline: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the result events of a pipeline since a mark."""
        return [row for row in self.results(since) if str(row.get("SourceName", "")).endswith(pipeline)]


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TagPlant]:
    home = tmp_path_factory.mktemp("plant")
    config = shutil.copytree(EXAMPLE.parent, home / "tags") / EXAMPLE.name
    async with TagPlant(home, config=config, time_factor=12.0) as running:
        yield running


async def test_a_classifier_and_a_regressor_judge_plain_tags_of_a_plc(plant: TagPlant) -> None:
    state, wear = "press-state/Verdict", "die-wear/Verdict"

    def shows(name: str, value: object) -> bool:
        seen = plant.client.values.get(name)
        return seen is not None and seen.value == value

    # The window fills, then the press is seen running.
    await plant.until(lambda: shows("press-state/Label", "running"), "label running", within_s=WITHIN_S)
    await plant.until(lambda: shows(state, int(Verdict.OK)), "verdict Ok", within_s=WITHIN_S)
    assert plant.now("press-state/Confidence").value > 0.6
    # What a model does not say is null, not a number made up.
    assert plant.now("press-state/Contributions").value is None
    assert is_bad(plant.now("press-state/Contributions").status)

    # A sample for each stroke: the numbers are those of the PLC, one after the other.
    await plant.until(lambda: shows(wear, int(Verdict.OK)), "wear Ok", within_s=WITHIN_S)
    strokes = [seen.value for seen in plant.client.history["die-wear/Stroke"] if seen.value]
    assert strokes == list(range(strokes[0], strokes[0] + len(strokes)))
    assert plant.now("die-wear/Confidence").value is None

    # A blunt edge shows in the force of the last eight strokes, and nowhere else.
    await plant.cell.wear(1.0)
    await plant.until(lambda: shows(wear, int(Verdict.NOT_OK)), "the worn die", within_s=WITHIN_S)
    assert plant.now("die-wear/Score").value >= 0.45
    assert plant.now(state).value == int(Verdict.OK)

    # The guard opens: the press stands, and its classifier says so.
    await plant.cell.guard(closed=False)
    await plant.until(lambda: shows("press-state/Label", "idle"), "label idle", within_s=WITHIN_S)
    await plant.cell.guard(closed=True)
    await plant.until(lambda: shows("press-state/Label", "running"), "label running", within_s=WITHIN_S)

    # The PLC's own sensor breaks: a number comes, but nothing can be decided from it.
    await plant.cell.sensor_fault(Fault.TONNAGE.value)
    await plant.until(lambda: shows("press-state/Label", "sensor_fault"), "sensor_fault", within_s=WITHIN_S)
    await plant.until(lambda: shows(state, int(Verdict.NOT_DECIDABLE)), "NotDecidable", within_s=WITHIN_S)
    await plant.cell.sensor_fault(None)


async def test_a_window_outlives_its_lane_and_not_its_io_process_and_a_lost_plc_is_named(
    plant: TagPlant,
) -> None:
    def fine(since: int) -> bool:
        return any(row["Verdict"] == int(Verdict.OK) for row in plant.told("press-state", since))

    def said(text: str, since: int) -> bool:
        return any(text in str(row.get("Message")) for row in plant.told("press-state", since))

    start = plant.mark()
    await plant.until(lambda: fine(start), "a first verdict", within_s=WITHIN_S)

    # A lane that is killed: its successor goes on with the window that is there.
    rows = (await plant.status())["processes"]
    mark = plant.mark()
    os.kill(
        next(int(row["pid"]) for row in rows if row["role"].startswith("lane/press-state")), signal.SIGKILL
    )
    await plant.until(lambda: fine(mark), "a verdict of the successor", within_s=WITHIN_S)
    assert not said("samples are there", mark)

    # The link to the PLC is cut: after hold_s the verdict is the fail-safe one and says which tag is lost.
    mark = plant.mark()
    await plant.cell.link("press", "cut")
    await plant.until(lambda: said("press/tonnage: Bad", mark), "the lost tag by name", within_s=WITHIN_S)
    mark = plant.mark()
    await plant.cell.link("press", "pass")
    await plant.until(lambda: fine(mark), "a verdict after the link is back", within_s=WITHIN_S)

    # The process with the devices is killed: nobody knows what was missed, so the window fills anew.
    mark = plant.mark()
    os.kill(await plant.pid("io"), signal.SIGKILL)
    await plant.until(lambda: said("of 4 samples are there", mark), "the window fills", within_s=WITHIN_S)
    await plant.until(lambda: fine(mark), "a verdict after the restart", within_s=WITHIN_S)


async def test_a_reload_that_changes_one_window_leaves_the_other_and_its_lane_alone(plant: TagPlant) -> None:
    def said(pipeline: str, text: str) -> bool:
        return any(text in str(row.get("Message")) for row in plant.told(pipeline, mark))

    def fine(pipeline: str) -> bool:
        return any(row["Verdict"] != int(Verdict.NOT_DECIDABLE) for row in plant.told(pipeline, mark))

    mark = plant.mark()
    await plant.until(lambda: fine("die-wear"), "a full window", within_s=WITHIN_S)
    roles = {row["role"] for row in (await plant.status())["processes"]}
    mark = plant.mark()
    text = plant.config.read_text()
    plant.config.write_text(text.replace("window = 4", "window = 40"))
    socket = StateDir(plant.state_dir).control_socket
    reply = await ask(socket, "supervisor", "reload", {}, timeout_s=60.0)

    assert reply.body["outcome"] == "applied", reply.body
    # The model wants four samples and gets the newest four of forty, once there are so many.
    await plant.until(lambda: said("press-state", "of 40 samples"), "the longer window", within_s=WITHIN_S)
    await plant.until(lambda: fine("press-state"), "a verdict from it", within_s=WITHIN_S)
    await plant.until(lambda: fine("die-wear"), "a verdict of the other", within_s=WITHIN_S)
    assert not said("die-wear", "samples are there")
    wear = {role for role in roles if role.startswith("lane/die-wear")}
    assert wear <= {row["role"] for row in (await plant.status())["processes"]}
