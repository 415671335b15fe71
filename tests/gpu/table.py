"""Prints what each way to run a model takes here, as a table for the documentation.

``python -m tests.gpu.table`` takes some minutes, most of them for building engines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_opcua.bench.inference.models import INPUT, BenchModel
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from tests.gpu.models import built, difference
from tests.gpu.places import PLACES, PROCESSOR, Place, why_not

HEAD = (
    "model",
    "runs on",
    "batch",
    "p50 µs",
    "p99 µs",
    "samples/s",
    "differs by",
    "load ms",
    "again ms",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs that are measured for each row")
    runs = parser.parse_args().runs
    places = [PROCESSOR]
    for place in PLACES:
        if reason := why_not(place):
            sys.stderr.write(f"{place}: left out: {reason}\n")
        else:
            places.append(place)
    with tempfile.TemporaryDirectory() as folder:
        models = built(Path(folder))
        lines = [HEAD, ("---",) * len(HEAD)]
        for model in models.values():
            lines += [row for place in places for row in rows(place, model, Path(folder) / "cache", runs)]
            sys.stderr.write(f"{model.title} done\n")
        heading = about(places, models["mlp"])
    sys.stdout.write(heading)
    sys.stdout.writelines(f"| {' | '.join(line)} |\n" for line in lines)


def about(places: list[Place], model: BenchModel) -> str:
    """Return what was measured with."""
    lines = []
    for place in places:
        facts = place.load(model.path, {INPUT: (1, *model.shape)}).describe()
        lines.append(f"* {place}: {facts['runtime']}, {facts.get('device', facts['provider'])}\n")
    return "".join([*lines, "\n"])


def rows(place: Place, model: BenchModel, cache: Path, runs: int) -> Iterator[tuple[str, ...]]:
    """Measure one model in one place; a refusal is a row too."""
    shapes = {INPUT: (1, *model.shape)}
    try:
        first = place.load(model.path, shapes, cache)
        again = place.load(model.path, shapes, cache)
    except ModelError as exc:
        yield model.title, str(place), "", "", "", "", "", "refused", str(exc.code)
        return
    processor = PROCESSOR.load(model.path, shapes)
    loads = [f"{backend.describe()['load_ms']:.0f}" for backend in (first, again)]
    for batch in (1, 8, 32):
        times_us, found = measured(again, model, batch, runs)
        _, wanted = measured(processor, model, batch, 1)
        p50, p99 = np.percentile(times_us, [50, 99])
        yield (
            model.title,
            str(place),
            str(batch),
            f"{p50:.1f}",
            f"{p99:.1f}",
            f"{batch * 1e6 / p50:.0f}",
            f"{difference(found, wanted):.1e}",
            *loads,
        )


def measured(
    backend: Backend, model: BenchModel, batch: int, runs: int
) -> tuple[list[float], dict[str, Any]]:
    """Return the times of runs in µs, the first ones left out, and the answers."""
    clock = SystemClock()
    binding = backend.bind(batch)
    for row in range(batch):
        binding.inputs[INPUT][row] = model.sample(row).reshape(model.shape)
    times_us = []
    for number in range(runs + 20):
        started_ns = clock.monotonic_ns()
        binding.run()
        if number >= 20:
            times_us.append((clock.monotonic_ns() - started_ns) / 1e3)
    return times_us, {name: array.copy() for name, array in binding.outputs.items()}


if __name__ == "__main__":
    main()
