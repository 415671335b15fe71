"""The command ``probe``: what is at an address, and how its values are to be read; it never writes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import Looked, find_ping, host_of, in_url, look, ping_ms, prober_at, remedy
from edge_opcua.app.command.probetext import (
    Steps,
    failure_lines,
    reading_lines,
    table_lines,
)
from edge_opcua.app.command.scan import PACKETS_PER_S, PORTS, addresses_of, scan
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.logs import silenced
from edge_opcua.drivers.probing import Candidate, Finding, Prober, Target
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.plugins import Plugins

SCHEMA: Final = "edge-opcua.probe/1"
_NARROWEST: Final = 60
_HOPELESS: Final = ("D312", "D315")  # unknown host, no route: no other port will do better


@dataclass(frozen=True, slots=True)
class Usual:
    """A port that is tried if only a host is given."""

    port: int
    word: str
    url: str


USUAL: Final = (
    Usual(502, "Modbus", "modbus://{host}/1"),
    Usual(102, "S7", "s7://{host}"),
    Usual(44818, "EtherNet/IP", "eip://{host}/0"),
    Usual(4840, "OPC UA", "opc.tcp://{host}:4840"),
)


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What was asked for.

    Args:
        reads: Addresses to be read.
        units: First and last unit number to look for; None: the prober's own few.
        timeout_s: Deadline of one step, seconds.
        as_json: One JSON object instead of text.
        scan: A range is meant.
        yes: Do not ask.
        state_dir: State directory; None: the usual one.
    """

    reads: Sequence[str] = ()
    units: tuple[int, int] | None = None
    timeout_s: float = 1.0
    as_json: bool = False
    scan: bool = False
    yes: bool = False
    state_dir: Path | None = None


def probe(
    target: str,
    options: ProbeOptions,
    *,
    plugins: Plugins | None = None,
    usual: Sequence[Usual] = USUAL,
    ports: Sequence[int] = PORTS,
) -> int:
    """Look at one device by its URL, at one host, or with ``scan`` at a range of addresses.

    Args:
        target: URL, host, or range of addresses.
        options: What was asked for.
        plugins: Where drivers are looked up.
        usual: What is tried at a host.
        ports: What is tried in a range.

    Returns:
        0; 1 if nothing answers or something was refused, 2 if it was asked for in a wrong way.
    """
    try:
        if "://" in target:
            return _probe_url(target, options, plugins)
        addresses = addresses_of(target)
        if addresses is not None:
            return _scan(target, addresses, options, ports)
        return _probe_host(target, options, plugins, usual)
    except AddressError as exc:
        return _wrong_use(target, exc.code, str(exc), exc.hint, as_json=options.as_json)
    except ConfigError as exc:
        code = exc.code if exc.code.startswith("D") else "D380"
        return _wrong_use(target, code, str(exc), as_json=options.as_json)


def _wrong_use(target: str, code: str, message: str, remedy: str = "", *, as_json: bool) -> int:
    if as_json:
        error = {"code": code, "message": message, "help": remedy}
        say(json.dumps({"schema": SCHEMA, "target": target, "ok": False, "error": error}))
    else:
        complain(f"error[{code}] {message}" + (f"\n      help: {remedy}" if remedy else ""))
    return WRONG_USE


def _probe_url(url: str, options: ProbeOptions, plugins: Plugins | None) -> int:
    driver, prober = prober_at(url, plugins)
    units = range(options.units[0], options.units[1] + 1) if options.units else ()
    target = Target(url, options.reads, options.timeout_s, units=units, state_dir=options.state_dir)
    looked = Looked(url, driver)
    quiet = options.as_json
    program = find_ping()

    async def work() -> float | None:
        steps = None if quiet else _steps()
        if steps is not None:
            steps.piece(host_of(url) or url)
        took_ms = await ping_ms(program, host_of(url), options.timeout_s)
        if steps is not None and took_ms is not None:
            steps.piece(f"ping {took_ms:.1f} ms")
        await _look_at(looked, prober, target, steps)
        return took_ms

    with silenced():
        ping = asyncio.run(work())
    if quiet:
        say(json.dumps(_as_json(url, ping, [looked])))
    else:
        for line in _ending(looked):
            say(line)
    return ANSWER_IS_NO if looked.failure else 0


