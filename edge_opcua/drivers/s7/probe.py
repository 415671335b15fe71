"""What is found out about an unknown S7 PLC over one connection at a time, without ever writing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import Scalar
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.probing import Candidate, Finding, Target, failed, options_of
from edge_opcua.drivers.reasons import GARBLED, parts_of
from edge_opcua.drivers.s7 import reasons
from edge_opcua.drivers.s7.address import S7Address, parse
from edge_opcua.drivers.s7.settings import TSAPS, Endpoint, S7Options, parse_url
from edge_opcua.drivers.s7.sysinfo import Identity, State, identity
from edge_opcua.drivers.s7.transport import TransportRefusedError
from edge_opcua.drivers.s7.wire import S7Wire
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import DeviceError, DeviceTimeoutError

# Rack and slot: S7-1200/1500, S7-300, S7-1500 too; then devices that know only selectors.
_PLACES: Final = ((0, 1), (0, 2), (0, 0))
_OTHER_TSAPS: Final = (TSAPS["logo"], (0x1000, 0x2000), (0x0100, 0x0300), TSAPS["s7-200"])
_DEVICE_OF: Final = {tsap: device for device, tsap in TSAPS.items()}
# What an address without a type may be, by its bytes.
_TYPES: Final = {1: ("USINT", "SINT"), 2: ("INT", "UINT"), 4: ("REAL", "DINT", "UDINT")}
_WIDTH: Final = {"B": 1, "W": 2, "D": 4}
_UNTYPED: Final = re.compile(r"%?(?:DB\d+\.DB|[IEQAMV])(?P<width>[BWD])\d+", re.IGNORECASE)
_MARKER: Final = Fragment(("M", 0), 0, 1)


async def probe(target: Target, clock: Clock | None = None) -> AsyncIterator[Finding]:
    """Connect, look, close; see :data:`edge_opcua.drivers.probing.Prober`.

    Args:
        target: The PLC, and what to read from it.
        clock: Clock for how long an answer took.

    Raises:
        AddressError: An address to be read does not follow the grammar; nothing was connected.
        ConfigError: The URL or an option is unusable; nothing was connected.
    """
    look = _Look(target, clock or SystemClock())
    try:
        async for finding in look.steps():
            yield finding
    finally:
        await look.close()


class _Look:
    """One look at one PLC.

    Args:
        target: The PLC.
        clock: Clock.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._asked = parse_url(target.url)
        self._wanted = [(text, _places(text)) for text in target.reads]
        self._options = options_of(S7Options, target)
        self._wire: S7Wire | None = None
        self._requests = 0

    async def close(self) -> None:
        """Drop the connection."""
        if self._wire is not None:
            await self._wire.close()

    async def steps(self) -> AsyncIterator[Finding]:
        """Yield each finding as soon as it is known."""
        started_ns = self._clock.monotonic_ns()
        try:
            wire, there, tried = await self._connect()
        except DeviceError as exc:
            reached = self._wire is not None and self._wire.transport.reached
            if reached:
                yield self._found("connect", f"tcp {self._asked.port} open")
            told = str(exc)
            if reached and isinstance(exc, DeviceTimeoutError):  # neither power nor cable
                told = f"{GARBLED.code} {parts_of(told)[1]}: {GARBLED.step}"
            yield self._failed("protocol" if reached else "connect", told)
            return
        took_ms = (self._clock.monotonic_ns() - started_ns) / 1e6
        yield self._found("connect", f"tcp {there.port} open")
        yield self._protocol(wire, there, tried, took_ms)
        try:
            yield await self._identify(wire)
            yield await self._permission(wire)
            for text, places in self._wanted:
                yield await self._read(wire, text, places)
        except DeviceError as exc:
            yield self._failed("read", str(exc))

    async def _connect(self) -> tuple[S7Wire, Endpoint, int]:
        """Return the first connection that is taken, where to, and how many were refused before."""
        first: DeviceError | None = None
        for tried, there in enumerate(_candidates(self._asked, explicit=_names_place(self._target.url))):
            wire = self._wire = S7Wire("probe", there, self._options, self._target.timeout_s)
            try:
                await wire.open()
            except DeviceError as exc:
                self._requests += wire.traffic.requests
                first = first or exc
                if not _may_be_elsewhere(exc):
                    break
                continue
            return wire, there, tried
        assert first is not None, "there is at least one candidate"
        raise first

    def _protocol(self, wire: S7Wire, there: Endpoint, tried: int, took_ms: float) -> Finding:
        text = f"S7 answers in {took_ms:.0f} ms at {_place_text(there)}, PDU {wire.shape.pdu}"
        facts = {"rtt_ms": took_ms, "url": _url(there), "pdu": wire.shape.pdu, "parallel": wire.depth}
        if not tried:
            return self._found("protocol", text, facts)
        named = _names_place(self._target.url)
        if not named:
            return self._found("protocol", f"{text}: {_url(there)}", facts)
        step = f"write {_url(there)}"
        return Finding("protocol", f"not where the URL says: {text}", "D320", step, self._facts(facts))

    async def _identify(self, wire: S7Wire) -> Finding:
        try:
            who = await identity(wire.transport)
        except DeviceError:
            await wire.open()  # it does not know the question, and would not answer the next either
            who = Identity()
        facts = {
            "vendor": "Siemens",
            "model": who.type or who.module,
            "serial": who.serial,
            "order": who.order,
            "firmware": who.firmware,
            "name": who.station,
            "state": wire.state.value,
        }
        plate = " ".join(part for part in (facts["model"], who.order, who.firmware, who.station) if part)
        if wire.state is State.STOP:
            text = f"{plate or 'the CPU'} {reasons.STOPPED.sentence}"
            return Finding("identity", text, reasons.STOPPED.code, reasons.STOPPED.step, self._facts(facts))
        if not plate:
            return self._found("identity", "does not say who it is", {})
        return self._found("identity", f"{plate}, {wire.state.value or 'mode unknown'}", facts)

    async def _permission(self, wire: S7Wire) -> Finding:
        """Say whether the CPU lets itself be read at all: a marker needs no data block."""
        answer = await self._bytes(wire, _MARKER)
        if not isinstance(answer, Fault):
            return self._found("browse", "PUT/GET is permitted: MB0 was read", {"put_get": True})
        if reasons.DENIED.reason.sentence in answer.reason:
            return self._failed("browse", answer.reason)
        return self._found("browse", "no markers (MB0): whether PUT/GET is permitted is not known")

    async def _read(self, wire: S7Wire, text: str, places: Sequence[S7Address]) -> Finding:
        first = places[0]
        answer = await self._bytes(wire, Fragment(first.space, first.start, first.size))
        if isinstance(answer, Fault):
            return self._failed("read", answer.reason)
        values = {str(place.type): _shown(place, answer) for place in places}
        candidates = (Candidate(first.canonical, "", values),)
        shown = f"{text.strip()}   {answer[:16].hex(' ').upper()}{' ...' if len(answer) > 16 else ''}"
        return replace(self._found("read", shown), candidates=candidates)

    @staticmethod
    async def _bytes(wire: S7Wire, fragment: Fragment) -> bytes | Fault:
        ((answer,),) = await wire.read((Request((fragment,)),))
        assert isinstance(answer, bytes | Fault), "S7 stamps nothing"
        return answer

    def _facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        sent = self._wire.traffic.requests if self._wire is not None else 0
        return {**facts, "requests": self._requests + sent}

    def _found(self, step: str, text: str, facts: Mapping[str, Any] | None = None) -> Finding:
        return Finding(step, text, facts=self._facts(facts or {}))

    def _failed(self, step: str, told: str) -> Finding:
        return failed(step, told, self._facts({}))


