"""Holds the results of a version in shadow against those of the active one, capture by capture."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader
from edge_opcua.core.values import UNCERTAIN_LAST_USABLE, Verdict, is_bad
from edge_opcua.inference.intake import number_of
from edge_opcua.inference.shadow import Agreement

PENDING: Final = 256
"""Results that wait for their counterpart: as many as the ring of results keeps."""
FIGURES: Final = 4096
_MOST_TEXT: Final = 120


@dataclass(frozen=True, slots=True)
class Told:
    """What one version says about one capture.

    Args:
        stroke: Number of the capture.
        verdict: Its own verdict; None if it has none, e.g. because an input was Bad or it came too late.
        score: NaN where there is none.
        took_ms: What features, run and judgement took, ms.
    """

    stroke: int
    verdict: Verdict | None
    score: float
    took_ms: float

    def __str__(self) -> str:
        name = "no verdict" if self.verdict is None else self.verdict.name.title().replace("_", "")
        return name if math.isnan(self.score) else f"{name} ({self.score:.4g})"


class Comparison:
    """Compares two series of results.

    Args:
        active: Reads the results of the active version.
        unseen: Reads those of the version in shadow.
        wanted: Captures to compare.

    Attributes:
        missed: Captures that the shadow never saw; who knows sets it.
    """

    def __init__(self, active: BlockReader, unseen: BlockReader, wanted: int) -> None:
        self.missed = 0
        self._readers = (active, unseen)
        self._pending: tuple[OrderedDict[tuple[int, int], Told], OrderedDict[tuple[int, int], Told]] = (
            OrderedDict(),
            OrderedDict(),
        )
        self._wanted = wanted
        self._compared = self._agreed = self._undecided = 0
        self._new_alarms = self._lost_alarms = 0
        self._differences = np.zeros(FIGURES)
        self._differing = 0
        self._took_ms = np.zeros(FIGURES)
        self._taken = 0
        self._disagreement = ""

    @property
    def is_complete(self) -> bool:
        """Whether as many captures were compared as were wanted."""
        return self._compared >= self._wanted

    def look(self) -> bool:
        """Take what is new of both; returns whether anything was compared, or could not be."""
        before = self._compared + self._undecided
        for side, reader in enumerate(self._readers):
            for batch in reader.poll():
                if not is_bad(int(batch.status[batch.row("stroke")])):
                    self._take(side, batch)
        return self._compared + self._undecided != before

    def agreement(self) -> Agreement:
        """Return what was found out so far."""
        p50, p99 = _quantiles(self._differences, self._differing, (50, 99))
        (took,) = _quantiles(self._took_ms, self._taken, (99,))
        state = "Compared" if self.is_complete else "Behind" if self.missed else "Comparing"
        return Agreement(
            self._wanted,
            self._compared,
            self._agreed,
            self._undecided,
            self._new_alarms,
            self._lost_alarms,
            self.missed,
            p50,
            p99,
            took,
            self._disagreement,
            state,
        )

    def _take(self, side: int, batch: TagBatch) -> None:
        """Keep a result until that of the other version is there, or compare the two."""
        key = int(number_of(batch, "stroke")), int(number_of(batch, "captured_ns"))
        told = _told(batch, own_only=side == 0)
        if side == 1:
            self._took_ms[self._taken % FIGURES] = told.took_ms
            self._taken += 1
        other = self._pending[1 - side].pop(key, None)
        if other is None:
            mine = self._pending[side]
            mine[key] = told
            if len(mine) > PENDING:
                mine.popitem(last=False)
        elif not self.is_complete:
            self._compare(*((told, other) if side == 0 else (other, told)))

    def _compare(self, active: Told, unseen: Told) -> None:
        mine, theirs = active.verdict, unseen.verdict
        nothing = mine is Verdict.NOT_DECIDABLE and theirs is Verdict.NOT_DECIDABLE
        if mine is None or theirs is None or nothing:
            self._undecided += 1
            return
        self._compared += 1
        difference = abs(active.score - unseen.score)
        if not math.isnan(difference):
            self._differences[self._differing % FIGURES] = difference
            self._differing += 1
        if mine is theirs:
            self._agreed += 1
            return
        self._new_alarms += (mine, theirs) == (Verdict.OK, Verdict.NOT_OK)
        self._lost_alarms += (mine, theirs) == (Verdict.NOT_OK, Verdict.OK)
        self._disagreement = f"stroke {active.stroke}: {unseen} instead of {active}"[:_MOST_TEXT]


def _told(batch: TagBatch, *, own_only: bool) -> Told:
    """Return what a result says.

    Args:
        batch: A result.
        own_only: Whether one that came late counts as none: it may be that of another capture, held.
    """
    row = batch.row("verdict")
    status = int(batch.status[row])
    late = own_only and status == UNCERTAIN_LAST_USABLE
    has_none = is_bad(status) or late or bool(number_of(batch, "fail_safe_active"))
    score = math.nan if is_bad(int(batch.status[batch.row("score")])) else float(number_of(batch, "score"))
    return Told(
        int(number_of(batch, "stroke")),
        None if has_none else Verdict(int(number_of(batch, "verdict"))),
        score,
        float(number_of(batch, "infer_ms")),
    )


def _quantiles(values: np.ndarray, count: int, which: tuple[int, ...]) -> tuple[float, ...]:
    if not count:
        return (math.nan,) * len(which)
    known = values[: min(count, FIGURES)]
    return tuple(float(each) for each in np.percentile(known, which))
