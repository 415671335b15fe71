"""How urgent a process is to the machine: its scheduler, its memory, its collector, its processors.

What is not permitted is not pretended: the process gets the best that is, and says which right is missing.
To be called when everything is loaded and warm: what comes later is made while the line waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import resource
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.collector import settle

Urgency: TypeAlias = Literal["safety", "realtime", "best_effort"]

PRIORITY: Final = 50
"""Of SCHED_FIFO: above everything ordinary, as high as threaded interrupts, below what drives the bus."""

HIGHEST: Final = PRIORITY + 1
"""Of the thread that watches the others; see :func:`rise`."""

MOST_BUSY_S: Final = 2
"""A real-time thread that computes this long without a pause hangs: the kernel ends it (RLIMIT_RTTIME)."""

REST_NS: Final = 500_000_000
"""How often a real-time thread that is never out of work sleeps all the same; see :class:`Idle`."""
_REST_S: Final = 1e-4
"""Long enough that the thread is taken off its processor: after 1 µs it is awake before it sleeps."""

IDLE_GARBAGE: Final = 5_000
"""Objects made since the last collection from which on :func:`tidy` collects."""

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # mman.h
_NICEST, _MEANEST = 19, -20
_MEBIBYTE: Final = 1 << 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Granted:
    """What the system gave.

    Args:
        scheduler: For people, e.g. ``SCHED_FIFO 50``.
        locked: Whether what the process has touched stays in memory.
        cores: Processors it may run on.
        notes: What it did not get, and which right would give it.
    """

    scheduler: str
    locked: bool
    cores: tuple[int, ...]
    notes: tuple[str, ...]


def become(lane: Urgency, cores: Sequence[int] = ()) -> Granted:
    """Make this process as urgent as its lane asks for.

    All its threads become so, those to come too: one that holds the interpreter while it waits for a
    processor would hold up the one that matters.

    Args:
        lane: Class of the lane.
        cores: Processors to run on; empty: all.
    """
    notes: list[str] = []
    bound = _bind(cores, notes)
    locked = False
    settle()
    if lane == "safety":
        locked = _lock(notes)  # takes milliseconds: before that would hold up others that are as urgent
        scheduler = _urgent(notes)
        gc.disable()  # from now on :func:`tidy` collects, when nothing waits
    elif lane == "best_effort":
        scheduler = _patient(notes)
    else:
        scheduler = described()
    granted = Granted(scheduler, locked, bound, tuple(notes))
    _log.log(
        logging.WARNING if notes else logging.INFO,
        "process.urgency",
        lane=lane,
        scheduler=scheduler,
        memory_locked=locked,
        cores=len(bound),
        notes=notes,
    )
    return granted


def stand_back() -> None:
    """Let every thread of this process be like any other again; what it has locked stays in memory.

    A process that has been relieved would else do its idle work, and end, as urgently as the one that judges:
    among equals SCHED_FIFO has no turns.
    """
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, thread, 0)


def step_forward() -> None:
    """Make a safety process that stood back as urgent as it was."""
    _urgent([])


def rise(thread: int = 0) -> bool:
    """Let a thread go before the others of its process: it watches them, perhaps on their only processor.

    Args:
        thread: Native id of a thread that is as urgent as the caller; 0: the caller itself.

    Returns:
        Whether it is served before them now; never where they are not real-time, because then all get a turn.
    """
    if os.sched_getscheduler(0) != os.SCHED_FIFO:
        return False
    above = os.sched_param(os.sched_getparam(0).sched_priority + 1)
    try:
        os.sched_setscheduler(thread, os.SCHED_FIFO, above)
    except (PermissionError, ProcessLookupError):
        return False
    return True


def tidy() -> bool:
    """Collect garbage if there is enough of it; to be called while nothing waits.

    Returns:
        Whether it did. What was there at :func:`become` is not looked at, so it takes some µs.
    """
    if gc.isenabled() or gc.get_count()[0] < IDLE_GARBAGE:
        return False
    gc.collect()
    return True


class Idle:
    """What a lane does whenever nothing waits, or it has at least looked after everything once.

    The kernel counts the time of a real-time thread from its last sleep on, and a lane that is asked for more
    than it can do never sleeps: what waits for it is there already. It would be ended as hanging.

    Args:
        clock: For how long ago the last rest is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_counted = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
        self._rested_ns = clock.monotonic_ns()

    def __call__(self) -> None:
        """Collect garbage if there is enough of it, and rest for some µs if that is due."""
        tidy()
        now_ns = self._clock.monotonic_ns()
        if self._is_counted and now_ns - self._rested_ns >= REST_NS:
            self._rested_ns = now_ns
            select.select((), (), (), _REST_S)