def _names_place(url: str) -> bool:
    return bool(urlsplit(url).query)


def _candidates(asked: Endpoint, *, explicit: bool) -> list[Endpoint]:
    """Return where a CPU may be, what was asked for first."""
    host, port = asked.host, asked.port
    usual = [Endpoint(host, port, rack, slot) for rack, slot in _PLACES]
    others = [Endpoint(host, port, 0, 1, tsap) for tsap in _OTHER_TSAPS]
    first = [asked] if explicit else []
    return list(dict.fromkeys([*first, *usual, *others]))


def _may_be_elsewhere(exc: DeviceError) -> bool:
    """Whether the host may take a connection to another slot: it refused this one, or hung up."""
    return isinstance(exc, TransportRefusedError) or parts_of(str(exc))[0] == "D313"


def _place_text(there: Endpoint) -> str:
    if there.tsap is None:
        return f"rack {there.rack} slot {there.slot}"
    return f"TSAP {there.local_tsap:#06x},{there.remote_tsap:#06x}"


def _url(there: Endpoint) -> str:
    host = f"[{there.host}]" if ":" in there.host else there.host
    port = "" if there.port == 102 else f":{there.port}"
    if there.tsap is None:
        return f"s7://{host}{port}?rack={there.rack}&slot={there.slot}"
    device = _DEVICE_OF.get(there.tsap)
    query = f"device={device}" if device else f"tsap={there.local_tsap:#06x},{there.remote_tsap:#06x}"
    return f"s7://{host}{port}?{query}"


def _places(text: str) -> list[S7Address]:
    """Return an address, or what one without a type may be; AddressError if it is none."""
    match = _UNTYPED.fullmatch(text.strip().replace(" ", ""))
    if match is None:
        return [parse(text)]
    return [parse(f"{text.strip()}:{kind}") for kind in _TYPES[_WIDTH[match["width"].upper()]]]


def _shown(place: S7Address, wire: bytes) -> Any:
    value: Any = place.codec.decode(wire)
    if place.scalar is not Scalar.DATETIME or value is None:
        return value
    return [to_text(each) for each in value] if isinstance(value, list) else to_text(value)
