"""Takes SCL and the Structured Text of Logix back to that of the standard, so that the soft PLC can run them.

Not a compiler: it undoes what the renderers did, by rules of its own that know the products and not the
renderers. What it cannot undo, the soft PLC refuses.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

_TIMES = re.compile(r"(\w+)\.PRE := (\d+); \1\.TimerEnable := (.*?); TONR\(\1\);")


def of_scl(udt: str, block: str) -> str:
    """Return data types and function block of TIA Portal as Structured Text."""
    types = re.sub(r'TYPE "(\w+)"\nVERSION : 0\.1\n   STRUCT', r"TYPE \1 :\nSTRUCT", udt)
    types = types.replace("END_STRUCT;\n\nEND_TYPE", "END_STRUCT\nEND_TYPE")
    text = re.sub(r"(?<!\w)#(?=[A-Za-z])", "", block.replace('FUNCTION_BLOCK "', "FUNCTION_BLOCK "))
    text = re.sub(r'(FUNCTION_BLOCK \w+)"\n\{[^}]*\}\nVERSION : 0\.1', r"\1", text)
    text = text.replace("\nBEGIN\n", "\n").replace(": TON_TIME;", ": TON;")
    text = re.sub(r': "(\w+)";', r": \1;", text)
    text = re.sub(
        r":= (Status\.\w+)\.%X(\d+);",
        lambda found: f":= ({found[1]} AND 16#{1 << int(found[2]):04X}) <> 16#0000;",
        text,
    )
    return types + "\n" + text


def of_l5x(l5x: str) -> str:
    """Return an add-on instruction as Structured Text, with its two InOut arrays as WORD in and out."""
    root = ElementTree.fromstring(l5x)
    (instruction,) = root.iter("AddOnInstructionDefinition")
    (logic,) = [each for each in instruction.iter("Routine") if each.get("Name") == "Logic"]
    body = "\n".join(line.text or "" for line in logic.iter("Line"))
    bools = {
        str(each.get("Name"))
        for kind in ("Parameter", "LocalTag")
        for each in instruction.iter(kind)
        if each.get("DataType") == "BOOL"
    }
    return "\n".join(
        [
            "TYPE Number_Bits :\nUNION\n    Pattern : DWORD;\n    Number : REAL;\nEND_UNION\nEND_TYPE",
            f"FUNCTION_BLOCK {instruction.get('Name')}",
            *_declared(instruction),
            _statements(body, bools, _reals(instruction)),
            "END_FUNCTION_BLOCK",
        ]
    )


def _reals(instruction: ElementTree.Element) -> set[str]:
    return {
        str(each.get("Name"))
        for kind in ("Parameter", "LocalTag")
        for each in instruction.iter(kind)
        if each.get("DataType") == "REAL"
    }


def _declared(instruction: ElementTree.Element) -> list[str]:
    rows: dict[str, list[str]] = {"Input": [], "Output": [], "": ["Bits : Number_Bits;"]}
    for each in instruction.iter("Parameter"):
        name, usage = each.get("Name"), each.get("Usage")
        initial = each.find("DefaultData/DataValue")
        value = (
            "" if initial is None or initial.get("Value") in ("0", "0.0") else f" := {initial.get('Value')}"
        )
        value = " := TRUE" if value and each.get("DataType") == "BOOL" else value
        if usage == "InOut":
            last = int(each.get("Dimensions", "0")) - 1
            rows["Input" if name == "Status" else "Output"].append(f"{name} : ARRAY[0..{last}] OF WORD;")
        elif name not in ("EnableIn", "EnableOut"):
            rows[str(usage)].append(f"{name} : {each.get('DataType')}{value};")
    for each in instruction.iter("LocalTag"):
        kind = {"FBD_TIMER": "TON"}.get(str(each.get("DataType")), str(each.get("DataType")))
        if each.get("Dimensions"):
            kind = f"ARRAY[0..{int(each.get('Dimensions', '0')) - 1}] OF {kind}"
        rows[""].append(f"{each.get('Name')} : {kind};")
    return [
        line
        for section, usage in (("VAR_INPUT", "Input"), ("VAR_OUTPUT", "Output"), ("VAR", ""))
        for line in (section, *rows[usage], "END_VAR")
    ]


def _statements(body: str, bools: set[str], reals: set[str]) -> str:
    text = _TIMES.sub(r"\1(IN := \3, PT := T#\2ms);", body)
    text = re.sub(r"\b(\w+)\.DN\b", r"\1.Q", text)
    text = re.sub(r"\b(\w+)\.ACC\b", r"TIME_TO_DINT(\1.ET)", text)
    text = re.sub(
        r"\b(\w+)\(IN := ([01]),",
        lambda found: f"{found[1]}(IN := {'TRUE' if found[2] == '1' else 'FALSE'},",
        text,
    )
    text = re.sub(
        r"\b(\w+) := ([01]);",
        lambda found: (
            f"{found[1]} := {'TRUE' if found[2] == '1' else 'FALSE'};" if found[1] in bools else found[0]
        ),
        text,
    )
    text = re.sub(
        r"(\w+) := Seen\[(\d+)\]\.(\d+);",
        r"\1 := (SHR(INT_TO_WORD(Seen[\2]), \3) AND 16#0001) <> 16#0000;",
        text,
    )
    text = re.sub(r"Seen\[(\d+)\] AND 65535", r"UINT_TO_DINT(WORD_TO_UINT(INT_TO_WORD(Seen[\1])))", text)
    text = re.sub(
        r"CPS\((\w+)\[0\], (\w+)\[0\], (\d+)\);",
        lambda found: "\n".join(
            f"{found[2]}[{index}] := "
            + ("WORD_TO_INT" if found[1] == "Status" else "INT_TO_WORD")
            + f"({found[1]}[{index}]);"
            for index in range(int(found[3]))
        ),
        text,
    )
    pattern = "SHL(WORD_TO_DWORD(INT_TO_WORD(Pair[1])), 16) OR WORD_TO_DWORD(INT_TO_WORD(Pair[0]))"
    text = re.sub(
        r"COP\(Pair\[0\], (\w+), 1\);",
        lambda found: (
            f"Bits.Pattern := {pattern};\n{found[1]} := Bits.Number;"
            if found[1] in reals
            else f"{found[1]} := DWORD_TO_DINT({pattern});"
        ),
        text,
    )
    text = re.sub(r"\* \(Elapsed\) /", "* DINT_TO_REAL(Elapsed) /", text)
    return re.sub(r"(Given\[\d+\]) := (.*);", r"\1 := DINT_TO_INT(\2);", text)
