"""Puts the figures of runs into their pages.

edge-opcua bench plc --json docs/reference/plc-performance.jsonl
edge-opcua bench failsafe --json docs/reference/failsafe-times.jsonl
edge-opcua bench inference --json docs/reference/inference-performance.jsonl
edge-opcua bench models --json docs/reference/model-changes-performance.jsonl
python docs/bench_figures.py
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REFERENCE: Final = Path(__file__).parent / "reference"
PAGES: Final = ("plc-performance", "failsafe-times", "inference-performance", "model-changes-performance")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_HEAD: Final = """\
Measured {when} on {processor}, {cores} cores, Python {python}, load before the run {load}.

| what | edge_opcua | beside | | times better | |
|---|---|---|---|---|---|
"""


def table(lines: list[dict[str, Any]]) -> str:
    """Return the table of a run, one row per figure."""
    first = lines[0]
    when = datetime.fromtimestamp(first["utc_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = _HEAD.format(when=when, **{key: first[key] for key in ("processor", "cores", "python", "load")})
    for line in lines:
        beside = ["", "", ""]
        if line["peer"]:
            beside = [line["peer"], _figure(line["peer_value"]), _figure(line["ratio"])]
        cells = [line["name"], f"{_figure(line['value'])} {line['unit']}", *beside, line["note"]]
        text += f"| {' | '.join(cells)} |\n"
    return text


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the figures of a run."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


def main() -> int:
    """Write the pages."""
    for name in PAGES:
        page = REFERENCE / f"{name}.md"
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(f"{before}{BEGIN}\n\n{table(lines_of(page.with_suffix('.jsonl')))}\n{END}{after}")
        sys.stdout.write(f"written: {page.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
