"""The story of the demo: six chapters, each over only when the client has seen what it promises."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from asyncua import ua

from edge_opcua.assets import examples_dir
from edge_opcua.core.clock import Clock
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import (
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    Verdict,
    is_bad,
    is_good,
    status_name,
)
from edge_opcua.demo.client import ScadaClient, Seen
from edge_opcua.demo.screen import Screen
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.sim.cell import Cell

MACHINE = "Press01"
# The client acknowledges, writes set-points and loads a model.
ROLES = frozenset({Role.OPERATOR, Role.ENGINEER})
MODEL = "press-anomaly"
NEXT_VERSION = 2
TIME_FACTOR = 4.0
HEALTHY_STROKES = 8
WORN = 0.9
TICK_S = 0.05
STEP_S = 14.0
LOAD_MODEL_MS = 200.0
DRAW_S = 0.25
_CODE = 0xFFFF0000

_Found = TypeVar("_Found")

# What the client watches: the end of the path, our short name for it, and its unit where the server has none.
WATCHED = (
    ("Process/stroke_count", "stroke_count"),
    ("Process/tonnage", "tonnage"),
    ("Process/die_temp", "die_temp"),
    ("Process/strokes_per_min", "strokes_per_min"),
    ("Process/rms_last", "vib rms"),
    (f"{MODEL}/Stroke", "Stroke"),
    (f"{MODEL}/Score", "Score"),
    (f"{MODEL}/Verdict", "Verdict"),
    (f"{MODEL}/Confidence", "Confidence"),
    (f"{MODEL}/ModelVersion", "ModelVersion"),
    (f"{MODEL}/InputAge", "InputAge"),
    (f"{MODEL}/Watch/Alarm", "alarm"),
    ("Outputs/verdict/State", "authority"),
    ("Process/edge_trusted", "PLC trusts"),
    ("Process/rejects", "rejects"),
)


class Story:
    """The state of a telling: what was promised, what the client saw.

    Args:
        screen: Where it is told.
        clock: Clock of the machine.
        state_dir: The server's state directory; the client keeps its key beside it.
        keep: Run on after the last chapter.
        limit_s: Longest duration.

    Attributes:
        seen: What the client has seen.
        failures: What it should have seen and has not.
        told: Whether the story is over and the plant only runs on.
    """

    def __init__(self, screen: Screen, clock: Clock, state_dir: Path, *, keep: bool, limit_s: float) -> None:
        self.screen = screen
        self.clock = clock
        self.state_dir = state_dir
        self.keep = keep
        self.limit_s = limit_s
        self.seen: list[str] = []
        self.failures: list[str] = []
        self.told = False
        self._started_s = clock.monotonic_s()

    def say(self, text: str) -> None:
        """Say one thing, with the time since the beginning."""
        self.screen.line(f"{self.clock.monotonic_s() - self._started_s:5.1f} s  {text}")

    def proved(self, text: str) -> None:
        """Note something the client has seen."""
        self.seen.append(text)
        self.say(f"ok    {text}")

    def fail(self, text: str) -> None:
        """Note something the client should have seen and has not."""
        self.failures.append(text)
        self.say(f"FAIL  {text}")

    def verdict(self) -> int:
        """Print the summary and return the exit code."""
        if self.failures:
            self.screen.line(f"The demo failed: {len(self.failures)} of its promises were not kept.")
            return 1
        self.screen.line(
            f"The client saw all of it ({len(self.seen)} points).  Next: docs/tutorial, edge-opcua doctor"
        )
        return 0


async def tell(story: Story) -> None:
    """Tell the whole story; ends every process it started."""
    async with contextlib.AsyncExitStack() as stack:
        limit = None if story.keep else story.limit_s
        deadline = await stack.enter_async_context(asyncio.timeout(limit))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        story.say("a stamping press cell starts: an S7 PLC and a Modbus TCP vibration unit")
        cell = await stack.enter_async_context(Cell(time_factor=TIME_FACTOR))
        example = examples_dir() / "press" / "press.toml"
        environment = {
            "PRESS_URL": cell.s7_url,
            "VIB_URL": cell.modbus_url,
            "OPCUA_LISTEN": "127.0.0.1:0",
        }
        server = DemoServer(example, story.state_dir, environment)
        stack.push_async_callback(server.stop)
        await server.start(group)
        story.say(f"the server listens on {server.endpoint}")
        client = ScadaClient(server.endpoint, story.state_dir / "demo-client", story.clock)
        stack.push_async_callback(client.disconnect)
        await _be_trusted(story, client)
        await Chapters(story, cell, client).run(group)
        await client.disconnect()
        if story.keep and not story.failures:
            deadline.reschedule(None)
            story.told = True
            await _run_on(story, server)


async def _be_trusted(story: Story, client: ScadaClient) -> None:
    """A stranger is refused; one command later the same certificate is welcome."""
    try:
        await client.connect()
    except EdgeError:
        story.proved("an unknown client is refused")
    else:
        await client.disconnect()
        raise EdgeError("the server let an unknown client in")
    trust = TrustList(StateDir(story.state_dir).pki)
    knocks = trust.rejected()
    if not knocks:
        raise EdgeError("the server kept no record of the refused client")
    number, print_ = knocks[0].number, knocks[0].thumbprint
    story.say(f"$ edge-opcua trust {number} --role operator,engineer     ({print_[:23]}…)")
    trust.trust(number, ROLES)
    await client.connect()
    story.proved("connected: Basic256Sha256, SignAndEncrypt, no restart")
    await client.browse(MACHINE)


async def _run_on(story: Story, server: DemoServer) -> None:
    story.say("running on; Ctrl-C ends it")
    story.say(f"UaExpert: add server {server.endpoint}, Basic256Sha256, SignAndEncrypt; it is refused once;")
    story.say(f"then: edge-opcua trust --state {story.state_dir} N --role operator      and connect again")
    await asyncio.get_running_loop().create_future()


class Chapters:
    """The chapters after the client is connected."""

    def __init__(self, story: Story, cell: Cell, client: ScadaClient) -> None:
        self._story = story
        self._cell = cell
        self._client = client

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Tell them in order."""
        watched = {self._client.find(ending): name for ending, name in WATCHED}
        await self._client.subscribe(watched)
        drawing = group.create_task(self._draw(), name="table")
        try:
            await self._healthy()
            await self._worn_die()
            await self._new_model()
            await self._cable("vib")
            await self._acknowledge()
            await self._no_stroke_missed()
            self._latency()
        finally:
            drawing.cancel()

    async def _healthy(self) -> None:
        self._story.say("the press runs with a healthy die")
        await self._until(
            lambda: [r for r in self._results() if r["Verdict"] == Verdict.OK][HEALTHY_STROKES - 1 :],
            f"{HEALTHY_STROKES} healthy strokes",
        )
        values = self._client.values
        if not all(name in values and is_good(values[name].status) for _, name in WATCHED):
            self._story.fail("not every value was Good while all was well")
        score = float(np.median([r["Score"] for r in self._results() if r["Verdict"] == Verdict.OK]))
        self._story.proved(f"{HEALTHY_STROKES} strokes judged OK, score {score:.2f} of a limit of 1.00")
        alarm = self._value("alarm")
        if alarm:
            self._story.fail(f"the watch of the model has an alarm about a healthy press: {alarm}")
        else:
            self._story.say("the model is watched against its reference profile: no alarm")

    async def _worn_die(self) -> None:
        self._story.say(f"the die wears out (wear {WORN:.0%})")
        rejects = self._value("rejects")
        await self._cell.wear(WORN)
        before = len(self._client.events)
        found = await self._until(
            lambda: [r for r in self._results(before) if r["Verdict"] == Verdict.NOT_OK],
            "an event that finds the worn die",
        )
        names, shares = found[0]["ContributionNames"], found[0]["Contributions"]
        top = sorted(zip(shares, names, strict=True), reverse=True)[:2]
        shown = ", ".join(f"{name} {share:.0%}" for share, name in top)
        self._story.proved(
            f"stroke {found[0]['Stroke']} NOT OK, score {found[0]['Score']:.2f}; it shows in {shown}"
        )
        await self._until(lambda: self._value("rejects") != rejects, "the PLC diverting the part")
        self._story.proved("the PLC trusts the verdict and diverts the part")
        await self._cell.wear(0.0)
        before = len(self._client.events)
        await self._until(
            lambda: [r for r in self._results(before) if r["Verdict"] == Verdict.OK],
            "a good stroke with the new die",
        )
        self._story.proved("die changed, strokes are OK again")

    async def _new_model(self) -> None:
        entry = next(
            entry
            for entry in ModelRepository(StateDir(self._story.state_dir).models).list()
            if (entry.name, entry.version) == (MODEL, NEXT_VERSION)
        )
        asked_s = self._story.clock.monotonic_s()
        job = await self._client.call(
            "Models",
            self._client.find("Models/LoadModel"),
            ua.Variant(MODEL, ua.VariantType.String),
            ua.Variant(NEXT_VERSION, ua.VariantType.UInt32),
            ua.Variant(entry.sha256, ua.VariantType.String),
        )
        answered_ms = (self._story.clock.monotonic_s() - asked_s) * 1000
        self._story.say(f"LoadModel({MODEL}, {NEXT_VERSION}) -> {job} in {answered_ms:.0f} ms")
        if answered_ms > LOAD_MODEL_MS:
            self._story.fail(f"LoadModel has to answer within {LOAD_MODEL_MS:g} ms")
        before = len(self._client.events)
        await self._until(lambda: self._job_states(str(job), {"Active", "Failed"}), "the end of the job")
        if self._job_states(str(job), {"Failed"}):
            raise EdgeError(f"LoadModel failed: {self._job_states(str(job), {'Failed'})}")
        await self._until(
            lambda: [r for r in self._results(before) if r["ModelVersion"] == NEXT_VERSION],
            "a stroke judged by the new model",
        )
        self._story.proved(f"model {NEXT_VERSION} judges, changed while the press ran")

    async def _cable(self, device: str) -> None:
        self._story.say(f"the cable of {device} is pulled")
        before = len(self._client.events)
        await self._cell.link(device, "cut")
        cut_ns = self._story.clock.utc_ns()
        lost = "vib rms"
        held = (
            await self._until(
                lambda: self._statuses(lost, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
                f"{lost} with quality {status_name(UNCERTAIN_NO_COMMUNICATION_LAST_USABLE)}",
            )
        )[0]
        if not self._is_last_good(lost, held, cut_ns):
            self._story.fail(f"{lost} is Uncertain, and not with its last value and source time")
        else:
            self._story.proved(f"{lost} is Uncertain, its last value and source time kept")
        await self._until(lambda: is_bad(self._client.values[lost].status), f"{lost} Bad after its hold time")
        if self._client.values[lost].value is not None:
            self._story.fail(f"{lost} is Bad and still has a value")
        else:
            self._story.proved(f"{lost} is {status_name(self._client.values[lost].status)}, without a value")
        await self._until(
            lambda: [r for r in self._results(before) if r["Verdict"] == Verdict.NOT_DECIDABLE],
            "a verdict NotDecidable",
        )
        self._story.proved("the verdict says NotDecidable, not OK")
        await self._until(lambda: self._value("PLC trusts") is False, "a PLC that trusts no verdict")
        self._story.proved("the PLC trusts no verdict any more")
        before = len(self._client.events)
        await self._cell.link(device, "pass")
        await self._until(lambda: is_good(self._client.values[lost].status), f"{lost} Good again")
        await self._until(
            lambda: [r for r in self._results(before) if r["Verdict"] == Verdict.OK], "an OK stroke"
        )
        self._story.proved("cable back: values Good, strokes judged again")

    async def _acknowledge(self) -> None:
        """While the cable was off the PLC trusted nothing; a person has to say that it may again."""
        await self._until(
            lambda: self._value("authority") == "ACK_REQUIRED", "an output that waits for a person"
        )
        path = self._client.find("ack_edge")
        self._story.proved("the PLC gets no verdicts until somebody acknowledges")
        status = await self._client.write(path, value=True, kind=ua.VariantType.Boolean)
        self._story.say(f"Write(ack_edge, true) -> {status_name(status)}")
        await self._until(lambda: self._value("authority") == "ACTIVE", "the output active again")
        await self._until(lambda: self._value("PLC trusts") is True, "a PLC that trusts the verdicts again")
        self._story.proved("acknowledged: the PLC trusts the verdicts again")

    def _value(self, name: str) -> object:
        seen = self._client.values.get(name)
        return seen.value if seen else None

    async def _no_stroke_missed(self) -> None:
        """While the model changed, every stroke of the PLC's counter must have its verdict."""
        judged = [r for r in self._results() if r["Verdict"] in (Verdict.OK, Verdict.NOT_OK)]
        strokes = [int(r["Stroke"]) for r in judged]
        change = next(i for i, r in enumerate(judged) if r["ModelVersion"] == NEXT_VERSION)
        around = strokes[max(0, change - 5) : change + 1]
        gaps = [(a, b) for a, b in itertools.pairwise(around) if b != a + 1]
        if gaps:
            self._story.fail(f"strokes missing at the change of the model: {gaps}")
        else:
            self._story.proved(f"no stroke missed at the change of the model ({around[0]}…{around[-1]})")

    def _latency(self) -> None:
        latencies_ms = [
            (event.at_ns - event.captured_ns) / 1e6
            for event in self._client.events
            if event.captured_ns and event.fields.get("Verdict") in (Verdict.OK, Verdict.NOT_OK)
        ]
        if not latencies_ms:
            self._story.fail("no result carried the time of its stroke")
            return
        p50, p99 = np.percentile(latencies_ms, (50, 99))
        self._story.proved(
            f"from the capture being ready in the unit to the client: p50 {p50:.0f} ms, p99 {p99:.0f} ms "
            f"({len(latencies_ms)} strokes)"
        )

    # What the client was told.

    def _results(self, since: int = 0) -> list[dict[str, Any]]:
        rows = (event.fields for event in self._client.events[since:])
        return [row for row in rows if row.get("Verdict") is not None]

    def _job_states(self, job: str, states: Iterable[str]) -> list[str]:
        wanted = set(states)
        return [
            f"{event.fields['State']} {event.fields.get('Reason') or ''}".strip()
            for event in self._client.events
            if event.fields.get("JobId") == job and event.fields.get("State") in wanted
        ]

    def _statuses(self, name: str, status: int) -> list[Seen]:
        return [seen for seen in self._client.history[name] if seen.status & _CODE == status]

    def _is_last_good(self, name: str, held: Seen, cut_ns: int) -> bool:
        """Whether a held value is the last Good one, read before the cable was pulled."""
        good = [
            seen for seen in self._client.history[name] if is_good(seen.status) and seen.at_ns <= held.at_ns
        ]
        return good[-1].value == held.value and good[-1].source_ns <= held.source_ns <= cut_ns

    async def _until(self, look: Callable[[], _Found], what: str) -> _Found:
        """Return what ``look`` finds as soon as it finds anything.

        Raises:
            EdgeError: Nothing was found in time.
        """
        ends_s = self._story.clock.monotonic_s() + STEP_S
        while not (found := look()):
            if self._story.clock.monotonic_s() > ends_s:
                raise EdgeError(f"the client did not see {what} within {STEP_S:g} s")
            await self._story.clock.sleep(TICK_S)
        return found

    async def _draw(self) -> None:
        while True:
            rows: list[tuple[str, ...]] = [("", "VALUE", "UNIT", "QUALITY", "AGE")]
            now_ns = self._story.clock.utc_ns()
            for _, name in WATCHED:
                seen = self._client.values.get(name)
                if seen is not None:
                    rows.append((name, *_cells(name, self._client.units.get(name, ""), seen, now_ns)))
            self._story.screen.table(f"{MACHINE}, as {self._client.url} tells its client", rows)
            await self._story.clock.sleep(DRAW_S)


def _cells(name: str, unit: str, seen: Seen, now_ns: int) -> tuple[str, str, str, str]:
    value = "-" if seen.value is None else seen.value
    if name == "Verdict" and seen.value is not None:
        value = Verdict(seen.value).name
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    age = f"{(now_ns - seen.source_ns) / 1e9:.1f} s" if seen.source_ns else "-"
    return shown, unit, status_name(seen.status), age
