"""A test that failed beside others runs once more alone; what passes then is told, and does not fail the run.

A whole run has thousands of tests on two cores, hundreds of them with real processes and real deadlines.
What fails again has failed. What passes is unsteady: the summary shows what it said the first time, and it
has to be made steady, for it is as likely that we are at fault as that the computer was busy.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

MOST = 3
"""So many failed tests may be unsteady; more of them are no accident, and none runs again."""
LONGEST_S = 600.0


class Unsteady:
    """Runs failed tests again, after all others have ended.

    Args:
        config: Of the run.
        reports: Name of the variable that tells a process where to write what came of its tests.
    """

    def __init__(self, config: pytest.Config, reports: str) -> None:
        self._config = config
        self._variable = reports
        self._failed: dict[str, list[pytest.TestReport]] = {}
        self._unsteady: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what failed."""
        if report.failed:
            self._failed.setdefault(report.nodeid, []).append(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run all tests, then those again that failed."""
        result = yield
        if 0 < len(self._failed) <= MOST:
            for name in self._pass_alone():
                self._forgive(session, self._failed[name])
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what unsteady tests said when they failed."""
        if not self._unsteady:
            return
        terminalreporter.section("unsteady: failed beside others, passed alone", yellow=True)
        for report in self._unsteady:
            terminalreporter.write_line(f"UNSTEADY {report.nodeid} ({report.when})", yellow=True)
            report.toterminal(self._config.get_terminal_writer())

    def _pass_alone(self) -> Iterable[str]:
        """Return which of the failed tests pass in a process of their own."""
        with tempfile.TemporaryDirectory(prefix="edge-opcua-tests-") as place:
            path = Path(place) / "reports"
            _run(self._config, list(self._failed), {**os.environ, self._variable: str(path)})
            lines = path.read_text("ascii").splitlines() if path.exists() else []
        hook = self._config.hook
        told = [line for line in map(ast.literal_eval, lines) if isinstance(line, dict)]
        again = [hook.pytest_report_from_serializable(config=self._config, data=data) for data in told]
        wrong = {report.nodeid for report in again if not report.passed}
        ended = {report.nodeid for report in again if report.when == "teardown"}
        return [name for name in self._failed if name in ended - wrong]

    def _forgive(self, session: pytest.Session, reports: Sequence[pytest.TestReport]) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        assert terminal is not None
        session.testsfailed -= len(reports)
        for report in reports:
            terminal.stats["failed" if report.when == "call" else "error"].remove(report)
        terminal.stats.setdefault("unsteady", []).extend(reports)
        self._unsteady += reports


def _run(config: pytest.Config, names: Sequence[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *config.invocation_params.args]
    process = subprocess.Popen(
        [*command, *names],
        cwd=config.rootpath,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with suppress(subprocess.TimeoutExpired):  # what has not ended has not passed
            process.wait(LONGEST_S)
    finally:
        process.kill()
        process.wait()
