"""One physical line, shared by its devices: who is asked when, and what a silent or lying peer costs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from edge_opcua.drivers.modbus.channel import Channel, open_serial, open_tcp
from edge_opcua.drivers.modbus.endpoint import LineSettings
from edge_opcua.drivers.modbus.framing import Framing, MbapFraming, RtuFraming
from edge_opcua.drivers.modbus.health import Health
from edge_opcua.drivers.modbus.pdu import Answer, Ask
from edge_opcua.drivers.modbus.reasons import DEAD
from edge_opcua.drivers.modbus.turns import Turns
from edge_opcua.drivers.reasons import GARBLED, SILENT, Reason, of_serial
from edge_opcua.drivers.wire import Traffic
from edge_opcua.errors import DeviceError, DeviceTimeoutError

_MBAP_BYTES: Final = 8  # header and function code
_RTU_BYTES: Final = 4  # unit, function code, checksum
_NOISE: Final = 3  # garbled answers in a row after which a serial port is opened anew
_NOISE_GAPS: Final = 5
_SETTLE_S: Final = 0.02  # for what a gateway still has for the connection before


@dataclass(eq=False, slots=True)
class Member:
    """A device on a line.

    Args:
        units: Units it asks.
        depth: Requests that it wants to have on the way at once.
        delay_s: Pause it wants between an answer and the next request.
        timeout_s: Time after which none of its units answers any more.
        traffic: Its counters.
    """

    units: frozenset[int]
    depth: int = 1
    delay_s: float = 0.0
    timeout_s: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(eq=False, slots=True)
class _Exchange:
    """One request on its way."""

    member: Member
    ask: Ask
    timeout_s: float
    future: asyncio.Future[Answer]
    sync: Ask | None = None
    key: int = 0
    sent_s: float = 0.0
    timer: asyncio.TimerHandle | None = None

    @property
    def sent(self) -> Ask:
        """What was sent for it: itself, or first what tells its answer from late ones."""
        return self.sync or self.ask


class Line:
    """One connection or port; opened by the first member that joins, closed behind the last that leaves.

    Args:
        settings: Where it is and how it works.
    """

    def __init__(self, settings: LineSettings) -> None:
        self.settings = settings
        self.connections = 0
        noisy = settings.serial is not None
        self._framing: Framing = (
            RtuFraming(echo=settings.echo, noisy=noisy) if settings.rtu else MbapFraming()
        )
        self._overhead = _RTU_BYTES if settings.rtu else _MBAP_BYTES
        self._serial = settings.serial
        self._gap_s = settings.serial.gap_s if settings.serial else 0.0
        self._channel: Channel | None = None
        self._connecting = asyncio.Lock()
        self._broken = ""
        self._members: dict[Member, None] = {}
        self._units: frozenset[int] = frozenset()
        self._depth = 1
        self._pause_s = self._gap_s
        self._health = Health()
        self._turns: Turns[_Exchange] = Turns()
        self._flying: dict[int, _Exchange] = {}
        self._asks: dict[int, Ask] = {}
        self._quiet_until_s = 0.0
        self._resting: dict[int, float] = {}
        self._fresh = True
        self._noise = 0
        self._babbling_since_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._lost_write = False  # one was not answered over this connection

    @property
    def connected(self) -> bool:
        """Whether requests can be sent."""
        return self._channel is not None

    @property
    def lives(self) -> bool:
        """Whether a unit's silence says nothing about the others: some answer, or were not asked yet."""
        return self._channel is not None and not self._health.hopeless(self._units)

    @property
    def late(self) -> int:
        """Answers that came when nobody waited for them any more."""
        return self._framing.strays.late

    async def join(self, member: Member, timeout_s: float) -> None:
        """Open the line if it is not, and stay on it until :meth:`leave`.

        Raises:
            DeviceTimeoutError: It could not be opened in time.
            DeviceError: It could not be opened.
        """
        joined = False
        try:
            async with asyncio.timeout(timeout_s), self._connecting:
                if self._channel is None:
                    await self._connect()
                self._members[member] = None
                self._agree()
            joined = True
        except TimeoutError as exc:
            late = replace(SILENT, sentence=f"accepts no connection in {timeout_s:g} s")
            raise DeviceTimeoutError(late.of(self.settings.name)) from exc
        finally:
            if not joined:
                self.leave(member)

    async def _connect(self) -> None:
        settings = self.settings
        self._broken = ""
        self._framing.reset()
        self._fresh = True
        if self._serial is None:
            channel = await open_tcp(settings, self)
        else:
            channel = await open_serial(settings.host, self._serial, settings.rs485, self)
        if self._broken:  # it spoke unasked, or went away, before it was ours
            channel.close()
            raise DeviceError(self._broken)
        self._channel = channel
        self._lost_write = False
        self._health = Health()
        self._noise = 0
        self._babbling_since_s = 0.0
        self.connections += 1
        if settings.rtu:
            self._quiet_until_s = asyncio.get_running_loop().time() + max(_SETTLE_S, self._pause_s)

    def leave(self, member: Member) -> None:
        """Give the line back; what the member still waits for is its own to cancel."""
        self._members.pop(member, None)
        self._agree()
        if not self._members:
            self._break("")

    def _agree(self) -> None:
        """Follow the most careful of the devices."""
        if not self.settings.rtu:
            self._depth = min((member.depth for member in self._members), default=1)
        self._units = frozenset().union(*(member.units for member in self._members))
        delay_s = max((member.delay_s for member in self._members), default=0.0)
        self._pause_s = max(self._gap_s, delay_s)

    def submit(self, member: Member, ask: Ask, timeout_s: float) -> asyncio.Future[Answer]:
        """Let a request wait for its turn; writes go before reads.

        Args:
            member: Who asks.
            ask: What.
            timeout_s: Longest wait for the answer after it was sent, seconds; on a serial line the time
                that the bytes themselves take comes on top.

        Returns:
            The answer; or DeviceTimeoutError if this one was not answered, DeviceError if the line broke.

        Raises:
            DeviceError: The line is not open, or far too much waits for it.
        """
        if self._channel is None:
            raise DeviceError(self._broken or f"{self.settings.name} is not connected")
        if self._turns.full:
            raise DeviceError(f"{len(self._turns)} requests wait for {self.settings.name}")
        exchange = _Exchange(member, ask, timeout_s, asyncio.get_running_loop().create_future())
        self._turns.put((member, ask.unit), exchange, urgent=ask.write)
        self._pump()
        return exchange.future

    def received(self, chunk: bytes) -> None:
        """Take bytes that came."""
        now_s = asyncio.get_running_loop().time()
        if self._pause_s:
            self._quiet_until_s = now_s + self._pause_s
        try:
            answers = self._framing.feed(chunk, self._asks)
        except DeviceError as exc:
            self._garbled(str(exc))
            return
        for key, answer in answers:
            exchange = self._land(key)
            self._health.answered(exchange.ask.unit, now_s)
            size = 1 if isinstance(answer, int) else len(exchange.sent.head) + len(answer)
            exchange.member.traffic.size_bytes += self._overhead + size
            if exchange.future.done():  # nobody may want it any more
                continue
            if exchange.sync is None:
                exchange.future.set_result(answer)
            else:
                exchange.member.traffic.requests += 1
                self._turns.put_first((exchange.member, exchange.ask.unit), exchange)
        if answers:
            self._noise = 0
            self._pump()
        if self._flying and self._depth > 1 and self._channel is not None:
            self._channel.hurry()

    def lost(self, reason: Reason) -> None:
        """Learn that nothing will come any more."""
        self._break(reason.of(self.settings.name))

    def _pump(self) -> None:
        """Send what may be sent now; set the alarm for what may be sent later."""
        loop = asyncio.get_running_loop()
        while len(self._turns) and len(self._flying) < self._depth and self._channel is not None:
            now_s = loop.time()
            if now_s < self._quiet_until_s:
                self._wake_at(self._quiet_until_s)
                return
            exchange = self._turns.take(lambda waiting, now_s=now_s: self._may(waiting, now_s))  # type: ignore[misc]
            if exchange is None:
                self._wake_at(min(until_s for until_s in self._resting.values() if until_s > now_s))
                return
            if not exchange.future.done():
                self._send(exchange, now_s)

    def _may(self, exchange: _Exchange, now_s: float) -> bool:
        """Return whether a unit may be asked: on RTU not while its late answer could pass for a new one."""
        until_s = self._resting.get(exchange.ask.unit)
        if until_s is None or exchange.future.done():
            return True
        if until_s > now_s:
            return False
        del self._resting[exchange.ask.unit]
        return True

    def _wake_at(self, when_s: float) -> None:
        if self._alarm is not None:
            if self._alarm.when() <= when_s:
                return
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(when_s, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._pump()

    def _send(self, exchange: _Exchange, now_s: float) -> None:
        assert self._channel is not None
        exchange.sync = self._framing.sync(exchange.ask.unit)
        key, frame = self._framing.frame(exchange.sent)
        exchange.key, exchange.sent_s = key, now_s
        self._flying[key] = exchange
        self._asks[key] = exchange.sent
        self._fresh = False
        self._babbling_since_s = 0.0
        until_s = now_s + exchange.timeout_s + self._on_the_wire_s(exchange.sent, len(frame))
        exchange.timer = asyncio.get_running_loop().call_at(until_s, self._expire, exchange)
        exchange.member.traffic.size_bytes += len(frame)
        try:
            self._channel.send(frame)
            if len(self._flying) > 1:
                self._channel.hurry()
        except OSError as exc:
            self._break(of_serial(exc).of(self.settings.name))

    def _on_the_wire_s(self, ask: Ask, sent_bytes: int) -> float:
        if self._serial is None:
            return 0.0
        answer_bytes = 256 if ask.size < 0 else ask.size + _RTU_BYTES
        return (sent_bytes + answer_bytes) * self._serial.char_s

    def _land(self, key: int) -> _Exchange:
        exchange = self._flying.pop(key)
        del self._asks[key]
        if exchange.timer is not None:
            exchange.timer.cancel()
        exchange.member.traffic.on_line_s += asyncio.get_running_loop().time() - exchange.sent_s
        return exchange

    def _expire(self, exchange: _Exchange) -> None:
        """Give one request up; the connection only if nobody answers on it any more."""
        loop = asyncio.get_running_loop()
        unit, now_s = exchange.ask.unit, loop.time()
        last_s = self._health.last_answer_s(unit)
        until_s = self._patience_s(exchange, last_s)
        if until_s > now_s:
            exchange.timer = loop.call_at(until_s, self._expire, exchange)
            return
        self._land(exchange.key)
        self._lost_write |= exchange.ask.write
        self._framing.expired(exchange.key, exchange.sent)
        self._quiet_until_s = now_s + self._pause_s
        self._rest(exchange, now_s)
        name = self.settings.name
        silent = last_s <= exchange.sent_s  # else it is one request that was lost, not a unit
        dead = silent and self._health.fell_silent(unit, self._units)
        if not exchange.future.done():
            late = replace(SILENT, sentence=f"unit {unit} did not answer in {exchange.timeout_s:g} s")
            # A late answer is recognised, or waited for (RTU): asking again over this connection is safe.
            exchange.future.set_exception(DeviceTimeoutError(late.of(name), again=not dead))
        if dead:
            self._break(DEAD.of(name))
        else:
            self._pump()

    def _rest(self, exchange: _Exchange, now_s: float) -> None:
        """Leave a unit alone until its answer cannot come any more; only RTU would take it for another."""
        if self.settings.rtu:
            until_s = now_s + max(exchange.timeout_s, exchange.member.timeout_s)
            self._resting[exchange.ask.unit] = until_s

    def _patience_s(self, exchange: _Exchange, last_s: float) -> float:
        """Return how long to wait for one of several: a unit may answer them one after the other."""
        if self._depth == 1 or last_s <= exchange.sent_s:
            return 0.0
        return min(last_s + exchange.timeout_s, exchange.sent_s + self._depth * exchange.timeout_s)

    def _garbled(self, told: str) -> None:
        """Believe nothing of what came: that costs the connection, on a serial line only the request."""
        reason = told if told.startswith("D3") else GARBLED.of(f"{self.settings.name} ({told})")
        if self._keeps_us_from_asking():
            self._break(reason)
            return
        if self._fresh and self.settings.rtu:  # an answer that the connection before was not there to take
            self._framing.reset()
            return
        if self._serial is None:
            self._break(reason)
            return
        self._quiet_until_s = asyncio.get_running_loop().time() + _NOISE_GAPS * self._pause_s
        if not self._flying:  # noise between frames; it is flushed before the next request
            return
        self._noise += 1
        if self._noise >= _NOISE:
            self._break(reason)
            return
        for key in tuple(self._flying):
            exchange = self._land(key)
            self._framing.expired(key, exchange.sent)
            if not exchange.future.done():
                exchange.future.set_exception(DeviceError(reason))
        self._pump()

    def _keeps_us_from_asking(self) -> bool:
        """Return whether noise leaves no gap to ask in, for longer than an answer may take."""
        now_s = asyncio.get_running_loop().time()
        if self._flying or not len(self._turns):
            self._babbling_since_s = 0.0
            return False
        self._babbling_since_s = self._babbling_since_s or now_s
        return now_s - self._babbling_since_s > max((each.timeout_s for each in self._members), default=0.0)

    def _break(self, reason: str) -> None:
        """End the connection: who waits is told now, and nothing more is believed of it."""
        self._broken = self._broken or reason
        if self._channel is not None:
            writes = any(exchange.ask.write for exchange in self._flying.values())
            self._channel.close(forget=self._lost_write or writes)
            self._channel = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        waiting = [self._land(key) for key in tuple(self._flying)]
        for exchange in waiting:
            self._framing.expired(exchange.key, exchange.sent)
            self._rest(exchange, asyncio.get_running_loop().time())
        waiting += self._turns.clear()
        for exchange in waiting:
            if not exchange.future.done():
                exchange.future.set_exception(DeviceError(reason or "the line was closed"))
