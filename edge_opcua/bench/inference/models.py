"""Models built here, seeded: what lines run, from some microseconds to some milliseconds on one core.

Their weights are random, so what they answer means nothing; what they cost is what trained ones cost, because
nothing in them depends on the weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.assets import examples_dir
from edge_opcua.bench.inference.graph import Graph, quantised
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.manifest import load_manifest

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model file.

    Args:
        key: Short name.
        title: For people.
        path: The file.
        shape: Shape of one sample; the file's first axis is open.
        input_name: Name of its input.
        golden: File with samples that mean something; None where any numbers do.
    """

    key: str
    title: str
    path: Path
    shape: tuple[int, ...]
    input_name: str = "x"
    golden: Path | None = None

    @property
    def size(self) -> int:
        """Values of one sample."""
        return math.prod(self.shape)

    def sample(self, seed: int = 0) -> Floats:
        """Return one sample, shape ``(size,)``."""
        if self.golden is not None:
            with np.load(self.golden) as kept:
                return np.asarray(kept["features"][seed], np.float32)
        return np.random.default_rng(seed).standard_normal(self.size).astype(np.float32)

    def load(self, *, provider: str = "cpu", clock: Clock | None = None) -> LoadedModel:
        """Load it as a lane process does."""
        backend = OnnxRuntimeBackend.load(
            self.path,
            provider=provider,
            input_shapes={self.input_name: (1, *self.shape)},
            clock=clock or SystemClock(),
        )
        return LoadedModel(self.key, backend, self.input_name, self.size)

    def as_json(self) -> dict[str, Any]:
        """Return it for another process of the benchmark."""
        return {**asdict(self), "path": str(self.path), "golden": self.golden and str(self.golden)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> BenchModel:
        """Return what :meth:`as_json` gave."""
        golden = given["golden"] and Path(given["golden"])
        paths = {"path": Path(given["path"]), "golden": golden, "shape": tuple(given["shape"])}
        return cls(**{**given, **paths})


INPUT: Final = "x"


def build(folder: Path, *keys: str) -> dict[str, BenchModel]:
    """Build models; without keys all of them, which takes some seconds."""
    return {key: _BUILDERS[key](folder) for key in keys or _BUILDERS}


def _press(folder: Path) -> BenchModel:
    """The model of the demo as it is delivered; it takes one sample at a time."""
    del folder
    delivered = examples_dir() / "press" / "models" / "press-anomaly" / "1"
    manifest = load_manifest(delivered / "manifest.toml")
    return BenchModel(
        "press",
        "model of the demo",
        delivered / "model.onnx",
        (len(manifest.features),),
        manifest.input_name,
        delivered / manifest.golden.file,
    )


def _mlp(folder: Path) -> BenchModel:
    graph = Graph(INPUT, (16,))
    hidden = graph.relu(graph.dense(INPUT, 16, 32))
    return BenchModel(
        "mlp", "MLP 16-32-2", graph.save(folder / "mlp.onnx", graph.dense(hidden, 32, 2)), (16,)
    )


def _autoencoder(folder: Path) -> BenchModel:
    """As MLPerf Tiny's reference for anomaly detection: 640 values, four layers of 128, 8 between."""
    sizes = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    graph = Graph(INPUT, (sizes[0],))
    at = INPUT
    for number, (wide, high) in enumerate(itertools.pairwise(sizes), start=2):
        at = graph.dense(at, wide, high)
        if number < len(sizes):
            at = graph.relu(at)
    path = graph.save(folder / "autoencoder.onnx", at)
    return BenchModel("autoencoder", "autoencoder 640-128⁴-8-128⁴-640", path, (sizes[0],))


def _vibration(folder: Path, times: int = 1) -> BenchModel:
    """A 1-D convolutional net on 2 048 samples of an accelerometer; so many times the channels."""
    graph = Graph(INPUT, (1, 2048))
    at, channels = INPUT, 1
    for base, kernel, stride in ((32, 64, 4), (64, 9, 2), (128, 5, 2), (128, 3, 1), (128, 3, 2)):
        at = graph.relu(graph.conv(at, channels, base * times, kernel=(kernel,), stride=stride))
        channels = base * times
    at = graph.dense(graph.mean(at), channels, 100)
    key = "vibration-wide" if times > 1 else "vibration"
    path = graph.save(folder / f"{key}.onnx", graph.dense(graph.relu(at), 100, 10))
    return BenchModel(key, f"1-D CNN on 2048 samples{', wide' if times > 1 else ''}", path, (1, 2048))


def _vibration_wide(folder: Path) -> BenchModel:
    return _vibration(folder, times=2)


def _inspection(folder: Path) -> BenchModel:
    """MobileNetV2 1.0 at 128 x 128 for two classes, INT8: a camera that looks for defects."""
    graph = Graph(INPUT, (3, 128, 128))
    at = graph.relu6(graph.conv(INPUT, 3, 32, kernel=(3, 3), stride=2))
    channels = 32
    for factor, wide, count, stride in _BLOCKS_OF_MOBILENET:
        for number in range(count):
            at = _inverted(graph, at, channels, wide, factor=factor, stride=1 if number else stride)
            channels = wide
    at = graph.relu6(graph.conv(at, channels, 1280, kernel=(1, 1)))
    plain = graph.save(folder / "inspection.fp32.onnx", graph.dense(graph.mean(at), 1280, 2))
    path = quantised(plain, folder / "inspection.onnx", INPUT, (3, 128, 128))
    return BenchModel("inspection", "MobileNetV2 INT8, 128 x 128", path, (3, 128, 128))


_BLOCKS_OF_MOBILENET: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, repeats, stride: table 2 of Sandler et al., MobileNetV2, CVPR 2018."""


def _inverted(graph: Graph, at: str, channels: int, wide: int, *, factor: int, stride: int) -> str:
    """An inverted residual block: expand, depthwise, project."""
    inner = at
    high = channels * factor
    if factor > 1:
        inner = graph.relu6(graph.conv(inner, channels, high, kernel=(1, 1)))
    inner = graph.relu6(graph.conv(inner, high, high, kernel=(3, 3), stride=stride, groups=high))
    inner = graph.conv(inner, high, wide, kernel=(1, 1))
    return graph.add(at, inner) if stride == 1 and channels == wide else inner


def _burden(folder: Path) -> BenchModel:
    """What saturates a core: a chain of products with one matrix, each of some 0.3 ms."""
    graph = Graph(INPUT, (256, 256))
    at, square = INPUT, graph.square(256)
    for _ in range(48):
        at = graph.product(at, square)
    return BenchModel(
        "burden", "48 products of 256 x 256", graph.save(folder / "burden.onnx", at), (256, 256)
    )


_BUILDERS: Final[Mapping[str, Callable[[Path], BenchModel]]] = {
    "press": _press,
    "mlp": _mlp,
    "autoencoder": _autoencoder,
    "vibration": _vibration,
    "vibration-wide": _vibration_wide,
    "inspection": _inspection,
    "burden": _burden,
}
