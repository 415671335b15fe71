"""``reload``: the running server takes over its changed configuration, and says what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.console import NOT_RUNNING
from edge_opcua.app.command.tell import ANSWER_IS_NO, complain, say
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_NO_COMMUNICATION, is_good

# To read the file, three processes to take the change over, and as long to go back.
ANSWER_S: Final = 330.0
SCHEMA: Final = "edge-opcua.reload/1"
_WORDS: Final = {
    "unchanged": "nothing has changed",
    "would apply": "would be applied: nothing is changed yet",
}


def reload(state_dir: Path, *, dry_run: bool, as_json: bool) -> int:
    """Ask the server on this state directory to read its configuration again.

    Returns:
        0 if it runs what the file says; 1 if it went back to what was; 2 if the file is not right; 3 if that
        cannot be changed while it runs; 4 if no server runs.
    """
    place = StateDir(state_dir).control_socket
    place.exists()  # a directory that is somebody else's is told as that
    reply = asyncio.run(ask(place, "supervisor", "reload", {"dry_run": dry_run}, timeout_s=ANSWER_S))
    if reply.status == BAD_NO_COMMUNICATION:
        message = f"no server runs on the state directory {state_dir} ({reply.reason})"
        remedy = "start one with edge-opcua run FILE, or name its directory with --state DIR"
        return _failed(NOT_RUNNING, "", message, remedy, as_json=as_json)
    if not is_good(reply.status):
        return _failed(ANSWER_IS_NO, "D386", reply.reason, as_json=as_json)
    body: dict[str, Any] = reply.body
    if as_json:
        say(json.dumps(body))
    else:
        _show(body)
    return int(body["exit_code"])


def _failed(exit_code: int, code: str, message: str, remedy: str = "", *, as_json: bool) -> int:
    if as_json:
        error = {"code": code, "message": message, "help": remedy}
        say(json.dumps({"schema": SCHEMA, "outcome": "failed", "exit_code": exit_code, "error": error}))
        return exit_code
    complain(f"error[{code}] {message}" if code else message)
    if remedy:
        complain(f"help: {remedy}")
    return exit_code


def _show(body: Mapping[str, Any]) -> None:
    if body["problems"]:
        complain(body["problems"])
    for line in (*body["changes"], *body["effects"], *(f"note: {note}" for note in body["notes"])):
        say(line)
    outcome, reason, code = body["outcome"], body["reason"], body["code"]
    if body["exit_code"] == 0:
        say(_WORDS.get(outcome, f"{outcome} {reason}"))
    elif code:
        complain(f"error[{code}] {outcome}: {reason}   explain: edge-opcua explain {code}")
    else:
        complain(f"{outcome}: {reason}")
