"""Who makes which family of variants: each maker is imported when it is wanted, and not before.

Beside ``make`` the module of a family has ``proposals(onnx_path, kitchen)``: what is worth trying. It may
have ``also(onnx_path, kitchen)``: what is only tried if somebody names it (``--also qoperator-s8``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.compress.making import Kitchen, Maker
from edge_opcua.compress.variant import Family, Variant

Proposals = Callable[[Path, Kitchen], list[Variant]]
"""Says what is worth trying for a model on a device, in no order; nothing if there is nothing to do."""

MAKERS: Final[Mapping[Family, str]] = MappingProxyType(
    {
        "clean": "edge_opcua.compress.graph.clean:make",
        "int8-static": "edge_opcua.compress.quantise.static:make",
        "int8-dynamic": "edge_opcua.compress.quantise.dynamic:make",
        "fp16": "edge_opcua.compress.quantise.half:make",
        "mixed": "edge_opcua.compress.quantise.mixed:make",
        "pruned": "edge_opcua.compress.prune.make:make",
        "tuned": "edge_opcua.compress.train.tune:make",
        "distilled": "edge_opcua.compress.train.distil:make",
        "qat": "edge_opcua.compress.train.qat:make",
    }
)
TRAINED: Final[frozenset[Family]] = frozenset({"tuned", "distilled", "qat"})
"""Families that need torch."""


def maker_of(family: Family) -> Maker:
    """Return who makes the variants of a family."""
    module, _, name = MAKERS[family].partition(":")
    maker: Maker = getattr(import_module(module), name)
    return maker


def proposals_of(family: Family) -> Proposals:
    """Return who says which variants of a family are worth trying."""
    module, _, _ = MAKERS[family].partition(":")
    proposals: Any = import_module(module).proposals
    found: Proposals = proposals
    return found


def also_of(family: Family) -> Proposals:
    """Return who says which variants of a family are tried only if somebody names them."""
    module, _, _ = MAKERS[family].partition(":")
    also: Any = getattr(import_module(module), "also", _none)
    found: Proposals = also
    return found


def _none(_path: Path, _kitchen: Kitchen) -> list[Variant]:
    return []
