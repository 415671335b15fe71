"""Applies a changed configuration while the line runs: all of it or nothing.

The file is read and checked as at the start. What cannot be changed at run time refuses the whole. Then the
processes take the change over one after the other, the one with the devices first; if one cannot, those that
have go back, and one that cannot even do that is started anew with what was. Lanes, each a process of its
own, come last: only those stop that the change touches.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

import structlog

from edge_opcua.app.build import Plan, plan
from edge_opcua.app.changes import send_descriptors
from edge_opcua.app.impact import Impact, impact
from edge_opcua.app.models.active import ActiveModels, install_delivered
from edge_opcua.app.processes import ChildProcess, config_memfd
from edge_opcua.config.difference import Difference, difference, lines
from edge_opcua.config.handover import packed
from edge_opcua.config.loader import load
from edge_opcua.config.report import problems_text
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply
from edge_opcua.core.process import PING
from edge_opcua.core.segment import Segment
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_good
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError, EdgeError, ModelError
from edge_opcua.opcua.identity import check_identity, guard_identity

SCHEMA: Final = "edge-opcua.reload/1"
DONE, ANSWER_IS_NO, WRONG_CONFIG, REFUSED = 0, 1, 2, 3

READ_S: Final = 120.0
CHANGE_S: Final = 30.0
SETTLE_S: Final = 5.0
PING_S: Final = 3.0
MAX_SEGMENTS: Final = 100
# In this order, and back in the other one: outputs are released before anything else happens.
ROLES: Final = ("io", "records", "opcua")
FOLLOWERS: Final = ("telemetry",)
"""Processes that take a change over where they run; nothing waits for one that does not."""

_log = structlog.get_logger(__name__)


class Host(Protocol):
    """What a reload needs of the supervisor.

    Attributes:
        config: The configuration that runs.
        bus: The tag bus.
        changing: Held while a model is changed.
    """

    @property
    def config(self) -> EdgeConfig:
        """The configuration that runs."""
        ...

    @property
    def bus(self) -> Bus:
        """The tag bus."""
        ...

    @property
    def changing(self) -> asyncio.Lock:
        """Held while a model is changed."""
        ...

    def child(self, role: str) -> ChildProcess | None:
        """Return the process of a role, None while there is none."""
        ...

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        """Ask a child."""
        ...

    def adopt(self, config: EdgeConfig, config_fd: int, segment: Segment) -> None:
        """Run another configuration from now on; processes that start get it."""
        ...

    def take_unreleased(self) -> tuple[str, ...]:
        """Return the outputs that could not be released since the last time."""
        ...

    async def change_lanes(self, effect: Impact) -> None:
        """End the lanes of some pipelines, and start those of others."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Args:
        outcome: ``applied``, ``unchanged``, ``would apply``, ``wrong``, ``refused`` or ``rolled back``.
        exit_code: What the command ends with.
        code: Stable code of what was wrong; empty if nothing was.
        reason: One sentence for people; empty if all is well.
        problems: What the check of the file said, as ``check`` prints it.
        changes: The difference, a line for each thing.
        effects: What reconnects, restarts and is released.
        notes: What else is worth knowing.
    """

    outcome: str
    exit_code: int = DONE
    code: str = ""
    reason: str = ""
    problems: str = ""
    changes: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "schema": SCHEMA,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "code": self.code,
            "reason": self.reason,
            "problems": self.problems,
            "changes": list(self.changes[:_MOST_LINES]),
            "effects": list(self.effects),
            "notes": list(self.notes),
        }


_MOST_LINES: Final = 1000


class _RefusedError(Exception):
    """A reload that is refused, with the report that says why."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.reason)
        self.report = report


class _FailedError(Exception):
    """A process could not take the change over."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be applied."""

    config: EdgeConfig
    plan: Plan
    difference: Difference
    impact: Impact
    changes: tuple[str, ...]
    problems: str
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Attempt:
    """How far a change has come.

    Args:
        number: Its number.
        asked: The processes that were asked to take it over, in that order.
    """

    number: int
    asked: dict[str, ChildProcess] = field(default_factory=dict)


