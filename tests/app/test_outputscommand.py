"""``outputs``: whoever types it sees what each output does and what to do next, and does it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.app.command.console import _print_notes, status_text, watch_table
from edge_opcua.app.command.outputs import who
from edge_opcua.app.command.outputtext import advice, output_table
from edge_opcua.cli import main
from edge_opcua.core.control import Hub, Peer, Reply, Request
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NODE_ID_UNKNOWN, GOOD
from edge_opcua.opcua.outputfeed import OutputChange, output_event
from edge_opcua.writeback.faults import Fault
from edge_opcua.writeback.states import State
from tests.app.plants import on_a_thread

ACTIVE: dict[str, Any] = {
    "output": "verdict",
    "device": "press",
    "state": "ACTIVE",
    "fault": "",
    "reason": "",
    "since_s": 125.0,
    "writer": "model",
    "granted": True,
    "granted_by": "always",
    "acknowledged_by": "either",
    "auto_restart": False,
    "plc_tells": True,
    "plc_trusts": True,
    "heartbeat": 17,
    "indeterminate": 0,
    "landed_late": 0,
    "values": [],
}
WAITING = {**ACTIVE, "state": "ACK_REQUIRED", "writer": "", "plc_trusts": False, "indeterminate": 2}
SAFE = {**ACTIVE, "state": "FAILSAFE", "fault": "LINK", "reason": "no link to the PLC", "plc_trusts": False}


@contextmanager
def server(
    state_dir: Path, rows: Sequence[dict[str, Any]] = (), reply: Reply | None = None
) -> Iterator[list[Request]]:
    """A supervisor with these outputs and an io process that gives this answer; yields what io was asked."""
    StateDir(state_dir).create()
    asked: list[Request] = []

    async def supervise(request: Request) -> Reply:
        assert request.kind == "status"
        return Reply(GOOD, "", {"machine": "Press01", "outputs": list(rows)})

    async def io(request: Request) -> Reply:
        asked.append(request)
        return reply or Reply()

    async def serve(started: Callable[[], None], stop: asyncio.Event) -> None:
        ours, theirs = socket.socketpair()
        hub = Hub(supervise)
        hub.attach("io", ours)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(hub.run()),
                tasks.create_task(Peer(theirs, io, "supervisor").run()),
                tasks.create_task(hub.serve_unix(StateDir(state_dir).control_socket)),
            ]
            while not StateDir(state_dir).control_socket.exists():
                await asyncio.sleep(0.005)
            started()
            await stop.wait()
            for task in work:
                task.cancel()

    with on_a_thread(serve):
        yield asked


def test_the_list_shows_each_output_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**ACTIVE, "output": "speed", "plc_tells": False, "values": []}
    other["values"] = [{"tag": "press/sp_speed", "value": 42.5, "status": "GoodLocalOverride"}]
    with server(tmp_path, [WAITING, other]):
        assert main(["outputs", "--state", str(tmp_path)]) == 1
        header, waiting, acting, value, empty, note = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["OUTPUT", "DEVICE", "STATE", "SINCE"]
    assert " ".join(waiting.split()) == "! verdict press ACK_REQUIRED 2 min 05 s - - no 2 0"
    assert " ".join(acting.split()) == "speed press ACTIVE 2 min 05 s - model - 0 0"
    assert value == "  press/sp_speed = 42.5   GoodLocalOverride"
    assert empty == ""
    assert note == (
        "verdict waits for an acknowledge: press ACK on the machine, or run "
        f"edge-opcua outputs acknowledge verdict --state {tmp_path}"
    )


def test_outputs_that_act_are_exit_code_0_and_json_is_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path, [ACTIVE]):
        assert main(["outputs", "--json", "--state", str(tmp_path)]) == 0
        body = json.loads(capsys.readouterr().out)
    assert (body["schema"], body["machine"]) == ("edge-opcua.outputs/1", "Press01")
    assert body["outputs"] == [ACTIVE]
    with server(tmp_path):
        assert main(["outputs", "--state", str(tmp_path)]) == 0
        assert "writes nothing back" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["acknowledge", "grant", "revoke", "manual", "automatic"])
def test_an_action_is_asked_of_the_process_that_writes_with_who_and_why(tmp_path: Path, action: str) -> None:
    with server(tmp_path) as asked:
        arguments = [action, "verdict", "--why", "guard closed", "--state", str(tmp_path)]
        assert main(["outputs", *arguments]) == 0
    (request,) = asked
    assert (request.to, request.kind, request.origin) == ("io", "output", "cli")
    user = f"{who()} (edge-opcua outputs)"
    assert request.body == {"output": "verdict", "action": action, "user": user, "why": "guard closed"}


def test_what_is_written_by_hand_goes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(tmp_path) as asked:
        wanted = ["--set", "press/sp_speed=30.5", "--set", "press/on=true", "--state", str(tmp_path)]
        assert main(["outputs", "manual", "speed", *wanted]) == 0
    assert asked[0].body["values"] == {"press/sp_speed": 30.5, "press/on": True}
    for wrong in ("press/sp_speed=nan", "sp_speed=1", "press/sp_speed"):
        with pytest.raises(SystemExit, match="2"):
            main(["outputs", "manual", "speed", "--set", wrong])
    with pytest.raises(SystemExit, match="2"):
        main(["outputs", "grant", "speed", "--set", "press/sp_speed=1"])
    assert "goes with manual" in capsys.readouterr().err


def test_a_refusal_is_told_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = Reply(BAD_INVALID_STATE, "verdict is ACTIVE: nothing waits for an acknowledge")
    with server(tmp_path, reply=refusal):
        assert main(["outputs", "acknowledge", "verdict", "--state", str(tmp_path)]) == 1
        assert "nothing waits for an acknowledge (BadInvalidState)" in capsys.readouterr().err
        assert main(["outputs", "acknowledge", "verdict", "--json", "--state", str(tmp_path)]) == 1
        assert json.loads(capsys.readouterr().out)["status"] == "BadInvalidState"
    with server(tmp_path, reply=Reply(BAD_NODE_ID_UNKNOWN, "there is no output verdikt")):
        assert main(["outputs", "grant", "verdikt", "--state", str(tmp_path)]) == 2
    assert "there is no output verdikt" in capsys.readouterr().err
    with server(tmp_path, reply=Reply(BAD_NODE_ID_UNKNOWN, "verdict does not write press/none")):
        command = ["outputs", "manual", "verdict", "--set", "press/none=1", "--state", str(tmp_path)]
        assert main(command) == 2
    assert "verdict does not write press/none" in capsys.readouterr().err


def test_wrong_use_and_no_server_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outputs", "--state", str(tmp_path)]) == 4
    assert main(["outputs", "acknowledge", "verdict", "--state", str(tmp_path)]) == 4
    assert "no server runs" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["outputs", "acknowledge"])
    with pytest.raises(SystemExit, match="2"):
        main(["outputs", "--why", "because"])


def test_behind_sudo_the_person_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    assert who() == "anna"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"state": "ACK_REQUIRED", "acknowledged_by": "plc"}, "press ACK on the machine"),
        ({"state": "ACK_REQUIRED", "acknowledged_by": "operator"}, "outputs acknowledge verdict"),
        ({"state": "ACK_REQUIRED", "plc_acknowledges": False}, "acknowledge: run edge-opcua outputs"),
        (
            {"state": "FAILSAFE", "fault": "LINK", "reason": "no link"},
            "has fallen safe: no link; comes back once that is mended",
        ),
        ({"state": "FAILSAFE", "reason": "it was late"}, "has fallen safe: it was late; that is over"),
        ({"state": "FAILSAFE", "auto_restart": True}, "acts again by itself"),
        ({"state": "HOLD", "reason": "input lost"}, "holds its last value: input lost"),
        ({"state": "MANUAL"}, "outputs automatic verdict"),
        ({"state": "INHIBITED"}, "has not acted since the start"),
        ({"state": "READY", "granted": False, "granted_by": "operator"}, "outputs grant verdict"),
        ({"state": "READY", "granted": False, "granted_by": "plc"}, "waits for the PLC to grant"),
        ({"state": "READY", "granted": True}, ""),
        ({"plc_trusts": False}, "the PLC does not use it"),
        ({"plc_trusts": False, "plc_tells": False}, ""),
        ({"state": None}, "cannot be seen"),
    ],
)
def test_in_each_state_the_next_step_is_said(changes: dict[str, Any], said: str) -> None:
    found = advice({**ACTIVE, **changes})
    assert said in found
    assert bool(said) == bool(found)


def test_what_a_device_says_moves_no_cursor() -> None:
    assert "\x1b" not in advice({**SAFE, "reason": "\x1b[2J"})


def test_a_terminal_shows_the_state_in_colour_and_the_same_columns() -> None:
    plain, coloured = output_table([SAFE, ACTIVE]), output_table([SAFE, ACTIVE], color=True)
    assert "\x1b[1;31mFAILSAFE" in coloured
    for colour in ("\x1b[1;31m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(colour, "")
    assert coloured == plain


def test_status_and_watch_say_what_waits() -> None:
    body = {
        "machine": "Press01",
        "uptime_s": 1.0,
        "endpoints": [],
        "thumbprint": "",
        "links": [],
        "pipelines": [],
        "outputs": [WAITING, {**ACTIVE, "output": "old", "state": None, "heartbeat": None}],
        "records": {},
        "processes": [],
        "sessions": [],
        "service_level": 255,
        "knocks": [],
        "faults": [],
    }
    lines = status_text(body, " --state /x").splitlines()
    (waiting,) = (line for line in lines if line.startswith("verdict"))
    assert waiting.startswith("verdict  ACK_REQUIRED for 2 min 05 s   heartbeat 17   2 indeterminate, 0 late")
    assert waiting.endswith("edge-opcua outputs acknowledge verdict --state /x")
    assert "old  starting" in "\n".join(lines)
    table = watch_table({"machine": "Press01", "utc_ns": 10**18, "links": [], "outputs": [SAFE]}, [], 200)
    assert table[0].endswith("output verdict FAILSAFE")
    assert table[1].startswith("verdict  has fallen safe: no link to the PLC")


def test_watch_without_a_terminal_says_once_what_waits_and_when_it_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known: dict[str, str] = {}
    for rows in ([WAITING], [WAITING], [ACTIVE], [ACTIVE]):
        _print_notes(rows, known)
    waits, over = capsys.readouterr().err.splitlines()
    assert waits.startswith("verdict  waits for an acknowledge: press ACK")
    assert over == "verdict  acts as it should"


def test_every_state_and_fault_has_words_for_operators() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "operate-outputs.md").read_text("utf-8")
    for state in State:
        assert f"\n| {state.name} |" in page
        assert "cannot be seen" not in advice({**ACTIVE, "state": state.name})
        change = OutputChange("verdict", "press", state.name, "")
        assert state.name not in output_event(change, ua.NodeId(), 1).Message.Text
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    named = {word.strip() for row in rows for word in row.split(",")}
    assert {fault.name for fault in Fault} <= named
