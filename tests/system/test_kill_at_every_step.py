"""``kill -9`` at every step of a change of a model: afterwards old or new runs, and the ledger tells which.

Every step that the ledger knows and every request to a lane process is a moment; none is left out. The server
is a real one with a real model, and what it left behind by one death is where it starts for the next. The
moments right behind a step are looked at always, those right before it (then what the step before it
began has been done) with ``-m slow``. Each story has a press and a server of its own, and they are told side
by side: servers that start and stop wait more than they compute.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.serving import served, trial
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_good
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import LOAD_STEPS, ROLLBACK_STEPS, Entry, Step
from edge_opcua.inference.ledgerfile import Ledger, read_history
from edge_opcua.sim.cell import Cell
from tests.system.plant import EXAMPLE

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

MODEL = "press-anomaly"
PATIENCE_S = 40.0
LOOK_S = 0.05
KILLED = -signal.SIGKILL


def requests_of(*modules: Any) -> list[str]:
    """Return what keepers ask lane processes for, as their source says."""
    text = "".join(Path(module.__file__).read_text() for module in modules)
    return re.findall(r'_host\.request\([\w.]+, "(\w+)"', text)


REQUESTS = requests_of(served, trial)
LOADING = [("load", what) for what in (*(step.value for step in LOAD_STEPS), *REQUESTS)]
RETURNING = [
    ("rollback", what)
    for what in (*(step.value for step in ROLLBACK_STEPS), *(each for each in REQUESTS if each != "shadow"))
]
WHENS = ("after", pytest.param("before", marks=pytest.mark.slow))


def test_no_step_is_left_out() -> None:
    assert set(REQUESTS) == {"promote", "retire", "activate", "shadow"}
    others = {Step.ORDERED, Step.FAILED, Step.RELEASED, Step.QUARANTINED}
    assert {*LOAD_STEPS, *ROLLBACK_STEPS} == set(Step) - others


class Line:
    """A press that runs on while servers come and go on one state directory.

    Args:
        home: Directory for everything.
        cell: The press.
        probation_s: How long a version is on trial.
    """

    def __init__(self, home: Path, cell: Cell, *, probation_s: float) -> None:
        self.state = StateDir(home / "state")
        self.moment = home / "moment"
        self._log = home / "server.log"
        self._file = home / "press" / "killed.toml"
        shutil.copytree(EXAMPLE.parent, home / "press")
        text = (
            EXAMPLE.read_text().replace("deadline_ms = 100", "deadline_ms = 1000").partition("[[outputs]]")[0]
        )
        # Strokes that waited for a dead process are late, and versions may differ: neither is looked at here.
        terms = f'probation_s = {probation_s}\nagreement = 0.0\nrollback_on = ["crash"]'
        self._file.write_text(f"{text}\n[pipelines.change]\n{terms}\n")
        self._environment = {
            **os.environ,
            "PRESS_URL": cell.s7_url,
            "VIB_URL": cell.modbus_url,
            "OPCUA_LISTEN": "127.0.0.1:0",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start a server."""
        command = (sys.executable, "-m", "tests.system.killserver", str(self.moment))
        options = ("run", str(self._file), "--state", str(self.state.root), "--end-with-parent")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                (*command, *options),
                env=self._environment,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send the server a signal, unless it is dead, and return how it ended."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.died()

    async def died(self) -> int:
        """Wait until the server is dead, and return how it ended."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(LOOK_S)
        return code

    async def ask(self, kind: str, **body: Any) -> dict[str, Any] | None:
        """Return the answer; None if there is none, or no server any more."""
        reply = await ask(self.state.control_socket, "supervisor", kind, body, timeout_s=3.0)
        return reply.body if is_good(reply.status) else None

    async def judging(self) -> int:
        """Return the version that gives the next verdict."""
        before = None
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = await self.ask("status")
                last = status["pipelines"][0]["last"] if status else {}
                number, version = last.get("result_id"), last.get("model_version")
                if number and version:
                    if before is not None and number != before:
                        return int(version)
                    before = number
                await asyncio.sleep(LOOK_S)

    async def load(self, version: int, **more: Any) -> dict[str, Any]:
        """Load a version, and return the last notice of its job; empty if the server died meanwhile."""
        return await self._followed(await self.ask("load_model", name=MODEL, version=version, **more))

    async def go_back(self) -> dict[str, Any]:
        """Roll back, as :meth:`load` loads."""
        return await self._followed(await self.ask("rollback_model", name=MODEL))

    async def _followed(self, job: dict[str, Any] | None) -> dict[str, Any]:
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            while job is not None and self.process.poll() is None:
                notice = await self.ask("model_job", job=job["job"])
                if notice and notice["percent"] == 100:
                    return notice
                await asyncio.sleep(LOOK_S)
        return {}

    async def until_step(self, step: Step, since: int) -> None:
        """Wait until the ledger holds a step behind an entry."""
        async with asyncio.timeout(PATIENCE_S):
            while all(entry.step is not step for entry in self.entries()[since:]):
                await asyncio.sleep(LOOK_S)

    async def kill_lane(self) -> None:
        """Kill the lane process that judges."""
        status = await self.ask("status")
        assert status is not None
        pids = [row["pid"] for row in status["processes"] if row["role"].startswith("lane/")]
        os.kill(pids[0], signal.SIGSEGV)

    async def was_struck(self) -> bool:
        """Return whether the blow falls, waiting for as long as it may take."""
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if not self.moment.exists():
                return True
            await asyncio.sleep(LOOK_S)
        return False

    async def settled(self) -> int:
        """Return the version that judges once nothing is half done and the ledger says the same."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                runs, standing = await self.judging(), read_history(self.state.model_ledger).standing
                if not standing.open and not standing.trials and runs == self.told():
                    return runs

    def former(self) -> ModelChoice | None:
        """Return the version there is a way back to."""
        return read_history(self.state.model_ledger).standing.roll_back_to(MODEL)

    def entries(self) -> tuple[Entry, ...]:
        """Return what the ledger holds."""
        return read_history(self.state.model_ledger).entries

    def told(self) -> int:
        """Return which version the ledger says runs; nothing may be half done."""
        standing = read_history(self.state.model_ledger).standing
        assert not standing.open, standing.open
        active = standing.of(MODEL).active
        return 1 if active is None else active.version

    def pardon(self) -> None:
        """Let no former death be held against a version."""
        history = read_history(self.state.model_ledger)
        ledger = Ledger(self.state.model_ledger, SystemClock())
        for held in history.standing.quarantined.values():
            ledger.append(held.verdict(Step.RELEASED, "the test", ""))
        self.state.model_loads.write_text('{"clean": false, "begun": {}}')


