"""Addresses of other products, one by one: what each becomes here, and what is said of the others."""

from __future__ import annotations

import pytest

from edge_opcua.config.exchange.dialects import from_ignition, from_kepware, from_neuron
from edge_opcua.config.exchange.listing import Listing, Target, UntranslatableError
from tests.config.exchange.lists import LOGIX, MODBUS, PARSERS, S7

CDAB = Target("modbus", "Vib", 1, "CDAB")


def listing() -> Listing:
    return Listing("list")


@pytest.mark.parametrize(
    ("text", "kind", "target", "ours"),
    [
        ("000001", "BOOL", MODBUS, "co:0:BOOL"),
        ("00001", "", MODBUS, "co:0:BOOL"),
        ("100017 [8]", "BOOL[]", MODBUS, "di:16:BOOL[8]"),
        ("300001", "", MODBUS, "ir:0:UINT"),
        ("465536", "INT", MODBUS, "hr:65535:INT"),
        ("40001", "REAL", MODBUS, "hr:0:REAL"),
        ("400001.15", "BOOL", MODBUS, "hr:0.15:BOOL"),
        ("400001.05", "", MODBUS, "hr:0.5:BOOL"),
        ("400010[2][3]", "INT[]", MODBUS, "hr:9:INT[6]"),
        ("400100.20H", "STRING", MODBUS, "hr:99:STRING[20]"),
        ("S400100.20L", "", MODBUS, "hr:99:STRING[20];order=LH"),
        ("DB1,REAL4", "REAL", S7, "DB1.DBD4:REAL"),
        ("db1.dbd4", "REAL", S7, "DB1.DBD4:REAL"),
        ("DB1,DI10", "", S7, "DB1.DBD10:DINT"),
        ("DB1,I2", "INT", S7, "DB1.DBW2:INT"),
        ("DB1,W2", "", S7, "DB1.DBW2:WORD"),
        ("DB1,X0.3", "BOOL", S7, "DB1.DBX0.3:BOOL"),
        ("DB1,B5", "", S7, "DB1.DBB5:BYTE"),
        ("DB1,STRING24", "STRING", S7, "DB1.DBB24:STRING[254]"),
        ("E0.0", "BOOL", S7, "I0.0:BOOL"),
        ("MREAL20", "", S7, "MD20:REAL"),
        ("F2.1", "", S7, "M2.1:BOOL"),
        ("DB1,INT0[4]", "INT[]", S7, "DB1.DBW0:INT[4]"),
        ("Tag", "REAL", LOGIX, "Tag:REAL"),
        ("Local:1:I.Ch0Data", "REAL", LOGIX, "Local:1:I.Ch0Data:REAL"),
        ("Name.DATA/20", "STRING", LOGIX, "Name:STRING[20]"),
        ("Grid[1,2]", "DINT", LOGIX, "Grid[1,2]:DINT"),
    ],
)
def test_kepware(text: str, kind: str, target: Target, ours: str) -> None:
    found = from_kepware(text, kind, target, listing(), 1)
    assert found == ours
    PARSERS[target.driver](found)


