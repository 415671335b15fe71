"""``edge-opcua run`` that is killed at one step of a change of a model; for :mod:`test_kill_at_every_step`.

    python -m tests.system.killserver MOMENT run FILE --state DIR

MOMENT is a file, written while the server runs: WHO dies by SIGKILL (``supervisor``, ``new`` or ``old``: the
lane process that was started last, or first), WHEN (``before`` or ``after``), in which KIND of change
(``load``, ``rollback`` or ``verdict``) WHAT is done: a step that is written into the ledger, or a request to
a lane process. It happens once. The server has no OPC UA process and no records: nobody looks at them here,
and it starts in half the time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from edge_opcua import cli
from edge_opcua.app import supervisor
from edge_opcua.app.command import run
from edge_opcua.app.models import recovery
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import Reply
from edge_opcua.inference.ledger import Entry
from edge_opcua.inference.ledgerfile import Ledger


class Blow:
    """Falls when its moment has come.

    Args:
        file: Says when; gone once it has fallen.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kind = ""

    def on_entry(self, when: str, entry: Entry) -> None:
        """Look whether it falls at an entry of the ledger."""
        self._kind = entry.kind.value
        self.look(when, entry.step.value)

    def look(self, when: str, what: str) -> None:
        """Look whether it falls now."""
        try:
            who, *moment = self._file.read_text().split()
        except FileNotFoundError:
            return
        if moment != [when, self._kind, what]:
            return
        self._file.unlink()
        if who == "supervisor":
            os.kill(os.getpid(), signal.SIGKILL)
        pids = _lanes()
        if pids:
            os.kill(pids[-1 if who == "new" else 0], signal.SIGKILL)


def _lanes() -> list[int]:
    """Return the lane processes of this supervisor, the oldest first."""
    found: list[tuple[int, int]] = []
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        role = [
            each for each in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if each.startswith("lane/")
        ]
        if role:
            found.append((int(role[0].rpartition("/")[2]), int(pid)))
    return [pid for _, pid in sorted(found)]


def _armed(blow: Blow) -> None:
    class KillingLedger(Ledger):
        def append(self, entry: Entry) -> Entry:
            return self._around(super().append, entry)

        def take(self, entry: Entry) -> Entry:
            return self._around(super().take, entry)

        def _around(self, write: Any, entry: Entry) -> Entry:
            blow.on_entry("before", entry)
            written: Entry = write(entry)
            blow.on_entry("after", entry)
            return written

    class KillingSupervisor(supervisor.Supervisor):
        async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
            blow.look("before", kind)
            reply = await super().request(to, kind, body, timeout_s=timeout_s)
            blow.look("after", kind)
            return reply

    def roles(_: EdgeConfig) -> tuple[str, ...]:
        return ("io",)

    for where, name, what in (
        (recovery, "Ledger", KillingLedger),
        (run, "Supervisor", KillingSupervisor),
        (supervisor, "_roles", roles),
    ):
        setattr(where, name, what)


if __name__ == "__main__":
    _armed(Blow(Path(sys.argv[1])))
    sys.exit(cli.main(sys.argv[2:]))
