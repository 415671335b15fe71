"""Reads tag tables: CSV as spreadsheets write it, every wrong cell reported at its place."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.config.cells import SEPARATOR_NAMES, SHEET_FAULT, Cell, Sheet, SheetRow, split_sheet
from edge_opcua.config.problem import Problem, Severity, alternatives, nearest, quoted
from edge_opcua.config.sheettext import sheet_text
from edge_opcua.config.syntax import UnreadableError, read_bytes
from edge_opcua.config.tags import TAG_PATTERN, TagConfig, TagValue
from edge_opcua.config.templates import Machine, filled, placeholders
from edge_opcua.core import ticks
from edge_opcua.core.ports import Address
from edge_opcua.core.values import Scalar
from edge_opcua.errors import AddressError

MAX_TABLE_BYTES: Final = 16 * 2**20
_TRANSLITERATED: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
)

COLUMNS: Final[dict[str, str]] = {
    "name": "Name of the tag; its public id is `<device>/<name>`. Required.",
    "address": "Where the value lies in the device and of which type it is, as the driver has it. Required.",
    "unit": "Engineering unit, e.g. `kN`, `°C`, `m/s²`; clients see it.",
    "low": "Lower end of the range (EURange); a value outside is Uncertain, a write outside is refused.",
    "high": "Upper end of the range.",
    "description": "What it is, for people.",
    "group": "Poll group of the device; the first one if empty.",
    "scale": "Engineering value = raw value x scale + offset; a scaled value is a DOUBLE. 1 if empty.",
    "offset": "See `scale`. 0 if empty.",
    "deadband": "Change below which a value stays as it was last shown, in engineering units. 0 if empty.",
    "access": "`r` (read, the default) or `rw` (clients with the right role may write).",
    "historize": "`true` if history is kept of it. Kept; without effect in this version.",
    "node_id": "Identifier of its OPC UA node, where an older name has to live on.",
    "substitute": "Value shown as Uncertain (substitute) after `hold_s` without a link; none: Bad.",
    "initial": "Value a simulated device starts with.",
    "true_name": "What `true` means, e.g. `closed`; clients see it. `TRUE` if empty.",
    "false_name": "What `false` means, e.g. `open`. `FALSE` if empty.",
    "states": "What the numbers of a state mean, e.g. `0=Stopped; 2=Idle; 4=Execute`; clients see the texts.",
    "clamp": "`true`: a value outside `low`..`high` is shown as the limit (GoodClamped), not as Uncertain.",
    "max_age_s": "Age in seconds at which a value not refreshed becomes Uncertain, if its group allows more.",
    "write": "How it is written: `setpoint` (the default: of values that wait the latest is sent) or "
    "`command` (each value once, in order). Bits are always written like commands.",
    "echo": "Tag of the same device in which the PLC repeats the number of a command that it has done: the "
    "write is Good only then.",
}
WITHOUT_EFFECT: Final = ("historize",)
REQUIRED: Final = ("name", "address")

_NAME: Final = re.compile(TAG_PATTERN)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TORN_OFF: Final = re.compile(r"(?:order|base|from)=\S*", re.IGNORECASE)
_COMMA_NUMBER: Final = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_SHEET_NUMBER: Final = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+", re.ASCII)
_TRUTH: Final = {
    **dict.fromkeys(("true", "1", "yes", "on", "wahr", "x"), True),
    **dict.fromkeys(("false", "0", "no", "off", "falsch", ""), False),
}
_WRITES: Final = ("", "setpoint", "command")
_ACCESS: Final = {"": "r", "r": "r", "ro": "r", "rw": "rw", "r/w": "rw"}
_RANGES: Final[dict[Scalar, tuple[int, int]]] = {
    Scalar.SBYTE: (-(2**7), 2**7 - 1),
    Scalar.BYTE: (0, 2**8 - 1),
    Scalar.INT16: (-(2**15), 2**15 - 1),
    Scalar.UINT16: (0, 2**16 - 1),
    Scalar.INT32: (-(2**31), 2**31 - 1),
    Scalar.UINT32: (0, 2**32 - 1),
    Scalar.INT64: (-(2**63), 2**63 - 1),
    Scalar.UINT64: (0, 2**64 - 1),
}
_KIND_WORDS: Final = {
    Scalar.BOOLEAN: "true or false",
    Scalar.STRING: "text",
    Scalar.DATETIME: "a time",
}

ParseAddress = Callable[[str], Address]


@dataclass(slots=True)
class TagTables:
    """The tag tables of one device.

    Args:
        parse: How the device's driver reads an address; None if the driver could not be loaded.
        groups: Poll groups of the device, the first one being the default.
        tags: Rows that are right.
        names: Where each name stands first, also of rows that are wrong.
        sheets: Each file and the columns it has.
        canonical: Tag of each address, in the driver's own spelling.
        node_ids: Tag of each configured node id.
        problems: What is wrong, in the order of the rows.
        machine: Row of a table of machines whose cells stand for ``${column}`` here; None for other devices.
        is_filled: Whether any ``${column}`` was met, so that no other machine has the same tags.
        placed: By file and line the cells with ``${column}``, as they are written.
    """

    parse: ParseAddress | None
    groups: Sequence[str]
    tags: list[TagConfig] = field(default_factory=list)
    names: dict[str, tuple[str, int]] = field(default_factory=dict)
    sheets: dict[str, tuple[Sheet, list[str]]] = field(default_factory=dict)
    canonical: dict[str, str] = field(default_factory=dict)
    node_ids: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    machine: Machine | None = None
    is_filled: bool = False
    placed: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)

    def read(self, path: Path, file: str) -> bool:
        """Read one more table.

        Args:
            path: The file.
            file: Its name in messages.

        Returns:
            Whether it could be opened at all; if not, the place that names it is to blame.
        """
        try:
            data = read_bytes(path, limit_bytes=MAX_TABLE_BYTES)
            text, notice = sheet_text(data)
        except UnreadableError as exc:
            code = "T201" if exc.is_absent else "T202"
            self.problems.append(Problem(code, str(exc), file=file, help=exc.remedy))
            return not exc.is_absent
        if notice:
            self.problems.append(replace(notice, file=file))
        _Reader(self, file, text).run()
        return True

    def problem_at(self, tag: TagConfig, column: str, problem: Problem) -> Problem:
        """Return a problem found later, e.g. against an output, with the place of a tag's cell."""
        sheet, columns = self.sheets[tag.file]
        cells = dict(zip(columns, sheet.row_at(tag.line).cells, strict=False))
        place = cells[column if column in cells else "name"].place
        return replace(problem, file=tag.file, place=place, excerpt=sheet.line(place.line))


