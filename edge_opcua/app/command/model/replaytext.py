"""What a model made of recorded windows, as a picture and a table for the terminal."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_opcua.app.windows.judged import Flags, Recorded, Replayed, Verdicts, agreement, disagreements
from edge_opcua.core.values import Verdict
from edge_opcua.inference.shadow import Agreement
from edge_opcua.records.window import Answer

COLUMNS: Final = 60
_LABELS_EVERY: Final = 15
_QUANTILES: Final = (1, 50, 95, 99)
_MARKS: Final = (".", "?", "x", "+", "#")
"""By weight: decided OK, not decided, not learned, some NotOk, half NotOk or more; a column has its worst."""
_WORDS: Final = {
    int(Verdict.OK): "OK",
    int(Verdict.NOT_OK): "NotOk",
    int(Verdict.NOT_DECIDABLE): "NotDecidable",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are held against each other.

    Args:
        name: What it is called: ``then``, or a model.
        verdicts: What it decided.
        seen: On which windows.
        replayed: The model; None for what was decided then.
    """

    name: str
    verdicts: Verdicts
    seen: Flags
    replayed: Replayed | None = None


def then_of(past: Recorded) -> Side:
    """Return what was decided then."""
    return Side("then", past.then, np.ones(len(past), np.bool_))


def side_of(replayed: Replayed, name: str = "") -> Side:
    """Return what a model decided now."""
    return Side(name or replayed.model, replayed.now, replayed.seen, replayed)


def report(past: Recorded, before: Side, after: Side) -> str:
    """Return the picture and the table.

    Args:
        past: What was recorded.
        before: What is held against.
        after: The model in question.
    """
    seen = before.seen & after.seen
    told = agreement(before.verdicts, after.verdicts, seen)
    lines = [*_head(past), "", *time_line(past, (before, after)), ""]
    lines += [f"  {'agreement':<18}{agreement_text(told)}"]
    lines += _last(past, before, after, seen)
    lines += ["", *_table(past, before, after), ""]
    for side in (before, after):
        lines += _notes(side)
    return "\n".join(lines).rstrip()


def _head(past: Recorded) -> list[str]:
    judged = ", ".join(f"{model} ({count})" for model, count in past.models.most_common(4))
    answered = int((past.answers >= 0).sum())
    first, last = _time(int(past.judged_ns.min())), _time(int(past.judged_ns.max()))
    return [
        f"{past.pipeline}: {_windows(len(past))}, {first} to {last} UTC",
        f"  judged then by {judged}; {answered or 'none'} answered",
    ]


