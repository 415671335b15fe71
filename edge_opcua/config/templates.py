"""Machine templates: one description and a table of machines become the devices and pipelines of each.

Placeholders ``${column}`` are replaced after parsing and only in texts, as environment variables are; what
the table says is data, so nothing in it is looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Final

from edge_opcua.config.cells import Sheet, SheetRow, split_sheet
from edge_opcua.config.fields import NAME_PATTERN
from edge_opcua.config.locate import Path
from edge_opcua.config.problem import Problem, quoted
from edge_opcua.config.sheettext import sheet_text
from edge_opcua.config.syntax import UnreadableError, read_bytes

SECTIONS: Final = ("devices", "pipelines", "outputs")
MAX_MACHINES: Final = 10_000
_MAX_TABLE_BYTES: Final = 16 * 2**20
_COLUMN: Final = re.compile(r"[a-z_][a-z0-9_]*")
_MARK: Final = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<has_default>:-(?P<default>[^}]*))?\}"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One row of a table of machines.

    Args:
        template: Name of the template it is made from.
        name: Its name, the column ``name``.
        file: The table.
        line: Its line.
        values: What its columns hold, by name in lower case.
    """

    template: str
    name: str
    file: str
    line: int
    values: Mapping[str, str]

    @property
    def origin(self) -> str:
        """Where it stands, for messages."""
        return f"{self.file}:{self.line} ({self.name})"


def filled(text: str, values: Mapping[str, str], *, is_first: bool = False) -> str:
    """Return a text with the placeholders of a table in place.

    Args:
        text: The text.
        values: What stands for a placeholder; an empty value takes its ``:-default``.
        is_first: Whether environment variables are looked for afterwards: what is no column is left to them,
            and a ``$`` in a value is doubled.
    """

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match.group()
        value = values.get(name.lower())
        if value is None and (is_first or not match["has_default"]):
            return match.group()
        placed = value or match["default"] or ""
        return placed.replace("$", "$$") if is_first else placed

    return _MARK.sub(replacement, text)


def compiled(text: str) -> Callable[[Mapping[str, str]], str]:
    """Return what :func:`filled` does with one text, for many machines."""
    parts: list[str] = []
    columns: list[tuple[int, str, str]] = []
    at = 0
    for match in _MARK.finditer(text):
        if match["name"] is not None:
            parts += [text[at : match.start()], ""]
            columns.append((len(parts) - 1, match["name"].lower(), match["default"] or ""))
            at = match.end()
    parts.append(text[at:])

    def fill(values: Mapping[str, str]) -> str:
        placed = parts.copy()
        for index, name, default in columns:
            placed[index] = values.get(name) or default
        return "".join(placed)

    return fill


