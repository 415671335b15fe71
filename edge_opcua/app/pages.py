"""The rows that ``watch`` shows, page by page: all tags of a large plant are too much for one answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader
from edge_opcua.core.clock import Clock
from edge_opcua.core.ticks import to_text
from edge_opcua.core.values import (
    UNCERTAIN_SUBSTITUTE,
    Scalar,
    TagSpec,
    Value,
    Verdict,
    is_bad,
    is_good,
    status_name,
)

ROWS: Final = 1000
ELEMENTS: Final = 20_000  # of arrays, and characters of texts; an answer may have a megabyte
_SECOND_NS: Final = 1e9
_SHOWN: Final = frozenset({"verdict", "score", "confidence", "stroke", "input_age_ms", "fail_safe_active"})


@dataclass(frozen=True, slots=True)
class _Section:
    """A block of which rows are shown, and where in the sequence of all rows it begins."""

    reader: BlockReader
    prefix: str
    units: list[str]
    first: int

    @property
    def is_result(self) -> bool:
        return not self.units


class RowPages:
    """Makes pages of all tags and results.

    Args:
        config: The configuration the bus was made for.
        readers: A reader of each block.
        clock: For ages.
    """

    def __init__(self, config: EdgeConfig, readers: Mapping[str, BlockReader], clock: Clock) -> None:
        self._clock = clock
        self._sections: list[_Section] = []
        self._length = 0
        for device in config.devices:
            for group in device.groups:
                reader = readers.get(device.block_name(group.name))
                if reader is not None:  # a group without tags has no block
                    self._add(reader, device.name, device.tags_of(group.name).column("unit"))
        for pipeline in config.pipelines:
            self._add(readers[pipeline.result_block], pipeline.name, [])

    def _add(self, reader: BlockReader, owner: str, units: list[str]) -> None:
        self._sections.append(_Section(reader, f"{owner}/", units, self._length))
        self._length += len(reader.spec.tags)

    def page(self, first: int = 0, *, only_bad: bool = False) -> tuple[list[dict[str, Any]], int | None]:
        """Return rows (id, value, unit, status, age in seconds, source time in ns UTC) and where to go on.

        Args:
            first: Where to begin: 0, or where the page before ended.
            only_bad: Whether rows that are Good are left out.

        Returns:
            Up to 1000 rows, fewer if they are large, and the beginning of the next page; None: that was all.
        """
        rows: list[dict[str, Any]] = []
        room = ELEMENTS
        for number, row in self._from(max(0, first)):
            if only_bad and row.get("good"):
                continue
            value = row["value"]
            room -= len(value) if isinstance(value, list | str) else 0
            if rows and (room < 0 or len(rows) == ROWS):
                return rows, number
            rows.append(row)
        return rows, None

    def _from(self, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for section in self._sections:
            start = max(0, first - section.first)
            if start < len(section.reader.spec.tags):
                for row, shown in self._rows_of(section, start):
                    yield section.first + row, shown

    def _rows_of(self, section: _Section, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield number and content of the rows of a section; made one by one, as a page may end anywhere."""
        batch = section.reader.latest()
        status = None if batch is None else section.reader.effective(batch)
        now_ns = self._clock.utc_ns()
        for row in range(start, len(section.reader.spec.tags)):
            tag = section.reader.spec.tags[row]
            if section.is_result and tag.name not in _SHOWN:
                continue
            shown: dict[str, Any] = {
                "id": section.prefix + tag.name,
                "value": None,
                "unit": section.units[row] if section.units else "",
                "status": None,
            }
            if batch is not None and status is not None:
                shown |= _read(batch, tag, row, int(status[row]), now_ns)
            if section.is_result and tag.name == "verdict" and shown["value"] is not None:
                shown["value"] = Verdict(shown["value"]).name
            yield row, shown


def _read(batch: TagBatch, tag: TagSpec, row: int, status: int, now_ns: int) -> dict[str, Any]:
    source_ns = int(batch.source_ns[row])
    if is_bad(status):
        value: Value = None
    elif status == UNCERTAIN_SUBSTITUTE and tag.substitute is not None:
        value = tag.substitute
    else:
        value = batch.value(row)
    return {
        "value": plain_value(value, tag.type),
        "status": status,
        "quality": status_name(status),
        "good": is_good(status),
        "age_s": (now_ns - source_ns) / _SECOND_NS if source_ns else None,
        "source_ns": source_ns or None,
    }


def plain_value(value: Value, kind: Scalar | None = None) -> Any:
    """Return a value as JSON has it: None for what is no number, ISO 8601 for a time."""
    if kind is Scalar.DATETIME and value is not None:
        return (
            [to_text(each) for each in value.tolist()]
            if isinstance(value, np.ndarray)
            else to_text(int(value))
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value.tolist()
