"""What is found out about an unknown Modbus device over one connection, without ever writing."""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.drivers.modbus.address import BITS, ModbusAddress, parse
from edge_opcua.drivers.modbus.endpoint import Endpoint, parse_url
from edge_opcua.drivers.modbus.line import Line, Member
from edge_opcua.drivers.modbus.pdu import Answer, Ask, ask_identity, ask_read, identity_objects
from edge_opcua.drivers.modbus.plausible import readings, registers_of, text_of
from edge_opcua.drivers.modbus.reasons import refusal
from edge_opcua.drivers.modbus.settings import ModbusOptions
from edge_opcua.drivers.probing import Candidate, Finding, Target, failed, options_of
from edge_opcua.errors import AddressError, ConfigError, DeviceError, DeviceTimeoutError

_UNTYPED: Final = re.compile(
    r"(?P<head>(?:\d{1,3}/)?(?:[A-Za-z]+:\d{1,6}|[0134]\d{4,5}))(?:x(?P<times>\d{1,4}))?"
)
_MOST: Final = 125
_ELSEWHERE: Final = (1, 255, 0)  # units at which a single Modbus TCP device is usually found
_SCAN_S: Final = 0.3
# Devices on libmodbus take what follows a question to another unit within half a second for its answer.
_SERIAL_SCAN_S: Final = 0.6
_MOST_OBJECTS: Final = 8
_NOBODY: Final = (10, 11)  # exceptions of a gateway: it has asked in vain
_LINE_HELP: Final = (
    "look for its unit with --units 1-32; compare baud and parity; swap A and B; look at its power"
)
_WORD: Final = {"tcp": "tcp", "tls": "tls", "rtutcp": "tcp", "rtu": "port"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One address to be read.

    Args:
        place: Where; as registers or bits if no type was given.
        typed: Whether a type was given.
    """

    place: ModbusAddress
    typed: bool


async def probe(target: Target, clock: Clock | None = None) -> AsyncIterator[Finding]:
    """Connect once, look, close; see :data:`edge_opcua.drivers.probing.Prober`.

    Args:
        target: The device, what to read from it, and the units to look for.
        clock: Clock for how long an answer took.

    Raises:
        AddressError: An address to be read does not follow the grammar; nothing was connected.
        ConfigError: The URL or an option is unusable; nothing was connected.
    """
    endpoint = parse_url(target.url)
    options = _options(target, endpoint)
    wanted = [_wanted(text, endpoint, options) for text in target.reads]
    units = {endpoint.unit, *target.units, *(one.place.unit or 0 for one in wanted), *_ELSEWHERE}
    line, member = Line(options.line(endpoint)), Member(frozenset(units))
    look = _Look(line, member, target, clock or SystemClock(), rtu=endpoint.rtu)
    try:
        async for finding in _steps(look, endpoint, wanted):
            yield finding
    finally:
        look.line.leave(look.member)


def _options(target: Target, endpoint: Endpoint) -> ModbusOptions:
    options = options_of(ModbusOptions, target)
    wrong = options.wrong_with(endpoint)
    if wrong:
        raise ConfigError(f"{target.url}: options: {wrong}")
    return options


async def _steps(look: _Look, endpoint: Endpoint, wanted: Sequence[_Wanted]) -> AsyncIterator[Finding]:
    try:
        await look.line.join(look.member, look.target.timeout_s)
    except DeviceError as exc:
        yield look.failed("connect", str(exc))
        return
    name = endpoint.host if endpoint.way == "rtu" else str(endpoint.port)
    yield Finding("connect", f"{_WORD[endpoint.way]} {name} open")
    finding, unit = await _prove(look, endpoint, wanted)
    yield finding
    if finding.code:
        return
    identity = await _identify(look, unit)
    if identity is not None:
        yield identity
    if look.target.units:
        yield await _scan(look, unit)
    for one in wanted:
        yield await _read(look, one)


async def _prove(look: _Look, endpoint: Endpoint, wanted: Sequence[_Wanted]) -> tuple[Finding, int]:
    """Ask for one register; whatever a Modbus device answers, also a refusal, proves that it is one."""
    first = wanted[0].place if wanted else None
    area, start = (first.area, first.start) if first is not None else ("hr", 0)
    asked = (first.unit or 0) if first is not None else endpoint.unit
    failure: Finding | None = None
    for unit in dict.fromkeys((asked, *(look.target.units or (() if endpoint.rtu else _ELSEWHERE)))):
        started_ns = look.clock.monotonic_ns()
        try:
            answer = await look.ask(ask_read(unit, area, start, 1), look.patience_s(hurry=unit != asked))
        except DeviceTimeoutError as exc:
            failure = failure or look.failed("protocol", str(exc))
            look.silent.add(unit)
            continue
        except DeviceError as exc:
            return look.failed("protocol", str(exc)), asked
        if isinstance(answer, int) and answer in _NOBODY:
            failure = failure or look.failed("protocol", refusal(answer).text(f"unit {unit}", answer))
            look.silent.add(unit)
            if not look.target.units:
                break
            continue
        took_ms = (look.clock.monotonic_ns() - started_ns) / 1e6
        return _proved(look, asked, unit, took_ms), unit
    assert failure is not None, "at least one unit was asked"
    return (replace(failure, help=_LINE_HELP) if endpoint.rtu and failure.code == "D310" else failure), asked


def _proved(look: _Look, asked: int, unit: int, took_ms: float) -> Finding:
    text, facts = f"Modbus answers in {took_ms:.0f} ms", {"rtt_ms": took_ms}
    if unit == asked:
        return look.found("protocol", text, facts)
    if unit in look.target.units:
        return look.found("protocol", text, {**facts, "url": _at_unit(look.target.url, unit)})
    text = f"unit {asked} is silent, unit {unit} answers"
    return Finding("protocol", text, "D357", f"write unit {unit} behind the host: /{unit}", look.facts)


def _at_unit(url: str, unit: int) -> str:
    """Return the URL of another unit at the same place."""
    way, mark, rest = url.partition("://")
    if way.lower() != "modbus+rtu":
        return f"{way}{mark}{rest.partition('/')[0]}/{unit}"
    path, _, query = rest.partition("?")
    kept = [part for part in query.split("&") if part and not part.startswith("unit=")]
    return f"{way}{mark}{path}?{'&'.join([*kept, f'unit={unit}'])}"


async def _identify(look: _Look, unit: int) -> Finding | None:
    """Ask who it is (43/14); many devices do not know the question, and some are silent then."""
    objects: dict[int, str] = {}
    following = 0
    try:
        for _ in range(_MOST_OBJECTS):
            answer = await look.ask(ask_identity(unit, following))
            if isinstance(answer, int):
                break
            more, following = identity_objects(answer)
            objects |= more
            if not following:
                break
    except DeviceTimeoutError:
        # libmodbus thinks half a second about a function it does not know, and then drops what else has come.
        await look.clock.sleep(look.target.timeout_s)
    except DeviceError:
        objects.clear()
    if not look.line.connected:
        await look.again()
    if not objects:
        return None
    named = {
        word: objects[number]
        for number, word in enumerate(("vendor", "model", "revision"))
        if number in objects
    }
    return look.found("identity", " ".join(named.values()), named)


async def _scan(look: _Look, unit: int) -> Finding:
    """Ask each unit for one register, with a short deadline: the line was seen to be quick."""
    there = []
    for other in look.target.units:
        if other in look.silent:
            continue
        try:
            answer = await look.ask(ask_read(other, "hr", 0, 1), look.patience_s(hurry=True))
        except DeviceTimeoutError:
            if not look.line.connected:
                await look.again()
            continue
        except DeviceError as exc:
            return look.failed("units", str(exc))
        if answer not in _NOBODY:
            there.append(other)
    silent = [other for other in look.target.units if other not in there]
    text = f"units {_ranges(there) or 'none'}" + (f" ({_ranges(silent)} silent)" if silent else "")
    return look.found("units", text, {"units": there or [unit]})


def _ranges(numbers: Sequence[int]) -> str:
    """Return ``1, 3..8`` for what it means."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] + 1 == number:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("..".join(str(end) for end in part) for part in parts)


async def _read(look: _Look, one: _Wanted) -> Finding:
    place = one.place
    unit, what = place.unit or 0, f"{place.area}:{place.start}"
    try:
        answer = await look.ask(ask_read(unit, place.area, place.start, place.size))
    except DeviceError as exc:
        if not look.line.connected:
            await look.again()
        return look.failed("read", str(exc))
    if isinstance(answer, int):
        return look.failed("read", refusal(answer).text(f"unit {unit} {what}", answer))
    if place.area in BITS:
        bits = np.unpackbits(np.frombuffer(answer, np.uint8), count=place.size, bitorder="little")
        answer = bits.tobytes()
        shown = "".join(str(bit) for bit in bits.tolist())
    else:
        shown = answer.hex(" ", 2).upper()
    found = look.found("read", f"{what} = {place.modicon}   {shown}", {})
    return Finding(found.step, found.text, facts=found.facts, candidates=_candidates(one, answer))


def _candidates(one: _Wanted, wire: bytes) -> tuple[Candidate, ...]:
    place = one.place
    kind = place.type.type
    numbers = kind.size_bytes in (4, 8) and not place.type.count
    if place.area in BITS or (one.typed and not (numbers and not place.order)):
        return (Candidate(place.canonical, "", {str(place.type): place.codec.decode(wire)}),)
    if one.typed:
        return _in_every_order(place, wire, kind.name)
    head = f"{place.unit}/{place.area}:{place.start}"
    words = registers_of(wire)
    if len(words) in (2, 4):
        return _numbers(head, wire, words)
    signed = list(struct.unpack(f">{len(words)}h", wire))
    values = {"INT": signed, "UINT": list(words)} if len(words) > 1 else {"INT": signed[0], "UINT": words[0]}
    length = f"[{len(words)}]" if len(words) > 1 else ""
    plain = Candidate(f"{head}:INT{length}", "", values)
    text = text_of(wire) if len(words) > 2 else None
    if text is None:
        return (plain,)
    order = "" if text[1] == "HL" else ";order=LH"
    as_text = Candidate(f"{head}:STRING[{len(wire)}]{order}", text[1], {"STRING": text[0]}, "printable text")
    return (Candidate(plain.address, "HL", values), as_text)


def _numbers(head: str, wire: bytes, words: Sequence[int]) -> tuple[Candidate, ...]:
    found: list[Candidate] = []
    for way in readings(wire):
        plain = not found
        values = {**way.values, "UINT": list(words)} if plain else way.values
        order = "" if plain else f";order={way.order}"
        found.append(Candidate(f"{head}:{way.kind}{order}", way.order, values, way.plausible))
    return tuple(found)


def _in_every_order(place: ModbusAddress, wire: bytes, name: str) -> tuple[Candidate, ...]:
    """Return the readings of a typed address in all orders; the plausible one if it is of that type."""
    found: list[Candidate] = []
    for way in readings(wire):
        order = "" if not found else f";order={way.order}"
        address = f"{place.unit}/{place.area}:{place.start}:{name}{order}"
        value = parse(address).codec.decode(wire)
        mark = way.plausible if way.kind == name else ""
        found.append(Candidate(address, way.order, {name: value}, mark))
    return tuple(found)


def _wanted(text: str, endpoint: Endpoint, options: ModbusOptions) -> _Wanted:
    """Read an address to be read; one without a type means registers or bits."""
    match = _UNTYPED.fullmatch(text.strip())
    if match is None:
        found = parse(text)
    else:
        times = int(match["times"] or 1)
        found = parse(f"{match['head']}:{_raw(match['head'])}[{times or 1}]")
        if not 1 <= times <= _MOST:
            raise AddressError(f"{text}: one read has 1..{_MOST} registers or bits", code="T216")
    if found.size > _MOST and found.area not in BITS:
        raise AddressError(f"{text}: one read has 1..{_MOST} registers", code="T216")
    placed = found.at_device(unit=endpoint.unit, order="", order64=None)
    wrong = endpoint.check_unit(placed.unit or 0)
    if wrong:
        raise AddressError(f"{text}: {wrong}", code="T216")
    if not placed.order and "order" in options.model_fields_set and match is None:
        placed = placed.at_device(unit=endpoint.unit, order=options.order, order64=options.order64)
    return _Wanted(placed, match is None)


def _raw(head: str) -> str:
    area = head.rpartition("/")[2]
    return "BOOL" if area[:2].lower() in BITS or area[0] in "01" else "UINT"


class _Look:
    """The connection of one probe, and what is counted on it."""

    def __init__(self, line: Line, member: Member, target: Target, clock: Clock, *, rtu: bool) -> None:
        self.line = line
        self.member = member
        self.target = target
        self.clock = clock
        self.silent: set[int] = set()
        self._sent = 0
        self._rtu = rtu

    @property
    def facts(self) -> dict[str, object]:
        """What every finding tells."""
        return {"requests": self._sent}

    async def ask(self, ask: Ask, timeout_s: float | None = None) -> Answer:
        """Send one request and return what came."""
        self._sent += 1
        return await self.line.submit(self.member, ask, timeout_s or self.target.timeout_s)

    def patience_s(self, *, hurry: bool) -> float:
        """Return how long to wait: a unit that is one of many is not worth the whole deadline."""
        if not hurry:
            return self.target.timeout_s
        return min(_SERIAL_SCAN_S if self._rtu else _SCAN_S, self.target.timeout_s)

    async def again(self) -> None:
        """Connect again after a device ended the connection over a question it did not like."""
        try:
            await self.line.join(self.member, self.target.timeout_s)
        except DeviceError:
            return  # the next question says why

    def found(self, step: str, text: str, facts: Mapping[str, object]) -> Finding:
        """Return a finding that went well."""
        return Finding(step, text, facts={**facts, **self.facts})

    def failed(self, step: str, told: str) -> Finding:
        """Return a finding that did not, from the text of an error."""
        return failed(step, told, self.facts)
