"""ONNX Runtime's quantiser, given calibrated ranges, kept quiet, and its results mended.

Its classes are used directly: its functions would calibrate anew for each variant, and leave temporary files.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from edge_opcua.compress.graph import consumers, onnx_package, producers, shapes, with_shapes
from edge_opcua.compress.quantise.prepare import HEAVY, float_weights
from edge_opcua.compress.quantise.ranges import Range
from edge_opcua.compress.quantise.recipe import Dynamic, Int8
from edge_opcua.errors import ModelError

OPERATORS: Final = HEAVY | {
    *("Add", "Mul", "Concat", "Relu", "Clip", "LeakyRelu"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Pad"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split"),
}
"""What is computed in INT8. Softmax, Sigmoid, norms and the like stay in float: 256 steps of a probability
are too few to rank by."""

_MIXING: Final = frozenset({"Add", "Mul", "Concat"})
_INFERRED: Final = ("onnx.infer", "onnxruntime.quant")  # spares the quantiser a detour over files
_FLOAT: Final = 1
_MOST_SAID: Final = 10


def quantisable(model: Any) -> list[Any]:
    """Return the nodes that can be computed in INT8 with a gain, in the order of the graph.

    Adding or multiplying by a constant is not among them: it is how inputs of different units are brought to
    one scale, and a common scale before it would wipe out the small ones. Nor is what only follows the last
    node with weights: there is nothing to gain after it, and the answer keeps its resolution.
    """
    constants = float_weights(model)
    useful, floats = _leading_to_weights(model), _float_values(model)
    found = []
    for node in model.graph.node:
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
            continue
        if node.output[0] not in floats:  # shapes are computed with the same operators
            continue
        if node.op_type in HEAVY:
            if node.input[1] in constants:
                found.append(node)
        elif node.name in useful and not (node.op_type in _MIXING and constants.intersection(node.input)):
            found.append(node)
    return found


def ranged(model: Any) -> list[str]:
    """Return the names of the tensors whose ranges are needed to quantise the model."""
    known = {tensor.name for tensor in model.graph.initializer}
    floats = _float_values(model)
    names = [name for node in quantisable(model) for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(names) if name in floats and name not in known]


def quantised(model: Any, ranges: Mapping[str, Range], recipe: Int8) -> tuple[Any, list[str]]:
    """Return the model in INT8.

    Args:
        model: As ``prepare`` returns it; stays as it is.
        ranges: Of the tensors of :func:`ranged`.
        recipe: How.

    Returns:
        The model, and what the quantiser had to say.

    Raises:
        ModelError: A node to exclude is unknown (M679), or the quantiser cannot do it (M680).
    """
    _require_known(model, recipe.exclude)
    nodes = [node.name for node in quantisable(model) if node.name not in recipe.exclude]
    if not nodes:
        return _copy(model), []
    qdq = recipe.format == "qdq"
    with said_quietly() as said, _translated():
        quantiser = (_qdq if qdq else _qoperator)(_copy(model), ranges, recipe, nodes)
        made = quantiser.quantize_model()
    if qdq:
        _keep_float(made, set(nodes))
    return _finished(made), said


def quantised_dynamically(model: Any, recipe: Dynamic) -> tuple[Any, list[str]]:
    """Return the model with INT8 weights, whose other ranges are measured at every run.

    Raises:
        ModelError: The quantiser cannot do it (M680).
    """
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    kinds = ["MatMul", "LSTM", *(["Conv"] if recipe.convolutions else [])]
    with said_quietly() as said, _translated():
        made = ONNXQuantizer(
            _copy(model),
            recipe.per_channel,
            recipe.reduce_range,
            QuantizationMode.IntegerOps,
            False,  # noqa: FBT003 - its parameters have no other form in all versions
            _type(QuantType, recipe.weight),
            QuantType.QUInt8,
            None,
            [],
            [],
            kinds,
            {"MatMulConstBOnly": True, "WeightSymmetric": recipe.weight == "s8"},
        ).quantize_model()
    return _finished(made), said


def _qdq(model: Any, ranges: Mapping[str, Range], recipe: Int8, nodes: list[str]) -> Any:
    from onnxruntime.quantization import QDQQuantizer, QuantType

    pairs = recipe.symmetric  # TensorRT wants a pair of its own before each node
    return QDQQuantizer(
        model,
        recipe.per_channel,
        recipe.reduce_range,
        _type(QuantType, recipe.weight),
        _type(QuantType, recipe.activation),
        _tensor_ranges(ranges),
        nodes,
        [],
        sorted(OPERATORS),
        {
            "ActivationSymmetric": recipe.symmetric,
            "WeightSymmetric": recipe.weight == "s8",
            "QuantizeBias": recipe.integer_bias,
            "DedicatedQDQPair": pairs,
        },
    )


def _qoperator(model: Any, ranges: Mapping[str, Range], recipe: Int8, nodes: list[str]) -> Any:
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer

    return ONNXQuantizer(
        model,
        recipe.per_channel,
        recipe.reduce_range,
        QuantizationMode.QLinearOps,
        True,  # noqa: FBT003 - its parameters have no other form in all versions
        _type(QuantType, recipe.weight),
        _type(QuantType, recipe.activation),
        _tensor_ranges(ranges),
        nodes,
        [],
        sorted(OPERATORS),
        {"ActivationSymmetric": recipe.symmetric, "WeightSymmetric": recipe.weight == "s8"},
    )


def _type(types: Any, whole: str) -> Any:
    return types.QUInt8 if whole == "u8" else types.QInt8


def _tensor_ranges(ranges: Mapping[str, Range]) -> dict[str, Any]:
    from onnxruntime.quantization import TensorData

    return {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }


def _float_values(model: Any) -> set[str]:
    """Return the names of the values of float32 that are no weights."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == _FLOAT}


