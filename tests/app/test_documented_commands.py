"""Whatever command a page tells somebody to type is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from edge_opcua.cli import build_parser, main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted([*(DOCS / "howto").glob("*.md"), *(DOCS / "tutorial").glob("*.md")])
_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"[…<>|;&]")  # what the reader or a shell has to do something with


def commands(page: Path) -> list[str]:
    """Return the plain commands of our program in the blocks of a page."""
    lines = [line for block in _BLOCK.findall(page.read_text()) for line in block.splitlines()]
    plain = [line.removeprefix("$ ").partition("   #")[0].strip() for line in lines]
    return [line for line in plain if line.startswith("edge-opcua ") and not _PLACEHOLDER.search(line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_taken_by_the_parser(page: Path) -> None:
    for command in commands(page):
        arguments = shlex.split(command, comments=True)[1:]
        if arguments[0] != "sim":  # which has a parser of its own
            build_parser().parse_args(arguments)  # SystemExit if it does not


def test_the_pages_of_commissioning_have_commands() -> None:
    assert len(commands(DOCS / "howto" / "commission.md")) >= 14
    assert len(commands(DOCS / "tutorial" / "first-device.md")) >= 7


def test_a_file_may_stand_behind_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = str(tmp_path / "list.csv")
    assert main(["tags", "import", "--device", "plc", "-c", str(tmp_path / "line.toml"), absent]) == 2
    assert "line.toml" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["tags", "import", "--device", "plc", absent, "another.csv"])
    assert "unrecognized arguments" in capsys.readouterr().err
