"""Asks the edge for results again and again, and measures how long each one takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.instance import Instance

MOST: Final = 2000
_GIVE_UP_SCANS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One request.

    Args:
        scans: From the scan that saw the trigger to the one that had the result.
        ns: The same in time.
        error: ErrorId, 0 for a result.
    """

    scans: int
    ns: int
    error: int


class Triggering:
    """Raises Trigger when Ready is on, waits for Done or an error, and starts again.

    Where Ready stays off, Trigger is raised in the end all the same: the block says what that means.

    Args:
        main: The program; it has a variable Trigger.
        block: Name of the function block in it.
        times: How often, 1..2000.
        pause_scans: Scans between an answer and the next request.
    """

    def __init__(self, main: Instance, *, block: str, times: int, pause_scans: int) -> None:
        if not 1 <= times <= MOST or not 1 <= pause_scans <= 10_000:
            raise StError(f"1 to {MOST} requests, 1 to 10000 scans between them")
        self.answers: list[Answer] = []
        self._main = main
        self._times = times
        self._pause = pause_scans
        self._wait = 0
        self._asked: tuple[int, int] | None = None
        self._ready = main.reader(f"{block}.Ready")[0]
        self._done = main.reader(f"{block}.Done")[0]
        self._error = main.reader(f"{block}.ErrorId")[0]
        main.set("Trigger", value=False)

    @property
    def left(self) -> int:
        """Requests that have no answer yet."""
        return self._times - len(self.answers)

    def before(self, scan: int, ns: int) -> None:
        """Raise Trigger when it is time."""
        if self._asked is not None or not self.left:
            return
        self._wait -= 1
        if self._wait < 0 and (self._ready() or self._wait < -_GIVE_UP_SCANS):
            self._main.set("Trigger", value=True)
            self._asked = (scan, ns)

    def after(self, scan: int, ns: int) -> None:
        """See whether the answer has come."""
        if self._asked is None:
            return
        asked_scan, asked_ns = self._asked
        error = 0 if self._done() else int(self._error())
        # What was wrong before the request leaves with it: the first scan says nothing.
        failed = error != 0 and scan > asked_scan + 1
        if self._done() or failed or scan - asked_scan > _GIVE_UP_SCANS:
            self.answers.append(Answer(scan - asked_scan, ns - asked_ns, error))
            self._main.set("Trigger", value=False)
            self._asked = None
            self._wait = self._pause

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "left": self.left,
            "scans": [each.scans for each in self.answers],
            "ms": [round(each.ns / 1e6, 3) for each in self.answers],
            "errors": [each.error for each in self.answers if each.error],
        }
