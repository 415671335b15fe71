"""Windows of a pipeline on plain tags: from the bus into the store, and through the same model again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_opcua.app.windows.judged import agreement, recorded, replayed
from edge_opcua.app.windows.kept import judged
from edge_opcua.app.windows.spec import fitted
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.core.values import BAD_SENSOR_FAILURE, Verdict
from edge_opcua.errors import ModelError
from edge_opcua.records.joining import Joining
from edge_opcua.records.windowfile import WindowFile
from edge_opcua.records.windowlook import Wanted, WindowLook
from tests.inference.taglines import TagLine, package, pipeline

NORMAL = {"speed": 18.0, "oil_temp": 45.0, "level": 300.0}
STEPS = ({"step": "statistics", "measures": ["mean"]},)
POST = ({"step": "k_of_n", "k": 2, "n": 3},)


@pytest.fixture
def line() -> TagLine:
    return TagLine(pipeline(window=3))


def test_what_tags_were_judged_comes_back_from_the_store_and_is_judged_the_same(
    line: TagLine, tmp_path: Path
) -> None:
    weights = {"score": [[0.0, 0.02, 0.0, 0.0]]}  # the mean oil temperature: 50 °C is 1.0
    files = package(tmp_path / "model", weights, window=3, steps=STEPS, output={"kind": "score"}, post=POST)
    lane = line.judging(files)
    (what,) = judged(line.config)
    assert what.source.columns == ("speed", "oil_temp", "level")
    assert what.source.column_tags == ("press/speed", "press/oil_temp", "press/level")
    joining = Joining(line.bus, what)
    results = line.bus.reader(line.pipeline.result_block, from_newest=False)
    store = WindowFile(tmp_path / "windows.sqlite", 10_000_000)
    for number in range(40):
        statuses = {"level": BAD_SENSOR_FAILURE} if number == 20 else None
        hot = 60.0 if 8 <= number < 14 else 40.0
        line.sample(lane, {**NORMAL, "oil_temp": hot + 0.1 * number}, statuses=statuses)
        store.write([found for batch in results.poll() if (found := joining.window(batch)) is not None])
    store.close()
    line.close()

    look = WindowLook(tmp_path / "windows.sqlite")
    windows = list(look.windows(Wanted("oil")))
    assert len(windows) > 30
    verdicts = {window.verdict for window in windows}
    assert {Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE} <= verdicts
    past = recorded(look, Wanted("oil", with_samples=False))
    assert past is not None
    again = replayed(past, files.folder, tmp_path / "windows.sqlite", silent_s=30)
    told = agreement(past.then, again.now, again.seen)
    # Two of three decide, and the steps remember: so the order of the windows is that of the line.
    assert told.compared > 30
    assert told.agreed == told.compared
    assert again.same == again.comparable > 30


def test_a_model_that_was_trained_on_other_windows_of_tags_is_refused(line: TagLine, tmp_path: Path) -> None:
    (what,) = judged(line.config)
    weights = {"score": [[0.0, 0.02, 0.0, 0.0]]}
    longer = package(tmp_path / "longer", weights, window=5, steps=STEPS, output={"kind": "score"})
    with pytest.raises(ModelError, match="5 samples of each tag; the pipeline keeps 3"):
        fitted(what.source, 9, longer.manifest)
    fewer = package(
        tmp_path / "fewer",
        {"score": [[0.02, 0.0]]},
        tags=("oil_temp",),
        window=3,
        steps=STEPS,
        output={"kind": "score"},
    )
    with pytest.raises(ModelError, match="not wanted speed, level"):
        fitted(what.source, 9, fewer.manifest)
    line.close()


def test_the_pipelines_of_the_example_are_followed_with_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESS_URL", "s7://127.0.0.1:1102")
    monkeypatch.setenv("VIB_URL", "modbus://127.0.0.1:1502")
    config = load(examples_dir() / "press" / "press.toml").config
    assert config is not None
    (what,) = judged(config)
    assert (what.capture_block, what.result_block) == ("vib.stroke", "press-anomaly.result")
    assert what.source.context == ("press/tonnage", "press/die_temp", "press/strokes_per_min")
    assert what.source.context_units == ("kN", "°C", "1/min")
    assert (what.source.unit, what.source.sample_rate_hz) == ("m/s²", 10_000.0)
    assert [place.block for place in what.context] == ["press.fast"] * 3
    assert np.all([place.tag for place in what.context] == ["tonnage", "die_temp", "strokes_per_min"])
