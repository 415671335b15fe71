"""What a lane adds to a model: beside a raw loop of ONNX Runtime on bound buffers, run in turns."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge_opcua.bench.figure import Figure, number
from edge_opcua.bench.inference.answerer import Asking, engine_for
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, build
from edge_opcua.bench.opcua.stage import pinned
from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.schedule.request import LaneClass, Request

MODELS: Final = ("mlp", "press", "autoencoder", "vibration", "vibration-wide", "inspection")
TINY, LONGER, ACROSS = 1.8, 1.10, 1.05
DEFECTS_MS: Final = 5.0
FRAMES_PER_S: Final = 30.0
_LONG_US: Final = 100.0
_MILLISECOND_US: Final = 1000.0
_SMALL_KIB: Final = 64.0
"""What one process tells another about a part, up to here; an image is more."""
_BLOCKS: Final = 20
_LEAST, _MOST = 200, 20_000
_HOUR_NS: Final = 3_600_000_000_000

Microseconds = npt.NDArray[np.float64]


def figures(effort: Effort) -> Iterator[Figure]:
    """Overhead: what a lane adds to a model."""
    with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        models = build(Path(folder), *MODELS)
        for model in models.values():
            found = in_turns(model, effort)
            yield from _in_lane(model, found)
            yield from _across(model, found)
            if model.key == "inspection":
                yield from _defects(model, found.judged)


@dataclass(frozen=True, slots=True)
class Found:
    """Times of single runs, µs, shape ``(blocks, runs)``; blocks of the same number were neighbours in time.

    Args:
        raw: Of the raw loop.
        judged: Of the safety lane's way.
        turned: Of the realtime lane's way in one thread: handed in, scheduled, run, fetched.
        across: From another process over the bus and back.
    """

    raw: Microseconds
    judged: Microseconds
    turned: Microseconds
    across: Microseconds

    @property
    def raw_us(self) -> float:
        """Median of the raw loop, µs."""
        return float(np.median(self.raw))

    def beside_raw(self, way: Microseconds) -> float:
        """Return how many times as long another way takes: the median over neighbouring blocks.

        Only of the half of them in which the raw loop was fastest: elsewhere others had the machine's caches.
        """
        raw = np.median(self.raw, axis=1)
        quiet = np.argsort(raw)[: (len(raw) + 1) // 2]
        return float(np.median(np.median(way, axis=1)[quiet] / raw[quiet]))


def raw_loop(model: BenchModel) -> Callable[[], None]:
    """Return a run of ONNX Runtime with as little of Python as it has, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    row = model.sample().reshape(1, *model.shape)
    given = session.get_inputs()[0].name
    found = [np.array(each) for each in session.run(None, {given: row})]
    binding.bind_ortvalue_input(given, onnxruntime.OrtValue.ortvalue_from_numpy(row))
    for output, array in zip(session.get_outputs(), found, strict=True):
        binding.bind_ortvalue_output(output.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    kept = (row, found)

    def run() -> None:
        session.run_with_iobinding(binding)
        assert kept

    return run


def in_turns(model: BenchModel, effort: Effort) -> Found:
    """Time all ways in blocks that take turns, so that what moves the machine moves all of them.

    All happens on one core: what is measured is the path, not how soon another core awakes.
    """
    core = max(os.sched_getaffinity(0))
    with pinned(core):
        return _in_turns(model, effort, core)


def _in_turns(model: BenchModel, effort: Effort, core: int) -> Found:
    raw = raw_loop(model)
    row = model.sample()
    engine = engine_for(model, most=1)
    now_ns = SystemClock().monotonic_ns
    request = Request(model.key, LaneClass.SAFETY, 0, now_ns() + _HOUR_NS, row)

    def turn() -> None:
        asked_ns = now_ns()
        engine.submit(Request(model.key, LaneClass.REALTIME, asked_ns, asked_ns + _HOUR_NS, row))
        engine.turn()

    with contextlib.closing(engine), contextlib.closing(Asking(model, core=core)) as other:

        def across() -> None:
            other.ask(row)
            while not other.answered():
                pass

        ways = (raw, lambda: engine.judge(request), turn, across)
        return Found(*_timed(ways, _runs(raw, effort)))


def _runs(run: Callable[[], None], effort: Effort) -> int:
    """Return how often each block runs: as long as so many runs of 1 ms."""
    took_us = float(np.median(_block(run, 20)))
    runs = min(_MOST, max(_LEAST, effort.runs * _MILLISECOND_US / took_us / 4))
    return max(10, round(runs / _BLOCKS))


def _timed(ways: tuple[Callable[[], None], ...], runs: int) -> list[Microseconds]:
    taken: list[list[Microseconds]] = [[] for _ in ways]
    for block in range(_BLOCKS + 1):
        for way, times in zip(ways, taken, strict=True):
            found = _block(way, runs)
            if block:  # the first warms up
                times.append(found)
    return [np.array(times) for times in taken]


def _block(run: Callable[[], None], runs: int) -> Microseconds:
    times = np.empty(runs)
    clock = time.perf_counter_ns
    for at in range(runs):
        began_ns = clock()
        run()
        times[at] = (clock() - began_ns) / 1e3
    return times


def _in_lane(model: BenchModel, found: Found) -> Iterator[Figure]:
    raw_us = found.raw_us
    floor = LONGER if raw_us >= _LONG_US else TINY
    said = f"{found.raw.size} runs each; {times(found.beside_raw(found.judged), floor)}"
    judged_us = float(np.median(found.judged))
    loop = "raw ONNX Runtime loop"
    yield Figure(f"{model.title}: in the safety lane, p50", judged_us, "µs", loop, raw_us, note=said)
    turned_us = float(np.median(found.turned))
    yield Figure(
        f"{model.title}: in a realtime lane, p50",
        turned_us,
        "µs",
        loop,
        raw_us,
        note="admitted, scheduled, run, fetched; one thread",
    )


def _across(model: BenchModel, found: Found) -> Iterator[Figure]:
    raw_us, across_us = found.raw_us, float(np.median(found.across))
    kilobytes = model.size * 4 / 1024
    said = f"{kilobytes:.3g} KiB there; published, woken, checked, judged, published, woken"
    if raw_us >= _MILLISECOND_US and kilobytes < _SMALL_KIB:
        said += f"; {times(found.beside_raw(found.across), ACROSS)}"
    yield Figure(
        f"{model.title}: from another process and back, p50",
        across_us,
        "µs",
        "raw ONNX Runtime loop",
        raw_us,
        note=said,
    )


def _defects(model: BenchModel, judged: Microseconds) -> Iterator[Figure]:
    p99_ms = float(np.percentile(judged, 99)) / 1e3
    held = "holds" if p99_ms < DEFECTS_MS else "DOES NOT HOLD"
    yield Figure(
        f"{model.title}: defect detection, p99", p99_ms, "ms", "what is asked for", DEFECTS_MS, note=held
    )
    yield Figure(
        f"{model.title}: frames on one core",
        1e6 / float(np.mean(judged)),
        "1/s",
        "what is asked for",
        FRAMES_PER_S,
        better="higher",
    )


def times(factor: float, floor: float) -> str:
    """Say whether a factor keeps its bound."""
    verdict = "holds" if factor <= floor else "DOES NOT HOLD"
    return f"{number(factor)} times, floor {floor:g}: {verdict}"
