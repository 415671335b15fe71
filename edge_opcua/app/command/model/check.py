"""``model add`` and ``model validate``: every check a lane makes, one after the other, in a process apart."""

from __future__ import annotations

import filecmp
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.card import age_days, time_text
from edge_opcua.app.command.model.draft import unfilled
from edge_opcua.app.command.model.facts import joined
from edge_opcua.app.command.model.names import parse_model_name
from edge_opcua.app.command.model.package import Handed, packaged
from edge_opcua.app.command.tell import ANSWER_IS_NO, REFUSED, WRONG_USE, complain, say
from edge_opcua.app.models.tryout import MODULE, Trial
from edge_opcua.config.loader import load
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.inference.apart import Step, ask_apart
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.repository import ModelRepository

SCHEMA: Final = "edge-opcua.model-trial/1"
SPARE_S: Final = 30.0
MADE_HERE: Final = "they show that its answers stay what they are here, not that they are right"
_FEW_SAMPLES: Final = 5
MUCH_SLOWER: Final = 3.0
_WIDTH: Final = 10
_STAGES: Final = {
    "M503": "files",
    "M506": "files",
    "M507": "files",
    "M508": "files",
    "M509": "files",
    "M585": "files",
    "M504": "inputs",
    "M511": "inputs",
    "M623": "inputs",
    "M624": "inputs",
    "M505": "outputs",
    "M620": "outputs",
    "M621": "outputs",
    "M512": "reference",
    "M513": "reference",
    "M622": "reference",
    "M580": "memory",
    "M581": "memory",
    "M613": "deadline",
    "M614": "version",
    "M615": "plant",
    "M617": "files",
}
"""Which check a refusal belongs to, for the column in front of it."""


@dataclass(frozen=True, slots=True)
class TryOptions:
    """How a model is tried.

    Args:
        config: The configuration it is held against; None: none.
        pipelines: Which of its pipelines; none: each that runs a model of this name.
        provider: Where it runs if no pipeline says it.
        timeout_s: Longest time to load and prove it.
        as_json: One JSON object instead of text.
    """

    config: Path | None = None
    pipelines: tuple[str, ...] = ()
    provider: str = "cpu"
    timeout_s: float = 60.0
    as_json: bool = False


@dataclass(slots=True)
class Told:
    """What has been found so far, and says it to a person as it comes.

    Args:
        is_quiet: Whether nothing is said: one JSON object follows.
    """

    is_quiet: bool
    checks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: dict[str, str] | None = None

    def step(self, step: Step) -> None:
        """Take what the process that tries the model has done."""
        if step["step"] == "pipeline":
            self.passed("pipeline", _pipeline_text(step["facts"]))
        else:
            self.passed(str(step["step"]), str(step["text"]))

    def passed(self, check: str, text: str) -> None:
        """Take a check that was passed."""
        self.checks.append({"check": check, "ok": True, "text": text})
        self._say("ok", check, text)

    def note(self, text: str) -> None:
        """Take what somebody should know."""
        self.notes.append(text)
        self._say("--", "note", text)

    def refuse(self, exc: ModelError) -> None:
        """Take why it cannot be served."""
        self.refused = {"code": exc.code, "text": str(exc)}
        check = _STAGES.get(exc.code, "run")
        self.checks.append({"check": check, "ok": False, "text": str(exc), "code": exc.code})
        self._say("NO", check, f"{exc} ({exc.code})")

    def _say(self, mark: str, check: str, text: str) -> None:
        if not self.is_quiet:
            say(printable(f"{mark}  {check:<{_WIDTH}}  {text}"))


def add(handed: Handed, state_dir: Path, options: TryOptions) -> int:
    """Try a model, and store it if it is fit.

    Returns:
        0; 1 if it is not fit, 2 if what was named is not there, 3 if the repository refuses it.
    """
    return _do(handed, state_dir, options, store=True)


def validate(handed: Handed, state_dir: Path, options: TryOptions) -> int:
    """Try a model as ``add`` does, and store nothing.

    Returns:
        0; 1 if it is not fit, or deadlines could not be promised with it; 2 if it is not there.
    """
    return _do(handed, state_dir, options, store=False)


