"""Types, status codes and block declarations: what a value is, apart from where it lies."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from edge_opcua.core.table import Rows, Table

Array: TypeAlias = npt.NDArray[np.generic]
Value: TypeAlias = "bool | int | float | str | Array | None"


class Scalar(enum.IntEnum):
    """The OPC UA built-in types a tag can have; the number is the type id (Part 6 §5.1.2, table 1)."""

    BOOLEAN = 1
    SBYTE = 2
    BYTE = 3
    INT16 = 4
    UINT16 = 5
    INT32 = 6
    UINT32 = 7
    INT64 = 8
    UINT64 = 9
    FLOAT = 10
    DOUBLE = 11
    STRING = 12
    DATETIME = 13

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy type of one element: UTF-8 bytes of a STRING, ticks of a DATETIME (:mod:`core.ticks`)."""
        return _DTYPES[self]

    @property
    def is_number(self) -> bool:
        """Whether it can have a range, a unit, a scale or a deadband."""
        return self not in _NO_NUMBERS


_DTYPES: dict[Scalar, np.dtype[np.generic]] = {
    Scalar.BOOLEAN: np.dtype(np.bool_),
    Scalar.SBYTE: np.dtype(np.int8),
    Scalar.BYTE: np.dtype(np.uint8),
    Scalar.INT16: np.dtype(np.int16),
    Scalar.UINT16: np.dtype(np.uint16),
    Scalar.INT32: np.dtype(np.int32),
    Scalar.UINT32: np.dtype(np.uint32),
    Scalar.INT64: np.dtype(np.int64),
    Scalar.UINT64: np.dtype(np.uint64),
    Scalar.FLOAT: np.dtype(np.float32),
    Scalar.DOUBLE: np.dtype(np.float64),
    Scalar.STRING: np.dtype(np.uint8),
    Scalar.DATETIME: np.dtype(np.int64),
}
_NO_NUMBERS = frozenset({Scalar.BOOLEAN, Scalar.STRING, Scalar.DATETIME})


class Link(enum.IntEnum):
    """State of the source behind a block, as its writer sees it."""

    CONNECTING = 0
    UP = 1
    LOST = 2
    FAILED = 3
    DISABLED = 4


class Verdict(enum.IntEnum):
    """Judgement of one result; the numbers are those of ResultEvaluationEnum (OPC 40001-101)."""

    UNDEFINED = 0
    OK = 1
    NOT_OK = 2
    NOT_DECIDABLE = 3


# StatusCodes (Part 6 annex A.2), as numbers so that they fit a column.
GOOD = 0x00000000
GOOD_CLAMPED = 0x00300000
GOOD_LOCAL_OVERRIDE = 0x00960000
UNCERTAIN_NO_COMMUNICATION_LAST_USABLE = 0x408F0000
UNCERTAIN_LAST_USABLE = 0x40900000
UNCERTAIN_SUBSTITUTE = 0x40910000
UNCERTAIN_EU_EXCEEDED = 0x40940000
UNCERTAIN_SUBNORMAL = 0x40950000
UNCERTAIN_SIMULATED = 0x42090000
BAD_RESOURCE_UNAVAILABLE = 0x80040000
BAD_COMMUNICATION_ERROR = 0x80050000
BAD_TIMEOUT = 0x800A0000
BAD_USER_ACCESS_DENIED = 0x801F0000
BAD_NO_COMMUNICATION = 0x80310000
BAD_WAITING_FOR_INITIAL_DATA = 0x80320000
BAD_NODE_ID_UNKNOWN = 0x80340000
BAD_NOT_WRITABLE = 0x803B0000
BAD_OUT_OF_RANGE = 0x803C0000
BAD_NOT_SUPPORTED = 0x803D0000
BAD_TYPE_MISMATCH = 0x80740000
BAD_CONFIGURATION_ERROR = 0x80890000
BAD_DEVICE_FAILURE = 0x808B0000
BAD_SENSOR_FAILURE = 0x808C0000
BAD_OUT_OF_SERVICE = 0x808D0000
BAD_INVALID_STATE = 0x80AF0000
BAD_INVALID_ARGUMENT = 0x80AB0000
BAD_INTERNAL_ERROR = 0x80020000
BAD_TOO_MANY_OPERATIONS = 0x80100000
BAD_OPERATION_ABANDONED = 0x80B30000

