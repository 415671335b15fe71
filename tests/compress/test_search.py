"""A whole run: from a model and samples to a proved variant or an honest no, and on where it was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_opcua import compress as api
from edge_opcua.cli import main
from edge_opcua.compress import Advance, Options, compress
from edge_opcua.compress.report.report import read_report
from edge_opcua.compress.search.run import work_of
from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import ModelError
from tests.compress.models import conv_net, pictures, saved

SCRIPT = """
import sys
from pathlib import Path
from edge_opcua.compress import Options, compress

folder = Path(sys.argv[1])
options = Options(only=frozenset({"clean"}), timing_s=0.05, work=folder / "work")
report = compress(folder / "model.onnx", folder / "data.npz", options)
print(report.chosen)
"""


def prepared(folder: Path, samples: int = 1500) -> Path:
    data = pictures(samples, 5)
    assert data.truth is not None
    np.savez(folder / "data.npz", x=data.rows, labels=data.truth)
    return saved(conv_net(), folder)


def notes_of(work: Path) -> Mapping[Path, tuple[int, int]]:
    """Return the steps that are done, each with what tells whether its note was written again."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in work.glob("*/*.json")
        if not path.name.startswith(".")
    }


@pytest.mark.timeout(120)
def test_a_run_that_was_killed_goes_on_where_it_was_and_ends_like_one_that_was_not(tmp_path: Path) -> None:
    prepared(tmp_path)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not list((tmp_path / "work").glob("clean/answers-*.json")):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "work" / "report.json").exists()
    (tmp_path / "work" / "clean" / ".draft-model-1.onnx").write_bytes(b"half")
    before = notes_of(tmp_path / "work")
    assert {path.parent.name for path in before} >= {"original", "clean", "samples"}

    seen: list[Advance] = []
    options = Options(only=frozenset({"clean"}), timing_s=0.05, work=tmp_path / "work")
    report = compress(tmp_path / "model.onnx", tmp_path / "data.npz", options, progress=seen.append)

    after = notes_of(tmp_path / "work")
    assert {path: after[path] for path in before} == before, "what was done was done again"
    assert not list((tmp_path / "work").rglob(".draft-*"))
    assert [(row.name, row.failure) for row in report.rows] == [("clean", "")]
    assert report.rows[0].comparison is not None
    assert read_report(tmp_path / "work" / "report.json") == report
    shares = [each.share for each in seen]
    assert shares == sorted(shares)


@pytest.mark.timeout(120)
def test_who_interrupts_a_run_is_told_that_it_goes_on_and_gets_an_honest_no_in_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, 60)
    monkeypatch.chdir(tmp_path)
    asked = [
        "compress",
        "model.onnx",
        "--data",
        "data.npz",
        "--only",
        "clean",
        "--timing",
        "0.05s",
        "--json",
        "--report",
        "r.html",
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "edge_opcua.cli", *asked], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while not next(process.stderr).strip().endswith("clean is made"):
            pass
        process.send_signal(signal.SIGINT)
        last = process.stderr.readlines()[-1]
    assert process.returncode == 130
    assert last == "interrupted; run the same command again to go on: model.compress\n"
    before = notes_of(tmp_path / "model.compress")
    assert before

    assert main(asked) == 1
    said = capfd.readouterr()
    found = json.loads(said.out)
    after = notes_of(tmp_path / "model.compress")
    assert {path: after[path] for path in before} == before
    assert found["schema"] == "edge-opcua.compression/1"
    assert found["chosen"] is None
    assert "about 770 can" in found["findings"][-1]
    assert found["rows"][0]["comparison"]["verdict"] == "not proved"
    assert "clean is timed" in said.err
    assert read_report(tmp_path / "model.compress" / "report.json").chosen is None
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_plan_is_shown_and_nothing_is_made(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path, 200)
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "model.onnx", "--data", "data.npz", "--plan"]) == 0
    said = capfd.readouterr().out
    for name in ("clean", "int8-minmax-tensor-u8s8", "pruned-20", "fp16-weights"):
        assert name in said
    assert "only if named: --also qoperator-s8,qoperator-u8,int8-dynamic-convolutions" in said
    assert not (tmp_path / "model.compress").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["missing.onnx", "--data", "data.npz"], 2, "M507"),
        (["model.onnx", "--data", "missing.npz"], 2, "M670"),
        (["model.onnx", "--data", "data.npz", "--calibration", "data.npz"], 2, "M682"),
        (["model.onnx", "--data", "data.npz", "--also", "nonsense", "--only", "int8-static"], 2, "M682"),
        (["model.onnx", "--data", "data.npz", "--task", "value"], 2, "M672"),
        (["text.onnx", "--data", "data.npz"], 3, "M510"),
    ],
)
def test_wrong_use_is_told_with_its_code(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared(tmp_path, 60)
    (tmp_path / "text.onnx").write_text("no model")
    monkeypatch.chdir(tmp_path)
    assert main(["compress", *arguments]) == code
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--budget=soon", "--timing=0", "--only=magic", "--threads=0", "--max-loss=0", "--seed=-1", "--also=,"],
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_is_read(
    option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compress", "model.onnx", "--data", "data.npz", option])
    assert caught.value.code == 2
    assert option.partition("=")[0] in capfd.readouterr().err


def test_what_takes_too_long_is_not_tried_and_the_report_says_so(tmp_path: Path) -> None:
    class Hurrying(SystemClock):
        """Another second has passed each time somebody looks."""

        seen = 0

        def monotonic_s(self) -> float:
            self.seen += 1
            return float(self.seen)

    prepared(tmp_path, 150)
    options = Options(only=frozenset({"pruned"}), budget_s=1.0, timing_s=0.05, work=tmp_path / "work")
    rows = compress(tmp_path / "model.onnx", tmp_path / "data.npz", options, clock=Hurrying()).rows
    assert rows[-1].failure.startswith("not tried: the 1 s")
    assert rows[-1].comparison is None


def test_a_model_in_which_nothing_can_be_made_smaller_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared(tmp_path, 60)  # 12 samples to calibrate with are too few to prune by
    asked = ["--data", str(tmp_path / "data.npz"), "--only", "pruned", "--work", str(tmp_path / "work")]
    assert main(["compress", str(tmp_path / "model.onnx"), *asked]) == 3
    assert "M684" in capfd.readouterr().err


def test_a_folder_of_steps_is_named_after_the_model(tmp_path: Path) -> None:
    model = saved(conv_net(), tmp_path, "wear.onnx")
    assert work_of(model, Options()) == Path("wear.compress")
    (tmp_path / "press" / "3").mkdir(parents=True)
    assert work_of(tmp_path / "press" / "3", Options()) == Path("press-3.compress")
    assert work_of("press/3", Options()) == Path("press-3.compress")
    assert work_of(model, Options(work=tmp_path)) == tmp_path


def test_the_public_names_are_there_and_no_others() -> None:
    assert all(getattr(api, name) is not None for name in api.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        api.nonsense  # noqa: B018 - it is the access that fails
    with pytest.raises(ModelError):
        compress("missing.onnx", "data.npz")
