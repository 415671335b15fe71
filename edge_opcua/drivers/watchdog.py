"""The watchdog of a device at work: armed before the first write, triggered, and heard when it has tripped.

It lets the outputs of a device without a program of its own fall safe when nobody writes to them any more:
this process gone, its machine frozen, the network cut. Until it is armed nothing is written to the device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Final

import structlog

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_TIMEOUT, GOOD, Scalar
from edge_opcua.drivers.planner import Place, plan_reads
from edge_opcua.drivers.schedule import NEVER_NS, Ask
from edge_opcua.drivers.watchprofile import Fitted, Step, fitted
from edge_opcua.drivers.wire import Driver, Fault, FaultKind, Wire, content
from edge_opcua.errors import DeviceRefusedError, DeviceTimeoutError

_FEEDS_PER_TIMEOUT: Final = 4
_PASSING: Final = (FaultKind.ABSENT, FaultKind.BUSY, FaultKind.MISSED)
_AGAIN_NS: Final = 5_000_000_000
_log = structlog.get_logger(__name__)


class Watch(Enum):
    """How the watchdog of a device is."""

    OFF = "off"  # not armed yet
    ARMED = "armed"
    FAILED = "failed"  # it could not be armed; tried again
    TRIPPED = "tripped"  # the outputs are safe; somebody has to acknowledge


class Watchdog:
    """The watchdog of one device. Only the task that owns the wire calls what is asynchronous here.

    Args:
        name: Name of the device.
        wire: Its connection.
        fitted: How it is armed.
        clock: Clock.
        by_hand: Whether somebody has to acknowledge a trip.

    Attributes:
        state: How it is.
        due_ns: Monotonic time at which :meth:`serve` has something to do.
        notice: What people should know now; empty: nothing.
    """

    def __init__(self, name: str, wire: Wire, fitted: Fitted, clock: Clock, *, by_hand: bool) -> None:
        self.state = Watch.OFF
        self.due_ns = NEVER_NS
        self.notice = ""
        self._name = name
        self._wire = wire
        self._fitted = fitted
        self._profile = fitted.profile
        self._clock = clock
        self._by_hand = by_hand
        self._fed_ns = 0
        self._last_value = -1
        self._asks: list[Ask] = []

    @property
    def _feed_ns(self) -> int:
        return self._fitted.timeout_ms * 1_000_000 // _FEEDS_PER_TIMEOUT

    def refusal(self) -> WriteOutcome | None:
        """Return why nothing may be written to the device now; None: it may."""
        if self.state is Watch.ARMED:
            return None
        reason = self.notice or f"the watchdog of {self._name} is not armed yet"
        return WriteOutcome(BAD_INVALID_STATE, reason)

    async def restart(self, wake: asyncio.Event, *, timeout_s: float) -> WriteOutcome:
        """Have a tripped watchdog started again by who owns the wire, as somebody acknowledged the trip.

        Args:
            wake: Ends a wait of that task.
            timeout_s: Longest wait for it, seconds.
        """
        if self.state is not Watch.TRIPPED:
            return WriteOutcome(BAD_INVALID_STATE, f"the watchdog of {self._name} has not tripped")
        ask = Ask()
        self._asks.append(ask)
        self.due_ns = 0
        wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                await ask.done.wait()
        except TimeoutError:
            return WriteOutcome(BAD_TIMEOUT, f"the watchdog was not started within {timeout_s:g} s")
        return ask.outcome

    def lost(self) -> None:
        """Learn that the connection is gone: until it is armed over the next one, nothing is written."""
        self.due_ns = NEVER_NS
        self._settle(WriteOutcome(BAD_TIMEOUT, f"the link to {self._name} broke"))
        if self.state is not Watch.TRIPPED:
            self.state = Watch.OFF

    async def arm(self) -> None:
        """Arm it over a new connection, before anything is written; DeviceError if the link breaks."""
        if self.state is Watch.TRIPPED:
            return
        status = await self._status()
        reason = self._tripped(status)
        if reason:
            self._trip(reason)
            if self._by_hand:
                return
        await self._start(status)

    async def serve(self) -> None:
        """Trigger it if that is due, and hear what it says; DeviceError if the link breaks."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self.due_ns:
            return
        if self._asks:
            await self._start(await self._status())
            self._settle(self.refusal() or WriteOutcome(GOOD))
        elif self.state is Watch.ARMED:
            await self._watch()
        elif self.state is Watch.TRIPPED:
            self.due_ns = NEVER_NS
        else:
            await self.arm()

    async def _watch(self) -> None:
        """See whether it still runs, and trigger it: in this order, since a trigger may clear a trip."""
        status = await self._status()
        reason = self._tripped(status)
        if reason:
            self._trip(reason)
            if not self._by_hand:
                await self._start(status)
            return
        if isinstance(status, Fault) and status.kind in _PASSING:
            self.due_ns = self._clock.monotonic_ns() + self._feed_ns  # it counts as not triggered
            return
        wanted = None if self._profile.status is None else self._profile.status.running
        if isinstance(status, Fault) or (wanted is not None and status != wanted):
            self._fail(status.reason if isinstance(status, Fault) else "somebody has stopped it")
            return
        try:
            await self._feed()
        except DeviceRefusedError as exc:
            self._fail(str(exc))
        except DeviceTimeoutError as exc:
            if not exc.again:
                raise
            self.due_ns = self._clock.monotonic_ns() + self._feed_ns

    def _tripped(self, status: int | Fault | None) -> str:
        """Return why it must have tripped: it says so, or was not triggered for too long; else ""."""
        if status is not None and status == self._tripped_value:
            return "it says so"
        if not self._fed_ns or self._silence_ns <= self._fitted.timeout_ms * 1_000_000:
            return ""
        return f"it was not triggered for {self._silence_ns // 1_000_000} ms of {self._fitted.timeout_ms}"

    @property
    def _silence_ns(self) -> int:
        """Time since the last trigger, also while this machine was suspended: the device was not."""
        return self._clock.boottime_ns() - self._fed_ns

    @property
    def _tripped_value(self) -> int | None:
        return None if self._profile.status is None else self._profile.status.tripped

    async def _start(self, status: int | Fault | None) -> None:
        """Set its time and start it, and read back that it runs."""
        try:
            reason = await self._started(status)
        except DeviceRefusedError as exc:
            reason = str(exc)
        except DeviceTimeoutError as exc:
            if not exc.again:  # else only this unit is silent
                raise
            reason = str(exc)
        if reason:
            self._fail(reason)
            return
        self.state = Watch.ARMED
        self.notice = ""
        _log.info("watchdog.armed", device=self._name, timeout_ms=self._fitted.timeout_ms)

    async def _started(self, status: int | Fault | None) -> str:
        """Do it; return why it does not run, or an empty text."""
        profile, fitted = self._profile, self._fitted
        if isinstance(status, Fault):
            return status.reason
        if profile.time is None:
            await self._write_all(profile.restart if self.state is Watch.TRIPPED else ())
        elif not await self._runs_as_wanted(status):
            await self._write_all(profile.stop if status else ())
            await self._write(profile.time.address, fitted.digits)
            await self._write_all(profile.arm)
        await self._feed()
        if profile.time is not None:
            held = await self._read(profile.time.address)
            if held != fitted.digits:
                shown = held.reason if isinstance(held, Fault) else f"{held} was read back"
                return f"its time was set to {fitted.digits}, {shown}"
        wanted = None if profile.status is None else profile.status.running
        after = await self._status()
        if isinstance(after, Fault):
            return after.reason
        if (wanted is not None and after != wanted) or (after is not None and after == self._tripped_value):
            return f"its status is {after} after it was started"
        return ""

    async def _runs_as_wanted(self, status: int | Fault | None) -> bool:
        """Return whether it runs already, with the time it shall have."""
        profile = self._profile
        if profile.time is None or profile.status is None or status != profile.status.running:
            return False
        return await self._read(profile.time.address) == self._fitted.digits

    async def _feed(self) -> None:
        """Trigger it; what counts is when we began, since the device did not hear us sooner."""
        trigger, begun_ns = self._profile.trigger, self._clock.boottime_ns()
        if trigger is not None:
            values = trigger.values or (self._fitted.digits,)
            if len(values) > 1 and self._last_value < 0:  # another one than stands there already
                held = await self._read(trigger.address)
                self._last_value = held if isinstance(held, int) else 0
            value = next((each for each in values if each != self._last_value), values[0])
            await self._write(trigger.address, value)
            self._last_value = value
        self._fed_ns = begun_ns
        self.due_ns = self._clock.monotonic_ns() + self._feed_ns

    def _trip(self, reason: str) -> None:
        self.state = Watch.TRIPPED
        self.due_ns = NEVER_NS
        self._fed_ns = 0
        self._last_value = -1
        self.notice = f"D393 the watchdog of {self._name} has tripped ({reason}): {self._profile.safe}"
        _log.warning("watchdog.tripped", device=self._name, code="D393", reason=reason)

    def _fail(self, reason: str) -> None:
        """Give it up for a while; nothing is written to the device until it runs."""
        if self.state is not Watch.FAILED:
            _log.warning("watchdog.not_armed", device=self._name, code="D394", reason=reason)
        self.state = Watch.FAILED
        self.notice = f"D394 the watchdog of {self._name} is not armed, nothing is written: {reason}"
        self._fed_ns = 0
        self._last_value = -1
        self.due_ns = self._clock.monotonic_ns() + _AGAIN_NS

    def _settle(self, outcome: WriteOutcome) -> None:
        asks, self._asks = self._asks, []
        for ask in asks:
            ask.settle(outcome)

    async def _write_all(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._write(step.address, step.value)

    async def _write(self, address: str, value: int) -> None:
        place = self._fitted.places[address]
        raw = bool(value) if place.scalar is Scalar.BOOLEAN else value
        await self._wire.write(place, place.codec.encode(raw))

    async def _status(self) -> int | Fault | None:
        status = self._profile.status
        return None if status is None else await self._read(status.address)

    async def _read(self, address: str) -> int | Fault:
        place = self._fitted.places[address]
        held = await read_place(self._wire, place)
        if isinstance(held, Fault):
            return held
        value = place.codec.decode(held)
        assert isinstance(value, int)  # a register or a coil, as the profile was checked for
        return int(value)


def watchdog_of(cfg: DeviceConfig, driver: type[Driver], wire: Wire, clock: Clock) -> Watchdog | None:
    """Return the watchdog of a device, or None if it has none; ConfigError as :func:`fitted`."""
    found = fitted(cfg, driver)
    if found is None or cfg.watchdog is None:
        return None
    by_hand = cfg.watchdog.restart == "acknowledge"
    return Watchdog(cfg.name, wire, found, clock, by_hand=by_hand)


async def read_place(wire: Wire, place: Place) -> bytes | Fault:
    """Read one place by itself and return its bytes, or the device's refusal; DeviceError as the wire."""
    plan = plan_reads([place], wire.shape)
    image = bytearray(plan.image_bytes)
    for request in plan.requests:
        (answers,) = await wire.read((request,))
        for fragment, answer in zip(request.fragments, answers, strict=True):
            if isinstance(answer, Fault):
                return answer
            part = content(answer)
            image[fragment.image_at : fragment.image_at + len(part)] = part
    return bytes(image)
