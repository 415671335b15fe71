"""What batches gain, model by model, and that a model which gains nothing is run one by one.

Both sides are the engine as a lane process would run it, in one thread where a run is short and with a worker
otherwise, and 64 requests always waiting; the peer may not make batches.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference.answerer import engine_for
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, build
from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.measure import measure
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import LaneClass, Request

MODELS: Final = ("mlp", "autoencoder", "vibration-wide", "inspection")
MOST: Final = 32
_WAITING: Final = 64
_MINUTE_NS: Final = 60_000_000_000


def figures(effort: Effort) -> Iterator[Figure]:
    """Batching: what it gains, and where it switches itself off."""
    with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        for model in build(Path(folder), *MODELS).values():
            yield _of_runs(model)
            alone, _ = rate_per_s(model, 1, effort.asked_s / 2)
            together, mean = rate_per_s(model, MOST, effort.asked_s / 2)
            yield Figure(
                f"{model.title}: requests served, 64 waiting",
                together,
                "1/s",
                "the same engine, one by one",
                alone,
                better="higher",
                note=f"{mean:.3g} requests a run",
            )


def _of_runs(model: BenchModel) -> Figure:
    """Return what a sample costs in the largest batch that the engine would make."""
    costs = CostTable()
    for batch, took in measure(model.load(), SystemClock(), MOST).items():
        costs.seed(model.key, batch, took)
    sizes = costs.sizes(model.key)
    each_us = costs.typical_ns(model.key, sizes[-1]) / sizes[-1] / 1e3
    single_us = costs.typical_ns(model.key, 1) / 1e3
    off = "gains nothing: switched off by itself" if sizes == (1,) else f"batches that pay: {_listed(sizes)}"
    name = f"{model.title}: a sample in a run of {sizes[-1]}"
    return Figure(name, each_us, "µs", "a run of its own", single_us, note=off)


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(str(size) for size in sizes)


def rate_per_s(model: BenchModel, most: int, seconds: float) -> tuple[float, float]:
    """Keep requests waiting for a time; return answers per second and requests per run."""
    with contextlib.closing(engine_for(model, most=most, workers=None)) as engine:
        row = model.sample()
        now_ns = SystemClock().monotonic_ns

        def submit() -> None:
            asked_ns = now_ns()
            engine.submit(Request(model.key, LaneClass.REALTIME, asked_ns, asked_ns + _MINUTE_NS, row))

        for _ in range(_WAITING):
            submit()
        done, began = 0, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            if engine.fd is not None:
                select.select([engine.fd], [], [], 1.0)
            for _ in engine.turn():
                done += 1
                submit()
        return done / passed, engine.load().mean_batch
