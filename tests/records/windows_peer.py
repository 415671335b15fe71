"""Writes windows for test_windows.py: ``python windows_peer.py PATH COUNT``; with COUNT 0 until killed."""

import asyncio
import itertools
import sys
from pathlib import Path

from edge_opcua.core.clock import SystemClock
from edge_opcua.records import windows as windows_module
from edge_opcua.records.windows import Windows
from tests.records.windowrig import window

windows_module._BATCH_S = 0.005  # type: ignore[misc]


def tell(code: str, text: str) -> None:
    sys.stdout.write(f"{code} {text}\n")


async def main() -> None:
    clock = SystemClock()
    count = int(sys.argv[2])
    windows = Windows(Path(sys.argv[1]), 1000, clock=clock, tell=tell)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(windows.run())
        begin = clock.utc_ns() // 1_000_000 % 10**9
        for number in itertools.count(begin) if not count else range(count):
            windows.put(window(number))
            if number == begin + 20:
                sys.stdout.write("begun\n")
                sys.stdout.flush()
            if number % 4 == 0:
                await clock.sleep(0.001)
        await clock.sleep(0.3)
        sys.stdout.write(f"{windows.state.waiting}\n")
        task.cancel()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    asyncio.run(main())
