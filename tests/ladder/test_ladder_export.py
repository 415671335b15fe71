"""Exported files: made from the map alone, the same every time, never written over what somebody changed."""

from __future__ import annotations

import csv
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_opcua.cli import main
from edge_opcua.config.eai import Ctrl, Stat
from edge_opcua.config.outputs import RESULTS, ResultConfig
from edge_opcua.config.plcnames import PARAMETERS
from edge_opcua.errors import ConfigError
from edge_opcua.ladder.export import TARGETS, exported
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import camel
from edge_opcua.ladder.header import signed, untouched
from edge_opcua.ladder.logic import logic, real
from edge_opcua.ladder.variables import VALUE_PREFIX, timers, variables
from tests.ladder.blocks import EXAMPLE, facts, press_files

ALL = [
    facts(mode="polled"),
    facts(mode="triggered", commands=("load_model",)),
    facts(mode="setpoint", results=[{"name": "Speed", "source": "score", "type": "REAL"}], value="Speed"),
    facts(mode="veto"),
    facts("modbus", "press-veto.2", control="hr:200", status="hr:300", word_order="high_first"),
    facts(
        "ethernet-ip", control="EdgeAI_Control", status="Program:Main.EdgeAI_Status", word_order="high_first"
    ),
]
_IDS = ["polled", "triggered", "setpoint", "veto", "modbus", "ethernet-ip"]
_TEXT = re.compile(r"\(\*.*?\*\)|//[^\n]*", re.DOTALL)
_WORD = re.compile(r"(?<![\w.])[A-Za-z]\w*")


def files(of: Facts) -> Iterator[tuple[str, str, str]]:
    for target in TARGETS:
        for file in exported(of, target):
            yield target, file.name, file.text


def one(of: Facts, target: str, ending: str) -> str:
    (text,) = [text for where, name, text in files(of) if where == target and name.endswith(ending)]
    return text


def test_the_committed_export_is_that_of_the_press() -> None:
    wanted = press_files()
    found = {path: path.read_bytes() for path in (EXAMPLE / "plc").rglob("*") if path.is_file()}
    assert sorted(found) == sorted(wanted), "on purpose? then: python -m tests.ladder.blocks"
    different = [str(path) for path in wanted if wanted[path] != found[path]]
    assert not different, "on purpose? then: python -m tests.ladder.blocks"


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_every_file_says_what_it_is_from_and_that_nobody_changed_it(of: Facts) -> None:
    for _, name, text in files(of):
        assert f'output "{of.output}"' in text or f"output '{of.output}'" in text, name
        assert f"nterface version {of.map.version}" in text, name
        assert untouched(text), name
        assert not untouched(text.replace("a", "b", 1)), name
        assert not re.search(r"\b20[23]\d-\d\d-\d\d\b|\d\d:\d\d:\d\d", text), "a time in a file"