Story = Callable[[Line, str], Awaitable[None]]
STORIES: dict[str, tuple[Story, float]] = {}
"""By the name of their test: what is done, and how long a version is on trial meanwhile, in seconds."""


def story(*, probation_s: float) -> Callable[[Story], Callable[..., Awaitable[None]]]:
    """Make a story a test that waits until it is told."""

    def with_test(tell: Story) -> Callable[..., Awaitable[None]]:
        async def test(
            request: pytest.FixtureRequest, told: dict[str, asyncio.Task[None]], which: str
        ) -> None:
            await told[request.node.name]

        test.__name__ = tell.__name__
        STORIES[tell.__name__] = tell, probation_s
        return test

    return with_test


async def tell(home: Path, name: str, which: str) -> None:
    about, probation_s = STORIES[name]
    async with Cell(time_factor=20.0) as cell:
        line = Line(home, cell, probation_s=probation_s)
        try:
            await about(line, which)
        finally:
            if line.process is not None:
                await line.end(signal.SIGKILL)


@pytest.fixture(scope="module")
async def told(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """The stories of all tests that were chosen, begun; one that fails ends no other."""
    tasks: dict[str, asyncio.Task[None]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path and item.originalname in STORIES:
            home = tmp_path_factory.mktemp("line")
            about = tell(home, item.originalname, str(item.callspec.params["which"]))
            tasks[item.name] = asyncio.create_task(about)
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


@pytest.mark.parametrize("which", WHENS)
@story(probation_s=0.1)
async def test_a_supervisor_killed_at_any_step_of_an_activation_leaves_the_old_version_or_the_new_one(
    line: Line, when: str
) -> None:
    line.start()
    runs = await line.judging()
    for kind, what in LOADING:
        line.moment.write_text(f"supervisor {when} {kind} {what}")
        old, new, since = runs, 3 - runs, len(line.entries())
        await line.load(new, shadow=1)
        assert await line.died() == KILLED, what
        line.pardon()
        line.start()
        runs = await line.judging()
        assert runs == line.told(), what
        # What was not confirmed is undone: the new version may have been what brought the server down.
        confirmed = any(entry.step is Step.CONFIRMED for entry in line.entries()[since:])
        assert confirmed == ((when, what) == ("after", Step.CONFIRMED.value)), what
        assert runs == (new if confirmed else old), what


@pytest.mark.parametrize("which", WHENS)
@story(probation_s=0.0)
async def test_a_supervisor_killed_at_any_step_of_a_roll_back_leaves_the_old_version_or_the_new_one(
    line: Line, when: str
) -> None:
    line.start()
    runs, former = await line.judging(), 0
    for kind, what in RETURNING:
        if not former:
            former, since = runs, len(line.entries())
            assert (await line.load(3 - runs))["state"] == "Active", what
            await line.until_step(Step.CONFIRMED, since)
            runs = 3 - former
        line.moment.write_text(f"supervisor {when} {kind} {what}")
        since = len(line.entries())
        await line.go_back()
        assert await line.died() == KILLED, what
        line.pardon()
        line.start()
        left, runs = runs, await line.judging()
        assert runs == line.told(), what
        # It is completed once it has begun to take effect; before that nothing has happened.
        has_begun = any(entry.step is Step.REVERTING for entry in line.entries()[since:])
        assert runs == (former if has_begun else left), what
        former = 0 if has_begun else former


@pytest.mark.parametrize("which", WHENS)
@story(probation_s=60.0)
async def test_a_supervisor_killed_while_it_goes_back_by_itself_has_gone_back_at_the_next_start(
    line: Line, when: str
) -> None:
    line.start()
    old = await line.judging()
    assert (await line.load(3 - old))["state"] == "Active"
    line.moment.write_text(f"supervisor {when} verdict {Step.QUARANTINED.value}")
    await line.kill_lane()
    assert await line.died() == KILLED
    line.start()
    assert await line.judging() == old == line.told()


@pytest.mark.parametrize("which", ["new", "old"])
@story(probation_s=0.3)
async def test_a_lane_process_killed_at_any_step_leaves_the_old_version_or_the_new_one(
    line: Line, who: str
) -> None:
    line.start()
    runs = await line.judging()
    for kind, what in (*LOADING, *RETURNING):
        await line.ask("release_model", name=MODEL, version=3 - runs)
        if kind == "rollback" and line.former() is None:
            assert (await line.load(3 - runs))["state"] == "Active", what
            runs = await line.settled()
        line.moment.write_text(f"{who} after {kind} {what}")
        notice = await (line.go_back() if kind == "rollback" else line.load(3 - runs, shadow=1))
        assert notice["state"] in ("Active", "RolledBack", "Failed"), what
        assert await line.was_struck(), (what, notice["state"], notice["reason"], line.entries()[-3:])
        runs = await line.settled()