def placeholders(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the names of the placeholders in a text, and whether they have a default."""
    for match in _MARK.finditer(text):
        if match["name"] is not None:
            yield match["name"], match["has_default"] is not None


def instance(node: Any, values: Mapping[str, str], path: Path, whole: set[Path]) -> Any:
    """Return a copy of a part of a template for one machine.

    Args:
        node: The part.
        values: The machine's row.
        path: Where the copy will be.
        whole: Gets the paths of texts that were one placeholder and nothing else: they may be numbers.
    """
    if isinstance(node, dict):
        return {key: instance(child, values, (*path, key), whole) for key, child in node.items()}
    if isinstance(node, list):
        return [instance(child, values, (*path, index), whole) for index, child in enumerate(node)]
    if not isinstance(node, str) or "$" not in node:
        return node
    match = _MARK.fullmatch(node)
    if match and match["name"] is not None and match["name"].lower() in values:
        whole.add(path)
    return filled(node, values, is_first=True)


def texts_in(node: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every text below a path."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield from texts_in(child, (*path, key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from texts_in(child, (*path, index))
    elif isinstance(node, str):
        yield path, node


@dataclass(frozen=True, slots=True)
class MachineTable:
    """The machines of one table.

    Args:
        columns: Names of its columns in lower case.
        machines: Its rows that are right.
        problems: What is wrong.
        is_absent: Whether it could not be opened, so that who names it is to blame.
    """

    columns: tuple[str, ...] = ()
    machines: tuple[Machine, ...] = ()
    problems: tuple[Problem, ...] = ()
    is_absent: bool = False


def read_machines(path: FilePath, file: str, template: str) -> MachineTable:
    """Read a table of machines.

    Args:
        path: The file.
        file: Its name in messages.
        template: Name of the template they are made from.
    """
    try:
        text, notice = sheet_text(read_bytes(path, limit_bytes=_MAX_TABLE_BYTES))
    except UnreadableError as exc:
        problem = Problem("T255", str(exc), file=file, help=exc.remedy)
        return MachineTable(problems=(problem,), is_absent=exc.is_absent)
    reader = _Reader(split_sheet(text), file, template)
    found = reader.run()
    if notice:
        return replace(found, problems=(replace(notice, file=file), *found.problems))
    return found


class _Reader:
    def __init__(self, sheet: Sheet, file: str, template: str) -> None:
        self._sheet = sheet
        self._file = file
        self._template = template
        self._problems: list[Problem] = []
        self._lines: dict[str, int] = {}

    def run(self) -> MachineTable:
        rows = self._sheet.rows()
        header = next(rows, None)
        if header is None or self._is_open(header):
            if header is None:
                self._wrong("T255", None, 0, "is empty; its first row names the columns", "begin with: name")
            return MachineTable(problems=tuple(self._problems))
        columns = tuple(text.casefold().strip() for text in header.texts)
        self._check_columns(header, columns)
        machines: list[Machine] = []
        for row in rows if "name" in columns else ():
            machine = self._machine(row, columns)
            if machine is not None:
                machines.append(machine)
            if len(machines) > MAX_MACHINES:
                self._wrong("T255", row, 0, f"more than {MAX_MACHINES} machines")
                break
        return MachineTable(columns, tuple(machines), tuple(self._problems))

    def _check_columns(self, header: SheetRow, columns: tuple[str, ...]) -> None:
        if "name" not in columns:
            self._wrong("T255", header, 0, 'the first row has no column "name"', "every machine needs one")
        for index, column in enumerate(columns):
            if column in columns[:index] or (column and not _COLUMN.fullmatch(column)):
                said = "stands twice" if column in columns[:index] else "is not a name that ${…} can have"
                help_text = "letters, digits and _, beginning with a letter"
                self._wrong("T255", header, index, f"column {quoted(header.texts[index])} {said}", help_text)

    def _machine(self, row: SheetRow, columns: tuple[str, ...]) -> Machine | None:
        if self._is_open(row):
            return None
        if len(row) > len(columns) and any(row.texts[len(columns) :]):
            self._wrong("T256", row, len(columns), f"{len(row)} cells, the first row has {len(columns)}")
            return None
        values = dict.fromkeys(columns, "") | dict(zip(columns, row.texts, strict=False))
        name = values.get("name", "")
        at = columns.index("name")
        if not re.fullmatch(NAME_PATTERN, name) or len(name) > 64:
            rule = "a letter, then letters, digits, - or _"
            self._wrong(
                "T256", row, at, f"{quoted(name)} is not a name ({rule})" if name else "the row has no name"
            )
            return None
        first = self._lines.setdefault(name, row.line)
        if first != row.line:
            self._wrong("T256", row, at, f"{quoted(name)} is defined twice (first in row {first})")
            return None
        return Machine(self._template, name, self._file, row.line, values)

    def _is_open(self, row: SheetRow) -> bool:
        if row.may_be_open and not all(cell.is_closed for cell in row.cells):
            self._wrong("T255", row, 0, "a quote begins here and never ends")
            return True
        return False

    def _wrong(self, code: str, row: SheetRow | None, at: int, message: str, remedy: str = "") -> None:
        problem = Problem(code, message, file=self._file, help=remedy)
        if row is not None:
            place = row.cells[min(at, len(row.cells) - 1)].place
            problem = replace(problem, place=place, excerpt=self._sheet.line(place.line))
        self._problems.append(problem)
