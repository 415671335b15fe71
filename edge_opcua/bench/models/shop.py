"""A whole server whose models are changed while it judges: press, server and client as a user has them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from edge_opcua.assets import examples_dir
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_good
from edge_opcua.demo.client import ScadaClient, SeenEvent
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.security.trust import TrustList
from edge_opcua.sim.cell import Cell

Found = TypeVar("Found")

MODEL: Final = "press-anomaly"
GUARD: Final = "guard"
TIME_FACTOR: Final = 8.0
"""2.4 strokes a second; the unit takes 200 ms for a capture and skips strokes that come meanwhile."""
KEEP_WARM_S: Final = 600
PIPELINES: Final = f"""
[[pipelines]]
name = "{GUARD}"
model = "{MODEL}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
part_id = "press/part_id"
lane = "safety"
deadline_ms = 20
change = {{ keep_warm_s = {KEEP_WARM_S} }}

[[pipelines]]
name = "trend"
model = "{MODEL}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = 400
group = "office"

[[pipelines]]
name = "study"
model = "{MODEL}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = 2000
lane = "best_effort"
group = "office"
"""
"""A safety pipeline whose model is changed, and two others that judge the same strokes meanwhile."""

JOB_S: Final = 60.0
ASK_S: Final = 5.0
SOON_S: Final = 30.0
PUBLISH_MS: Final = 20
ENDED: Final = ("Active", "RolledBack", "Failed")


@dataclass(frozen=True, slots=True)
class Job:
    """A change of the model as a client saw it.

    Args:
        states: Its states in order, with when each was heard of, ns UTC.
        took_ms: From the request to its end.
        reason: Why it failed; empty otherwise.
    """

    states: tuple[tuple[str, int], ...]
    took_ms: float
    reason: str

    def between_ms(self, first: str, second: str) -> float:
        """Return the time between two states, ms."""
        at = dict(self.states)
        return (at[second] - at[first]) / 1e6


class Shop:
    """Cell, server and client; ``async with`` starts and ends them.

    Args:
        home: Where the files go.
    """

    def __init__(self, home: Path) -> None:
        self.clock = SystemClock()
        self._home = home
        self._state = StateDir(home / "state")
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start everything, and let the client in."""
        try:
            group = await self._stack.enter_async_context(asyncio.TaskGroup())
            cell = await self._stack.enter_async_context(Cell(time_factor=TIME_FACTOR))
            environment = {
                "PRESS_URL": cell.s7_url,
                "VIB_URL": cell.modbus_url,
                "OPCUA_LISTEN": "127.0.0.1:0",
            }
            self._server = DemoServer(self._configuration(), self._state.root, environment)
            self._stack.push_async_callback(self._server.stop)
            await self._server.start(group)
            self.client = ScadaClient(self._server.endpoint, self._home / "client", self.clock)
            self._stack.push_async_callback(self.client.disconnect)
            with contextlib.suppress(EdgeError):  # unknown yet: this is the knock that makes it known
                await self.client.connect()
            trust = TrustList(self._state.pki)
            trust.trust(trust.rejected()[0].number)  # it only watches
            await self.client.connect()
            await self.client.subscribe({}, publish_ms=PUBLISH_MS)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything."""
        del kind, exc, trace
        await self._stack.aclose()

    async def load(self, version: int) -> Job:
        """Let another version judge for the safety pipeline."""
        body = {"name": MODEL, "version": version, "sha256": "", "pipelines": [GUARD], "user": "bench"}
        return await self._job("load_model", body)

    async def roll_back(self) -> Job:
        """Go back to the version before."""
        return await self._job("rollback_model", {"pipeline": GUARD, "user": "bench"})

    def results(self) -> list[SeenEvent]:
        """Return the results of the safety pipeline, each about a stroke."""
        return [event for event in self._about_strokes() if GUARD in str(event.fields.get("SourceName"))]

    def strokes(self) -> set[int]:
        """Return the numbers of all strokes that any pipeline has a result about."""
        return {int(event.fields["Stroke"]) for event in self._about_strokes()}

    def gaps_ms(self) -> list[float]:
        """Return how long nobody judged at each hand-over of the safety pipeline, as the server logs it."""
        rows = [json.loads(line) for line in self._server.log().splitlines() if "lane.took_over" in line]
        return [float(row["gap_ms"]) for row in rows if row["group"] == GUARD]

    def _about_strokes(self) -> list[SeenEvent]:
        return [event for event in self.client.events if event.fields.get("Stroke") is not None]

    async def until(self, look: Callable[[], Found], what: str, within_s: float = SOON_S) -> Found:
        """Return what is found as soon as anything is.

        Raises:
            EdgeError: It never was.
        """
        ends_s = self.clock.monotonic_s() + within_s
        while not (found := look()):
            if self.clock.monotonic_s() > ends_s:
                raise EdgeError(f"not seen within {within_s:g} s: {what}")
            await self.clock.sleep(0.02)
        return found

    async def memory_mb(self) -> dict[str, float]:
        """Return what each process of the server has in memory of its own, MB."""
        rows = (await self._ask("status", {}))["processes"]
        return {str(row["role"]): _own_kb(int(row["pid"])) / 1024 for row in rows if row["pid"]}

    async def _job(self, kind: str, body: dict[str, Any]) -> Job:
        since, began_ns = len(self.client.events), self.clock.utc_ns()
        number = (await self._ask(kind, body))["job"]

        def ended() -> list[SeenEvent]:
            seen = [each for each in self.client.events[since:] if each.fields.get("JobId") == number]
            return seen if seen and seen[-1].fields.get("State") in ENDED else []

        seen = await self.until(ended, f"the end of {number}", JOB_S)
        last = seen[-1]
        return Job(
            tuple((str(each.fields["State"]), each.at_ns) for each in seen),
            (last.at_ns - began_ns) / 1e6,
            str(last.fields.get("Reason") or "") if last.fields["State"] == "Failed" else "",
        )

    async def _ask(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = await ask(self._state.control_socket, "supervisor", kind, body, timeout_s=ASK_S)
        if not is_good(reply.status):
            raise EdgeError(f"{kind} is refused: {reply.reason}")
        return dict(reply.body)

    def _configuration(self) -> Path:
        """Return a copy of the example with other pipelines and without an output."""
        folder = self._home / "press"
        shutil.copytree(examples_dir() / "press", folder)
        file = folder / "press.toml"
        file.write_text(file.read_text().partition("[[pipelines]]")[0] + PIPELINES)
        return file


def _own_kb(pid: int) -> int:
    """Return what a process has in memory that is no file and no share of the bus; 0 if it has just ended.

    What it maps of libraries is shared with every other Python of this machine.

    Source:
        proc(5), ``smaps_rollup``.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Anonymous:")), 0)
