"""The repository: the chosen variant of a package and its siblings become versions, proven like any other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.check import SPARE_S, install
from edge_opcua.app.command.model.inspection import locate
from edge_opcua.app.models.tryout import MODULE, Trial
from edge_opcua.app.serving.extractors import complete
from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.version.draft import Drafts
from edge_opcua.compress.version.manifest import Identity, sibling_table
from edge_opcua.compress.version.siblings import worth_keeping
from edge_opcua.core.statedir import StateDir, state_option
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import ask_apart
from edge_opcua.inference.manifest import Manifest, load_manifest
from edge_opcua.inference.repository import MANIFEST_FILE, ModelFiles, ModelRepository

LOAD_S: Final = 60.0
"""Longest time to load a version while it is tried."""


@dataclass(frozen=True, slots=True)
class Added:
    """A variant as a version of the repository.

    Args:
        variant: Name of the variant.
        name: Name of the model.
        version: Its version.
        is_chosen: Whether it is the one to use.
        is_new: Whether it was not there before.
    """

    variant: str
    name: str
    version: int
    is_chosen: bool
    is_new: bool

    @property
    def key(self) -> str:
        """``<name>/<version>``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Addition:
    """What came into the repository.

    Args:
        added: The chosen variant, and after it its siblings.
        refused: Why other siblings are no versions, by variant.
    """

    added: tuple[Added, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def add_to_repository(
    report: Report, source: ModelFiles | None, work: Path, rows: Rows, state_dir: Path
) -> Addition:
    """Store the chosen variant of a package, and its siblings, as the next versions of its model.

    Each gets reference samples with its own answers, a profile with its own scores and the whole report, and
    is tried in a process of its own as ``edge-opcua model add`` does. A variant that is there already stays.

    Args:
        report: What came of the search.
        source: The package of the original; None if it was only a file.
        work: Folder of the search, with the files of the variants.
        rows: Samples to tell from how the scores of the original and of a variant differ, shape ``(n, …)``.
        state_dir: Whose repository.

    Raises:
        ModelError: There is no package, it was made smaller itself, or nothing was chosen (M693); a file is
            not the one that was measured (M695); the chosen variant cannot be served (its code), or the
            repository not be written (M514).
    """
    if source is None:
        raise _no_manifest(report.original.name)
    _require_original(source.manifest)
    keep, source = worth_keeping(report), complete(source)
    if source.manifest.sha256 != report.original.sha256:
        raise ModelError(f"{source.model} is not the model that the report is about", code="M695")
    drafts = Drafts(report, source, work, rows)
    family = _Family(ModelRepository(StateDir(state_dir).models), source)
    before = {row.name for row in keep if row.sha256 in family.versions}
    with tempfile.TemporaryDirectory(prefix=".versions-", dir=work) as scratch:
        refused = _tried([row for row in keep if row.name not in before], drafts, family, Path(scratch))
        kept = [family.identity(row, drafts) for row in keep if row.name not in refused]
        for who in kept:
            if who.row.name not in before:
                folder = Path(scratch) / who.row.name
                drafts.describe(who, folder, {o.row.name: sibling_table(o) for o in kept if o is not who})
                install(folder, state_dir)
    added = (
        Added(who.row.name, who.name, who.version, who.row.is_chosen, who.row.name not in before)
        for who in kept
    )
    return Addition(tuple(added), refused)


def require_package(model: Path | str, state_dir: Path) -> None:
    """Refuse to look for a variant that could not be stored.

    Raises:
        ModelError: There is no manifest beside the model, or it was made smaller itself (M693); or there is
            no such model (M501, M507).
    """
    path, manifest = locate(str(model), state_dir)
    if manifest is None:
        raise _no_manifest(path.name)
    _require_original(load_manifest(manifest))


def _require_original(manifest: Manifest) -> None:
    """Refuse to make a version of what was made smaller itself: one loss upon the other was never proved."""
    if manifest.compressed is not None:
        made_of = manifest.compression.get("of", "another model")
        raise ModelError(
            f"{manifest.name}/{manifest.version} was made of {made_of}; compress that: what is lost is held "
            "against the original",
            code="M693",
        )


def _no_manifest(name: str) -> ModelError:
    return ModelError(
        f"{name} has no manifest: nobody knows what it is fed with and what it means. edge-opcua model map "
        "drafts one; store it with edge-opcua model add, and compress NAME/VERSION",
        code="M693",
    )


def addition_text(addition: Addition, state_dir: Path) -> list[str]:
    """Return what came into the repository, and what to do next, a line each."""
    lines = []
    for each in addition.added:
        done = "added" if each.is_new else "was there already"
        what = "" if each.is_chosen else "; it may answer where time is short"
        lines.append(f"{each.key} ({each.variant}) {done}{what}")
    lines += [printable(f"{name} is no version: {why}") for name, why in addition.refused.items()]
    chosen = next(each for each in addition.added if each.is_chosen)
    lines.append(f"it judges from: edge-opcua model activate {chosen.key}{state_option(state_dir)}")
    return lines


class _Family:
    """The versions of a model that were made of the same original, and the numbers of those to come.

    Args:
        repository: Where they are.
        source: The original.

    Attributes:
        versions: By SHA-256 of the model, those to come among them.
    """

    def __init__(self, repository: ModelRepository, source: ModelFiles) -> None:
        self._name = source.manifest.name
        numbers = [version for name, version in repository.versions() if name == self._name]
        self._next = 1 + max([source.manifest.version, *numbers])
        self.versions: dict[str, int] = {}
        for number in numbers:
            try:
                manifest = load_manifest(repository.folder(self._name, number) / MANIFEST_FILE)
            except ModelError:  # model list says what is wrong with it; it is nobody's relative
                continue
            known = manifest.compressed
            if known is not None and known.of_sha256 == source.manifest.sha256:
                self.versions[manifest.sha256] = number

    def identity(self, row: Row, drafts: Drafts) -> Identity:
        """Return which version a variant is, or becomes."""
        if row.sha256 not in self.versions:
            self.versions[row.sha256] = self._next
            self._next += 1
        return Identity(self._name, self.versions[row.sha256], row, drafts.file_of(row))

    def likely(self, row: Row, drafts: Drafts) -> Identity:
        """Return a variant with a number that only serves to try it."""
        return Identity(self._name, self._next, row, drafts.file_of(row))


def _tried(rows: Sequence[Row], drafts: Drafts, family: _Family, scratch: Path) -> dict[str, str]:
    """Write some variants and try each as a lane would; return why siblings cannot be served.

    Raises:
        ModelError: The chosen one cannot.
    """
    refused = {}
    for row in rows:
        folder = scratch / row.name
        try:
            drafts.write(row, folder)
            drafts.describe(family.likely(row, drafts), folder, {})
            trial = Trial(folder, provider=drafts.provider, load_s=LOAD_S)
            ask_apart(MODULE, trial.as_json(), within_s=LOAD_S + SPARE_S)
        except ModelError as exc:
            if row.is_chosen:
                raise
            refused[row.name] = f"{exc} ({exc.code})"
    return refused
