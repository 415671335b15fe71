"""``tags import`` and ``tags export --as device``: what is written when, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.cli import main

CONFIG = """\
version = 1
[site]
name = "plant"
machine = "Press01"
[[devices]]
name = "vib"
driver = "modbus"
url = "modbus://192.168.0.20:502/1"
tags = "tags/vib.csv"
  [[devices.groups]]
  name = "fast"
  period_ms = 100
  [[devices.groups]]
  name = "slow"
  period_ms = 1000
[[devices]]
name = "press"
driver = "s7"
url = "s7://192.168.0.10?rack=0&slot=1"
"""
KEPWARE = """\
Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate
force,400001,Float,1,RO,100
speed,400003,Word,1,R/W,1000
"""
BAD_ROW = "bcd,400009,BCD,1,RO,100\n"


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "press.toml").write_text(CONFIG)
    (tmp_path / "tags").mkdir()
    (tmp_path / "list.csv").write_text(KEPWARE)
    return tmp_path


def run(*arguments: str) -> int:
    return main(["tags", *arguments, "-c", "press.toml"])


def test_an_import_writes_the_table_that_the_device_names(
    plant: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("import", "list.csv", "--device", "vib") == 0
    assert (plant / "tags/vib.csv").read_text() == (
        "name,address,unit,low,high,description,group,access\n"
        "force,hr:0:REAL,,,,,fast,\n"
        "speed,hr:2:UINT,,,,,slow,rw\n"
    )
    out = capsys.readouterr().out
    assert "taken    2" in out
    assert out.splitlines()[-1].endswith("Then: edge-opcua check press.toml")


def test_the_folder_of_a_table_need_not_exist(plant: Path) -> None:
    (plant / "tags").rmdir()
    assert run("import", "list.csv", "--device", "vib", "--dry-run") == 0
    assert not (plant / "tags").exists()
    assert run("import", "list.csv", "--device", "vib") == 0
    assert (plant / "tags/vib.csv").exists()


def test_a_dry_run_writes_nothing(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "list.csv", "--device", "vib", "--dry-run") == 0
    assert not (plant / "tags/vib.csv").exists()
    assert "Nothing was written (--dry-run)" in capsys.readouterr().out


def test_abort_writes_nothing_if_one_row_is_left_out(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plant / "list.csv").write_text(KEPWARE + BAD_ROW)
    assert run("import", "list.csv", "--device", "vib", "--policy", "abort") == 1
    assert not (plant / "tags/vib.csv").exists()
    out = capsys.readouterr().out
    assert "list.csv:4: error[T237] bcd" in out
    assert "1 error, 0 warnings." in out
    assert "Nothing was written (--policy abort)" in out


OLD = """\
# by hand
name,address,unit,states,x_loop
force,hr:100:REAL,kN,,L1

mode,hr:102:UINT,,0=Stop; 1=Run,
"""


SKIPPED = """\
# by hand
name,address,unit,states,x_loop,group,access
force,hr:100:REAL,kN,,L1,,

mode,hr:102:UINT,,0=Stop; 1=Run,,,
speed,hr:2:UINT,,,,slow,rw
"""
RENAMED = """\
# by hand
name,address,unit,states,x_loop,group,access,x_name
force,hr:100:REAL,kN,,L1,,,

