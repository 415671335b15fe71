"""Files that are cut off, damaged, huge or meant to do harm: one clear error, in bounded time and memory."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.exchange import listing
from edge_opcua.config.exchange.formats import PRODUCTS, read_list
from edge_opcua.config.exchange.listing import ListError, Target
from edge_opcua.config.exchange.xmltree import read_xml
from tests.config.exchange.lists import HERE, LOGIX, MODBUS, S7, imported, said, workbook

SAMPLES = {
    "kepware_modbus.csv": MODBUS,
    "ignition8.json": MODBUS,
    "blocks.db": S7,
    "project.L5X": LOGIX,
    "rockwell.csv": LOGIX,
    "neuron.csv": MODBUS,
}


def refusal(data: bytes, target: Target, product: str = "auto") -> str:
    """Return the code with which a file is refused, empty if it is read; any other exception is a fault."""
    try:
        imported(data, target, product=product)
    except ListError as exc:
        return exc.code
    return ""


@pytest.mark.parametrize("file", SAMPLES)
def test_a_file_cut_off_anywhere_is_read_as_far_or_refused(file: str) -> None:
    data = (HERE / file).read_bytes()

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(data)), st.binary(max_size=3))
    def cut(at: int, tail: bytes) -> None:
        assert refusal(data[:at] + tail, SAMPLES[file]) in {"", "T252", "T253", "T254"}

    cut()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["auto", *PRODUCTS]))
def test_noise_is_refused_whatever_it_is_called(data: bytes, product: str) -> None:
    for start in (b"", b"PK\x03\x04", b"{", b"<?xml", b'DATA_BLOCK "DB1"\n'):
        assert refusal(start + data, S7, product=product) in {"", "T252", "T253", "T254"}


@pytest.mark.parametrize(
    ("data", "code", "part"),
    [
        (b"", "T252", "is empty"),
        (b"\xef\xbb\xbf \r\n", "T252", "is empty"),
        (b"\x7fELF\x00\x01\x02", "T252", "is not a text file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "T252", "old kind"),
        (b"PK\x03\x04broken", "T253", "broken workbook"),
        (b"a,b,c\n1,2,3\n", "T252", "begins with: a, b, c"),
        (b'{"tags": [', "T253", "not JSON"),
        (b'{"version": 1}', "T252", "no tag export"),
        (b'Tag Name,Address\n"a,400001\n', "T253", "never ends"),
        (b"<?xml version='1.0'?><html/>", "T254", "no addresses"),
        (b"\xff\xfeT\x00a", "T252", "cut off"),
    ],
)
def test_a_file_that_is_no_list_is_told_what_is_wrong(data: bytes, code: str, part: str) -> None:
    with pytest.raises(ListError) as caught:
        read_list(data, "list", MODBUS)
    assert caught.value.code == code
    assert part in str(caught.value)


def test_a_workbook_that_unpacks_without_end_is_refused() -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w") as part,
    ):
        for _ in range(70):
            part.write(b" " * 2**20)
    assert len(out.getvalue()) < 2**20
    with pytest.raises(ListError, match="unpacks to more than 64 MiB"):
        read_list(out.getvalue(), "bomb.xlsx", S7)


def test_entities_and_document_types_are_refused_before_they_are_expanded() -> None:
    laughs = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    for data in (laughs, laughs.decode().replace('"1.0"', '"1.0" encoding="utf-16"').encode("utf-16")):
        with pytest.raises(ListError, match="document type"):
            read_xml(data)
    with pytest.raises(ListError, match="document type"):
        read_list(workbook([["a"]], extra=laughs), "evil.xlsx", S7)
    with pytest.raises(ListError, match="document type"):
        read_list(laughs.replace(b"<a>", b"<RSLogix5000Content>"), "evil.L5X", LOGIX)


def test_depth_is_bounded_in_every_format() -> None:
    deep = b"<a>" * 5_000 + b"</a>" * 5_000
    with pytest.raises(ListError, match="too deeply"):
        read_xml(deep)
    with pytest.raises(ListError):
        read_list(b'{"tags":' * 20_000 + b"1" + b"}" * 20_000, "deep.json", MODBUS)
    folders = '{"name":"f","tagType":"Folder","tags":[' * 60 + "]}" * 60
    assert [code for _, code in said(imported(folders.encode(), MODBUS)[0])] == ["T254"]
    source = b'DATA_BLOCK "DB1"\nSTRUCT\n' + b"A : STRUCT\n" * 200
    with pytest.raises(ListError, match="too deeply"):
        read_list(source, "deep.db", S7)


def test_types_that_contain_themselves_end() -> None:
    source = (
        b'TYPE "A"\nSTRUCT\nX : "A";\nEND_STRUCT;\nEND_TYPE\nDATA_BLOCK "DB1"\n'
        b"{ S7_Optimized_Access := 'FALSE' }\nSTRUCT\nB : \"A\";\nEND_STRUCT;\nBEGIN\nEND_DATA_BLOCK\n"
    )
    assert [code for _, code in said(imported(source, S7)[0])] == ["T243"]
    types = {
        "name": "_types_",
        "tagType": "Folder",
        "tags": [{"name": "A", "tagType": "UdtType", "typeId": "A"}],
    }
    circle = json.dumps({"tags": [types, {"name": "x", "tagType": "UdtInstance", "typeId": "A"}]})
    assert not imported(circle.encode(), MODBUS)[1].taken


def test_structures_in_structures_end_before_the_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_PARTS", 20_000)  # the real bound takes seconds to reach
    layers = [f'{{"name":"T{at}","tagType":"UdtType","tags":[{nested(at)}]}}' for at in range(12)]
    tree = f'{{"tags":[{{"name":"_types_","tagType":"Folder","tags":[{",".join(layers)}]}},{nested(0)}]}}'
    assert refusal(tree.encode(), MODBUS) == "T253"
    members = "".join(f'<Member Name="M{at}" DataType="U{{next}}" Dimension="0"/>' for at in range(10))
    types = "".join(
        f'<DataType Name="U{at}"><Members>{members.replace("{next}", str(at + 1))}</Members></DataType>'
        for at in range(12)
    )
    tag = '<Tags><Tag Name="A" DataType="U0" ExternalAccess="Read Only"/></Tags>'
    project = f"<Controller><DataTypes>{types}</DataTypes>{tag}</Controller>"
    assert refusal(f"<RSLogix5000Content>{project}</RSLogix5000Content>".encode(), LOGIX) == "T253"
    udts = "".join(
        f'TYPE "U{at}"\nSTRUCT\nA : Array[1..20] of "U{at + 1}";\nEND_STRUCT;\nEND_TYPE\n' for at in range(9)
    )
    last = (
        'TYPE "U9"\nSTRUCT\nC : Char;\nEND_STRUCT;\nEND_TYPE\nDATA_BLOCK "DB1"\n"U0"\nBEGIN\nEND_DATA_BLOCK\n'
    )
    assert refusal((udts + last).encode(), S7) == "T253"


def nested(at: int) -> str:
    return ",".join(f'{{"name":"x{n}","tagType":"UdtInstance","typeId":"T{at + 1}"}}' for n in range(10))


def test_a_cell_of_a_million_characters_costs_its_row() -> None:
    text = f"Tag Name,Address,Data Type\n{'a' * 10**6},400001,Float\nb,400003,{'x' * 10**6}\nc,400005,Float\n"
    found, accepted = imported(text.encode(), MODBUS)
    assert accepted.taken == ["c"]
    assert said(found) == [(2, "T245"), (3, "T237")]
    assert max(len(problem.message) for problem in found.problems) < 200


def test_an_array_of_billions_is_refused() -> None:
    source = (
        b"DATA_BLOCK \"DB1\"\n{ S7_Optimized_Access := 'FALSE' }\nSTRUCT\n"
        b"A : Array[0..60000, 0..60000] of Int;\nEND_STRUCT;\nBEGIN\nEND_DATA_BLOCK\n"
    )
    assert [code for _, code in said(imported(source, S7)[0])] == ["T243"]
    found, _ = imported(
        b"<RSLogix5000Content><Controller><Tags>"
        b'<Tag Name="A" DataType="STRING" Dimensions="9999 9999"/></Tags></Controller></RSLogix5000Content>',
        LOGIX,
    )
    assert [code for _, code in said(found)] == ["T237"]


WORDS = """
400001 400001.5 400001.20H 1 -1 1!400101#LL ! 1! DB1,REAL4 DB1.DBX0.9 %MD100 %I0.0 MW T5 A{9} $Q$
Program:A.B[1].C Float Word Boolean String BCD REAL DINT[3] DINT[3,4] STRING BOOL RO R/W WO Linear TRUE 0 6 13
TAG ALIAS COMMENT x 0,5 1E+05 #### nan
"""
TOKENS = [*WORDS.split(), "", "Öl 1", "400010 [5]", "Short Array", "Square Root", "Read Write"]
HEADERS = {
    "kepware": "Tag Name,Address,Data Type,Client Access,Scan Rate,Scaling,Raw Low,Scaled Low,Clamp Low",
    "neuron": "group,name,address,attribute,type,description,precision,decimal,bias",
    "tia": "Name,Path,Data Type,Logical Address,Comment,Hmi Writeable",
    "rockwell": "TYPE,SCOPE,NAME,DESCRIPTION,DATATYPE,SPECIFIER,ATTRIBUTES",
    "ignition": "Path,Name,TagType,DataType,Enabled,AccessRights,OPCItemPath,ScaleMode,RawLow,Deadband",
    "csv": "name,address,unit,low,high,group,scale",
}


@pytest.mark.parametrize("product", HEADERS)
def test_any_cell_in_any_column_is_taken_or_told(product: str) -> None:
    header = HEADERS[product]
    width = header.count(",") + 1
    rows = st.lists(st.lists(st.sampled_from(TOKENS), min_size=width, max_size=width), min_size=1, max_size=8)

    @settings(max_examples=60, deadline=None)
    @given(rows, st.sampled_from([MODBUS, S7, LOGIX]))
    def any_cells(cells: list[list[str]], target: Target) -> None:
        text = "\n".join([header, *(",".join(f'"{cell}"' for cell in row) for row in cells)])
        assert refusal(text.encode(), target, product=product) in {"", "T254"}

    any_cells()


leaves = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.sampled_from(TOKENS))
KEYS = """
name tagType tags typeId parameters value bindType binding opcItemPath dataType valueSource
scaleMode rawLow rawHigh scaledLow engLow deadbandMode deadband enabled
"""
KINDS = "Folder AtomicTag UdtInstance UdtType opc parameter T [D]HR1 {T} Int4"
keys, kinds = st.sampled_from(KEYS.split()), st.sampled_from(KINDS.split())
trees = st.recursive(
    st.one_of(leaves, kinds),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=7)),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(keys, trees, min_size=1, max_size=7), st.sampled_from([MODBUS, S7, LOGIX]))
def test_any_tree_is_taken_or_told(tree: dict[str, object], target: Target) -> None:
    assert refusal(json.dumps({"tagType": "Folder", "tags": [tree]}).encode(), target) in {"", "T252", "T253"}
