"""``model activate``, ``rollback`` and ``release``: followed to their end; without a server, done later."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.models.active import install_delivered
from edge_opcua.app.models.recovery import open_book
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import Hub, Reply, Request
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, GOOD
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger, read_history
from edge_opcua.testing import ManualClock
from tests.app.plants import on_a_thread

PRESS = examples_dir() / "press"
MODEL = "press-anomaly"
JOB: dict[str, Any] = {
    "job": "job-3",
    "kind": "load",
    "name": MODEL,
    "version": 2,
    "pipelines": [MODEL],
    "state": "Queued",
    "percent": 0,
    "reason": "",
    "user": "me",
    "note": "",
    "before": {MODEL: 1},
    "now": {},
}


def at(state: str, percent: int, **more: Any) -> dict[str, Any]:
    return {**JOB, "state": state, "percent": percent, **more}


@contextmanager
def server(
    state_dir: Path, notices: Sequence[dict[str, Any]] = (), refusal: Reply | None = None
) -> Iterator[list[Request]]:
    """A supervisor whose job is a step further whenever somebody looks; yields what it was asked for."""
    StateDir(state_dir).create()
    asked: list[Request] = []
    left = list(notices)

    async def supervise(request: Request) -> Reply:
        if request.kind == "model_job":
            return Reply(GOOD, "", left.pop(0) if len(left) > 1 else left[0])
        asked.append(request)
        return refusal or Reply(GOOD, "", {"job": "job-3"})

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        hub = Hub(supervise)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(hub.run()),
                tasks.create_task(hub.serve_unix(StateDir(state_dir).control_socket)),
            ]
            while not StateDir(state_dir).control_socket.exists():
                await asyncio.sleep(0.005)
            started()
            await stop.wait()
            for task in work:
                task.cancel()

    with on_a_thread(serve):
        yield asked


def model(state_dir: Path, *words: str) -> int:
    return main(["model", *words, "--state", str(state_dir)])


def test_an_activation_is_followed_until_it_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = {"compared": 0, "agreement": None, "agreement_low": 0.0, "wanted": 20}
    notices = [at("Queued", 0), at("Loading", 10), at("Loading", 10), at("Shadow", 70, shadow=seen)]
    with server(tmp_path, [*notices, at("Active", 100, now={MODEL: 2})]) as asked:
        words = ("--note", "new die", "--shadow", "20", "--pipelines", MODEL)
        assert model(tmp_path, "activate", f"{MODEL}/2", *words) == 0
    (request,) = asked
    assert request.kind == "load_model"
    assert request.body["user"].endswith("(edge-opcua model)")
    del request.body["user"]
    assert request.body == {
        "name": MODEL,
        "version": 2,
        "sha256": "",
        "pipelines": [MODEL],
        "note": "new die",
        "shadow": 20,
    }
    assert capsys.readouterr().out.splitlines() == [
        f"  0 %  Queued      {MODEL} 2  {MODEL}",
        f" 10 %  Loading     {MODEL} 2  {MODEL}",
        f" 70 %  Shadow      {MODEL} 2  {MODEL}  0 of 20 captures",
        f"100 %  Active      {MODEL} 2  {MODEL}",
    ]


def test_one_that_fails_says_why_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(tmp_path, [at("Failed", 100, reason="M512: reference sample 1 is off")]):
        assert model(tmp_path, "activate", f"{MODEL}/2") == 1
        assert "M512: reference sample 1 is off" in capsys.readouterr().out
        assert model(tmp_path, "activate", f"{MODEL}/2", "--json") == 1
    body = json.loads(capsys.readouterr().out)
    assert (body["schema"], body["state"]) == ("edge-opcua.model-change/1", "Failed")


@pytest.mark.parametrize(
    ("reason", "exit_code"),
    [
        ("M501: model press-anomaly 9 is not in the repository; there are versions 1, 2", 2),
        ("M503: model press-anomaly 2 has another SHA-256", 2),
        ("M631: press-anomaly 2 is in quarantine: latency", 3),
        ("M613: it takes 120 ms of 100 ms", 1),
    ],
)
def test_a_job_ends_with_the_exit_code_that_it_has_without_a_server(
    tmp_path: Path, reason: str, exit_code: int
) -> None:
    with server(tmp_path, [at("Failed", 100, reason=reason)]):
        assert model(tmp_path, "activate", f"{MODEL}/2") == exit_code


def test_a_roll_back_is_one_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(tmp_path, [at("RolledBack", 100, kind="rollback", now={MODEL: 1})]) as asked:
        assert model(tmp_path, "rollback") == 0
    assert (asked[0].kind, asked[0].body["name"], asked[0].body["pipeline"]) == ("rollback_model", "", "")
    assert f"runs {MODEL} 1 again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "exit_code"), [(BAD_INVALID_ARGUMENT, 2), (BAD_INVALID_STATE, 3), (0x80100000, 1)]
)
@pytest.mark.parametrize("verb", ["activate", "rollback", "release"])
def test_a_refusal_has_its_reason_and_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, status: int, exit_code: int
) -> None:
    with server(tmp_path, refusal=Reply(status, "there is no such thing")):
        assert model(tmp_path, verb, MODEL if verb == "rollback" else f"{MODEL}/2") == exit_code
    assert "there is no such thing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("activate", MODEL),
        ("activate", f"{MODEL}/2", "--shadow", "-1"),
        ("activate", f"{MODEL}/2", "--pipelines", "a,,b"),
        ("rollback", f"{MODEL}/2"),
        ("release", MODEL),
    ],
)
def test_wrong_use_is_told_before_anybody_is_asked(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        model(tmp_path, *words)
    assert caught.value.code == 2


# --- without a server ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    found = load(PRESS / "press.toml").config
    assert found is not None
    return found


@pytest.fixture
def state(tmp_path: Path, config: EdgeConfig) -> StateDir:
    found = StateDir(tmp_path / "state")
    found.create()
    models = config.models.model_copy(update={"folder": PRESS / "models"})
    assert install_delivered(config.model_copy(update={"models": models}), found) == []
    return found


def changed(state: StateDir) -> None:
    """Let the pipeline have changed from version 1 to 2."""
    one, two = (ModelChoice(MODEL, version, "") for version in (1, 2))
    entry = Entry(Kind.LOAD, Step.ACTIVE, two, {MODEL: one}, {MODEL: two}, user="me")
    Ledger(state.model_ledger, ManualClock()).append(entry)


def test_without_a_server_an_activation_is_written_down_for_its_next_start(
    state: StateDir, config: EdgeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model(state.root, "activate", f"{MODEL}/1") == 0
    assert model(state.root, "activate", f"{MODEL}/2", "--note", "new die") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"{MODEL} 2 will be activated; no server runs: it takes effect at the next start"
    book = open_book(state, config, ManualClock())
    (order,) = book.standing.open.values()  # the last one counts
    assert (order.step, order.model.version, order.note) == (Step.ORDERED, 2, "new die")
    assert book.active.choice(MODEL).version == 1  # until it is loaded and proven


def test_nobody_who_asks_for_a_shadow_gets_a_change_without_one(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model(state.root, "activate", f"{MODEL}/2", "--shadow", "20") == 4
    assert "no server runs: start it" in capsys.readouterr().err
    assert not read_history(state.model_ledger).entries


def test_without_a_server_it_starts_with_the_former_version_after_a_roll_back(
    state: StateDir, config: EdgeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(state)
    assert model(state.root, "rollback", "--note", "it kills the box") == 0
    assert "back to press-anomaly 1; no server runs" in capsys.readouterr().out
    assert open_book(state, config, ManualClock()).active.choice(MODEL).version == 1
    assert model(state.root, "rollback") == 3
    assert "error[M633] no model has a former version to go back to" in capsys.readouterr().err


def test_nobody_is_sent_back_to_a_version_whose_files_are_not_what_they_were(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(state)
    shutil.rmtree(state.models / MODEL / "1")
    assert model(state.root, "rollback", MODEL) == 3
    assert "no former version" in capsys.readouterr().err


def test_a_version_in_quarantine_is_refused_until_it_is_released(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = Entry(Kind.VERDICT, Step.QUARANTINED, ModelChoice(MODEL, 2, ""), user=SERVER, why="errors")
    Ledger(state.model_ledger, ManualClock()).append(entry)
    assert model(state.root, "activate", f"{MODEL}/2") == 3
    assert "M631" in capsys.readouterr().err
    assert model(state.root, "release", f"{MODEL}/2", "--note", "it was the sensor") == 0
    assert model(state.root, "release", f"{MODEL}/2") == 3
    assert model(state.root, "activate", f"{MODEL}/2", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["at"] == "next start"
    last = read_history(state.model_ledger).entries[-2]
    assert (last.step, last.why) == (Step.RELEASED, "it was the sensor")


def test_a_version_that_is_not_there_is_wrong_use(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model(state.root, "activate", f"{MODEL}/99") == 2
    assert "there are versions 1, 2" in capsys.readouterr().err
    assert model(state.root, "activate", f"{MODEL}/2", "--sha256", "0" * 64) == 2


def test_a_file_that_was_changed_is_named_by_its_model_not_by_where_a_copy_lies(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    (state.models / MODEL / "2" / "model.onnx").write_bytes(b"something else")
    assert model(state.root, "activate", f"{MODEL}/2") == 2
    assert f"error[M503] {MODEL}/2: model.onnx has SHA-256 " in capsys.readouterr().err
