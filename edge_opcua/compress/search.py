"""One run from a model and samples to a report: make, taste, time, judge, choose; each step is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_opcua.compress.options import Options
from edge_opcua.compress.progress import Watcher


def compress(
    model: Path | str,
    data: Path | str | None = None,
    options: Options | None = None,
    *,
    progress: Watcher | None = None,
) -> Any:
    """Make a model smaller and faster, and prove on data that it is as good, or refuse."""
    raise NotImplementedError(model, data, options, progress)
