"""What the operators of ONNX do, in PyTorch: those that models of plants are made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from edge_opcua.compress.train.ops.elementwise import ELEMENTWISE
from edge_opcua.compress.train.ops.layers import LAYERS
from edge_opcua.compress.train.ops.quantised import QUANTISED
from edge_opcua.compress.train.ops.reduce import REDUCE
from edge_opcua.compress.train.ops.shape import SHAPE
from edge_opcua.compress.train.step import Op, Step

OPS: Final[Mapping[str, Op]] = MappingProxyType({**LAYERS, **ELEMENTWISE, **SHAPE, **REDUCE, **QUANTISED})
"""By name of the operator, in the domain of ONNX itself."""

__all__ = ["OPS", "Op", "Step"]
