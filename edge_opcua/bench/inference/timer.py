"""An empty timer on one core, as urgent as a safety lane: what it misses, the machine cannot keep.

It wakes at every period and does nothing. A tick that comes late counts, and each that was due meanwhile.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import sys
import time

import numpy as np

from edge_opcua.bench.opcua.remote import lines, say
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.realtime import become


def main() -> None:
    """Tick until the input has something; then say how many ticks came beyond a limit, and the latest."""
    configure_logging(level=logging.ERROR)
    given = lines()()
    assert given is not None
    os.sched_setaffinity(0, {given["core"]})
    scheduler = become("safety", (given["core"],)).scheduler
    gc.disable()
    period_ns, limit_ns = given["period_ns"], given["limit_ns"]
    late_ns: list[int] = []
    say({"ready": True, "scheduler": scheduler})
    due_ns = time.monotonic_ns()
    ticks = 0
    while ticks % 64 or not select.select([sys.stdin], [], [], 0)[0]:
        ticks += 1
        due_ns += period_ns
        if (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        late_ns.append(time.monotonic_ns() - due_ns)
    late = np.array(late_ns)
    say(
        {"late": int(np.count_nonzero(late > limit_ns)), "latest_ms": float(late.max()) / 1e6, "ticks": ticks}
    )


if __name__ == "__main__":
    main()
