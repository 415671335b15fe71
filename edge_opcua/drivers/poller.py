"""A device at work: one task owns its connection, polls, writes, notices losses and comes back."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.config.tags import TagRows
from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_WRITABLE,
    BAD_TIMEOUT,
    GOOD,
    Link,
    bad_rows,
)
from edge_opcua.drivers.capture import Capture
from edge_opcua.drivers.decode import Row
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.group import PollGroup, Read
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.linkstate import Event, LinkStatus, State, happen, retry_pause_s
from edge_opcua.drivers.options import link_policy
from edge_opcua.drivers.outbox import Outbox, WriteJob
from edge_opcua.drivers.plan import capture_places, load_driver, rows_of
from edge_opcua.drivers.planner import Place, Request, Shape, plan_reads
from edge_opcua.drivers.setpoint import Setpoint, judge_read_back, prepare
from edge_opcua.drivers.wire import Driver, Fault, Reading, content
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError, WriteRejectedError
from edge_opcua.plugins import Plugins

_BEAT_S: Final = 0.2
_SUSPECT_PAUSE_S: Final = 0.1
_GOODBYE_S: Final = 0.5
_log = structlog.get_logger(__name__)


class Polled(Protocol):
    """What is read periodically: a poll group or a capture."""

    writer: BlockWriter

    def adopt(self, shape: Shape) -> None:
        """Plan for a new connection."""
        ...

    async def poll(self, read: Read) -> bool:
        """Read and publish; whether to do so again at once."""
        ...


@dataclass(slots=True)
class _Job:
    """A periodic read and when it is due next (monotonic, ns)."""

    polled: Polled
    period_ns: int
    phase_ns: int
    due_ns: int = 0

    def start(self, now_ns: int) -> None:
        self.due_ns = now_ns + self.phase_ns

    def done(self, now_ns: int, *, again: bool) -> None:
        """Set the next time on the grid; what was missed is left out, never made up for."""
        if again:
            return
        behind = max(0, now_ns - self.due_ns)
        self.due_ns += self.period_ns * (behind // self.period_ns + 1)


class Device:
    """One configured device.

    Args:
        cfg: Its configuration.
        driver: Class of its protocol.
        bus: The tag bus, on which it owns its blocks.
        clock: Clock for stamps and times.
        lines: Physical lines that it shares with other devices.
        draw: Random numbers in 0..1 for the pauses between attempts.
    """

    def __init__(
        self,
        cfg: DeviceConfig,
        driver: type[Driver],
        bus: Bus,
        clock: Clock,
        lines: Lines,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = cfg.name
        self._cfg = cfg
        self._clock = clock
        self._draw = draw
        self._policy = link_policy(cfg, driver.options(cfg))
        self._wire = driver.wire(cfg, clock, lines)
        self._status = LinkStatus()
        self._open = False
        self._outbox = Outbox()
        self._link = LinkBlock(bus.writer(cfg.link_block), clock)
        self._setpoints: dict[str, Setpoint] = {}
        self._jobs: list[_Job] = []
        for group in cfg.groups:
            tags = cfg.tags_of(group.name)
            if not tags:
                continue
            rows = rows_of(cfg, group.name, driver)
            polled = PollGroup(rows, bus.writer(cfg.block_name(group.name)), clock)
            job = _Job(polled, group.period_ms * 1_000_000, group.phase_ms * 1_000_000)
            self._jobs.append(job)
            self._add_setpoints(tags, rows, polled)
        for capture in cfg.captures:
            heads, samples = capture_places(cfg, capture, driver)
            writer = bus.writer(cfg.block_name(capture.name))
            taken = Capture(capture, heads, samples, writer, clock)
            self._jobs.append(_Job(taken, capture.poll_ms * 1_000_000, 0))

    def _add_setpoints(self, tags: TagRows, rows: Sequence[Row], group: PollGroup) -> None:
        for row in tags.rows_where("access", "rw").tolist():
            tag = tags[row]
            self._setpoints[tag.name] = Setpoint(tag, rows[row], row, group)

    def _not_writable(self, tag: str) -> WriteOutcome:
        if self._cfg.tags.row_of(tag) is None:
            return WriteOutcome(BAD_NODE_ID_UNKNOWN, f"{self.name} has no tag {tag}")
        return WriteOutcome(BAD_NOT_WRITABLE, f"{self.name}/{tag} is read only")

    @property
    def status(self) -> LinkStatus:
        """State of the link."""
        return self._status

    @property
    def link_up(self) -> bool:
        """Whether the link is proven and may carry writes."""
        return self._status.writes

    @property
    def refreshed_ns(self) -> int:
        """Monotonic time of the last good scan, ns; 0 for never."""
        return self._status.last_good_ns

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._beat(), name=f"{self.name}.beat")
                tasks.create_task(self._work(), name=f"{self.name}.poll")
        finally:
            self._outbox.refuse_all(WriteOutcome(BAD_NO_COMMUNICATION, "the server stops"))
            self._status = LinkStatus(State.CONNECTING, last_good_ns=self._status.last_good_ns, attempts=1)
            self._tell_readers()
            async with asyncio.timeout(_GOODBYE_S):
                await self._wire.close()

    async def write(self, tag: str, value: Any, *, timeout_s: float = 2.0) -> WriteOutcome:
        """Write one tag and read it back.

        Args:
            tag: Name of the tag in this device.
            value: Engineering value.
            timeout_s: Longest wait for the outcome, seconds.

        Returns:
            Good after the device was seen to hold the value; otherwise a status of architecture §4. A write
            that timed out may still land; it is never repeated.
        """
        setpoint = self._setpoints.get(tag)
        if setpoint is None or not setpoint.writable:
            return self._not_writable(tag)
        try:
            encoded = prepare(setpoint, value)
        except WriteRejectedError as exc:
            return WriteOutcome(exc.status, f"{self.name}/{tag}: {exc}")
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        return await self._outbox.send(
            WriteJob(lambda job: self._write_tag(job, setpoint, encoded)), timeout_s=timeout_s
        )

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        """Write raw bytes in one request, ahead of all other writes and without reading back.

        Args:
            area: E.g. ``DB20``.
            offset: First byte, or first register.
            payload: The bytes.
            timeout_s: Longest wait for the outcome, seconds.
        """
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        job = WriteJob(lambda job: self._write_raw(job, area, offset, payload))
        return await self._outbox.send(job, timeout_s=timeout_s, urgent=True)

    def _refusal(self) -> WriteOutcome | None:
        if self._status.writes:
            return None
        if self._status.state is State.RECOVERING:
            return WriteOutcome(BAD_INVALID_STATE, f"the link to {self.name} has not proved itself yet")
        if self._status.state is State.DISABLED:
            return WriteOutcome(BAD_INVALID_STATE, f"{self.name} is not started")
        return WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.name}: {self._link.last_error}")

    async def _beat(self) -> None:
        """Show readers that this process lives, also while a device takes its time to answer."""
        while True:
            self._link.writer.beat()
            for job in self._jobs:
                job.polled.writer.beat()
            self._tell_link()
            await self._clock.sleep(_BEAT_S)

    async def _work(self) -> None:
        self._happen(Event.ENABLE)
        self._tell_readers()
        while True:
            if self._status.state is State.CONNECTING:
                await self._connect()
            elif self._status.reads:
                await self._step()
            else:
                await self._clock.sleep(retry_pause_s(self._status, self._policy, self._draw()))
                self._happen(Event.RETRY)

    async def _connect(self) -> None:
        try:
            await self._reopen()
        except DeviceError as exc:
            self._fail(Event.CONNECT_FAILED, exc)
            return
        now_ns = self._clock.monotonic_ns()
        for job in self._jobs:
            job.polled.adopt(self._wire.shape)
            job.start(now_ns)
        self._happen(Event.CONNECTED)

    async def _reopen(self) -> None:
        before = self._wire.shape
        await self._wire.open()
        self._open = True
        self._link.opened += 1
        if self._wire.shape != before:  # a device may grant less than it did a moment ago
            for job in self._jobs:
                job.polled.adopt(self._wire.shape)

    async def _step(self) -> None:
        """Do the next thing that is due: a write, a read, or wait for either."""
        try:
            if not self._open:
                await self._reopen()
            await self._serve_writes()
            job = min(self._jobs, key=lambda job: job.due_ns, default=None)
            if job is None:
                await self._wait(self._policy.stale_after_s)
                return
            now_ns = self._clock.monotonic_ns()
            if job.due_ns > now_ns:
                await self._wait((job.due_ns - now_ns) / 1e9)
                return
            again = await job.polled.poll(self._read)
            job.done(self._clock.monotonic_ns(), again=again)
            self._link.last_good_ns = self._clock.utc_ns()
            self._happen(Event.GOOD_SCAN)
        except DeviceError as exc:
            event = Event.FAILED_REQUEST if self._open else Event.CONNECT_FAILED
            self._open = False
            await self._wire.close()
            self._fail(event, exc)
            if self._status.reads:
                await self._clock.sleep(_SUSPECT_PAUSE_S)

    async def _wait(self, delay_s: float) -> None:
        """Wait until a write arrives or the time is over."""
        try:
            async with asyncio.timeout(delay_s):
                await self._outbox.arrived.wait()
        except TimeoutError:
            return

    async def _read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """Send read requests, as many at once as the wire takes; writes that wait go in between."""
        answers: list[Sequence[Reading]] = []
        depth = self._wire.depth
        for first in range(0, len(requests), depth):
            await self._serve_writes()
            started_ns = self._clock.monotonic_ns()
            answers += await self._wire.read(requests[first : first + depth])
            self._link.took((self._clock.monotonic_ns() - started_ns) / 1e6)
        for answer in itertools.chain.from_iterable(answers):
            if isinstance(answer, Fault):
                self._link.last_error = answer.reason
        return answers

    async def _serve_writes(self) -> None:
        if not self._outbox.arrived.is_set():
            return
        while (job := self._outbox.take()) is not None:
            await job.perform(job)

    async def _write_raw(self, job: WriteJob, area: str, offset: int, payload: bytes) -> None:
        await self._settle(job, self._wire.write_bytes(area, offset, payload))

    async def _write_tag(self, job: WriteJob, setpoint: Setpoint, encoded: bytes) -> None:
        await self._settle(job, self._wire.write(setpoint.place, encoded), final=False)
        if job.done.is_set():
            return
        try:
            job.settle(judge_read_back(setpoint, encoded, await self._read_back(setpoint.place)))
        except DeviceError as exc:
            reason = f"the device took the value, but reading it back failed: {exc}"
            job.settle(WriteOutcome(BAD_TIMEOUT, reason))
            raise
        for other in self._jobs:
            if other.polled is setpoint.group:
                other.due_ns = min(other.due_ns, self._clock.monotonic_ns())

    async def _settle(self, job: WriteJob, write: Any, *, final: bool = True) -> None:
        """Await a write and give the outcome; a fault of the link passes on after that."""
        job.sent = True
        try:
            await write
        except DeviceRefusedError as exc:
            self._link.last_error = str(exc)
            job.settle(WriteOutcome(exc.status, str(exc)))
        except DeviceTimeoutError as exc:
            job.settle(WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may still take effect"))
            raise
        except DeviceError as exc:
            job.settle(WriteOutcome(BAD_TIMEOUT, f"{exc}; the write may have taken effect"))
            raise
        else:
            if final:
                job.settle(WriteOutcome(GOOD))

    async def _read_back(self, place: Place) -> bytes | Fault:
        plan = plan_reads([place], self._wire.shape)
        wire = bytearray(plan.image_bytes)
        for request in plan.requests:
            (answers,) = await self._wire.read((request,))
            for fragment, answer in zip(request.fragments, answers, strict=True):
                if isinstance(answer, Fault):
                    return answer
                held = content(answer)
                wire[fragment.image_at : fragment.image_at + len(held)] = held
        return bytes(wire)

    def _fail(self, event: Event, error: DeviceError) -> None:
        self._link.last_error = str(error)
        self._happen(event)

    def _happen(self, event: Event) -> None:
        before = self._status
        now_ns = self._clock.monotonic_ns()
        self._status = happen(before, event, self._policy, now_ns)
        after = self._status
        if after.state is before.state and after.link is before.link:
            return
        if after.state is State.OFFLINE:
            self._outbox.refuse_all(
                WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.name}: {self._link.last_error}")
            )
        self._log_change(before, after)
        if after.link is not before.link:
            self._tell_readers()
        self._tell_link(changed=True)

    def _log_change(self, before: LinkStatus, after: LinkStatus) -> None:
        """One line when a link is lost and one when it has proved itself again."""
        if after.lost_ns and not before.lost_ns:
            event = "driver.lost" if after.last_good_ns else "driver.unreachable"
            _log.warning(event, device=self.name, reason=self._link.last_error)
        elif after.state is State.ONLINE and before.state is State.RECOVERING:
            outage_s = (after.since_ns - before.lost_ns) / 1e9 if before.lost_ns else 0.0
            _log.info("driver.connected", device=self.name, outage_s=round(outage_s, 3))

    def _tell_readers(self) -> None:
        """Publish every block once with the link's new state; values stay as they are."""
        link = self._status.link
        for job in self._jobs:
            job.polled.writer.publish(link=link, refreshed=False)

    def _tell_link(self, *, changed: bool = False) -> None:
        bad = total = 0
        for job in self._jobs:
            status = job.polled.writer.batch.status
            bad += int(bad_rows(status).sum())
            total += status.size
        if self._status.link is not Link.UP:
            bad = total
        self._link.publish(self._status.state, self._wire.traffic, good=total - bad, bad=bad, changed=changed)


def build_device(
    cfg: DeviceConfig, bus: Bus, clock: Clock, lines: Lines, *, plugins: Plugins | None = None
) -> Device:
    """Return a device that is ready to run; connects to nothing.

    Raises:
        ConfigError: The driver, the URL, an option or an address is unusable.
    """
    return Device(cfg, load_driver(cfg.driver, plugins), bus, clock, lines)
