"""One node of a graph, as the operators get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.errors import ModelError

Tensor = Any
"""A ``torch.Tensor``; PyTorch is Any at our border."""
ONNX_DOMAINS: Final = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Step:
    """A node.

    Args:
        name: Its name.
        op: Its operator.
        inputs: Names of what it takes; empty where an optional one is left out.
        outputs: Names of what it gives.
        attributes: Its attributes as Python values.
        opset: Version of ONNX's operators.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or what it is if the node does not have it; texts as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, what: str) -> ModelError:
        """Return the error that a form of the operator is not among those we train (M691)."""
        return ModelError(f"node {self.name} ({self.op}): {what} cannot be trained here", code="M691")


Op = Callable[..., Any]
"""Takes the step and its inputs (None where one is left out); returns its output, or a tuple of them."""
