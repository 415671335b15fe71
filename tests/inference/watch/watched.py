"""A press line whose model is watched: on a real bus, with the real lane, engine and model."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.values import Value
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.watch.kinds import kinds_of
from edge_opcua.inference.watch.lanemodelwatch import LaneView, Watched
from edge_opcua.inference.watch.profile import ReferenceProfile, make_profile
from edge_opcua.inference.watch.reference import ReferenceCheck, references_of
from edge_opcua.inference.watch.terms import WatchTerms, terms_of
from edge_opcua.testing import ManualClock
from tests.inference.line import PIPELINE, Line, OneLane, delivered, plain, spec

CYCLE_S = 3.3


class WatchedLine:
    """A line with one lane and its watch.

    Args:
        pipeline: The pipeline; of it counts how the model is watched.
        lane_class: Class of the lane.
    """

    def __init__(
        self, pipeline: PipelineConfig = PIPELINE, lane_class: LaneClass = LaneClass.REALTIME
    ) -> None:
        self.clock = ManualClock()
        self.line = Line(self.clock, capture_depth=64)
        self.pipeline = pipeline
        self.notices: list[dict[str, Any]] = []
        self._lane_class = lane_class
        self.number = 0

    def close(self) -> None:
        self.line.close()

    def lane(self, files: ModelFiles | None = None) -> OneLane:
        """Return a prepared lane that is not active yet."""
        lane = self.line.lane(files or delivered(), lane_spec=replace(spec(), lane=self._lane_class))
        lane.prepare()
        return lane

    def view(
        self,
        lane: OneLane,
        profile: ReferenceProfile | None = None,
        *,
        files: ModelFiles | None = None,
        **terms: Any,
    ) -> LaneView:
        """Return the watch of a lane."""
        found = files or delivered()
        wanted: WatchTerms = replace(terms_of(self.pipeline, found.manifest), **terms)
        check = ReferenceCheck(
            references_of(lane.lane.model, found.golden),
            lane.engine,
            self.clock,
            lane=self._lane_class,
            every_s=wanted.reference_every_s,
            deadline_ms=wanted.deadline_ms,
            cost_us=100.0,
        )
        watched = Watched(lane.lane, self.pipeline.watch_block, wanted, profile, check)
        return LaneView(watched, self.line.bus, self.clock, self._tell)

    def strokes(self, lane: OneLane, view: LaneView | None, count: int, **stroke: Any) -> None:
        """Let the press make strokes, each judged and watched."""
        for _ in range(count):
            self.number += 1
            self.line.stroke(self.number, **stroke)
            lane.step()
            if view is not None:
                view.tick()
            self.clock.step(CYCLE_S)
            self.line.captures.beat()
            lane.step()  # reference samples that wait are run

    def shown(self) -> dict[str, Value]:
        """Return the rows of the watch block; what is not known is None."""
        batch = self.line.bus.reader(self.pipeline.watch_block).latest()
        assert batch is not None
        return plain(batch)

    @property
    def alarms(self) -> tuple[str, ...]:
        """Kinds of the alarms that stand."""
        bits = self.shown()["alarms"]
        assert isinstance(bits, int)
        return kinds_of(bits)

    def _tell(self, kind: str, body: dict[str, Any]) -> None:
        assert kind == "watch"
        self.notices.append(body)


@lru_cache(maxsize=1)
def healthy_profile() -> ReferenceProfile:
    """Return the profile of the delivered model on the strokes of a healthy press."""
    results = []
    watched = WatchedLine()
    lane = watched.lane()
    lane.activate(None)
    for _ in range(400):
        watched.strokes(lane, None, 1)
        results.append(watched.line.verdict())
    watched.close()
    manifest = delivered().manifest
    return make_profile(
        np.array([result["features"] for result in results], np.float64),
        names=manifest.names,
        units=[feature.unit for feature in manifest.features],
        scores=np.array([result["score"] for result in results], np.float64),
        confidences=np.array([result["confidence"] for result in results], np.float64),
        interval_s=CYCLE_S,
    )


def number(value: Value) -> float:
    """Return a figure, NaN where it is not known."""
    return math.nan if value is None else float(value)