# InfoType DataValue with LimitBits (Part 4 §7.38.1), or'ed to a status.
LIMIT_LOW = 0x0400 | 0x0100
LIMIT_HIGH = 0x0400 | 0x0200

_NAMES = {
    GOOD: "Good",
    GOOD_CLAMPED: "GoodClamped",
    GOOD_LOCAL_OVERRIDE: "GoodLocalOverride",
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE: "UncertainNoCommunicationLastUsableValue",
    UNCERTAIN_LAST_USABLE: "UncertainLastUsableValue",
    UNCERTAIN_SUBSTITUTE: "UncertainSubstituteValue",
    UNCERTAIN_EU_EXCEEDED: "UncertainEngineeringUnitsExceeded",
    UNCERTAIN_SUBNORMAL: "UncertainSubNormal",
    UNCERTAIN_SIMULATED: "UncertainSimulatedValue",
    BAD_RESOURCE_UNAVAILABLE: "BadResourceUnavailable",
    BAD_COMMUNICATION_ERROR: "BadCommunicationError",
    BAD_TIMEOUT: "BadTimeout",
    BAD_USER_ACCESS_DENIED: "BadUserAccessDenied",
    BAD_NO_COMMUNICATION: "BadNoCommunication",
    BAD_WAITING_FOR_INITIAL_DATA: "BadWaitingForInitialData",
    BAD_NODE_ID_UNKNOWN: "BadNodeIdUnknown",
    BAD_NOT_WRITABLE: "BadNotWritable",
    BAD_OUT_OF_RANGE: "BadOutOfRange",
    BAD_NOT_SUPPORTED: "BadNotSupported",
    BAD_TYPE_MISMATCH: "BadTypeMismatch",
    BAD_CONFIGURATION_ERROR: "BadConfigurationError",
    BAD_DEVICE_FAILURE: "BadDeviceFailure",
    BAD_SENSOR_FAILURE: "BadSensorFailure",
    BAD_OUT_OF_SERVICE: "BadOutOfService",
    BAD_INVALID_STATE: "BadInvalidState",
    BAD_INVALID_ARGUMENT: "BadInvalidArgument",
    BAD_INTERNAL_ERROR: "BadInternalError",
    BAD_TOO_MANY_OPERATIONS: "BadTooManyOperations",
    BAD_OPERATION_ABANDONED: "BadOperationAbandoned",
}

_SEVERITY = 0xC0000000
_CODE = 0xFFFF0000


def is_good(status: int) -> bool:
    """Return whether the severity of a StatusCode is Good."""
    return status & _SEVERITY == 0


def is_uncertain(status: int) -> bool:
    """Return whether the severity of a StatusCode is Uncertain."""
    return status & _SEVERITY == 0x40000000


def is_bad(status: int) -> bool:
    """Return whether the severity of a StatusCode is Bad (the value then reads as null, Part 4 §7.11.1)."""
    return bool(status & 0x80000000)


