"""What watches a lane's models is put together from their files; what cannot be read is done without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edge_opcua.app.models.tryout import Trial, try_model
from edge_opcua.app.serving.watching import model_watch
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.process import Child
from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import load_manifest
from edge_opcua.inference.memory import lift
from edge_opcua.inference.repository import verify
from edge_opcua.inference.watch.profile import make_profile
from tests.inference.line import Line, OneLane, plain
from tests.inference.models import copy_of_delivered, unwatched

PRESS = examples_dir() / "press" / "press.toml"


class Process:
    """A lane process as far as what watches its models sees it."""

    def __init__(self, state: Path, line: Line) -> None:
        self.state_dir, self.bus, self.clock, self.control = state, line.bus, line.clock, self
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        assert to == "supervisor"
        self.heard.append((kind, dict(body)))


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(capture_depth=64)
    yield made
    made.close()
    lift()


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    found = load(PRESS).config
    assert found is not None
    return found


def with_profile(folder: Path, names: tuple[str, ...] | None = None) -> Path:
    """Put a profile beside a model and name it in its manifest."""
    manifest = load_manifest(folder / "manifest.toml")
    random = np.random.default_rng(1)
    k = len(manifest.names)
    profile = make_profile(
        random.normal(size=(200, k)),
        names=names or manifest.names,
        units=[feature.unit for feature in manifest.features],
        scores=random.normal(size=200),
    )
    digest = profile.save(folder / "profile.npz")
    path = folder / "manifest.toml"
    path.write_text(f'{path.read_text()}\n[profile]\nfile = "profile.npz"\nsha256 = "{digest}"\n')
    return folder


def watched(state: Path, line: Line, config: EdgeConfig) -> tuple[Process, OneLane, dict[str, Any]]:
    """Serve the model of a state directory for some strokes; return what is shown of it."""
    lane = line.lane(verify(state / "models" / "press-anomaly" / "1"))
    ready = lane.prepare()
    process = Process(state, line)
    watch = asyncio.run(
        model_watch(cast("Child", process), config, {"press-anomaly": ready}, lane.group.lanes, lane.engine)
    )
    lane.activate(None)
    for number in range(1, 4):
        line.stroke(number)
        lane.step()
        watch.tick()
        line.clock.step(2.0)  # type: ignore[attr-defined]
    batch = line.bus.reader("press-anomaly.watch").latest()
    assert batch is not None
    return process, lane, plain(batch)


def test_a_model_is_watched_with_the_profile_of_its_package(
    tmp_path: Path, line: Line, config: EdgeConfig
) -> None:
    with_profile(unwatched(copy_of_delivered(tmp_path / "models" / "press-anomaly" / "1")))
    _, _, shown = watched(tmp_path, line, config)
    assert (shown["model_name"], shown["model_version"]) == ("press-anomaly", 1)
    assert "drift is not watched" not in str(shown["note"])
    assert shown["page_hinkley"] is not None


def test_a_model_whose_profile_is_of_another_one_is_served_and_it_is_said(
    tmp_path: Path, line: Line, config: EdgeConfig
) -> None:
    names = tuple(f"other_{number}" for number in range(13))
    with_profile(unwatched(copy_of_delivered(tmp_path / "models" / "press-anomaly" / "1")), names)
    process, _, shown = watched(tmp_path, line, config)
    assert str(shown["note"]).startswith("M659: profile.npz has other features than the model")
    assert shown["page_hinkley"] is None
    assert [result["stroke"] for result in line.judged()] == [1, 2, 3]
    assert process.heard == []


def test_a_package_with_the_profile_of_another_model_is_refused_beforehand(tmp_path: Path) -> None:
    names = tuple(f"other_{number}" for number in range(13))
    folder = with_profile(unwatched(copy_of_delivered(tmp_path / "1")), names)
    with pytest.raises(ModelError, match="other features than the model") as refused:
        try_model(Trial(folder, config=PRESS, pipelines=("press-anomaly",)).as_json())
    assert refused.value.code == "M659"
    lift()
