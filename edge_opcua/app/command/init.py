"""The command ``init``: a short commented configuration and tag tables, made from what devices say."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.inittext import configuration_text, table_text
from edge_opcua.app.command.look import Looked, look, printable, prober_at
from edge_opcua.app.command.tell import WRONG_USE, complain, say
from edge_opcua.config.fields import NAME_PATTERN
from edge_opcua.config.loader import load
from edge_opcua.config.report import problems_text
from edge_opcua.config.tags import TAG_PATTERN
from edge_opcua.core.logs import silenced
from edge_opcua.core.ports import DriverPlugin
from edge_opcua.drivers.probing import Finding, Prober, Target, driver_of
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.plugins import DRIVERS, InstalledPlugins, Plugins

_NAMED: Final = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_-]{0,63})=(?P<url>.*)", re.DOTALL)
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME: Final = 128
_LONGEST_MACHINE: Final = 64
_FILL_IN: Final = "put the paths of its certificates into options, then edge-opcua check FILE --live"


@dataclass(frozen=True, slots=True)
class FoundTag:
    """A tag that a device told by itself."""

    name: str
    address: str
    unit: str = ""
    description: str = ""


@dataclass(slots=True)
class NewDevice:
    """A device to be written down.

    Args:
        name: Its name.
        url: Where it is.
        driver: Its driver.
        looked: What it said.
        tags: Tags it has, as far as the driver can read them.
        left_out: Tags it has that the driver cannot read.
    """

    name: str
    url: str
    driver: str
    looked: Looked
    tags: list[FoundTag] = field(default_factory=list)
    left_out: int = 0


def init(
    file: Path,
    devices: Sequence[str],
    *,
    machine: str = "",
    timeout_s: float = 1.0,
    force: bool = False,
    state_dir: Path | None = None,
    plugins: Plugins | None = None,
) -> int:
    """Write a configuration and a tag table per device.

    Args:
        file: The configuration.
        devices: URL of each device, with ``NAME=`` in front if it shall have a certain name.
        machine: Name of the machine; else made from the file's name.
        timeout_s: Deadline of one step of looking, seconds.
        force: Overwrite files that are there.
        state_dir: State directory; None: the usual one.
        plugins: Where drivers are looked up.

    Returns:
        0, also if a device is silent; 2 if a name or URL is unusable or files are there already.
    """
    try:
        new, probers = _named(devices, plugins)
        machine = _machine(machine, file)
    except ConfigError as exc:
        complain(f"error[{exc.code if exc.code.startswith('D') else 'D380'}] {exc}")
        return WRONG_USE
    tables = {device.name: file.parent / "tags" / f"{device.name}.csv" for device in new}
    present = [str(path) for path in (file, *tables.values()) if path.exists()]
    if present and not force:
        complain(f"{', '.join(present)}: already there; nothing was written\n      help: --force overwrites")
        return WRONG_USE
    with silenced():
        asyncio.run(_look_at_all(new, probers, timeout_s, state_dir))
    for device in new:
        _take_tags(device, (plugins or InstalledPlugins()).load(DRIVERS, device.driver))
        say("\n".join(map(printable, _said(device).split("\n"))))
    try:
        _write(file, configuration_text(machine, new, file.name))
        for device in new:
            _write(tables[device.name], table_text(device))
    except OSError as exc:
        complain(f"{exc.filename}: {exc.strerror}; nothing else was written")
        return WRONG_USE
    return _checked(file, [file, *tables.values()], plugins)


def _named(devices: Sequence[str], plugins: Plugins | None) -> tuple[list[NewDevice], dict[str, Prober]]:
    found: list[NewDevice] = []
    probers: dict[str, Prober] = {}
    for text in devices:
        given = _NAMED.fullmatch(text)
        name, url = (given["name"], given["url"]) if given else ("", text)
        driver = driver_of(url, plugins)
        names = {device.name for device in found}
        if name in names:
            raise ConfigError(f'two devices are called "{name}"', code="D380")
        name = name or _free(driver.partition("-")[0], names)
        (plugins or InstalledPlugins()).load(DRIVERS, driver).check_url(url)
        try:
            probers[name] = prober_at(url, plugins)[1]
        except ConfigError as exc:
            if exc.code != "D381":
                raise
        found.append(NewDevice(name, url, driver, Looked(url, driver)))
    return found, probers


def _free(name: str, taken: set[str]) -> str:
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def _machine(given: str, file: Path) -> str:
    if given and (not re.match(NAME_PATTERN, given) or len(given) > _LONGEST_MACHINE):
        raise ConfigError(f'"{given}" is no name for a machine: letters, digits, _ and -, e.g. Press01')
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", file.stem).strip("-")
    made = f"{stem[:1].upper()}{stem[1:_LONGEST_MACHINE]}"
    return given or (made if re.match(NAME_PATTERN, made) else "Machine01")


async def _look_at_all(
    devices: Sequence[NewDevice], probers: Mapping[str, Prober], timeout_s: float, state_dir: Path | None
) -> None:
    """Look at each device, one after the other: two of them may be behind one gateway."""
    for device in devices:
        if device.name not in probers:
            continue
        say(f"{device.name}   looking at {device.url}")
        target = Target(device.url, timeout_s=timeout_s, state_dir=state_dir)
        try:
            async for finding in look(probers[device.name], target):
                device.looked.findings.append(finding)
        except ConfigError as exc:  # nothing was asked: without certificates there is no TLS
            said = str(exc).removeprefix(f"{device.url}: ")
            device.looked.findings.append(Finding("connect", said, "D381", _FILL_IN))
        device.url = device.looked.better_url


def _take_tags(device: NewDevice, driver: type[DriverPlugin]) -> None:
    """Take over the tags that were found and that the driver can read, under names that can be used."""
    taken: set[str] = set()
    for tag in device.looked.fact("tags") or ():
        found = _tag(tag)
        try:
            driver.parse_address(found.address)
        except AddressError:
            device.left_out += 1
            continue
        name = _free(found.name, taken)
        taken.add(name)
        device.tags.append(FoundTag(name, found.address, found.unit, found.description))


def _tag(found: Any) -> FoundTag:
    """Return a tag that a prober told as a mapping or as name, address, unit, description."""
    keys = ("name", "address", "unit", "description")
    if isinstance(found, Mapping):
        cells = [str(found.get(key) or "") for key in keys]
    else:
        cells = [str(cell) for cell in (*found, "", "", "")[:4]]
    name = _NO_NAME.sub("_", cells[0].replace(":", ".")).strip("._")[:_LONGEST_NAME]
    name = name if re.match(TAG_PATTERN, name) else f"t_{_NO_NAME.sub('_', name).replace('.', '_')}"
    return FoundTag(name, *cells[1:])


def _said(device: NewDevice) -> str:
    looked = device.looked
    if not looked.findings:
        return f"{device.name}   {device.driver}   cannot be looked at before it has tags"
    failure = looked.failure
    said = "" if failure is None else f"warn[{failure.code}] {failure.text}"
    step = f"\n      help: {failure.help}" if failure is not None and failure.help else ""
    if failure is not None and not looked.answers:
        return f"{said}; it is written down as it is{step}"
    count = len(device.tags)
    tags = f"   {count} tag{'' if count == 1 else 's'} found" if count else ""
    moved = f"   as {device.url}" if device.url != looked.url else ""
    out = f", {device.left_out} of types that are not read" if device.left_out else ""
    # Not told twice: another slot or TSAP, which is in the URL, and what stands in the identity (STOP).
    is_told = failure is None or failure.code == "D320" or failure.step == "identity"
    why = "" if is_told else f"\n{said}{step}"
    return f"{device.name}   {looked.identity or 'answers, and gives no name'}{moved}{tags}{out}{why}"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; the OSError names it, not what is beside it for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as exc:
        with suppress(OSError):
            new.unlink()
        raise OSError(exc.errno, exc.strerror, str(path)) from exc


def _checked(file: Path, written: Sequence[Path], plugins: Plugins | None) -> int:
    """Hold the result against the check that the next command makes."""
    loaded = load(file, plugins=plugins)
    say(f"written: {', '.join(map(str, written))}; nothing to a device")
    if loaded.config is None:
        complain(problems_text(loaded))
        return WRONG_USE
    bare = [
        table for device, table in zip(loaded.config.devices, written[1:], strict=True) if not device.tags
    ]
    fill = f"fill in {' and '.join(map(str, bare))}, then " if bare else ""
    say(f"Next: {fill}edge-opcua check {shlex.quote(str(file))}")
    return 0
