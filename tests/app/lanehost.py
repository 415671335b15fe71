"""The supervisor and its lane processes as a keeper of lanes sees them, for tests without processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from edge_opcua.app.processes import ChildProcess
from edge_opcua.app.serving.choices import ModelChoice, choices_of
from edge_opcua.app.serving.keeper import LaneKeeper
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import Reply
from edge_opcua.inference.lifecycle import JobEvent
from edge_opcua.testing import ManualClock

PIPELINE = "press-anomaly"
OLD, NEW = ModelChoice("press-anomaly", 1, "a" * 64), ModelChoice("press-anomaly", 2, "b" * 64)
A, B = ModelChoice("model-a", 1, ""), ModelChoice("model-b", 1, "")
GROUP = {"a": A, "b": B}
FACTS = {"p50_us": 2.0, "p99_us": 3.0, "features_ns": 1000}


class Lane:
    """A lane process as its keeper sees it."""

    def __init__(self, role: str, models: dict[str, ModelChoice]) -> None:
        self.role = role
        self.models = models
        self.pid = 1000
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def has_ended(self) -> bool:
        return self.ended.done()

    @property
    def what(self) -> dict[str, int]:
        """Versions by pipeline."""
        return {name: choice.version for name, choice in self.models.items()}

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    async def end(self, *, grace_s: float) -> int:
        self.kill()
        return await self.wait()

    def kill(self, code: int = -9) -> None:
        if not self.ended.done():
            self.ended.set_result(code)


class Host:
    """The supervisor as a keeper sees it: starts lanes, and answers for them as the test says.

    Attributes:
        loads: What was going to be loaded, before a process was started for it.
        ends: Which active processes have ended by themselves.
        active: What was activated: versions and cursors by pipeline.
        unfit: Pipelines and versions that are refused, with others or alone.
        crashing: Pipelines and versions whose process ends while it loads them.
        silent: Pipelines and versions of which nothing is heard.
        slow_s: How long a process takes to retire, by its role.
        fit_after: Process after whose end nobody is refused any more.
        out_of_memory: Whether no process can be started.
    """

    def __init__(self) -> None:
        self.keeper: LaneKeeper | None = None
        self.started: list[Lane] = []
        self.active: list[tuple[dict[str, int], dict[str, int | None]]] = []
        self.told: list[str] = []
        self.loads: list[dict[str, int]] = []
        self.ends: list[str] = []
        self.faults: dict[str, str] = {}
        self.measurements: list[str] = []
        self.unfit: set[tuple[str, int]] = set()
        self.crashing: set[tuple[str, int]] = set()
        self.silent: set[tuple[str, int]] = set()
        self.activation = Reply()
        self.retirement = Reply()
        self.slow_s: dict[str, float] = {}
        self.retired: list[list[str]] = []
        self.out_of_memory = False
        self.refusal = "M512"
        self.exit_code = -11
        self.fit_after: Lane | None = None
        self.dealt_with = 41
        self.delay_s = 0.0
        self.cursor: int | None = None
        self.orders: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[str, Reply] = {}
        self.standbys = 0

    def standby_changed(self) -> None:
        self.standbys += 1

    async def start(self, role: str, *arguments: str) -> ChildProcess:
        if self.out_of_memory:
            raise OSError(12, "Cannot allocate memory")
        given = dict(word.split("=", 1) for word in arguments)
        lane = Lane(role, choices_of(given["--models"]))
        self.started.append(lane)
        assert self.keeper is not None
        assert given["--group"] == self.keeper.group
        if self.fit_after is not None and self.fit_after.ended.done():
            self.unfit = set()
        what = set(lane.what.items())
        if what & self.crashing:
            lane.kill(self.exit_code)
            return cast("ChildProcess", lane)
        if what & self.silent:
            return cast("ChildProcess", lane)
        refused = {name: {"reason": "no good", "code": self.refusal} for name, _ in what & self.unfit}
        fit: dict[str, Any] = {name: dict(FACTS) for name in lane.models if name not in refused}
        body: dict[str, Any] = {"pipelines": fit, "refused": refused}
        kind = "ready" if fit else "refused"
        asyncio.get_running_loop().call_later(self.delay_s, self.keeper.on_notice, role, kind, body)
        return cast("ChildProcess", lane)

    async def until_ended(self, child: ChildProcess) -> int:
        return await child.wait()

    def disconnect(self, role: str) -> None:
        pass

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        if kind == "retire":
            self.retired.append(body["pipelines"])
            await asyncio.sleep(self.slow_s.get(to, 0.0))
            rows = {name: {"cursor": self.dealt_with, "sequence": 7} for name in body["pipelines"]}
            return self.retirement if self.retirement.status else Reply(body={"pipelines": rows})
        if kind in ("promote", "shadow"):
            self.orders.append((to, kind, body))
            return self.answers.get(kind, Reply())
        if self.activation.status == 0:
            lane = next(lane for lane in self.started if lane.role == to)
            fit = {name: version for name, version in lane.what.items() if name in body["cursors"]}
            self.active.append((fit, body["cursors"]))
        return self.activation

    def recorded_cursor(self, pipeline: str) -> int | None:
        return self.cursor

    def report_fault(self, source: str, code: str, text: str) -> None:
        if source not in self.faults:
            self.told.append(f"{source} {code}")
        self.faults[source] = f"{code} {text}"

    def clear_fault(self, source: str) -> None:
        self.faults.pop(source, None)

    async def loading(self, models: Mapping[str, ModelChoice]) -> None:
        self.loads.append({name: choice.version for name, choice in models.items()})

    def lane_ended(self, models: Mapping[str, ModelChoice], how: str) -> None:
        self.ends.append(f"{', '.join(models)}: {how}")

    def measured(self, models: Mapping[str, ModelChoice], facts: Mapping[str, Mapping[str, Any]]) -> None:
        self.measurements += list(facts)


@asynccontextmanager
async def keeping(
    host: Host,
    choices: Mapping[str, ModelChoice] | None = None,
    *,
    group: str = PIPELINE,
    clock: Clock | None = None,
    within_s: float = 30.0,
) -> AsyncIterator[LaneKeeper]:
    models = choices or {PIPELINE: OLD}
    keeper = host.keeper = LaneKeeper(group, models, host, clock or SystemClock(), within_s=within_s)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        await until(lambda: bool(host.active or host.told))
        yield keeper
        await keeper.end()
        running.cancel()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():
            await asyncio.sleep(0.005)


async def advance(clock: ManualClock, seconds: float, happened: Callable[[], bool]) -> None:
    """Let time pass in small steps, until something has happened or it is over."""
    for _ in range(int(seconds * 10)):
        if happened():
            return
        await clock.advance(0.1)
    assert happened()


def serving(keeper: LaneKeeper) -> list[list[str]]:
    """Return which pipelines share the processes that are active."""
    return [sorted(lane.models) for lane in keeper.lanes]


async def silent(event: JobEvent) -> None:
    """Progress nobody looks at."""
