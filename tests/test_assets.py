"""The files that travel with the package are found."""

from __future__ import annotations

import pytest

from edge_opcua import assets


def test_nodesets_and_examples_are_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert (assets.nodesets_dir() / "README.md").is_file()
    assert (assets.examples_dir() / "README.md").is_file()


def test_an_installation_without_a_folder_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="install edge-opcua again"):
        assets._find("no-such-folder")
