"""The ledger of models: which version each pipeline runs, and how it came to that; pure.

Every step of every change is an :class:`Entry`. What is the case is what the entries make of each other, one
after the other (:func:`after`), so the history and the truth cannot differ. An entry is on disk *before* what
it names happens (:mod:`edge_opcua.inference.ledgerfile`): whatever ends in between, the next start knows how
far it was, and :func:`unfinished` says what is to become of it.

```
load       begun → prepared → (shadow) → activating → active (a trial) → confirmed
roll-back  begun → reverting → reverted                    either: → failed
versions   quarantined → released                          ordered: to be begun at the next start
```
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice, choices_json

MOST_FORMERS: Final = 5
SERVER: Final = "edge-opcua"
"""Who has done it where the server has by itself."""


class Step(enum.Enum):
    """One step; from the moment it is on disk the following may have happened."""

    ORDERED = "ordered"
    """Somebody asked for it while no server ran: it begins at the next start."""
    BEGUN = "begun"
    """The version is loaded: it may end its process, or the computer."""
    PREPARED = "prepared"
    """It is loaded and proven in a process of its own; the pipelines have not noticed."""
    SHADOW = "shadow"
    """It judges beside the active one, unseen."""
    ACTIVATING = "activating"
    """The former process is retired and the new one takes over; a start goes on with the former version."""
    ACTIVE = "active"
    """It judges, on trial: an unclean end brings the former one back."""
    CONFIRMED = "confirmed"
    """The trial is over."""
    REVERTING = "reverting"
    """The former version takes over again; a start goes on with that."""
    REVERTED = "reverted"
    """The former version judges again."""
    FAILED = "failed"
    """Nothing has changed, or what had is undone."""
    QUARANTINED = "quarantined"
    """The version is not started any more until somebody releases it."""
    RELEASED = "released"
    """Somebody trusts the version again."""


class Kind(enum.Enum):
    """What a change is."""

    LOAD = "load"
    ROLLBACK = "rollback"
    ADOPTION = "adoption"
    """What an older release had written down was taken over."""
    VERDICT = "verdict"
    """A quarantine, or its end."""


LOAD_STEPS: Final = (
    Step.BEGUN,
    Step.PREPARED,
    Step.SHADOW,
    Step.ACTIVATING,
    Step.ACTIVE,
    Step.CONFIRMED,
)
"""The steps of an activation, in order; SHADOW only if one was asked for."""
ROLLBACK_STEPS: Final = (Step.BEGUN, Step.REVERTING, Step.REVERTED)
"""The steps of a roll-back, in order; one that the server begins quarantines the version first."""
CLOSING: Final = frozenset({Step.ACTIVE, Step.CONFIRMED, Step.REVERTED, Step.FAILED})
"""Steps after which a change does not go on by itself."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    Args:
        kind: What the change is.
        step: Which step of it.
        model: The version it is about; of a roll-back, the one that is left.
        before: What each pipeline ran when the change began.
        after: What each shall run then; its keys are the pipelines of the change.
        user: Who asked; ``edge-opcua`` if the server did so by itself.
        note: Why, in the words of who asked.
        why: Why it came to this step, where the step does not say it.
        change: Number of the first entry of its change; 0 before that is written.
        number: Its number, from 1; 0 before it is written.
        utc_ns: When it was written, ns UTC.
    """

    kind: Kind
    step: Step
    model: ModelChoice
    before: Mapping[str, ModelChoice] = field(default_factory=dict)
    after: Mapping[str, ModelChoice] = field(default_factory=dict)
    user: str = ""
    note: str = ""
    why: str = ""
    change: int = 0
    number: int = 0
    utc_ns: int = 0

    def next(self, step: Step, why: str = "") -> Entry:
        """Return the next step of the change, to be written."""
        return replace(self, step=step, why=why)

    def verdict(self, step: Step, user: str, why: str) -> Entry:
        """Return that its model is put into quarantine, or released, to be written."""
        return Entry(Kind.VERDICT, step, self.model, user=user, why=why)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The pipelines of the change."""
        return tuple(self.after)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; what is empty is left out."""
        row: dict[str, Any] = {
            "number": self.number,
            "utc_ns": self.utc_ns,
            "change": self.change,
            "kind": self.kind.value,
            "step": self.step.value,
            "model": self.model.as_json(),
            "before": choices_json(self.before),
            "after": choices_json(self.after),
            "user": self.user,
            "note": self.note,
            "why": self.why,
        }
        return {name: value for name, value in row.items() if value not in ("", {})}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Entry:
        """Return what :meth:`as_json` wrote.

        Raises:
            ModelError: It is something else (M630).
        """
        try:
            return cls(
                number=int(row["number"]),
                utc_ns=int(row["utc_ns"]),
                change=int(row["change"]),
                kind=Kind(row["kind"]),
                step=Step(row["step"]),
                model=ModelChoice.of(row["model"]),
                before=_choices(row.get("before", {})),
                after=_choices(row.get("after", {})),
                user=str(row.get("user", "")),
                note=str(row.get("note", "")),
                why=str(row.get("why", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, ModelError) as exc:
            raise ModelError(f"this is no entry of the ledger of models: {exc!r}", code="M630") from exc


def _choices(row: Mapping[str, Any]) -> dict[str, ModelChoice]:
    return {str(pipeline): ModelChoice.of(choice) for pipeline, choice in row.items()}


@dataclass(frozen=True, slots=True)
class Stand:
    """What is known of one pipeline.

    Args:
        active: The version it runs; None: the configured one.
        formers: What it ran before, the latest first.
        trial: Number of the change whose version is on trial; None if none is.
        since: Number of the entry that made it so.
        reverted_ns: When the server last went back by itself, ns UTC; 0 if somebody has activated a version
            since, or it never did.
    """

    active: ModelChoice | None = None
    formers: tuple[ModelChoice, ...] = ()
    trial: int | None = None
    since: int = 0
    reverted_ns: int = 0

    @property
    def former(self) -> ModelChoice | None:
        """The version it ran before."""
        return self.formers[0] if self.formers else None

    def activated(self, new: ModelChoice, old: ModelChoice | None, entry: Entry) -> Stand:
        """Return it with another version, on trial."""
        known = [each for each in (old, *self.formers) if each is not None and not each.is_same(new)]
        formers = tuple(each for at, each in enumerate(known) if not _among(each, known[:at]))
        return Stand(new, formers[:MOST_FORMERS], entry.change, entry.number)

    def reverted(self, to: ModelChoice, entry: Entry) -> Stand:
        """Return it with a former version; what came after that is no former one of it."""
        at = next((at for at, each in enumerate(self.formers) if each.is_same(to)), -1)
        when_ns = entry.utc_ns if entry.user == SERVER else self.reverted_ns
        return Stand(to, self.formers[at + 1 :], None, entry.number, when_ns)


def _among(choice: ModelChoice, others: Iterable[ModelChoice]) -> bool:
    return any(choice.is_same(each) for each in others)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is the case.

    Args:
        pipelines: By name; only those of which an entry tells.
        quarantined: Versions that are not started, by name and version, with the entry that says why.
        open: Changes that have begun and not ended, by number, with their latest entry.
    """

    pipelines: Mapping[str, Stand] = field(default_factory=dict)
    quarantined: Mapping[tuple[str, int], Entry] = field(default_factory=dict)
    open: Mapping[int, Entry] = field(default_factory=dict)

    def of(self, pipeline: str) -> Stand:
        """Return what is known of a pipeline."""
        return self.pipelines.get(pipeline, Stand())

    def quarantine_of(self, choice: ModelChoice) -> Entry | None:
        """Return why a version is not started any more; None if it may be."""
        return self.quarantined.get((choice.name, choice.version))

    def roll_back_to(self, pipeline: str) -> ModelChoice | None:
        """Return the latest former version of a pipeline that is not in quarantine."""
        return next(iter(self.ways_back(pipeline)), None)

    def ways_back(self, pipeline: str) -> tuple[ModelChoice, ...]:
        """Return the former versions of a pipeline that are not in quarantine, the latest first."""
        return tuple(each for each in self.of(pipeline).formers if self.quarantine_of(each) is None)

    @property
    def trials(self) -> dict[int, tuple[str, ...]]:
        """The pipelines whose version is on trial, by number of the change."""
        found: dict[int, tuple[str, ...]] = {}
        for name, stand in self.pipelines.items():
            if stand.trial is not None:
                found[stand.trial] = (*found.get(stand.trial, ()), name)
        return found


