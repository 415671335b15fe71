"""A safety lane on its only processor, in real time, with a model that does not end; says what came of it."""

import os
import sys
from pathlib import Path

import numpy as np

from edge_opcua.core import realtime
from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.overrun import Hung
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import LaneClass, Request

SECOND_NS = 1_000_000_000


def hung(_: Hung) -> None:
    os.write(1, b"hung\n")
    os._exit(0)


def main() -> None:
    clock, costs = SystemClock(), CostTable()
    costs.seed("bad/1", 1, [100_000] * 8)
    backend = OnnxRuntimeBackend.load(
        Path(sys.argv[1]), provider="cpu", input_shapes={"features": (1, 13)}, clock=clock
    )
    model = LoadedModel("bad/1", backend, "features", 13)
    engine = Engine({"bad/1": model}, costs, clock, workers=0, on_hung=hung)
    engine.start()  # as urgent as any other, as a lane process is before it is promoted
    realtime.become("safety", [min(os.sched_getaffinity(0))])
    engine.rise()
    now_ns = clock.monotonic_ns()
    row = np.ones(13, np.float32)
    request = Request("bad/1", LaneClass.SAFETY, now_ns, now_ns + SECOND_NS, row)
    engine.judge(request)
    os.write(1, f"{request.fate.name} {request.code}\n".encode())
    engine.close()


main()
