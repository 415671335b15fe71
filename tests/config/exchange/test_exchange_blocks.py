"""Offsets in a data block: the rules of STEP 7's standard access hold for every block there can be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.exchange.siemens import SIZES
from tests.config.exchange.lists import S7, imported, said

HEAD = "DATA_BLOCK \"DB1\"\n{ S7_Optimized_Access := 'FALSE' }\nVERSION : 0.1\n"
NAMED = 'DATA_BLOCK "DB1"\n'
TYPE = 'TYPE "T"\nSTRUCT\nA : Int;\nEND_STRUCT;\nEND_TYPE\n'
_ADDRESS = re.compile(r"DB1\.DB[XBWD](\d+)(?:\.(\d))?:([A-Z]+)(?:\[(\d+)\])?")


def struct(members: list[str]) -> str:
    return "Struct\n" + "\n".join(f"m{at} : {text};" for at, text in enumerate(members)) + "\nEND_STRUCT"


ELEMENTARY = ["Bool", "Byte", "SInt", "USInt", "Int", "Word", "DInt", "Real", "LReal", "Time"]
elementary = st.sampled_from(ELEMENTARY)
simple = st.one_of(
    elementary,
    st.builds("String[{}]".format, st.integers(1, 30)),
    st.builds("Array[0..{}] of {}".format, st.integers(0, 12), elementary),
)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    structs = st.lists(inner, min_size=1, max_size=4).map(struct)
    return st.one_of(structs, st.builds("Array[1..{}] of {}".format, st.integers(1, 3), structs))


types = st.recursive(simple, nested, max_leaves=8)


def source(members: list[str]) -> bytes:
    lines = "\n".join(f"v{at} : {text};" for at, text in enumerate(members))
    return f"{HEAD}STRUCT\n{lines}\nEND_STRUCT;\nBEGIN\nEND_DATA_BLOCK\n".encode()


def stretch(address: str) -> tuple[int, int, str]:
    """Return first bit, number of bits and type of an address."""
    match = _ADDRESS.fullmatch(address)
    assert match is not None, address
    start, bit, kind, count = int(match[1]), int(match[2] or 0), match[3], int(match[4] or 0)
    if kind == "BOOL":
        return 8 * start + bit, max(1, count), kind
    if kind == "STRING":
        return 8 * start, 8 * (count + 2), kind
    return 8 * start, 8 * SIZES[kind] * max(1, count), kind


@settings(max_examples=150, deadline=None)
@given(st.lists(types, min_size=1, max_size=8))
def test_members_follow_one_another_aligned_and_without_overlap(members: list[str]) -> None:
    listing, _ = imported(source(members), S7)
    assert listing.problems == []
    end = 0
    for tag in listing.tags:
        first, bits, kind = stretch(tag.address)
        if kind == "STRING" or (kind != "BOOL" and SIZES[kind] > 1):
            assert first % 16 == 0  # everything above a byte begins at an even one
        elif kind != "BOOL":
            assert first % 8 == 0
        assert end <= first < end + 16  # nothing overlaps, and no more is skipped than to the next word
        end = first + bits


# Layouts that can be checked by counting; STEP 7 shows them in the column "Offset".
@pytest.mark.parametrize(
    ("members", "addresses"),
    [
        (["Bool", "Bool", "Int"], ["DBX0.0:BOOL", "DBX0.1:BOOL", "DBW2:INT"]),
        (["Bool"] * 9 + ["Byte"], [f"DBX{at // 8}.{at % 8}:BOOL" for at in range(9)] + ["DBB2:BYTE"]),
        (["Byte", "Byte", "Byte", "Word"], ["DBB0:BYTE", "DBB1:BYTE", "DBB2:BYTE", "DBW4:WORD"]),
        (["Byte", "Real"], ["DBB0:BYTE", "DBD2:REAL"]),
        (["String[3]", "Byte"], ["DBB0:STRING[3]", "DBB6:BYTE"]),
        (["Array[0..2] of Byte", "Bool"], ["DBB0:BYTE[3]", "DBX4.0:BOOL"]),
        (["Array[1..17] of Bool", "Bool"], ["DBX0.0:BOOL[17]", "DBX4.0:BOOL"]),
        (["Bool", "Struct\nA : Bool;\nEND_STRUCT", "Bool"], ["DBX0.0:BOOL", "DBX2.0:BOOL", "DBX4.0:BOOL"]),
        (["Array[0..1, 0..2] of Real", "Int"], ["DBD0:REAL[6]", "DBW24:INT"]),
        (["Array[-1..1] of Int"], ["DBW0:INT[3]"]),
        (["Date_And_Time", "Int"], ["DBW8:INT"]),
        (["WString[4]", "Int"], ["DBW12:INT"]),
        (["Char", "Byte"], ["DBB1:BYTE"]),
    ],
)
def test_a_block_is_laid_out_as_step_7_shows_it(members: list[str], addresses: list[str]) -> None:
    _, accepted = imported(source(members), S7)
    found = [line.split(",")[1].removeprefix("DB1.") for line in accepted.text.splitlines()[1:]]
    assert [text for text in found if "DATE" not in text and ":DT" not in text] == addresses


def test_what_lies_behind_rows_of_unknown_place_is_left_out() -> None:
    listing, accepted = imported(source(["Int", "Array[0..1, 0..2] of Bool", "Int"]), S7)
    assert accepted.taken == ["v0"]
    assert said(listing) == [(6, "T243")]
    assert "no known offset" in listing.problems[0].help


@pytest.mark.parametrize(
    "text",
    [
        "DATA_BLOCK DB1\nSTRUCT\nA : Int;\nEND_STRUCT\nBEGIN\nEND_DATA_BLOCK\n",
        "DATA_BLOCK DB 1\nVAR\nA : Int := 3;\nEND_VAR\nEND_DATA_BLOCK\n",
        f'{TYPE}DATA_BLOCK "DB1"\nNON_RETAIN\n"T"\nBEGIN\nEND_DATA_BLOCK\n',
        NAMED + "TITLE = data block struct time\nVAR RETAIN\nA { S := '1' } : Int; (* c *)\nEND_VAR\n",
        'data_block "DB1"\nstruct\na : int;\nend_struct;\nbegin\na := 2;\nend_data_block\n',
    ],
)
def test_blocks_are_understood_however_they_are_written(text: str) -> None:
    ending = "" if "END_DATA_BLOCK" in text.upper() else "BEGIN\nEND_DATA_BLOCK\n"
    _, accepted = imported((text + ending).encode(), S7)
    assert accepted.text.splitlines()[1].split(",")[1] == "DB1.DBW0:INT"


FUNCTION_BLOCK = """FUNCTION_BLOCK "Drive"
{ S7_Optimized_Access := 'FALSE' }
VERSION : 0.1
   VAR_INPUT
      Start : Bool;   // go
   END_VAR
   VAR_OUTPUT
      Speed : Real;   // actual [rpm]
      Busy : Bool;
   END_VAR
   VAR
      Steps : Array[1..2] of Int;
   END_VAR
   VAR_TEMP
      Never : Int;
   END_VAR
   VAR CONSTANT
      Limit : Int := 3;
   END_VAR
BEGIN
   #Speed := 1.0; IF #Start THEN #Busy := TRUE; END_IF;
END_FUNCTION_BLOCK

"""


def test_an_instance_holds_the_sections_of_its_function_block() -> None:
    block = f'{HEAD}"Drive"\nBEGIN\nEND_DATA_BLOCK\n'
    listing, _ = imported((FUNCTION_BLOCK + block).encode(), S7)
    assert [(tag.name, tag.address, tag.unit) for tag in listing.tags] == [
        ("Start", "DB1.DBX0.0:BOOL", ""),
        ("Speed", "DB1.DBD2:REAL", "rpm"),
        ("Busy", "DB1.DBX6.0:BOOL", ""),
        ("Steps", "DB1.DBW8:INT[2]", ""),
    ]


def test_what_lies_behind_in_out_parameters_of_an_instance_is_left_out() -> None:
    text = FUNCTION_BLOCK.replace("VAR_OUTPUT", "VAR_IN_OUT")
    listing, accepted = imported(f'{text}{HEAD}"Drive"\nBEGIN\nEND_DATA_BLOCK\n'.encode(), S7)
    assert accepted.taken == ["Start"]
    assert [code for _, code in said(listing)] == ["T243"]
