"""A device at work: one task owns its connection, polls, writes, notices losses and comes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

import structlog

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    BAD_TIMEOUT,
    BAD_TOO_MANY_OPERATIONS,
    GOOD,
    Link,
    bad_rows,
)
from edge_opcua.drivers.aftermath import Aftermath, Tell, tell_nobody
from edge_opcua.drivers.asking import Asking
from edge_opcua.drivers.capture import Capture
from edge_opcua.drivers.cost import RequestCost
from edge_opcua.drivers.diagnostics import LinkBlock
from edge_opcua.drivers.echoes import Echoes
from edge_opcua.drivers.gate import Gate
from edge_opcua.drivers.jobs import WorkBuilder
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.linkstate import Event, LinkStatus, State, happen, retry_pause_s
from edge_opcua.drivers.options import link_policy
from edge_opcua.drivers.plan import load_driver
from edge_opcua.drivers.schedule import MOST_ASKING, Ask, Job
from edge_opcua.drivers.simulate import SimulatedWire
from edge_opcua.drivers.stations import Stations
from edge_opcua.drivers.watchdog import Watch, watchdog_of
from edge_opcua.drivers.wire import Driver, Wire
from edge_opcua.drivers.writes import Writes
from edge_opcua.drivers.writeterms import ANYBODY, WriteTerms
from edge_opcua.drivers.writing import Writing
from edge_opcua.errors import DeviceError
from edge_opcua.plugins import Plugins

_BEAT_S: Final = 0.2
_SUSPECT_PAUSE_S: Final = 0.1
_GOODBYE_S: Final = 0.5
_LONGEST_WAIT_S: Final = 60.0
_LEAST_PROOF_S: Final = 0.1
_SELDOM_NS: Final = 1_000_000_000
_log = structlog.get_logger(__name__)


class Device:
    """One configured device.

    Args:
        cfg: Its configuration.
        driver: Class of its protocol.
        bus: The tag bus, on which it owns its blocks.
        clock: Clock for stamps and times.
        lines: Physical lines that it shares with other devices.
        draw: Random numbers in 0..1 for the pauses between attempts.
        tell: Told what became of writes whose caller has long been answered, for the record.
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
        tell: Tell = tell_nobody,
    ) -> None:
        self.name = cfg.name
        self._cfg = cfg
        self._clock = clock
        self._draw = draw
        options = driver.options(cfg)
        self._policy = link_policy(cfg, options)
        self._wire: Wire = (
            SimulatedWire(cfg, driver, clock) if cfg.simulate else driver.wire(cfg, clock, lines)
        )
        self._status = LinkStatus()
        self._open = False
        self._link = LinkBlock(bus.writer(cfg.link_block), clock, simulated=cfg.simulate)
        self._cost = RequestCost()
        self._stale_ns = int(1e9 * self._policy.stale_after_s)
        self._prove_ns = int(1e9 * max(_LEAST_PROOF_S, self._policy.recover_hold_s / 2))
        work = WorkBuilder(cfg, driver, options, bus, clock, self._cost, self._stale_ns).build()
        self._jobs = work.jobs
        self._echoes = Echoes(work.echoes, clock)
        self._stations = self._stations_of(work.spaces)
        self._watchdog = watchdog_of(cfg, driver, self._wire, clock)
        self._gate = Gate(
            cfg.name, self._wire, self._link, self._stations, self._watchdog, lambda: self._status
        )
        self._aftermath = Aftermath(
            cfg.name, work.setpoints, self._jobs, self._link, clock, self._gate.unit_refusal, tell
        )
        self._writes = Writes(self._wire, self._link, clock, self._aftermath, options.writes_per_read)
        self._writing = Writing(cfg, work.setpoints, self._writes, self._echoes, self._gate, clock)
        self._asking = Asking(
            self._wire,
            clock,
            self._link,
            self._cost,
            self._stations,
            options.read_retries,
            self._serve,
        )

    def _stations_of(self, spaces: Iterable[Hashable]) -> Stations | None:
        """Return the units behind the connection, or None if there is only one."""
        names = {self._wire.shape.station(space) for space in spaces} - {None}
        if len(names) < 2:
            return None
        ordered = sorted(names, key=repr)
        return Stations(self.name, ordered, self._policy, self._clock, self._draw, self._unit_lost)

    def _unit_lost(self, unit: Hashable) -> None:
        for job in self._jobs:
            job.polled.lose(unit)

    def plan(self) -> None:
        """Plan what will be read before there is a connection: with many tags that takes its time."""
        for job in self._jobs:
            job.polled.adopt(self._wire.shape)

    @property
    def status(self) -> LinkStatus:
        """State of the link."""
        return self._status

    @property
    def link_up(self) -> bool:
        """Whether the link is proven and may carry writes."""
        return self._gate.refusal() is None

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
            stopping = WriteOutcome(BAD_NO_COMMUNICATION, "the server stops")
            self._refuse_waiting(stopping)
            self._aftermath.end()
            self._status = LinkStatus(State.CONNECTING, last_good_ns=self._status.last_good_ns, attempts=1)
            self._tell_readers()
            async with asyncio.timeout(_GOODBYE_S):
                await self._wire.close()

    async def write(
        self, tag: str, value: Any, *, timeout_s: float = 2.0, terms: WriteTerms = ANYBODY
    ) -> WriteOutcome:
        """Write one tag and read it back.

        Args:
            tag: Name of the tag in this device.
            value: Engineering value.
            timeout_s: Longest wait for the outcome, seconds.
            terms: Class of the write, and for whom it is.

        Returns:
            Good after the device was seen to hold the value; otherwise a status of architecture §4. A write
            that timed out may still land; it is never repeated, and what became of it is found out once the
            tag is read again.
        """
        return await self._writing.write(tag, value, timeout_s, terms)

    def unanswered(self, tag: str) -> tuple[int, int]:
        """Return how many writes of a tag nobody knew the effect of, and how many of them landed late."""
        doubts = self._aftermath.doubts
        return doubts.begun[tag], doubts.landed[tag]

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        """Write words in one request, ahead of all other writes but heartbeats and without reading back.

        Args:
            area: Where they begin, as the configuration has it: ``DB20``, ``3/hr:200``, ``EdgeAI_Status``.
            offset: Words behind that.
            payload: The words, the high byte of each first.
            timeout_s: Longest wait for the outcome, seconds.
        """
        refusal = self._gate.refusal()
        if refusal is not None:
            return refusal
        return await self._writes.send_bytes(area, offset, payload, timeout_s=timeout_s)

    async def poll_now(self, group: str, *, timeout_s: float = 5.0) -> WriteOutcome:
        """Poll a group or look at a capture now, whatever its period.

        Args:
            group: Its name in this device.
            timeout_s: Longest wait until that is done, seconds.

        Returns:
            Good once its values have been published; otherwise a status of architecture §4.
        """
        job = next((job for job in self._jobs if job.name == group), None)
        if job is None:
            return WriteOutcome(BAD_NODE_ID_UNKNOWN, f"{self.name} has no group {group} that is polled")
        if not self._status.reads:
            return WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.name}: {self._link.last_error}")
        if len(job.asking) >= MOST_ASKING:
            return WriteOutcome(BAD_TOO_MANY_OPERATIONS, f"{MOST_ASKING} wait for {group} already")
        ask = Ask()
        job.asking.append(ask)
        self._make_due(job)
        try:
            async with asyncio.timeout(timeout_s):
                await ask.done.wait()
        except TimeoutError:
            return WriteOutcome(BAD_TIMEOUT, f"{group} was not polled within {timeout_s:g} s")
        return ask.outcome

    def listen(self, group: str, call: Callable[[], None]) -> Callable[[], None]:
        """Let something be called each time a group was read; what is returned ends that.

        Args:
            group: Its name in this device; one that is not polled is never read.
            call: What to call, right after the values were published.
        """
        heard = [job.heard for job in self._jobs if job.name == group]
        for each in heard:
            each.append(call)

        def stop() -> None:
            for each in heard:
                each.remove(call)

        return stop

    def _make_due(self, job: Job) -> None:
        job.ask(self._clock.monotonic_ns())
        self._writes.outbox.arrived.set()  # ends a wait for the next period

    def _read_again(self) -> None:
        """Let what is read on demand or seldom see that a unit is back."""
        for job in self._jobs:
            if not job.period_ns or job.period_ns > _SELDOM_NS:
                job.ask(self._clock.monotonic_ns())

    async def restart_watchdog(self, *, timeout_s: float = 5.0) -> WriteOutcome:
        """Start the device's own watchdog again after it has tripped, as somebody acknowledged.

        Args:
            timeout_s: Longest wait until it runs, seconds.
        """
        if self._watchdog is None:
            return WriteOutcome(BAD_NOT_SUPPORTED, f"{self.name} has no watchdog that is armed")
        if not self._status.reads:
            return WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.name}: {self._link.last_error}")
        return await self._watchdog.restart(self._writes.outbox.arrived, timeout_s=timeout_s)

    @property
    def watchdog_notice(self) -> str:
        """Why its own watchdog keeps anything from being written; empty if it does not."""
        return "" if self._watchdog is None or not self._status.writes else self._watchdog.notice

    @property
    def watchdog_tripped(self) -> bool:
        """Whether its own watchdog has let the outputs fall safe, and waits for an acknowledge."""
        return self._watchdog is not None and self._watchdog.state is Watch.TRIPPED

    async def _beat(self) -> None:
        """Show readers that this process lives, also while a device takes its time to answer."""
        while True:
            self._link.writer.beat()
            for job in self._jobs:
                job.polled.writer.beat()
                job.polled.age()
            self._tell_link()
            await self._clock.sleep(_BEAT_S)

    async def _work(self) -> None:
        if self._cfg.simulate:
            _log.warning("driver.simulated", device=self.name, code="D390")
            self._begin(Event.SIMULATE)
        else:
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
            if self._open:  # it was lost again while its watchdog was armed
                self._open = False
                await self._wire.close()
            self._fail(Event.CONNECT_FAILED, exc)
            return
        self._begin(Event.CONNECTED)

    def _begin(self, event: Event) -> None:
        """Plan everything for a new connection, and make it due."""
        self._cost.connected()
        if self._stations is not None:
            self._stations.reset()
        now_ns = self._clock.monotonic_ns()
        for job in self._jobs:
            job.polled.adopt(self._wire.shape)
            job.start(now_ns)
        self._happen(event)

    async def _reopen(self) -> None:
        before = self._wire.shape
        await self._wire.open()
        self._open = True
        self._link.opened += 1
        self._writes.held = self._status.state is State.SUSPECT  # whoever answers now has to be heard first
        if self._watchdog is not None:
            await self._watchdog.arm()
        if self._wire.shape != before:  # a device may grant less than it did a moment ago
            for job in self._jobs:
                job.polled.adopt(self._wire.shape)

    def _listen(self) -> None:
        """Read something now, so that writes need not wait longer."""
        job = min(self._jobs, key=lambda job: job.due_ns, default=None)
        if job is None:
            self._writes.held = False
        else:
            job.ask(self._clock.monotonic_ns())

    async def _serve(self) -> None:
        """Do what goes before reads: the watchdog first, since it cannot wait, and then the writes."""
        if self._watchdog is not None:
            await self._watchdog.serve()
            self._link.notice = self._watchdog.notice
        await self._writes.serve()

    async def _step(self) -> None:
        """Do the next thing that is due: a write, a read, or wait for either."""
        try:
            if not self._open:
                await self._reopen()
            if self._writes.held:
                self._listen()
            await self._serve()
            job = min(self._jobs, key=lambda job: job.due_ns, default=None)
            now_ns = self._clock.monotonic_ns()
            if job is not None and job.due_ns <= now_ns:
                await self._poll(job)
                self._writes.held = False
            else:
                await self._wait(job, now_ns)
            if await self._asking.probe():  # after those that answer have been read
                self._read_again()
        except DeviceError as exc:
            event = Event.FAILED_REQUEST if self._open else Event.CONNECT_FAILED
            self._open = False
            await self._wire.close()
            if self._watchdog is not None:
                self._watchdog.lost()
            self._refuse_writes(f"the link to {self.name} broke before this was sent: {exc}")
            self._fail(event, exc)
            if self._status.reads:
                await self._clock.sleep(_SUSPECT_PAUSE_S)

    async def _poll(self, job: Job) -> None:
        """Read what is due and tell everybody who waits for it."""
        started_ns = self._clock.monotonic_ns()
        late_ns = job.late_ns(started_ns)
        asked, job.asking = job.asking, []
        self._asking.heard = False
        self._asking.deadline_ns = started_ns + job.stale_ns
        outcome = WriteOutcome(BAD_NO_COMMUNICATION, f"{self.name} did not answer")
        try:
            again = await job.polled.poll(self._asking.read)
            if self._asking.heard:
                outcome = WriteOutcome(GOOD)
        finally:
            for ask in asked:
                ask.settle(outcome)
        for call in job.heard:
            call()
        self._aftermath.look(job.polled)
        self._echoes.look(job.polled)
        ended_ns = self._clock.monotonic_ns()
        self._link.scanned((ended_ns - started_ns) / 1e6, late_ns, job.values)
        self._link.counts.overruns += job.done(ended_ns, again=again)
        if self._status.state is State.RECOVERING and not any(each.period_ns for each in self._jobs):
            job.due_ns = min(job.due_ns, ended_ns + self._prove_ns)  # else the link could never prove itself
        for trigger in job.triggers:
            trigger.look(job.polled.writer, ended_ns)
        if self._asking.heard:
            self._link.last_good_ns = self._clock.utc_ns()
            self._happen(Event.GOOD_SCAN)
        elif self._stations is not None and self._stations.all_lost:
            raise DeviceError(f"none of its units answers: {self._stations.reason}")
        if self._cost.has_changed(self._wire.shape, ended_ns):
            for each in self._jobs:
                each.polled.plan_anew()

    async def _wait(self, job: Job | None, now_ns: int) -> None:
        """Wait until a write arrives, or a read or the probe of a unit is due."""
        due_ns = now_ns + self._stale_ns if job is None else job.due_ns
        due_ns = min(due_ns, self._writes.outbox.due_ns)
        if self._watchdog is not None:
            due_ns = min(due_ns, self._watchdog.due_ns)
        if self._stations is not None:
            due_ns = min(due_ns, self._stations.due_ns)
        delay_s = min((due_ns - now_ns) / 1e9, _LONGEST_WAIT_S)
        await self._clock.wait(self._writes.outbox.arrived, max(0.0, delay_s))

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
            self._refuse_waiting(
                WriteOutcome(BAD_NO_COMMUNICATION, f"no link to {self.name}: {self._link.last_error}")
            )
        self._log_change(before, after)
        if after.link is not before.link:
            self._tell_readers()
        self._tell_link(changed=True)

    def _refuse_writes(self, reason: str) -> None:
        """Refuse what was not sent: nothing that waited for one connection goes out over the next."""
        self._writes.outbox.refuse_all(WriteOutcome(BAD_NO_COMMUNICATION, reason))

    def _refuse_waiting(self, outcome: WriteOutcome) -> None:
        self._writes.outbox.refuse_all(outcome)
        for job in self._jobs:
            asked, job.asking = job.asking, []
            for ask in asked:
                ask.settle(outcome)

    def _log_change(self, before: LinkStatus, after: LinkStatus) -> None:
        """One line when a link is lost and one when it has proved itself again."""
        if after.lost_ns and not before.lost_ns:
            event = "driver.lost" if after.last_good_ns else "driver.unreachable"
            _log.warning(event, device=self.name, reason=self._link.last_error)
        elif after.state is State.ONLINE and before.state is State.RECOVERING:
            outage_s = (after.since_ns - before.lost_ns) / 1e9 if before.lost_ns else 0.0
            _log.info("driver.connected", device=self.name, outage_s=round(outage_s, 3))

    def _tell_readers(self) -> None:
        """Publish blocks once with the link's new state; values stay as they are.

        That the link is up a group says itself, with the first values that come over it: between the loss
        and them nobody may see anything but the loss. A capture has nothing to say until the next waveform.
        """
        link = self._status.link
        for job in self._jobs:
            if link is not Link.UP or isinstance(job.polled, Capture):
                job.polled.writer.publish(link=link, refreshed=False)

    def _tell_link(self, *, changed: bool = False) -> None:
        if not changed and not self._link.is_due:
            return
        bad = total = refused = 0
        for job in self._jobs:
            status = job.polled.writer.batch.status
            bad += int(bad_rows(status).sum())
            total += status.size
            refused += job.polled.refused
        if self._status.link is not Link.UP:
            bad = total
        counts = self._link.counts
        counts.refused = refused
        counts.units_lost = 0 if self._stations is None else self._stations.lost
        self._link.publish(self._status.state, self._wire.traffic, good=total - bad, bad=bad)


def build_device(
    cfg: DeviceConfig,
    bus: Bus,
    clock: Clock,
    lines: Lines,
    *,
    plugins: Plugins | None = None,
    tell: Tell = tell_nobody,
) -> Device:
    """Return a device that is ready to run; connects to nothing.

    Raises:
        ConfigError: The driver, the URL, an option or an address is unusable.
    """
    return Device(cfg, load_driver(cfg.driver, plugins), bus, clock, lines, tell=tell)
