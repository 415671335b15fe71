"""The repository hands out complete, unchanged, allowed models by name, and nothing by path."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import load_manifest, parse_manifest
from edge_opcua.inference.repository import ModelRepository, verify
from tests.inference.line import MODELS
from tests.inference.models import (
    DELIVERED,
    copy_of_delivered,
    custom_operator_model,
    edited,
    external_data_model,
    replaced,
    unwatched,
    with_model,
)

SHA256 = load_manifest(DELIVERED / "manifest.toml").sha256
TEXT = (DELIVERED / "manifest.toml").read_text()


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "models")


def refusal(code: str, match: str | None = None) -> pytest.RaisesExc[ModelError]:
    return pytest.RaisesExc(ModelError, match=match, check=lambda exc: exc.code == code)


def test_delivered_models_are_installed_and_resolved(repository: ModelRepository, tmp_path: Path) -> None:
    installed = repository.install_all(MODELS)
    assert [files.manifest.version for files in installed] == [1, 2]
    files = repository.resolve("press-anomaly", 1, SHA256.upper())
    assert files.folder == tmp_path / "models" / "press-anomaly" / "1"
    assert files.model.read_bytes() == (DELIVERED / "model.onnx").read_bytes()
    assert files.golden.is_file()
    assert [(e.name, e.version, e.fault) for e in repository.list()] == [
        ("press-anomaly", 1, ""),
        ("press-anomaly", 2, ""),
    ]
    assert oct(files.folder.stat().st_mode)[-3:] == "700"


def test_installing_twice_changes_nothing(repository: ModelRepository) -> None:
    first = repository.install(DELIVERED)
    stamp = first.model.stat().st_mtime_ns
    assert repository.install(DELIVERED) == first
    assert first.model.stat().st_mtime_ns == stamp


def test_another_model_under_a_version_that_is_taken_is_refused(
    repository: ModelRepository, tmp_path: Path
) -> None:
    repository.install(DELIVERED)
    image = (MODELS / "press-anomaly" / "2" / "model.onnx").read_bytes()
    other = with_model(copy_of_delivered(tmp_path / "other"), image)
    with refusal("M503", "has SHA-256"):
        repository.install(other)


def test_a_copy_that_fails_leaves_nothing_behind(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a folder")
    with refusal("M514", "cannot be stored"):
        repository.install(DELIVERED)
    (tmp_path / "models").unlink()
    broken = copy_of_delivered(tmp_path / "broken")
    (broken / "golden.npz").unlink()
    with refusal("M507"):
        repository.install(broken)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    "name",
    ["../press-anomaly", "press-anomaly/1", "/etc", "", ".", "a" * 65, "press anomaly", "http://x", "é"],
)
def test_a_name_that_could_be_a_path_is_refused_before_the_disk_is_touched(
    repository: ModelRepository, name: str
) -> None:
    with refusal("M502", "is not a model name"):
        repository.resolve(name, 1, SHA256)


@pytest.mark.parametrize("version", [0, -1, 1_000_001])
def test_an_impossible_version_is_refused(repository: ModelRepository, version: int) -> None:
    with refusal("M502", "out of range"):
        repository.resolve("press-anomaly", version)


@pytest.mark.parametrize("sha256", ["", "abc", SHA256 + "0", "g" * 64])
def test_a_malformed_hash_is_refused(repository: ModelRepository, sha256: str) -> None:
    repository.install(DELIVERED)
    with refusal("M502", "64 hexadecimal digits"):
        repository.resolve("press-anomaly", 1, sha256)


def test_a_version_that_is_not_there_names_those_that_are(repository: ModelRepository) -> None:
    with refusal("M501", "press-anomaly 3 is not in the repository$"):
        repository.resolve("press-anomaly", 3)
    repository.install_all(MODELS)
    with refusal("M501", "there are versions 1, 2"):
        repository.resolve("press-anomaly", 3)


def test_another_hash_than_asked_for_is_refused(repository: ModelRepository) -> None:
    repository.install(DELIVERED)
    with refusal("M503", f"has SHA-256 {SHA256}, not {'0' * 64}"):
        repository.resolve("press-anomaly", 1, "0" * 64)


def test_a_changed_model_file_is_refused(repository: ModelRepository) -> None:
    files = repository.install(DELIVERED)
    image = bytearray(files.model.read_bytes())
    image[-1] ^= 1
    files.model.write_bytes(image)
    with refusal("M503", "the file was changed"):
        repository.resolve("press-anomaly", 1)
    (entry,) = repository.list()
    assert entry.fault.startswith("M503: ")
    assert entry.sha256 == ""


@pytest.mark.parametrize("name", ["model.onnx", "manifest.toml", "golden.npz"])
def test_a_missing_file_is_named(repository: ModelRepository, name: str) -> None:
    files = repository.install(DELIVERED)
    (files.folder / name).unlink()
    with refusal("M507", f"{name} is missing"):
        repository.resolve("press-anomaly", 1)


def test_a_link_to_a_model_elsewhere_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    files = repository.install(DELIVERED)
    files.model.unlink()
    files.model.symlink_to(DELIVERED / "model.onnx")
    with refusal("M509", "not a plain file"):
        repository.resolve("press-anomaly", 1)


def test_a_model_in_a_folder_of_another_name_is_refused(repository: ModelRepository, tmp_path: Path) -> None:
    files = repository.install(DELIVERED)
    files.folder.rename(files.folder.parent / "5")
    with refusal("M506", "holds press-anomaly 1, not press-anomaly 5"):
        repository.resolve("press-anomaly", 5)


def test_what_is_no_version_is_not_listed(repository: ModelRepository, tmp_path: Path) -> None:
    repository.install(DELIVERED)
    (tmp_path / "models" / "press-anomaly" / "latest").mkdir()
    (tmp_path / "models" / "lost+found" / "1").mkdir(parents=True)
    assert len(repository.list()) == 1


def test_a_custom_operator_never_gets_in(repository: ModelRepository, tmp_path: Path) -> None:
    with refusal("M508"):
        repository.install(with_model(copy_of_delivered(tmp_path / "evil"), custom_operator_model()))


def test_weights_in_a_listed_file_of_the_folder_are_verified_too(
    repository: ModelRepository, tmp_path: Path
) -> None:
    folder = copy_of_delivered(tmp_path / "large")
    with_model(folder, external_data_model("weights.bin", folder))
    with refusal("M509", "does not list"):
        verify(folder)
    digest = hashlib.sha256((folder / "weights.bin").read_bytes()).hexdigest()
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text() + f'\n[external]\n"weights.bin" = "{digest}"\n')
    files = repository.install(folder)
    assert (files.folder / "weights.bin").is_file()
    (files.folder / "weights.bin").write_bytes(b"\0" * 52)
    with refusal("M503", r"weights\.bin has SHA-256"):
        repository.resolve("press-anomaly", 1)


def test_a_reference_profile_comes_along_and_is_verified_too(
    repository: ModelRepository, tmp_path: Path
) -> None:
    folder = unwatched(copy_of_delivered(tmp_path / "copy"))
    (folder / "profile.npz").write_bytes(b"profile")
    digest = hashlib.sha256(b"profile").hexdigest()
    with (folder / "manifest.toml").open("a") as stream:
        stream.write(f'[profile]\nfile = "profile.npz"\nsha256 = "{digest}"\n')
    installed = repository.install(folder)
    assert (installed.folder / "profile.npz").read_bytes() == b"profile"
    (installed.folder / "profile.npz").write_bytes(b"another")
    with pytest.raises(ModelError, match=r"profile\.npz has SHA-256") as caught:
        repository.resolve("press-anomaly", 1)
    assert caught.value.code == "M503"


def test_a_manifest_says_what_the_model_was_trained_on() -> None:
    manifest = parse_manifest(TEXT, "manifest.toml")
    assert manifest.names[:4] == ("rms", "peak", "crest_factor", "kurtosis")
    assert [(f.name, f.unit) for f in manifest.context] == [
        ("tonnage", "kN"),
        ("die_temp", "°C"),
        ("strokes_per_min", "1/min"),
    ]
    assert (manifest.sample_count, manifest.sample_rate_hz, manifest.waveform_unit) == (
        2_000,
        10_000.0,
        "m/s²",
    )
    assert manifest.limit == 1.0
    assert manifest.features[0].low == -math.inf
    assert manifest.proof["false_alarms"] == 0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("format = 1", "format = 2", "format is not 1"),
        ("format = 1", "formt = 1", "format is missing"),
        ("limit = 1.0", "limit = 1.0\nlimt = 2", "limt is an unknown key"),
        ("limit = 1.0", "limit = 0", "limit is not above 0"),
        ("limit = 1.0", "limit = nan", "limit is nan, not a number"),
        ("limit = 1.0", 'limit = "1"', "limit is '1', not a number"),
        ("limit = 1.0", "limit = ", "Invalid value"),
        ('name = "press-anomaly"', 'name = "../x"', '"../x" is not a model name'),
        ("version = 1", "version = 0", "version 0 is out of range"),
        ("version = 1", "version = true", "version is True, not a whole number"),
        ('name = "features"', "name = 7", "input.name is 7, not a text"),
        ("sample_count = 2000", "samples = 2000", "input.sample_count is missing"),
        ("sample_rate_hz = 10000", "sample_rate_hz = 0", "input.sample_rate_hz is not above 0"),
        ("sample_rate_hz = 10000", "", "input.sample_rate_hz is missing"),
        ('file = "golden.npz"', 'file = "../golden.npz"', "golden.file .* is not a plain file name"),
        ("rtol = 1e-3", "rtol = 1e-3\nextra = 1", "golden.extra is an unknown key"),
        ('name = "peak"', 'name = "rms"', 'features has "rms" twice'),
        ('name = "peak"', 'name = "pe ak"', r"features\[2\].name .* is not a feature name"),
        ("high = 300", "high = 0.5", r"features\[2\].low 1 is not below high = 0.5"),
        ("high = 300", "high = 300\nhihg = 1", r"features\[2\].hihg is an unknown key"),
        (
            'name = "rms"\n',
            'name = "rms"\ncontext = true\n',
            "a context tag before a feature of the waveform",
        ),
        ('name = "rms"\n', 'name = "rms"\ncontext = 1\n', r"features\[1\].context is 1, not true or false"),
        (
            "[proof]\nseed",
            '[external]\n"../x" = "0"\n[proof]\nseed',
            "external.../x is not a plain file name",
        ),
        ("[proof]\nseed", '[external]\nw = "0"\n[proof]\nseed', "external.w is not 64 lower-case"),
        ("[input]", "[inputs]", "input is missing"),
    ],
)
def test_a_wrong_manifest_is_told_by_key_and_value(old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    with refusal("M506", sentence):
        parse_manifest(TEXT.replace(old, new, 1), "manifest.toml")


def test_features_that_are_no_tables_are_refused() -> None:
    head = TEXT[: TEXT.index("[input]")]
    rest = TEXT[TEXT.index("[input]") : TEXT.index("[[features]]")]
    with refusal("M506", "features is not a list of tables"):
        parse_manifest(f"{head}features = [1]\n{rest}", "manifest.toml")


def test_a_manifest_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_bytes(b"\xff\xfe")
    with refusal("M506", "cannot be read"):
        load_manifest(path)
    path.write_bytes(b"#" * 1_000_001)
    with refusal("M506", "larger than"):
        load_manifest(path)


def test_an_edited_manifest_does_not_change_the_model(repository: ModelRepository, tmp_path: Path) -> None:
    folder = replaced(
        edited(copy_of_delivered(tmp_path / "copy"), description="mine"), "high = 300", "high = 200"
    )
    assert repository.install(folder).manifest.features[1].high == 200.0
