"""docs/reference/drivers.md says how every driver stands to each of the ten rules, and lists its settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.ethernetip.settings import EipOptions
from edge_opcua.drivers.iec import TYPES
from edge_opcua.drivers.linkstate import State
from edge_opcua.drivers.modbus.settings import ModbusOptions
from edge_opcua.drivers.opcuaclient.settings import OpcUaOptions
from edge_opcua.drivers.options import DriverOptions
from edge_opcua.drivers.s7.settings import S7Options
from edge_opcua.drivers.watchprofile import profiles
from edge_opcua.plugins import DRIVERS, InstalledPlugins

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "drivers.md"
TEXT = PAGE.read_text()
VERDICT = re.compile(r"done|todo|exempt: .+")
OPTIONS: dict[str, type[DriverOptions]] = {
    "ethernet-ip": EipOptions,
    "modbus": ModbusOptions,
    "opcua": OpcUaOptions,
    "s7": S7Options,
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    section = TEXT.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (lines[0], *lines[2:])]


def test_ten_rules_and_a_verdict_for_every_driver() -> None:
    head, *rules = rows("## Ten rules")
    assert head[2:] == sorted(InstalledPlugins().names(DRIVERS))
    assert [rule[0] for rule in rules] == [str(i + 1) for i in range(10)]
    for rule in rules:
        for verdict in rule[2:]:
            assert VERDICT.fullmatch(verdict), rule


def test_every_state_of_a_link_is_there() -> None:
    _, *states = rows("## States of a link")
    assert [row[0] for row in states] == [f"{state.name} {state.value}" for state in State]


def test_every_profile_of_a_watchdog_is_there() -> None:
    _, *found = rows("### Watchdogs of devices")
    assert [row[0].strip("`") for row in found] == list(profiles())


def default_text(value: object) -> str:
    return f"`{value}`"


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("## EtherNet/IP (`ethernet-ip`)", "ethernet-ip"),
        ("## Modbus (`modbus`)", "modbus"),
        ("## OPC UA (`opcua`)", "opcua"),
        ("## S7 (`s7`)", "s7"),
    ],
)
def test_every_setting_is_there_as_the_code_says_it(heading: str, name: str) -> None:
    _, *listed = rows(heading)
    fields = OPTIONS[name].model_fields
    assert listed == [
        [f"`{key}`", default_text(field.default), field.description or ""] for key, field in fields.items()
    ]


def opcua_name(scalar: Scalar) -> str:
    return scalar.name.title().replace("Sb", "SB").replace("Ui", "UI").replace("Datetime", "DateTime")


def test_every_type_is_there() -> None:
    _, *listed = rows("## Types")
    assert listed == [[f"`{name}`", opcua_name(iec.scalar)] for name, iec in TYPES.items()]
