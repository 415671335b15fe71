"""Carries out what was decided for one output: gathers facts, obeys, says what it did; only this acts.

It runs in the process that owns the link to the PLC; its heartbeat is made by the very loop that carries the
results, so that a chain that stands still cannot look alive. Deciding never waits for a write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from edge_opcua.config.eai import HIGHEST
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.reaction import TICK_MS
from edge_opcua.core.bus import BlockReader, BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    GOOD,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
    Verdict,
)
from edge_opcua.writeback.acts import Acts, Stage
from edge_opcua.writeback.decision import Authority, Content, Limits, decide, resumed
from edge_opcua.writeback.face import Face, Moment
from edge_opcua.writeback.faults import Facts, Fault, Plc
from edge_opcua.writeback.handshake import Command
from edge_opcua.writeback.interface import InterfaceFace
from edge_opcua.writeback.judged import Judged, cycle_of, read_judged
from edge_opcua.writeback.states import State
from edge_opcua.writeback.tagwrites import TagsFace
from edge_opcua.writeback.target import Audit, Record, RunCommand, Source, Target

AUTHORITY_RING: Final = 64
COMMAND_S: Final = 30.0
_QUIET_NS: Final = 250_000_000
_RELEASE_POLL_S: Final = 0.005
_WORKING: Final = frozenset({State.ACTIVE, State.HOLD})
_OURSELVES: Final = "edge-opcua"
_log = structlog.get_logger(__name__)


def authority_block(output: OutputConfig) -> BlockSpec:
    """Return the block in which an output says who rules over it."""
    tags = (
        TagSpec("state", Scalar.STRING, 24),
        TagSpec("fault", Scalar.STRING, 24),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("heartbeat", Scalar.UINT16),
        TagSpec("writes", Scalar.UINT64),
        TagSpec("refused", Scalar.UINT64),
        TagSpec("indeterminate", Scalar.UINT64),
        TagSpec("landed_late", Scalar.UINT64),
        TagSpec("ack_required", Scalar.BOOLEAN),
        TagSpec("plc_latched", Scalar.BOOLEAN),
        TagSpec("plc_trusts", Scalar.BOOLEAN),
        TagSpec("granted", Scalar.BOOLEAN),
        TagSpec("writer", Scalar.STRING, 16),
        TagSpec("since_ns", Scalar.INT64),
        TagSpec("result_seq", Scalar.UINT16),
        *(TagSpec(f"value.{index}", Scalar.DOUBLE) for index in range(len(output.values))),
    )
    return BlockSpec(output.authority_block, tags, AUTHORITY_RING)


@dataclass(frozen=True, slots=True)
class Chain:
    """What an output depends on, from the input of its pipeline to the PLC.

    Args:
        source: The device that the capture comes from.
        capture: Reader of the capture.
        results: Reader of the pipeline's results.
        wake: Which of their deadline readers this output is.
        target: The device that is written to.
        writer: Writer of the authority block.
        limits: Rules of the output.
        safe_verdict: Verdict that the PLC gets while nothing may be decided.
        face: The way to the PLC.
    """

    source: Source
    capture: BlockReader
    results: BlockReader
    wake: int
    target: Target
    writer: BlockWriter
    limits: Limits
    safe_verdict: Verdict
    face: InterfaceFace | TagsFace


class Output:
    """Writes what a pipeline finds out to a PLC, as long as it may.

    Args:
        output: Its configuration.
        chain: What it depends on.
        clock: Clock for all times.
        audit: Takes what has to be on record.
        run_command: Carries out commands of the PLC.
    """

    def __init__(
        self, output: OutputConfig, chain: Chain, clock: Clock, *, audit: Audit, run_command: RunCommand
    ) -> None:
        self.name = output.name
        self._output = output
        self._chain = chain
        self._clock = clock
        self._audit = audit
        self._run_command = run_command
        self._row = {tag.name: row for row, tag in enumerate(chain.writer.batch.layout.spec.tags)}
        self._authority = self._resumed()
        self._owing = False
        self._newest: Judged | None = None
        self._plc: Plc | None = None
        self._releasing = False
        self._refused = 0
        self._capture_seen = -1
        self._is_source_up = False
        self._captured = 0
        self._since_utc_ns = clock.utc_ns()
        self._published_ns = 0
        self._failing = False
        self._command: Command | None = None
        self._woken, self._to_send, self._to_command = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._face: Face = chain.face
        stage = Stage(
            output=output,
            limits=chain.limits,
            tags=chain.face if isinstance(chain.face, TagsFace) else None,
            target=chain.target,
            clock=clock,
            audit=audit,
            state=lambda: self.state,
            decide=self.step,
            wake=self._woken.set,
        )
        self.acts = Acts(stage)

    @property
    def state(self) -> State:
        """Who rules over the output."""
        return self._authority.state

    def _resumed(self) -> Authority:
        """Begin where the last batch of the authority block says that a former process ended."""
        writer = self._chain.writer
        first = 1 + secrets.randbelow(HIGHEST)
        if not writer.sequence or self._chain.limits.auto_restart:
            return Authority(first=first)
        batch, row = writer.batch, self._row
        released = batch.text(row["fault"]) == Fault.RELEASED.name
        asked = bool(batch.value(row["ack_required"]))
        return replace(resumed(batch.text(row["state"]), released=released, asked=asked), first=first)

    # --- being at work -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide and write until cancelled; call :meth:`release` afterwards, while the device still works."""
        fd = self._chain.results.wake_fd(self._chain.wake)
        loop = asyncio.get_running_loop()
        loop.add_reader(fd, self._wake, fd)
        target = self._chain.target
        deaf = [target.listen(group, self._woken.set) for group in self._face.groups]
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._decide_on(), name=f"{self.name}.decide")
                tasks.create_task(self._send_on(), name=f"{self.name}.send")
                tasks.create_task(self._obey_on(), name=f"{self.name}.obey")
        finally:
            for stop_listening in deaf:
                stop_listening()
            loop.remove_reader(fd)

    def _wake(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        self._woken.set()

    async def _decide_on(self) -> None:
        while True:
            self._woken.clear()
            self.step()
            await self._clock.wait(self._woken, TICK_MS / 1000)

    async def _send_on(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            await self.send()
            self._woken.set()

    async def send(self) -> None:
        """Send what is due; within the deadline of each write."""
        while self._face.is_due(self._clock.monotonic_ns()):
            await self._face.send()
            self._say_failure()

    async def _obey_on(self) -> None:
        while True:
            await self._to_command.wait()
            self._to_command.clear()
            await self.obey()

    async def obey(self) -> None:
        """Carry out the PLC's command, if there is one."""
        face, command = self._chain.face, self._command
        self._command = None
        if command is None or not isinstance(face, InterfaceFace):
            return
        succeeded = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMAND_S):
                succeeded = await self._run_command(command.name, command.argument)
        face.command_ended(command, succeeded=succeeded)
        said = "Good" if succeeded else "it failed"
        self._audit(Record(f"command {self.name}", "PLC", None, self._said(command), said))
        self._woken.set()

    @staticmethod
    def _said(command: Command) -> str:
        return f"{command.name} {command.argument}"

    def begin(self, command: Command) -> None:
        """Let a command of the PLC be carried out; nothing waits for it."""
        self._command = command
        self._to_command.set()

    def landed_late(self) -> None:
        """Put on record that a write which had timed out has taken effect after all."""
        _log.warning("output.landed_late", output=self.name, code="D392")
        outcome = "landed late: the device held what had timed out"
        self._audit(Record(f"write {self.name}", _OURSELVES, outcome=outcome, why="read back"))

    # --- deciding ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Decide once, and say what is wanted from now on."""
        now_ns = self._clock.monotonic_ns()
        judged = self._judged()
        before = self._authority
        decision = decide(self._gather(now_ns), before, now_ns, self._chain.limits)
        self.acts.pressed = False
        self._authority = decision.authority
        fresh = (
            [each for each in judged if each.usable and each.number > before.newest] if decision.fresh else []
        )
        self._refused += len(judged) - len(fresh)
        self._face.want(Moment(before.state, decision, judged, fresh, now_ns, self._captured))
        if decision.authority.state is not before.state:
            self._say_change(before, decision.authority)
        elif decision.authority.reason != before.reason:
            self._say_reason(decision.authority)
        if self._face.is_due(now_ns):
            self._to_send.set()
        self._publish(before, decision.content, now_ns)

    def _judged(self) -> list[Judged]:
        """Return the results that have come since the last look, and remember the newest."""
        chain = self._chain
        found = []
        for batch in chain.results.poll():
            judged = read_judged(batch, chain.safe_verdict)
            if judged is not None:
                found.append(judged)
        if found:
            self._newest = found[-1]
        elif self._newest is None:  # what was judged before we began is history, and proves the chain
            self._newest = read_judged(chain.results.latest(), chain.safe_verdict)
        return found

    def _look_at_capture(self) -> None:
        """Note whether the source is there, and which cycle it has read last; a waveform is long."""
        reader = self._chain.capture
        if reader.newest == self._capture_seen:
            return
        self._capture_seen = reader.newest
        capture = reader.latest()
        self._is_source_up = capture is not None and capture.link is Link.UP
        self._captured = 0 if capture is None else cycle_of(capture)

    def _gather(self, now_ns: int) -> Facts:
        chain, acts = self._chain, self.acts
        acts.look(now_ns)
        self._plc = self._face.look(now_ns)
        self._look_at_capture()
        tally = self._face.tally
        return Facts(
            link_up=chain.target.link_up,
            why_no_writes=chain.target.why_no_writes,
            link_ns=chain.target.refreshed_ns,
            lane_ns=chain.results.beat_ns,
            input_ns=chain.source.refreshed_ns,
            plc=self._plc,
            result=None if self._newest is None else self._newest.result,
            input_lost="" if self._is_source_up else "the source of the pipeline's input is lost",
            pressed=acts.pressed,
            granted=acts.granted,
            manual=acts.operator is not None,
            failures=tally.failures,
            mismatches=tally.mismatches,
            writer_gone=acts.gone,
            suspended_ns=self._clock.boottime_ns() - now_ns,
            safe_ns=self._face.safe_ns,
            releasing=self._releasing,
        )

    # --- ending --------------------------------------------------------------------------------------

    async def release(self, deadline_s: float) -> bool:
        """Take authority away from the PLC's view before this process ends.

        Args:
            deadline_s: Longest time this may take, seconds; after it the PLC's own time-out has to do.

        Returns:
            Whether the fail-safe content arrived.
        """
        self._releasing = True
        self._owing = self._authority.owed or self.state is State.MANUAL
        self.step()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while not self._is_safe and self._chain.target.link_up:
                    await self.send()
                    self.step()
                    if not self._is_safe:
                        await self._clock.sleep(_RELEASE_POLL_S)
        arrived = self._is_safe
        log = _log.info if arrived else _log.warning
        log("authority.released", output=self.name, arrived=arrived, reason=self._face.tally.last_error)
        return arrived

    @property
    def _is_safe(self) -> bool:
        return self._face.safe_ns > 0

    # --- telling -------------------------------------------------------------------------------------

    def _say_failure(self) -> None:
        """One line when writes begin to fail."""
        failing = self._face.tally.failures > 0
        if failing and not self._failing:
            _log.warning("authority.write_failed", output=self.name, reason=self._face.tally.last_error)
        self._failing = failing

    def _say_change(self, before: Authority, after: Authority) -> None:
        self._since_utc_ns = self._clock.utc_ns()
        log = _log.warning if after.state is State.FAILSAFE else _log.info
        old, new = before.state.name, after.state.name
        log("authority.changed", output=self.name, old=old, new=new, reason=after.reason)
        self._audit(Record(f"authority {self.name}", _OURSELVES, old, new, after.reason))

    def _say_reason(self, authority: Authority) -> None:
        """One line when something else keeps the output from acting than before."""
        log = _log.info if authority.fault is None else _log.warning
        log("authority.kept", output=self.name, state=authority.state.name, reason=authority.reason)

    def _publish(self, before: Authority, content: Content, now_ns: int) -> None:
        """Say who rules: at once when it changes, otherwise four times a second."""
        authority, writer = self._authority, self._chain.writer
        if authority.state is before.state and now_ns - self._published_ns < _QUIET_NS:
            writer.beat()
            return
        self._published_ns = now_ns
        plc, tally, acts = self._plc, self._face.tally, self.acts
        latched = plc is not None and plc.latched
        model = "model" if content in (Content.DRIVE, Content.HOLD) else ""
        values: dict[str, Any] = {
            "state": authority.state.name,
            "fault": "" if authority.fault is None else authority.fault.name,
            "reason": authority.reason,
            "heartbeat": authority.heartbeat,
            "writes": tally.writes,
            "refused": self._refused,
            "indeterminate": tally.indeterminate,
            "landed_late": tally.landed_late,
            "ack_required": authority.state is State.ACK_REQUIRED or latched or self._owing,
            "plc_latched": latched,
            "plc_trusts": False if plc is None else plc.trusts,
            "granted": self._is_granted,
            "writer": acts.writer or model,
            "since_ns": self._since_utc_ns,
            "result_seq": self._face.sequence,
        }
        batch = writer.batch
        for name, value in values.items():
            batch.set(self._row[name], value)
        batch.status[:] = GOOD
        for index, shown in enumerate(self._face.shown):
            row = self._row[f"value.{index}"]
            batch.set(row, shown.value)
            batch.status[row] = shown.status
        utc_ns = self._clock.utc_ns()
        batch.source_ns[:] = utc_ns
        batch.server_ns[:] = utc_ns
        writer.publish()

    @property
    def _is_granted(self) -> bool:
        by = self._chain.limits.granted_by
        if by == "plc":
            return self._plc is not None and self._plc.granted
        return by == "always" or self.acts.granted
