"""A run of the whole suite takes two processes: one computes while the other's tests wait for the world."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.unsteady import Unsteady

# What waits for links, processes and strokes nearly all of its time; still one test after the other.
WAITING = ("tests/drivers", "tests/system")
REPORTS = "EDGE_OPCUA_TEST_REPORTS"
SLOWEST, SLOW_S = 40, 4.0
"""How many tests a whole run tells to be slow, and from which time on, in seconds."""
_ONLY_ABOUT_WHAT_IS_SHOWN = ("-q", "-v", "-r", "--durations", "--tb", "--color", "-p", "no:cacheprovider")


def register(config: pytest.Config) -> None:
    """Make this the first or the second of two processes, or leave it the only one."""
    if path := os.environ.pop(REPORTS, ""):
        config.pluginmanager.register(Reporter(config, Path(path)))
    elif _is_whole_suite(config):
        if len(os.sched_getaffinity(0)) > 1:
            config.pluginmanager.register(SecondProcess(config))
        config.pluginmanager.register(Unsteady(config, REPORTS))  # behind it, for it waits for both
        config.option.durations = config.option.durations or SLOWEST
        config.option.durations_min = SLOW_S


def _is_whole_suite(config: pytest.Config) -> bool:
    """Return whether nobody names a path, chooses tests, measures coverage or debugs."""
    arguments = config.invocation_params.args
    return (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and "PYTEST_ADDOPTS" not in os.environ
        and all(each.startswith(_ONLY_ABOUT_WHAT_IS_SHOWN) for each in arguments)
    )


class SecondProcess:
    """Runs the tests that wait in a process of its own, and tells what came of them as if they ran here."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folders = [config.rootpath / folder for folder in WAITING]
        self._place = tempfile.TemporaryDirectory(prefix="edge-opcua-tests-")
        self._reports = Path(self._place.name) / "reports"
        self._said = Path(self._place.name) / "said"
        self._process: subprocess.Popen[bytes] | None = None

    def pytest_sessionstart(self) -> None:
        """Start the other; both collect at the same time."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *self._config.invocation_params.args,
        ]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*command, *WAITING],
                cwd=self._config.rootpath,
                env={**os.environ, REPORTS: str(self._reports)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave to the other what is its own."""
        return True if collection_path in self._folders else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run what is left here, then tell of both."""
        result = yield
        assert self._process is not None
        code = self._process.wait()
        *reports, last = [ast.literal_eval(line) for line in self._lines()] or [None]
        self._tell(session, reports)
        if last != code or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self._tell_the_end(session, code)
        return result

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind, however the run ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._place.cleanup()

    def _lines(self) -> list[str]:
        return self._reports.read_text("ascii").splitlines() if self._reports.exists() else []

    def _tell(self, session: pytest.Session, told: list[dict[str, Any]]) -> None:
        hook = self._config.hook
        reports = [hook.pytest_report_from_serializable(config=self._config, data=data) for data in told]
        session.testscollected += len({report.nodeid for report in reports})
        for report in reports:
            if report.when == "setup":
                hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
            hook.pytest_runtest_logreport(report=report)
            if report.when == "teardown":
                hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)

    def _tell_the_end(self, session: pytest.Session, code: int) -> None:
        """Fail the run, and show what the other said: it did not come to the end of its tests."""
        session.testsfailed += 1
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reporter.section(f"second process ({' '.join(WAITING)}): exit code {code}", red=True)
        reporter.write(self._said.read_text("utf-8", "replace"))


class Reporter:
    """Writes down, in the second process, what came of each test."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config = config
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Append a report."""
        self._write(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Say that these were all."""
        self._write(int(exitstatus))

    def _write(self, what: object) -> None:
        with self._path.open("a", encoding="ascii") as reports:
            reports.write(ascii(what) + "\n")  # unlike JSON it keeps the tuple that pytest wants of a skip
