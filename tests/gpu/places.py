"""Where a model can run on a GPU, and whether this machine can; the processor is what all is held against."""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.probe import tiny_model
from edge_opcua.plugins import BACKENDS, InstalledPlugins


@dataclass(frozen=True, slots=True)
class Place:
    """A backend and a provider of it."""

    backend: str
    provider: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.provider}"

    def kind(self) -> type[Backend]:
        """Return the class of the backend."""
        found: type[Backend] = InstalledPlugins().load(BACKENDS, self.backend)
        return found

    def load(self, path: Path, shapes: dict[str, tuple[int, ...]], cache: Path | None = None) -> Backend:
        """Load a model there."""
        return self.kind().load(path, provider=self.provider, input_shapes=shapes, cache=cache)


PROCESSOR = Place("onnxruntime", "cpu")
PLACES = tuple(
    Place(*text.split("-", 1))
    for text in os.environ.get(
        "EDGE_GPU_PLACES",
        "onnxruntime-cuda onnxruntime-tensorrt onnxruntime-tensorrt_rtx tensorrt-tensorrt",
    ).split()
)


@functools.cache
def why_not(place: Place) -> str:
    """Return why nothing can run there, in the words of the backend; empty if the smallest model does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.onnx"
        path.write_bytes(tiny_model())
        try:
            place.load(path, {"x": (1, 4)}).bind().run()
        except ModelError as exc:
            return f"{exc.code}: {exc}"
    return ""
