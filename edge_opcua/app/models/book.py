"""What the running server writes down of its models: the ledger and the counts of loads, beside the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar, TypeVarTuple

import structlog

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Standing, Step
from edge_opcua.inference.ledgerfile import Ledger

WRITE_S: Final = 10.0
VERIFY_S: Final = 60.0

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What a start has made of what a former server has left behind.

    Args:
        entry: What was written down.
        text: For people.
    """

    entry: Entry
    text: str


class ModelBook:
    """The ledger, the counts of loads, and the choices that follow from them.

    Args:
        active: Which model each pipeline runs.
        ledger: Every step of every change.
        loads: How often a version was loaded without having lasted.
        found: What the start has made of what a former server has left behind.
    """

    def __init__(
        self, active: ActiveModels, ledger: Ledger, loads: LoadCounts, found: Iterable[Found] = ()
    ) -> None:
        self.active = active
        self.found = tuple(found)
        self._ledger = ledger
        self._loads = loads
        self._disk = Worker("models.ledger")
        self._files = Worker("models.files")

    @property
    def standing(self) -> Standing:
        """What is the case."""
        return self._ledger.standing

    @property
    def damaged(self) -> int:
        """Lines of the ledger that said nothing when it was opened."""
        return self._ledger.damaged

    async def begin(self, entry: Entry) -> Entry:
        """Write the first entry of a change.

        Raises:
            ModelError: It cannot be written (M632); the change must not begin.
        """
        return await self._write(self._ledger.append, entry)

    async def go_on(self, entry: Entry, step: Step, why: str = "") -> Entry:
        """Write the next step of a change, before it happens.

        Raises:
            ModelError: It cannot be written (M632); it must not happen.
        """
        return await self._write(self._ledger.append, entry.next(step, why))

    async def note(self, entry: Entry, step: Step, why: str = "") -> Entry:
        """Write a step that has happened, or that happens whatever the disk says.

        It is the case even if it cannot be written; then a restart does not know of it.
        """
        try:
            entry = entry.next(step, why)
            return await self._disk.call(self._ledger.take, entry, timeout_s=WRITE_S)
        except (OSError, TimeoutError) as exc:
            consequence = "a restart goes on with what was written before"
            _log.error("ledger.not_written", step=step.value, error=str(exc), consequence=consequence)
            return replace(entry, change=entry.change or self._ledger.last)

    def loads_of(self, choice: ModelChoice) -> int:
        """Return how often a version was loaded since it last had lasted."""
        return self._loads.of(choice)

    async def loading(self, choices: Iterable[ModelChoice]) -> None:
        """Take note that versions are going to be loaded; on disk when this returns, if it can be."""
        await self._count(self._loads.begin, tuple(choices))

    async def lasted(self, choices: Iterable[ModelChoice]) -> None:
        """Cross out versions that have judged for a while, or were put away in order."""
        if known := [choice for choice in choices if self._loads.of(choice)]:
            await self._count(self._loads.lasted, tuple(known))

    async def close(self) -> None:
        """Take note that the server ends in order."""
        await self._count(self._loads.close)

    async def verify(self, choice: ModelChoice) -> ModelChoice:
        """Return a choice with the hash of its verified files.

        Raises:
            ModelError: It is not there, or not what it claims to be.
            TimeoutError: Its files cannot be read in time.
        """
        return await self._files.call(self.active.verify, choice, timeout_s=VERIFY_S)

    async def require_fresh(self, choice: ModelChoice, pipelines: tuple[str, ...], utc_ns: int) -> None:
        """Refuse a version that is so old that it would give nothing but the fail-safe verdict.

        Raises:
            ModelError: It is too old (M657).
            TimeoutError: Its files cannot be read in time.
        """
        check = self.active.require_fresh
        await self._files.call(check, choice, pipelines, utc_ns, timeout_s=VERIFY_S)

    async def way_back(self, pipeline: str) -> ModelChoice | None:
        """Return the former version that a pipeline goes back to; None if there is none that is fit.

        Raises:
            TimeoutError: The files cannot be read in time.
        """
        return await self._files.call(self.active.way_back, pipeline, timeout_s=VERIFY_S)

    async def _write(self, write: Callable[[Entry], Entry], entry: Entry) -> Entry:
        try:
            return await self._disk.call(write, entry, timeout_s=WRITE_S)
        except (OSError, TimeoutError) as exc:
            reason = str(exc) or "the disk does not answer"
            raise ModelError(f"what shall happen cannot be written down: {reason}", code="M632") from exc

    async def _count(self, write: Callable[[*_Ts], _T], *args: *_Ts) -> None:
        """Write the counts; a disk that is full may not stop the line."""
        try:
            await self._disk.call(write, *args, timeout_s=WRITE_S)
        except (OSError, TimeoutError) as exc:
            consequence = "a start may take a crash for an orderly end, or the other way round"
            _log.warning("loads.not_written", error=str(exc), consequence=consequence)
