"""What each operator does with channels: hands them on, mixes, ties or needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from edge_opcua.compress.graph import attributes
from edge_opcua.compress.graph.structure import captured
from edge_opcua.compress.prune.channels import Channels, Coupling, Tracer, Units

Rule = Callable[[Tracer, Any], None]

_STANDARD: Final = ("", "ai.onnx")


def trace(model: Any) -> Coupling:
    """Return what hangs together in an opened graph."""
    tracer = Tracer(model)
    for node in model.graph.node:
        rule = RULES.get(node.op_type, needs_all) if node.domain in _STANDARD else needs_all
        rule(tracer, node)
        tracer.freeze(*captured(node))
    return tracer.finish()


def needs_all(tracer: Tracer, node: Any) -> None:
    """Nothing is known of the operator: all channels that it takes stay."""
    tracer.freeze(*node.input)


def hands_on(tracer: Tracer, node: Any) -> None:
    """Each channel of the answer comes of the same channel of the first input alone."""
    tracer.put(node.output[0], tracer.of(node.input[0]))
    tracer.freeze(*node.input[1:])


def conv(tracer: Tracer, node: Any) -> None:
    """A convolution mixes channels, or, depthwise, makes some of each."""
    given, weight = attributes(node), tracer.weights.get(node.input[1])
    source, groups = tracer.of(node.input[0]), given.get("group", 1)
    if weight is None or any(name not in tracer.weights for name in node.input[2:] if name):
        return needs_all(tracer, node)
    if source is not None and source.axis != 1:
        return needs_all(tracer, node)
    if groups == 1:
        return _mixes(tracer, node, "Conv", (1, 0), 1)
    if source is None or groups != len(source.units) or weight.shape[1] != 1:
        return needs_all(tracer, node)
    outputs = np.repeat(source.units, weight.shape[0] // groups)
    tracer.repair(node, "group", 1, source.units)
    _cut_outputs(tracer, node, 0, outputs)
    return tracer.put(node.output[0], Channels(1, outputs))


def conv_transpose(tracer: Tracer, node: Any) -> None:
    """Its weight has the channels the other way round."""
    source = tracer.of(node.input[0])
    constant = all(name in tracer.weights for name in node.input[1:] if name)
    if not constant or attributes(node).get("group", 1) != 1 or (source is not None and source.axis != 1):
        return needs_all(tracer, node)
    return _mixes(tracer, node, "ConvTranspose", (0, 1), 1)


def gemm(tracer: Tracer, node: Any) -> None:
    """A dense layer."""
    given, source = attributes(node), tracer.of(node.input[0])
    constant = all(name in tracer.weights for name in node.input[1:] if name)
    if not constant or given.get("transA", 0) or (source is not None and source.axis != 1):
        return needs_all(tracer, node)
    return _mixes(tracer, node, "Gemm", (1, 0) if given.get("transB", 0) else (0, 1), 1)


def matmul(tracer: Tracer, node: Any) -> None:
    """A dense layer over the last axis, if the second factor is a weight."""
    source, weight = tracer.of(node.input[0]), tracer.weights.get(node.input[1])
    rank = len(tracer.shapes.get(node.input[0], ()))
    if weight is None or weight.ndim != 2 or rank < 2:
        return needs_all(tracer, node)
    if source is not None and source.axis != rank - 1:
        return tracer.put(node.output[0], source)  # mixes along another axis, for each channel alike
    return _mixes(tracer, node, "MatMul", (0, 1), rank - 1)


def _mixes(tracer: Tracer, node: Any, kind: Any, axes: tuple[int, int], channel: int) -> None:
    """Note a layer whose weight has input and output channel on these axes."""
    weight, source = tracer.weights[node.input[1]], tracer.of(node.input[0])
    outputs = tracer.new(weight.shape[axes[1]])
    if source is not None:
        tracer.cut(node, node.input[1], axes[0], source.units)
        tracer.layer(node, kind, axes[0], source.units, outputs)
    else:
        # Its inputs stay, and that too has to be known: what makes its outputs can be removed.
        kept = tracer.new(weight.shape[axes[0]])
        tracer.freeze_units(kept)
        tracer.layer(node, kind, axes[0], kept, outputs)
    _cut_outputs(tracer, node, axes[1], outputs)
    tracer.put(node.output[0], Channels(channel, outputs))


def _cut_outputs(tracer: Tracer, node: Any, axis: int, outputs: Units) -> None:
    tracer.cut(node, node.input[1], axis, outputs)
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and tracer.weights[bias].ndim and tracer.weights[bias].shape[-1] == len(outputs):
        tracer.cut(node, bias, tracer.weights[bias].ndim - 1, outputs)


def per_channel(tracer: Tracer, node: Any) -> None:
    """A normalisation with one value of each weight per channel."""
    source = tracer.of(node.input[0])
    if source is None or source.axis != 1 or any(name not in tracer.weights for name in node.input[1:]):
        return needs_all(tracer, node)
    for name in node.input[1:]:
        tracer.cut(node, name, 0, source.units)
    return tracer.put(node.output[0], source)


def elementwise(tracer: Tracer, node: Any) -> None:
    """Place by place, one stretched to the other where that has length 1: ties the channels of all inputs."""
    known = [name for name in node.input if tracer.of(name) is not None]
    shape = tracer.shapes.get(node.output[0])
    if not known or shape is None:
        return needs_all(tracer, node)
    leading = max(known, key=lambda name: len(_units(tracer, name)))
    source = tracer.of(leading)
    assert source is not None
    from_right = len(tracer.shapes.get(leading, ())) - source.axis
    if not 0 < from_right <= len(shape) or shape[-from_right] != len(source.units):
        return needs_all(tracer, node)
    for name in node.input:
        if not name or name == leading:
            continue
        if not _goes_with(tracer, node, name, from_right, source.units):
            return needs_all(tracer, node)
    return tracer.put(node.output[0], Channels(len(shape) - from_right, source.units))


def _goes_with(tracer: Tracer, node: Any, name: str, from_right: int, units: Units) -> bool:
    """Tie another input to the units, if they are the same axis; False if it is not known how."""
    shape, other = tracer.shapes.get(name), tracer.of(name)
    if shape is None:
        return False
    axis = len(shape) - from_right
    length = shape[axis] if axis >= 0 else 1
    if other is not None and other.axis == axis and len(other.units) == len(units):
        tracer.tie(units, other.units)
        return True
    if length == 1:
        tracer.freeze(name)  # one value for all channels, whatever channels it has itself
        return True
    if name in tracer.weights and length == len(units):
        tracer.cut(node, name, axis, units)
        return True
    return False


def _units(tracer: Tracer, name: str) -> Units:
    found = tracer.of(name)
    return found.units if found is not None else np.zeros(0, np.int64)


def flatten(tracer: Tracer, node: Any) -> None:
    """All axes from one on become one: the channels are repeated or follow each other."""
    source, shape = tracer.of(node.input[0]), tracer.shapes.get(node.input[0], ())
    axis = attributes(node).get("axis", 1)
    if source is None or axis != 1 or len(shape) < 2 or None in shape[1:]:
        return needs_all(tracer, node)
    return tracer.put(node.output[0], Channels(1, _laid_out(source, shape)))


def _laid_out(source: Channels, shape: tuple[int | None, ...]) -> Units:
    """Return the unit of each place when all axes but the first become one."""
    lengths = [length or 1 for length in shape[1:]]
    aligned = source.units.reshape([-1 if axis == source.axis else 1 for axis in range(1, len(shape))])
    return np.broadcast_to(aligned, lengths).reshape(-1).copy()


def reshape(tracer: Tracer, node: Any) -> None:
    """Understood where it flattens all axes but the first, or leaves the channels an axis of their own."""
    source = tracer.of(node.input[0])
    before, after = tracer.shapes.get(node.input[0]), tracer.shapes.get(node.output[0])
    wanted = tracer.weights.get(node.input[1])
    if source is None or before is None or after is None or wanted is None or source.axis == 0:
        return needs_all(tracer, node)
    if before[0] != after[0] or None in before[1:] or None in after[1:]:
        return needs_all(tracer, node)
    if len(after) == 2 and len(before) > 2:
        units = _laid_out(source, before)
        tracer.repair(node, "reshape", 1, units)
        return tracer.put(node.output[0], Channels(1, units))
    ahead = _product(before[1 : source.axis])
    for axis in range(1, len(after)):
        if after[axis] == len(source.units) and _product(after[1:axis]) == ahead:
            tracer.repair(node, "reshape", axis, source.units)
            return tracer.put(node.output[0], Channels(axis, source.units))
    return needs_all(tracer, node)


def _product(lengths: tuple[int | None, ...]) -> int:
    return int(np.prod([length or 0 for length in lengths], dtype=np.int64))


def transpose(tracer: Tracer, node: Any) -> None:
    """The channels change their place."""
    source, shape = tracer.of(node.input[0]), tracer.shapes.get(node.input[0], ())
    perm = list(attributes(node).get("perm", range(len(shape))[::-1]))
    if source is None or source.axis not in perm:
        return needs_all(tracer, node)
    return tracer.put(node.output[0], Channels(perm.index(source.axis), source.units))


def squeeze(tracer: Tracer, node: Any) -> None:
    """Axes of length 1 go; the channels stay if they are another axis."""
    source, axes = tracer.of(node.input[0]), _axes(tracer, node)
    if source is None or axes is None or source.axis in axes:
        return needs_all(tracer, node)
    return tracer.put(
        node.output[0], Channels(source.axis - sum(axis < source.axis for axis in axes), source.units)
    )


def unsqueeze(tracer: Tracer, node: Any) -> None:
    """Axes of length 1 come."""
    source, shape = tracer.of(node.input[0]), tracer.shapes.get(node.output[0])
    axes = _axes(tracer, node, len(shape)) if shape is not None else None
    if source is None or shape is None or axes is None:
        return needs_all(tracer, node)
    left = [axis for axis in range(len(shape)) if axis not in axes]
    return tracer.put(node.output[0], Channels(left[source.axis], source.units))


def reduces(tracer: Tracer, node: Any) -> None:
    """Mean, sum … along some axes: the channels stay if they are another one."""
    source, axes = tracer.of(node.input[0]), _axes(tracer, node)
    if source is None or not axes or source.axis in axes:
        return needs_all(tracer, node)
    gone = 0 if attributes(node).get("keepdims", 1) else sum(axis < source.axis for axis in axes)
    return tracer.put(node.output[0], Channels(source.axis - gone, source.units))


def concat(tracer: Tracer, node: Any) -> None:
    """Channels side by side; or, along another axis, the same channels in every part."""
    axis, shape = attributes(node)["axis"], tracer.shapes.get(node.output[0])
    if shape is None or not any(tracer.of(name) for name in node.input):
        return needs_all(tracer, node)
    axis %= len(shape)
    parts: list[Units] = []
    for name in node.input:
        found, length = tracer.of(name), tracer.shapes.get(name, (None,) * len(shape))[axis]
        if found is not None and found.axis == axis:
            parts.append(found.units)
        elif found is None and length is not None:
            parts.append(tracer.new(length))
            tracer.freeze_units(parts[-1])
        else:
            return _same_in_all(tracer, node)
    return tracer.put(node.output[0], Channels(axis, np.concatenate(parts)))


def _same_in_all(tracer: Tracer, node: Any) -> None:
    found = [tracer.of(name) for name in node.input]
    first = found[0]
    if first is None or any(each is None or each.axis != first.axis for each in found):
        return needs_all(tracer, node)
    for each in found[1:]:
        assert each is not None
        tracer.tie(first.units, each.units)
    return tracer.put(node.output[0], first)


def split(tracer: Tracer, node: Any) -> None:
    """Parts of the channels, or parts along another axis."""
    source, rank = tracer.of(node.input[0]), len(tracer.shapes.get(node.input[0], ()))
    if source is None or not rank:
        return needs_all(tracer, node)
    if attributes(node).get("axis", 0) % rank != source.axis:
        for name in node.output:
            tracer.put(name, source)
        return None
    lengths = [tracer.shapes.get(name, (None,) * rank)[source.axis] for name in node.output]
    if None in lengths or len(node.input) < 2 or node.input[1] not in tracer.weights:
        return needs_all(tracer, node)
    ends = np.cumsum([length or 0 for length in lengths])
    parts = np.split(source.units, ends[:-1])
    for name, part in zip(node.output, parts, strict=True):
        tracer.put(name, Channels(source.axis, part))
    return tracer.repair(node, "split", source.axis, *parts)


def pad(tracer: Tracer, node: Any) -> None:
    """Padding along other axes hands channels on."""
    source, rank = tracer.of(node.input[0]), len(tracer.shapes.get(node.input[0], ()))
    amounts = tracer.weights.get(node.input[1]) if len(node.input) > 1 else None
    if source is None or amounts is None or len(amounts) != 2 * rank:
        return needs_all(tracer, node)
    if amounts[source.axis] or amounts[rank + source.axis]:
        return needs_all(tracer, node)
    return tracer.put(node.output[0], source)


def slice_(tracer: Tracer, node: Any) -> None:
    """A stretch of other axes hands channels on."""
    source, rank = tracer.of(node.input[0]), len(tracer.shapes.get(node.input[0], ()))
    axes = tracer.weights.get(node.input[3]) if len(node.input) > 3 else None
    if source is None or axes is None or not rank or source.axis in [axis % rank for axis in axes.tolist()]:
        return needs_all(tracer, node)
    return tracer.put(node.output[0], source)


def resize(tracer: Tracer, node: Any) -> None:
    """Larger or smaller pictures of the same channels, by factors (sizes would say how many channels)."""
    source, after = tracer.of(node.input[0]), tracer.shapes.get(node.output[0])
    by_sizes = len(node.input) > 3 and node.input[3]
    if source is None or after is None or by_sizes or after[source.axis] != len(source.units):
        return needs_all(tracer, node)
    return tracer.put(node.output[0], source)


def _axes(tracer: Tracer, node: Any, rank: int | None = None) -> list[int] | None:
    """Return the axes that a node names, from 0 on; None if they are computed or not named."""
    given = attributes(node).get("axes")
    if given is None:
        found = tracer.weights.get(node.input[1]) if len(node.input) > 1 else None
        given = None if found is None else found.reshape(-1).tolist()
    rank = rank if rank is not None else len(tracer.shapes.get(node.input[0], ()))
    return None if given is None or not rank else [int(axis) % rank for axis in given]


_ALIKE: Final = (
    "Abs AveragePool Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu GlobalAveragePool GlobalMaxPool "
    "HardSigmoid HardSwish Identity LeakyRelu Log LpPool MaxPool Mish Neg Reciprocal Relu Round Selu Sigmoid "
    "Sign Sin Softplus Softsign Sqrt Swish Tanh ThresholdedRelu"
)
_PAIRS: Final = "Add Sub Mul Div Max Min Sum Mean Pow PRelu"
_REDUCED: Final = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare"

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    dict.fromkeys(_ALIKE.split(), hands_on)
    | dict.fromkeys(_PAIRS.split(), elementwise)
    | dict.fromkeys(_REDUCED.split(), reduces)
    | {
        "BatchNormalization": per_channel,
        "Concat": concat,
        "Conv": conv,
        "ConvTranspose": conv_transpose,
        "Flatten": flatten,
        "Gemm": gemm,
        "InstanceNormalization": per_channel,
        "MatMul": matmul,
        "Pad": pad,
        "Reshape": reshape,
        "Resize": resize,
        "Slice": slice_,
        "Split": split,
        "Squeeze": squeeze,
        "Transpose": transpose,
        "Unsqueeze": unsqueeze,
    }
)
