"""Decides which tags of a list are taken, under which name, and puts them into a tag table of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from edge_opcua.config.cells import Sheet, split_sheet
from edge_opcua.config.exchange.listing import (
    ListedTag,
    ListError,
    Listing,
    UntranslatableError,
    group_name,
    plain_name,
)
from edge_opcua.config.problem import Problem, Severity, quoted
from edge_opcua.config.tagtable import COLUMNS, ParseAddress
from edge_opcua.errors import AddressError

Policy = Literal["abort", "skip", "rename", "replace"]
POLICIES: Final = ("abort", "skip", "rename", "replace")
DEFAULT_PERIOD_MS: Final = 1000
_BASE_COLUMNS: Final = ("name", "address", "unit", "low", "high", "description")
_NOT_NUMBERS: Final = frozenset({"BOOLEAN", "STRING", "DATETIME"})
_SOURCE_NAME: Final = "x_name"
_EVERY: Final = 2_000


@dataclass(slots=True)
class Accepted:
    """What an import comes to.

    Args:
        text: The new tag table.
        taken: Names of the rows that are new.
        replaced: Names of the rows that were there and are replaced.
        renamed: Names that had to change, old and new.
        groups: Poll groups that the device does not have yet, with their period in ms.
    """

    text: str = ""
    taken: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    groups: dict[str, int] = field(default_factory=dict)


def accept(
    listing: Listing,
    existing: str,
    parse: ParseAddress,
    *,
    policy: str,
    groups: Mapping[str, int],
    progress: Callable[[int], None] = lambda _: None,
) -> Accepted:
    """Put the tags of a list into a tag table; what is left out is noted in the listing.

    Args:
        listing: The list.
        existing: The table as it is, empty if there is none.
        parse: How the device's driver reads an address.
        policy: What becomes of a name that is there already.
        groups: Poll groups of the device with their period in ms.
        progress: Called now and then with the number of tags looked at.

    Raises:
        ListError: The table that is there cannot be read.
    """
    accepted = Accepted()
    table = _Table(existing)
    names = _Names(listing, policy, set(table.names), accepted)
    pool = _Groups(dict(groups), accepted.groups)
    for number, tag in enumerate(listing.tags):
        if number % _EVERY == 0:
            progress(number)
        try:
            cells = _cells(tag, parse, listing)
            name, replaces = names.take(tag)
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
            continue
        cells |= {"name": name, "group": tag.group if tag.cells else pool.name_for(tag)}
        if name != tag.name:
            cells[_SOURCE_NAME] = tag.name
        table.put(name, cells, replaces=replaces)
    accepted.text = table.text()
    listing.problems.sort(key=lambda problem: problem.place.line)
    return accepted


def refuse(listing: Listing) -> list[Problem]:
    """Return the problems of a list as ``--policy abort`` sees them: every row left out is an error."""
    return [
        replace(problem, severity=Severity.ERROR) if problem.severity is Severity.WARNING else problem
        for problem in listing.problems
    ]


class _Names:
    """Gives each tag a name of ours that nobody else has, as the policy wants it."""

    def __init__(self, listing: Listing, policy: str, taken: set[str], accepted: Accepted) -> None:
        self._listing = listing
        self._policy = policy
        self._there = frozenset(taken)
        self._taken = taken
        self._accepted = accepted

    def take(self, tag: ListedTag) -> tuple[str, bool]:
        """Return a tag's name and whether it replaces a row.

        Raises:
            UntranslatableError: The name is there already, and the policy leaves such rows out (T240).
        """
        name = plain_name(tag.name) or f"tag_{tag.line}"
        is_taken = name in self._taken
        if is_taken and self._policy in ("abort", "skip"):
            where = "in the table" if name in self._there else "further up in this list"
            raise UntranslatableError(
                f"the name {quoted(name)} is there already ({where})",
                code="T240",
                hint="--policy rename gives it another name, --policy replace overwrites the row",
            )
        if is_taken and self._policy == "rename":
            number = 2
            while f"{name}_{number}" in self._taken:
                number += 1
            name, is_taken = f"{name}_{number}", False
        if name != tag.name:
            self._accepted.renamed.append((tag.name, name))
            self._listing.note(tag.line, "T239", f"{quoted(tag.name)} becomes {name}")
        self._taken.add(name)
        (self._accepted.replaced if is_taken else self._accepted.taken).append(name)
        return name, is_taken


class _Groups:
    """Finds the poll group that reads as often as the list says, or asks for a new one."""

    def __init__(self, known: dict[str, int], wanted: dict[str, int]) -> None:
        self._known = known
        self._wanted = wanted
        self._by_period = {period: name for name, period in reversed(known.items())}

    def name_for(self, tag: ListedTag) -> str:
        name = group_name(tag.group) if tag.group else ""
        if not name and tag.period_ms is None:
            return ""
        period_ms = min(tag.period_ms or DEFAULT_PERIOD_MS, 3_600_000)
        if not name:
            name = self._by_period.setdefault(period_ms, f"ms{period_ms}")
        if name not in self._known:
            self._known[name] = self._wanted[name] = period_ms
        return name


def _cells(tag: ListedTag, parse: ParseAddress, listing: Listing) -> dict[str, str]:
    """Return the cells of a row of ours.

    Raises:
        UntranslatableError: The driver does not read the address.
    """
    try:
        address = parse(tag.address)
        text = address.canonical
        if text != tag.address:
            text = text if _reads_again(parse, text) else tag.address
    except AddressError as exc:
        raise UntranslatableError(f"{quoted(tag.name)}: {exc}", code=exc.code, hint=exc.hint) from exc
    if tag.cells:
        return {**tag.cells, "address": text}
    cells = {"address": text, "unit": tag.unit, "description": " ".join(tag.description.split())}
    if tag.access == "rw" and not address.writable:
        listing.note(
            tag.line, "T241", f"{tag.name} is writable there, but {text} cannot be written: access r"
        )
    elif tag.access == "rw":
        cells["access"] = "rw"
    if address.scalar.name not in _NOT_NUMBERS:
        cells |= _number_cells(tag, listing, is_array=bool(address.length))
    return cells


def _reads_again(parse: ParseAddress, text: str) -> bool:
    try:
        return parse(text).canonical == text
    except AddressError:
        return False  # hr:40084 needs the ;base=0 that its canonical spelling does not have


def _number_cells(tag: ListedTag, listing: Listing, *, is_array: bool) -> dict[str, str]:
    low, high = tag.low, tag.high
    if low is not None and high is not None and low >= high:
        listing.note(tag.line, "T241", f"{tag.name}: the range {low:g}..{high:g} is left out: it is empty")
        low = high = None
    if tag.scale == 0:
        raise UntranslatableError(f"{quoted(tag.name)}: scale 0 would make every value the same", code="T245")
    cells = {
        "low": "" if low is None else number_text(low),
        "high": "" if high is None else number_text(high),
        "scale": "" if tag.scale == 1 else number_text(tag.scale),
        "offset": "" if tag.offset == 0 else number_text(tag.offset),
        "deadband": "" if not tag.deadband or is_array else number_text(tag.deadband),
    }
    if tag.clamp and (low is not None or high is not None) and not is_array:
        cells["clamp"] = "true"
    return cells


def number_text(value: float) -> str:
    """Return a number as short as it can be read back."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


