"""What runs of the models cost on this machine, kept in the state directory for ``check``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Never

import structlog

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ModelError
from edge_opcua.inference.plainfile import open_plain

SCHEMA: Final = "edge-opcua.costs/1"
WRITE_S: Final = 5.0
MOST_MODELS: Final = 500
MOST_CHARACTERS: Final = 8 * 2**20
LONGEST_NS: Final = 3_600_000_000_000
"""What says that a run takes longer than an hour was written by nobody who measured one."""
_KEPT: Final = ("load_ms", "memory_mb", "provider", "accelerated", "features_ns")

_log = structlog.get_logger(__name__)

Row = dict[str, Any]


def place_of(pipeline: PipelineConfig) -> str:
    """Return where the model of a pipeline runs, as costs are kept apart: another place, another cost."""
    options = json.dumps(pipeline.options, sort_keys=True, default=str) if pipeline.options else ""
    return f"{pipeline.backend}/{pipeline.provider} {options}".rstrip()


class MeasuredCosts:
    """Collects what lane processes measure, and writes it down.

    Args:
        file: The file, which need not be there.
        clock: For when it was measured.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._worker = Worker("costs")
        self._rows = read_costs(file)
        self._changed = asyncio.Event()

    def take(self, pipeline: PipelineConfig, facts: Mapping[str, Any]) -> None:
        """Take what was measured of the models of a pipeline, cheaper versions included."""
        costs = facts.get("costs")
        if not isinstance(costs, dict):
            return
        for key, by_batch in costs.items():
            found = {name: facts[name] for name in _KEPT if name in facts}
            row = {"costs": by_batch, **found, "measured_ns": self._clock.utc_ns()}
            self._rows.setdefault(str(key), {})[place_of(pipeline)] = row
        while len(self._rows) > MOST_MODELS:
            del self._rows[min(self._rows, key=lambda key: _newest(self._rows[key]))]
        self._changed.set()

    async def run(self) -> Never:
        """Write down what has changed, for ever; a disk that takes nothing is told and tried again."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            text = json.dumps({"schema": SCHEMA, "models": self._rows}, indent=1)
            try:
                await self._worker.call(_write, self._file, text, timeout_s=WRITE_S)
            except (OSError, TimeoutError) as exc:
                _log.warning("costs.not_kept", file=str(self._file), error=str(exc))


def read_costs(file: Path) -> dict[str, dict[str, Row]]:
    """Return what was measured, by ``<name>/<version>`` and place; empty if nothing usable is there."""
    try:
        models = json.loads(_text(file))["models"]
        return {
            str(key): {str(place): dict(row) for place, row in places.items() if "costs" in row}
            for key, places in models.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ModelError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        _log.warning("costs.unreadable", file=str(file), error=str(exc))
        return {}


def cost_ns(costs: Mapping[str, Mapping[str, Row]], pipeline: PipelineConfig, version: int) -> int | None:
    """Return what the features of one sample and a run for it take, ns; None if nobody has measured it here.

    Both are 99th percentiles; what one kept without the features counts as a run.

    Args:
        costs: What :func:`read_costs` found.
        pipeline: Says where the model runs.
        version: Version of its model.
    """
    row = costs.get(f"{pipeline.model}/{version}", {}).get(place_of(pipeline), {})
    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError, OverflowError):
        cost = int(row["costs"]["1"][1]) + max(0, int(row.get("features_ns", 0)))
        return cost if 0 < cost <= LONGEST_NS else None
    return None


def _newest(places: Mapping[str, Row]) -> int:
    found = (row.get("measured_ns") for row in places.values())
    return max((each for each in found if isinstance(each, int)), default=0)


def _text(file: Path) -> str:
    """Return what a file holds; it is read when the server starts: no waiting, no filling of memory."""
    with os.fdopen(open_plain(file), encoding="utf-8") as stream:
        text = stream.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"it is longer than {MOST_CHARACTERS} characters")
    return text


def _write(file: Path, text: str) -> None:
    scratch = file.with_suffix(".new")
    with scratch.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(file)
