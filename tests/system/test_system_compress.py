"""From a model to a smaller one that judges: compressed, proved, stored, loaded over OPC UA, or a spare."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from asyncua import ua
from onnx import helper, numpy_helper

from edge_opcua.app.serving.extractors import complete
from edge_opcua.assets import examples_dir
from edge_opcua.compress.options import Options
from edge_opcua.compress.search.progress import Advance
from edge_opcua.compress.search.run import search
from edge_opcua.compress.version.answering import judge_for, reference_of
from edge_opcua.compress.version.package import add_to_repository
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.measure import measure, quantiles_us
from edge_opcua.inference.model import ServedModel
from edge_opcua.inference.repository import ModelFiles, ModelRepository, verify
from edge_opcua.sim.physics import PressPhysics
from edge_opcua.testing import ManualClock
from tests.compress.packages import Work
from tests.inference.models import replaced, with_model
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

COMPRESS = examples_dir() / "compress"
MODEL = "press-autoencoder"
HEAVY = "press-heavy"
STROKES = 500
BALLAST = 6
"""Products of two square matrices of 512 rows: some 30 ms of one processor."""
STUDY = f"""
[[pipelines]]
name = "study"
model = "{HEAVY}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = %d
cheaper_version = "auto"
"""
"""A second pipeline, whose model takes longer than there is time."""


def recorded(path: Path) -> Path:
    """Write strokes of two presses, every other with a worn die, as a server exports what people answered."""
    samples, context, answers = [], [], []
    for number in range(STROKES):
        physics = PressPhysics(20 + number % 2)
        worn = number % 4 >= 2
        stroke = physics.stroke(3 * number, wear=0.4 if worn else 0.02)
        samples.append(stroke.waveform)
        context.append((stroke.tonnage, stroke.die_temp, stroke.strokes_per_min))
        answers.append("real" if worn else "normal")
    about = {
        "unit": "m/s²",
        "sample_rate_hz": 10_000.0,
        "context": ["press/tonnage", "press/die_temp", "press/strokes_per_min"],
        "context_units": ["kN", "°C", "1/min"],
    }
    np.savez(
        path, samples=np.array(samples), context=context, answer=np.array(answers), about=json.dumps(about)
    )
    return path


class OneOnly(ManualClock):
    """The clock of a search whose time is over once the first variant was timed."""

    def watch(self, advance: Advance) -> None:
        if advance.text.endswith("/timing"):
            self.step(3600.0)


def compressed(home: Path, state: Path) -> list[int]:
    """Search for a smaller model of the press, and store what is chosen; return its versions."""
    clock = OneOnly(utc_ns=SystemClock().utc_ns())
    options = Options(only=frozenset({"int8-static"}), max_loss=3.0, work=home / "work", budget_s=60.0)
    found = search(
        f"{MODEL}/1",
        recorded(home / "strokes.npz"),
        options,
        state_dir=state,
        progress=clock.watch,
        clock=clock,
    )
    assert found.report.chosen is not None, found.report.reasons
    addition = add_to_repository(found.report, found.subject.files, found.work, found.gate.rows, state)
    return [each.version for each in addition.added]


def with_ballast(image: bytes) -> bytes:
    """Return the same model with much to compute that comes to nothing."""
    model = onnx.load_from_string(image)
    graph = model.graph
    fed, answer = graph.input[0].name, graph.output[0].name
    last = next(node for node in graph.node if answer in node.output)
    last.output[list(last.output).index(answer)] = "answer_itself"
    ballast = [
        helper.make_node("Transpose", [fed], ["column"], perm=[1, 0]),
        helper.make_node("MatMul", ["column", fed], ["square"]),
        helper.make_node("Tile", ["square", "repeats"], ["ballast_0"]),
    ]
    for number in range(BALLAST):
        ballast.append(helper.make_node("MatMul", [f"ballast_{number}"] * 2, [f"product_{number}"]))
        ballast.append(helper.make_node("Tanh", [f"product_{number}"], [f"ballast_{number + 1}"]))
    ballast += [
        helper.make_node("ReduceMean", [f"ballast_{BALLAST}"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["none"]),
        helper.make_node("Add", ["answer_itself", "none"], [answer]),
    ]
    graph.node.extend(ballast)
    graph.initializer.append(numpy_helper.from_array(np.array([4, 4], np.int64), "repeats"))
    graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "nothing"))
    for port in (*graph.input, *graph.output):
        port.type.tensor_type.shape.dim[0].ClearField("dim_param")
        port.type.tensor_type.shape.dim[0].dim_value = 1
    made: bytes = model.SerializeToString()
    return made


def heavy(home: Path, light: ModelFiles) -> ModelFiles:
    """Return a package of a model that takes long, to whose answers nothing is added."""
    folder = home / HEAVY / "1"
    shutil.copytree(light.folder, folder)
    replaced(folder, f'name = "{MODEL}"', f'name = "{HEAVY}"')
    return complete(verify(with_model(folder, with_ballast(light.model.read_bytes()))))


def takes_ms(files: ModelFiles) -> float:
    """Return what a run of a model takes here, median."""
    manifest = files.manifest
    backend = OnnxRuntimeBackend.load(
        files.model, provider="cpu", input_shapes={manifest.input_name: manifest.input_shape}
    )
    model = ServedModel(manifest, backend, judge=judge_for)
    return quantiles_us(measure(model, SystemClock())[1])[0] / 1e3


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    home = tmp_path_factory.mktemp("compressed")
    shutil.copytree(examples_dir() / "press", home / "press")
    state = home / "state"
    repository = ModelRepository(StateDir(state).models)
    light = repository.install(COMPRESS / "models" / MODEL / "1")
    assert 2 in compressed(home, state)

    slow = heavy(home, complete(light))
    repository.install(slow.folder)
    work = Work(home / "heavy-work", slow)
    spare = work.variant("without-ballast", light.model.read_bytes(), ratio=0.1)
    rows = reference_of(slow)["features"]
    add_to_repository(work.report(spare, chosen=spare.name), slow, work.folder, rows, state)

    file, study = home / "press" / "press.toml", STUDY % max(2, round(takes_ms(slow) / 2))
    text = file.read_text().replace('model = "press-anomaly"', f'model = "{MODEL}"\ncheaper_version = "auto"')
    file.write_text(text.replace("[[outputs]]", f"{study}\n[[outputs]]", 1))
    async with Plant(home, config=file) as running:
        yield running


async def _row(plant: Plant, pipeline: str) -> dict[str, Any]:
    (row,) = [row for row in (await plant.status())["pipelines"] if row["pipeline"] == pipeline]
    return dict(row)


def _judged(plant: Plant, since: int, pipeline: str, version: int) -> list[dict[str, Any]]:
    rows = [row for row in plant.results(since, Verdict.OK) if row["SourceName"] == pipeline]
    return [row for row in rows if row["ModelVersion"] == version]


async def test_a_pipeline_that_is_too_slow_is_answered_for_by_the_version_that_was_made_of_its_model(
    plant: Plant,
) -> None:
    await plant.until(lambda: _judged(plant, 0, "study", 2), "a stroke judged by the spare")
    row = await _row(plant, "study")
    assert row["model"]["version"] == 1
    assert row["facts"]["cheaper_version"] == 2
    assert row["lane"]["degraded"] is True
    assert _judged(plant, 0, "study", 1) == []


async def test_a_model_is_compressed_stored_and_loaded_and_the_line_runs_on_it(plant: Plant) -> None:
    await plant.until(lambda: _judged(plant, 0, "press-anomaly", 1), "a stroke judged by the original")
    assert (await _row(plant, "press-anomaly"))["facts"]["cheaper_version"] == 2
    repository = ModelRepository(StateDir(plant.state_dir).models)
    smaller = repository.resolve(MODEL, 2)
    assert smaller.model.stat().st_size < 0.4 * repository.resolve(MODEL, 1).model.stat().st_size
    since = plant.mark()
    await plant.client.call(
        "Models",
        plant.client.find("Models/LoadModel"),
        ua.Variant(MODEL, ua.VariantType.String),
        ua.Variant(2, ua.VariantType.UInt32),
        ua.Variant(smaller.manifest.sha256, ua.VariantType.String),
    )
    await plant.until(lambda: _judged(plant, since, "press-anomaly", 2), "a stroke judged by the variant")
    row = await _row(plant, "press-anomaly")
    assert row["model"]["version"] == 2
    assert row["facts"]["cheaper_version"] == 0, "nothing of its family is faster"
    strokes = [
        int(each["Stroke"])
        for each in plant.results(since)
        if each["SourceName"] == "press-anomaly" and each["Stroke"] is not None
    ]
    assert strokes == list(range(strokes[0], strokes[0] + len(strokes)))