def time_line(past: Recorded, sides: Sequence[Side], columns: int = COLUMNS) -> list[str]:
    """Return one line of marks for each side, the times below, and what the marks mean."""
    begin, end = int(past.judged_ns.min()), int(past.judged_ns.max())
    width_ns = max(1, -(-(end - begin + 1) // columns))
    bins = (past.judged_ns - begin) // width_ns
    label = max(len("differ"), *(len(side.name) for side in sides))
    lines = [f"  {side.name:<{label}}  {_marks(side, bins, columns)}".rstrip() for side in sides]
    if len(sides) > 1:
        lines.append(f"  {'differ':<{label}}  {_differences(sides, bins, columns)}".rstrip())
    lines.append(f"  {'':<{label}}  {_times(begin, width_ns, columns)}")
    meaning = ". OK  + some NotOk  # half or more  x not learned  ? not decided"
    lines.append(f"  {'':<{label}}  {meaning}; a column is {_span(width_ns)}")
    return lines


def _marks(side: Side, bins: np.ndarray[Any, Any], columns: int) -> str:
    verdicts = side.verdicts
    weight = np.ones(len(bins), np.int8)
    weight[verdicts.decided] = 0
    weight[~verdicts.decided & (verdicts.outside >= 0)] = 2
    weight[verdicts.alarm] = 3
    worst = np.full(columns, -1, np.int8)
    np.maximum.at(worst, bins[side.seen], weight[side.seen])
    alarms = np.bincount(bins[side.seen & verdicts.alarm], minlength=columns)
    worst[(alarms > 0) & (2 * alarms >= np.bincount(bins[side.seen], minlength=columns))] = 4
    return "".join(" " if each < 0 else _MARKS[each] for each in worst)


def _differences(sides: Sequence[Side], bins: np.ndarray[Any, Any], columns: int) -> str:
    """Return a mark for each column in which two decided differently."""
    before, after = sides[:2]
    places = list(disagreements(before.verdicts, after.verdicts, before.seen & after.seen))
    there = np.bincount(bins[places], minlength=columns) if places else np.zeros(columns, np.intp)
    return "".join("^" if count else " " for count in there)


def _times(begin_ns: int, width_ns: int, columns: int) -> str:
    form = "%H:%M" if width_ns * columns < 36 * 3600 * 10**9 else "%m-%d %Hh"
    parts = []
    for first in range(0, columns, _LABELS_EVERY):
        moment = dt.datetime.fromtimestamp((begin_ns + first * width_ns) / 1e9, dt.UTC)
        parts.append(f"{moment:{form}}"[: _LABELS_EVERY - 1].ljust(_LABELS_EVERY))
    return "".join(parts).rstrip()


def agreement_text(told: Agreement) -> str:
    """Return how far two agree, in one line."""
    undecided = f"; {told.undecided} not decided by both" if told.undecided else ""
    if not told.compared:
        return f"none could be compared{undecided}"
    return (
        f"{told.agreement:.2%} of {told.compared} "
        f"(95 %: {told.agreement_low:.1%} to {told.agreement_high:.1%}); "
        f"{told.new_alarms} new alarms, {told.lost_alarms} lost{undecided}"
    )


def _last(past: Recorded, before: Side, after: Side, seen: Flags) -> list[str]:
    place = next(disagreements(before.verdicts, after.verdicts, seen), None)
    if place is None:
        return []
    text = "; ".join(f"{side.name} {_verdict(side.verdicts, place)}" for side in (before, after))
    return [f"  {'the last':<18}result {past.result_ids[place]}, {_time(int(past.judged_ns[place]))}: {text}"]


def _verdict(verdicts: Verdicts, place: int) -> str:
    return f"{_WORDS.get(int(verdicts.verdict[place]), '?')} ({verdicts.score[place]:.4g})"


def figures(past: Recorded, side: Side) -> dict[str, Any]:
    """Return what a side did, as numbers; None where there are none."""
    verdicts, seen = side.verdicts, side.seen
    score = verdicts.score[seen & np.isfinite(verdicts.score)]
    took = verdicts.took_us[seen & verdicts.decided & np.isfinite(verdicts.took_us)]
    false = seen & past.answered(Answer.NORMAL, Answer.SENSOR_FAULT)
    real = seen & past.answered(Answer.REAL)
    return {
        "windows": int(seen.sum()),
        "ok": int((seen & verdicts.decided & (verdicts.verdict == Verdict.OK)).sum()),
        "not_ok": int((seen & verdicts.alarm).sum()),
        "undecided": int((seen & ~verdicts.decided).sum()),
        "score": _quantiles(score),
        "took_us": _quantiles(took),
        "false_alarms": int((false & verdicts.alarm).sum()),
        "answered_false": int(false.sum()),
        "found": int((real & verdicts.alarm).sum()),
        "answered_real": int(real.sum()),
    }


def _quantiles(values: np.ndarray[Any, Any]) -> dict[str, float] | None:
    if not values.size:
        return None
    found = np.percentile(values, _QUANTILES)
    return {f"p{quantile}": float(each) for quantile, each in zip(_QUANTILES, found, strict=True)}


def _table(past: Recorded, before: Side, after: Side) -> list[str]:
    rows = [figures(past, side) for side in (before, after)]
    lines = [_row("", before.name, after.name)]
    for name, key in (("OK", "ok"), ("NotOk", "not_ok"), ("not decided", "undecided")):
        lines.append(_row(name, *(str(row[key]) for row in rows)))
    lines.append(_row("score p1 p50 p99", *(_spread(row["score"], ("p1", "p50", "p99")) for row in rows)))
    taken = _row("latency p50 p99", *(_micro(row["took_us"]) for row in rows))
    lines.append(f"{taken}   features, run and judgement, here")
    false, real = rows[0]["answered_false"], rows[0]["answered_real"]
    if false:
        of = [f"{row['false_alarms']} of {row['answered_false']}" for row in rows]
        lines.append(_row("false alarms", *of) + "   answered normal or sensor_fault")
    if real:
        of = [f"{row['found']} of {row['answered_real']}" for row in rows]
        lines.append(_row("found", *of) + "   answered real")
    return lines


def _row(name: str, before: str, after: str) -> str:
    return f"  {name:<18}{before:<24}{after}".rstrip()


def _spread(values: dict[str, float] | None, names: tuple[str, ...]) -> str:
    return "-" if values is None else " ".join(f"{values[name]:.3g}" for name in names)


def _micro(values: dict[str, float] | None) -> str:
    return "-" if values is None else f"{values['p50']:.0f} {values['p99']:.0f} µs"


def _notes(side: Side) -> list[str]:
    replayed = side.replayed
    if replayed is None:
        return []
    lines = []
    missing = int((~replayed.seen).sum())
    if missing:
        lines.append(
            f"  {side.name} did not see {_windows(missing)}: they made room for newer ones meanwhile"
        )
    lines += [
        f"  {side.name} was never shown {row['feature']} {_seen(row)} ({_windows(row['windows'])}); "
        f"it knows {_range(row['low'], row['high'])}"
        for row in outside_training(replayed)
    ]
    if replayed.comparable:
        same = f"{replayed.same} of {replayed.comparable}"
        lines.append(f"  {side.name} was given the features that the lane had in {same}")
    return lines


def outside_training(replayed: Replayed) -> list[dict[str, Any]]:
    """Return the features that were outside of what a model may judge, most windows first."""
    rows = []
    outside = replayed.now.outside
    for number in np.unique(outside[outside >= 0]).tolist():
        name, unit, low, high = replayed.features[number]
        among = outside == number
        values = replayed.now.value[among & np.isfinite(replayed.now.value)]
        rows.append(
            {
                "feature": name,
                "unit": unit,
                "low": low,
                "high": high,
                "windows": int(among.sum()),
                "least": float(values.min()) if values.size else None,
                "most": float(values.max()) if values.size else None,
            }
        )
    return sorted(rows, key=lambda row: -int(row["windows"]))


def _seen(row: dict[str, Any]) -> str:
    return "like that" if row["least"] is None else f"{_range(row['least'], row['most'])} {row['unit']}"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and low == high:
        return f"{low:.4g}"
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    return f"{least:.4g} to {most:.4g}"


def _windows(count: int) -> str:
    return "1 window" if count == 1 else f"{count} windows"


def _time(utc_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(utc_ns // 10**9, dt.UTC):%Y-%m-%d %H:%M:%S}"


def _span(width_ns: int) -> str:
    seconds = width_ns / 1e9
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
