"""What ``edge-opcua identity`` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from edge_opcua.app.command.names import move_line
from edge_opcua.app.command.tell import WRONG_USE, complain, say
from edge_opcua.config.loader import load
from edge_opcua.config.report import problems_text
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.identity import guard_identity, read_record

SCHEMA: Final = "edge-opcua.identity/1"


def accept(config_file: Path, state_dir: Path) -> int:
    """Agree to every name that a configuration moves, and say which; takes effect with the next start."""
    loaded = load(config_file)
    if loaded.config is None:
        complain(problems_text(loaded))
        return WRONG_USE
    state = StateDir(state_dir)
    if not state.root.is_dir():
        complain(f"there is no state directory {state.root}; name another with --state DIR")
        return WRONG_USE
    try:
        found = guard_identity(state.identity_lock, loaded.config, accept=True)
    except IdentityError as exc:
        complain(f"error[{exc.code}] {exc}")
        return WRONG_USE
    for move in (*found.refused, *found.accepted):
        say(f"accepted: {move_line(move)}")
    for note in found.notes():
        say(f"note: {note}")
    many = len(found.refused) + len(found.accepted)
    say(
        f"{many} names moved; change them in every client.  {state.identity_lock}"
        if many
        else "nothing moved"
    )
    return 0


def show(state_dir: Path, *, as_json: bool) -> int:
    """Print what was promised, what is reserved, and what was changed when."""
    lock = StateDir(state_dir).identity_lock
    try:
        record = read_record(lock)
    except IdentityError as exc:
        complain(f"error[{exc.code}] {exc}")
        return WRONG_USE
    if record is None:
        complain(f"nothing was promised yet: {lock} is written at the first start")
        return 1
    history = [
        {"when": line.when, "old": line.old, "new": line.new, "what": line.what, "by": line.by}
        for line in record.history
    ]
    if as_json:
        body = {
            "schema": SCHEMA,
            "namespaces": list(record.identity.namespaces),
            "nodes": {source: list(names) for source, names in record.identity.nodes.items()},
            "retired": dict(record.retired),
            "history": history,
        }
        say(json.dumps(body))
        return 0
    for index, uri in enumerate(record.identity.namespaces, 2):
        say(f"namespace {index}   {uri}")
    promised = sum(len(names) for names in record.identity.nodes.values())
    say(f"{promised} names promised, {len(record.retired)} reserved for what is no longer served")
    for name, source in record.retired.items():
        say(f"  reserved: {name} ({source})")
    for line in history:
        say(f"  {line['when']}  {line['old']} -> {line['new']} ({line['what']}; {line['by']})")
    return 0
