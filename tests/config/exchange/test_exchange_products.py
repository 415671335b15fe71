"""One small list of each product, made from its documented header: what becomes of every row, word for word.

``EDGE_OPCUA_WRITE_GOLDEN=1 pytest tests/config/exchange`` writes the files anew; read the difference.
"""

from __future__ import annotations

import json
import os

import pytest

from edge_opcua.config.exchange.formats import read_list
from edge_opcua.config.exchange.listing import ListError, Target
from edge_opcua.config.exchange.reading import grid_of
from edge_opcua.config.report import fold, render
from tests.config.exchange.lists import HERE, LOGIX, MODBUS, PARSERS, S7, imported, said, taken, workbook

CASES = {
    "kepware_modbus.csv": MODBUS,
    "kepware_s7.csv": S7,
    "kepware_logix.csv": LOGIX,
    "ignition8.json": MODBUS,
    "ignition7.csv": MODBUS,
    "tia.csv": S7,
    "blocks.db": S7,
    "rockwell.csv": LOGIX,
    "project.L5X": LOGIX,
    "neuron.csv": MODBUS,
    "ours.csv": MODBUS,
}


@pytest.mark.parametrize(("file", "target"), CASES.items())
def test_a_list_becomes_this_table(file: str, target: Target) -> None:
    listing = read_list((HERE / file).read_bytes(), file, target)
    accepted = taken(listing, target)
    report = [render(part) for part in fold(listing.problems)]
    text = "\n".join([f"# {listing.product}", accepted.text, *report, f"groups: {accepted.groups}", ""])
    golden = HERE / "golden" / f"{file}.txt"
    if os.environ.get("EDGE_OPCUA_WRITE_GOLDEN"):
        golden.write_text(text)
    assert golden.read_text() == text


@pytest.mark.parametrize(("file", "target"), CASES.items())
def test_every_row_left_out_has_line_code_and_reason(file: str, target: Target) -> None:
    listing = read_list((HERE / file).read_bytes(), file, target)
    taken(listing, target)
    for problem in listing.problems:
        assert problem.file == file
        assert problem.place.line > 0 or problem.code == "T205"
        assert problem.code[0] in "TD"
        assert problem.message


@pytest.mark.parametrize("inline", [False, True], ids=["shared texts", "inline texts"])
def test_a_workbook_says_the_same_as_the_csv(inline: bool) -> None:
    rows = [line.split(";") for line in (HERE / "tia.csv").read_text().splitlines()]
    assert (
        imported(workbook(rows, inline=inline), S7)[1].text
        == imported((HERE / "tia.csv").read_bytes(), S7)[1].text
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_umlauts_survive_the_encodings_of_spreadsheets(encoding: str) -> None:
    text = "Tag Name,Address,Data Type,Eng Units,Description\nTemp,400001,Float,°C,Öltemperatur\n"
    listing, accepted = imported(text.encode(encoding), MODBUS)
    assert "Temp,hr:0:REAL,°C,,,Öltemperatur" in accepted.text
    # Windows-1252 is only guessed, so it is said.
    assert [code for _, code in said(listing)] == (["T207"] if encoding == "cp1252" else [])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_told_by_header_or_sep_line(separator: str) -> None:
    rows = [("Tag Name", "Address", "Data Type"), ("a", "400001", "Float")]
    text = "\r\n".join(separator.join(row) for row in rows)
    for data in (text, f"sep={separator}\r\n{text}"):
        assert imported(data.encode(), MODBUS)[1].taken == ["a"]


def test_a_decimal_comma_counts_where_the_comma_separates_nothing() -> None:
    header = "Tag Name;Address;Data Type;Scaling;Raw Low;Raw High;Scaled Low;Scaled High"
    _, accepted = imported(f"{header}\na;400001;Word;Linear;0;10;0;12,5\n".encode(), MODBUS)
    assert "1.25" in accepted.text


def test_a_kepware_file_of_the_old_kind_ends_at_the_description() -> None:
    header = "Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Description"
    assert (
        "x,hr:0:INT,,,,d,ms100" in imported(f"{header}\nx,40001,Short,1,RO,100,d\n".encode(), MODBUS)[1].text
    )


def test_the_poll_group_with_the_same_period_is_used() -> None:
    listing = read_list((HERE / "kepware_s7.csv").read_bytes(), "k.csv", S7)
    accepted = taken(listing, S7, groups={"fast": 100})
    assert accepted.groups == {"ms1000": 1000}
    assert ",fast," in accepted.text


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ({"bindType": "parameter", "binding": "ns=1;s=[D]{Prefix}.Counts[0]{10}"}, "Cell.Counts[0]:DINT[10]"),
        ({"bindType": "parameter", "binding": "ns=1;s=[D]{Prefix}[{Number+1}].Speed"}, "Cell[8].Speed:DINT"),
        ("ns=1;s=[D]Counts[0]{10}", "Counts[0]:DINT[10]"),
        ({"bindType": "parameter", "binding": "ns=1;s=[D]{Missing}"}, ""),
        ({"bindType": "parameter", "binding": "ns=1;s=[D]Pump{Prefix+1}"}, ""),
        ({"bindType": "expression", "binding": "x"}, ""),
        ("ns=1;s=[D]{Prefix}.Speed", ""),  # braces in a plain text mean themselves in Ignition
    ],
)
def test_only_bindings_get_the_parameters_of_their_udt(path: object, address: str) -> None:
    member = {
        "name": "x",
        "tagType": "AtomicTag",
        "valueSource": "opc",
        "dataType": "Int4",
        "opcItemPath": path,
    }
    parameters = {
        "Prefix": {"dataType": "String", "value": "Cell"},
        "Number": {"dataType": "Integer", "value": 7},
    }
    types = [{"name": "T", "tagType": "UdtType", "parameters": parameters, "tags": [member]}]
    tree = [{"name": "_types_", "tagType": "Folder", "tags": types}]
    tree.append({"name": "i", "tagType": "UdtInstance", "typeId": "T"})
    listing, _ = imported(json.dumps({"tags": tree}).encode(), LOGIX)
    assert [tag.address for tag in listing.tags] == ([address] if address else [])
    assert bool(listing.problems) is not bool(address)


