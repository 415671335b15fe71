"""A model of scikit-learn and one of PyTorch: the commands of the tutorial, from strokes to Active."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edge_opcua import training
from edge_opcua.core.values import Verdict
from tests.system.desk import PEERS, type_in
from tests.system.plant import Plant

pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial" / "your-model.md"
PRESS = training.Capture(
    2_000,
    10_000,
    "m/s²",
    [training.Tag("tonnage", "kN", low=400), training.Tag("strokes_per_min", "1/min")],
)
COMMAND_S = 60.0
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(version: int) -> list[str]:
    """Return the commands of the tutorial that lead to a version, in their order."""
    lines = [line for block in _BLOCK.findall(PAGE.read_text()) for line in block.splitlines()]
    typed = [line.partition("   #")[0] for line in lines if line.startswith(("python ", "edge-opcua "))]
    others = {3: ("with_torch", "press-anomaly/4"), 4: ("with_sklearn", "press-anomaly/3")}[version]
    return [line for line in typed if not any(other in line for other in others)]


async def typed_in(plant: Plant, desk: Path, peer: str, command: str) -> None:
    """Type a command as somebody who works with the plant."""
    environment = plant.environment
    await type_in(
        desk, command, peer=peer, state=plant.state_dir, within_s=COMMAND_S, environment=environment
    )


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_loop() -> None:
    """Watch nothing here: the server runs in processes of its own, this loop is only its client's."""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Where the commands are typed: beside the examples."""
    found = tmp_path / "desk"
    found.mkdir()
    (found / "examples").symlink_to(ROOT / "examples")
    return found


@pytest.fixture(params=[("notebook-sklearn", 3), ("notebook-torch", 4)], ids=["scikit-learn", "torch"])
def notebook(request: pytest.FixtureRequest) -> tuple[str, int, list[str]]:
    """Environment of a notebook, the version it writes, and what is typed."""
    peer, version = request.param
    if not (PEERS / peer / "bin" / "edge-opcua").exists():
        pytest.skip(f"no {peer}: tests/peers/install-notebooks {peer.removeprefix('notebook-')}")
    return peer, version, commands(version)


async def test_from_the_notebook_to_active_in_the_commands_of_the_tutorial(
    notebook: tuple[str, int, list[str]], desk: Path, tmp_path: Path
) -> None:
    peer, version, typed = notebook
    back = typed.pop()
    assert back.startswith("edge-opcua model rollback")
    assert any(line.startswith("edge-opcua model activate") for line in typed)

    async with Plant(tmp_path) as plant:
        await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
        mark = plant.mark()
        for command in typed:
            await typed_in(plant, desk, peer, command)

        def judged(since: int, number: int, verdict: Verdict) -> bool:
            return any(row["ModelVersion"] == number for row in plant.results(since, verdict))

        await plant.until(
            lambda: judged(mark, version, Verdict.OK), "a healthy stroke judged by the new model"
        )
        await plant.cell.wear(0.9)
        await plant.until(lambda: judged(mark, version, Verdict.NOT_OK), "a worn stroke it found")

        mark = plant.mark()
        await typed_in(plant, desk, peer, back)
        await plant.until(lambda: judged(mark, 1, Verdict.NOT_OK), "the former model again")

        # What the next version learns from.
        await typed_in(
            plant, desk, peer, "edge-opcua model export-windows --pipeline press-anomaly --out mine.npz"
        )
        windows = training.load_windows(desk / "mine.npz", PRESS)
        assert {1, version} == {int(key.partition("/")[2]) for key in windows.facts["model"].tolist()}
        assert np.isfinite(windows.samples).all()
        assert (windows.context[:, 0] > PRESS.context[0].low).all()
