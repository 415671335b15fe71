"""Processes that share a bus for test_bus_processes.py; started as ``python bus_peers.py ROLE …``.

Every batch is uniform: each row, status and stamp holds its sequence number, so that a torn one shows
without the CRC too.
"""

import json
import os
import random
import signal
import sys
import time

import numpy as np

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.values import GOOD, BlockSpec, Link, Policy, Scalar, TagSpec

ROWS = 500
STALE_S = 0.15


def block(depth: int) -> BlockSpec:
    tags = tuple(TagSpec(f"t{i}", Scalar.DOUBLE) for i in range(ROWS))
    return BlockSpec("b", tags, depth=depth, policy=Policy(stale_after_s=STALE_S, writer_lost_s=STALE_S))


def publish(writer: BlockWriter) -> None:
    batch, number = writer.batch, writer.sequence + 1
    batch.column(Scalar.DOUBLE)[:] = number
    batch.source_ns[:] = batch.server_ns[:] = number
    batch.status[:] = GOOD
    writer.publish()


def uniform(batch: TagBatch) -> bool:
    number = batch.sequence
    return bool(
        (batch.column(Scalar.DOUBLE) == number).all()
        and (batch.source_ns == number).all()
        and (batch.server_ns == number).all()
        and (batch.status == GOOD).all()
    )


def write(bus: Bus, for_s: float) -> dict[str, int]:
    writer = bus.writer("b")
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        publish(writer)
    return {"published": writer.sequence}


def read(bus: Bus, for_s: float) -> dict[str, int]:
    """Read until nothing came for a while after the time is over, with pauses that let the ring overrun."""
    reader = bus.reader("b")
    raw = TagBatch(bus.layout("b"))
    delivered = torn = raw_torn = raw_copies = 0
    first = reader.cursor
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        for batch in reader.poll():
            delivered += 1
            torn += not uniform(batch)
        # The same copy without the check, to see that there is something to check.
        at = bus.front.offsets["b"] + 64 + (reader.newest + 1) % bus.layout("b").slot_count * raw.view.nbytes
        raw.view[:] = bus.memory[at : at + raw.view.nbytes]
        raw_copies += 1
        raw_torn += not uniform(raw)
        time.sleep(random.choice((0, 0, 0.0001, 0.002)))
    time.sleep(0.3)
    for batch in reader.poll():
        delivered += 1
        torn += not uniform(batch)
    return {
        "first": first,
        "delivered": delivered,
        "lost": reader.lost,
        "cursor": reader.cursor,
        "torn": torn,
        "raw_copies": raw_copies,
        "raw_torn": raw_torn,
    }


def kill(bus: Bus, times: int) -> dict[str, object]:
    """Start a writer that publishes flat out, kill it, look what is left, and start the next."""
    reader = bus.reader("b", from_newest=False)
    delivered = torn = half_written = 0
    epochs: set[int] = set()
    left_good_after_s: list[float] = []
    raw = TagBatch(bus.layout("b"))
    for turn in range(times):
        before = reader.newest
        pid = os.fork()
        if pid == 0:
            writer = bus.writer("b")
            assert writer.batch.sequence == 0 or uniform(writer.batch)
            while True:
                publish(writer)
        while reader.newest == before:
            time.sleep(0.0005)
        time.sleep(random.random() / 100)
        for batch in reader.poll():
            delivered += 1
            torn += not uniform(batch)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed = time.monotonic()
        for batch in reader.poll():
            delivered += 1
            torn += not uniform(batch)
            epochs.add(batch.epoch)
        newest = reader.latest()
        assert newest is not None
        assert newest.sequence == reader.newest == reader.cursor
        at = bus.front.offsets["b"] + 64 + (reader.newest + 1) % bus.layout("b").slot_count * raw.view.nbytes
        raw.view[:] = bus.memory[at : at + raw.view.nbytes]
        half_written += not uniform(raw)
        if turn % 10 == 0:
            while (reader.effective(newest) == GOOD).any():
                time.sleep(0.002)
            left_good_after_s.append(time.monotonic() - killed)
            assert newest.link is Link.UP
    return {
        "published": reader.newest,
        "accounted": delivered + reader.lost,
        "torn": torn,
        "half_written": half_written,
        "writers": reader.epoch,
        "epochs_seen": len(epochs),
        "left_good_after_s": max(left_good_after_s),
    }


def main() -> None:
    role, fd, amount = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    bus = Bus.attach(fd)
    result: object
    if role == "write":
        result = write(bus, amount)
    elif role == "read":
        result = read(bus, amount)
    else:
        result = kill(bus, int(amount))
    json.dump(result, sys.stdout, default=np.generic.item)


if __name__ == "__main__":
    main()
