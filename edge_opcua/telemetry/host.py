"""Figures of the machine and of our processes on it, from what the kernel shows; pure reading."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_HERTZ: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_IDLE, _IOWAIT = 3, 4
_TIMES: Final = 8  # user … steal; those of guests are in user already
# proc(5) stat, counted behind the name of the program, which may hold anything.
_USER, _SYSTEM, _RESIDENT = 11, 12, 21


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process has used.

    Args:
        cpu_s: Processor time since it was started.
        resident_bytes: Memory it holds.
    """

    cpu_s: float
    resident_bytes: int


def process_use(pid: int, *, proc: Path = _PROC) -> ProcessUse | None:
    """Return what a process has used, None if there is none (any more)."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    ticks = int(fields[_USER]) + int(fields[_SYSTEM])
    return ProcessUse(ticks / _HERTZ, int(fields[_RESIDENT]) * _PAGE_BYTES)


def memory_bytes(*, proc: Path = _PROC) -> dict[str, int]:
    """Return the machine's memory by kind: ``total``, ``available``, ``swap_used``."""
    kib = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    return {
        "total": kib["MemTotal"] * 1024,
        "available": kib["MemAvailable"] * 1024,
        "swap_used": (kib.get("SwapTotal", 0) - kib.get("SwapFree", 0)) * 1024,
    }


def disk_free_bytes(folder: Path) -> int:
    """Return the room on the disk of a folder."""
    return shutil.disk_usage(folder).free


class Processors:
    """How busy the processors are, from one look to the next."""

    def __init__(self, *, proc: Path = _PROC) -> None:
        self._proc = proc
        self._before = self._times()

    def busy_ratio(self) -> float | None:
        """Return the share of processor time that was used since the last look; None if that is too short."""
        before, now = self._before, self._times()
        passed, idle = now[0] - before[0], now[1] - before[1]
        if passed <= 0:
            return None
        self._before = now
        return min(1.0, max(0.0, 1.0 - idle / passed))

    def _times(self) -> tuple[int, int]:
        """Return all time of all processors, and what of it was idle, in ticks."""
        first = (self._proc / "stat").read_text().partition("\n")[0]
        times = [int(field) for field in first.split()[1 : 1 + _TIMES]]
        return sum(times), times[_IDLE] + times[_IOWAIT]
