"""Changes of models while no server runs: written into the ledger, and done at the next start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Kind, Standing, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.inference.repository import ModelRepository

NEXT: Final = "no server runs: it takes effect at the next start"


def order(state: StateDir, choice: ModelChoice, pipelines: Iterable[str], *, user: str, note: str) -> str:
    """Write down that a version shall be activated at the next start: loaded and proven first, as always.

    Raises:
        ModelError: There is no such version, or it is in quarantine (M631).
        ConfigError: A server has just been started.
        OSError: It cannot be written.
    """
    state.create()
    with state.locked():
        ledger = Ledger(state.model_ledger, SystemClock())
        known = _verified(state, choice)
        held = ledger.standing.quarantine_of(known)
        if held is not None:
            raise ModelError(f"{known.text} is in quarantine: {held.why}", code="M631")
        for entry in ledger.standing.open.values():  # the last order counts
            if entry.step is Step.ORDERED and entry.model.name == known.name:
                ledger.append(entry.next(Step.FAILED, f"{known.text} was ordered instead"))
        after = dict.fromkeys(pipelines, known)
        ledger.append(Entry(Kind.LOAD, Step.ORDERED, known, {}, after, user=user, note=note))
    return f"{known.text} will be activated; {NEXT}"


def go_back(state: StateDir, name: str, pipeline: str, *, user: str, note: str) -> str:
    """Write down that pipelines start with their former version.

    Args:
        state: State directory.
        name: Model; empty for the only one that has a former version.
        pipeline: Only this pipeline; empty for all.
        user: Who asks.
        note: Why.

    Raises:
        ModelError: There is no former version that is fit (M633), or several models have one (M639).
        ConfigError: A server has just been started.
        OSError: It cannot be written.
    """
    with state.locked():
        ledger = Ledger(state.model_ledger, SystemClock())
        before, after = _ways_back(state, ledger.standing, name, pipeline)
        if not after:
            what = f"{pipeline or name}: there is no" if pipeline or name else "no model has a"
            raise ModelError(f"{what} former version to go back to", code="M633")
        models = sorted({choice.name for choice in after.values()})
        if len(models) > 1:
            raise ModelError(f"several have a former version, name one: {', '.join(models)}", code="M639")
        left = next(iter(before.values()))
        ledger.append(Entry(Kind.ROLLBACK, Step.REVERTED, left, before, after, user=user, note=note))
    said = ", ".join(sorted({choice.text for choice in after.values()}))
    return f"{', '.join(after)}: back to {said}; {NEXT}"


def release(state: StateDir, choice: ModelChoice, *, user: str, note: str) -> str:
    """Take a version out of quarantine.

    Raises:
        ModelError: It is not in quarantine (M639).
        ConfigError: A server has just been started.
        OSError: It cannot be written.
    """
    with state.locked():
        ledger = Ledger(state.model_ledger, SystemClock())
        held = ledger.standing.quarantine_of(choice)
        if held is None:
            raise ModelError(f"{choice.text} is not in quarantine", code="M639")
        ledger.append(held.verdict(Step.RELEASED, user, note))
        LoadCounts(state.model_loads).lasted([held.model])
    return f"{choice.text} is released: it may be activated again"


def _ways_back(
    state: StateDir, standing: Standing, name: str, pipeline: str
) -> tuple[dict[str, ModelChoice], dict[str, ModelChoice]]:
    """Return what pipelines run, and what they go back to; those without a way are left out."""
    before, after = {}, {}
    for each, stand in standing.pipelines.items():
        if stand.active is None or name not in ("", stand.active.name) or pipeline not in ("", each):
            continue
        for former in standing.ways_back(each):
            if former.name == stand.active.name and _is_fit(state, former):
                before[each], after[each] = stand.active, former
                break
    return before, after


def _verified(state: StateDir, choice: ModelChoice) -> ModelChoice:
    files = ModelRepository(state.models).resolve(choice.name, choice.version, choice.sha256 or None)
    return ModelChoice(choice.name, choice.version, files.manifest.sha256)


def _is_fit(state: StateDir, choice: ModelChoice) -> bool:
    try:
        _verified(state, choice)
    except ModelError:
        return False
    return True
