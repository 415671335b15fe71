"""The write side of one connection: each write goes out once, ahead of reads, and is read back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_TIMEOUT, GOOD, is_bad
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.outbox import Outbox, WriteJob
from edge_opcua.drivers.planner import Place, plan_reads
from edge_opcua.drivers.setpoint import Setpoint, as_shown, held, judge_read_back
from edge_opcua.drivers.wire import Fault, Wire, content
from edge_opcua.drivers.writeterms import WriteKind, WriteTerms
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError


@dataclass(frozen=True, slots=True)
class TagWrite:
    """One value on its way to a tag.

    Args:
        setpoint: The tag.
        encoded: Its bytes.
        terms: Class of the write, and for whom it is.
    """

    setpoint: Setpoint
    encoded: bytes
    terms: WriteTerms

    @property
    def kind(self) -> WriteKind:
        """Its class."""
        return self.setpoint.kind_of(self.terms)

    @property
    def new(self) -> Any:
        """What is written, as readers of the tag see it."""
        return as_shown(self.setpoint, self.encoded, bits=True)


class Followers(Protocol):
    """Who has to know of writes: the device."""

    def refusal(self, place: Place) -> WriteOutcome | None:
        """Return why nothing may be written to a place now; None: it may."""
        ...

    def written(self, write: TagWrite, outcome: WriteOutcome) -> None:
        """Learn what the device has made of a value."""
        ...

    def in_doubt(self, write: TagWrite, old: Any, *, taken: bool) -> None:
        """Learn that nobody knows what became of a value; ``taken``: the device said it took it."""
        ...

    def known_late(self, write: TagWrite, old: Any, outcome: WriteOutcome) -> None:
        """Learn what became of a value whose caller had given up."""
        ...


class Writes:
    """Writes that wait, and how they are done.

    Args:
        wire: The connection.
        link: Counters of the device.
        clock: Clock for deadlines.
        followers: Told of what is written.
        most: Writes between two reads.

    Attributes:
        held: Whether writes wait until the device is heard: nothing was read over this connection yet, or
            a write was not answered.
    """

    def __init__(self, wire: Wire, link: LinkBlock, clock: Clock, followers: Followers, most: int) -> None:
        self.outbox = Outbox(clock)
        self.held = False
        self._wire = wire
        self._link = link
        self._clock = clock
        self._followers = followers
        self._most = most
        self._begun_ns: dict[str, int] = {}

    async def send_tag(self, write: TagWrite, *, timeout_s: float) -> WriteOutcome:
        """Queue the write of a tag and wait for what the device then holds."""
        tag, kind = write.setpoint.tag.name, write.kind
        job = WriteJob(lambda job: self._write_tag(job, write), kind, tag, before=held(write.setpoint))
        if kind is WriteKind.SETPOINT and tag in self._begun_ns:
            job.not_before_ns = self._begun_ns[tag] + int(1e9 * write.terms.min_interval_s)
        outcome = await self.outbox.send(job, timeout_s=timeout_s)
        return replace(outcome, old=job.before)

    async def send_bytes(self, area: str, offset: int, payload: bytes, *, timeout_s: float) -> WriteOutcome:
        """Queue raw bytes ahead of all other writes but heartbeats."""
        job = WriteJob(lambda job: self._write_bytes(job, area, offset, payload))
        return await self.outbox.send(job, timeout_s=timeout_s)

    async def serve(self) -> None:
        """Do writes that wait; no more than reads can stand (the duty ratio)."""
        for _ in range(self._most):
            if self.held:
                return
            job = self.outbox.take(self._clock.monotonic_ns())
            if job is None:
                return
            await job.perform(job)

    async def _write_bytes(self, job: WriteJob, area: str, offset: int, payload: bytes) -> None:
        sent = await self._send(job, lambda: self._wire.write_bytes(area, offset, payload))
        job.settle(sent.outcome)
        sent.pass_on()

    async def _write_tag(self, job: WriteJob, write: TagWrite) -> None:
        refusal = self._followers.refusal(write.setpoint.place)
        if refusal is not None:
            job.settle(refusal)
            return
        self._begin(job, write)
        sent = await self._send(job, lambda: self._wire.write(write.setpoint.place, write.encoded))
        if sent.unknown:
            self._tell(job, write, sent.outcome, taken=False)
            sent.pass_on()
            return
        outcome = sent.outcome
        if not is_bad(outcome.status) and write.kind is not WriteKind.HEARTBEAT:
            try:
                answer = await self._read_back(write.setpoint.place)
            except DeviceError as exc:
                reason = f"the device took the value, but reading it back failed: {exc}"
                self._tell(job, write, WriteOutcome(BAD_TIMEOUT, reason), taken=True)
                raise
            outcome = judge_read_back(write.setpoint, write.encoded, answer, job.before, write.terms)
            if isinstance(answer, Fault):
                self._tell(job, write, outcome, taken=True)
                return
            self._followers.written(write, outcome)
        if not job.settle(outcome):
            self._followers.known_late(write, job.before, outcome)

    def _begin(self, job: WriteJob, write: TagWrite) -> None:
        job.before = held(write.setpoint)
        if write.kind is WriteKind.SETPOINT:
            self._begun_ns[write.setpoint.tag.name] = self._clock.monotonic_ns()

    def _tell(self, job: WriteJob, write: TagWrite, outcome: WriteOutcome, *, taken: bool) -> None:
        """Say that nobody knows; a heartbeat is written again anyway."""
        job.settle(outcome)
        if write.kind is not WriteKind.HEARTBEAT:
            self._followers.in_doubt(write, job.before, taken=taken)

    async def _send(self, job: WriteJob, write: Callable[[], Awaitable[None]]) -> _Sent:
        """Send once and return what is known of it then."""
        job.sent = True
        self._link.counts.writes += 1
        try:
            await write()
        except DeviceRefusedError as exc:
            self._link.last_error = str(exc)
            return _Sent(WriteOutcome(exc.status, str(exc)))
        except DeviceTimeoutError as exc:
            self._link.counts.timeouts += 1
            self.held = True
            outcome = WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may still take effect")
            # again: only this unit is silent, and whoever reads it next will see
            return _Sent(outcome, unknown=True, error=None if exc.again else exc)
        except asyncio.CancelledError:
            job.settle(WriteOutcome(BAD_TIMEOUT, "the server stops; the write may still take effect"))
            raise
        except DeviceError as exc:
            outcome = WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may have taken effect")
            return _Sent(outcome, unknown=True, error=exc)
        return _Sent(WriteOutcome(GOOD))

    async def _read_back(self, place: Place) -> bytes | Fault:
        plan = plan_reads([place], self._wire.shape)
        wire = bytearray(plan.image_bytes)
        for request in plan.requests:
            (answers,) = await self._wire.read((request,))
            for fragment, answer in zip(request.fragments, answers, strict=True):
                if isinstance(answer, Fault):
                    return answer
                part = content(answer)
                wire[fragment.image_at : fragment.image_at + len(part)] = part
        return bytes(wire)


@dataclass(frozen=True, slots=True)
class _Sent:
    """What is known once a write was sent.

    Args:
        outcome: For the caller.
        unknown: Whether nobody knows if it took effect.
        error: Fault of the link, which has to pass on after everybody was told.
    """

    outcome: WriteOutcome
    unknown: bool = False
    error: DeviceError | None = None

    def pass_on(self) -> None:
        """Raise the fault of the link, if there was one."""
        if self.error is not None:
            raise self.error
