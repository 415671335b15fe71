"""Recorded windows as samples: features as a server computes them, and what people answered as the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.compress.dataset import Dataset, Rows
from edge_opcua.compress.tasks.verdict import FAULT, NORMAL
from edge_opcua.core.values import bad_rows
from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import Extractor, require_match
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.records.window import Answer
from edge_opcua.training.windows import Capture, Tag, Tags, Windows, load_windows

_SAMPLES: Final = frozenset({"samples", "waveform"})
_TRUTH: Final = {Answer.REAL.value: FAULT, Answer.NORMAL.value: NORMAL}


def is_recorded(arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Return whether a file holds windows, as ``edge-opcua model export-windows`` writes them."""
    return "about" in arrays and bool(_SAMPLES & arrays.keys())


def read_recorded(path: Path, files: ModelFiles) -> Dataset:
    """Return recorded windows as a model is fed with them.

    If anybody answered a verdict, only the answered ones are returned: real ones are faults, the others
    normal; those that were about a sensor, or that nobody knew, are left out. So are windows that a lane
    would not have judged.

    Args:
        path: The file.
        files: The package of the model.

    Raises:
        ModelError: The windows were recorded for another model (M605), or nothing can be used (M673).
    """
    files = complete(files)
    manifest, extractor = files.manifest, extractor_of(files)
    require_match(manifest, extractor)
    windows = load_windows(path, _source(manifest))
    rows = _features(windows, manifest, extractor)
    is_usable = _usable(windows, rows, manifest)
    answers = windows.facts.get("answer", np.full(len(windows), ""))
    if answers.ndim != 1:
        raise ModelError(f"{path}: a window has one answer, not {answers.shape[1:]}", code="M673")
    is_answered = is_usable & np.isin(answers, list(_TRUTH))
    chosen = is_answered if is_answered.any() else is_usable
    if not chosen.any():
        raise ModelError(f"{path}: the model would judge none of {len(windows)} windows", code="M673")
    truth = None
    if is_answered.any():
        truth = np.array([_TRUTH[answer] for answer in answers[chosen]], np.int64)
    of = "answered windows" if truth is not None else "windows"
    count = int(chosen.sum())
    origin = f"{count} {of} of {path.name}" + (f", which has {len(windows)}" if count < len(windows) else "")
    return Dataset(rows[chosen].reshape(-1, *manifest.input_shape[1:]), truth, origin)


def _source(manifest: Manifest) -> Capture | Tags:
    if manifest.source == "tags":
        period_ms = 1000.0 / manifest.sample_rate_hz if manifest.sample_rate_hz else None
        return Tags(manifest.tags, manifest.window, period_ms)
    context = [Tag(each.name, each.unit) for each in manifest.context]
    return Capture(manifest.sample_count, manifest.sample_rate_hz, manifest.waveform_unit, context)


def _features(windows: Windows, manifest: Manifest, extractor: Extractor) -> Rows:
    """Return a row of features for each window, of NaN where they cannot be computed."""
    rows = np.empty((len(windows), len(manifest.features)), np.float32)
    for row, (samples, context) in zip(rows, windows, strict=True):
        extractor.extract(samples, extractor.sample_rate_hz, context, row)
        if extractor.outside():
            row[:] = np.nan
    return rows


def _usable(windows: Windows, rows: Rows, manifest: Manifest) -> npt.NDArray[np.bool_]:
    low = np.array([feature.low for feature in manifest.features], np.float32)
    high = np.array([feature.high for feature in manifest.features], np.float32)
    with np.errstate(invalid="ignore"):
        is_inside = np.isfinite(rows) & (rows >= low) & (rows <= high)
    is_usable = np.asarray(is_inside.all(axis=1))
    for name in ("sample_status", "context_status"):
        if name in windows.facts:
            found = windows.facts[name]
            if found.dtype.kind not in "ui":
                raise ModelError(f"{name} of the windows is {found.dtype}, not whole numbers", code="M673")
            status = np.asarray(found, np.uint32).reshape(len(windows), -1)
            is_usable &= ~bad_rows(status).any(axis=1)
    return is_usable