class _Reader:
    """Reads one file into the tables of its device."""

    def __init__(self, tables: TagTables, file: str, text: str) -> None:
        self._tables = tables
        self._file = file
        self._sheet = split_sheet(text)
        tables.sheets[file] = (self._sheet, [])

    def run(self) -> None:
        rows = self._sheet.rows()
        header = next(rows, None)
        if header is None:
            self._tables.problems.append(
                Problem(
                    "T220",
                    "the file is empty; its first row names the columns",
                    file=self._file,
                    help="begin it with: name,address,unit,low,high,description",
                )
            )
            return
        columns = self._columns(header)
        if columns is None:
            return
        self._tables.sheets[self._file] = (self._sheet, columns)
        without_effect = {index: name for index, name in enumerate(columns) if name in WITHOUT_EFFECT}
        used: set[int] = set()
        is_bare = True
        for row in rows:
            is_bare = False
            used.update(index for index in without_effect if index < len(row) and row.texts[index])
            self._row(columns, row, len(header))
        if is_bare:
            place = header.cells[0].place
            self._report(Problem("T222", "the table has no rows", Severity.WARNING, place=place))
        for index in sorted(used):
            message = f"column {quoted(without_effect[index])} is kept, but has no effect in this version"
            self._report(Problem("T232", message, Severity.NOTICE, place=header.cells[index].place))

    def _columns(self, header: SheetRow) -> list[str] | None:
        """Return the column name of each position; None if the table cannot be read without one."""
        if self._has_open_quote(header):
            return None
        columns: list[str] = []
        for cell in header.cells:
            name = cell.text.casefold().strip()
            if name and name in columns:
                self._report(Problem("T220", f"column {quoted(cell.text)} stands twice", place=cell.place))
            elif name and name not in COLUMNS and not name.startswith("x_"):
                self._unknown_column(cell)
            columns.append(name)
        lacking = [name for name in REQUIRED if name not in columns]
        if not lacking:
            return columns
        self._report(
            Problem(
                "T220",
                f"the first row has no column {' and '.join(quoted(name) for name in lacking)}",
                place=header.cells[0].place,
                help=f"columns: {', '.join(COLUMNS)}",
            )
        )
        return None

    def _unknown_column(self, cell: Cell) -> None:
        suggestion = nearest(cell.text, COLUMNS)
        self._report(
            Problem(
                "T205",
                f"unknown column {quoted(cell.text)} is not read",
                Severity.WARNING,
                place=cell.place,
                suggestion=suggestion,
                help="" if suggestion else "columns of your own begin with x_",
            )
        )

    def _row(self, columns: list[str], row: SheetRow, width: int) -> None:
        if self._has_open_quote(row):
            return
        if any(row.texts[width:]):
            self._report(self._too_many(row, width))
            return
        _Row(self._tables, self._file, self._sheet.separator, columns, row, self._report).run()

    def _has_open_quote(self, row: SheetRow) -> bool:
        for cell in row.cells if row.may_be_open else ():
            if not cell.is_closed:
                remedy = 'write "" for a quote inside a quoted cell'
                message = "a quote begins here and never ends"
                self._report(Problem("T202", message, place=cell.place, help=remedy))
                return True
        return False

    def _too_many(self, row: SheetRow, width: int) -> Problem:
        comma = any(
            _NUMBER.fullmatch(left) and right.isdigit() for left, right in itertools.pairwise(row.texts)
        )
        help_text = "a cell that holds the separator needs quotes"
        if comma and self._sheet.separator == ",":
            help_text = 'a decimal comma? save as "CSV (semicolon)", or write decimal points'
        message = f"{len(row)} cells, the first row has {width}"
        return Problem("T231", message, place=row.cells[width].place, help=help_text)

    def _report(self, problem: Problem) -> None:
        excerpt = self._sheet.line(problem.place.line)
        origin = self._tables.machine.origin if self._tables.machine else ""
        self._tables.problems.append(replace(problem, file=self._file, excerpt=excerpt, origin=origin))


