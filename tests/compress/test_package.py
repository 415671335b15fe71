"""A variant that was chosen becomes a version that is served like any other, and says what it was made of."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.app.serving.extractors import complete
from edge_opcua.cli import main
from edge_opcua.compress.report.report import Report, Row, read_report
from edge_opcua.compress.version.answering import answers_to, reference_of
from edge_opcua.compress.version.package import Added, Addition, add_to_repository, addition_text
from edge_opcua.compress.version.profile import moved
from edge_opcua.compress.version.siblings import worth_keeping
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.family import faster_versions
from edge_opcua.inference.repository import ModelFiles, ModelRepository, verify
from edge_opcua.inference.watch.profile import SCORE, load_profile
from tests.compress.packages import Work, package, rows
from tests.compress.reports import comparison, report, row


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def work(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("work"), files)


@pytest.fixture(scope="module")
def state(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state directory with the original, the chosen variant and a sibling of it."""
    state = tmp_path_factory.mktemp("state")
    ModelRepository(StateDir(state).models).install(work.files.folder)
    found = work.report(
        work.scaled("pruned-30", 1.001, ratio=0.7), work.int8(ratio=0.4), chosen="int8-dynamic"
    )
    addition = add_to_repository(found, work.files, work.folder, rows(200), state)
    assert [(each.key, each.is_chosen, each.is_new) for each in addition.added] == [
        ("tank/2", True, True),
        ("tank/3", False, True),
    ]
    assert addition.refused == {}
    return state


def version(state: Path, number: int) -> ModelFiles:
    return complete(ModelRepository(StateDir(state).models).resolve("tank", number))


def test_the_version_names_its_original_its_siblings_and_what_was_proved(
    state: Path, files: ModelFiles
) -> None:
    manifest = version(state, 2).manifest
    assert manifest.compressed is not None
    assert manifest.compressed.of_sha256 == files.manifest.sha256
    assert (manifest.compressed.verdict, manifest.compressed.p50_ratio) == ("proved", 0.4)
    told = manifest.compression
    assert (told["of"], told["variant"]) == ("tank/1", "int8-dynamic")
    assert told["precision"].startswith("int8")
    assert (told["loss"], told["loss_high"], told["allowed"], told["unit"]) == (0.1, 0.4, 0.5, "pp")
    assert manifest.variants["pruned-30"]["version"] == 3
    assert version(state, 3).manifest.variants["int8-dynamic"]["version"] == 2
    assert manifest.description == "leaks of the feed tank; compressed: int8-dynamic"
    assert manifest.provenance["by"] == "process engineering"
    assert manifest.device["p99_us"] == 60.0


def test_its_proof_is_what_was_measured_of_it_and_not_of_the_original(state: Path) -> None:
    proof = version(state, 2).manifest.proof
    assert (proof["accuracy"], proof["accuracy_of_the_original"]) == (0.969, 0.97)
    assert (proof["verdict"], proof["loss_high"], proof["samples"]) == ("proved", 0.4, 2000)


def test_the_whole_report_lies_beside_the_model_and_is_held_against_its_hash(
    state: Path, tmp_path: Path
) -> None:
    folder = version(state, 2).folder
    found: Report = read_report(folder / "compression.json")
    assert found.chosen == "int8-dynamic"
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "compression.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ModelError) as caught:
        verify(tmp_path)
    assert caught.value.code == "M503"


def test_its_reference_samples_hold_its_own_answers(state: Path, files: ModelFiles) -> None:
    two, one = version(state, 2), complete(files)
    mine, theirs = reference_of(two), reference_of(one)
    np.testing.assert_array_equal(mine["features"], theirs["features"])
    own = answers_to(two.model, two.manifest, mine["features"], provider="cpu")
    np.testing.assert_array_equal(mine["probabilities"], own.outputs["probabilities"])
    assert np.abs(mine["probabilities"] - theirs["probabilities"]).max() > 1e-3, "INT8 answers otherwise"
    np.testing.assert_array_equal(mine["verdict"], own.verdicts)


