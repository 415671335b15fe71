"""Tag tables as spreadsheets write them."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.cells import SHEET_FAULT, split_sheet
from edge_opcua.config.problem import Severity
from edge_opcua.config.tagtable import COLUMNS, MAX_TABLE_BYTES, TagTables
from edge_opcua.core.values import Scalar
from tests.config.fakedriver import FakeDriver

HEADER = ",".join(COLUMNS)


def read(folder: Path, text: str | bytes) -> TagTables:
    tables = TagTables(FakeDriver.parse_address, ("fast", "slow"))
    file = folder / "t.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    tables.read(file, "t.csv")
    return tables


def row_problems(folder: Path, row: str, *, header: str = HEADER) -> list[tuple[str, int, int, str]]:
    """Return code, line, column and message of what is wrong with one row below the header."""
    found = read(folder, f"{header}\n{row}\n").problems
    return [(one.code, one.place.line, one.place.column, one.message) for one in found if one.place.line != 1]


def test_a_full_row_becomes_a_tag_with_its_place(tmp_path: Path) -> None:
    row = 'a.b,r1:INT,mm,-5,5.5,"one, two",slow,0.1,-2,0.5,RW,yes,Old.Name,1.5,2,,,,yes,2.5,command,b'
    (tag,) = read(tmp_path, f"{HEADER},x_owner,x_empty\n{row},Ada,\n").tags
    assert (tag.name, tag.address, tag.type, tag.unit, tag.low, tag.high) == (
        "a.b",
        "r1:INT",
        Scalar.DOUBLE,
        "mm",
        -5.0,
        5.5,
    )
    assert (tag.clamp, tag.max_age_s, tag.write, tag.echo) == (True, 2.5, "command", "b")
    assert (tag.description, tag.group, tag.scale, tag.offset, tag.deadband) == (
        "one, two",
        "slow",
        0.1,
        -2,
        0.5,
    )
    assert (tag.access, tag.writable, tag.historize, tag.node_id) == ("rw", True, True, "Old.Name")
    assert (tag.substitute, tag.initial, tag.extra) == (1.5, 2.0, {"x_owner": "Ada"})
    assert (tag.file, tag.line) == ("t.csv", 2)


def test_states_are_numbers_with_texts(tmp_path: Path) -> None:
    (tag,) = read(tmp_path, "name,address,states\na,r1:INT, 4=Execute ; -1 = Not ready\n").tags
    assert tag.states == ((-1, "Not ready"), (4, "Execute"))


def test_a_byte_order_that_became_a_cell_of_its_own_is_no_unit(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "name;address;unit\na;r1:REAL;order=CDAB\n").problems
    assert (found.code, found.place.line) == ("T211", 2)
    assert "belongs to the address" in found.message


def test_empty_cells_are_the_defaults(tmp_path: Path) -> None:
    (tag,) = read(tmp_path, "ADDRESS,Name\nr1:INT,a\n").tags
    assert (tag.type, tag.group, tag.scale, tag.offset, tag.access, tag.substitute) == (
        Scalar.INT16,
        "fast",
        1.0,
        0.0,
        "r",
        None,
    )


@pytest.mark.parametrize(
    "text",
    [
        "name,address,unit,scale\na,r1:REAL,°C,0.5\n",
        "name;address;unit;scale\na;r1:REAL;°C;0,5\n",
        "name\taddress\tunit\tscale\na\tr1:REAL\t°C\t0,5\n",
        "sep=;\nname;address;unit;scale\na;r1:REAL;°C;0,5\n",
        '"sep=,"\nname,address,unit,scale\na,r1:REAL,°C,.5\n',
        "\ufeff# made by hand\r\n\r\nname , address,unit,scale\r\n,,,\r\n a , r1:REAL ,°C, 5e-1\r\n# end\r\n",
        '"name","address","unit","scale"\r"a","r1:REAL","°C","0.5"\r',
    ],
)
def test_the_table_is_read_as_any_spreadsheet_saves_it(tmp_path: Path, text: str) -> None:
    tables = read(tmp_path, text)
    assert tables.problems == []
    (tag,) = tables.tags
    assert (tag.name, tag.address, tag.unit, tag.scale) == ("a", "r1:REAL", "°C", 0.5)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_is_read_and_noted_when_it_was_guessed(tmp_path: Path, encoding: str) -> None:
    tables = read(tmp_path, "name,address,unit\na,r1:REAL,°C\n".encode(encoding))
    assert tables.tags[0].unit == "°C"
    assert [(one.code, one.severity) for one in tables.problems] == (
        [("T207", Severity.NOTICE)] if encoding == "cp1252" else []
    )


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"PK\x03\x04....", "T202", "is an Excel workbook, not CSV"),
        (b"name,address\n\x00\x01", "T202", "is not a text file"),
        (b"x" * (MAX_TABLE_BYTES + 1), "T202", "is 16 MiB large; at most 16 MiB are read"),
        (b"", "T220", "the file is empty; its first row names the columns"),
        (b"\n \n;;\n", "T220", "the file is empty; its first row names the columns"),
        (b"Tag,Adr\na,b", "T220", 'the first row has no column "name" and "address"'),
        (b"name,unit\na,b", "T220", 'the first row has no column "address"'),
        (b"name,address\n", "T222", "the table has no rows"),
        (b'name,"address\na,b', "T202", "a quote begins here and never ends"),
    ],
)
def test_a_file_that_is_no_table_is_refused_clearly(
    tmp_path: Path, data: bytes, code: str, message: str
) -> None:
    tables = read(tmp_path, data)
    assert (code, message) in [(one.code, one.message) for one in tables.problems]
    assert tables.tags == []


def test_a_header_with_a_strange_and_a_double_column(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address,Adress,colour,x_mine,name\na,r1:INT,,,,b\n")
    assert [(one.code, one.place.column, one.suggestion) for one in tables.problems] == [
        ("T205", 14, "address"),
        ("T205", 21, ""),
        ("T220", 35, ""),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (",r1:INT", ("T204", 2, 1, "the row has no name")),
        ("a", ("T204", 2, 1, "a has no address")),
        ("a,r1", ("T211", 2, 3, '"r1" is not an address')),
        ("a,r1:NIL", ("T214", 2, 3, '"r1:NIL": the type is not known')),
        ("a,1E+05", ("T208", 2, 3, 'address "1E+05": the spreadsheet turned this cell into a number')),
        ("####,r1:INT", ("T208", 2, 1, 'name "####": the spreadsheet could not show this cell')),
        (
            "1a,r1:INT",
            ("T209", 2, 1, '"1a" is not a tag name (letters, digits, _ and -, beginning with a letter)'),
        ),
        ("a,r1:REAL", ("T210", 2, 1, "a: no unit; clients will show a bare number")),
        ('a,r1:INT,,"0,1"', ("T206", 2, 11, 'low "0,1": decimal comma; this file is separated by commas')),
        ("a,r1:INT,,x", ("T206", 2, 11, 'low "x" is not a number')),
        ("a,r1:INT,,1e999", ("T206", 2, 11, 'low "1e999" is not a number')),
        ("a,r1:INT,,1_0", ("T206", 2, 11, 'low "1_0" is not a number')),
        ("a,r1:INT,,nan", ("T206", 2, 11, 'low "nan" is not a number')),
        ("a,r1:INT,,5,5", ("T227", 2, 13, "range 5..5: low must be below high")),
        ("a,r1:INT,,,,,fats", ("T230", 2, 14, 'group "fats" is not one of the device')),
        ("a,r1:INT,mm,,,,,0", ("T226", 2, 17, "scale 0 would make every value the same")),
        ("a,r1:BOOL,,,,,,2", ("T226", 2, 16, "scale is for numbers; r1:BOOL is true or false")),
        ("a,r1:STRING[4],,1", ("T226", 2, 17, "low is for numbers; r1:STRING[4] is text")),
        ("a,r1:INT,,,,,,,,,,,,,,open", ("T226", 2, 23, "true_name is for BOOL; r1:INT is none")),
        ("a,r1:INT,,,,,,,,-1", ("T224", 2, 17, "deadband -1 is negative; it must be 0 or more")),
        ("a,r1:INT,,,,,,,,,w", ("T229", 2, 18, 'access "w" is not one of r, rw')),
        ("a,i1:INT,,,,,,,,,rw", ("T229", 2, 18, "i1:INT cannot be written: the device has it read-only")),
        ("a,r1:INT,,,,,,,,,,maybe", ("T223", 2, 19, 'historize "maybe" is not true or false')),
        (
            "a,r1:INT,,,,,,,,,,,,40000",
            ("T228", 2, 21, 'substitute "40000" is not a whole number in -32768..32767'),
        ),
        (
            "a,r1:INT,,,,,,,,,,,,1.5",
            ("T228", 2, 21, 'substitute "1.5" is not a whole number in -32768..32767'),
        ),
        ("a,r1:UINT,,,5,,,,,,,,,6", ("T228", 2, 23, "substitute 6 is out of range ..5")),
        ("a,r1:BOOL,,,,,,,,,,,,2", ("T228", 2, 22, 'substitute "2" is not true or false')),
        (
            "a,r1:INT[3],,,,,,,,,,,,2",
            ("T228", 2, 24, "substitute is for single values; r1:INT[3] is an array"),
        ),
        (
            "a,r1:STRING[3],,,,,,,,,,,,äöü",
            ("T228", 2, 27, 'substitute "äöü" is not a text of at most 3 bytes'),
        ),
        ("a,r1:DT,,1", ("T226", 2, 10, "low is for numbers; r1:DT is a time")),
        (
            "a,r1:DT,,,,,,,,,,,,1.3.2026",
            ("T228", 2, 20, 'substitute "1.3.2026" is not a time such as 2026-03-01T12:00:00Z'),
        ),
        ("a,r1:REAL,m,,,,,,,,,,,,1e39", ("T228", 2, 24, 'initial "1e39" is not a number')),
        ("a,r1:INT,,,,,,,,,,,,,,,,,,,,,9", ("T231", 2, 30, "23 cells, the first row has 22")),
        ("a,r1:INT,,,,,,,,,rw,,,,,,,,,,,b", ("T247", 2, 31, "an echo is for commands: write = command")),
        (
            "a,r1:STRING[4],,,,,,,,,rw,,,,,,,,,,command,b",
            ("T247", 2, 44, "only a number can be repeated; r1:STRING[4] is none"),
        ),
        ("a,r1:INT,,,,,,,,,,,,,,,,0=x;y", ("T233", 2, 25, '"y" is not a state')),
        ("a,r1:INT,,,,,,,,,,,,,,,,0=x;0=y", ("T233", 2, 25, '"0=y" is not a state')),
        ("a,r1:INT,,,,,,,,,,,,,,,,70000=x", ("T233", 2, 25, '"70000=x" is not a state')),
        ("a,r1:REAL,m,,,,,,,,,,,,,,,0=x", ("T233", 2, 27, "states are for a whole number; r1:REAL is none")),
        (
            "a,r1:INT,,,,,,,,,,,,,,,,,true",
            ("T234", 2, 26, "clamp = true without low or high has nothing to clamp to"),
        ),
        ("a,r1:BOOL,,,,,,,,,,,,,,,,,no", ("T226", 2, 27, "clamp is for numbers; r1:BOOL is true or false")),
        ("a,r1:INT,,,,,,,,,,,,,,,,,,0", ("T235", 2, 27, "max_age_s 0 is not more than 0")),
        (
            "a,r1:INT,,,,,,,,,rw,,,,,,,,,,button",
            ("T246", 2, 30, 'write "button" is not one of setpoint, command'),
        ),
        ("a,r1:INT,,,,,,,,,,,,,,,,,,,command", ("T246", 2, 28, "write = command, but access is not rw")),
        (
            "a,r1:BOOL,,,,,,,,,rw,,,,,,,,,,setpoint",
            ("T246", 2, 31, "a bit is no set-point: each of its values is written"),
        ),
        ('a,r1:INT,"x', ("T202", 2, 10, "a quote begins here and never ends")),
    ],
)
def test_a_wrong_cell_is_reported_at_its_place(
    tmp_path: Path, row: str, expected: tuple[str, int, int, str]
) -> None:
    assert row_problems(tmp_path, row) == [expected]


def test_a_substitute_of_a_time_is_iso_8601(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address,substitute\na,r1:DT,1601-01-02\nb,r2:DT,1601-01-02T01:00+01:00\n")
    assert [tag.substitute for tag in tables.tags] == [864_000_000_000] * 2


def test_what_has_no_effect_yet_is_said_once(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address,historize,initial\na,r1:INT,true,\nb,r2:INT,true,\n")
    assert [(one.code, one.severity, one.place.column) for one in tables.problems] == [
        ("T232", Severity.NOTICE, 14)
    ]
    assert [tag.historize for tag in tables.tags] == [True, True]


def test_everything_wrong_in_a_row_is_said_at_once(tmp_path: Path) -> None:
    found = row_problems(tmp_path, "1,r1,,9,1,,none,x,,-1,w,perhaps,,,")
    assert [code for code, *_ in found] == ["T209", "T211", "T206", "T230", "T224", "T229", "T223", "T227"]


def test_a_split_cell_is_recognised_as_a_decimal_comma(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address,unit,scale\na,r1:INT,mm,0,1\n")
    assert tables.problems[0].code == "T231"
    assert "decimal comma" in tables.problems[0].help


def test_names_and_addresses_that_stand_twice_name_the_first(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address\na,r1:INT\na,r2:INT\nb,r1:INT\n")
    assert [(one.code, one.place.line, one.message) for one in tables.problems] == [
        ("T203", 3, '"a" is defined twice (first in row 2)'),
        ("T219", 4, "b reads the same address as a"),
    ]
    other = tmp_path / "other.csv"
    other.write_text("name,address\na,r9:INT\n")
    tables.read(other, "other.csv")
    assert tables.problems[-1].message == '"a" is defined twice (first in t.csv:2)'


def test_one_node_id_belongs_to_one_tag(tmp_path: Path) -> None:
    tables = read(tmp_path, f"name,address,node_id\na,r1:INT,N\nb,r2:INT,N\nc,r3:INT,{'x' * 201}\n")
    assert [(one.code, one.place.line) for one in tables.problems] == [("T225", 3), ("T225", 4)]


def test_line_breaks_in_quotes_do_not_move_the_rows_below(tmp_path: Path) -> None:
    tables = read(tmp_path, 'name,address,description\na,r1:INT,"one\ntwo ""quoted""\nthree"\nb,bad\n')
    assert tables.tags[0].description == 'one\ntwo "quoted"\nthree'
    assert (tables.problems[0].place.line, tables.problems[0].place.column) == (5, 3)
    assert tables.problems[0].excerpt == "b,bad"


def test_a_tag_name_suggests_what_it_could_be(tmp_path: Path) -> None:
    tables = read(tmp_path, "name,address\nÖl-Temp. 1,r1:INT\n°,r2:INT\n")
    assert [one.suggestion for one in tables.problems] == ["Oel-Temp._1", ""]


cell_text = st.text(st.sampled_from('abc ,;"\n1äé#='), max_size=6)


@given(st.lists(st.lists(cell_text, min_size=2, max_size=4), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_cells_are_what_the_csv_module_reads_and_stand_where_they_say(
    rows: list[list[str]], separator: str
) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    text = f"sep={separator}\n" + buffer.getvalue()
    sheet = split_sheet(text)
    read_back = csv.reader(io.StringIO(buffer.getvalue()), delimiter=separator)
    expected = [[cell.strip() for cell in row] for row in read_back]
    kept = [
        row for row in expected if any(row) and (not row[0].startswith("#") or SHEET_FAULT.fullmatch(row[0]))
    ]
    assert [row.texts for row in sheet.rows()] == kept
    for row in sheet.rows():
        assert [cell.text for cell in row.cells] == row.texts
        for cell in row.cells:
            assert sheet.line(cell.place.line)[cell.place.column - 1] == '"'


@given(st.text(st.sampled_from('ab ,;\n1"#'), max_size=40))
def test_a_row_is_the_same_at_first_sight_and_when_its_cells_are_looked_at(text: str) -> None:
    sheet = split_sheet(text)
    lines = [row.line for row in sheet.rows()]
    assert lines == sorted(set(lines))
    for row in sheet.rows():
        again = sheet.row_at(row.line)
        assert row.texts == [cell.text for cell in row.cells] == again.texts
        assert {cell.place.line for cell in row.cells} >= {row.line}


def _lines_of(tables: TagTables) -> list[str]:
    sheet = tables.sheets.get("t.csv")
    return sheet[0].text.split("\n") if sheet else []


@given(st.binary(max_size=200) | st.text('name,address\n;\t"r1:INT#x=é ', max_size=120).map(str.encode))
def test_any_bytes_give_tags_or_problems_at_places_in_the_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for start in (b"", b"name,address,unit,scale\n"):
            tables = read(Path(folder), start + data)
            for problem in tables.problems:
                assert 0 <= problem.place.line <= len(_lines_of(tables))
