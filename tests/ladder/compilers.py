"""Compilers of Structured Text by others, which translate an exported block and run it scan by scan."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from edge_opcua.ladder.facts import Facts

HERE: Final = Path(__file__).parents[1] / "peers"
INSTALLED: Final = HERE / ".installed"
_LONGEST_S: Final = 60.0
_MAIN: Final = "PROGRAM Main\nVAR\n    Edge : {block};\nEND_VAR\nEdge();\nEND_PROGRAM\n"
_CONFIGURATION: Final = """
CONFIGURATION Plc
RESOURCE Cpu ON PLC
TASK Fast(INTERVAL := T#20ms, PRIORITY := 0);
PROGRAM Instance WITH Fast : Main;
END_RESOURCE
END_CONFIGURATION
"""


def _run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def need(path: Path) -> Path:
    """Return a peer, or skip."""
    if not path.exists():
        pytest.skip(f"{path.name} is not here: run tests/peers/install")
    return path


def matiec(text: str, facts: Facts, folder: Path) -> Path:
    """Translate a block to C and return a program that runs it."""
    compiler = need(INSTALLED / "matiec/iec2c")
    # IEC 61131-3 leaves open what a TIME is as a whole number: in matiec seconds, in CODESYS milliseconds.
    text = re.sub(r"TIME_TO_DINT\((\w+\.ET)\)", r"LREAL_TO_DINT(TIME_TO_LREAL(\1) * 1000.0)", text)
    (folder / "block.st").write_text(text + _MAIN.format(block=facts.block) + _CONFIGURATION)
    library = compiler.parent / "lib"
    _run([compiler, "-I", library, "-T", folder, folder / "block.st"], folder)
    program = folder / "block"
    _run(
        [
            "gcc", "-O0", "-w", f"-D{facts.mode.upper()}", "-I", library / "C", "-I", folder,
            HERE / "ladder_matiec.c", "-o", program, "-lm",
        ],
        folder,
    )  # fmt: skip
    return program


def strucpp(text: str, facts: Facts, folder: Path) -> Path:
    """Translate a block to C++ and return a program that runs it."""
    compiler = need(INSTALLED / "strucpp/dist/node/cli.js")
    (folder / "block.st").write_text(text + _MAIN.format(block=facts.block))
    _run(["node", compiler, "block.st", "-o", "block.cpp"], folder)
    program = folder / "block"
    include = INSTALLED / "strucpp/src/runtime/include"
    _run(
        [
            "g++", "-std=c++17", "-O0", "-w", f"-D{facts.mode.upper()}",
            f"-DSTATUS_WORDS={facts.map.status_words}", "-I", include, "-I", folder,
            HERE / "ladder_strucpp.cpp", "block.cpp", "-o", program,
        ],
        folder,
    )  # fmt: skip
    return program


def scans(program: Path, lines: list[str]) -> list[list[float]]:
    """Run a program over all scans and return its outputs in each."""
    done = subprocess.run(
        [str(program)], input="\n".join(lines), capture_output=True, text=True, timeout=_LONGEST_S, check=True
    )
    return [[float(part) for part in line.split()] for line in done.stdout.splitlines()]
