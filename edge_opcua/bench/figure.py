"""One measured figure beside the peer or floor it was measured against in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """What a benchmark yields, once per figure.

    Args:
        name: What was measured, e.g. ``publish 500 rows, 6 readers``.
        value: The figure.
        unit: Its unit, e.g. ``µs/batch``.
        peer: What it stands beside: another product, the plain way, or a floor that physics sets.
        peer_value: The peer's figure in the same unit, from the same run; None without a peer.
        ratio: How many times better than the peer (below 1: worse); worked out when not given.
        note: Conditions that change the figure.
        better: Whether small or large figures are good ones.
        facts: What else is known, by name, as JSON; for pages that show more than one number in a row.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    note: str = ""
    better: Literal["lower", "higher"] = "lower"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.peer) != (self.peer_value is not None):
            raise ValueError(f"{self.name}: a peer has a name and a value, or there is none")
        if self.ratio is None and self.peer_value is not None:
            pair = (self.peer_value, self.value) if self.better == "lower" else (self.value, self.peer_value)
            object.__setattr__(self, "ratio", pair[0] / pair[1] if pair[1] else None)

    def as_json(self) -> dict[str, Any]:
        """Return the figure for machines; fields are only ever added."""
        return asdict(self)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures for people, one line each, columns aligned, notes below."""
    rows = [("", "", "", "peer", "times better", "")]
    rows += [
        (
            one.name,
            number(one.value),
            one.unit,
            f"{number(one.peer_value)}  {one.peer}" if one.peer_value is not None else "",
            number(one.ratio) if one.ratio is not None else "",
            f"[{at}]" if one.note else "",
        )
        for at, one in enumerate(figures, start=1)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        name, value, unit, peer, ratio, mark = (
            cell.rjust(width) if column in (1, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(f"{name}  {value} {unit}  {peer}  {ratio}  {mark}".rstrip())
    lines += [f"[{at}] {one.note}" for at, one in enumerate(figures, start=1) if one.note]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Return a number with three significant digits and no exponent between 0.001 and a billion."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e9:
        return f"{value:.2e}"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
