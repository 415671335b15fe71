"""Single tags as a way to reach a PLC that has no program for us: shaped values, each by its own rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edge_opcua.config.eai import HIGHEST
from edge_opcua.config.outputs import OutputValueConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    GOOD_LOCAL_OVERRIDE,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Scalar,
    Verdict,
    is_good,
)
from edge_opcua.writeback.decision import Content
from edge_opcua.writeback.face import Changes, Moment, Row, Shown
from edge_opcua.writeback.faults import Plc
from edge_opcua.writeback.judged import Judged
from edge_opcua.writeback.shaping import Held, Move, Shape, move, safe_value
from edge_opcua.writeback.states import State
from edge_opcua.writeback.target import Order, Tally, Target

MOST_WAITING: Final = 64
_DRIVING: Final = frozenset({Content.DRIVE, Content.HOLD})
_CODE: Final = 0xFFFF0000


@dataclass(eq=False, slots=True)
class WrittenTag:
    """One tag that the output writes.

    Args:
        config: Its configuration.
        name: Its name in the device.
        type: Its built-in type.
        shape: How it may move.
        row: What the device was read to hold.
        wanted: What a set-point shall become; None for nothing.
        queue: Commands and bits that wait, oldest first.
        safe: Fail-safe value that has not arrived yet; None for none.
        held: What the device holds, as far as we know.
        shown: What is written, for people.
        status: Status of that.
        failures: Writes that failed in a row.
        mismatches: Writes in a row after which the device held something else.
    """

    config: OutputValueConfig
    name: str
    type: Scalar
    shape: Shape
    row: Row
    wanted: float | None = None
    queue: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_WAITING))
    safe: float | None = None
    held: Held = field(default_factory=Held)
    shown: float = 0.0
    status: int = BAD_WAITING_FOR_INITIAL_DATA
    failures: int = 0
    mismatches: int = 0

    def of(self, judged: Judged) -> float | None:
        """Return what a result means for this tag; of a verdict a BOOL is told whether it is OK."""
        value = judged.value(self.config.source)
        if self.type is Scalar.BOOLEAN and self.config.source == "verdict":
            return float(judged.verdict is Verdict.OK)
        return value

    def as_written(self, value: float) -> Any:
        """Return a value in the tag's own type."""
        if self.type is Scalar.BOOLEAN:
            return value != 0
        return value if self.type in (Scalar.FLOAT, Scalar.DOUBLE) else round(value)

    def start_from_device(self, now_ns: int) -> None:
        """Move from what the device holds now, read or written later, so that nothing jumps."""
        last = self.row.last()
        if last is None or (self.held.value is not None and last[1] <= self.held.at_ns):
            return
        if isinstance(last[0], int | float):
            self.held = Held(float(last[0]), now_ns)


class References:
    """What a PLC without an interface block says of itself and of us, in single tags.

    Args:
        rows: Tags by what they mean: ``granted``, ``latched``, ``trusts``, ``alive``, ``echo``,
            ``acknowledging``.
        target: The device, whose last scan counts where there are none.
        max_age_ns: Age at which that scan says nothing any more.
    """

    def __init__(self, rows: Mapping[str, Row], target: Target, max_age_ns: int) -> None:
        self._rows = rows
        self._target = target
        self._max_age_ns = max_age_ns
        self._alive, self._echo = Changes(), Changes()

    def read(self, now_ns: int) -> Plc | None:
        """Return the PLC's word, or None if a part of it is not Good or too old."""
        seen_ns = self._target.refreshed_ns
        if now_ns - seen_ns > self._max_age_ns:
            return None
        values: dict[str, object] = {}
        for meaning, row in self._rows.items():
            found = row.read(now_ns)
            if found is None:
                return None
            values[meaning] = found[0]
            seen_ns = min(seen_ns, found[1])
        return Plc(
            seen_ns=seen_ns,
            granted=bool(values.get("granted", True)),
            latched=bool(values.get("latched", False)),
            trusts=bool(values.get("trusts", False)),
            acknowledging=bool(values.get("acknowledging", False)),
            alive_ns=self._alive.note(values["alive"], now_ns) if "alive" in values else None,
            echo_ns=self._echo.note(values["echo"], now_ns) if "echo" in values else None,
        )