def described() -> str:
    """Return the scheduler of this thread for people, e.g. ``SCHED_FIFO 50`` or ``SCHED_OTHER nice -20``."""
    policy = os.sched_getscheduler(0)
    if policy in (os.SCHED_FIFO, os.SCHED_RR):
        name = "SCHED_FIFO" if policy == os.SCHED_FIFO else "SCHED_RR"
        return f"{name} {os.sched_getparam(0).sched_priority}"
    name = {os.SCHED_BATCH: "SCHED_BATCH", os.SCHED_IDLE: "SCHED_IDLE"}.get(policy, "SCHED_OTHER")
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return f"{name} nice {nice}" if nice else name


# --- the scheduler ------------------------------------------------------------------------------------


def _urgent(notes: list[str]) -> str:
    """Get the highest priority that is permitted, and a limit for a thread that hangs in it."""
    priority = _permitted_priority()
    try:
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        for thread in _threads():
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, _MEANEST)
        notes.append(
            f"no real-time scheduling: it takes CAP_SYS_NICE or RLIMIT_RTPRIO {HIGHEST} "
            f"(systemd: LimitRTPRIO={HIGHEST}); it runs as {described()}"
        )
        return described()
    if priority < PRIORITY:
        notes.append(f"real-time priority {priority} of {PRIORITY}: RLIMIT_RTPRIO permits no more")
    _, most_us = resource.getrlimit(resource.RLIMIT_RTTIME)
    if most_us == resource.RLIM_INFINITY or most_us > MOST_BUSY_S * 1_000_000:
        resource.setrlimit(resource.RLIMIT_RTTIME, (MOST_BUSY_S * 1_000_000, most_us))
    return described()


def _permitted_priority() -> int:
    """Return the real-time priority to ask for; with CAP_SYS_NICE the limit does not count."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    highest = HIGHEST if hard == resource.RLIM_INFINITY else min(hard, HIGHEST)
    if 0 <= soft < highest:
        soft = highest
        resource.setrlimit(resource.RLIMIT_RTPRIO, (soft, hard))
    return PRIORITY if _has_capability(_CAP_SYS_NICE) or soft <= 0 else min(PRIORITY, soft)


def _patient(notes: list[str]) -> str:
    """Let every thread of the process run only when nothing else wants to."""
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):
            try:
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
            except PermissionError:
                notes.append("SCHED_BATCH is not permitted")
            os.setpriority(os.PRIO_PROCESS, thread, _NICEST)
    return described()


# --- processors ---------------------------------------------------------------------------------------


def _bind(cores: Sequence[int], notes: list[str]) -> tuple[int, ...]:
    """Let every thread of the process run on some processors only."""
    there = os.sched_getaffinity(0)
    wanted = there.intersection(cores)
    missing = sorted(set(cores) - wanted)
    if missing:
        numbers = ", ".join(map(str, missing))
        left = ", ".join(map(str, sorted(wanted))) if wanted else "all there are"
        notes.append(f"processors {numbers} are not there, or not for this process; it runs on {left}")
    if wanted and wanted != there:
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, wanted)
    return tuple(sorted(wanted or there))


def _threads() -> list[int]:
    return [int(each.name) for each in Path("/proc/self/task").iterdir()]


# --- memory -------------------------------------------------------------------------------------------


def _lock(notes: list[str]) -> bool:
    """Keep in memory what the process has touched and will touch.

    Everything that is mapped would be three times as much (measured: 191 MB instead of 54 MB), most of it
    stacks and libraries of which the warm lane touches nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = _has_capability(_CAP_IPC_LOCK) or hard == resource.RLIM_INFINITY
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    # With a limit, memory that is asked for later is refused once it is reached: better it is not locked.
    which = _MCL_CURRENT | _MCL_ONFAULT | (_MCL_FUTURE if unlimited else 0)
    if ctypes.CDLL(None, use_errno=True).mlockall(which) == 0:
        if not unlimited:
            notes.append("memory that is asked for later is not locked: RLIMIT_MEMLOCK is finite")
        return True
    limit = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard // _MEBIBYTE} MB"
    notes.append(
        f"memory is not locked ({os.strerror(ctypes.get_errno())}, RLIMIT_MEMLOCK {limit}): it takes "
        "CAP_IPC_LOCK or no limit (systemd: LimitMEMLOCK=infinity)"
    )
    return False


# --- rights -------------------------------------------------------------------------------------------

_CAP_IPC_LOCK, _CAP_SYS_NICE = 14, 23  # capabilities(7)


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