class Reload:
    """Applies changes of the configuration file, one at a time.

    Args:
        host: The supervisor.
        state: State directory.
        clock: For how long it took.
    """

    def __init__(self, host: Host, state: StateDir, clock: Clock) -> None:
        self._host = host
        self._state = state
        self._clock = clock
        self._worker = Worker("reload")
        self._running = False

    async def run(self, *, dry_run: bool = False) -> Report:
        """Read the file again, and apply it if that is possible and wanted.

        Args:
            dry_run: Only say what would happen.
        """
        if self._running or self._host.changing.locked():
            what = "a reload" if self._running else "a change of a model"
            return Report("refused", REFUSED, "D389", f"{what} is going on; try again when it is over")
        self._running = True
        before = self._host.config
        try:
            async with self._host.changing:
                report = await self._run(dry_run=dry_run)
        except _RefusedError as exc:
            report = exc.report
        except Exception as exc:  # noqa: BLE001 - boundary: a reload may fail, the line may not
            _log.error("reload.failed", error=repr(exc), exc_info=exc)
            report = _unforeseen(exc, applied=self._host.config is not before)
        finally:
            self._running = False
        _log.info("reload.done", outcome=report.outcome, code=report.code, reason=report.reason)
        return report

    async def _run(self, *, dry_run: bool) -> Report:
        started_s = self._clock.monotonic_s()
        read = partial(self._read, self._host.config, dry_run=dry_run)
        try:
            wanted = await self._worker.call(read, timeout_s=READ_S)
        except TimeoutError:
            reason = f"the file could not be read within {READ_S:g} s"
            return Report("refused", ANSWER_IS_NO, "D386", reason)
        report = Report(
            "unchanged" if not wanted.difference else "would apply",
            problems=wanted.problems,
            changes=wanted.changes,
            effects=tuple(_effects(wanted.impact)),
            notes=wanted.notes,
        )
        if dry_run or not wanted.difference:
            return report
        if len(self._host.bus.segments) >= MAX_SEGMENTS:
            reason = f"{MAX_SEGMENTS} changes of this run are still in use; restart the server once"
            return _as(report, "refused", REFUSED, "D387", reason)
        try:
            await self._apply(wanted)
        except _FailedError as exc:
            report = replace(report, notes=(*report.notes, *self._unreleased()))
            return _as(report, "rolled back", ANSWER_IS_NO, "D386", str(exc))
        report = replace(report, notes=(*report.notes, *self._unreleased()))
        took_s = self._clock.monotonic_s() - started_s
        return _as(report, "applied", DONE, "", f"in {took_s:.1f} s")

    def _unreleased(self) -> list[str]:
        reason = "could not be released: the PLC's own time-out has to act"
        return [f"output {name} {reason}" for name in self._host.take_unreleased()]

    # --- reading, in a thread of its own -------------------------------------------------------------

    def _read(self, running: EdgeConfig, *, dry_run: bool) -> _Wanted:
        loaded = load(running.file)
        problems = problems_text(loaded) if loaded.problems else ""
        if loaded.config is None:
            reason = "the file is not right; what runs goes on"
            raise _RefusedError(Report("wrong", WRONG_CONFIG, "", reason, problems))
        config = loaded.config
        change = difference(running, config)
        changes = tuple(lines(running, change))
        if change.needs_restart:
            raise _RefusedError(_needs_restart(change, changes, problems))
        try:
            notes = tuple(check_identity(self._state.identity_lock, config).notes())
            planned = plan(config)
            if not dry_run and change:
                notes += self._models(running, config, change)
        except (ConfigError, ModelError) as exc:
            raise _RefusedError(
                Report("refused", WRONG_CONFIG, exc.code, str(exc), problems, changes)
            ) from exc
        bus = self._host.bus
        kept = bus.kept(planned.blocks)
        after = {spec.name: kept.get(spec.name, -1) for spec in planned.blocks}
        effect = impact(running, config, bus.homes, after)
        return _Wanted(config, planned, change, effect, changes, problems, notes)

    def _models(self, running: EdgeConfig, config: EdgeConfig, change: Difference) -> tuple[str, ...]:
        """Install what was delivered, and look whether each lane that starts has a model that verifies."""
        left_out = install_delivered(config, self._state)
        active = ActiveModels(self._state, config)
        for name in (*change.pipelines.added, *change.pipelines.changed):
            active.verify(active.choice(name))
        del running
        return tuple(f"a delivered model is left out: {reason}" for reason in left_out)

    # --- applying ------------------------------------------------------------------------------------

    def _made(self, wanted: _Wanted) -> tuple[Segment, int]:
        """Return the memory that a change needs: the new segment of the bus, and the configuration."""
        segment = self._host.bus.extend(wanted.plan.blocks)
        try:
            return segment, config_memfd(packed(wanted.config))
        except OSError:
            segment.close()
            raise

    async def _apply(self, wanted: _Wanted) -> None:
        host, effect = self._host, wanted.impact
        try:
            segment, config_fd = await self._worker.call(self._made, wanted, timeout_s=READ_S)
        except (OSError, TimeoutError) as exc:
            raise _FailedError(f"there is no memory for it: {exc}") from exc
        attempt = _Attempt(segment.number)
        roles = (*ROLES, *(role for role in FOLLOWERS if host.child(role) is not None))
        try:
            for role in roles:  # first look, so that nobody begins what another one cannot do
                await self._expect(role)
            for role in roles:
                await self._change(attempt, role, (config_fd, *segment.fds))
            await self._promise(wanted.config)
        except BaseException as exc:
            if not isinstance(exc, asyncio.CancelledError):  # else the server ends, and everything with it
                await self._go_back(attempt)
            segment.close()
            os.close(config_fd)
            raise
        host.adopt(wanted.config, config_fd, segment)
        for role, child in attempt.asked.items():
            if host.child(role) is not child:  # it ended meanwhile, and its successor started with what was
                _kill(host.child(role))
        await host.change_lanes(effect)
        for role in attempt.asked:
            await host.request(role, "settle", {}, timeout_s=SETTLE_S)
        host.bus.retire(free=True)

    async def _expect(self, role: str) -> None:
        """Look whether a process is there and ready."""
        reply = await self._host.request(role, PING, {}, timeout_s=PING_S)
        if not is_good(reply.status):
            raise _FailedError(f"{role} does not answer: {reply.reason}")
        if reply.body.get("starting"):
            raise _FailedError(f"{role} is still starting")

    async def _change(self, attempt: _Attempt, role: str, fds: tuple[int, ...]) -> None:
        child = self._host.child(role)
        if child is None:
            raise _FailedError(f"{role} is being started again")
        attempt.asked[role] = child
        try:
            send_descriptors(child.descriptors, attempt.number, fds)
        except OSError as exc:
            raise _FailedError(f"{role} is gone: {exc.strerror}") from exc
        reply = await self._host.request(role, "change", {"number": attempt.number}, timeout_s=CHANGE_S)
        if not is_good(reply.status):
            raise _FailedError(reply.reason)

    async def _promise(self, config: EdgeConfig) -> None:
        """Write down what clients are promised now; nobody may be promised what is not kept."""
        guard = partial(guard_identity, self._state.identity_lock, config)
        try:
            await self._worker.call(guard, timeout_s=READ_S)
        except (EdgeError, OSError, TimeoutError) as exc:
            raise _FailedError(f"identity.lock cannot be written: {exc}") from exc

    async def _go_back(self, attempt: _Attempt) -> None:
        for role, child in reversed(attempt.asked.items()):
            if child.has_ended or self._host.child(role) is not child:
                continue
            reply = await self._host.request(role, "revert", {}, timeout_s=CHANGE_S)
            if not is_good(reply.status):
                _log.error("reload.not_reverted", role=role, reason=reply.reason)
                child.kill()  # its successor starts with what was