@dataclass(frozen=True, slots=True)
class TagPlan:
    """What an output writes to single tags.

    Args:
        output: Name of the output, for the record.
        tags: The tags.
        heartbeat: Tag that gets our heartbeat; None for none.
        highest: Largest heartbeat that this tag can hold; after it comes 1 again.
        groups: Groups in which the PLC says something of itself.
        write_s: Deadline of one write, seconds.
        retry_ns: Time between two attempts to write.
    """

    output: str
    tags: Sequence[WrittenTag]
    heartbeat: str | None = None
    highest: int = HIGHEST
    groups: Sequence[str] = ()
    write_s: float = 0.5
    retry_ns: int = 100_000_000


class TagsFace:
    """The :class:`~edge_opcua.writeback.face.Face` of single tags.

    Args:
        plan: What it writes.
        references: What the PLC says.
        target: The device.
        clock: Clock for all times.

    Attributes:
        tags: What it writes, by public id.
        model_may: Whether the model may write each of them now; where nothing is said it may.
    """

    def __init__(self, plan: TagPlan, references: References, target: Target, clock: Clock) -> None:
        self.tally = Tally()
        self.safe_ns = 0
        self.sequence = 0
        self.model_may: Mapping[str, bool] = {}
        self.tags = {tag.config.tag: tag for tag in plan.tags}
        self._plan = plan
        self._beat: int | None = None
        self._references = references
        self._target = target
        self._clock = clock
        self._retry_ns = 0
        self._content: Content | None = None

    @property
    def groups(self) -> Sequence[str]:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return self._plan.groups

    @property
    def shown(self) -> Sequence[Shown]:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return [Shown(tag.shown, tag.status) for tag in self.tags.values()]

    def look(self, now_ns: int) -> Plc | None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return self._references.read(now_ns)

    # --- what is wanted ------------------------------------------------------------------------------

    def want(self, moment: Moment) -> None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        content, before = moment.decision.content, self._content
        if moment.decision.beat or before is None:
            self._beat = moment.decision.authority.heartbeat
        self._content = content
        if content in _DRIVING:
            if before not in _DRIVING:
                self._begin(moment.now_ns)
            self._drive(moment)
        elif content is not before or (moment.state is State.FAILSAFE and moment.before is not moment.state):
            self._stop(safe=moment.state is not State.MANUAL)
        if content not in _DRIVING and not self.safe_ns and not self._unsafe():
            self.safe_ns = moment.now_ns
        self._mark(content)
        self.tally.landed_late = sum(self._target.landed_late(tag.name) for tag in self.tags.values())

    def _begin(self, now_ns: int) -> None:
        for tag in self.tags.values():
            tag.safe = tag.wanted = None
            tag.queue.clear()
            tag.start_from_device(now_ns)

    def _drive(self, moment: Moment) -> None:
        for judged in moment.fresh:
            self.sequence = self.sequence % 65_535 + 1
            for reference, tag in self.tags.items():
                value = tag.of(judged)
                if value is None or not self.model_may.get(reference, True):
                    continue
                if tag.config.kind == "setpoint":
                    tag.wanted = value
                else:
                    tag.queue.append(value)

    def _stop(self, *, safe: bool) -> None:
        """Forget what waits: what was not sent is never sent later."""
        self.safe_ns = 0
        for tag in self.tags.values():
            tag.wanted = None
            tag.queue.clear()
            tag.safe = safe_value(tag.shape) if safe else None
            tag.mismatches = 0
            tag.failures = tag.failures if tag.safe is not None else 0
        self._sum_up()

    def _unsafe(self) -> bool:
        return any(tag.safe is not None for tag in self.tags.values())

    def _mark(self, content: Content | None) -> None:
        for tag in self.tags.values():
            if tag.status == BAD_WAITING_FOR_INITIAL_DATA:
                continue
            if content is Content.MANUAL:
                tag.status = GOOD_LOCAL_OVERRIDE
            elif content is Content.DRIVE:
                tag.status = tag.status if tag.status in (GOOD, GOOD_CLAMPED) else GOOD
            elif content is Content.HOLD or safe_value(tag.shape) is None:
                tag.status = UNCERTAIN_LAST_USABLE
            else:
                tag.status = UNCERTAIN_SUBSTITUTE

    # --- what is sent --------------------------------------------------------------------------------

    def is_due(self, now_ns: int) -> bool:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        return self._target.link_up and now_ns >= self._retry_ns and self._next(now_ns) is not None

    def _next(self, now_ns: int) -> tuple[WrittenTag | None, Move] | None:
        """Return the next write: fail-safe values first, then the heartbeat, commands, set-points."""
        tags = self.tags.values()
        for tag in tags:
            if tag.safe is not None:
                return tag, Move(tag.safe)
        if self._beat is not None and self._plan.heartbeat is not None:
            return None, Move(float(self._beat))
        if self._content is not Content.DRIVE:
            return None
        for tag in tags:
            if tag.queue and now_ns - tag.held.at_ns >= tag.shape.min_interval_ns:
                value = tag.queue[0]
                target = min(max(value, tag.shape.low), tag.shape.high)
                return tag, Move(target, clamped=target != value)
        for tag in tags:
            step = None if tag.wanted is None else move(tag.shape, tag.held, tag.wanted, now_ns)
            if step is not None:
                return tag, step
        return None

    async def send(self) -> None:
        """See :class:`~edge_opcua.writeback.face.Face`."""
        found = self._next(self._clock.monotonic_ns())
        if found is None:
            return
        tag, step = found
        if tag is None:
            await self._send_heartbeat(step)
        else:
            await self._send(tag, step)

    async def _send_heartbeat(self, step: Move) -> None:
        beat = round(step.value)
        assert self._plan.heartbeat is not None
        order = Order("heartbeat", self._plan.output, "heartbeat")
        shown = beat and (beat - 1) % self._plan.highest + 1  # 0 says that we have just started
        outcome = await self._target.write(self._plan.heartbeat, shown, order, timeout_s=self._plan.write_s)
        if self.tally.count(outcome):
            self._beat = None if self._beat == beat else self._beat
            self._sum_up()
        else:
            self._retry_ns = self._clock.monotonic_ns() + self._plan.retry_ns

    async def _send(self, tag: WrittenTag, step: Move) -> None:
        falls_safe = tag.safe is not None
        if not falls_safe and tag.config.kind != "setpoint":
            tag.queue.popleft()  # whatever becomes of it, it is sent once
        why = "fail-safe" if falls_safe else "result"
        outcome = await self.write(tag, step, who=self._plan.output, why=why)
        if not falls_safe or tag.safe != step.value:
            return
        if outcome.status & _CODE == GOOD:
            tag.safe = None
        else:  # also a device that holds another value has not fallen safe
            self._retry_ns = self._clock.monotonic_ns() + self._plan.retry_ns

    async def write(self, tag: WrittenTag, step: Move, *, who: str, why: str) -> WriteOutcome:
        """Write one tag now, for whoever may."""
        order = Order(tag.config.kind, who, why, tag.config.tolerance)
        value = tag.as_written(step.value)
        outcome = await self._target.write(tag.name, value, order, timeout_s=self._plan.write_s)
        now_ns = self._clock.monotonic_ns()
        arrived = self.tally.count(outcome)
        _count(tag, outcome)
        self._sum_up()
        if not arrived:
            self._retry_ns = now_ns + self._plan.retry_ns
            tag.start_from_device(now_ns)
            return outcome
        tag.held = Held(step.value, now_ns)
        tag.shown = step.value
        tag.status = GOOD_CLAMPED if step.clamped else GOOD
        self._mark(self._content)
        return outcome

    def _sum_up(self) -> None:
        """Let the worst tag speak for all."""
        self.tally.failures = max([tag.failures for tag in self.tags.values()], default=0)
        self.tally.mismatches = max([tag.mismatches for tag in self.tags.values()], default=0)


def _count(tag: WrittenTag, outcome: WriteOutcome) -> None:
    """Count what failed, and what the device does not hold although it took the write."""
    status = outcome.status & _CODE
    tag.failures = 0 if is_good(outcome.status) else tag.failures + 1
    if status == GOOD:
        tag.mismatches = 0
    elif status in (GOOD_CLAMPED, BAD_INVALID_STATE):
        tag.mismatches += 1