def _do(handed: Handed, state_dir: Path, options: TryOptions, *, store: bool) -> int:
    told = Told(options.as_json)
    try:
        with packaged(handed, state_dir) as (folder, manifest):
            if handed.is_recorded:
                told.note(f"reference samples are made of {handed.golden}: {MADE_HERE}")
            return _work(folder, manifest, state_dir, options, told, store=store)
    except ModelError as exc:
        if not options.as_json:
            complain(printable(f"{exc} ({exc.code})"))
        else:
            told.refuse(exc)
            say(json.dumps({"schema": SCHEMA, "model": None, "fit": False, "stored": False, **_rows(told)}))
        return WRONG_USE


def _work(
    folder: Path, manifest: Manifest, state_dir: Path, options: TryOptions, told: Told, *, store: bool
) -> int:
    key, code = f"{manifest.name}/{manifest.version}", 0
    if not options.as_json:
        say(f"{key}  {manifest.description}".rstrip())
    measured: Step = {}
    stored = False
    try:
        _require_filled(manifest)
        if store:
            _require_new(folder, manifest, state_dir)
        measured = _tried(folder, manifest, state_dir, options, told)
        if store:
            stored = install(folder, state_dir)
        elif measured["broken"]:
            code = ANSWER_IS_NO
    except ModelError as exc:
        told.refuse(exc)
        code = REFUSED if exc.code in {"M503", "M514", "M614"} else ANSWER_IS_NO
    if options.as_json:
        fit = told.refused is None
        found = {"model": key, "sha256": manifest.sha256, "fit": fit, "stored": stored, "measured": measured}
        say(json.dumps({"schema": SCHEMA, **found, **_rows(told)}))
    else:
        say(_outcome(key, told, state_option(state_dir), store=store, stored=stored))
    return code


def _outcome(key: str, told: Told, option: str, *, store: bool, stored: bool) -> str:
    if told.refused is not None:
        help_line = f"\nhelp: edge-opcua explain {told.refused['code']}"
        return f"{key} is not fit{'; nothing was added' if store else ''}{help_line}"
    if not store:
        return f"{key} is fit; nothing was changed"
    done = "added" if stored else "was there already, with the same files"
    return f"{key} {done}; it judges from: edge-opcua model activate {key}{option}"


def _rows(told: Told) -> dict[str, Any]:
    return {"checks": told.checks, "refused": told.refused, "notes": told.notes}


def _tried(folder: Path, manifest: Manifest, state_dir: Path, options: TryOptions, told: Told) -> Step:
    """Try the model in a process apart, and tell what somebody should know besides."""
    pipelines = _pipelines(manifest, options, told)
    trial = Trial(
        folder, options.config, pipelines, options.provider, load_s=options.timeout_s, state=state_dir
    )
    within_s = options.timeout_s * max(1, len(pipelines)) + SPARE_S
    measured = ask_apart(MODULE, trial.as_json(), within_s=within_s, progress=told.step)
    if measured["alone"] is not None:
        told.passed("speed", _speed_text(measured["alone"]))
    for pipeline, why in measured["broken"].items():
        told.note(f"with it the deadline of {pipeline} cannot be promised any more: {why} (M590)")
    slower = slower_here(manifest, measured)
    for text in (*notes_on(manifest, _samples(measured), SystemClock()), *([slower] if slower else [])):
        told.note(text)
    return measured


def _pipelines(manifest: Manifest, options: TryOptions, told: Told) -> tuple[str, ...]:
    """Return the pipelines the model is held against."""
    if options.config is None:
        told.note("held against no plant: name the configuration with -c")
        return ()
    loaded = load(options.config)
    if loaded.config is None:
        raise ModelError(f"{options.config} cannot be used: edge-opcua check {options.config}", code="M615")
    known = {each.name: each.model for each in loaded.config.pipelines}
    for name in options.pipelines:
        if name not in known:
            raise ModelError(
                f"{options.config} has no pipeline {name}; it has {', '.join(known)}", code="M615"
            )
    chosen = options.pipelines or tuple(name for name, model in known.items() if model == manifest.name)
    if not chosen:
        told.note(f'no pipeline of {options.config} has model = "{manifest.name}": held against no plant')
    return chosen


