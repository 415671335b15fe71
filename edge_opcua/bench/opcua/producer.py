"""The process that feeds our server: it writes whole blocks to the tag bus at the rate it is told.

``{"do": "run", "blocks": [first, last], "hz": …, "seconds": …, "what": "values" | "times", "rows": …}`` is
answered by how many cycles were written, the last sequence number, and the seconds it took. A cycle writes
each block once.
"""

from __future__ import annotations

import time
from typing import Any, Final

from edge_opcua.bench.opcua.plant import DEVICE, Writing
from edge_opcua.bench.opcua.remote import lines, say
from edge_opcua.core.bus import Bus

_BURST_S: Final = 0.05  # most time behind the plan that is caught up; the rest is never offered


class Producer:
    """Writes cycles to every block of the bus."""

    def __init__(self, bus: Bus) -> None:
        count = sum(1 for name in bus.blocks if name.startswith(f"{DEVICE}.g"))
        self._blocks = [Writing(bus, index) for index in range(count)]
        self.sequence = 0

    def cycle(self, first: int, end: int, what: str) -> None:
        """Write the blocks ``first`` to ``end`` once."""
        self.sequence += 1
        for block in self._blocks[first:end]:
            now_ns = time.time_ns()
            if what == "times":
                block.publish_times(time.monotonic_ns() / 1000, now_ns)
            else:
                block.publish(self.sequence, now_ns)

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do as told; returns what was done."""
        first, end = order["blocks"]
        period_s, what = 1 / order["hz"], order.get("what", "values")
        began_s = due_s = time.perf_counter()
        until_s = began_s + order["seconds"]
        cycles = 0
        cpu_s = time.process_time()
        while due_s < until_s:
            now_s = time.perf_counter()
            if now_s < due_s:
                time.sleep(due_s - now_s)
            elif now_s - due_s > _BURST_S and period_s < _BURST_S:
                due_s = now_s
            self.cycle(first, end, what)
            cycles += 1
            due_s += period_s
        took_s = max(time.perf_counter() - began_s, cycles * period_s)
        return {
            "cycles": cycles,
            "sequence": self.sequence,
            "seconds": took_s,
            "cpu_s": time.process_time() - cpu_s,
        }


def main() -> None:
    """Serve orders until the input ends."""
    following = lines()
    order = following()
    assert order is not None
    producer = Producer(Bus.attach(order["bus"]))
    producer.cycle(0, len(producer._blocks), order.get("what", "values"))  # noqa: SLF001 - its own module
    say({"ready": True})
    while (order := following()) is not None:
        say(producer.run(order))


if __name__ == "__main__":
    main()
