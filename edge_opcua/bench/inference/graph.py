"""Writes ONNX graphs layer by layer, with seeded weights that keep what flows through of the size of one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import EdgeError

_OPSET: Final = 17
_IR: Final = 8
_SEED: Final = 7
_CALIBRATION: Final = 8


class Graph:
    """A graph with one input whose first axis is open, and one output.

    Args:
        input_name: Name of the input.
        shape: Shape of one sample.

    Raises:
        EdgeError: The package ``onnx`` is not installed.
    """

    def __init__(self, input_name: str, shape: Sequence[int]) -> None:
        self._onnx = _onnx()
        self._input = self._onnx.helper.make_tensor_value_info(
            input_name, self._onnx.TensorProto.FLOAT, ["n", *shape]
        )
        self._random = np.random.default_rng(_SEED)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._wide = 0

    def dense(self, at: str, wide: int, high: int) -> str:
        """Add a fully connected layer."""
        self._wide = high
        return self._node("Gemm", at, self._weight((wide, high), wide), self._zeros(high))

    def conv(
        self, at: str, wide: int, high: int, *, kernel: tuple[int, ...], stride: int = 1, groups: int = 1
    ) -> str:
        """Add a convolution that keeps the size, divided by the stride."""
        weight = self._weight((high, wide // groups, *kernel), math.prod(kernel) * wide // groups)
        before = [(size - 1) // 2 for size in kernel]
        after = [size - 1 - low for size, low in zip(kernel, before, strict=True)]
        return self._node(
            "Conv",
            at,
            weight,
            self._zeros(high),
            strides=[stride] * len(kernel),
            pads=[*before, *after],
            group=groups,
        )

    def square(self, size: int) -> str:
        """Return a matrix for :meth:`product`."""
        return self._weight((size, size), size, gain=1.0)

    def product(self, at: str, matrix: str) -> str:
        """Add a product with a matrix."""
        return self._node("MatMul", at, matrix)

    def relu(self, at: str) -> str:
        """Add a rectifier."""
        return self._node("Relu", at)

    def relu6(self, at: str) -> str:
        """Add a rectifier that ends at 6."""
        return self._node("Clip", at, self._constant(np.float32(0)), self._constant(np.float32(6)))

    def add(self, at: str, other: str) -> str:
        """Add two branches."""
        return self._node("Add", at, other)

    def mean(self, at: str) -> str:
        """Add the mean over all places of each channel."""
        return self._node("Flatten", self._node("GlobalAveragePool", at), axis=1)

    def save(self, path: Path, output: str) -> Path:
        """Write the file; the output's shape is inferred."""
        helper, onnx = self._onnx.helper, self._onnx
        last = self._nodes[-1]
        last.output[0] = "y"
        assert last.name == output, "the output is the last layer"
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [self._input],
            [helper.make_empty_tensor_value_info("y")],
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="edge-opcua"
        )
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
        return path

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _weight(self, shape: tuple[int, ...], fan_in: int, *, gain: float = 2.0) -> str:
        scale = math.sqrt(gain / fan_in)
        return self._constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def _zeros(self, size: int) -> str:
        return self._constant(np.zeros(size, np.float32))

    def _constant(self, value: Any) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name


def quantised(plain: Path, target: Path, input_name: str, shape: Sequence[int]) -> Path:
    """Quantise a model to 8 bits, static, activations unsigned and weights signed, as QDQ."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        """Seeded images, as many as keep it short."""

        def __init__(self) -> None:
            self._samples = _images(input_name, shape)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            """Return the next image, None after the last."""
            return next(self._samples, None)

    prepared = plain.with_suffix(".prepared.onnx")
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Samples(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=False,
    )
    return target


def _images(name: str, shape: Sequence[int]) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
    random = np.random.default_rng(_SEED)
    for _ in range(_CALIBRATION):
        yield {name: random.standard_normal((1, *shape)).astype(np.float32)}


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as exc:
        raise EdgeError("the models are built with the package onnx: install the extra compress") from exc
    return onnx