class _Table:
    """A tag table that keeps its comments, its order and its columns."""

    def __init__(self, text: str) -> None:
        self.names: dict[str, int] = {}
        self._sheet = split_sheet(text)
        self._separator = self._sheet.separator
        self._lines: list[str | dict[str, str]] = []
        self._columns = list(_BASE_COLUMNS)
        self._head: list[str] = []
        self._at: dict[str, int] = {}
        if text.strip():
            self._read(self._sheet, text)

    def _read(self, sheet: Sheet, text: str) -> None:
        raw = text.split("\n")
        self._head = raw[: sheet.first_line - 1]
        data_lines = {row.line for row in sheet.rows()}
        has_header = False
        for row in sheet.every_row():
            if row.may_be_open and not all(cell.is_closed for cell in row.cells):
                raise ListError("a quote begins here and never ends", code="T253", line=row.line)
            if row.line not in data_lines:
                self._lines.append(raw[row.line - 1])
            elif not has_header:
                has_header = True
                self._head += [str(line) for line in self._lines]
                self._lines.clear()
                self._columns = [text.casefold().strip() for text in row.texts]
                if "name" not in self._columns or "address" not in self._columns:
                    raise ListError(
                        "is no tag table of ours: it has no columns name and address", line=row.line
                    )
            else:
                cells = dict(zip(self._columns, row.texts, strict=False))
                self.names.setdefault(cells.get("name", ""), row.line)
                self._at[cells.get("name", "")] = len(self._lines)
                self._lines.append(cells)

    def put(self, name: str, cells: Mapping[str, str], *, replaces: bool) -> None:
        """Add a row, or replace the one of that name, keeping what only our own table knows."""
        filled = {column: text for column, text in cells.items() if text}
        if replaces:
            old = self._lines[self._at[name]]
            kept = (
                {key: text for key, text in old.items() if key not in _FROM_LISTS}
                if isinstance(old, dict)
                else {}
            )
            self._lines[self._at[name]] = {**kept, **filled}
        else:
            self._at[name] = len(self._lines)
            self._lines.append(filled)

    def text(self) -> str:
        """Return the whole table."""
        used = {
            column for line in self._lines if isinstance(line, dict) for column, text in line.items() if text
        }
        ordered = [column for column in (*COLUMNS, *sorted(used)) if column in used]
        columns = list(dict.fromkeys([*self._columns, *ordered]))
        lines = [*self._head, self._separator.join(columns)]
        lines += [line if isinstance(line, str) else self._joined(line, columns) for line in self._lines]
        return "\n".join(lines) + "\n"

    def _joined(self, cells: Mapping[str, str], columns: list[str]) -> str:
        return self._separator.join(self._quoted(cells.get(column, "")) for column in columns)

    def _quoted(self, text: str) -> str:
        if text.startswith("#") or any(each in text for each in (self._separator, '"', "\n", "\r")):
            return '"' + text.replace('"', '""') + '"'
        return text


_FROM_LISTS: Final = frozenset(
    {"name", "address", "unit", "low", "high", "description", "group", "scale", "offset", "deadband", "clamp"}
    | {"access", _SOURCE_NAME}
)
