"""``model inspect|add|validate|list|remove|history``: what somebody types, what it says and leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command.model import check as modeltry
from edge_opcua.app.command.model.facts import Uses, uses_of
from edge_opcua.app.command.model.remove import require_unused
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.testing import ManualClock
from tests.app.test_lanescommand import server
from tests.inference.hostile.models import endless, hostile_image
from tests.inference.models import (
    DELIVERED,
    copy_of_delivered,
    custom_operator_model,
    replaced,
    unwatched,
    with_model,
)

PRESS = str(examples_dir() / "press" / "press.toml")
SECOND = DELIVERED.parent / "2"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Type a command on a state directory of its own."""

    def typed(verb: str, *arguments: str) -> tuple[int, str, str]:
        code = main(["model", verb, *arguments, "--state", str(tmp_path / "state")])
        told = capsys.readouterr()
        return code, told.out, told.err

    return typed


def as_json(run: Run, verb: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(verb, *arguments, "--json")
    body: dict[str, Any] = json.loads(out)
    return code, body


def stored(tmp_path: Path, *folders: Path) -> StateDir:
    """Put versions into the repository as they are."""
    state = StateDir(tmp_path / "state")
    state.create()
    for folder in folders:
        target = state.models / folder.parent.name / folder.name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(folder, target)
    return state


def ledger_of(state: StateDir, *entries: Entry) -> None:
    """Write the steps of one change; a number of a change goes on with that."""
    ledger = Ledger(state.model_ledger, ManualClock())
    change = 0
    for entry in entries:
        change = ledger.append(replace(entry, change=entry.change or change)).change


def version(number: int) -> ModelChoice:
    return ModelChoice("press-anomaly", number, "")


def load_steps(number: int, former: int, *steps: Step, change: int = 0, why: str = "") -> list[Entry]:
    return [
        Entry(
            Kind.LOAD,
            step,
            version(number),
            {"press-anomaly": version(former)},
            {"press-anomaly": version(number)},
            user="anna",
            note="retrained",
            why=why if step is steps[-1] else "",
            change=change,
        )
        for step in steps
    ]


def test_inspect_says_what_a_model_is_and_how_fast_it_is_here(run: Run) -> None:
    code, card = as_json(run, "inspect", str(SECOND), "--provider", "cpu")
    assert (code, card["served"], card["precision"]) == (0, True, "float32")
    assert card["inputs"] == [{"name": "features", "kind": "float32", "shape": [1, 13]}]
    assert card["manifest"]["name"] == "press-anomaly"
    (found,) = card["runs"]
    assert found["provider"] == "CPUExecutionProvider"
    assert 0 < found["p50_us"] <= found["p99_us"]
    assert card["sha256"] == hashlib.sha256((SECOND / "model.onnx").read_bytes()).hexdigest()


def test_inspect_needs_no_manifest_and_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    shutil.copy(SECOND / "model.onnx", tmp_path / "bare.onnx")
    code, out, _ = run("inspect", str(tmp_path / "bare.onnx"), "--provider", "cpu")
    assert code == 0
    assert "features  float32[1,13]" in out
    assert "a manifest is missing: edge-opcua model map" in out


def test_inspect_never_loads_a_model_with_an_operator_of_a_foreign_library(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sneaky.onnx"
    path.write_bytes(custom_operator_model())
    code, card = as_json(run, "inspect", str(path))
    assert (code, card["served"], card["runs"]) == (1, False, [])
    assert card["fault"]["code"] == "M508"


def test_inspect_of_a_provider_that_is_not_here_says_so(run: Run) -> None:
    code, card = as_json(run, "inspect", str(SECOND), "--provider", "tensorrt_rtx")
    assert (code, card["runs"][0]["code"]) == (1, "M521")


@pytest.mark.parametrize("target", ["nowhere.onnx", "no-such-model/3", "no-such-model", "what is this?"])
def test_inspect_of_what_is_not_there_is_wrong_use(run: Run, target: str) -> None:
    code, _, err = run("inspect", target)
    assert code == 2
    assert err.startswith(("M507", "M501"))


def test_what_is_fit_is_stored_and_listed(run: Run) -> None:
    code, trial = as_json(run, "add", str(SECOND), "-c", PRESS)
    assert (code, trial["fit"], trial["stored"], trial["refused"]) == (0, True, True, None)
    (measured,) = trial["measured"]["pipelines"]
    assert (measured["pipeline"], measured["samples"], measured["deadline_ms"]) == ("press-anomaly", 7, 100.0)
    code, body = as_json(run, "list", "-c", PRESS)
    (row,) = body["models"]
    assert (row["name"], row["version"], row["state"], row["fault"]) == ("press-anomaly", 2, "available", "")
    assert row["sha256"] == trial["sha256"]
    # The same once more changes nothing, and says so.
    code, out, _ = run("add", str(SECOND), "--alone")
    assert code == 0
    assert "was there already" in out


def test_a_version_never_changes(run: Run, tmp_path: Path) -> None:
    stored(tmp_path, SECOND)
    other = shutil.copytree(SECOND, tmp_path / "other")
    (other / "golden.npz").write_bytes(b"others")  # the same model and manifest, other reference samples
    code, trial = as_json(run, "add", str(other), "--alone")
    assert (code, trial["stored"], trial["refused"]["code"]) == (3, False, "M614")
    assert "version = 3" in trial["refused"]["text"]


def test_files_may_be_named_one_by_one(run: Run, tmp_path: Path) -> None:
    package = unwatched(shutil.copytree(SECOND, tmp_path / "package"))
    for name, file in (
        ("net.onnx", "model.onnx"),
        ("said.toml", "manifest.toml"),
        ("proof.npz", "golden.npz"),
    ):
        shutil.copy(package / file, tmp_path / name)
    named = ("--manifest", str(tmp_path / "said.toml"), "--golden", str(tmp_path / "proof.npz"), "--alone")
    code, trial = as_json(run, "add", str(tmp_path / "net.onnx"), *named)
    assert (code, trial["stored"]) == (0, True)
    code, _, err = run("add", str(tmp_path / "net.onnx"), "--alone")
    assert code == 2
    assert "--manifest" in err


def for_ever(folder: Path) -> Path:
    return with_model(folder, hostile_image(endless, above=-1e9))


def test_what_does_not_fit_is_refused_with_the_mismatch_and_not_stored(run: Run, tmp_path: Path) -> None:
    folder = replaced(copy_of_delivered(tmp_path / "package"), 'unit = "kN"', 'unit = "lbf"')
    code, out, _ = run("add", str(folder), "-c", PRESS)
    assert code == 1
    refusal = "NO  inputs      press-anomaly: press/tonnage is in kN, the model was trained in lbf (M511)"
    assert refusal in out.splitlines()
    assert "nothing was added\nhelp: edge-opcua explain M511" in out
    assert as_json(run, "list")[1]["models"] == []


def test_a_model_that_computes_for_ever_is_ended_and_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modeltry, "SPARE_S", 1.5)
    folder = for_ever(copy_of_delivered(tmp_path / "package"))
    code, trial = as_json(run, "add", str(folder), "--alone", "--timeout", "1")
    assert (code, trial["stored"], trial["refused"]["code"]) == (1, False, "M611")


def test_validate_changes_nothing(run: Run, tmp_path: Path) -> None:
    package = unwatched(shutil.copytree(SECOND, tmp_path / "package"))
    code, out, _ = run("validate", str(package), "-c", PRESS)
    assert code == 0
    assert "press-anomaly/2 is fit; nothing was changed" in out
    assert "note        its manifest has no [age]" in out
    assert "note        its manifest has no [profile]" in out
    assert as_json(run, "list")[1]["models"] == []


def test_a_pipeline_that_does_not_exist_is_named(run: Run) -> None:
    code, trial = as_json(run, "validate", str(SECOND), "-c", PRESS, "--pipeline", "weld")
    assert (code, trial["refused"]["code"]) == (1, "M615")
    assert "it has press-anomaly" in trial["refused"]["text"]


def test_list_says_what_becomes_of_each_version(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, DELIVERED, SECOND)
    ledger_of(state, *load_steps(2, 1, Step.BEGUN, Step.ACTIVE))
    _, body = as_json(run, "list", "-c", PRESS)
    assert [(row["version"], row["state"]) for row in body["models"]] == [(1, "former"), (2, "on trial")]
    assert body["models"][1]["pipelines"] == ["press-anomaly"]
    ledger_of(state, Entry(Kind.VERDICT, Step.QUARANTINED, version(1), why="it crashed"))
    code, out, _ = run("list", "-c", PRESS)
    assert code == 0
    assert "in quarantine: it crashed; edge-opcua model release press-anomaly/1" in out


def test_of_one_version_the_list_says_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, SECOND)
    with (state.models / "press-anomaly" / "2" / "manifest.toml").open("a") as stream:
        stream.write('[provenance]\nby = "anna"\n[signature]\nvalue = "x"\n')
    code, out, _ = run("list", "press-anomaly/2")
    assert code == 0
    assert "provenance   by = anna" in out
    assert "signature    not verified" in out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_adds_belongs_to_the_server(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path)
    os.chown(state.root, 12345, 12345)
    assert run("add", str(SECOND), "--alone")[0] == 0
    owners = {path.stat().st_uid for path in (state.models / "press-anomaly").rglob("*")}
    assert owners == {12345}


