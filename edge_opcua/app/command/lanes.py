"""``lanes``: which pipelines judge in time, where they run, and how much room is left."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

from edge_opcua.app.command.console import NOT_RUNNING, ask_server
from edge_opcua.app.command.lanetext import lane_table, needs_somebody
from edge_opcua.app.command.tell import ANSWER_IS_NO, say
from edge_opcua.config.report import wants_color

SCHEMA: Final = "edge-opcua.lanes/1"


def lanes(state_dir: Path, *, as_json: bool) -> int:
    """Print every pipeline of the server on this state directory, by the group whose process it shares.

    Returns:
        0; 1 if one does not judge or will miss its deadline, 4 if no server runs.
    """
    reply = asyncio.run(ask_server(state_dir, "status"))
    if reply is None:
        return NOT_RUNNING
    rows = reply.body["pipelines"]
    processes = [row for row in reply.body["processes"] if str(row["role"]).startswith("lane/")]
    if as_json:
        body = {"schema": SCHEMA, "machine": reply.body["machine"], "pipelines": rows, "processes": processes}
        say(json.dumps(body))
    elif rows:
        color = wants_color(os.environ, is_terminal=sys.stdout.isatty())
        say(lane_table(rows, processes, color=color))
        for fault in reply.body["faults"]:
            say(f"attention  {fault['source']}: {fault['text']} ({fault['code']})")
    else:
        say("this server judges nothing: its configuration has no [[pipelines]]")
    return ANSWER_IS_NO if any(needs_somebody(row) for row in rows) else 0
