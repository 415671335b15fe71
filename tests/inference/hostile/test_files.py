"""Folders of models that hold other things than files: nothing waits for them or reads them to their end."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.repository import ModelRepository, verify
from tests.inference.models import DELIVERED, copy_of_delivered, unwatched

NAMES = ["model.onnx", "manifest.toml", "golden.npz"]


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        verify(folder)
    return caught.value.code


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = copy_of_delivered(tmp_path / "1")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert refused(folder) == ("M507" if name == "golden.npz" else "M509")


@pytest.mark.parametrize("name", NAMES)
def test_a_device_that_never_ends_is_not_read(tmp_path: Path, name: str) -> None:
    folder = copy_of_delivered(tmp_path / "1")
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert refused(folder) == "M509"


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_no_file(tmp_path: Path, name: str) -> None:
    folder = copy_of_delivered(tmp_path / "1")
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refused(folder) == ("M507" if name == "golden.npz" else "M509")


DELIVERED_MANIFEST = (DELIVERED / "manifest.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limit = 1.0", "limit = 1" + "0" * 400),
        ("limit = 1.0", "limit = 1" + "0" * 5000),
        ('description = "', 'description = "\\u001b[2J'),
        ("rtol = ", "rtol = inf #"),
        ("atol = ", "atol = -1.0 #"),
        ("trained = ", 'trained = "0001-01-01T00:00:00+23:59" #'),
        ("trained = ", "trained = 9999-12-31T23:59:59-23:59 #"),
    ],
    ids=[
        "hundreds of digits",
        "thousands of digits",
        "moves the cursor",
        "proves nothing",
        "below nothing",
        "before all years",
        "behind all years",
    ],
)
def test_odd_values_are_a_wrong_manifest(tmp_path: Path, old: str, new: str) -> None:
    assert old in DELIVERED_MANIFEST
    folder = copy_of_delivered(tmp_path / "1")
    (folder / "manifest.toml").write_text(DELIVERED_MANIFEST.replace(old, new))
    assert refused(folder) == "M506"


@pytest.mark.parametrize(
    "text",
    ["x = " + "[" * 5000 + "]" * 5000, "x = " + "{a = " * 3000 + "1" + "}" * 3000, "x = 1\n" * 200_000],
    ids=["arrays", "tables", "large"],
)
def test_a_manifest_of_nothing_but_brackets_is_a_wrong_manifest(tmp_path: Path, text: str) -> None:
    folder = copy_of_delivered(tmp_path / "1")
    (folder / "manifest.toml").write_text(text)
    assert refused(folder) == "M506"


def test_a_list_of_the_repository_shows_what_is_wrong_with_each(tmp_path: Path) -> None:
    good = copy_of_delivered_as(tmp_path, 1)
    assert good.is_dir()
    pipe = copy_of_delivered_as(tmp_path, 2)
    (pipe / "manifest.toml").unlink()
    os.mkfifo(pipe / "manifest.toml")
    nested = copy_of_delivered_as(tmp_path, 3)
    (nested / "manifest.toml").write_text("x = " + "[" * 5000)
    entries = {entry.version: entry.fault for entry in ModelRepository(tmp_path).list()}
    assert entries[1] == ""
    assert entries[2].startswith("M509")
    assert entries[3].startswith("M506")


def copy_of_delivered_as(root: Path, version: int) -> Path:
    folder = root / "press-anomaly" / str(version)
    folder.parent.mkdir(exist_ok=True)
    copy_of_delivered(folder)
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("version = 1\n", f"version = {version}\n"))
    return folder


def test_what_is_taken_into_the_repository_is_files_and_nothing_else(tmp_path: Path) -> None:
    source = unwatched(copy_of_delivered(tmp_path / "source"))
    os.mkfifo(source / "left-over")
    installed = ModelRepository(tmp_path / "models").install(source)
    assert sorted(path.name for path in installed.folder.iterdir()) == sorted(NAMES)
    shutil.rmtree(source)
