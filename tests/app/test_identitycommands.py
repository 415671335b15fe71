"""A tag renamed in the table, as the engineer meets it: check, run, and the two ways on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.cli import main

TOML = """\
version = 1
[site]
name = "plant-1"
machine = "Press01"
[[devices]]
name = "press"
driver = "s7"
url = "s7://192.0.2.1?rack=0&slot=1"
tags = "press.csv"
"""
TABLE = "name,address,unit,node_id\n{name},DB1.DBD0:REAL,°C,{node_id}\nspeed,DB1.DBD4:REAL,1/min,\n"
MOVE = "Press01.Process.oil_temp -> Press01.Process.oil_temperature"


class Box:
    """A configuration and a state directory."""

    def __init__(self, root: Path) -> None:
        self.file, self.state = root / "press.toml", root / "state"
        self.state.mkdir()
        self.lock = self.state / "identity.lock"
        self.file.write_text(TOML)
        self.call_tag("oil_temp")
        assert self.run("identity", "accept") == 0

    def call_tag(self, name: str, *, node_id: str = "") -> None:
        self.file.with_name("press.csv").write_text(TABLE.format(name=name, node_id=node_id))

    def run(self, *command: str) -> int:
        return main([*command, str(self.file), "--state", str(self.state)])


@pytest.fixture
def box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Box:
    made = Box(tmp_path)
    capsys.readouterr()
    return made


def test_check_prints_old_and_new_with_the_row_and_refuses(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    assert box.run("check") == 0
    box.call_tag("oil_temperature")
    before = box.lock.read_bytes()
    capsys.readouterr()
    assert box.run("check") == 2
    said = capsys.readouterr().out
    assert f"{MOVE} (tag s7://192.0.2.1?rack=0&slot=1 DB1.DBD0:REAL)   {box.file.parent}/press.csv:2" in said
    assert f"error[C191] 1 name that clients know would move; compared with --state {box.state}" in said
    assert "node_id" in said
    assert "[[renames]]" in said
    assert "identity accept" in said
    assert "Run it:" not in said
    assert box.run("run") == 2
    assert MOVE in capsys.readouterr().err
    assert box.lock.read_bytes() == before


def test_check_prints_every_move_also_when_there_are_many(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"t{n},DB1.DBD{4 * n}:REAL,°C," for n in range(40)]
    table = box.file.with_name("press.csv")
    table.write_text("\n".join(["name,address,unit,node_id", *rows]))
    assert box.run("identity", "accept") == 0
    table.write_text("\n".join(["name,address,unit,node_id", *(f"n{row}" for row in rows)]))
    capsys.readouterr()
    assert box.run("check") == 2
    assert capsys.readouterr().out.count(" -> Press01.Process.nt") == 40


def test_the_column_node_id_keeps_the_old_one(box: Box) -> None:
    box.call_tag("oil_temperature", node_id="ns=7;s=Press01.Process.oil_temp")
    assert box.run("check") == 0


def test_the_table_of_renames_agrees_for_every_box(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.call_tag("oil_temperature")
    old, new = MOVE.split(" -> ")
    box.file.write_text(f'{TOML}\n[[renames]]\nold = "{old}"\nnew = "{new}"\n')
    assert box.run("check") == 0
    assert f"note: renamed as the table says: {MOVE}" in capsys.readouterr().out


def test_the_operator_agrees_on_one_box_and_the_history_says_so(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.call_tag("oil_temperature")
    assert box.run("identity", "accept") == 0
    assert f"accepted: {MOVE}" in capsys.readouterr().out
    assert box.run("check") == 0
    capsys.readouterr()
    assert main(["identity", "show", "--state", str(box.state)]) == 0
    said = capsys.readouterr().out
    assert MOVE in said
    assert "reserved: Press01.Process.oil_temp " in said
    assert main(["identity", "show", "--json", "--state", str(box.state)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["history"][0]["by"] == "accept"


def test_programs_get_the_moves_too(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.call_tag("oil_temperature")
    assert box.run("check", "--json") == 2
    said = json.loads(capsys.readouterr().out)
    assert not said["ok"]
    (move,) = said["identity"]["refused"]
    assert f"{move['old']} -> {move['new']}" == MOVE
    assert move["line"] == 2


def test_two_nodes_of_one_name_are_found_by_check_already(
    box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    box.call_tag("oil_temp", node_id="Press01.Process.speed")
    assert box.run("check") == 2
    assert "C193" in capsys.readouterr().out


def test_nothing_promised_and_no_state_directory_are_said(
    tmp_path: Path, box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["identity", "show", "--state", str(tmp_path / "none")]) == 1
    assert main(["identity", "accept", str(box.file), "--state", str(tmp_path / "none")]) == 2
    box.lock.write_text("{")
    assert box.run("check") == 2
    assert "C192" in capsys.readouterr().out
    assert box.run("identity", "accept") == 2
    assert main(["identity", "show", "--state", str(box.state)]) == 2
    box.file.write_text("version = 2")
    assert box.run("identity", "accept") == 2
