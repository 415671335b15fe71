"""Every check of what outputs write: the place it is said at, and that the right thing passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.problem import Severity
from tests.config.fakedriver import changed

HEAD = """\
version = 1
[site]
name = "plant"
machine = "Press01"

[[devices]]
name = "plc"
driver = "s7"
url = "s7://192.0.2.1"
tags = "plc.csv"
  [[devices.groups]]
  name = "fast"
  period_ms = 100
  [[devices.captures]]
  name = "stroke"
  sequence = "DB21.DBW6:UINT"
  stroke = "DB21.DBW6:UINT"
  ready = "DB21.DBX1.1:BOOL"
  samples = "DB1.DBW100:INT[200]"
  sample_rate_hz = 1000

[[devices]]
name = "other"
driver = "modbus"
url = "modbus://192.0.2.2"
options = { max_registers = 20 }
  [[devices.captures]]
  name = "shock"
  sequence = "hr:1:UINT"
  samples = "hr:9:INT[9]"
  sample_rate_hz = 1000

[[pipelines]]
name = "wear"
model = "wear"
capture = "plc/stroke"

"""
EAI = f"""{HEAD}
[[outputs]]
name = "verdict"
device = "plc"
pipeline = "wear"
  [outputs.interface]
  mode = "triggered"
  control = "DB21"
  status = "DB20"
"""
VALUES = f"""{HEAD}
[[outputs]]
name = "limit"
device = "plc"
pipeline = "wear"
heartbeat = "plc/beat"
echo_heartbeat = "plc/echo"
grant = "plc/grant"
granted_by = "plc"
  [[outputs.values]]
  tag = "plc/speed"
  source = "score"
  preset = 10
  [[outputs.values]]
  tag = "plc/stop"
  source = "verdict"
  kind = "bit"
  preset = 0
