"""Becomes as urgent as it is told, with the rights it is told, and says what the kernel knows of it."""

import ctypes
import gc
import json
import os
import resource
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from edge_opcua.core import realtime
from edge_opcua.core.clock import SystemClock

RIGHTS = 1 << 14 | 1 << 23  # CAP_IPC_LOCK, CAP_SYS_NICE


def drop_rights() -> None:
    """Take the two capabilities from this process, and from nobody else."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(head, sets) == 0
    for index in range(3):  # effective, permitted, inheritable
        sets[index] &= ~RIGHTS
    assert libc.capset(head, sets) == 0


def locked_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


def main() -> None:
    given = json.loads(sys.argv[1])
    for name, values in given.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), tuple(values))
    if given.get("without_rights"):
        drop_rights()
    idle = threading.Event()
    other = threading.Thread(target=idle.wait, daemon=True)
    other.start()
    assert other.native_id is not None
    granted = realtime.become(given["lane"], given.get("cores", ()))
    found = {
        "policy": os.sched_getscheduler(0),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "other_policy": os.sched_getscheduler(other.native_id),
        "other_nice": os.getpriority(os.PRIO_PROCESS, other.native_id),
        "other_cores": sorted(os.sched_getaffinity(other.native_id)),
        "cores_now": sorted(os.sched_getaffinity(0)),
        "locked_kb": locked_kb(),
        "collects": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
        "rttime_us": resource.getrlimit(resource.RLIMIT_RTTIME)[0],
    }
    risen: list[tuple[bool, int]] = []
    watching = threading.Thread(
        target=lambda: risen.append((realtime.rise(), os.sched_getparam(0).sched_priority))
    )
    watching.start()
    watching.join()
    found["risen"] = risen[0]
    if given.get("relieved"):
        realtime.stand_back()
        found["back"] = [os.sched_getscheduler(0), os.sched_getscheduler(other.native_id), locked_kb()]
        realtime.step_forward()
        found["forward"] = [os.sched_getscheduler(0), os.sched_getscheduler(other.native_id)]
    later = []
    threading.Thread(target=lambda: later.append(os.sched_getscheduler(0))).start()
    garbage: list[list[int]] = [[] for _ in range(realtime.IDLE_GARBAGE + 1)]
    found["tidied"] = realtime.tidy()
    found["tidied_again"] = realtime.tidy()
    assert len(garbage) > 0
    if given.get("hang"):
        resource.setrlimit(resource.RLIMIT_RTTIME, (200_000, resource.RLIM_INFINITY))
        while True:
            pass
    if given.get("saturated"):
        resource.setrlimit(resource.RLIMIT_RTTIME, (900_000, resource.RLIM_INFINITY))
        look_around = realtime.Idle(SystemClock())
        until_s = time.monotonic() + 2.0
        while time.monotonic() < until_s:
            look_around()
    idle.set()
    print(  # noqa: T201 - its answer
        json.dumps({**asdict(granted), **found, "later_policy": later[0]})
    )


main()
