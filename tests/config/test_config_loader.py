"""A configuration with its tables: everything wrong at once, and what is right resolved."""

from __future__ import annotations

import contextlib
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.config.loader import load
from edge_opcua.config.problem import Severity
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Policy, Scalar
from edge_opcua.errors import EdgeError
from tests.config.fakedriver import CONFIG, TABLE, FakePlugins, changed, codes_of, load_texts


def found(folder: Path, config: str, table: str = TABLE, **env: str) -> list[tuple[str, str, str]]:
    """Return code, dotted path and message of every problem."""
    loaded = load_texts(folder, config, table, **env)
    assert loaded.ok == all(not problem.is_error for problem in loaded.problems)
    return [(one.code, one.where, one.message) for one in loaded.problems]


def test_a_right_configuration_is_resolved(tmp_path: Path) -> None:
    loaded = load_texts(tmp_path)
    assert loaded.problems == ()
    config = loaded.config
    assert config is not None
    device, tag = config.tag("press/force")
    assert (tag.type, tag.group, device.tags_of("fast")) == (Scalar.FLOAT, "fast", device.tags)
    assert config.capture("press/stroke")[1].sample_count == 2000
    assert device.options == {"order": "ABCD", "window": 4}
    assert config.file == tmp_path / "press.toml"
    assert config.models.folder is None
    assert (device.block_name("fast"), device.link_block) == ("press.fast", "press.link")
    assert device.policy("fast") == Policy(stale_after_s=1.0, hold_s=10.0)
    assert config.pipelines[0].result_block == "wear.result"
    assert config.outputs[0].authority_block == "verdict.authority"


def test_a_configuration_survives_the_way_to_another_process(tmp_path: Path) -> None:
    text = changed('tags = "press.csv"', 'tags = "press.csv"\nhold_s = inf\nstale_after_s = 0.5')
    table = "name,address,unit,substitute,x_owner\na,r1:REAL,m,-1.5,Ada\nb,r2:ULINT,,18446744073709551615,\n"
    text = changed("press/force", "press/a", changed("acknowledge", "# ", text))
    config = load_texts(tmp_path, text.split("[[outputs]]")[0], table).config
    assert config is not None
    assert EdgeConfig.model_validate_json(config.model_dump_json()) == config
    assert config.devices[0].hold_s == float("inf")
    assert config.devices[0].tags[1].substitute == 2**64 - 1


def test_a_device_without_groups_has_one(tmp_path: Path) -> None:
    text = changed('  [[devices.groups]]\n  name = "fast"\n  period_ms = 100\n', "")
    config = load_texts(tmp_path, text).config
    assert config is not None
    assert [(group.name, group.period_ms) for group in config.devices[0].groups] == [("default", 1000)]


def test_delivered_models_lie_beside_the_file_or_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "models" / "wear" / "1").mkdir(parents=True)
    (tmp_path / "models" / "wear" / "1" / "model.onnx").touch()
    config = load_texts(tmp_path).config
    assert config is not None
    assert config.models.folder == tmp_path / "models"
    assert found(tmp_path, f'{CONFIG}[models]\nfolder = "elsewhere"') == [
        ("C107", "models.folder", '"elsewhere": there is no such folder')
    ]


