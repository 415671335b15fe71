"""ONNX graphs as what makes variants needs them: nodes with names, weights as arrays, answers from inside."""

from edge_opcua.compress.graph.answers import activations, batches_of_activations
from edge_opcua.compress.graph.files import onnx_package, open_graph, save_graph, with_shapes
from edge_opcua.compress.graph.structure import (
    attributes,
    consumers,
    input_shape,
    producers,
    set_weight,
    shapes,
    sort,
    weights,
)

__all__ = [
    "activations",
    "attributes",
    "batches_of_activations",
    "consumers",
    "input_shape",
    "onnx_package",
    "open_graph",
    "producers",
    "save_graph",
    "set_weight",
    "shapes",
    "sort",
    "weights",
    "with_shapes",
]
