"""Writes a model package: model, manifest, reference samples and profile, proven before anybody gets it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.core.ports import Backend
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.features.judgement import Judge
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.loaded import Floats, ModelBinding
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import ServedModel, prove, require_match
from edge_opcua.inference.repository import MANIFEST_FILE, MODEL_FILE, ModelFiles, verify
from edge_opcua.inference.watch.profile import make_profile
from edge_opcua.plugins import BACKENDS, InstalledPlugins
from edge_opcua.training.card import ModelCard
from edge_opcua.training.graph import graph_bytes
from edge_opcua.training.manifesttext import manifest_text
from edge_opcua.training.preparation import Preparation
from edge_opcua.training.windows import Windows

Answers = Callable[[Floats], Mapping[str, npt.ArrayLike]]
"""What the notebook's model answers to features, shape ``(n, k)``: by role, such as ``probabilities``."""

GOLDEN_FILE: Final = "golden.npz"
PROFILE_FILE: Final = "profile.npz"


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was written.

    Args:
        folder: Where, ``<folder>/<name>/<version>``; what ``edge-opcua model add`` takes.
        manifest: Its manifest.
        samples: Reference samples on which the exported model answered as the notebook's did.
    """

    folder: Path
    manifest: Manifest
    samples: int


def export(
    folder: Path | str,
    preparation: Preparation,
    model: Any,
    card: ModelCard,
    *,
    golden: Windows,
    answers: Answers,
    healthy: Windows | None = None,
) -> Package:
    """Write a model package, and prove that a server will answer as the notebook does.

    The exported model is loaded as a server loads it, is fed with what a server makes of the golden windows,
    and has to answer what ``answers`` says. Nothing is written if it does not.

    Args:
        folder: Where ``<name>/<version>/`` is made.
        preparation: What makes the features, fitted.
        model: The trained model as ONNX: an ``onnx.ModelProto``, bytes, or the path of a file. Outputs that
            the card does not name are taken off.
        card: What is told of it.
        golden: Some windows of every kind, a dozen are enough; they travel with the model.
        answers: The model as it was trained, not the exported one.
        healthy: Windows to watch for drift against, in the order of time, at least 30; best those that the
            model was not fitted on. None: nothing to watch against.

    Returns:
        What was written.

    Raises:
        ModelError: The version is there already (M609), the windows or the answers do not fit (M605), the
            exported model answers differently (M606), a package is not installed (M607), or a server would
            refuse it (its code).
    """
    target = Path(folder) / card.name / str(card.version)
    if target.exists():
        raise ModelError(f"{target} is there already: write version {card.version + 1}", code="M609")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as scratch:
        draft = _Draft(Path(scratch) / "version", preparation, card)
        draft.write(model, golden, answers, healthy)
        manifest, samples = draft.prove()
        draft.folder.rename(target)
    return Package(target, manifest, samples)


class _Draft:
    """A package that is being written.

    Args:
        folder: Where.
        preparation: What makes the features.
        card: What is told of it.
    """

    def __init__(self, folder: Path, preparation: Preparation, card: ModelCard) -> None:
        self.folder = folder
        self._preparation = preparation
        self._card = card

    def write(self, model: Any, golden: Windows, answers: Answers, healthy: Windows | None) -> None:
        """Write all files."""
        card, preparation = self._card, self._preparation
        outputs = self._judge().outputs
        image, input_name = graph_bytes(model, [output.name for output in outputs])
        self.folder.mkdir()
        (self.folder / MODEL_FILE).write_bytes(image)
        self._write_golden(golden, answers)
        files: dict[str, Any] = {"golden": {"file": GOLDEN_FILE, "rtol": card.rtol, "atol": card.atol}}
        sha256 = hashlib.sha256(image).hexdigest()

        def describe() -> None:
            text = manifest_text(card, preparation, sha256=sha256, input_name=input_name, files=files)
            (self.folder / MANIFEST_FILE).write_text(text, "utf-8")

        describe()
        if healthy is not None:
            digest = self._write_profile(healthy)
            files["profile"] = {"file": PROFILE_FILE, "sha256": digest}
            describe()

    def prove(self) -> tuple[Manifest, int]:
        """Do what a server does before it serves the model; return its manifest and the number of samples.

        Raises:
            ModelError: It answers differently (M606), or a server would refuse it.
        """
        files = self._files()
        extractor = extractor_of(files)
        require_match(files.manifest, extractor)
        try:
            return files.manifest, prove(self._served(files), files.golden, extractor)
        except ModelError as exc:
            if exc.code not in ("M512", "M622"):
                raise
            raise ModelError(f"the exported model is not the trained one: {exc}", code="M606") from exc

    def _judge(self) -> Judge:
        card, preparation = self._card, self._preparation
        named = zip(preparation.names, preparation.units, strict=True)
        features = [Feature(name, unit) for name, unit in named]
        return Judge(card.output, card.post, features=features, limit=card.limit)

    def _files(self) -> ModelFiles:
        return complete(verify(self.folder))

    def _served(self, files: ModelFiles) -> ServedModel:
        manifest = files.manifest
        try:
            backend: type[Backend] = InstalledPlugins().load(BACKENDS, "onnxruntime")
        except (ConfigError, ImportError) as exc:
            raise ModelError(
                'ONNX Runtime is not installed: pip install "edge-opcua[cpu,compress]"', code="M607"
            ) from exc
        shapes = {manifest.input_name: manifest.input_shape}
        loaded = backend.load(files.model, provider="cpu", input_shapes=shapes)
        return ServedModel(manifest, loaded, judge=lambda _: self._judge())

    def _rows(self, windows: Windows, what: str) -> Floats:
        rows = self._preparation.features(windows)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size or not len(rows):
            which = (
                f"window {int(bad[0]) + 1} of them has a feature that does not exist" if bad.size else "none"
            )
            raise ModelError(f"{what} windows: {which}", code="M605")
        return rows

    def _write_golden(self, golden: Windows, answers: Answers) -> None:
        rows = self._rows(golden, "golden")
        judge = self._judge()
        given = dict(answers(rows.copy()))
        arrays: dict[str, npt.NDArray[Any]] = {}
        for output in judge.outputs:
            if output.role not in given:
                raise ModelError(f'answers gives no "{output.role}", only {", ".join(given)}', code="M605")
            found = np.asarray(given.pop(output.role), np.float32)
            if found.size != len(rows) * output.size:
                wanted = (len(rows), output.size)
                raise ModelError(f"answers: {output.role} has shape {found.shape}, not {wanted}", code="M605")
            arrays[output.role] = found.reshape(len(rows), output.size)
        if given:
            raise ModelError(f'answers gives "{min(given)}", which [output] does not name', code="M605")
        answered = {output.name: arrays[output.role] for output in judge.outputs}
        verdicts = [
            int(judge.judge({name: array[number] for name, array in answered.items()}, row).verdict)
            for number, row in enumerate(rows)
        ]
        with (self.folder / GOLDEN_FILE).open("wb") as stream:
            np.savez_compressed(
                stream,
                waveform=golden.samples,
                context=golden.context,
                features=rows,
                verdict=np.array(verdicts, np.int64),
                **arrays,  # type: ignore[arg-type]  # its third parameter is allow_pickle
            )

    def _write_profile(self, healthy: Windows) -> str:
        rows = self._rows(healthy, "healthy")
        judge, one = self._judge(), self._served(self._files()).bind()
        scores, confidences = _judged(judge, one, rows)
        period_ms = getattr(self._preparation.source, "period_ms", None)
        try:
            profile = make_profile(
                rows,
                names=self._preparation.names,
                units=self._preparation.units,
                scores=scores,
                confidences=None
                if any(sure is None for sure in confidences)
                else np.array(confidences, float),
                interval_s=None if period_ms is None else period_ms / 1000.0,
            )
        except ValueError as exc:
            raise ModelError(f"healthy windows: {exc}", code="M605") from exc
        return profile.save(self.folder / PROFILE_FILE)


def _judged(judge: Judge, one: ModelBinding, rows: Floats) -> tuple[list[float], list[float | None]]:
    scores, confidences = [], []
    for row in rows:
        one.judge(row)
        judged = judge.judge(one.answer, row)
        scores.append(judged.score)
        confidences.append(judged.confidence)
    return scores, confidences
