"""From the bus to OPC UA: every tick each block's newest rows, its staleness, and every result as an event.

Tags go to clients as columns: the newest batch of a block, or each batch if somebody asked for each. The
values of other rows are made when somebody reads them, and when they changed and somebody watches them.
Results: every one is handed out, and what was overwritten on the bus before we came to it is counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, Array, Link, Scalar, is_good
from edge_opcua.opcua.events import LinkChange, PlantEvent, link_event
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.results import ResultContext, ResultEvents
from edge_opcua.opcua.rows import Binding
from edge_opcua.opcua.space import DeviceNodes, InferenceNodes, PlantSpace
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.values import SharedDataValue, data_value, shown_value, utc

Emit = Callable[[PlantEvent], Awaitable[None]]
FindModel = Callable[[str, int], ModelInfo | None]

# NAMUR NE 107 (DI DeviceHealthEnumeration), worst first.
NORMAL, FAILURE, CHECK_FUNCTION, OFF_SPEC, MAINTENANCE_REQUIRED = range(5)
_WORST_FIRST: Final = (FAILURE, CHECK_FUNCTION, OFF_SPEC, MAINTENANCE_REQUIRED, NORMAL)

_USABLE: Final = frozenset({"ONLINE", "SUSPECT", "RECOVERING", "SIMULATED"})
_NOT_YET: Final = frozenset({"", "CONNECTING"})
_CHECKED: Final = frozenset({"", "CONNECTING", "RECOVERING", "SIMULATED", "DISABLED"})
_SILENT: Final = "the process that reads this device does not answer"

# Staleness is a matter of tenths of a second; looking at it at every tick would cost more than the tick.
ASSESS_NS: Final = 50_000_000

# Rows of tags after which others have their turn: some ten milliseconds' work with a subscription to each.
TURN_ROWS: Final = 32_768
# What was taken this recently is new enough to be published.
FRESH_NS: Final = 1_000_000

_log = structlog.get_logger(__name__)


class BlockView:
    """What clients see of one block: its newest batch with the effective status of each row.

    Args:
        reader: The block's reader.
        bindings: Rows that are shown.
        clock: For the time of a change of status.
    """

    def __init__(self, reader: BlockReader, bindings: Sequence[Binding], clock: Clock) -> None:
        self.reader = reader
        self.batch: TagBatch | None = None
        self._clock = clock
        self._bindings = tuple(bindings)
        n = len(reader.spec.tags)
        self.status: npt.NDArray[np.uint32] = np.zeros(n, np.uint32)
        # When the effective status of a row last changed without its being read, ns UTC.
        self._noticed_ns: npt.NDArray[np.int64] = np.zeros(n, np.int64)
        self._by_row: list[Binding | None] = [None] * n
        for binding in self._bindings:
            self._by_row[binding.row] = binding
            binding.slot.value_callback = partial(self._read, binding)
        self._bound: npt.NDArray[np.bool_] = np.array([each is not None for each in self._by_row], np.bool_)
        self._rows_of = _rows_of_columns(reader)
        self._steady_ns = -math.inf

    def take(self, batch: TagBatch) -> Iterable[Binding]:
        """Show a new batch; returns the bindings whose value or status changed, if anybody watches one."""
        status = self.reader.effective(batch)
        before = self.batch
        changed: npt.NDArray[np.bool_] | None = self._bound
        if before is None:
            self.batch = before = TagBatch(batch.layout)
        else:
            watched = any(binding.slot.datachange_callbacks for binding in self._bindings)
            changed = (self._differing(before, batch) | (status != self.status)) if watched else None
        before.copy_from(batch)
        self._note(status)
        return () if changed is None else self._chosen(changed)

    def reassess(self) -> Iterable[Binding]:
        """Look at the age of what is shown; returns the bindings whose status changed."""
        if self.batch is None or self._clock.monotonic_ns() <= self._steady_ns:
            return ()
        status = self.reader.effective(self.batch)
        changed = status != self.status
        self._note(status)
        return self._chosen(changed) if changed.any() else ()

    def value_of(self, binding: Binding) -> SharedDataValue:
        """Return what a client reads for a binding; there is a batch."""
        batch = self.batch
        assert batch is not None, "only called after the first batch"
        row, status = binding.row, int(self.status[binding.row])
        value = None if status & 0x80000000 else shown_value(batch, row, status)
        if binding.convert is not None and value is not None:
            value = binding.convert(value)
        server_ns = max(int(batch.server_ns[row]), int(self._noticed_ns[row]))
        return data_value(value, binding.kind, status, int(batch.source_ns[row]), server_ns)

    def field(self, name: str) -> Any:
        """Return a row's value whatever its status, None before the first batch."""
        return None if self.batch is None else self.batch.value(self.batch.row(name))

    def timed(self) -> Iterable[Binding]:
        """Return the bindings that somebody watches for new source times, too."""
        return (binding for binding in self._bindings if _watches_time(binding.slot))

    def _read(self, binding: Binding, node_id: ua.NodeId, attribute: ua.AttributeIds) -> ua.DataValue:  # noqa: ARG002 - asyncua's callback
        if self.batch is None:
            return binding.slot.value
        return self.value_of(binding)

    def _note(self, status: npt.NDArray[np.uint32]) -> None:
        assert self.batch is not None
        overlaid = (status != self.status) & (status != self.batch.status)
        if overlaid.any():
            self._noticed_ns[overlaid] = self._clock.utc_ns()
        self.status = status
        self._steady_ns = self.reader.steady_until(self.batch)

    def _chosen(self, changed: npt.NDArray[np.bool_]) -> list[Binding]:
        return [each for row in np.flatnonzero(changed & self._bound) if (each := self._by_row[row])]

    def _differing(self, before: TagBatch, now: TagBatch) -> npt.NDArray[np.bool_]:
        differing = np.zeros(len(self._by_row), np.bool_)
        for scalar, rows in self._rows_of.items():
            differing[rows] = _bits(before.column(scalar)) != _bits(now.column(scalar))
        for row in before.layout.slots:
            differing[row] = before.array(row).tobytes() != now.array(row).tobytes()
        return differing


