"""A variant of a model: what it is called, how it is made, and what making it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

ORIGINAL: Final = "original"

Family = Literal[
    "original", "clean", "int8-static", "int8-dynamic", "fp16", "mixed", "pruned", "tuned", "distilled", "qat"
]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to make a model smaller or faster.

    Args:
        name: Unique in a plan, of letters, digits and ``-``, such as ``int8-percentile-channel-u8s8``.
        family: What kind it is; decides who makes it.
        recipe: What its maker needs to know, as JSON; the same recipe makes the same file.
        parent: Name of the variant it is made of.
        text: What it is, for people, in one line.
    """

    name: str
    family: Family
    recipe: Mapping[str, Any] = field(default_factory=dict)
    parent: str = ORIGINAL
    text: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A variant whose file was written.

    Args:
        variant: The variant.
        path: Its ONNX file.
        notes: What making it came to, for the report: parameters removed, nodes left in float, scales …
    """

    variant: Variant
    path: Path
    notes: Mapping[str, Any] = field(default_factory=dict)
