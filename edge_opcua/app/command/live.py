"""``check --live``: each tag read once through the real drivers, and what is wrong with it; never writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.build import Plan
from edge_opcua.app.command.console import server_answers
from edge_opcua.app.command.look import Looked, failed_by, host_of, look, prober_at, told
from edge_opcua.app.command.planned import planned
from edge_opcua.app.command.serverlive import read_from_server
from edge_opcua.app.command.tagfaults import TagReading, problems_of, told_once
from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.app.pages import plain_value
from edge_opcua.config.codes import codes
from edge_opcua.config.loader import Loaded, load
from edge_opcua.config.problem import Problem
from edge_opcua.config.report import fold, problems_text, render, summary, wants_color
from edge_opcua.config.schema import DeviceConfig, EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.logs import silenced
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import is_bad, status_name
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.oneshot import GroupReading, Readings, read_once
from edge_opcua.drivers.plan import load_driver
from edge_opcua.drivers.probing import Finding, Prober, Target
from edge_opcua.drivers.wire import Driver
from edge_opcua.errors import ConfigError, DeviceError

SCHEMA: Final = "edge-opcua.check-live/1"
_SLOWEST_S: Final = 300.0  # of a device with thousands of rows to find out about


@dataclass(slots=True)
class DeviceReading:
    """What one device answered.

    Args:
        device: Its configuration.
        connected_ms: Time to connect, ms; None if it did not, or a server has done it.
        note: State of the link where a server has it.
        identity: Name plate, or "".
        failure: Why it could not be read.
        tags: Its tags, in the order of the table.
        captures: By capture, what the device said instead of its state.
    """

    device: DeviceConfig
    connected_ms: float | None = None
    note: str = ""
    identity: str = ""
    failure: Finding | None = None
    tags: list[TagReading] = field(default_factory=list)
    captures: Mapping[str, str] = field(default_factory=dict)

    @property
    def good(self) -> int:
        """How many tags have a value."""
        return sum(tag.status is not None and not is_bad(tag.status) for tag in self.tags)


def check_live(config_file: Path, state_dir: Path, *, as_json: bool) -> int:
    """Read each tag once and print what is wrong.

    If a server runs on the state directory, its values are taken and no PLC gets a second connection.

    Returns:
        0; 1 if a device is silent or a tag Bad, 2 if the configuration is wrong.
    """
    loaded, plan = planned(load(config_file))
    if loaded.config is None:
        if as_json:
            say(json.dumps(_as_json(loaded, (), loaded.problems, from_server=False)))
        else:
            complain(problems_text(loaded, color=_color(sys.stderr.isatty())))
        return WRONG_USE
    socket = StateDir(state_dir).control_socket
    socket.exists()  # PermissionError: somebody else's
    if server_answers(socket):
        complain(f"a server runs on {state_dir}: its values are taken, no device is asked a second time")
        answered = asyncio.run(read_from_server(socket, loaded.config))
        if answered is not None:
            found = [
                DeviceReading(cfg, note=each.note, failure=each.failure, tags=each.tags)
                for cfg, each in zip(loaded.config.devices, answered, strict=True)
            ]
            return _report(loaded, found, as_json=as_json, from_server=True)
        complain("it does not answer; the devices are read from here")
    if not as_json:
        say(f"reading {loaded.config.tag_count} tags once, {_where(loaded.config)}; nothing is written")
    found = _read(loaded.config, plan, state_dir)
    return _report(loaded, found, as_json=as_json, from_server=False)


def _where(config: EdgeConfig) -> str:
    names = [device.name for device in config.devices]
    return f"from {', '.join(names)}" if len(names) <= 8 else f"from {len(names)} devices"


def _read(config: EdgeConfig, plan: Plan, state_dir: Path) -> list[DeviceReading]:
    codes()  # their file is not to be read in the loop
    with silenced():
        return _read_on_a_bus(config, plan, Lines(state_dir))


def _read_on_a_bus(config: EdgeConfig, plan: Plan, lines: Lines) -> list[DeviceReading]:
    drivers = {device.name: load_driver(device.driver) for device in config.devices}
    probers = {device.name: found for device in config.devices if (found := _prober(device)) is not None}
    bus = Bus.create([block for device in plan.devices for block in device.blocks])
    try:
        return asyncio.run(_read_all(config, drivers, probers, bus, lines))
    finally:
        bus.close()


def _prober(device: DeviceConfig) -> Prober | None:
    """Return what finds out who a device is; None if nothing does, or its line is shared."""
    if not host_of(device.url):
        return None
    try:
        return prober_at(device.url)[1]
    except ConfigError:
        return None


async def _read_all(
    config: EdgeConfig,
    drivers: Mapping[str, type[Driver]],
    probers: Mapping[str, Prober],
    bus: Bus,
    lines: Lines,
) -> list[DeviceReading]:
    """Read all devices at the same time, and only then, with their connections closed, ask who they are."""
    clock = SystemClock()
    found = {device.name: DeviceReading(device) for device in config.devices}

    async with asyncio.TaskGroup() as tasks:
        for each in found.values():
            name = each.device.name
            work = _read_device(each, drivers[name], bus, clock, lines)
            tasks.create_task(work, name=f"live.{name}")
    hosts: dict[str, list[DeviceReading]] = {}
    for each in found.values():
        if each.connected_ms is not None and each.device.name in probers:
            hosts.setdefault(host_of(each.device.url), []).append(each)
    async with asyncio.TaskGroup() as tasks:
        for readings in hosts.values():
            tasks.create_task(_identify(readings, probers, lines.pki.parent), name="live.identity")
    return list(found.values())


async def _read_device(
    reading: DeviceReading, driver: type[Driver], bus: Bus, clock: Clock, lines: Lines
) -> None:
    """Read one device and note what it answered; whatever goes wrong is its failure."""
    cfg = reading.device
    if cfg.simulate:
        reading.note = "simulated, not asked"
        return
    try:
        async with asyncio.timeout(_SLOWEST_S):
            readings = await read_once(cfg, driver, bus, clock, lines)
    except DeviceError as exc:
        reading.failure = failed_by("read", exc)
    except ConfigError as exc:  # what only opening the line shows, e.g. two baud rates for one port
        reading.failure = Finding("read", str(exc), exc.code)
    except TimeoutError:
        reading.failure = Finding("read", f"was not read within {_SLOWEST_S:g} s", "D310")
    else:
        reading.connected_ms = readings.connected_ms
        reading.tags = tag_readings(readings)
        reading.captures = {name: fault.reason for name, fault in readings.captures.items()}


async def _identify(
    readings: Sequence[DeviceReading], probers: Mapping[str, Prober], state_dir: Path
) -> None:
    """Ask the devices behind one address, one after the other, who they are; nobody has to answer."""
    for reading in readings:
        cfg = reading.device
        looked = Looked(cfg.url, cfg.driver)
        target = Target(cfg.url, timeout_s=cfg.timeout_ms / 1000, options=cfg.options, state_dir=state_dir)
        try:
            async with (
                asyncio.timeout(3 * target.timeout_s),
                contextlib.aclosing(look(probers[cfg.name], target)) as findings,  # type: ignore[type-var]
            ):
                async for finding in findings:
                    looked.findings.append(finding)
                    if finding.step == "identity":
                        break
        except (TimeoutError, ConfigError):
            continue
        reading.identity = looked.identity


def tag_readings(readings: Readings) -> list[TagReading]:
    """Return what was read of each tag, in the order of the tag table."""
    found = [tag for group in readings.groups for tag in _tags_of_group(group)]
    return sorted(found, key=lambda tag: tag.row)


def _tags_of_group(group: GroupReading) -> list[TagReading]:
    return [
        TagReading(
            row=tag,
            status=int(group.batch.status[row]),
            value=None if is_bad(int(group.batch.status[row])) else group.batch.value(row),
            said=group.faults[row].reason if row in group.faults else "",
            place=group.rows[row],
            wire=group.bytes_of.get(row, b""),
        )
        for row, tag in enumerate(group.tags)
    ]


def _report(loaded: Loaded, found: Sequence[DeviceReading], *, as_json: bool, from_server: bool) -> int:
    problems = [problem for reading in found for problem in _device_problems(loaded, reading)]
    for reading in found:
        problems += problems_of(reading.device, reading.tags, load_driver(reading.device.driver))
    refused = any(problem.is_error for problem in problems)
    if as_json:
        say(json.dumps(_as_json(loaded, found, problems, from_server=from_server)))
        return ANSWER_IS_NO if refused else 0
    for line in device_lines(found):
        say(line)
    color = _color(sys.stdout.isatty())
    for part in fold(told_once(problems)):
        say(render(part, color=color))
    say(f"{summary(problems)}  Nothing was written.{_next(loaded, problems)}")
    return ANSWER_IS_NO if refused else 0


def _next(loaded: Loaded, problems: Sequence[Problem]) -> str:
    if problems:
        worst = max(problems, key=lambda problem: problem.severity)  # the first of those
        return f"  What a code means: edge-opcua explain {worst.code}"
    return f"  Run it: edge-opcua run {loaded.path}"


def _device_problems(loaded: Loaded, reading: DeviceReading) -> Iterator[Problem]:
    """Yield what is wrong with a device as a whole and with its captures, at their places in the file."""
    assert loaded.config is not None
    name = reading.device.name
    index = [device.name for device in loaded.config.devices].index(name)
    places = loaded.document.places
    failure = reading.failure
    if failure is not None:
        place = places.value(("devices", index, "url"))
        problem = Problem(
            failure.code, failure.text, place=place, where=f"devices[{name}]", help=failure.help
        )
        yield loaded.document.at(problem)
    for number, capture in enumerate(reading.device.captures):
        if capture.name in reading.captures:
            code, text, step = told(reading.captures[capture.name], "D340")
            place = places.value(("devices", index, "captures", number, "sequence"))
            where = f"devices[{name}].captures[{capture.name}]"
            yield loaded.document.at(Problem(code, text, place=place, where=where, help=step))


def device_lines(found: Sequence[DeviceReading]) -> list[str]:
    """Return a line per device: whether it answered, who it is, how many of its tags have a value."""
    rows = [_device_cells(reading) for reading in found]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return [
        "   ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False) if width), row[3]]
        ).rstrip()
        for row in rows
    ]


def _device_cells(reading: DeviceReading) -> tuple[str, str, str, str]:
    total = len(reading.device.tags)
    if reading.device.simulate:
        return reading.device.name, reading.note, "", f"{total} tags"
    if reading.failure is not None:
        word = "silent" if reading.failure.code == "D310" else "failed"
        return reading.device.name, reading.note or word, "", f"none of {total} tags"
    state = reading.note or f"connected {reading.connected_ms or 0:.0f} ms"
    return reading.device.name, state, reading.identity, f"{reading.good} of {total} tags good"


def _as_json(
    loaded: Loaded, found: Sequence[DeviceReading], problems: Sequence[Problem], *, from_server: bool
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "file": str(loaded.path),
        "ok": not any(problem.is_error for problem in problems),
        "from_server": from_server,
        "devices": [
            {
                "device": reading.device.name,
                "answers": reading.failure is None,
                "connected_ms": reading.connected_ms,
                "identity": reading.identity,
                "good": reading.good,
                "total": len(reading.device.tags),
                "tags": [_tag_json(reading.device, tag) for tag in reading.tags],
            }
            for reading in found
        ],
        "problems": [problem.as_json() for problem in problems],
    }


def _tag_json(device: DeviceConfig, tag: TagReading) -> dict[str, Any]:
    return {
        "id": f"{device.name}/{device.tags.cell(tag.row, 'name')}",
        "value": plain_value(tag.value),
        "unit": device.tags.cell(tag.row, "unit"),
        "status": tag.status,
        "quality": "no data yet" if tag.status is None else status_name(tag.status),
    }


def _color(is_terminal: bool) -> bool:  # noqa: FBT001 - one fact
    return wants_color(os.environ, is_terminal=is_terminal)
