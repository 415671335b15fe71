"""The tags of a device: a row for whoever asks for one, and columns for all that are never asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Final, Literal, overload

import numpy as np
from pydantic import ConfigDict, GetCoreSchemaHandler, StringConstraints
from pydantic_core import core_schema

from edge_opcua.core.table import Rows, Table
from edge_opcua.core.values import Scalar, TagSpec, TagSpecs

DEFAULT_GROUP: Final = "default"
TAG_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$"

TagName = Annotated[str, StringConstraints(pattern=TAG_PATTERN, max_length=128)]
TagValue = bool | int | float | str
Access = Literal["r", "rw"]
WriteAs = Literal["", "setpoint", "command"]


@dataclass(frozen=True, slots=True)
class TagConfig:
    """One row of a tag table, its address parsed to a type."""

    name: TagName
    address: str
    type: Scalar
    length: int = 0
    unit: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""
    group: str = DEFAULT_GROUP
    scale: float = 1.0
    offset: float = 0.0
    deadband: float = 0.0
    clamp: bool = False
    max_age_s: float | None = None
    access: Access = "r"
    write: WriteAs = ""
    echo: str = ""
    historize: bool = False
    node_id: str | None = None
    substitute: TagValue | None = None
    initial: TagValue | None = None
    true_name: str = ""
    false_name: str = ""
    states: tuple[tuple[int, str], ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    file: str = ""
    line: int = 0

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def writable(self) -> bool:
        """Whether clients with the right role may write this tag."""
        return self.access == "rw"

    @property
    def spec(self) -> TagSpec:
        """The row as the bus declares it."""
        return TagSpec(self.name, self.type, self.length, self.substitute)


_COLUMNS: Final = tuple(each.name for each in fields(TagConfig))
# What a column holds instead of what a row has.
_TO_COLUMN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "type": int,
    "extra": lambda given: (*given.items(),),
}
_FROM_COLUMN: Final[Mapping[str, Callable[[Any], Any]]] = {"type": Scalar, "extra": dict}


class TagRows(Sequence[TagConfig]):
    """Rows of a tag table, kept as columns; a :class:`TagConfig` is made when one is asked for.

    Args:
        table: A column for each field of :class:`TagConfig`.
        rows: Which rows of the table, in order; None: all of them.
    """

    __slots__ = ("_rows", "_table")

    def __init__(self, table: Table, rows: Rows | None = None) -> None:
        self._table = table
        self._rows = rows

    @classmethod
    def of(cls, tags: Iterable[TagConfig]) -> TagRows:
        """Return the same rows as columns."""
        if isinstance(tags, TagRows):
            return tags
        given = tuple(tags)
        columns: dict[str, list[Any]] = {}
        for name in _COLUMNS:
            values = list(map(operator.attrgetter(name), given))
            convert = _TO_COLUMN.get(name)
            columns[name] = values if convert is None else list(map(convert, values))
        return cls(Table.of(columns, len(given)))

    def __len__(self) -> int:
        return self._table.length if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> TagConfig: ...

    @overload
    def __getitem__(self, index: slice | Rows) -> TagRows: ...

    def __getitem__(self, index: int | slice | Rows) -> TagConfig | TagRows:
        if isinstance(index, slice | np.ndarray):
            rows = np.arange(self._table.length) if self._rows is None else self._rows
            return TagRows(self._table, rows[index])
        row = range(len(self))[index] if self._rows is None else int(self._rows[index])
        values = {name: self._table.columns[name].value(row) for name in _COLUMNS}
        for name, convert in _FROM_COLUMN.items():
            values[name] = convert(values[name])
        return TagConfig(**values)

    def __iter__(self) -> Iterator[TagConfig]:
        for values in zip(*map(self.column, _COLUMNS), strict=True):
            yield TagConfig(*values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TagRows | tuple)
            and len(self) == len(other)
            and all(map(operator.eq, self, other))
        )

    __hash__ = None  # type: ignore[assignment]  # a row holds a dict

    def __repr__(self) -> str:
        return f"<{len(self)} tags>"

    def cell(self, row: int, name: str) -> Any:
        """Return one field of one row: a tenth of the cost of the row."""
        at = row if self._rows is None else int(self._rows[row])
        value = self._table.columns[name].value(at)
        convert = _FROM_COLUMN.get(name)
        return value if convert is None else convert(value)

    def column(self, name: str) -> list[Any]:
        """Return one field of every row: far cheaper than the rows."""
        values = self._table.columns[name].values(self._rows)
        convert = _FROM_COLUMN.get(name)
        return values if convert is None else list(map(convert, values))

    def row_of(self, name: str) -> int | None:
        """Return the number of the row of that name, or None if there is none."""
        names = self.column("name")
        return names.index(name) if name in names else None

    def rows_where(self, column: str, value: Any) -> Rows:
        """Return the numbers of the rows that have a value in a column."""
        hits = self._table.where(column, value)
        return np.flatnonzero(hits if self._rows is None else hits[self._rows])

    def where(self, column: str, value: Any) -> TagRows:
        """Return the rows that have a value in a column."""
        return self[self.rows_where(column, value)]

    @property
    def writable(self) -> TagRows:
        """The rows that clients with the right role may write."""
        return self.where("access", "rw")

    @property
    def specs(self) -> TagSpecs:
        """The rows as the bus declares them."""
        return TagSpecs(self._table, self._rows)

    def to_bytes(self) -> bytes:
        """Return all of it for :meth:`from_buffer` in another process."""
        if self._rows is None:
            return self._table.to_bytes()
        return TagRows.of(tuple(self)).to_bytes()

    @classmethod
    def from_buffer(cls, buffer: memoryview) -> TagRows:
        """Read rows where they lie; the buffer has to stay as it is."""
        return cls(Table.from_buffer(buffer))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Let a setting be this, or a list of rows."""
        rows = handler.generate_schema(tuple[TagConfig, ...])
        made = core_schema.no_info_after_validator_function(cls.of, rows)
        return core_schema.json_or_python_schema(
            json_schema=made,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(cls), made], mode="left_to_right"
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(tuple, return_schema=rows),
        )
