"""The model that is to be made smaller: an ONNX file, or a package whose manifest says what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_opcua.app.command.model.inspection import locate, sha256_of
from edge_opcua.app.serving.extractors import complete
from edge_opcua.compress.tasks import judge_for
from edge_opcua.errors import ModelError
from edge_opcua.features.judgement import Judge
from edge_opcua.inference.onnxcard import OnnxCard, read_card
from edge_opcua.inference.onnxfile import inspect_file, refuse_foreign
from edge_opcua.inference.repository import ModelFiles, verify


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as it was handed over.

    Args:
        name: What it is called: ``press-autoencoder/1``, or the name of its file.
        path: Its ONNX file.
        sha256: Of the file.
        card: What the file says of itself.
        input_name: Its one input.
        files: The package; None if it was only a file.
        judge: What makes verdicts of its answers; None if it was only a file.
    """

    name: str
    path: Path
    sha256: str
    card: OnnxCard
    input_name: str
    files: ModelFiles | None = None
    judge: Judge | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Its outputs, in order."""
        return tuple(output.name for output in self.card.outputs)

    @property
    def sample_shape(self) -> tuple[int, ...] | None:
        """Shape of one sample without its batch axis; None where the file leaves an axis of it open."""
        axes = self.card.inputs[0].shape[1:]
        sizes = tuple(size for size in axes if isinstance(size, int) and size > 0)
        return sizes if len(sizes) == len(axes) else None

    @property
    def has_open_batch(self) -> bool:
        """Whether several samples may be run at once."""
        shape = self.card.inputs[0].shape
        return bool(shape) and not (isinstance(shape[0], int) and shape[0] > 0)


def open_subject(target: Path | str, state_dir: Path) -> Subject:
    """Return the model that somebody means.

    Args:
        target: An .onnx file, a folder with model and manifest, or ``NAME/VERSION`` of the repository.
        state_dir: Whose repository.

    Raises:
        ModelError: There is none (M501, M507), its files do not verify, or it has not one input of float32
            (M504).
    """
    path, manifest_file = locate(str(target), state_dir)
    files = None if manifest_file is None else complete(verify(path.parent))
    card = read_card(path)
    if files is None:
        refuse_foreign(inspect_file(path), path.parent, frozenset(card.external))
    if len(card.inputs) != 1:
        names = ", ".join(each.name for each in card.inputs) or "none"
        raise ModelError(f"the model has {len(card.inputs)} inputs, not one: {names}", code="M504")
    if card.inputs[0].kind != "float32":
        raise ModelError(f"its input is {card.inputs[0]}, not of float32", code="M504")
    manifest = None if files is None else files.manifest
    return Subject(
        path.name if manifest is None else f"{manifest.name}/{manifest.version}",
        path,
        sha256_of(path),
        card,
        card.inputs[0].name,
        files,
        None if manifest is None else judge_for(manifest),
    )
