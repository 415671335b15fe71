"""Goes back to the former version by itself when the new one does harm, and knows when that would not help.

A version that ends its process, errs, or answers its reference samples otherwise than it should is put into
quarantine, and every pipeline that runs it goes back. That is done at most once an hour for a pipeline: if
the former version shows the same, the cause is not the model. What may not be done is told instead.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Never, Protocol

import structlog

from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.serving.starting import NO_MEMORY, LaneProcess
from edge_opcua.config.modelcare import ChangeConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Kind, Step
from edge_opcua.inference.lifecycle import Job
from edge_opcua.inference.surroundings import NOT_THE_MODEL
from edge_opcua.inference.watch.kinds import KINDS

TICK_S: Final = 0.5
PAUSE_S: Final = 3600.0
LEAST_LASTING_S: Final = 10.0
AFTERMATH_S: Final = 120.0
"""So long after its process has ended, late verdicts are those that waited for the next one."""
NEW_S: Final = 3600.0
"""So long after its trial late verdicts speak against a version; later it is the machine that has changed."""
MOST_CAUSES: Final = 64
CRASH: Final = "crash"
LATENCY: Final = "latency"
_NS: Final = 1_000_000_000
MOST_LOADS: Final = 3
"""So often a version may end or hang while it is loaded, before that is its own fault."""
_NOT_READY: Final = frozenset({"M530", "M561", "M591"})
"""A machine that has too much to do loads slowly, whatever it loads."""
_NOT_THE_MODEL: Final = NO_MEMORY | NOT_THE_MODEL | {"M531", "M597", "H651"}
"""Codes of lanes that do not serve for want of something else than a model that can be loaded."""

_log = structlog.get_logger(__name__)


class FaultBoard(Protocol):
    """Where people see what is wrong."""

    def report(self, source: str, code: str, text: str) -> None:
        """Show a fault, and say it once."""
        ...

    def clear(self, source: str, *, code: str = "") -> None:
        """Take a fault back."""
        ...


class Serving(Protocol):
    """Who keeps the lanes of a group."""

    @property
    def choices(self) -> Mapping[str, ModelChoice]:
        """Which model each pipeline runs, or shall run."""
        ...

    @property
    def lanes(self) -> Sequence[LaneProcess]:
        """The active processes."""
        ...


class GoBack(Protocol):
    """Begins a roll-back."""

    def __call__(self, pipelines: tuple[str, ...], because: str) -> Job:
        """Let pipelines of one group go back; answers at once."""
        ...


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that speaks against a version.

    Args:
        pipelines: Pipelines on which it was seen.
        model: The version.
        kind: What it is, as ``change.rollback_on`` names it.
        code: Stable code under which it is told.
        text: For people.
    """

    pipelines: tuple[str, ...]
    model: ModelChoice
    kind: str
    code: str
    text: str