class _Row:
    """Turns the cells of one row into a tag, reporting all that is wrong with it."""

    def __init__(
        self,
        tables: TagTables,
        file: str,
        separator: str,
        columns: list[str],
        row: SheetRow,
        report: Callable[[Problem], None],
    ) -> None:
        self._tables = tables
        self._file = file
        self._separator = separator
        self._columns = columns
        self._row = row
        self._given = {name: text for name, text in zip(columns, row.texts, strict=False) if text and name}
        self._report = report
        self._is_sound = True
        if tables.machine is not None and any("${" in text for text in row.texts):
            self._fill(tables.machine)

    def _fill(self, machine: Machine) -> None:
        """Put the cells of a machine's row where their columns are named."""
        self._tables.is_filled = True
        for column, text in self._given.items():
            for name, has_default in placeholders(text):
                if name.lower() not in machine.values and not has_default:
                    suggestion = nearest(name, machine.values)
                    message = f"${{{name}}} is no column of {machine.file}"
                    self._wrong(
                        "T257", column, message, suggestion=f"${{{suggestion}}}" if suggestion else ""
                    )
        if not self._is_sound:
            self._tables.names.setdefault(self._text("name"), (self._file, self._row.line))
        placed = {column: text for column, text in self._given.items() if "${" in text}
        self._tables.placed[(self._file, self._row.line)] = placed
        self._given = {column: filled(text, machine.values) for column, text in self._given.items()}
        self._given = {column: text for column, text in self._given.items() if text}

    def run(self) -> None:
        if not self._is_sound:  # a cell that could not be filled would only be found wrong once more
            return
        name = self._name()
        address = self._address(name)
        scale, offset = self._number("scale", 1.0), self._number("offset", 0.0)
        low, high = self._number("low", None), self._number("high", None)
        values: dict[str, Any] = {
            "unit": self._unit(),
            "description": self._text("description"),
            "group": self._group(),
            "scale": scale,
            "offset": offset,
            "low": low,
            "high": high,
            "deadband": self._deadband(),
            "clamp": self._truth("clamp"),
            "max_age_s": self._max_age(),
            "access": self._access(address),
            "write": self._write(address),
            "echo": self._echo(address),
            "historize": self._truth("historize"),
            "node_id": self._node_id(name),
            "true_name": self._text("true_name"),
            "false_name": self._text("false_name"),
            "states": self._states(address),
        }
        if low is not None and high is not None and low >= high:
            self._wrong("T227", "high", f"range {low:g}..{high:g}: low must be below high")
            low = high = None
        if values["clamp"] and low is None and high is None:
            self._wrong("T234", "clamp", "clamp = true without low or high has nothing to clamp to")
        if address is None:
            return
        self._check_linear(address, scale)
        is_plain = (scale, offset) == (1.0, 0.0) or not address.scalar.is_number
        scalar = address.scalar if is_plain else Scalar.DOUBLE
        values["substitute"] = self._value("substitute", address, scalar, low, high)
        values["initial"] = self._value("initial", address, scalar, low, high)
        if scalar in {Scalar.FLOAT, Scalar.DOUBLE} and not values["unit"]:
            message = f"{name}: no unit; clients will show a bare number"
            self._wrong("T210", "name", message, severity=Severity.WARNING)
        if not self._is_sound:
            return
        extra = {key: text for key, text in self._given.items() if key.startswith("x_")}
        self._tables.tags.append(
            TagConfig(
                name=name,
                address=self._text("address"),
                type=scalar,
                length=address.length,
                extra=extra,
                file=self._file,
                line=self._row.line,
                **values,
            )
        )

    def _text(self, column: str) -> str:
        return self._given.get(column, "")

    def _wrong(
        self,
        code: str,
        column: str,
        message: str,
        *,
        remedy: str = "",
        suggestion: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        cells = self._row.cells
        place = dict(zip(self._columns, cells, strict=False)).get(column, cells[0]).place
        self._report(Problem(code, message, severity, place=place, help=remedy, suggestion=suggestion))
        self._is_sound &= severity is not Severity.ERROR

    def _name(self) -> str:
        name = self._text("name")
        if not name:
            self._wrong("T204", "name", "the row has no name")
            return ""
        if self._is_spreadsheet_damage("name", name):
            return ""
        if len(name) > 128 or not _NAME.fullmatch(name):
            plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name[:128].translate(_TRANSLITERATED)).strip("_.-")
            suggestion = plain if re.fullmatch(TAG_PATTERN, plain) else ""
            rule = "letters, digits, _ and -, beginning with a letter"
            self._wrong("T209", "name", f"{quoted(name)} is not a tag name ({rule})", suggestion=suggestion)
        first = self._tables.names.get(name)
        if first:
            row = f"row {first[1]}" if first[0] == self._file else f"{first[0]}:{first[1]}"
            self._wrong("T203", "name", f"{quoted(name)} is defined twice (first in {row})")
            return name
        self._tables.names[name] = (self._file, self._row.line)
        return name

    def _address(self, name: str) -> Address | None:
        text = self._text("address")
        if not text:
            self._wrong("T204", "address", f"{name or 'the row'} has no address")
            return None
        if self._tables.parse is None or self._is_spreadsheet_damage("address", text):
            return None
        try:
            address = self._tables.parse(text)
        except AddressError as exc:
            message = str(exc) if text in str(exc) else f"{quoted(text)}: {exc}"
            self._wrong(exc.code, "address", message, remedy=exc.hint)
            return None
        other = self._tables.canonical.setdefault(address.canonical, name)
        if other != name:
            message = f"{name} reads the same address as {other}"
            self._wrong("T219", "address", message, severity=Severity.WARNING)
        return address

    def _is_spreadsheet_damage(self, column: str, text: str) -> bool:
        if SHEET_FAULT.fullmatch(text):
            message = f"{column} {quoted(text)}: the spreadsheet could not show this cell"
            self._wrong("T208", column, message, remedy="mend the cell there and save again")
            return True
        if _SHEET_NUMBER.fullmatch(text):
            message = f"{column} {quoted(text)}: the spreadsheet turned this cell into a number"
            self._wrong("T208", column, message, remedy='format the column as "Text" and enter it again')
            return True
        return False

    def _number(self, column: str, default: float | None) -> Any:
        text = self._text(column)
        if not text:
            return default
        plain = text
        if _COMMA_NUMBER.fullmatch(text):
            plain = text.replace(",", ".")
            if self._separator == ",":
                named = SEPARATOR_NAMES[self._separator]
                message = f"{column} {quoted(text)}: decimal comma; this file is separated by {named}"
                self._wrong("T206", column, message, remedy=f'save as "CSV (semicolon)" or write {plain}')
                return default
        number = float(plain) if _NUMBER.fullmatch(plain) else math.nan
        if not math.isfinite(number):
            self._wrong("T206", column, f"{column} {quoted(text)} is not a number")
            return default
        return number

    def _deadband(self) -> float:
        deadband: float = self._number("deadband", 0.0)
        if deadband < 0:
            self._wrong("T224", "deadband", f"deadband {deadband:g} is negative; it must be 0 or more")
            return 0.0
        return deadband

    def _max_age(self) -> float | None:
        max_age_s: float | None = self._number("max_age_s", None)
        if max_age_s is not None and max_age_s <= 0:
            self._wrong("T235", "max_age_s", f"max_age_s {max_age_s:g} is not more than 0")
            return None
        return max_age_s

    def _group(self) -> str:
        text = self._text("group")
        if not text:
            return self._tables.groups[0]
        if text not in self._tables.groups:
            suggestion = nearest(text, self._tables.groups)
            known = "" if suggestion else f"groups of the device: {alternatives(self._tables.groups)}"
            self._wrong(
                "T230",
                "group",
                f"group {quoted(text)} is not one of the device",
                remedy=known,
                suggestion=suggestion,
            )
        return text

    def _access(self, address: Address | None) -> str:
        text = self._text("access")
        access = _ACCESS.get(text.casefold())
        if access is None:
            self._wrong("T229", "access", f"access {quoted(text)} is not one of r, rw")
            return "r"
        if access == "rw" and address is not None and not address.writable:
            self._wrong(
                "T229", "access", f"{address.canonical} cannot be written: the device has it read-only"
            )
        return access

    def _write(self, address: Address | None) -> str:
        text = self._text("write").casefold()
        if text not in _WRITES:
            self._wrong("T246", "write", f"write {quoted(text)} is not one of setpoint, command")
        elif text and _ACCESS.get(self._text("access").casefold()) != "rw":
            self._wrong("T246", "write", f"write = {text}, but access is not rw")
        elif text == "setpoint" and address is not None and address.scalar is Scalar.BOOLEAN:
            self._wrong("T246", "write", "a bit is no set-point: each of its values is written")
        return text if text in _WRITES else ""

    def _echo(self, address: Address | None) -> str:
        text = self._text("echo")
        if text and self._text("write").casefold() != "command":
            self._wrong("T247", "echo", "an echo is for commands: write = command")
        elif text and address is not None and (not address.scalar.is_number or address.length):
            self._wrong("T247", "echo", f"only a number can be repeated; {address.canonical} is none")
        return text

    def _truth(self, column: str) -> bool:
        text = self._text(column)
        if text.casefold() not in _TRUTH:
            self._wrong("T223", column, f"{column} {quoted(text)} is not true or false")
        return _TRUTH.get(text.casefold(), False)

    def _node_id(self, name: str) -> str | None:
        text = self._text("node_id")
        if not text:
            return None
        other = self._tables.node_ids.setdefault(text, name)
        if other != name:
            self._wrong("T225", "node_id", f"node_id {quoted(text)} belongs to {other} already")
        if len(text) > 200 or not text.isprintable():
            self._wrong("T225", "node_id", f"node_id {quoted(text)} is not a text of 1 to 200 characters")
        return text

    def _unit(self) -> str:
        text = self._text("unit")
        if _TORN_OFF.fullmatch(text):  # a byte order that got lost would be a wrong value, and look right
            message = f"{quoted(text)} belongs to the address: semicolons separate the cells of this file"
            self._wrong(
                "T211", "unit", message, remedy='write the address in quotes: "hr:100:REAL;order=CDAB"'
            )
        return text

    def _check_linear(self, address: Address, scale: float) -> None:
        for column in ("true_name", "false_name"):
            if self._text(column) and address.scalar is not Scalar.BOOLEAN:
                self._wrong("T226", column, f"{column} is for BOOL; {address.canonical} is none")
        if address.scalar.is_number:
            if scale == 0:
                self._wrong("T226", "scale", "scale 0 would make every value the same")
            return
        for column in ("scale", "offset", "low", "high", "deadband", "clamp"):
            if self._text(column):
                kind = _KIND_WORDS[address.scalar]
                self._wrong("T226", column, f"{column} is for numbers; {address.canonical} is {kind}")

    def _states(self, address: Address | None) -> tuple[tuple[int, str], ...]:
        """Return number and text of each state, in the order of the numbers."""
        text = self._text("states")
        if not text or address is None:
            return ()
        if address.scalar not in _RANGES or address.length or self._text("scale") or self._text("offset"):
            self._wrong("T233", "states", f"states are for a whole number; {address.canonical} is none")
            return ()
        low, high = _RANGES[address.scalar]
        found: dict[int, str] = {}
        for part in text.split(";"):
            number, _, name = (each.strip() for each in part.partition("="))
            is_whole = re.fullmatch(r"-?[0-9]{1,20}", number) is not None
            if not is_whole or not name or not low <= int(number) <= high or int(number) in found:
                help_text = "write e.g. 0=Stopped; 2=Idle, each number once"
                self._wrong("T233", "states", f"{quoted(part.strip())} is not a state", remedy=help_text)
                return ()
            found[int(number)] = name
        return tuple(sorted(found.items()))

    def _value(
        self, column: str, address: Address, scalar: Scalar, low: float | None, high: float | None
    ) -> TagValue | None:
        text = self._text(column)
        if not text:
            return None
        if address.length and scalar is not Scalar.STRING:
            self._wrong("T228", column, f"{column} is for single values; {address.canonical} is an array")
            return None
        value, rule = _as_value(text, scalar, address.length, comma=self._separator != ",")
        if value is None:
            self._wrong("T228", column, f"{column} {quoted(text)} is not {rule}")
        elif scalar.is_number and isinstance(value, int | float):
            below, above = low is not None and value < low, high is not None and value > high
            if below or above:
                limits = f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}"
                self._wrong("T228", column, f"{column} {text} is out of range {limits}")
        return value


