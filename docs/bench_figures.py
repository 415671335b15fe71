"""Puts the figures of runs into their pages.

edge-opcua bench plc --json docs/reference/plc-performance.jsonl
edge-opcua bench failsafe --json docs/reference/failsafe-times.jsonl
edge-opcua bench inference --json docs/reference/inference-performance.jsonl
edge-opcua bench models --json docs/reference/model-changes-performance.jsonl
edge-opcua bench compress --json docs/reference/compression-performance.jsonl
python docs/bench_figures.py
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REFERENCE: Final = Path(__file__).parent / "reference"
PAGES: Final = (
    "plc-performance",
    "failsafe-times",
    "inference-performance",
    "model-changes-performance",
    "compression-performance",
)
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_HEAD: Final = """\
Measured {when} on {processor}, {cores} cores, Python {python}, load before the run {load}.

| what | edge_opcua | beside | | times better | |
|---|---|---|---|---|---|
"""
_VARIANTS: Final = """
### {subject}

{text}; {samples} samples to judge by.

| variant | {measure} | lost | verdict | p50 | p99 | size | |
|---|---|---|---|---|---|---|---|
"""


def table(lines: list[dict[str, Any]]) -> str:
    """Return the table of a run, one row per figure, and then one table per model that was compressed."""
    first = lines[0]
    when = datetime.fromtimestamp(first["utc_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = _HEAD.format(when=when, **{key: first[key] for key in ("processor", "cores", "python", "load")})
    for line in lines:
        if line.get("facts"):
            continue
        beside = ["", "", ""]
        if line["peer"]:
            beside = [line["peer"], _figure(line["peer_value"]), _figure(line["ratio"])]
        cells = [line["name"], f"{_figure(line['value'])} {line['unit']}", *beside, line["note"]]
        text += f"| {' | '.join(cells)} |\n"
    return text + _variants([line for line in lines if line.get("facts")])


def _variants(lines: list[dict[str, Any]]) -> str:
    """Return a table for each model that was compressed: the original first, then its variants."""
    text = ""
    for line in lines:
        facts = line["facts"]
        if facts["variant"] == "original":
            text += _VARIANTS.format(**{"measure": "quality", **facts})
            quality = _share(facts["quality"]) if "quality" in facts else ""
            size = f"{facts['size_bytes'] / 1000:.0f} kB"
            cells = ["original", quality, "", "", f"{_figure(line['value'])} µs", "", size, ""]
        else:
            cells = _variant(facts)
        text += f"| {' | '.join(cells)} |\n"
    return text


def _variant(facts: dict[str, Any]) -> list[str]:
    """Return the cells of a variant."""
    compared = ["", "", "not compared"]
    if "loss" in facts:
        loss, low, high = facts["loss"]
        lost = f"{loss:+.2f} {facts['unit']} ({low:+.2f} … {high:+.2f})"
        verdict = facts["verdict"] if facts["place"] else "not entered"
        compared = [_share(facts["quality"]), lost, verdict]
    times = ["{:.2f} ({:.2f} … {:.2f})".format(*facts[share]) for share in ("p50", "p99")]
    size = f"{facts['size_bytes'] / 1000:.0f} kB, {-100 * facts['saved']:+.0f} %"
    return [facts["variant"], *compared, *times, size, "**chosen**" if facts["chosen"] else facts["speed"]]


def _share(quality: float) -> str:
    """Return a quality from 0 to 1 in percent, any other as it is."""
    return f"{100 * quality:.2f} %" if 0.0 <= quality <= 1.0 else _figure(quality)


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
