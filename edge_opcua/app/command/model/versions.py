"""``model list``: every version in the repository, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from edge_opcua.app.command.look import printable
from edge_opcua.app.command.model.card import NOTES, age_days, note_text, plain, size_text, utc_text
from edge_opcua.app.command.model.facts import Uses, VersionFacts, joined, uses_of, versions_in
from edge_opcua.app.command.model.names import ModelName
from edge_opcua.app.command.tell import ANSWER_IS_NO, say
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir, state_option

SCHEMA: Final = "edge-opcua.models/1"
_HEADER: Final = ("MODEL", "STATE", "IN", "TRAINED", "PRECISION", "SIZE", "ADDED", "")
_WIDEST: Final = 60
"""Characters of a description."""


def show(state_dir: Path, wanted: ModelName | None, config: Path | None, *, as_json: bool) -> int:
    """Print the versions in the repository of this state directory; the server may run or not.

    Args:
        state_dir: The state directory.
        wanted: Only these; None: all.
        config: Says which pipelines there are; None: what the ledger and the server say.
        as_json: One JSON object instead of text.

    Returns:
        0; 1 if none is there, or one cannot be used.
    """
    state = StateDir(state_dir)
    found = versions_in(state, *((None, None) if wanted is None else (wanted.name, wanted.version)))
    uses = uses_of(state, config)
    now_ns = SystemClock().utc_ns()
    if as_json:
        rows = [_row(each, uses, now_ns) for each in found]
        say(json.dumps({"schema": SCHEMA, "running": uses.is_running, "models": rows}))
    elif found:
        say(_table([_HEADER, *(_cells(each, uses, now_ns) for each in found)]))
        for each in found:
            if note := _note(each, uses):
                say(f"{each.key[0]}/{each.key[1]}  {note}")
        if not uses.is_running and config is None:
            say(
                "no server runs, no configuration is named (-c FILE): who runs what is from the history alone"
            )
        if len(found) == 1:
            say("\n".join(_details(found[0])))
    else:
        say(f"there is no model {wanted or ''}".rstrip() + f" in {state.models}")
        say(f"help: edge-opcua model add DIR{state_option(state_dir)} proves one and stores it")
    return ANSWER_IS_NO if not found or any(each.fault for each in found) else 0


def _cells(each: VersionFacts, uses: Uses, now_ns: int) -> tuple[str, ...]:
    manifest = each.manifest
    return (
        f"{each.key[0]}/{each.key[1]}",
        "not usable" if each.fault else uses.state_of(each.key),
        joined(uses.places_of(each.key), 2),
        _trained(each, now_ns),
        "" if each.card is None else each.card.precision,
        size_text(each.size_bytes),
        utc_text(each.added_ns)[:10],
        "" if manifest is None else _short(printable(manifest.description)),
    )


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1].rstrip()}…"


def _details(each: VersionFacts) -> list[str]:
    """Return what a manifest says for people, of one version."""
    if each.manifest is None:
        return []
    lines = [f"SHA-256      {each.manifest.sha256}"]
    for name in NOTES:
        table = getattr(each.manifest, name)
        if table:
            lines.append(printable(f"{name:<11}  {note_text(name, table)}"))
    if each.manifest.signature:
        lines.append("signature    not verified")
    return lines


def _trained(each: VersionFacts, now_ns: int) -> str:
    age = None if each.manifest is None else each.manifest.age
    if age is None:
        return "?"
    days = age_days(age.trained_ns, now_ns)
    when = "today" if days < 1 else f"{days:.0f} days ago"
    return f"{when}{' (old)' if days > age.max_days else ''}"


def _note(each: VersionFacts, uses: Uses) -> str:
    if each.fault:
        return f"cannot be used: {each.fault}"
    if each.key in uses.quarantined:
        name = f"{each.key[0]}/{each.key[1]}"
        return f"in quarantine: {uses.quarantined[each.key]}; edge-opcua model release {name} trusts it again"
    return uses.busy.get(each.key, "")


def _row(each: VersionFacts, uses: Uses, now_ns: int) -> dict[str, Any]:
    manifest, key = each.manifest, each.key
    age = None if manifest is None else manifest.age
    row: dict[str, Any] = {
        "name": key[0],
        "version": key[1],
        "state": "not usable" if each.fault else uses.state_of(key),
        "pipelines": uses.active.get(key, []),
        "former_of": uses.former.get(key, []),
        "standby_of": uses.standby.get(key, []),
        "spare_of": uses.spare.get(key, []),
        "quarantine": uses.quarantined.get(key, ""),
        "busy": uses.busy.get(key, ""),
        "fault": each.fault,
        "size_bytes": each.size_bytes,
        "added": utc_text(each.added_ns),
        "precision": "" if each.card is None else each.card.precision,
        "parameters": None if each.card is None else each.card.parameters,
        "trained": None if age is None else utc_text(age.trained_ns),
        "age_days": None if age is None else round(age_days(age.trained_ns, now_ns), 2),
        "max_days": None if age is None or age.max_days == float("inf") else age.max_days,
        "is_old": age is not None and age_days(age.trained_ns, now_ns) > age.max_days,
    }
    if manifest is not None:
        row |= {
            "sha256": manifest.sha256,
            "description": manifest.description,
            "has_profile": manifest.profile is not None,
            "is_signed": bool(manifest.signature),
            "signature_verified": False,
        } | {name: plain(getattr(manifest, name)) for name in NOTES}
    return row


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
