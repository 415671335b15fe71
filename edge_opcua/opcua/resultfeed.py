"""From the bus to events: every result is handed out, and what was overwritten before is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.blockview import BlockView, FeedCounts, notify_all
from edge_opcua.opcua.events import Emit
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.opcua.plantspace import InferenceNodes, PlantSpace
from edge_opcua.opcua.results import ResultContext, ResultEvent, ResultEvents
from edge_opcua.opcua.slots import assign_now

FindModel = Callable[[str, int], ModelInfo | None]

_log = structlog.get_logger(__name__)


class InferenceFeed:
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

    def start(self) -> None:
        """Show the counters and the last result's model."""
        for counter in (self._nodes.published, self._nodes.lost):
            self._assign(counter, 0, ua.VariantType.UInt64)
        self.describe()

    def tick(self, *, assess: bool) -> None:
        """Hand out every new result, in order: values one by one, then the events of all of them at once."""
        events: list[ResultEvent] = []
        for batch in self.view.reader.poll():
            publish_ms = (self._clock.monotonic_ns() - batch.stamp_ns) / 1e6
            changed = list(self.view.take(batch))
            self.describe()
            notify_all(self.view, changed, self._counts)
            self._assign(self._nodes.latency_publish, publish_ms, ua.VariantType.Double)
            events.append(self._events.event(batch, self.view.status, self._context(publish_ms)))
            self._published += 1
            self._counts.results += 1
            self._assign(self._nodes.published, self._published, ua.VariantType.UInt64)
        if events:
            self._emit(events)
        elif assess:
            notify_all(self.view, self.view.reassess(), self._counts)
        if self.view.reader.lost > self._lost:
            self._count_lost()

    def describe(self) -> None:
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
        self._assign(self._nodes.names, list(names), ua.VariantType.String)
        self._assign(self._nodes.model_ref, self._model_ref, ua.VariantType.NodeId)

    def _context(self, publish_ms: float) -> ResultContext:
        return ResultContext(self._names, self._model_ref, publish_ms)

    def _count_lost(self) -> None:
        lost = self.view.reader.lost
        _log.warning("results.lost", pipeline=self._nodes.pipeline, lost=lost - self._lost)
        self._counts.lost += lost - self._lost
        self._lost = lost
        self._assign(self._nodes.lost, lost, ua.VariantType.UInt64)

    def _assign(self, slot: AttributeValue, value: Any, kind: ua.VariantType) -> None:
        assign_now(slot, value, kind, self._clock)
