"""Everything that belongs to an output for one PLC, and writing it without losing what somebody changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from edge_opcua.errors import ConfigError
from edge_opcua.ladder import codesys, rockwell, siemens
from edge_opcua.ladder.facts import Facts
from edge_opcua.ladder.files import File
from edge_opcua.ladder.header import signed, untouched
from edge_opcua.ladder.readme import readme
from edge_opcua.ladder.timing import timing

TARGETS: Final[Mapping[str, Callable[[Facts], tuple[File, ...]]]] = {
    "codesys": codesys.files,
    "siemens": siemens.files,
    "rockwell": rockwell.files,
}


def exported(facts: Facts, target: str) -> tuple[File, ...]:
    """Return the files of one target, each with its checksum.

    Raises:
        ConfigError: This target cannot take the interface as it is configured (C180).
    """
    files = TARGETS[target](facts)
    more = (
        File(f"EdgeAI_{facts.name}_timing.svg", timing(facts)),
        File("README.md", readme(facts, target, files)),
    )
    return tuple(File(file.name, signed(file.text)) for file in (*files, *more))


def refuse_edited(folder: Path, files: tuple[File, ...]) -> None:
    """Refuse to write over files that somebody has changed, or that are not ours.

    Raises:
        ConfigError: There is one (C181).
        OSError: A file cannot be read.
    """
    for file in files:
        path = folder / file.name
        if path.exists() and not untouched(path.read_bytes().decode(errors="replace")):
            raise ConfigError(f"{path} was changed since it was exported, or is not ours", code="C181")
