"""A process that writes a journal for test_journal.py: ``python journal_peer.py PATH MODE``.

Prints the number of every record that was reported as durable, one per line.
"""

import asyncio
import resource
import sys
from pathlib import Path

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.journal import Journal, JournalLimits
from edge_opcua.core.logs import configure_logging


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def write_without_end(path: Path) -> None:
    """Append batches of ten; the body says which batch and which place in it."""
    journal = Journal(path, clock=SystemClock())
    batch = 0
    while True:
        for place in range(10):
            journal.append("result", {"batch": batch, "place": place}, batch, marks={"place": str(batch)})
        if await journal.flush():
            say(f"{journal.state.written}")
        batch += 1


async def file_size_limit(path: Path) -> None:
    """Write until the limit refuses, then lift it and see whether everything that was kept arrives."""
    limits = JournalLimits(spool_records=500)
    journal = Journal(path, clock=SystemClock(), limits=limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    appended = 0
    while not journal.state.fault:
        for _ in range(50):
            journal.append("result", {"n": appended, "text": "x" * 100}, 1)
            appended += 1
        await journal.flush()
    say(journal.state.fault)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert await journal.flush()
    state = journal.state
    say(f"{appended} {state.written} {state.lost} {state.fault!r}")


if __name__ == "__main__":
    configure_logging()
    mode = {"write": write_without_end, "limit": file_size_limit}[sys.argv[2]]
    asyncio.run(mode(Path(sys.argv[1])))