def test_a_model_that_is_not_delivered_is_named_before_the_start(tmp_path: Path) -> None:
    for name in ("wear/1", "wear/3", "wear/notes", "crack/1"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.onnx").touch()
    assert found(tmp_path, CONFIG) == []
    assert found(tmp_path, changed('model = "wear"', 'model = "wear"\nversion = 2')) == [
        ("M501", "pipelines[wear].version", "wear 2 is not delivered with this file, only version 1, 3")
    ]
    loaded = load_texts(tmp_path, changed('model = "wear"', 'model = "waer"'))
    assert loaded.ok
    (problem,) = loaded.problems
    assert problem.message == "waer 1 is not delivered with this file, only crack, wear"
    assert problem.suggestion == "wear"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "version = 1",
            "version = 2",
            ("C109", "version", "2 is not a version that this program reads; it reads 1"),
        ),
        ("version = 1\n", "", ("C106", "", '"version" is missing')),
        ('name = "plant"\n', "", ("C106", "site", '"name" is missing')),
        ('[site]\nname = "plant"\nmachine = "Press01"', "", ("C106", "", "[site] is missing")),
        (
            '"plant"',
            '"Werk 1"',
            ("C110", "site.name", '"Werk 1" is not a name (a letter, then letters, digits, - or _)'),
        ),
        ('"plant"', "5", ("C105", "site.name", "5 is a whole number; text is needed")),
        (
            '"plant"',
            "2026-11-20",
            ("C110", "site.name", '"2026-11-20" is not a name (a letter, then letters, digits, - or _)'),
        ),
        ('"plant"', '"p"\nfile = "x"', ("C102", "site.file", 'unknown key "file"')),
        ("version = 1", 'version = 1\nfile = "x"', ("C102", "file", 'unknown key "file"')),
        (
            "period_ms = 100",
            "period_ms = 0",
            ("C103", "devices[press].groups[fast].period_ms", "0 is out of range 1..3600000"),
        ),
        (
            "period_ms = 100",
            "period_ms = 0.5",
            ("C105", "devices[press].groups[fast].period_ms", "0.5 is not a whole number"),
        ),
        (
            "period_ms = 100",
            "period_ms = true",
            (
                "C105",
                "devices[press].groups[fast].period_ms",
                "true is true or false; a whole number is needed",
            ),
        ),
        (
            "period_ms = 100",
            'period_ms = "100"',
            ("C105", "devices[press].groups[fast].period_ms", '"100" is text; a whole number is needed'),
        ),
        (
            "sample_rate_hz = 10000",
            "sample_rate_hz = nan",
            (
                "C103",
                "devices[press].captures[stroke].sample_rate_hz",
                "nan is out of range above 0, at most 10000000",
            ),
        ),
        (
            "sample_rate_hz = 10000",
            "sample_rate_hz = 1\nsample_count = 5",
            ("C102", "devices[press].captures[stroke].sample_count", 'unknown key "sample_count"'),
        ),
        (
            'driver = "fake"',
            'driver = "fakes"',
            ("C104", "devices[press].driver", '"fakes" is not one of broken, fake'),
        ),
        (
            'driver = "fake"',
            'driver = "broken"',
            (
                "C113",
                "devices[press].driver",
                "the driver \"broken\" cannot be imported: No module named 'libplc'",
            ),
        ),
        (
            '"fake://one"',
            '"modbus://one"',
            ("C114", "devices[press].url", '"modbus://one" is not a URL of this driver; write fake://host'),
        ),
        (
            '"fake://one"',
            '"fake://one:99999"',
            ("C114", "devices[press].url", '"fake://one:99999" is not a URL'),
        ),
        (
            '"fake://one"',
            '"fake://a:b@one"',
            ("C114", "devices[press].url", "a URL must not hold a password; it would stand in logs"),
        ),
        (
            'tags = "press.csv"',
            "tags = 5",
            (
                "C105",
                "devices[press].tags",
                "this is a whole number; the name of a CSV file is needed, or a list of them",
            ),
        ),
        (
            'tags = "press.csv"',
            'tags = "presss.csv"',
            ("T201", "devices[press].tags", '"presss.csv": there is no such file'),
        ),
        (
            'tags = "press.csv"',
            'tags = ["press.csv", "\\u0000"]',
            ("T201", "devices[press].tags[2]", '"\ufffd": cannot be read: embedded null byte'),
        ),
        (
            'tags = "press.csv"',
            'tags = "press.csv"\noptions = {window = 9}',
            ("C103", "devices[press].options.window", "9 is out of range 1..8"),
        ),
        (
            'tags = "press.csv"',
            'tags = "press.csv"\noptions.ordr = "ABCD"',
            ("C102", "devices[press].options.ordr", 'unknown key "ordr"'),
        ),
        (
            'tags = "press.csv"',
            'tags = "press.csv"\noptions = "x"',
            ("C105", "devices[press].options", '"x" is text; a table is needed'),
        ),
        (
            'samples = "r100:INT[2000]"',
            'samples = "r100:INT"',
            (
                "C117",
                "devices[press].captures[stroke].samples",
                '"r100:INT" is INT16; an array of numbers is needed',
            ),
        ),
        (
            'samples = "r100:INT[2000]"',
            'samples = "x"',
            ("T211", "devices[press].captures[stroke].samples", '"x" is not an address'),
        ),
        (
            'sequence = "r0:UINT"',
            'sequence = "r0:REAL"',
            (
                "C117",
                "devices[press].captures[stroke].sequence",
                '"r0:REAL" is FLOAT; a whole number is needed',
            ),
        ),
        (
            'sequence = "r0:UINT"',
            'sequence = "r0:UINT"\nready = "r1:UINT"',
            ("C117", "devices[press].captures[stroke].ready", '"r1:UINT" is UINT16; BOOL is needed'),
        ),
        (
            'model = "wear"',
            'model = "wear"\nbackend = "onnx"',
            ("C104", "pipelines[wear].backend", '"onnx" is not one of broken, onnxruntime, remote'),
        ),
        (
            'model = "wear"',
            'model = "wear"\nfail_safe_verdict = "Ok"',
            ("C104", "pipelines[wear].fail_safe_verdict", '"Ok" is not one of NotDecidable, NotOk'),
        ),
        (
            '"press/stroke"',
            '"stroke"',
            ("C110", "pipelines[wear].capture", '"stroke" is not of the form "device/name"'),
        ),
        ('"plant"', '"${PLANT}"', ("C120", "site.name", "${PLANT} is not set")),
    ],
)
def test_one_mistake_is_one_problem(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]
) -> None:
    assert found(tmp_path, changed(old, new)) == [expected]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('[opcua]\nlisten = "4840"', 'opcua.listen: "4840" is not "host:port", e.g. "0.0.0.0:4840"'),
        ('[opcua]\nlisten = "[::1]:99999"', "opcua.listen: port 99999 is out of range 1..65535"),
        ("[opcua]\nsecurity = []", "opcua.security: 0 entries; at least 1"),
        ('[opcua]\nsecurity = "None"', 'opcua.security: "None" is text; a list is needed'),
        (
            '[opcua]\nsecurity = ["Basic256"]',
            (
                'opcua.security[1]: "Basic256" is not one of None, Basic256Sha256, Aes128_Sha256_RsaOaep, '
                "Aes256_Sha256_RsaPss"
            ),
        ),
        (
            '[opcua]\nadvertised_urls = ["http://x"]',
            'opcua.advertised_urls: "http://x" is not an endpoint URL, e.g. "opc.tcp://press-edge:4840"',
        ),
        ("opcua = 5", "opcua: 5 is a whole number; a table is needed"),
        ("pipeline = 5", 'pipeline: unknown key "pipeline"'),
    ],
)
def test_the_server_section(tmp_path: Path, section: str, expected: str) -> None:
    text = section + "\n" + CONFIG if "[" not in section[:1] else CONFIG + section
    assert [f"{where}: {message}" for _, where, message in found(tmp_path, text)] == [expected]