def bad_rows(status: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Return a mask of the Bad rows of a status column, shape ``(n,)``."""
    return status >= np.uint32(0x80000000)


def status_name(status: int) -> str:
    """Return the specification's name of a StatusCode, or its hexadecimal form; limit bits are ignored."""
    return _NAMES.get(status & _CODE, f"0x{status:08X}")


@dataclass(frozen=True, slots=True)
class TagSpec:
    """One row of a block.

    Args:
        name: Name inside the block.
        type: Built-in type of the value, or of one element of an array.
        length: 0 for a scalar; otherwise the capacity: elements of an array, UTF-8 bytes of a STRING.
        substitute: Value shown as UncertainSubstituteValue once ``hold_s`` is over; None for none.
    """

    name: str
    type: Scalar
    length: int = 0
    substitute: bool | int | float | str | None = None

    def __post_init__(self) -> None:
        if self.type is Scalar.STRING and self.length <= 0:
            raise ValueError(f"{self.name}: a STRING needs a capacity in bytes")
        if self.length < 0:
            raise ValueError(f"{self.name}: length {self.length} is negative")


class TagSpecs(Sequence[TagSpec]):
    """The rows of a block, kept as columns; one is made when it is asked for.

    Args:
        table: Columns ``name``, ``type``, ``length`` and ``substitute``; others are not looked at.
        rows: Which rows of the table, in order; None: all of them.
    """

    __slots__ = ("_rows", "_table")

    def __init__(self, table: Table, rows: Rows | None = None) -> None:
        self._table = table
        self._rows = rows

    @classmethod
    def of(cls, tags: Iterable[TagSpec]) -> TagSpecs:
        """Return the same rows as columns."""
        if isinstance(tags, TagSpecs):
            return tags
        given = tuple(tags)
        columns: dict[str, list[Any]] = {
            "name": [tag.name for tag in given],
            "type": [int(tag.type) for tag in given],
            "length": [tag.length for tag in given],
            "substitute": [tag.substitute for tag in given],
        }
        return cls(Table.of(columns, len(given)))

    def __len__(self) -> int:
        return self._table.length if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> TagSpec: ...

    @overload
    def __getitem__(self, index: slice | Rows) -> TagSpecs: ...

    def __getitem__(self, index: int | slice | Rows) -> TagSpec | TagSpecs:
        if isinstance(index, slice | np.ndarray):
            rows = np.arange(self._table.length) if self._rows is None else self._rows
            return TagSpecs(self._table, rows[index])
        row = range(len(self))[index] if self._rows is None else int(self._rows[index])
        name, kind, length, substitute = (self._table.columns[each].value(row) for each in _SPEC_COLUMNS)
        return TagSpec(name, Scalar(kind), length, substitute)

    def __iter__(self) -> Iterator[TagSpec]:
        for name, kind, length, substitute in zip(*map(self._column, _SPEC_COLUMNS), strict=True):
            yield TagSpec(name, Scalar(kind), length, substitute)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagSpecs | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return self._column("name")

    @property
    def types(self) -> npt.NDArray[np.uint8]:
        """The built-in types, shape ``(n,)``."""
        return np.array(self._column("type"), np.uint8)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The capacities, 0 for scalars, shape ``(n,)``."""
        return np.array(self._column("length"), np.int64)

    @property
    def substitutes(self) -> list[bool | int | float | str | None]:
        """The values shown as UncertainSubstituteValue; None for none."""
        return self._column("substitute")

    @property
    def has_substitute(self) -> npt.NDArray[np.bool_]:
        """Which rows have a substitute, shape ``(n,)``."""
        return np.array([each is not None for each in self.substitutes], np.bool_)

    def to_bytes(self) -> bytes:
        """Return them for :meth:`from_buffer` in another process."""
        if self._rows is None and set(self._table.columns) == set(_SPEC_COLUMNS):
            return self._table.to_bytes()
        return Table.of({name: self._column(name) for name in _SPEC_COLUMNS}, len(self)).to_bytes()

    @classmethod
    def from_buffer(cls, buffer: memoryview) -> TagSpecs:
        """Read rows where they lie; the buffer has to stay."""
        return cls(Table.from_buffer(buffer))

    def _column(self, name: str) -> list[Any]:
        return self._table.columns[name].values(self._rows)


_SPEC_COLUMNS = ("name", "type", "length", "substitute")


@dataclass(frozen=True, slots=True)
class Policy:
    """When the values of a block stop being trusted.

    Args:
        stale_after_s: Age in seconds at which values not refreshed over a living link become Uncertain;
            infinite for values that change only when something happens.
        hold_s: Seconds for which the last value is shown after link or writer were lost; may be infinite.
        writer_lost_s: Silence in seconds after which the writing process counts as dead or frozen.
    """

    stale_after_s: float = math.inf
    hold_s: float = math.inf
    writer_lost_s: float = 1.0


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """The rows that change together, and how they are kept.

    Args:
        name: Unique name on the bus, e.g. ``press.fast``.
        tags: Rows, in order.
        depth: Batches the ring keeps; longer in time than the longest stall of any reader.
        policy: When values stop being trusted.
        wakes: Number of deadline readers that get an eventfd.

    Raises:
        ValueError: The ring is too short, or two rows have the same name; of rows that are columns already
            the second is left to :meth:`edge_opcua.core.bus.Bus.create`, so that it is looked at once.
    """

    name: str
    tags: Sequence[TagSpec]
    depth: int
    policy: Policy = Policy()
    wakes: int = 0

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise ValueError(f"{self.name}: a ring needs at least 2 slots, not {self.depth}")
        if not isinstance(self.tags, TagSpecs):
            object.__setattr__(self, "tags", TagSpecs.of(self.tags))
            self.check_names()

    @property
    def columns(self) -> TagSpecs:
        """The rows as columns."""
        return TagSpecs.of(self.tags)

    def check_names(self) -> None:
        """Raise ValueError if two rows have the same name."""
        names = self.columns.names
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: two rows have the same name")