def _rows_of_columns(reader: BlockReader) -> dict[Scalar, npt.NDArray[np.intp]]:
    rows: dict[Scalar, list[int]] = {}
    for row, tag in enumerate(reader.spec.tags):
        if tag.length == 0:
            rows.setdefault(tag.type, []).append(row)
    return {scalar: np.array(members, np.intp) for scalar, members in rows.items()}


def _bits(column: Array) -> Array:
    """Return a column as bits, so that NaN equals itself and -0.0 does not equal 0.0."""
    return column.view(f"u{column.dtype.itemsize}")


def _watches_time(slot: AttributeValue) -> bool:
    """Whether a monitored item of this value has the trigger StatusValueTimestamp (Part 4 §7.22.2)."""
    return any(watcher.wants_time for watcher in slot.datachange_callbacks.values())


def notify(slot: AttributeValue, value: ua.DataValue) -> None:
    """Tell every monitored item of a variable; what one of them makes of it stops nobody else."""
    for watcher in slot.datachange_callbacks.values():
        try:
            watcher.changed(value)
        except Exception as exc:  # noqa: BLE001 - boundary: an item compares whatever a value may be
            _log.error("notify.failed", error=repr(exc), exc_info=exc)


async def assign(slot: AttributeValue, value: ua.DataValue) -> None:
    """Set a variable that no row of the bus feeds."""
    before = slot.value
    slot.value = value
    if slot.datachange_callbacks and (before is None or before.Value != value.Value):
        notify(slot, value)


