"""Whether a version that judges in shadow may take over: what is asked of it, and in words why it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from edge_opcua.app.serving.candidate import Candidate, ShadowProgress, ShadowTerms
from edge_opcua.app.serving.starting import LaneHost
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_good
from edge_opcua.errors import ModelError
from edge_opcua.inference.shadow import Agreement

_log = structlog.get_logger(__name__)

ANSWER_S: Final = 5.0


@dataclass(slots=True)
class _Trial:
    """One candidate in shadow.

    Args:
        terms: What each of its pipelines has to show.
        seen: How far each of them is.
        ends_s: When its time is over, monotonic.
        behind: Those that have missed captures.
        failure: Why it cannot go on; None while it can.
        news: Set when something has changed.
    """

    terms: Mapping[str, ShadowTerms]
    seen: dict[str, Agreement]
    ends_s: dict[str, float]
    behind: set[str] = field(default_factory=set)
    failure: ModelError | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> list[str]:
        """Pipelines of which not enough was compared."""
        return [name for name, each in self.seen.items() if not each.is_complete]


class Trials:
    """The versions of a group that judge in shadow.

    Args:
        host: The supervisor.
        clock: For how long they may take.
    """

    def __init__(self, host: LaneHost, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._trials: dict[str, _Trial] = {}

    def on_notice(self, role: str, body: Mapping[str, Any]) -> None:
        """Take what a shadow tells; of one that nobody waits for, it passes by."""
        trial, rows = self._trials.get(role), body.get("pipelines")
        if trial is not None and isinstance(rows, dict):
            trial.seen |= {name: Agreement.of(rows[name]) for name in trial.seen if name in rows}
            trial.news.set()

    def ended(self, role: str, how: str) -> None:
        """Take note that a process has ended by itself."""
        self._fail(role, ModelError(f"it ended while it judged in shadow: {how}", code="M642"))

    def withdraw(self, role: str) -> None:
        """Take note that a process is going to be ended, which is no fault of its version."""
        self._fail(role, ModelError("the configuration was changed while it judged in shadow", code="M531"))

    def _fail(self, role: str, failure: ModelError) -> None:
        trial = self._trials.get(role)
        if trial is not None and trial.failure is None:
            trial.failure = failure
            trial.news.set()

    async def run(
        self, candidate: Candidate, terms: Mapping[str, ShadowTerms], progress: ShadowProgress
    ) -> dict[str, Agreement]:
        """Let a candidate judge unseen until every pipeline has compared what was asked of it.

        Raises:
            ModelError: It disagrees too often (M640), too few captures came (M641), its process ended (M642),
                it falls behind (M643), or it cannot judge in shadow (M644).
        """
        role, now_s = candidate.lane.role, self._clock.monotonic_s()
        wanted = {name: each.captures for name, each in terms.items()}
        trial = self._trials[role] = _Trial(
            terms,
            {name: Agreement(wanted=count) for name, count in wanted.items()},
            {name: now_s + each.within_s for name, each in terms.items()},
        )
        try:
            reply = await self._host.request(role, "shadow", {"wanted": wanted}, timeout_s=ANSWER_S)
            if not is_good(reply.status):
                raise ModelError(f"the new version cannot judge in shadow: {reply.reason}", code="M644")
            while trial.waiting:
                await self._next(trial)
                await progress(dict(trial.seen))
                for name, each in trial.seen.items():
                    require(name, each, terms[name])
            return dict(trial.seen)
        finally:
            del self._trials[role]

    async def _next(self, trial: _Trial) -> None:
        """Wait for news of the pipelines that are not complete."""
        first = min(trial.waiting, key=lambda name: trial.ends_s[name])
        left_s = max(0.0, trial.ends_s[first] - self._clock.monotonic_s())
        in_time = await self._clock.wait(trial.news, left_s)
        trial.news.clear()
        if trial.failure is not None:
            raise trial.failure
        if not in_time:
            raise _too_few(first, trial.seen[first], trial.terms[first])
        for name, each in trial.seen.items():
            if each.missed and name not in trial.behind:
                trial.behind.add(name)
                _log.warning("lane.shadow_behind", pipeline=name, missed=each.missed)


def require(pipeline: str, seen: Agreement, terms: ShadowTerms) -> None:
    """Refuse a version as soon as it cannot show any more what was asked of it.

    Raises:
        ModelError: It disagrees too often (M640), or has missed as much as it should compare (M643).
    """
    wrong = seen.compared - seen.agreed
    if wrong > most_wrong(terms):
        raise ModelError(f"{pipeline}: {disagreement_text(seen, terms)}", code="M640")
    if seen.missed > max(terms.captures, seen.compared):
        raise ModelError(
            f"{pipeline}: the new version cannot keep up in shadow: {seen.missed} captures were missed, "
            f"{seen.compared} compared",
            code="M643",
        )


def most_wrong(terms: ShadowTerms) -> int:
    """Return on how many of the captures the versions may disagree."""
    return int(terms.captures * (1.0 - terms.agreement) + 1e-9)


def disagreement_text(seen: Agreement, terms: ShadowTerms) -> str:
    """Return in words how far a version disagrees."""
    return (
        f"both versions agree on {seen.agreed} of {seen.compared} captures, {seen.agreement:.1%} "
        f"(95 %: {seen.agreement_low:.1%} to {seen.agreement_high:.1%}), {terms.agreement:.1%} of "
        f"{terms.captures} are wanted; {seen.new_alarms} new alarms, {seen.lost_alarms} lost; "
        f"the last: {seen.disagreement}"
    )


def _too_few(pipeline: str, seen: Agreement, terms: ShadowTerms) -> ModelError:
    undecided = f", {seen.undecided} were not decided by both" if seen.undecided else ""
    return ModelError(
        f"{pipeline}: only {seen.compared} of {terms.captures} captures could be compared within "
        f"{terms.within_s:g} s{undecided}",
        code="M641",
    )