def notes_on(manifest: Manifest, samples: int, clock: Clock) -> list[str]:
    """Return what is allowed, but worth to be known.

    Args:
        manifest: What the model promises.
        samples: Reference samples it was proven on.
        clock: For its age.
    """
    notes = []
    if samples < _FEW_SAMPLES:
        notes.append(f"only {samples} reference samples: they prove little")
    if manifest.age is None:
        notes.append("its manifest has no [age]: nobody will notice when it has become old")
    else:
        days = age_days(manifest.age.trained_ns, clock.utc_ns())
        if days > manifest.age.max_days:
            most = f"{manifest.age.max_days:g}; then = {manifest.age.then}"
            notes.append(f"it is {days:.0f} days old, more than its {most}")
    if manifest.profile is None:
        notes.append("its manifest has no [profile]: drift of its inputs cannot be noticed")
    limits = [(each.low, each.high) for each in manifest.features]
    limits += [(each.low, each.high) for each in manifest.tags]
    limited = any(math.isfinite(low) or math.isfinite(high) for low, high in limits)
    if manifest.features and not limited:
        notes.append(
            "no feature or tag has low or high: it judges whatever comes, also what it was never trained on"
        )
    if manifest.signature:
        notes.append("its signature is not verified")
    return notes


def slower_here(manifest: Manifest, measured: Step) -> str:
    """Return that runs take much longer here than where the manifest was measured; empty if not."""
    known = manifest.device.get("p99_us")
    rows = [measured["alone"]] if measured["alone"] is not None else measured["pipelines"]
    found = max(float(row["p99_us"]) for row in rows)
    if isinstance(known, bool) or not isinstance(known, int | float) or found <= MUCH_SLOWER * known:
        return ""
    there = f"{time_text(float(known))} on {manifest.device.get('machine', 'another machine')}"
    return f"a run takes {time_text(found)} here (p99), {there}"


def _samples(measured: Step) -> int:
    if measured["alone"] is not None:
        return int(measured["alone"]["samples"])
    return min(int(row["samples"]) for row in measured["pipelines"])


def _pipeline_text(facts: Mapping[str, Any]) -> str:
    taken_us = float(facts["features_us"]) + float(facts["p99_us"])
    share = taken_us / 1e3 / float(facts["deadline_ms"])
    used = f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
    return (
        f"{facts['pipeline']}: inputs and units fit; {facts['samples']} reference samples agree; "
        f"{time_text(taken_us)} of {facts['deadline_ms']:g} ms ({used}) on "
        f"{str(facts['provider']).removesuffix('ExecutionProvider')}; {facts['memory_mb']:.0f} MB"
    )


def _speed_text(facts: Mapping[str, Any]) -> str:
    return (
        f"p50 {time_text(float(facts['p50_us']))}, p99 {time_text(float(facts['p99_us']))}, features "
        f"{time_text(float(facts['features_us']))}; {facts['memory_mb']:.0f} MB"
    )


def _require_filled(manifest: Manifest) -> None:
    """Refuse a draft that somebody has not looked through (ModelError M617)."""
    if places := unfilled(manifest):
        raise ModelError(f"its manifest is a draft; not filled in: {joined(places, 8)}", code="M617")


def _require_new(folder: Path, manifest: Manifest, state_dir: Path) -> None:
    """Refuse another model under a number that is taken: a version never changes (ModelError M614)."""
    repository = ModelRepository(StateDir(state_dir).models)
    there = repository.folder(manifest.name, manifest.version)
    if not there.exists():
        return
    try:
        same = all(filecmp.cmp(path, there / path.name, shallow=False) for path in folder.iterdir())
    except OSError:
        same = False
    if not same:
        following = 1 + max(version for name, version in repository.versions() if name == manifest.name)
        raise ModelError(
            f"{manifest.name}/{manifest.version} is in the repository with other files, and a version never "
            f"changes: give it version = {following} in its manifest",
            code="M614",
        )


def install(folder: Path, state_dir: Path) -> bool:
    """Store a package that was tried; return whether it is new.

    Raises:
        ModelError: The version is there with another model (M503), or cannot be written (M514).
    """
    state = StateDir(state_dir)
    try:
        state.create()
    except ConfigError as exc:
        raise ModelError(str(exc), code="M514") from exc
    repository = ModelRepository(state.models)
    before = set(repository.versions())
    files = repository.install(folder)
    _give_to_owner(files.folder, state_dir)
    return (files.manifest.name, files.manifest.version) not in before


def _give_to_owner(folder: Path, state_dir: Path) -> None:
    """Let the files belong to whom the state directory belongs, also if root has added them."""
    if os.geteuid() != 0:
        return
    owner = state_dir.stat()
    for path in (folder.parent.parent, folder.parent, folder, *folder.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def in_repository(target: str) -> bool:
    """Return whether somebody names a version of the repository, not a file or folder."""
    return parse_model_name(target) is not None and not Path(target).exists()
