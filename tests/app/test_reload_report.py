"""What a reload says when something of ours fails that nobody had foreseen: what runs now, and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge_opcua.app.reload import ANSWER_IS_NO, Reload, Report
from edge_opcua.core.statedir import StateDir
from edge_opcua.testing import ManualClock


class Supervisor:
    """Runs something, and then perhaps something else."""

    def __init__(self) -> None:
        self.config: Any = "old"
        self.changing = asyncio.Lock()


class Failing(Reload):
    """Fails before or behind the point at which the new configuration runs."""

    def __init__(self, host: Any, state: StateDir, *, behind: bool) -> None:
        super().__init__(host, state, ManualClock())
        self._supervisor, self._behind = host, behind

    async def _run(self, *, dry_run: bool) -> Report:
        if self._behind:
            self._supervisor.config = "new"
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("behind", "outcome", "code"), [(False, "rolled back", "D386"), (True, "applied", "")]
)
async def test_an_unforeseen_fault_tells_which_configuration_runs(
    tmp_path: Path, *, behind: bool, outcome: str, code: str
) -> None:
    with structlog.testing.capture_logs() as logs:  # printing a traceback would read files in the loop
        report = await Failing(Supervisor(), StateDir(tmp_path), behind=behind).run()
    assert (report.outcome, report.exit_code, report.code) == (outcome, ANSWER_IS_NO, code)
    assert "ZeroDivisionError" in report.reason
    assert "reload.failed" in [line["event"] for line in logs]
