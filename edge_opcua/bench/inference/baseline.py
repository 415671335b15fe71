"""The plain ways to judge captures in time, for comparison: the same features, model and bus.

``process``: a process of its own, as urgent as any other. ``thread``: a thread beside threads that run
batches of 30 ms, in one process. ``python``: the same, and one thread that computes in Python. ``queue``:
captures and batches in one queue, first come, first served, as many workers as cores.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.bench.inference.burner import Burner
from edge_opcua.bench.inference.models import BenchModel, Floats
from edge_opcua.bench.inference.source import CONTEXT
from edge_opcua.bench.opcua.remote import lines, say
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import GOOD
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.manifest import load_manifest

WAYS: Final = ("process", "thread", "python", "queue")
_POLL_S: Final = 0.1


class Judge:
    """Takes captures from the bus and puts verdicts on it, without any care for deadlines.

    Args:
        bus: The bus.
        given: Names of the blocks, and the folder of the model.
    """

    def __init__(self, bus: Bus, given: dict[str, Any]) -> None:
        folder = Path(given["model"])
        manifest = load_manifest(folder / "manifest.toml")
        self._features = StrokeFeatures(
            sample_count=manifest.sample_count,
            sample_rate_hz=manifest.sample_rate_hz,
            unit=manifest.waveform_unit,
            context=[Feature(feature.name, feature.unit) for feature in manifest.context],
        )
        size = len(manifest.features)
        backend = OnnxRuntimeBackend.load(
            folder / "model.onnx", provider="cpu", input_shapes={manifest.input_name: (1, size)}
        )
        self._binding = LoadedModel("press", backend, manifest.input_name, size).bind()
        self._captures = bus.reader(given["capture"])
        self.fd = bus.wake_fds(given["capture"])[0]
        self._results = bus.writer(given["results"][0])
        self._context = [CONTEXT[feature.name] for feature in manifest.context]
        self._rate_hz = manifest.sample_rate_hz

    def captures(self) -> list[tuple[int, Floats]]:
        """Return what came since the last call: number and samples of each."""
        return [_taken(batch) for batch in self._captures.poll()]

    def judge(self, stroke: int, waveform: Floats) -> None:
        """Judge one capture and publish the verdict."""
        row = self._binding.row
        self._features.extract(waveform, self._rate_hz, self._context, row)
        self._binding.judge(row)
        batch = self._results.batch
        batch.status[:] = GOOD
        batch.set(batch.row("stroke"), stroke)
        batch.set(batch.row("score"), float(self._binding.answer["score"][0]))
        batch.set(batch.row("fail_safe_active"), value=False)
        self._results.publish()


def _taken(batch: TagBatch) -> tuple[int, Floats]:
    stroke = int(batch.value(batch.row("stroke")))  # type: ignore[arg-type]
    return stroke, batch.array(batch.row("waveform")).astype(np.float32)


class Plain:
    """One of :data:`WAYS`, until it is told to stop.

    Args:
        judge: What judges.
        burners: What else the process does; one of each core.
    """

    def __init__(self, judge: Judge, burners: list[Burner]) -> None:
        self._judge = judge
        self._burners = burners
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def start(self, way: str) -> None:
        """Begin."""
        if way in ("thread", "python"):
            for burner in self._burners:
                self._thread(partial(self._burn, burner))
        if way == "python":
            self._thread(self._compute)
        if way == "queue":
            for burner in self._burners:
                self._queue.put(partial(self._again, burner))
                self._thread(self._work)
        self._thread(lambda: self._intake(queued=way == "queue"))

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        for _ in self._burners:
            self._queue.put(lambda: None)
        for thread in self._threads:
            thread.join()

    def _thread(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _intake(self, *, queued: bool) -> None:
        poll = select.poll()
        poll.register(self._judge.fd, select.POLLIN)
        while not self._stopping.is_set():
            if not poll.poll(_POLL_S * 1000):
                continue
            _empty(self._judge.fd)
            for stroke, waveform in self._judge.captures():
                if queued:
                    self._queue.put(partial(self._judge.judge, stroke, waveform))
                else:
                    self._judge.judge(stroke, waveform)

    def _burn(self, burner: Burner) -> None:
        while not self._stopping.is_set():
            burner.run()

    def _compute(self) -> None:
        number = 0
        while not self._stopping.is_set():
            number = (number * 31 + 7) % 1_000_003

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._queue.get()()

    def _again(self, burner: Burner) -> None:
        """Run a batch and stand in the queue again."""
        burner.run()
        self._queue.put(partial(self._again, burner))


def _empty(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return


def main() -> None:
    """Judge until the input ends."""
    following = lines()
    given = following()
    assert given is not None
    burden = BenchModel.from_json(given["burden"])
    judge = Judge(Bus.attach(*given["bus"]), given)
    burners = [Burner(burden.load(), burden.sample()) for _ in range(given["burners"])]
    plain = Plain(judge, burners)
    plain.start(given["way"])
    say({"ready": True})
    while following() is not None:
        pass
    plain.stop()


if __name__ == "__main__":
    main()
