"""A process that answers requests over the bus with the engine of a lane.

With batches it works as a realtime lane does: what has come is handed in, scheduled and fetched. Without, as
a safety lane does: what has come is judged at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.serving.process import INLINE_NS
from edge_opcua.bench.inference.models import BenchModel, Floats
from edge_opcua.bench.opcua.remote import Remote, lines, python, say
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.values import GOOD, BlockSpec, Scalar, TagSpec
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.measure import measure
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request

ASK, ANSWER = "ask", "answer"
DEPTH: Final = 64
_SECOND_NS: Final = 1_000_000_000
_WAIT_MS: Final = 20.0


def engine_for(model: BenchModel, *, most: int, workers: int | None = 0) -> Engine:
    """Load, measure and start a model as a lane process does.

    Args:
        model: The model.
        most: Largest batch.
        workers: Worker threads; None for what a realtime lane of this model alone would have.
    """
    clock = SystemClock()
    loaded = model.load(clock=clock)
    costs = CostTable()
    for batch, took in measure(loaded, clock, most).items():
        costs.seed(model.key, batch, took)
    if workers is None:
        workers = int(costs.cost_ns(model.key, costs.sizes(model.key)[-1]) > INLINE_NS)
    engine = Engine({model.key: loaded}, costs, clock, workers=workers, most={model.key: most})
    engine.start()
    return engine


class Asking:
    """The side that asks: publishes rows and reads answers, from this process.

    Args:
        model: The model that answers.
        most: Largest batch.
        core: Core of the process that answers; None for any.
    """

    def __init__(self, model: BenchModel, *, most: int = 1, core: int | None = None) -> None:
        binding = model.load().bind()
        binding.judge(model.sample())
        self.wanted: Floats = next(iter(binding.answer.values())).copy()
        blocks = [
            BlockSpec(
                name, (TagSpec("number", Scalar.UINT64), TagSpec("row", Scalar.FLOAT, size)), DEPTH, wakes=1
            )
            for name, size in ((ASK, model.size), (ANSWER, self.wanted.size))
        ]
        self._bus = Bus.create(blocks)
        given = {"bus": self._bus.fds, "model": model.as_json(), "most": most}
        self._remote = Remote(
            python("edge_opcua.bench.inference.answerer"), given, pass_fds=self._bus.pass_fds, core=core
        )
        self._asks = _Rows(self._bus.writer(ASK), model.size)
        self._answers = self._bus.reader(ANSWER)
        self._fd = self._bus.wake_fds(ANSWER)[0]
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._number = 0
        self._remote.hear()

    @property
    def pid(self) -> int:
        """Process that answers."""
        return self._remote.pid

    def ask(self, row: Floats) -> int:
        """Publish a row and return its number."""
        self._number += 1
        self._asks.publish(self._number, row)
        return self._number

    def answered(self) -> list[tuple[int, npt.NDArray[Any]]]:
        """Wait for answers and return them: number and values."""
        self._poll.poll(1000)
        emptied(self._fd)
        return [(int(batch.column(Scalar.UINT64)[0]), batch.array(1)) for batch in self._answers.poll()]

    def close(self) -> None:
        """End the other process."""
        self._remote.close()
        self._bus.close()


class _Rows:
    """A block of one number and one row of values; what stays the same is written once."""

    def __init__(self, writer: BlockWriter, size: int) -> None:
        self._publish = writer.publish
        batch = writer.batch
        batch.status[:] = GOOD
        batch.set_array(1, np.zeros(size, np.float32))
        self._number = batch.column(Scalar.UINT64)
        self._row = batch.array(1)

    def publish(self, number: int, row: npt.NDArray[Any]) -> None:
        """Publish a row under a number."""
        self._number[0] = number
        self._row[:] = row
        self._publish()


def emptied(fd: int) -> None:
    """Take back what woke us."""
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(fd)


class Answerer:
    """The side that answers.

    Args:
        bus: The bus.
        given: The model and the largest batch.
    """

    def __init__(self, bus: Bus, given: Mapping[str, Any]) -> None:
        model = BenchModel.from_json(given["model"])
        self._key = model.key
        self._batches = given["most"] > 1
        self._engine = engine_for(model, most=given["most"])
        self._asked = bus.reader(ASK)
        size = bus.layout(ANSWER).spec.tags[1].length
        self._answers = _Rows(bus.writer(ANSWER), size)
        self._clock = SystemClock()
        self._fd = bus.wake_fds(ASK)[0]

    def serve(self, stop: int) -> None:
        """Answer until something can be read from a descriptor."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(stop, select.POLLIN)
        while all(fd != stop for fd, _ in poll.poll(self._wait_ms())):
            emptied(self._fd)
            for batch in self._asked.poll():
                self._take(int(batch.column(Scalar.UINT64)[0]), batch.array(1))
            if self._batches:
                for request in self._engine.turn():
                    self._publish(request)

    def _wait_ms(self) -> float:
        due_ns = self._engine.next_turn_ns() if self._batches else None
        if due_ns is None:
            return _WAIT_MS
        return max(0.0, min(_WAIT_MS, (due_ns - self._clock.monotonic_ns()) / 1e6))

    def _take(self, number: int, row: npt.NDArray[Any]) -> None:
        now_ns = self._clock.monotonic_ns()
        until_ns = now_ns + _SECOND_NS
        if not self._batches:
            request = Request(self._key, LaneClass.SAFETY, now_ns, until_ns, row, tag=number)
            self._engine.judge(request)
            self._publish(request)
            return
        row = row.astype(np.float32)  # its own: the reader goes on while it waits
        request = Request(self._key, LaneClass.REALTIME, now_ns, until_ns, row, tag=number)
        if not self._engine.submit(request):
            raise RuntimeError(f"refused: {request.reason}")

    def _publish(self, request: Request) -> None:
        if request.fate is not Fate.DONE:
            raise RuntimeError(f"{request.fate}: {request.reason}")
        self._answers.publish(request.tag, next(iter(request.answers.values())))

    def close(self) -> None:
        """End the engine."""
        self._engine.close()


def main() -> None:
    """Answer until the input ends."""
    configure_logging(level=logging.ERROR)
    given = lines()()
    assert given is not None
    answerer = Answerer(Bus.attach(*given["bus"]), given)
    say({"ready": True})
    answerer.serve(0)
    answerer.close()


if __name__ == "__main__":
    main()