def test_everything_wrong_is_reported_in_one_run_in_the_order_of_the_files(tmp_path: Path) -> None:
    text = changed('name = "plant"', "name = plant")
    text = changed("period_ms = 100", "period_ms = -1", text)
    text = changed('url = "fake://one"', 'ur = "fake://one"', text)
    loaded = load_texts(tmp_path, text, "name,address\na,r1\na,r2:INT\n")
    assert [(Path(one.file).name, one.place.line, one.code) for one in loaded.problems] == [
        ("press.toml", 3, "C101"),
        ("press.toml", 9, "C102"),
        ("press.toml", 13, "C103"),
        ("press.csv", 2, "T211"),
        ("press.csv", 3, "T203"),
    ]
    assert loaded.config is None


def test_the_place_is_the_name_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line").mkdir()
    load_texts(tmp_path / "line", CONFIG, "name,address\na,r1\n")
    loaded = load(Path("line/press.toml"), env={}, plugins=FakePlugins())
    assert {one.file for one in loaded.problems if one.code == "T211"} == {"line/press.csv"}


def test_a_number_may_come_from_the_environment(tmp_path: Path) -> None:
    text = changed("period_ms = 100", 'period_ms = "${PERIOD:-250}"')
    text = changed('name = "plant"', 'name = "plant"\nserial_number = "${SERIAL}"', text)
    config = load_texts(tmp_path, text, SERIAL="0815").config
    assert config is not None
    assert config.devices[0].groups[0].period_ms == 250
    assert config.site.serial_number == "0815"
    assert found(tmp_path, text, SERIAL="1", PERIOD="often") == [
        ("C105", "devices[press].groups[fast].period_ms", '"often" is text; a whole number is needed')
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'name = "verdict"',
            'name = "press"',
            ("C111", "outputs[press].name", '"press" is defined twice (first in line 7)'),
        ),
        (
            'name = "fast"',
            'name = "stroke"',
            ("C111", "devices[press].captures[stroke].name", '"stroke" is defined twice (first in line 12)'),
        ),
        (
            'name = "fast"',
            'name = "link"',
            ("C111", "devices[press].groups[link].name", '"link" is the name of a block of our own'),
        ),
        (
            '"press/stroke"',
            '"pres/stroke"',
            ("C112", "pipelines[wear].capture", 'device "pres" is not defined'),
        ),
        (
            '"press/stroke"',
            '"press/strike"',
            ("C112", "pipelines[wear].capture", 'device "press" has no capture "strike"'),
        ),
        (
            '["press/force"]',
            '["press/froce"]',
            ("C112", "pipelines[wear].context[1]", 'device "press" has no tag "froce"'),
        ),
        (
            '["press/force"]',
            '["press/force", "press/force"]',
            ("C111", "pipelines[wear].context[2]", '"press/force" stands twice'),
        ),
        (
            '["press/force"]',
            '["press/force"]\npart_id = "press/force"',
            ("C117", "pipelines[wear].part_id", '"press/force" is not a whole number (r1:REAL)'),
        ),
        (
            'pipeline = "wear"',
            'pipeline = "ware"',
            ("C112", "outputs[verdict].pipeline", 'pipeline "ware" is not defined'),
        ),
        (
            'acknowledge = "press/ack"',
            'acknowledge = "press/force"',
            ("C117", "outputs[verdict].acknowledge", '"press/force" is not a BOOL (r1:REAL)'),
        ),
        (
            'acknowledge = "press/ack"',
            'plc_heartbeat = "press/ack"',
            ("C117", "outputs[verdict].plc_heartbeat", '"press/ack" is not a whole number (r2:BOOL)'),
        ),
        (
            'pipeline = "wear"',
            'pipeline = "wear"\nheartbeat_ms = 200',
            ("C119", "outputs[verdict].heartbeat_ms", "200 ms is more than a fifth of plc_timeout_ms = 500"),
        ),
        (
            'tags = "press.csv"',
            'tags = "press.csv"\nstale_after_s = 0.05',
            ("C119", "devices[press].stale_after_s", "0.05 s is shorter than the period of fast, 100 ms"),
        ),
        (
            "sample_rate_hz = 10000",
            "sample_rate_hz = 1\nlow = 3\nhigh = 2",
            ("C118", "devices[press].captures[stroke].high", "range 3..2: low must be below high"),
        ),
        (
            "sample_rate_hz = 10000",
            "sample_rate_hz = 1\nscale = 0",
            ("C103", "devices[press].captures[stroke].scale", "scale 0 would make every sample the same"),
        ),
        (
            "  [[devices.captures]]",
            '  [[devices.groups]]\n  name = "slow"\n  period_ms = 9\n  [[devices.captures]]',
            (
                "C123",
                "devices[press].groups[slow].name",
                'no tag belongs to group "slow"; it will not be polled',
            ),
        ),
        (
            "  period_ms = 100\n",
            '  period_ms = 100\n  trigger = "force"\n',
            (
                "C126",
                "devices[press].groups[fast].trigger",
                '"force" belongs to the group itself, so it is seen only when that is polled',
            ),
        ),
        (
            "  period_ms = 100\n",
            '  trigger = "forse"\n',
            ("C112", "devices[press].groups[fast].trigger", 'device "press" has no tag "forse"'),
        ),
        (
            'url = "fake://one"',
            'url = "fake://one"\nsimulate = true',
            ("D390", "devices[press].simulate", 'device "press" is simulated: its values are made up'),
        ),
        (
            "[[pipelines]]",
            '[[devices]]\nname = "b"\ndriver = "fake"\nurl = "fake://TWO"\n[[pipelines]]',
            ("C123", "devices[b]", 'device "b" has neither tags nor captures; nothing will be read'),
        ),
        (
            "[[pipelines]]",
            '[[devices]]\nname = "b"\ndriver = "fake"\nurl="fake://ONE/"\ntags = "press.csv"\n[[pipelines]]',
            ("C115", "devices[b].url", '"fake://one" is also the URL of "press"'),
        ),
        (
            "[site]",
            '[opcua]\nsecurity = ["None", "Basic256Sha256"]\n[site]',
            (
                "S442",
                "opcua.security",
                '"None": everyone on the network can read, and pretend to be this server',
            ),
        ),
    ],
)
def test_what_contradicts_itself(tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]) -> None:
    assert found(tmp_path, changed(old, new)) == [expected]


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    problems = found(tmp_path, changed('device = "press"', 'device = "x"'))
    assert problems[0] == ("C112", "outputs[verdict].device", 'device "x" is not defined')


