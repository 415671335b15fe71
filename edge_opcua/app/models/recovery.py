"""What a start makes of changes of models that a former server has not ended, and of how that server ended.

Nothing here waits for a model: the choices are settled before the first one is loaded, so a version that
brings down its process, the server or the computer is not loaded once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from edge_opcua.app.models.active import ActiveModels, read_adopted
from edge_opcua.app.models.book import Found, ModelBook
from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Kind, Step, unfinished
from edge_opcua.inference.ledgerfile import Ledger

MOST_LOADS: Final = 3
"""So often an established version may be loaded without lasting before a start goes back."""
MOST_TRIALS: Final = 2
"""So often a new one may be loaded without lasting before it is not started any more at all."""

_log = structlog.get_logger(__name__)


def open_book(state: StateDir, config: EdgeConfig, clock: Clock) -> ModelBook:
    """Return the ledger of a state directory with every choice settled; the caller holds its lock."""
    ledger, loads = Ledger(state.model_ledger, clock), LoadCounts(state.model_loads)
    active = ActiveModels(state, config, lambda: ledger.standing)
    recovery = _Recovery(ledger, loads, active, [pipeline.name for pipeline in config.pipelines])
    recovery.adopt(state)
    recovery.run()
    return ModelBook(active, ledger, loads, recovery.found)


class _Recovery:
    def __init__(
        self, ledger: Ledger, loads: LoadCounts, active: ActiveModels, pipelines: Iterable[str]
    ) -> None:
        self.found: list[Found] = []
        self._ledger = ledger
        self._loads = loads
        self._active = active
        self._pipelines = tuple(pipelines)

    def adopt(self, state: StateDir) -> None:
        """Take over what an older release has written down."""
        adopted = read_adopted(state.active_models)
        for name, choice in adopted.items():
            if name not in self._ledger.standing.pipelines:
                entry = Entry(Kind.ADOPTION, Step.CONFIRMED, choice, {}, {name: choice}, user=SERVER)
                self._take(entry)
        if adopted:
            try:
                state.active_models.unlink(missing_ok=True)
            except OSError as exc:
                _log.warning("models.choice_left", file=str(state.active_models), error=str(exc))

    def run(self) -> None:
        """Settle every choice."""
        clean = self._opened()
        for entry, step, why in unfinished(self._ledger.standing, clean=clean):
            taken = self._take(entry.next(step, why))
            done = "went back to" if step is Step.REVERTED else "the change was not made, it runs"
            self._tell(taken, f"{done} {_runs(taken)}: {why}")
            if not clean and entry.kind is Kind.LOAD and self._loads.of(entry.model) >= MOST_TRIALS:
                self._distrust(entry, why)
        if not clean:
            self._revert_trials()
            self._revert_what_does_not_last()
        self._leave_quarantined()

    def _opened(self) -> bool:
        try:
            return self._loads.open()
        except OSError as exc:
            _log.warning("loads.not_written", error=str(exc))
            return self._loads.was_clean

    def _revert_trials(self) -> None:
        for name in self._pipelines:
            choice = self._active.choice(name)
            if self._ledger.standing.of(name).trial is None:
                continue
            why = "the server ended unexpectedly while it was on trial"
            self._revert(name, why, quarantine=self._loads.of(choice) >= MOST_TRIALS)

    def _revert_what_does_not_last(self) -> None:
        """Go back where loading again and again has brought down the server: the youngest change first."""
        culprits = [
            name
            for name in self._pipelines
            if self._loads.of(self._active.choice(name)) >= MOST_LOADS and self._active.ways_back(name)
        ]
        standing = self._ledger.standing
        youngest = max(culprits, key=lambda name: standing.of(name).since, default=None)
        if youngest is None:
            return
        guilty = self._active.choice(youngest)
        often = f"the server ended unexpectedly {self._loads.of(guilty)} times soon after it was loaded"
        for name in culprits:
            if self._active.choice(name).is_same(guilty):
                self._revert(name, often, quarantine=True)

    def _leave_quarantined(self) -> None:
        for name in self._pipelines:
            why = self._ledger.standing.quarantine_of(self._active.choice(name))
            if why is not None:
                self._revert(name, f"it is in quarantine: {why.why}", quarantine=False)

    def _revert(self, pipeline: str, why: str, *, quarantine: bool) -> None:
        """Let a pipeline start with its former version; it stays where it is if there is none."""
        left, target = self._active.choice(pipeline), self._active.way_back(pipeline)
        if target is None:
            _log.error("models.no_way_back", pipeline=pipeline, reason=why, **left.as_json())
            return
        entry = Entry(Kind.ROLLBACK, Step.BEGUN, left, {pipeline: left}, {pipeline: target}, user=SERVER)
        if quarantine:
            self._distrust(entry, why)
        taken = self._take(entry.next(Step.REVERTED, why))
        self._tell(taken, f"went back from {left.text} to {target.text}: {why}")

    def _distrust(self, entry: Entry, why: str) -> None:
        if self._ledger.standing.quarantine_of(entry.model) is None:
            self._take(entry.verdict(Step.QUARANTINED, SERVER, why))

    def _take(self, entry: Entry) -> Entry:
        """Write an entry; one that cannot be written is the case all the same, until the next start."""
        try:
            return self._ledger.take(entry)
        except OSError as exc:
            _log.error("ledger.not_written", step=entry.step.value, error=str(exc))
            return entry

    def _tell(self, entry: Entry, text: str) -> None:
        self.found.append(Found(entry, text))
        _log.warning("models.recovered", step=entry.step.value, text=text, pipelines=list(entry.pipelines))


def _runs(entry: Entry) -> str:
    """Return what runs after an entry that has ended a change."""
    models: Iterable[ModelChoice] = (entry.after if entry.step is Step.REVERTED else entry.before).values()
    return ", ".join(sorted({choice.text for choice in models})) or entry.model.text
