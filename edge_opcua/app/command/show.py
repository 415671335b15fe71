"""What ``edge-opcua check --show NAME`` does: a device or machine as it is after includes and templates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_opcua.app.command.tell import WRONG_USE, complain, say
from edge_opcua.config.compose import Composition, compose
from edge_opcua.config.problem import nearest
from edge_opcua.config.syntax import read_document
from edge_opcua.config.templates import SECTIONS


def show(config_file: Path, name: str) -> int:
    """Print the devices, pipelines and outputs of a name, or of a machine of that name, as TOML.

    Variables of the environment stay as they are written: what they hold may be secret.

    Args:
        config_file: The configuration.
        name: Name of a device, pipeline, output or machine.

    Returns:
        0; 2 if there is none of that name, or the file cannot be read.
    """
    document = compose(read_document(config_file, str(config_file)))
    raw = document.raw
    if raw is None:
        problem = document.problems[0]
        complain(f"error[{problem.code}] {config_file}:{problem.place.line}: {problem.message}")
        return WRONG_USE
    entries = list(_entries(document, raw))
    found = [entry for entry in entries if name in entry[2]]
    if not found:
        known = {each for _, _, names, _ in entries for each in names}
        near = nearest(name, known)
        said = f'; did you mean "{near}"?' if near else f"; there are: {', '.join(sorted(known)[:20])}"
        complain(f'there is no device, pipeline, output or machine "{name}"{said}')
        return WRONG_USE
    for section, index, _, table in found:
        place = document.places.key((section, index))
        origin = f", for {place.origin}" if place.origin else ""
        say(f"# {place.file or document.file}:{place.line}{origin}")
        for line in _lines(table, section):
            say(line)
        say("")
    return 0


def _entries(
    document: Composition, raw: Mapping[str, Any]
) -> Iterator[tuple[str, int, set[str], dict[str, Any]]]:
    """Yield section, number, names and content of every entry."""
    for section in SECTIONS:
        entries = raw.get(section)
        for index, table in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(table, dict):
                machine = document.machines.get((section, index))
                names = {str(table.get("name", "")), machine.name if machine else ""}
                yield section, index, names - {""}, table


def _lines(table: Mapping[str, Any], header: str) -> Iterator[str]:
    """Yield a table of a list of tables as TOML, its own keys before the tables in it."""
    yield f"[[{header}]]"
    inner = {key: value for key, value in table.items() if _is_list_of_tables(value)}
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {_value(value)}"
    for key, value in inner.items():
        for one in value:
            yield from _lines(one, f"{header}.{key}")


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)  # also how TOML writes them
    return str(value)
