"""A version that is being written: the files of a variant in one folder, as the repository takes them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.app.command.model.inspection import sha256_of
from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.variant import ORIGINAL, Family
from edge_opcua.compress.version.answering import (
    Answered,
    answers_to,
    reference_of,
    tolerance,
    write_reference,
)
from edge_opcua.compress.version.manifest import REPORT_FILE, Identity, manifest_of
from edge_opcua.compress.version.profile import MOST_ROWS, moved_profile
from edge_opcua.errors import ModelError
from edge_opcua.inference.golden import Samples
from edge_opcua.inference.onnxfile import inspect_file
from edge_opcua.inference.repository import MANIFEST_FILE, MODEL_FILE, ModelFiles
from edge_opcua.inference.watch.profile import load_profile

_COARSE: Final[frozenset[Family]] = frozenset({"int8-static", "int8-dynamic", "fp16", "mixed", "qat"})
"""Families that compute in fewer bits than what they were made of."""


class Drafts:
    """Writes versions of one package.

    Args:
        report: What came of the search.
        source: The package of the original, its features listed.
        work: Folder of the search, with the files of the variants.
        rows: Samples to tell from how scores differ, shape ``(n, …)``.
    """

    def __init__(self, report: Report, source: ModelFiles, work: Path, rows: Rows) -> None:
        self._report = report
        self._source = source
        self._work = work
        evenly = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)
        self._rows = rows[evenly]
        self._text = report.text()
        self._tables: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}

    @property
    def provider(self) -> str:
        """Where the variants run."""
        return self._report.device.provider

    @cached_property
    def _samples(self) -> Samples:
        return reference_of(self._source)

    @cached_property
    def _original(self) -> Answered:
        """What the original says of the samples."""
        return self._answers(self._source.model, self._rows)

    def write(self, row: Row, folder: Path) -> None:
        """Write all files of a variant but the manifest, which needs to know its version.

        Raises:
            ModelError: Its file is not the one that was measured (M695), or it cannot be run.
        """
        folder.mkdir(parents=True)
        model = folder / MODEL_FILE
        shutil.copyfile(self.file_of(row), model)
        if sha256_of(model) != row.sha256:
            raise ModelError(f"{self.file_of(row)} is not the file that was measured", code="M695")
        if outside := inspect_file(model).external:
            raise ModelError(f"{row.name} keeps weights in other files: {min(outside)}", code="M695")
        (folder / REPORT_FILE).write_text(self._text, "utf-8")
        self._tables[row.name] = (self._write_reference(row, folder), self._write_profile(folder))

    def describe(self, who: Identity, folder: Path, siblings: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the manifest of a variant whose other files are there."""
        golden, profile = self._tables[who.row.name]
        text = manifest_of(
            (self._source.folder / MANIFEST_FILE).read_text("utf-8"),
            who,
            self._report,
            report_sha256=hashlib.sha256(self._text.encode()).hexdigest(),
            golden=golden,
            profile=profile,
            siblings=siblings,
        )
        (folder / MANIFEST_FILE).write_text(text, "utf-8")

    def file_of(self, row: Row) -> Path:
        """Return the file of a variant.

        Raises:
            ModelError: It is not in the folder of the search any more (M695).
        """
        path = self._work / row.file
        if not row.file or not path.is_file():
            raise ModelError(f"the file of {row.name} is not in {self._work} any more", code="M695")
        return path

    def _answers(self, model: Path, rows: Rows) -> Answered:
        return answers_to(model, self._source.manifest, rows, provider=self.provider)

    def _write_reference(self, row: Row, folder: Path) -> dict[str, Any]:
        golden = self._source.manifest.golden
        features = self._samples["features"]
        own = self._answers(folder / MODEL_FILE, features)
        write_reference(folder / golden.file, self._samples, own)
        table = {"file": golden.file, "rtol": golden.rtol, "atol": golden.atol}
        if row.variant.family in _COARSE:
            fine = self._answers(self._finer(row), features)
            table["answer_atol"] = tolerance(own, fine, golden.of_answers.atol)
        elif golden.answer_atol is not None:
            table["answer_atol"] = golden.answer_atol
        return table

    def _finer(self, row: Row) -> Path:
        """Return the model that a coarse one was made of, which is not coarse itself."""
        known = {each.name: each for each in self._report.rows}
        parent = row.variant.parent
        while parent != ORIGINAL and parent in known and known[parent].variant.family in _COARSE:
            parent = known[parent].variant.parent
        return self.file_of(known[parent]) if parent in known and parent != ORIGINAL else self._source.model

    def _write_profile(self, folder: Path) -> dict[str, Any] | None:
        manifest = self._source.manifest
        if manifest.profile is None:
            return None
        path = self._source.folder / manifest.profile.file
        profile = load_profile(path, manifest.names, sha256=manifest.profile.sha256)
        own = self._answers(folder / MODEL_FILE, self._rows)
        found = moved_profile(profile, self._original, own)
        return {"file": manifest.profile.file, "sha256": found.save(folder / manifest.profile.file)}
