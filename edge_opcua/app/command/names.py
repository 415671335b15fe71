"""What ``check`` says about names that clients know: old -> new, in full, or nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.config.loader import Loaded
from edge_opcua.config.problem import Place, Problem
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.identity import Comparison, Move, compare

_HELP: Final = (
    "keep the old NodeId (column node_id of the tag table), or, if every client will be changed, accept: "
    "a line old/new under [[renames]], or edge-opcua identity accept"
)


@dataclass(frozen=True, slots=True)
class Examined:
    """What ``check`` found out about names.

    Args:
        loaded: The configuration, no longer right if a name would move.
        comparison: What would move; None if there is nothing to compare.
        lines: The same for people.
    """

    loaded: Loaded
    comparison: Comparison | None = None
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any] | None:
        """Return what would move, for ``check --json``."""
        if self.comparison is None or self.comparison.before is None:
            return None
        return {
            "refused": [_move_json(move) for move in self.comparison.refused],
            "accepted": [_move_json(move) for move in self.comparison.accepted],
            "readdressed": [_move_json(move) for move in self.comparison.readdressed],
            "removed": list(self.comparison.removed),
        }


def examine(loaded: Loaded, state_dir: Path | None) -> Examined:
    """Hold a configuration against what a state directory promised; every old -> new is a line.

    Args:
        loaded: The configuration.
        state_dir: The state directory; None: only two nodes of one NodeId are found.
    """
    if loaded.config is None:
        return Examined(loaded)
    lock = None if state_dir is None else StateDir(state_dir).identity_lock
    try:
        found = compare(lock, loaded.config)
    except IdentityError as exc:
        return Examined(_with(loaded, Problem(exc.code, str(exc))))
    lines = [f"note: {note}" for note in found.notes()]
    if not found.refused:
        return Examined(loaded, found, tuple(lines))
    lines += [f"clients know another name ({lock}):", *(f"  {move_line(move)}" for move in found.refused)]
    many = len(found.refused)
    message = f"{many} name{'s' if many > 1 else ''} that clients know would move"
    first = found.refused[0]
    if state_dir is not None:
        message += f"; compared with --state {state_dir}"
    problem = Problem("C191", message, file=first.file, place=Place(first.line), help=_HELP)
    return Examined(_with(loaded, problem), found, tuple(lines))


def _with(loaded: Loaded, problem: Problem) -> Loaded:
    return replace(loaded, config=None, problems=(*loaded.problems, problem))


def move_line(move: Move) -> str:
    """Return a move and the row that causes it."""
    return f"{move}   {move.place}".rstrip()


def _move_json(move: Move) -> dict[str, Any]:
    return {"old": move.old, "new": move.new, "what": move.what, "file": move.file, "line": move.line}