"""
TABLE = """\
name,address,low,high,access,unit
speed,DB11.DBD0:REAL,0,60,rw,mm/s
count,DB11.DBW4:INT,,,rw
stop,DB11.DBX8.0:BOOL,,,rw
beat,DB11.DBW10:UINT,,,rw
echo,DB10.DBW2:UINT,,,
grant,DB10.DBX4.0:BOOL,,,
shown,DB10.DBD8:REAL,,,,mm/s
text,DB11.DBB20:STRING[8],,,rw
"""


def load_text(folder: Path, text: str, table: str = TABLE) -> Loaded:
    (folder / "plc.csv").write_text(table)
    file = folder / "press.toml"
    file.write_text(text)
    return load(file, env={})


def said(loaded: Loaded) -> list[tuple[str, str, str]]:
    return [(one.code, one.where, one.message) for one in loaded.problems if one.code != "C175"]


@pytest.mark.parametrize("text", [EAI, VALUES], ids=["interface", "values"])
def test_nothing_is_said_against_a_right_output(tmp_path: Path, text: str) -> None:
    loaded = load_text(tmp_path, text)
    assert loaded.ok
    assert said(loaded) == []


INTERFACE: list[tuple[str, str, tuple[str, str, str]]] = [
    (
        '  [outputs.interface]\n  mode = "triggered"\n  control = "DB21"\n  status = "DB20"\n',
        "",
        ("C160", "", 'output "verdict" does not say what it writes'),
    ),
    (
        '  status = "DB20"\n',
        '  status = "DB20"\n  [[outputs.values]]\n  tag = "plc/count"\n  source = "verdict"\n  preset = 0\n',
        ("C160", ".values", 'output "verdict" has interface and values: it writes in one way'),
    ),
    (
        '  status = "DB20"',
        '  status = "DB21.DBB14"',
        ("C161", ".interface.status", "DB21.DBB14 (19 words) overlaps control, DB21 (8 words)"),
    ),
    (
        'mode = "triggered"',
        'mode = "polled"\n  low = 5\n  high = 5',
        ("C164", ".interface.high", "range 5..5: low must be below high"),
    ),
    (
        'mode = "triggered"',
        'mode = "triggered"\n  value = "Skore"',
        ("C163", ".interface.value", '"Skore" is no result; the function block needs one to give out'),
    ),
    (
        '  status = "DB20"',
        '  status = "DB20"\n  poll_ms = 200',
        ("C119", ".interface.poll_ms", "200 ms is more than a third of plc_timeout_ms = 500"),
    ),
    (
        '  status = "DB20"',
        '  status = "DB20"\n  poll_ms = 500',
        ("C119", ".interface.poll_ms", "500 ms is not below plc_timeout_ms = 500"),
    ),
    (
        'mode = "triggered"',
        'mode = "setpoint"\n  high = 5',
        ("C164", ".interface.mode", 'the PLC would follow "Score" without low, rate_per_s'),
    ),
    (
        '  status = "DB20"',
        '  status = "DB20"\n  results = ['
        + ", ".join(f'{{ name = "R{number}", source = "score", type = "REAL" }}' for number in range(17))
        + ']\n  value = "R16"',
        ("C163", ".interface.value", 'the PLC could not see that "R16" is Bad: QualityMask has 16 bits'),
    ),
    (
        'pipeline = "wear"\n  [',
        'pipeline = "wear"\nheartbeat_ms = 500\n  [',
        ("C119", ".heartbeat_ms", "500 ms is not below plc_timeout_ms = 500"),
    ),
    (
        '  status = "DB20"',
        '  status = "DB20"\n  ack_timeout_ms = 79',
        ("C119", ".interface.ack_timeout_ms", "79 ms is too short: the PLC takes a result within 80 ms"),
    ),
    (
        'pipeline = "wear"\n  [',
        'pipeline = "wear"\nplc_scan_ms = 251\nheartbeat_ms = 50\n  [',
        ("C119", ".plc_scan_ms", "251 ms is more than half of plc_timeout_ms = 500"),
    ),
    (
        'pipeline = "wear"\n  [',
        'pipeline = "wear"\nheartbeat_ms = 101\n  [',
        ("C119", ".heartbeat_ms", "101 ms is more than a fifth of plc_timeout_ms = 500"),
    ),
    (
        'pipeline = "wear"\n  [',
        'pipeline = "wear"\ngrant = "plc/grant"\n  [',
        ("C172", ".grant", "the interface block has grant already"),
    ),
    (
        'pipeline = "wear"\n  [',
        'pipeline = "wear"\nauto_restart = true\n  [',
        (
            "C172",
            ".auto_restart",
            "the function block in the PLC latches by itself; it wants an acknowledge all the same",
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), INTERFACE)
def test_what_an_interface_block_contradicts(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]
) -> None:
    code, where, message = expected
    text = changed(old, new, EAI)
    found = said(load_text(tmp_path, text))
    assert (code, f"outputs[verdict]{where}", message) in found
    assert {each[0] for each in found} == {code}


def results(*rows: dict[str, Any]) -> str:
    lines = []
    for row in rows:
        lines += ["  [[outputs.interface.results]]"]
        lines += [f'  {key} = "{value}"' for key, value in row.items()]
    return EAI + "\n".join(lines) + "\n"


VERDICT = {"name": "Verdict", "source": "verdict", "type": "DINT"}
SCORE = {"name": "Score", "source": "score", "type": "REAL"}


@pytest.mark.parametrize(
    ("rows", "code", "where", "message"),
    [
        (
            [SCORE, SCORE | {"name": "score"}],
            "C163",
            "results[score].name",
            '"score" and "Score" are one name to a PLC',
        ),
        ([SCORE, SCORE], "C163", "results[Score].name", '"Score" and "Score" are one name to a PLC'),
        (
            [SCORE, VERDICT | {"name": "Limit"}],
            "C163",
            "results[Limit].name",
            '"Limit" is a name that the language of the PLC has already',
        ),
        (
            [SCORE, VERDICT | {"name": "ErrorId"}],
            "C163",
            "results[ErrorId].name",
            '"ErrorId" is a name that the function block has already',
        ),
        (
            [SCORE, VERDICT | {"source": "part_id"}],
            "C168",
            "results[Verdict].source",
            'pipeline "wear" tells no part_id',
        ),
    ],
)
def test_results_have_names_that_a_plc_can_take(
    tmp_path: Path, rows: list[dict[str, Any]], code: str, where: str, message: str
) -> None:
    assert said(load_text(tmp_path, results(*rows))) == [
        (code, f"outputs[verdict].interface.{where}", message)
    ]


def test_a_veto_needs_a_verdict(tmp_path: Path) -> None:
    text = changed('"triggered"', '"veto"', results(SCORE))
    message = "mode veto restricts by the verdict, and none of the results is one"
    assert said(load_text(tmp_path, text)) == [("C163", "outputs[verdict].interface.mode", message)]
    assert said(load_text(tmp_path, changed('"triggered"', '"veto"', results(SCORE, VERDICT)))) == []


def test_an_area_that_no_request_takes_says_what_would_fit(tmp_path: Path) -> None:
    text = changed('device = "plc"', 'device = "other"', changed('"triggered"', '"polled"', EAI))
    text = changed('"DB21"', '"hr:200"', changed('"DB20"', '"hr:220"', text))
    assert said(load_text(tmp_path, text)) == []  # 19 of 20 registers
    more = text + results(SCORE, *({**SCORE, "name": f"S{n}"} for n in range(3))).removeprefix(EAI)
    (problem,) = load_text(tmp_path, more).problems
    assert (problem.code, problem.where) == ("C162", "outputs[verdict].interface.status")
    assert problem.message == '21 words do not fit into one request of "other", which takes 20'
    assert problem.help == "3 results would fit"
    few = changed("max_registers = 20", "max_registers = 6", text)
    found = {one.where.rpartition(".")[2]: one for one in load_text(tmp_path, few).problems}
    assert found["control"].message == '8 words have to come in one answer; "other" gives 6'
    assert found["status"].help == "not even one result would fit"


def test_two_outputs_have_areas_and_names_of_their_own(tmp_path: Path) -> None:
    second = EAI.partition("[[outputs]]")[2].replace('"verdict"', '"Verdict"').replace("DB21", "DB31")
    text = changed('"triggered"', '"polled"', f"{EAI}[[outputs]]{second}").replace('"triggered"', '"polled"')
    found = said(load_text(tmp_path, text))
    assert found == [
        ("C163", "outputs[Verdict].name", '"Verdict" and "verdict" are one name to the PLC'),
        (
            "C161",
            "outputs[Verdict].interface.status",
            'DB20 (19 words) overlaps status of output "verdict", DB20 (19 words)',
        ),
    ]


@pytest.mark.parametrize(
    ("row", "writer"), [("DB20.DBX37.7:BOOL", 'output "verdict"'), ("DB21.DBD12:REAL", "the PLC")]
)
def test_nobody_else_writes_where_an_output_or_its_plc_does(tmp_path: Path, row: str, writer: str) -> None:
    (problem,) = load_text(tmp_path, EAI, f"{TABLE}mine,{row},,,rw,mm\n").problems
    assert problem.code == "T221"
    assert problem.message.startswith(f"plc/mine is written by {writer} and also allowed to SCADA users")
    assert (Path(problem.file).name, problem.place.line) == ("plc.csv", 10)
    assert load_text(tmp_path, EAI, f"{TABLE}mine,{row},,,r,mm\n").problems == ()


def test_the_names_that_an_output_adds_are_taken(tmp_path: Path) -> None:
    (problem,) = load_text(tmp_path, EAI, f"{TABLE}verdict.status,DB9.DBW0:INT,,,\n").problems
    assert problem.code == "T263"
    assert problem.message == '"verdict.status" is the name of a tag that output "verdict" adds'
    text = changed('name = "fast"', 'name = "verdict.control"', EAI)
    assert said(load_text(tmp_path, text))[0] == (
        "C110",
        "devices[plc].groups[verdict.control].name",
        '"verdict.control": such groups are added by outputs with an interface block',
    )


@pytest.mark.parametrize(
    ("old", "new", "message", "help_text"),
    [
        (
            'sequence = "DB21.DBW6:UINT"',
            'sequence = "DB10.DBW0:UINT"',
            '"DB10.DBW0:UINT" is not what the PLC triggers output "verdict" with',
            'write sequence = "DB21.DBW6:UINT"',
        ),
        (
            'stroke = "DB21.DBW6:UINT"',
            'stroke = "DB21.DBW8:UINT"',
            '"DB21.DBW8:UINT" is not what the PLC triggers output "verdict" with',
            'write stroke = "DB21.DBW6:UINT"',
        ),
        (
            '  ready = "DB21.DBX1.1:BOOL"\n',
            "",
            'output "verdict" is triggered by the PLC; ready has to be its word',
            'write ready = "DB21.DBX1.1:BOOL"',
        ),
    ],
)
def test_a_triggered_capture_follows_the_plcs_own_words(
    tmp_path: Path, old: str, new: str, message: str, help_text: str
) -> None:
    (problem,) = load_text(tmp_path, changed(old, new, EAI)).problems
    assert (problem.code, problem.message, problem.help) == ("C166", message, help_text)
    assert problem.where.startswith("devices[plc].captures[stroke].")


def test_an_address_that_is_none_is_said_once(tmp_path: Path) -> None:
    text = changed('sequence = "DB21.DBW6:UINT"', 'sequence = "DB21.DBW6"', EAI)
    assert [code for code, _, _ in said(load_text(tmp_path, text))] == ["T213"]


def test_what_the_plc_triggers_lies_in_the_plc(tmp_path: Path) -> None:
    (problem,) = load_text(tmp_path, changed('"plc/stroke"', '"other/shock"', EAI)).problems
    assert problem.code == "C166"
    assert problem.help == (
        'give "plc" a capture with sequence = "DB21.DBW6:UINT", stroke = "DB21.DBW6:UINT", '
        'ready = "DB21.DBX1.1:BOOL"'
    )


FIRST = '  tag = "plc/speed"\n  source = "score"\n  preset = 10\n'
SINGLE: list[tuple[str, str, tuple[str, str, str]]] = [
    ('"plc/speed"', '"plc/sped"', ("C112", "values[1].tag", 'device "plc" has no tag "sped"')),
    (
        '"plc/speed"',
        '"other/speed"',
        ("C168", "values[1].tag", '"other/speed" is no tag of "plc", which the output writes to'),
    ),
    ('"plc/speed"', '"plc/shown"', ("C168", "values[1].tag", '"plc/shown" is not writable')),
    (
        '"plc/speed"',
        '"plc/text"',
        ("C168", "values[1].tag", '"plc/text" is not a single number or BOOL (DB11.DBB20:STRING[8])'),
    ),
    (
        FIRST,
        f'{FIRST}  kind = "bit"\n',
        ("C168", "values[1].kind", '"plc/speed" is no BOOL (DB11.DBD0:REAL)'),
    ),
    (
        '  kind = "bit"\n',
        "",
        ("C168", "values[2].kind", '"plc/stop" is a BOOL (DB11.DBX8.0:BOOL)'),
    ),
    (
        'source = "verdict"',
        'source = "score"',
        ("C168", "values[2].source", 'score is a number; "plc/stop" is a BOOL'),
    ),
    (
        '"plc/speed"',
        '"plc/count"',
        (
            "C168",
            "values[1].source",
            '"plc/count" is a whole number (DB11.DBW4:INT): decimals of score are lost',
        ),
    ),
    (
        'source = "score"',
        'source = "part_id"',
        ("C168", "values[1].source", 'pipeline "wear" tells no part_id'),
    ),
    (
        FIRST,
        f"{FIRST}  high = 61\n",
        ("C164", "values[1].high", "61 lies outside the tag's own range, whose high is 60"),
    ),
    (FIRST, f"{FIRST}  low = 60\n", ("C164", "values[1].low", "range 60..60: low must be below high")),
    (
        FIRST,
        f"{FIRST}  deadband = 60\n",
        ("C164", "values[1].deadband", "a deadband of 60 is the whole range 0..60"),
    ),
    (
        "  preset = 10\n",
        "",
        (
            "C164",
            "values[1].strategy",
            'what does "plc/speed" become when the output falls safe? preset is missing',
        ),
    ),
    ("preset = 10", "preset = 60.5", ("C164", "values[1].preset", "60.5 is outside the range 0..60")),
    ("preset = 0\n", "preset = 2\n", ("C164", "values[2].preset", "2 is no BOOL")),
    (
        FIRST,
        f'{FIRST}  strategy = "hold_last"\n',
        ("C172", "values[1].preset", 'preset has no effect with strategy "hold_last"'),
    ),
    (
        FIRST,
        '  tag = "plc/count"\n  source = "verdict"\n  strategy = "low"\n',
        ("C164", "values[1].strategy", 'strategy "low" needs a low end of the range'),
    ),
    (
        "preset = 10",
        "preset = 10\n  ttl_s = 1",
        ("C171", "values[1].ttl_s", "the output holds for 1 s what counts for 1 s only"),
    ),
    (
        "preset = 10",
        "preset = 10\n  ttl_s = 2\n  min_interval_ms = 2000",
        ("C171", "values[1].min_interval_ms", "2000 ms between two writes is longer than ttl_s = 2 s"),
    ),
    (
        "preset = 0\n",
        "preset = 0\n  rate_per_s = 1\n",
        ("C172", "values[2].rate_per_s", "rate_per_s has no effect on a bit"),
    ),
    (
        "preset = 10",
        'preset = 10\n  writers = ["operator", "operator", "model"]',
        ("C170", "values[1].writers", "a writer stands there twice"),
    ),
    (
        "preset = 10",
        'preset = 10\n  writers = ["operator"]',
        ("C170", "values[1].writers", 'nobody lets the model write "plc/speed"'),
    ),
    (
        '"plc/stop"\n  source = "verdict"\n  kind = "bit"',
        '"plc/speed"\n  source = "score"',
        ("C169", "values[2].tag", '"plc/speed" is written as value 1 already: one writer only'),
    ),
    (
        'heartbeat = "plc/beat"',
        'heartbeat = "plc/count"\nacknowledge = "plc/stop"',
        ("C169", "acknowledge", '"plc/stop" is written by output "limit": one writer only'),
    ),
    (
        'heartbeat = "plc/beat"\necho',
        "echo",
        ("C167", "echo_heartbeat", "there is nothing to give back: the PLC gets no heartbeat"),
    ),
    (
        'heartbeat = "plc/beat"',
        'heartbeat = "plc/echo"',
        ("C117", "heartbeat", '"plc/echo" is not writable'),
    ),
    (
        'grant = "plc/grant"\n',
        "",
        (
            "C167",
            "granted_by",
            "the PLC has no way to grant authority: there is neither an interface block nor grant",
        ),
    ),
    (
        'granted_by = "plc"\n',
        "",
        ("C167", "grant", '"plc/grant" would not be asked: granted_by is "always"'),
    ),
    (
        'granted_by = "plc"\n',
        'granted_by = "plc"\nacknowledged_by = "plc"\n',
        (
            "C167",
            "acknowledged_by",
            "the PLC has no way to acknowledge: there is neither an interface block nor acknowledge",
        ),
    ),
    (
        'grant = "plc/grant"\ngranted_by = "plc"\n',
        "hold_s = 0\n",
        ("C167", "values[1].strategy", "authority is given back to nobody: the PLC is not asked for it"),
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), SINGLE)
def test_what_the_tags_of_an_output_contradict(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]
) -> None:
    text = VALUES
    if "ttl_s = 1" in new:
        text = changed('pipeline = "wear"\nheart', 'pipeline = "wear"\nhold_s = 1.0\nheart', text)
    if "given back" in expected[2]:
        text = changed("  preset = 10", '  strategy = "relinquish"', text)
    code, where, message = expected
    assert said(load_text(tmp_path, changed(old, new, text))) == [(code, f"outputs[limit].{where}", message)]


def test_a_tag_belongs_to_one_output(tmp_path: Path) -> None:
    second = VALUES.partition("[[outputs]]")[2].replace('"limit"', '"more"').replace("plc/beat", "plc/count")
    found = said(load_text(tmp_path, f"{VALUES}[[outputs]]{second}"))
    assert found == [
        (
            "C169",
            f"outputs[more].values[{number}].tag",
            f'"plc/{tag}" is written as value {number} of output "limit" already: one writer only',
        )
        for number, tag in ((1, "speed"), (2, "stop"))
    ]


def test_only_what_keeps_an_output_from_being_safe_keeps_the_server_from_starting(tmp_path: Path) -> None:
    """Decimals that are lost and settings without effect are told; a missing preset is refused."""
    harmless = load_text(tmp_path, changed('"plc/speed"', '"plc/count"', VALUES))
    assert harmless.ok
    assert harmless.count(Severity.WARNING) >= 1
    assert not load_text(tmp_path, changed("  preset = 10\n", "", VALUES)).ok


@pytest.mark.parametrize(("limit_ms", "is_over"), [(1205, False), (1204.9, True)])
def test_an_output_slower_than_its_process_allows_is_refused(
    tmp_path: Path, limit_ms: float, is_over: bool
) -> None:
    # A lost input takes the longest: its silence, then a decision, a write and a scan of the PLC.
    text = changed('pipeline = "wear"\n  [', f'pipeline = "wear"\nprocess_limit_ms = {limit_ms}\n  [', EAI)
    text = changed("url =", "timeout_ms = 500\nurl =", text)
    loaded = load_text(tmp_path, text)
    assert loaded.ok is not is_over
    if is_over:
        (problem,) = loaded.problems
        assert (problem.code, problem.where) == ("C173", "outputs[verdict].process_limit_ms")
        assert problem.message == "input lost: up to 1205 ms, and the process tolerates 1204.9 ms"
        assert problem.help == "silence 660 + decide 25 + write 500 + PLC scan 20"


def test_what_takes_too_long_is_named_with_the_worst_first(tmp_path: Path) -> None:
    text = changed('pipeline = "wear"\n  [', 'pipeline = "wear"\nprocess_limit_ms = 100\n  [', EAI)
    (problem,) = load_text(tmp_path, text).problems
    assert problem.help.endswith(
        "too long as well: result late, lane frozen, taken by an operator, edge or network dead"
    )


WATCHED = changed(
    'url = "s7://192.0.2.1"',
    'url = "s7://192.0.2.1"\nwatchdog = { profile = "wago-750", timeout_ms = 500 }',
    changed('heartbeat = "plc/beat"\necho_heartbeat = "plc/echo"\n', "", VALUES),
)


def test_somebody_has_to_notice_when_the_writes_end(tmp_path: Path) -> None:
    bare = changed('heartbeat = "plc/beat"\necho_heartbeat = "plc/echo"\n', "", VALUES)
    (problem,) = load_text(tmp_path, bare).problems
    assert (problem.code, problem.where, problem.severity) == (
        "C175",
        "outputs[limit].device",
        Severity.WARNING,
    )
    assert problem.message.startswith('device "plc" keeps what was written last when this computer')
    # A heartbeat that a program looks at, and the device's own watchdog, are both enough.
    for text in (VALUES, WATCHED, EAI):
        assert load_text(tmp_path, text).problems == ()


def test_a_tripped_watchdog_needs_somebody_who_may_acknowledge(tmp_path: Path) -> None:
    by_plc = changed(
        'granted_by = "plc"\n',
        'granted_by = "plc"\nacknowledged_by = "plc"\nacknowledge = "plc/ack"\n',
        WATCHED,
    )
    table = f"{TABLE}ack,DB11.DBX8.1:BOOL,,,rw\n"
    (problem,) = load_text(tmp_path, by_plc, table).problems
    assert (problem.code, problem.where) == ("C167", "devices[plc].watchdog.restart")
    assert problem.message == 'nobody could acknowledge when the watchdog of "plc" has tripped'
    by_itself = changed("timeout_ms = 500 }", 'timeout_ms = 500, restart = "automatic" }', by_plc)
    assert load_text(tmp_path, by_itself, table).problems == ()
