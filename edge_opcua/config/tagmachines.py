"""Tag tables of a template's devices: read once, for further machines only where a cell names a column."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from edge_opcua.config.tags import TAG_PATTERN, TagConfig
from edge_opcua.config.tagtable import ParseAddress, TagTables
from edge_opcua.config.templates import Machine, compiled
from edge_opcua.errors import AddressError

# Columns whose text may differ between machines without any other column meaning something else.
_SIMPLE: Final = frozenset({"name", "address", "description", "unit", "node_id"})
_FIELDS: Final = {each.name: index for index, each in enumerate(fields(TagConfig))}
_NAME: Final = re.compile(TAG_PATTERN)

Fill = Callable[[Mapping[str, str]], str]


class _UnlikeError(Exception):
    """This machine's tables have to be read in full: something in them is not as in the first one's."""


class RepeatedTables:
    """What the tables of one machine say, to be said again for the others.

    Args:
        first: The tables as they were read for the first machine.
    """

    def __init__(self, first: TagTables) -> None:
        self._first = first
        self._rows: list[tuple[list[Any], dict[str, Fill]]] = []
        self._is_plain = first.parse is not None and not any(problem.is_error for problem in first.problems)
        for tag in first.tags:
            cells = first.placed.get((tag.file, tag.line), {})
            self._is_plain &= cells.keys() <= _SIMPLE
            values = [getattr(tag, name) for name in _FIELDS]
            self._rows.append((values, {column: compiled(text) for column, text in cells.items()}))

    def tables_for(self, machine: Machine) -> TagTables | None:
        """Return the tables of another machine; None if they have to be read in full."""
        if not self._is_plain or self._first.parse is None:
            return None
        first = self._first
        if not first.is_filled:  # no placeholder at all: every machine has the same tags
            return first
        tables = TagTables(first.parse, first.groups, sheets=first.sheets, machine=machine, is_filled=True)
        parse = self._first.parse
        try:
            for values, cells in self._rows:
                tables.tags.append(_tag(values, cells, tables, parse))
        except (_UnlikeError, AddressError):
            return None
        return tables


def _tag(values: list[Any], cells: dict[str, Fill], tables: TagTables, parse: ParseAddress) -> TagConfig:
    machine = tables.machine
    found = list(values)
    for column, fill in cells.items():
        text = fill(machine.values if machine else {}).strip()
        if not text or (column == "node_id" and (len(text) > 200 or not text.isprintable())):
            raise _UnlikeError
        found[_FIELDS[column]] = text
    tag = TagConfig(*found)
    if "address" in cells:
        _check_address(tag, tables, parse)
    if "name" in cells and (len(tag.name) > 128 or not _NAME.fullmatch(tag.name)):
        raise _UnlikeError
    if tables.names.setdefault(tag.name, (tag.file, tag.line)) != (tag.file, tag.line):
        raise _UnlikeError
    if tag.node_id and tables.node_ids.setdefault(tag.node_id, tag.name) != tag.name:
        raise _UnlikeError
    return tag


def _check_address(tag: TagConfig, tables: TagTables, parse: ParseAddress) -> None:
    address = parse(tag.address)
    is_scaled = (tag.scale, tag.offset) != (1.0, 0.0)
    if (address.scalar is not tag.type and not is_scaled) or address.length != tag.length:
        raise _UnlikeError
    if tag.writable and not address.writable:
        raise _UnlikeError
    if tables.canonical.setdefault(address.canonical, tag.name) != tag.name:
        raise _UnlikeError
