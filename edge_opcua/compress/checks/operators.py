"""Operators that a backend leaves out, as its own documentation says: the backend itself may not be here.

What is here is asked instead: a model is loaded on the provider, which knows better than any table. Versions
of operators are not looked at, only their names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

TABLE: Final = Path(__file__).with_name("backends.toml")
CLASSICAL: Final = "ai.onnx.ml."
"""Trees, scalers, support vectors: only ONNX Runtime's own kernels run them."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backend leaves out.

    Args:
        title: Its name and the version that was documented.
        source: Where that stands.
        then: What becomes of a model that has one of them.
        missing: Operators of ONNX that it does not run.
    """

    title: str
    source: str
    then: str
    missing: frozenset[str]

    def left_out(self, operators: Iterable[str]) -> list[str]:
        """Return which operators of a model it does not run.

        Args:
            operators: Types, with their domain before them where it is not ONNX's own.
        """
        return sorted({each for each in operators if each in self.missing or each.startswith(CLASSICAL)})


@cache
def backends() -> MappingProxyType[str, Backend]:
    """Return the backends that are known, by provider as a configuration calls it."""
    table = tomllib.loads(TABLE.read_text("utf-8"))
    return MappingProxyType(
        {
            name: Backend(row["title"], row["source"], row["then"], frozenset(row["missing"].split()))
            for name, row in table.items()
        }
    )
