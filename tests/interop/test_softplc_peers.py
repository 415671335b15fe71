"""The soft PLC against two compilers by others: same text, same inputs, same outputs, scan by scan.

Each statement has one operation, because compilers to C keep more bits than a type has between two
operations; what an operation leaves in a variable is where all have to agree.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from edge_opcua.sim.softplc.library import compile_st
from tests.ladder.compilers import INSTALLED, need, scans

pytestmark = pytest.mark.interop

SCANS: Final = 800
INPUTS: Final = {
    "i1": "INT", "i2": "INT", "u1": "UINT", "u2": "UINT", "d1": "DINT", "d2": "DINT", "w1": "WORD",
    "w2": "WORD",
    "b1": "BOOL", "b2": "BOOL", "r1": "REAL", "r2": "REAL", "n": "UINT",
}  # fmt: skip
_NUMBERS: Final = {"i": "INT", "u": "UINT", "d": "DINT"}
_RESULTS: Final = [
    *(
        (f"{letter}{name}", kind, f"{letter}1 {sign} {letter}2")
        for letter, kind in _NUMBERS.items()
        for name, sign in (("sum", "+"), ("less", "-"), ("times", "*"))
    ),
    *(
        (f"{letter}{name}", "BOOL", f"{letter}1 {sign} {letter}2")
        for letter in ("i", "u", "d", "r")
        for name, sign in (("eq", "="), ("ne", "<>"), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))
    ),
    *(
        (f"{letter}{f}", kind, f"{f}({letter}1, {letter}2)")
        for letter, kind in _NUMBERS.items()
        for f in ("MIN", "MAX")
    ),
    ("iabs", "INT", "ABS(i1)"),
    ("ilimit", "INT", "LIMIT(-100, i1, 2000)"),
    ("isel", "INT", "SEL(b1, i1, i2)"),
    ("wand", "WORD", "w1 AND w2"),
    ("wor", "WORD", "w1 OR w2"),
    ("wxor", "WORD", "w1 XOR w2"),
    ("wnot", "WORD", "NOT w1"),
    ("wshl", "WORD", "SHL(w1, n)"),
    ("wshr", "WORD", "SHR(w1, n)"),
    ("wrol", "WORD", "ROL(w1, n)"),
    ("wror", "WORD", "ROR(w1, n)"),
    ("band", "BOOL", "b1 AND NOT b2"),
    ("bxor", "BOOL", "b1 XOR b2"),
    ("rsum", "REAL", "r1 + r2"),
    ("rtimes", "REAL", "r1 * r2"),
    ("c1", "DINT", "INT_TO_DINT(i1)"),
    ("c2", "INT", "DINT_TO_INT(d1)"),
    ("c3", "UINT", "WORD_TO_UINT(w1)"),
    ("c4", "INT", "WORD_TO_INT(w1)"),
    ("c5", "WORD", "INT_TO_WORD(i1)"),
    ("c6", "UINT", "INT_TO_UINT(i1)"),
    ("c7", "REAL", "DINT_TO_REAL(d1)"),
    ("c8", "DINT", "UINT_TO_DINT(u1)"),
    ("c9", "DINT", "REAL_TO_DINT(r1)"),
    ("root", "REAL", "SQRT(ABS(r1))"),
]
_MORE: Final = [
    ("idiv", "INT"), ("imod", "INT"), ("udiv", "UINT"), ("rdiv", "REAL"), ("loop", "DINT"), ("chosen", "INT"),
    ("ton_q", "BOOL"), ("ton_half", "BOOL"), ("tof_q", "BOOL"), ("tp_q", "BOOL"), ("rise", "BOOL"),
    ("fall", "BOOL"), ("set", "BOOL"), ("reset", "BOOL"), ("count", "INT"), ("full", "BOOL"), ("down", "INT"),
]  # fmt: skip
_BODY: Final = """
IF i2 <> 0 THEN idiv := i1 / i2; imod := i1 MOD i2; END_IF;
IF u2 <> 0 THEN udiv := u1 / u2; END_IF;
IF r2 <> 0.0 THEN rdiv := r1 / r2; END_IF;
loop := 0;
FOR k := 1 TO 10 DO
    IF k = 8 THEN EXIT; END_IF;
    loop := loop + INT_TO_DINT(k);
