"""The files that ``init`` writes: only the keys that matter, each with why one would change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Protocol

from edge_opcua.app.command.look import Looked, printable
from edge_opcua.app.command.probetext import csv_line

_HEADER: Final = ("name", "address", "unit", "low", "high", "scale", "description")
EXAMPLES: Final = {
    "modbus": (("rms_x", "hr:100:REAL;order=CDAB", "mm/s", "0", "50", "", "two registers from hr:100 on"),),
    "s7": (
        ("die_temp", "DB10.DBD16:REAL", "°C", "0", "120", "", "as TIA Portal shows it, with the type behind"),
    ),
    "ethernet-ip": (
        ("speed", "Program:MainProgram.Speed:REAL", "1/min", "", "", "", "a tag of the controller"),
    ),
    "opcua": (("speed", "ns=3;s=Speed:REAL", "1/min", "", "", "", "a node of the server"),),
}
_FORMULA: Final = ("=", "+", "-", "@")
_HINTS: Final = {
    "modbus": 'options = { order = "CDAB" }   # byte order of every number of the device that names none',
    "s7": "options = { pdu = 240 }   # if the CPU is an S7-1200",
}
_TLS: Final = (
    '{ ca = "/etc/edge-opcua/modbus/ca.pem", certificate = "/etc/edge-opcua/modbus/edge.pem", '
    'key = "/etc/edge-opcua/modbus/edge.key" }   # absolute paths, mode 0600'
)


class Tag(Protocol):
    """A row of a tag table."""

    @property
    def name(self) -> str:
        """Name."""
        ...

    @property
    def address(self) -> str:
        """Address in the driver's grammar."""
        ...

    @property
    def unit(self) -> str:
        """Engineering unit."""
        ...

    @property
    def description(self) -> str:
        """What it is."""
        ...


class Device(Protocol):
    """A device to be written down."""

    name: str
    url: str
    driver: str
    looked: Looked

    @property
    def tags(self) -> Sequence[Tag]:
        """Tags that were found."""
        ...


def configuration_text(machine: str, devices: Sequence[Device], file: str) -> str:
    """Return the configuration.

    Args:
        machine: Name of the machine.
        devices: Devices.
        file: Name of the file, for the commands in its comments.
    """
    lines = [
        f"# edge-opcua check {file}          what is wrong, what will be polled",
        f"# edge-opcua check {file} --live   read every tag once",
        f"# edge-opcua run {file}            serve it",
        "version = 1",
        "",
        "[site]",
        "# Both names are part of every NodeId that clients know: choose them now, for good.",
        f"name = {_text(machine.lower())}",
        f"machine = {_text(machine)}",
        "",
        "[opcua]",
        'listen = "0.0.0.0:4840"',
    ]
    for device in devices:
        lines += ["", "[[devices]]", *_device_lines(device)]
    return "\n".join(lines) + "\n"


def _device_lines(device: Device) -> list[str]:
    lines = [
        f"# {_seen(device.looked)}",
        f"name = {_text(device.name)}",
        f"driver = {_text(device.driver)}",
        f"url = {_text(device.url)}",
        f"tags = {_text(f'tags/{device.name}.csv')}",
        "timeout_ms = 1000   # deadline of one request; a slower device counts as lost",
    ]
    hint = _HINTS.get(device.driver)
    if device.looked.fact("endpoints") == ["None"]:
        lines.append(
            'options = { security = "None" }   # the server offers nothing else: anybody can listen in'
        )
    elif device.url.startswith("modbus+tls://"):
        lines.append(f"options = {_TLS}")
    elif hint:
        lines.append(f"# {hint}")
    return [
        *lines,
        "",
        "[[devices.groups]]   # tags that are read together; more groups: column group of the table",
        'name = "default"',
        "period_ms = 1000",
    ]


def _seen(looked: Looked) -> str:
    if looked.identity:
        return looked.identity
    failure = looked.failure
    if failure is not None and not looked.answers:
        return f"It was silent when this was written: {failure.code} {printable(failure.text)}"
    return "It answers, and gives no name." if looked.findings else "It was not looked at."


def table_text(device: Device) -> str:
    """Return the tag table: what was found, or its header and an example that is a comment."""
    lines = [csv_line(_HEADER)]
    if device.tags:
        lines += [
            csv_line((tag.name, tag.address, _harmless(tag.unit), "", "", "", _harmless(tag.description)))
            for tag in device.tags
        ]
    else:
        lines += [f"#{csv_line(example)}" for example in EXAMPLES.get(device.driver, ())]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a TOML string."""
    return json.dumps(value, ensure_ascii=False)


def _harmless(cell: str) -> str:
    """Return a text of a device that no spreadsheet takes for a formula."""
    text = printable(cell).strip()
    return f"'{text}" if text[:1] in _FORMULA else text