class Guard:
    """Watches over the versions that run.

    Args:
        config: When a pipeline goes back.
        book: What was written down.
        keepers: Returns who keeps the lanes.
        go_back: Begins a roll-back.
        board: Where people see what is wrong.
        clock: For trials.
    """

    def __init__(
        self,
        config: EdgeConfig,
        book: ModelBook,
        keepers: Callable[[], Iterable[Serving]],
        go_back: GoBack,
        board: FaultBoard,
        clock: Clock,
    ) -> None:
        self._config = config
        self._book = book
        self._keepers = keepers
        self._go_back = go_back
        self._board = board
        self._clock = clock
        self._causes: deque[Cause] = deque(maxlen=MOST_CAUSES)
        self._came = asyncio.Event()
        self._going: set[str] = set()
        self._ended_s: dict[str, float] = {}
        self._confirmed_s: dict[str, float] = {}

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config

    # --- what speaks against a version ---------------------------------------------------------------

    def on_ended(self, models: Mapping[str, ModelChoice], how: str) -> None:
        """Take note that an active lane process has ended by itself; one on trial gets no second try."""
        for name, choice in models.items():
            self._ended_s[name] = self._clock.monotonic_s()
            if self._is_on_trial(name):
                self._add(Cause((name,), choice, CRASH, "M634", f"its process ended on trial: {how}"))

    def on_fault(self, source: str, code: str, text: str) -> None:
        """Take note of a pipeline without service: its model cannot be loaded, or ends its process."""
        if source not in self._names() or code in _NOT_THE_MODEL:
            return
        running = self._running(source)
        if code in _NOT_READY and self._book.loads_of(running) < MOST_LOADS and not self._is_on_trial(source):
            return
        self._add(Cause((source,), running, CRASH, code, text))

    def on_watch(self, body: Mapping[str, Any]) -> None:
        """Take a ``watch`` notice of a lane process: an alarm of a running model comes or goes."""
        name, kind = str(body.get("pipeline", "")), str(body.get("kind", ""))
        code, text = str(body.get("code", "")), str(body.get("text", ""))
        if name not in self._names():
            return
        running = self._running(name)
        if body.get("active") is not True or body.get("model") != running.key:
            self._board.clear(f"{name}/{kind}")
            return
        self._board.report(f"{name}/{kind}", code, text)
        if kind == LATENCY and not self._tells_latency(name):
            return
        self._add(Cause((name,), running, kind, code, text))

    def on_job(self, body: Mapping[str, Any]) -> None:
        """Take the notice of a job: what was told of a version is over once another one runs."""
        names, state = list(body.get("pipelines", ())), body.get("state")
        by_itself = body.get("user") == SERVER and body.get("kind") == "rollback"
        if state not in ("Active", "RolledBack", "Failed"):
            return
        if by_itself:
            self._going.difference_update(names)
        if state == "Failed":
            if by_itself:
                self._tell(names, "M636", f"it could not go back by itself: {body.get('reason')}")
            return
        for name in names:
            for source in self._sources(name):
                self._board.clear(source)
        if by_itself:
            left = f"{body.get('name')} {body.get('version')}"
            self._tell(names, "M634", f"went back from {left} by itself: {body.get('reason')}")

    def tell_found(self) -> None:
        """Tell what the start has made of what a former server has left behind."""
        if self._book.damaged:
            self._board.report("models", "M630", f"{self._book.damaged} lines of the ledger cannot be read")
        for found in self._book.found:
            self._tell(found.entry.pipelines, "M637", found.text)

    # --- what is done about it -----------------------------------------------------------------------

    async def run(self) -> Never:
        """Look after trials, and act on what speaks against a version, for ever."""
        while True:
            self._came.clear()
            await self.look()
            await self._clock.wait(self._came, TICK_S)

    async def look(self) -> None:
        """Act on what has come, and see which versions have lasted."""
        while self._causes:
            await self._act(self._causes.popleft())
        await self._confirm()
        await self._book.lasted(self._lasting())

    def _add(self, cause: Cause) -> None:
        self._causes.append(cause)
        self._came.set()

    async def _act(self, cause: Cause) -> None:
        """Go back wherever the version runs, if that is wanted and would help."""
        names = [name for name in self._names() if self._running(name).is_same(cause.model)]
        names = [
            name for name in names if cause.kind in self._care(name).rollback_on and name not in self._going
        ]
        if not names or not set(names) & set(cause.pipelines):
            return
        why_not = {name: self._why_not(name) for name in names}
        able = [name for name in names if not why_not[name]]
        for name in set(names) & set(cause.pipelines):
            if why_not[name]:
                self._tell([name], "M636", f"{cause.model.text}: {cause.text}; {why_not[name]}")
        if not able:
            return
        _log.error(
            "model.harmful", kind=cause.kind, reason=cause.text, pipelines=able, **cause.model.as_json()
        )
        if self._book.standing.quarantine_of(cause.model) is None:
            entry = Entry(Kind.VERDICT, Step.QUARANTINED, cause.model, user=SERVER)
            await self._book.note(entry, Step.QUARANTINED, f"{cause.kind}: {cause.text}")
        for keeper in self._keepers():
            part = tuple(name for name in able if name in keeper.choices)
            if part:
                self._going.update(part)
                self._go_back(part, f"{cause.kind}: {cause.text}")

    def _why_not(self, pipeline: str) -> str:
        """Return why a pipeline does not go back; empty if it may."""
        since_ns = self._book.standing.of(pipeline).reverted_ns
        if since_ns and 0 <= self._clock.utc_ns() - since_ns < PAUSE_S * _NS:
            return "it has gone back by itself already within the last hour: the cause is not the model"
        if not self._book.active.ways_back(pipeline) and not self._is_activating(pipeline):
            return "there is no former version to go back to"
        return ""

    async def _confirm(self) -> None:
        """End the trials of versions that have judged long enough."""
        for change, names in self._book.standing.trials.items():
            there = [name for name in names if name in self._names()]
            if not all(self._has_lasted(name, self._care(name).probation_s) for name in there):
                continue
            after = {name: active for name in names if (active := self._book.standing.of(name).active)}
            if not after:  # a ledger that was damaged may say so
                continue
            model = next(iter(after.values()))
            entry = Entry(Kind.LOAD, Step.CONFIRMED, model, {}, after, user=SERVER, change=change)
            await self._book.note(entry, Step.CONFIRMED)
            self._confirmed_s |= dict.fromkeys(names, self._clock.monotonic_s())
            _log.info("model.confirmed", pipelines=list(names), **model.as_json())

    def _lasting(self) -> list[ModelChoice]:
        """Return the versions whose being loaded has brought down nobody."""
        return [
            self._running(name)
            for name in self._names()
            if self._has_lasted(name, max(self._care(name).probation_s, LEAST_LASTING_S))
        ]

    def _has_lasted(self, pipeline: str, time_s: float) -> bool:
        now_s, running = self._clock.monotonic_s(), self._running(pipeline)
        return any(
            now_s - lane.since_s >= time_s and running.is_same(lane.models.get(pipeline))
            for keeper in self._keepers()
            for lane in keeper.lanes
        )

    # --- what is known -------------------------------------------------------------------------------

    def _is_on_trial(self, pipeline: str) -> bool:
        return self._book.standing.of(pipeline).trial is not None or self._is_activating(pipeline)

    def _tells_latency(self, pipeline: str) -> bool:
        """Return whether late verdicts say something about the version, and not about the machine."""
        now_s = self._clock.monotonic_s()
        if now_s - self._ended_s.get(pipeline, -math.inf) < AFTERMATH_S:
            return False
        return self._is_on_trial(pipeline) or now_s - self._confirmed_s.get(pipeline, -math.inf) < NEW_S

    def _is_activating(self, pipeline: str) -> bool:
        entries = self._book.standing.open.values()
        return any(each.step is Step.ACTIVATING and pipeline in each.after for each in entries)

    def _names(self) -> list[str]:
        """Return the pipelines that somebody keeps lanes of."""
        kept = {name for keeper in self._keepers() for name in keeper.choices}
        return [pipeline.name for pipeline in self._config.pipelines if pipeline.name in kept]

    def _running(self, pipeline: str) -> ModelChoice:
        return next(keeper.choices[pipeline] for keeper in self._keepers() if pipeline in keeper.choices)

    def _care(self, pipeline: str) -> ChangeConfig:
        return self._config.pipeline(pipeline).change

    def _sources(self, pipeline: str) -> list[str]:
        return [f"{pipeline}/{kind}" for kind in ("model", *KINDS)]

    def _tell(self, pipelines: Collection[str], code: str, text: str) -> None:
        for name in pipelines:
            self._board.report(f"{name}/model", code, text)
