"""Lets a model judge recorded windows as a lane would; a program of its own.

:func:`edge_opcua.inference.apart.ask_apart` runs it, so a model that hangs or crashes takes nothing along. It
reads the windows itself, page by page, and tells what became of them in lines of many.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.app.windows.spec import fitted
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.values import BAD_SENSOR_FAILURE, Verdict, is_bad, is_uncertain
from edge_opcua.errors import ModelError
from edge_opcua.inference import memory
from edge_opcua.inference.apart import Step, answer_with, tell
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.judging import decide, not_learned, take_answers
from edge_opcua.inference.loaded import Floats
from edge_opcua.inference.manifest import ModelFeature, ModelTag
from edge_opcua.inference.model import ServedModel, prove, require_match
from edge_opcua.inference.repository import verify
from edge_opcua.inference.result import Result, Variant
from edge_opcua.inference.spec import LaneSpec
from edge_opcua.records.window import Window, WindowSource
from edge_opcua.records.windowlook import Wanted, WindowLook

MODULE: Final = "edge_opcua.app.windows.replay"

TOLD_TOGETHER: Final = 128
_TELL_NS: Final = 500_000_000
_NICE: Final = 10
_US: Final = 1e3


def replay(request: Mapping[str, Any], clock: Clock | None = None) -> Step:
    """Let a model judge windows; every line tells of some of them.

    A line is ``{"step": "judged", "rows": [[id, verdict, decided, score, confidence, took_us, outside, value,
    same], …]}``: ``outside`` is the number of the first feature or tag that it must not judge, or -1, and
    ``same`` whether its features are those the lane had (1, 0; -1: another model judged then).

    Args:
        request: ``folder`` of the model, ``windows`` (the file), ``pipeline``, ``first_id``, ``last_id``.
        clock: For what runs take.

    Returns:
        What the model is: its features and tags with their limits, what runs it, what it took to load.

    Raises:
        ModelError: The model cannot be served, or is none for these windows.
    """
    clock = clock or SystemClock()
    judging = _Judging(Path(request["folder"]), clock)
    look = WindowLook(Path(request["windows"]))
    rows: list[list[Any]] = []
    told_ns = clock.monotonic_ns()
    for window in _windows(look, request):
        rows.append(judging.judge(window))
        if len(rows) >= TOLD_TOGETHER or clock.monotonic_ns() - told_ns > _TELL_NS:
            tell({"step": "judged", "rows": rows})
            rows, told_ns = [], clock.monotonic_ns()
    tell({"step": "judged", "rows": rows})
    return judging.facts


def _windows(look: WindowLook, request: Mapping[str, Any]) -> Iterator[Window]:
    wanted = Wanted(str(request["pipeline"]))
    try:
        yield from look.between(wanted, int(request["first_id"]), int(request["last_id"]))
    except OSError as exc:
        raise ModelError(str(exc), code="M660") from exc


class _Judging:
    """A loaded and proven model, which judges windows one after the other.

    Args:
        folder: Folder of the model.
        clock: For what runs take.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        files = complete(verify(folder))
        self._manifest = manifest = files.manifest
        self._extractor = extractor_of(files)
        require_match(manifest, self._extractor)
        with memory.Limit(keep_free_bytes=0).loading(files):
            backend = OnnxRuntimeBackend.load(
                files.model, provider="cpu", input_shapes={manifest.input_name: manifest.input_shape}
            )
            self._model = ServedModel(manifest, backend, judge=judge_of)
            prove(self._model, files.golden, self._extractor)
        described = backend.describe()
        self._variant = Variant(manifest, str(described["provider"]), judge_of(manifest))
        self._one = self._model.bind()
        self._specs: dict[tuple[WindowSource, int], LaneSpec] = {}
        limited: list[ModelFeature | ModelTag] = [*manifest.features, *manifest.tags]
        self._places = {each.name: place for place, each in reversed(list(enumerate(limited)))}
        self._refused = ""
        self._low = np.array([feature.low for feature in manifest.features], np.float32)
        self._high = np.array([feature.high for feature in manifest.features], np.float32)
        self.facts: Step = {
            "model": f"{manifest.name}/{manifest.version}",
            "provider": self._variant.provider,
            "load_ms": float(described["load_ms"]),
            "features": [[each.name, each.unit, _json(each.low), _json(each.high)] for each in limited],
        }

    def judge(self, window: Window) -> list[Any]:
        """Return one row about a window."""
        spec = self._spec(window)
        result = Result(window.captured_ns, window.stroke)
        row: Floats = np.empty(len(self._manifest.features), np.float32)
        self._refused = ""
        begun_ns = self._clock.monotonic_ns()
        if self._extract(result, window, spec, row):
            self._run(result, window, row)
        took_us = (self._clock.monotonic_ns() - begun_ns) / _US
        outside, value = self._outside(result)
        decided = not result.fail_safe and result.verdict in (Verdict.OK, Verdict.NOT_OK)
        return [
            window.id,
            int(result.verdict),
            int(decided),
            _json(result.score),
            _json(result.confidence),
            round(took_us, 1),
            outside,
            value,
            self._same(result, window),
        ]

    def _spec(self, window: Window) -> LaneSpec:
        key = (window.source, window.samples.size)
        if key not in self._specs:
            self._specs[key] = fitted(*key, self._manifest)
        return self._specs[key]

    def _extract(self, result: Result, window: Window, spec: LaneSpec, row: Floats) -> bool:
        """Compute the features, as :class:`edge_opcua.inference.sampling.Sampler` does from the bus."""
        order = [window.source.context.index(tag.reference) for tag in spec.context]
        bad = next((int(status) for status in window.context_status[order] if is_bad(int(status))), None)
        if is_bad(window.sample_status) or bad is not None:
            status = window.sample_status if is_bad(window.sample_status) else bad or 0
            result.fall_safe(Verdict.NOT_DECIDABLE, status, "an input was Bad")
            return False
        samples = window.samples if spec.take is None else window.samples[np.array(spec.take, np.intp)]
        self._extractor.extract(samples, self._extractor.sample_rate_hz, window.context[order], row)
        self._refused, are_numbers = self._extractor.outside(), bool(np.isfinite(row).all())
        if are_numbers or not self._refused:
            result.features = row
        if not are_numbers and not self._refused:
            result.fall_safe(Verdict.NOT_DECIDABLE, BAD_SENSOR_FAILURE, "flat, or no number")
            return False
        if outside := self._refused or self._model.outside(row):
            not_learned(result, outside)
            return False
        return True

    def _run(self, result: Result, window: Window, row: Floats) -> None:
        uncertain = is_uncertain(window.sample_status) or any(
            is_uncertain(int(status)) for status in window.context_status
        )
        try:
            self._one.judge(row)
        except ModelError as exc:
            result.fall_safe(Verdict.NOT_DECIDABLE, BAD_SENSOR_FAILURE, f"{exc.code}: {exc}")
            return
        take_answers(result, self._variant, self._one.answer, uncertain=uncertain)
        decide(result)

    def _outside(self, result: Result) -> tuple[int, float | None]:
        """Return the first feature, or tag, that the model must not judge, and its value if that is known."""
        if self._refused:
            return self._places.get(self._refused.partition(" ")[0], -1), None
        row = result.features
        if row is None or not np.isfinite(row).all():
            return -1, None
        off = np.flatnonzero((row < self._low) | (row > self._high))
        return (int(off[0]), float(row[off[0]])) if off.size else (-1, None)

    def _same(self, result: Result, window: Window) -> int:
        """Return whether the features are those that the lane had; -1 where nobody can know."""
        same_model = (window.model, window.version) == (self._manifest.name, self._manifest.version)
        row = result.features
        if row is None or not same_model or window.features.size != row.size:
            return -1
        return int(np.allclose(row, window.features, rtol=1e-4, atol=1e-6, equal_nan=True))


def _json(value: float | None) -> float | None:
    """Return what JSON can say."""
    return value if value is not None and math.isfinite(value) else None


if __name__ == "__main__":
    os.nice(_NICE)  # the lanes of a server that runs here come first
    answer_with(replay)