def test_a_handshake_is_not_read_on_demand(tmp_path: Path) -> None:
    text = changed("  period_ms = 100\n", "  on_request = true\n")
    text = changed('acknowledge = "press/ack"', 'acknowledge = "press/ack"\nplc_trusts = "press/ack"', text)
    (problem,) = (one for one in load_texts(tmp_path, text).problems if one.code == "C119")
    assert (problem.where, problem.help) == ("outputs[verdict].plc_trusts", 'give group "fast" a period')


@pytest.mark.parametrize(
    ("old", "where"),
    [('"fake"', "driver"), ('"fake://one"', "url"), ('"press.csv"', "tags")],
)
def test_a_variable_that_is_not_set_is_one_problem(tmp_path: Path, old: str, where: str) -> None:
    text = changed(old, '"${NONE}"')
    assert found(tmp_path, text) == [("C120", f"devices[press].{where}", "${NONE} is not set")]


def test_two_variables_in_one_text_are_both_reported(tmp_path: Path) -> None:
    problems = found(tmp_path, changed('"fake://one"', '"fake://${A}:${B}"'))
    assert [message for _, _, message in problems] == ["${A} is not set", "${B} is not set"]


def test_an_acknowledge_must_be_writable_and_says_where(tmp_path: Path) -> None:
    (problem,) = load_texts(tmp_path, CONFIG, TABLE.replace("BOOL,,,,rw", "BOOL,,,,r")).problems
    assert (problem.code, problem.message) == ("C117", '"press/ack" is not writable')
    assert problem.help.endswith("press.csv:3")


