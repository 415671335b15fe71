"""What ``edge-opcua ladder`` does: function blocks for the PLC, and the map of an interface block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_opcua.app.command.tell import REFUSED, WRONG_USE, complain, say
from edge_opcua.config.eai import Ctrl, Stat
from edge_opcua.config.loader import load
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.report import problems_text
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.ports import Area
from edge_opcua.errors import ConfigError
from edge_opcua.ladder.export import TARGETS, exported, refuse_edited
from edge_opcua.ladder.facts import Facts, facts_of
from edge_opcua.ladder.files import Field, File, camel, control_fields, status_fields
from edge_opcua.plugins import DRIVERS, InstalledPlugins
from edge_opcua.security.pki import write_atomic

_READABLE: Final = 0o644
_EDITED: Final = "C181"


def export_blocks(config_file: Path, *, name: str, target: str, out: Path | None, force: bool) -> int:
    """Write the function block of an output and what belongs to it.

    Args:
        config_file: The configuration.
        name: Name of the output; may be empty if only one has an interface block.
        target: ``codesys``, ``siemens``, ``rockwell``; or ``all``, each that can take the interface into a
            folder of its own.
        out: Folder.
        force: Whether files that somebody has changed are written over.

    Returns:
        0; 2 if the configuration is wrong, the target cannot take the interface, or a file cannot be written;
        3 if a file was changed since it was exported.
    """
    found = _found(config_file, name)
    if found is None:
        return WRONG_USE
    if out is None:
        complain("ladder export needs a folder: --out DIR")
        return WRONG_USE
    facts = facts_of(*found)
    try:
        files = _possible(facts, out) if target == "all" else {out: exported(facts, target)}
        for folder, written in files.items():
            if not force:
                refuse_edited(folder, written)
        for folder, written in files.items():
            folder.mkdir(parents=True, exist_ok=True)
            for file in written:
                write_atomic(folder / file.name, file.text.encode(), mode=_READABLE)
                say(f"{folder / file.name}")
    except ConfigError as exc:
        more = "; --force writes over it" if exc.code == _EDITED else ""
        complain(f"error[{exc.code}] {exc}{more}")
        return REFUSED if exc.code == _EDITED else WRONG_USE
    except OSError as exc:
        complain(f"{exc.filename}: {exc.strerror}")
        return WRONG_USE
    say(f"{facts.block}, interface version {facts.map.version}; not compiled here: README.md says more")
    return 0


def _possible(facts: Facts, out: Path) -> dict[Path, tuple[File, ...]]:
    """Return the files of each target that can take the interface, and tell of the others."""
    found = {}
    for target in TARGETS:
        try:
            found[out / target] = exported(facts, target)
        except ConfigError as exc:
            complain(f"not for {target}: [{exc.code}] {exc}")
    return found


def show_map(config_file: Path, *, name: str) -> int:
    """Print both areas of an output, word by word, with their addresses in its device.

    Returns:
        0; 2 if the configuration is wrong or has no such output.
    """
    found = _found(config_file, name)
    if found is None:
        return WRONG_USE
    facts = facts_of(*found)
    for line in _map_lines(*found, facts):
        say(line)
    return 0


def _found(config_file: Path, name: str) -> tuple[EdgeConfig, OutputConfig] | None:
    loaded = load(config_file, env=os.environ)
    config = loaded.config
    if config is None:
        complain(problems_text(loaded))
        return None
    able = [output for output in config.outputs if output.interface is not None]
    known = ", ".join(output.name for output in able) or "none"
    if not name and len(able) == 1:
        return config, able[0]
    output = next((each for each in config.outputs if each.name == name), None)
    if output is None:
        asked = f'there is no output "{name}"' if name else "which output? --output NAME"
        complain(f"error[C180] {asked}; with an interface block: {known}")
        return None
    if output.interface is None:
        complain(f"error[C180] output {name} writes single tags: no function block belongs to it")
        return None
    return config, output


def _map_lines(config: EdgeConfig, output: OutputConfig, facts: Facts) -> Iterator[str]:
    assert output.interface is not None
    device = config.device(output.device)
    plugin = InstalledPlugins().load(DRIVERS, device.driver)
    order = "high" if facts.map.high_first else "low"
    yield f"{output.name}: mode {facts.mode}, interface version {facts.map.version}, {order} word first"
    for title, text, fields, bits in (
        (f"control: {device.name} writes, we read", output.interface.control, control_fields(), Ctrl),
        (f"status: we write, {device.name} reads", output.interface.status, status_fields(facts), Stat),
    ):
        area: Area = plugin.parse_area(text, device.url, device.options)
        yield ""
        yield title
        yield from _aligned([row for field in fields for row in _rows(area, field, bits)])


def _rows(area: Area, field: Field, bits: type[Ctrl | Stat]) -> Iterator[tuple[str, ...]]:
    words = 2 if field.type in ("DINT", "REAL") else 0
    address = area.words(field.word, words).partition(":UINT")[0].partition(":WORD")[0]
    yield (str(field.word), address, field.type, field.name, field.text)
    if field.word == 0:
        for bit in bits:
            number = bit.bit_length() - 1
            yield (
                f"0.{number}",
                area.bit(0, number).partition(":BOOL")[0],
                "BOOL",
                f"  {camel(bit.name or '')}",
                "",
            )


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