def _kill(child: ChildProcess | None) -> None:
    if child is not None:
        child.kill()


def _as(report: Report, outcome: str, exit_code: int, code: str, reason: str) -> Report:
    return replace(report, outcome=outcome, exit_code=exit_code, code=code, reason=reason)


def _unforeseen(exc: Exception, *, applied: bool) -> Report:
    """Return what is said of a fault of ours; behind the point of no return the new configuration runs."""
    if applied:
        reason = f"the new configuration runs, but not all of it may have started: {exc!r}; see the log"
        return Report("applied", ANSWER_IS_NO, "", reason)
    return Report("rolled back", ANSWER_IS_NO, "D386", f"unforeseen: {exc!r}")


def _needs_restart(change: Difference, changes: tuple[str, ...], problems: str) -> Report:
    settings = change.needs_restart
    named = ", ".join(setting.path for setting in settings)
    notes = tuple(f"{setting.path}: {setting.reason}" for setting in settings)
    reason = f"{named} cannot be changed while the server runs; nothing was changed"
    return Report("refused", REFUSED, "D387", reason, problems, changes, (), notes)


def _effects(effect: Impact) -> list[str]:
    """Return for people what stops and starts."""
    devices = [name for name in effect.started_devices if name in effect.stopped_devices]
    outputs = [name for name in effect.stopped_outputs if name in effect.started_outputs]
    lanes = [name for name in effect.started_lanes if name in effect.stopped_lanes]
    found = []
    if devices:
        found.append(f"reconnects: {', '.join(devices)}")
    if lanes:
        found.append(f"lanes start anew: {', '.join(lanes)}")
    if effect.handed_over:
        found.append(f"handed over to a new process of their group: {', '.join(effect.handed_over)}")
    if outputs:
        found.append(f"outputs are released, and begin as after a start: {', '.join(outputs)}")
    return found