def test_answers_in_few_bits_may_be_off_by_what_quantising_changed_and_no_more(
    state: Path, files: ModelFiles
) -> None:
    golden, two = complete(files).manifest.golden, version(state, 2)
    mine, theirs = reference_of(two), reference_of(complete(files))
    most = float(np.abs(mine["probabilities"] - theirs["probabilities"]).max())
    assert two.manifest.golden.answer_atol == pytest.approx(most, rel=0.05)
    assert (two.manifest.golden.rtol, two.manifest.golden.atol) == (golden.rtol, golden.atol)
    assert version(state, 3).manifest.golden == golden, "it computes as finely as the original"


def test_its_profile_has_its_own_scores_and_the_inputs_of_the_original(
    state: Path, files: ModelFiles
) -> None:
    def profile(of: ModelFiles) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        known = of.manifest.profile
        assert known is not None
        return load_profile(of.folder / known.file, of.manifest.names, sha256=known.sha256).quantiles

    mine, theirs = profile(version(state, 2)), profile(complete(files))
    np.testing.assert_array_equal(mine[2:], theirs[2:])
    assert 0.0 < np.abs(mine[SCORE] - theirs[SCORE]).max() < 0.1


def test_quantiles_move_as_the_scores_do() -> None:
    before = np.random.default_rng(1).normal(size=400)
    quantiles = np.linspace(-3.0, 3.0, 13)
    np.testing.assert_allclose(moved(quantiles, before, before + 0.25), quantiles + 0.25)
    np.testing.assert_allclose(moved(quantiles, before, before), quantiles)
    stepped = moved(quantiles, before, np.round(before))
    assert (np.diff(stepped) >= 0.0).all()


def test_a_scheduler_finds_what_may_stand_in_for_each_version(state: Path) -> None:
    family = [version(state, number).manifest for number in (1, 2, 3)]
    assert [each.version for each in faster_versions(family[0], family, "cpu")] == [2, 3]
    assert [each.version for each in faster_versions(family[2], family, "cpu")] == [2]
    assert faster_versions(family[1], family, "cpu") == []


def test_a_variant_that_is_there_already_is_not_stored_again(state: Path, work: Work) -> None:
    before = ModelRepository(StateDir(state).models).versions()
    found = work.report(work.int8(ratio=0.4), chosen="int8-dynamic")
    addition = add_to_repository(found, work.files, work.folder, rows(50), state)
    assert [(each.key, each.is_new) for each in addition.added] == [("tank/2", False)]
    assert ModelRepository(StateDir(state).models).versions() == before


def test_a_sibling_that_cannot_be_served_is_left_out_and_named(work: Work, tmp_path: Path) -> None:
    good, bad = work.int8(ratio=0.4), work.scaled("pruned-90", 0.999, ratio=0.6)
    (work.folder / bad.file).write_bytes(b"another file")
    found = work.report(bad, good, chosen=good.name)
    addition = add_to_repository(found, work.files, work.folder, rows(50), tmp_path)
    assert [each.variant for each in addition.added] == [good.name]
    assert list(addition.refused) == ["pruned-90"]
    assert "M695" in addition.refused["pruned-90"]
    assert version(tmp_path, 2).manifest.variants == {}


def test_a_chosen_variant_whose_file_was_changed_is_refused_and_nothing_is_stored(
    work: Work, tmp_path: Path
) -> None:
    changed = work.scaled("clean", 1.002)
    (work.folder / changed.file).unlink()
    with pytest.raises(ModelError) as caught:
        add_to_repository(work.report(changed, chosen="clean"), work.files, work.folder, rows(50), tmp_path)
    assert caught.value.code == "M695"
    assert ModelRepository(StateDir(tmp_path).models).versions() == ()


@pytest.mark.parametrize("has_package", [True, False])
def test_without_a_choice_or_a_manifest_there_is_nothing_to_store(
    work: Work, tmp_path: Path, *, has_package: bool
) -> None:
    found = work.report(row("int8"), chosen=None if has_package else "int8")
    with pytest.raises(ModelError) as caught:
        add_to_repository(found, work.files if has_package else None, work.folder, rows(5), tmp_path)
    assert caught.value.code == "M693"
    assert ("model map" in str(caught.value)) is not has_package


