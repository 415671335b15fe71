"""Our own tag table as a list to import: from another installation, or made by a script."""

from __future__ import annotations

from typing import Final

from edge_opcua.config.exchange.listing import ListedTag, Listing, UntranslatableError
from edge_opcua.config.exchange.reading import Grid, table
from edge_opcua.config.tags import TagConfig, TagValue
from edge_opcua.config.tagtable import COLUMNS

REQUIRED: Final = ("name", "address")


def read(grid: Grid, listing: Listing) -> None:
    """Add the rows of a table to a listing; comment lines are passed over.

    Raises:
        ListError: It has no header of ours.
    """
    unknown: set[str] = set()
    for row in table(grid, REQUIRED, listing):
        name, address = row.text("name"), row.text("address")
        if name.startswith("#"):
            listing.others += 1
            continue
        try:
            is_whole = bool(row.whole("name") and row.whole("address"))
        except UntranslatableError as exc:
            listing.skip(row.line, exc)
            continue
        if not is_whole:
            listing.skip(row.line, UntranslatableError("the row has no name or no address", code="T204"))
            continue
        cells = {key: text for key, text in row.cells.items() if key in COLUMNS or key.startswith("x_")}
        unknown.update(row.cells.keys() - cells.keys())
        listing.take(
            ListedTag(
                name=name,
                address=address,
                line=row.line,
                unit=row.text("unit"),
                description=row.text("description"),
                access="rw" if row.text("access").casefold() in ("rw", "r/w") else "r",
                group=row.text("group"),
                cells=cells,
            )
        )
    for column in sorted(unknown):
        listing.note(
            0, "T205", f"column {column} is not ours and is left out", "columns of your own begin with x_"
        )


def cells_of(tag: TagConfig) -> dict[str, str]:
    """Return the cells of a row of ours, for a table that says the same."""
    cells = {
        "name": tag.name,
        "address": tag.address,
        "unit": tag.unit,
        "low": "" if tag.low is None else repr(tag.low),
        "high": "" if tag.high is None else repr(tag.high),
        "description": tag.description,
        "group": tag.group,
        "scale": "" if tag.scale == 1.0 else repr(tag.scale),
        "offset": "" if tag.offset == 0.0 else repr(tag.offset),
        "deadband": _deadband(tag),
        "access": "" if tag.access == "r" else tag.access,
        "write": tag.write,
        "echo": tag.echo,
        "historize": "true" if tag.historize else "",
        "node_id": tag.node_id or "",
        "substitute": _value(tag.substitute),
        "initial": _value(tag.initial),
        "true_name": tag.true_name,
        "false_name": tag.false_name,
        "clamp": "true" if tag.clamp else "",
        "max_age_s": _value(tag.max_age_s),
        "states": "; ".join(f"{number}={name}" for number, name in tag.states),
        **tag.extra,
    }
    return {column: text for column, text in cells.items() if text}


def _deadband(tag: TagConfig) -> str:
    return repr(tag.deadband) if tag.deadband else ""


def _value(value: TagValue | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