class TagFeed:
    """Feeds one block of tags.

    Args:
        reader: The block's reader.
        block: What clients see of it.
        clock: Clock of the bus.

    Attributes:
        reader: See above.
    """

    def __init__(self, reader: BlockReader, block: LiveBlock, clock: Clock) -> None:
        self.reader = reader
        self._clock = clock
        self._block = block
        self._lost = 0
        self._steady_ns = -math.inf

    def start(self) -> None:
        """Show what the bus holds now."""
        latest = self.reader.latest()
        if latest is not None:
            self.reader.cursor = latest.sequence
            self._take(latest)

    @property
    def newest(self) -> int:
        """Sequence of the newest batch on the bus."""
        return self.reader.newest

    @property
    def cursor(self) -> int:
        """Sequence of the last batch that was taken."""
        return self.reader.cursor

    @property
    def behind(self) -> bool:
        """Whether the bus holds more than was taken."""
        return self.reader.behind

    def tick(self, *, assess: bool) -> int:
        """Show what is new: the newest batch, or each if somebody wants each; or look at its age.

        Only what was there when it began, and at most :data:`TURN_ROWS`: who writes faster than we take
        would never let it end.

        Args:
            assess: Whether it is time to look at the age of what is not new.

        Returns:
            How many rows were taken.
        """
        newest, rows, upto = None, 0, self.reader.newest
        every = self._block.wants_every
        for batch in self.reader.poll():
            newest = batch
            if every:
                self._take(batch)
                rows += len(batch.status)
            if batch.sequence >= upto or rows >= TURN_ROWS:
                break
        if newest is None:
            if assess:
                self._reassess()
        elif not every:
            self._take(newest)
            rows = len(newest.status)
        return rows

    def _take(self, batch: TagBatch) -> None:
        missed = self.reader.lost > self._lost
        self._lost = self.reader.lost
        if batch.sequence < self.reader.newest:
            # It is not old because we come late: a newer one has taken its place long ago.
            status = self.reader.effective(batch, at_ns=batch.stamp_ns)
            self._steady_ns = -math.inf
        else:
            status = self.reader.effective(batch)
            self._steady_ns = self.reader.steady_until(batch)
        self._block.take(batch, status, missed=missed)

    def _reassess(self) -> None:
        """Look at the age of what is shown, if it can have become another quality by now."""
        batch = self._block.batch
        if batch is not None and self._clock.monotonic_ns() > self._steady_ns:
            self._block.reassess(self.reader.effective(batch))
            self._steady_ns = self.reader.steady_until(batch)


@dataclass(slots=True)
class FeedCounts:
    """What the feed did since start.

    Attributes:
        results: Results handed out as events.
        lost: Results overwritten on the bus before they could be handed out.
        notified: Values handed to subscriptions, those of tags apart.
    """

    results: int = 0
    lost: int = 0
    notified: int = 0


