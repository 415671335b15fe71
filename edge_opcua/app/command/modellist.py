"""``model list``: every version in the repository, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from edge_opcua.app.command.modelnames import ModelName
from edge_opcua.app.command.tell import say
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.repository import ModelRepository

SCHEMA: Final = "edge-opcua.models/1"


def show(state_dir: Path, wanted: ModelName | None, *, as_json: bool) -> int:
    """Print the versions in the repository of this state directory; the server may run or not."""
    entries = [
        entry
        for entry in ModelRepository(StateDir(state_dir).models).list()
        if wanted is None or (entry.name == wanted.name and wanted.version in (None, entry.version))
    ]
    if as_json:
        rows = [{"name": each.name, "version": each.version, "sha256": each.sha256} for each in entries]
        say(json.dumps({"schema": SCHEMA, "models": rows}))
        return 0
    for each in entries:
        say(f"{each.name}/{each.version}  {each.fault or each.description}")
    return 0
