"""The versions of models as OPC UA clients see them: from the repository, the ledger, and what runs now."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Standing, Step
from edge_opcua.inference.ledgerfile import History, read_history
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.opcua.models import ModelInfo

__all__ = ["ModelView", "plain_facts"]

Key = tuple[str, int]
Files = tuple[tuple[str, int, int, int, int], ...]

MOST_FACTS: Final = 50
MOST_LETTERS: Final = 1000
MOST_NAME: Final = 100
_TOO_LARGE: Final = 1 << 63

_log = structlog.get_logger(__name__)


class ModelView:
    """The versions in the repository of one state directory; all of it reads files.

    A version is verified when it is first seen and whenever a file of it has changed: hashing models and
    looking through their graphs at every step of a job would cost the lanes their processor.

    Args:
        state: The state directory.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._repository = ModelRepository(state.models)
        self._known: dict[Key, tuple[Files, ModelInfo]] = {}

    def shown(
        self, config: EdgeConfig, *, shadow: Collection[Key] = (), standby: Collection[Key] = ()
    ) -> list[ModelInfo]:
        """Return the versions as a client sees them now.

        Args:
            config: Which pipelines there are.
            shadow: Versions that judge beside the active one now.
            standby: Versions that were relieved and are still loaded.
        """
        keys = self._repository.versions()
        self._known = {key: self._look_at(key) for key in keys}
        judging = _judging(self._state, config)
        history = _history(self._state)
        failures = _failures(history)
        found = []
        for key, (_, info) in self._known.items():
            if info.state != "Failed":
                word, reason = _state(key, history, judging, failures, shadow, standby)
                info = replace(info, state=word, reason=reason)
            found.append(replace(info, pipelines=judging.get(key, ())))
        return found

    def _look_at(self, key: Key) -> tuple[Files, ModelInfo]:
        files = _files_of(self._repository.folder(*key))
        known = self._known.get(key)
        if known is not None and known[0] == files:
            return known
        try:
            return files, _described(self._repository.resolve(*key).manifest)
        except ModelError as exc:
            return files, ModelInfo(*key, "", "Failed", reason=f"{exc.code}: {exc}")


def plain_facts(table: Mapping[str, Any]) -> dict[str, float | int | str]:
    """Return what of a table of a manifest fits in variables: numbers, and texts of the rest.

    Args:
        table: As it was read; tables in it, and what is beyond 50 keys, are left out.
    """
    rows = [(_line(name, MOST_NAME), _plain(value)) for name, value in list(table.items())[:MOST_FACTS]]
    return {name: value for name, value in rows if name and value is not None}


def _plain(value: object) -> float | int | str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < _TOO_LARGE):
        return value
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, list):
        return _line(", ".join(str(each) for each in value), MOST_LETTERS)
    return _line(str(value), MOST_LETTERS) if isinstance(value, int | str) else None


def _line(text: str, most: int) -> str:
    """Return what a stranger wrote as one line that moves no cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])


def _files_of(folder: Path) -> Files:
    """Return what tells whether a file of a version has changed: which there are, their size and times."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            fact = path.lstat()
        except FileNotFoundError:  # it is being removed
            continue
        found.append((str(path), fact.st_ino, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns))
    return tuple(found)


def _history(state: StateDir) -> History:
    """Return the ledger; what cannot be read tells nothing, and the supervisor has said so."""
    try:
        return read_history(state.model_ledger)
    except OSError as exc:
        _log.warning("models.ledger_unreadable", file=str(state.model_ledger), error=str(exc))
        return History((), Standing(), 0)


def _judging(state: StateDir, config: EdgeConfig) -> dict[Key, tuple[str, ...]]:
    """Return which pipelines each version judges for."""
    active = ActiveModels(state, config)
    found: dict[Key, tuple[str, ...]] = {}
    for pipeline in config.pipelines:
        choice = active.choice(pipeline.name)
        key = (choice.name, choice.version)
        found[key] = (*found.get(key, ()), pipeline.name)
    return found


def _failures(history: History) -> dict[Key, str]:
    """Return why the last change to a version failed, of those whose last change did."""
    found: dict[Key, str] = {}
    for entry in history.entries:
        key = (entry.model.name, entry.model.version)
        if entry.step is Step.FAILED:
            found[key] = entry.why
        elif entry.step in (Step.ACTIVE, Step.CONFIRMED, Step.RELEASED):
            found.pop(key, None)
    return found


def _state(
    key: Key,
    history: History,
    judging: Mapping[Key, tuple[str, ...]],
    failures: Mapping[Key, str],
    shadow: Collection[Key],
    standby: Collection[Key],
) -> tuple[str, str]:
    """Return the state of a version, and why."""
    failed = f"the last change to it failed: {failures[key]}" if failures.get(key) else ""
    if key in judging:
        trials = {name for names in history.standing.trials.values() for name in names}
        return "Active", "on trial" if trials & set(judging[key]) else ""
    if key in shadow:
        return "Shadow", ""
    quarantine = history.standing.quarantined.get(key)
    if quarantine is not None:
        return "Quarantined", quarantine.why
    if key in standby:
        return "Standby", failed
    return "Available", failed


def _described(manifest: Manifest) -> ModelInfo:
    """Return what a manifest says that clients see."""
    age = manifest.age
    ages = age is not None and math.isfinite(age.max_days)
    return ModelInfo(
        manifest.name,
        manifest.version,
        manifest.sha256,
        features=manifest.names,
        proof=plain_facts(manifest.proof),
        trained_ns=0 if age is None else age.trained_ns,
        max_age_days=age.max_days if age is not None and ages else 0.0,
        when_old=age.then if age is not None and ages else "",
        precision=_line(str(manifest.compression.get("precision", "")), MOST_NAME),
        provenance=plain_facts(manifest.provenance),
    )