class Feed:
    """Feeds one address space from one bus.

    Args:
        bus: The tag bus.
        space: Where values go.
        emit: Delivers an event.
        find_model: Looks a model up by name and version.
        clock: Clock of the bus.
    """

    def __init__(self, bus: Bus, space: PlantSpace, emit: Emit, find_model: FindModel, clock: Clock) -> None:
        self.counts = FeedCounts()
        self._clock = clock
        self._space = space
        self._assess_at_ns = 0
        self._taken_ns = 0
        views = {
            name: BlockView(bus.reader(name), bindings, clock) for name, bindings in space.bindings.items()
        }
        self._inferences = [
            _InferenceFeed(nodes, view, space, emit, find_model, clock, self.counts)
            for nodes in space.inferences.values()
            if (view := views.pop(f"{nodes.pipeline}.result", None)) is not None
        ]
        self._links = [
            _LinkFeed(nodes, view, emit, clock, self.counts)
            for nodes in space.devices.values()
            if (view := views.pop(f"{nodes.device}.link", None)) is not None
        ]
        self._blocks = list(views.values())
        self._tags = [TagFeed(bus.reader(block.spec.name), block, clock) for block in space.tags.blocks]
        self._readers = [
            *(tags.reader for tags in self._tags),
            *(view.reader for view in self._blocks),
            *(each.view.reader for each in self._inferences),
            *(each.view.reader for each in self._links),
        ]

    @property
    def notified(self) -> int:
        """Values handed to subscriptions since start."""
        return self.counts.notified + sum(block.handed for block in self._space.tags.blocks)

    async def start(self) -> None:
        """Show what the bus holds now; results from before are shown, but are no events."""
        inferences = (each.view for each in self._inferences)
        links = (each.view for each in self._links)
        for tags in self._tags:
            tags.start()
        for view in (*self._blocks, *inferences, *links):
            latest = view.reader.latest()
            if latest is not None:
                view.reader.cursor = latest.sequence
                view.take(latest)
        for inference in self._inferences:
            await inference.start()
        await self._follow_links(assess=True)
        await self._show_health()

    async def tick(self) -> None:
        """Take over what is new; every :data:`ASSESS_NS`, look at the age of what is not."""
        now_ns = self._clock.monotonic_ns()
        assess = now_ns >= self._assess_at_ns
        if assess:
            self._assess_at_ns = now_ns + ASSESS_NS
        elif not any(reader.behind for reader in self._readers):
            return
        await self._take_tags(assess=assess)
        for view in self._blocks:
            await refresh(view, self.counts, assess=assess)
        for inference in self._inferences:
            await inference.tick(assess=assess)
        await self._follow_links(assess=assess)

    def take_tags(self) -> None:
        """Take over what is new of the tags, right before it is published: no change waits for two ticks."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._taken_ns < FRESH_NS:
            return
        self._taken_ns = now_ns
        rows = 0
        for tags in self._tags:
            if tags.behind:
                rows += tags.tick(assess=False)
                if rows >= TURN_ROWS:
                    return

    async def _take_tags(self, *, assess: bool) -> None:
        """Take over what is on the bus now; others have their turn meanwhile, above all publishing."""
        rows = 0
        for tags in self._tags:
            upto, taken = tags.newest, tags.tick(assess=assess)
            rows += taken
            while taken and tags.cursor < upto:
                await asyncio.sleep(0)
                rows = taken = tags.tick(assess=False)
            if rows >= TURN_ROWS:
                await asyncio.sleep(0)
                rows = 0

    async def _follow_links(self, *, assess: bool) -> None:
        changed = [await link.tick(assess=assess) for link in self._links]
        if any(changed):
            await self._show_health()

    async def _show_health(self) -> None:
        healths = [link.health for link in self._links]
        if healths:
            worst = min(healths, key=_WORST_FIRST.index)
            await _assign_now(self._space.machine_health, worst, ua.VariantType.Int32, self._clock)


async def refresh(view: BlockView, counts: FeedCounts, *, assess: bool) -> bool:
    """Show the newest batch of a block, the latest wins, and notify what changed.

    Returns:
        Whether there was anything new: a batch, or a status that changed with time.
    """
    newest = None
    for batch in view.reader.poll():
        newest = batch
    if newest is None:
        aged = list(view.reassess()) if assess else []
        _notify_all(view, aged, counts)
        return bool(aged)
    changed = list(view.take(newest))
    _notify_all(view, changed, counts)
    told = {id(binding) for binding in changed}
    _notify_all(view, (each for each in view.timed() if id(each) not in told), counts)
    return True


def _notify_all(view: BlockView, bindings: Iterable[Binding], counts: FeedCounts) -> None:
    for binding in bindings:
        if binding.slot.datachange_callbacks:
            notify(binding.slot, view.value_of(binding))
            counts.notified += 1


async def _assign_now(slot: AttributeValue, value: Any, kind: ua.VariantType, clock: Clock) -> None:
    """Set a variable that is worked out here, if it changed."""
    variant = ua.Variant(value, kind)
    if slot.value is not None and slot.value.Value == variant and slot.value.StatusCode.is_good():
        return
    now = utc(clock.utc_ns())
    await assign(slot, SharedDataValue(variant, ua.StatusCode(ua.UInt32(GOOD)), now, now))


class _InferenceFeed:
    """One pipeline's results: each becomes values and an event."""

    def __init__(
        self,
        nodes: InferenceNodes,
        view: BlockView,
        space: PlantSpace,
        emit: Emit,
        find_model: FindModel,
        clock: Clock,
        counts: FeedCounts,
    ) -> None:
        self.view = view
        self._nodes = nodes
        self._emit = emit
        self._find_model = find_model
        self._clock = clock
        self._counts = counts
        self._published = 0
        self._lost = 0
        self._known_model: tuple[str, int] | None = None
        self._names: tuple[str, ...] = ()
        self._model_ref = ua.NodeId()
        self._model_nodes = space.model_nodes
        self._events = ResultEvents(view.reader.spec, nodes.pipeline, nodes.node)

    async def start(self) -> None:
        """Show the counters and the last result's model."""
        for counter in (self._nodes.published, self._nodes.lost):
            await self._assign(counter, 0, ua.VariantType.UInt64)
        await self.describe()

    async def tick(self, *, assess: bool) -> None:
        """Hand out every new result, in order."""
        seen = False
        for batch in self.view.reader.poll():
            seen = True
            publish_ms = (self._clock.monotonic_ns() - batch.stamp_ns) / 1e6
            changed = list(self.view.take(batch))
            await self.describe()
            _notify_all(self.view, changed, self._counts)
            await self._assign(self._nodes.latency_publish, publish_ms, ua.VariantType.Double)
            await self._emit(self._events.event(batch, self.view.status, self._context(publish_ms)))
            self._published += 1
            self._counts.results += 1
            await self._assign(self._nodes.published, self._published, ua.VariantType.UInt64)
        if assess and not seen:
            _notify_all(self.view, self.view.reassess(), self._counts)
        if self.view.reader.lost > self._lost:
            await self._count_lost()

    async def describe(self) -> None:
        """Show what is known of the model that made the present result."""
        if self.view.batch is None:
            return
        key = (str(self.view.field("model_name")), int(self.view.field("model_version")))
        model = self._find_model(*key)
        names = model.features if model is not None else ()
        if key == self._known_model and names == self._names:
            return
        self._known_model, self._names = key, names
        self._model_ref = self._model_nodes.get(key, ua.NodeId())
        await self._assign(self._nodes.names, list(names), ua.VariantType.String)
        await self._assign(self._nodes.model_ref, self._model_ref, ua.VariantType.NodeId)

    def _context(self, publish_ms: float) -> ResultContext:
        return ResultContext(self._names, self._model_ref, publish_ms)

    async def _count_lost(self) -> None:
        lost = self.view.reader.lost
        _log.warning("results.lost", pipeline=self._nodes.pipeline, lost=lost - self._lost)
        self._counts.lost += lost - self._lost
        self._lost = lost
        await self._assign(self._nodes.lost, lost, ua.VariantType.UInt64)

    async def _assign(self, slot: AttributeValue, value: Any, kind: ua.VariantType) -> None:
        await _assign_now(slot, value, kind, self._clock)