def _leading_to_weights(model: Any) -> set[str]:
    """Return the names of the nodes whose result a node with weights takes, sooner or later."""
    taken_by = consumers(model)
    found: set[str] = set()
    for node in reversed(list(model.graph.node)):
        after = [later for name in node.output for later in taken_by.get(name, ())]
        if any(later.op_type in HEAVY or later.name in found for later in after):
            found.add(node.name)
    return found


def _keep_float(model: Any, whole: set[str]) -> None:
    """Take the rounding off what a product of matrices hands to nodes in float, or to whoever asked.

    Its kernels give floats as fast as INT8; convolutions have no such kernel.
    """
    made_by, taken_by = producers(model), consumers(model)
    answers = {output.name for output in model.graph.output}
    for last in [node for node in model.graph.node if node.op_type == "DequantizeLinear"]:
        rounding = made_by.get(last.input[0])
        source = None if rounding is None else made_by.get(rounding.input[0])
        if rounding is None or source is None or source.op_type not in {"Gemm", "MatMul"}:
            continue
        after = taken_by.get(last.output[0], [])
        alone = len(taken_by[rounding.input[0]]) == len(taken_by[rounding.output[0]]) == 1
        if source.name not in whole or not alone or any(node.name in whole for node in after):
            continue
        if last.output[0] in answers:
            source.output[0] = last.output[0]
        else:
            for node in after:
                for place, name in enumerate(node.input):
                    if name == last.output[0]:
                        node.input[place] = source.output[0]
        model.graph.node.remove(rounding)
        model.graph.node.remove(last)


def _finished(model: Any) -> Any:
    """Return the model without what the quantiser left behind, its nodes in the order of computation."""
    from edge_opcua.compress.graph import sort

    taken = consumers(model).keys() | {output.name for output in model.graph.output}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in taken]:
        model.graph.initializer.remove(tensor)
    for entry in [entry for entry in model.metadata_props if (entry.key, entry.value) == _INFERRED]:
        model.metadata_props.remove(entry)
    sort(model)
    return model


def _copy(model: Any) -> Any:
    onnx = onnx_package()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not shapes(copy).keys() - {value.name for value in (*copy.graph.input, *copy.graph.output)}:
        copy = with_shapes(copy)
    copy.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    return copy


def _require_known(model: Any, exclude: tuple[str, ...]) -> None:
    unknown = sorted(set(exclude) - {node.name for node in model.graph.node})
    if unknown:
        raise ModelError(f'exclude: the model has no node "{unknown[0]}"', code="M679")


class _Collector(logging.Filter):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep warnings for the report; nothing gets printed."""
        text = record.getMessage().partition("\n")[0]
        if record.levelno >= logging.WARNING and text not in self._said and len(self._said) < _MOST_SAID:
            self._said.append(text)
        return False


@contextmanager
def said_quietly() -> Iterator[list[str]]:
    """Collect what the quantiser logs to the root logger, which it would else give a handler to stderr."""
    root = logging.getLogger()
    said: list[str] = []
    collector, silent = _Collector(said), logging.NullHandler()
    root.addFilter(collector)
    root.addHandler(silent)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield said
    finally:
        root.removeHandler(silent)
        root.removeFilter(collector)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # the quantiser raises whatever its steps do
        raise ModelError(f"the quantiser cannot make it: {exc!r}", code="M680") from exc
