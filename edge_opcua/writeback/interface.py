"""The interface block as a way to reach a PLC: reads the control words, writes the status area whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_opcua.config.eai import Ctrl, EaiMap, ErrorCode, ResultCode, Stat
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_good
from edge_opcua.writeback.decision import Content
from edge_opcua.writeback.face import Changes, Moment, Row, Shown
from edge_opcua.writeback.faults import Fault, Plc
from edge_opcua.writeback.handshake import (
    Command,
    Control,
    Exchange,
    News,
    Waits,
    bits,
    command_ended,
    commanded,
    error_of,
    pushed,
    rearmed,
    step,
)
from edge_opcua.writeback.states import State
from edge_opcua.writeback.target import Tally, Target
from edge_opcua.writeback.words import Layout, Status, answer_of, from_words, only_says_busy

WATCH_NS: Final = 10_000_000_000
"""Time for which the area is looked at after a write that nobody knows the effect of."""

_LOOK_NS: Final = 500_000_000
_MOST_DOUBTS: Final = 16
_RECENT: Final = 4  # a PLC may show for a scan or two what it held before
_DRIVING: Final = frozenset({Content.DRIVE, Content.HOLD})


@dataclass(frozen=True, slots=True)
class Area:
    """The area of one output in its device.

    Args:
        eai: The map.
        address: First word of the status area.
        status_group: Group in which it is read back.
        control_group: Group in which the control words are read.
        control: The control words on the bus.
        status: The status words on the bus.
        waits: How long the handshake waits.
        write_s: Deadline of one write, seconds.
        retry_ns: Time between two attempts to write.
        simulated: Whether the inputs are made up.
    """

    eai: EaiMap
    address: str
    status_group: str
    control_group: str
    control: Row
    status: Row
    waits: Waits
    write_s: float
    retry_ns: int
    simulated: bool = False


class InterfaceFace:
    """The :class:`~edge_opcua.writeback.face.Face` of an interface block.

    Args:
        area: Where it lies, and its times.
        target: The device.
        clock: Clock for all times.
        landed: Told when a write that had timed out is seen to have taken effect.
        begin: Told to carry out a command of the PLC.
    """

    def __init__(
        self,
        area: Area,
        target: Target,
        clock: Clock,
        *,
        landed: Callable[[], None],
        begin: Callable[[Command], None],
    ) -> None:
        self.tally = Tally()
        self.safe_ns = 0
        self._area = area
        self._layout = Layout(area.eai)
        self._triggered = area.eai.interface.mode == "triggered"
        self._target = target
        self._clock = clock
        self._landed = landed
        self._begin = begin
        self._exchange = Exchange(last=area.waits.safe)
        self._control: Control | None = None
        self._said = Control()
        self._alive, self._echo = Changes(), Changes()
        self._shown_heartbeat = 0
        self._wanted: bytes | None = None
        self._arrived: bytes | None = None
        self._is_safe = False
        self._content: Content | None = None
        self._generation = 0
        self._retry_ns = 0
        self._doubts: deque[bytes] = deque(maxlen=_MOST_DOUBTS)
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._watch_until_ns = 0
        self._look_ns = 0
        self._is_early = False

    @property
    def groups(self) -> Sequence[str]:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return (self._area.control_group,)

    @property
    def shown(self) -> Sequence[Shown]:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return ()

    @property
    def sequence(self) -> int:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return self._exchange.sequence

    def look(self, now_ns: int) -> Plc | None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        self._control = None
        found = self._area.control.read(now_ns)
        if found is None:
            return None
        words, seen_ns = found
        if not isinstance(words, np.ndarray) or words.size < self._area.eai.control_words:
            return None
        said = Control.of(words.tolist())
        self._said = said
        version_ok = said.version == self._layout.version
        self._control = said if version_ok else None
        ctrl = said.ctrl
        return Plc(
            seen_ns=seen_ns,
            enabled=Ctrl.ENABLE in ctrl and Ctrl.SET_OFFLINE not in ctrl,
            granted=Ctrl.GRANT_AUTHORITY in ctrl,
            latched=Ctrl.LATCHED in ctrl,
            trusts=Ctrl.IN_USE in ctrl,
            acknowledging=Ctrl.CLEAR_ERROR in ctrl,
            version_ok=version_ok,
            alive_ns=self._alive.note(said.heartbeat, now_ns),
            echo_ns=self._echo.note(said.echo, now_ns),
            echo=said.echo,
        )

    # --- what is wanted ------------------------------------------------------------------------------

    def want(self, moment: Moment) -> None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        decision = moment.decision
        driving = decision.content in _DRIVING
        if moment.state is not moment.before or decision.content is not self._content:
            self._generation += 1
            self.safe_ns = 0
        self._content = decision.content
        self._is_safe = not driving
        self._step(moment)
        if not driving:
            self._exchange = replace(self._exchange, last=self._area.waits.safe)
        if decision.beat:
            self._shown_heartbeat = self._said.heartbeat
        wanted = self._layout.pack(self._status(moment))
        if wanted != self._wanted:
            self._shown_heartbeat = self._said.heartbeat
            wanted = self._layout.pack(self._status(moment))
        self._wanted = wanted
        if self._is_safe and self._arrived == wanted and not self.safe_ns:
            self.safe_ns = moment.now_ns

    def _step(self, moment: Moment) -> None:
        """Go on with the handshake, as far as the PLC's words may be trusted."""
        content, control = moment.decision.content, self._control
        area = self._area
        if not self._triggered:
            for judged in moment.fresh[-1:]:
                answer = answer_of(area.eai, judged, simulated=area.simulated)
                self._exchange = pushed(self._exchange, answer)
        elif control is None:
            self._exchange = rearmed(self._exchange, Control())
        else:
            answers = [answer_of(area.eai, judged, simulated=area.simulated) for judged in moment.judged]
            self._exchange = step(
                self._exchange,
                control,
                News(answers, moment.captured),
                moment.now_ns,
                area.waits,
                takes=content is Content.DRIVE,
                goes_on=content in _DRIVING,
            )
            # The capture has seen a trigger that we have not: look at once, not at the next poll.
            self._is_early = any(at_ns == moment.now_ns for at_ns, _ in self._exchange.early)
        if control is not None:
            allowed = area.eai.interface.commands
            self._exchange, begun = commanded(self._exchange, control, allowed)
            if begun is not None:
                self._begin(begun)

    def command_ended(self, command: Command, *, succeeded: bool) -> None:
        """Take over how a command ended."""
        self._exchange = command_ended(self._exchange, command, succeeded=succeeded)

    def _status(self, moment: Moment) -> Status:
        authority, content = moment.decision.authority, moment.decision.content
        exchange = self._exchange
        answer = exchange.last
        error = ErrorCode.VERSION if authority.fault is Fault.VERSION else error_of(exchange)
        passed = content in _DRIVING and answer.code is not ResultCode.NO_AUTHORITY
        taking = content is Content.DRIVE and self._control is not None
        stat = bits(exchange, self._said, takes=taking, triggered=self._triggered)
        shown = {
            Stat.ONLINE: content is not Content.RELEASE and Ctrl.SET_OFFLINE not in self._said.ctrl,
            Stat.RESULTS_VALID: not self._triggered and passed,
            Stat.ERROR: error is not ErrorCode.NONE,
            Stat.INPUTS_DEGRADED: content is Content.HOLD or (passed and answer.degraded),
            Stat.AUTHORITY_ACTIVE: content in _DRIVING,
            Stat.FAIL_SAFE_ACTIVE: moment.state is State.FAILSAFE or content is Content.RELEASE,
            Stat.ACK_REQUIRED: moment.state is State.ACK_REQUIRED,
            Stat.SIMULATED: self._area.simulated,
        }
        for bit, is_on in shown.items():
            if is_on:
                stat |= bit
        command = exchange.command
        return Status(
            stat=stat,
            heartbeat=authority.heartbeat,
            echo=self._shown_heartbeat,
            sequence=exchange.sequence,
            answer=answer,
            error=error,
            command=0 if command is None else command.number,
            uncertain=content is Content.HOLD,
        )

    # --- what is sent --------------------------------------------------------------------------------

    def is_due(self, now_ns: int) -> bool:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        if not self._target.link_up:
            return False
        if self._is_early or self._may_look(now_ns):
            return True
        if self._wanted is None or self._wanted == self._arrived or now_ns < self._retry_ns:
            return False
        return self._arrived is None or not only_says_busy(self._arrived, self._wanted)

    async def send(self) -> None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        if self._is_early:
            self._is_early = False
            await self._target.poll_now(self._area.control_group, timeout_s=self._area.write_s)
        if self._may_look(self._clock.monotonic_ns()):
            await self._look_back()
        payload = self._wanted
        if payload is None or payload == self._arrived or self._clock.monotonic_ns() < self._retry_ns:
            return
        generation, is_safe = self._generation, self._is_safe
        area = self._area
        outcome = await self._target.write_bytes(area.address, 0, payload, timeout_s=area.write_s)
        now_ns = self._clock.monotonic_ns()
        before = self.tally.indeterminate
        if self.tally.count(outcome):
            if self._arrived is None and not self._watch_until_ns:
                self._watch_until_ns = self._look_ns = now_ns + area.retry_ns  # whether it is really there
            self._arrived = payload
            self._recent.append(payload)
            if is_safe and generation == self._generation:
                self.safe_ns = now_ns
            return
        self._arrived = None
        self._retry_ns = now_ns + area.retry_ns
        if self.tally.indeterminate > before:
            self._doubts.append(payload)
            self._watch_until_ns = now_ns + WATCH_NS
            self._look_ns = now_ns + 1

    def _may_look(self, now_ns: int) -> bool:
        """Return whether the area has to be read back: once the device was read after a write that failed."""
        return 0 < self._look_ns <= now_ns and self._target.refreshed_ns >= self._look_ns

    async def _look_back(self) -> None:
        """See what the device holds after a write of which nobody knows what it did."""
        area = self._area
        outcome = await self._target.poll_now(area.status_group, timeout_s=area.write_s)
        now_ns = self._clock.monotonic_ns()
        self._look_ns = now_ns + _LOOK_NS
        found = area.status.read(now_ns) if is_good(outcome.status) else None
        if found is not None and isinstance(found[0], np.ndarray):
            self._judge(from_words(found[0].tolist()))
        if now_ns >= self._watch_until_ns and not self.tally.mismatches:
            self._doubts.clear()
            self._look_ns = self._watch_until_ns = 0

    def _judge(self, held: bytes) -> None:
        if held in self._doubts and held not in self._recent:
            self._doubts.remove(held)
            self.tally.landed_late += 1
            self._landed()
            self._arrived = None  # to be written again
        elif self._arrived is not None:
            is_other = held not in self._recent
            self.tally.mismatches = self.tally.mismatches + 1 if is_other else 0
            if is_other:
                self._arrived = None
