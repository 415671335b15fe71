"""Carries out what the policy decides for one output: gathers facts, writes the mailbox, says what it did.

It runs in the process that owns the link to the PLC; its heartbeat is made by the very loop that carries
the verdicts, so that a chain that stands still cannot look alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, BlockWriter, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_OUT_OF_RANGE,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
    Verdict,
    is_good,
    status_name,
)
from edge_opcua.writeback.mailbox import Code
from edge_opcua.writeback.policy import (
    Authority,
    Limits,
    Plc,
    Request,
    Result,
    decide,
    released,
    settled,
)
from edge_opcua.writeback.states import State

AUTHORITY_RING: Final = 64
RECOVER_S: Final = 2.0
_TICK_S: Final = 0.025
_QUIET_NS: Final = 250_000_000
_SAFE_VERDICTS: Final = {"NotDecidable": Verdict.NOT_DECIDABLE, "NotOk": Verdict.NOT_OK}
_PERIODS_OLD: Final = 3
_log = structlog.get_logger(__name__)


class Target(Protocol):
    """The device an output writes to, as the executor needs it."""

    @property
    def link_up(self) -> bool:
        """Whether the link is proven and may carry writes."""
        ...

    @property
    def refreshed_ns(self) -> int:
        """Monotonic time of the last good scan, ns."""
        ...

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        """Write raw bytes in one request, ahead of other writes."""
        ...


def authority_block(output: OutputConfig) -> BlockSpec:
    """Return the block in which an output says who rules over it."""
    tags = (
        TagSpec("state", Scalar.STRING, 24),
        TagSpec("heartbeat", Scalar.UINT16),
        TagSpec("writes", Scalar.UINT64),
        TagSpec("refused", Scalar.UINT64),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("ack_required", Scalar.BOOLEAN),
        TagSpec("plc_trusts", Scalar.BOOLEAN),
    )
    return BlockSpec(output.authority_block, tags, AUTHORITY_RING)


@dataclass(frozen=True, slots=True)
class _Bit:
    """One tag of the handshake.

    Args:
        block: Block it lives in.
        name: Its name there.
        max_age_ns: Age at which it says nothing any more.
    """

    block: str
    name: str
    max_age_ns: int


class _Changes:
    """Since when a counter has its present value; a counter that is not configured has none."""

    def __init__(self) -> None:
        self._value: object = None
        self._since_ns = 0

    def note(self, value: object, now_ns: int) -> int:
        """Return the monotonic time at which the counter took this value, ns."""
        if value != self._value:
            self._value, self._since_ns = value, now_ns
        return self._since_ns


class Handshake:
    """What the PLC says of itself and of us, read from the bus.

    Args:
        bits: Tags by what they mean: ``granted``, ``ack_required``, ``trusts``, ``alive``, ``echo``.
        readers: Readers of their blocks.
    """

    def __init__(self, bits: Mapping[str, _Bit], readers: Mapping[str, BlockReader]) -> None:
        self._bits = bits
        self._readers = readers
        self._alive = _Changes()
        self._echo = _Changes()

    def read(self, link_ns: int, now_ns: int) -> Plc | None:
        """Return the PLC's word, or None if a part of it is not Good or too old.

        Args:
            link_ns: Last good scan, which counts where the PLC has no handshake tags.
            now_ns: Monotonic time, ns.
        """
        batches = {block: reader.latest() for block, reader in self._readers.items()}
        values: dict[str, object] = {}
        seen_ns = link_ns
        for meaning, bit in self._bits.items():
            batch = batches[bit.block]
            if batch is None or batch.link is not Link.UP:
                return None
            row = batch.row(bit.name)
            if not is_good(int(batch.status[row])) or now_ns - batch.refreshed_ns > bit.max_age_ns:
                return None
            values[meaning] = batch.value(row)
            seen_ns = min(seen_ns, batch.refreshed_ns)
        return Plc(
            seen_ns=seen_ns,
            granted=bool(values.get("granted", True)),
            ack_required=bool(values.get("ack_required", False)),
            trusts=bool(values.get("trusts", False)),
            alive_ns=self._alive.note(values["alive"], now_ns) if "alive" in values else None,
            echo_ns=self._echo.note(values["echo"], now_ns) if "echo" in values else None,
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """What an output depends on, from the input of its pipeline to the PLC's own word.

    Args:
        inputs: Readers of the blocks whose source the pipeline needs.
        results: Reader of its results.
        handshake: What the PLC says.
        limits: Times of the policy.
    """

    inputs: Sequence[BlockReader]
    results: BlockReader
    handshake: Handshake
    limits: Limits


class Executor:
    """Writes the verdicts of one pipeline into the mailbox of one PLC, as long as the policy lets it.

    Args:
        output: The output.
        target: The device.
        chain: What it depends on.
        writer: Writer of its authority block.
        clock: Clock for all times.
        audit: Told about every change of authority: old state, new state, reason.
    """

    def __init__(
        self,
        output: OutputConfig,
        target: Target,
        chain: Chain,
        writer: BlockWriter,
        clock: Clock,
        *,
        audit: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self.name = output.name
        self._output = output
        self._target = target
        self._clock = clock
        self._handshake = chain.handshake
        self._inputs = chain.inputs
        self._limits = chain.limits
        self._results = chain.results
        self._writer = writer
        self._audit = audit
        self._authority = Authority()
        self._plc: Plc | None = None
        self._acknowledged = False
        self._failures = 0
        self._writes = 0
        self._refused = 0
        self._counted = 0
        self._published_ns = 0
        self._releasing = False
        self._woken = asyncio.Event()
        self._row = {tag.name: row for row, tag in enumerate(self._writer.batch.layout.spec.tags)}

    @property
    def state(self) -> State:
        """Who rules over the output."""
        return self._authority.state

    def acknowledge(self, user: str) -> bool:
        """Take a person's acknowledge; return whether one was waited for.

        To be called when somebody writes true into the output's ``acknowledge`` tag. A PLC that has latched
        clears its own latch; until it has, this alone lets nobody back in.
        """
        if self._authority.state is not State.ACK_REQUIRED:
            return False
        _log.info("authority.acknowledged", output=self.name, user=user)
        self._acknowledged = True
        self._woken.set()
        return True

    async def run(self) -> None:
        """Decide and write until cancelled; call :meth:`release` afterwards, while the device still works."""
        fd = self._results.wake_fd(0) if self._results.spec.wakes else None
        loop = asyncio.get_running_loop()
        if fd is not None:
            loop.add_reader(fd, self._wake, fd)
        try:
            self._publish(self._authority)
            while True:
                await self.step()
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await self._woken.wait()
        finally:
            if fd is not None:
                loop.remove_reader(fd)

    def _wake(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        self._woken.set()

    async def step(self) -> None:
        """Decide once and do what was decided."""
        if self._releasing:
            return
        now_ns = self._clock.monotonic_ns()
        request = self._gather(now_ns)
        self._acknowledged = False
        before = self._authority
        decision = decide(request, before, now_ns, self._limits)
        self._authority = decision.authority
        self._count_refused(request, decision.authority)
        if decision.authority.state is not before.state:
            self._say_change(before, decision.authority)
        if decision.write is not None:
            outcome = await self._write(decision.write.pack())
            if is_good(outcome.status):
                self._authority = settled(self._authority, decision.write, self._clock.monotonic_ns())
        self._publish(before)

    async def release(self, deadline_s: float) -> bool:
        """Take authority away from the PLC's view before this process ends.

        Args:
            deadline_s: Longest time this may take, seconds; after it the PLC's own time-out has to do.

        Returns:
            Whether the safe content arrived.
        """
        self._releasing = True
        mailbox = released(self._authority, self._limits)
        outcome = await self._target.write_bytes(
            self._output.db or "", 0, mailbox.pack(), timeout_s=deadline_s
        )
        arrived = is_good(outcome.status)
        log = _log.info if arrived else _log.warning
        log("authority.released", output=self.name, arrived=arrived, reason=outcome.reason)
        return arrived

    def _gather(self, now_ns: int) -> Request:
        link_ns = self._target.refreshed_ns
        self._plc = self._handshake.read(link_ns, now_ns)
        return Request(
            link_up=self._target.link_up,
            link_ns=link_ns,
            lane_ns=self._results.beat_ns,
            inputs_good=all(_is_there(reader.latest()) for reader in self._inputs),
            plc=self._plc,
            result=read_result(self._results.latest(), self._limits.safe_verdict),
            acknowledged=self._acknowledged,
            write_failures=self._failures,
        )

    async def _write(self, payload: bytes) -> WriteOutcome:
        timeout_s = self._limits.plc_timeout_ns / 1e9
        outcome = await self._target.write_bytes(self._output.db or "", 0, payload, timeout_s=timeout_s)
        if is_good(outcome.status):
            self._writes += 1
            self._failures = 0
            return outcome
        self._failures += 1
        if self._failures == 1:
            _log.warning("authority.write_failed", output=self.name, reason=outcome.reason)
        return outcome

    def _count_refused(self, request: Request, authority: Authority) -> None:
        """Count results that came and were not passed on."""
        result = request.result
        if result is None or result.number == self._counted:
            return
        self._counted = result.number
        if authority.state is not State.ACTIVE or authority.newest != result.number:
            self._refused += 1

    def _say_change(self, before: Authority, after: Authority) -> None:
        log = _log.warning if after.state is State.FAILSAFE else _log.info
        log(
            "authority.changed",
            output=self.name,
            old=before.state.name,
            new=after.state.name,
            reason=after.reason,
        )
        if self._audit is not None:
            self._audit(before.state.name, after.state.name, after.reason)

    def _publish(self, before: Authority) -> None:
        """Say who rules: at once when it changes, otherwise four times a second."""
        now_ns = self._clock.monotonic_ns()
        authority = self._authority
        if authority.state is before.state and now_ns - self._published_ns < _QUIET_NS:
            self._writer.beat()
            return
        self._published_ns = now_ns
        utc_ns = self._clock.utc_ns()
        plc = self._plc
        latched = plc is not None and plc.ack_required
        batch, row = self._writer.batch, self._row
        batch.set_text(row["state"], authority.state.name)
        batch.set(row["heartbeat"], authority.sent.heartbeat)
        batch.set(row["writes"], self._writes)
        batch.set(row["refused"], self._refused)
        batch.set_text(row["reason"], authority.reason)
        batch.set(row["ack_required"], authority.state is State.ACK_REQUIRED or latched)
        batch.set(row["plc_trusts"], plc is not None and plc.trusts)
        batch.status[:] = GOOD
        batch.source_ns[:] = utc_ns
        batch.server_ns[:] = utc_ns
        self._writer.publish()


def read_result(batch: TagBatch | None, safe_verdict: Verdict) -> Result | None:
    """Return what a batch of the result block means for the PLC; None before the first result.

    A result from Uncertain inputs is passed on as not decidable; one that is Bad, late or a substitute
    takes authority away.
    """
    if batch is None or batch.value(batch.row("result_id")) == 0:
        return None
    status = int(batch.status[batch.row("verdict")])
    number = _whole(batch, "result_id")
    stroke = _whole(batch, "stroke")
    verdict = _whole(batch, "verdict")
    late = bool(batch.value(batch.row("fail_safe_active")))
    score = batch.value(batch.row("score"))
    value = float(score) if isinstance(score, int | float) else 0.0
    if status == UNCERTAIN_SUBNORMAL and not late and batch.link is Link.UP:
        return Result(number, stroke, safe_verdict, Code.INPUT_BAD, value)
    known = verdict in (Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE)
    if not is_good(status) or late or batch.link is not Link.UP or not known:
        reason = batch.text(batch.row("reason")) or f"the newest result is {status_name(status)}"
        return Result(number, stroke, safe_verdict, Code.INPUT_BAD, value, usable=False, reason=reason)
    return Result(number, stroke, Verdict(verdict), _code(batch, verdict), value)


def _code(batch: TagBatch, verdict: int) -> Code:
    """Return why a usable result is what it is; a model that never learned such a stroke gives no score."""
    if verdict != Verdict.NOT_DECIDABLE:
        return Code.OK
    if int(batch.status[batch.row("score")]) == BAD_OUT_OF_RANGE:
        return Code.OUT_OF_TRAINING_RANGE
    return Code.LOW_CONFIDENCE


def _whole(batch: TagBatch, name: str) -> int:
    value = batch.value(batch.row(name))
    assert isinstance(value, int)
    return value


def _is_there(batch: TagBatch | None) -> bool:
    return batch is not None and batch.link is Link.UP


def build_executor(
    config: EdgeConfig,
    output: OutputConfig,
    target: Target,
    bus: Bus,
    clock: Clock,
    *,
    audit: Callable[[str, str, str], None] | None = None,
) -> Executor:
    """Return the executor of one output, ready to run.

    Args:
        config: The whole configuration.
        output: The output.
        target: Its device.
        bus: The tag bus.
        clock: Clock for all times.
        audit: Told about every change of authority.
    """
    pipeline = config.pipeline(output.pipeline)
    capture_device, capture = config.capture(pipeline.capture)
    references = {
        "granted": output.grant,
        "ack_required": output.ack_required,
        "trusts": output.plc_trusts,
        "alive": output.plc_heartbeat,
        "echo": output.echo_heartbeat,
    }
    limits = Limits(
        heartbeat_ns=output.heartbeat_ms * 1_000_000,
        plc_timeout_ns=output.plc_timeout_ms * 1_000_000,
        recover_ns=round(RECOVER_S * 1e9),
        safe_verdict=_SAFE_VERDICTS[pipeline.fail_safe_verdict],
    )
    bits = {}
    for meaning, reference in references.items():
        if reference is not None:
            device, tag = config.tag(reference)
            max_age_ns = max(2 * limits.plc_timeout_ns, _PERIODS_OLD * _period_ns(device, tag.group))
            bits[meaning] = _Bit(device.block_name(tag.group), tag.name, max_age_ns)
    readers = {bit.block: bus.reader(bit.block) for bit in bits.values()}
    chain = Chain(
        inputs=[bus.reader(capture_device.block_name(capture.name))],
        results=bus.reader(pipeline.result_block),
        handshake=Handshake(bits, readers),
        limits=limits,
    )
    return Executor(output, target, chain, bus.writer(output.authority_block), clock, audit=audit)


def _period_ns(device: DeviceConfig, group: str) -> int:
    periods = [named.period_ms for named in device.groups if named.name == group]
    return (periods[0] if periods else 1000) * 1_000_000
