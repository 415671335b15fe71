"""Starts the processes of one server, keeps them alive, answers for them, ends them in the right order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog

from edge_opcua.app.board import Board
from edge_opcua.app.build import Plan
from edge_opcua.app.hangup import has_terminal, is_ignored
from edge_opcua.app.impact import Impact
from edge_opcua.app.models.desk import ModelDesk
from edge_opcua.app.models.recovery import open_book
from edge_opcua.app.processes import ChildProcess, Inheritance, config_memfd, exit_text
from edge_opcua.app.reload import Reload, Report
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.costs import MeasuredCosts
from edge_opcua.app.serving.groups import LaneGroups
from edge_opcua.app.view import BusView
from edge_opcua.app.watchdog import until_ended
from edge_opcua.config.handover import packed
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Hub, Reply, Request
from edge_opcua.core.process import EXIT_OK
from edge_opcua.core.segment import Segment
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_NOT_SUPPORTED, GOOD

_log = structlog.get_logger(__name__)

FIRST_DELAY_S = 0.2
MAX_DELAY_S = 5.0
RELEASE_S = 1.0
END_S = 1.5
SESSIONS_S = 1.0
ANSWER_S = 0.5
MEMORY_SHORT = "M583"
_AUDITED = 2000  # characters of a difference


@dataclass(slots=True)
class Seat:
    """A role that always has a process, and the process that fills it."""

    role: str
    child: ChildProcess | None = None
    restarts: int = 0
    arguments: tuple[str, ...] = ()


class Supervisor:
    """One running server.

    Args:
        config: The checked configuration.
        plan: Blocks of the bus, from :func:`edge_opcua.app.build.plan`.
        state: State directory, locked by the caller.
        clock: Clock of the machine.
        announce: Prints a line for the operator.
    """

    def __init__(
        self,
        config: EdgeConfig,
        plan: Plan,
        state: StateDir,
        *,
        clock: Clock,
        announce: Callable[[str], None],
    ) -> None:
        self._config = config
        self._state = state
        self._clock = clock
        self._announce = announce
        self._bus = Bus.create(plan.blocks, clock=clock)
        self._view = BusView(config, self._bus, clock)
        self._hub = Hub(self._handle)
        self._inheritance = Inheritance(self._bus, config_memfd(packed(config)), str(state.root))
        self._seats = {role: Seat(role) for role in _roles(config)}
        self._book = open_book(state, config, clock)
        self._costs = MeasuredCosts(state.model_costs, clock)
        self._lanes = LaneGroups(config, self._book.active, self, clock, self._end_roles)
        self._reload = Reload(self, state, clock)
        self._reloading: set[asyncio.Task[Report]] = set()
        self._had_terminal = has_terminal()
        self._board = Board(clock, announce)
        self._desk = ModelDesk(config, self._book, self._lanes, self._board, self._notify, clock)
        self._unreleased: list[str] = []
        self._children: list[ChildProcess] = []
        self._stopping = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._started_s = clock.monotonic_s()

    async def run(self) -> tuple[str, ...]:
        """Run until SIGTERM or SIGINT; then outputs are released first, and every process ends.

        SIGHUP reads the configuration again (:mod:`edge_opcua.app.hangup`).

        Returns:
            Outputs that could not be released: there the PLC's own time-out has to act.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        if not is_ignored():
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        try:
            async with self._group:
                tasks = [
                    self._group.create_task(self._hub.run(), name="hub"),
                    self._group.create_task(self._hub.serve_unix(self._state.control_socket), name="control"),
                    self._group.create_task(self._board.watch_disk(self._state.root), name="disk"),
                    self._group.create_task(self._costs.run(), name="costs"),
                ]
                tasks += [
                    self._group.create_task(self._keep(seat), name=f"keep.{seat.role}")
                    for seat in self._seats.values()
                ]
                tasks += self._desk.start(self._group)
                self._lanes.start(self._group)
                await self._stopping.wait()
                for reload in self._reloading:
                    reload.cancel()
                await self._end_children()
                self._lanes.cancel()
                for task in tasks:
                    task.cancel()
            await self._book.close()
        finally:
            await self._kill_the_rest()
            self._bus.close()
            os.close(self._inheritance.config_fd)
        return tuple(self._unreleased)

    # What the keepers of lanes need (LaneHost).

    async def start(self, role: str, *arguments: str) -> ChildProcess:
        """Start a child and connect it to the control channel."""
        child = await ChildProcess.start(role, self._inheritance, *arguments)
        self._children = [each for each in self._children if not each.has_ended] + [child]
        self._hub.attach(role, child.control)
        return child

    async def until_ended(self, child: ChildProcess) -> int:
        """Return the exit code of a child once it has ended; one that is frozen is killed."""
        return await until_ended(child, self._hub, self._clock)

    def disconnect(self, role: str) -> None:
        """Forget a child that has ended."""
        self._hub.detach(role)

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        """Ask a child."""
        return await self._hub.request(to, kind, body, timeout_s=timeout_s)

    def recorded_cursor(self, pipeline: str) -> int | None:
        """Return the last capture a lane of this pipeline has dealt with; None for one that is going."""
        if all(pipeline != each.name for each in self._config.pipelines):
            return None
        return self._view.recorded_cursor(pipeline)

    def report_fault(self, source: str, code: str, text: str) -> None:
        """Show a fault, and say it once."""
        self._board.report(source, code, text)
        self._desk.guard.on_fault(source, code, text)

    async def loading(self, models: Mapping[str, ModelChoice]) -> None:
        """Write down that models are going to be loaded, before they are."""
        await self._book.loading(models.values())

    def standby_changed(self) -> None:
        """Let clients see which versions stand by."""
        self._notify("opcua", "standby", {"models": self._lanes.standby_models()})

    def lane_ended(self, models: Mapping[str, ModelChoice], how: str) -> None:
        """Take note that an active lane process has ended by itself."""
        self._desk.guard.on_ended(models, how)

    def clear_fault(self, source: str) -> None:
        """Take a fault back, and say that it is over."""
        self._board.clear(source)

    def measured(self, models: Mapping[str, ModelChoice], facts: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep what a lane process has measured of its models."""
        there = {pipeline.name: pipeline for pipeline in self._config.pipelines}
        for name in models:
            if name in there:
                self._costs.take(there[name], facts[name])

    # What a reload needs (Host).

    @property
    def config(self) -> EdgeConfig:
        """The configuration that runs."""
        return self._config

    @property
    def bus(self) -> Bus:
        """The tag bus."""
        return self._bus

    @property
    def changing(self) -> asyncio.Lock:
        """Held while a model is changed."""
        return self._desk.jobs.changing

    def child(self, role: str) -> ChildProcess | None:
        """Return the process of a role, None while there is none."""
        seat = self._seats.get(role)
        return None if seat is None else seat.child

    def adopt(self, config: EdgeConfig, config_fd: int, segment: Segment) -> None:
        """Run another configuration from now on; processes that start get it."""
        self._bus.switch(segment)
        self._config = config
        os.close(self._inheritance.config_fd)
        self._inheritance = Inheritance(self._bus, config_fd, str(self._state.root))
        self._view = BusView(config, self._bus, self._clock)
        self._desk.reconfigure(config)

    def take_unreleased(self) -> tuple[str, ...]:
        """Return the outputs that could not be released since the last time."""
        found, self._unreleased = tuple(self._unreleased), []
        return found

    async def change_lanes(self, effect: Impact) -> None:
        """End the lanes of some pipelines, and start those of others."""
        await self._lanes.change(self._config, effect)

    async def _end_roles(self, beginning: str) -> None:
        """End the processes whose role begins like this, also one that was only just being started."""
        for child in self._children:
            if child.role.startswith(beginning):
                self.disconnect(child.role)
                if not child.has_ended:
                    await child.end(grace_s=END_S)

    def _on_hangup(self) -> None:
        """Read the configuration again; end if the terminal has gone from which the server was started."""
        if self._had_terminal and not has_terminal():
            self._stopping.set()
        else:
            self._begin_reload(dry_run=False, who="SIGHUP")

    def _begin_reload(self, *, dry_run: bool, who: str) -> asyncio.Task[Report]:
        task = self._group.create_task(self._reloaded(dry_run=dry_run, who=who), name="reload")
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)
        return task

    async def _reloaded(self, *, dry_run: bool, who: str) -> Report:
        report = await self._reload.run(dry_run=dry_run)
        if not dry_run:
            text = f"error[{report.code}] " if report.code else ""
            for line in (*report.changes, *report.effects, *report.problems.splitlines()):
                self._announce(line)
            self._announce(f"{text}reload: {report.outcome} {report.reason}".rstrip())
            outcome = f"{report.outcome} {report.code} {report.reason}".strip()
            new = "; ".join(report.changes)[:_AUDITED]
            body = {"what": "configuration", "who": who, "new": new, "outcome": outcome}
            self._hub.notify("records", "audit", body)
        return report

    # Processes.

    async def _keep(self, seat: Seat) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            started_s = self._clock.monotonic_s()
            try:
                await self._fill(seat)
            except OSError as exc:  # no memory or no descriptor for a process: that may end
                self.report_fault(seat.role, "H651", f"no process can be started: {exc}")
            if self._stopping.is_set():
                return
            if self._clock.monotonic_s() - started_s > MAX_DELAY_S:
                delay_s = FIRST_DELAY_S
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_DELAY_S)

    async def _fill(self, seat: Seat) -> None:
        """Give a role a process, and return when that has ended."""
        seat.child = child = await self.start(seat.role, *seat.arguments)
        if child.inheritance is not self._inheritance:  # the configuration has changed meanwhile
            child.kill()
        if (fault := self._board.faults.get(seat.role)) is not None and fault.code == "H651":
            self.clear_fault(seat.role)
        code = await self.until_ended(child)
        self._hub.detach(seat.role)
        seat.child = None
        if not self._stopping.is_set():
            seat.restarts += 1
            _log.warning("process.ended", role=seat.role, pid=child.pid, how=exit_text(code))

    async def _end_children(self) -> None:
        """End io first: it writes the safe values while everything it needs still lives; records last.

        Meanwhile OPC UA clients are told, so that they see the end coming before the line goes dead.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._release(), name="end.io")
            group.create_task(self._announce_shutdown(), name="end.announce")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lanes.end(), name="end.lanes")
            for seat in self._seats.values():
                if seat.child is not None and seat.role not in ("io", "records"):
                    group.create_task(seat.child.end(grace_s=END_S), name=f"end.{seat.role}")
        records = self._seats["records"].child
        if records is not None:
            await records.end(grace_s=END_S)  # last: it journals what the others did at their end

    async def _release(self) -> None:
        io = self._seats["io"].child
        if io is None or await io.end(grace_s=RELEASE_S) != EXIT_OK:  # dead, frozen, or too slow
            self._unreleased = [output.name for output in self._config.outputs]

    async def _announce_shutdown(self) -> None:
        within_s = self._config.opcua.shutdown_s
        if within_s and self._board.endpoints and self._seats["opcua"].child is not None:
            body = {"reason": "the server was told to stop", "within_s": within_s}
            await self._hub.request("opcua", "closing", body, timeout_s=within_s + ANSWER_S)

    async def _kill_the_rest(self) -> None:
        """End what was only just being started, e.g. the lane of a model change."""
        for child in self._children:
            if not child.has_ended:
                child.kill()
                await child.wait()

    # Control channel.

    async def _handle(self, request: Request) -> Reply:
        match request.kind:
            case "loaded" | "ready" | "refused" | "shadow":
                self._lanes.on_notice(request.origin, request.kind, request.body)
                return Reply(GOOD, "", {})
            case "listening":
                return self._on_listening(request.body)
            case "fault":
                body = request.body
                self._board.report(str(body["source"]), str(body["code"]), str(body["text"]))
                if body["code"] == MEMORY_SHORT:
                    self._lanes.end_standbys()
                return Reply(GOOD, "", {})
            case "fault_over":
                self._board.clear(str(request.body["source"]), code=str(request.body["code"]))
                return Reply(GOOD, "", {})
            case "unreleased":
                self._unreleased.append(str(request.body["output"]))
                return Reply(GOOD, "", {})
            case _:
                return await self._desk.handle(request) or await self._asked(request)

    async def _asked(self, request: Request) -> Reply:
        """Answer the command line."""
        match request.kind:
            case "reload":
                dry_run = bool(request.body.get("dry_run"))
                # Shielded: whoever asked may go, what has begun is finished or undone.
                task = self._begin_reload(dry_run=dry_run, who=request.origin or "edge-opcua reload")
                return Reply(GOOD, "", (await asyncio.shield(task)).as_json())
            case "status":
                return Reply(GOOD, "", await self._status())
            case "snapshot":
                return Reply(GOOD, "", self._snapshot(request.body))
            case _:
                return Reply(BAD_NOT_SUPPORTED, f"the supervisor does not know {request.kind}", {})

    def _on_listening(self, body: dict[str, Any]) -> Reply:
        if self._config.opcua.port == 0:  # any free port: after a restart it has to be the same one
            port = urlsplit(str(body["local"])).port
            self._seats["opcua"].arguments = (f"--listen={self._config.opcua.host}:{port}",)
        ready_s = self._clock.monotonic_s() - self._started_s
        self._board.listening(body, ready_s, security=self._config.opcua.security, state_dir=self._state.root)
        if self._desk.jobs.last is not None:  # the process has started again: it knows of no job
            self._notify("opcua", "last_job", self._desk.jobs.last)
        self._desk.on_listening()
        self.standby_changed()
        return Reply(GOOD, "", {})

    def _notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        """Tell one of the processes that a server always has; who is not configured misses nothing."""
        if to in self._seats:
            self._hub.notify(to, kind, body)

    async def _status(self) -> dict[str, Any]:
        sessions = await self._hub.request("opcua", "sessions", {}, timeout_s=SESSIONS_S)
        uptime_s = self._clock.monotonic_s() - self._started_s
        on_trial = {name for names in self._book.standing.trials.values() for name in names}
        return {
            "schema": "edge-opcua.status/1",
            "machine": self._config.site.machine,
            "config": str(self._config.file.absolute()),
            "uptime_s": uptime_s,
            "endpoints": self._board.endpoints,
            "thumbprint": self._board.thumbprint,
            "processes": self._processes(),
            "links": self._view.links(),
            "pipelines": [
                {**row, **self._lanes.pipeline(row["pipeline"]), "on_trial": row["pipeline"] in on_trial}
                for row in self._view.pipelines()
            ],
            "outputs": self._view.outputs(),
            "records": self._view.block("records.health"),
            "windows": self._view.block("records.windows"),
            "sessions": sessions.body.get("sessions", []),
            "service_level": sessions.body.get("service_level"),
            "faults": self._board.rows(),
            "last_job": self._desk.jobs.last,
        }

    def _processes(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"role": "supervisor", "pid": os.getpid(), "restarts": 0}]
        rows += [
            {"role": seat.role, "pid": seat.child.pid if seat.child else None, "restarts": seat.restarts}
            for seat in self._seats.values()
        ]
        rows += self._lanes.rows()
        return rows

    def _snapshot(self, body: dict[str, Any]) -> dict[str, Any]:
        rows, following = self._view.pages.page(
            int(body.get("from", 0)), only_bad=bool(body.get("only_bad", False))
        )
        return {
            "schema": "edge-opcua.watch/1",
            "machine": self._config.site.machine,
            "utc_ns": self._clock.utc_ns(),
            "rows": rows,
            "next": following,
            "links": self._view.links(),
            "outputs": self._view.outputs(),
            "models": self._view.models(),
        }


def _roles(config: EdgeConfig) -> tuple[str, ...]:
    """Return the processes that a server always has, besides those of its lanes."""
    return ("io", "records", "opcua", *(("telemetry",) if config.telemetry.prometheus else ()))


def state_at(path: Path) -> StateDir:
    """Return the state directory at a path, made if it is not there."""
    state = StateDir(path)
    state.create()
    return state
