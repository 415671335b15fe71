"""``model history``: who changed which model when and why, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.card import utc_text
from edge_opcua.app.command.model.facts import joined
from edge_opcua.app.command.model.names import ModelName
from edge_opcua.app.command.tell import ANSWER_IS_NO, complain, say
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.ledgerfile import read_history

SCHEMA: Final = "edge-opcua.model-history/1"
_OUTCOMES: Final = {
    Step.ORDERED: "begins at the next start",
    Step.BEGUN: "being loaded",
    Step.PREPARED: "loaded and proven",
    Step.SHADOW: "judging in shadow",
    Step.ACTIVATING: "taking over",
    Step.ACTIVE: "active, on trial",
    Step.CONFIRMED: "active",
    Step.REVERTING: "going back",
    Step.REVERTED: "gone back",
    Step.FAILED: "failed, nothing changed",
    Step.QUARANTINED: "put into quarantine",
    Step.RELEASED: "released from quarantine",
}


def history(
    state_dir: Path, wanted: ModelName | None, pipeline: str | None, *, last: int, steps: bool, as_json: bool
) -> int:
    """Print the newest changes of models, oldest first; the server may run or not.

    Args:
        state_dir: The state directory.
        wanted: Only changes from or to this model; None: all.
        pipeline: Only changes of this pipeline; None: all.
        last: How many changes.
        steps: Whether each step is shown, not only what came of it.
        as_json: JSON instead of text; always with each step.

    Returns:
        0; 1 if the ledger cannot be read.
    """
    try:
        found = read_history(StateDir(state_dir).model_ledger)
    except OSError as exc:
        complain(f"{exc}; another state directory: --state DIR")
        return ANSWER_IS_NO
    changes = [each for each in grouped(found.entries) if _is_about(each, wanted, pipeline)][-last:]
    if as_json:
        rows = [[entry.as_json() for entry in each] for each in changes]
        say(json.dumps({"schema": SCHEMA, "damaged": found.damaged, "changes": rows}))
        return 0
    for each in changes:
        say(_line(each))
        for entry in each if steps else ():
            why = f": {printable(entry.why)}" if entry.why else ""
            say(f"    {utc_text(entry.utc_ns)}  {entry.step.value}{why}")
    if not changes:
        say(
            f"no change of {_asked(wanted, pipeline)} is known"
            if found.entries
            else "no model was changed yet"
        )
    if found.damaged:
        say(f"{found.damaged} lines of the ledger cannot be read")
    return 0


def _asked(wanted: ModelName | None, pipeline: str | None) -> str:
    """Return what somebody wants to see the changes of, in words."""
    where = f"pipeline {printable(pipeline)}" if pipeline is not None else ""
    what = "a model" if wanted is None else str(wanted)
    return f"{what} in {where}" if where else what


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the entries by change, in the order in which the changes began."""
    found: dict[int, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.change, []).append(entry)
    return list(found.values())


def _is_about(change: Sequence[Entry], wanted: ModelName | None, pipeline: str | None) -> bool:
    named = [
        choice for entry in change for choice in (entry.model, *entry.before.values(), *entry.after.values())
    ]
    fits = wanted is None or any(
        choice.name == wanted.name and wanted.version in (None, choice.version) for choice in named
    )
    return fits and (pipeline is None or any(pipeline in entry.pipelines for entry in change))


def _line(change: Sequence[Entry]) -> str:
    first, ended = change[0], change[-1]
    who = f" by {printable(first.user or ended.user)}" if first.user or ended.user else ""
    note = f' "{printable(first.note)}"' if first.note else ""
    why = f": {printable(ended.why)}" if ended.why else ""
    return f"{utc_text(first.utc_ns)}  {_what(first)}{who}{note}  {_OUTCOMES[ended.step]}{why}"


def _what(entry: Entry) -> str:
    """Return what a change is: from which version to which, and where."""
    if entry.kind is Kind.VERDICT:
        return entry.model.text
    moves: dict[str, list[str]] = {}
    for name, to in entry.after.items():
        was = entry.before.get(name)
        move = f"{was.text} → {to.version}" if was is not None and was.name == to.name else to.text
        moves.setdefault(move, []).append(name)
    said = "; ".join(f"{move} in {joined(names)}" for move, names in moves.items())
    return f"{entry.kind.value} {said or entry.model.text}"