@pytest.mark.parametrize(
    ("text", "kind", "target", "part"),
    [
        ("400000", "INT", MODBUS, "1..65536"),
        ("470000", "INT", MODBUS, "1..65536"),
        ("400001", "BOOL", MODBUS, "which of the 16 bits"),
        ("400001.16", "BOOL", MODBUS, "not a bit"),
        ("400001.3", "INT", MODBUS, "not a bit"),
        ("400001.20H", "INT", MODBUS, "not a text"),
        ("400001", "STRING", MODBUS, "not a text"),
        ("400001", "INT[]", MODBUS, "how many elements"),
        ("200001", "INT", MODBUS, "not an address"),
        ("12", "INT", MODBUS, "not an address"),
        ("DB1,REAL4", "INT", S7, "is REAL, but its data type says INT"),
        ("DB1.DBW4", "REAL", S7, "2 bytes wide"),
        ("DB1.DBB4", "STRING", S7, "without the two length bytes"),
        ("DB1,X0", "BOOL", S7, "which of the 8 bits"),
        ("DB1,X0.8", "BOOL", S7, "which of the 8 bits"),
        ("DB1,DT0", "", S7, "DT has no type here"),
        ("DB1,INT0", "INT[]", S7, "how many elements"),
        ("DB1,INT0.3", "INT", S7, "no bits of its own"),
        ("PIW256", "", S7, "periphery"),
        ("C5", "", S7, "timers and counters"),
        ("nonsense", "", S7, "not an S7 address"),
        ("M10", "", S7, "has no type"),
        ("Tag", "", LOGIX, "no data type"),
        ("Tag-1", "INT", LOGIX, "not the name of a Logix tag"),
        ("x", "INT", Target("opcua"), 'no addresses that the driver "opcua" reads'),
    ],
)
def test_what_kepware_has_and_we_have_not(text: str, kind: str, target: Target, part: str) -> None:
    with pytest.raises(UntranslatableError) as caught:
        from_kepware(text, kind, target, listing(), 1)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("HR1", "hr:0:INT"),
        ("HRUS1", "hr:0:UINT"),
        ("HRI1", "hr:0:DINT"),
        ("HRUI1", "hr:0:UDINT"),
        ("HRI_641", "hr:0:LINT"),
        ("HRUI_641", "hr:0:ULINT"),
        ("HRF101", "hr:100:REAL"),
        ("HR_F101", "hr:100:REAL"),
        ("HRD1", "hr:0:LREAL"),
        ("HR_D1", "hr:0:LREAL"),
        ("HRS1:20", "hr:0:STRING[20]"),
        ("IR7", "ir:6:INT"),
        ("DI3", "di:2:BOOL"),
        ("C3", "co:2:BOOL"),
        ("HR9.3", "hr:8.3:BOOL"),
        ("1.HR9", "hr:8:INT"),  # the unit of the device's URL
        ("7.HRF9", "7/hr:8:REAL"),
        ("HR40085", "hr:40084:INT;base=0"),
        ("HR1[4]", "hr:0:INT[4]"),
    ],
)
def test_ignition_modbus(text: str, ours: str) -> None:
    found = from_ignition(text, "", MODBUS, listing(), 1)
    assert found == ours
    PARSERS["modbus"](found)


@pytest.mark.parametrize("text", ["HRBCD1", "HR1.16", "HRF1.3", "HRS1", "HR1:20", "HR0", "XY1", ""])
def test_what_ignition_has_and_we_have_not(text: str) -> None:
    with pytest.raises(UntranslatableError):
        from_ignition(text, "", MODBUS, listing(), 1)


@pytest.mark.parametrize(
    ("text", "kind", "target", "ours", "notes"),
    [
        ("1!400101", "REAL", MODBUS, "hr:100:REAL", 0),
        ("2!40101", "INT", MODBUS, "2/hr:100:INT", 0),
        ("1!400101#LL", "REAL", MODBUS, "hr:100:REAL", 0),
        ("1!400101#LL", "REAL", CDAB, "hr:100:REAL;order=ABCD", 0),
        ("1!400101#LB", "REAL", MODBUS, "hr:100:REAL;order=BADC", 0),
        ("1!400101#BL", "REAL", MODBUS, "hr:100:REAL;order=CDAB", 1),
        ("1!400101#BL", "REAL", CDAB, "hr:100:REAL", 1),
        ("1!400101#BB", "DINT", MODBUS, "hr:100:DINT;order=DCBA", 1),
        ("1!400101#B", "INT", MODBUS, "hr:100:INT;order=BADC", 0),
        ("1!400101.3", "BOOL", MODBUS, "hr:100.3:BOOL", 0),
        ("1!300001.20L", "STRING", MODBUS, "ir:0:STRING[20];order=LH", 0),
        ("DB10.DBW12", "REAL", S7, "DB10.DBD12:REAL", 0),
        ("DB10.DBX2.3", "BOOL", S7, "DB10.DBX2.3:BOOL", 0),
        ("DB10.DBW20.30", "STRING", S7, "DB10.DBB20:STRING[30]", 0),
    ],
)
def test_neuron(text: str, kind: str, target: Target, ours: str, notes: int) -> None:
    noted = listing()
    found = from_neuron(text, kind, target, noted, 1)
    assert (found, len(noted.problems)) == (ours, notes)
    PARSERS[target.driver](found)


@pytest.mark.parametrize("text", ["400101", "1!", "1!400101#XY", "1!200001", "1!400101#", "300!400101.20E"])
def test_what_neuron_has_and_we_have_not(text: str) -> None:
    with pytest.raises(UntranslatableError):
        from_neuron(text, "STRING" if text.endswith("E") else "REAL", MODBUS, listing(), 1)
