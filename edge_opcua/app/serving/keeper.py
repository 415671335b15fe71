"""Changes the models of a group by warm processes beside the active one, without a capture missed or doubled.

A change has steps that are asked for one by one: prepare a process, let it judge in shadow, let it take over,
and if need be go back to the process that was relieved and still stands by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_opcua.app.serving.candidate import Candidate, ShadowProgress, ShadowTerms
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.keeping import LaneKeeping
from edge_opcua.app.serving.served import QUIET_S, is_same
from edge_opcua.app.serving.starting import LaneProcess, Progress, in_the_way, left_out, require_fit
from edge_opcua.core.values import is_good
from edge_opcua.inference.lifecycle import JobEvent
from edge_opcua.inference.shadow import Agreement


class LaneKeeper(LaneKeeping):
    """The lanes of one group, whose models can be changed while they judge."""

    async def prepare(self, changes: Mapping[str, ModelChoice], progress: Progress) -> Candidate:
        """Start a process with other models, beside the one that judges; it is loaded, warm and proven.

        Args:
            changes: Models to change to, by pipeline.
            progress: Told when the process is started, when the models are loaded, and when they are proven.

        Returns:
            The process; :meth:`take_over` or :meth:`discard` it.

        Raises:
            ModelError: A new model is not fit.
            OSError: No process can be started.
        """
        await progress(JobEvent.STARTED)
        generation = self._generation
        lane = await self._start(self._models_with(changes), progress)
        candidate = self._candidates[lane.role] = Candidate(lane, dict(changes), generation)
        self._look_after(lane)
        try:
            require_fit(lane, changes)
            await progress(JobEvent.READY)
        except BaseException:
            await self.discard(candidate)
            raise
        return candidate

    async def shadow(
        self, candidate: Candidate, terms: Mapping[str, ShadowTerms], progress: ShadowProgress
    ) -> Mapping[str, Agreement]:
        """Let a candidate judge the same captures unseen, and hold its verdicts against the active ones.

        Args:
            candidate: The process.
            terms: What it has to show, by pipeline; one that is not named is not compared.
            progress: Told at every step how far it is.

        Returns:
            What it has shown, by pipeline.

        Raises:
            ModelError: It may not take over: M640 to M644. The candidate is still there.
        """
        found = await self._trials.run(candidate, terms, progress)
        candidate.reports = found
        return found

    async def take_over(
        self, candidate: Candidate, *, keep_warm_s: float = 0.0, quiet_s: float = QUIET_S
    ) -> None:
        """Let a candidate judge from now on; the former process stands by.

        Args:
            candidate: The process; it has ended if this fails.
            keep_warm_s: How long the former one stays loaded, seconds; 0 ends it.
            quiet_s: How long to wait for a moment without a capture on its way, seconds.

        Raises:
            ModelError: It did not become active (M531), or left no room for a neighbour (M597); the former
                process goes on.
        """
        lane = candidate.lane
        try:
            if not candidate.promoted:
                await self._promote(lane)
            async with self._handing_over:
                formers = self._lanes_of(lane.models)
                self._require_room(candidate, formers)
                for name in candidate.changes:
                    self._quarantine.release(name)
                await self._take_over(lane, formers, keep_warm_s=keep_warm_s, quiet_s=quiet_s)
                self.choices |= candidate.changes
        finally:
            if lane not in self._served.lanes:
                await self.discard(candidate)
            self._candidates.pop(lane.role, None)
            self._woken.set()

    async def roll_back(
        self, changes: Mapping[str, ModelChoice], progress: Progress, *, keep_warm_s: float = 0.0
    ) -> bool:
        """Go back to former models: at once if their process stands by, else as :meth:`swap` does.

        Args:
            changes: Models to go back to, by pipeline.
            progress: Told of the steps if a process has to be started.
            keep_warm_s: How long the process that is left stays loaded, seconds; 0 ends it.

        Returns:
            Whether the process stood by.

        Raises:
            ModelError: It is not possible; what judges now goes on if it can.
            OSError: No process can be started.
        """
        lane = self._served.warm(self._models_with(changes))
        if lane is None or not is_good((await self._served.promote(lane)).status):
            await self.swap(changes, progress, keep_warm_s=keep_warm_s)
            return False
        candidate = Candidate(lane, dict(changes), self._generation, promoted=True)
        self._candidates[lane.role] = candidate
        await self.take_over(candidate, keep_warm_s=keep_warm_s, quiet_s=0.0)
        return True

    async def swap(
        self, changes: Mapping[str, ModelChoice], progress: Progress, *, keep_warm_s: float = 0.0
    ) -> None:
        """Change models at once: :meth:`prepare` and :meth:`take_over`.

        Raises:
            ModelError: A new model is not fit; the old ones go on.
            OSError: No process can be started.
        """
        await self.take_over(await self.prepare(changes, progress), keep_warm_s=keep_warm_s)

    def standbys(self) -> list[dict[str, Any]]:
        """Return the processes that are kept warm, for ``status``."""
        standby = self._served.standby
        return [] if standby is None else [standby.row(self._clock.monotonic_s())]

    def end_standby(self) -> None:
        """Let the process that stands by end: memory is short."""
        if self._served.standby is not None:
            self._served.standby.until_s = 0.0
            self._woken.set()

    def _models_with(self, changes: Mapping[str, ModelChoice]) -> dict[str, ModelChoice]:
        part = self._quarantine.part_of(changes, self._clock.monotonic_s())
        return {name: changes.get(name, self.choices[name]) for name in part}

    def _require_room(self, candidate: Candidate, formers: Sequence[LaneProcess]) -> None:
        """Refuse a candidate that would take away what its pipelines or their neighbours have now."""
        lane, wanted = candidate.lane, self._models_with(candidate.changes)
        gone = left_out(lane, formers)
        outdated = any(
            name in wanted and not is_same(wanted[name], each) for name, each in lane.models.items()
        )
        if gone or outdated or candidate.generation != self._generation:
            raise in_the_way(lane, gone)