def test_a_bare_file_is_refused_before_anything_is_searched(
    files: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "tank.onnx"
    bare.write_bytes(files.model.read_bytes())
    np.savez(tmp_path / "rows.npz", x=rows(20))
    data = str(tmp_path / "rows.npz")
    assert main(["compress", str(bare), "--data", data, "--add", "--state", str(tmp_path / "state")]) == 3
    assert "M693: tank.onnx has no manifest" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npz", "tank.onnx"]


def test_what_was_made_smaller_is_no_original_of_a_version(
    state: Path, work: Work, capsys: pytest.CaptureFixture[str]
) -> None:
    again = work.report(work.int8(), chosen="int8-dynamic")
    with pytest.raises(ModelError, match="tank/2 was made of tank/1; compress that") as caught:
        add_to_repository(again, version(state, 2), work.folder, rows(5), state)
    assert caught.value.code == "M693"
    assert main(["compress", "tank/2", "--data", "none.npz", "--add", "--state", str(state)]) == 3
    assert "compress that" in capsys.readouterr().err


def test_what_came_of_it_is_told_with_what_to_do_next(tmp_path: Path) -> None:
    addition = Addition(
        (
            Added("int8", "tank", 2, is_chosen=True, is_new=True),
            Added("fp16", "tank", 3, is_chosen=False, is_new=False),
        ),
        {"pruned": "it answers otherwise (M512)"},
    )
    assert addition_text(addition, tmp_path) == [
        "tank/2 (int8) added",
        "tank/3 (fp16) was there already; it may answer where time is short",
        "pruned is no version: it answers otherwise (M512)",
        f"it judges from: edge-opcua model activate tank/2 --state {tmp_path}",
    ]


def test_siblings_are_proved_faster_and_better_than_others_in_something() -> None:
    def placed(name: str, digit: str, **facts: Any) -> Row:
        return replace(row(name, **facts), on_front=True, place=1, sha256=digit * 64)

    chosen, kept = placed("chosen", "c", ratio=0.5, is_chosen=True), placed("kept", "a", ratio=0.8)
    others = [
        placed("slower", "b", ratio=1.2),
        replace(placed("worse", "d", ratio=0.9), on_front=False),
        replace(placed("unseen by the gate", "e", ratio=0.9), place=0),
        replace(placed("unsure", "f"), comparison=comparison(0.4)),
        placed("same file", "a", ratio=0.9),
    ]
    found = worth_keeping(report(*others, kept, chosen, chosen="chosen"))
    assert [each.name for each in found] == ["chosen", "kept"]


def test_the_version_can_be_handed_on_to_another_box_with_its_report(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = version(state, 2).folder
    assert main(["model", "add", str(folder), "--alone", "--state", str(tmp_path)]) == 0, capsys.readouterr()
    there = version(tmp_path, 2)
    assert (there.folder / "compression.json").read_bytes() == (folder / "compression.json").read_bytes()


def test_commands_say_in_words_what_making_it_smaller_came_to(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("list", "inspect"):
        main(["model", verb, "tank/2", "--state", str(state), *(["--no-run"] if verb == "inspect" else [])])
        told = " ".join(capsys.readouterr().out.split())
        assert "int8-dynamic of tank/1, proved: accuracy 0.97 → 0.969, loss 0.1 pp (95 %: -0.2 to 0.4" in told
        assert "takes 0.4 of its time (0.392 to 0.408) on cpu, 0.3 of its size" in told
        assert "pruned-30: version = 3" in told


def test_the_manifest_can_be_read_by_people(state: Path) -> None:
    text = (version(state, 2).folder / "manifest.toml").read_text()
    assert text.startswith("# Written by edge-opcua compress.")
    tree = tomllib.loads(text)
    assert list(tree)[:3] == ["format", "name", "version"]
    assert {"input", "tags", "golden", "profile", "compression", "variants"} <= set(tree)
