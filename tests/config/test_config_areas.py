"""The words that an output shares with its PLC are tags like any other: polled, compared, handed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_opcua.config.difference import difference
from edge_opcua.config.handover import packed, unpacked
from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.pollplan import plan_lines
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Scalar
from tests.config.fakedriver import changed, codes_of

CONFIG = """\
version = 1
[site]
name = "plant"
machine = "Press01"

[[devices]]
name = "plc"
driver = "s7"
url = "s7://192.0.2.1"
  [[devices.captures]]
  name = "stroke"
  sequence = "DB1.DBW0:UINT"
  samples = "DB1.DBW100:INT[200]"
  sample_rate_hz = 1000

[[pipelines]]
name = "wear"
model = "wear"
capture = "plc/stroke"

[[outputs]]
name = "verdict"
device = "plc"
pipeline = "wear"
  [outputs.interface]
  control = "DB21"
  status = "DB20"
"""


def load_text(folder: Path, text: str) -> Loaded:
    file = folder / "press.toml"
    file.write_text(text)
    return load(file, env={})


def config_of(folder: Path, text: str) -> EdgeConfig:
    loaded = load_text(folder, text)
    assert loaded.config is not None, loaded.problems
    return loaded.config


def test_a_device_reads_what_the_plc_writes_and_on_request_what_we_write(tmp_path: Path) -> None:
    config = config_of(tmp_path, CONFIG)
    device = config.device("plc")
    control, status = device.group("verdict.control"), device.group("verdict.status")
    assert (control.period_ms, control.on_request) == (20, False)
    assert (status.period_ms, status.on_request) == (0, True)
    _, words = config.tag("plc/verdict.control")
    assert (words.address, words.type, words.length) == ("DB21.DBW0:UINT[8]", Scalar.UINT16, 8)
    assert (words.group, words.access) == ("verdict.control", "r")
    assert words.description == "Interface block of output verdict: what the PLC writes"
    _, words = config.tag("plc/verdict.status")
    assert (words.address, words.length, words.group) == ("DB20.DBW0:UINT[19]", 19, "verdict.status")
    assert device.group("default").period_ms == 1000


@pytest.mark.parametrize(
    ("driver", "url", "control", "status", "addresses"),
    [
        ("modbus", "modbus://h/2", "hr:200", "3/hr:20", ["2/hr:200:UINT[8]", "3/hr:20:UINT[19]"]),
        # What a CODESYS Modbus server lets its program write are input registers.
        ("modbus", "modbus://h/2", "ir:200", "3/hr:20", ["2/ir:200:UINT[8]", "3/hr:20:UINT[19]"]),
        (
            "ethernet-ip",
            "eip://h",
            "EdgeAI_Control",
            "Program:Main.EdgeAI[16]",
            ["EdgeAI_Control[0]:WORD[8]", "Program:Main.EdgeAI[16]:WORD[19]"],
        ),
    ],
)
def test_every_protocol_with_words_has_areas(
    tmp_path: Path, driver: str, url: str, control: str, status: str, addresses: list[str]
) -> None:
    text = changed('"s7"\nurl = "s7://192.0.2.1"', f'"{driver}"\nurl = "{url}"', CONFIG)
    text = changed('"DB21"', f'"{control}"', changed('"DB20"', f'"{status}"', text))
    of_driver = {"modbus": ("hr:1:UINT", "hr:9:INT[9]"), "ethernet-ip": ("N:INT", "S:INT[9]")}[driver]
    text = changed("DB1.DBW0:UINT", of_driver[0], changed("DB1.DBW100:INT[200]", of_driver[1], text))
    tags = config_of(tmp_path, text).device("plc").tags
    assert tags.column("address") == addresses
    assert tags.column("type") == [Scalar.UINT16] * 2


def test_words_of_a_device_with_swapped_bytes_are_not_swapped(tmp_path: Path) -> None:
    """The block is written as Modbus has words, whatever order the numbers of the device have."""
    text = changed('"s7"\nurl = "s7://192.0.2.1"', '"modbus"\nurl = "modbus://h"', CONFIG)
    text = changed('"DB21"', '"hr:200"', changed('"DB20"', '"hr:220"', text))
    text = changed("DB1.DBW0:UINT", "hr:1:UINT", changed("DB1.DBW100:INT[200]", "hr:9:INT[9]", text))
    text = changed("  [[devices.captures]]", 'options = { order = "DCBA" }\n  [[devices.captures]]', text)
    assert config_of(tmp_path, text).device("plc").tags[0].address == "1/hr:200:UINT[8];order=ABCD"


def test_the_other_processes_get_the_same_groups_and_tags(tmp_path: Path) -> None:
    config = config_of(tmp_path, CONFIG)
    assert unpacked(memoryview(packed(config))) == config


def test_another_place_or_period_is_a_change_of_the_device(tmp_path: Path) -> None:
    before = config_of(tmp_path, CONFIG)
    for old, new in (('"DB21"', '"DB22"'), ('"DB20"\n', '"DB20"\n  poll_ms = 10\n')):
        change = difference(before, config_of(tmp_path, changed(old, new, CONFIG)))
        assert (tuple(change.devices.changed), tuple(change.outputs.changed)) == (("plc",), ("verdict",))
    assert not difference(before, config_of(tmp_path, CONFIG)).devices


def test_machines_of_a_template_read_areas_of_their_own(tmp_path: Path) -> None:
    head, _, rest = CONFIG.partition("[[devices]]")
    body = "[[devices]]" + rest.replace("press/", "${name}/")
    for section in ("devices", "pipelines", "outputs"):
        body = body.replace(f"[[{section}", f"[[templates.{section}").replace(
            "[outputs.interface]", "[templates.outputs.interface]"
        )
    body = body.replace('"plc"', '"${name}"').replace('"plc/', '"${name}/').replace('"wear"', '"${name}w"', 1)
    body = body.replace('pipeline = "wear"', 'pipeline = "${name}w"').replace('"verdict"', '"${name}v"')
    (tmp_path / "machines.csv").write_text("name,block\na,31\nb,32\n")
    text = f'{head}[[templates]]\nname = "press"\n{body}'.replace("DB21", "DB${block}")
    config = config_of(tmp_path, f'{text}\n[[machines]]\ntemplate = "press"\ntable = "machines.csv"\n')
    assert [device.tags.column("address")[0] for device in config.devices] == [
        "DB31.DBW0:UINT[8]",
        "DB32.DBW0:UINT[8]",
    ]
    plan = "\n".join(plan_lines(config, (), (), "press.toml"))
    assert plan.count("and 1 more like it from template press, to bv") == 2  # what it writes, how it reacts
    assert plan.count("and 1 more like it from template press, to b\n") == 1  # what is read
    assert "bv: interface block" not in plan


@pytest.mark.parametrize(
    ("area", "code", "message"),
    [
        ("DB21.DBX4.0", "T260", '"DB21.DBX4.0" is not an area of an S7 PLC'),
        ("DB21.DBB41", "T261", "DB21.DBB41 begins at an odd byte; an array of words never does"),
        ("DB21.DBB65530", "T216", '"DB21.DBB65530": DB21.DBW65530:UINT[8] ends behind byte 65535'),
    ],
)
def test_an_area_that_is_nowhere_is_said_where_it_stands(
    tmp_path: Path, area: str, code: str, message: str
) -> None:
    (problem,) = load_text(tmp_path, changed('"DB21"', f'"{area}"', CONFIG)).problems
    assert (problem.code, problem.message) == (code, message)
    assert problem.where == "outputs[verdict].interface.control"


def test_the_edge_does_not_write_where_only_the_plc_can(tmp_path: Path) -> None:
    text = changed('"s7"\nurl = "s7://192.0.2.1"', '"modbus"\nurl = "modbus://h"', CONFIG)
    text = changed('"DB21"', '"ir:200"', changed('"DB20"', '"ir:220"', text))
    text = changed("DB1.DBW0:UINT", "hr:1:UINT", changed("DB1.DBW100:INT[200]", "hr:9:INT[9]", text))
    (problem,) = load_text(tmp_path, text).problems
    assert (problem.code, problem.where) == ("T260", "outputs[verdict].interface.status")
    assert problem.message == '"ir:220" can only be read: the edge writes its words there'


def test_a_device_with_single_values_only_gets_no_interface_block(tmp_path: Path) -> None:
    text = changed('"s7"\nurl = "s7://192.0.2.1"', '"opcua"\nurl = "opc.tcp://h"', CONFIG)
    text = changed("DB1.DBW0:UINT", "i=1:UINT", changed("DB1.DBW100:INT[200]", "i=2:INT[9]", text))
    loaded = load_text(tmp_path, text)
    assert "T262" in codes_of(loaded)
    problem = next(problem for problem in loaded.problems if problem.code == "T262")
    assert problem.message == 'device "plc" has single values only, no words side by side'
    assert problem.help == "write single tags instead: [[outputs.values]]"
