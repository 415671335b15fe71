"""The process that plays the plant: captures at a fixed rate, and when their verdicts were on the bus.

It is as urgent as the system grants, above the lanes. How late its own timer wakes it is the floor of every
figure: no process of this machine can be more punctual.

``{"do": "run", "hz": …, "count": …, "out": FILE}`` is answered when the last verdict had its time; the file
gets ``late_ns`` (of the timer), ``published_ns``, ``at_ns`` (when the verdict was on the bus, 0 if there was
none) and ``fail_safe``, one of each capture; the last two with one row for each pipeline. All times are
monotonic.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from typing import Any, Final

import numpy as np

from edge_opcua.bench.opcua.remote import lines, say
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.realtime import become
from edge_opcua.core.values import GOOD, Scalar, is_bad
from edge_opcua.sim.physics import PressPhysics

PRIORITY: Final = 60
STROKES: Final = 32
REFRESH_NS: Final = 100_000_000
LAST_S: Final = 0.2
CONTEXT: Final = {"tonnage": 820.0, "die_temp": 45.0, "strokes_per_min": 18.0, "part_id": 100_000}


class Source:
    """Writes the blocks of the press and of its vibration unit, and reads the results.

    Args:
        bus: The bus.
        given: Names of the blocks: ``capture``, ``context``, ``results`` (one or more).
    """

    def __init__(self, bus: Bus, given: dict[str, Any]) -> None:
        self._captures = bus.writer(given["capture"])
        self._context = bus.writer(given["context"])
        self._results = [_Results(bus.reader(name)) for name in given["results"]]
        physics = PressPhysics(7)
        self._sharp = [physics.stroke(number, wear=0.0).waveform for number in range(STROKES)]
        self._worn = [physics.stroke(number, wear=1.0).waveform for number in range(STROKES)]
        self._waveforms = self._sharp
        self._number = 0
        batch = self._captures.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        self._refreshed_ns = 0
        self.refresh(time.monotonic_ns())

    def refresh(self, now_ns: int) -> None:
        """Publish the process values when they are due."""
        if now_ns - self._refreshed_ns < REFRESH_NS:
            return
        self._refreshed_ns = now_ns
        batch = self._context.batch
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = time.time_ns()
        for name, value in CONTEXT.items():
            batch.set(batch.row(name), value)
        self._context.publish()

    def capture(self) -> int:
        """Publish the next capture and return its number."""
        self._number += 1
        batch, rows = self._captures.batch, self._rows
        now_ns = time.time_ns()
        batch.set(rows["sequence"], self._number & 0xFFFF)
        batch.set(rows["ready_ns"], now_ns)
        batch.set(rows["stroke"], self._number)
        batch.set(rows["sample_rate_hz"], 10_000.0)
        batch.set_array(rows["waveform"], self._waveforms[self._number % STROKES])
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = now_ns
        self._captures.publish()
        return self._number

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Publish captures as ordered and write down what became of them."""
        count, period_ns = order["count"], round(1e9 / order["hz"])
        self._waveforms = self._worn if order.get("worn") else self._sharp
        late_ns = np.zeros(count, np.int64)
        published_ns = np.zeros(count, np.int64)
        first = self._number + 1
        for results in self._results:
            results.begin(first, count)
        began_ns = due_ns = time.monotonic_ns()
        for at in range(count):
            due_ns += period_ns
            if (left_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(left_ns / 1e9)
            now_ns = time.monotonic_ns()
            late_ns[at] = now_ns - due_ns
            if late_ns[at] > period_ns // 4:  # a plant has no two captures at once because this machine stood
                due_ns = now_ns
            self.capture()
            published_ns[at] = now_ns
            for results in self._results:
                results.drain()
            self.refresh(now_ns)
        time.sleep(order.get("last_s", LAST_S))
        for results in self._results:
            results.drain()
        at_ns = np.array([each.at_ns for each in self._results])
        fail_safe = np.array([each.fail_safe for each in self._results])
        np.savez(order["out"], late_ns=late_ns, published_ns=published_ns, at_ns=at_ns, fail_safe=fail_safe)
        return {"seconds": (time.monotonic_ns() - began_ns) / 1e9}


class _Results:
    """The verdicts of one pipeline."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader = reader
        self._places: tuple[int, int, int] | None = None
        self.begin(0, 0)

    def begin(self, first: int, count: int) -> None:
        """Take note of the captures from ``first`` on."""
        self._first, self._count = first, count
        self.at_ns = np.zeros(count, np.int64)
        self.fail_safe = np.zeros(count, np.bool_)

    def drain(self) -> None:
        """Take what is new."""
        for batch in self._reader.poll():
            row, stroke, fail_safe = self._places or self._look(batch)
            at = int(batch.column(Scalar.UINT32)[stroke]) - self._first
            if 0 <= at < self._count and not is_bad(int(batch.status[row])):
                self.at_ns[at] = batch.stamp_ns
                self.fail_safe[at] = batch.column(Scalar.BOOLEAN)[fail_safe]

    def _look(self, batch: TagBatch) -> tuple[int, int, int]:
        row = batch.row("stroke")
        self._places = row, batch.place(row)[1], batch.place(batch.row("fail_safe_active"))[1]
        return self._places


def main() -> None:
    """Serve orders until the input ends; in between the process values are kept fresh."""
    configure_logging(level=logging.ERROR)
    following = lines()
    given = following()
    assert given is not None
    source = Source(Bus.attach(*given["bus"]), given)
    granted = become("safety")
    if granted.scheduler.startswith("SCHED_FIFO"):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    gc.disable()
    say({"ready": True, "scheduler": granted.scheduler})
    while (order := following()) is not None:
        source.refresh(time.monotonic_ns())
        say(source.run(order))


if __name__ == "__main__":
    main()
