"""What people and programs want of an output: acknowledge, grant, take over, write; each on record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from edge_opcua.config.outputs import OutputConfig, Writer
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_WRITABLE,
    BAD_OUT_OF_RANGE,
    GOOD,
    GOOD_CLAMPED,
    is_bad,
    status_name,
)
from edge_opcua.writeback.decision import Limits
from edge_opcua.writeback.precedence import MODEL, Claim, gone, refusal
from edge_opcua.writeback.shaping import Move, move
from edge_opcua.writeback.states import State
from edge_opcua.writeback.tagwrites import TagsFace, WrittenTag
from edge_opcua.writeback.target import Audit, Order, Record, Target

_WORKING: Final = frozenset({State.ACTIVE, State.HOLD})
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """What the wishes are about.

    Args:
        output: Configuration of the output.
        limits: Its rules.
        tags: The tags that it writes; None if it has an interface block.
        target: The device.
        clock: Clock for all times.
        audit: Takes what has to be on record.
        state: Says who rules.
        decide: Decides anew, at once.
        wake: Lets the output decide soon.
    """

    output: OutputConfig
    limits: Limits
    tags: TagsFace | None
    target: Target
    clock: Clock
    audit: Audit
    state: Callable[[], State]
    decide: Callable[[], None]
    wake: Callable[[], None]


class Acts:
    """What people and programs want of one output.

    Args:
        stage: What it is about.

    Attributes:
        pressed: Whether a person has acknowledged since the last decision.
        granted: Whether a person has granted authority.
        operator: Who holds the output by hand; None for nobody.
        claims: What programs hold, by public id of the tag.
        gone: Program that held something and is gone; empty for none.
    """

    def __init__(self, stage: Stage) -> None:
        self.name = stage.output.name
        self.pressed = False
        self.granted = False
        self.operator: str | None = None
        self.claims: dict[str, Claim] = {}
        self.gone = ""
        self._output = stage.output
        self._limits = stage.limits
        self._tags = stage.tags
        self._target = stage.target
        self._clock = stage.clock
        self._audit = stage.audit
        self._state = stage.state
        self._decide = stage.decide
        self._wake = stage.wake

    @property
    def writer(self) -> str:
        """Who writes now, apart from the model; empty for nobody."""
        if self.operator is not None:
            return "operator"
        return "program" if self.claims else ""

    def look(self, now_ns: int) -> None:
        """Notice programs that have fallen silent; what they hold ends with the output's own activity."""
        if self._tags is None:
            return
        silent = gone(self.claims, now_ns)
        for tag in silent:
            self.gone = self.claims.pop(tag).text
        if self._state() not in _WORKING:
            self.claims.clear()
            self.gone = ""
        self._tags.model_may = {
            reference: "model" in tag.config.writers and reference not in self.claims
            for reference, tag in self._tags.tags.items()
        }

    async def acknowledge(self, user: str, why: str = "") -> WriteOutcome:
        """Take a person's acknowledge."""
        outcome = self._press()
        tag = self._acknowledge_tag
        if not is_bad(outcome.status) and tag is not None:
            pressed = True
            order = Order("bit", user, why)
            outcome = await self._target.write(tag, pressed, order, timeout_s=self._write_s)
        return self._recorded("acknowledge", user, why, outcome)

    def acknowledged_at_plc(self, user: str) -> WriteOutcome:
        """Take the acknowledge of a person who has pressed the PLC's own button through us."""
        return self._recorded("acknowledge", user, "", self._press())

    def _press(self) -> WriteOutcome:
        if self._limits.acknowledged_by == "plc":
            return WriteOutcome(BAD_INVALID_STATE, f"{self.name} is acknowledged at the PLC only")
        if self._state() is not State.ACK_REQUIRED:
            return WriteOutcome(BAD_INVALID_STATE, f"{self.name} waits for no acknowledge")
        self.pressed = True
        self._wake()
        return WriteOutcome()

    async def grant(self, user: str, why: str = "") -> WriteOutcome:
        """Let the output act, where a person has to."""
        return self._recorded("grant", user, why, self._set_granted(granted=True))

    async def revoke(self, user: str, why: str = "") -> WriteOutcome:
        """Take that back."""
        return self._recorded("revoke", user, why, self._set_granted(granted=False))

    def _set_granted(self, *, granted: bool) -> WriteOutcome:
        if self._limits.granted_by != "operator":
            return WriteOutcome(BAD_INVALID_STATE, f"authority of {self.name} is not granted by people")
        if self.granted is granted:
            word = "granted already" if granted else "not granted"
            return WriteOutcome(BAD_INVALID_STATE, f"authority of {self.name} is {word}")
        self.granted = granted
        self._wake()
        return WriteOutcome()

    async def manual(
        self, user: str, values: Mapping[str, float] | None = None, why: str = ""
    ) -> WriteOutcome:
        """Let a person take the output over, and write what the person wants there."""
        wanted = dict(values or {})
        old = self._held(wanted)
        for reference, value in wanted.items():
            refused = self._refusal(reference, value, "operator", user)
            if refused is not None:
                return self._recorded("manual", user, why, refused, wanted, old)
        self.operator = user
        self._decide()
        outcome = WriteOutcome()
        for reference, value in wanted.items():
            assert self._tags is not None
            outcome = await self._put(self._tags.tags[reference], float(value), user, why)
            if is_bad(outcome.status):
                break
        return self._recorded("manual", user, why, outcome, wanted, old)

    async def automatic(self, user: str, why: str = "") -> WriteOutcome:
        """Take the output back from a person."""
        if self.operator is None:
            outcome = WriteOutcome(BAD_INVALID_STATE, f"nobody holds {self.name}")
        else:
            outcome, self.operator = WriteOutcome(), None
            self._wake()
        return self._recorded("automatic", user, why, outcome)

    async def write(self, tag: str, value: Any, *, writer: Writer, user: str, why: str = "") -> WriteOutcome:
        """Write a tag that belongs to this output, for a client.

        Args:
            tag: Public id of the tag.
            value: Engineering value.
            writer: As what the client writes.
            user: Who it is.
            why: Why.
        """
        old = self._held((tag,))
        outcome = self._refusal(tag, value, writer, user)
        if outcome is None:
            assert self._tags is not None
            written = self._tags.tags[tag]
            if writer == "operator":
                self.operator = user
            else:
                ttl_s = written.config.ttl_s
                until_ns = None if ttl_s is None else self._clock.monotonic_ns() + round(ttl_s * 1e9)
                self.claims[tag] = Claim("program", user, until_ns)
                self.gone = ""
            self._decide()
            # What was found only now ends a program's right to write.
            outcome = self._idle() if writer == "program" else None
            outcome = outcome or await self._put(written, float(value), user, why)
        return self._recorded("write", user, why, outcome, {tag: value}, old)

    def writer_gone(self, user: str) -> WriteOutcome:
        """Note that a program that may hold tags is gone."""
        held = [tag for tag, claim in self.claims.items() if claim.user == user]
        for tag in held:
            self.claims[tag] = Claim("program", user, until_ns=0)
        self._wake()
        return WriteOutcome() if held else WriteOutcome(BAD_INVALID_STATE, f"{user} holds nothing")

    def _refusal(self, reference: str, value: Any, writer: Writer, user: str) -> WriteOutcome | None:
        tag = None if self._tags is None else self._tags.tags.get(reference)
        if tag is None:
            status = BAD_INVALID_ARGUMENT if self._tags is None else BAD_NODE_ID_UNKNOWN
            return WriteOutcome(status, f"{self.name} does not write {reference}")
        if isinstance(value, str) or not isinstance(value, bool | int | float):
            return WriteOutcome(BAD_INVALID_ARGUMENT, f"{reference} takes a number")
        if not math.isfinite(value):
            return WriteOutcome(BAD_OUT_OF_RANGE, f"{reference}: {value:g} is no number")
        if not tag.shape.low <= value <= tag.shape.high:
            limits = f"{tag.shape.low:g}..{tag.shape.high:g}"
            return WriteOutcome(BAD_OUT_OF_RANGE, f"{reference}: {value:g} is not in {limits}")
        if writer not in tag.config.writers:
            return WriteOutcome(BAD_NOT_WRITABLE, f"{reference} belongs to the output {self.name}")
        if writer == "program" and (idle := self._idle()) is not None:
            return idle
        holder = self._holder(reference, tag)
        held = refusal(tag.config.writers, holder, writer, user, self._clock.monotonic_ns())
        return None if held is None else WriteOutcome(BAD_INVALID_STATE, f"{reference}: {held}")

    def _idle(self) -> WriteOutcome | None:
        """Return why no program may write now; None if the output works."""
        if self._state() in _WORKING:
            return None
        if self.operator is not None:
            return WriteOutcome(BAD_INVALID_STATE, f"{self.name} is in the hands of {self.operator}")
        return WriteOutcome(BAD_INVALID_STATE, f"{self.name} is {self._state().name}")

    def _holder(self, reference: str, tag: WrittenTag) -> Claim | None:
        if self.operator is not None:
            return Claim("operator", self.operator)
        if reference in self.claims:
            return self.claims[reference]
        driving = self._state() in _WORKING and "model" in tag.config.writers
        return MODEL if driving else None

    async def _put(self, tag: WrittenTag, value: float, user: str, why: str) -> WriteOutcome:
        """Write what a client wants; a program's value moves as fast as the model's would."""
        assert self._tags is not None
        step: Move | None = Move(value)
        if self.operator is None and tag.config.kind == "setpoint":
            tag.wanted = value
            step = move(tag.shape, tag.held, value, self._clock.monotonic_ns())
        if step is None:
            return WriteOutcome()
        outcome = await self._tags.write(tag, step, who=user, why=why)
        if outcome.status == GOOD and step.on_the_way:
            return WriteOutcome(GOOD_CLAMPED, f"on its way at {tag.shape.rate_per_s:g} per second")
        return outcome

    def _held(self, references: Iterable[str]) -> str | dict[str, float | None]:
        """Return what is there before somebody changes it: values of the tags, else the state."""
        tags = {} if self._tags is None else self._tags.tags
        values = {each: tags[each].held.value for each in references if each in tags}
        return values or self._state().name

    def _recorded(
        self,
        action: str,
        user: str,
        why: str,
        outcome: WriteOutcome,
        new: Mapping[str, Any] | None = None,
        old: str | dict[str, float | None] = "",
    ) -> WriteOutcome:
        said = f"{status_name(outcome.status)} {outcome.reason}".strip()
        _log.info("output.asked", output=self.name, action=action, user=user, outcome=said)
        values = dict(new) if new else None
        self._audit(Record(f"{action} {self.name}", user, old or self._state().name, values, said, why))
        return outcome

    @property
    def _write_s(self) -> float:
        return self._limits.times.write_ms / 1000

    @property
    def _acknowledge_tag(self) -> str | None:
        device, _, tag = (self._output.acknowledge or "").partition("/")
        return tag if tag and device == self._output.device else None
