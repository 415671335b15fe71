"""What a batch costs on the tag bus, with real reader processes, against a dict of frozen dataclasses.

The peer is given every advantage: it stays in one process, so nothing of it is copied, checked or sent. The
same objects pickled for another process, which is what they would need to replace the bus, come last.
Costs are processor time of the publishing or consuming thread, medians over bursts: on few cores the readers
of this benchmark would otherwise be measured waiting for each other.
"""

from __future__ import annotations

import json
import pickle
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.bench.figure import Figure
from edge_opcua.core.bus import BlockReader, BlockWriter, Bus
from edge_opcua.core.values import GOOD, BlockSpec, Scalar, TagSpec, bad_rows

ROWS: Final = 500
READERS: Final = (1, 6)

_BURST: Final = 10
_BURSTS: Final = 150
_WARM_UP: Final = 20
_PAUSE_S: Final = 0.005
_GIVE_UP_S: Final = 30.0
_PEER: Final = "dict of dataclasses, in one process"


@dataclass(frozen=True, slots=True)
class Sample:
    """The plain way: one object per value."""

    value: float
    status: int
    source_ns: int
    server_ns: int


def run() -> Iterator[Figure]:
    """Measure and yield the figures."""
    names = tuple(f"tag_{row}" for row in range(ROWS))
    values = np.random.default_rng(7).random(ROWS)
    plain_publish_us, plain_consume_us = _plain(names, values)
    for count in READERS:
        bus = Bus.create(
            [BlockSpec("bench", tuple(TagSpec(name, Scalar.DOUBLE) for name in names), depth=_BURST * 20)]
        )
        publish_us, consume_us, lost = _shared(bus, values, count)
        bus.close()
        readers = f"{count} reader{'s' if count > 1 else ''}"
        note = f"processes of their own, polling every {_PAUSE_S * 1e3:g} ms; {lost} batches lost"
        for what, ours, plain in (
            ("publish", publish_us, plain_publish_us),
            ("consume", consume_us, plain_consume_us),
        ):
            yield Figure(f"{what} {ROWS} rows, {readers}", ours, "µs/batch", _PEER, plain, note=note)
            yield Figure(
                f"{what} {ROWS} rows, {readers}", ours * 1e3 / ROWS, "ns/tag", _PEER, plain * 1e3 / ROWS
            )
        if count == READERS[-1]:
            pickled_us = _pickled(names, values)
            yield Figure(
                f"publish once, consume in {readers}",
                publish_us + count * consume_us,
                "µs/batch",
                "the same objects, pickled once and loaded by each",
                pickled_us[0] + count * pickled_us[1],
                note="all processor time of one batch; the pickles are not even sent",
            )
    yield from _floor(names)


def _per_call_us(work: Callable[[], object], calls: int = 20, repeats: int = 60) -> float:
    """Return the processor time of one call, median over repeats, µs."""
    costs = []
    for repeat in range(_WARM_UP + repeats):
        started_ns = time.thread_time_ns()
        for _ in range(calls):
            work()
        if repeat >= _WARM_UP:
            costs.append((time.thread_time_ns() - started_ns) / calls / 1e3)
    return statistics.median(costs)


def _plain(names: tuple[str, ...], values: npt.NDArray[np.float64]) -> tuple[float, float]:
    table: dict[str, Sample] = {}

    def publish() -> None:
        now_ns = time.time_ns()
        for name, value in zip(names, values.tolist(), strict=True):
            table[name] = Sample(value, GOOD, now_ns, now_ns)

    def consume() -> float:
        return sum(sample.value for sample in table.values() if sample.status < 0x80000000)

    return _per_call_us(publish), _per_call_us(consume)


def _pickled(names: tuple[str, ...], values: npt.NDArray[np.float64]) -> tuple[float, float]:
    table = {
        name: Sample(value, GOOD, 1_700_000_000_000_000_000, 1_700_000_000_000_000_000)
        for name, value in zip(names, values.tolist(), strict=True)
    }
    frozen = pickle.dumps(table, pickle.HIGHEST_PROTOCOL)
    return (
        _per_call_us(lambda: pickle.dumps(table, pickle.HIGHEST_PROTOCOL), calls=5),
        _per_call_us(lambda: pickle.loads(frozen), calls=5),  # noqa: S301 - made three lines above
    )