END_FOR;
WHILE loop < 40 DO loop := loop + 3; END_WHILE;
REPEAT loop := loop + 1; UNTIL loop >= 45 END_REPEAT;
CASE UINT_TO_INT(n) OF
    0: chosen := 1;
    1..3, 9: chosen := 2;
ELSE
    chosen := 3;
END_CASE;
t1(IN := b1, PT := T#100ms); ton_q := t1.Q; ton_half := t1.ET >= T#50ms;
t2(IN := b1, PT := T#100ms); tof_q := t2.Q;
t3(IN := b1, PT := T#100ms); tp_q := t3.Q;
e1(CLK := b1); rise := e1.Q;
e2(CLK := b2); fall := e2.Q;
s1(S1 := b1, R := b2); set := s1.Q1;
s2(S := b1, R1 := b2); reset := s2.Q1;
k1(CU := b1, R := b2, PV := 3); count := k1.CV; full := k1.Q;
k2(CD := b1, LD := b2, PV := 3); down := k2.CV;
"""
_C: Final = {
    "INT": "int16_t",
    "UINT": "uint16_t",
    "DINT": "int32_t",
    "WORD": "uint16_t",
    "BOOL": "bool",
    "REAL": "float",
}


def block() -> tuple[str, dict[str, str]]:
    """The text, and its outputs with their types."""
    outputs = {name: kind for name, kind, _ in _RESULTS} | dict(_MORE)
    lines = ["FUNCTION_BLOCK FB_Try", "VAR_INPUT", *(f"{name} : {kind};" for name, kind in INPUTS.items())]
    lines += [
        "END_VAR",
        "VAR_OUTPUT",
        *(f"o_{name} : {kind};" for name, kind in outputs.items()),
        "END_VAR",
        "VAR",
    ]
    lines += [f"{name} : {kind};" for name, kind in outputs.items()]
    lines += [
        "k : INT; t1 : TON; t2 : TOF; t3 : TP; e1 : R_TRIG; e2 : F_TRIG;",
        "s1 : SR; s2 : RS; k1 : CTU; k2 : CTD;",
        "END_VAR",
    ]
    lines += [f"{name} := {text};" for name, _, text in _RESULTS]
    lines += [_BODY, *(f"o_{name} := {name};" for name in outputs), "END_FUNCTION_BLOCK", ""]
    return "\n".join(lines), outputs


def course() -> list[list[float]]:
    """Time in ms and inputs of each scan."""
    chance = random.Random(5)
    now_ms, found = 1000.0, []
    on = {"b1": False, "b2": False}
    for _ in range(SCANS):
        now_ms += chance.choice((5, 20, 20, 37, 60))
        row = [now_ms]
        for name, kind in INPUTS.items():
            if kind == "BOOL":
                on[name] ^= chance.random() < 0.25
                row.append(float(on[name]))
            elif kind == "REAL":
                row.append(struct.unpack("<f", struct.pack("<f", chance.uniform(-1000, 1000)))[0])
            elif name == "n":
                row.append(float(chance.randint(0, 15)))
            else:
                low, high = {"INT": (-32768, 32767), "DINT": (-(2**31), 2**31 - 1)}.get(kind, (0, 65535))
                narrow = (-5, 5) if low else (0, 5)
                row.append(float(chance.randint(*((low, high) if chance.random() < 0.7 else narrow))))
        found.append(row)
    return found


def matiec(text: str, outputs: dict[str, str], folder: Path) -> Path:
    compiler = need(INSTALLED / "matiec" / "iec2c")
    main = "PROGRAM Main\nVAR\n    Edge : FB_Try;\nEND_VAR\nEdge();\nEND_PROGRAM\n"
    plc = (
        "CONFIGURATION Plc\nRESOURCE Cpu ON PLC\nTASK Fast(INTERVAL := T#20ms, PRIORITY := 0);\n"
        "PROGRAM Instance WITH Fast : Main;\nEND_RESOURCE\nEND_CONFIGURATION\n"
    )
    (folder / "block.st").write_text(text + main + plc)
    library = compiler.parent / "lib"
    run([compiler, "-I", library, "-T", folder, folder / "block.st"], folder)
    (folder / "main.c").write_text(
        '#include <stdio.h>\n#include <stdbool.h>\n#include "iec_std_lib.h"\n#include "accessor.h"\n'
        "TIME __CURRENT_TIME;\nBOOL __DEBUG;\nunsigned long long common_ticktime__ = 20000000;\n"
        '#include "POUS.h"\n#include "POUS.c"\nstatic FB_TRY block;\n'
        'static double number(void) { double x = 0; if (scanf("%lf", &x) != 1) exit(1); return x; }\n'
        'int main(void) {\n  double ms;\n  FB_TRY_init__(&block, 0);\n  while (scanf("%lf", &ms) == 1) {\n'
        "    long long ns = (long long)(ms * 1e6 + 0.5);\n"
        "    __CURRENT_TIME.tv_sec = ns / 1000000000;\n    __CURRENT_TIME.tv_nsec = ns % 1000000000;\n"
        + "".join(
            f"    block.{name.upper()}.value = ({_C[kind]})number();\n" for name, kind in INPUTS.items()
        )
        + "    FB_TRY_body__(&block);\n"
        + "".join(
            f'    printf("%.17g ", (double)({_C[kind]})block.O_{name.upper()}.value);\n'
            for name, kind in outputs.items()
        )
        + '    printf("\\n");\n  }\n  return 0;\n}\n'
    )
    run(
        ["gcc", "-O0", "-w", "-fwrapv", "-I", library / "C", "-I", folder, "main.c", "-o", "block", "-lm"],
        folder,
    )
    return folder / "block"


def strucpp(text: str, outputs: dict[str, str], folder: Path) -> Path:
    compiler = need(INSTALLED / "strucpp" / "dist" / "node" / "cli.js")
    (folder / "block.st").write_text(
        text + "PROGRAM Main\nVAR\n    Edge : FB_Try;\nEND_VAR\nEdge();\nEND_PROGRAM\n"
    )
    run(["node", compiler, "block.st", "-o", "block.cpp"], folder)
    (folder / "main.cpp").write_text(
        '#include "block.hpp"\n#include <cstdio>\n#include <cstdlib>\n'
        'static double number() { double x = 0; if (std::scanf("%lf", &x) != 1) std::exit(1); return x; }\n'
        'int main() {\n  strucpp::FB_TRY block;\n  double ms;\n  while (std::scanf("%lf", &ms) == 1) {\n'
        "    strucpp::__CURRENT_TIME_NS = static_cast<int64_t>(ms * 1e6 + 0.5);\n"
        + "".join(
            f"    block.{name.upper()} = static_cast<{_C[kind]}>(number());\n"
            for name, kind in INPUTS.items()
        )
        + "    block();\n"
        + "".join(
            f'    std::printf("%.17g ", double({_C[kind]}(block.O_{name.upper()})));\n'
            for name, kind in outputs.items()
        )
        + '    std::printf("\\n");\n  }\n}\n'
    )
    include = INSTALLED / "strucpp" / "src" / "runtime" / "include"
    sources = ["main.cpp", "block.cpp", "-o", "block"]
    run(["g++", "-std=c++17", "-O0", "-w", "-fwrapv", "-I", include, "-I", folder, *sources], folder)
    return folder / "block"


def run(command: list[str | Path], folder: Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("compiler", "known"),
    [
        (matiec, set()),
        # Its CTD counts falls of CD, and not below 0; the standard has CD : BOOL R_EDGE and the smallest INT.
        (strucpp, {"down"}),
    ],
    ids=["matiec", "strucpp"],
)
def test_operations_and_standard_blocks_do_what_they_do_elsewhere(
    compiler: Callable[[str, dict[str, str], Path], Path], known: set[str], tmp_path: Path
) -> None:
    text, outputs = block()
    program = compiler(text, outputs, tmp_path)
    ours = compile_st(text).instance("FB_Try")
    rows = course()
    found = scans(program, [" ".join(f"{value:.17g}" for value in row) for row in rows])

    assert len(found) == SCANS
    differing: dict[str, str] = {}
    for row, theirs in zip(rows, found, strict=True):
        for (name, kind), value in zip(INPUTS.items(), row[1:], strict=True):
            ours.set(name, bool(value) if kind == "BOOL" else value if kind == "REAL" else int(value))
        ours.scan(row[0] / 1000)
        for (name, _), value in zip(outputs.items(), theirs, strict=True):
            if float(ours.get(f"o_{name}")) != pytest.approx(value, rel=1e-6):
                given = dict(zip(INPUTS, row[1:], strict=True))
                differing.setdefault(
                    name, f"ours {ours.get(f'o_{name}')}, theirs {value}, at {row[0]} {given}"
                )
    assert differing.keys() == known, differing
