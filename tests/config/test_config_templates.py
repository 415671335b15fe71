"""Includes and templates: what machines have in common is written once, and errors point at both places."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_opcua.assets import examples_dir
from edge_opcua.config.difference import difference
from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.problem import Problem
from edge_opcua.config.report import check_json, check_text, fold, problems_text, render
from edge_opcua.config.templates import compiled, filled, read_machines
from tests.config.fakedriver import FakePlugins
from tests.config.test_config_golden import compare

MAIN = """\
version = 1
[site]
name = "plant"
machine = "Hall"

[[templates]]
name = "press"
  [[templates.devices]]
  name = "${name}"
  driver = "fake"
  url = "fake://${host}"
  tags = "press.csv"
  timeout_ms = "${timeout:-250}"

[[machines]]
template = "press"
table = "presses.csv"
"""
TABLE = "name,host,no,timeout\np1,one,1,\np2,two,2,700\n"
TAGS = "name,address,unit\n${name}.force,r${no}:REAL,kN\n${name}.mode,r9:UINT,\n"


def write(folder: Path, **files: str) -> None:
    for name, text in {"main": MAIN, "presses": TABLE, "press": TAGS, **files}.items():
        path = folder / f"{name.replace('__', '/')}{'.toml' if text.startswith(('version', '[')) else '.csv'}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def loaded(folder: Path, env: dict[str, str] | None = None, **files: str) -> Loaded:
    write(folder, **files)
    return load(folder / "main.toml", env=env or {}, plugins=FakePlugins())


def found(result: Loaded) -> list[tuple[str, str, int, str]]:
    return [
        (problem.code, Path(problem.file).name, problem.place.line, Path(problem.origin).name)
        for problem in result.problems
    ]


def only(result: Loaded) -> Problem:
    (problem,) = result.problems
    return problem


def test_each_row_of_the_table_is_a_machine(tmp_path: Path) -> None:
    result = loaded(tmp_path)
    assert result.problems == ()
    assert result.config is not None
    first, second = result.config.devices
    assert [(one.name, one.url, one.timeout_ms, one.template) for one in (first, second)] == [
        ("p1", "fake://one", 250, "press"),
        ("p2", "fake://two", 700, "press"),
    ]
    assert [(tag.name, tag.address) for tag in second.tags] == [
        ("p2.force", "r2:REAL"),
        ("p2.mode", "r9:UINT"),
    ]
    # Everything behind the loader sees plain devices.
    assert (result.config.templates, result.config.machines, result.config.include) == ((), (), ())


def test_machines_with_the_same_names_of_tags_are_told_how_to_differ(tmp_path: Path) -> None:
    result = loaded(tmp_path, press="name,address,unit\nforce,r1:REAL,kN\nmode,r2:UINT,\n")
    assert (only(result).code, only(result).place.line) == ("C134", 12)
    assert "${name}.force" in only(result).help


def test_a_node_id_of_its_own_lets_a_name_stand_twice(tmp_path: Path) -> None:
    tags = "name,address,unit,node_id\nforce,r${no}:REAL,kN,Hall.${name}.force\n"
    result = loaded(tmp_path, press=tags)
    assert result.config is not None
    assert [device.tags[0].node_id for device in result.config.devices] == ["Hall.p1.force", "Hall.p2.force"]


def test_pipelines_and_outputs_are_made_for_each_machine(tmp_path: Path) -> None:
    parts = """
    [[templates.devices.captures]]
    name = "stroke"
    sequence = "r0:UINT"
    samples = "r100:INT[2000]"
    sample_rate_hz = 10000
    [templates.devices.watchdog]
    profile = "wago-750"
    timeout_ms = 500
  [[templates.pipelines]]
  name = "${name}-wear"
  model = "wear"
  capture = "${name}/stroke"
  context = ["${name}/${name}.force"]
  [[templates.outputs]]
  name = "${name}-verdict"
  device = "${name}"
  pipeline = "${name}-wear"
    [[templates.outputs.values]]
    tag = "${name}/${name}.limit"
    source = "score"
    preset = 0
