"""Journals every result of every pipeline, and what the other processes report about writes and models."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import structlog

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.journal import GAP, Journal, Record
from edge_opcua.core.supervise import supervise
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    GOOD,
    BlockSpec,
    Policy,
    Scalar,
    TagSpec,
    is_bad,
    is_good,
    status_name,
)
from edge_opcua.errors import ControlError
from edge_opcua.records.answers import take_answer
from edge_opcua.records.joining import Joinings, Judged
from edge_opcua.records.windowhealth import WindowHealth
from edge_opcua.records.windows import Windows

HEALTH_BLOCK: Final = "records.health"
RESULT: Final = "result"
REPORTS: Final = frozenset({"audit", "job", "watch"})  # what others report, kept as it comes

_RESULT_SUFFIX: Final = ".result"
_TICK_S: Final = 0.1
_DURABLE_S: Final = 5.0
_MAX_ANSWER_RECORDS: Final = 200

_log = structlog.get_logger(__name__)


def health_block() -> BlockSpec:
    """Return the block in which the records process says how it is."""
    return BlockSpec(
        HEALTH_BLOCK,
        (
            TagSpec("spooled", Scalar.UINT64),
            TagSpec("written", Scalar.UINT64),
            TagSpec("lost", Scalar.UINT64),
            TagSpec("fault", Scalar.STRING, 120),
        ),
        depth=16,
        policy=Policy(hold_s=10.0),
    )


class Recorder:
    """Follows the result blocks, journals them with the reports of other processes, and says how it is.

    A result is journalled together with its place on the bus, in one transaction: a recorder that was
    killed goes on exactly where the journal ends, neither losing a result nor recording one twice. What was
    overwritten on the bus meanwhile becomes a record of kind ``gap`` that names the missing sequences.

    Args:
        bus: The tag bus; this process is the writer of ``records.health``.
        journal: Where records go; the recorder runs it.
        clock: Clock for ticks.
        windows: Keeps what was judged beside the results; None: nobody does.
        judged: The pipelines of which it is kept.
    """

    def __init__(
        self,
        bus: Bus,
        journal: Journal,
        *,
        clock: Clock,
        windows: Windows | None = None,
        judged: Iterable[Judged] = (),
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._clock = clock
        self._windows = windows
        self._joinings = Joinings(bus)
        self._readers: dict[str, BlockReader] = {}
        self._recorded: dict[str, int] = {}
        # Sequences count within a block, and another segment of the bus holds another block of that name.
        self._places: dict[str, str] = {}
        self.follow(judged)

    async def run(self) -> None:
        """Record until cancelled; then take what is on the bus once more and write everything out."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._journal.run(), name="records.journal")
            if self._windows is not None:
                kept = supervise("records.windows", self._windows.run, clock=self._clock)
                tasks.create_task(kept, name="records.windows")
            await self._go_on_where_the_journal_ends()
            health = _Health(self._bus, self._clock)
            of_windows = None if self._windows is None else WindowHealth(self._bus, self._clock)
            try:
                while True:
                    self.collect()
                    health.show(self._journal)
                    if self._windows is not None and of_windows is not None:
                        of_windows.show(self._windows.state)
                    await self._clock.sleep(_TICK_S)
            finally:
                self.collect()

    def follow(self, judged: Iterable[Judged] = ()) -> None:
        """Follow the result blocks that the bus holds now; of others everything is recorded before.

        Args:
            judged: The pipelines of which is kept what was judged.
        """
        self.collect()
        self._joinings.follow(judged)
        places = {
            name: f"{self._bus.id}.{home}"
            for name, home in self._bus.homes.items()
            if name.endswith(_RESULT_SUFFIX)
        }
        for name in [name for name, place in self._places.items() if places.get(name) != place]:
            del self._readers[name], self._recorded[name]
        for name in [name for name in places if name not in self._readers]:
            self._readers[name] = self._bus.reader(name, from_newest=False)
            self._recorded[name] = self._readers[name].cursor
        self._places = places

    def collect(self) -> None:
        """Journal every batch of results that came since the last time."""
        for name, reader in self._readers.items():
            for batch in reader.poll():
                if batch.sequence > self._recorded[name] + 1:
                    self._record_gap(name, self._recorded[name] + 1, batch.sequence - 1)
                self._recorded[name] = batch.sequence
                if batch.refreshed_ns == batch.stamp_ns:  # otherwise a known result, said again
                    self._record_result(name, batch)
                    self._keep_window(name, batch)

    async def handle(self, request: Request) -> Reply:
        """Answer one message of the control channel.

        ``audit``, ``job`` and ``watch`` are journalled; sent as a request, the reply comes when they are on
        disk and holds their number. ``newest`` and ``read`` return records, ``acknowledge`` moves a reader
        on, ``answer_verdict`` stores what a person says of a verdict.
        """
        try:
            if request.kind in REPORTS:
                return await self._report(request)
            if request.kind == "answer_verdict":
                return await take_answer(request, self._windows, self._journal, self._clock)
            if request.kind == "newest":
                limit, kinds = _limit(request.body), _kinds(request.body)
                return _answer(await self._journal.newest(limit, kinds))
            if request.kind == "read":
                after = request.body.get("after")
                if after is not None:
                    after = _number(request.body, "after")
                limit, kinds = _limit(request.body), _kinds(request.body)
                reader = _text(request.body, "reader")
                return _answer(await self._journal.read(reader, after=after, limit=limit, kinds=kinds))
            if request.kind == "acknowledge":
                await self._journal.acknowledge(_text(request.body, "reader"), _number(request.body, "id"))
                return Reply()
        except ControlError as exc:
            return Reply(BAD_INVALID_ARGUMENT, str(exc))
        except OSError as exc:
            kept = "windows" if request.kind == "answer_verdict" else "journal"
            return Reply(BAD_RESOURCE_UNAVAILABLE, f"the {kept} cannot be used: {exc}")
        return Reply(BAD_NOT_SUPPORTED, f"the records process does not know {request.kind}")

    async def _report(self, request: Request) -> Reply:
        body = {**request.body, "origin": request.origin}
        now_ns = self._clock.utc_ns()
        if not request.reply_wanted:
            self._journal.append(request.kind, body, now_ns, vital=True)
            return Reply()
        timeout_s = min(request.timeout_s, _DURABLE_S)
        number = await self._journal.append_durably(request.kind, body, now_ns, timeout_s=timeout_s)
        if number:
            return Reply(body={"id": number})
        fault = self._journal.state.fault or f"nothing was written within {timeout_s:g} s"
        return Reply(BAD_RESOURCE_UNAVAILABLE, f"not on disk yet: {fault}")

    async def _go_on_where_the_journal_ends(self) -> None:
        try:
            marks = await self._journal.marks()
        except OSError as exc:
            _log.warning(
                "records.place_unknown", reason=str(exc), consequence="results may be recorded twice"
            )
            return
        for name, reader in self._readers.items():
            place, _, sequence = marks.get(_mark_name(name), "").partition(":")
            known = place == self._places[name]
            reader.cursor = self._recorded[name] = int(sequence) if known else 0
            self._keep_windows_again(name, reader.cursor)

    def _keep_windows_again(self, name: str, until: int) -> None:
        """Keep what was judged of journalled results: it may have been lost with the last process."""
        if self._windows is None:
            return
        for batch in self._bus.reader(name, from_newest=False).poll():
            if batch.sequence > until:
                return
            if batch.refreshed_ns == batch.stamp_ns:
                self._keep_window(name, batch)

    def _keep_window(self, name: str, batch: TagBatch) -> None:
        joining = self._joinings.of(name)
        if self._windows is None or joining is None or not self._windows.is_on:
            return
        missed = joining.missed
        window = joining.window(batch)
        if window is not None:
            self._windows.put(window)
        elif joining.missed > missed:
            self._windows.miss()

    def _record_result(self, name: str, batch: TagBatch) -> None:
        utc_ns = int(batch.server_ns.max()) or self._clock.utc_ns()
        body = {"pipeline": name.removesuffix(_RESULT_SUFFIX), "sequence": batch.sequence, **_values(batch)}
        self._journal.append(RESULT, body, utc_ns, marks=self._mark(name, batch.sequence))

    def _record_gap(self, name: str, first: int, last: int) -> None:
        lost = last - first + 1
        _log.error("records.results_lost", block=name, lost=lost)
        body = {
            "source": name,
            "lost": lost,
            "first": first,
            "last": last,
            "reason": "overwritten on the bus",
        }
        self._journal.append(GAP, body, self._clock.utc_ns(), marks=self._mark(name, last), vital=True)

    def _mark(self, name: str, sequence: int) -> dict[str, str]:
        return {_mark_name(name): f"{self._places[name]}:{sequence}"}


