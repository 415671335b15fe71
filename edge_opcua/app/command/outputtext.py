"""Outputs in words: what each does, and what whoever runs the plant has to do next; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.tell import duration

__all__ = ["advice", "needs_somebody", "output_line", "output_notes", "output_table"]

Row = Mapping[str, Any]

_RED: Final = "\x1b[1;31m"
_YELLOW: Final = "\x1b[1;33m"
_GREEN: Final = "\x1b[32m"
_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = {
    "FAILSAFE": _RED,
    "UNKNOWN": _RED,
    "ACK_REQUIRED": _YELLOW,
    "HOLD": _YELLOW,
    "MANUAL": _YELLOW,
    "INHIBITED": _YELLOW,
    "ACTIVE": _GREEN,
}
_MARKS: Final = {"FAILSAFE": "x", "UNKNOWN": "x", "ACK_REQUIRED": "!", "HOLD": "?", "INHIBITED": "?"}
_NEEDS_SOMEBODY: Final = frozenset({"FAILSAFE", "UNKNOWN", "ACK_REQUIRED"})
_HEADER: Final = (
    "",
    "OUTPUT",
    "DEVICE",
    "STATE",
    "SINCE",
    "FAULT",
    "WRITES",
    "PLC USES IT",
    "INDETERMINATE",
    "LATE",
)
_STATE: Final = _HEADER.index("STATE")


def state_of(row: Row) -> str:
    """Return the state of an output; UNKNOWN if nobody says, since then nobody writes it."""
    return str(row.get("state") or "UNKNOWN")


def needs_somebody(row: Row) -> bool:
    """Whether an output has fallen safe, or waits for somebody."""
    return state_of(row) in _NEEDS_SOMEBODY


def advice(row: Row, option: str = "") -> str:
    """Return what is to be done about an output, or why nothing is; empty while all is well.

    Args:
        row: The output, as ``status`` tells it.
        option: What a suggested command needs to mean this server.
    """
    name, reason = row["output"], printable(row.get("reason") or "")
    because = f": {reason}" if reason else ""
    match state_of(row):
        case "ACK_REQUIRED":
            return f"waits for an acknowledge: {_acknowledge(row, option)}"
        case "FAILSAFE":
            then = "acts again by itself" if row.get("auto_restart") else "waits for an acknowledge"
            when = "comes back once that is mended, then" if row.get("fault") else "that is over, and it soon"
            return f"has fallen safe{because}; {when} {then}"
        case "HOLD":
            return f"holds its last value{because}"
        case "MANUAL":
            back = f"edge-opcua outputs automatic {name}{option}"
            return f"is in the hands of an operator; give it back with {back}"
        case "INHIBITED":
            return f"has not acted since the start{because}"
        case "READY":
            return _ready(row, option)
        case "ACTIVE":
            unused = row.get("plc_tells") and row.get("plc_trusts") is False
            return "acts, but the PLC does not use it: is its function block enabled?" if unused else ""
        case _:
            return "cannot be seen: the process that writes it does not answer, the PLC's own time-out acts"


def _acknowledge(row: Row, option: str) -> str:
    press = "press ACK on the machine"
    command = f"run edge-opcua outputs acknowledge {row['output']}{option}"
    ways = {"plc": press, "operator": command}
    if not row.get("plc_acknowledges", True):
        return command
    return ways.get(str(row.get("acknowledged_by")), f"{press}, or {command}")


def _ready(row: Row, option: str) -> str:
    if row.get("granted"):
        return ""
    if row.get("granted_by") == "operator":
        return f"waits for an operator to let it act: run edge-opcua outputs grant {row['output']}{option}"
    return "waits for the PLC to grant authority" if row.get("granted_by") == "plc" else ""


def output_line(row: Row, option: str = "") -> str:
    """Return an output as one line of ``status``."""
    fault = f" {row['fault']}" if row.get("fault") else ""
    since_s = row.get("since_s")
    since = f" for {duration(since_s)}" if since_s is not None else ""
    state = row.get("state") or "starting"
    said = advice(row, option) if row.get("state") else ""
    if not said and row.get("reason"):
        said = printable(row["reason"])
    doubts = int(row.get("indeterminate") or 0)
    doubtful = f"   {doubts} indeterminate, {int(row.get('landed_late') or 0)} late" if doubts else ""
    return (
        f"{row['output']}  {state}{fault}{since}   heartbeat {row.get('heartbeat')}{doubtful}"
        f"{f'   {said}' if said else ''}"
    )


def output_notes(rows: Iterable[Row], option: str = "") -> dict[str, str]:
    """Return, by output, what somebody has to know; nothing of those that act as they should."""
    found = {}
    for row in rows:
        said = advice(row, option) if row.get("state") else ""
        if said:
            found[str(row["output"])] = said
    return found


def output_table(rows: Sequence[Row], option: str = "", *, color: bool = False) -> str:
    """Return the outputs as a table, and below it what is to be done."""
    cells = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = []
    for index, line in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if color and index:
            state = line[_STATE]
            padded[_STATE] = f"{_COLOURS.get(state, '')}{padded[_STATE]}{_PLAIN}"
        lines.append("  ".join(padded).rstrip())
    for row in rows:
        lines += [f"  {value['tag']} = {_value(value)}" for value in row.get("values", ())]
    notes = [f"{row['output']} {said}" for row in rows if (said := advice(row, option))]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _value(value: Row) -> str:
    shown = value.get("value")
    number = "-" if shown is None else f"{shown:g}"
    return f"{number}   {value['status']}"


def _cells(row: Row) -> tuple[str, ...]:
    state, since_s = state_of(row), row.get("since_s")
    uses = ("yes" if row.get("plc_trusts") else "no") if row.get("plc_tells") else "-"
    return (
        _MARKS.get(state, " "),
        str(row["output"]),
        str(row.get("device") or ""),
        state,
        "-" if since_s is None else duration(since_s),
        str(row.get("fault") or "-"),
        str(row.get("writer") or "-"),
        uses,
        str(row.get("indeterminate") or 0),
        str(row.get("landed_late") or 0),
    )
