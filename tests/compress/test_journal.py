"""The work folder: what was done is done, what was killed in the middle is not, and one run writes there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.compress.search.journal import Journal, digest_of, key_of, opened
from edge_opcua.errors import ModelError

FACTS = {"model": "a1", "recipe": {"share": 0.3}}
CRASHING = f"""
import os, sys
from pathlib import Path
from edge_opcua.compress.search.journal import Journal

Journal(Path(sys.argv[1])).step("int8/model", {FACTS!r}, lambda _: os._exit(1), suffix=".onnx")
"""


class Worker:
    """Writes a file and counts how often; or breaks off in the middle."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, target: Path) -> Mapping[str, Any]:
        self.calls += 1
        target.write_bytes(b"half")
        if self._error is not None:
            raise self._error
        target.write_bytes(b"whole")
        return {"took": 3}


def test_a_step_is_done_once(tmp_path: Path) -> None:
    worker = Worker()
    with opened(tmp_path) as journal:
        first = journal.step("int8/model", FACTS, worker, suffix=".onnx")
    with opened(tmp_path) as journal:
        second = journal.step("int8/model", dict(reversed(FACTS.items())), worker, suffix=".onnx")
    assert worker.calls == 1
    assert (first.again, second.again) == (False, True)
    assert first.note == second.note == {"took": 3}
    assert second.file is not None
    assert second.file.read_bytes() == b"whole"
    assert second.file.suffix == ".onnx"


def test_a_step_that_depends_on_something_else_is_another_step(tmp_path: Path) -> None:
    worker = Worker()
    with opened(tmp_path) as journal:
        journal.step("int8/model", FACTS, worker, suffix=".onnx")
        journal.step("int8/model", {**FACTS, "model": "a2"}, worker, suffix=".onnx")
        assert journal.is_done("int8/model", FACTS)
        assert not journal.is_done("int8/model", {**FACTS, "model": "a3"})
    assert worker.calls == 2


def test_a_step_that_was_killed_in_the_middle_is_done_again(tmp_path: Path) -> None:
    with opened(tmp_path) as journal, pytest.raises(KeyboardInterrupt):
        journal.step("int8/model", FACTS, Worker(KeyboardInterrupt()), suffix=".onnx")
    assert list(tmp_path.glob("int8/.draft*")), "the half file is still there, as after a kill"
    again = Worker()
    with opened(tmp_path) as journal:
        assert not list(tmp_path.glob("int8/*"))
        assert not list(tmp_path.glob("int8/.*"))
        done = journal.step("int8/model", FACTS, again, suffix=".onnx")
    assert (again.calls, done.again) == (1, False)


@pytest.mark.parametrize("harm", ["file gone", "note cut off", "note of something else"])
def test_a_step_that_is_not_whole_is_done_again(tmp_path: Path, harm: str) -> None:
    with opened(tmp_path) as journal:
        done = journal.step("int8/model", FACTS, Worker(), suffix=".onnx")
        assert done.file is not None
        note = done.file.with_suffix(".json")
        if harm == "file gone":
            done.file.unlink()
        else:
            note.write_text(note.read_text()[:-9] if harm == "note cut off" else "[1]")
        again = Worker()
        assert journal.step("int8/model", FACTS, again, suffix=".onnx").note == {"took": 3}
    assert again.calls == 1


