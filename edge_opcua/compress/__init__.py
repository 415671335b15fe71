"""Makes a model smaller and faster, and proves on the user's data that it is as good, or refuses.

The public API for scripts; ``edge-opcua compress`` does the same::

    from edge_opcua.compress import Options, compress

    report = compress("wear.onnx", "holdout.npz", Options(max_loss=0.5))
    print(report.chosen, report.reasons)

A part is imported when it is asked for: the arguments of this room are read for every ``--help``.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edge_opcua.compress.options import Options
    from edge_opcua.compress.report.report import Report
    from edge_opcua.compress.search.progress import Advance
    from edge_opcua.compress.search.run import compress

__all__ = ["Advance", "Options", "Report", "compress"]

_WHERE: Final = MappingProxyType(
    {
        "Advance": "search.progress",
        "Options": "options",
        "Report": "report.report",
        "compress": "search.run",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
