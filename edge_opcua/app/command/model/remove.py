"""``model remove``: takes a version out of the repository, if nobody needs it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Final

from edge_opcua.app.command.model.facts import Key, Uses, joined, uses_of
from edge_opcua.app.command.model.names import ModelName
from edge_opcua.app.command.tell import REFUSED, WRONG_USE, complain, say
from edge_opcua.config.loader import load
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledgerfile import flush_directory, read_history
from edge_opcua.inference.repository import ModelRepository

SCHEMA: Final = "edge-opcua.model-remove/1"


def remove(state_dir: Path, wanted: ModelName, config: Path | None, *, as_json: bool) -> int:
    """Remove one version; the server may run or not.

    Args:
        state_dir: The state directory.
        wanted: Name and version.
        config: Says which pipelines there are; None: what the ledger and the server say.
        as_json: One JSON object instead of text.

    Returns:
        0; 2 if it is not there, 3 if somebody needs it.
    """
    assert wanted.version is not None, "the parser takes NAME/VERSION only"
    state, key = StateDir(state_dir), (wanted.name, wanted.version)
    code, reason, note = 0, "", ""
    try:
        folder = _there(state, key)
        _require_ledger(state)
        require_unused(key, uses_of(state, config))
        _remove(folder)
        note = _comes_back(key, config)
    except ModelError as exc:
        code, reason = WRONG_USE if exc.code == "M501" else REFUSED, f"{exc} ({exc.code})"
    if as_json:
        body = {"model": str(wanted), "removed": not code, "reason": reason, "note": note}
        say(json.dumps({"schema": SCHEMA, **body}))
    elif code:
        complain(reason)
    else:
        say(f"{wanted} removed{note}")
    return code


def _there(state: StateDir, key: Key) -> Path:
    folder = ModelRepository(state.models).folder(*key)
    if not folder.exists():
        raise ModelError(f"model {key[0]} {key[1]} is not in the repository", code="M501")
    return folder


def _require_ledger(state: StateDir) -> None:
    """Refuse to go on without knowing what judges (ModelError M616)."""
    try:
        damaged = read_history(state.model_ledger).damaged
    except OSError as exc:
        raise ModelError(f"nobody knows what judges: {exc}", code="M616") from exc
    if damaged:
        raise ModelError(
            f"nobody knows for sure what judges: {damaged} lines of {state.model_ledger} cannot be read",
            code="M616",
        )


def require_unused(key: Key, uses: Uses) -> None:
    """Refuse to remove what a pipeline runs or may have to go back to.

    Raises:
        ModelError: Somebody needs it (M616).
    """
    name = f"{key[0]}/{key[1]}"
    for where, why in (
        (uses.trial, "is on trial in {}"),
        (uses.active, "judges for {}; activate another version first"),
        (uses.shadow, "judges in shadow for {}"),
        (uses.spare, "answers for {} what another version would be too slow for"),
        (uses.standby, "is still loaded for {}, to go back to"),
        (uses.former, "is what {} would go back to if its model fails"),
        (uses.named, "is in the configuration: {}"),
    ):
        if key in where:
            raise ModelError(f"{name} {why.format(joined(where[key]))}", code="M616")
    if uses.is_silent:
        raise ModelError(
            "the server does not answer: what it has loaded is not known; try again", code="M616"
        )
    if key in uses.busy:
        raise ModelError(f"{name} cannot be removed now: {uses.busy[key]}", code="M616")


def _remove(folder: Path) -> None:
    """Let a version vanish at once, then delete its files."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
        folder.rename(scratch / folder.name)
        flush_directory(folder.parent)
        shutil.rmtree(scratch)
    except OSError as exc:
        raise ModelError(f"{folder} cannot be removed: {exc.strerror}", code="M514") from exc


def _comes_back(key: Key, config: Path | None) -> str:
    """Say that a start brings the version back, where it is delivered beside the configuration."""
    loaded = None if config is None else load(config).config
    delivered = None if loaded is None else loaded.models.folder
    if delivered is None or not (delivered / key[0] / str(key[1])).exists():
        return ""
    return f"; a start brings it back from {delivered}: remove it there too"
