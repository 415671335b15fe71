"""Makes the tables and the plot of OPC UA performance from the figures of a run.

    edge-opcua bench opcua --json docs/reference/opcua-performance.jsonl
    edge-opcua bench opcua-growth --json docs/reference/opcua-growth.jsonl
    python docs/opcua_figures.py

puts the first into the marked part of docs/reference/opcua-performance.md, and writes
docs/reference/opcua-growth.svg with the page around it from the second.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REFERENCE: Final = Path(__file__).parent / "reference"
FIGURES: Final = REFERENCE / "opcua-growth.jsonl"
COMPARED: Final = REFERENCE / "opcua-performance.jsonl"
COMPARISON: Final = REFERENCE / "opcua-performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
DRAWING: Final = REFERENCE / "opcua-growth.svg"
PAGE: Final = REFERENCE / "opcua-growth.md"

_NAME: Final = re.compile(
    r"(?P<who>[a-z_-]+): (?P<tags>\d+) tags x (?P<hz>[\d.]+) Hz x (?P<clients>\d+) clients"
)
_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 20, 48
# Distinguishable without colour, too: each line has its own marks.
_STYLES: Final = {
    "edge_opcua, more tags": ("#0b6e4f", "circle"),
    "edge_opcua, more clients": ("#0b6e4f", "square"),
    "node-opcua": ("#b5651d", "triangle"),
    "asyncua": ("#6a4c93", "diamond"),
}
_ROLE: Final = 'font-family="sans-serif" font-size="12" role="img" aria-label="Processor time against values"'
_MARKS: Final = {
    "circle": '<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    "square": '<rect x="{x0:.1f}" y="{y0:.1f}" width="8" height="8"/>',
    "triangle": '<polygon points="{x:.1f},{y0:.1f} {x1:.1f},{y1:.1f} {x0:.1f},{y1:.1f}"/>',
    "diamond": '<polygon points="{x:.1f},{y0:.1f} {x1:.1f},{y:.1f} {x:.1f},{y1:.1f} {x0:.1f},{y:.1f}"/>',
}


@dataclass
class Point:
    """One demand, and what it cost."""

    who: str
    tags: int
    hz: float
    clients: int
    rate: float = 0.0
    busy: float = 0.0
    per_cpu_s: float = 0.0
    note: str = ""

    @property
    def line(self) -> str:
        """Which line of the plot it belongs to."""
        if self.who != "edge_opcua":
            return self.who
        return "edge_opcua, more clients" if self.clients > 1 else "edge_opcua, more tags"


def points(lines: list[dict[str, Any]]) -> list[Point]:
    """Return the demands of a run, in its order."""
    found: dict[str, Point] = {}
    for line in lines:
        named = _NAME.fullmatch(line["name"])
        if named is None:
            continue
        given = named.groupdict()
        point = found.setdefault(
            line["name"], Point(given["who"], int(given["tags"]), float(given["hz"]), int(given["clients"]))
        )
        if line["unit"] == "values/s":
            point.rate, point.note = line["value"], line["note"]
        elif line["unit"] == "% of a core":
            point.busy = line["value"]
        else:
            point.per_cpu_s = line["value"]
    return list(found.values())


def drawing(found: list[Point]) -> str:
    """Return the plot: values per second across, share of a core up, both logarithmic."""
    across = _Axis([point.rate for point in found], _LEFT, _WIDTH - _RIGHT)
    up = _Axis([point.busy for point in found] + [100.0], _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_ROLE}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for value in across.ticks():
        x = across.at(value)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_HEIGHT - _BOTTOM}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_short(value)}</text>'
        )
    for value in up.ticks():
        y = up.at(value)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g} %</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">values delivered per second</text>'
    )
    turned = f'transform="rotate(-90 14 {_HEIGHT / 2})"'
    parts.append(f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" {turned}>share of one core</text>')
    for index, (name, (colour, mark)) in enumerate(_STYLES.items()):
        chosen = [point for point in found if point.line == name]
        parts += _line(chosen, across, up, colour, mark)
        y = _TOP + 14 + 20 * index
        parts.append(f'<g fill="{colour}">{_mark(mark, _WIDTH - _RIGHT + 12, y - 4)}</g>')
        parts.append(f'<text x="{_WIDTH - _RIGHT + 22}" y="{y}" font-size="11">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Axis:
    """A logarithmic axis over whole decades."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        known = [value for value in values if value > 0] or [1.0]
        self._low, self._high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
        self._high = max(self._high, self._low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(max(value, 10.0**self._low)) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def _line(chosen: list[Point], across: _Axis, up: _Axis, colour: str, mark: str) -> list[str]:
    places = [
        (across.at(point.rate), up.at(point.busy)) for point in sorted(chosen, key=lambda one: one.rate)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(_mark(mark, x, y) for x, y in places)
    return (
        [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<g fill="{colour}">{marks}</g>',
        ]
        if places
        else []
    )


def _mark(mark: str, x: float, y: float) -> str:
    return _MARKS[mark].format(x=x, y=y, x0=x - 4, x1=x + 4, y0=y - 4, y1=y + 4)


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def _spaced(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


_HEAD: Final = """\
<!-- Written by docs/opcua_figures.py from docs/reference/opcua-growth.jsonl; measure again, do not edit. -->

# How the cost of subscriptions grows

Measured {when} on {processor}, {cores} cores, Python {python}, load before the run {load}.
Every tag changes ten times a second, scalars of all types with deadbands, publishing interval 50 ms;
[how it is measured](opcua-performance.md).

![Share of a core against values per second](opcua-growth.svg)

| server | tags | clients | values/s delivered | share of a core | values per CPU-second | |
|---|---|---|---|---|---|---|
"""
_MACHINE: Final = ("processor", "cores", "python", "load")
_BEYOND: Final = """
## Beyond the end

More changes than the queues hold until the next publishing: the newest values stay, the value behind each gap
carries the Overflow bit, and the client counts gaps without it.

"""


def page(lines: list[dict[str, Any]]) -> str:
    """Return the page: when and where it was measured, plot, table, and what happens beyond the end."""
    first = lines[0]
    when = _when(first)
    text = _HEAD.format(when=when, **{key: first[key] for key in _MACHINE})
    for point in points(lines):
        cells = (
            point.who,
            _spaced(point.tags),
            str(point.clients),
            _spaced(point.rate),
            f"{point.busy:.1f} %",
            _spaced(point.per_cpu_s),
            point.note,
        )
        text += f"| {' | '.join(cells)} |\n"
    beyond = [line for line in lines if line["name"].startswith("beyond") and line["unit"] == "values/s"]
    if beyond:
        text += _BEYOND
    return text + "".join(f"* {line['name'].removeprefix('beyond: ')}: {line['note']}.\n" for line in beyond)


_COMPARED: Final = """\
Measured {when} on {processor}, {cores} cores, Python {python}, load before the run {load}.

| what | edge_opcua | asyncua 2.1.0 | times better | node-opcua | times better | |
|---|---|---|---|---|---|---|
"""


def comparison(lines: list[dict[str, Any]]) -> str:
    """Return the table of a run, one row per figure, the peers side by side."""
    first = lines[0]
    when = _when(first)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        row = rows.setdefault((line["name"], line["unit"]), {"ours": line["value"], "notes": []})
        if line["peer"]:
            row[line["peer"].split()[-1 if line["peer"] == "node-opcua" else 1]] = line
        if line["note"]:
            row["notes"].append(line["note"])
    text = _COMPARED.format(when=when, **{key: first[key] for key in _MACHINE})
    for (name, unit), row in rows.items():
        cells = [name, f"{_figure(row['ours'])} {unit}"]
        for peer in ("asyncua", "node-opcua"):
            beside: dict[str, Any] | None = row.get(peer)
            cells += [_figure(beside["peer_value"]), _figure(beside["ratio"])] if beside else ["", ""]
        text += f"| {' | '.join([*cells, '; '.join(row['notes'])])} |\n"
    return text


def _figure(value: float) -> str:
    return _spaced(value) if abs(value) >= 100 else f"{value:.3g}"


def _when(line: dict[str, Any]) -> str:
    return datetime.fromtimestamp(line["utc_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def main() -> int:
    """Write what there are figures for."""
    if COMPARED.is_file():
        before, _, rest = COMPARISON.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        COMPARISON.write_text(f"{before}{BEGIN}\n\n{comparison(_lines(COMPARED))}\n{END}{after}")
        sys.stdout.write(f"written: {COMPARISON.name}\n")
    if FIGURES.is_file():
        lines = _lines(FIGURES)
        DRAWING.write_text(drawing(points(lines)))
        PAGE.write_text(page(lines))
        sys.stdout.write(f"written: {DRAWING.name}, {PAGE.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