async def _look_at(looked: Looked, prober: Prober, target: Target, steps: Steps | None) -> None:
    """Note each finding, and print it as soon as there is one."""
    try:
        async for finding in look(prober, target):
            looked.findings.append(finding)
            if steps is not None:
                _show(steps, finding)
    finally:
        if steps is not None:
            steps.end()


def _show(steps: Steps, finding: Finding) -> None:
    if finding.code:
        steps.line(failure_lines(finding))
    elif finding.step in ("browse", "read"):
        steps.line("\n".join([finding.text, *reading_lines(finding.candidates)]))
    elif finding.text:
        steps.piece(finding.text)


def _ending(looked: Looked) -> list[str]:
    """Return the lines for the tag table, what was done, and what can be done next."""
    rows = table_lines(looked.findings)
    lines = ["for the tag table:", "  name,address,unit", *(f"  {row}" for row in rows)] if rows else []
    count = looked.requests
    sent = "" if count is None else f"{count} request{'' if count == 1 else 's'} sent, "
    last = f"{sent}nothing written." if sent else "Nothing was written."
    failure = looked.failure
    if failure is not None:
        return [*lines, f"{last}  What a code means: edge-opcua explain {failure.code}"]
    if any(finding.candidates for finding in looked.findings):
        return [
            *lines,
            f"{last}  Compare with the device's own display before you trust a guess.",
            f"Next: edge-opcua init FILE --device '{looked.better_url}'",
        ]
    if looked.driver == "modbus":
        return [f"{last}  Next: edge-opcua probe '{looked.better_url}' --read hr:0x2"]
    return [f"{last}  Next: edge-opcua init FILE --device '{looked.better_url}'"]


def _probe_host(host: str, options: ProbeOptions, plugins: Plugins | None, usual: Sequence[Usual]) -> int:
    if host.count(":") == 1:
        message = f"{host} is a host and a port: name the protocol too, e.g. modbus://{host}/1"
        raise ConfigError(message, code="D380")
    if options.reads or options.units:
        message = f"--read and --units need a protocol: name the device by a URL, e.g. modbus://{host}/1"
        raise ConfigError(message, code="D380")
    probers = []
    for one in usual:
        url = one.url.format(host=in_url(host))
        try:
            probers.append(
                (
                    one,
                    Target(url, timeout_s=options.timeout_s, state_dir=options.state_dir),
                    *prober_at(url, plugins),
                )
            )
        except ConfigError as exc:
            complain(f"note: {one.word} is left out: {exc}")
    if not probers:
        raise ConfigError(f'"{host}" is no host that can be looked at', code="D380")
    steps = None if options.as_json else _steps()
    with silenced():
        ping, devices = asyncio.run(_look_around(host, find_ping(), probers, steps))
    answering = [looked for looked in devices if looked.answers]
    if steps is None:
        say(json.dumps(_as_json(host, ping, devices)))
    elif answering:
        say(f"Nothing was written.  Next: edge-opcua probe '{answering[0].better_url}'")
    else:
        found = next((f for looked in devices if (f := looked.failure) and f.code in _HOPELESS), None)
        say(failure_lines(found or Finding("", f"{host}: nothing answers", "D382", remedy("D382"))))
    return 0 if answering else ANSWER_IS_NO