"""
    text = MAIN.replace("[[machines]]", parts + "\n[[machines]]")
    table = "name,address,unit,low,high,access\n"
    table += "${name}.force,r${no}:REAL,kN,,,\n${name}.limit,r9:REAL,kN,0,9,rw\n"
    result = loaded(tmp_path, main=text, press=table)
    assert result.problems == ()
    assert result.config is not None
    assert [one.capture for one in result.config.pipelines] == ["p1/stroke", "p2/stroke"]
    written = [(one.device, one.values[0].tag) for one in result.config.outputs]
    assert written == [("p1", "p1/p1.limit"), ("p2", "p2/p2.limit")]
    wrong = loaded(tmp_path, main=text.replace("${name}.force", "${name}.farce"), press=table)
    assert [(code, origin) for code, _, _, origin in found(wrong)] == [
        ("C112", "presses.csv:2 (p1)"),
        ("C112", "presses.csv:3 (p2)"),
    ]


@pytest.mark.parametrize(
    ("tags", "codes"),
    [
        ("name,address,unit\n${name}.a,r1:REAL,kN\n${name}.a,r2:REAL,kN\n", ["T203", "T203"]),
        ("name,address,unit\n${name}.a,r${no}:${host},kN\n", ["T211", "T211"]),
        ("name,address,unit,low,high\n${name}.a,r1:REAL,kN,${no},1\n", ["T227", "T227"]),
        (
            "name,address,unit\n${name}.a,r1:REAL,kN\n${name}.${host},r2:REAL,kN\n${name}.one,r3:REAL,kN\n",
            ["T203"],
        ),
        ("name,address,unit\n${naem}.a,r1:REAL,kN\n", ["T257", "T257"]),
    ],
)
def test_a_row_is_judged_for_each_machine(tmp_path: Path, tags: str, codes: list[str]) -> None:
    result = loaded(tmp_path, press=tags)
    assert sorted(code for code, *_ in found(result)) == sorted(codes)
    assert all(file == "press.csv" and line and origin for _, file, line, origin in found(result))


def test_an_error_of_the_template_points_at_its_line_and_at_the_row(tmp_path: Path) -> None:
    result = loaded(tmp_path, main=MAIN.replace('"fake://${host}"', '"tcp://${host}"'))
    assert found(result) == [
        ("C114", "main.toml", 11, "presses.csv:2 (p1)"),
        ("C114", "main.toml", 11, "presses.csv:3 (p2)"),
    ]
    assert result.problems[0].where == "devices[p1].url"
    assert "for:  " in render([result.problems[0]])
    assert result.problems[0].as_json()["origin"].endswith("presses.csv:2 (p1)")


def test_an_error_of_one_row_names_that_row(tmp_path: Path) -> None:
    result = loaded(tmp_path, presses=TABLE.replace("700", "soon"))
    assert found(result) == [("C105", "main.toml", 13, "presses.csv:3 (p2)")]


def test_the_same_error_of_many_machines_is_folded(tmp_path: Path) -> None:
    rows = "".join(f"p{number},h{number},{number},\n" for number in range(40))
    result = loaded(
        tmp_path, presses=f"name,host,no,timeout\n{rows}", press="name,address,unit\n${name}.a,x:INT,\n"
    )
    (part,) = fold(result.problems)
    assert "error[T211] in 40 machines: lines 2" in render(part)


def test_a_misspelt_placeholder_is_said_once_with_the_column(tmp_path: Path) -> None:
    result = loaded(tmp_path, main=MAIN.replace("${host}", "${hots}"))
    first = result.problems[0]
    assert (first.code, first.place.line, first.suggestion) == ("C133", 11, "${host}")
    assert "neither a column of presses.csv nor set in the environment" in first.message


def test_a_placeholder_may_be_a_variable_and_a_cell_never_is_one(tmp_path: Path) -> None:
    text = MAIN.replace('"fake://${host}"', '"fake://${host}/${PATH_PART}"')
    result = loaded(
        tmp_path, env={"PATH_PART": "x", "HOME": "/root"}, main=text, presses="name,host,no\np1,$${HOME},1\n"
    )
    assert result.config is not None
    assert result.config.devices[0].url == "fake://$${HOME}/x"


@pytest.mark.parametrize(
    ("change", "code", "file"),
    [
        ({"main": MAIN.replace('template = "press"', 'template = "pres"')}, "C132", "main.toml"),
        ({"main": MAIN.replace("presses.csv", "none.csv")}, "T255", "main.toml"),
        ({"main": MAIN.replace('table = "presses.csv"', "")}, "C106", "main.toml"),
        ({"main": MAIN.replace("table =", "tabel =")}, "C102", "main.toml"),
        ({"main": MAIN + '[[templates]]\nname = "press"\n'}, "C111", "main.toml"),
        ({"main": MAIN.replace('name = "press"', 'name = "press"\nspeed = 3')}, "C102", "main.toml"),
        ({"presses": "host\none\n"}, "T255", "presses.csv"),
        ({"presses": "name,host,host\np1,one,two\n"}, "T255", "presses.csv"),
        ({"presses": "\n"}, "T255", "presses.csv"),
        ({"presses": "name,host,no\np 1,one,1\n"}, "T256", "presses.csv"),
        ({"presses": "name,host,no\n,one,1\n"}, "T256", "presses.csv"),
        ({"presses": "name,host,no\np1,one,1,x\n"}, "T256", "presses.csv"),
        ({"presses": 'name,host,no\n"p1,one,1\n'}, "T255", "presses.csv"),
        ({"presses": TABLE + "p1,three,3,\n"}, "T256", "presses.csv"),
    ],
)
def test_what_is_wrong_with_templates_and_tables(
    tmp_path: Path, change: dict[str, str], code: str, file: str
) -> None:
    write(tmp_path, **change)
    result = load(tmp_path / "main.toml", env={}, plugins=FakePlugins())
    assert result.config is None
    assert (code, file) in [(problem, name) for problem, name, *_ in found(result)]
    assert "Traceback" not in problems_text(result)


def test_a_binary_table_of_machines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04\x00")
    assert "workbook" in read_machines(tmp_path / "t.csv", "t.csv", "press").problems[0].message


def test_a_template_that_nobody_uses_is_a_warning(tmp_path: Path) -> None:
    result = loaded(tmp_path, main=MAIN + '[[templates]]\nname = "old"\n')
    assert (only(result).code, result.ok) == ("C123", True)


def test_two_machines_of_one_name_in_two_tables_are_both_named(tmp_path: Path) -> None:
    text = MAIN + '[[machines]]\ntemplate = "press"\ntable = "more.csv"\n'
    result = loaded(tmp_path, main=text, more=TABLE)
    names = [problem for problem in result.problems if problem.code == "C111"]
    assert "first in " in names[0].message
    assert names[0].message.endswith("presses.csv:2 (p1))")
    assert names[0].origin.endswith("more.csv:2 (p1)")


INCLUDING = MAIN.replace("version = 1", 'version = 1\ninclude = ["lines/*.toml"]')
LINE = '[[devices]]\nname = "vib"\ndriver = "fake"\nurl = "fake://vib"\ntags = "vib.csv"\n'
VIB = "name,address,unit\nrms,r1:REAL,mm/s\n"


def test_included_files_come_in_the_order_of_their_names_with_their_tables_beside_them(
    tmp_path: Path,
) -> None:
    other = LINE.replace("vib", "air")
    result = loaded(tmp_path, main=INCLUDING, lines__b=LINE, lines__a=other, lines__vib=VIB, lines__air=VIB)
    assert result.config is not None
    assert [device.name for device in result.config.devices] == ["air", "vib", "p1", "p2"]
    assert result.config.devices[1].tags[0].name == "rms"


def test_an_error_in_an_included_file_names_it(tmp_path: Path) -> None:
    wrong = LINE.replace('"fake"', '"fax"') + "speed = 3\n"
    result = loaded(tmp_path, main=INCLUDING, lines__a=wrong, lines__vib=VIB)
    assert [(code, file, line) for code, file, line, _ in found(result)] == [
        ("C104", "a.toml", 3),
        ("C102", "a.toml", 6),
    ]
    assert all(problem.excerpt for problem in result.problems)


@pytest.mark.parametrize(
    ("line", "code", "part"),
    [
        ('[site]\nname = "other"\n' + LINE, "C122", "first in "),
        ("version = 2\n" + LINE, "C122", "first in "),
        ('include = ["x.toml"]\n' + LINE, "C131", "includes no others"),
        ("version = 1\nport = \n" + LINE, "C101", "no value"),
    ],
)
def test_what_two_files_cannot_both_say(tmp_path: Path, line: str, code: str, part: str) -> None:
    write(tmp_path, main=INCLUDING, lines__vib=VIB)
    (tmp_path / "lines" / "a.toml").write_text(line)
    result = load(tmp_path / "main.toml", env={}, plugins=FakePlugins())
    (problem,) = [one for one in result.problems if one.code == code]
    assert part in problem.message
    assert Path(problem.file).name == "a.toml"
    assert problem.place.line > 0


@pytest.mark.parametrize(
    ("include", "code", "ok"),
    [
        ('["lines/none.toml"]', "C130", False),
        ('["lines/n*.toml"]', "C130", True),
        ("3", "C105", False),
        ('["\\u0000"]', "C130", False),
    ],
)
def test_an_include_that_hits_nothing(tmp_path: Path, include: str, code: str, ok: bool) -> None:
    result = loaded(tmp_path, main=MAIN.replace("version = 1", f"version = 1\ninclude = {include}"))
    assert (only(result).code, only(result).place.line, result.ok) == (code, 2, ok)


def test_a_file_that_includes_itself_is_read_once(tmp_path: Path) -> None:
    result = loaded(tmp_path, main=MAIN.replace("version = 1", 'version = 1\ninclude = ["*.toml"]'))
    assert result.problems == ()


def test_a_key_of_a_section_may_come_from_another_file(tmp_path: Path) -> None:
    result = loaded(tmp_path, main=INCLUDING, lines__a='[site]\nlocation = "Hall 2"\n' + LINE, lines__vib=VIB)
    assert result.config is not None
    assert result.config.site.location == "Hall 2"


def test_compiled_texts_say_the_same_as_filled_ones() -> None:
    values = {"name": "p1", "db": "", "no": "7"}
    for text in (
        "",
        "plain",
        "${name}",
        "a${name}.${no}b",
        "${db:-10}",
        "${DB:-x}${Name}",
        "$${name}",
        "${more:-y}",
    ):
        assert compiled(text)(values) == filled(text, values)


def test_check_says_how_many_machines_there_are_and_shows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples_dir() / "hall")
    result = load(Path("hall.toml"), env={})
    assert result.problems == ()
    compare("hall_plan", check_text(result, ()))
    assert check_json(result, ())["machines"] == {"press": 3}


def test_the_example_of_a_hall_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples_dir() / "hall")
    config = load(Path("hall.toml"), env={}).config
    assert config is not None
    third = config.device("press03")
    assert (third.url, third.timeout_ms) == ("s7://192.168.2.13?rack=0&slot=2", 800)
    assert (third.tags[0].name, third.tags[0].address) == ("press03.force", "DB42.DBD0:REAL")
    assert config.device("vib").tags[0].name == "vib.rms"


def test_the_how_to_quotes_the_example() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/templates.md").read_text()
    quoted = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert quoted is not None
    example = (examples_dir() / "hall" / "hall.toml").read_text()
    kept = [re.sub(r"\s+#.*", "", line).rstrip() for line in example.splitlines()]
    assert [line for line in quoted[1].splitlines() if line and line not in kept] == []
    rows = (examples_dir() / "hall" / "presses.csv").read_text()
    assert rows in page


def test_a_row_more_is_one_device_more_and_changes_no_other(tmp_path: Path) -> None:
    before = loaded(tmp_path).config
    after = loaded(tmp_path, presses=TABLE + "p3,three,3,\n").config
    assert before is not None
    assert after is not None
    change = difference(before, after)
    assert list(change.devices.added) == ["p3"]
    assert (change.devices.changed, change.devices.removed, change.settings) == ({}, (), ())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [
                "${name}.a{n},r${no}{n}:REAL,kN,0,,,",
                "${name}.b{n},r9{n}:INT,${unit:-mm},,2,,",
                "${name}.c{n},i${no}{n}:UINT,${host},,,n.${name}.{n},",
                "${name}.d{n},r8{n}:STRING[4],,,,,text of ${name}",
                "${name}.${host}{n},r7{n}:REAL,bar,-1,${no},,",
            ]
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_said_again_is_what_reading_in_full_says(tmp_path: Path, rows: list[str]) -> None:
    """For all machines but the first only cells with a placeholder are looked at: nobody may notice."""
    head = "name,address,unit,low,high,node_id,description\n"
    table = head + "".join(row.replace("{n}", str(at)) + "\n" for at, row in enumerate(rows))
    together = loaded(tmp_path, press=table)
    assert together.config is not None
    # Alone, each machine is the first of its template.
    for line in TABLE.splitlines()[1:]:
        alone = loaded(tmp_path, press=table, presses=f"{TABLE.splitlines()[0]}\n{line}\n")
        assert alone.config is not None
        (device,) = alone.config.devices
        assert together.config.device(device.name).tags == device.tags
