"""What becomes of each version of the repository, put together from its files, the ledger and who runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.console import server_answers
from edge_opcua.app.models.active import ActiveModels, read_standing
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_good
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Standing, Step
from edge_opcua.inference.lifecycle import ENDED
from edge_opcua.inference.manifest import Manifest, load_manifest
from edge_opcua.inference.onnxcard import OnnxCard, read_card
from edge_opcua.inference.repository import MANIFEST_FILE, MODEL_FILE, ModelRepository, verify

Key = tuple[str, int]

ANSWER_S: Final = 5.0
_ENDED: Final = frozenset(state.value for state in ENDED)


@dataclass(slots=True)
class Uses:
    """Who needs which version.

    Args:
        active: Pipelines each version judges for, or would at the next start.
        former: Pipelines that can go back to it.
        trial: Pipelines in which it is on trial.
        standby: Pipelines for which it is still loaded.
        shadow: Pipelines in which it judges unseen.
        spare: Pipelines in which it answers what another version would be too slow for.
        named: Where the configuration names it besides.
        quarantined: Why a version is not started any more.
        busy: What is being done with it.
        is_running: Whether the server runs.
        is_silent: Whether it runs and does not answer: what is loaded is not known.
    """

    active: dict[Key, list[str]] = field(default_factory=dict)
    former: dict[Key, list[str]] = field(default_factory=dict)
    trial: dict[Key, list[str]] = field(default_factory=dict)
    standby: dict[Key, list[str]] = field(default_factory=dict)
    shadow: dict[Key, list[str]] = field(default_factory=dict)
    spare: dict[Key, list[str]] = field(default_factory=dict)
    named: dict[Key, list[str]] = field(default_factory=dict)
    quarantined: dict[Key, str] = field(default_factory=dict)
    busy: dict[Key, str] = field(default_factory=dict)
    is_running: bool = False
    is_silent: bool = False

    def state_of(self, key: Key) -> str:
        """Return the state of a version in one word, the most important one."""
        for word, where in (
            ("on trial", self.trial),
            ("active", self.active),
            ("shadow", self.shadow),
            ("quarantined", self.quarantined),
            ("spare", self.spare),
            ("standby", self.standby),
            ("former", self.former),
        ):
            if key in where:
                return word
        return "available"

    def places_of(self, key: Key) -> list[str]:
        """Return the pipelines that its state is about."""
        for where in (self.trial, self.active, self.shadow, self.spare, self.standby, self.former):
            if key in where:
                return where[key]
        return []


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version.

    Args:
        key: Name and version.
        manifest: Its manifest; None if it cannot be read.
        card: What its file says of itself; None if it cannot be read.
        size_bytes: All its files.
        added_ns: When it came into the repository, ns UTC.
        fault: Why it cannot be used; empty if it can.
    """

    key: Key
    manifest: Manifest | None
    card: OnnxCard | None
    size_bytes: int
    added_ns: int
    fault: str


def versions_in(state: StateDir, name: str | None = None, version: int | None = None) -> list[VersionFacts]:
    """Return the versions in a repository; files of each are read and held against their hashes."""
    repository = ModelRepository(state.models)
    return [
        _facts(repository, key)
        for key in repository.versions()
        if name in (None, key[0]) and version in (None, key[1])
    ]


def _facts(repository: ModelRepository, key: Key) -> VersionFacts:
    folder = repository.folder(*key)
    fault, manifest, card = "", None, None
    try:
        manifest = load_manifest(folder / MANIFEST_FILE)
        card = read_card(folder / MODEL_FILE)
        verify(folder)
    except ModelError as exc:
        fault = f"{exc} ({exc.code})"
    sizes = [path.lstat().st_size for path in folder.iterdir()] if folder.is_dir() else []
    added_ns = folder.stat().st_mtime_ns if folder.exists() else 0
    return VersionFacts(key, manifest, card, sum(sizes), added_ns, fault)


def uses_of(state: StateDir, config_file: Path | None) -> Uses:
    """Return who needs which version, whether the server runs or not.

    Args:
        state: Its state directory.
        config_file: The configuration; None: only what the ledger and the server say is known.
    """
    uses = Uses()
    standing = read_standing(state)
    config = None if config_file is None else load(config_file).config
    _take_standing(uses, standing)
    _take_active(uses, standing, state, config)
    _take_server(uses, asyncio.run(_status(state)))
    return uses


def _take_standing(uses: Uses, standing: Standing) -> None:
    for name in standing.pipelines:
        for choice in standing.ways_back(name):
            _add(uses.former, (choice.name, choice.version), name)
    for names in standing.trials.values():
        for name in names:
            tried = standing.of(name).active
            if tried is not None:
                _add(uses.trial, (tried.name, tried.version), name)
    for key, entry in standing.quarantined.items():
        uses.quarantined[key] = entry.why or "quarantined"
    for entry in standing.open.values():
        what = "is ordered for the next start" if entry.step is Step.ORDERED else f"is {entry.step.value}"
        uses.busy[entry.model.name, entry.model.version] = f"a change to it {what}"


def _take_active(uses: Uses, standing: Standing, state: StateDir, config: EdgeConfig | None) -> None:
    if config is None:
        for name, stand in standing.pipelines.items():
            if stand.active is not None:
                _add(uses.active, (stand.active.name, stand.active.version), name)
        return
    active = ActiveModels(state, config)
    for pipeline in config.pipelines:
        choice = active.choice(pipeline.name)
        _add(uses.active, (choice.name, choice.version), pipeline.name)
        _add(uses.named, (pipeline.model, pipeline.version), f"version of {pipeline.name}")
        if isinstance(pipeline.cheaper_version, int):
            _add(
                uses.named, (pipeline.model, pipeline.cheaper_version), f"cheaper_version of {pipeline.name}"
            )


def running_config(state: StateDir) -> Path | None:
    """Return the configuration of the server that runs; None if none runs, or its file is not here."""
    status = asyncio.run(_status(state))
    file = Path(str((status or {}).get("config", "")))
    return file if file.is_file() else None


async def _status(state: StateDir) -> Mapping[str, Any] | None:
    """Return what the server says; None if none runs, nothing if it does not answer."""
    if not server_answers(state.control_socket):
        return None
    reply = await ask(state.control_socket, "supervisor", "status", {}, timeout_s=ANSWER_S)
    return reply.body if is_good(reply.status) else {}


def _take_server(uses: Uses, status: Mapping[str, Any] | None) -> None:
    """Take what the server says: it knows what is loaded."""
    if status is None:
        return
    uses.is_running, uses.is_silent = True, not status
    for row in status.get("pipelines", ()):
        name = str(row["pipeline"])
        for word, where in (("model", uses.active), ("standby", uses.standby), ("shadow", uses.shadow)):
            key = _key(row.get(word))
            if key is not None:
                _add(where, key, name)
        spare = (row.get("facts") or {}).get("cheaper_version")
        judging = _key(row.get("model"))
        if judging is not None and isinstance(spare, int) and spare:
            _add(uses.spare, (judging[0], spare), name)
    job = status.get("last_job") or {}
    if job and job.get("state") not in _ENDED:
        uses.busy[str(job["name"]), int(job["version"])] = f"{job['job']} is under way: {job['state']}"


def _key(row: object) -> Key | None:
    match row:
        case {"name": str(name), "version": int(version)}:
            return name, version
    return None


def _add(where: dict[Key, list[str]], key: Key, name: str) -> None:
    names = where.setdefault(key, [])
    if name not in names:
        names.append(name)


def joined(names: Iterable[str], most: int = 4) -> str:
    """Return some names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