def test_an_optimized_block_is_refused_with_the_way_out() -> None:
    listing, _ = imported((HERE / "blocks.db").read_bytes(), S7)
    (problem,) = [one for one in listing.problems if one.code == "D331"]
    assert "Recipe is an optimized block" in problem.message
    assert "Optimized block access" in problem.help


def test_a_block_without_a_number_is_asked_for_it() -> None:
    head = b"DATA_BLOCK \"Data\"\n{ S7_Optimized_Access := 'FALSE' }\n"
    source = head + b"STRUCT\nA : Int;\nEND_STRUCT;\nBEGIN\nEND_DATA_BLOCK\n"
    assert said(imported(source, S7)[0]) == [(1, "T242")]
    assert "A,DB7.DBW0:INT" in imported(source, S7, numbers={"Data": 7})[1].text
    assert "A,DB8.DBW0:INT" in imported(source, S7, numbers={"": 8})[1].text


def test_a_list_for_another_protocol_is_told_so() -> None:
    listing, accepted = imported((HERE / "kepware_s7.csv").read_bytes(), MODBUS)
    assert not accepted.taken
    assert {problem.code for problem in listing.problems} <= {"T254", "T208", "T237"}


def test_every_address_taken_is_one_that_the_driver_reads() -> None:
    for file, target in CASES.items():
        listing = read_list((HERE / file).read_bytes(), file, target)
        table = taken(listing, target).text.splitlines()
        column = next(line for line in table if "name,address" in line).split(",").index("address")
        assert column == 1
        for tag in listing.tags:
            if tag.name in table:
                PARSERS[target.driver](tag.address)


def test_numbers_truths_and_formulas_of_a_sheet_are_read_as_they_are_shown() -> None:
    row = (
        '<row r="2"><c r="A2" t="str"><v>force</v></c><c r="B2"><v>400001.0</v></c>'
        '<c r="D2" t="b"><v>1</v></c><c r="E2"><v>0.25</v></c></row>'
    )
    header = "".join(
        f'<c r="{place}1" t="inlineStr"><is><r><t>{name}</t></r></is></c>'
        for place, name in zip(
            "ABCDE", ("Tag Name", "Address", "Data Type", "Negate Value", "Raw High"), strict=True
        )
    )
    sheet = f"<worksheet><sheetData><row>{header}</row>{row}</sheetData></worksheet>"
    grid = grid_of(workbook([["x"]], extra=sheet.encode()))
    assert grid.rows[1] == (2, ["force", "400001", "", "TRUE", "0.25"])


@pytest.mark.parametrize(
    "cell", ['<c r="A1" t="s"><v>7</v></c>', '<c r="ZZZ1"><v>1</v></c>', '<c r="A1" t="s"><v>-1</v></c>']
)
def test_cells_that_no_sheet_has_are_refused(cell: str) -> None:
    sheet = f"<worksheet><sheetData><row>{cell}</row></sheetData></worksheet>"
    with pytest.raises(ListError) as caught:
        grid_of(workbook([["x"]], extra=sheet.encode()))
    assert caught.value.code == "T253"