mode,hr:102:UINT,,0=Stop; 1=Run,,,,
force_2,hr:0:REAL,,,,fast,,force
speed,hr:2:UINT,,,,slow,rw,
"""
REPLACED = SKIPPED.replace("force,hr:100:REAL,kN,,L1,,", "force,hr:0:REAL,,,L1,fast,")


@pytest.mark.parametrize(
    ("policy", "code", "table"),
    [("abort", 1, OLD), ("skip", 0, SKIPPED), ("rename", 0, RENAMED), ("replace", 0, REPLACED)],
)
def test_a_name_that_is_there_is_treated_by_the_policy(
    plant: Path, policy: str, code: int, table: str
) -> None:
    (plant / "tags/vib.csv").write_text(OLD)
    assert run("import", "list.csv", "--device", "vib", "--policy", policy) == code
    assert (plant / "tags/vib.csv").read_text() == table


def test_a_table_with_other_separators_keeps_them(plant: Path) -> None:
    (plant / "tags/vib.csv").write_text('name;address;description\na;hr:50:INT;"b; c"\n')
    assert run("import", "list.csv", "--device", "vib") == 0
    lines = (plant / "tags/vib.csv").read_text().splitlines()
    assert lines[:2] == ["name;address;description;group;access", 'a;hr:50:INT;"b; c";;']


def test_groups_and_a_table_that_the_device_lacks_are_told(
    plant: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plant / "s7.csv").write_text("Tag Name,Address,Data Type,Scan Rate\nrun,DB1.DBX0.0,Boolean,250\n")
    assert run("import", "s7.csv", "--device", "press") == 0
    assert (plant / "press.csv").exists()
    out = capsys.readouterr().out
    assert '  [[devices.groups]]\n  name = "ms250"\n  period_ms = 250' in out
    assert 'tags = "press.csv"' in out


def test_a_block_gets_its_number_from_option_or_file_name(plant: Path) -> None:
    head = "DATA_BLOCK \"Data\"\n{ S7_Optimized_Access := 'FALSE' }\n"
    source = head + "STRUCT\nA : Int;\nEND_STRUCT;\nBEGIN\nEND_DATA_BLOCK\n"
    (plant / "DB7.db").write_text(source)
    (plant / "data.db").write_text(source)
    assert run("import", "DB7.db", "--device", "press") == 0
    assert "A,DB7.DBW0:INT" in (plant / "press.csv").read_text()
    assert run("import", "data.db", "--device", "press", "--policy", "replace") == 1
    assert run("import", "data.db", "--device", "press", "--policy", "replace", "--db", "Data=9") == 0
    assert "A,DB9.DBW0:INT" in (plant / "press.csv").read_text()


def test_json_holds_every_problem_unfolded(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"b{number},4000{number:02d},BCD,1,RO,100\n" for number in range(10, 20))
    (plant / "list.csv").write_text(KEPWARE + rows)
    assert run("import", "list.csv", "--device", "vib", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "edge-opcua.tags-import/1"
    assert (found["written"], found["taken"], found["skipped"]) == (True, ["force", "speed"], 10)
    assert [one["line"] for one in found["problems"]] == list(range(4, 14))


def test_many_rows_of_a_kind_are_folded(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"b{number},4000{number:02d},BCD,1,RO,100\n" for number in range(10, 20))
    (plant / "list.csv").write_text(KEPWARE + rows)
    assert run("import", "list.csv", "--device", "vib") == 0
    assert "warn[T237] in 10 rows: 4-13" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("import", "list.csv", "--device", "vip"), 'did you mean "vib"?'),
        (("import", "list.csv"), "Add --device NAME"),
        (("import", "--device", "vib"), "which list?"),
        (("import", "none.csv", "--device", "vib"), "there is no such file"),
        (("import", "list.csv", "--device", "vib", "--db", "x=y"), "is not a number of a data block"),
        (("import", "list.csv", "--device", "vib", "--format", "neuron"), "has no header"),
        (("import", "list.csv", "--device", "vib", "--out", "tags"), "is a folder"),
        (("export", "--as", "device", "--device", "vib", "--format", "tia"), "no addresses that the driver"),
        (("export", "--as", "device", "--format", "tia"), "there is no device"),
        (("export", "--format", "neuron"), "reads no OPC UA servers"),
    ],
)
def test_wrong_use_is_one_sentence(
    plant: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], part: str
) -> None:
    (plant / "tags/vib.csv").write_text("name,address,unit\na,hr:0:REAL,kN\n")
    (plant / "press.csv").write_text("name,address\nb,DB1.DBW0:INT\n")
    (plant / "press.toml").write_text(CONFIG + 'tags = "press.csv"\n')
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert part in err
    assert "Traceback" not in err


@pytest.mark.parametrize("product", ["kepware", "ignition", "neuron", "csv"])
def test_a_table_goes_out_and_comes_back(
    plant: Path, product: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = plant / "tags/vib.csv"
    (plant / "press.csv").write_text("name,address\nb,DB1.DBW0:INT\n")
    (plant / "press.toml").write_text(CONFIG + 'tags = "press.csv"\n')
    assert run("import", "list.csv", "--device", "vib") == 0
    before = table.read_text()
    assert run("export", "--as", "device", "--device", "vib", "--format", product, "--out", "out") == 0
    assert "2 of 2 tags" in capsys.readouterr().out
    table.unlink()
    assert run("import", "out", "--device", "vib") == 0
    assert table.read_text() == before


def test_what_an_export_leaves_out_points_at_the_row(plant: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plant / "tags/vib.csv").write_text(
        "name,address,unit,group\na,hr:0:REAL[4],kN,fast\nc,hr:9:REAL,kN,slow\n"
    )
    (plant / "press.csv").write_text("name,address\nb,DB1.DBW0:INT\n")
    (plant / "press.toml").write_text(CONFIG + 'tags = "press.csv"\n')
    assert run("export", "--as", "device", "--device", "vib", "--format", "neuron") == 0
    printed = capsys.readouterr()
    assert "tags/vib.csv:2: warn[T250] a: Neuron's Modbus plugin has no arrays" in printed.err
    assert printed.out.splitlines()[1:] == ["slow,c,1!400010,Read,FLOAT,[kN],,"]


def test_a_device_of_an_included_file_has_its_table_beside_that_file(plant: Path) -> None:
    (plant / "lines").mkdir()
    (plant / "lines/air.toml").write_text(
        '[[devices]]\nname = "air"\ndriver = "modbus"\nurl = "modbus://192.168.0.30/1"\ntags = "air.csv"\n'
    )
    text = CONFIG.replace("version = 1", 'version = 1\ninclude = ["lines/*.toml"]')
    (plant / "press.toml").write_text(text)
    assert run("import", "list.csv", "--device", "air") == 0
    assert (plant / "lines/air.csv").exists()


def test_the_tags_that_an_output_adds_stay_out_of_a_device_list(
    plant: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are made anew from the output; a table that had them too would be refused (T263)."""
    (plant / "tags/vib.csv").write_text("name,address,unit\na,hr:0:REAL,kN\n")
    (plant / "press.csv").write_text("name,address\nb,DB1.DBW0:INT\n")
    text = CONFIG.replace(
        '[[devices]]\nname = "press"',
        '  [[devices.captures]]\n  name = "stroke"\n  sequence = "hr:9:UINT"\n'
        '  samples = "hr:20:INT[9]"\n  sample_rate_hz = 9\n[[devices]]\nname = "press"',
    )
    output = (
        '[[pipelines]]\nname = "p"\nmodel = "m"\ncapture = "vib/stroke"\n[[outputs]]\nname = "o"\n'
        'device = "press"\npipeline = "p"\n[outputs.interface]\ncontrol = "DB21"\nstatus = "DB20"\n'
    )
    (plant / "press.toml").write_text(f'{text}tags = "press.csv"\n{output}')
    assert run("export", "--as", "device", "--device", "press", "--out", "out") == 0
    assert "1 of 1 tags" in capsys.readouterr().out
    assert (plant / "out").read_text().splitlines()[1].startswith("b,DB1.DBW0:INT")
    assert len((plant / "out").read_text().splitlines()) == 2
