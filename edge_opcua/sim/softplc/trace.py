"""What happened in a program, scan by scan: changes of variables, and how it reacted to a silent edge."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.instance import Instance, Read
from edge_opcua.sim.softplc.types import Elementary

KEPT: Final = 2000
"""Changes that are kept."""


@dataclass(frozen=True, slots=True)
class Change:
    """A variable had another value after a scan than after the one before.

    Args:
        number: Of the change, from 1.
        scan: Number of the scan, from 1.
        ns: Its time on CLOCK_MONOTONIC, the same in all processes of a machine.
        name: The variable.
        before: Its value before.
        after: Its value after.
    """

    number: int
    scan: int
    ns: int
    name: str
    before: Any
    after: Any


class Trace:
    """The last changes of chosen variables, and the largest step of each number.

    Args:
        instance: The program.
        names: The variables.
    """

    def __init__(self, instance: Instance, names: Iterable[str] = ()) -> None:
        self._instance = instance
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._count = 0
        self._watched: dict[str, tuple[Read, Any]] = {}
        self.steps: dict[str, float] = {}
        self.watch(names)

    def watch(self, names: Iterable[str]) -> None:
        """Watch other variables; what is kept of those before is forgotten.

        Raises:
            StError: There is no such variable, or it is no single value.
        """
        readers: dict[str, Read] = {}
        for name in names:
            read, kind = self._instance.reader(name)
            if not isinstance(kind, Elementary):
                raise StError(f"{name} is {kind.name}; single values are watched")
            readers[name] = read
        self._watched = {name: (read, read()) for name, read in readers.items()}
        self._changes.clear()
        self.steps = {}

    def note(self, scan: int, ns: int) -> None:
        """Look at the variables after a scan."""
        for name, (read, before) in self._watched.items():
            after = read()
            if after == before:
                continue
            self._count += 1
            self._changes.append(Change(self._count, scan, ns, name, before, after))
            self._watched[name] = (read, after)
            if isinstance(after, (int, float)) and not isinstance(after, bool):
                self.steps[name] = max(self.steps.get(name, 0.0), abs(after - before))

    def changes(self, *, since: int = 0, name: str | None = None) -> list[Change]:
        """Return what is kept of the changes after the one with number ``since``."""
        return [each for each in self._changes if each.number > since and (name is None or each.name == name)]


class Reaction:
    """How the program reacts when what the edge writes no longer counts.

    Args:
        instance: A program with the function block in it, or the function block itself.
        path: Name of the block in the program with a dot, or an empty string.
    """

    def __init__(self, instance: Instance, path: str = "") -> None:
        self._in_use, self._grant, self._heartbeat, self._out = (
            instance.reader(path + name)[0] for name in ("InUse", "Grant", "Status[1]", "Out")
        )
        self._was_in_use = self._was_granted = False
        self._last_heartbeat = self._heartbeat()
        self._beaten_ns: int | None = None
        self._last_out = float(self._out())
        self._noted_ns: int | None = None
        self.falls = 0
        self.fell_ns: int | None = None
        self.rose_ns: int | None = None
        self.revoked_ns: int | None = None
        self.silence_ms: float | None = None
        self.largest_step = 0.0
        self.fastest_per_s = 0.0
        self.longest_scan_ms = 0.0

    def note(self, ns: int) -> None:
        """Look at the block after a scan.

        Args:
            ns: Time of the scan on CLOCK_MONOTONIC.
        """
        heartbeat, in_use, out = self._heartbeat(), self._in_use(), float(self._out())
        if heartbeat != self._last_heartbeat:
            self._last_heartbeat, self._beaten_ns = heartbeat, ns
        if in_use and not self._was_in_use:
            self.rose_ns = ns
        if self._was_in_use and not in_use:
            self.falls += 1
            self.fell_ns = ns
            self.silence_ms = None if self._beaten_ns is None else (ns - self._beaten_ns) / 1e6
        granted = bool(self._grant())
        if self._was_granted and not granted:
            self.revoked_ns = ns
        self._was_in_use, self._was_granted = in_use, granted
        step = abs(out - self._last_out)
        self.largest_step = max(self.largest_step, step)
        if self._noted_ns is not None and ns > self._noted_ns:
            self.longest_scan_ms = max(self.longest_scan_ms, (ns - self._noted_ns) / 1e6)
            self.fastest_per_s = max(self.fastest_per_s, step * 1e9 / (ns - self._noted_ns))
        self._last_out, self._noted_ns = out, ns

    def reset(self) -> None:
        """Forget the largest step and the fastest change of Out, and the longest scan."""
        self.largest_step = self.fastest_per_s = self.longest_scan_ms = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "falls": self.falls,
            "beaten_ns": self._beaten_ns,
            "fell_ns": self.fell_ns,
            "rose_ns": self.rose_ns,
            "revoked_ns": self.revoked_ns,
            "silence_ms": self.silence_ms,
            "largest_step": self.largest_step,
            "fastest_per_s": self.fastest_per_s,
            "longest_scan_ms": self.longest_scan_ms,
        }
