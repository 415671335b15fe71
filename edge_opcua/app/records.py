"""The records process: journals results, jobs and audit."""

from __future__ import annotations

from edge_opcua.app.changes import Change, Changes
from edge_opcua.app.child import until_stopped
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.journal import Journal
from edge_opcua.core.process import Child
from edge_opcua.core.statedir import StateDir
from edge_opcua.records.recorder import Recorder


async def run(child: Child, config: EdgeConfig) -> None:
    """Record until the process shall stop."""
    journal = Journal(StateDir(child.state_dir).journal, clock=child.clock)
    recorder = Recorder(child.bus, journal, clock=child.clock)

    async def follow(_: Change) -> None:  # what is recorded follows from the blocks of the bus
        recorder.follow()

    child.handle = recorder.handle
    child.change = Changes(child, config, follow).handle
    await until_stopped(child, recorder.run)
