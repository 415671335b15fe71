"""Running models in words: what speaks against one, what stands beside it, what a change has come to."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from edge_opcua.app.command.look import printable

__all__ = ["job_line", "model_line", "model_notes", "print_alarms"]

Row = Mapping[str, Any]

_ENDED: Final = frozenset({"Active", "RolledBack", "Validated"})


def model_line(row: Row) -> str:
    """Return what is to be known of the model of a pipeline; empty while it simply judges.

    Args:
        row: The pipeline, as ``status`` tells it.
    """
    said = "; ".join(_parts(row))
    model = row.get("model") or {}
    return f"{row['pipeline']}  model {model.get('name')}/{model.get('version')}: {said}" if said else ""


def model_notes(rows: Iterable[Row]) -> dict[str, str]:
    """Return the alarms of the models that run, by pipeline."""
    return {str(row["pipeline"]): alarm for row in rows if (alarm := _alarm(row))}


def print_alarms(rows: Iterable[Row], known: dict[str, str]) -> None:
    """Say on stderr which alarms of models came or went, as far as it is new.

    Args:
        rows: Pipelines with what their models are watched for.
        known: What was said before; it is changed.
    """
    now = model_notes(rows)
    for pipeline in {**known, **now}:
        if now.get(pipeline) != known.get(pipeline):
            sys.stderr.write(f"{pipeline}  {now.get(pipeline) or 'no alarm of its model any more'}\n")
    known.clear()
    known.update(now)


def job_line(job: Row | None) -> str:
    """Return what the last change of a model does or why nothing came of it; empty once it has happened.

    Args:
        job: The notice of its last step, as ``status`` tells it; None before the first.
    """
    if not job or job.get("state") in _ENDED:
        return ""
    what = f"{job.get('kind') or 'load'} {job.get('name')}/{job.get('version')}"
    if job.get("state") == "Failed":
        return f"model change  {job.get('job')}: {what} failed: {printable(job.get('reason') or '')}"
    seen = job.get("shadow")
    how = f", {_compared(seen)}" if isinstance(seen, Mapping) and job.get("state") == "Shadow" else ""
    return f"model change  {job.get('job')}: {what}: {job.get('state')}, {job.get('percent')} %{how}"


def _parts(row: Row) -> Iterable[str]:
    watch, shadow, standby = (row.get(name) or {} for name in ("watch", "shadow", "standby"))
    if alarm := _alarm(row):
        yield alarm
    if row.get("on_trial", watch.get("probation")):  # a start has nothing that the watch could compare with
        yield "on trial"
    if shadow:
        yield f"version {shadow.get('version')} in shadow, {_compared(shadow)}"
    if standby and standby != row.get("model"):
        yield f"version {standby.get('version')} stands by"
    spare = (row.get("facts") or {}).get("cheaper_version")
    if spare is not None:
        yield f"version {spare} judges where it would be too slow" if spare else "no faster version of it"
    trend = watch.get("trend")
    if trend and trend != watch.get("alarm"):
        yield printable(trend)


def _alarm(row: Row) -> str:
    watch = row.get("watch") or {}
    alarm, bits = watch.get("alarm"), watch.get("alarms")
    if not alarm:
        return ""
    more = bits.bit_count() - 1 if isinstance(bits, int) else 0
    return f"alarm: {printable(alarm)}{f' (and {more} more)' if more > 0 else ''}"


def _compared(seen: Row) -> str:
    share, low = _percent(seen.get("agreement")), _percent(seen.get("agreement_low"))
    agree = f", {share} agree (at least {low})" if share and low else ""
    return f"{seen.get('compared') or 0} of {seen.get('wanted') or 0} compared{agree}"


def _percent(share: object) -> str:
    return f"{100 * share:.1f} %" if isinstance(share, int | float) and math.isfinite(share) else ""
