"""``probe`` against devices that are there, are not there, or are something else; every way a user meets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asyncua import Server, ua

from edge_opcua.cli import main
from edge_opcua.config.codes import codes
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.app.plants import meter, on_a_thread
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import ModbusPeer

WRITES = {5, 6, 15, 16, 22, 23}


@pytest.fixture(autouse=True)
def no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find no ``ping``: what it answers is this machine's business."""
    monkeypatch.setattr("edge_opcua.app.command.probe.find_ping", lambda: None)


@pytest.fixture
def device() -> Iterator[ModbusPeer]:
    with meter() as peer:
        yield peer


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Serve what is no PLC: whoever sends something gets this; empty for nothing at all. Yields the port."""
    ports: list[int] = []

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                writer.write(answer)
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started()
        await stop.wait()
        server.close()

    with on_a_thread(serve):
        yield ports[0]


def refusing_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def probed(capsys: pytest.CaptureFixture[str], *arguments: str, timeout: str = "0.3") -> tuple[int, str]:
    code = main(["probe", *arguments, "--timeout", timeout])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out + err


def assert_told(code: int, text: str, wanted: str) -> None:
    """Hold a failed probe against what a person needs: a code that is explained, and what to do now."""
    assert code == 1
    assert f"error[{wanted}] " in text
    assert "      help: " in text
    assert f"edge-opcua explain {wanted}" in text
    assert wanted in codes()


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def test_an_unknown_host_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = probed(capsys, "modbus://no-such-plc.invalid/1", timeout="5")
    assert_told(code, text, "D312")


def test_a_refused_port_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = probed(capsys, f"modbus://127.0.0.1:{refusing_port()}/1")
    assert_told(code, text, "D311")


def test_a_web_server_is_not_taken_for_a_plc(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(HTTP) as port:
        code, text = probed(capsys, f"modbus://127.0.0.1:{port}/1")
    assert_told(code, text, "D314")
    assert f"tcp {port} open" in text


def test_a_service_that_says_nothing_is_told_as_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"") as port:
        code, text = probed(capsys, f"modbus://127.0.0.1:{port}/1", timeout="0.1")
    assert_told(code, text, "D310")
    assert f"tcp {port} open" in text


def test_a_silent_device_is_told_as_silent(device: ModbusPeer, capsys: pytest.CaptureFixture[str]) -> None:
    device.silent = True
    code, text = probed(capsys, f"modbus://127.0.0.1:{device.port}/1", timeout="0.1")
    assert_told(code, text, "D310")


def test_another_unit_that_answers_is_named(device: ModbusPeer, capsys: pytest.CaptureFixture[str]) -> None:
    device.distort = lambda request, answer: (answer,) if request[6] == 255 else ()
    code, text = probed(capsys, f"modbus://127.0.0.1:{device.port}/9", timeout="0.1")
    assert_told(code, text, "D357")
    assert "unit 9 is silent, unit 255 answers" in text


def test_a_register_that_is_not_there_is_one_failed_read_and_the_others_go_on(
    device: ModbusPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"modbus://127.0.0.1:{device.port}/1"
    code, text = probed(capsys, url, "--read", "hr:340", "--read", "hr:100x2")
    assert_told(code, text, "D341")
    assert "<- plausible: small, few digits" in text
    assert "  hr100,1/hr:100:REAL;order=CDAB," in text


def test_an_address_that_is_none_is_wrong_use_and_nothing_is_connected(
    device: ModbusPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = probed(capsys, f"modbus://127.0.0.1:{device.port}/1", "--read", "hx:1")
    assert code == 2
    assert text.splitlines()[1].startswith("error[T211]")
    assert device.connections == 0


def test_a_probe_is_one_connection_that_is_closed_and_has_no_write_in_it(
    device: ModbusPeer, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"modbus://127.0.0.1:{device.port}/1"
    reads = ["--read", "hr:100x2", "--read", "co:1x3", "--read", "hr:10:UINT", "--units", "1-3"]
    code, text = probed(capsys, url, *reads)
    assert code == 0
    functions = [function for _, function, _, _ in device.asked]
    assert functions
    assert WRITES.isdisjoint(functions)
    assert f"{len(functions)} requests sent, nothing written." in text
    assert device.connections == 1
    for _ in range(200):
        if not device._writers:
            break
        time.sleep(0.01)
    assert not device._writers  # closed from our side
    assert "units 1..3" in text


def test_json_tells_the_same_in_one_object(device: ModbusPeer, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = probed(capsys, f"modbus://127.0.0.1:{device.port}/1", "--read", "hr:100x2", "--json")
    told = json.loads(text)
    assert (code, told["ok"]) == (0, True)
    read = next(f for f in told["devices"][0]["findings"] if f["step"] == "read")
    (likely,) = [one for one in read["candidates"] if one["plausible"]]
    assert likely["values"]["REAL"] == pytest.approx(23.41)
    assert told["devices"][0]["table"] == [f"hr100,{likely['address']},"]


def test_json_of_a_failure_has_code_and_help_and_the_same_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = probed(capsys, f"modbus://127.0.0.1:{refusing_port()}/1", "--json")
    told = json.loads(text)
    assert (code, told["ok"], told["devices"][0]["answers"]) == (1, False, False)
    (finding,) = told["devices"][0]["findings"]
    assert finding["code"] == "D311"
    assert finding["help"]


@contextmanager
def s7_cpu(slot: int) -> Iterator[int]:
    """Serve an S7 CPU in one slot; yields the port."""
    ports: list[int] = []

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        block = DataBlock(10, 64, writable=True)
        block.memory[:4] = struct.pack(">f", 23.5)
        server = S7Server((block,), slots=frozenset({slot}))
        ports.append(await server.open("127.0.0.1", 0))
        server.begin_scan()
        server.end_scan()
        started()
        await stop.wait()
        server.close()

    with on_a_thread(serve):
        yield ports[0]


def test_the_wrong_slot_of_a_cpu_is_told_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with s7_cpu(2) as port:
        code, text = probed(capsys, f"s7://127.0.0.1:{port}?rack=0&slot=3", "--read", "DB10.DBD0")
    assert_told(code, text, "D320")
    assert f"help: write s7://127.0.0.1:{port}?rack=0&slot=2" in text
    assert "  REAL    23.5" in text
    assert "  DB10_DBD0,DB10.DBD0:REAL," in text


def test_a_cpu_without_a_slot_in_its_url_is_written_down_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "press.toml"
    with s7_cpu(2) as port:
        assert main(["init", str(file), "--device", f"press=s7://127.0.0.1:{port}", "--timeout", "0.5"]) == 0
        assert f"as s7://127.0.0.1:{port}?rack=0&slot=2" in capsys.readouterr().out
        assert f'url = "s7://127.0.0.1:{port}?rack=0&slot=2"' in file.read_text()
        with (tmp_path / "tags" / "press.csv").open("a") as table:
            table.write("force,DB10.DBD0:REAL,kN,0,50,,\nnone,DB99.DBD0:REAL,,,,,\n")
        assert main(["check", str(file), "--live", "--state", str(tmp_path / "state")]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 tags good" in out
    assert f"{tmp_path}/tags/press.csv:4: error[D331] none DB99.DBD0:REAL: " in out


def test_no_cpu_at_an_open_port_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(HTTP) as port:
        code, text = probed(capsys, f"s7://127.0.0.1:{port}?rack=0&slot=1")
    assert_told(code, text, "D314")


@contextmanager
def controller() -> Iterator[LogixPeer]:
    """Serve a Logix controller in slot 0."""
    peer = LogixPeer()
    peer.put("Speed", "REAL", 23.5)
    peer.symbols.append(("", "Speed", 0x00CA, (0, 0, 0)))

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        async with peer.serving():
            started()
            await stop.wait()

    with on_a_thread(serve):
        yield peer


def test_the_wrong_slot_of_a_controller_is_told_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with controller() as peer:
        code, text = probed(capsys, f"eip://127.0.0.1:{peer.port}/5")
    assert_told(code, text, "D361")
    assert "there is the controller" in text


def test_the_tags_of_a_controller_become_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "line.toml"
    with controller() as peer:
        device = f"plc=eip://127.0.0.1:{peer.port}/0"
        assert main(["init", str(file), "--device", device, "--timeout", "1"]) == 0
        assert "1 tag found" in capsys.readouterr().out
        assert "\nSpeed,Speed:REAL," in (tmp_path / "tags" / "plc.csv").read_text()
        assert main(["check", str(file), "--live", "--state", str(tmp_path / "state")]) == 0
    assert "1 of 1 tags good" in capsys.readouterr().out


@contextmanager
def opcua_server() -> Iterator[int]:
    """Serve two variables without security, as old machines do; yields the port."""
    ports: list[int] = []

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        server = Server()
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0/")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        namespace = await server.register_namespace("http://acme.example/")
        press = await server.nodes.objects.add_object(namespace, "Press")
        await press.add_variable(namespace, "Speed", 23.5)
        await press.add_variable(namespace, "Count", 7)
        async with server:
            ports.append(server.bserver._server.sockets[0].getsockname()[1])
            started()
            await stop.wait()

    with on_a_thread(serve):
        yield ports[0]


def test_the_variables_of_a_server_become_rows_that_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    file = tmp_path / "line.toml"
    with opcua_server() as port:
        url = f"opc.tcp://127.0.0.1:{port}"
        assert main(["init", str(file), "--device", f"plc={url}", "--timeout", "2"]) == 0
        assert "2 tags found" in capsys.readouterr().out
        assert 'options = { security = "None" }' in file.read_text()
        assert main(["check", str(file), "--live"]) == 0
        assert "2 of 2 tags good" in capsys.readouterr().out
        code, text = probed(capsys, url, "--read", "ns=2;i=2", timeout="2")
    assert code == 0
    assert "  LREAL   23.5" in text


def test_no_opcua_server_at_an_open_port_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(HTTP) as port:
        code, text = probed(capsys, f"opc.tcp://127.0.0.1:{port}")
    assert_told(code, text, "D314")


def test_no_controller_at_an_open_port_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(HTTP) as port:
        code, text = probed(capsys, f"eip://127.0.0.1:{port}/0")
    assert_told(code, text, "D360")
