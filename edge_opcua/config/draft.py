"""What is known of a configuration before it is known to be right: names stand even where values do not.

Cross checks look at a draft, so that one wrong value does not hide what else is wrong, and makes nothing else
look wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edge_opcua.config.compose import Composition
from edge_opcua.config.environment import ENVIRONMENT_CODES
from edge_opcua.config.locate import Path
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.problem import Problem
from edge_opcua.config.schema import (
    CaptureConfig,
    DeviceConfig,
    EdgeConfig,
    PipelineConfig,
    TagConfig,
)
from edge_opcua.config.tagtable import TagTables
from edge_opcua.config.validate import dotted
from edge_opcua.core.ports import Address, Area, DriverPlugin


@dataclass(slots=True)
class DeviceDraft:
    """One device.

    Args:
        index: Its number in the file.
        name: Its name, or an empty text if it has none.
        tables: Its tag tables.
        plugin: Its driver, or None if there is none of that name.
        config: Its settings without tags, if all of them are right.
        captures: Its captures by name; None for one that is not right.
        options: Its options in the driver's words, defaults filled in.
        areas: The words that outputs share with it.
        is_complete: Whether all its tag tables could be read, so that a missing tag is really missing.
    """

    index: int
    name: str
    tables: TagTables
    plugin: type[DriverPlugin] | None = None
    config: DeviceConfig | None = None
    captures: dict[str, CaptureConfig | None] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    areas: list[SharedArea] = field(default_factory=list)
    is_complete: bool = True

    @property
    def path(self) -> Path:
        """Its path in the file."""
        return ("devices", self.index)

    def tag(self, name: str) -> TagConfig | None:
        """Return one of its tags, or None if there is none or its row is wrong."""
        return next((tag for tag in self.tables.tags if tag.name == name), None)


@dataclass(frozen=True, slots=True, eq=False)
class SharedArea:
    """What one side of an interface block writes.

    Args:
        output: Name of the output.
        key: ``control`` or ``status``, its key in the configuration.
        device: The device it lies in.
        area: Where it begins.
        size: Its words.
        tag: Name of the tag and of the group in which it is read.
    """

    output: str
    key: str
    device: DeviceDraft
    area: Area
    size: int
    tag: str

    @property
    def address(self) -> str:
        """The address of all of it."""
        return self.area.words(0, self.size)

    @property
    def words_text(self) -> str:
        """Its place and size for people."""
        return f"{self.area.canonical} ({self.size} words)"

    def touches(self, address: Address) -> bool:
        """Return whether any part of an address of the same device lies in it."""
        return self.area.touches(self.size, address)

    def overlaps(self, other: SharedArea) -> bool:
        """Return whether two areas share a word."""
        parse = self.device.tables.parse
        return other.device is self.device and parse is not None and self.touches(parse(other.address))


@dataclass(slots=True)
class Draft:
    """A whole configuration.

    Args:
        document: The file.
        raw: Its content, environment variables replaced.
        config: All its settings without tags, if all of them are right.
        devices: Its devices.
        pipelines: Its pipelines that are right, by number.
        outputs: Its outputs that are right, by number.
        delivered: Version numbers of the delivered models by name; None if there is no folder of them.
        problems: What is wrong.
        unset: Paths of texts with a variable that is not set; nothing else is said about these.
    """

    document: Composition
    raw: Mapping[str, Any]
    config: EdgeConfig | None = None
    devices: list[DeviceDraft] = field(default_factory=list)
    pipelines: dict[int, PipelineConfig] = field(default_factory=dict)
    outputs: dict[int, OutputConfig] = field(default_factory=dict)
    delivered: dict[str, list[int]] | None = None
    problems: list[Problem] = field(default_factory=list)
    unset: set[Path] = field(default_factory=set)

    def report(self, path: Path, problem: Problem, *, at_key: bool = False) -> None:
        """Note a problem with the setting at a path."""
        if path in self.unset and problem.code not in ENVIRONMENT_CODES:
            return
        places = self.document.places
        place = places.key(path) if at_key else places.value(path)
        self.problems.append(self.document.at(replace(problem, place=place, where=dotted(self.raw, path))))

    def device(self, name: str) -> DeviceDraft | None:
        """Return the device of that name, or None."""
        return next((device for device in self.devices if device.name == name), None)

    def names(self, section: str) -> Iterator[tuple[Path, str]]:
        """Yield path and name of every entry of a list of tables, right or wrong."""
        for index, item in enumerate(tables_of(self.raw, section)):
            name = item.get("name")
            if isinstance(name, str) and name:
                yield (section, index, "name"), name


def tables_of(parent: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return a list of tables as far as it is one; anything else in it counts as an empty table."""
    value = parent.get(key)
    return [item if isinstance(item, dict) else {} for item in value] if isinstance(value, list) else []


def text_of(parent: Mapping[str, Any], key: str) -> str:
    """Return a text, or an empty one if there is none."""
    value = parent.get(key)
    return value if isinstance(value, str) else ""
