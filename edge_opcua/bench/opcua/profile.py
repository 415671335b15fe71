"""Where our server's time goes: a thread that looks at the main thread's stack now and then."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

PERIOD_S: Final = 0.002
# How soon the interpreter lets the sampling thread in; with the usual 5 ms it would mostly see system calls.
SWITCH_S: Final = 0.0002
_DEPTH: Final = 40


async def sampled(seconds: float) -> dict[str, Any]:
    """Sample the calling thread for a time; returns shares of the time by function, own and with callees."""
    main = threading.get_ident()
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    done = threading.Event()
    idle = [0, 0]

    def look() -> None:
        while not done.wait(PERIOD_S):
            frame = sys._current_frames().get(main)  # noqa: SLF001 - documented for debuggers
            idle[1] += 1
            if frame is None or frame.f_code.co_name == "select":
                idle[0] += 1
                continue
            own[_name(frame)] += 1
            whole.update(_stack(frame))

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    thread = threading.Thread(target=look, name="profile", daemon=True)
    thread.start()
    cpu_s, began_s = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    done.set()
    sys.setswitchinterval(before_s)
    busy = max(1, idle[1] - idle[0])
    return {
        "busy": (time.process_time() - cpu_s) / (time.perf_counter() - began_s),
        "own": [(name, count / busy) for name, count in own.most_common(25)],
        "whole": [(name, count / busy) for name, count in whole.most_common(40)],
    }


def _stack(frame: FrameType | None) -> set[str]:
    found = set()
    for _ in range(_DEPTH):
        if frame is None:
            break
        found.add(_name(frame))
        frame = frame.f_back
    return found


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{Path(code.co_filename).parent.name}/{Path(code.co_filename).stem}.{code.co_qualname}"
