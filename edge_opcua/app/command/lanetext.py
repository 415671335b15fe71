"""Lanes in words and bars: who judges in time, how much room is left, and what somebody has to do; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.modeltext import model_line

__all__ = ["advice", "bar", "lane_table", "needs_somebody"]

Row = Mapping[str, Any]

_RED: Final = "\x1b[1;31m"
_YELLOW: Final = "\x1b[1;33m"
_GREEN: Final = "\x1b[32m"
_PLAIN: Final = "\x1b[0m"
_HEADER: Final = (
    "",
    "PIPELINE",
    "MODEL",
    "LANE",
    "STATE",
    "P99 OF DEADLINE",
    "P50",
    "P99",
    "P99.9",
    "MAX",
    "JUDGED",
    "LATE",
    "MISSED",
    "REFUSED",
    "SHED",
    "BATCH",
    "RUNS ON",
)
_WIDTH: Final = 10
_ENOUGH: Final = 0.7  # of a deadline or a worker: above, it is worth a look
_FINE, _TIGHT, _OVER = range(3)
_MARKS: Final = (" ", "!", "x")
_COLOURS: Final = (_GREEN, _YELLOW, _RED)


def needs_somebody(row: Row) -> bool:
    """Whether a pipeline does not judge, or will not in time."""
    return _level(row) == _OVER


def bar(share: float, width: int = _WIDTH) -> str:
    """Return a share as a bar, full at 1; what is beyond shows as an arrow.

    Args:
        share: 0..1, and more.
        width: Characters.
    """
    if not math.isfinite(share) or share < 0:
        return "?" * width
    full = min(width, round(share * width))
    drawn = "█" * full + "░" * (width - full)
    return drawn[:-1] + "▶" if share > 1 else drawn


def advice(row: Row) -> str:
    """Return what is to be known or done about a pipeline; empty while all is well."""
    lane, deadline_ms = row["lane"], float(row.get("deadline_ms") or 0)
    reason = printable((row.get("last") or {}).get("reason") or "")
    if not lane.get("state"):
        return "no process judges: it starts, or a line below says why it does not"
    if lane.get("schedulable") is False and _promised(row):
        return f"can miss its deadline with the captures that come now (M590): {_too_much(lane)}"
    if lane.get("state") == "FailSafe":
        return f"gives out its fail-safe verdict{f': {reason}' if reason else ''}"
    if lane.get("throttled"):
        return f"the machine is throttled by heat{_heat(lane)}: it is slower than when its model was measured"
    if lane.get("degraded"):
        return "the cheaper version of the model judges: the configured one is too slow for its deadline"
    if row.get("lane_class") == "safety" and not str(lane.get("scheduler") or "").startswith("SCHED_FIFO"):
        granted = lane.get("scheduler") or "no priority"
        return f"the safety lane runs with {granted}, not in real time: see edge-opcua doctor"
    return _room(_share(lane, deadline_ms))


def _promised(row: Row) -> bool:
    """Whether anything is promised to a pipeline; best effort may well ask for more than there is."""
    return row.get("lane_class") != "best_effort"


def _too_much(lane: Row) -> str:
    used = lane.get("utilisation")
    if isinstance(used, (int, float)) and used > _ENOUGH:
        return (
            f"its group asks for {_percent(used)} of its workers; give it another worker, a cheaper version "
            "of the model or a longer deadline"
        )
    return (
        "a run, or one that it may have to wait for, takes too long; give it a longer deadline, a cheaper "
        "version of the model or a group of its own"
    )


def _room(share: float) -> str:
    if share > 1:
        return f"{_percent(share)} of its deadline is used at p99: at least one answer in a hundred is late"
    if share > _ENOUGH:
        return f"{_percent(share)} of its deadline is used at p99: there is little room"
    return ""


def lane_table(rows: Sequence[Row], processes: Iterable[Row], *, color: bool = False) -> str:
    """Return the pipelines by group as tables, below them what is to be done.

    Args:
        rows: Pipelines, as ``status`` tells them.
        processes: Processes, as ``status`` tells them.
        color: Whether the terminal shows colours.
    """
    running = {str(row["role"]): row for row in processes}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.get("group") or row["pipeline"]), []).append(row)
    cells = [_HEADER, *(_cells(row) for members in groups.values() for row in members)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines: list[str] = []
    for name, members in groups.items():
        apart = sum(role.startswith(f"lane/{name}/") for role in running)
        lines += [*([""] if lines else []), _group_line(name, members, running.get(f"lane/{name}"), apart)]
        lines += [_padded(_HEADER, widths)]
        for row in members:
            line = _padded(_cells(row), widths)
            lines.append(f"{_COLOURS[_level(row)]}{line}{_PLAIN}" if color else line)
    notes = [f"{row['pipeline']}  {said}" for row in rows if (said := advice(row))]
    notes += [line for row in rows if (line := model_line(row))]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _padded(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _group_line(name: str, members: Sequence[Row], process: Row | None, apart: int) -> str:
    lane: Row = next((row["lane"] for row in members if row["lane"].get("state")), {})
    parts = [f"{name}:"]
    used = lane.get("utilisation")
    if isinstance(used, (int, float)):
        parts.append(f"{bar(float(used))} {_percent(used)} of its workers")
    if process is not None:
        parts.append(f"process {process.get('pid') or 'restarting'}")
        if process.get("restarts"):
            parts.append(f"{process['restarts']} restarts")
    elif apart:
        parts.append(f"{apart} processes, to see whose model ends its own")
    if lane.get("scheduler"):
        parts.append(f"{lane['scheduler']}{', memory locked' if lane.get('memory_locked') else ''}")
    if isinstance(lane.get("rss_mb"), (int, float)):
        parts.append(f"{lane['rss_mb']:.0f} MB")
    parts.append(_heat(lane).strip())
    return "   ".join(part for part in parts if part)


def _heat(lane: Row) -> str:
    celsius = lane.get("celsius")
    return f" {celsius:.0f} °C" if isinstance(celsius, (int, float)) and celsius > 0 else ""


def _level(row: Row) -> int:
    lane = row["lane"]
    if not lane.get("state") or lane.get("state") == "FailSafe":
        return _OVER
    if lane.get("schedulable") is False and _promised(row):
        return _OVER
    return _TIGHT if advice(row) else _FINE


def _share(lane: Row, deadline_ms: float) -> float:
    p99 = lane.get("p99_ms")
    return float(p99) / deadline_ms if isinstance(p99, (int, float)) and deadline_ms else 0.0


def _percent(share: object) -> str:
    return f"{100 * share:.0f} %" if isinstance(share, (int, float)) and math.isfinite(share) else "?"


def _cells(row: Row) -> tuple[str, ...]:
    lane, last = row["lane"], row.get("last") or {}
    deadline_ms = float(row.get("deadline_ms") or 0)
    model = row.get("model") or {}
    version = last.get("model_version") or model.get("version") or ""
    share = _share(lane, deadline_ms)
    refused = int(lane.get("rejected") or 0) + int(lane.get("expired") or 0)
    batch = lane.get("batch_mean")
    return (
        _MARKS[_level(row)],
        str(row["pipeline"]),
        f"{model.get('name') or ''} {version}".strip(),
        str(row.get("lane_class") or "").replace("_", " "),
        str(lane.get("state") or "not running"),
        f"{bar(share)} {_percent(share)} of {deadline_ms:g} ms",
        *(_milliseconds(lane.get(name)) for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")),
        str(lane.get("processed") or 0),
        str(lane.get("late") or 0),
        str(int(lane.get("missed") or 0) + int(lane.get("superseded") or 0)),
        str(refused),
        str(lane.get("shed") or 0),
        f"{batch:.1f}" if isinstance(batch, (int, float)) and batch > 0 else "-",
        str(last.get("source") or lane.get("provider") or "-").removesuffix("ExecutionProvider"),
    )


def _milliseconds(value: object) -> str:
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"
