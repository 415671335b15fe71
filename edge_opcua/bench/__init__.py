"""``edge-opcua bench``: the home of every speed figure, each beside a peer or a floor from the same run."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from edge_opcua import __version__
from edge_opcua.bench.figure import Figure, table
from edge_opcua.core.clock import SystemClock
from edge_opcua.errors import EdgeError

__all__ = ["BENCHMARKS", "Benchmark", "Figure", "main", "table"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark by name.

    Args:
        module: Module to import when it is wanted; its ``run()`` yields :class:`Figure` objects.
        title: What it measures, against what.
    """

    module: str
    title: str


class _Module(Protocol):
    def run(self) -> Iterable[Figure]: ...


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "bus": Benchmark("edge_opcua.bench.bus", "tag bus: publish and consume, against a dict of dataclasses"),
    "end-to-end": Benchmark(
        "edge_opcua.bench.endtoend",
        "stroke ready in the sensor to notification in the client, with its parts",
    ),
    "plc": Benchmark(
        "edge_opcua.bench.plc.suite",
        "PLC connectors beside C clients and another gateway: refresh, scan jitter, dead PLCs; 1 min",
    ),
    "compress": Benchmark(
        "edge_opcua.bench.compress.suite",
        "models made smaller: what each variant loses, takes and saves beside the original, and which one is "
        "chosen; 15 min",
    ),
    "compress-quick": Benchmark("edge_opcua.bench.compress.quick", "the same of one model; 3 min"),
    "failsafe": Benchmark(
        "edge_opcua.bench.failsafe.suite",
        "each fault until the PLC is safe, beside what check promises; trigger to result; 3 min",
    ),
    "inference": Benchmark(
        "edge_opcua.bench.inference.suite",
        "deadlines under load, time added to models, batches, beside LitServe, MLServer and Triton; 9 min",
    ),
    "inference-quick": Benchmark(
        "edge_opcua.bench.inference.quick", "the same, shorter and without the servers of others; 1 min"
    ),
    "models": Benchmark(
        "edge_opcua.bench.models.suite",
        "100 changes of a model under load: strokes lost, wrong versions, time added, memory; 8 min",
    ),
    "models-quick": Benchmark("edge_opcua.bench.models.quick", "the same, 12 changes; 1 min"),
    "opcua": Benchmark(
        "edge_opcua.bench.opcua.suite",
        "OPC UA server beside asyncua and node-opcua: values, reads, browse, events, latency, start; 7 min",
    ),
    "opcua-quick": Benchmark("edge_opcua.bench.opcua.quick", "the same, fewer and shorter; 2 min"),
    "opcua-full": Benchmark("edge_opcua.bench.opcua.full", "the same, longer windows; 15 min"),
    "opcua-growth": Benchmark(
        "edge_opcua.bench.opcua.growth",
        "OPC UA server: how cost grows with tags and clients, and what clients are told where it ends; 2 min",
    ),
    "opcua-profile": Benchmark("edge_opcua.bench.opcua.shares", "OPC UA server: where its time goes"),
}


def main(
    name: str | None, json_path: Path | None = None, *, benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> int:
    """Run one benchmark and print its figures; without a name list them all.

    Args:
        name: Key of ``benchmarks``; None lists them.
        json_path: File that gets one JSON line per figure; ``-`` for standard output instead of the table.
        benchmarks: What can be run.

    Returns:
        Exit code: 0 done, 1 it could not be measured, 2 no such benchmark.
    """
    if name is None:
        width = max(map(len, benchmarks))
        for known, one in benchmarks.items():
            print(f"{known:<{width}}  {one.title}")
        return 0
    if name not in benchmarks:
        near = difflib.get_close_matches(name, benchmarks, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(benchmarks)}"
        print(f"edge-opcua bench: no benchmark {name!r}; {hint}", file=sys.stderr)
        return 2

    surroundings = describe_machine()
    print(f"{name}: {benchmarks[name].title}\n{_in_words(surroundings)}", file=sys.stderr, flush=True)
    module: _Module = importlib.import_module(benchmarks[name].module)
    try:
        figures = list(module.run())
    except EdgeError as exc:
        print(f"edge-opcua bench {name}: {exc}", file=sys.stderr)
        return 1
    lines = "".join(
        json.dumps({"schema": "edge-opcua.bench/1", "bench": name, **one.as_json(), **surroundings}) + "\n"
        for one in figures
    )
    if json_path == Path("-"):
        print(lines, end="")
        return 0
    print(table(figures), end="")
    if json_path is not None:
        json_path.write_text(lines)
    return 0


def describe_machine() -> dict[str, Any]:
    """Return what a figure means nothing without: processor, cores, load, versions, time."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "version": __version__,
        "utc_ns": SystemClock().utc_ns(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    # x86 names the model; Arm kernels often do not, then the architecture has to do.
    models = (line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name"))
    return next(models, platform.machine())


def _in_words(machine: Mapping[str, Any]) -> str:
    words = f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}"
    if machine["load"] > machine["cores"] / 2:
        words += f"; the machine is busy (load {machine['load']}): the ratios hold better than the figures"
    return words
