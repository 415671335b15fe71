"""What a configuration says of one device before its tag table is there, for commands that make the table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_opcua.config.compose import compose
from edge_opcua.config.draft import tables_of, text_of
from edge_opcua.config.environment import substitute
from edge_opcua.config.problem import Problem
from edge_opcua.config.syntax import read_document
from edge_opcua.errors import ConfigError


@dataclass(frozen=True, slots=True)
class DeviceOutline:
    """One device, as far as it is written down.

    Args:
        name: Its name.
        driver: Name of its driver.
        url: Where it is.
        tags: Its tag tables, as they are named in the file.
        groups: Its poll groups with their period in ms.
        order: Byte order of its numbers, empty if its options do not say.
        folder: Folder that the names of its tag tables are relative to.
    """

    name: str
    driver: str
    url: str
    tags: tuple[str, ...]
    groups: dict[str, int]
    order: str = ""
    folder: Path = Path()

    @property
    def unit(self) -> int | None:
        """Modbus unit of its URL, None if there is none."""
        try:
            text = urlsplit(self.url).path.strip("/")
        except ValueError:
            return None
        return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def outlines(path: Path, env: Mapping[str, str] = os.environ) -> dict[str, DeviceOutline]:
    """Return the devices of a configuration by name, whatever else is wrong with it.

    Raises:
        ConfigError: The file cannot be read or is no TOML.
    """
    document = compose(read_document(path, str(path)), env)
    if document.raw is None:
        problem = document.problems[0] if document.problems else Problem("C101", "cannot be read")
        place = f":{problem.place.line}" if problem.place.line else ""
        raise ConfigError(f"{path}{place}: {problem.message}", code=problem.code)
    raw, _ = substitute(document.raw, env, lambda _path, _problem: None)
    found: dict[str, DeviceOutline] = {}
    for index, table in enumerate(tables_of(raw, "devices")):
        folder = Path(document.file_of(("devices", index))).parent
        outline = _outline(table, folder)
        if outline.name:
            found.setdefault(outline.name, outline)
    return found


def _outline(table: Mapping[str, object], folder: Path) -> DeviceOutline:
    tags = table.get("tags")
    named = [tags] if isinstance(tags, str) else tags if isinstance(tags, list) else []
    options = table.get("options")
    groups = {
        name: period
        for group in tables_of(table, "groups")
        if (name := text_of(group, "name")) and isinstance(period := group.get("period_ms"), int)
    }
    return DeviceOutline(
        text_of(table, "name"),
        text_of(table, "driver"),
        text_of(table, "url"),
        tuple(name for name in named if isinstance(name, str)),
        groups,
        text_of(options, "order") if isinstance(options, dict) else "",
        folder,
    )
