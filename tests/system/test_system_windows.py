"""What a running plant's model judged: kept, answered, judged again, exported; whatever the recorder does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.core.journalfile import look
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.records.windowlook import Wanted, WindowLook
from edge_opcua.training import load_windows
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

P = "press-anomaly"
SOME = 12


async def edge_opcua(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Type a command, while the plant goes on."""

    def work() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_opcua.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return await asyncio.get_running_loop().run_in_executor(None, work)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Plant]:
    async with Plant(tmp_path) as running:
        yield running


def windows(plant: Plant) -> list[Any]:
    try:
        return list(WindowLook(StateDir(plant.state_dir).windows).windows(Wanted(P)))
    except OSError:  # nothing is kept yet
        return []


def journalled(plant: Plant) -> list[int]:
    """The results of strokes in the journal."""
    records = look(StateDir(plant.state_dir).journal, kinds=("result",), last=10_000)
    return [
        record.body["result_id"]
        for record in records
        if record.body["pipeline"] == P and record.body["stroke"] is not None
    ]


async def test_what_was_judged_is_kept_answered_judged_again_and_exported(
    line: Plant, tmp_path: Path
) -> None:
    state = ("--state", str(line.state_dir))
    await line.until(lambda: len(windows(line)) >= SOME, "windows of some strokes", within_s=40)
    kept = windows(line)
    # They are of other strokes each, as they were on the bus.
    assert len({window.stroke for window in kept}) == len(kept)
    assert {window.samples.size for window in kept} == {2000}
    assert all(np.isfinite(window.samples).all() for window in kept)
    assert kept[0].source.context == ("press/tonnage", "press/die_temp", "press/strokes_per_min")

    # A person answers two of them, one of them twice, by the command.
    first, second = str(kept[-1].result_id), str(kept[-2].result_id)
    for result, answer in ((first, "real"), (second, "normal"), (first, "sensor_fault")):
        done = await edge_opcua("model", "answer", P, result, answer, "--note", "seen by hand", *state)
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{P} {first}: sensor_fault (was real)\n"
    done = await edge_opcua("model", "answer", P, "4711", "real", *state)
    assert (done.returncode, "(M662)" in done.stderr) == (2, True)
    done = await edge_opcua("records", "answer", "--json", *state)
    bodies = [json.loads(text)["body"] for text in done.stdout.splitlines()]
    assert [(body["answer"], body["former"]) for body in bodies] == [
        ("real", ""),
        ("normal", ""),
        ("sensor_fault", "real"),
    ]
    assert all(body["origin"] for body in bodies)

    # The model that runs judges again what it judged, and the features are those the lane had.
    done = await edge_opcua("model", "try", f"{P}/1", "--pipeline", P, "--last", "10min", "--json", *state)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["windows"] >= SOME
    after = found["after"]
    assert after["comparable"] == after["same_features"] >= SOME
    assert found["compared"]["agreed"] == found["compared"]["compared"] > 0

    done = await edge_opcua("model", "compare", f"{P}/1", f"{P}/2", "--pipeline", P, *state)
    assert done.returncode == 0, done.stderr
    assert "agreement" in done.stdout

    out = tmp_path / "windows.npz"
    done = await edge_opcua(
        "model", "export-windows", "--pipeline", P, "--answered", "--out", str(out), *state
    )
    assert done.returncode == 0, done.stderr
    exported = load_windows(out)
    assert sorted(exported.facts["answer"].tolist()) == ["normal", "sensor_fault"]

    # A records process that is killed loses no window that the bus still holds, and keeps none twice.
    status = await line.status()
    (pid,) = (row["pid"] for row in status["processes"] if row["role"] == "records")
    before = len(windows(line))
    os.kill(pid, signal.SIGKILL)
    mark = line.mark()
    await line.until(lambda: len(line.results(mark, Verdict.OK)) > 4, "strokes judged meanwhile")
    await line.until(lambda: len(windows(line)) > before + 4, "windows after the restart", within_s=40)
    numbers = [window.result_id for window in windows(line)]
    assert len(set(numbers)) == len(numbers)
    # Of every stroke in the journal there is a window; what came since is of no concern.
    assert {number for number in journalled(line) if number <= max(numbers)} == set(numbers)
    status = await line.status()
    assert status["windows"]["kept"] >= before
    assert status["windows"]["fault"] == ""
