"""Exported function blocks in the eyes of others: parsers, a schema, and two compilers that also run them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from edge_opcua.ladder.codesys import function_block
from edge_opcua.ladder.export import exported
from edge_opcua.ladder.facts import Facts
from tests.ladder.blocks import facts
from tests.ladder.compilers import INSTALLED, matiec, need, scans, strucpp
from tests.ladder.course import Course

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

MODES: Final = ("polled", "triggered", "setpoint", "veto")
# Neither compiler knows UNION, which only results of type REAL need: the same block with whole numbers.
WHOLE: Final = [
    {"name": "Verdict", "source": "verdict", "type": "DINT"},
    {"name": "Score", "source": "score", "type": "DINT"},
]
_NAMES: Final = "CommOk InUse AckReq NewResult Done Busy ErrorId ResultCode ResultSeq Verdict Score Out"
_OUTPUTS: Final = tuple(_NAMES.split())


def _python(code: str, *arguments: Path) -> str:
    python = need(INSTALLED / "ladder/bin/python")
    done = subprocess.run(
        [str(python), "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _written(of: Facts, target: str, ending: str, folder: Path) -> Path:
    (text,) = [file.text for file in exported(of, target) if file.name.endswith(ending)]
    path = folder / f"{of.mode}{ending}"
    path.write_text(text)
    return path


def test_blark_parses_what_is_exported_for_codesys(tmp_path: Path) -> None:
    need(INSTALLED / "ladder/bin/blark")
    of = facts(mode="triggered", commands=("load_model",))
    endings = (f"{of.block}.st", f"PRG_EdgeAI_{of.name}.st", f"GVL_EdgeAI_{of.name}.st")
    paths = [_written(of, "codesys", ending, tmp_path) for ending in endings]
    broken = tmp_path / "broken.st"
    broken.write_text(paths[1].read_text().replace("END_VAR", "", 1))
    code = """
import sys
from blark.parse import parse
for path in sys.argv[1:]:
    found = list(parse(path))
    print(bool(found) and all(one.exception is None for one in found))
"""
    assert _python(code, *paths, broken).split() == ["True"] * len(paths) + ["False"]


def test_the_grammar_of_the_standard_takes_the_function_block(tmp_path: Path) -> None:
    # Edition 3 has no UNION, so the type before the block is left out.
    paths = []
    for mode in MODES:
        path = _written(facts(mode=mode), "codesys", "FB_EdgeAI_verdict.st", tmp_path)
        path.write_text("FUNCTION_BLOCK " + path.read_text().partition("\nFUNCTION_BLOCK ")[2])
        paths.append(path)
    broken = tmp_path / "broken.st"
    broken.write_text(paths[0].read_text().replace("END_IF;", "", 1))
    code = """
import sys, tree_sitter, tree_sitter_iec61131_3_st as grammar
parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
print(*(parser.parse(open(path, "rb").read()).root_node.has_error for path in sys.argv[1:]))
"""
    assert _python(code, *paths, broken).split() == ["False"] * len(paths) + ["True"]


def test_a_grammar_of_scl_takes_types_data_blocks_and_function_block(tmp_path: Path) -> None:
    # The grammar is that of STEP 7, before TIA Portal marked local names (#) and bits of words (.%X0).
    grammar = need(INSTALLED / "scl-grammar/sclParser.py").parent
    paths = []
    for mode in MODES:
        of = facts(mode=mode, commands=("load_model",))
        for ending in (".udt", ".db", f"{of.block}.scl"):
            path = _written(of, "siemens", ending, tmp_path)
            text = re.sub(r"(?<!\w)#(?=[A-Za-z])", "", path.read_text())
            path.write_text(re.sub(r"\.%X(\d+)", r"_bit\1", text))
            paths.append(path)
    broken = tmp_path / "broken.scl"
    broken.write_text(paths[2].read_text().replace("END_IF;", "", 1))
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import antlr4
from antlr4.error.ErrorListener import ErrorListener
from sclLexer import sclLexer
from sclParser import sclParser
class Listener(ErrorListener):
    def __init__(self):
        self.count = 0
    def syntaxError(self, recognizer, symbol, line, column, message, exc):
        self.count += 1
        print(path, line, message, file=sys.stderr)
for path in sys.argv[2:]:
    listener, lexer = Listener(), sclLexer(antlr4.FileStream(path, encoding="utf-8"))
    tokens = antlr4.CommonTokenStream(lexer)
    parser = sclParser(tokens)
    for each in (lexer, parser):
        each.removeErrorListeners()
        each.addErrorListener(listener)
    parser.r()
    print(listener.count == 0 and tokens.LA(1) == antlr4.Token.EOF)
"""
    assert _python(code, grammar, *paths, broken).split() == ["True"] * len(paths) + ["False"]


def test_the_add_on_instruction_follows_the_schema_and_its_reader_finds_it(tmp_path: Path) -> None:
    schema = need(INSTALLED / "l5x-schema/v32/schema.xsd")
    paths = [_written(facts(mode=mode), "rockwell", ".L5X", tmp_path) for mode in MODES]
    # The schema is made from whole projects, in which nothing is a context or a target.
    code = """
import re, sys, xml.etree.ElementTree as tree, xmlschema, l5x
schema = xmlschema.XMLSchema(sys.argv[1])
for path in sys.argv[2:]:
    project = l5x.Project(path)
    root = tree.parse(path).getroot()
    for element in root.iter():
        if element.tag != "RSLogix5000Content":
            element.attrib.pop("Use", None)
    for error in schema.iter_errors(root):
        print(path, error.path, error.reason)
broken = tree.parse(sys.argv[2]).getroot()
next(broken.iter("Parameter")).attrib.pop("DataType")
print("broken" if list(schema.iter_errors(broken)) else "the schema sees nothing")
"""
    assert _python(code, schema, *paths).split() == ["broken"]


@pytest.mark.parametrize(
    ("compiler", "mode"),
    [
        (matiec, "polled"),
        (matiec, "triggered"),
        (matiec, "veto"),
        (strucpp, "polled"),
        (strucpp, "triggered"),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_a_block_translated_by_others_does_the_same_as_in_our_soft_plc(
    compiler: Callable[[str, Facts, Path], Path], mode: str, tmp_path: Path
) -> None:
    of = facts(mode=mode, results=WHOLE, ack_timeout_ms=200)
    program = compiler(function_block(of), of, tmp_path)
    course, lines, wanted = Course(of, seed=11), [], []
    for given in course.scans(1_500):
        lines.append(" ".join(f"{value:.9g}" for value in given))
        bench = course.bench
        wanted.append([float(value) for value in (*bench.control, *bench.outputs(*_OUTPUTS))])
    found = scans(program, lines)
    assert len(found) == len(wanted)
    for number, (theirs, ours) in enumerate(zip(found, wanted, strict=True)):
        assert theirs == pytest.approx(ours, abs=1e-4), f"scan {number}: {lines[number]}"
    seen = {name: {row[8 + index] for row in wanted} for index, name in enumerate(_OUTPUTS)}
    for name in ("InUse", "AckReq", "NewResult"):
        assert seen[name] == {0.0, 1.0}, f"{name} never changed: this course shows nothing"
    if mode == "triggered":
        assert {0.0, 900.0, 902.0} <= seen["ErrorId"]
        assert seen["Done"] == {0.0, 1.0}
