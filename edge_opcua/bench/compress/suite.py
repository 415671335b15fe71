"""``edge-opcua bench compress``: models of several kinds made smaller here, each variant proved or not.

What has to hold: the network on images becomes an INT8 model that is proved and at least 60 % smaller, models
with more channels than they need lose half of their size and more, what is known to do damage is measured and
not chosen, and where there are too few samples nothing is.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge_opcua.bench.compress.rows import figures
from edge_opcua.bench.compress.subjects import SUBJECTS, Kiln, Subject
from edge_opcua.bench.figure import Figure
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.search.run import compress
from edge_opcua.errors import EdgeError

INT8_SAVES: Final = 0.60
PRUNED_SAVES: Final = 0.50
DAMAGING: Final = ("int8-dynamic", "qoperator-s8")
"""Beginnings of the names of variants that are slower than the original where it convolves."""


def run() -> Iterator[Figure]:
    """Measure with all models."""
    yield from measure(SUBJECTS)


def measure(subjects: Sequence[Subject]) -> Iterator[Figure]:
    """Measure with some models; one that cannot be had here is left out, and told on standard error."""
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        kiln = Kiln(Path(folder) / "data")
        for subject in subjects:
            progress(f"{subject.name}: {subject.text}")
            try:
                kiln.prepare(subject)
            except EdgeError as exc:
                progress(f"{subject.name} left out: {exc}")
                continue
            options = subject.options(kiln.data, Path(folder) / "work")
            gate = subject.samples_in(kiln.data, "gate")
            report = reports[subject.name] = compress(subject.model_in(kiln.data), gate, options)
            yield from figures(subject.name, subject.text, report)
    yield from claims(reports)


def claims(reports: Mapping[str, Report]) -> Iterator[Figure]:
    """Yield what has to hold, for the models that were measured."""
    for name, claim in CLAIMS.items():
        if name in reports:
            yield from claim(reports[name])


def _of_digits(report: Report) -> Iterator[Figure]:
    quantised = _quantised(report)
    saved = max((row.saved for row in quantised), default=0.0)
    held = _held(saved >= INT8_SAVES)
    note = f"proved and not slower: {_names(quantised)}; {held}"
    yield _percent("digits-cnn: INT8 saves of the size", saved, INT8_SAVES, note)
    damaging = [row for row in report.rows if row.name.startswith(DAMAGING) and row.timing is not None]
    chosen = [row for row in damaging if row.is_chosen or row.is_usable]
    times = ", ".join(f"{row.name} {row.timing.ratio:.2g} times as long" for row in damaging if row.timing)
    held = _held(bool(damaging) and not chosen)
    yield Figure(
        "digits-cnn: damaging variants that might be chosen",
        len(chosen),
        "",
        "floor",
        0,
        note=f"{times}; {held}",
    )


def _of_press(report: Report) -> Iterator[Figure]:
    yield _pruned("press-autoencoder", report)


def _of_wide(report: Report) -> Iterator[Figure]:
    yield _pruned("digits-wide", report)


def _pruned(subject: str, report: Report) -> Figure:
    both = [row for row in _quantised(report) if "pruned" in row.name]
    saved = max((row.saved for row in both), default=0.0)
    note = f"proved and not slower: {_names(both)}; {_held(saved >= PRUNED_SAVES)}"
    return _percent(f"{subject}: pruning and INT8 save of the size", saved, PRUNED_SAVES, note)


def _of_cancer(report: Report) -> Iterator[Figure]:
    needed = [row.comparison.needed for row in report.rows if row.comparison and row.comparison.needed]
    said = f"about {min(needed)} samples would be needed" if needed else "no number of samples is named"
    held = _held(report.chosen is None)
    note = f"{'; '.join(report.reasons)}; {said}; {held}"
    yield Figure("cancer: variants chosen", int(report.chosen is not None), "", "floor", 0, note=note)


CLAIMS: Final[Mapping[str, Callable[[Report], Iterator[Figure]]]] = {
    "digits-cnn": _of_digits,
    "press-autoencoder": _of_press,
    "digits-wide": _of_wide,
    "cancer": _of_cancer,
}


def _quantised(report: Report) -> list[Row]:
    """Return what is in INT8 and may be used."""
    return [row for row in report.rows if row.is_usable and row.variant.family == "int8-static"]


def progress(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def _percent(name: str, share: float, floor: float, note: str) -> Figure:
    return Figure(name, 100.0 * share, "%", "floor", 100.0 * floor, note=note, better="higher")


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(row.name for row in rows) or "none"


def _held(held: bool) -> str:  # noqa: FBT001 - what is said of it
    return "holds" if held else "DOES NOT HOLD"
