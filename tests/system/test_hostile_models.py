"""Models that do harm beside one that does not, in the running server: its verdicts go on as if alone.

Each hostile model passes its reference samples and judges like the good one, until the die is worn. Three of
them share a process, which lives on; the one that nothing can cancel has one of its own, which does not.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.memory import MB, resident_bytes
from edge_opcua.inference.repository import ModelRepository
from tests.inference.hostile.models import (
    endless,
    function_bomb,
    greedy,
    hostile_image,
    hostile_version,
    laden_image,
    not_a_number,
    slow_image,
    stuck,
)
from tests.system.plant import EXAMPLE, Plant, children, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

GOOD = "press-anomaly"
ATTACKS = {
    "endless": endless,
    "stuck": stuck,
    "greedy": greedy(8192),
    "numberless": not_a_number,
}
CHANGED = "numberless"  # gets versions that harm while they are loaded
GROUPS = {"stuck": "cell", "endless": "guests", "greedy": "guests", CHANGED: "guests"}
MEMORY_MB = 300  # of each pipeline; those of a group share the sum
GUESTS_MS = 3000  # they wait for each other: what waits longer is called late and not what became of it
UNREAD = '"event": "capture.missed"'  # by the io process, on a busy computer: no lane can judge those
PIPELINE = """
[[pipelines]]
name = "{name}"
model = "{name}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
group = "{group}"
lane = "{lane}"
deadline_ms = {deadline_ms}
memory_mb = {memory_mb}
load_s = {load_s}
"""


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    home = tmp_path_factory.mktemp("hostile")
    shutil.copytree(EXAMPLE.parent, home / "press")
    pipelines = ""
    for name, attack in ATTACKS.items():
        hostile_version(home / "press" / "models", name, hostile_image(attack))
        load_s = 4 if name == CHANGED else 20
        pipelines += PIPELINE.format(
            name=name,
            group=GROUPS[name],
            lane="safety" if name == "stuck" else "realtime",  # the worst: nothing may interrupt it
            deadline_ms=1000 if name == "stuck" else GUESTS_MS,
            memory_mb=MEMORY_MB,
            load_s=load_s,
        )
    file = home / "press" / "press.toml"
    text = file.read_text()
    text = text.replace("deadline_ms = 100\n", 'deadline_ms = 100\nlane = "safety"\n')
    file.write_text(text.replace("[[outputs]]", pipelines + "\n[[outputs]]", 1))
    async with Plant(home, config=file) as running:
        yield running


def of(plant: Plant, since: int, pipeline: str) -> list[dict[str, Any]]:
    return [row for row in plant.results(since) if row["SourceName"] == pipeline]


async def lane(plant: Plant, pipeline: str) -> dict[str, Any]:
    rows = {row["pipeline"]: row["lane"] for row in (await plant.status())["pipelines"]}
    return dict(rows[pipeline])


async def test_harm_is_contained_told_and_moves_no_other_lane(plant: Plant) -> None:
    for pipeline in (GOOD, *ATTACKS):
        await plant.until(
            lambda name=pipeline: [r for r in of(plant, 0, name) if r["Verdict"] == Verdict.OK],  # type: ignore[misc]
            f"a stroke judged by {pipeline}",
        )
    pids = {name: await plant.pid(f"lane/{name}") for name in (GOOD, "guests")}
    before = await lane(plant, GOOD)
    since = plant.mark()
    await plant.cell.wear(0.9)

    def faults_of(status: dict[str, Any]) -> dict[str, str]:
        return {row["source"]: row["code"] for row in status["faults"]}

    # The one that nothing can cancel ends its process again and again, until it is not started any more.
    for _ in range(400):
        status = await plant.status()
        if faults_of(status).get("stuck") == "M595":
            break
        await plant.clock.sleep(0.1)
    assert faults_of(status).get("stuck") == "M595", f"{status['faults']}\n{plant.log_tail()}"
    await plant.until(lambda: len(of(plant, since, GOOD)) > 12, "strokes judged by the good one")

    # The good one: every stroke that was read, none late, and what it says is what the die is.
    rows = of(plant, since, GOOD)
    strokes = [int(row["Stroke"]) for row in rows]
    assert strokes == sorted(set(strokes))
    unread = [
        line for line in (plant.state_dir / "demo-server.log").read_text().splitlines() if UNREAD in line
    ]
    assert len(strokes) >= strokes[-1] - strokes[0] + 1 - sum(
        int(json.loads(line)["missed"]) for line in unread
    )
    worn = [row for row in rows if row["Score"] is not None and row["Score"] > 1.05]
    assert len(worn) >= 10
    assert {row["Verdict"] for row in worn} == {Verdict.NOT_OK}
    after = await lane(plant, GOOD)
    for counter in ("missed", "late", "failed", "rejected", "expired"):
        assert after[counter] == before[counter], counter
    assert await plant.pid(f"lane/{GOOD}") == pids[GOOD]

    # The others answer every stroke they see with the fail-safe verdict and say why; their processes live.
    for name, code in (("endless", "M541"), ("greedy", "M532"), (CHANGED, "M533")):
        found = await plant.until(
            lambda name=name, code=code: [  # type: ignore[misc]
                row for row in of(plant, since, name) if code in str(row["Reason"])
            ],
            f"a verdict of {name} with {code}",
        )
        assert {row["Verdict"] for row in found} == {Verdict.NOT_DECIDABLE}
        assert (await lane(plant, name))["failed"] >= len(found)
    assert await plant.pid("lane/guests") == pids["guests"]
    assert resident_bytes(pid=pids["guests"]) < 3 * MEMORY_MB * MB
    log = (plant.state_dir / "demo-server.log").read_text()
    for event in ("run.overran", "run.hung", "lane.quarantined"):
        assert event in log, event


async def test_what_has_become_calm_is_judged_again(plant: Plant) -> None:
    await plant.cell.wear(0.0)
    since = plant.mark()
    for name in ("endless", "greedy", CHANGED, GOOD):
        await plant.until(
            lambda name=name: [r for r in of(plant, since, name) if r["Verdict"] == Verdict.OK],  # type: ignore[misc]
            f"a stroke judged OK by {name}",
        )


@pytest.mark.parametrize(
    ("version", "image", "codes"),
    [
        (2, lambda: laden_image(4096), ("M581",)),
        (3, slow_image, ("M561", "M591")),  # by the runtime, or by its process
        (4, lambda: function_bomb(6, 10), ("M585",)),
    ],
    ids=["memory", "time", "functions"],
)
async def test_a_model_that_harms_while_it_is_loaded_is_refused_and_the_old_one_goes_on(
    plant: Plant, version: int, image: Any, codes: tuple[str, ...]
) -> None:
    models = StateDir(plant.state_dir).models
    hostile_version(models, CHANGED, image(), version=version)
    entry = next(e for e in ModelRepository(models).list() if (e.name, e.version) == (CHANGED, version))
    since = plant.mark()
    good = await lane(plant, GOOD)
    running = len(children(plant.server.pid))
    try:
        job = await plant.client.call(
            "Models",
            plant.client.find("Models/LoadModel"),
            ua.Variant(CHANGED, ua.VariantType.String),
            ua.Variant(version, ua.VariantType.UInt32),
            ua.Variant(entry.sha256 or "0" * 64, ua.VariantType.String),
        )
        ended = await plant.until(
            lambda: [
                event.fields
                for event in plant.client.events[since:]
                if event.fields.get("JobId") == job and event.fields.get("State") in ("Active", "Failed")
            ],
            f"the end of {job}",
        )
        assert ended[0]["State"] == "Failed"
        assert any(code in ended[0]["Reason"] for code in codes), ended[0]["Reason"]
        mark = plant.mark()
        for name in (GOOD, CHANGED):
            await plant.until(lambda name=name: of(plant, mark, name), f"a stroke judged by {name}")  # type: ignore[misc]
        assert {row["ModelVersion"] for row in of(plant, since, CHANGED)} == {1}
        for counter in ("missed", "late", "failed"):
            assert (await lane(plant, GOOD))[counter] == good[counter], counter
        assert len(children(plant.server.pid)) == running, "a process is left that computes for ever"
    finally:
        shutil.rmtree(Path(models) / CHANGED / str(version))


async def test_a_model_that_crashes_its_process_is_a_stroke_late_and_no_other_lane_notices(
    plant: Plant,
) -> None:
    crashed, other = await plant.pid("lane/guests"), await plant.pid(f"lane/{GOOD}")
    since = plant.mark()
    signal_process(crashed, signal.SIGSEGV)
    await plant.until(
        lambda: [r for r in of(plant, since, CHANGED) if r["Verdict"] == Verdict.OK],
        "a stroke judged by the next process",
    )
    assert await plant.pid(f"lane/{GOOD}") == other
    assert {row["Verdict"] for row in of(plant, since, GOOD)} == {Verdict.OK}
    log = (plant.state_dir / "demo-server.log").read_text()
    assert "SIGSEGV" in log
