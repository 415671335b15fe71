"""A records process for test_recorder.py: ``python recorder_peer.py BUS_FD PATH``; records until killed."""

import asyncio
import sys
from pathlib import Path

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.journal import Journal, JournalLimits
from edge_opcua.records.recorder import Recorder


async def main() -> None:
    clock = SystemClock()
    journal = Journal(Path(sys.argv[2]), clock=clock, limits=JournalLimits(batch_s=0.01))
    await Recorder(Bus.attach(int(sys.argv[1])), journal, clock=clock).run()


if __name__ == "__main__":
    asyncio.run(main())