def summary(standing: Standing) -> dict[str, Any]:
    """Return what is the case as plain data: it stands for all entries that made it so."""
    return {
        "pipelines": {
            name: {
                "active": None if stand.active is None else stand.active.as_json(),
                "formers": [former.as_json() for former in stand.formers],
                "trial": stand.trial,
                "since": stand.since,
                "reverted_ns": stand.reverted_ns,
            }
            for name, stand in standing.pipelines.items()
        },
        "quarantined": [entry.as_json() for entry in standing.quarantined.values()],
        "open": [entry.as_json() for entry in standing.open.values()],
    }


def from_summary(row: Mapping[str, Any]) -> Standing:
    """Return what :func:`summary` wrote.

    Raises:
        ModelError: It is something else (M630).
    """
    try:
        held = [Entry.of(each) for each in row["quarantined"]]
        begun = [Entry.of(each) for each in row["open"]]
        return Standing(
            {str(name): _stand(each) for name, each in row["pipelines"].items()},
            {(entry.model.name, entry.model.version): entry for entry in held},
            {entry.change: entry for entry in begun},
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as exc:
        raise ModelError(f"this is no summary of the ledger of models: {exc!r}", code="M630") from exc


def _stand(row: Mapping[str, Any]) -> Stand:
    active = None if row["active"] is None else ModelChoice.of(row["active"])
    trial = None if row["trial"] is None else int(row["trial"])
    formers = tuple(ModelChoice.of(each) for each in row["formers"])
    return Stand(active, formers, trial, int(row["since"]), int(row["reverted_ns"]))


def after(standing: Standing, entry: Entry) -> Standing:
    """Return what is the case after an entry."""
    pipelines = {**standing.pipelines, **_moved(standing, entry)}
    return Standing(pipelines, _quarantined(standing, entry), _open(standing, entry))


def _moved(standing: Standing, entry: Entry) -> dict[str, Stand]:
    """Return the pipelines whose stand an entry changes."""
    match entry.step:
        case Step.ACTIVE:
            return {
                name: standing.of(name).activated(new, entry.before.get(name), entry)
                for name, new in entry.after.items()
            }
        case Step.CONFIRMED:
            return {
                name: replace(standing.of(name), active=new, trial=None)
                for name, new in entry.after.items()
                if entry.kind is Kind.ADOPTION or standing.of(name).trial == entry.change
            }
        case Step.REVERTED:
            return {name: standing.of(name).reverted(to, entry) for name, to in entry.after.items()}
    return {}


def _quarantined(standing: Standing, entry: Entry) -> Mapping[tuple[str, int], Entry]:
    key = (entry.model.name, entry.model.version)
    if entry.step is Step.QUARANTINED:
        return {**standing.quarantined, key: entry}
    if entry.step is Step.RELEASED:
        return {each: why for each, why in standing.quarantined.items() if each != key}
    return standing.quarantined


def _open(standing: Standing, entry: Entry) -> Mapping[int, Entry]:
    others = {number: each for number, each in standing.open.items() if number != entry.change}
    if entry.kind is Kind.VERDICT or entry.step in CLOSING:
        return others
    return {**others, entry.change: entry}


def unfinished(standing: Standing, *, clean: bool) -> list[tuple[Entry, Step, str]]:
    """Return what a start does about changes that a former server has not ended.

    Args:
        standing: What was the case at its end.
        clean: Whether it ended in order.

    Returns:
        The last entry of each change, the step that ends it, and why. A roll-back that had begun to take
        effect is completed, everything else is undone: the former version was proven, the new one was not.
        What was only ordered begins now.
    """
    how = "the server was stopped" if clean else "the server ended unexpectedly"
    found = []
    for entry in standing.open.values():
        if entry.step is Step.ORDERED:
            continue
        if entry.step is Step.REVERTING:
            found.append((entry, Step.REVERTED, f"{how} meanwhile; completed at the start"))
        else:
            found.append((entry, Step.FAILED, f"{how} when it was {entry.step.value}"))
    return found