async def _look_around(
    host: str,
    ping: str | None,
    probers: Sequence[tuple[Usual, Target, str, Prober]],
    steps: Steps | None,
) -> tuple[float | None, list[Looked]]:
    """Look at each usual port, one after the other: old devices take one connection at a time."""
    if steps is not None:
        steps.piece(host)
    took_ms = await ping_ms(ping, host, probers[0][1].timeout_s)
    if steps is not None:
        if took_ms is not None:
            steps.piece(f"ping {took_ms:.1f} ms")
        steps.end()
    devices: list[Looked] = []
    for one, target, driver, prober in probers:
        looked = Looked(target.url, driver)
        devices.append(looked)
        if steps is not None:
            steps.piece(f"{one.port:>5}  {one.word}", pad=18)
        async for finding in look(prober, target):
            looked.findings.append(finding)
            if steps is not None:
                text = finding.text.removeprefix(f"{in_url(host)}:{one.port} ")  # stands there already
                steps.piece(f"{text} ({finding.code})" if finding.code else text)
        if steps is not None:
            steps.end()
        if looked.failure is not None and looked.failure.code in _HOPELESS:
            break
    return took_ms, devices


def _scan(text: str, addresses: Sequence[str], options: ProbeOptions, ports: Sequence[int]) -> int:
    if not options.scan:
        raise ConfigError(f"{text} is a range of {len(addresses)} addresses; add --scan", code="D383")
    minutes = math.ceil(len(addresses) * len(ports) / PACKETS_PER_S / 60)
    what = (
        f"{len(addresses)} addresses, ports {', '.join(map(str, ports))}, at most {PACKETS_PER_S} packets "
        f"a second: about {minutes} min. Old devices can hang when strangers connect"
    )
    if not options.yes and not sys.stdin.isatty():
        raise ConfigError(f"{what}; say --yes if that is meant", code="D383")
    if not _agreed(what, yes=options.yes):
        return _wrong_use(text, "D383", "no yes was typed: nothing was sent", as_json=options.as_json)
    hits: dict[str, list[int]] = {}

    def found(address: str, open_ports: list[int]) -> None:
        hits[address] = open_ports
        if not options.as_json:
            say("   ".join([address, *(f"{port} open" for port in open_ports)]))

    asyncio.run(scan(addresses, found, SystemClock(), timeout_s=options.timeout_s, ports=ports))
    if options.as_json:
        rows = [{"address": address, "ports": found_ports} for address, found_ports in hits.items()]
        say(json.dumps({"schema": SCHEMA, "target": text, "ok": bool(hits), "scanned": rows}))
    elif hits:
        say(f"{len(hits)} of {len(addresses)} have an open port.  Next: edge-opcua probe {next(iter(hits))}")
    else:
        say(failure_lines(Finding("", f"{text}: no address has an open port", "D382", remedy("D382"))))
    return 0 if hits else ANSWER_IS_NO


def _agreed(what: str, *, yes: bool) -> bool:
    if yes:
        complain(what)
        return True
    complain(f"{what}; type yes to go on")
    return sys.stdin.readline().strip() == "yes"


def _steps() -> Steps:
    return Steps(sys.stdout, max(_NARROWEST, shutil.get_terminal_size().columns))


def _as_json(target: str, ping: float | None, devices: Sequence[Looked]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "target": target,
        "ok": any(looked.answers for looked in devices)
        if len(devices) > 1
        else all(looked.failure is None for looked in devices),
        "ping_ms": ping,
        "devices": [
            {
                "url": looked.url,
                "driver": looked.driver,
                "answers": looked.answers,
                "requests": looked.requests,
                "findings": [_finding_json(finding) for finding in looked.findings],
                "table": table_lines(looked.findings),
            }
            for looked in devices
        ],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "step": finding.step,
        "text": finding.text,
        "code": finding.code,
        "help": finding.help,
        "facts": _plain(finding.facts),
        "candidates": [_candidate_json(one) for one in finding.candidates],
    }


def _candidate_json(one: Candidate) -> dict[str, Any]:
    fields = dataclasses.asdict(dataclasses.replace(one, values={}))
    return {**fields, "values": _plain(one.values)}


def _plain(value: Any) -> Any:
    """Return what a prober told as JSON has it: no NaN, no foreign types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)