def _as_value(text: str, scalar: Scalar, length: int, *, comma: bool) -> tuple[TagValue | None, str]:
    """Return the value a text stands for, or None; and what it should be."""
    if scalar is Scalar.STRING:
        fits = len(text.encode()) <= length
        return (text if fits else None), f"a text of at most {length} bytes"
    if scalar is Scalar.BOOLEAN:
        return _TRUTH.get(text.casefold()), "true or false"
    if scalar is Scalar.DATETIME:
        return _as_time(text), "a time such as 2026-03-01T12:00:00Z"
    plain = text.replace(",", ".") if comma and _COMMA_NUMBER.fullmatch(text) else text
    if scalar in _RANGES:
        low, high = _RANGES[scalar]
        is_whole = re.fullmatch(r"[+-]?[0-9]{1,20}", plain)
        number = int(plain) if is_whole else None
        fits = number is not None and low <= number <= high
        return (number if fits else None), f"a whole number in {low}..{high}"
    real = float(plain) if _NUMBER.fullmatch(plain) else math.inf
    limit = 3.4028234663852886e38 if scalar is Scalar.FLOAT else math.inf
    return (real if math.isfinite(real) and abs(real) <= limit else None), "a number"


def _as_time(text: str) -> int | None:
    """Return the ticks of an ISO 8601 time, or None."""
    try:
        return ticks.from_text(text)
    except ValueError:
        return None
