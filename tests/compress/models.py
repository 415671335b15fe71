"""Small models that know something: fitted in closed form to made-up data, without any training library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.compress.dataset import Dataset

Floats = npt.NDArray[np.float32]

CLASSES = 4
SIDE = 8
SENSORS = 32
LATENT = 4


class Draft:
    """A graph that is being written.

    Args:
        seed: Of its random weights.
        opset: Version of the operators.
    """

    def __init__(self, seed: int, opset: int = 17) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self._opset = opset

    def node(self, kind: str, *inputs: str, output: str, **attributes: Any) -> str:
        """Add a node, named like its output, and return its output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"/{output}", **attributes))
        return output

    def weight(self, name: str, array: npt.ArrayLike) -> str:
        """Add a weight of float32, and return its name."""
        self.weights[name] = np.asarray(array, np.float32)
        return name

    def he(self, name: str, *shape: int) -> str:
        """Add a random weight whose outputs are as large as its inputs."""
        scale = np.sqrt(2.0 / np.prod(shape[1:]))
        return self.weight(name, self.random.normal(0.0, scale, shape))

    def norm(self, source: str, output: str, channels: int) -> str:
        """Add a batch normalisation that does something."""
        random = self.random
        parts = (
            self.weight(f"{output}.scale", random.uniform(0.6, 1.4, channels)),
            self.weight(f"{output}.shift", random.normal(0.0, 0.2, channels)),
            self.weight(f"{output}.mean", random.normal(0.0, 0.2, channels)),
            self.weight(f"{output}.variance", random.uniform(0.5, 1.5, channels)),
        )
        return self.node("BatchNormalization", source, *parts, output=output)

    def conv(self, source: str, output: str, shape: tuple[int, ...], **attributes: Any) -> str:
        """Add a convolution with a kernel of 3 and no bias."""
        weight = self.he(f"{output}.weight", *shape)
        return self.node("Conv", source, weight, output=output, **({"pads": [1] * 4} | attributes))

    def dense(self, source: str, output: str, inputs: int, outputs: int) -> str:
        """Add a Gemm as PyTorch exports it, weight of shape (outputs, inputs)."""
        weight = self.he(f"{output}.weight", outputs, inputs)
        bias = self.weight(f"{output}.bias", self.random.normal(0.0, 0.1, outputs))
        return self.node("Gemm", source, weight, bias, output=output, transB=1)

    def model(
        self, sample: tuple[int, ...], output: str, answer: tuple[int, ...], *, batch: Any = "n"
    ) -> Any:
        """Return it as a model with the input "x"; the shapes are without the batch axis."""
        graph = helper.make_graph(
            self.nodes,
            "draft",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *sample])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, *answer])],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def conv_net(
    seed: int = 1, *, channels: tuple[int, int] = (12, 24), batch: Any = "n", opset: int = 17
) -> Any:
    """Conv-BN-Relu-MaxPool, twice, mean over the picture, Gemm: tells :func:`pictures` apart ("logits")."""
    draft = Draft(seed, opset)
    first, second = channels
    at = draft.conv("x", "conv1", (first, 1, 3, 3))
    at = draft.node("Relu", draft.norm(at, "bn1", first), output="relu1")
    at = draft.node("MaxPool", at, output="pool1", kernel_shape=[2, 2], strides=[2, 2])
    at = draft.conv(at, "conv2", (second, first, 3, 3))
    at = draft.node("Relu", draft.norm(at, "bn2", second), output="relu2")
    at = draft.node("AveragePool", at, output="pool2", kernel_shape=[2, 2], strides=[2, 2])
    at = draft.node("Flatten", at, output="flat", axis=1)
    draft.dense(at, "logits", second * (SIDE // 4) ** 2, CLASSES)
    return _fitted(draft.model((1, SIDE, SIDE), "logits", (CLASSES,), batch=batch), "flat", seed)


def residual_net(seed: int = 2, *, channels: int = 16, batch: Any = "n") -> Any:
    """A stem, one residual block, a depthwise-separable one, mean over the picture: "logits" of the same."""
    draft, c = Draft(seed), channels
    stem = draft.node("Relu", draft.norm(draft.conv("x", "stem", (c, 1, 3, 3)), "bn0", c), output="relu0")
    at = draft.node("Relu", draft.norm(draft.conv(stem, "conv1", (c, c, 3, 3)), "bn1", c), output="relu1")
    at = draft.norm(draft.conv(at, "conv2", (c, c, 3, 3)), "bn2", c)
    at = draft.node("Relu", draft.node("Add", at, stem, output="sum"), output="relu2")
    at = draft.conv(at, "depth", (c, 1, 3, 3), group=c, strides=[2, 2])
    at = draft.node("Relu", draft.norm(at, "bn3", c), output="relu3")
    at = draft.conv(at, "point", (2 * c, c, 1, 1), pads=[0] * 4)
    at = draft.node("Relu", draft.norm(at, "bn4", 2 * c), output="relu4")
    at = draft.node("GlobalAveragePool", at, output="mean")
    at = draft.node("Flatten", at, output="flat", axis=1)
    draft.dense(at, "logits", 2 * c, CLASSES)
    return _fitted(draft.model((1, SIDE, SIDE), "logits", (CLASSES,), batch=batch), "flat", seed)


def mlp(seed: int = 3, *, widths: tuple[int, int] = (64, 48), batch: Any = "n") -> Any:
    """Flatten, three Gemms with Relu and Tanh, Softmax: "probabilities" of :func:`pictures`."""
    draft = Draft(seed)
    at = draft.node("Flatten", "x", output="pixels", axis=1)
    at = draft.node("Relu", draft.dense(at, "hidden1", SIDE * SIDE, widths[0]), output="act1")
    at = draft.node("Tanh", draft.dense(at, "hidden2", widths[0], widths[1]), output="act2")
    at = draft.dense(at, "logits", widths[1], CLASSES)
    draft.node("Softmax", at, output="probabilities", axis=1)
    made = draft.model((1, SIDE, SIDE), "probabilities", (CLASSES,), batch=batch)
    return _fitted(made, "act2", seed, temperature=6.0)


def autoencoder(seed: int = 4, *, widths: tuple[int, int] = (48, 24), batch: Any = "n") -> Any:
    """MatMul-Add-Relu twice, and back: "reconstruction" of :func:`signals`, wider than it needs to be."""
    draft = Draft(seed)
    at, size = "x", SENSORS
    for number, width in enumerate((*widths, SENSORS), 1):
        weight = draft.he(f"weight{number}", width, size)
        draft.weights[weight] = np.ascontiguousarray(draft.weights[weight].T)
        at = draft.node("MatMul", at, weight, output=f"product{number}")
        bias = draft.weight(f"bias{number}", draft.random.normal(0.0, 0.1, width))
        last = number == len(widths) + 1
        at = draft.node("Add", at, bias, output="reconstruction" if last else f"sum{number}")
        at, size = at if last else draft.node("Relu", at, output=f"act{number}"), width
    model = draft.model((SENSORS,), "reconstruction", (SENSORS,), batch=batch)
    data = signals(1_000, seed + 1_000)
    inner = run(model, data.rows, "act2")
    _set(model, "weight3", "bias3", _ridge(inner, data.rows))
    return model


def pictures(samples: int, seed: int, *, noise: float = 0.45) -> Dataset:
    """Return small pictures, ``(n, 1, 8, 8)``, of four kinds of stripes and spots, with their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, samples)
    y, x = np.mgrid[0:SIDE, 0:SIDE] * (2 * np.pi / SIDE)
    phase = random.uniform(0.0, 2 * np.pi, (2, samples, 1, 1))
    kinds = np.stack(
        [
            np.sin(2 * x + phase[0]),
            np.sin(2 * y + phase[0]),
            np.sin(2 * x + 2 * y + phase[0]),
            np.sin(x + phase[0]) * np.sin(y + phase[1]),
        ]
    )
    rows = kinds[labels, np.arange(samples)] + random.normal(0.0, noise, (samples, SIDE, SIDE))
    return Dataset(rows[:, None].astype(np.float32), labels.astype(np.int64), "made-up pictures")


def signals(samples: int, seed: int, *, bad: float = 0.0) -> Dataset:
    """Return what 32 sensors measure that follow 4 causes, ``(n, 32)``; label 1: one that does not."""
    mixing = np.random.default_rng(99).normal(0.0, 0.6, (LATENT, SENSORS))
    random = np.random.default_rng(seed)
    rows = random.normal(0.0, 1.0, (samples, LATENT)) @ mixing + random.normal(0.0, 0.1, (samples, SENSORS))
    labels = (random.uniform(size=samples) < bad).astype(np.int64)
    rows += labels[:, None] * random.normal(0.0, 0.5, (samples, SENSORS))
    return Dataset(rows.astype(np.float32), labels, "made-up signals")


def run(model: Any, rows: Floats, *outputs: str) -> Any:
    """Return what a model computes, by ONNX Runtime; a list if several places are asked for."""
    image = model
    if isinstance(model, Path):
        image = onnx.load(str(model))
    copy = onnx.ModelProto()
    copy.CopyFrom(image)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in there)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    wanted = list(outputs) or [session.get_outputs()[0].name]
    size = shape[0] if isinstance(shape[0], int) else max(len(rows), 1)
    parts = [session.run(wanted, {name: rows[at : at + size]}) for at in range(0, len(rows), size)]
    found = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return found[0] if len(wanted) == 1 else found


def saved(model: Any, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model into a folder and return its path."""
    path = folder / name
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _fitted(model: Any, features: str, seed: int, temperature: float = 1.0) -> Any:
    """Fit the last layer to the labels: a network of random features with a linear answer."""
    data = pictures(1_500, seed + 1_000)
    assert data.truth is not None
    solved = _ridge(run(model, data.rows, features), np.eye(CLASSES)[data.truth] * temperature)
    _set(model, "logits.weight", "logits.bias", (solved[0].T, solved[1]))
    return model


def _ridge(features: Floats, targets: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    mean, aim = features.mean(0, dtype=np.float64), targets.mean(0, dtype=np.float64)
    centred = features - mean
    gram = centred.T @ centred
    gram += np.eye(len(gram)) * 1e-3 * np.trace(gram) / len(gram)
    weight = np.linalg.solve(gram, centred.T @ (targets - aim))
    return weight, aim - mean @ weight


def _set(model: Any, weight: str, bias: str, values: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> None:
    for name, value in zip((weight, bias), values, strict=True):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
