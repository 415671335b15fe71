"""What of a graph is trained, which nodes lead to what is wanted, and where the decision is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from edge_opcua.compress.graph import attributes, producers
from edge_opcua.compress.train.step import ONNX_DOMAINS, Step
from edge_opcua.errors import ModelError

_LEARNED: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "BatchNormalization": (1, 2),
        "Conv": (1, 2),
        "ConvTranspose": (1, 2),
        "Gemm": (1, 2),
        "GroupNormalization": (1, 2),
        "InstanceNormalization": (1, 2),
        "LayerNormalization": (1, 2),
        "MatMul": (0, 1),
        "PRelu": (1,),
    }
)
"""By operator, which of its inputs are learned where they are weights."""
LAYERS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PASSING: Final = frozenset(
    {"Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose",
     "Unsqueeze"}
)  # fmt: skip
"""What gives the numbers it takes, in another shape or on levels."""

Kind = Literal["classes", "yes", "values"]


@dataclass(frozen=True, slots=True)
class Head:
    """Where a graph decides.

    Args:
        output: The output that is looked at.
        logits: The value before its softmax, sigmoid or choice; the output itself if there is none.
        kind: ``classes``: the largest is chosen, or a softmax follows; ``yes``: a sigmoid follows;
            ``values``: nothing does.
    """

    output: str
    logits: str
    kind: Kind


def head_of(model: Any, output: str) -> Head:
    """Return where the decision of an output is made: training before a softmax is exact, behind it is not.

    Args:
        model: The ``onnx.ModelProto``.
        output: Name of the output.
    """
    made_by = producers(model)
    here = logits = output
    kind: Kind = "values"
    while here in made_by:
        node = made_by[here]
        if node.op_type in ("Softmax", "LogSoftmax"):
            return Head(output, node.input[0], "classes")
        if node.op_type == "Sigmoid" and kind == "values":
            return Head(output, node.input[0], "yes")
        if node.op_type == "ArgMax":
            logits, kind = node.input[0], "classes"
        elif node.op_type not in _PASSING:
            break
        here = node.input[0]
    return Head(output, logits, kind)


def steps_to(model: Any, wanted: Iterable[str]) -> list[Step]:
    """Return the nodes that lead to some values, in the order of computation.

    Args:
        model: The ``onnx.ModelProto``, opened by :func:`~edge_opcua.compress.graph.open_graph`.
        wanted: Names of values.

    Raises:
        ModelError: A value is none of the graph's, or a node is of another domain or holds graphs (M691).
    """
    opset = max((each.version for each in model.opset_import if each.domain in ONNX_DOMAINS), default=1)
    needed = set(wanted)
    known = {value.name for value in model.graph.input} | {each.name for each in model.graph.initializer}
    found: list[Step] = []
    for node in reversed(model.graph.node):
        known.update(node.output)
        if needed.isdisjoint(node.output):
            continue
        if node.domain not in ONNX_DOMAINS:
            raise ModelError(
                f"node {node.name} ({node.domain}.{node.op_type}) cannot be trained here", code="M691"
            )
        needed.update(each for each in node.input if each)
        found.append(
            Step(node.name, node.op_type, tuple(node.input), tuple(node.output), attributes(node), opset)
        )
    missing = sorted(needed - known)
    if missing:
        raise ModelError(f'the graph computes no "{missing[0]}"', code="M691")
    return found[::-1]


def learned(steps: Iterable[Step], floats: Iterable[str]) -> list[str]:
    """Return the weights to train: those of layers and normalisations, not what scales the input.

    Args:
        steps: The nodes.
        floats: Names of the weights that are floats, or levels of floats.

    Returns:
        Their names, in the order in which they are used.
    """
    nodes = list(steps)
    made_by = {name: step for step in nodes for name in step.outputs}
    candidates = set(floats)
    found: dict[str, None] = {}
    for step in nodes:
        places = _LEARNED.get(step.op, ())
        if step.op == "Add" and any(
            _behind(name, made_by).op in LAYERS for name in step.inputs if name in made_by
        ):
            places = (0, 1)
        for place in places:
            name = step.inputs[place] if place < len(step.inputs) else ""
            while name in made_by and made_by[name].op in _PASSING:
                name = made_by[name].inputs[0]
            if name in candidates:
                found[name] = None
    return list(found)


def _behind(name: str, made_by: Mapping[str, Step]) -> Step:
    """Return the node that made a value, whatever has reshaped or rounded it since."""
    step = made_by[name]
    while step.op in _PASSING and step.inputs[0] in made_by:
        step = made_by[step.inputs[0]]
    return step


def features(steps: Iterable[Step], most: int) -> list[tuple[str, int]]:
    """Return what goes into the last layers, with the axis of its channels: what the model has understood.

    Args:
        steps: The nodes.
        most: How many at most.

    Returns:
        Name and axis, the last layer first; the input of the model is not among them.
    """
    nodes = list(steps)
    made = {name for step in nodes for name in step.outputs}
    found: dict[str, int] = {}
    for step in reversed(nodes):
        if step.op in LAYERS and step.inputs[0] in made:
            found.setdefault(step.inputs[0], 1 if step.op.startswith("Conv") else -1)
    return list(found.items())[:most]