@pytest.mark.parametrize(
    ("echo", "fault"),
    [
        ("done", ""),
        ("ghost", "is not another number of the device"),
        ("ack", "is not another number of the device"),
        ("start", "is not another number of the device"),
        ("asked", "is read on demand only, so nobody would see it"),
    ],
)
def test_an_echo_is_another_number_that_is_read_by_time(tmp_path: Path, echo: str, fault: str) -> None:
    config = changed(
        "  [[devices.captures]]",
        '  [[devices.groups]]\n  name = "rare"\n  on_request = true\n  [[devices.captures]]',
    )
    table = "name,address,access,write,echo,group\nforce,r1:INT,,,,\nack,r2:BOOL,rw,,,\n"
    table += f"start,r3:INT,rw,command,{echo},\ndone,r4:INT,,,,\nasked,r5:INT,,,,rare\n"
    problems = [one for one in load_texts(tmp_path, config, table).problems if one.code == "T247"]
    assert [one.message for one in problems] == ([f'start: echo "{echo}" {fault}'] if fault else [])


def test_references_suggest_what_was_meant(tmp_path: Path) -> None:
    text = changed('"press/stroke"', '"pres/stroke"', changed('"press/force"', '"press/forc"'))
    assert [one.suggestion for one in load_texts(tmp_path, text).problems] == ["press/stroke", "press/force"]


