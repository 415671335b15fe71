"""What ``check`` says of lanes before and after their models were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.app.command.run import check
from edge_opcua.app.models import promise
from edge_opcua.app.serving.costs import place_of
from edge_opcua.assets import examples_dir
from edge_opcua.config.lanes import InferenceConfig, LaneGroupConfig
from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.problem import Severity
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir

PRESS = examples_dir() / "press" / "press.toml"
MS = 1_000_000


@pytest.fixture(scope="module")
def press() -> Loaded:
    return load(PRESS, env={})


@pytest.fixture(scope="module")
def config(press: Loaded) -> EdgeConfig:
    """Return the press with a safety lane and a group of two beside it."""
    assert press.config is not None
    own = press.config.pipelines[0]
    pipelines = (
        own.model_copy(update={"lane": "safety", "deadline_ms": 5, "period_ms": 100}),
        own.model_copy(update={"name": "trend", "group": "office", "deadline_ms": 40}),
        own.model_copy(
            update={"name": "study", "group": "office", "lane": "best_effort", "deadline_ms": 1000}
        ),
    )
    groups = (LaneGroupConfig(name="office", workers=2),)
    return press.config.model_copy(
        update={"pipelines": pipelines, "inference": InferenceConfig(groups=groups)}
    )


def kept(folder: Path, config: EdgeConfig, cost_ns: int) -> None:
    """Write down what a run of the example's model costs, as a server does."""
    state = StateDir(folder)
    state.create()
    row = {"costs": {"1": [cost_ns // 2, cost_ns]}}
    models = {"press-anomaly/1": {place_of(config.pipelines[0]): row}}
    state.model_costs.write_text(json.dumps({"schema": "edge-opcua.costs/1", "models": models}))


def test_what_nobody_has_measured_is_said_to_be_so_and_warns_of_nothing(
    press: Loaded, config: EdgeConfig, tmp_path: Path
) -> None:
    found = promise.examine(config, tmp_path, cores=2)
    assert promise.rows(found) == [
        ["press-anomaly", "press-anomaly", "safety", "within 5 ms, every 100 ms", promise.NOT_MEASURED],
        ["office, 2 workers", "trend", "realtime", "within 40 ms, every 40 ms", promise.NOT_MEASURED],
        ["", "study", "best_effort", "within 1000 ms, every 1000 ms", promise.NOT_MEASURED],
    ]
    assert promise.problems(found, press) == []
    assert [row["ok"] for row in promise.as_json(found)["pipelines"]] == [None, None, None]


def test_with_what_a_server_has_measured_deadlines_are_kept_or_not(
    press: Loaded, config: EdgeConfig, tmp_path: Path
) -> None:
    kept(tmp_path, config, MS)
    found = promise.examine(config, tmp_path, cores=4)
    assert [row.cost_ns for row in found.rows] == [MS, MS, MS]
    assert found.broken == ()
    lines = promise.rows(found)
    assert all(line[-1] == "kept" for line in lines[:3])
    assert lines[0][4] == "takes 1 ms"
    assert lines[-1] == ["all of them ask for 0.9% of 4 processors"]

    kept(tmp_path, config, 6 * MS)  # a run alone takes longer than the safety lane has
    found = promise.examine(config, tmp_path, cores=4)
    assert [row.pipeline.name for row in found.broken] == ["press-anomaly"]
    assert promise.rows(found)[0][-1].startswith("CANNOT BE PROMISED (M590): a run alone takes 6.0 ms")
    (problem,) = promise.problems(found, press)
    assert (problem.code, problem.severity) == ("M590", Severity.WARNING)
    assert problem.where == "pipelines[press-anomaly].deadline_ms"
    assert problem.place.line == press.document.places.value(("pipelines", 0, "deadline_ms")).line > 0
    (row, *_) = promise.as_json(found)["pipelines"]
    assert (row["ok"], row["cost_ms"], row["deadline_ms"]) == (False, 6.0, 5)


def test_best_effort_is_promised_nothing_so_nobody_is_warned(
    press: Loaded, config: EdgeConfig, tmp_path: Path
) -> None:
    kept(tmp_path, config, MS)
    often = config.pipelines[2].model_copy(update={"period_ms": 1, "deadline_ms": 1})
    found = promise.examine(
        config.model_copy(update={"pipelines": (config.pipelines[0], often)}), tmp_path, cores=1
    )
    (finding,) = [row.finding for row in found.rows if row.pipeline.name == "study"]
    assert finding is not None
    assert not finding.ok
    assert (found.broken, promise.problems(found, press)) == ((), [])
    assert promise.rows(found)[1][-1].startswith("not always: ")


def test_the_version_that_a_start_would_run_is_the_one_that_counts(
    config: EdgeConfig, tmp_path: Path
) -> None:
    kept(tmp_path, config, MS)
    chosen = {"name": "press-anomaly", "version": 2, "sha256": "a" * 64}
    StateDir(tmp_path).active_models.write_text(json.dumps({"press-anomaly": chosen}))
    found = promise.examine(config, tmp_path, cores=2)
    assert [(row.pipeline.version, row.cost_ns) for row in found.rows] == [(2, None), (1, MS), (1, MS)]


def test_of_many_pipelines_the_broken_ones_are_shown_first(config: EdgeConfig) -> None:
    own = config.pipelines[1]
    many = tuple(
        own.model_copy(update={"name": f"p{number}", "group": None, "deadline_ms": 1000})
        for number in range(promise.MOST_ROWS + 9)
    )
    known: dict[str, int | None] = {each.name: MS for each in many}
    known["p37"] = 2000 * MS
    found = promise.promises(config.model_copy(update={"pipelines": many}), known, 8)
    lines = promise.rows(found)
    assert lines[0][1] == "p37"
    assert lines[promise.MOST_ROWS] == ["and 9 more, none of which is worse"]


def test_check_shows_lanes_as_text_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(PRESS, as_json=False, state_dir=tmp_path) == 0
    assert "\ninference press-anomaly   press-anomaly   realtime" in capsys.readouterr().out
    assert check(PRESS, as_json=True, state_dir=tmp_path) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["inference"]["pipelines"][0]["model"] == "press-anomaly/1"
    assert body["inference"]["groups"] == [{"group": "press-anomaly", "workers": 1, "utilisation": None}]


def test_a_deadline_that_cannot_be_promised_lets_the_server_start(
    config: EdgeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, config, 200 * MS)
    assert check(PRESS, as_json=False, state_dir=tmp_path) == 0
    out = capsys.readouterr().out
    assert "warn[M590] pipelines[press-anomaly].deadline_ms: 100 ms cannot be promised" in out
    assert "0 errors, 1 warning." in out