def test_what_has_no_checksum_is_not_ours() -> None:
    assert not untouched("FUNCTION_BLOCK Mine")
    assert untouched(signed("checksum 0000000000000000\nx"))


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_names_differ_in_more_than_the_case_of_letters(of: Facts) -> None:
    # IEC 61131-3 ed. 3, 6.1.2: the case of letters does not count.
    names = [variable.name.lower() for variable in variables(of)]
    names += [timer.name.lower() for timer in timers(of)]
    names += ["status", "control", "bits", "seen", "given", "pair"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_every_name_of_the_block_is_kept_from_results(of: Facts) -> None:
    results = {field.config.name for field in of.map.results}
    results |= {VALUE_PREFIX + name for name in results}
    ours = {variable.name for variable in variables(of)} - results
    ours |= {timer.name for timer in timers(of)} | {"Status", "Control", "Bits", "Seen", "Given", "Pair"}
    status = one(of, "siemens", ".udt").partition("END_TYPE")[0]
    ours |= set(re.findall(r"^      (\w+) :", status, re.MULTILINE)) - results
    assert {name.lower() for name in ours} <= PARAMETERS


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_the_logic_uses_what_is_declared_and_everything_declared_is_used(of: Facts) -> None:
    declared = {variable.name for variable in variables(of)} | {timer.name for timer in timers(of)}
    text = "\n".join(section.text for section in logic(of))
    used = set(_WORD.findall(text)) - set(
        "IF THEN ELSIF ELSE END_IF AND OR NOT MOD TON TRUE FALSE E".split()  # noqa: SIM905 - a sentence of words
    )
    used = {name for name in used if "_TO_" not in name}
    assert used <= declared
    outside = {"State", "Command", "CommandArg"}  # handed over as they are
    assert declared - used <= outside


@pytest.mark.parametrize("of", ALL, ids=_IDS)
@pytest.mark.parametrize("target", TARGETS)
def test_blocks_are_closed_in_every_language(of: Facts, target: str) -> None:
    source = one(
        of,
        target,
        {"codesys": "FB_EdgeAI_" + of.name + ".st"}.get(
            target, {"siemens": f"{of.block}.scl"}.get(target, ".L5X")
        ),
    )
    text = _TEXT.sub("", source)
    assert len(re.findall(r"\bIF\b", text)) == len(re.findall(r"\bEND_IF;", text)) > 10
    assert text.count("(") == text.count(")")


def test_the_data_types_for_tia_have_the_bytes_of_the_map() -> None:
    # An S7 puts Word, UInt, DInt and Real at even bytes, one after the other (standard access).
    for of in ALL[:4]:
        udt = one(of, "siemens", ".udt")
        for size, area in ((of.map.status_words, "Status"), (of.map.control_words, "Control")):
            body = udt.partition(f'"EdgeAI_{of.name}_{area}"')[2].partition("END_STRUCT")[0]
            at = 0
            for kind, said in re.findall(r": (\w+);   // byte (\d+):", body):
                assert at == int(said)
                at += {"Word": 2, "UInt": 2, "DInt": 4, "Real": 4}[kind]
            assert at == 2 * size
        fields = dict(re.findall(r"(\w+) : \w+;   // byte (\d+):", udt.partition("Control")[0]))
        for field in of.map.results:
            assert int(fields[field.config.name]) == 2 * field.word


def test_the_bits_of_every_language_are_those_of_the_map() -> None:
    of = facts(mode="triggered", commands=("load_model",))
    taken = {
        "EdgeOnline": Stat.ONLINE,
        "EdgeReady": Stat.TRIGGER_READY,
        "EdgeTook": Stat.TRIGGER_ACK,
        "EdgeValid": Stat.RESULTS_VALID,
        "EdgeHasError": Stat.ERROR,
        "EdgeActive": Stat.AUTHORITY_ACTIVE,
        "EdgeFailSafe": Stat.FAIL_SAFE_ACTIVE,
        "EdgeAckRequired": Stat.ACK_REQUIRED,
        "EdgeCmdCompleted": Stat.CMD_COMPLETED,
        "EdgeCmdFailed": Stat.CMD_FAILED,
    }
    st, scl, l5x = (
        one(of, "codesys", f"{of.block}.st"),
        one(of, "siemens", f"{of.block}.scl"),
        one(of, "rockwell", ".L5X"),
    )
    for name, bit in taken.items():
        assert f"{name} := (Status[0] AND 16#{bit.value:04X}) <> 16#0000;" in st
        number = bit.bit_length() - 1
        assert f"#{name} := #Status.Stat.%X{number};" in scl
        assert f"{name} := Seen[0].{number};" in l5x
    told = {int(number) for number in re.findall(r"CtrlBits := CtrlBits \+ (\d+);", st)}
    assert told == {bit.value for bit in Ctrl} - {Ctrl.BUFFER_RESULTS.value}
    for other in (scl.replace("#", ""), l5x):
        assert told == {int(number) for number in re.findall(r"CtrlBits := CtrlBits \+ (\d+);", other)}


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_the_add_on_instruction_is_xml_and_its_lines_are_numbered(of: Facts) -> None:
    root = ElementTree.fromstring(one(of, "rockwell", ".L5X"))
    (instruction,) = root.iter("AddOnInstructionDefinition")
    assert instruction.get("Name") == of.block
    names = [each.get("Name", "").lower() for tag in ("Parameter", "LocalTag") for each in root.iter(tag)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 40 for name in names)
    for routine in root.iter("Routine"):
        lines = list(routine.iter("Line"))
        assert [int(line.get("Number", "-1")) for line in lines] == list(range(len(lines)))
    sizes = {each.get("Name"): each.get("Dimensions") for each in root.iter("Parameter")}
    assert (sizes["Status"], sizes["Control"]) == (str(of.map.status_words), str(of.map.control_words))


def test_the_tags_are_those_the_driver_reads_and_writes() -> None:
    rows = list(csv.reader(one(ALL[5], "rockwell", ".csv").splitlines()))
    found = {row[2]: (row[1], row[4]) for row in rows if row[0] == "TAG"}
    assert found["EdgeAI_Control"] == ("", "INT[8]")
    assert found["EdgeAI_Status"] == ("Main", f"INT[{ALL[5].map.status_words}]")
    assert found["EdgeAI_verdict"] == ("", "FB_EdgeAI_verdict")
    others = [row[2] for row in csv.reader(one(ALL[0], "rockwell", ".csv").splitlines()) if row[0] == "TAG"]
    assert others == ["EdgeAI_verdict_Status", "EdgeAI_verdict_Control", "EdgeAI_verdict"]


@pytest.mark.parametrize("of", ALL, ids=_IDS)
def test_the_timing_diagram_is_drawn_with_the_configured_times(of: Facts) -> None:
    text = one(of, "codesys", ".svg")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert f"plc_timeout {of.plc_timeout_ms} ms" in text
    assert (f"within {of.result_ms} ms" in text) is (of.mode == "triggered")
    _, _, width, height = (float(part) for part in root.get("viewBox", "").split())
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        assert points == sorted(points, key=lambda point: point[0]), "time goes on"
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


@pytest.mark.parametrize("value", [0.0, -1e9, 1e9, 1e22, -2.5e-7, 1e38, -1e300])
def test_numbers_become_literals_that_mean_the_same(value: float) -> None:
    text = real(value)
    assert re.fullmatch(r"-?\d+\.\d+(E[+-]\d+)?", text)
    struct.pack("<f", float(text))  # a REAL
    if abs(value) < 3e38:
        assert float(text) == value


def test_a_target_that_cannot_take_the_interface_says_so() -> None:
    for target, of, why in (
        ("siemens", facts("modbus", control="hr:200", status="hr:300"), "high_first"),
        ("siemens", facts(control="MB100", status="DB20"), "MB100"),
        ("rockwell", facts(output="a" * 30), "40 characters"),
        ("rockwell", facts("ethernet-ip", control="T[4]", status="T_Out"), "whole arrays"),
    ):
        with pytest.raises(ConfigError, match=re.escape(why)) as caught:
            exported(of, target)
        assert caught.value.code == "C180"


def test_the_default_results_are_named_as_in_the_example() -> None:
    assert facts().map.interface.results == RESULTS
    assert [camel(name) for name in ("EDGE_HEARTBEAT", "STAT")] == ["EdgeHeartbeat", "Stat"]
    assert ResultConfig(name="A_b", source="score", type="REAL").name == "A_b"


# --- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "press"
    shutil.copytree(EXAMPLE, folder)
    text = (folder / "press.toml").read_text()
    head, _, _ = text.partition("[[outputs]]")
    (folder / "press.toml").write_text(
        head
        + """
[[outputs]]
name = "verdict"
device = "press"
pipeline = "press-anomaly"

  [outputs.interface]
  control = "DB21"
  status = "DB20.DBB40"
"""
    )
    return folder / "press.toml"


def test_all_targets_are_written_each_into_its_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["ladder", "export", str(config), "--output", "verdict", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["codesys", "rockwell", "siemens"]
    assert all(untouched(path.read_bytes().decode()) for path in out.rglob("*.*"))
    assert "not compiled" in capsys.readouterr().out
    assert "Before : Array[0..39] of Byte" in (out / "siemens/EdgeAI_verdict.db").read_text()


def test_one_target_is_written_into_the_folder_itself(config: Path, tmp_path: Path) -> None:
    assert main(["ladder", "export", str(config), "--target", "siemens", "--out", str(tmp_path / "tia")]) == 0
    assert (tmp_path / "tia/FB_EdgeAI_verdict.scl").is_file()


def test_a_file_that_was_changed_stays_and_nothing_else_is_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ladder", "export", str(config), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0  # ours, and untouched
    changed = tmp_path / "out/rockwell/FB_EdgeAI_verdict.L5X"
    changed.write_text(changed.read_text().replace("Revision", "revision"))
    other = tmp_path / "out/codesys/README.md"
    other.unlink()
    assert main(command) == 3
    assert "error[C181]" in capsys.readouterr().err
    assert not other.exists()
    assert main([*command, "--force"]) == 0
    assert untouched(changed.read_text())


def test_a_byte_that_no_text_has_is_a_change(config: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    assert main(["ladder", "export", str(config), "--target", "codesys", "--out", str(tmp_path)]) == 3


def test_wrong_use_is_told_with_its_code(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ladder", "export", str(config), "--output", "nobody", "--out", str(tmp_path)]) == 2
    assert (
        'error[C180] there is no output "nobody"; with an interface block: verdict' in capsys.readouterr().err
    )
    assert main(["ladder", "export", str(config)]) == 2
    assert "--out DIR" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["ladder", "export", str(config), "--out", str(tmp_path / "file")]) == 2


def test_the_map_is_shown_with_the_addresses_of_the_device(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ladder", "show", str(config)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {
        line[3]: line[1] for line in lines if len(line) > 3 and line[2] in ("UINT", "BOOL", "REAL", "WORD")
    }
    assert rows["Enable"] == "DB21.DBX1.0"  # S7 counts bits per byte, and the low byte comes second
    assert rows["Latched"] == "DB21.DBX0.0"
    assert rows["EdgeHeartbeat"] == "DB20.DBW42"
    assert rows["Score"] == "DB20.DBW68"
    assert rows["ResultSeqTail"] == "DB20.DBW76"


def test_registers_are_shown_with_their_unit_and_what_no_s7_could_take_is_not_exported(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.read_text().replace('device = "press"\npipeline', 'device = "vib"\npipeline')
    config.write_text(text.replace('"DB21"', '"hr:4000"').replace('"DB20.DBB40"', '"hr:4100"'))
    assert main(["ladder", "show", str(config)]) == 0
    out = capsys.readouterr().out
    assert "low word first" in out
    for address, name in (
        ("1/hr:4000.0", "Enable"),
        ("1/hr:4101", "EdgeHeartbeat"),
        ("1/hr:4114", "Score"),
        ("1/hr:4118", "ResultSeqTail"),
    ):
        assert re.search(rf" {re.escape(address)} +\w+ +{name}\b", out), address
    siemens = ["ladder", "export", str(config), "--target", "siemens", "--out", str(tmp_path / "out")]
    assert main(siemens) == 2
    assert "error[C180]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["ladder", "export", str(config), "--out", str(tmp_path / "out")]) == 0
    assert "not for siemens: [C180] output verdict: an S7 has the high word" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["codesys", "rockwell"]
    assert main(["ladder", "export", str(config), "--target", "codesys", "--out", str(tmp_path / "out")]) == 0


def test_an_output_of_single_tags_has_no_function_block(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, _ = config.read_text().partition("  [outputs.interface]")
    values = '  [[outputs.values]]\n  tag = "press/sp_strokes_per_min"\n  source = "score"\n  preset = 20\n'
    config.write_text(head + values)
    assert main(["ladder", "export", str(config), "--output", "verdict", "--out", str(tmp_path / "out")]) == 2
    assert "C180" in capsys.readouterr().err
