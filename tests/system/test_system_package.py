"""A package of a notebook in the running whole: its steps are computed on the line and its version judges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua import training
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.sim.physics import PressPhysics
from tests.system.plant import Plant
from tests.system.test_system_models import MODEL, _ended, _load, _sha256
from tests.training.graphs import classifier, probabilities

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

VERSION = 70
WEIGHTS = np.zeros((6, 2), np.float32)  # both classes are as likely: the first one it is
PRESS = training.Capture(
    2_000,
    10_000,
    "m/s²",
    [training.Tag("strokes_per_min", "1/min"), training.Tag("tonnage", "kN"), training.Tag("die_temp", "°C")],
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose manifest leaves it to its steps to say which features there are."""
    physics = PressPhysics(7)
    strokes = [physics.stroke(number, wear=0.0) for number in range(40)]
    context = [(stroke.strokes_per_min, stroke.tonnage, stroke.die_temp) for stroke in strokes]
    windows = training.Windows([stroke.waveform for stroke in strokes], context)
    steps: list[dict[str, Any]] = [
        {"step": "statistics", "measures": ["rms", "kurtosis"]},
        {"step": "fft_bands", "bands_hz": [[200, 400]]},
        {"step": "context"},
        {"step": "normalise"},
    ]
    made = training.export(
        tmp_path_factory.mktemp("packages"),
        training.fit(PRESS, steps, windows),
        classifier(WEIGHTS),
        training.ModelCard(MODEL, VERSION, output={"kind": "classes", "labels": ["ok", "worn"]}),
        golden=windows[:4],
        answers=lambda features: {"probabilities": probabilities(features, WEIGHTS)},
        healthy=windows,
    )
    manifest = made.folder / "manifest.toml"
    text = re.sub(r"\[\[features\]\]\n(.+\n)+\n?", "", manifest.read_text("utf-8"))
    assert "[[features]]" not in text
    manifest.write_text(text, "utf-8")
    return made.folder


async def test_a_package_judges_the_line_and_gives_way_again(plant: Plant, package: Path) -> None:
    ModelRepository(StateDir(plant.state_dir).models).install(package)
    await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
    for version in (VERSION, 1):
        mark = plant.mark()
        ended = await _ended(plant, mark, await _load(plant, version, _sha256(plant, version)))
        assert ended["State"] == "Active", ended

        def judged(since: int = mark, number: int = version) -> list[float]:
            rows = plant.results(since, Verdict.OK)
            return [float(row["Score"]) for row in rows if row["ModelVersion"] == number]

        scores = await plant.until(judged, f"a stroke judged by version {version}")
        assert (scores[0] == 0.5) == (version == VERSION)