class _Health:
    """The recorder's own block: published when it changes, a sign of life otherwise."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._writer = bus.writer(HEALTH_BLOCK)
        self._clock = clock
        self._shown: tuple[int | str, ...] = ()

    def show(self, journal: Journal) -> None:
        """Publish the state of the journal."""
        state = journal.state
        values = (state.spooled, state.written, state.lost, state.fault)
        if values == self._shown:
            self._writer.beat()
            return
        batch = self._writer.batch
        for row, value in enumerate(values):
            batch.set(row, value)
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = self._clock.utc_ns()
        self._writer.publish()
        self._shown = values


def _mark_name(block: str) -> str:
    return f"cursor.{block}"


def _values(batch: TagBatch) -> dict[str, Any]:
    """Return the rows of a result by name; null where the status is Bad, with all that is not Good."""
    values: dict[str, Any] = {}
    statuses: dict[str, str] = {}
    for row, (tag, status) in enumerate(zip(batch.layout.spec.tags, batch.status.tolist(), strict=True)):
        values[tag.name] = None if is_bad(status) else _finite(batch.value(row))
        if not is_good(status):
            statuses[tag.name] = status_name(status)
    if statuses:
        values["status"] = statuses
    return values


def _finite(value: Any) -> Any:
    """Return what JSON can say: arrays as lists, NaN and infinities as null."""
    if isinstance(value, np.ndarray):
        return [_finite(element) for element in value.tolist()]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _answer(records: list[Record]) -> Reply:
    return Reply(
        body={
            "records": [
                {"id": record.id, "kind": record.kind, "utc_ns": record.utc_ns, "body": record.body}
                for record in records
            ]
        }
    )


def _number(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ControlError(f"{name!r} is not a record number")
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value or len(value) > 200:
        raise ControlError(f"{name!r} is not a name")
    return value


def _limit(body: Mapping[str, Any]) -> int:
    return min(_number({"limit": 50, **body}, "limit"), _MAX_ANSWER_RECORDS)


def _kinds(body: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = body.get("kinds", [])
    if not isinstance(kinds, list) or len(kinds) > 20:
        raise ControlError("'kinds' is not a list of kinds")
    return tuple(_text({"kinds": kind}, "kinds") for kind in kinds)