def test_a_version_whose_file_was_changed_is_listed_with_the_reason(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, SECOND)
    with (state.models / "press-anomaly" / "2" / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    code, body = as_json(run, "list")
    assert (code, body["models"][0]["state"]) == (1, "not usable")
    assert body["models"][0]["fault"]


def test_nobody_removes_what_judges_or_what_is_gone_back_to(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, DELIVERED, SECOND)
    ledger_of(state, *load_steps(2, 1, Step.BEGUN, Step.ACTIVE))
    for number, says in ((2, "is on trial in press-anomaly"), (1, "would go back to")):
        code, _, err = run("remove", f"press-anomaly/{number}")
        assert code == 3
        assert says in err
    code, _, err = run("remove", "press-anomaly/9")
    assert (code, "M501" in err) == (2, True)


def test_nothing_is_removed_while_nobody_knows_what_judges(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, SECOND)
    state.model_ledger.write_text("{\n")
    code, _, err = run("remove", "press-anomaly/2")
    assert (code, "cannot be read" in err) == (3, True)


def test_a_version_that_nobody_needs_goes_with_its_files(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, DELIVERED, SECOND)
    ledger_of(state, *load_steps(2, 1, Step.BEGUN, Step.FAILED, why="M512: it answers something else"))
    code, out, _ = run("remove", "press-anomaly/2", "-c", PRESS)
    assert code == 0
    assert "a start brings it back" in out  # it is delivered beside the example's configuration
    assert [path.name for path in (state.models / "press-anomaly").iterdir()] == ["1"]


def test_a_configured_version_is_not_removed_and_one_in_use_says_where() -> None:
    uses = Uses(
        named={("m", 1): ["cheaper_version of weld"]}, standby={("m", 2): ["weld"]}, busy={("m", 3): "x"}
    )
    for number, says in (
        (1, "in the configuration"),
        (2, "still loaded for weld"),
        (3, "cannot be removed now"),
    ):
        with pytest.raises(ModelError, match=says):
            require_unused(("m", number), uses)
    require_unused(("m", 4), uses)
    with pytest.raises(ModelError, match="does not answer"):
        require_unused(("m", 4), Uses(is_running=True, is_silent=True))


def test_without_a_ledger_the_configuration_says_what_is_active(tmp_path: Path) -> None:
    uses = uses_of(stored(tmp_path, DELIVERED), Path(PRESS))
    assert uses.active == {("press-anomaly", 1): ["press-anomaly"]}
    assert not uses.is_running


def test_a_server_that_runs_knows_what_is_loaded(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, DELIVERED, SECOND)
    row: dict[str, Any] = {
        "pipeline": "weld",
        "model": {"name": "press-anomaly", "version": 2, "sha256": ""},
        "standby": {"name": "press-anomaly", "version": 1, "sha256": ""},
        "shadow": None,
    }
    with server(state.root, [row]):
        _, body = as_json(run, "list")
        assert body["running"]
        assert [(each["state"], each["pipelines"]) for each in body["models"]] == [
            ("standby", []),
            ("active", ["weld"]),
        ]
        code, _, err = run("remove", "press-anomaly/1")
        assert (code, "is still loaded for weld" in err) == (3, True)
    with server(state.root, [{**row, "standby": None, "facts": {"cheaper_version": 1}}]):
        assert [each["state"] for each in as_json(run, "list")[1]["models"]] == ["spare", "active"]
        assert as_json(run, "list")[1]["models"][0]["spare_of"] == ["weld"]
        code, _, err = run("remove", "press-anomaly/1")
        assert (code, "answers for weld what another version would be too slow for" in err) == (3, True)
    with server(state.root, [{**row, "standby": None, "shadow": {**row["standby"], "compared": 3}}]):
        assert [each["state"] for each in as_json(run, "list")[1]["models"]] == ["shadow", "active"]


def test_a_model_is_held_against_the_configuration_of_the_server_that_runs(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, SECOND)
    with server(state.root, [], config=PRESS):
        code, trial = as_json(run, "validate", "press-anomaly/2")
    assert (code, trial["measured"]["pipelines"][0]["pipeline"]) == (0, "press-anomaly")


def test_history_tells_who_changed_what_and_what_came_of_it(run: Run, tmp_path: Path) -> None:
    state = stored(tmp_path, DELIVERED, SECOND)
    ledger_of(state, *load_steps(2, 1, Step.BEGUN))
    ledger_of(state, *load_steps(2, 1, Step.ACTIVE, Step.CONFIRMED, change=1, why="it has kept for 600 s"))
    ledger_of(state, *load_steps(3, 2, Step.BEGUN))
    ledger_of(state, *load_steps(3, 2, Step.FAILED, change=4, why="M504: missing: oil_temp"))
    code, out, _ = run("history")
    first, second = out.splitlines()
    assert code == 0
    assert 'load press-anomaly 1 → 2 in press-anomaly by anna "retrained"  active' in first
    assert second.endswith("failed, nothing changed: M504: missing: oil_temp")
    assert len(run("history", "--steps")[1].splitlines()) == 2 + 5
    _, body = as_json(run, "history", "press-anomaly/3", "--last", "1")
    assert [[entry["step"] for entry in change] for change in body["changes"]] == [["begun", "failed"]]
    assert as_json(run, "history", "--pipeline", "weld")[1]["changes"] == []
    assert run("history", "tank-leak/7")[1] == "no change of tank-leak/7 is known\n"
    assert run("history", "--pipeline", "weld")[1] == "no change of a model in pipeline weld is known\n"


def test_the_state_directory_of_nobody_has_no_models_and_no_history(run: Run) -> None:
    code, out, _ = run("list")
    assert code == 1
    assert "edge-opcua model add DIR" in out
    assert run("history")[1] == "no model was changed yet\n"