def _shared(bus: Bus, values: npt.NDArray[np.float64], count: int) -> tuple[float, float, int]:
    """Return what publishing and consuming cost in µs with ``count`` readers, and the batches they lost."""
    total = _BURST * (_WARM_UP + _BURSTS)
    command = [sys.executable, "-m", "edge_opcua.bench.bus", str(bus.fd), str(total)]
    readers = [
        subprocess.Popen(command, pass_fds=bus.pass_fds, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
        for _ in range(count)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        publish_us = _publish(bus.writer("bench"), values)
        reports = [json.loads(reader.communicate(timeout=_GIVE_UP_S)[0]) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    consume_us = statistics.median(report["consume_us"] for report in reports)
    return publish_us, consume_us, sum(report["lost"] for report in reports)


def _publish(writer: BlockWriter, values: npt.NDArray[np.float64]) -> float:
    batch = writer.batch
    costs = []
    for burst in range(_WARM_UP + _BURSTS):
        started_ns = time.thread_time_ns()
        for _ in range(_BURST):
            now_ns = time.time_ns()
            batch.column(Scalar.DOUBLE)[:] = values
            batch.status[:] = GOOD
            batch.source_ns[:] = batch.server_ns[:] = now_ns
            writer.publish()
        if burst >= _WARM_UP:
            costs.append((time.thread_time_ns() - started_ns) / _BURST / 1e3)
        time.sleep(_PAUSE_S)
    return statistics.median(costs)


def _consume(reader: BlockReader, total: int) -> dict[str, float]:
    costs: list[float] = []
    seen, checksum = 0, 0.0
    until = time.monotonic() + _GIVE_UP_S
    while seen + reader.lost < total and time.monotonic() < until:
        before, started_ns = seen, time.thread_time_ns()
        for batch in reader.poll():
            checksum += float(batch.column(Scalar.DOUBLE)[~bad_rows(batch.status)].sum())
            seen += 1
        if seen - before >= _BURST and before >= _WARM_UP * _BURST:
            costs.append((time.thread_time_ns() - started_ns) / (seen - before) / 1e3)
        time.sleep(_PAUSE_S)
    return {"consume_us": statistics.median(costs), "lost": reader.lost, "checksum": checksum}


def _floor(names: tuple[str, ...]) -> Iterator[Figure]:
    """Yield what publishing costs in a tight loop beside the checksum and copy it cannot do without."""
    bus = Bus.create([BlockSpec("hot", tuple(TagSpec(name, Scalar.DOUBLE) for name in names), depth=64)])
    writer, reader = bus.writer("hot"), bus.reader("hot")
    image = bytes(bus.layout("hot").image_bytes)
    there = bytearray(image)

    def floor() -> None:
        zlib.crc32(image)
        there[:] = image

    def consume() -> None:
        for _ in reader.poll():
            pass

    def both() -> None:
        writer.publish()
        consume()

    floor_us = _per_call_us(floor)
    publish_us = _per_call_us(writer.publish)
    consume()
    note = f"{len(image)} bytes; below 1: how much of the cost is checksum and copy"
    peer = "CRC-32 and copy of the same bytes"
    yield Figure("publish in a tight loop", publish_us, "µs/batch", peer, floor_us, note=note)
    consume_us = _per_call_us(both) - publish_us
    yield Figure("consume in a tight loop", consume_us, "µs/batch", peer, floor_us, note=note)
    bus.close()


def _read_as_child(fd: int, total: int) -> None:
    reader = Bus.attach(fd).reader("bench")
    print("ready", flush=True)
    print(json.dumps(_consume(reader, total)))


if __name__ == "__main__":
    _read_as_child(int(sys.argv[1]), int(sys.argv[2]))