class _LinkFeed:
    """One device's link: its counters, its health, and an event when it is lost or comes back."""

    def __init__(
        self, nodes: DeviceNodes, view: BlockView, emit: Emit, clock: Clock, counts: FeedCounts
    ) -> None:
        self.view = view
        self._nodes = nodes
        self._emit = emit
        self._clock = clock
        self._counts = counts
        self._usable: bool | None = None
        self._state = ""
        self.health = CHECK_FUNCTION

    async def tick(self, *, assess: bool) -> bool:
        """Show what is new; returns whether anything was."""
        changed = await refresh(self.view, self._counts, assess=assess)
        if changed or self._usable is None:
            await self._follow()
        return changed

    async def _follow(self) -> None:
        state, error = self._link()
        usable = state in _USABLE
        worth_telling = usable != self._usable and not (self._usable is None and state in _NOT_YET)
        if worth_telling:
            if self._usable is not None or not usable:
                change = LinkChange(self._nodes.device, state, self._state or "CONNECTING", usable, error)
                await self._emit(link_event(change, self._nodes.node, utc(self._clock.utc_ns())))
            self._usable = usable
        self._state = state
        self.health = self._health(state, usable=usable)
        await _assign_now(self._nodes.health, self.health, ua.VariantType.Int32, self._clock)

    def _link(self) -> tuple[str, str]:
        batch = self.view.batch
        if batch is None:
            return "", ""
        if batch.link is Link.UP and not is_good(int(self.view.status[batch.row("state_text")])):
            return "UNKNOWN", _SILENT
        return str(self.view.field("state_text")), str(self.view.field("last_error"))

    def _health(self, state: str, *, usable: bool) -> int:
        if state in _CHECKED:
            return CHECK_FUNCTION
        if not usable:
            return FAILURE
        return MAINTENANCE_REQUIRED if int(self.view.field("values_bad")) else NORMAL
