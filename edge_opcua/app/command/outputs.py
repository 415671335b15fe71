"""``outputs``: what is written back, whether it acts, and what an operator may do to it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.console import NOT_RUNNING, ask_server, server_answers
from edge_opcua.app.command.look import printable
from edge_opcua.app.command.outputtext import needs_somebody, output_table
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.config.report import wants_color
from edge_opcua.core.control import Reply, ask
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, is_good, status_name

ANSWER_S: Final = 5.0
SCHEMA: Final = "edge-opcua.outputs/1"
_DONE: Final = {
    "acknowledge": "acknowledged",
    "grant": "may act",
    "revoke": "may no longer act",
    "manual": "is in your hands: nothing is written but what operators write",
    "automatic": "is given back",
}


def outputs(state_dir: Path, *, as_json: bool) -> int:
    """Print every output of the server on this state directory.

    Returns:
        0; 1 if one has fallen safe or waits for somebody, 4 if no server runs.
    """
    reply = asyncio.run(ask_server(state_dir, "status"))
    if reply is None:
        return NOT_RUNNING
    rows = reply.body["outputs"]
    if as_json:
        say(json.dumps({"schema": SCHEMA, "machine": reply.body["machine"], "outputs": rows}))
    elif rows:
        color = wants_color(os.environ, is_terminal=sys.stdout.isatty())
        say(output_table(rows, state_option(state_dir), color=color))
    else:
        say("this server writes nothing back: its configuration has no [[outputs]]")
    return ANSWER_IS_NO if any(needs_somebody(row) for row in rows) else 0


def act(
    state_dir: Path, action: str, name: str, *, why: str, values: Mapping[str, float], as_json: bool
) -> int:
    """Do something to an output of the server on this state directory.

    Args:
        state_dir: Its state directory.
        action: ``acknowledge``, ``grant``, ``revoke``, ``manual`` or ``automatic``.
        name: Name of the output.
        why: For the journal.
        values: What to write by hand, by public id of the tag; only for ``manual``.
        as_json: One JSON object instead of text.

    Returns:
        0; 1 if there was nothing to do that to, 2 if there is no such output, 4 if no server runs.
    """
    place = StateDir(state_dir).control_socket
    place.exists()  # a directory that is somebody else's is told as that
    if not server_answers(place):
        complain(f"no server runs on the state directory {state_dir}")
        complain("help: start one with edge-opcua run FILE, or name its directory with --state DIR")
        return NOT_RUNNING
    body: dict[str, Any] = {"output": name, "action": action, "user": f"{who()} (edge-opcua outputs)"}
    body |= {"why": why, **({"values": dict(values)} if values else {})}
    reply = asyncio.run(ask(place, "io", "output", body, timeout_s=ANSWER_S))
    if as_json:
        say(json.dumps({"schema": SCHEMA, **_as_json(reply, name, action)}))
    elif is_good(reply.status):
        say(f"{name} {_DONE[action]}")
    else:
        _refused(reply, name, state_option(state_dir))
    if is_good(reply.status):
        return 0
    return WRONG_USE if reply.status == BAD_NODE_ID_UNKNOWN else ANSWER_IS_NO


def who() -> str:
    """Return who types: the name of the Unix user, also behind sudo."""
    behind = os.environ.get("SUDO_USER", "")
    if behind:
        return printable(behind)
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without a name, as containers have them
        return f"uid {os.getuid()}"


def _as_json(reply: Reply, name: str, action: str) -> Mapping[str, Any]:
    return {"output": name, "action": action, "status": status_name(reply.status), "reason": reply.reason}


def _refused(reply: Reply, name: str, option: str) -> None:
    if reply.status == BAD_NODE_ID_UNKNOWN:
        complain(printable(reply.reason) or f"there is no output {printable(name)}")
        complain(f"help: edge-opcua outputs{option} lists them, with the tags they write")
        return
    complain(f"{name}: {printable(reply.reason) or status_name(reply.status)} ({status_name(reply.status)})")
    complain(f"help: edge-opcua outputs{option} shows its state and what to do")
