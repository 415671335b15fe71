"""``probe``: what it prints, that it goes on after a fault, and that it scans only on purpose."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from edge_opcua.app.command import probe as command
from edge_opcua.app.command.probe import ProbeOptions, Usual
from edge_opcua.app.command.probetext import reading_lines, table_lines, tag_name, value_text
from edge_opcua.app.command.scan import Pace, addresses_of, scan
from edge_opcua.cli import main
from edge_opcua.drivers.probing import Candidate, Finding, Target
from edge_opcua.errors import AddressError, ConfigError, DeviceError, DeviceTimeoutError
from edge_opcua.testing import ManualClock
from tests.app.meter import Meters
from tests.app.meter import probe as prober

URL = "modbus://127.0.0.1:5020/1"
READ = Finding(
    "read",
    "hr:100 = 40101   47AE 41BB",
    candidates=(
        Candidate(
            "1/hr:100:REAL", "ABCD", {"REAL": 89219.4609375, "DINT": 1202602427, "UINT": [18350, 16827]}
        ),
        Candidate(
            "1/hr:100:REAL;order=CDAB",
            "CDAB",
            {"REAL": 23.40999984741211, "DINT": 1102792622},
            "small, few digits",
        ),
        Candidate("1/hr:100:REAL;order=BADC", "BADC", {"REAL": -4.540859e-11, "DINT": -1371030719}),
    ),
)
FOUND = (
    Finding("connect", "tcp 5020 open"),
    Finding("protocol", "Modbus answers in 3 ms"),
    Finding("identity", "ACME VIB-4 2.1", facts={"vendor": "ACME", "model": "VIB-4"}),
    Finding("units", "units 1 (2..8 silent)", facts={"units": [1], "requests": 3}),
)


@pytest.fixture(autouse=True)
def no_script_is_left() -> Iterator[None]:
    yield
    for kept in (prober.scripts, prober.targets, prober.closed):
        kept.clear()


@pytest.fixture(autouse=True)
def no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_ping", lambda: None)


def run(target: str, **options: object) -> int:
    return command.probe(target, ProbeOptions(**options), plugins=Meters())  # type: ignore[arg-type]


def test_a_device_is_one_line_its_readings_a_table_and_a_row_to_paste(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    prober.says(URL, *FOUND, READ)
    assert run(URL, reads=["hr:100x2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "127.0.0.1   tcp 5020 open   Modbus answers in 3 ms   ACME VIB-4 2.1   units 1 (2..8 silent)",
        "hr:100 = 40101   47AE 41BB",
        "  order   REAL           DINT         UINT",
        "  ABCD    89219.46       1202602427   18350 16827",
        "  CDAB    23.41          1102792622                <- plausible: small, few digits",
        "  BADC   -4.540859e-11  -1371030719",
        "for the tag table:",
        "  name,address,unit",
        "  hr100,1/hr:100:REAL;order=CDAB,",
        "3 requests sent, nothing written.  Compare with the device's own display before you trust a guess.",
        f"Next: edge-opcua init FILE --device '{URL}'",
    ]
    assert prober.targets[0].reads == ["hr:100x2"]
    assert prober.closed == [URL]


def test_a_narrow_terminal_gets_the_same_in_more_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    prober.says(URL, *FOUND)
    assert run(URL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "127.0.0.1   tcp 5020 open   Modbus answers in 3 ms"
    assert lines[1] == "         ACME VIB-4 2.1   units 1 (2..8 silent)".replace("         ", "      ")


def test_each_finding_is_on_the_screen_before_the_next_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    seen_by_step: list[str] = []

    class Screen:
        def write(self, text: str) -> int:
            shown.append(text)
            return len(text)

        def flush(self) -> None: ...

    async def script(target: Target) -> AsyncIterator[Finding]:
        for finding in FOUND:
            seen_by_step.append("".join(shown))
            yield finding

    prober.scripts[URL] = script
    monkeypatch.setattr(sys, "stdout", Screen())
    assert run(URL) == 0
    assert [text.rpartition("   ")[2] for text in seen_by_step] == [
        "127.0.0.1",
        "tcp 5020 open",
        "Modbus answers in 3 ms",
        "ACME VIB-4 2.1",
    ]


def test_a_failed_step_is_an_error_with_its_remedy_and_exit_code_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = Finding("connect", "127.0.0.1:5020 refuses the connection", "D311", "check the port")
    prober.says(URL, refused)
    assert run(URL) == 1
    assert capsys.readouterr().out.splitlines() == [
        "127.0.0.1",
        "error[D311] 127.0.0.1:5020 refuses the connection",
        "      help: check the port",
        "Nothing was written.  What a code means: edge-opcua explain D311",
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DeviceTimeoutError("127.0.0.1:5020 did not answer in 1 s"), "error[D310] 127.0.0.1:5020 did not"),
        (DeviceError("D314 127.0.0.1:5020 does not speak it: check the port"), "error[D314] 127.0.0.1:5020"),
    ],
)
def test_what_a_prober_raises_is_told_like_a_finding(
    error: DeviceError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(target: Target) -> AsyncIterator[Finding]:
        yield FOUND[0]
        raise error

    prober.scripts[URL] = script
    assert run(URL) == 1
    out = capsys.readouterr().out
    assert f"\n{line}" in out
    assert "      help: " in out


def test_an_address_that_cannot_be_read_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    async def script(target: Target) -> AsyncIterator[Finding]:
        raise AddressError('"hx:1" is not a Modbus address', hint="areas are co, di, hr, ir")
        yield FOUND[0]

    prober.scripts[URL] = script
    assert run(URL, reads=["hx:1"]) == 2
    assert capsys.readouterr().err == (
        'error[T211] "hx:1" is not a Modbus address\n      help: areas are co, di, hr, ir\n'
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "profibus://1",
            'error[D380] "profibus://1": no driver has URLs of profibus://; there are modbus://',
        ),
        ("modbus://", 'error[D380] "modbus://" is not a Modbus URL'),
        ("mute://plc", "error[D381] the driver mute cannot look at a device by itself"),
        ("192.168.0.20:5020", "error[D380] 192.168.0.20:5020 is a host and a port: name the protocol too"),
        ("192.168.0.0/99", 'error[D380] "192.168.0.0/99" is neither a URL nor a range'),
        ("10.0.0.0/8", "error[D383] 10.0.0.0/8 has 16777216 addresses"),
        ("192.168.0.9-3", 'error[D380] "192.168.0.9-3" ends before it begins'),
        ("192.168.0.0/24", "error[D383] 192.168.0.0/24 is a range of 254 addresses; add --scan"),
    ],
)
def test_a_target_that_means_nothing_is_refused_before_anything_is_sent(
    target: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(target) == 2
    assert capsys.readouterr().err.startswith(said)


def test_reads_of_a_host_without_a_protocol_are_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("127.0.0.1", reads=["hr:1"]) == 2
    assert "modbus://127.0.0.1/1" in capsys.readouterr().err


def test_json_is_one_object_with_all_findings(capsys: pytest.CaptureFixture[str]) -> None:
    nan = Finding("read", "hr:0", candidates=(Candidate("hr:0:REAL", "ABCD", {"REAL": float("nan")}),))
    prober.says(URL, *FOUND, READ, nan)
    assert run(URL, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["target"], told["ok"]) == ("edge-opcua.probe/1", URL, True)
    (device,) = told["devices"]
    assert (device["driver"], device["answers"], device["requests"]) == ("modbus", True, 3)
    assert [finding["step"] for finding in device["findings"]][:3] == ["connect", "protocol", "identity"]
    read = device["findings"][4]
    assert read["candidates"][1] == {
        "address": "1/hr:100:REAL;order=CDAB",
        "order": "CDAB",
        "values": {"REAL": 23.40999984741211, "DINT": 1102792622},
        "plausible": "small, few digits",
    }
    assert device["findings"][5]["candidates"][0]["values"] == {"REAL": None}
    assert device["table"][0] == "hr100,1/hr:100:REAL;order=CDAB,"


def host(name: str, *ports: int) -> list[Usual]:
    return [Usual(port, f"P{port}", f"modbus://{{host}}:{port}/1") for port in ports]


def test_a_host_is_tried_on_each_usual_port_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    refused = Finding("connect", "refused", "D311")
    prober.says("modbus://[::1]:502/1", refused)
    prober.says("modbus://[::1]:102/1", *FOUND)
    usual = host("::1", 502, 102)
    assert command.probe("::1", ProbeOptions(), plugins=Meters(), usual=usual) == 0
    assert capsys.readouterr().out.splitlines() == [
        "::1",
        "  502  P502          refused (D311)",
        "  102  P102          tcp 5020 open   Modbus answers in 3 ms   ACME VIB-4 2.1",
        "      units 1 (2..8 silent)",
        "Nothing was written.  Next: edge-opcua probe 'modbus://[::1]:102/1'",
    ]


def test_a_host_where_nothing_answers_says_what_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    prober.says("modbus://plc:502/1", Finding("connect", "refused", "D311"))
    assert command.probe("plc", ProbeOptions(), plugins=Meters(), usual=host("plc", 502)) == 1
    out = capsys.readouterr().out
    assert "error[D382] plc: nothing answers\n      help: Is it the right address" in out


def test_an_unknown_host_is_asked_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    prober.says(
        "modbus://plc:502/1", Finding("connect", "plc is a name nobody knows", "D312", "write the IP")
    )
    assert command.probe("plc", ProbeOptions(), plugins=Meters(), usual=host("plc", 502, 102)) == 1
    assert len(prober.targets) == 1
    assert "error[D312] plc is a name nobody knows\n      help: write the IP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("192.168.0.0/24", "192.168.0.1", 254),
        ("192.168.0.10-20", "192.168.0.10", 11),
        ("192.168.0.250-192.168.1.5", "192.168.0.250", 12),
        ("10.1.2.3/32", "10.1.2.3", 1),
    ],
)
def test_a_range_is_written_in_three_ways(text: str, first: str, count: int) -> None:
    found = addresses_of(text)
    assert found is not None
    assert (found[0], len(found)) == (first, count)


@pytest.mark.parametrize("text", ["press-edge", "plc-1.factory.local", "192.168.0.20", "::1"])
def test_a_host_is_no_range(text: str) -> None:
    assert addresses_of(text) is None


def test_a_range_that_is_no_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"write 192\.168\.0\.10-20"):
        addresses_of("192.168.0.10-x")


async def test_a_scan_never_sends_more_than_ten_packets_a_second() -> None:
    clock = ManualClock()
    pace = Pace(clock)
    started_s = clock.monotonic_s()
    went_s: list[float] = []

    async def send() -> None:
        for number in range(5):
            await pace.take()
            went_s.append(round(clock.monotonic_s() - started_s, 3))
            if number == 1:
                pace.owe(2)  # the port was open: two more packets went

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        await clock.advance(2.0)
    assert went_s == [0.0, 0.1, 0.4, 0.5, 0.6]


async def test_a_scan_connects_once_to_each_port_sends_nothing_and_hangs_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        port, other = server.getsockname()[1], closed.getsockname()[1]
        closed.close()
        hits: list[tuple[str, list[int]]] = []
        count = await scan(
            ["127.0.0.1"], lambda *hit: hits.append(hit), ManualClock(), timeout_s=0.5, ports=[port]
        )
        assert (count, hits) == (1, [("127.0.0.1", [port])])
        server.settimeout(1.0)
        peer, _ = server.accept()
        with peer, pytest.raises(ConnectionResetError):
            peer.recv(1)
        none = await scan(["127.0.0.1"], lambda *hit: None, ManualClock(), timeout_s=0.5, ports=[other])
        assert none == 0


def test_a_scan_wants_a_yes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))  # no terminal: nobody typed it
    assert run("127.0.0.1/32", scan=True) == 2
    assert "Old devices can hang" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "code"), [("yes", 1), ("y", 2), ("", 2)])
def test_at_a_terminal_only_a_typed_yes_starts_a_scan(
    typed: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{typed}\n"))
    options = ProbeOptions(scan=True, timeout_s=0.2)
    assert command.probe("127.0.0.1/32", options, plugins=Meters(), ports=[1]) == code
    assert "type yes to go on" in capsys.readouterr().err


def test_json_of_a_scan_and_of_a_host(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        options = ProbeOptions(scan=True, yes=True, as_json=True)
        assert command.probe("127.0.0.1/32", options, plugins=Meters(), ports=[port]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scanned"] == [{"address": "127.0.0.1", "ports": [port]}]
    prober.says("modbus://plc:502/1", Finding("connect", "refused", "D311"))
    prober.says("modbus://plc:102/1", *FOUND)
    usual = host("plc", 502, 102)
    assert command.probe("plc", ProbeOptions(as_json=True), plugins=Meters(), usual=usual) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], [device["answers"] for device in told["devices"]]) == (True, [False, True])


def test_a_driver_that_cannot_look_leaves_the_other_ports_of_a_host(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prober.says("modbus://plc:502/1", *FOUND)
    usual = [Usual(1, "Mute", "mute://{host}"), *host("plc", 502)]
    assert command.probe("plc", ProbeOptions(), plugins=Meters(), usual=usual) == 0
    assert "note: Mute is left out: the driver mute cannot look" in capsys.readouterr().err
    assert command.probe("plc", ProbeOptions(), plugins=Meters(), usual=usual[:1]) == 2


def test_a_scan_lists_who_has_an_open_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        options = ProbeOptions(scan=True, yes=True)
        assert command.probe("127.0.0.1/32", options, plugins=Meters(), ports=[port]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"127.0.0.1   {port} open",
        "1 of 1 have an open port.  Next: edge-opcua probe 127.0.0.1",
    ]
    assert command.probe("127.0.0.1/32", options, plugins=Meters(), ports=[port]) == 1
    assert "error[D382]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("1/hr:100:REAL;order=CDAB", "hr100"),
        ("DB10.DBD16:REAL", "DB10_DBD16"),
        ("Program:Main.Speed", "Program_Main_Speed"),
        ("ns=3;s=Speed", "ns_3"),
        ("40101:REAL", "t40101"),
    ],
)
def test_a_tag_gets_a_name_that_a_table_takes(address: str, name: str) -> None:
    assert tag_name(address) == name


def test_values_are_shown_as_a_display_shows_them() -> None:
    assert value_text(True, "BOOL") == "TRUE"
    assert value_text(23.40999984741211, "REAL") == "23.41"
    assert value_text(0.1 + 0.2, "LREAL") == "0.3"
    assert value_text(list(range(10)), "INT").endswith("7 … 2 more")
    assert reading_lines((Candidate("speed", "", {"REAL": 2.5}),)) == ["  REAL    2.5"]


def test_bytes_that_are_no_time_are_called_so_and_offer_no_row() -> None:
    clock = Candidate("DB1.DBB0:DTL", "", {"DTL": None})
    assert reading_lines((clock,)) == ["  DTL     no valid time"]
    assert value_text([None, "2026-01-01T00:00:00Z"], "DTL") == "no valid time 2026-01-01T00:00:00Z"
    assert table_lines([Finding("read", "x", candidates=(clock,))]) == []
    stopped = Candidate("DB1.DBB0:DTL[2]", "", {"DTL[2]": [None, None]})
    assert table_lines([Finding("read", "x", candidates=(stopped,))]) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["probe", "h", "--timeout", "0"],
        ["probe", "h", "--units", "9-1"],
        ["probe", "h", "--units", "x"],
        ["init", "f.toml"],
        ["check", "--live", "--security"],
    ],
)
def test_wrong_options_are_told_as_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: edge-opcua" in capsys.readouterr().err
