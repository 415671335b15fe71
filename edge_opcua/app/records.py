"""The records process: journals results, jobs and audit, and keeps what the models judged."""

from __future__ import annotations

from edge_opcua.app.changes import Change, Changes
from edge_opcua.app.child import until_stopped
from edge_opcua.app.windows.kept import judged
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR
from edge_opcua.core.journal import Journal
from edge_opcua.core.process import Child
from edge_opcua.core.statedir import StateDir
from edge_opcua.records.recorder import Recorder
from edge_opcua.records.windows import Windows


async def run(child: Child, config: EdgeConfig) -> None:
    """Record until the process shall stop."""
    state = StateDir(child.state_dir)
    journal = Journal(state.journal, clock=child.clock)

    def tell(code: str, text: str) -> None:
        body = {"source": "windows", "code": code, **({"text": text} if text else {})}
        child.control.notify(SUPERVISOR, "fault" if text else "fault_over", body)

    windows = Windows(state.windows, config.models.windows_mb, clock=child.clock, tell=tell)
    recorder = Recorder(child.bus, journal, clock=child.clock, windows=windows, judged=judged(config))

    async def follow(change: Change) -> None:  # what is recorded follows from the blocks of the bus
        windows.resize(change.new.models.windows_mb)
        recorder.follow(judged(change.new))

    child.handle = recorder.handle
    child.change = Changes(child, config, follow).handle
    await until_stopped(child, recorder.run)
