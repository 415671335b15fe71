"""A driver and its lookup for the tests of the configuration; no package has to be installed for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_opcua.config.loader import Loaded, load
from edge_opcua.core.values import Scalar
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.plugins import BACKENDS, DRIVERS, PluginBrokenError, PluginNotFoundError

TYPES = {
    "BOOL": Scalar.BOOLEAN,
    "INT": Scalar.INT16,
    "UINT": Scalar.UINT16,
    "UDINT": Scalar.UINT32,
    "ULINT": Scalar.UINT64,
    "REAL": Scalar.FLOAT,
    "STRING": Scalar.STRING,
    "DT": Scalar.DATETIME,
}


@dataclass(frozen=True)
class FakeAddress:
    scalar: Scalar
    length: int
    writable: bool
    canonical: str


class FakeOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    order: Literal["ABCD", "CDAB"] = "ABCD"
    window: int = Field(default=4, ge=1, le=8)


class FakeDriver:
    """Addresses are ``r1:REAL``, ``i1:REAL`` (read-only) and ``DB1.DBD4:REAL``."""

    Config: ClassVar[type[BaseModel]] = FakeOptions

    @classmethod
    def parse_address(cls, text: str) -> FakeAddress:
        match = re.fullmatch(r"(r|i|DB\d+\.DB[BWDX])(\d+(?:\.\d)?):([A-Z]+)(?:\[(\d{1,4})\])?", text)
        if not match:
            raise AddressError(f'"{text}" is not an address', hint="write e.g. r1:REAL")
        if match[3] not in TYPES:
            raise AddressError("the type is not known", code="T214")
        return FakeAddress(TYPES[match[3]], int(match[4] or 0), match[1] != "i", text)

    @classmethod
    def check_url(cls, url: str) -> None:
        if not url.startswith("fake://"):
            raise ConfigError(f'"{url}" is not a URL of this driver; write fake://host')


class FakeBackendOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(default=1, ge=1, le=8)
    url: str = ""
    timeout_ms: int = 100


class FakeBackend:
    """A backend of which only the options are looked at."""

    Options: ClassVar[type[BaseModel]] = FakeBackendOptions


class FakePlugins:
    """A lookup with one driver that works and one whose import fails, and the same of backends."""

    def names(self, group: str) -> tuple[str, ...]:
        return {DRIVERS: ("broken", "fake"), BACKENDS: ("broken", "onnxruntime", "remote")}[group]

    def load(self, group: str, name: str) -> Any:
        if name == "broken":
            raise PluginBrokenError(group, name, "No module named 'libplc'")
        if group == BACKENDS and name in self.names(group):
            return FakeBackend
        if name != "fake":
            raise PluginNotFoundError(group, name, self.names(group))
        return FakeDriver


CONFIG = """\
version = 1
[site]
name = "plant"
machine = "Press01"

[[devices]]
name = "press"
driver = "fake"
url = "fake://one"
tags = "press.csv"
  [[devices.groups]]
  name = "fast"
  period_ms = 100
  [[devices.captures]]
  name = "stroke"
  sequence = "r0:UINT"
  samples = "r100:INT[2000]"
  sample_rate_hz = 10000
  [devices.watchdog]
  profile = "wago-750"
  timeout_ms = 500
  restart = "automatic"

[[pipelines]]
name = "wear"
model = "wear"
capture = "press/stroke"
context = ["press/force"]

[[outputs]]
name = "verdict"
device = "press"
pipeline = "wear"
acknowledge = "press/ack"
  [[outputs.values]]
  tag = "press/speed"
  source = "score"
  preset = 0
"""
TABLE = """\
name,address,unit,low,high,access
force,r1:REAL,kN,0,100,
ack,r2:BOOL,,,,rw
speed,r3:REAL,1/min,0,50,rw
"""


def load_texts(folder: Path, config: str = CONFIG, table: str | bytes = TABLE, **env: str) -> Loaded:
    """Write a configuration and its table, and load them."""
    data = table.encode() if isinstance(table, str) else table
    (folder / "press.csv").write_bytes(data)
    file = folder / "press.toml"
    file.write_text(config)
    return load(file, env=env, plugins=FakePlugins())


def changed(old: str, new: str, text: str = CONFIG) -> str:
    """Return a text with one stretch replaced, which must be in it."""
    assert old in text
    return text.replace(old, new, 1)


def codes_of(loaded: Loaded) -> list[str]:
    return [problem.code for problem in loaded.problems]