def test_a_step_in_which_the_program_ended_twice_is_left_out_and_not_tried_for_ever(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", CRASHING, str(tmp_path)], check=False)
        worker = Worker()
        with pytest.raises(ModelError, match="ended 2 times in the middle of it") as caught:
            journal.step("int8/model", FACTS, worker, suffix=".onnx")
    assert (caught.value.code, worker.calls) == ("M683", 0)


def test_what_was_refused_stays_refused(tmp_path: Path) -> None:
    worker = Worker(ModelError("no weights to prune", code="M675"))
    with opened(tmp_path) as journal:
        for _ in range(2):
            with pytest.raises(ModelError, match="no weights to prune") as caught:
                journal.step("pruned/model", FACTS, worker, suffix=".onnx")
            assert caught.value.code == "M675"
    assert worker.calls == 1
    assert not list(tmp_path.glob("pruned/*.onnx"))


@pytest.mark.parametrize("code", ["M610", "M611", "M581"])
def test_what_only_this_moment_refused_is_tried_again(tmp_path: Path, code: str) -> None:
    worker = Worker(ModelError("it was killed", code=code))
    with opened(tmp_path) as journal:
        for _ in range(2):
            with pytest.raises(ModelError, match="it was killed"):
                journal.step("int8/answers", FACTS, worker, suffix=".npz")
    assert worker.calls == 2


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(ModelError, match="another run works in") as caught,
        opened(tmp_path),
    ):
        pass
    assert caught.value.code == "M681"
    with opened(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ModelError, match="cannot be written") as caught, opened(tmp_path / "file" / "work"):
        pass
    assert caught.value.code == "M681"


def test_a_disk_that_is_full_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "int8").write_text("a file where a folder has to be")
    with opened(tmp_path) as journal, pytest.raises(ModelError, match=r"int8.*cannot be written") as caught:
        Journal(journal.folder).step("int8/model", FACTS, Worker())
    assert caught.value.code == "M681"


def test_samples_are_known_by_their_numbers_type_and_shape() -> None:
    rows = np.arange(6, dtype=np.float32)
    same = digest_of(rows.reshape(2, 3), None)
    assert same == digest_of(np.asfortranarray(rows.reshape(2, 3)), None)
    others = {
        digest_of(rows, None),
        digest_of(rows.reshape(3, 2), None),
        digest_of(rows.reshape(2, 3).astype(np.float64), None),
        digest_of(rows.reshape(2, 3), rows),
        digest_of(rows.reshape(2, 3) + 1, None),
    }
    assert len(others) == 5
    assert same not in others


def test_facts_have_one_key_whatever_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})


@pytest.mark.parametrize(
    "content", ['{"note": {"took": [1]}}', '{"note": 3', "[]", "3", "", '{"refused": "no"}']
)
def test_a_note_that_somebody_else_wrote_is_not_believed(tmp_path: Path, content: str) -> None:
    worker = Worker()
    with opened(tmp_path) as journal:
        journal.step("int8/timing", FACTS, worker)
    (note,) = tmp_path.glob("int8/*.json")
    note.write_text(content)
    with opened(tmp_path) as journal:
        assert journal.step("int8/timing", FACTS, worker).note == {"took": 3}
    assert worker.calls == 2


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    worker = Worker()
    with opened(tmp_path) as journal:
        file = journal.step("int8/model", FACTS, worker, suffix=".onnx").file
    assert file is not None
    file.write_bytes(b"who")
    with opened(tmp_path) as journal:
        journal.step("int8/model", FACTS, worker, suffix=".onnx")
    assert (worker.calls, file.read_bytes()) == (2, b"whole")


def test_a_disk_that_is_full_leaves_no_half_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No space left") as refused, opened(tmp_path) as journal:
        journal.step("int8/model", FACTS, Worker(OSError(28, "No space left on device")), suffix=".onnx")
    assert refused.value.code == "M681"
    assert [path.name for path in tmp_path.glob("int8/.*")] == []


def test_what_a_killed_process_left_that_worked_for_a_step_goes_too(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    for name in (".draft-answers-1.npz", "..draft-answers-1.npz.part", ".gitignore"):
        (tmp_path / "clean" / name).touch()
    with opened(tmp_path):
        assert [path.name for path in tmp_path.glob("clean/.*")] == [".gitignore"]


def test_a_run_whose_disk_was_full_has_no_answer_though_it_went_on(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run the same again") as refused, opened(tmp_path) as journal:  # noqa: PT012
        with pytest.raises(ModelError):
            journal.step("int8/model", FACTS, Worker(OSError(28, "No space left on device")), suffix=".onnx")
        journal.step("int8/model", {**FACTS, "other": 1}, Worker(), suffix=".onnx")
    assert refused.value.code == "M681"
    worker = Worker()
    with opened(tmp_path) as journal:
        assert journal.step("int8/model", FACTS, worker, suffix=".onnx").file
    assert worker.calls == 1
