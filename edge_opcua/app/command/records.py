"""What the command ``records`` does: shows the journal, whether the server runs or not."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from edge_opcua.app.command.tell import ANSWER_IS_NO, complain, say
from edge_opcua.core.journalfile import Record, look
from edge_opcua.core.statedir import StateDir

# What stands first in a line, where a record has it; the rest follows as name=value.
_FIRST = ("what", "who", "outcome")
_FIRST_OF = {
    "answer": ("pipeline", "result_id", "answer", "who", "note"),
    "watch": ("pipeline", "model", "kind", "active", "text"),
}


def records(state_dir: Path, kind: str | None, *, last: int, as_json: bool) -> int:
    """Print the newest records of the journal, oldest first.

    Args:
        state_dir: The server's state directory.
        kind: ``audit``, ``result``, ``job``, ``watch``, ``answer`` or ``gap``; None: all.
        last: How many.
        as_json: JSON Lines instead of text.

    Returns:
        0; 1 if there is no journal, or it cannot be read.
    """
    try:
        found = look(StateDir(state_dir).journal, kinds=(kind,) if kind else (), last=last)
    except OSError as exc:
        complain(f"{exc}; another state directory: --state DIR")
        return ANSWER_IS_NO
    for record in found:
        say(_line(record) if not as_json else json.dumps(_plain(record)))
    if not found and not as_json:
        say(f"no records{f' of kind {kind}' if kind else ''} yet")
    return 0


def _plain(record: Record) -> dict[str, Any]:
    return {"id": record.id, "kind": record.kind, "time": _time(record.utc_ns), "body": record.body}


def _time(utc_ns: int) -> str:
    seconds, rest_ns = divmod(utc_ns, 1_000_000_000)
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1_000_000:03d}Z"


def _line(record: Record) -> str:
    names = _FIRST_OF.get(record.kind, _FIRST)
    first = [_plainly(name, record.body[name]) for name in names if record.body.get(name) not in (None, "")]
    rest = [f"{name}={_short(value)}" for name, value in record.body.items() if name not in names]
    text = "  ".join([_time(record.utc_ns), record.kind, *first, " ".join(rest)])
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _plainly(name: str, value: object) -> str:
    """Return what stands without its name: whether an alarm is there, in a word."""
    return ("begun" if value else "over") if name == "active" else str(value)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