def test_a_table_that_cannot_be_read_makes_no_reference_look_wrong(tmp_path: Path) -> None:
    for tags in ("press.cvs", "nothing"):
        loaded = load_texts(tmp_path, changed('"press.csv"', f'"{tags}"'))
        assert codes_of(loaded) == ["T201"]
    assert codes_of(load_texts(tmp_path, CONFIG, "tag;adr\n")) == ["T205", "T220", "T205"]
    assert codes_of(load_texts(tmp_path, CONFIG, TABLE.replace("r1:REAL", "r1"))) == ["T211"]


def test_a_missing_file_suggests_one_that_exists(tmp_path: Path) -> None:
    (problem,) = load_texts(tmp_path, changed('"press.csv"', '"Press.cvs"')).problems
    assert problem.suggestion == "press.csv"


def test_warnings_let_the_server_start(tmp_path: Path) -> None:
    loaded = load_texts(tmp_path, f"{CONFIG}[opcua]\nsecurity = ['None']")
    assert loaded.ok
    assert (loaded.count(Severity.WARNING), loaded.count(Severity.ERROR)) == (1, 0)


def test_the_file_itself_may_be_missing(tmp_path: Path) -> None:
    loaded = load(tmp_path / "none.toml", env={}, plugins=FakePlugins())
    assert codes_of(loaded) == ["C107"]
    assert not loaded.ok


def test_lookups_by_name(tmp_path: Path) -> None:
    config = load_texts(tmp_path).config
    assert config is not None
    for lookup, name in (
        (config.device, "x"),
        (config.pipeline, "x"),
        (config.tag, "x/y"),
        (config.tag, "press/x"),
        (config.capture, "press/x"),
        (config.devices[0].group, "x"),
    ):
        with pytest.raises(KeyError):
            lookup(name)
    assert config.pipeline("wear") is config.pipelines[0]


words = st.sampled_from(
    """\
version = 1 | [site] | [[devices]] | [devices] | [[devices.groups]] | [devices.captures] | [[pipelines]]
[[outputs]] | [opcua] | devices = 5 | devices = [1] | name = 5 | name = "a" | machine = "M" | driver = "fake"
url = "fake://x" | tags = ["t.csv", 5] | tags = "." | period_ms = 1e3 | options = [] | context = [[]]
capture = "a/b" | groups = [[]] | captures = {a = 1} | x = "${" | security = [["None"]] | sequence = 0
samples = {} | models = 1 | [models]
folder = "\\u0000" | site = 1 | listen = ':' | listen = 'x:\u0663'""".replace("\n", " | ").split(" | ")
)


@settings(max_examples=200)
@given(st.lists(words, max_size=12).map("\n".join))
def test_any_structure_gives_a_configuration_or_problems(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.csv").write_text("name,address\na,r1:INT\n")
        file = Path(folder) / "c.toml"
        file.write_text(text)
        loaded = load(file, env={}, plugins=FakePlugins())
    assert loaded.ok == all(not problem.is_error for problem in loaded.problems)


@given(st.binary(max_size=120))
def test_any_bytes_give_problems(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "c.toml"
        file.write_bytes(data)
        assert not load(file, env={}, plugins=FakePlugins()).ok


def test_the_installed_drivers_read_any_address_without_an_exception() -> None:
    from edge_opcua.plugins import DRIVERS, InstalledPlugins

    drivers = [InstalledPlugins().load(DRIVERS, name) for name in ("modbus", "s7")]

    @given(st.text("DBXW0123456789.:/;[]=hriocxREALINTSTG", max_size=24) | st.text(max_size=12))
    def read(text: str) -> None:
        for driver in drivers:
            for parse in (driver.parse_address, driver.check_url):
                with contextlib.suppress(EdgeError):
                    parse(text)

    read()


def test_the_configuration_of_the_tests_is_toml() -> None:
    assert set(tomllib.loads(CONFIG)) <= set(EdgeConfig.model_fields)
